// The dashboard: asks for the token once, and shows the page that the address names.

import { Problem, api } from "./api.js";
import { audit } from "./audit.js";
import { client } from "./client.js";
import { clients } from "./clients.js";
import { h, put } from "../dom.js";
import { listen } from "./keyboard.js";
import { showServer } from "./live.js";
import { forget, keep, token } from "./token.js";

const element = (id) => document.getElementById(id);

/** Each page gets `main` and what its address says, and gives back how to leave it. */
const PAGES = [
  [/^\/dashboard\/?$/, clients],
  [/^\/dashboard\/clients\/([^/]+)\/?$/, client],
  [/^\/dashboard\/audit\/?$/, audit],
];

let shown = { path: null, leave: () => {} };

function show() {
  // What the address names waits for the token.
  if (!token()) return;
  const path = location.pathname;
  shown.leave();
  const from = shown.path;
  const main = element("main");
  main.replaceChildren();
  const [pattern, page] = PAGES.find(([pattern]) => pattern.test(path)) ?? [/^/, nowhere];
  const words = path.match(pattern).slice(1).map(decoded);
  shown = { path, leave: () => {} };
  shown.leave = page(main, { words, from, go }) ?? (() => {});
  mark("to-clients", !path.startsWith("/dashboard/audit"));
  mark("to-audit", path.startsWith("/dashboard/audit"));
}

function mark(id, isHere) {
  if (isHere) element(id).setAttribute("aria-current", "page");
  else element(id).removeAttribute("aria-current");
}

function decoded(word) {
  try {
    return decodeURIComponent(word);
  } catch {
    return word;
  }
}

function nowhere(main) {
  document.title = "Not found · perpacket";
  main.append(h("div", { class: "empty" }, h("h1", null, "There is no such page"), h("a", { class: "button", href: "/dashboard" }, "To the clients")));
}

/** Goes to another page of the dashboard. */
function go(path) {
  history.pushState({ isInside: true }, "", path);
  show();
  element("main").focus({ preventScroll: true });
  scrollTo(0, 0);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const path = link.getAttribute("href");
  if (!/^\/dashboard($|[/?])/.test(path) || link.target) return;
  event.preventDefault();
  go(path);
});
// The link to the content is an address on this page.
addEventListener("popstate", () => token() && location.pathname !== shown.path && show());
listen({
  back() {
    if (!shown.path || /^\/dashboard\/?$/.test(shown.path)) return;
    // With its filter, if it was left from here.
    if (history.state?.isInside) history.back();
    else go("/dashboard");
  },
});

// The token

function enter() {
  element("login").hidden = true;
  element("leave").hidden = false;
  showServer();
  show();
}

function ask(complaint = "") {
  shown.leave();
  shown = { path: null, leave: () => {} };
  element("main").replaceChildren();
  element("login").hidden = false;
  element("leave").hidden = true;
  put(element("server"), "");
  put(element("login-complaint"), complaint);
  document.title = "perpacket";
  element("token").focus();
}

element("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = element("token");
  const value = field.value.trim();
  // What a header cannot hold is no token.
  if (!/^[\x21-\x7e]+$/.test(value)) return ask("A token has neither spaces nor special characters.");
  keep(value, element("remember").checked);
  try {
    await api("/api/server");
    field.value = "";
    enter();
  } catch (error) {
    forget();
    const wrong = error instanceof Problem && error.status === 401;
    ask(wrong ? "That is not the token." : error.message);
    field.select();
  }
});

element("leave").addEventListener("click", () => {
  forget();
  ask();
});

addEventListener("token-refused", () => {
  if (!element("login").hidden || !token()) return;
  forget();
  ask("The server no longer takes the token. Has it got another one?");
});

if (token()) enter();
else ask();
