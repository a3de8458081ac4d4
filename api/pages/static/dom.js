// The few things that both pages do to their elements. Text is only ever set as text.

export const $ = (selector, inside = document) => inside.querySelector(selector);

/** An element with properties, `data-` attributes (`data`), and children, which may be text. */
export function make(tag, { data = {}, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  element.append(...children);
  return element;
}

/** Set an element's text where it is another, so that nothing is laid out or read out for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function tone(element, name) {
  if (element.dataset.tone !== name) element.dataset.tone = name;
}

/**
 * Make the children of `parent` those of `items`, in their order. A child that is there already is kept, and with it the
 * focus: `create(item)` makes one, `update(element, item)` fills it.
 */
export function list(parent, items, keyOf, create, update = () => {}) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = before.get(key);
    before.delete(key);
    if (!child) {
      child = create(item);
      child.dataset.key = key;
    }
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
    update(child, item);
  }
  for (const child of before.values()) child.remove();
}

/** The three parts of a bar, as shares of the total. */
export function fillBar(bar, stock) {
  for (const name of ["sold", "held", "available"]) {
    const part = $(`.${name}`, bar);
    if (part) part.style.width = `${stock.total ? (100 * stock[name]) / stock.total : 0}%`;
  }
}

/** A random name, also where the page came without TLS. */
export function random() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
