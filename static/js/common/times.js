/* Times and durations the server wrote become those of the viewer: own time zone, short while they are recent. */

import { duration } from "./format.js";

// The page speaks English; of the viewer's own locale only an English one would not mix two languages.
const LOCALE = navigator.language.startsWith("en") ? navigator.language : "en-GB";
const full = new Intl.DateTimeFormat(LOCALE, { dateStyle: "full", timeStyle: "long" });
const clock = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const date = new Intl.DateTimeFormat(LOCALE, { day: "numeric", month: "short", year: "numeric" });

export function short(when, now = new Date()) {
  if (when.toDateString() === now.toDateString()) return `today, ${clock.format(when)}`;
  return when.getFullYear() === now.getFullYear() ? day.format(when) : date.format(when);
}

export function localise(root) {
  const now = new Date();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const when = new Date(element.dateTime);
    if (Number.isNaN(when.getTime())) continue;
    element.textContent = short(when, now);
    element.title = full.format(when);
  }
  for (const element of root.querySelectorAll("[data-seconds]")) {
    element.textContent = duration(Number(element.dataset.seconds));
  }
}
