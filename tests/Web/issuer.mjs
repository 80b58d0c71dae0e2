// An OpenID Connect issuer. Prints its address; then, for each line of claims as JSON on the standard input, a token that has them.
import { webcrypto } from "node:crypto";
import { createInterface } from "node:readline";

globalThis.crypto ??= webcrypto; // Node 18 has none by itself
const { OAuth2Server } = await import("oauth2-mock-server");

const server = new OAuth2Server(), stranger = new OAuth2Server();
await server.issuer.keys.generate("RS256");
await stranger.issuer.keys.generate("RS256");
await server.start(0, "127.0.0.1");
stranger.issuer.url = server.issuer.url; // the same name, another key
console.log(server.issuer.url);
for await (const line of createInterface({ input: process.stdin })) {
  const { forged, ...claims } = JSON.parse(line);
  console.log(await (forged ? stranger : server).issuer.buildToken({ scopesOrTransform: (_, payload) => Object.assign(payload, claims) }));
}
await server.stop();
