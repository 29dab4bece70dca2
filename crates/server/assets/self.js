// The page for the one who is measured: one button, and an answer that a layman can use.

import { Blocked, Call, Refused } from "./call.js";
import { h, put } from "./dom.js";
import { hasCamera, picture, release } from "./picture.js";
import { answer, facts } from "./words.js";

const element = (id) => document.getElementById(id);
const showAnswer = answer(element("answer"));
const showFacts = facts(element("facts"));

/** What is on: `{call, id, stream, events, timer}`. */
let now = null;

/** The newest call's id: its result can be shared when it is over, too. */
let last = null;

async function start() {
  stop();
  element("begin").hidden = true;
  element("trouble").hidden = true;
  element("result").hidden = true;
  element("shared").hidden = true;
  put(element("said"), "");
  say("Preparing…");

  const current = { call: new Call((state) => current === now && heard(state)) };
  now = current;
  try {
    const { stream, note } = await picture(element("camera").checked);
    current.stream = stream;
    if (current !== now) return release(stream);
    put(element("note"), note);
    element("note").hidden = !note;
    element("pictures").hidden = !stream;
    element("sent").srcObject = stream;
    say("Connecting…");
    await current.call.connect(stream, (back) => {
      element("back").srcObject = back;
    });
    if (current === now) measure(current);
  } catch (error) {
    if (current !== now) return;
    stop();
    again("Test my connection");
    explain(error);
  }
}

/** Connected: what the server sees is told once a second. */
function measure(current) {
  last = current.call.id;
  say(null);
  showAnswer(null);
  showFacts({});
  element("result").hidden = false;
  element("disconnect").hidden = false;
  element("share").disabled = false;
  follow(current);
  current.timer = setInterval(() => {
    const own = current.call.measured;
    if (!own) return;
    const text = `By your browser’s own count, answers come after ${own.rtt.toFixed(own.rtt < 10 ? 1 : 0)} ms, and ${own.lost} of the last ${own.sent} messages are lost.`;
    put(element("note"), text);
    element("note").hidden = false;
  }, 1_000);
}

/** An event source tries again by itself after a lost connection, but not after an answer that is none. */
function follow(current) {
  const events = new EventSource(`/self/${encodeURIComponent(last)}/events`);
  current.events = events;
  events.addEventListener("self", ({ data }) => {
    if (current !== now) return;
    const it = JSON.parse(data);
    showAnswer(it.verdict, it);
    showFacts(it);
    if (it.shared) shared(it.shared);
    if (it.state === "closed") heard("lost");
  });
  events.onerror = () => {
    if (events.readyState !== EventSource.CLOSED || current !== now) return;
    setTimeout(() => current === now && follow(current), 3_000);
  };
}

/** What becomes of a call that was connected. */
function heard(state) {
  if (state === "connected") say(null);
  if (state === "interrupted") say("The connection is interrupted. Waiting for it to come back…");
  if (state === "lost") {
    stop();
    again("Test again");
    trouble(
      h("p", null, h("strong", null, "The connection is lost.")),
      h("p", null, "Nothing has come through for a while. What is shown below was measured before."),
    );
  }
}

function stop() {
  const current = now;
  now = null;
  say(null);
  clearInterval(current?.timer);
  current?.events?.close();
  current?.call.end();
  release(current?.stream);
  element("disconnect").hidden = true;
  element("pictures").hidden = true;
}

function again(text) {
  put(element("start"), text);
  element("begin").hidden = false;
}

function explain(error) {
  if (error instanceof Blocked) {
    trouble(
      h("p", null, h("strong", null, "No packet comes through.")),
      h("p", null, "This page has loaded, but the packets of calls (UDP) do not arrive. Most often a firewall, a company network or a VPN blocks them. Another network, such as a mobile one, shows whether that is it."),
      isLocal() && h("p", null, "As it comes, Firefox does not call 127.0.0.1; Chromium does."),
    );
  } else if (error instanceof Refused && error.status === 503) {
    trouble(
      h("p", null, h("strong", null, "The server is full.")),
      h("p", null, `It is busy with other tests. Please try again in ${error.retryAfter ?? 10} seconds.`),
    );
  } else if (error instanceof Refused && error.status === 429) {
    trouble(
      h("p", null, h("strong", null, "Too many tests from your network.")),
      h("p", null, `Please try again in ${error.retryAfter ?? 60} seconds.`),
    );
  } else if (error instanceof Refused) {
    trouble(h("p", null, h("strong", null, "The server does not take the call.")), h("p", null, `It says: ${error.message}`));
  } else if (error instanceof TypeError || error.name === "TimeoutError") {
    trouble(
      h("p", null, h("strong", null, "The server cannot be reached.")),
      h("p", null, "Please check whether this device is online, and try again."),
    );
  } else {
    trouble(h("p", null, h("strong", null, "The test could not begin.")), h("p", null, `The browser says: ${error.message}`));
  }
  // The button stands above; who uses the keyboard is there at once.
  element("start").focus();
}

const isLocal = () => ["localhost", "[::1]"].includes(location.hostname) || location.hostname.startsWith("127.");

async function share() {
  const button = element("share");
  button.disabled = true;
  try {
    const response = await fetch(`/self/${encodeURIComponent(last)}/share`, { method: "POST", signal: AbortSignal.timeout(10_000) });
    if (!response.ok) throw new Error();
    shared((await response.json()).url);
    element("link").select();
    put(element("said"), "The link is ready.");
  } catch {
    put(element("said"), "There is no link, because the server did not answer. Please try again.");
  } finally {
    button.disabled = false;
  }
}

function shared(url) {
  element("link").value = new URL(url, location.href).href;
  element("shared").hidden = false;
  element("share").hidden = true;
}

async function copy() {
  const link = element("link");
  link.select();
  try {
    await navigator.clipboard.writeText(link.value);
    put(element("said"), "Copied.");
  } catch {
    put(element("said"), "Your browser does not let the page copy it; it is selected, so that you can.");
  }
}

function say(text) {
  const progress = element("progress");
  progress.className = text ? "working" : "";
  progress.hidden = !text;
  put(progress, text);
}

function trouble(...what) {
  element("trouble").replaceChildren(...what.filter(Boolean));
  element("trouble").hidden = false;
}

element("start").addEventListener("click", () => {
  element("share").hidden = false;
  start();
});
element("disconnect").addEventListener("click", () => {
  stop();
  again("Test again");
  put(element("said"), "Disconnected. The result stays as it was.");
  element("start").focus();
});
element("share").addEventListener("click", share);
element("copy").addEventListener("click", copy);
window.addEventListener("pagehide", () => {
  if (!now) return;
  stop();
  // The browser may bring the page back as it was left.
  again("Test again");
});

if (!hasCamera()) {
  // Without TLS a browser gives no page the camera.
  element("camera").closest("p").hidden = true;
}
if (!window.RTCPeerConnection) {
  element("start").disabled = true;
  trouble(
    h("p", null, h("strong", null, "This browser cannot make calls.")),
    h("p", null, "It has no WebRTC, or it is switched off. A current Chrome, Edge, Firefox or Safari has it."),
  );
}
