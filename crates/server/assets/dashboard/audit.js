// Who has done what.

import { api, isLeft, query } from "./api.js";
import { foreign, h, keyed } from "../dom.js";
import { changeText } from "./asked.js";
import { exactly, moment } from "./format.js";
import { live } from "./live.js";
import { empty, failed, loading } from "./states.js";

const PAGE = 100;

/** `rounds: 10, names: true`; what is not set is left out. */
function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (value === null || typeof value !== "object") return String(value);
  const set = Object.entries(value).filter(([, it]) => it !== null && it !== false);
  return set.map(([name, it]) => (typeof it === "object" && !Array.isArray(it) ? `${name} (${plain(it)})` : `${name}: ${it}`)).join(", ");
}

/** `TTL unset → 10`, or else whatever there is. */
function detailText(detail) {
  if (detail === null || typeof detail !== "object") return foreign(detail, 400);
  const { changes, ...rest } = detail;
  const texts = (Array.isArray(changes) ? changes : []).map(({ class: name, before, after }) => `${name ? `${name.toUpperCase()}: ` : ""}${changeText(before, after) || "set again to what it was"}`);
  return foreign(texts.concat(plain(rest)).filter(Boolean).join("; "), 400);
}

export function audit(main) {
  document.title = "Audit · perpacket";
  const left = new AbortController();
  let [all, isLoaded, isMore] = [[], false, false];

  const filter = h("input", { type: "search", "data-filter": true, placeholder: "Filter: who, from where, what…", "aria-label": "Filter the audit", oninput: draw });
  const body = h("tbody");
  const heads = ["When", "Who", "From", "What", "Client", "Details"];
  const table = h("table", { class: "audit", hidden: true }, h("caption", { class: "unseen" }, "Audit, the newest first"), h("thead", null, h("tr", null, ...heads.map((head) => h("th", { scope: "col" }, head)))), body);
  const note = h("div", null, loading("Loading the audit…"));
  const more = h("button", { type: "button", hidden: true, onclick: () => load(true) }, "Older ones");
  main.append(h("div", { class: "headline" }, h("h1", null, "Audit"), h("div", { class: "tools" }, filter)), table, note, more);

  /** The same entry may come as an event and with a page. */
  const key = (it) => `${it.at} ${it.action} ${it.client} ${it.by} ${JSON.stringify(it.detail)}`;

  function add(entries) {
    const known = new Set(all.map(key));
    all.push(...entries.filter((it) => !known.has(key(it))));
    all.sort((a, b) => (a.at < b.at ? 1 : a.at > b.at ? -1 : 0));
  }

  async function load(older = false) {
    try {
      const before = older ? all.at(-1)?.at : null;
      const { audit: page } = await api(`/api/audit${query({ limit: PAGE, before })}`, { left: left.signal });
      add(page);
      if (older || !isLoaded) isMore = page.length === PAGE;
      isLoaded = true;
      draw();
    } catch (error) {
      if (!isLeft(error) && !isLoaded) note.replaceChildren(failed(error, () => load()));
    }
  }

  function draw() {
    if (!isLoaded) return;
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (it) => [it.by, it.from, it.action, it.client, detailText(it.detail)].join(" ").toLowerCase();
    const chosen = all.filter((it) => words.every((word) => text(it).includes(word)));
    keyed(body, chosen, key, create, () => {});
    table.hidden = chosen.length === 0;
    more.hidden = !isMore;
    note.replaceChildren(...(chosen.length > 0 ? [] : [all.length > 0 ? empty("No entry matches the filter") : empty("Nothing has been done yet", "What operators change is listed here.")]));
  }

  function create(it) {
    const client = it.client
      ? h("a", { href: `/dashboard/clients/${encodeURIComponent(it.client)}`, "data-stop": true }, foreign(it.client.slice(0, 8)))
      : h("span", { tabindex: -1, "data-stop": true }, "–");
    const cells = [h("time", { title: exactly(it.at) }, moment(it.at)), h("bdi", null, foreign(it.by)), h("bdi", null, foreign(it.from ?? "–")), foreign(it.action), client, detailText(it.detail)];
    return h("tr", null, ...cells.map((cell, at) => h("td", { "data-title": heads[at] }, h("div", null, cell))));
  }

  const stream = live({
    load: () => load(),
    on: {
      audit(it) {
        add([it]);
        draw();
      },
    },
  });
  return () => {
    left.abort();
    stream.close();
  };
}
