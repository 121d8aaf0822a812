// Keeps a screen up to date, and says so when it is not.
//
// Contract: the screen comes from the server, as it would without this script; nodes of the new one are
// moved into the old one, so text never becomes markup here. Old figures are never shown as new ones.

const LATE_WINDOWS = 3; // as /readyz
const PATIENCE = 10000; // milliseconds until a request is given up

const find = (id) => document.getElementById(id);
const strip = () => find("gateway");
const windowLength = () => Math.max(1, Number(strip().dataset.window)) * 1000;

const PARTS = ["gateway", "screens", "main", "made"]; // what is brought up to date

let under = null; // the request under way
let again = false; // there is something newer than that
let timer = null;
let stream = null; // events, while somebody looks
let lost = null; // why the last request failed
let said = false; // the reader was told that figures are old
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
    case "second":
      return day + " " + clock + ":" + two(get("Seconds"));
    default:
      return day + " " + clock;
  }
}

function showTimes(selector = "time") {
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
  showTimes('time[data-form=ago]');
  const drain = strip().dataset.drain;
  const age = drain === undefined ? 0 : Date.now() + skew - Number(drain);
  let text = null;
  if (lost !== null) text = "No connection to the agent (" + lost + "): these figures are old";
  else if (age > LATE_WINDOWS * windowLength()) {
    text = "No drain for " + durationText(age / 1000) + ": these figures are old";
  }
  document.body.classList.toggle("stale", text !== null);
  document.title = text === null ? title.text : "Old: " + title.text;
  if (text === null) return;
  strip().className = "strip bad";
  find("verdict").firstElementChild.textContent = "\u2715";
  // Read aloud once, not every second.
  if (!said) find("verdict").setAttribute("aria-live", "polite");
  else find("verdict").setAttribute("aria-live", "off");
  said = true;
  find("verdict").lastChild.textContent = text;
}

// --- Loading --------------------------------------------------------------------------------------

const visible = () => document.visibilityState === "visible";

// Shows what is at this address, in this screen; false if something newer was asked for or it failed.
async function load(url) {
  under?.abort();
  const abort = new AbortController();
  under = abort;
  const late = setTimeout(() => abort.abort(), PATIENCE);
  try {
    const response = await fetch(url, { signal: abort.signal, headers: { accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!fresh.getElementById("gateway")) throw new Error("status " + response.status);
    if (under !== abort) return false;
    // What is not there will not come back by asking: the screen that says so is without this script.
    if (!fresh.querySelector('script[src="/app.js"]')) {
      location.replace(url);
      return true;
    }
    lost = null;
    said = false;
    title.text = fresh.title;
    const zone = fresh.getElementById("zone");
    for (const node of fresh.querySelectorAll("time")) {
      if (!zone.contains(node)) node.textContent = timeText(node);
    }
    for (const id of PARTS) morph(find(id), fresh.getElementById(id));
    skew = serverNow() - Date.now();
    return true;
  } catch (error) {
    if (under !== abort) return false;
    lost = abort.signal.aborted ? "no answer" : error instanceof Error ? error.message : String(error);
    return false;
  } finally {
    clearTimeout(late);
    if (under === abort) {
      under = null;
      showAge();
      plan();
      if (again) refresh();
    }
  }
}

/** Brings the screen up to date; one at a time. */
export async function refresh() {
  again = under !== null;
  return again ? false : load(location.href);
}

// The next look: after a drain if they are told of, and by the clock in any case.
function plan() {
  clearTimeout(timer);
  const told = stream !== null && stream.readyState === EventSource.OPEN;
  if (visible()) timer = setTimeout(refresh, (told ? LATE_WINDOWS : 1) * windowLength());
}

// --- Events ---------------------------------------------------------------------------------------

function listen() {
  if (stream !== null || typeof EventSource === "undefined") return;
  stream = new EventSource("/api/v1/events");
  stream.addEventListener("drain", (event) => {
    // The first one is told again to who has just come.
    const at = Date.parse(JSON.parse(event.data).at);
    if (at > Number(strip().dataset.drain ?? 0)) refresh();
  });
  stream.addEventListener("verdict", refresh);
  stream.addEventListener("open", plan);
  stream.addEventListener("error", () => {
    // It comes back by itself, unless it was refused; whether the agent is still there is seen at once.
    if (stream?.readyState === EventSource.CLOSED) stream = null;
    if (visible()) refresh();
  });
}

function hear() {
  if (visible()) {
    listen();
    refresh();
  } else {
    stream?.close();
    stream = null;
    clearTimeout(timer);
  }
}

// --- Links and forms ------------------------------------------------------------------------------

// Another view of the same screen: shown in place, with its address. Everything else is loaded.
const inPlace = (url) => url.origin === location.origin && url.pathname === location.pathname;

async function show(url, push) {
  if (push) history.pushState(null, "", url);
  again = false;
  if (!(await load(url.href)) && under === null) location.assign(url.href);
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0) return;
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!link || link.target || link.hasAttribute("download") || "full" in link.dataset) return;
  const url = new URL(link.href);
  if (!find("main").contains(link) || !inPlace(url) || url.hash) return;
  event.preventDefault();
  show(url, true);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "get" || "full" in form.dataset) return;
  const url = new URL(form.action);
  if (!find("main").contains(form) || !inPlace(url)) return;
  event.preventDefault();
  const pairs = [...new FormData(form, event.submitter)].filter(([, value]) => value !== "");
  url.search = new URLSearchParams(pairs).toString();
  show(url, true);
});

// A choice is made when it is made.
document.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement && "submit" in event.target.dataset) {
    event.target.form?.requestSubmit();
  }
});

addEventListener("popstate", () => show(new URL(location.href), false));

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  const at = document.activeElement;
  if (at instanceof HTMLElement && (at.isContentEditable || at.matches("input, textarea, select"))) return;
  const filter = find("filter");
  if (!filter || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  filter.focus();
  filter.select();
});

document.addEventListener("visibilitychange", hear);
addEventListener("pagehide", () => {
  stream?.close();
  stream = null;
});
addEventListener("pageshow", (event) => {
  if (event.persisted) hear();
});
find("zone-switch").addEventListener("click", switchZone);
setInterval(showAge, 1000);
showZone();
if (visible()) listen();
plan();
