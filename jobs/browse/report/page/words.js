// Texts: times, names of files, words of a shell, rows of CSV. And elements made of them, never of HTML.

const BIDI_OR_CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;
const escapeCode = (char) => `\\u{${char.codePointAt(0).toString(16)}}`;
const visible = (text) => text.replace(/\n/g, "\\n").replace(BIDI_OR_CONTROL, escapeCode);

const clock = (ms, isExact = false) => {
  const seconds = Math.floor(ms / 1000), two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
  const whole = `${hours ? `${hours}:${two(minutes)}` : minutes}:${two(seconds % 60)}`;
  return isExact ? `${whole}.${Math.floor((ms % 1000) / 100)}` : whole;
};
const dayText = (seconds) => {
  const date = new Date(seconds * 1000), two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
};
const hours = (ms) => (ms >= 3.6e6 ? `${(ms / 3.6e6).toFixed(1)} h` : clock(Math.round(ms / 1000) * 1000));
const grouped = (number) => number.toLocaleString("en-US");
const counted = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
const secondsText = (ms) => String(ms / 1000);

// One word of a shell. What cannot be seen is escaped, as bash and zsh read it. A lone surrogate stands for a byte that
// is not UTF-8 (PEP 383).
const shellWord = (text) => {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  const hidden = new RegExp(`${BIDI_OR_CONTROL.source}|[\\u{dc80}-\\u{dcff}]`, "gu");
  if (text.search(hidden) < 0) return `'${text.replace(/'/g, `'"'"'`)}'`;
  const hex = (byte) => `\\x${byte.toString(16).padStart(2, "0")}`;
  const bytes = (char) => (/^[\u{dc80}-\u{dcff}]$/u.test(char) ? hex(char.charCodeAt(0) & 0xff) : [...new TextEncoder().encode(char)].map(hex).join(""));
  return `$'${text.replace(/[\\']/g, "\\$&").replace(hidden, bytes)}'`;
};

const csvCell = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);

// RFC 4180, with commas, semicolons or tabs: the one that the first line has most of.
const csvRows = (text) => {
  const head = text.replace(/^\ufeff/, "").split(/\r?\n/, 1)[0];
  const delimiter = [",", ";", "\t"].reduce((best, one) => (head.split(one).length > head.split(best).length ? one : best));
  const rows = [[""]];
  let isQuoted = false;
  const body = text.replace(/^\ufeff/, "");
  for (let at = 0; at < body.length; at += 1) {
    const char = body[at], row = rows[rows.length - 1];
    if (isQuoted) {
      if (char !== '"') row[row.length - 1] += char;
      else if (body[at + 1] === '"') { row[row.length - 1] += '"'; at += 1; } else isQuoted = false;
    } else if (char === '"' && row[row.length - 1] === "") isQuoted = true;
    else if (char === delimiter) row.push("");
    else if (char === "\n") rows.push([""]);
    else if (char !== "\r") row[row.length - 1] += char;
  }
  return rows.filter((row) => row.some((cell) => cell.trim()));
};

const byId = (id) => document.getElementById(id);
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
};
// A path reads from left to right, also where a part of it, by itself, reads from right to left.
const pathOf = (name) => element("span", { dir: "ltr" }, ...visible(name).split("/").flatMap((part, at) => [at ? "/" : "", ...(part ? [element("bdi", {}, part)] : [])]));
const say = (text) => { byId("said").textContent = text; };

const copyButton = (text) => {
  const button = element("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = element("textarea", { class: "unseen" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } }, "Copy");
  return button;
};
const commandLine = (text) => element("div", { class: "command" }, element("code", { dir: "ltr", tabindex: "0" }, text), copyButton(text));
