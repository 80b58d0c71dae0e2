// Requests to the API. A failure is an Error with the problem's members: code, hint, transient, traceId, status.
let refused = () => {};
const kept = "mend.key";

export const hasKey = () => sessionStorage.getItem(kept) !== null;
export const setKey = key => key ? sessionStorage.setItem(kept, key) : sessionStorage.removeItem(kept);
export const onRefused = tell => { refused = tell; };

async function send(method, path, body, { signal, headers } = {}) {
  const key = sessionStorage.getItem(kept);
  let response;
  try {
    response = await fetch(path, {
      method, signal, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
      headers: { ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...(key ? { Authorization: `Bearer ${key}` } : {}), ...headers },
    });
  } catch (e) {
    if (e.name === "AbortError")
      throw e;
    throw Object.assign(new Error("The server does not answer."), { hint: "Look whether it runs.", status: 0 });
  }
  if (response.ok)
    return response;
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401)
    refused(problem.detail);
  throw Object.assign(new Error(problem.detail ?? `The server answers ${response.status}.`), problem, { status: response.status });
}

export const get = async (path, options) => (await send("GET", path, undefined, options)).json();
export const post = async (path, body, options) => (await send("POST", path, body, options)).json();
export const remove = (path, options) => send("DELETE", path, undefined, options);

// The events of a stream: { name, data, id }.
export async function* events(method, path, body, { signal, headers } = {}) {
  const response = await send(method, path, body, { signal, headers: { Accept: "text/event-stream", ...headers } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const { done, value } = await reader.read();
      if (done)
        return;
      rest += value;
      for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
        const event = { name: "message", data: "" };
        for (const line of rest.slice(0, end).split("\n"))
          if (line.startsWith("event: ")) event.name = line.slice(7);
          else if (line.startsWith("data: ")) event.data += line.slice(6);
          else if (line.startsWith("id: ")) event.id = line.slice(4);
        if (event.data)
          yield { ...event, data: JSON.parse(event.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Every entry of the ledger, page after page.
export async function wholeLedger(signal) {
  const entries = [];
  for (let next = 0; next !== undefined;) {
    const page = await get(`/v1/ledger?limit=1000&after=${next}`, { signal });
    entries.push(...page.entries);
    next = page.next;
  }
  return entries;
}
