// Keeps the page up to date: asks for status and sources every two seconds while somebody looks.
//
// Contract: text goes into the page as textContent only, so nothing that is measured or typed can
// become markup. Old figures are never shown as if they were new: when the agent does not answer, or
// does not drain, the page says so and fades.
"use strict";

const PERIOD = 2000; // milliseconds between two requests
const PATIENCE = 8000; // milliseconds until a request is given up
const LATE_WINDOWS = 3; // as /readyz

const element = (id) => document.getElementById(id);
const query = { sort: "connections", order: "desc", limit: 50, offset: 0, filter: "" };

let timer = null;
let running = false; // a refresh is under way
let again = false; // the query changed meanwhile
let lastAnswer = new Date();
let previous = null; // totals at an earlier drain
let rates = null; // per second, between the last two drains

const grouped = new Intl.NumberFormat("en-US");

function bytesText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return (unit === 0 ? String(value) : value.toFixed(1)) + " " + units[unit];
}

function durationText(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return whole + " s";
  if (whole < 3600) return Math.floor(whole / 60) + " min " + (whole % 60) + " s";
  if (whole < 86400) return Math.floor(whole / 3600) + " h " + Math.floor((whole % 3600) / 60) + " min";
  return Math.floor(whole / 86400) + " d " + Math.floor((whole % 86400) / 3600) + " h";
}

function rateText(rate) {
  return rate >= 100 ? grouped.format(Math.round(rate)) : rate.toFixed(1);
}

function setText(id, text) {
  const node = element(id);
  if (node.textContent !== text) node.textContent = text;
}

function setState(kind, verdict, stale) {
  element("state").className = "state " + kind;
  setText("verdict", verdict);
  document.body.classList.toggle("stale", stale);
}

async function ask(path) {
  const abort = new AbortController();
  const late = setTimeout(() => abort.abort(), PATIENCE);
  try {
    const response = await fetch(path, { cache: "no-store", signal: abort.signal });
    const body = await response.json();
    return { ok: response.ok, status: response.status, body };
  } finally {
    clearTimeout(late);
  }
}

// How an interface is counted on, or why it is not.
function manner(point) {
  return point.state !== "attached" ? point.state : point.up ? point.mode : point.mode + ", down";
}

function showStatus(status) {
  const drain = status.last_drain;
  const late = drain !== null && drain.age_seconds > LATE_WINDOWS * status.window_seconds;
  const names = (points) => points.map((point) => point.name).join(", ");
  const fallen = status.interfaces.filter((point) => point.fallback !== null);
  const missed = status.interfaces.filter((point) => point.state !== "attached");
  const down = status.interfaces.filter((point) => !point.up);
  if (status.interfaces.length === 0) {
    setState("bad", "Attached to no interface: nothing is counted", false);
  } else if (missed.length !== 0) {
    setState("bad", "Not counting on " + names(missed), false);
  } else if (drain === null) {
    setState("warn", "Counting; the first window is not over yet", false);
  } else if (late) {
    setState("bad", "No drain for " + durationText(drain.age_seconds) + ": these figures are old", true);
  } else if (status.conservation.error !== 0) {
    setState("bad", "Counts do not add up: this is a fault of smtpflow", false);
  } else if (status.store !== null && status.store.failure !== null) {
    setState("warn", "Counting; the store cannot be written, so counts wait in memory", false);
  } else if (status.overflow.packets !== 0) {
    setState("warn", "Counting; the table was full, so some sources are not known", false);
  } else if (down.length !== 0) {
    setState("warn", "Counting; " + names(down) + " is down", false);
  } else if (fallen.length !== 0) {
    setState("warn", "Counting; driver mode was refused on " + names(fallen), false);
  } else {
    setState("good", "Counting; every packet is accounted for", false);
  }

  setText("interfaces", status.interfaces.map((point) => point.name + " (" + manner(point) + ")").join(", ") || "none");
  setText("drain", drain === null ? "none yet" : durationText(drain.age_seconds) + " ago");
  setText("conservation", grouped.format(status.conservation.error));
  setText("overflow", grouped.format(status.overflow.packets) + " packets");
  setText("uptime", durationText(status.uptime_seconds));

  const totals = status.totals;
  const now = {
    at: drain === null ? null : drain.at,
    connections: totals.connections,
    packets: totals.c2s_packets + totals.s2c_packets,
    bytes: totals.c2s_bytes + totals.s2c_bytes,
  };
  if (previous === null || previous.started !== status.started_at) {
    previous = { ...now, started: status.started_at };
    rates = null;
  } else if (now.at !== null && now.at !== previous.at) {
    const seconds = previous.at === null ? 0 : (Date.parse(now.at) - Date.parse(previous.at)) / 1000;
    rates = seconds <= 0 ? null : {
      connections: (now.connections - previous.connections) / seconds,
      packets: (now.packets - previous.packets) / seconds,
      bytes: (now.bytes - previous.bytes) / seconds,
    };
    previous = { ...now, started: status.started_at };
  }
  setText("connections", grouped.format(now.connections));
  setText("sources", grouped.format(status.sources_kept));
  setText("packets", grouped.format(now.packets));
  setText("bytes", bytesText(now.bytes));
  element("bytes").title = grouped.format(now.bytes) + " bytes";
  setText("sources-note", drain === null ? "" : grouped.format(drain.sources) + " in the last window");
  if (rates !== null) {
    setText("connections-note", rateText(rates.connections) + " per second");
    setText("packets-note", rateText(rates.packets) + " per second");
    setText("bytes-note", bytesText(Math.round(rates.bytes)) + " per second");
  }
}

function cell(value, text) {
  const node = document.createElement("td");
  node.textContent = text;
  if (value === 0) node.className = "none";
  return node;
}

function bytesCell(bytes) {
  const node = cell(bytes, bytesText(bytes));
  node.title = grouped.format(bytes) + " bytes";
  return node;
}

function sourceRow(source) {
  const row = document.createElement("tr");
  const address = document.createElement("th");
  address.scope = "row";
  address.className = "text";
  address.textContent = source.addr;
  const scope = document.createElement("td");
  scope.className = "text scope";
  scope.textContent = source.scope;
  row.append(address, scope);
  const count = (value) => row.append(cell(value, grouped.format(value)));
  const { total, window: last } = source;
  count(total.connections);
  count(total.syn_retx);
  count(total.answered);
  count(total.refused);
  count(total.c2s_packets);
  row.append(bytesCell(total.c2s_bytes));
  const mean = total.c2s_packets === 0 ? 0 : total.c2s_bytes / total.c2s_packets;
  row.append(cell(mean, total.c2s_packets === 0 ? "\u2013" : mean.toFixed(1)));
  count(total.s2c_packets);
  row.append(bytesCell(total.s2c_bytes));
  count(last.connections);
  count(last.c2s_packets);
  row.append(bytesCell(last.c2s_bytes));
  return row;
}

function showSources(answer) {
  const rows = answer.sources.map(sourceRow);
  if (rows.length === 0) {
    const row = document.createElement("tr");
    const node = document.createElement("td");
    node.colSpan = 14;
    node.className = "empty";
    node.textContent = query.filter === "" ? "No mail traffic yet" : "No source passes the filter";
    row.append(node);
    rows.push(row);
  }
  element("rows").replaceChildren(...rows);
  const from = answer.offset + 1;
  const to = answer.offset + answer.sources.length;
  setText("page", (to >= from ? grouped.format(from) + "\u2013" + grouped.format(to) : "0") + " of " + grouped.format(answer.total));
  element("previous").disabled = answer.offset === 0;
  element("next").disabled = to >= answer.total;
}

function showProblem(text) {
  setText("problem", text);
  if (text === "") element("filter").removeAttribute("aria-invalid");
  else element("filter").setAttribute("aria-invalid", "true");
}

async function refresh() {
  if (running) {
    again = true;
    return;
  }
  running = true;
  clearTimeout(timer);
  try {
    const parameters = new URLSearchParams(query);
    const [status, sources] = await Promise.all([
      ask("api/v1/status"),
      ask("api/v1/sources?" + parameters),
    ]);
    if (!status.ok) throw new Error(status.body.error);
    lastAnswer = new Date();
    showStatus(status.body);
    if (sources.ok) {
      showProblem("");
      showSources(sources.body);
    } else {
      showProblem(sources.body.error);
    }
  } catch (error) {
    const time = lastAnswer.toLocaleTimeString();
    const why = error instanceof Error && error.name === "Error" ? " (" + error.message + ")" : "";
    setState("bad", "The agent does not answer" + why + ": these figures are of " + time, true);
  } finally {
    running = false;
    if (again) {
      again = false;
      refresh();
    } else {
      plan();
    }
  }
}

function plan() {
  clearTimeout(timer);
  if (document.visibilityState === "visible") timer = setTimeout(refresh, PERIOD);
}

function sortBy(header) {
  const key = header.dataset.sort;
  if (query.sort === key) {
    query.order = query.order === "desc" ? "asc" : "desc";
  } else {
    query.sort = key;
    query.order = key === "addr" ? "asc" : "desc";
  }
  query.offset = 0;
  for (const other of document.querySelectorAll("#columns th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", query.order === "desc" ? "descending" : "ascending");
  refresh();
}

function start() {
  for (const header of document.querySelectorAll("#columns th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sortBy(header));
    header.replaceChildren(button);
  }
  let typing = null;
  element("filter").addEventListener("input", (event) => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      query.filter = event.target.value.trim();
      query.offset = 0;
      refresh();
    }, 300);
  });
  element("limit").addEventListener("change", (event) => {
    query.limit = Number(event.target.value);
    query.offset = 0;
    refresh();
  });
  element("previous").addEventListener("click", () => {
    query.offset = Math.max(0, query.offset - query.limit);
    refresh();
  });
  element("next").addEventListener("click", () => {
    query.offset += query.limit;
    refresh();
  });
  element("controls").addEventListener("submit", (event) => event.preventDefault());
  element("controls").hidden = false;
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") refresh();
    else clearTimeout(timer);
  });
  refresh();
}

start();
