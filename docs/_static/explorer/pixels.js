/**
 * Thin pixels: a kernel steps through the memory of one row of an image, block after block.
 *
 * In channels-last memory the numbers of a block lie scattered, but evenly: a kernel with a dilation
 * of B reads them in place. The authors' fold must first copy them.
 */
import { choice, colour, count, known, list, mount, once, slider, svg } from "./shared.js";

const [THIN, WIDTH, TAPS] = [2, 4, 3]; // channels of a block, pixels of the row, taps of the kernel
const DEFAULTS = { layout: "last", blocks: 4, step: 2 };
const LAYOUTS = { last: "channels-last", first: "channels-first" };

/**
 * Where the kernel reads at a step, in the memory that a form of TBC reads from.
 * @param {"dilated" | "fold"} form "dilated" reads channels-last memory; "fold" reads contiguous
 *   memory, the image's own or a copy
 * @param {number} blocks B
 * @param {number} step counts blocks first, then pixels
 * @returns {number[]} addresses, tap by tap
 */
export function reads(form, blocks, step) {
  const [pixel, block] = [Math.floor(step / blocks), step % blocks];
  const channels = list(THIN, (i) => i);
  return list(TAPS, (tap) => channels.map((channel) =>
    form === "dilated"
      ? (step + tap * blocks) * THIN + channel
      : (block * THIN + channel) * WIDTH + pixel + tap)).flat();
}

/**
 * How many numbers a form copies for one image with `size` numbers in, and as many out.
 * @param {"dilated" | "fold"} form
 * @param {string} layout of the network: "last" or "first"
 * @param {number} size
 */
export const copies = (form, layout, size) =>
  (form === "fold") === (layout === "first") ? 0 : 2 * size;

mount("pixels", DEFAULTS, ({ drawing, controls, state, say, save }) => {
  const picture = svg("svg", { class: "memory", viewBox: "0 0 360 172", role: "img" });
  drawing.replaceChildren(picture);
  /** @type {Record<string, SVGElement[]>} the cells of both strips, by address */
  const strips = {};

  /** Draw a strip of memory, with a bracket around each pixel or channel. */
  function strip(
    /** @type {"dilated" | "fold"} */ form, /** @type {number} */ y, /** @type {string} */ title,
  ) {
    const last = form === "dilated";
    const all = +state.blocks * THIN * WIDTH;
    const wide = 360 / all;
    strips[form] = list(all, (address) => {
      const channels = +state.blocks * THIN;
      const pixel = last ? Math.floor(address / channels) : address % WIDTH;
      const channel = last ? address % channels : Math.floor(address / WIDTH);
      return svg("g", { class: "coloured", style: colour(Math.floor(channel / THIN), +state.blocks) },
        svg("rect", { x: address * wide, y: y + 24, width: wide - 1, height: 26 }),
        svg("text", { x: (address + 0.5) * wide, y: y + 42, "text-anchor": "middle" }, `${pixel + 1}`));
    });
    const stretch = last ? +state.blocks * THIN : WIDTH; // addresses of a pixel, or of a channel
    const brackets = list(all / stretch, (i) =>
      `M${i * stretch * wide} ${y + 16}v5h${stretch * wide - 2}v-5`);
    const axis = svg("path", { class: "axis", d: brackets.join("") });
    return svg("g", {}, svg("text", { x: 0, y: y + 8 }, title), axis, ...strips[form]);
  }

  function draw() {
    const blocks = +state.blocks;
    const all = blocks * THIN * WIDTH;
    const last = state.layout === "last";
    const copied = (/** @type {"dilated" | "fold"} */ form) => {
      const n = copies(form, `${state.layout}`, all);
      return n ? `copies ${n / 2} numbers, and ${n / 2} back` : "copies nothing";
    };
    picture.replaceChildren(
      strip("dilated", 6, last ? `the image, pixel by pixel; dilated form: ${copied("dilated")}`
        : `a copy, pixel by pixel; dilated form: ${copied("dilated")}`),
      strip("fold", 108, last ? `a copy, channel by channel; fold: ${copied("fold")}`
        : `the image, channel by channel; fold: ${copied("fold")}`),
      svg("path", { class: "taps" }),
    );
    step();
  }

  /** Light the cells that the kernel reads, and join its taps. */
  function step() {
    const [blocks, now] = [+state.blocks, +state.step];
    for (const form of /** @type {["dilated", "fold"]} */ (["dilated", "fold"])) {
      const read = new Set(reads(form, blocks, now));
      strips[form].forEach((cell, address) => cell.classList.toggle("read", read.has(address)));
    }
    const wide = 360 / (blocks * THIN * WIDTH);
    const taps = list(TAPS, (tap) => (now + tap * blocks + 0.5) * THIN * wide);
    picture.lastElementChild?.setAttribute("d",
      `M${taps[0]} 78H${taps[TAPS - 1]}${taps.map((x) => `M${x} 60V84`).join("")}`);
    const [pixel, block] = [Math.floor(now / blocks) + 1, (now % blocks) + 1];
    const end = pixel + TAPS - 1;
    const what = `Step ${now + 1}: the kernel reads block ${block} at pixels ${pixel} to ${end}. `;
    picture.setAttribute("aria-label", `${what}Its taps are ${blocks} thin pixels apart, pixel by pixel.`);
    const real = count(copies("fold", "last", 256 * 14 * 14) / 2);
    say(what + (state.layout === "last"
      ? `Its taps lie ${blocks} thin pixels apart, so the dilated form reads them in place. The fold ` +
        `copies the image first: with 256 channels at 14 × 14 pixels, ${real} numbers, and as many back.`
      : "In channels-first memory a block is one piece, so the fold is only another way to read it. Here " +
        "the dilated form would have to copy."));
    save();
  }

  const sizes = [2, 4];
  const steps = () => list((WIDTH - TAPS + 1) * +state.blocks, (i) => i + 1);
  state.layout = known(LAYOUTS, state.layout, DEFAULTS.layout);
  const [redraw, move] = [once(draw), once(step)];
  const layout = choice("the network's memory is", LAYOUTS, `${state.layout}`, (to) =>
    ((state.layout = to), redraw()));
  const at = slider("step", [1], 1, (to) => ((state.step = to - 1), move()));
  const blocks = slider("blocks B", sizes, 2, (to) => {
    state.blocks = to;
    state.step = at.offer(steps(), +state.step + 1) - 1;
    redraw();
  });
  state.blocks = blocks.offer(sizes, +state.blocks);
  state.step = at.offer(steps(), +state.step + 1) - 1;
  controls.append(layout.element, at.element, blocks.element);
  draw();
});
