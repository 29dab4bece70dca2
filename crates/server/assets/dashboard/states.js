// What stands where there is nothing to show: not yet, not at all, or not by reason of an error.

import { h } from "../dom.js";

export const loading = (text) => h("p", { class: "empty working", role: "status" }, text);

export const empty = (title, ...text) => h("div", { class: "empty" }, h("h2", null, title), text.length > 0 && h("p", { class: "muted" }, ...text));

export function failed(error, again) {
  return h(
    "div",
    { class: "empty", role: "alert" },
    h("h2", null, "That did not work"),
    h("p", null, error.message),
    again && h("button", { type: "button", onclick: again }, "Try again"),
  );
}
