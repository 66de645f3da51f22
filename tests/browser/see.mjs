// usage: node see.mjs URL SELECTOR [SCREENSHOT]
// Opens URL in Debian's Chromium, waits for SELECTOR, and prints as JSON how the page came and what it shows.
import { chromium } from 'playwright-core';

const [url, selector, screenshot] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
try {
  // The certificate is one of the test's own making.
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  const failed = [];
  page.on('response', (response) => response.status() >= 400 && failed.push(`${response.status()} ${response.url()}`));
  page.on('requestfailed', (request) => failed.push(`${request.failure()?.errorText} ${request.url()}`));
  page.on('pageerror', (error) => failed.push(String(error)));
  await page.goto(url);
  await page.locator(selector).first().waitFor();
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
  const protocols = await page.evaluate(() =>
    performance.getEntries().map((entry) => entry.nextHopProtocol).filter((protocol) => protocol));
  const shown = await page.locator(selector).count();
  console.log(JSON.stringify({ url: page.url(), title: await page.title(), shown, protocols, failed }));
} finally {
  await browser.close();
}
