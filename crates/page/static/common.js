// What both pages share: words, elements, figures, requests. Whatever comes from a server is
// put in as text, never as markup: names of streams are anybody's choice.

// --- Words ---

const DICTIONARY = { en: {}, zh: {} };
let language = localStorage.getItem("millrace.language")
  ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
if (!(language in DICTIONARY)) language = "en";

// Adds words: { key: ["English", "中文"] }.
export function addWords(words) {
  for (const [key, [en, zh]] of Object.entries(words)) {
    DICTIONARY.en[key] = en;
    DICTIONARY.zh[key] = zh;
  }
}

// The word of a key, with `{0}`, `{1}` … replaced by the values. A key without a word is
// shown as it is.
export function t(key, ...values) {
  const word = DICTIONARY[language][key] ?? key;
  return word.replace(/\{(\d)\}/g, (_, number) => String(values[number]));
}

function translate(root) {
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-hint]")) {
    node.placeholder = t(node.dataset.tHint);
    node.setAttribute("aria-label", t(node.dataset.tHint));
  }
}

addWords({
  "theme": ["Theme", "主题"], "theme.auto": ["System", "跟随系统"],
  "theme.light": ["Light", "浅色"], "theme.dark": ["Dark", "深色"],
  "cancel": ["Cancel", "取消"],
  "events": ["Events", "事件"], "no.events": ["None yet.", "暂无事件。"],
  "unreachable": ["No answer: {0}. The figures are those of {1}.", "没有响应：{0}。以下是 {1} 的数据。"],
  "refused": ["Refused: {0}", "被拒绝：{0}"],
  "uptime": ["up {0}", "已运行 {0}"],
});

// --- Elements ---

export const $ = id => document.getElementById(id);

// An element with properties, `data-…` and `aria-…` attributes, and children.
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

// Sets a text, but only one that differs: selections and focus stay.
export function put(node, text) {
  text = String(text);
  if (node.textContent !== text) node.textContent = text;
}

export function badge(node, text, tone = "") {
  put(node, text);
  const name = `badge ${tone}`.trim();
  if (node.className !== name) node.className = name;
}

// The rows of each list, by their keys.
const drawn = new WeakMap();

// Brings the rows of a list in line with `items`. `make` makes a row, an object with its
// `node`; `update` fills it in.
export function sync(parent, items, key, make, update) {
  if (!drawn.has(parent)) drawn.set(parent, new Map());
  const rows = drawn.get(parent);
  const wanted = new Set();
  let next = parent.firstElementChild;
  for (const item of items) {
    const id = String(key(item));
    wanted.add(id);
    if (!rows.has(id)) rows.set(id, make(item));
    const row = rows.get(id);
    update(row, item);
    if (row.node === next) next = next.nextElementSibling;
    else parent.insertBefore(row.node, next);
  }
  for (const [id, row] of rows) {
    if (wanted.has(id)) continue;
    row.node.remove();
    rows.delete(id);
  }
}

// A row of a table whose cells are `columns`: [name, class].
export function row(columns) {
  const cells = {};
  const node = el("tr");
  for (const [name, kind] of columns) {
    cells[name] = el("td", { className: kind ?? "", "data-label": t(`column.${name}`) });
    node.append(cells[name]);
  }
  return { node, cells };
}

export function heading(table, columns) {
  const cells = columns.map(([name, kind]) =>
    el("th", { className: kind ?? "", scope: "col", textContent: t(`column.${name}`) }));
  table.querySelector("thead").replaceChildren(el("tr", {}, ...cells));
}

// The newest values of a figure, drawn as a line.
export class Spark {
  static POINTS = 90;
  values = [];
  constructor(svg) {
    svg.setAttribute("viewBox", `0 0 ${Spark.POINTS - 1} 24`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    svg.append(this.line);
  }
  add(value) {
    this.values.push(value);
    if (this.values.length > Spark.POINTS) this.values.shift();
    const most = Math.max(...this.values, 1);
    const first = Spark.POINTS - this.values.length;
    const point = (value, at) => `${first + at},${(23 - 21 * value / most).toFixed(1)}`;
    this.line.setAttribute("points", this.values.map(point).join(" "));
  }
}

// --- Figures ---

export function number(count) {
  return count.toLocaleString("en");
}

export function rate(kbps) {
  if (kbps < 1000) return `${Math.round(kbps)} kbit/s`;
  if (kbps < 1e6) return `${(kbps / 1000).toFixed(kbps < 1e4 ? 2 : 1)} Mbit/s`;
  return `${(kbps / 1e6).toFixed(2)} Gbit/s`;
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${units[unit]}`;
}

export function seconds(count) {
  count = Math.floor(count);
  const [days, hours, minutes] = [Math.floor(count / 86400), Math.floor(count / 3600) % 24, Math.floor(count / 60) % 60];
  const two = number => String(number).padStart(2, "0");
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours}:${two(minutes)}:${two(count % 60)}`;
  return `${minutes}:${two(count % 60)}`;
}

export function clock(ms) {
  const time = new Date(ms);
  const text = time.toLocaleTimeString("en-GB");
  return time.toDateString() === new Date().toDateString()
    ? text : `${time.getMonth() + 1}/${time.getDate()} ${text}`;
}

// --- Requests ---

// The page's own address, without a user and a password that were typed into it: `fetch`
// takes no such one.
const BASE = location.origin + location.pathname;

// Asks the server that the page comes from. Throws an Error whose message is for people.
export async function ask(path, options = {}) {
  const response = await fetch(new URL(path, BASE), { signal: AbortSignal.timeout(10000), ...options });
  if (!response.ok) throw new Error((await response.text()).trim() || `HTTP ${response.status}`);
  return response.json();
}

// Calls `look` again and again while the page is shown, not before it is done. A slow
// server is asked less often.
export function poll(look) {
  const MIN_PAUSE_MS = 2000;
  let answered = Date.now();
  let timer = 0;
  let running = false;
  const round = async () => {
    clearTimeout(timer);
    if (running || document.hidden) return;
    running = true;
    const begun = Date.now();
    try {
      await look();
      answered = Date.now();
      $("failure").hidden = true;
    } catch (error) {
      $("failure").hidden = false;
      put($("failure"), t("unreachable", error.message, clock(answered)));
    }
    running = false;
    timer = setTimeout(round, Math.max(MIN_PAUSE_MS, 5 * (Date.now() - begun)));
  };
  document.addEventListener("visibilitychange", round);
  round();
  return round;
}

// --- Events ---

// Shows the events that are new, the newest first. `describe` gives kind, tone and text.
export class Events {
  static KEPT = 300;
  last = 0;
  kept = [];
  constructor(list, describe) {
    this.list = list;
    this.describe = describe;
  }
  async look() {
    const { events } = await ask(`api/v1/events?after=${this.last}`);
    for (const event of events) {
      // One that has happened again has a new number; the former one leaves.
      const isSame = it => event.count > 1 && it.kind === event.kind
        && it.stream === event.stream && it.text === event.text;
      this.kept = this.kept.filter(it => !isSame(it));
      this.kept.unshift(event);
      this.last = event.number;
    }
    this.kept.length = Math.min(this.kept.length, Events.KEPT);
    this.show();
  }
  show() {
    const make = event => {
      const { label, tone, text } = this.describe(event);
      const time = el("time", { textContent: clock(event.time_ms), dateTime: new Date(event.time_ms).toISOString() });
      const kind = el("span", { textContent: label, className: `badge ${tone}`.trim() });
      return { node: el("li", {}, time, kind, el("span", { textContent: text })) };
    };
    sync(this.list, this.kept, event => event.number, make, () => {});
    $("no-events").hidden = this.kept.length > 0;
  }
}

// --- Dialog ---

// Asks for a confirmation; with `input`, for a value. Resolves to false, or to true or the
// value.
export function confirmed(question, action, input = null) {
  const dialog = $("dialog");
  put(dialog.querySelector("p"), question);
  const field = dialog.querySelector("input");
  field.hidden = input === null;
  field.value = input ?? "";
  const button = dialog.querySelector("button[value=yes]");
  put(button, action);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise(resolve => {
    dialog.addEventListener("close", () => {
      const yes = dialog.returnValue === "yes";
      resolve(yes && input !== null ? field.value : yes);
    }, { once: true });
  });
}

// Shows for a moment what has become of an order.
export function say(text, isFailure = false) {
  const node = $("notice");
  put(node, text);
  node.classList.toggle("failure", isFailure);
  node.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { node.hidden = true; }, 8000);
}

// --- Language and theme ---

// Sets the switches up. `redraw` fills in what was drawn in the former language.
export function start(redraw) {
  const languages = $("language");
  languages.value = language;
  const apply = () => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
    translate(document);
    for (const list of document.querySelectorAll("tbody, ol")) {
      list.replaceChildren();
      drawn.delete(list);
    }
    redraw();
  };
  languages.addEventListener("change", () => {
    language = languages.value;
    localStorage.setItem("millrace.language", language);
    apply();
  });
  const theme = $("theme");
  theme.value = document.documentElement.dataset.theme ?? "auto";
  theme.addEventListener("change", () => {
    if (theme.value === "auto") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("millrace.theme");
    } else {
      document.documentElement.dataset.theme = theme.value;
      localStorage.setItem("millrace.theme", theme.value);
    }
  });
  apply();
}
