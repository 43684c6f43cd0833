// InstanceList: every detection with a tick (is it in Z?), its colour, name, score, and why it is not in Z.
//
//   rows [{id, name, color, score, note}]    off: ids that are switched off    chosen: the id that is looked at
// Rows that pruning drops have a note and no tick to move.

function render({ model, el }) {
  el.classList.add("upsnet-instances");
  el.setAttribute("role", "group");
  el.setAttribute("aria-label", "instances: in Z or not, and which one is looked at");
  const group = `upsnet-${Math.random()}`;
  const made = new Map();

  function send(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  }

  function make(id) {
    const row = document.createElement("div");
    row.innerHTML = `<input type="checkbox" class="in"><label><input type="radio" class="look" name="${group}">
      <i></i><span class="name"></span></label><span class="score"></span><span class="note"></span>`;
    const [tick, look] = [row.querySelector(".in"), row.querySelector(".look")];
    tick.addEventListener("change", () => {
      const off = model.get("off").filter((other) => other !== id);
      send({ off: tick.checked ? off : [...off, id].sort((a, b) => a - b) });
    });
    look.addEventListener("change", () => send({ chosen: id }));
    row.addEventListener("keydown", (event) => event.stopPropagation());
    return row;
  }

  function draw() {
    const rows = model.get("rows"), off = model.get("off"), chosen = model.get("chosen");
    const focused = document.activeElement;
    const nodes = rows.map(({ id, name, color, score, note }) => {
      if (!made.has(id)) made.set(id, make(id));
      const row = made.get(id), dropped = note !== "" && note !== "off";
      const [tick, look] = [row.querySelector(".in"), row.querySelector(".look")];
      row.className = note ? "out" : "";
      row.dataset.id = id;
      Object.assign(tick, { checked: !note, disabled: dropped, ariaLabel: `${name} in Z` });
      Object.assign(look, { checked: id === chosen, ariaLabel: `look at ${name}` });
      row.querySelector("i").style.background = `rgb(${color})`;
      row.querySelector(".name").textContent = name;
      row.querySelector(".score").textContent = score.toFixed(2);
      row.querySelector(".note").textContent = note;
      return row;
    });
    if (nodes.length !== el.children.length || nodes.some((node, k) => el.children[k] !== node)) {
      el.replaceChildren(...nodes);
      if (el.contains(focused)) focused.focus();
    }
  }

  const events = "change:rows change:off change:chosen";
  el.dataset.lmSuppressShortcuts = "true";
  model.on(events, draw);
  draw();
  return () => model.off(events, draw);
}

export default { render };
