// The pixels of PanopticCanvas. This file stands before canvas.js in one module.

const HATCH = [[236, 236, 236], [128, 128, 128]];
const ALPHA = 0.65; // of a segment's colour over the picture's brightness

/** Where another segment begins, at its first pixel to the right or below. */
function borderAt(labels, width, k) {
  return (k >= width && labels[k] !== labels[k - width]) || (k % width > 0 && labels[k] !== labels[k - 1]);
}

/** The layers that are on, as pixels; with all of them on it is colors.overlay of the Python side. */
function compose({ rgb, labels, width, height, segments, stripes }, on) {
  const pixels = new ImageData(width, height);
  for (let k = 0; k < labels.length; k++) {
    const label = labels[k], own = [rgb[3 * k], rgb[3 * k + 1], rgb[3 * k + 2]];
    const grey = Math.round(0.299 * own[0] + 0.587 * own[1] + 0.114 * own[2]);
    const stripe = ((k % width) + Math.floor(k / width)) % stripes >= stripes / 2;
    const color = label ? segments[label].color : HATCH[Number(stripe)];
    const painted = label ? on.overlay : on.unknown;
    const border = on.borders && borderAt(labels, width, k);
    for (let c = 0; c < 3; c++) {
      let v = on.image ? own[c] : 245;
      if (painted) v = on.image ? ALPHA * color[c] + (1 - ALPHA) * grey : color[c];
      pixels.data[4 * k + c] = border ? 0.15 * v + 0.85 * 255 : v; // rounds by itself
    }
    pixels.data[4 * k + 3] = 255;
  }
  return pixels;
}

/** A segment lit up: lighter, with a dark rim. */
function light({ labels, width, height }, segment) {
  const pixels = new ImageData(width, height);
  for (let k = 0; k < labels.length; k++) {
    if (labels[k] !== segment) continue;
    const x = k % width;
    const rim = [x > 0 ? k - 1 : -1, x < width - 1 ? k + 1 : -1, k - width, k + width].some((n) => labels[n] !== segment);
    pixels.data.set(rim ? [31, 35, 40, 255] : [255, 255, 255, 110], 4 * k);
  }
  return pixels;
}

function bitmap(pixels) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [pixels.width, pixels.height];
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
