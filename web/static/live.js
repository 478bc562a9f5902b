// Refreshes what is marked data-live, and tails a log.  Nothing more: every page works without it.
"use strict";

const EVERY_MS = 5000;
const AGAIN_MS = 2000;
const MOST_SHOWN = 1000000;

let isPaused = false;
let lastGood = new Date();

function isBusyWith(element) {
  const selection = document.getSelection();
  const hasSelection = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
  return hasSelection || element.contains(document.activeElement);
}

// Take over what changed; what a person is using just now is left alone until the next time.
function takeOver(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next || next.outerHTML === old.outerHTML || isBusyWith(old)) continue;
    for (const details of old.querySelectorAll("details[open]")) {
      const index = [...old.querySelectorAll("details")].indexOf(details);
      const same = next.querySelectorAll("details")[index];
      if (same) same.open = true;
    }
    if (next.dataset.announce && next.dataset.announce !== old.dataset.announce) {
      document.getElementById("announce").textContent = next.dataset.announce;
      document.title = fresh.title;
    }
    old.replaceWith(document.adoptNode(next));
  }
}

function sayLost(isLost) {
  const lost = document.getElementById("lost");
  if (!isLost) lastGood = new Date();
  document.getElementById("lost-since").textContent = lastGood.toLocaleTimeString();
  lost.hidden = !isLost;
}

async function refresh() {
  if (isPaused || document.hidden) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
    sayLost(false);
  } catch {
    sayLost(true);
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function append(pane, text) {
  if (!text) return;
  const isAtEnd = pane.scrollTop + pane.clientHeight >= pane.scrollHeight - 8;
  pane.append(text);
  if (pane.textContent.length > MOST_SHOWN) pane.textContent = pane.textContent.slice(-MOST_SHOWN / 2);
  if (isAtEnd) pane.scrollTop = pane.scrollHeight;
}

async function follow(pane) {
  const says = document.getElementById("log-state");
  let state = pane.dataset.state;
  let offset = Number(pane.dataset.offset);
  pane.scrollTop = pane.scrollHeight;
  for (;;) {
    if (isPaused || document.hidden) {
      await wait(AGAIN_MS);
      continue;
    }
    try {
      const answer = await fetch(`${pane.dataset.log}?offset=${offset}`);
      if (!answer.ok) throw new Error(answer.status);
      const from = Number(answer.headers.get("X-Offset"));
      const text = await answer.text();
      if (from !== offset) pane.textContent = "";
      append(pane, text);
      offset = Number(answer.headers.get("X-Next-Offset"));
      if (pane.textContent) says.textContent = "";
      if (answer.headers.get("X-Job-State") !== state) {
        state = answer.headers.get("X-Job-State");
        refresh();
      }
      // A job that has ended may be retried: then the page goes on here.
      if (answer.headers.get("X-Log-Ended")) await wait(EVERY_MS);
      else if (answer.headers.get("Retry-After")) await wait(AGAIN_MS);
    } catch {
      says.textContent = "The live log has stopped; it goes on trying.";
      await wait(AGAIN_MS);
    }
  }
}

function offerPause() {
  const button = document.getElementById("pause");
  button.hidden = false;
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    if (!isPaused) refresh();
  });
}

if (document.querySelector("main [data-live]")) {
  offerPause();
  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", refresh);
}
for (const pane of document.querySelectorAll("[data-log]")) follow(pane);
