// The buttons that change a sale. Each asks first, in a dialog that says what will happen.

import { Problem, post } from "./client.js";
import { $ } from "./dom.js";

const dialog = $("#ask");
const form = $("form", dialog);
const units = $("#ask-stock");
let act = null;
let open = 0;

$("#ask-no").addEventListener("click", () => dialog.close());
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const mine = open;
  $("#ask-yes").disabled = true;
  try {
    await act(new FormData(form));
    if (mine === open) dialog.close();
  } catch (error) {
    if (!(error instanceof Problem || error instanceof TypeError)) throw error;
    if (mine === open) $("#ask-said").textContent = error instanceof Problem ? error.message : "The server cannot be reached.";
  } finally {
    $("#ask-yes").disabled = false;
  }
});

function ask({ title, text, yes, danger = false, stock = false, doing }) {
  open += 1;
  act = doing;
  form.reset();
  $("#ask-title").textContent = title;
  $("#ask-text").textContent = text;
  $("#ask-said").textContent = "";
  $("#ask-yes").textContent = yes;
  $("#ask-yes").classList.toggle("danger", danger);
  units.hidden = !stock;
  for (const field of units.querySelectorAll("input")) field.disabled = !stock;
  dialog.showModal();
  (stock ? $("input", units) : $("#ask-no")).focus();
}

const path = (...parts) => `/ops/${parts.map(encodeURIComponent).join("/")}`;

const STATES = {
  pause: { yes: "Pause", text: "No new holds are given until it is resumed. Who holds something may still order and pay." },
  resume: { yes: "Resume", text: "New holds are given again, at once and in every process." },
  end: { yes: "End for good", text: "An ended sale cannot be resumed. Who holds something may still order and pay.", danger: true },
};

/** Ask, then `pause`, `resume` or `end` the sale. `told` is called once it is done. */
export function askState(verb, sale, told) {
  const doing = async () => {
    const { status } = await post(path("sales", sale.id, verb));
    told(`${sale.name} is ${status}.`);
  };
  ask({ ...STATES[verb], title: `${STATES[verb].yes}: ${sale.name}?`, doing });
}

/** Ask how many units and why, then adjust the product's stock. */
export function askStock(product, told) {
  const doing = async (given) => {
    const body = { delta: Number(given.get("delta")), reason: given.get("reason") };
    const { stock } = await post(path("products", product.id, "stock"), body);
    told(`${product.name} has ${stock.total} units now.`);
  };
  const text = "The change counts at once. It is refused where it would leave less than what is held and sold.";
  ask({ title: `Adjust the stock of ${product.name}`, text, yes: "Adjust", stock: true, doing });
}
