/* Numbers as people read them. Sizes in bytes, rates in bytes per second, times in seconds. */

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const NBSP = "\u00a0";

/* The words of files_app/sizes.py: what the server wrote and what scripts write beside it must agree. */
export function size(bytes) {
  const whole = Math.trunc(bytes);
  if (whole < 1024) return `${whole}${NBSP}${whole === 1 ? "byte" : "bytes"}`;
  let tenths = 10 * whole;
  let unit = -1;
  // 1,023.95 KiB would be written as 1,024.0: that is a MiB.
  while ((tenths >= 10_239.5 || unit < 0) && unit < UNITS.length - 1) {
    tenths /= 1024;
    unit += 1;
  }
  return `${(Math.floor(tenths + 0.5) / 10).toFixed(1)}${NBSP}${UNITS[unit]}`;
}

export const rate = (bytesPerSecond) => `${size(bytesPerSecond || 0)}/s`;

export const count = (number) => number.toLocaleString("en");

/* Rounded down: 100 % is said only of what is whole. */
export function percent(done, length) {
  return length > 0 ? Math.min(100, Math.floor((done / length) * 100)) : 100;
}

export function duration(seconds) {
  if (seconds < 0.95) return `${seconds.toFixed(2)}${NBSP}s`;
  if (seconds < 9.95) return `${seconds.toFixed(1)}${NBSP}s`;
  return wholeDuration(seconds);
}

export function timeLeft(remaining, bytesPerSecond) {
  if (!(bytesPerSecond > 0) || remaining <= 0) return "";
  return `${wholeDuration(Math.ceil(remaining / bytesPerSecond))} left`;
}

function wholeDuration(seconds) {
  const s = Math.round(seconds);
  if (s < 60) return `${s}${NBSP}s`;
  if (s < 3600) return `${Math.floor(s / 60)}${NBSP}min ${s % 60}${NBSP}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}${NBSP}h ${Math.floor((s % 3600) / 60)}${NBSP}min`;
  return `${count(Math.floor(s / 86400))}${NBSP}d ${Math.floor((s % 86400) / 3600)}${NBSP}h`;
}
