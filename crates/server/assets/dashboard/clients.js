// The list of clients.

import { api, isLeft, query } from "./api.js";
import { h, keyed, put } from "../dom.js";
import { empty, failed, loading } from "./states.js";
import { live } from "./live.js";
import { COLUMNS, create, text, update } from "./client-row.js";

/** How often the list is drawn again at most, in milliseconds. */
const DRAW_EVERY = 500;

/** How often clients of other servers that share the database are looked up, in milliseconds. */
const LOOK_EVERY = 15_000;

/** How many at once; all that are live, unless there are very many. */
const PAGES = { live: 1_000, ended: 200, all: 200 };

export function clients(main, { from, go }) {
  document.title = "Clients · perpacket";
  const left = new AbortController();
  const known = new Map();
  const address = new URLSearchParams(location.search);
  const view = { state: address.get("state") ?? "live", filter: address.get("q") ?? "", sort: address.get("sort") ?? "" };
  let [isLoaded, isMore, drawing] = [false, false, null];

  // What the page is made of.
  const filter = h("input", { type: "search", "data-filter": true, placeholder: "Filter: name, address, verdict…", "aria-label": "Filter the clients", value: view.filter });
  const state = h("select", { "aria-label": "Which clients" }, ...["live", "ended", "all"].map((name) => h("option", { value: name, selected: name === view.state }, name)));
  const total = h("p", { class: "muted", role: "status" });
  const head = h("tr", null, ...COLUMNS.map((column) => heading(column)));
  const body = h("tbody");
  const table = h("table", { class: "clients" }, h("caption", { class: "unseen" }, "Clients"), h("thead", null, head), body);
  const note = h("div");
  const more = h("button", { type: "button", onclick: () => load(true), hidden: true }, "Older ones");
  main.append(
    h("div", { class: "headline" }, h("h1", null, "Clients"), total, h("div", { class: "tools" }, filter, state)),
    table,
    note,
    more,
  );
  note.replaceChildren(loading("Loading the clients…"));
  table.hidden = true;

  filter.addEventListener("input", () => change({ filter: filter.value }));
  state.addEventListener("change", () => {
    change({ state: state.value });
    reload();
  });

  function heading({ title, name, isNumber }) {
    const arrow = h("span", { class: "arrow", "aria-hidden": "true" });
    const sort = () => change({ sort: view.sort === name ? `-${name}` : name });
    return h("th", { scope: "col", class: isNumber ? "number" : null, "data-name": name }, h("button", { type: "button", class: "sort", onclick: sort }, title, arrow));
  }

  function change(what) {
    Object.assign(view, what);
    const parameters = query({ state: view.state === "live" ? null : view.state, q: view.filter, sort: view.sort });
    history.replaceState(history.state, "", `${location.pathname}${parameters}`);
    drawNow();
  }

  async function load(older = false) {
    try {
      const limit = PAGES[view.state] ?? PAGES.all;
      const answer = await api(`/api/clients${query({ state: view.state, limit, before: older ? oldest() : null })}`, { left: left.signal });
      if (!older) {
        const here = new Set(answer.clients.map(({ id }) => id));
        // What is older than the page was asked for by hand.
        const first = answer.clients.map(({ since }) => since).sort()[0];
        for (const [id, it] of known) if (!here.has(id) && (!first || it.since >= first)) known.delete(id);
      }
      for (const it of answer.clients) known.set(it.id, it);
      isMore = answer.clients.length >= limit;
      isLoaded = true;
      draw();
      if (!older && from) focusOn(from);
      from = null;
    } catch (error) {
      if (isLeft(error)) return;
      if (!isLoaded) note.replaceChildren(failed(error, reload));
    }
  }

  /** Where the next page begins. Live ones come first, however old they are. */
  function oldest() {
    const all = [...known.values()].filter(({ ended }) => view.state === "live" || ended);
    return all.map(({ since }) => since).sort()[0] ?? new Date().toISOString();
  }

  function reload() {
    known.clear();
    isLoaded = false;
    table.hidden = true;
    note.replaceChildren(loading("Loading the clients…"));
    load();
  }

  /** Who comes back from a client's page goes on from its row. */
  function focusOn(path) {
    drawNow();
    const link = [...body.querySelectorAll("a[data-stop]")].find((link) => link.getAttribute("href") === path);
    link?.focus({ preventScroll: true });
    link?.scrollIntoView({ block: "nearest" });
  }

  function belongs(it) {
    return view.state === "all" || (view.state === "ended") === Boolean(it.ended);
  }

  function draw() {
    drawing ??= setTimeout(() => requestAnimationFrame(drawNow), isLoaded && body.children.length > 0 ? DRAW_EVERY : 0);
  }

  function drawNow() {
    clearTimeout(drawing);
    drawing = null;
    if (!isLoaded || left.signal.aborted) return;
    const words = view.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...known.values()].filter(belongs);
    const chosen = all.filter((it) => words.every((word) => text(it).includes(word)));
    chosen.sort(order());
    keyed(body, chosen, ({ id }) => id, (it) => create(it, go), update);
    for (const th of head.children) {
      const { name } = th.dataset;
      const direction = view.sort === name ? "ascending" : view.sort === `-${name}` ? "descending" : null;
      if (direction) th.setAttribute("aria-sort", direction);
      else th.removeAttribute("aria-sort");
      put(th.querySelector(".arrow"), { ascending: "▲", descending: "▼" }[direction] ?? "");
    }
    put(total, chosen.length === all.length ? `${all.length}` : `${chosen.length} of ${all.length}`);
    table.hidden = chosen.length === 0;
    more.hidden = !isMore;
    note.replaceChildren(...(chosen.length > 0 ? [] : [nobody(all.length)]));
  }

  function nobody(hidden) {
    if (hidden > 0) return empty("No client matches the filter", `${hidden} are hidden by it.`);
    if (view.state === "ended") return empty("No session has ended yet", "The history of those that end is kept here.");
    const link = h("a", { href: "/", target: "_blank", rel: "noopener" }, `${location.origin}/`);
    return empty("Nobody is connected", "Whoever opens ", link, " and presses the button appears here.");
  }

  function order() {
    const down = view.sort.startsWith("-");
    const column = COLUMNS.find(({ name }) => name === view.sort.replace(/^-/, ""));
    const newest = (a, b) => Boolean(a.ended) - Boolean(b.ended) || (a.since < b.since ? 1 : a.since > b.since ? -1 : 0);
    if (!column) return newest;
    return (a, b) => {
      const [one, other] = [column.sort(a), column.sort(b)];
      if (one == null || other == null) return (one == null) - (other == null) || newest(a, b);
      const way = typeof one === "string" ? one.localeCompare(other) : one - other;
      return (down ? -way : way) || newest(a, b);
    };
  }

  const stream = live({
    load: () => load(),
    on: {
      client(it) {
        if (belongs(it)) known.set(it.id, it);
        else known.delete(it.id);
        draw();
      },
      sample({ client, sample, verdict, applied }) {
        const it = known.get(client);
        if (!it) return;
        Object.assign(it, { sample }, verdict && { verdict }, applied && { applied });
        draw();
      },
      options({ client, asked, guard }) {
        const it = known.get(client);
        if (it) Object.assign(it, { asked, guard });
        draw();
      },
    },
  });
  const looking = setInterval(() => !document.hidden && !isMore && load(), LOOK_EVERY);

  return () => {
    left.abort();
    clearInterval(looking);
    clearTimeout(drawing);
    stream.close();
  };
}
