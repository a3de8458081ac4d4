// A shop window, and an example of a client. The way of a customer is four requests:
//
//   POST /v1/holds              reserve: yours until `expires_at`, or `sold_out` with when to try again
//   POST /v1/orders             check out: the hold gets its payment period
//   POST /v1/orders/{id}/pay    pay with a card (a real shop: Stripe's Payment Element); declined: try another
//   GET  /v1/orders/{id}        `paid`, once the units and the money are committed
//
// In a real shop the customer's browser asks the shop's servers, and those ask flashsale.

import { Problem, get, now, post, remove } from "./client.js";
import { $, fillBar, list, make, random, say, tone } from "./dom.js";
import { clock, count, dayAndTime, money } from "./format.js";

const LOOK_MS = 1500;
const FOLLOW_MS = 700;
const TICK_MS = 250;
const HURRY_MS = 20_000;

const { sale: saleId, orders, payments } = document.body.dataset;
const mayBuy = orders === "open";

const customer = (localStorage.flashsaleCustomer ??= `guest-${random().slice(0, 8)}`);
const remembered = `flashsale/${saleId}`;

/** Everything that the page shows. `again` is, for each product, when its next unit may come back. */
const state = { sale: null, products: [], hold: null, order: null, busy: false, again: new Map() };

// --- what the customer does

const reserve = (product, qty) =>
  doing(async () => {
    try {
      state.hold = await post("/v1/holds", { customer_id: customer, lines: [{ product_id: product.id, qty }] });
      state.order = null;
      state.again.delete(product.id);
    } catch (error) {
      if (error.code !== "limit_exceeded" || !error.body.hold_ids?.length) throw error;
      // What is in the basket already, perhaps by a request whose answer was lost.
      state.hold = await get(`/v1/holds/${error.body.hold_ids[0]}`);
      state.order = null;
      complain(`You may have ${error.body.limit} of these. This is what you hold:`);
    }
    remember();
    $("#mine").hidden = false;
    $("#mine-title").focus();
  });

const checkOut = () =>
  doing(async () => {
    state.order = await post("/v1/orders", { hold_id: state.hold.id });
    state.hold = await get(`/v1/holds/${state.hold.id}`);
    remember();
  });

const pay = (card) =>
  doing(async () => {
    state.order = await post(`/v1/orders/${state.order.id}/pay`, { payment_method_id: card });
  });

const giveBack = () =>
  doing(async () => {
    state.hold = await remove(`/v1/holds/${state.hold.id}`);
  });

const cancel = () =>
  doing(async () => {
    state.order = await post(`/v1/orders/${state.order.id}/cancel`);
  });

/** Do one thing at a time, and say what was refused. */
async function doing(what) {
  if (state.busy) return;
  state.busy = true;
  complain("");
  render();
  try {
    await what();
  } catch (error) {
    await refused(error);
  } finally {
    state.busy = false;
    look();
  }
}

// --- what is refused, in the customer's words

async function refused(error) {
  if (!(error instanceof Problem)) return complain("The shop cannot be reached. Nothing was lost: try again.");
  const { code, body, retryAfter } = error;
  switch (code) {
    case "sold_out":
      if (retryAfter) state.again.set(body.product_id, now() + retryAfter * 1000);
      return tell(
        body.held
          ? `Sold out just now. ${units(body.held)} still in other baskets; what is not paid for comes back` +
              (retryAfter ? `, the next perhaps in ${clock(retryAfter * 1000)}.` : ".")
          : "Sold out. Nobody holds a unit any more, so none comes back.",
        "warn",
      );
    case "card_declined":
      return complain(`The bank said no (${body.decline_code.replaceAll("_", " ")}). What you hold is still yours: try another card.`);
    case "sale_not_started":
      return tell("Not yet: the sale has not begun.", "warn");
    case "sale_paused":
      return tell("The shop has paused the sale. Try again in a moment.", "warn");
    case "sale_ended":
      return tell("The sale is over.", "warn");
    case "hold_expired":
    case "hold_released":
    case "hold_lost":
      await refresh();
      return undefined;
    default:
      return (state.hold ? complain : tell)(error.message, "bad");
  }
}

const units = (number) => (number === 1 ? "One unit is" : `${count(number)} units are`);

function tell(text, level = "") {
  note($("#said"), text, level);
}

function complain(text) {
  note($("#mine-said"), text, "warn");
}

function note(element, text, level) {
  element.hidden = !text;
  tone(element, level);
  say(element, text);
}

// --- what the shop says

async function look() {
  try {
    const path = encodeURIComponent(saleId);
    const [sale, page] = await Promise.all([get(`/v1/sales/${path}`), get(`/v1/products?sale_id=${path}&limit=100`)]);
    Object.assign(state, { sale, products: page.data });
    if (lost) tell("");
    lost = false;
  } catch (error) {
    lost = true;
    const text = { sale_not_found: `There is no sale “${saleId}”.`, sale_unavailable: "The sale is being restored. This page goes on by itself." };
    tell(text[error.code] ?? "The shop cannot be reached. This page goes on by itself.", "bad");
  }
  render();
}
let lost = false;

/** The hold and the order as they are now. */
async function refresh() {
  if (state.order) state.order = await get(`/v1/orders/${state.order.id}`);
  if (state.hold) state.hold = await get(`/v1/holds/${state.hold.id}`);
  render();
}

/** An order that was paid for is followed until the money is captured; a hold that runs out is read again. */
async function follow() {
  const { hold, order } = state;
  const waits = order && ["requires_capture", "processing"].includes(order.payment.status) && order.status !== "cancelled";
  const stripe = order?.status === "pending_payment" && payments === "live";
  const over = hold && ["held", "paying"].includes(hold.status) && !waits && Date.parse(hold.expires_at) <= now();
  if ((waits || stripe || over) && !state.busy) await refresh().catch(() => {});
}

function remember() {
  sessionStorage[remembered] = JSON.stringify({ hold: state.hold?.id, order: state.order?.id });
}

async function recall() {
  const { hold, order } = JSON.parse(sessionStorage[remembered] ?? "{}");
  if (!hold || !mayBuy) return;
  [state.hold, state.order] = await Promise.all([get(`/v1/holds/${hold}`), order ? get(`/v1/orders/${order}`) : null]);
}

// --- what is shown

function render() {
  const { sale } = state;
  if (sale) {
    document.title = `${sale.name} · flashsale`;
    say($("#name"), sale.name);
    say($("#status"), sale.status);
    tone($("#status"), { live: "good", paused: "warn" }[sale.status] ?? "");
    say($("#about"), aboutSale(sale));
  }
  list($("#products"), state.products, (product) => product.id, card, fillCard);
  renderMine();
  tick();
}

function aboutSale({ status, starts_at: starts, ends_at: ends }) {
  const left = state.products.reduce((sum, product) => sum + product.stock.available, 0);
  if (status === "scheduled") return `Begins ${dayAndTime(starts)}. ${count(left)} things, first come, first served.`;
  if (status === "paused") return "Paused by the shop. What you hold stays yours; new reservations wait.";
  if (status === "ended") return "This sale is over.";
  return `${count(left)} left${ends ? `, until ${dayAndTime(ends)}` : ""}.`;
}

function card(product) {
  const hue = [...product.id].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);
  const picture = make("div", { className: "picture", ariaHidden: "true" }, product.name.slice(0, 1).toUpperCase());
  picture.style.setProperty("--hue", hue);
  const bar = make("div", { className: "bar", ariaHidden: "true" }, make("i", { className: "sold" }), make("i", { className: "held" }));
  const price = make("p", { className: "price" }, make("b"), make("s"));
  const quantity = make("select", { ariaLabel: `How many of ${product.name}` });
  const button = make("button", { className: "primary" });
  const buy = make("form", { className: "buy", hidden: !mayBuy }, quantity, button);
  buy.addEventListener("submit", (event) => {
    event.preventDefault();
    reserve(product, Number(quantity.value));
  });
  const text = make("div", {}, make("h3", {}, product.name), price, bar, make("p", { className: "small stock" }), buy);
  return make("li", { className: "card product", data: { product: product.id } }, picture, text);
}

function fillCard(item, product) {
  const { stock, price, compare_at_price: before, per_customer_limit: limit } = product;
  say($("h3", item), product.name);
  say($(".price b", item), money(price.amount, price.currency));
  say($(".price s", item), before ? money(before.amount, before.currency) : "");
  fillBar($(".bar", item), stock);
  const held = stock.held ? `, ${count(stock.held)} in baskets` : "";
  say($(".stock", item), stock.available ? `${count(stock.available)} of ${count(stock.total)} left${held}` : soldOut(stock));
  const most = Math.min(limit ?? 5, 10);
  list($("select", item), Array.from({ length: most }, (_, index) => index + 1), String, (number) => make("option", {}, String(number)));
  const button = $("button", item);
  const wait = (state.again.get(product.id) ?? 0) - now();
  const waits = !stock.available && wait > 0;
  const open = state.sale?.status === "live";
  button.disabled = state.busy || !open || waits || (!stock.available && !stock.held) || isLive();
  say(button, !open ? "Not on sale now" : waits ? `Again in ${clock(wait)}` : stock.available ? "Reserve" : stock.held ? "Try anyway" : "Sold out");
}

const soldOut = ({ held }) => (held ? `None left; ${count(held)} in baskets, and what is not paid for comes back` : "Sold out");

/** Whether the customer has something that waits for them. */
const isLive = () => state.hold !== null && ["held", "paying"].includes(state.hold.status) && !isOver(state.order);
const isOver = (order) => order !== null && order.status !== "pending_payment";

function renderMine() {
  const { hold, order, busy } = state;
  $("#mine").hidden = !hold;
  if (!hold) return;
  const step = stepOf(hold, order);
  const { title, text } = STEPS[step];
  $("#mine").dataset.step = step;
  say($("#mine-title"), title);
  say($("#mine-text"), text);
  const names = new Map(state.products.map((product) => [product.id, product.name]));
  const lines = hold.lines.map((line) => ({
    name: `${line.qty} × ${names.get(line.product_id) ?? line.product_id}`,
    price: money(line.qty * line.unit_price.amount, line.unit_price.currency),
  }));
  lines.push({ name: "Together", price: money(hold.total.amount, hold.total.currency) });
  list($("#lines"), lines, (line) => line.name, () => make("li", {}, make("span"), make("span")), (item, line) => {
    say(item.firstElementChild, line.name);
    say(item.lastElementChild, line.price);
  });
  $("#pay").hidden = !(step === "paying" && payments !== "live");
  $("#element").hidden = !(step === "paying" && payments === "live");
  if (order) say($("#secret"), `${(order.payment.client_secret ?? "").slice(0, 12)}…`);
  say($("#pay-now"), `Pay ${money(hold.total.amount, hold.total.currency)}`);
  const shown = { checkout: step === "held", release: step === "held", cancel: step === "paying", more: !["held", "paying", "authorised"].includes(step) };
  for (const [id, visible] of Object.entries(shown)) $(`#${id}`).hidden = !visible;
  for (const button of $("#mine").querySelectorAll("button")) button.disabled = busy;
}

const STEPS = {
  held: { title: "Reserved for you", text: "Yours until the time is up. Then somebody else may have it." },
  paying: { title: "Check-out", text: "Pay before the time is up. A declined card costs you nothing: try another." },
  authorised: { title: "The bank said yes", text: "Your order is being written down. The money is taken once it is." },
  paid: { title: "It is yours", text: "" },
  cancelled: { title: "Cancelled", text: "Nothing was charged. What you held is for others now." },
  released: { title: "Given back", text: "Thank you: somebody else may have it now." },
  expired: { title: "The time is up", text: "What you held went back on sale. Nothing was charged." },
};

function stepOf(hold, order) {
  if (order?.status === "paid" || order?.status === "refunded") return "paid";
  if (order?.status === "cancelled") return hold.status === "expired" ? "expired" : "cancelled";
  if (order && ["requires_capture", "succeeded", "processing"].includes(order.payment.status)) return "authorised";
  if (hold.status === "sold") return "paid";
  return hold.status;
}

/** What changes with the clock alone. */
function tick() {
  const { sale, hold, order } = state;
  const countdown = $("#countdown");
  countdown.hidden = sale?.status !== "scheduled";
  if (sale?.status === "scheduled") say(countdown, clock(Date.parse(sale.starts_at) - now()));
  if (!hold) return;
  const step = stepOf(hold, order);
  const left = Date.parse(hold.expires_at) - now();
  const ticking = step === "held" || step === "paying";
  $("#left").hidden = !ticking;
  say($("#left"), clock(left));
  tone($("#left"), left < HURRY_MS ? "warn" : "");
  if (step === "paid") {
    const captured = order?.payment.status === "succeeded";
    say($("#mine-text"), `Order ${order?.id ?? ""} is paid for${captured ? ", and the money is taken" : ""}. It can be shipped${captured ? "" : " soon"}.`);
  }
}

// --- the start

$("#closed").hidden = mayBuy;
say($("#customer"), mayBuy ? `You are ${customer}` : "");
$("#checkout").addEventListener("click", checkOut);
$("#release").addEventListener("click", giveBack);
$("#cancel").addEventListener("click", cancel);
$("#more").addEventListener("click", () => {
  Object.assign(state, { hold: null, order: null });
  delete sessionStorage[remembered];
  complain("");
  render();
  $("#products button:not(:disabled)")?.focus();
});
$("#pay").addEventListener("submit", (event) => {
  event.preventDefault();
  pay(new FormData(event.target).get("card"));
});

setInterval(() => {
  tick();
  for (const item of $("#products").children) fillCard(item, state.products.find(({ id }) => id === item.dataset.product));
}, TICK_MS);
setInterval(follow, FOLLOW_MS);
setInterval(() => document.hidden || state.busy || look(), LOOK_MS);
await recall().catch(() => delete sessionStorage[remembered]);
await look();
