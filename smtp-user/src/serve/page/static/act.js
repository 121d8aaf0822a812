// Changes verdicts, known relays and complaints, decides about notices, and asks before it does.
//
// Contract: nothing is sent before somebody has read what will happen and has said who and why. The act
// token is kept in this tab's session only. What the server refuses is shown as its own text. Texts are
// set as text, never as markup.

import { refresh } from "./app.js";

const PATIENCE = 15000; // milliseconds until a request is given up

const stored = {
  get(place, key) {
    try {
      return place.getItem(key) ?? "";
    } catch {
      return "";
    }
  },
  set(place, key, value) {
    try {
      if (value === "") place.removeItem(key);
      else place.setItem(key, value);
    } catch {
      // Storage is forbidden: it is asked for again next time.
    }
  },
};

/** Sends a change; gives nothing if it was made, else why not. */
async function send(path, body, token) {
  const headers = { "content-type": "application/json" };
  // Without one, the browser's own login has to do; with one it must not ask for another.
  const credentials = token === "" ? "same-origin" : "omit";
  if (token !== "") headers.authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      credentials,
      headers,
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch (error) {
    return { text: `the agent did not answer (${error.message}); look whether it was done before you try again` };
  }
  if (response.ok) return null;
  let text = `status ${response.status}`;
  try {
    text = (await response.json()).error ?? text;
  } catch {
    // No JSON: the status has to do.
  }
  return { text, token: response.status === 401 || response.status === 403 };
}

function refuse(dialog, text) {
  const place = dialog.querySelector(".refusal");
  place.textContent = text;
  place.hidden = text === "";
}

/** Opens a dialog; `work` is given the values of its fields, and gives why something was refused. */
function ask(dialog, work) {
  const form = dialog.querySelector("form");
  form.who.value = stored.get(localStorage, "who");
  form.token.value = stored.get(sessionStorage, "act-token");
  refuse(dialog, "");
  form.onsubmit = async (event) => {
    event.preventDefault();
    const values = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
    stored.set(localStorage, "who", values.who);
    stored.set(sessionStorage, "act-token", values.token);
    const button = form.querySelector(".do");
    button.disabled = true;
    form.setAttribute("aria-busy", "true");
    const refused = await work(values);
    button.disabled = false;
    form.removeAttribute("aria-busy");
    await refresh();
    if (refused.length === 0) {
      dialog.close();
      return;
    }
    if (refused.some((refusal) => refusal.token)) {
      stored.set(sessionStorage, "act-token", "");
      form.token.focus();
    }
    refuse(dialog, refused.map((refusal) => refusal.text).join("\n"));
  };
  dialog.showModal();
  const empty = [...form.elements].find((field) => field.required && field.value === "" && !field.readOnly);
  (empty ?? form.querySelector(".do")).focus();
}

// --- Verdicts ---------------------------------------------------------------------------------------

const may = (verdict, state) => verdict.dataset.may.split(" ").includes(state);

/** The verdicts that a button is about. */
function targets(button) {
  const all = [...document.querySelectorAll("main [data-verdict]")];
  switch (button.dataset.scope) {
    case "open":
      return all.filter((verdict) => verdict.dataset.open === "true");
    case "chosen":
      return all.filter((verdict) => verdict.checked);
    default:
      return [button.closest("[data-verdict]")];
  }
}

function changeVerdicts(button) {
  const dialog = document.getElementById("act");
  const state = button.dataset.act;
  const about = targets(button);
  const able = about.filter((verdict) => may(verdict, state));
  let left = able.map((verdict) => ({ id: verdict.dataset.verdict, text: verdict.dataset.text }));
  const list = dialog.querySelector("#act-verdicts");
  const show = () => {
    list.replaceChildren(
      ...left.map(({ text }) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      }),
    );
    if (about.length > able.length) {
      const item = document.createElement("li");
      item.className = "dim";
      item.textContent = `${about.length - able.length} more cannot, in the state that they are in: they are left alone`;
      list.append(item);
    }
  };
  show();
  let name = "";
  for (const effect of dialog.querySelectorAll(".effect")) {
    effect.hidden = effect.dataset.state !== state;
    if (!effect.hidden) name = effect.dataset.name;
  }
  const many = left.length === 1 ? "1 verdict" : `${left.length} verdicts`;
  dialog.querySelector("#act-title").textContent = `${name}: ${many}`;
  const act = dialog.querySelector(".do");
  act.textContent = name;
  dialog.querySelector("form").why.value = "";
  ask(dialog, async ({ who, why, token }) => {
    const refused = [];
    const again = [];
    for (const verdict of left) {
      const refusal = await send(`/api/v1/verdicts/${verdict.id}`, { state, who, why }, token);
      if (refusal === null) continue;
      refused.push({ ...refusal, text: left.length > 1 ? `#${verdict.id}: ${refusal.text}` : refusal.text });
      again.push(verdict);
      // The others would be refused for the same reason.
      if (refusal.token) {
        again.push(...left.slice(left.indexOf(verdict) + 1));
        break;
      }
    }
    left = again;
    show();
    return refused;
  });
  act.disabled = left.length === 0;
}

/** How many are chosen, and which buttons make sense for them. */
function countChosen() {
  const note = document.getElementById("chosen");
  if (!note) return;
  const chosen = [...document.querySelectorAll("main [data-verdict]")].filter((verdict) => verdict.checked);
  const text = chosen.length === 0 ? "none chosen" : `${chosen.length} chosen`;
  // Only what differs: every change is looked at again.
  if (note.textContent !== text) note.textContent = text;
  for (const button of document.querySelectorAll('[data-scope="chosen"]')) {
    button.disabled = !chosen.some((verdict) => may(verdict, button.dataset.act));
  }
}

function choose(all) {
  for (const verdict of document.querySelectorAll("main input[data-verdict]")) verdict.checked = all;
}

// --- Known relays -----------------------------------------------------------------------------------

function addRelay(button) {
  const dialog = document.getElementById("relay");
  const form = dialog.querySelector("form");
  form.reset();
  form.prefix.value = button.dataset.relay;
  ask(dialog, async ({ prefix, reason, owner, expires, connections, who, token }) => {
    const body = { prefix, reason, owner, who };
    if (expires !== "") body.expires = expires;
    if (connections !== "") body.connections = Number(connections);
    const refusal = await send("/api/v1/relays", body, token);
    return refusal === null ? [] : [refusal];
  });
}

function expireRelay(button) {
  const dialog = document.getElementById("expire");
  const form = dialog.querySelector("form");
  form.reset();
  form.prefix.value = button.dataset.expire;
  ask(dialog, async ({ prefix, who, why, token }) => {
    const refusal = await send("/api/v1/relays/expire", { prefix, who, why }, token);
    return refusal === null ? [] : [refusal];
  });
}

// --- Complaints -------------------------------------------------------------------------------------

function addComplaint(button) {
  const dialog = document.getElementById("complaint");
  const form = dialog.querySelector("form");
  form.reset();
  form.addr.value = button.dataset.complaint;
  ask(dialog, async ({ addr, kind, reporter, reference, time, incidents, who, token }) => {
    const body = { addr, kind, reporter, who };
    if (reference !== "") body.reference = reference;
    if (time !== "") body.time = time;
    if (incidents !== "") body.incidents = Number(incidents);
    const refusal = await send("/api/v1/complaints", body, token);
    return refusal === null ? [] : [refusal];
  });
}

function withdrawComplaint(button) {
  const dialog = document.getElementById("withdraw");
  const form = dialog.querySelector("form");
  form.reset();
  form.id.value = button.dataset.withdraw;
  ask(dialog, async ({ id, who, why, token }) => {
    const refusal = await send(`/api/v1/complaints/${id}/withdraw`, { who, why }, token);
    return refusal === null ? [] : [refusal];
  });
}

// --- Notices ----------------------------------------------------------------------------------------

function decideNotice(button) {
  const dialog = document.getElementById("decide");
  const { notice, to: state } = button.dataset;
  let name = "";
  for (const effect of dialog.querySelectorAll(".effect")) {
    effect.hidden = effect.dataset.state !== state;
    if (!effect.hidden) name = effect.dataset.name;
  }
  dialog.querySelector("#decide-title").textContent = `${name} notice #${notice}`;
  dialog.querySelector(".do").textContent = name;
  dialog.querySelector("form").why.value = "";
  ask(dialog, async ({ who, why, token }) => {
    const refusal = await send(`/api/v1/notices/${notice}`, { state, who, why }, token);
    return refusal === null ? [] : [refusal];
  });
}

// --- Events -----------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.act !== undefined) changeVerdicts(button);
  else if (button.dataset.relay !== undefined) addRelay(button);
  else if (button.dataset.expire !== undefined) expireRelay(button);
  else if (button.dataset.complaint !== undefined) addComplaint(button);
  else if (button.dataset.withdraw !== undefined) withdrawComplaint(button);
  else if (button.dataset.notice !== undefined) decideNotice(button);
  else if (button.classList.contains("cancel")) button.closest("dialog").close();
});
document.addEventListener("change", (event) => {
  if (event.target.id === "choose-all") choose(event.target.checked);
  if (event.target.matches("input[type=checkbox]")) countChosen();
});
// Rows come and go with every window.
new MutationObserver(countChosen).observe(document.getElementById("main"), { childList: true, subtree: true });
document.documentElement.classList.add("acting");
countChosen();
