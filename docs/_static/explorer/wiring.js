/**
 * Wiring and matrix: a stored weight of TBC joins B pairs of channels, and fills B matrix cells.
 *
 * The layer is a 1 × 1 convolution at one pixel, so a line is a weight. Values lie between 0 and 1:
 * the thicker a line and the larger a square, the larger its weight.
 */
import { choice, colour, count, follow, html, list, mount, numbers, once, slider, svg } from "./shared.js";

/** @typedef {{input: number, output: number}} Wire */
/** @typedef {{wire: SVGElement, cells: SVGElement, square: SVGElement}} Marks of one stored weight */

const { channels, costs } = (await numbers).wiring;
const DEFAULTS = { in: 8, out: 8, groups: 1, blocks: 2, kind: "conv", weights: "", lit: 0 };
/** @type {Record<string, [number, number, string]>} groups, blocks and kind of each operator */
const PRESETS = {
  SC: [1, 1, "conv"],
  GC: [2, 1, "conv"],
  TBC: [1, 2, "conv"],
  TGC: [2, 2, "conv"],
  TFC: [1, 2, "fc"],
};
const MOST = Math.max(...channels); // channels, so that there are at most MOST² weights
const [LEFT, RIGHT] = [52, 248]; // where the channels stand in the wiring
const SIDE = 216; // of the matrix, and at most of the stored weights

/** The i-th of a series of values that look random. @type {(i: number, step: number) => number} */
const scattered = (i, step) => 0.25 + 0.75 * ((0.3 + i * step) % 1);

/**
 * Every stored weight of Eq. (4), with the wires that use it.
 * @param {number} cIn
 * @param {number} cOut
 * @param {number} groups G
 * @param {number} blocks B
 * @returns {Wire[][]} the B wires of each weight, filter by filter
 */
export function wires(cIn, cOut, groups, blocks) {
  const [thin, fan] = [cIn / (groups * blocks), cOut / (groups * blocks)];
  return list(groups * fan * thin, (weight) => {
    const [filter, tap] = [Math.floor(weight / thin), weight % thin];
    const [group, row] = [Math.floor(filter / fan), filter % fan];
    return list(blocks, (block) => {
      const part = group * blocks + block; // groups outside, blocks inside
      return { input: part * thin + tap, output: part * fan + row };
    });
  });
}

/** The values of all weights, with those that were changed: "3-80.5-10" in percent. */
function valuesFrom(/** @type {string} */ changed) {
  const values = list(MOST * MOST, (i) => Math.round(100 * scattered(i, 0.618)) / 100);
  for (const [, i, percent] of changed.matchAll(/(\d+)-(\d+)/g))
    if (+i < values.length) values[+i] = Math.min(+percent, 100) / 100;
  return values;
}

/** A square around a point, as a path. @type {(x: number, y: number, side: number) => string} */
const box = (x, y, side) => `M${x - side / 2} ${y - side / 2}h${side}v${side}h${-side}z`;

mount("wiring", DEFAULTS, ({ drawing, controls, state, say, save, small }) => {
  const values = valuesFrom(`${state.weights}`);
  let [cIn, cOut, groups, blocks, parts, thin, fan] = [0, 0, 0, 0, 0, 0, 0];
  /** @type {Wire[][]} */ let stored = [];
  /** @type {Marks[]} */ let marks = [];
  /** @type {SVGElement[]} */ let bars = [];
  const wiring = svg("svg", { class: "wiring", viewBox: "0 0 300 320", role: "img" });
  const matrix = svg("svg", { class: "matrix", viewBox: "0 0 220 245", role: "img" });
  const squares = svg("svg", { class: "stored", viewBox: "0 0 220 245", role: "group" });
  squares.setAttribute("aria-label", "Stored weights");
  const formula = html("p", { class: "formula" });
  drawing.replaceChildren(wiring, ...(small ? [squares] : [squares, matrix, formula]));

  /** Height of channel `i` of `n` in the wiring, where groups and blocks stand apart. */
  function height(/** @type {number} */ i, /** @type {number} */ n) {
    const gap = Math.min(10, 60 / parts);
    return 22 + (i + 0.5) * ((290 - gap * (parts - 1)) / n) + gap * Math.floor((i * parts) / n);
  }
  const unit = () => SIDE / Math.max(cIn, cOut); // side of a cell of the matrix
  const edge = () => Math.min(36, SIDE / Math.max(thin, groups * fan)); // of a stored square
  const filter = (/** @type {number} */ weight) => Math.floor(weight / thin);
  const place = (/** @type {number} */ weight) =>
    /** @type {[number, number]} */ ([
      110 + ((weight % thin) - (thin - 1) / 2) * edge(),
      27 + (filter(weight) + 0.5) * edge(),
    ]);

  function draw() {
    [cIn, cOut, groups, blocks] = [+state.in, +state.out, +state.groups, +state.blocks];
    [parts, thin, fan] = [groups * blocks, cIn / (groups * blocks), cOut / (groups * blocks)];
    stored = wires(cIn, cOut, groups, blocks);
    marks = stored.map(marksOf);
    redrawn.clear();
    bars = list(cOut, (i) =>
      svg("rect", { class: "bar", x: RIGHT + 8, y: height(i, cOut) - 3, height: 6 }));
    const inputs = list(cIn, (i) => {
      const [y, width] = [height(i, cIn), 40 * scattered(i, 0.755)];
      const bar = svg("rect", { class: "bar", x: LEFT - 8 - width, y: y - 3, width, height: 6 });
      return svg("g", {}, svg("circle", { cx: LEFT, cy: y, r: 5 }), ...(small ? [] : [bar]));
    });
    const outputs = list(cOut, (i) => {
      const of = Math.floor(i / (cOut / groups)) * fan + (i % fan);
      const look = { class: "coloured", style: colour(of, groups * fan) };
      return svg("path", { ...look, d: box(RIGHT, height(i, cOut), 10) });
    });
    const kind = state.kind === "fc" ? "features" : "channels";
    wiring.replaceChildren(
      svg("text", { x: 0, y: 12 }, `input ${kind}`),
      svg("text", { x: 300, y: 12, "text-anchor": "end" }, `output ${kind}`),
      svg("g", { class: "wires" }, ...marks.map((mark) => mark.wire)),
      ...inputs, ...outputs, ...(small ? [] : bars),
    );
    const rect = (/** @type {string} */ look, /** @type {number} */ part, /** @type {number} */ of) => {
      const size = { width: (cIn / of) * unit(), height: (cOut / of) * unit() };
      return svg("rect", { class: look, x: 2 + part * size.width, y: 27 + part * size.height, ...size });
    };
    matrix.replaceChildren(
      svg("text", { x: 2, y: 16 }, "the whole matrix"), rect("ground", 0, 1),
      ...list(parts, (part) => rect("part", part, parts)),
      ...marks.map((mark) => mark.cells),
    );
    squares.replaceChildren(
      svg("text", { x: 110, y: 16, "text-anchor": "middle" }, `stored: ${groups * fan} × ${thin}`),
      ...marks.map((mark) => mark.square),
    );
    stored.forEach((_, weight) => show(weight));
    light(Math.min(Math.max(Math.floor(+state.lit), 0), stored.length - 1));
    add();
    explain();
  }

  /** The marks of a stored weight: its B wires, its B cells, and the square that is dragged. */
  function marksOf(/** @type {Wire[]} */ uses, /** @type {number} */ weight) {
    const look = { class: "coloured", style: colour(filter(weight), groups * fan), "data-weight": weight };
    const lines = uses.map(({ input, output }) =>
      `M${LEFT} ${height(input, cIn)}L${RIGHT} ${height(output, cOut)}`);
    const label = `Weight ${(weight % thin) + 1} of filter ${filter(weight) + 1}`;
    const range = { role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1 };
    return {
      wire: svg("path", { ...look, d: lines.join("") }),
      cells: svg("path", look),
      square: svg("g", { ...look, ...range, "aria-orientation": "vertical" },
        svg("path", { class: "ground", d: box(...place(weight), edge() * 0.94) }), svg("path")),
    };
  }

  /** Make a weight's marks as large as its value. */
  function show(/** @type {number} */ weight) {
    const value = values[weight];
    const { wire, cells, square } = marks[weight];
    const side = 0.88 * Math.max(value, 0.06);
    const middle = (/** @type {number} */ channel) => (channel + 0.5) * unit();
    wire.setAttribute("stroke-width", `${0.4 + 3 * value}`);
    cells.setAttribute("d", stored[weight].map(({ input, output }) =>
      box(2 + middle(input), 27 + middle(output), unit() * side)).join(""));
    square.lastElementChild?.setAttribute("d", box(...place(weight), edge() * side));
    square.setAttribute("aria-valuenow", `${value}`);
  }

  /** Each output is the sum of its weights times their inputs. */
  function add() {
    const sums = new Array(cOut).fill(0);
    stored.forEach((uses, weight) =>
      uses.forEach(({ input, output }) => (sums[output] += values[weight] * scattered(input, 0.755))));
    sums.forEach((sum, i) => bars[i].setAttribute("width", `${(40 * sum) / thin}`));
    wiring.dataset.outputs = sums.join(" ");
  }

  /** Emphasise one weight; the arrow keys start from it. */
  function light(/** @type {number} */ weight) {
    const before = marks[+state.lit];
    state.lit = weight;
    for (const [mark, lit] of /** @type {[Marks, boolean][]} */ ([[before, false], [marks[weight], true]]))
      for (const one of Object.values(mark ?? {})) one.classList.toggle("lit", lit);
    marks.forEach(({ square }, i) => square.setAttribute("tabindex", i === weight ? "0" : "-1"));
  }

  /** What the layer is called with its groups and blocks. */
  function operator() {
    if (state.kind === "fc") return +state.blocks > 1 ? "TFC" : "FC";
    return +state.blocks > 1 ? (+state.groups > 1 ? "TGC" : "TBC") : +state.groups > 1 ? "GC" : "SC";
  }

  /** Put into words and numbers what is drawn. */
  function explain() {
    const lit = +state.lit;
    const [weights, macs] = costs[`${cIn},${cOut}`][`${groups},${blocks}`];
    const [full] = costs[`${cIn},${cOut}`]["1,1"];
    const [one, all] = state.kind === "fc" ? ["feature", "features"] : ["input", "channels"];
    const joins = stored[lit].map(({ input, output }) => `${one} ${input + 1} with output ${output + 1}`);
    const more = joins.length > 4 ? joins.splice(2, Infinity, `${joins.length - 2} more pairs`) : [];
    const pairs = joins.join(", ").replace(/, (?!.*, )/, more.length ? ", and " : " and ");
    const which = `Weight ${(lit % thin) + 1} of filter ${filter(lit) + 1} is ${values[lit].toFixed(2)}`;
    wiring.setAttribute("aria-label", `${operator()} from ${cIn} ${all} to ${cOut}; a weight joins ${pairs}`);
    matrix.setAttribute("aria-label", `Matrix of ${cOut} × ${cIn} cells with ${parts} filled blocks`);
    const words = `${count(weights)} weight${weights > 1 ? "s" : ""}`;
    const each = small || state.kind === "fc" ? "" : " at each pixel";
    const instead = parts > 1 ? ` instead of ${count(full)}` : "";
    const costly = `${words}${instead}, and ${count(macs)} multiplications${each}${instead}`;
    say(small ? `B = ${blocks}${parts === 1 ? " is a standard convolution" : ""}: ${costly}.`
      : `${operator()}: ${costly}. ${which}: it joins ${pairs}.`);
    const divided = (/** @type {number} */ n) => (parts > 1 ? `${n}/${parts}` : `${n}`);
    const line = (/** @type {string} */ text, /** @type {number} */ result) =>
      html("span", {}, `${text} = `, html("b", {}, count(result)));
    const filled = `${groups} · ${divided(cOut)} · ${divided(cIn)}`;
    formula.replaceChildren(
      line(`weights: G · cₒ/(GB) · cᵢ/(GB) = ${filled}`, weights),
      line(`MACs: B · weights = ${blocks} · ${count(weights)}`, macs),
    );
    Object.assign(formula.dataset, { weights, macs });
  }

  /** Give a stored weight a value between 0 and 1. */
  function change(/** @type {number} */ weight, /** @type {number} */ to) {
    if (!stored[weight]) return; // it was held while the layer became smaller
    values[weight] = Math.round(100 * Math.min(Math.max(to, 0), 1)) / 100;
    const others = `${state.weights}`.split(".").filter((one) => one && !one.startsWith(`${weight}-`));
    state.weights = [...others, `${weight}-${Math.round(100 * values[weight])}`].join(".");
    redrawn.add(weight);
    update();
    save();
  }
  /** @type {Set<number>} */ const redrawn = new Set();
  const update = once(() => (redrawn.forEach(show), redrawn.clear(), add(), explain()));

  const all = list(MOST, (i) => i + 1);
  const divide = (/** @type {number} */ n) => +state.in % n === 0 && +state.out % n === 0;
  const redraw = once(draw);
  /** Let the sliders offer what divides, and draw. */
  function settle() {
    state.kind = state.kind === "fc" ? "fc" : "conv";
    state.in = sliders.in.offer(channels, +state.in);
    state.out = sliders.out.offer(channels, +state.out);
    state.groups = sliders.groups.offer(state.kind === "fc" ? [1] : all.filter(divide), +state.groups);
    state.blocks = sliders.blocks.offer(all.filter((n) => divide(n * +state.groups)), +state.blocks);
    presets.set(operator());
    save();
  }
  const sliding = (/** @type {string} */ label, /** @type {keyof typeof DEFAULTS} */ key) =>
    slider(label, [+state[key]], +state[key], (to) => ((state[key] = to), settle(), redraw()));
  const sliders = {
    in: sliding("channels in, cᵢ", "in"),
    out: sliding("channels out, cₒ", "out"),
    groups: sliding("groups G", "groups"),
    blocks: sliding("blocks B", "blocks"),
  };
  const names = Object.fromEntries(Object.keys(PRESETS).map((name) => [name, name]));
  const presets = choice("operator", names, "", (name) => {
    const [G, B, kind] = PRESETS[name];
    Object.assign(state, { groups: G, blocks: B, kind });
    [state.in, state.out] = [state.in, state.out].map((n) => (+n % (G * B) ? 8 : n));
    settle();
    redraw();
  });
  const offered = small ? [sliders.blocks] : [presets, ...Object.values(sliders)];
  controls.append(...offered.map(({ element }) => element));

  const weightAt = (/** @type {Event} */ event) => {
    const mark = /** @type {Element} */ (event.target).closest("[data-weight]");
    return mark ? Number(mark.getAttribute("data-weight")) : -1;
  };
  for (const kind of ["pointerover", "focusin"])
    drawing.addEventListener(kind, (event) => {
      if (weightAt(event) >= 0) light(weightAt(event)), explain(), save();
    });
  squares.addEventListener("pointerdown", (event) => {
    if (weightAt(event) < 0) return;
    const weight = weightAt(event);
    const from = values[weight];
    light(weight);
    follow(event, (up) => change(weight, from + up / 80));
  });
  squares.addEventListener("keydown", (event) => {
    const lit = +state.lit;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const step = { ArrowUp: 0.05, ArrowDown: -0.05, Home: -1, End: 1 }[event.key];
    if (!move && !step) return;
    event.preventDefault();
    if (step) change(lit, values[lit] + step);
    else if (move) marks[lit + move]?.square.focus();
  });
  settle();
  draw();
});
