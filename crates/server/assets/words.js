// A verdict and what it rests on, in words for somebody who knows nothing of networks.

import { foreign, h, put, svg } from "./dom.js";

export const VERDICTS = {
  good: { word: "Good", shape: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1z", says: "Video calls should run smoothly." },
  fair: { word: "Fair", shape: "M8 1l8 14H0z", says: "Video calls work, but may falter now and then." },
  bad: { word: "Bad", shape: "M1 1h14v14H1z", says: "Video calls will suffer." },
  unknown: {
    word: "Not known yet",
    shape: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9z",
    says: "A few seconds of measuring are needed first.",
  },
};

export const known = (level) => (Object.hasOwn(VERDICTS, level) ? level : "unknown");

/** The word with its shape. */
export function badge(level) {
  const path = svg("path");
  const word = h("span");
  const element = h("span", { class: "verdict" }, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, path), word);
  element.show = (now) => {
    const { word: name, shape } = VERDICTS[known(now)];
    element.className = `verdict ${known(now)}`;
    path.setAttribute("d", shape);
    put(word, name);
  };
  element.show(level);
  return element;
}

/** The large answer: a verdict, and why. It is spoken aloud only when the level changes. */
export function answer(element) {
  const word = badge("unknown");
  const says = h("p", { role: "status" });
  const because = h("p", { class: "because" }, "Because:");
  const reasons = h("ul");
  element.replaceChildren(word, says, because, reasons);
  return (verdict, it = {}) => {
    const level = known(verdict?.level);
    element.className = `answer ${level}`;
    word.show(level);
    put(says, VERDICTS[level].says);
    const texts = (verdict?.reasons ?? []).map((reason) => foreign(reason));
    if (level === "good" && texts.length === 0) texts.push(...praise(it));
    because.hidden = texts.length === 0;
    while (reasons.children.length > texts.length) reasons.lastChild.remove();
    while (reasons.children.length < texts.length) reasons.append(h("li"));
    texts.forEach((text, at) => put(reasons.children[at], text));
  };
}

const round = (value, digits) => value.toLocaleString("en", { maximumFractionDigits: digits });

const delay = (value) => `${round(value, value < 10 ? 1 : 0)} ms`;

/** What speaks for a good connection, of which the server has nothing to say. */
function praise({ rtt_ms, loss }) {
  const out = [];
  if (rtt_ms != null) out.push(`answers come back after ${delay(rtt_ms)}`);
  if (loss != null) out.push(loss === 0 ? "nothing gets lost" : `only ${round(loss * 100, 2)} % gets lost`);
  return out;
}

/** What is measured: its name, how it reads, and what it means. */
const FACTS = [
  {
    name: "Delay",
    value: (it) => it.rtt_ms == null ? null : delay(it.rtt_ms),
    means: "How long a packet takes to the server and back. People begin to talk over each other from about 300 ms.",
  },
  {
    name: "Lost on the way",
    value: (it) => it.loss == null ? null : `${round(it.loss * 100, 1)} %`,
    means: "What never arrives is missing from picture and sound. A few percent can be heard and seen.",
  },
  {
    name: "Largest packet",
    value: (it) => it.path_mtu == null ? null : `${round(it.path_mtu, 0)} bytes`,
    means: "How much fits into one packet. 1,500 bytes are usual, 1,280 and more are fine.",
  },
  {
    name: "Way",
    value: (it) => it.hops == null ? null : it.hops === 1 ? "1 step" : `${round(it.hops, 0)} steps`,
    means: "How many networking devices a packet comes through, the last one included.",
  },
];

/** The facts under the answer; what is not known is left out. */
export function facts(element) {
  const rows = FACTS.map((fact) => {
    const value = h("span", { class: "value" });
    const row = h("div", { hidden: true }, h("dt", null, fact.name), h("dd", null, value, h("span", { class: "muted" }, fact.means)));
    return { ...fact, show: value, row };
  });
  element.replaceChildren(...rows.map(({ row }) => row));
  return (it) => {
    for (const { row, show, value } of rows) {
      const text = value(it);
      row.hidden = text == null;
      put(show, text);
    }
  };
}
