// What the page does by itself. The server never waits for any of it.

const tips = __TIPS__;

// The forms as they are left, kept in this browser. Changes that come together are written once.
const REMEMBERED = "cloudbrush-form";
const NAMES = __NAMES__;
const TOGETHER = 50; // milliseconds
const EDITOR_LOOK = 100;
let changed = null;
function write() {
  if (changed) localStorage.setItem(REMEMBERED, JSON.stringify(changed));
  changed = null;
}
window.cloudbrush = {
  remember(values) {
    if (!changed) setTimeout(write, TOGETHER);
    changed = Object.fromEntries(NAMES.map((name, i) => [name, values[i]]));
  },
  remembered: () => JSON.parse(localStorage.getItem(REMEMBERED)),
  // Resolves when the editor of the Inpaint tab can take a picture, at the earliest when it is first opened.
  async editorReady() {
    const layers = () => document.querySelector("#img2maskimg canvas") && window.editor?.layer_manager?.get_layers();
    while (!layers()?.length) await new Promise((resume) => setTimeout(resume, EDITOR_LOOK));
    await new Promise((resume) => requestAnimationFrame(() => requestAnimationFrame(resume)));
  },
};
addEventListener("pagehide", write);

// A tooltip is put on the first time a control is touched or focused, whenever Gradio made it.
function explain(event) {
  const control = event.target.closest?.("[id]");
  for (let box = control; box; box = box.parentElement?.closest("[id]")) {
    if (!(box.id in tips)) continue;
    box.title = tips[box.id];
    if (event.target.matches("input, textarea, button")) event.target.setAttribute("aria-description", tips[box.id]);
    return;
  }
}
document.addEventListener("pointerover", explain);
document.addEventListener("focusin", explain);

document.addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  if (event.key === "Enter") {
    event.preventDefault();
    generate()?.click();
  } else if (event.key in STEPS && event.target.matches(PROMPTS)) {
    event.preventDefault();
    weigh(event.target, STEPS[event.key]);
  }
});

// The Generate button of the tab that is open.
function generate() {
  return [...document.querySelectorAll(".generate")].find((button) => button.getClientRects().length);
}

// Ctrl+Up and Ctrl+Down in a prompt box: the weight of the selection, or of the brackets or word at the caret.
const PROMPTS = ".counted textarea";
const STEPS = { ArrowUp: 0.1, ArrowDown: -0.1 };

function weigh(box, step) {
  const text = box.value;
  let { selectionStart: start, selectionEnd: end } = box;
  if (start === end) [start, end] = bracketsAt(text, start) ?? wordAt(text, start);
  if (start === end) return;
  const inner = text.slice(start, end);
  let [head, tail, weight] = [text.slice(0, start), text.slice(end), 1];
  const written = /^:(-?[\d.]+)\)/.exec(tail);
  if (head.endsWith("(") && written) {
    [head, tail, weight] = [head.slice(0, -1), tail.slice(written[0].length), Number(written[1])];
  }
  weight = Math.round((weight + step) * 100) / 100;
  const plain = weight === 1;
  fill(box, head + (plain ? inner : `(${inner}:${weight})`) + tail);
  const from = head.length + (plain ? 0 : 1);
  box.setSelectionRange(from, from + inner.length);
}

function fill(box, text) {
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
}

function bracketsAt(text, caret) {
  const open = text.lastIndexOf("(", caret - 1);
  const close = text.indexOf(")", caret);
  if (open < 0 || close < 0 || text.slice(open + 1, caret).includes(")")) return null;
  const inside = /^([^()]*):-?[\d.]+$/.exec(text.slice(open + 1, close));
  return inside ? [open + 1, open + 1 + inside[1].length] : null;
}

function wordAt(text, caret) {
  const before = /[^\s,.()[\]{}<>|:;!?]*$/.exec(text.slice(0, caret))[0];
  const after = /^[^\s,.()[\]{}<>|:;!?]*/.exec(text.slice(caret))[0];
  return [caret - before.length, caret + after.length];
}

// A click on a card beside Generation puts its tag or word into the prompt box, or takes it out again. Words go
// into the negative prompt if that was the box a person wrote in last.
let writtenIn = null;
document.addEventListener("focusin", (event) => {
  if (event.target.matches(".prompts textarea")) writtenIn = event.target;
});
document.addEventListener("click", (event) => {
  const card = event.target.closest?.("[data-insert]");
  if (!card) return;
  const task = card.closest(".extra-tabs").id.split("_")[0];
  const [prompt, negative] = document.querySelectorAll(`#${task}_prompts textarea`);
  const box = card.dataset.place === "either" && writtenIn === negative ? negative : prompt;
  const words = card.dataset.insert;
  const kept = box.value.split(words);
  if (kept.length > 1) fill(box, kept.map((part) => part.trim()).filter(Boolean).join(" "));
  else fill(box, [box.value.trimEnd(), words].filter(Boolean).join(" "));
});
document.addEventListener("input", (event) => {
  const search = event.target.closest?.(".network-search");
  if (!search) return;
  const wanted = event.target.value.toLowerCase();
  const cards = document.getElementById(search.id.replace("extra_search", "cards"));
  for (const card of cards.querySelectorAll(".card-item")) {
    card.hidden = !card.dataset.search.toLowerCase().includes(wanted);
  }
});

// A value that was refused is marked at its own control, until it is changed or the refusal is gone.
function mark(control, words) {
  const box = control.querySelector("input, textarea");
  control.dataset.refused = words;
  box?.setAttribute("aria-invalid", "true");
  control.scrollIntoView({ block: "nearest" });
  const unmark = () => {
    delete control.dataset.refused;
    box?.removeAttribute("aria-invalid");
  };
  for (const change of ["input", "click"]) control.addEventListener(change, unmark, { once: true });
  return unmark;
}
const refusals = new Map(); // by the refusal's id: what takes its mark away
function markRefused() {
  const told = [...document.querySelectorAll("[data-refusal]")];
  const ids = new Set(told.map((notice) => notice.dataset.refusal));
  for (const [id, unmark] of refusals) {
    if (ids.has(id)) continue;
    unmark();
    refusals.delete(id);
  }
  for (const notice of told.filter((notice) => !refusals.has(notice.dataset.refusal))) {
    const control = document.getElementById(notice.dataset.control);
    if (control) refusals.set(notice.dataset.refusal, mark(control, notice.querySelector("b").textContent));
  }
}
new MutationObserver(markRefused).observe(document.getElementById("columns"), { childList: true, subtree: true });

// Buttons that only show a symbol are named by their tooltip, also those of tabs that are opened later.
function nameTools() {
  const unnamed = document.querySelectorAll("button.tool:not([aria-label])");
  for (const button of unnamed) button.setAttribute("aria-label", tips[button.id]);
}
new MutationObserver(nameTools).observe(document.getElementById("columns"), { childList: true, subtree: true });
nameTools();

// Screen readers are told of changes here.
const announced = { txt2img_state: "polite", notice: "assertive", cloud_endpoint_note: "polite" };
for (const [id, manner] of Object.entries(announced)) {
  document.getElementById(id)?.setAttribute("aria-live", manner);
}

// When the server stops while it tells of a job, the page waits until it answers and loads again. That
// loses nothing, and happens at most once in a while, so that a fault cannot make it load for ever.
const RELOADED = "cloudbrush-reloaded";
const PAUSE = 2000;
const ENOUGH = 20000;
let waiting = false;
async function comeBack() {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, PAUSE));
    const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
    if (answer?.ok) break;
  }
  sessionStorage.setItem(RELOADED, Date.now());
  location.reload();
}
new MutationObserver(() => {
  if (waiting || !document.querySelector("#txt2img_results [data-testid=status-tracker] .error")) return;
  waiting = true;
  if (Date.now() - Number(sessionStorage.getItem(RELOADED)) > ENOUGH) comeBack();
}).observe(document.getElementById("txt2img_results"), { childList: true, subtree: true });
