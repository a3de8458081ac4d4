// How numbers, money and times read.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const UNKNOWN = "–";

export const count = (number) => (number == null ? UNKNOWN : whole.format(number));

/** A rate: with one decimal below ten. */
export const rate = (number) =>
  number == null ? UNKNOWN : number < 10 ? short.format(number) : whole.format(Math.round(number));

/** `{amount, currency}` in minor units, as people write it. */
export function money(amount, currency) {
  try {
    const format = new Intl.NumberFormat("en", { style: "currency", currency: currency.toUpperCase() });
    return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${amount} ${currency}`;
  }
}

export const percent = (part, all) => (all ? `${short.format((100 * part) / all)} %` : UNKNOWN);

export const ms = (number) => (number == null ? UNKNOWN : `${short.format(number)} ms`);

/** Seconds, as somebody would say them. */
export function span(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds < 10) return `${short.format(seconds)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${short.format(seconds / 3600)} h`;
}

/** Milliseconds that are left, as a clock shows them: `1:05`, `2:00:00`, `3 d 04:00:00`. Never below zero. */
export function clock(left) {
  const all = Math.max(Math.ceil(left / 1000), 0);
  const [days, hours, minutes, seconds] = [Math.floor(all / 86400), Math.floor(all / 3600) % 24, Math.floor(all / 60) % 60, all % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (days) return `${days} d ${two(hours)}:${two(minutes)}:${two(seconds)}`;
  return hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
}

export const timeOfDay = (at) => new Date(at).toLocaleTimeString("en-GB");

export const dayAndTime = (at) =>
  new Date(at).toLocaleString("en-GB", { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
