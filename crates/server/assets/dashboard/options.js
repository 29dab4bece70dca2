// What the packets of a client are to look like, what they do look like, and the form that changes it.

import { Problem, api, clientPath, query } from "./api.js";
import { h, mark, put } from "../dom.js";
import { effective } from "./asked.js";
import { count } from "./format.js";
import { CLASSES, CLASS_NAMES, DSCP_GROUPS, ECN, ECN_NAMES, dscpName, dscpOf, ecnOf } from "./marks.js";

const UNSET = "";
const OTHER = "other";

/** `answered(options)` gets what is in force after a change. */
export function options(id, { answered }) {
  let asked = { all: {}, classes: {} };
  /** Fields that somebody has touched: what is not touched is left as it is. */
  const touched = new Set();

  const which = h("select", { id: "class" }, h("option", { value: "" }, "all packets"), ...CLASSES.map((name) => h("option", { value: name }, CLASS_NAMES[name])));
  const ttl = h("input", { id: "ttl", name: "ttl", type: "number", min: 1, max: 255, inputmode: "numeric", placeholder: "unset", "aria-describedby": "about-ttl" });
  const df = [
    ["", "unset"],
    ["0", "0, may be fragmented"],
    ["1", "1, never"],
  ].map(([value, text]) => h("label", null, h("input", { type: "radio", name: "df_bit", value }), text));
  const dscp = h(
    "select",
    { id: "dscp", name: "dscp" },
    h("option", { value: UNSET }, "unset"),
    ...DSCP_GROUPS.map(([label, points]) =>
      h("optgroup", { label }, ...points.map(([name, value, says]) => h("option", { value }, `${name} (${value}), ${says}`))),
    ),
    h("option", { value: OTHER }, "another number…"),
  );
  const number = h("input", { name: "dscp", type: "number", min: 0, max: 63, inputmode: "numeric", "aria-label": "DSCP as a number, 0 to 63", hidden: true });
  const ecn = h("select", { id: "ecn", name: "ecn" }, h("option", { value: UNSET }, "unset"), ...ECN.map((name, bits) => h("option", { value: name }, ECN_NAMES[bits])));
  const revert = h("input", { id: "revert", name: "revert_after_s", type: "number", min: 1, max: 86_400, inputmode: "numeric", placeholder: "never" });
  const complaint = h("p", { class: "complaint", role: "alert", id: "complaint" });
  const said = h("p", { role: "status", class: "muted" });
  const send = h("button", { type: "submit", class: "primary" }, "Apply");
  const clear = h("button", { type: "button", onclick: () => change("DELETE") }, "Clear all");
  const field = (label, control, ...more) => h("p", { class: "field" }, h("label", { for: control.id }, label), h("span", null, control, ...more));

  const controls = h(
    "fieldset",
    null,
    h("legend", { class: "unseen" }, "Change the options"),
    field("For", which),
    field("TTL", ttl, h("span", { id: "about-ttl", class: "muted" }, " 1 to 255 hops")),
    h("div", { class: "field", role: "radiogroup", "aria-label": "DF bit" }, h("span", null, "DF bit"), h("span", { class: "choices" }, ...df)),
    field("DSCP", dscp, number),
    field("ECN", ecn),
    field("Take back after", revert, h("span", { class: "muted" }, " s")),
    complaint,
    h("div", { class: "tools" }, send, clear),
  );
  // The server complains in one voice; the browser's own bubbles would cut in.
  const form = h("form", { novalidate: true, onsubmit: submit, oninput: touch, onchange: touch }, controls, said);

  function touch({ target }) {
    if (target === which) return fillIn();
    if (target === dscp) number.hidden = dscp.value !== OTHER;
    touched.add(target.name);
    mark(target, "aria-invalid", null);
  }

  /** Shows what is asked for, but where somebody is about to change it. */
  function fillIn(everything = true) {
    if (everything) touched.clear();
    put(clear, which.value ? `Clear ${which.value.toUpperCase()}` : "Clear all");
    const set = (which.value ? asked.classes?.[which.value] : asked.all) ?? {};
    const free = (name) => !touched.has(name);
    if (free("ttl")) ttl.value = set.ttl ?? "";
    if (free("df_bit")) {
      const value = set.df_bit == null ? "" : String(Number(set.df_bit));
      for (const label of df) label.firstChild.checked = label.firstChild.value === value;
    }
    if (free("dscp")) {
      const value = dscpOf(set.tos);
      const isNamed = value == null || dscpName(value) !== String(value);
      dscp.value = value == null ? UNSET : isNamed ? String(value) : OTHER;
      number.value = value ?? "";
      number.hidden = isNamed;
    }
    if (free("ecn")) ecn.value = set.tos == null ? UNSET : ECN[ecnOf(set.tos)];
    if (everything) {
      put(complaint, "");
      for (const control of form.elements) mark(control, "aria-invalid", null);
    }
  }

  function wanted() {
    const integer = (text) => (text.trim() === "" ? null : Number(text));
    const values = {
      ttl: () => integer(ttl.value),
      df_bit: () => ({ "": null, 0: false, 1: true })[df.find((label) => label.firstChild.checked)?.firstChild.value ?? ""],
      dscp: () => (dscp.value === UNSET ? null : integer(dscp.value === OTHER ? number.value : dscp.value)),
      ecn: () => ecn.value || null,
    };
    const body = Object.fromEntries(Object.entries(values).filter(([name]) => touched.has(name)).map(([name, value]) => [name, value()]));
    if (which.value) body.class = which.value;
    if (revert.value) body.revert_after_s = integer(revert.value);
    return body;
  }

  async function submit(event) {
    event.preventDefault();
    // Browsers give no value for what is no number; to send `null` for it would clear the field.
    const strange = [ttl, number, revert].find((control) => !control.hidden && control.validity.badInput);
    if (strange) return complain("That is not a number.", strange.name);
    if (!["ttl", "df_bit", "dscp", "ecn"].some((name) => touched.has(name))) {
      return put(said, "Nothing is changed yet: choose a value first.");
    }
    await change("POST", wanted());
  }

  async function change(method, body) {
    controls.disabled = true;
    put(said, "");
    put(complaint, "");
    try {
      const path = clientPath(id, "/socket-options");
      const answer = await api(method === "DELETE" ? path + query({ class: which.value }) : path, { method, body });
      touched.clear();
      revert.value = "";
      answered(answer ?? (await api(path)));
      put(said, method === "DELETE" ? "Cleared." : "In force from the next packet on.");
    } catch (error) {
      complain(error.message, error instanceof Problem ? error.field : null);
    } finally {
      controls.disabled = isOver;
    }
  }

  function complain(text, name) {
    put(complaint, text);
    const control = [...form.elements].find((it) => it.name === name && !it.hidden);
    if (!control) return;
    mark(control, "aria-invalid", "true");
    // The fieldset is still switched off.
    setTimeout(() => control.focus());
  }

  let isOver = false;
  return {
    element: form,
    show(now) {
      if (JSON.stringify(now) === JSON.stringify(asked)) return;
      asked = now;
      // What was said of the change before no longer holds.
      if (!isOver) put(said, "");
      fillIn(false);
    },
    /** Nothing can be changed of a client that has gone, or is another server's. */
    close(why) {
      isOver = Boolean(why);
      controls.disabled = isOver;
      put(said, why);
    },
  };
}

/** Asked beside applied, for each class. */
export function comparison() {
  const columns = [
    ["TTL", "ttl", (options) => options.ttl, String],
    ["DF", "df_bit", (options) => options.df_bit, (value) => String(Number(value))],
    ["DSCP", "dscp", (options) => dscpOf(options.tos), dscpName],
    ["ECN", "ecn", (options) => ecnOf(options.tos), (bits) => ECN_NAMES[bits]],
  ];
  const rows = CLASSES.map((name) => {
    const cells = columns.map(([title]) => ({ applied: h("span", { class: "applied" }), asked: h("span", { class: "asked" }), title }));
    const sent = h("td", { class: "number", "data-title": "sent" });
    const row = h("tr", null, h("th", { scope: "row", title: CLASS_NAMES[name] }, name), ...cells.map(({ applied, asked, title }) => h("td", { "data-title": title }, applied, asked)), sent);
    return { name, cells, sent, row };
  });
  const head = h("tr", null, h("th", { scope: "col" }, "Class"), ...columns.map(([title]) => h("th", { scope: "col" }, title)), h("th", { scope: "col", class: "number" }, "Packets"));
  const element = h("table", { class: "applied-table" }, h("caption", null, "What went out last, beside what was asked for"), h("thead", null, head), h("tbody", null, ...rows.map(({ row }) => row)));

  function show({ asked, applied }) {
    for (const { name, cells, sent } of rows) {
      const is = applied?.[name] ?? {};
      const want = effective(asked, name);
      columns.forEach(([, field, value, text], at) => {
        const [now, then] = [value(is), value(want)];
        put(cells[at].applied, now == null ? "–" : text(now));
        // An ECN field that nobody has set goes with a DSCP that somebody has.
        const isAsked = then != null && !(field === "ecn" && then === 0 && (now ?? 0) === 0);
        const state = !isAsked ? "unset" : now == null ? `asked ${text(then)}, none sent` : now === then ? "✓ asked" : `≠ asked ${text(then)}`;
        put(cells[at].asked, state);
        mark(cells[at].asked, "class", `asked${isAsked ? (now === then ? " same" : now == null ? "" : " differs") : ""}`);
      });
      put(sent, count(is.sent));
    }
  }
  return { element, show };
}
