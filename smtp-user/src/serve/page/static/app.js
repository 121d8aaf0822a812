// Keeps a screen up to date, and says so when it is not.
//
// Contract: the screen comes from the server, as it would without this script; nodes of the new one are
// moved into the old one, so text never becomes markup here. Old figures are never shown as new ones.

const LATE_WINDOWS = 3; // as /readyz
const PATIENCE = 10000; // milliseconds until a request is given up

const find = (id) => document.getElementById(id);
const strip = () => find("gateway");
const windowLength = () => Math.max(1, Number(strip().dataset.window)) * 1000;

let shown = null; // the request under way
let timer = null;
let lost = null; // why the last request failed
let skew = serverNow() - Date.now(); // the server's clock against ours
const title = { text: document.title };

function serverNow() {
  return Date.parse(find("made").firstElementChild.dateTime);
}

// --- Morphing -------------------------------------------------------------------------------------

const key = (node) => (node.nodeType === 1 && node.id ? node.tagName + node.id : null);
const alike = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && key(a) === key(b);

// Makes the children of `old` those of `fresh`, and touches as few nodes as possible.
function morphChildren(old, fresh) {
  const named = new Map();
  for (const child of old.children) if (child.id) named.set(key(child), child);
  let at = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const same = key(next) === null ? null : named.get(key(next));
    if (same) {
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      morph(same, next);
    } else if (at && alike(at, next)) {
      const here = at;
      at = at.nextSibling;
      morph(here, next);
    } else {
      old.insertBefore(document.adoptNode(next), at);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function morph(old, fresh) {
  if (old.nodeType !== 1) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  if (old.hasAttribute("data-keep")) return;
  // What the reader has opened stays open, and what is being typed stays.
  const mine = old.tagName === "DETAILS" ? ["open"] : [];
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !mine.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value && !mine.includes(name)) old.setAttribute(name, value);
  }
  const field = old.tagName === "INPUT" || old.tagName === "SELECT" || old.tagName === "TEXTAREA";
  if (field && old === document.activeElement) return;
  morphChildren(old, fresh);
  if (old.tagName === "INPUT") old.value = fresh.getAttribute("value") ?? "";
}

// --- Time -----------------------------------------------------------------------------------------

let local = false;
try {
  local = localStorage.getItem("zone") === "local";
} catch {
  // Storage is forbidden: the choice lasts as long as the screen.
}

const two = (number) => String(number).padStart(2, "0");

function durationText(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return s + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + (s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor((s % 3600) / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

function timeText(node) {
  const date = new Date(node.dateTime);
  const get = (part) => date["get" + (local ? "" : "UTC") + part]();
  const day = get("FullYear") + "-" + two(get("Month") + 1) + "-" + two(get("Date"));
  const clock = two(get("Hours")) + ":" + two(get("Minutes"));
  switch (node.dataset.form) {
    case "ago":
      return durationText((Date.now() + skew - date) / 1000) + " ago";
    case "clock":
      return clock;
    case "minute":
      return day + " " + clock;
    case "second":
      return day + " " + clock + ":" + two(get("Seconds"));
    default:
      return node.textContent;
  }
}

function showTimes(selector = "time[data-form]") {
  for (const node of document.querySelectorAll(selector)) {
    const text = timeText(node);
    if (node.textContent !== text) node.textContent = text;
  }
}

function zoneName() {
  if (!local) return "UTC";
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(new Date());
  return parts.find((part) => part.type === "timeZoneName")?.value ?? "local time";
}

function showZone() {
  find("zone-name").textContent = zoneName();
  const button = find("zone-switch");
  button.textContent = local ? "UTC" : "Local";
  button.setAttribute("aria-label", local ? "Show times in UTC" : "Show times in local time");
  button.hidden = false;
  showTimes();
}

function switchZone() {
  local = !local;
  try {
    localStorage.setItem("zone", local ? "local" : "utc");
  } catch {
    // As above.
  }
  showZone();
}

// --- Staleness ------------------------------------------------------------------------------------

function showAge() {
  showTimes('time[data-form="ago"]');
  const drain = strip().dataset.drain;
  const age = drain === undefined ? 0 : Date.now() + skew - Number(drain);
  let text = null;
  if (lost !== null) text = "No connection to the agent (" + lost + "): figures are old";
  else if (age > LATE_WINDOWS * windowLength()) {
    text = "No drain for " + durationText(age / 1000) + ": figures are old";
  }
  document.body.classList.toggle("stale", text !== null);
  document.title = text === null ? title.text : "Old: " + title.text;
  if (text !== null) {
    strip().className = "strip bad";
    find("verdict").lastChild.nodeValue = " " + text;
    find("verdict").firstElementChild.textContent = "\u2715";
  }
}

// --- Loading --------------------------------------------------------------------------------------

async function load(url, from) {
  shown?.abort();
  const abort = new AbortController();
  shown = abort;
  const late = setTimeout(() => abort.abort("no answer"), PATIENCE);
  try {
    const response = await fetch(url, { signal: abort.signal, headers: { accept: "text/html" } });
    const text = await response.text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    if (!fresh.getElementById("gateway")) throw new Error("status " + response.status);
    if (shown !== abort) return false;
    lost = null;
    title.text = fresh.title;
    for (const id of ["gateway", "screens", "main", "made"]) morph(find(id), fresh.getElementById(id));
    skew = serverNow() - Date.now();
    showTimes();
    return true;
  } catch (error) {
    if (shown !== abort) return false;
    lost = error instanceof Error ? error.message : String(error);
    return false;
  } finally {
    clearTimeout(late);
    if (shown === abort) {
      shown = null;
      showAge();
      plan();
    }
  }
}

export const refresh = () => load(location.href);

function plan() {
  clearTimeout(timer);
  if (document.visibilityState === "visible") timer = setTimeout(refresh, windowLength());
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") refresh();
  else clearTimeout(timer);
});
find("zone-switch").addEventListener("click", switchZone);
setInterval(showAge, 1000);
showZone();
plan();
