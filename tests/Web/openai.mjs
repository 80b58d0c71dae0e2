// The official client of OpenAI, on our server: node openai.mjs ADDRESS KEY PROMPT. Prints what it met as JSON.
import OpenAI from "openai";

const [address, apiKey, prompt] = process.argv.slice(2), client = new OpenAI({ baseURL: `${address}v1`, apiKey, maxRetries: 0 });
const models = [];
for await (const model of client.models.list())
  models.push(model.id);
const whole = await client.completions.create({ model: models[0], prompt, max_tokens: 12 });
let streamed = "", finish = null;
for await (const chunk of await client.completions.create({ model: models[0], prompt, max_tokens: 12, stream: true })) {
  streamed += chunk.choices[0].text;
  finish = chunk.choices[0].finish_reason ?? finish;
}
const failure = async ask => { try { await ask(); return null; } catch (e) { return { status: e.status, code: e.code }; } };
console.log(JSON.stringify({
  models, whole: whole.choices[0].text, streamed, finish,
  unknown: await failure(() => client.completions.create({ model: "other", prompt })),
  denied: await failure(() => new OpenAI({ baseURL: `${address}v1`, apiKey: "mend_none", maxRetries: 0 }).models.list()),
}));
