import { events } from "./api.js";
import { el, field, problem } from "./dom.js";

export function ask(page, signal) {
  const prompt = el("textarea", { required: true, rows: 2 }), scope = el("input"), most = el("input", { type: "number", min: 1, max: 4096, value: 32 });
  const temperature = el("input", { type: "number", min: 0, step: "any", value: 0 });
  const button = el("button", { type: "submit" }, "Ask"), answer = el("div", { class: "answer", role: "status", "aria-label": "Answer" }), by = el("p", { class: "hint" }), failed = el("div");
  page.append(el("h1", {}, "Ask"), el("form", { class: "fields", onsubmit: e => { e.preventDefault(); send(); } }, field("Prompt", prompt),
    el("div", { class: "inline" }, field("Most tokens", most), field("Temperature", temperature, "0: the most likely"), field("Scope", scope, "empty: none")), el("div", {}, button)),
    el("h2", {}, "Answer"), answer, by, failed);

  async function send() {
    button.disabled = true;
    answer.textContent = by.textContent = "";
    failed.replaceChildren();
    try {
      const asked = { prompt: prompt.value, maxTokens: Number(most.value), temperature: Number(temperature.value), ...(scope.value ? { scope: scope.value } : {}) };
      for await (const event of events("POST", "/v1/ask", asked, { signal })) {
        if (event.name === "error")
          throw Object.assign(new Error(event.data.detail), event.data);
        answer.textContent = event.name === "done" || event.data.restarts ? event.data.text : answer.textContent + event.data.text;
        by.textContent = `Version ${event.data.version} of the model${event.name === "done" ? "." : " answers..."}`;
      }
    } catch (e) {
      failed.replaceChildren(problem(e));
    }
    button.disabled = false;
  }
}
