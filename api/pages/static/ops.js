// The live page: listens to the stream, keeps the curves, and shows the sale that was chosen.

import { askState, askStock } from "./ask.js";
import { Chart } from "./charts.js";
import { $, list, make, say, tone } from "./dom.js";
import * as format from "./format.js";
import { showMoney, showFlow, showAnswers, showExpiries, showNotices, showPromises, showStock } from "./panels.js";

const POINTS = 300;
const STALE_MS = 4000;
const AGAIN_MS = 5000;

const curves = { sales: {}, speed: [] };
let last = null;
let heard = 0;

const charts = {
  stock: new Chart(
    $("#chart-stock"),
    [
      { name: "available", colour: "available", format: format.count },
      { name: "held", colour: "held", format: format.count },
      { name: "sold", colour: "sold", format: format.count, fill: true },
    ],
    format.count,
  ),
  holds: new Chart(
    $("#chart-holds"),
    [
      { name: "taken", colour: "accent", format: format.rate, fill: true },
      { name: "asked here", colour: "muted", format: format.rate },
    ],
    format.count,
  ),
  times: new Chart(
    $("#chart-times"),
    [
      { name: "p50", colour: "accent", format: format.ms },
      { name: "p99", colour: "held", format: format.ms },
    ],
    (tick) => `${tick} ms`,
  ),
};

/** For those who cannot see it: only what changed for good, never each figure. */
const announce = (text) => say($("#said"), text);

// --- which sale

const chosen = () => {
  const sales = last?.live?.sales ?? [];
  const wanted = decodeURIComponent(location.hash.slice(1));
  return sales.find((sale) => sale.id === wanted) ?? sales.find((sale) => sale.status === "live") ?? sales[0] ?? null;
};
addEventListener("hashchange", () => show());

for (const verb of ["pause", "resume", "end"]) {
  $(`#${verb}`).addEventListener("click", () => chosen() && askState(verb, chosen(), announce));
}

// --- what it shows

function show() {
  if (!last) return;
  const { live, rates } = last;
  // While Redis is away the last picture stays, and says that it is old.
  tone($("#redis"), live ? "good" : "bad");
  say($("#redis"), live ? "Redis" : "Redis is away");
  if (live) {
    tone($("#postgres"), live.postgres ? "good" : "bad");
    say($("#postgres"), live.postgres ? "Postgres" : "Postgres is away");
    showPromises(live.promises);
    showFlow(chosen(), live.waiting);
    showNotices(live.notices);
    $("#empty").hidden = live.sales.length > 0;
    const sale = chosen();
    list(
      $("#sales"),
      live.sales,
      (each) => each.id,
      (each) => make("button", { type: "button", onclick: () => (location.hash = encodeURIComponent(each.id)) }),
      (button, each) => {
        say(button, each.name);
        button.setAttribute("aria-current", String(each === sale));
      },
    );
    if (sale) showSale(sale);
  }
  showAnswers(rates.answers);
  const speed = curves.speed;
  charts.times.show([seconds(speed), speed.map((point) => point[2]), speed.map((point) => point[3])]);
}

function showSale(sale) {
  document.title = `${format.count(sale.stock.available)} left · ${sale.name}`;
  showStock(sale, (product) => askStock(product, announce));
  showMoney(sale);
  showExpiries(sale);
  const points = curves.sales[sale.id] ?? [];
  const column = (index) => points.map((point) => point[index]);
  charts.stock.show([seconds(points), column(1), column(2), column(3)]);
  const asked = new Map(curves.speed.map((point) => [point[0], point[1]]));
  charts.holds.show([seconds(points), column(4), points.map((point) => asked.get(point[0]) ?? null)]);
}

const seconds = (points) => points.map((point) => point[0] / 1000);

// --- what it hears

function keep(points, point) {
  points.push(point);
  if (points.length > POINTS) points.shift();
}

function onNow(now) {
  const before = last?.live && chosen();
  last = now;
  heard = Date.now();
  for (const [id, point] of Object.entries(now.sales)) keep((curves.sales[id] ??= []), point);
  keep(curves.speed, now.speed);
  const after = chosen();
  if (before && after && before.id === after.id && before.status !== after.status) announce(`${after.name} is ${after.status}.`);
  show();
}

function listen() {
  const stream = new EventSource("/ops/stream");
  stream.addEventListener("history", (event) => {
    const { sales, speed } = JSON.parse(event.data);
    // The newest points come once more, with the first picture.
    Object.assign(curves, { sales: mapValues(sales, butLast), speed: butLast(speed) });
  });
  stream.addEventListener("now", (event) => onNow(JSON.parse(event.data)));
  stream.addEventListener("error", () => {
    if (stream.readyState === EventSource.CLOSED) setTimeout(again, AGAIN_MS);
  });
}

const butLast = (points) => points.slice(0, -1);
const mapValues = (object, change) => Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));

async function again() {
  // A browser that was refused does not try again by itself, nor does it say why.
  const asking = new AbortController();
  try {
    const answer = await fetch("/ops/stream", { signal: asking.signal });
    if (answer.status === 401) location.reload();
  } catch {
    // The server is away: the next try will tell.
  }
  asking.abort();
  listen();
}

setInterval(() => {
  const silent = Date.now() - heard;
  const stale = silent > STALE_MS;
  tone($("#link"), stale ? "bad" : "good");
  say($("#link"), !heard ? "connecting" : stale ? `silent for ${format.span(silent / 1000)}` : "live");
}, 500);

listen();
