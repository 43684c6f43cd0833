// PanopticCanvas: an image under its panoptic map. What the mouse and the keys do happens here; Python hears of a chosen
// pixel and segment, and of a box whose edges are dragged.
//
//   size [H, W]    image: RGB bytes    labels: uint16 bytes, a place in `segments`, 0 is unknown
//   segments [{name, kind, score, share, color}]    pixel [row, column] or []    segment: a place    box [x0, y0, x1, y1] or []
//   base: what all is drawn from, in pixels of the image; view: the part of it that is seen

const INK = "#1f2328";
const SIDE = 440; // CSS pixels of the longer side
const REACH = 7; // CSS pixels from an edge of the box at which it can be taken
const CLOSEST = 24;
const LAYERS = ["image", "overlay", "borders", "unknown"];
const STEP = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

function element(tag, className, parent, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
}

function render({ model, el }) {
  el.classList.add("upsnet-canvas");
  el.dataset.lmSuppressShortcuts = "true"; // arrows are ours while the picture has the focus
  const stage = element("div", "upsnet-stage", el);
  const canvas = element("canvas", "", stage);
  const tip = element("div", "upsnet-tip", stage);
  element("div", "upsnet-sign", stage, "working …");
  const bar = element("div", "upsnet-layers", el);
  const readout = element("div", "upsnet-readout", el);
  const spoken = element("div", "upsnet-spoken", el);
  const pen = canvas.getContext("2d");
  const on = Object.fromEntries(LAYERS.map((name) => [name, true]));

  let base, base_pixels, lit, hover = -1, cursor = null, held = null, box = [], waiting = false;
  const view = { zoom: 1, x: 0, y: 0 };

  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "panoptic map");
  spoken.setAttribute("aria-live", "polite");

  // ---- what is drawn

  function read() {
    const [height, width] = model.get("size"), raw = (name) => model.get(name);
    const rgb = new Uint8Array(raw("image").buffer, raw("image").byteOffset, 3 * width * height);
    const at = raw("labels"), labels = new Uint16Array(at.buffer.slice(at.byteOffset, at.byteOffset + 2 * width * height));
    const resized = !base || base.width !== width || base.height !== height;
    base = { rgb, labels, width, height, segments: model.get("segments"), stripes: model.get("stripes") };
    if (resized) shape();
    recompose();
  }

  function shape() {
    const scale = (SIDE / Math.max(base.width, base.height)), ratio = window.devicePixelRatio || 1;
    const [wide, tall] = [Math.round(base.width * scale), Math.round(base.height * scale)];
    Object.assign(canvas, { width: wide * ratio, height: tall * ratio });
    Object.assign(canvas.style, { width: `${wide}px`, aspectRatio: `${wide} / ${tall}` });
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    cursor = null;
  }

  function recompose() {
    base_pixels = bitmap(compose(base, on));
    relight();
  }

  function relight() {
    lit = hover >= 0 && hover < base.segments.length ? bitmap(light(base, hover)) : null;
    draw();
  }

  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const k = (canvas.width / base.width) * view.zoom;
      pen.setTransform(k, 0, 0, k, -view.x * k, -view.y * k);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(base_pixels, 0, 0);
      if (lit) pen.drawImage(lit, 0, 0);
      if (box.length) outline(box[0], box[1], box[2] - box[0], box[3] - box[1], 2.5, [6, 4]);
      const pixel = model.get("pixel");
      if (pixel.length) mark(pixel, []);
      if (cursor && document.activeElement === canvas) mark(cursor, [2, 2]);
    });
  }

  /** A frame of so many CSS pixels, dark on white: to be seen on every colour. */
  function outline(x, y, width, height, thick, dashes) {
    const unit = canvas.width / canvas.clientWidth / pen.getTransform().a;
    for (const [style, wide, dash] of [["white", thick + 2, []], [INK, thick, dashes]]) {
      Object.assign(pen, { strokeStyle: style, lineWidth: wide * unit });
      pen.setLineDash(dash.map((d) => d * unit));
      pen.strokeRect(x, y, width, height);
    }
  }

  /** The frame stands at some distance: the pixel itself keeps its colour. */
  function mark([row, column], dashes) {
    const gap = 3 * (base.width / canvas.clientWidth / view.zoom);
    outline(column - gap, row - gap, 1 + 2 * gap, 1 + 2 * gap, 1.5, dashes);
  }

  // ---- what is said

  const labelAt = ([row, column]) => base.labels[row * base.width + column];

  function words(place) {
    const { name, kind, score, share } = base.segments[labelAt(place)];
    const parts = [name, kind, score === null ? "" : `score ${score.toFixed(2)}`, `${percent(share)} of the picture`];
    return [...parts, `row ${place[0]}, column ${place[1]}`].filter(Boolean).join(" · ");
  }

  const percent = (share) => (share >= 0.01 ? `${Math.round(100 * share)} %` : "under 1 %");

  function tell(place, aloud = false) {
    const segment = place ? labelAt(place) : -1;
    readout.textContent = place ? words(place) : model.get("pixel").length ? words(model.get("pixel")) : model.get("hint");
    if (aloud) spoken.textContent = readout.textContent;
    if (segment === hover) return;
    hover = segment;
    relight();
  }

  function point(event, place) {
    tip.textContent = place ? base.segments[labelAt(place)].name : "";
    tip.hidden = !place;
    if (!place) return;
    const frame = stage.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    tip.style.left = `${Math.min(x + 14, frame.width - tip.offsetWidth - 4)}px`;
    tip.style.top = `${y + 16 + tip.offsetHeight > frame.height ? y - tip.offsetHeight - 6 : y + 16}px`;
  }

  // ---- mouse

  function position(event) {
    const frame = canvas.getBoundingClientRect();
    const across = (event.clientX - frame.left) / frame.width, down = (event.clientY - frame.top) / frame.height;
    return [view.x + (across * base.width) / view.zoom, view.y + (down * base.height) / view.zoom];
  }

  function pixelAt(event) {
    const [x, y] = position(event);
    return [clamp(Math.floor(y), 0, base.height - 1), clamp(Math.floor(x), 0, base.width - 1)];
  }

  /** The edges of the box under the pointer: places in [x0, y0, x1, y1]. */
  function edgesAt(event) {
    if (!box.length) return [];
    const near = (REACH * base.width) / canvas.clientWidth / view.zoom, at = position(event);
    const within = [0, 1].every((axis) => at[axis] > box[axis] - near && at[axis] < box[axis + 2] + near);
    if (!within) return [];
    return [0, 1].flatMap((axis) => {
      const [low, high] = [Math.abs(at[axis] - box[axis]), Math.abs(at[axis] - box[axis + 2])];
      return Math.min(low, high) > near ? [] : [low < high ? axis : axis + 2];
    });
  }

  function pointer(edges) {
    const across = edges.find((k) => k % 2 === 0), down = edges.find((k) => k % 2 === 1);
    if (across === undefined && down === undefined) return view.zoom > 1 ? "grab" : "crosshair";
    if (across === undefined) return "ns-resize";
    if (down === undefined) return "ew-resize";
    return (across === 0) === (down === 1) ? "nwse-resize" : "nesw-resize";
  }

  function drag(event) {
    const at = position(event), size = [base.width, base.height];
    const next = [...box];
    for (const k of held.edges) {
      const axis = k % 2;
      next[k] = k < 2 ? clamp(at[axis], 0, box[axis + 2] - 1) : clamp(at[axis], box[axis] + 1, size[axis]);
      next[k] = Math.round(10 * next[k]) / 10;
    }
    box = next;
    draw();
    send({ box }); // the model keeps only the newest while Python is at work
  }

  function pan(event) {
    view.x = held.x - ((event.clientX - held.clientX) / canvas.clientWidth) * (base.width / view.zoom);
    view.y = held.y - ((event.clientY - held.clientY) / canvas.clientHeight) * (base.height / view.zoom);
    stay();
  }

  function stay() {
    view.x = clamp(view.x, 0, base.width - base.width / view.zoom);
    view.y = clamp(view.y, 0, base.height - base.height / view.zoom);
    draw();
  }

  function zoom(factor, x, y) {
    const next = clamp(view.zoom * factor, 1, CLOSEST), kept = view.zoom / next;
    view.x = x - (x - view.x) * kept;
    view.y = y - (y - view.y) * kept;
    view.zoom = next;
    stay();
  }

  function unzoom() {
    Object.assign(view, { zoom: 1, x: 0, y: 0 });
    draw();
  }

  function send(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  }

  function select(place) {
    cursor = place;
    send({ pixel: place, segment: labelAt(place) });
    tell(place, true);
    draw();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    const { clientX, clientY } = event;
    held = { edges: edgesAt(event), clientX, clientY, x: view.x, y: view.y, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) held.moved ||= Math.hypot(event.clientX - held.clientX, event.clientY - held.clientY) > 3;
    if (held?.edges.length) return drag(event);
    if (held?.moved) return pan(event);
    canvas.style.cursor = pointer(edgesAt(event));
    tell(pixelAt(event));
    point(event, pixelAt(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (held && !held.moved && !held.edges.length) select(pixelAt(event));
    held = null;
  });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointerleave", (event) => {
    tell(null);
    point(event, null);
  });
  canvas.addEventListener("dblclick", unzoom);
  canvas.addEventListener("wheel", (event) => {
    if (view.zoom === 1 && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    zoom(Math.exp(-0.002 * event.deltaY), ...position(event));
  }, { passive: false });

  // ---- keys

  canvas.addEventListener("keydown", (event) => {
    const { key, shiftKey } = event;
    cursor ??= model.get("pixel").length ? [...model.get("pixel")] : [base.height >> 1, base.width >> 1];
    if (STEP[key]) {
      const far = shiftKey ? 10 : 1, last = [base.height - 1, base.width - 1];
      cursor = cursor.map((v, axis) => clamp(v + far * STEP[key][axis], 0, last[axis]));
      follow();
      tell(cursor, true);
    } else if (key === "Enter" || key === " ") select(cursor);
    else if (key === "+" || key === "=") zoom(1.5, cursor[1] + 0.5, cursor[0] + 0.5);
    else if (key === "-") zoom(1 / 1.5, cursor[1] + 0.5, cursor[0] + 0.5);
    else if (key === "0" || key === "Escape") unzoom();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", () => tell(null) ?? draw());

  /** The view moves so far that the cursor is in it. */
  function follow() {
    const [tall, wide] = [base.height / view.zoom, base.width / view.zoom];
    view.x = clamp(view.x, cursor[1] + 1 - wide, cursor[1]);
    view.y = clamp(view.y, cursor[0] + 1 - tall, cursor[0]);
    stay();
  }

  // ---- layers: the browser alone

  for (const name of LAYERS) {
    const label = element("label", "", bar);
    const tick = Object.assign(element("input", "", label), { type: "checkbox", checked: true, name });
    label.append(` ${name}`);
    tick.addEventListener("change", () => {
      on[name] = tick.checked;
      recompose();
    });
  }

  // ---- Python

  const news = () => {
    read();
    tell(hover >= 0 && cursor && document.activeElement === canvas ? cursor : null);
  };
  const watched = {
    "change:labels change:image change:segments change:size": once(news),
    "change:pixel": () => tell(null) ?? draw(),
    "change:box": () => {
      if (held?.edges.length) return;
      box = [...model.get("box")];
      draw();
    },
    "change:busy": () => stage.classList.toggle("upsnet-busy", model.get("busy")),
    "change:alt": () => canvas.setAttribute("aria-label", model.get("alt")),
  };
  for (const [events, call] of Object.entries(watched)) model.on(events, call);
  box = [...model.get("box")];
  canvas.setAttribute("aria-label", model.get("alt"));
  stage.classList.toggle("upsnet-busy", model.get("busy"));
  tip.hidden = true;
  news();
  return () => { for (const [events, call] of Object.entries(watched)) model.off(events, call); };
}

/** Several changes of one message are one. */
function once(call) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    queueMicrotask(() => { due = false; call(); });
  };
}

export default { render };
