"use strict";
/* The data block, and numbers and times as words. Everything shown goes through textContent: nothing is ever markup. */

const DATA = JSON.parse(document.getElementById("data").textContent);

const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };

/** The array that report/packed.py packed; base64 of little-endian numbers, as on every machine that browsers run on. */
function unpack(packed) {
  const text = atob(packed.d);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[packed.t](bytes.buffer);
}

const count = (number) => number.toLocaleString("en-US");

function bytesText(number) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
  let unit = 0;
  while (number >= (unit ? 999.5 : 1000)) {
    number /= 1000;
    unit++;
  }
  return `${unit === 0 ? number : number.toFixed(number < 9.995 ? 2 : number < 99.95 ? 1 : 0)} ${units[unit]}`;
}

function durationText(seconds) {
  if (seconds === 0) return "0 s";
  if (Number.isNaN(seconds)) return "";
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "-" : "";
  if (size < 59.95) {
    const [scale, unit] = size >= 0.9995 ? [1, "s"] : size >= 0.0009995 ? [1e3, "ms"] : [1e6, "us"];
    return `${sign}${(size * scale).toFixed(size * scale < 99.95 ? 1 : 0)} ${unit}`;
  }
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  const whole = Math.round(size);
  const [large, unit, below, small] = steps.find((step) => whole >= step[0]);
  const rest = Math.floor((whole % large) / below);
  return `${sign}${count(Math.floor(whole / large))} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
}

/** An instant, given in seconds since DATA.origin: the time of day in UTC, with its date or without, or unix seconds. */
function clockText(seconds, { date = false, digits = 6 } = {}) {
  let whole = Math.floor(seconds);
  let fraction = Math.round((seconds - whole) * 10 ** digits);
  if (fraction === 10 ** digits) [whole, fraction] = [whole + 1, 0];
  const tail = digits ? `.${String(fraction).padStart(digits, "0")}` : "";
  if (DATA.epoch) return `${DATA.origin + whole}${tail}`;
  const text = new Date((DATA.origin + whole) * 1000).toISOString();
  return `${date ? text.slice(0, 10) + " " : ""}${text.slice(11, 19)}${tail}`;
}

/** A new element: its properties, then what is in it (elements or text). */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
