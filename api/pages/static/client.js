// The API as a page speaks to it. An answer is its JSON; a problem (RFC 9457) is thrown.

import { random } from "./dom.js";

const TRIES = 4;
const OLD_MS = 4000;
// Whatever was sent may have been done: with the same key, the same request again does it once.
const AGAIN = new Set(["overloaded", "unavailable", "payment_provider_unavailable"]);

/** What the API refused. `code` is stable; `body` has what else it said; `retryAfter` is in seconds, or null. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? `The server answered ${status}.`);
    Object.assign(this, { status, code: body.code ?? "unknown", body, retryAfter });
  }
}

let ahead = 0;

/** The server's clock, as well as its answers' dates tell: deadlines are its, not this machine's. */
export const now = () => Date.now() + ahead;

export const get = (path) => send("GET", path);

/** One wish of the customer: its key is made here once, so that no retry of it happens twice. */
export const post = (path, body = {}) => send("POST", path, body, random());

export const remove = (path) => send("DELETE", path);

async function send(method, path, body, key) {
  for (let number = 1; ; number += 1) {
    try {
      return await once(method, path, body, key);
    } catch (error) {
      const passing = error instanceof Problem ? AGAIN.has(error.code) : error instanceof TypeError;
      if (!passing || number === TRIES) throw error;
      await new Promise((done) => setTimeout(done, 1000 * (error.retryAfter ?? number) * (0.75 + Math.random() / 2)));
    }
  }
}

async function once(method, path, body, key) {
  const headers = { ...(body && { "content-type": "application/json" }), ...(key && { "idempotency-key": key }) };
  const asked = Date.now();
  const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
  keepTime(answer.headers.get("date"), asked, Date.now());
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const wait = answer.headers.get("retry-after");
  throw new Problem(answer.status, said, wait === null ? null : Number(wait));
}

function keepTime(date, asked, answered) {
  if (!date) return;
  // The date has whole seconds, and a busy server writes one that is a little old. Between these bounds a clock is right.
  const least = Date.parse(date) - answered;
  const most = Date.parse(date) + OLD_MS - asked;
  if (ahead < least) ahead = least;
  else if (ahead > most) ahead = most;
}
