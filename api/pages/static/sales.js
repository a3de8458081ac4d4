// The sales that there are, from the products that are in one.

import { get } from "./client.js";
import { $, list, make, say, tone } from "./dom.js";
import { count, dayAndTime } from "./format.js";

const AGAIN_MS = 3000;
const PAGES_MAX = 5;

async function allProducts() {
  const found = [];
  for (let cursor = "", page = 0; page < PAGES_MAX && cursor !== null; page += 1) {
    const { data, next_cursor: next } = await get(`/v1/products?limit=100${cursor && `&cursor=${cursor}`}`);
    found.push(...data);
    cursor = next;
  }
  return found;
}

async function look() {
  const left = new Map();
  for (const product of await allProducts()) {
    left.set(product.sale_id, (left.get(product.sale_id) ?? 0) + product.stock.available);
  }
  const sales = await Promise.all([...left.keys()].map((id) => get(`/v1/sales/${encodeURIComponent(id)}`)));
  $("#none").hidden = sales.length > 0;
  list($("#sales"), sales, (sale) => sale.id, row, (item, sale) => {
    say($("strong", item), sale.name);
    const pill = $(".pill", item);
    say(pill, sale.status);
    tone(pill, { live: "good", paused: "warn" }[sale.status] ?? "");
    const starts = sale.status === "scheduled" ? `from ${dayAndTime(sale.starts_at)} · ` : "";
    say($(".muted", item), `${starts}${count(left.get(sale.id))} left`);
  });
}

function row(sale) {
  const words = make("span", {}, make("strong"), " ", make("span", { className: "pill" }));
  const link = make("a", { className: "card", href: `/shop/${encodeURIComponent(sale.id)}` }, words, make("span", { className: "muted" }));
  return make("li", {}, link);
}

async function go() {
  try {
    await look();
    say($("#said"), "");
  } catch (error) {
    say($("#said"), error.message);
  }
  setTimeout(go, AGAIN_MS);
}

go();
