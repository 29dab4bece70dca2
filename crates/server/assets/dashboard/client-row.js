// One client in the list.

import { foreign, h, mark, put } from "../dom.js";
import { known, badge } from "../words.js";
import { askedText } from "./asked.js";
import { exactly, moment, ms, percent, rate } from "./format.js";
import { serverName } from "./live.js";
import { CLASSES } from "./marks.js";

const RANK = { bad: 0, fair: 1, good: 2, unknown: 3 };

/** How a client is called where it says nothing better. */
export const nameOf = (it) => foreign(it.name || `client ${it.id.slice(0, 8)}`, 60);

/** Bits per second over all classes; `way` is "sent" or "received". */
export function throughput(sample, way) {
  if (!sample) return null;
  return CLASSES.reduce((sum, name) => sum + (sample.classes?.[name]?.[`${way}_bytes`] ?? 0), 0) * 8;
}

const address = (it) => it.pair?.remote ?? it.client ?? null;

/** The columns, and what each is sorted by. */
export const COLUMNS = [
  { name: "verdict", title: "Verdict", sort: (it) => RANK[known(it.verdict?.level)] },
  { name: "client", title: "Client", sort: nameOf },
  { name: "address", title: "Address", sort: address },
  { name: "rtt", isNumber: true, title: "Round trip", sort: (it) => it.sample?.rtt_ms },
  { name: "loss", isNumber: true, title: "Loss", sort: (it) => it.sample?.loss },
  { name: "rate", isNumber: true, title: "Sent / received", sort: (it) => it.sample && throughput(it.sample, "sent") },
  { name: "ttl", isNumber: true, title: "TTL received", sort: (it) => it.sample?.received_ttl },
  { name: "options", title: "Options", sort: (it) => askedText(it.asked) || null },
  { name: "since", title: "Since", sort: (it) => it.since },
];

/** What the filter looks at. */
export function text(it) {
  const parts = [it.id, it.name, it.user_agent, it.client, it.pair?.remote, it.state, it.server, it.verdict?.level, ...(it.verdict?.reasons ?? []), askedText(it.asked)];
  return parts.filter(Boolean).join(" ").toLowerCase();
}

const pathOf = (it) => `/dashboard/clients/${encodeURIComponent(it.id)}`;

export function create(it, go) {
  const cells = {
    verdict: badge(it.verdict?.level),
    reasons: h("span", { class: "muted reasons" }),
    link: h("a", { href: pathOf(it), "data-stop": true }),
    agent: h("span", { class: "muted agent" }),
    address: h("span"),
    state: h("span", { class: "muted" }),
    rtt: h("span"),
    loss: h("span"),
    rate: h("span"),
    ttl: h("span"),
    options: h("span"),
    guard: h("strong", { class: "tag" }),
    since: h("time"),
    server: h("span", { class: "muted" }),
  };
  const cell = (at, ...what) => h("td", { "data-title": COLUMNS[at].title, class: COLUMNS[at].isNumber ? "number" : null }, h("div", null, ...what));
  const row = h(
    "tr",
    null,
    cell(0, cells.verdict, cells.reasons),
    cell(1, h("bdi", null, cells.link), cells.agent),
    cell(2, cells.address, cells.state),
    cell(3, cells.rtt),
    cell(4, cells.loss),
    cell(5, cells.rate),
    cell(6, cells.ttl),
    cell(7, cells.guard, cells.options),
    cell(8, cells.since, cells.server),
  );
  // The link is what counts; the rest of the row is a larger target for a pointer.
  row.addEventListener("click", (event) => {
    if (event.target.closest("a") || String(getSelection())) return;
    go(pathOf(it));
  });
  row.cellsByName = cells;
  return row;
}

export function update(row, it) {
  const cells = row.cellsByName;
  const { sample } = it;
  cells.verdict.show(it.verdict?.level);
  put(cells.reasons, (it.verdict?.reasons ?? []).map((reason) => foreign(reason)).join(", "));
  put(cells.link, nameOf(it));
  put(cells.agent, foreign(it.user_agent, 120));
  mark(cells.agent, "title", it.user_agent && foreign(it.user_agent, 500));
  put(cells.address, address(it));
  put(cells.state, it.ended ? "ended" : it.state);
  put(cells.rtt, ms(sample?.rtt_ms));
  put(cells.loss, percent(sample?.loss));
  put(cells.rate, sample ? `${rate(throughput(sample, "sent"))} / ${rate(throughput(sample, "received"))}` : "–");
  put(cells.ttl, sample?.received_ttl ?? "–");
  put(cells.options, askedText(it.asked) || "none set");
  mark(cells.options, "class", askedText(it.asked) ? null : "muted");
  const guarded = { watching: "being watched", reverted: "taken back" }[it.guard?.state];
  put(cells.guard, guarded);
  cells.guard.hidden = !guarded;
  put(cells.since, moment(it.since));
  mark(cells.since, "title", exactly(it.since));
  // Several servers can share one database.
  put(cells.server, it.server === serverName ? "" : `on ${foreign(it.server, 60)}`);
  mark(row, "class", it.ended ? "ended" : null);
}
