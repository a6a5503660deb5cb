// What the page does by itself. The server never waits for any of it.

const tips = __TIPS__;

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
    document.querySelector("#txt2img_generate")?.click();
  } else if (event.key in STEPS && event.target.matches(PROMPTS)) {
    event.preventDefault();
    weigh(event.target, STEPS[event.key]);
  }
});

// Ctrl+Up and Ctrl+Down in a prompt box: the weight of the selection, or of the brackets or word at the caret.
const PROMPTS = "#txt2img_prompt textarea, #txt2img_neg_prompt textarea";
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
  box.value = head + (plain ? inner : `(${inner}:${weight})`) + tail;
  const from = head.length + (plain ? 0 : 1);
  box.setSelectionRange(from, from + inner.length);
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

// Buttons that only show a symbol are named by their tooltip.
for (const button of document.querySelectorAll('button.tool')) button.setAttribute('aria-label', tips[button.id]);

// Screen readers are told of changes here.
const announced = { txt2img_state: "polite", txt2img_notice: "assertive", cloud_endpoint_note: "polite" };
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
