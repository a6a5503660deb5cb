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
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    document.querySelector("#txt2img_generate")?.click();
  }
});

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
