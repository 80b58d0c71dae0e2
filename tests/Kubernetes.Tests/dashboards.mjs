// Holds dashboards against Grafana's own types, which a compiler checks: node dashboards.mjs FOLDER_OF_NODE_MODULES FILE... Prints what does not fit.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { basename, join } from 'node:path';

const [modules, ...files] = process.argv.slice(2);
const panels = { timeseries: 'timeseries', stat: 'stat', heatmap: 'heatmap', 'state-timeline': 'statetimeline' };
const folder = mkdtempSync(join(modules, 'dashboards-'));
const lines = [
  `import type { Dashboard } from '@grafana/schema';`,
  ...Object.values(panels).map(name => `import type * as ${name} from '../node_modules/@grafana/schema/dist/types/raw/composable/${name}/panelcfg/x/types.gen';`),
  // Their enumerations as the text that JSON has. Of a panel's own options Grafana fills in what is missing.
  'type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;',
  'type Part<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]?: Part<T[K]> } : T;',
];
for (const [i, file] of files.entries()) {
  const dashboard = JSON.parse(readFileSync(file, 'utf8'));
  lines.push(`export const of_${i}_${basename(file, '.json')}: Json<Dashboard> = ${JSON.stringify(dashboard)};`);
  for (const panel of dashboard.panels.filter(panel => panel.type !== 'row')) {
    const [name, type] = [`${basename(file, '.json')}_${panel.title.replace(/\W+/g, '_')}`, panels[panel.type]];
    if (type === undefined) console.log(`${file}: the panel ${panel.title} is of the type ${panel.type}, whose options are not checked; add it to dashboards.mjs`);
    lines.push(`export const options_${panel.id}_${name}: Part<${type}.Options> = ${JSON.stringify(panel.options)};`);
    if (panel.fieldConfig.defaults.custom)
      lines.push(`export const fields_${panel.id}_${name}: Part<${type}.FieldConfig> = ${JSON.stringify(panel.fieldConfig.defaults.custom)};`);
  }
}
try {
  const source = join(folder, 'check.ts');
  writeFileSync(source, lines.join('\n'));
  const compiler = [join(modules, 'node_modules', 'typescript', 'bin', 'tsc'), '--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler'];
  for (const fault of spawnSync(process.execPath, [...compiler, source], { encoding: 'utf8' }).stdout.split('\n').filter(line => line)) {
    const line = /check\.ts\((\d+),/.exec(fault);
    console.log(line ? `${lines[line[1] - 1].slice(13, 80)}: ${fault}` : fault);
  }
} finally {
  rmSync(folder, { recursive: true });
}
