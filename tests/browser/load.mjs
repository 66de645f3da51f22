// usage: node load.mjs URL URL
// Loads the same page of Kibana 5.1 from both URLs in Debian's Chromium, interleaved, each time in a browser without a cache
// and then once more with what is in it. Prints a JSON array for each round: for each URL the milliseconds of both loads.
// The reader answers each with a line as long as another round is to follow.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const ways = process.argv.slice(2);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});

// From the start of the page's load to the end of the last answer that it asked for.
async function load(page, way) {
  await page.goto('about:blank');
  await page.goto(`${way}#/dashboard/trailgate-third-parties`);
  await page.locator('dashboard-panel', { hasText: 'Denied calls by principal' }).locator('td').first().waitFor();
  await page.waitForLoadState('networkidle');
  return page.evaluate(() => Math.max(...performance.getEntriesByType('resource').map((entry) => entry.responseEnd)));
}

try {
  for (let round = 0; ; round++) {
    const took = [];
    // Whatever the first of a round has to bear, each way is it as often.
    for (const way of round % 2 ? [1, 0] : [0, 1]) {
      const context = await browser.newContext({ viewport: { width: 1440, height: 2000 } });
      const page = await context.newPage();
      page.setDefaultTimeout(60_000);
      took[way] = [await load(page, ways[way]), await load(page, ways[way])];
      await context.close();
    }
    console.log(JSON.stringify(took));
    if ((await answers.next()).done) break;
  }
} finally {
  await browser.close();
}
