// node draw.mjs BROWSER FOLDER: draws each FOLDER/*.json of `python -m testbeds.dashboards` as the PNG beside it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import puppeteer from 'puppeteer-core';

const [browserPath, folder] = process.argv.slice(2);
const HTML = '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><div id="page"></div><script src="page.js"></script>';
const page = resolve(folder, 'page.html');

await build({
  entryPoints: ['page.tsx'],
  bundle: true,
  outfile: resolve(folder, 'page.js'),
  jsx: 'transform',
  loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  logLevel: 'error',
});
writeFileSync(page, HTML);

const browser = await puppeteer.launch({
  executablePath: browserPath,
  args: process.getuid() === 0 ? ['--no-sandbox'] : [], // Chromium refuses its sandbox to root
});
try {
  for (const name of readdirSync(folder).filter((each) => each.endsWith('.json'))) {
    await draw(name.slice(0, -'.json'.length));
  }
} finally {
  await browser.close();
}

async function draw(name) {
  const picture = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  const tab = await browser.newPage();
  const errors = [];
  tab.on('pageerror', (error) => errors.push(error.stack));
  await tab.setViewport({ width: picture.width + 32, height: 1000 });
  await tab.evaluateOnNewDocument((given) => (window.picture = given), picture);
  await tab.goto(pathToFileURL(page).href);
  await tab.waitForFunction(() => window.failure ?? document.querySelector('[data-drawn]'), { timeout: 60_000 });
  const failure = await tab.evaluate(() => window.failure);
  if (failure || errors.length > 0) {
    throw new Error(`${name}: ${failure ?? errors.join('\n')}`);
  }
  // Charts paint in the frame after the one that laid them out.
  await tab.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await (await tab.$('[data-drawn]')).screenshot({ path: join(folder, `${name}.png`) });
  await tab.close();
}
