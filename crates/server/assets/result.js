// A result that somebody has shared: /r/{share}.

import { h, put } from "./dom.js";
import { answer, facts } from "./words.js";

const element = (id) => document.getElementById(id);

async function load() {
  const share = location.pathname.split("/")[2] ?? "";
  element("trouble").hidden = true;
  element("progress").hidden = false;
  try {
    const response = await fetch(`/r/${encodeURIComponent(share)}/result`, { signal: AbortSignal.timeout(15_000) });
    if (response.status === 404) return trouble("There is no such result. The link may be incomplete, or too old.");
    if (!response.ok) return trouble(`The server could not show it (${response.status}).`, load);
    show(await response.json());
  } catch {
    trouble("The server cannot be reached.", load);
  } finally {
    element("progress").hidden = true;
  }
}

function show(result) {
  const at = new Date(result.at);
  if (!Number.isNaN(at.getTime())) {
    const when = at.toLocaleString("en-GB", { dateStyle: "long", timeStyle: "short" });
    put(element("when"), `Measured on ${when}.`);
  }
  answer(element("answer"))(result.verdict, result);
  facts(element("facts"))(result);
  element("result").hidden = false;
}

function trouble(text, again) {
  const box = element("trouble");
  box.replaceChildren(h("p", null, text));
  if (again) box.append(h("button", { type: "button", onclick: again }, "Try again"));
  box.hidden = false;
}

load();
