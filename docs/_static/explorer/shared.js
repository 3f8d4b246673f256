/**
 * What the views of the explorer share: elements, controls, the state in the address, numbers.
 *
 * A view is a figure of a page. Its drawing is part of the page, so that it stands without
 * JavaScript; `mount` hands the figure to the view's module, which draws it again and moves it.
 */

/** @typedef {Record<string, number | string>} State what the controls of a view are set to */
/** @typedef {Record<string, string | number>} Attributes */

/**
 * @typedef {object} Stage what a view works with
 * @property {HTMLElement} drawing where it draws; holds the picture that the page came with
 * @property {HTMLElement} controls where its controls go
 * @property {State} state the controls' values, those of the address included
 * @property {(sentence: string) => void} say shows a sentence below the drawing, and speaks it
 * @property {() => void} save writes the state into the address, once it has come to rest
 * @property {boolean} small whether this is the small version of a first screen
 */

/**
 * Make an SVG element.
 * @param {string} name
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElement}
 */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

/**
 * Make an HTML element.
 * @param {string} name
 * @param {Attributes} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {(Node | string)[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, `${value}`);
  element.append(...children);
  return element;
}

/**
 * The list of what `make` makes of 0 to n - 1.
 * @template T
 * @param {number} n
 * @param {(i: number) => T} make
 */
export const list = (n, make) => Array.from({ length: n }, (_, i) => make(i));

/** The colour of thing `i` of `n`, for the attribute `style` of an element of class `coloured`. */
export const colour = (/** @type {number} */ i, /** @type {number} */ n) =>
  `--hue: ${Math.round(250 + (360 * i) / n) % 360}`;

/** A whole number with commas: 73,728. */
export const count = (/** @type {number} */ n) => english.format(n);
const english = new Intl.NumberFormat("en");

/** A large number in short: 13.9 M. */
export function short(/** @type {number} */ n) {
  const [unit, name] = n >= 1e9 ? [1e9, " G"] : n >= 1e6 ? [1e6, " M"] : n >= 1e3 ? [1e3, " k"] : [1, ""];
  return (n / unit).toPrecision(n < 1e3 ? 4 : 3).replace(/\.0+$/, "") + name;
}

/**
 * Make a slider that takes only the listed values.
 * @param {string} label
 * @param {number[]} values in ascending order
 * @param {number} value
 * @param {(value: number) => void} moved called with the new value
 * @returns {{element: HTMLElement, offer: (values: number[], value: number) => number}} `offer`
 *   replaces the list, moves to the nearest value that it holds, and returns that
 */
export function slider(label, values, value, moved) {
  const input = /** @type {HTMLInputElement} */ (html("input", { type: "range", min: 0, step: 1 }));
  // Not an output: the label would name it in the place of the input.
  const shown = html("span", { class: "value", "aria-hidden": "true" });
  const tell = () => {
    shown.textContent = `${values[+input.value]}`;
    input.setAttribute("aria-valuetext", `${values[+input.value]}`);
  };
  const offer = (/** @type {number[]} */ list, /** @type {number} */ wanted) => {
    values = list;
    input.max = `${list.length - 1}`;
    input.disabled = list.length < 2;
    const nearest = list.reduce((a, b) => (Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a));
    input.value = `${list.indexOf(nearest)}`;
    tell();
    return nearest;
  };
  input.addEventListener("input", () => (tell(), moved(values[+input.value])));
  offer(values, value);
  return { element: html("label", { class: "slider" }, html("span", {}, label), shown, input), offer };
}

/**
 * Make a row of radio buttons.
 * @param {string} label what is chosen
 * @param {Record<string, string>} options their values and what each is called
 * @param {string} value
 * @param {(value: string) => void} chosen called with the new value
 * @returns {{element: HTMLElement, set: (value: string) => void}} `set` with an unknown value
 *   leaves none chosen
 */
export function choice(label, options, value, chosen) {
  const name = `choice-${(choices += 1)}`;
  const inputs = Object.keys(options).map(
    (key) => /** @type {HTMLInputElement} */ (html("input", { type: "radio", name, value: key })),
  );
  const set = (/** @type {string} */ key) =>
    inputs.forEach((input) => (input.checked = input.value === key));
  const labels = inputs.map((input) => html("label", {}, input, html("span", {}, options[input.value])));
  const element = html("fieldset", { class: "choice" }, html("legend", {}, label), ...labels);
  inputs.forEach((input) => input.addEventListener("change", () => chosen(input.value)));
  set(value);
  return { element, set };
}
let choices = 0;

/**
 * Make a button.
 * @param {string} label
 * @param {() => void} pressed
 */
export function button(label, pressed) {
  const element = html("button", { type: "button" }, label);
  element.addEventListener("click", pressed);
  return element;
}

/** A choice if it is among the options, else the usual one. */
export const known = (
  /** @type {object} */ options, /** @type {string | number} */ value, /** @type {string} */ usual,
) => (Object.hasOwn(options, value) ? `${value}` : usual);

/**
 * Follow the pointer that was pressed, until it is released.
 * @param {PointerEvent} event
 * @param {(up: number) => void} moved called with how many pixels it moved up
 */
export function follow({ currentTarget, pointerId, clientY }, moved) {
  const part = /** @type {Element} */ (currentTarget);
  const { signal, abort } = stopping();
  const own = (/** @type {(now: PointerEvent) => void} */ act) =>
    (/** @type {any} */ now) => now.pointerId === pointerId && act(now);
  part.setPointerCapture(pointerId);
  part.addEventListener("pointermove", own((now) => moved(clientY - now.clientY)), { signal });
  part.addEventListener("lostpointercapture", own(abort), { signal });
}

/** A signal that ends listeners, and the function that gives it. */
export function stopping() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

/**
 * Wrap a function so that many calls run it once, before the next frame is shown.
 * @param {() => void} draw
 */
export function once(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => ((waiting = false), draw()));
  };
}

/** What `tbc_ref.cost` counted when the site was built. @type {Promise<any>} */
export const numbers = fetch(new URL("explorer.json", import.meta.url)).then((got) => got.json());

/**
 * Hand every figure of a view to its module.
 * @param {string} name name of the view: `wiring` has the state `?wiring.blocks=4` in the address
 * @param {State} defaults what the controls are set to where the address says nothing
 * @param {(stage: Stage) => void} view draws, and makes the controls
 */
export function mount(name, defaults, view) {
  for (const host of document.querySelectorAll(`figure[data-view=${name}]`)) {
    const find = (/** @type {string} */ part) => /** @type {HTMLElement} */ (host.querySelector(part));
    const small = host.hasAttribute("data-small");
    const state = { ...defaults, ...(small ? {} : given(name, defaults)) };
    const sentence = find(".says");
    let timer = 0;
    const save = () => {
      clearTimeout(timer);
      if (!small) timer = setTimeout(() => write(name, defaults, state), 200);
    };
    const say = (/** @type {string} */ words) => {
      if (sentence.textContent !== words) sentence.textContent = words;
    };
    view({ drawing: find(".drawing"), controls: find(".controls"), state, say, save, small });
    host.classList.add("alive");
  }
}

/**
 * The part of a view's state that the address gives; numbers that are none are left out.
 * @param {string} name
 * @param {State} defaults
 */
function given(name, defaults) {
  /** @type {State} */
  const state = {};
  const query = new URLSearchParams(location.search);
  for (const [key, usual] of Object.entries(defaults)) {
    const text = query.get(`${name}.${key}`);
    const value = typeof usual === "number" && text ? Number(text) : text;
    if (typeof value === "string" ? value : Number.isFinite(value)) state[key] = value ?? usual;
  }
  return state;
}

/**
 * Write the state of a view into the address; what is as usual is left out.
 * @param {string} name
 * @param {State} defaults
 * @param {State} state
 */
function write(name, defaults, state) {
  const address = new URL(location.href);
  for (const [key, value] of Object.entries(state)) {
    if (value === defaults[key]) address.searchParams.delete(`${name}.${key}`);
    else address.searchParams.set(`${name}.${key}`, `${value}`);
  }
  history.replaceState(null, "", address);
}
