/**
 * Photographs: four pictures are the channels of one image, and are convolved while you look.
 *
 * TBC has one filter for all four places, so an output depends on its photograph alone. GC has a
 * filter for each place, so an output depends on the place as well.
 */
import { choice, follow, html, mount, numbers, once, stopping, svg } from "./shared.js";

const NAMES = ["cat", "cup", "astronaut", "rocket"];
/** @type {Record<string, number[]>} the weights of each filter, row by row */
const FILTERS = {
  "Sobel x": [-1, 0, 1, -2, 0, 2, -1, 0, 1],
  "Sobel y": [-1, -2, -1, 0, 0, 0, 1, 2, 1],
  blur: [1, 2, 1, 2, 4, 2, 1, 2, 1],
  Laplace: [0, -1, 0, -1, 4, -1, 0, -1, 0],
};
const OWN = Object.values(FILTERS); // GC's, place by place
const MOST = 4; // a weight lies between -MOST and MOST
const DEFAULTS = { order: "0123", filter: FILTERS["Sobel x"].join(".") };
const { tbc, gc } = (await numbers).photographs;

const picture = new Image();
picture.src = `${new URL("photographs.webp", import.meta.url)}`;
await picture.decode();
const SIZE = picture.height;

/** The photographs as numbers from 0 to 1, row by row. */
export const pixels = NAMES.map((_, i) => {
  const canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { width: SIZE, height: SIZE }));
  const brush = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  brush.drawImage(picture, -SIZE * i, 0);
  const { data } = brush.getImageData(0, 0, SIZE, SIZE);
  return Float64Array.from({ length: SIZE * SIZE }, (_, pixel) => data[4 * pixel] / 255);
});

/**
 * Convolve a square image with a 3 × 3 filter, with zeros around it.
 * @param {ArrayLike<number>} image row by row
 * @param {number[]} filter nine weights, row by row
 * @returns {Float64Array} as large as the image
 */
export function convolve(image, filter) {
  const size = Math.sqrt(image.length);
  const output = new Float64Array(image.length);
  for (let tap = 0; tap < 9; tap++) {
    const [down, right] = [Math.floor(tap / 3) - 1, (tap % 3) - 1];
    for (let row = Math.max(0, -down); row < Math.min(size, size - down); row++)
      for (let column = Math.max(0, -right); column < Math.min(size, size - right); column++)
        output[row * size + column] += filter[tap] * image[(row + down) * size + column + right];
  }
  return output;
}

/**
 * What both operators make of the photographs.
 * @param {number[]} order which photograph stands at each place
 * @param {number[]} filter TBC's
 */
export function outputs(order, filter) {
  return {
    tbc: order.map((photograph) => convolve(pixels[photograph], filter)),
    gc: order.map((photograph, place) => convolve(pixels[photograph], OWN[place])),
  };
}

mount("photographs", DEFAULTS, ({ drawing, controls, state, say, save }) => {
  const known = /^(?!.*(.).*\1)[0-3]{4}$/.test(`${state.order}`); // each photograph once
  const order = [...(known ? `${state.order}` : DEFAULTS.order)].map(Number);
  const filter = `${state.filter}`.split(".").map((one) => Math.round(+one));
  if (filter.length !== 9 || !filter.every((one) => Math.abs(one) <= MOST))
    filter.splice(0, filter.length, ...FILTERS["Sobel x"]);
  let chosen = -1; // the place of the photograph that waits for another to change places with
  let news = "";

  const row = (/** @type {string} */ title, tag = "div") => {
    const canvases = order.map(() =>
      /** @type {HTMLCanvasElement} */ (html("canvas", { width: SIZE, height: SIZE, role: "img" })));
    const cells = canvases.map((canvas) => html(tag, { class: "cell" }, canvas, html("span")));
    drawing.append(html("p", { class: "row" }, title), ...cells);
    return { canvases, cells };
  };
  drawing.replaceChildren();
  const input = row("input: four channels", "button");
  const tied = row(`TBC, B = 4: one filter, ${tbc} weights`);
  const own = row(`GC, G = 4: a filter for each place, ${gc} weights`);
  /** Paint numbers in grey: zero is black for a filter without negative weights, else grey. */
  function paint(
    /** @type {HTMLCanvasElement} */ canvas, /** @type {ArrayLike<number>} */ values,
    /** @type {number[]} */ weights,
  ) {
    const reach = weights.reduce((sum, one) => sum + Math.abs(one), 0) || 1;
    const [zero, scale] = weights.some((one) => one < 0) ? [128, 400 / reach] : [0, 255 / reach];
    const brush = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const image = brush.createImageData(SIZE, SIZE);
    for (let i = 0; i < values.length; i++) {
      image.data.fill(zero + scale * values[i], 4 * i, 4 * i + 3);
      image.data[4 * i + 3] = 255;
    }
    brush.putImageData(image, 0, 0);
  }

  const named = () =>
    Object.keys(FILTERS).find((name) => FILTERS[name].join() === filter.join()) ?? "your filter";

  function label(
    /** @type {typeof input} */ { canvases, cells }, /** @type {number} */ place,
    /** @type {string} */ caption, /** @type {string} */ spoken,
  ) {
    canvases[place].setAttribute("aria-label", spoken);
    /** @type {HTMLElement} */ (cells[place].lastElementChild).textContent = caption;
  }

  function draw() {
    const made = outputs(order, filter);
    order.forEach((photograph, place) => {
      paint(input.canvases[place], pixels[photograph], [1]);
      paint(tied.canvases[place], made.tbc[place], filter);
      paint(own.canvases[place], made.gc[place], OWN[place]);
      const name = NAMES[photograph];
      label(input, place, name, name);
      label(tied, place, named(), `${name}, ${named()}`);
      label(own, place, Object.keys(FILTERS)[place], `${name}, ${Object.keys(FILTERS)[place]}`);
      input.cells[place].setAttribute("aria-pressed", `${place === chosen}`);
      input.cells[place].setAttribute("aria-label", `${name}, at place ${place + 1}`);
    });
    squares.forEach((square, tap) => {
      square.setAttribute("aria-valuenow", `${filter[tap]}`);
      const text = /** @type {Element} */ (square.lastElementChild);
      text.textContent = `${filter[tap]}`.replace("-", "−");
    });
    presets.set(named());
    say(news || `TBC applies ${named()} to every photograph. Each filter of GC stays at its place.`);
    [state.order, state.filter] = [order.join(""), filter.join(".")];
    save();
  }
  const redraw = once(draw);

  /** Let two places change their photographs, or choose the first of them. */
  function press(/** @type {number} */ place) {
    if (chosen < 0 || chosen === place) {
      chosen = chosen < 0 ? place : -1;
      const which = `the ${NAMES[order[place]]}`;
      news = chosen < 0 ? "" : `Now press the photograph to swap with ${which}.`;
    } else swap(chosen, place);
    redraw();
  }

  function swap(/** @type {number} */ a, /** @type {number} */ b) {
    [order[a], order[b]] = [order[b], order[a]];
    chosen = -1;
    const [first, second] = [b, a].map((place) =>
      `the ${NAMES[order[place]]} gets ${Object.keys(FILTERS)[place]}`);
    news = "TBC's outputs moved along with their photographs and are otherwise unchanged. " +
      `GC's are new: now ${first}, and ${second}.`;
    redraw();
  }

  input.cells.forEach((cell, place) => {
    cell.setAttribute("type", "button");
    cell.addEventListener("click", () => press(place));
    cell.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && chosen >= 0) press(chosen);
    });
    // A drag ends on another photograph; what ends on the same one is a click.
    cell.addEventListener("pointerdown", ({ button, pointerId }) => {
      if (button) return;
      const { signal, abort } = stopping();
      cell.releasePointerCapture(pointerId);
      addEventListener("pointercancel", (now) => now.pointerId === pointerId && abort(), { signal });
      addEventListener("pointerup", (now) => {
        if (now.pointerId !== pointerId) return;
        abort();
        const below = document.elementFromPoint(now.clientX, now.clientY)?.closest(".cell");
        const to = input.cells.indexOf(/** @type {HTMLElement} */ (below));
        if (to >= 0 && to !== place) swap(place, to);
      }, { signal });
    });
  });

  const squares = filter.map((_, tap) => {
    const [x, y] = [(tap % 3) * 40, Math.floor(tap / 3) * 40];
    const range = { role: "slider", tabindex: 0, "aria-valuemin": -MOST, "aria-valuemax": MOST };
    const place = `row ${Math.floor(tap / 3) + 1}, column ${(tap % 3) + 1}`;
    const square = svg("g", { ...range, "aria-label": `Weight in ${place}`, "aria-orientation": "vertical" },
      svg("rect", { class: "ground", x: x + 1, y: y + 1, width: 38, height: 38 }),
      svg("text", { x: x + 20, y: y + 26, "text-anchor": "middle" }));
    const change = (/** @type {number} */ to) => {
      filter[tap] = Math.max(-MOST, Math.min(MOST, Math.round(to)));
      [news, chosen] = ["", -1];
      redraw();
    };
    square.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, Home: -9, End: 9 }[event.key];
      if (step) event.preventDefault(), change(filter[tap] + step);
    });
    square.addEventListener("pointerdown", (event) => {
      const from = filter[tap];
      follow(event, (up) => change(from + up / 15));
    });
    return square;
  });
  const names = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, name]));
  const presets = choice("TBC's filter", names, "", (name) => {
    filter.splice(0, 9, ...FILTERS[name]);
    [news, chosen] = ["", -1];
    redraw();
  });
  const grid = svg("svg", { class: "filter", viewBox: "0 0 120 120", role: "group" }, ...squares);
  grid.setAttribute("aria-label", "Weights of TBC's filter");
  controls.append(presets.element, grid);
  draw();
});
