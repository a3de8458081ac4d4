// One function for each part of the live page: what the picture says, into the elements that are there.

import { $, fillBar, list, make, say, tone } from "./dom.js";
import * as format from "./format.js";

const STATUS_TONES = { live: "good", paused: "warn", scheduled: "", ended: "" };

const fields = (parent, values) => {
  for (const [name, value] of Object.entries(values)) say($(`[data-field="${name}"]`, parent), value);
};

const sum = (counts) => Object.values(counts).reduce((all, each) => all + each, 0);

export function showPromises(promises) {
  for (const tile of document.querySelectorAll("[data-promise]")) {
    const breaches = promises[tile.dataset.promise];
    tone(tile, breaches === null ? "" : breaches ? "bad" : "good");
    say($("b", tile), breaches === null ? "?" : format.count(breaches));
    say($("span", tile), breaches === null ? "not known without Postgres" : breaches ? "look now: flashsale reconcile" : "kept");
  }
}

export function showStock(sale, adjust) {
  say($("#name"), sale.name);
  say($("#status"), sale.status);
  tone($("#status"), STATUS_TONES[sale.status]);
  $("#fenced").hidden = !sale.fenced;
  say($("#window"), windowOf(sale));
  const ended = sale.status === "ended";
  $("#pause").hidden = sale.status === "paused";
  $("#resume").hidden = sale.status !== "paused";
  $("#pause").disabled = $("#end").disabled = ended;
  fields($("#stock"), Object.fromEntries(Object.entries(sale.stock).map(([name, value]) => [name, format.count(value)])));
  fillBar($("#bar"), sale.stock);
  list($("#products tbody"), sale.products, (each) => `${sale.id}/${each.id}`, () => productRow(), (row, product) => {
    row.dataset.product = product.id;
    say($("th", row), product.name);
    fields(row, {
      price: format.money(product.price, product.currency),
      ...Object.fromEntries(Object.entries(product.stock).map(([name, value]) => [name, format.count(value)])),
    });
    const button = $("button", row);
    button.setAttribute("aria-label", `Adjust the stock of ${product.name}`);
    button.onclick = () => adjust(product);
    button.disabled = ended;
  });
  const hidden = sale.products_in_all - sale.products.length;
  $("#more").hidden = !hidden;
  say($("#more"), `And ${hidden} more products: they count above.`);
}

function productRow() {
  const cell = (name) => make("td", { data: { field: name } });
  const columns = ["price", "available", "held", "sold", "total"].map(cell);
  return make("tr", {}, make("th", { scope: "row" }), ...columns, make("td", {}, make("button", { type: "button", className: "link" }, "adjust")));
}

function windowOf({ status, starts_ms: starts, ends_ms: ends, now_ms: now }) {
  if (status === "scheduled") return `starts in ${format.clock(starts - now)}`;
  if (status === "ended" || !ends) return "";
  return `ends in ${format.clock(ends - now)}`;
}

export function showFlow(sale, waiting) {
  const flow = $("#flow");
  const inbox = waiting && waiting.webhook_events.stored + waiting.webhook_events.pending_order;
  const due = waiting && sum(waiting.payments_due);
  fields(flow, {
    lag_events: format.count(sale?.lag_events),
    lag_seconds: sale?.lag_events ? `${format.span(sale.lag_seconds)} old` : "",
    inbox: format.count(inbox),
    due: format.count(due),
    dues: waiting ? words(waiting.payments_due) : "",
    uncaptured: waiting ? format.span(waiting.oldest_authorisation_seconds) : format.UNKNOWN,
    set_aside: format.count(waiting?.events_set_aside),
    refused: format.count(waiting?.orders_refused),
    overdue: format.count(sale?.overdue),
  });
  const warn = (name, level) => tone($(`[data-field="${name}"]`, flow), level);
  warn("lag_events", sale?.lag_seconds > 30 ? "bad" : sale?.lag_seconds > 5 ? "warn" : "");
  warn("uncaptured", waiting?.oldest_authorisation_seconds > 600 ? "bad" : waiting?.oldest_authorisation_seconds > 120 ? "warn" : "");
  warn("set_aside", waiting?.events_set_aside ? "bad" : "");
  warn("refused", waiting?.orders_refused ? "bad" : "");
  warn("overdue", sale?.overdue ? "warn" : "");
}

const words = (counts) =>
  Object.entries(counts)
    .filter(([, count]) => count)
    .map(([word, count]) => `${word} ${format.count(count)}`)
    .join(", ");

export function showMoney(sale) {
  const { money } = sale;
  $("#no-money").hidden = money !== null;
  for (const id of ["#money", "#funnel", "#payments"]) $(id).hidden = money === null;
  if (!money) return;
  const figures = money.taken.flatMap(({ currency, paid, captured, refunded }) => [
    { key: `paid ${currency}`, name: "paid for", text: format.money(paid, currency) },
    { key: `captured ${currency}`, name: "captured", text: format.money(captured, currency) },
    { key: `refunded ${currency}`, name: "refunded", text: format.money(refunded, currency) },
  ]);
  list($("#money"), figures, (each) => each.key, ({ name }) => make("div", {}, make("dt", {}, name), make("dd")), (div, each) => {
    say($("dd", div), each.text);
  });
  const paid = (money.orders.paid ?? 0) + (money.orders.refunded ?? 0);
  const steps = [
    { name: "holds", count: sale.holds },
    { name: "ordered", count: sum(money.orders) },
    { name: "paid", count: paid },
  ];
  list($("#funnel"), steps, (each) => each.name, stepRow, (row, step) => {
    row.dataset.step = step.name;
    $(".bar > i", row).style.width = `${sale.holds ? (100 * step.count) / sale.holds : 0}%`;
    const share = step.name === "holds" ? "" : ` · ${format.percent(step.count, sale.holds)}`;
    say(row.lastElementChild, format.count(step.count) + share);
  });
  list($("#payments tbody"), money.payments, (each) => `${each.status} ${each.currency}`, () => threeCells(), (row, each) => {
    cells(row, each.status.replaceAll("_", " "), format.count(each.count), format.money(each.amount, each.currency));
  });
}

const stepRow = ({ name }) => {
  const bar = make("div", { className: "bar" }, make("i", { className: name === "paid" ? "sold" : name === "holds" ? "available" : "held" }));
  return make("li", {}, make("span", {}, name), bar, make("span"));
};

const threeCells = () => make("tr", {}, make("th", { scope: "row" }), make("td"), make("td"));

const cells = (row, ...texts) => texts.forEach((text, index) => say(row.children[index], text));

export function showAnswers(answers) {
  list($("#answers tbody"), answers, (each) => `${each.status} ${each.code}`, () => threeCells(), (row, each) => {
    row.classList.toggle("bad", each.status >= 500);
    cells(row, `${each.status} ${each.code ? each.code.replaceAll("_", " ") : each.status === 201 ? "created" : "done"}`, format.rate(each.per_second), format.count(each.total));
  });
}

export function showExpiries({ expiries, now_ms: now }) {
  const items = expiries.length ? expiries : [{ hold_id: "" }];
  list($("#expiries"), items, (each) => each.hold_id, () => make("li", {}, make("span"), make("span")), (row, each) => {
    if (!each.hold_id) return say(row.lastElementChild, "Nothing is held.");
    say(row.firstElementChild, each.at_ms > now ? `in ${format.clock(each.at_ms - now)}` : "now");
    const units = each.units === 1 ? "1 unit" : `${format.count(each.units)} units`;
    say(row.lastElementChild, `${units}, ${each.status === "paying" ? "in payment" : "held"} · …${each.hold_id.slice(-6)}`);
  });
}

export function showNotices(notices) {
  const items = notices.length ? notices : [{ at_ms: 0, kind: "", subject: "", said: "" }];
  list($("#notices"), items, (each) => `${each.at_ms} ${each.kind} ${each.subject}`, () => make("li", {}, make("time"), make("span")), (row, each) => {
    row.classList.toggle("bad", Boolean(each.bad));
    say(row.firstElementChild, each.at_ms ? format.timeOfDay(each.at_ms) : "");
    say(row.lastElementChild, each.kind ? [each.kind.replaceAll("_", " "), each.subject, each.said].filter(Boolean).join(" · ") : "Nothing yet.");
  });
}
