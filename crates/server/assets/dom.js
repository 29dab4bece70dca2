// Elements are made here and nowhere from strings of HTML: whatever a server, a router or a browser calls itself
// ends up as text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Makes an element. Of its properties, functions are listeners (`onclick`), `true` and `false` switch an attribute,
 * `null` leaves it out. The policy of these pages forbids style attributes; CSS classes and `element.style` remain.
 */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for SVG. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Puts a text, and touches nothing where it stands already. */
export function put(element, text) {
  const wanted = text == null ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
  return element;
}

/** Sets an attribute, or takes it away. */
export function mark(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/**
 * Keeps one child of `parent` for each item, in their order. What is there stays the same element, so that focus,
 * selection and scrolling survive.
 */
export function keyed(parent, items, key, create, update) {
  const known = (parent.keyedChildren ??= new Map());
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const wanted = new Set(items.map(key));
  for (const [name, child] of known) {
    if (!wanted.has(name)) {
      child.remove();
      known.delete(name);
    }
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    if (!child) known.set(name, (child = create(item)));
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/**
 * What others have named: a user agent, a router's name. It may be long, and it may hold characters that
 * turn the direction of what follows or cannot be seen.
 */
export function foreign(text, longest = 200) {
  const clean = String(text ?? "").replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}]/gu, "\u{fffd}");
  return clean.length > longest ? `${clean.slice(0, longest)}…` : clean;
}
