/**
 * The same budget: how wide a tied layer may be if it has SC's width, weights, or MACs.
 *
 * All numbers come from `tbc_ref.cost`: a 3 × 3 layer on a 56 × 56 map, with 48 channels as SC.
 */
import { choice, colour, count, known, list, mount, numbers, once, short, slider, svg } from "./shared.js";

/** @type {Record<string, [number, number, number, number][]>} B, channels, weights and MACs */
const layers = (await numbers).budget;
const LOCKS = { width: "channels", weights: "weights", macs: "MACs" };
const DEFAULTS = { lock: "macs", blocks: 4 };
const [[, STANDARD, WEIGHTS, MACS]] = layers.width;
const BLOCKS = layers.width.map(([blocks]) => blocks);
const WIDEST = Math.max(...Object.values(layers).flat().map(([, channels]) => channels));

/** Place of a value on an axis. @type {(value: number, from: number, to: number) => number} */
const log = (value, from, to) => Math.log(value / from) / Math.log(to / from);
const across = (/** @type {number} */ weights) => 52 + 270 * log(weights, 250, 40e3);
const up = (/** @type {number} */ macs) => 262 - 240 * log(macs, 5e6, 800e6);

mount("budget", DEFAULTS, ({ drawing, controls, state, say, save }) => {
  const bars = svg("svg", { class: "widths", viewBox: "0 0 340 130", role: "img" });
  const plane = svg("svg", { class: "plane", viewBox: "0 0 340 300", role: "img" });
  drawing.replaceChildren(plane, bars);

  function draw() {
    const trail = layers[state.lock];
    const now = trail.find(([blocks]) => blocks === state.blocks) ?? trail[0];
    width(now);
    points(trail, now);
    explain(now);
    save();
  }

  /** Draw the channels of SC, and those of TBC block by block. */
  function width(/** @type {[number, number, number, number]} */ [blocks, channels]) {
    const unit = 330 / WIDEST;
    const thin = (channels / blocks) * unit;
    const parts = list(blocks, (block) =>
      svg("rect", { class: "block", x: block * thin, y: 88, width: thin, height: 22 }));
    bars.replaceChildren(
      svg("text", { x: 0, y: 20 }, `SC: ${STANDARD} channels`),
      svg("rect", { class: "block plain", x: 0, y: 28, width: STANDARD * unit, height: 22 }),
      svg("text", { x: 0, y: 80 }, `B = ${blocks}: ${channels} channels, in blocks of ${channels / blocks}`),
      ...parts,
    );
    bars.setAttribute("aria-label", `${channels} channels in ${blocks} blocks, where SC has ${STANDARD}`);
  }

  /** Draw weights and MACs of all B, and what is locked as a line. */
  function points(/** @type {typeof layers[""]} */ trail, /** @type {typeof trail[0]} */ now) {
    const ticks = [300, 1e3, 3e3, 1e4, 3e4].map((weights) => svg("g", {},
      svg("path", { class: "grid", d: `M${across(weights)} 20V262` }),
      svg("text", { x: across(weights), y: 278, "text-anchor": "middle" }, short(weights))));
    const rows = [1e7, 3e7, 1e8, 3e8].map((macs) => svg("g", {},
      svg("path", { class: "grid", d: `M52 ${up(macs)}H322` }),
      svg("text", { x: 46, y: up(macs) + 4, "text-anchor": "end" }, short(macs))));
    const place = (/** @type {number[]} */ [, , weights, macs]) => [across(weights), up(macs)];
    const trails = Object.entries(layers).map(([lock, all]) => {
      const d = `M${all.map((layer) => place(layer).join(" ")).join("L")}`;
      const [x, y] = place(all[all.length - 1]);
      const at = lock === "width" ? { x: x + 10, y: y + 17, "text-anchor": "start" }
        : lock === "macs" ? { x: x - 12, y: y + 4, "text-anchor": "end" }
        : { x: x + 12, y: y - 12, "text-anchor": "end" };
      return svg("g", { class: lock === state.lock ? "trail chosen" : "trail" },
        svg("path", { d }), svg("text", at, `same ${LOCKS[/** @type {"macs"} */ (lock)]}`));
    });
    const dots = trail.map((layer) => {
      const [x, y] = place(layer);
      const chosen = layer === now;
      const label = layer[0] === 1 ? "SC" : chosen ? `B = ${layer[0]}` : `${layer[0]}`;
      return svg("g", chosen ? { class: "coloured", style: colour(0, 1) } : { class: "other" },
        svg("circle", { cx: x, cy: y, r: chosen ? 7 : 4 }),
        svg("text", aside(x, y, layer === trail[0], chosen), label));
    });
    plane.replaceChildren(
      ...ticks, ...rows, ...trails, ...dots,
      svg("text", { x: 187, y: 295, "text-anchor": "middle" }, "weights (logarithmic)"),
      svg("text", { x: 0, y: 12 }, "MACs (logarithmic)"),
    );
    const [, , weights, macs] = now;
    plane.setAttribute("aria-label", `${count(weights)} weights and ${short(macs)} MACs; SC has ` +
      `${count(WEIGHTS)} weights and ${short(MACS)} MACs`);
    Object.assign(plane.dataset, { channels: now[1], weights, macs });
  }

  /** Where the label of a point stands, so that no line runs through it. */
  function aside(
    /** @type {number} */ x, /** @type {number} */ y, /** @type {boolean} */ standard,
    /** @type {boolean} */ chosen,
  ) {
    if (standard) return { x: x + 4, y: y + 22, "text-anchor": "middle" };
    if (state.lock === "weights") return { x: x - 12, y: y + 4, "text-anchor": "end" };
    return { x, y: y + (chosen && state.lock === "macs" ? 24 : -12), "text-anchor": "middle" };
  }

  function explain(/** @type {[number, number, number, number]} */ [blocks, channels, weights, macs]) {
    const fewer = `stores ${times(WEIGHTS / weights)} fewer weights`;
    const wider = `has ${channels} channels instead of ${STANDARD}, and`;
    const tbc = `TBC with B = ${blocks}`;
    say(blocks === 1
      ? `SC has ${STANDARD} channels, stores ${count(WEIGHTS)} weights, and needs ${short(MACS)} MACs.`
      : state.lock === "width"
      ? `With ${STANDARD} channels as SC has, ${tbc} ${fewer} and needs ${times(MACS / macs)} fewer MACs.`
      : state.lock === "weights"
      ? `With as many weights as SC, ${tbc} ${wider} needs ${times(macs / MACS)} the MACs.`
      : `With about as many MACs as SC, ${tbc} ${wider} ${fewer}.`);
  }
  const times = (/** @type {number} */ ratio) => `${+ratio.toFixed(1)} times`;

  state.lock = known(LOCKS, state.lock, DEFAULTS.lock);
  const redraw = once(draw);
  const lock = choice("lock", LOCKS, `${state.lock}`, (to) => ((state.lock = to), redraw()));
  const blocks = slider("blocks B", BLOCKS, 1, (to) => ((state.blocks = to), redraw()));
  state.blocks = blocks.offer(BLOCKS, +state.blocks);
  controls.append(lock.element, blocks.element);
  draw();
});
