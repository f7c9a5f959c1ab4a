// Keeps a page right without reloading it: listens for changes and fetches what the page shows anew.
// Only elements with data-live and an id are exchanged, so that what a person is typing stays.
// Sends what a person commands, and shows the page that answers it: without an answer the page stays.

const PAUSE_MS = 150;
const SPREAD_MS = 250;
const RETRY_MS = 3000;
const AFTER_TOUCH_MS = 300;
// A release may never be told (a menu of the browser or of the system took it): nobody presses for longer.
const LONGEST_TOUCH_MS = 5000;
const ANSWER_WITHIN_MS = 10_000;
// The collector says that it is there every 15 s: a link that died without a word is noticed by this.
const SILENT_MS = 40_000;
const LOOK_MS = 5000;
// A command whose answer does not come may be sent again: its key makes that harmless.
const SENT_FOR_MS = 20_000;
// Browsers take 64 KiB of all that may outlive a page together.
const OUTLIVES_CHARACTERS = 30_000;
const NO_CONNECTION = "no connection";
// What a proxy answers when the collector is away (502, 504), and the collector when its database is (503).
const MISSED = { 502: NO_CONNECTION, 503: "the collector is not ready", 504: NO_CONNECTION };

let link = ["", ""];
let commands = 0;
let running = false;
let again = false;
let timer = 0;
let touching = false;
let release = 0;

// A list that moves under a thumb makes it hit the wrong thing: nothing is exchanged while a finger is down.
addEventListener("pointerdown", (press) => {
  if (!press.isPrimary || press.button !== 0) return;
  touching = true;
  letGoIn(LONGEST_TOUCH_MS);
}, { passive: true });
for (const name of ["pointerup", "pointercancel"]) {
  addEventListener(name, (press) => {
    if (press.isPrimary) letGoIn(AFTER_TOUCH_MS);
  }, { passive: true });
}
for (const name of ["contextmenu", "blur", "visibilitychange"]) {
  addEventListener(name, () => letGoIn(AFTER_TOUCH_MS), { passive: true });
}

function letGoIn(ms) {
  clearTimeout(release);
  release = setTimeout(() => {
    touching = false;
    catchUp();
  }, ms);
}

// A command is under way: an exchanged form would take a second tap.
function leaving() {
  return document.querySelector("main form[data-sent]") !== null;
}

function show(state, words) {
  link = [state, words];
  const sign = document.querySelector("[data-link-state]");
  if (!sign) return;
  sign.dataset.state = state;
  sign.textContent = words;
}

// A command that was refused shows the page at the address of the command, which cannot be asked for.
function address() {
  const { pathname, search } = new URL(document.body.dataset.address ?? location.href, location.origin);
  return pathname + search;
}

async function refresh() {
  if (!document.querySelector("[data-live]")) return;
  if (running || touching) {
    again = true;
    return;
  }
  running = true;
  const before = commands;
  try {
    const answer = await fetch(address(), {
      headers: { "X-Live": "1", Accept: "text/html" },
      // Handhelds live long: browsers before 2022 do without.
      signal: AbortSignal.timeout?.(ANSWER_WITHIN_MS),
    });
    if (answer.redirected && new URL(answer.url).pathname === "/login") {
      location.reload();
      return;
    }
    const text = await answer.text();
    // What was asked for before a command does not know of it.
    if (!answer.ok || leaving() || commands !== before) return;
    if (touching) {
      again = true;
      return;
    }
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const { person, now } = fresh.body.dataset;
    // What stands in front may answer with a page of its own.
    if (!person) return;
    // Another tab logged somebody else in, who would send what this page shows of another.
    if (person !== document.body.dataset.person) {
      location.reload();
      return;
    }
    document.body.dataset.now = now;
    for (const part of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(part.id);
      const was = next?.outerHTML;
      if (next && was !== part.dataset.was) exchange(part, next).dataset.was = was;
    }
    // Who types sees what changes meanwhile; the form that they send says so.
    for (const mine of document.querySelectorAll("form[action] input[name=version]")) {
      const form = mine.form;
      const path = CSS.escape(form.getAttribute("action"));
      const next = fresh.querySelector(`form[action="${path}"] input[name=version]`);
      if (next) mine.value = next.value;
    }
    document.dispatchEvent(new CustomEvent("andon:fresh"));
  } catch {
    // The stream notices a lost link; what is shown stays.
  } finally {
    running = false;
    catchUp();
  }
}

function catchUp() {
  if (!again || running || touching) return;
  again = false;
  soon();
}

function exchange(part, next) {
  const held = document.activeElement;
  const heldName = part.contains(held) ? held.dataset.focus : null;
  // What a command led to is not said of what came after it.
  if (part.dataset.out !== next.dataset.out) document.querySelector("main > .said")?.remove();
  const adopted = document.adoptNode(next);
  for (const one of adopted.querySelectorAll("details[data-key]")) {
    const before = part.querySelector(`details[data-key="${CSS.escape(one.dataset.key)}"]`);
    if (before) one.open = before.open;
  }
  for (const said of part.querySelectorAll("form > .said")) {
    const action = CSS.escape(said.parentElement.getAttribute("action"));
    adopted.querySelector(`form[action="${action}"]`)?.append(said);
  }
  part.replaceWith(adopted);
  if (heldName) adopted.querySelector(`[data-focus="${CSS.escape(heldName)}"]`)?.focus();
  return adopted;
}

function soon() {
  clearTimeout(timer);
  timer = setTimeout(refresh, PAUSE_MS + Math.random() * SPREAD_MS);
}

let stream = null;
let heard = 0;

// A browser keeps few connections to one address: a page that nobody sees gives its own back.
function listen() {
  if (stream || document.hidden) return;
  stream = new EventSource("/live");
  heard = Date.now();
  let opened = false;
  stream.addEventListener("open", () => {
    opened = true;
    heard = Date.now();
    show("live", "Live");
    soon();
  });
  for (const [name, news] of [["change", true], ["reload", true], ["ping", false]]) {
    stream.addEventListener(name, () => {
      heard = Date.now();
      if (news) soon();
    });
  }
  stream.addEventListener("error", () => {
    show("away", opened ? "Reconnecting" : "No connection");
    if (stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(listen, RETRY_MS);
      soon();
    }
  });
}

function rest() {
  stream?.close();
  stream = null;
  show("away", "Connecting");
}

function lookAtStream() {
  if (!stream || stream.readyState !== EventSource.OPEN || Date.now() - heard < SILENT_MS) return;
  rest();
  listen();
}

addEventListener("pageshow", (shown) => {
  if (shown.persisted) location.reload();
});
addEventListener("online", soon);

// What a command led to is said once, not again at every reload.
history.replaceState(null, "", address() + location.hash);

// One tap is one command: a second tap on the same form does nothing.
document.addEventListener("submit", (sent) => {
  const form = sent.target;
  if (form.method !== "post") return;
  sent.preventDefault();
  if (form.dataset.sent) return;
  if (form.closest("main")) send(form, sent.submitter);
  else logOut(form, sent.submitter);
});

// What was on the page does not stay; but who could not be logged out has to know.
async function logOut(form, button) {
  document.querySelector("main > .said")?.remove();
  const { missed, page, redirected, url } = await post(form, button);
  if (redirected) {
    location.replace(url);
  } else if (missed) {
    onTop(refusal(`${document.body.dataset.person} may still be logged in: ${missed}. Tap again.`));
  } else turnTo(page);
}

async function send(form, button) {
  commands += 1;
  form.querySelector(".said")?.remove();
  const { missed, page, redirected, url } = await post(form, button);
  // Nobody who has to log in first, or is refused, has said it yet.
  if (redirected && url.pathname !== "/login") {
    form.dispatchEvent(new CustomEvent("andon:done", { bubbles: true }));
  }
  if (leaves(redirected, url)) {
    location.assign(url);
    return;
  }
  if (missed) {
    const said = refusal(`Not sent: ${missed}. Tap again.`);
    // The answer to another command may have exchanged the page meanwhile.
    if (form.isConnected) form.append(said);
    else onTop(said);
  // The answer to another command that is under way will show what became of this one too.
  } else if (!redirected || !leaving()) turnTo(page);
  soon();
}

// What answers a command: `page`, `redirected`, `url`; or `missed`, why no answer came or none that counts.
// Whoever stays on the page can send it again.
async function post(form, button) {
  const words = button?.innerHTML;
  const told = answered(form.action, new URLSearchParams(new FormData(form)));
  form.dataset.sent = "1";
  if (button?.dataset.busy) {
    button.disabled = true;
    button.textContent = button.dataset.busy;
  }
  const answer = await told;
  if (answer.missed) listenAnew();
  if (!leaves(answer.redirected, answer.url)) {
    delete form.dataset.sent;
    if (button) {
      button.disabled = false;
      button.innerHTML = words;
    }
  }
  return answer;
}

function leaves(redirected, url) {
  return redirected && url.pathname !== location.pathname;
}

async function answered(action, body) {
  const patience = new AbortController();
  const end = setTimeout(() => patience.abort(), SENT_FOR_MS);
  try {
    const answer = await fetch(action, {
      method: "POST",
      headers: { Accept: "text/html" },
      // Who taps and leaves the page has sent it.
      keepalive: body.toString().length <= OUTLIVES_CHARACTERS,
      body,
      signal: patience.signal,
    });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const missed = MISSED[answer.status];
    return missed ? { missed } : { page, redirected: answer.redirected, url: new URL(answer.url) };
  } catch {
    return { missed: NO_CONNECTION };
  } finally {
    clearTimeout(end);
  }
}

function refusal(words) {
  const said = document.createElement("p");
  said.className = "said bad";
  said.setAttribute("role", "alert");
  said.textContent = words;
  return said;
}

function onTop(said) {
  document.querySelector("main").prepend(said);
}

// Nor does the stream hear anything, and may not know it yet.
function listenAnew() {
  if (!stream) return;
  rest();
  listen();
}

function turnTo(page) {
  exchange(document.body, page.body);
  document.title = page.title;
  // A refusal may be told on another page: that of the ticket instead of the list.
  if (address() !== location.pathname + location.search) history.pushState(null, "", address());
  show(...link);
  // Good news shows where the tap was.
  document.querySelector(".said.bad, .said.warn")?.scrollIntoView();
  document.dispatchEvent(new CustomEvent("andon:fresh"));
}

addEventListener("popstate", () => {
  if (address() !== location.pathname + location.search) location.reload();
});

// Some parts show what no ticket tells, such as when a gateway was last heard.
for (const part of document.querySelectorAll("[data-every]")) {
  setInterval(() => { if (!document.hidden) soon(); }, Number(part.dataset.every) * 1000);
}

if (document.querySelector("[data-live]")) {
  listen();
  setInterval(lookAtStream, LOOK_MS);
  addEventListener("pagehide", rest);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) rest();
    else listen();
  });
}
