// Keeps in this tab what a page loses when it is left, for who is logged in: what was typed and not sent, and to
// what a list was narrowed.

const FIELDS = "main form[method=post] :is(textarea, select)";

let sites = null;

function start() {
  return `${document.body.dataset.person} `;
}

function name(field) {
  return `${start()}${document.body.dataset.address} ${field.id}`;
}

function fillIn() {
  for (const field of document.querySelectorAll(FIELDS)) {
    const typed = sessionStorage.getItem(name(field));
    if (typed === null || typed === field.value) continue;
    if (field.matches("select") && ![...field.options].some((one) => one.value === typed)) continue;
    field.value = typed;
    const fold = field.closest("details");
    if (fold) fold.open = true;
  }
}

// On a shared handheld nobody finds what somebody else typed.
for (const key of Object.keys(sessionStorage)) {
  if (!key.startsWith(start())) sessionStorage.removeItem(key);
}

document.addEventListener("input", (typed) => {
  const field = typed.target;
  if (field.matches(FIELDS)) sessionStorage.setItem(name(field), field.value);
});

document.addEventListener("andon:done", (done) => {
  for (const field of done.target.querySelectorAll("textarea, select")) sessionStorage.removeItem(name(field));
});

// "Back to the list" leads to the list as it was left.
function leadBack() {
  const back = document.querySelector("a.back");
  const list = `${start()}list ${back ? new URL(back.href).pathname : location.pathname}`;
  if (back) back.href = sessionStorage.getItem(list) ?? back.href;
  else sessionStorage.setItem(list, document.body.dataset.address);
}

// The site that was chosen may be far to the right.
function showSite() {
  const shown = document.querySelector(".sites");
  if (!shown || shown === sites) return;
  sites = shown;
  const chosen = sites.querySelector("[aria-current]");
  sites.scrollLeft = chosen.offsetLeft - (sites.clientWidth - chosen.offsetWidth) / 2;
}

function arrive() {
  fillIn();
  leadBack();
  showSite();
}

arrive();
document.addEventListener("andon:fresh", arrive);
