// Opens a page in a headless Chromium at two widths, light and dark, and on paper; says what it found, one JSON object.
//   node look.mjs HOME BROWSER FILE SCREENS [FOLDER for screenshots]      SCREENS such as 1280-light,390-dark
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [home, browserPath, file, screens, folder] = process.argv.slice(2);
const load = createRequire(`${home}/`);
const { chromium } = load("playwright-core");
const axe = readFileSync(load.resolve("axe-core/axe.min.js"), "utf8");

// What stands out of the page to the right.
function wide() {
  const edge = document.documentElement.clientWidth;
  return [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > edge + 1 && one.getBoundingClientRect().left >= 0)
    .map((one) => `${one.tagName}.${one.getAttribute("class") ?? ""} ${one.textContent.trim().slice(0, 40)}`)
    .concat(document.documentElement.scrollWidth > edge ? [`page ${document.documentElement.scrollWidth}`] : []);
}

// Letters that a reader would not make out: drawings are scaled.
function small() {
  return [...document.querySelectorAll("svg text")]
    .map((one) => [one.getBoundingClientRect().height, one.textContent])
    .filter(([height]) => height > 0 && height < 9.5)
    .map(([height, text]) => `${text} ${height.toFixed(1)}`);
}

const browser = await chromium.launch({
  executablePath: browserPath, headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const found = [];
for (const screen of screens.split(",")) {
  const [width, colorScheme] = [Number(screen.split("-")[0]), screen.split("-")[1]];
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
  const errors = [], asked = [];
  page.on("console", (message) => errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(pathToFileURL(file).href);
  const seen = { width, colorScheme, errors: [...errors], asked: asked.filter((url) => !/^(file|data):/.test(url)) };
  seen.wide = await page.evaluate(wide);
  seen.small = await page.evaluate(small);
  seen.background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  seen.scripts = await page.evaluate(() => document.scripts.length);
  await page.evaluate(axe);
  const result = await page.evaluate(() => window.axe.run());
  seen.passes = result.passes.length;
  seen.violations = result.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes[0].html.slice(0, 120)}`);
  if (folder) await page.screenshot({ path: `${folder}/${width}-${colorScheme}.png`, fullPage: true });
  found.push(seen);
  await page.close();
}
const sheet = await browser.newPage({ viewport: { width: 718, height: 1016 }, colorScheme: "dark" });     // A4 without its margins
await sheet.emulateMedia({ media: "print" });
await sheet.goto(pathToFileURL(file).href);
const print = { wide: await sheet.evaluate(wide), background: await sheet.evaluate(() => getComputedStyle(document.body).backgroundColor) };
if (folder) await sheet.screenshot({ path: `${folder}/paper.png`, fullPage: true });
const paper = await browser.newPage({ javaScriptEnabled: false });
await paper.goto(pathToFileURL(file).href);
const printed = await paper.pdf({ format: "A4", path: folder ? `${folder}/paper.pdf` : undefined });
await browser.close();
console.log(JSON.stringify({ screens: found, print, paper: printed.length }));
