/**
 * Wiring and matrix: a stored weight of TBC is drawn B times, and stands B times in the matrix.
 *
 * The layer is a 1 × 1 convolution at one pixel, so that a line is a weight. Its outputs are
 * computed from the wires, each weight times its input, and tested against `tbc_ref`.
 */
import { choice, colour, count, html, mount, numbers, once, slider, svg } from "./shared.js";

/** @typedef {{input: number, output: number}} Wire */

const { channels, costs } = (await numbers).wiring;
const DEFAULTS = { in: 8, out: 8, groups: 1, blocks: 2, kind: "conv", lit: 0, weights: "" };
const PRESETS = {
  SC: [1, 1, "conv"],
  GC: [2, 1, "conv"],
  TBC: [1, 2, "conv"],
  TGC: [2, 2, "conv"],
  TFC: [1, 2, "fc"],
};
const [LEFT, RIGHT, TALL] = [52, 248, 288]; // of the wiring, in its own units

/** Numbers from 0 to 1 that look random and are always the same. */
const scattered = (/** @type {number} */ i, /** @type {number} */ step) => (0.3 + i * step) % 1;

/**
 * Every stored weight of Eq. (4), with the wires that use it: group outside, block inside.
 * @param {number} c_i
 * @param {number} c_o
 * @param {number} groups
 * @param {number} blocks
 * @returns {Wire[][]} for each weight, filter by filter, its B wires
 */
export function wires(c_i, c_o, groups, blocks) {
  const [thin, fan] = [c_i / (groups * blocks), c_o / (groups * blocks)];
  const stored = [];
  for (let filter = 0; filter < groups * fan; filter++)
    for (let tap = 0; tap < thin; tap++) {
      const [group, row] = [Math.floor(filter / fan), filter % fan];
      stored.push(
        Array.from({ length: blocks }, (_, block) => {
          const part = group * blocks + block;
          return { input: part * thin + tap, output: part * fan + row };
        }),
      );
    }
  return stored;
}

mount("wiring", DEFAULTS, ({ drawing, controls, state, say, save, small }) => {
  const value = Array.from({ length: 256 }, (_, i) => 0.25 + 0.75 * scattered(i, 0.618));
  for (const [, i, percent] of `${state.weights}`.matchAll(/(\d+)-(\d+)/g))
    if (+i < 256) value[+i] = Math.min(+percent, 100) / 100;
  let stored = wires(1, 1, 1, 1);
  const { in: c_i, out: c_o, groups, blocks } = {
    in: () => +state.in,
    out: () => +state.out,
    groups: () => +state.groups,
    blocks: () => +state.blocks,
  };
  const thin = () => c_i() / (groups() * blocks());
  const parts = () => groups() * blocks();
  /** Height of a channel: its blocks and groups stand apart. */
  const height = (/** @type {number} */ channel, /** @type {number} */ all) => {
    const gap = parts() > 1 ? Math.min(10, 60 / parts()) : 0;
    return 20 + ((channel + 0.5) / all) * (TALL - gap * (parts() - 1)) + gap * Math.floor((channel * parts()) / all);
  };
  const hue = (/** @type {number} */ weight) => colour(Math.floor(weight / thin()), c_o() / blocks());

  const panels = {
    wiring: svg("svg", { class: "wiring", viewBox: "0 0 300 330", role: "img" }),
    matrix: svg("svg", { class: "matrix", viewBox: "0 0 220 240", role: "img" }),
    stored: svg("svg", { class: "stored", viewBox: "0 0 220 240", role: "group", "aria-label": "Stored weights" }),
  };
  const formula = html("p", { class: "formula" });

  /** @param {number} weight @param {number} to between 0 and 1 */
  function change(weight, to) {
    value[weight] = Math.min(Math.max(Math.round(to * 100) / 100, 0), 1);
    const kept = new Map([...`${state.weights}`.matchAll(/(\d+)-(\d+)/g)].map((found) => [+found[1], +found[2]]));
    kept.set(weight, Math.round(value[weight] * 100));
    state.weights = [...kept].map((pair) => pair.join("-")).join(".");
    show(weight);
    outputs();
    tell();
    save();
  }

  /** Make the marks of a weight as large as its value: the wires, the cells, the stored square. */
  function show(/** @type {number} */ weight) {
    const size = value[weight];
    const [wire, cells, square] = marks[weight];
    wire.setAttribute("stroke-width", `${0.4 + 3 * size}`);
    cells.setAttribute("d", stored[weight].map(({ input, output }) => cell(output, input, size)).join(""));
    const middle = { x: 110 + (weight % thin() - (thin() - 1) / 2) * edge(), y: 22 + (Math.floor(weight / thin()) + 0.5) * edge() };
    square.lastElementChild?.setAttribute("d", box(middle.x, middle.y, edge() * 0.88 * Math.max(size, 0.06)));
    square.setAttribute("aria-valuenow", `${size}`);
  }
  const edge = () => Math.min(26, 216 / Math.max(thin(), c_o() / blocks()));
  const unit = () => 216 / Math.max(c_i(), c_o());
  const box = (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ side) =>
    `M${x - side / 2} ${y - side / 2}h${side}v${side}h${-side}z`;
  const cell = (/** @type {number} */ row, /** @type {number} */ column, /** @type {number} */ size) =>
    box(2 + (column + 0.5) * unit(), 22 + (row + 0.5) * unit(), unit() * 0.9 * Math.max(size, 0.06));

  /** Every output is the sum of its weights times their inputs. */
  function outputs() {
    const y = new Array(c_o()).fill(0);
    stored.forEach((uses, weight) =>
      uses.forEach(({ input, output }) => (y[output] += value[weight] * given(input))),
    );
    y.forEach((sum, o) => bars[o].setAttribute("width", `${(40 * sum) / thin()}`));
    panels.wiring.dataset.outputs = y.join(" ");
  }
  const given = (/** @type {number} */ channel) => 0.25 + 0.75 * scattered(channel, 0.755);

  /** @type {SVGElement[][]} */ let marks = [];
  /** @type {SVGElement[]} */ let bars = [];

  function draw() {
    stored = wires(c_i(), c_o(), groups(), blocks());
    state.lit = Math.min(+state.lit, stored.length - 1);
    const words = state.kind === "fc" ? "features" : "channels";
    const title = (/** @type {number} */ x, /** @type {string} */ text) => svg("text", { x, y: 12 }, text);
    const dots = [];
    bars = [];
    for (let channel = 0; channel < c_i(); channel++) {
      const y = height(channel, c_i());
      const wide = 40 * given(channel);
      dots.push(svg("circle", { class: "input", cx: LEFT, cy: y, r: 5 }));
      if (!small) dots.push(svg("rect", { class: "bar", x: LEFT - 8 - wide, y: y - 3, width: wide, height: 6 }));
    }
    for (let channel = 0; channel < c_o(); channel++) {
      const y = height(channel, c_o());
      const filter = Math.floor(channel / (c_o() / groups())) * (c_o() / parts()) + (channel % (c_o() / parts()));
      bars.push(svg("rect", { class: "bar", x: RIGHT + 8, y: y - 3, width: 0, height: 6 }));
      dots.push(svg("path", { class: "coloured", style: colour(filter, c_o() / blocks()), d: box(RIGHT, y, 10) }));
    }
    marks = stored.map((uses, weight) => {
      const look = { class: "coloured", style: hue(weight), "data-weight": weight };
      const d = uses.map(({ input, output }) => `M${LEFT} ${height(input, c_i())}L${RIGHT} ${height(output, c_o())}`);
      const label = `Weight ${weight % thin() + 1} of filter ${Math.floor(weight / thin()) + 1}`;
      const place = box(110 + (weight % thin() - (thin() - 1) / 2) * edge(), 22 + (Math.floor(weight / thin()) + 0.5) * edge(), edge() * 0.94);
      const range = { role: "slider", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1, "aria-orientation": "vertical" };
      return [
        svg("path", { ...look, d: d.join("") }),
        svg("path", look),
        svg("g", { ...look, ...range, tabindex: -1 }, svg("path", { class: "ground", d: place }), svg("path")),
      ];
    });
    const blank = [];
    for (let part = 0; part < parts(); part++) {
      const [x, y] = [(part * c_i()) / parts(), (part * c_o()) / parts()].map((n) => n * unit());
      blank.push(svg("rect", { class: "part", x: 2 + x, y: 22 + y, width: thin() * unit(), height: (c_o() / parts()) * unit() }));
    }
    const all = svg("rect", { class: "ground", x: 2, y: 22, width: c_i() * unit(), height: c_o() * unit() });
    const [side, out] = [{ "text-anchor": "middle" }, c_o() / blocks()];
    panels.wiring.replaceChildren(
      title(0, `input ${words}`),
      svg("text", { x: 300, y: 12, "text-anchor": "end" }, `output ${words}`),
      svg("g", { class: "wires" }, ...marks.map((mark) => mark[0])),
      ...(small ? [] : bars),
      ...dots,
    );
    panels.matrix.replaceChildren(title(2, "the whole matrix"), all, ...blank, ...marks.map((mark) => mark[1]));
    panels.stored.replaceChildren(
      svg("text", { x: 110, y: 12, ...side }, `stored: ${out} × ${thin()}`),
      ...marks.map((mark) => mark[2]),
    );
    stored.forEach((_, weight) => show(weight));
    outputs();
    light(+state.lit);
    cost();
  }

  /** Emphasise a weight, its wires and its cells; the arrow keys start from it. */
  function light(/** @type {number} */ weight) {
    if (weight !== state.lit) save();
    state.lit = weight;
    marks.forEach((mark, i) => mark.forEach((one) => one.classList.toggle("lit", i === weight)));
    marks.forEach((mark, i) => mark[2].setAttribute("tabindex", i === weight ? "0" : "-1"));
    tell();
  }

  function tell() {
    const lit = +state.lit;
    const uses = stored[lit].map(({ input, output }) => `input ${input + 1} with output ${output + 1}`);
    const which = `Weight ${lit % thin() + 1} of filter ${Math.floor(lit / thin()) + 1} is ${value[lit].toFixed(2)}`;
    const [weights, macs] = costs[`${c_i()},${c_o()},${groups()},${blocks()}`];
    const [full] = costs[`${c_i()},${c_o()},1,1`];
    const joins = blocks() > 1 ? `It is used ${blocks()} times, and joins ` : "It joins ";
    panels.wiring.setAttribute("aria-label", `${operator()}, from ${c_i()} to ${c_o()}. ${which}, joining ${uses.join(", ")}`);
    panels.matrix.setAttribute("aria-label", `The ${c_o()} × ${c_i()} matrix, which has ${parts()} filled blocks`);
    const less = weights === full ? "" : `, and SC ${count(full)}`;
    if (small) say(`B = ${blocks()}: ${count(weights)} weights are stored instead of ${count(full)}, for ${count(macs)} multiplications instead of ${count(full)}.`);
    else say(`${operator()} stores ${count(weights)} weights${less}. ${which}. ${joins}${uses.join(", ")}.`);
  }

  const operator = () =>
    state.kind === "fc" ? (blocks() > 1 ? "TFC" : "FC") : (blocks() > 1 ? "T" : "") + (groups() > 1 ? (blocks() > 1 ? "GC" : "GC") : blocks() > 1 ? "BC" : "SC");

  function cost() {
    const [weights, macs] = costs[`${c_i()},${c_o()},${groups()},${blocks()}`];
    const divided = (/** @type {number} */ n) => `${n}${parts() > 1 ? `/${parts()}` : ""}`;
    const times = groups() > 1 ? `${groups()} · ` : "";
    formula.replaceChildren(
      `weights: ${times}${divided(c_o())} · ${divided(c_i())} = `, html("b", {}, count(weights)),
      html("br"),
      `MACs: ${blocks() > 1 ? `${blocks()} · ` : ""}${count(weights)} = `, html("b", {}, count(macs)),
    );
    formula.dataset.weights = `${weights}`;
    formula.dataset.macs = `${macs}`;
  }
  drawing.replaceChildren(...(small ? [panels.wiring, panels.stored] : [panels.wiring, panels.matrix, panels.stored, formula]));

  // What divides: G divides both channels, and G·B as well.
  const fits = (/** @type {number} */ by) => c_i() % by === 0 && c_o() % by === 0;
  const upTo16 = Array.from({ length: 16 }, (_, i) => i + 1);
  const redraw = once(draw);
  const settle = () => {
    state.groups = sliders.groups.offer(state.kind === "fc" ? [1] : upTo16.filter(fits), groups());
    state.blocks = sliders.blocks.offer(upTo16.filter((n) => fits(n * groups())), blocks());
    const now = Object.entries(PRESETS).find(([, [g, b, kind]]) => g === groups() && b === blocks() && kind === state.kind);
    presets.set(now ? now[0] : "");
    redraw();
    save();
  };
  const moves = (/** @type {keyof typeof DEFAULTS} */ key) => (/** @type {number} */ to) => ((state[key] = to), settle());
  const sliders = {
    in: slider("C_in", channels, c_i(), moves("in")),
    out: slider("C_out", channels, c_o(), moves("out")),
    groups: slider("groups G", upTo16, groups(), moves("groups")),
    blocks: slider("blocks B", upTo16, blocks(), moves("blocks")),
  };
  const names = Object.fromEntries(Object.keys(PRESETS).map((name) => [name, name]));
  const presets = choice("operator", names, "", (name) => {
    [state.groups, state.blocks, state.kind] = PRESETS[/** @type {keyof typeof PRESETS} */ (name)];
    state.in = sliders.in.offer(channels, Math.max(c_i(), 4));
    state.out = sliders.out.offer(channels, Math.max(c_o(), 4));
    settle();
  });
  state.in = sliders.in.offer(channels, c_i());
  state.out = sliders.out.offer(channels, c_o());
  controls.append(...(small ? [sliders.blocks.element] : [presets.element, ...Object.values(sliders).map((one) => one.element)]));

  const weightAt = (/** @type {Event} */ event) => {
    const mark = /** @type {Element} */ (event.target).closest("[data-weight]");
    return mark ? Number(/** @type {SVGElement} */ (mark).dataset.weight) : -1;
  };
  drawing.addEventListener("pointerover", (event) => weightAt(event) >= 0 && !held && light(weightAt(event)));
  drawing.addEventListener("focusin", (event) => weightAt(event) >= 0 && light(weightAt(event)));
  let held = false;
  panels.stored.addEventListener("pointerdown", (event) => {
    const weight = weightAt(event);
    if (weight < 0) return;
    light(weight);
    const [start, from] = [event.clientY, value[weight]];
    held = true;
    panels.stored.setPointerCapture(event.pointerId);
    const drag = (/** @type {PointerEvent} */ now) => change(weight, from + (start - now.clientY) / 80);
    panels.stored.addEventListener("pointermove", drag);
    const drop = () => ((held = false), panels.stored.removeEventListener("pointermove", drag));
    panels.stored.addEventListener("lostpointercapture", drop, { once: true });
  });
  panels.stored.addEventListener("keydown", (event) => {
    const lit = +state.lit;
    const steps = { ArrowUp: 0.05, ArrowDown: -0.05, Home: -1, End: 1 };
    const moves = { ArrowLeft: -1, ArrowRight: 1 };
    if (event.key in steps) change(lit, value[lit] + steps[/** @type {keyof typeof steps} */ (event.key)]);
    else if (event.key in moves) {
      const next = lit + moves[/** @type {keyof typeof moves} */ (event.key)];
      if (marks[next]) /** @type {any} */ (marks[next][2]).focus();
    } else return;
    event.preventDefault();
  });
  settle();
  draw();
});
