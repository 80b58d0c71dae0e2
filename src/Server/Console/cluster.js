import { get } from "./api.js";
import { bytes, el, problem } from "./dom.js";

export function cluster(page, signal) {
  const out = el("div"), when = el("p", { class: "hint" });
  page.append(el("h1", {}, "Cluster"), when, out);
  look();

  async function look() {
    try {
      const status = await get("/v1/status", { signal });
      when.textContent = `${status.model}, version ${status.version ?? "unknown"}; looked at ${new Date().toLocaleTimeString()}, and again every two seconds`;
      const replicas = Map.groupBy ? Map.groupBy(status.shards, shard => shard.place.replica)
        : status.shards.reduce((map, shard) => map.set(shard.place.replica, [...map.get(shard.place.replica) ?? [], shard]), new Map());
      out.replaceChildren(...[...replicas].flatMap(([replica, shards]) => [el("h2", {}, `Replica ${replica + 1}`), el("div", { class: "grid" }, shards.map(shard => card(shard, status.version)))]));
    } catch (e) {
      out.replaceChildren(problem(e));
    }
    if (!signal.aborted)
      setTimeout(() => signal.aborted || look(), 2000);
  }
}

function card({ place, status }, newest) {
  if (!status)
    return el("section", { class: "card" }, el("h3", {}, `Stage ${place.stage + 1}`), el("p", { class: "bad" }, "does not answer"));
  const lags = newest !== undefined && status.version < newest;
  return el("section", { class: "card" }, el("h3", {}, `Stage ${place.stage + 1}`),
    status.state === "loading" ? el("progress", { "aria-label": `Loading of stage ${place.stage + 1}`, max: 1, value: status.loadedFraction }) : "",
    el("dl", {},
      el("dt", {}, "state"), el("dd", { class: status.state === "ready" ? "good" : status.state === "faulted" ? "bad" : "warn" }, status.state),
      status.fault ? [el("dt", {}, "why"), el("dd", { class: "bad" }, status.fault)] : [],
      el("dt", {}, "version"), el("dd", { class: lags ? "warn" : "" }, `${status.version}${lags ? `, ${newest - status.version} behind` : ""}`),
      el("dt", {}, "layers"), el("dd", {}, `${status.firstLayer} to ${status.endLayer - 1}, ${status.editableWeights.length} editable weights`),
      el("dt", {}, "weights"), el("dd", {}, bytes(status.weightBytes)),
      el("dt", {}, "checksum"), el("dd", { title: status.checksum }, status.checksum.slice(0, 12) || "none yet")));
}
