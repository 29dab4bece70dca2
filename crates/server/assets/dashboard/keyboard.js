// The keys. They can be switched off, because they get in the way of some who speak to their computer.

const SETTING = "perpacket-keys";
const element = (id) => document.getElementById(id);

/** `back()` leaves a page. */
export function listen({ back }) {
  const help = element("help");
  const on = element("keys-on");
  on.checked = localStorage.getItem(SETTING) !== "off";
  on.addEventListener("change", () => localStorage.setItem(SETTING, on.checked ? "on" : "off"));
  element("keys").addEventListener("click", () => help.showModal());

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    if (event.key === "Escape") return escape(event, back);
    if (isField(event.target) || !on.checked) return;
    const steps = { j: 1, k: -1 };
    if (event.key === "/") focus(event, document.querySelector("[data-filter]"));
    else if (event.key === "?") help.showModal();
    else if (event.key in steps) step(event, steps[event.key]);
  });
}

function escape(event, back) {
  if (isField(event.target)) {
    if (event.target.matches("[data-filter]") && event.target.value) {
      event.target.value = "";
      event.target.dispatchEvent(new Event("input", { bubbles: true }));
    } else event.target.blur();
    return event.preventDefault();
  }
  back();
}

/** Rows of a list, or sections of a page. */
function step(event, by) {
  const stops = [...document.querySelectorAll("main [data-stop]")].filter((stop) => stop.getClientRects().length > 0);
  const at = stops.findLastIndex((stop) => stop === document.activeElement || stop.parentElement?.contains(document.activeElement));
  const next = at < 0 ? (by > 0 ? 0 : stops.length - 1) : Math.min(stops.length - 1, Math.max(0, at + by));
  focus(event, stops[next]);
}

function focus(event, target) {
  if (!target) return;
  event.preventDefault();
  target.focus();
  target.scrollIntoView({ block: "nearest" });
}

function isField(target) {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("select, textarea, input:not([type=checkbox], [type=radio])"));
}
