/**
 * The gradient is a sum: the B blocks that use a weight each send a gradient back, x · dy.
 *
 * Arrows laid end to end are the sum. Beside them, 200 draws show how much one block's gradient
 * scatters, and how much the mean of B blocks does.
 */
import { button, choice, colour, known, list, mount, once, slider, svg } from "./shared.js";

/** @typedef {{x: number[], dy: number[], dw: number[]}} Draw the inputs and gradients of B blocks */

const DEFAULTS = { blocks: 8, kind: "noisy", seed: 120 };
const KINDS = { identical: "identical", independent: "unrelated", noisy: "alike, with noise" };
const DRAWS = 200;
const LEFT = 64; // of the arrows' zero line, and of the scatter's

/** Random numbers between 0 and 1 (mulberry32). @type {(seed: number) => () => number} */
const random = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
  return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
};

/**
 * One weight's gradients in B blocks: what each block's input and its output's gradient give.
 * @param {string} kind identical: copies of one block; independent: noise alone; noisy: a common
 *   signal, and noise
 * @param {number} blocks B
 * @param {number} seed
 * @returns {Draw}
 */
export function gradients(kind, blocks, seed) {
  const next = random(seed);
  const normal = () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
  const signal = kind === "independent" ? 0 : 1;
  const block = () => [0.8 + 0.4 * next(), signal + 0.7 * normal()];
  const first = block();
  const all = list(blocks, (b) => (b && kind !== "identical" ? block() : first));
  return { x: all.map(([x]) => x), dy: all.map(([, dy]) => dy), dw: all.map(([x, dy]) => x * dy) };
}

/** The sum of a list. @type {(list: number[]) => number} */
const sum = (list) => list.reduce((a, b) => a + b, 0);

/** A number with one decimal, and a minus sign. @type {(value: number) => string} */
const signed = (value) => value.toFixed(1).replace(/^-0\.0$/, "0.0").replace("-", "−");

/** The standard deviation of a list. @type {(list: number[]) => number} */
export function spread(list) {
  const mean = sum(list) / list.length;
  return Math.sqrt(sum(list.map((one) => (one - mean) ** 2)) / list.length);
}

mount("gradient", DEFAULTS, ({ drawing, controls, state, say, save }) => {
  const arrows = svg("svg", { class: "arrows", viewBox: "0 0 340 300", role: "img" });
  const scatter = svg("svg", { class: "scatter", viewBox: "0 0 340 300", role: "img" });
  drawing.replaceChildren(arrows, scatter);

  function draw() {
    const [blocks, kind, seed] = [+state.blocks, `${state.kind}`, +state.seed];
    const { dw } = gradients(kind, blocks, seed);
    const draws = list(DRAWS, (i) => gradients(kind, blocks, 1000 * seed + i).dw);
    const single = draws.map((one) => one[0]);
    const means = draws.map((one) => sum(one) / blocks);
    walk(dw);
    strips(single, means);
    const ratio = spread(single) / spread(means);
    Object.assign(scatter.dataset, { single: spread(single), means: spread(means) });
    const root = Math.sqrt(blocks).toFixed(2);
    const less = `${ratio.toFixed(2)} times less than a single block does (√B = ${root})`;
    say(blocks === 1 ? "With one block there is nothing to add or to average." :
      `The ${blocks} gradients add up to ${signed(sum(dw))}. ` + {
        identical: "The blocks are copies, so their mean scatters as much as one: nothing is averaged.",
        independent: `The blocks share no signal: they scatter around zero, and their mean too, ${less}.`,
        noisy: `Their mean scatters around the same value, ${less}: the noise averages out.`,
      }[kind]);
    save();
  }

  /** Draw the gradients as arrows, each from where the one before it ends, and their sum. */
  function walk(/** @type {number[]} */ dw) {
    const unit = 190 / dw.length; // so that a sum of B ones is always as long
    const row = Math.min(26, 208 / dw.length);
    const top = 34;
    let at = 0;
    const steps = dw.map((one, b) => {
      const [from, to, y] = [LEFT + 40 + at * unit, LEFT + 40 + (at + one) * unit, top + (b + 0.5) * row];
      const head = Math.sign(one) * Math.min(6, Math.abs(to - from) / 2);
      at += one;
      return svg("g", { class: "coloured", style: colour(b, dw.length) },
        svg("path", { d: `M${from} ${y}H${to}m${-head} ${-row / 4}L${to} ${y}l${-head} ${row / 4}` }),
        svg("path", { class: "link", d: `M${to} ${y}v${row}` }));
    });
    const end = top + dw.length * row;
    const labels = dw.map((_, b) => svg("text", { x: 0, y: top + (b + 0.5) * row + 4 }, `block ${b + 1}`));
    const zero = LEFT + 40;
    arrows.replaceChildren(
      svg("text", { x: 0, y: 14 }, "gradients of one weight, x · dy"),
      svg("path", { class: "axis", d: `M${zero} 24V${end + 34}` }),
      ...(dw.length > 8 ? [labels[0], labels[dw.length - 1]] : labels), ...steps,
      svg("path", { class: "sum", d: `M${zero} ${end + 6}h${at * unit}v18H${zero}z` }),
      svg("text", { x: 0, y: end + 20 }, "their sum, dW′"),
      svg("text", { x: zero + Math.max(at, 0) * unit + 6, y: end + 20 }, signed(at)),
    );
    arrows.dataset.sum = `${at}`;
    arrows.setAttribute("aria-label", `${dw.length} arrows, laid end to end, reach ${signed(at)}`);
  }

  /** Draw two strips of dots: one block's gradient in each draw, and the mean of all blocks. */
  function strips(/** @type {number[]} */ single, /** @type {number[]} */ means) {
    const place = (/** @type {number} */ value) => 170 + 50 * Math.max(Math.min(value - 0.5, 3.3), -3.3);
    const strip = (/** @type {number[]} */ values, /** @type {number} */ y, /** @type {string} */ name) => {
      const dots = values.map((value, i) => `M${place(value)} ${y + 18 + ((i * 37) % 61)}h3v3h-3z`);
      const [mean, wide] = [sum(values) / DRAWS, spread(values)];
      return svg("g", {},
        svg("text", { x: 0, y }, `${name}: spread ${wide.toFixed(2)}`),
        svg("path", { class: "dots", d: dots.join("") }),
        svg("path", { class: "sum", d: `M${place(mean - wide)} ${y + 90}v4H${place(mean + wide)}v-4z` }),
        svg("path", { class: "axis", d: `M${place(0)} ${y + 10}v90` }));
    };
    scatter.replaceChildren(
      strip(single, 14, `one block, ${DRAWS} draws`),
      strip(means, 144, "mean of all blocks"),
      svg("text", { x: place(0), y: 262, "text-anchor": "middle" }, "0"),
      svg("text", { x: place(1), y: 262, "text-anchor": "middle" }, "1"),
      svg("text", { x: 0, y: 284 }, "Bars: the mean, and the spread to both sides."),
    );
    scatter.setAttribute("aria-label", `Dots of ${DRAWS} draws: one block scatters by ` +
      `${spread(single).toFixed(2)}, the mean of all blocks by ${spread(means).toFixed(2)}`);
  }

  const redraw = once(draw);
  const change = (/** @type {"blocks" | "kind" | "seed"} */ key) =>
    (/** @type {number | string} */ to) => ((state[key] = to), redraw());
  const blocks = slider("blocks B", [1, 2, 4, 8, 16], +state.blocks, change("blocks"));
  state.kind = known(KINDS, state.kind, DEFAULTS.kind);
  state.blocks = blocks.offer([1, 2, 4, 8, 16], +state.blocks);
  state.seed = Math.abs(Math.round(+state.seed)) % 1000;
  controls.append(
    choice("the blocks are", KINDS, `${state.kind}`, change("kind")).element,
    blocks.element,
    button("Draw again", () => change("seed")((+state.seed % 999) + 1)),
  );
  draw();
});
