import { events, get, post, remove } from "./api.js";
import { el, field, number, problem, right, table } from "./dom.js";
import { plot } from "./plot.js";

const lastRun = "mend.run";

export function training(page, signal) {
  const run = el("input", { required: true, pattern: "[A-Za-z0-9_\\-][A-Za-z0-9._\\-]*", value: sessionStorage.getItem(lastRun) ?? "" }), data = el("input", { placeholder: "edits.tsv" });
  const options = el("textarea", { rows: 3, spellcheck: "false" }, "{}"), out = el("div"), said = el("div", { "aria-live": "polite" });
  let watched = new AbortController();
  signal.addEventListener("abort", () => watched.abort());
  page.append(el("h1", {}, "Training"),
    el("form", { class: "fields", onsubmit: e => { e.preventDefault(); start(); } }, field("Run", run, "its name, and that of its folder on the server"),
      field("Data", data, "a file in the server's folder of trainings"), field("Settings", options, "as JSON; what is not named is as the method has it"),
      el("div", { class: "inline" }, el("button", { type: "submit" }, "Train"), el("button", { type: "button", class: "quiet", onclick: () => watch() }, "Watch"),
        el("button", { type: "button", class: "danger", onclick: cancel }, "End it"))), said, out);

  async function start() {
    try {
      await post("/v1/trainings", { run: run.value, data: data.value, options: JSON.parse(options.value) }, { signal });
      await watch();
    } catch (e) {
      said.replaceChildren(problem(e));
    }
  }

  async function cancel() {
    try {
      await remove(`/v1/trainings/${encodeURIComponent(run.value)}`, { signal });
      said.replaceChildren(el("div", { class: "note", role: "status" }, "It has ended; sent again it goes on from its last checkpoint."));
    } catch (e) {
      said.replaceChildren(problem(e));
    }
  }

  async function watch() {
    watched.abort();
    watched = new AbortController();
    sessionStorage.setItem(lastRun, run.value);
    const path = `/v1/trainings/${encodeURIComponent(run.value)}`, steps = [], begun = performance.now();
    let drawn = 0;
    said.replaceChildren();
    try {
      draw(await get(path, { signal: watched.signal }), steps);
      for await (const event of events("GET", `${path}/events`, undefined, { signal: watched.signal })) {
        if (event.name === "done") {
          draw(event.data, steps);
          return;
        }
        steps.push({ ...event.data, at: (performance.now() - begun) / 1000 });
        if (performance.now() - drawn > 250) {
          drawn = performance.now();
          draw({ state: "running", last: event.data }, steps);
        }
      }
    } catch (e) {
      said.replaceChildren(problem(e));
    }
  }

  function draw(status, steps) {
    const recent = steps.slice(-50), seconds = recent.length > 1 ? recent.at(-1).at - recent[0].at : 0;
    out.replaceChildren(table("The run", ["figure", "value"], [
      ["state", { text: status.state + (status.result ? `: ${status.result.stopped}` : ""), class: status.state === "failed" ? "number bad" : "number good" }], ...status.error ? [["why", status.error]] : [],
      ["edits seen", right(status.last ? `${number(status.last.iteration)} of ${number(status.last.maxIters)}` : "none yet")], ["loss", right(number(status.last?.loss, 4))],
      ["best validation", right(number(status.last?.bestValidation, 4))], ["steps a second", right(seconds > 0 ? number((recent.length - 1) / seconds, 1) : "")],
    ]), plot("Loss", steps.filter(step => step.loss !== undefined && step.loss !== null).map(step => [step.iteration, step.loss])));
  }
}
