// Holds objects (JSON, an array on the standard input) against the schemas of Kubernetes, prometheus-operator and cert-manager: values of enumerations, above
// all, which the typed reading lets pass. argv[2]: the folder of node_modules. Prints a line for each fault.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const modules = join(process.argv[2], 'node_modules');
const packages = { 'monitoring.coreos.com': '@kubernetes-models/prometheus-operator', 'cert-manager.io': '@kubernetes-models/cert-manager' };

for (const object of JSON.parse(readFileSync(0, 'utf8'))) {
  const name = `${object.kind} ${object.metadata?.name}`;
  try {
    const group = object.apiVersion.split('/')[0];
    const folder = join(modules, packages[group] ?? 'kubernetes-models', object.apiVersion);
    const { [object.kind]: Model } = await import(pathToFileURL(createRequire(import.meta.url).resolve(join(folder, 'index.js'))));
    new Model(object).validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
