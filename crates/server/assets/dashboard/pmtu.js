// How large a packet the path carries: a ladder of the sizes that were tried.

import { foreign, h, keyed, mark, put } from "../dom.js";
import { bytes, us } from "./format.js";

/** A shape and a word for what became of a size. */
const RESULTS = {
  answered: ["✓", "passed"],
  too_big: ["✕", "refused"],
  too_big_here: ["✕", "refused here"],
  icmp: ["✕", "refused"],
  lost: ["?", "lost"],
};

function says({ result, rtt_us, error_code, from, mtu, proved, error, df, purpose }) {
  const by = from ? foreign(from) : "somebody";
  const passes = mtu ? `: ${bytes(mtu)} pass` : "";
  const out = {
    answered: () => `after ${us(rtt_us)}${error_code ? `, with error ${error_code}` : ""}`,
    too_big: () => `by ${by}${passes}${proved ? "" : ", not proved"}`,
    too_big_here: () => `larger than this host’s interface takes${passes}`,
    icmp: () => `${foreign(error)}, says ${by}`,
    lost: () => "no answer, and nobody says why",
  };
  const aside = df ? "" : "; may be fragmented";
  return `${out[result]?.() ?? foreign(result)}${aside}${purpose === "reach" ? "; whether the client answers at all" : ""}`;
}

/** Percent of the longest. One interface takes six times what another does, and a few bytes matter as well. */
const length = (size, largest) => (100 * Math.log(size / 600)) / Math.log(Math.max(largest, 1_500) / 600);

function create() {
  const cells = { size: h("th", { scope: "row", class: "number" }), shape: h("span", { class: "shape", "aria-hidden": "true" }), word: h("span"), bar: h("span", { class: "rung" }), says: h("td", { class: "muted" }) };
  const row = h("tr", null, cells.size, h("td", { class: "rungs", "aria-hidden": "true" }, cells.bar), h("td", { class: "what" }, cells.shape, cells.word), cells.says);
  row.cellsByName = cells;
  return row;
}

function view() {
  const sizes = new Map();
  const title = h("p", { class: "result" });
  const list = h("ul");
  const body = h("tbody");
  const heads = ["Size", "Length", "Result", "What was said"];
  const table = h("table", { class: "ladder" }, h("caption", { class: "unseen" }, "Sizes of IP packets that were tried, the largest first"), h("thead", { class: "unseen" }, h("tr", null, ...heads.map((head) => h("th", { scope: "col" }, head)))), body);
  const element = h("div", null, title, table, list);

  function draw() {
    const rows = [...sizes.values()].sort((a, b) => b.probe.size - a.probe.size || a.probe.df - b.probe.df);
    const largest = rows[0]?.probe.size ?? 1;
    keyed(body, rows, ({ key }) => key, create, (row, { probe, tries }) => {
      const cells = row.cellsByName;
      const [shape, word] = RESULTS[probe.result] ?? ["?", foreign(probe.result)];
      put(cells.size, bytes(probe.size));
      put(cells.shape, shape);
      put(cells.word, word + (tries > 1 ? `, ${tries} probes` : ""));
      put(cells.says, says(probe));
      cells.bar.style.width = `${Math.max(4, length(probe.size, largest))}%`;
      mark(row, "class", probe.result === "answered" ? "passed" : probe.result === "lost" ? "lost" : "refused");
    });
    table.hidden = rows.length === 0;
  }

  function add(probe) {
    const key = `${probe.size} ${probe.df}`;
    const before = sizes.get(key);
    // One that passes proves that the size passes; one that is lost among them proves nothing.
    const kept = before?.probe.result === "answered" && probe.result === "lost" ? before.probe : probe;
    sizes.set(key, { key, probe: kept, tries: (before?.tries ?? 0) + 1 });
  }

  return {
    element,
    clear() {
      sizes.clear();
      put(title, "Waiting for the first answer…");
      list.replaceChildren();
      draw();
    },
    event({ probe, mtu, upper }) {
      add(probe);
      put(title, `${bytes(mtu)} pass so far${upper ? `, ${bytes(upper)} do not` : ""}.`);
      draw();
    },
    report(it) {
      sizes.clear();
      it.how.forEach(add);
      put(title, `${bytes(it.mtu)} pass${sure(it)}.`);
      list.replaceChildren(...remarks(it).map((text) => h("li", null, text)));
      draw();
    },
  };
}

function sure({ complete, peer_limit, upper, exact }) {
  if (!complete) return ", as far as it got";
  if (peer_limit) return ", as far as the client answers";
  if (upper == null) return ", the largest that was tried";
  return exact ? `, exactly: ${bytes(upper)} do not` : `; ${bytes(upper)} do not, and refining finds what is between`;
}

function remarks(it) {
  const out = [`Of these ${bytes(it.udp_payload)} are for UDP payload, ${bytes(it.rtp_payload)} for RTP payload, ${bytes(it.sctp)} for SCTP data.`];
  if (it.peer_limit) {
    const whose = it.peer_limit.whose === "peer" ? "very likely the client’s own limit" : "the client’s own limit, or the path’s";
    out.push(`No STUN message above ${bytes(it.peer_limit.stun)} is answered, fragmented or not: that is ${whose}.`);
  }
  for (const { from, size, mtu, proved, outcome } of it.hints) {
    const what = mtu ? `${bytes(mtu)} pass` : "it is too big";
    out.push(`${from ? foreign(from) : "Somebody"} said of ${bytes(size)}: ${what}${proved ? "" : ", and proved nothing"}. ${outcome === "tried" ? "That was tried." : "That was ignored."}`);
  }
  if (it.stray_icmp > 0) out.push(`${it.stray_icmp} ICMP errors were about something else, or forged.`);
  return out;
}

export const pmtu = {
  kind: "pmtu",
  title: "Path MTU",
  about: "The largest packet that comes through whole.",
  settings: [
    { name: "cap", label: "Largest size to try, bytes", type: "number", min: 1_200, max: 65_500, placeholder: "as the interface" },
    { name: "refine", label: "Go on until it is exact", type: "checkbox" },
    { name: "apply", label: "Apply it: larger packets may be fragmented", type: "checkbox" },
  ],
  view,
};
