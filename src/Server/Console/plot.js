// A small plot: points with a line, or bars, with the least, the most and the last value said in words for whoever sees no picture.
import { el, number } from "./dom.js";

const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes))
    made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const width = 520, height = 200, left = 60, bottom = 24, top = 12;

export function plot(title, points, { bars = false, digits = 4, unit = "" } = {}) {
  const values = points.map(([, y]) => y), caption = el("figcaption", {}, title);
  if (points.length === 0)
    return el("figure", {}, caption, el("p", { class: "hint" }, "Nothing was measured yet."));
  const [low, high] = [Math.min(0, ...values), Math.max(...values, Math.min(0, ...values) + 1e-9)], [first, last] = [points[0][0], points.at(-1)[0]];
  const x = at => left + (width - left - 10) * (bars ? (at + .5) / points.length : last === first ? .5 : (at - first) / (last - first));
  const y = value => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const said = `${title}: ${points.length} values, from ${number(Math.min(...values), digits)} to ${number(Math.max(...values), digits)}${unit}, the last ${number(values.at(-1), digits)}${unit}`;
  const step = (width - left - 10) / points.length;
  return el("figure", {}, caption, svg("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
    svg("line", { class: "axis", x1: left, x2: width - 10, y1: y(low), y2: y(low) }), svg("line", { class: "axis", x1: left, x2: left, y1: top, y2: y(low) }),
    svg("text", { x: left - 6, y: y(high) + 4, "text-anchor": "end" }, number(high, digits)), svg("text", { x: left - 6, y: y(low) + 4, "text-anchor": "end" }, number(low, digits)),
    ...bars ? points.map(([name, value], i) => svg("g", {}, svg("rect", { class: "bar", x: x(i) - step * .35, width: step * .7, y: y(value), height: Math.max(1, y(low) - y(value)) }),
      svg("text", { x: x(i), y: height - 8, "text-anchor": "middle" }, name)))
      : [svg("polyline", { class: "line", points: points.map(([at, value]) => `${x(at)},${y(value)}`).join(" ") }),
        ...points.length > 200 ? [] : points.map(([at, value]) => svg("circle", { class: "dot", cx: x(at), cy: y(value), r: 2.5 })),
        svg("text", { x: left, y: height - 8 }, `${first}`), svg("text", { x: width - 10, y: height - 8, "text-anchor": "end" }, `${last}`)]));
}
