/**
 * The bottleneck: Fig. 4 in three designs, with what each layer and the whole network cost.
 *
 * Drawn is the bottleneck of the third stage, which maps 1024 channels to 1024. `layers` and
 * `network` count as `tbc_models` builds it; the paper's numbers come from `explorer.json`.
 */
import { button, choice, colour, html, known, mount, numbers, once, short, slider, svg } from "./shared.js";

/** @typedef {Record<string, number | string>} Settings design, splits, width, blocks and mixer */
/** @typedef {{inputs: number, planes: number, size: number, stride: number}} Place size: of the input */
/**
 * @typedef {object} Layer
 * @property {string} part
 * @property {number} from input channels
 * @property {number} to output channels
 * @property {number} kernel
 * @property {number} blocks
 * @property {number} parameters without those of the batch normalisation
 * @property {number} macs
 */

const { blocks: USUAL, rows } = (await numbers).bottleneck;
const DEFAULTS = { design: "fitted", splits: 4, width: 18, blocks: "", mixer: "sum" };
const DESIGNS = { literal: "literal", fitted: "fitted", "fitted-tbc": "fitted-tbc" };
const MIXERS = { sum: "sum", concatenate: "concatenate", none: "none" };
const [SPLITS, WIDTHS, BLOCKS] = [[2, 4, 6, 8], [16, 18, 24, 32, 48], [1, 2, 3, 4, 6, 8]];
const PARTS = ["entry", "splits", "mixer", "exit"];
const DRAWN = { inputs: 1024, planes: 256, size: 14, stride: 1 };
/** ResNet-50's bottleneck there: parameters and MACs of its three layers. */
const PLAIN = [cost(1024, 256, 1, 1, 14), cost(256, 256, 3, 1, 14), null, cost(256, 1024, 1, 1, 14)];

/**
 * Parameters and MACs of TBC, Eq. (3); with B = 1 it is SC. A bias has C_out/B values.
 * @param {number} from
 * @param {number} to
 * @param {number} kernel
 * @param {number} blocks
 * @param {number} size of the output, in pixels
 * @param {boolean} [bias]
 */
export function cost(from, to, kernel, blocks, size, bias = false) {
  const weights = (to / blocks) * (from / blocks) * kernel ** 2;
  return { parameters: weights + (bias ? to / blocks : 0), macs: blocks * weights * size ** 2 };
}

/** The largest divisor of a number that is at most a limit. @type {(n: number, limit: number) => number} */
const divisor = (n, limit) => (n % limit ? divisor(n, limit - 1) : limit);

/** The requested B of each split. @param {Settings} settings @returns {number[]} */
export function requested({ splits, blocks }) {
  const [first, ...rest] = `${blocks}`.split("-");
  const all = first === "all" ? Array(+splits).fill(+rest[0]) : [+first, ...rest.map(Number)];
  return all.length === splits && all.every((B) => BLOCKS.includes(B)) ? all : USUAL[splits];
}

/**
 * The layers of one bottleneck, its shortcut included where it has a convolution.
 * @param {Settings} settings
 * @param {Place} place
 * @returns {Layer[]}
 */
export function layers(settings, { inputs, planes, size, stride }) {
  const { design, mixer } = settings;
  const [small, out] = [size / stride, 4 * planes];
  const width = Math.floor((planes * +settings.width) / 64);
  const total = +settings.splits * width;
  const mixed = mixer === "sum" ? width : total;
  /** @type {(part: string, from: number, to: number, k: number, B: number, map?: number) => Layer} */
  const layer = (part, from, to, kernel, blocks, map = small) =>
    ({ part, from, to, kernel, blocks, ...cost(from, to, kernel, blocks, map, design === "fitted") });
  const mixers = mixer === "none" ? [] : {
    literal: [layer("mixer", mixed, mixed, 1, 1)],
    fitted: [layer("mixer", mixed, planes / 2, 1, 1), layer("mixer", planes / 2, planes / 2, 1, 1)],
    "fitted-tbc": [layer("mixer", mixed, width, 3, divisor(width, 2))],
  }[/** @type {"fitted"} */ (design)];
  const appended = mixers.length && design !== "literal" ? mixers[mixers.length - 1].to : 0;
  const changes = stride > 1 || inputs !== out;
  return [
    layer("entry", inputs, total, 1, 2, size),
    ...requested(settings).map((B) => layer("splits", width, width, 3, divisor(width, B))),
    ...mixers,
    layer("exit", total + appended, out, 1, 1),
    ...(changes ? [layer("shortcut", inputs, out, 1, design === "literal" ? 1 : 2)] : []),
  ];
}

/** Parameters and MACs of the whole network at 224 × 224 pixels. @param {Settings} settings */
export function network(settings) {
  const stem = cost(3, 64, 7, 1, 112);
  const all = { parameters: stem.parameters + 2 * 64 + 2049 * 1000, macs: stem.macs + 2048 * 1000 };
  let [inputs, size] = [64, 56];
  [3, 4, 6, 3].forEach((count, stage) => {
    for (let i = 0; i < count; i++) {
      const place = { inputs, planes: 64 << stage, size, stride: stage && !i ? 2 : 1 };
      for (const { to, parameters, macs } of layers(settings, place)) {
        all.parameters += parameters + 2 * to; // scale and shift of the batch normalisation
        all.macs += macs;
      }
      [inputs, size] = [4 * place.planes, size / place.stride];
    }
  });
  return all;
}

/** The code that builds the network. @param {Settings} settings */
export const code = (settings) => [
  "import timm",
  "import tbc_models",
  "",
  "network = timm.create_model(",
  '    "tied_resnet50",',
  `    splits=${settings.splits}, base_width=${settings.width},`,
  `    blocks=(${requested(settings).join(", ")}),`,
  `    mixer="${settings.mixer}", design="${settings.design}",`,
  ")",
].join("\n");

/**
 * A box of the figure with its text in the middle.
 * @type {(x: number, y: number, wide: number, text: string) => SVGElement[]}
 */
const box = (x, y, wide, text) => [
  svg("rect", { class: "ground", x, y, width: wide, height: 34, rx: 4 }),
  svg("text", { x: x + wide / 2, y: y + 21, "text-anchor": "middle" }, text),
];
const words = (/** @type {Layer} */ { from, to, kernel, blocks }) =>
  `${kernel}×${kernel}, ${from} → ${to}` + (blocks > 1 ? `, B = ${blocks}` : "");

mount("bottleneck", DEFAULTS, ({ drawing, controls, state, say, save }) => {
  const figure = svg("svg", { class: "figure4", viewBox: "0 0 340 318", role: "group" });
  const bars = svg("svg", { class: "costs", viewBox: "0 0 340 250", role: "img" });
  const frame = svg("g"); // all but the splits, which keep the focus
  const boxes = svg("g");
  figure.append(frame, boxes);
  const lines = PARTS.map((part, i) => {
    const text = svg("text", { x: 0, y: 40 + 56 * i });
    const drawn = [0, 1].map((j) => svg("path", { class: "coloured", style: colour(j, 3) }));
    const plain = svg("path", { class: "outline" });
    bars.append(text, ...drawn, plain);
    return { part, text, drawn, plain, y: 46 + 56 * i };
  });
  bars.prepend(svg("text", { x: 0, y: 14 }, "Upper bars: parameters. Lower: MACs. Outlined: ResNet-50."));
  drawing.replaceChildren(figure, bars);

  function draw() {
    const all = layers(state, DRAWN);
    blocks.set(`${state.blocks}`);
    layout(all);
    compare(all);
    explain();
    text.textContent = code(state);
    save();
  }

  /** Draw the bottleneck as in Fig. 4. */
  function layout(/** @type {Layer[]} */ all) {
    const part = (/** @type {string} */ name) => all.filter((layer) => layer.part === name);
    const [splits, mixers, wide] = [part("splits"), part("mixer"), 290 / +state.splits];
    const middles = splits.map((_, i) => 10 + wide * (i + 0.5));
    const added = state.design === "literal" ? "added" : "appended";
    const read = state.mixer === "sum" ? "sum" : "all splits";
    frame.replaceChildren(
      svg("path", { class: "axis", d: middles.map((x) => `M${x} 60V86M${x} 138V150`).join("") +
        `M155 20V30M${middles[0]} 150H${middles[middles.length - 1]}` +
        "M155 150V236M155 268V286M155 25H325V294H165" +
        (mixers.length ? "M155 150H12V222H155" : "") }),
      svg("text", { x: 155, y: 14, "text-anchor": "middle" }, "1024 channels, 14 × 14"),
      ...box(10, 28, 290, `entry: ${words(all[0])}`),
      ...(mixers.length ? [...box(30, 170, 250, `mixer: ${mixers.map(words).join("; ")}`),
        svg("text", { x: 162, y: 163 }, read), svg("text", { x: 162, y: 218 }, added)] : []),
      ...box(10, 234, 290, `exit: ${words(part("exit")[0])}`),
      svg("circle", { class: "ground", cx: 155, cy: 294, r: 9 }),
      svg("text", { x: 155, y: 298, "text-anchor": "middle" }, "+"),
      svg("text", { x: 170, y: 312 }, "shortcut: input unchanged"),
    );
    if (boxes.children.length !== splits.length)
      boxes.replaceChildren(...splits.map((_, i) => split(i, wide)));
    splits.forEach((layer, i) => {
      const [, B, channels] = boxes.children[i].children;
      [B.textContent, channels.textContent] = [`B=${layer.blocks}`, `${layer.to}`];
      boxes.children[i].setAttribute("aria-valuenow", `${layer.blocks}`);
    });
    const label = all.map((layer) => `${layer.part} ${words(layer)}`).join("; ");
    figure.setAttribute("aria-label", `Tied bottleneck: ${label}`);
  }

  /** The box of one split: a slider for its B; a press takes the next B. */
  function split(/** @type {number} */ i, /** @type {number} */ wide) {
    const middle = 10 + wide * (i + 0.5);
    const at = { x: middle, "text-anchor": "middle" };
    const element = svg("g", { role: "slider", tabindex: 0, "aria-label": `B of split ${i + 1}`,
      "aria-valuemin": 1, "aria-valuemax": 8 },
    svg("rect", { class: "ground", x: middle - wide / 2 + 1, y: 86, width: wide - 2, height: 52, rx: 4 }),
    svg("text", { ...at, y: 108 }), svg("text", { ...at, y: 126 }));
    /** Take a larger or a smaller B, or with 0 the next, and the smallest after the largest. */
    const set = (/** @type {number} */ step) => {
      const width = (DRAWN.planes * +state.width) / 64;
      const [list, fitting] = [[...requested(state)], BLOCKS.filter((B) => width % B === 0)];
      const now = fitting.indexOf(divisor(width, list[i]));
      const last = fitting.length - 1;
      list[i] = fitting[step ? Math.max(0, Math.min(now + step, last)) : (now + 1) % (last + 1)];
      state.blocks = `${list}` === `${USUAL[+state.splits]}` ? "" : list.join("-");
      redraw();
    };
    element.addEventListener("click", () => set(0));
    element.addEventListener("keydown", (event) => {
      const { key } = /** @type {KeyboardEvent} */ (event);
      const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, Enter: 0, " ": 0 }[key];
      if (step === undefined) return;
      event.preventDefault();
      set(step);
    });
    return element;
  }

  /** Draw what each part costs, its layers side by side. */
  function compare(/** @type {Layer[]} */ all) {
    const parts = PARTS.map((name) => all.filter(({ part }) => part === name));
    const kinds = /** @type {const} */ (["parameters", "macs"]);
    const sum = (/** @type {Layer[]} */ some, /** @type {"macs"} */ kind) =>
      some.reduce((total, one) => total + one[kind], 0);
    const most = kinds.map((kind) => Math.max(...parts.map((some) => sum(some, /** @type {"macs"} */ (kind))),
      ...PLAIN.map((one) => one?.[kind] ?? 0)));
    lines.forEach(({ part, text, drawn, plain, y }, i) => {
      const [parameters, macs] = kinds.map((kind) => sum(parts[i], /** @type {"macs"} */ (kind)));
      text.textContent = `${part}: ${short(parameters)} parameters, ${short(macs)} MACs`;
      kinds.forEach((kind, j) => {
        let x = 0;
        drawn[j].setAttribute("d", parts[i].map((one) => {
          const [left, wide] = [x, (338 * one[kind]) / most[j]];
          x += wide;
          return `M${left} ${y + 14 * j}h${Math.max(wide - 1, 0.5)}v10H${left}z`;
        }).join(""));
      });
      const layer = PLAIN[i];
      plain.setAttribute("d", layer ? kinds.map((kind, j) =>
        `M0 ${y + 14 * j}h${(338 * layer[kind]) / most[j]}v10H0z`).join("") : "");
    });
    bars.setAttribute("aria-label", lines.map(({ text }) => text.textContent).join("; "));
  }

  function explain() {
    const { parameters, macs } = network(state);
    Object.assign(drawing.dataset, { parameters, macs });
    const usual = `${requested(state)}` === `${USUAL[+state.splits]}`;
    const paper = rows.find((/** @type {Settings} */ row) => usual &&
      row.splits === state.splits && row.width === state.width && row.mixer === state.mixer);
    say(`The whole network has ${(parameters / 1e6).toFixed(1)} M parameters and needs ` +
      `${(macs / 1e9).toFixed(1)} G MACs. ` + (paper
      ? `The paper reports ${paper.parameters} M` + (paper.macs ? ` and ${paper.macs} G` : "") +
        ` for ${paper.name}.`
      : "The paper does not report this network."));
  }

  const redraw = once(draw);
  state.design = known(DESIGNS, state.design, DEFAULTS.design);
  state.mixer = known(MIXERS, state.mixer, DEFAULTS.mixer);
  /** @type {(key: string) => (to: string | number) => void} */
  const set = (key) => (to) => ((state[key] = to), redraw());
  const splits = slider("splits s", SPLITS, 4, (to) => ((state.blocks = ""), set("splits")(to)));
  const width = slider("base width w", WIDTHS, 18, set("width"));
  state.splits = splits.offer(SPLITS, +state.splits);
  state.width = width.offer(WIDTHS, +state.width);
  if (`${requested(state)}` === `${USUAL[state.splits]}`) state.blocks = "";
  const named = { "": "default", "all-1": "all 1", "all-2": "all 2", "all-4": "all 4" };
  const blocks = choice("blocks B", named, "", set("blocks"));
  const text = html("pre", { tabindex: 0, role: "group", "aria-label": "code that builds this network" });
  const copy = button("Copy the code", async () => {
    getSelection()?.selectAllChildren(text);
    const done = navigator.clipboard?.writeText(code(state)) ?? Promise.reject();
    copy.textContent = await done.then(() => "Copied", () => "It is selected: press Ctrl+C");
    setTimeout(() => (copy.textContent = "Copy the code"), 3000);
  });
  copy.setAttribute("aria-live", "polite");
  controls.append(choice("design", DESIGNS, `${state.design}`, set("design")).element,
    choice("mixer", MIXERS, `${state.mixer}`, set("mixer")).element, blocks.element,
    splits.element, width.element, text, copy);
  draw();
});
