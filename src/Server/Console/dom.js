// Elements from text. Nothing here makes markup of what it is given.
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (name.startsWith("on"))
      made.addEventListener(name.slice(2), value);
    else if (value === true)
      made.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null)
      made.setAttribute(name, value);
  made.append(...children.flat().filter(child => child !== null && child !== undefined));
  return made;
}

export const number = (value, digits = 3) => value === undefined || value === null ? "not measured" : Number(value).toLocaleString("en", { maximumFractionDigits: digits });
export const percent = value => value === undefined || value === null ? "not measured" : `${number(100 * value, 1)} %`;
export const bytes = value => value >= 1e9 ? `${number(value / 1e9, 2)} GB` : value >= 1e6 ? `${number(value / 1e6, 1)} MB` : `${number(value / 1e3, 1)} kB`;
export const milliseconds = seconds => `${number(1000 * seconds, 1)} ms`;

let ids = 0;

// A labelled field; further attributes are the input's.
export function field(label, input, hint) {
  input.id ||= `field-${++ids}`;
  return el("div", {}, el("label", { for: input.id }, label, hint ? el("span", { class: "hint" }, ` ${hint}`) : null), input);
}

// Rows of cells; a cell is text, an element, or { text, class }.
export function table(caption, heads, rows) {
  const cell = (tag, value) => value instanceof Node ? el(tag, {}, value)
    : value !== null && typeof value === "object" ? el(tag, { class: value.class }, value.text) : el(tag, {}, value ?? "");
  return el("div", { class: "table", role: "region", tabindex: "0", "aria-label": caption },
    el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: rows[0]?.[i]?.class?.startsWith("number") ? "number" : "" }, head)))),
      el("tbody", {}, rows.map(row => el("tr", {}, row.map(value => cell("td", value)))))));
}

export const right = text => ({ text, class: "number" });

export function problem(e) {
  return e.name === "AbortError" ? "" : el("div", { class: "note bad", role: "alert" }, el("strong", {}, e.message), ` ${e.hint ?? ""}`,
    e.code ? el("div", {}, el("small", {}, `${e.code}${e.traceId ? `, trace ${e.traceId}` : ""}`)) : "");
}
