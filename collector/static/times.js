// Shows moments as a person here reads them: ages that grow, dates in the browser's language.
// What time it is the collector says, with each page: the clock of a handheld may be wrong.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
// Charts and choices are in the collector's zone, so all of a page is; who is in another sees its name.
const timeZone = document.body.dataset.zone;
const isHere = timeZone === new Intl.DateTimeFormat().resolvedOptions().timeZone;
const exact = new Intl.DateTimeFormat(undefined, {
  dateStyle: "medium",
  timeStyle: isHere ? "medium" : "long",
  timeZone,
});

let aheadMs = 0;

function age(seconds) {
  if (seconds < 10) return "just now";
  if (seconds < MINUTE) return `${Math.floor(seconds)} s ago`;
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min ago`;
  if (seconds < DAY) return `${Math.floor(seconds / HOUR)} h ${Math.floor((seconds % HOUR) / MINUTE)} min ago`;
  return `${Math.floor(seconds / DAY)} d ${Math.floor((seconds % DAY) / HOUR)} h ago`;
}

function show() {
  const now = Date.now() + aheadMs;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    const seconds = Math.max(0, (now - moment.valueOf()) / 1000);
    if (time.dataset.show === "age") time.textContent = age(seconds);
    else if (time.dataset.show === "exact") time.textContent = exact.format(moment);
    time.title = exact.format(moment);
  }
}

function arrive() {
  aheadMs = Number(document.body.dataset.now) - Date.now();
  show();
}

arrive();
setInterval(show, 10000);
document.addEventListener("andon:fresh", arrive);
