// usage: node pages.mjs PAGES [SCREENSHOTS]
// PAGES is a JSON file: [{"name", "headers": {…}, "body"}, …]. Checks each page in Debian's Chromium at three widths,
// light and dark: valid HTML, no violation that axe knows, nothing refused by the page's own policy, no sideways
// scrolling. Prints the problems as a JSON list. Saves pictures to the folder SCREENSHOTS.
import axe from 'axe-core';
import { HtmlValidate } from 'html-validate';
import { readFile } from 'node:fs/promises';
import { chromium } from 'playwright-core';

const [file, screenshots] = process.argv.slice(2);
const pages = JSON.parse(await readFile(file, 'utf8'));
const validator = new HtmlValidate({ extends: ['html-validate:standard'], rules: { 'doctype-style': 'off' } });
const problems = [];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});

// Opens the page in a browser of its own settings; `look` returns what is wrong.
async function open({ name, headers, body }, options, look) {
  const context = await browser.newContext(options);
  try {
    const page = await context.newPage();
    page.on('console', (message) => message.type() === 'error' && problems.push(`${name}: ${message.text()}`));
    await page.route('**', (route) => route.fulfill({ headers, body }));
    await page.goto('https://gate.test/');
    problems.push(...(await look(page)).map((problem) => `${name}: ${problem}`));
  } finally {
    await context.close();
  }
}

try {
  for (const shown of pages) {
    const report = await validator.validateString(shown.body);
    for (const { messages } of report.results) {
      problems.push(...messages.map(({ ruleId, message }) => `${shown.name}: ${ruleId}: ${message}`));
    }
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [360, 900, 1600]) {
        const viewport = { width, height: 800 };
        await open(shown, { colorScheme, viewport }, async (page) => {
          const path = `${screenshots}/${shown.name}-${colorScheme}-${width}.png`;
          if (screenshots) await page.screenshot({ path, fullPage: true });
          const wide = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
          return wide ? [`scrolls sideways at ${width} px`] : [];
        });
      }
      // The page's own policy forbids the checker's script.
      await open(shown, { colorScheme, bypassCSP: true }, async (page) => {
        await page.evaluate(axe.source);
        const { violations, passes } = await page.evaluate(() => axe.run());
        const ran = passes.some(({ id }) => id === 'color-contrast') ? [] : ['axe measured no contrast'];
        return [...ran, ...violations.map(({ id, nodes }) => `${id} (${colorScheme}): ${nodes.map(({ html }) => html)}`)];
      });
    }
  }
  console.log(JSON.stringify(problems));
} finally {
  await browser.close();
}
