// Every change of a client's options: the list, and the numbers that mark them in the charts.

import { foreign, h, keyed, put } from "../dom.js";
import { changeText, differences } from "./asked.js";
import { exactly, moment, seconds } from "./format.js";

/** How many are listed; the charts mark all. */
const LISTED = 50;

const who = (by) => ({ guard: "taken back by the guard", timer: "taken back by the timer" })[by] ?? `by ${foreign(by || "somebody", 40)}`;

/** `around(time)` compares before and after. */
export function changes({ around }) {
  let all = [];
  const list = h("ol", { class: "changes" });
  const none = h("p", { class: "muted" }, "No option has been changed.");
  const element = h("div", null, none, list);

  function number() {
    all.sort((a, b) => a.time - b.time);
    all.forEach((it, at) => Object.assign(it, { label: String(at + 1), key: `${it.time} ${it.class ?? ""}` }));
    draw();
  }

  function draw() {
    none.hidden = all.length > 0;
    keyed(list, all.slice(-LISTED).reverse(), ({ key }) => key, create, (item, it) => {
      put(item.querySelector(".label"), it.label);
      put(item.querySelector("time"), moment(it.at));
      const what = `${it.class ? `${it.class.toUpperCase()}: ` : ""}${changeText(it.before, it.after) || "set again to what it was"}`;
      put(item.querySelector(".what"), `${what}, ${who(it.by)}${it.reason ? ` (${foreign(it.reason)})` : ""}`);
    });
  }

  function create(it) {
    return h(
      "li",
      null,
      h("span", { class: "label" }),
      h("time", { title: exactly(it.at) }),
      h("span", { class: "what" }),
      h("button", { type: "button", class: "quiet", onclick: () => around(it.time) }, "Before and after"),
    );
  }

  return {
    element,
    /** For the charts. */
    all: () => all,
    /** What the server has recorded; what came as an event and is not recorded yet stays. */
    load(recorded) {
      const loaded = recorded.map((it) => ({ ...it, time: seconds(it.at) }));
      const newest = loaded.reduce((time, it) => Math.max(time, it.time), 0);
      all = loaded.concat(all.filter(({ time }) => time > newest + 0.5));
      number();
    },
    /** An event: the options were `before`, and are `asked`. */
    add({ at, by, asked, guard }, before) {
      const time = seconds(at);
      const reason = by === "guard" ? guard?.reason : null;
      for (const it of differences(before, asked)) {
        if (!all.some((other) => other.class === it.class && Math.abs(other.time - time) < 0.001)) all.push({ ...it, at, time, by, reason });
      }
      number();
    },
  };
}
