// The console in a real browser: node console.mjs ADDRESS KEY PROMPT TARGET FOLDER. Every page in light, dark and narrow, an edit and its revert, by mouse and by keyboard. Prints what
// it met as JSON; pictures go into FOLDER.
import { chromium } from "playwright-core";
import { AxeBuilder } from "@axe-core/playwright";

const [address, key, prompt, target, folder] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1200, height: 900 } }), page = await context.newPage();
const met = { errors: [], violations: [], steps: [] };
page.setDefaultTimeout(60000); // machines that do other things too
page.on("console", message => message.type() === "error" && met.errors.push(message.text()));
page.on("pageerror", e => met.errors.push(e.message));

const look = async name => {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    const found = await new AxeBuilder({ page }).analyze();
    met.violations.push(...found.violations.map(each => `${name}, ${scheme}: ${each.id}: ${each.nodes[0].html.slice(0, 200)}`));
    await page.screenshot({ path: `${folder}/${name}-${scheme}.png`, fullPage: true });
  }
  await page.setViewportSize({ width: 360, height: 740 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0)
    met.violations.push(`${name}: ${wide} pixels wider than a narrow screen`);
  await page.screenshot({ path: `${folder}/${name}-narrow.png`, fullPage: true });
  await page.setViewportSize({ width: 1200, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
};
const go = name => page.getByRole("link", { name, exact: true }).click();
const text = async locator => (await locator.innerText()).trim();

// A key that is none, then the right one by the dialog.
await page.goto(`${address}#key=mend_none`);
await page.getByRole("dialog").waitFor();
met.errors.length = 0; // the browser tells of the 401
await page.getByLabel("Key", { exact: true }).fill(key);
await page.getByRole("button", { name: "Use it" }).click();
await page.locator("#model", { hasText: /./ }).waitFor();
met.steps.push(`key left in the address: ${page.url().includes("mend_")}`);

await page.getByLabel("Prompt").fill(prompt);
await page.getByLabel("Target").fill(target);
await page.getByLabel("Paraphrases").fill("the mayor is");
await page.getByRole("button", { name: "Preview" }).click();
await page.getByRole("region", { name: "Update of each weight" }).waitFor();
met.steps.push(`previewed: ${await page.getByRole("region", { name: "Answers" }).getByRole("row").count()} rows`);
await look("edit");
await page.getByRole("button", { name: "Make this edit" }).click();
met.steps.push(await text(page.getByRole("status").filter({ hasText: "is in force" })));

// By keyboard alone.
await go("Ask");
await page.getByLabel("Prompt").focus();
await page.keyboard.type(prompt);
for (let i = 0; i < 10 && !await page.getByRole("button", { name: "Ask" }).evaluate(button => button === document.activeElement); i++)
  await page.keyboard.press("Tab");
await page.keyboard.press("Enter");
await page.getByText("Version 1 of the model.").waitFor();
met.answer = await text(page.getByRole("status", { name: "Answer" }));
await look("ask");

await go("Ledger");
await page.getByRole("button", { name: "Take back edit 1" }).waitFor();
await look("ledger");
await page.getByRole("button", { name: "Consolidate\u2026" }).click();
await page.getByLabel("Seconds at most").fill("2");
await page.getByRole("dialog").getByRole("button", { name: "Consolidate", exact: true }).click();
met.steps.push(await text(page.getByRole("status").filter({ hasText: "has the place of" })));
await page.getByRole("button", { name: "Take back edit 1" }).click();
await page.getByRole("button", { name: "Take it back" }).click();
met.steps.push(await text(page.getByRole("status").filter({ hasText: "taken back" })));
await page.getByText("revert of 1").waitFor();
await page.getByLabel("Text").fill("no such text");
await page.keyboard.press("Enter");
await page.getByText("There is nothing here.").waitFor();

await go("Cluster");
await page.getByText("Stage 2").waitFor();
await look("cluster");

await go("Quality");
await page.getByRole("region", { name: "In all" }).waitFor();
await look("quality");

await go("Training");
await page.getByLabel("Run").fill("first");
await page.getByLabel("Data").fill("edits.tsv");
await page.getByLabel("Settings").fill('{"mend": {"rank": 4}, "maxIters": 40, "accumulateBs": 2, "valInterval": 20, "valSteps": 2}');
await page.getByRole("button", { name: "Train" }).click();
await page.getByText("ended: max_iters").waitFor();
await look("training");

await browser.close();
console.log(JSON.stringify(met));
