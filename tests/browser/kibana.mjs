// usage: node kibana.mjs URL [SCREENSHOTS]
// An analyst's session with Kibana 5.1 in Debian's Chromium, which begins at URL. Each line on standard output is a JSON
// array: a step's name, and what the page showed. The reader answers each with a line, and the session continues.
import { createInterface } from 'node:readline';
import { chromium } from 'playwright-core';

const [url, screenshots] = process.argv.slice(2);
// What the pages are laid out for, and as much as the longest has.
const WIDTH = 1280;
const HEIGHT = 2500;
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function tell(step, shown) {
  console.log(JSON.stringify([step, shown]));
  await answers.next();
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu'],
});
const page = await browser.newPage({ viewport: { width: WIDTH, height: HEIGHT } });
page.setDefaultTimeout(60_000);
let failed = [];
const { origin } = new URL(url);
const named = (request) => `${request.method()} ${new URL(request.url()).pathname}`;
page.on('response', (response) =>
  response.status() >= 400 && failed.push(`${response.status()} ${named(response.request())}`));
page.on('requestfailed', (request) => {
  // What the page itself gave up, most often because it was left.
  const reason = request.failure()?.errorText;
  if (reason !== 'net::ERR_ABORTED') failed.push(`${reason} ${named(request)}`);
});
page.on('pageerror', (error) => failed.push(String(error).replaceAll(origin, '')));
page.on('console', (message) => message.type() === 'error' && failed.push(message.text().replaceAll(origin, '')));
const toasts = () => page.locator('.toast').allInnerTexts();
const kibana = `${origin}/_plugin/kibana/app/kibana`;
// What has failed since the last time that it was asked for.
const failures = () => failed.splice(0);

// Kibana 5 keeps its state in the fragment, so it is loaded again only from another page.
async function open(fragment) {
  await page.goto('about:blank');
  await page.goto(`${kibana}#/${fragment}`);
}

// Waits until nothing is under way any more: no request, no spinner.
async function settled() {
  await page.waitForLoadState('networkidle');
  await page.waitForFunction(() => !document.querySelector('.spinner.large, .visualize-chart.loading'));
}

async function query(text) {
  await page.locator('#editor .ace_text-input').focus();
  await page.keyboard.press('Control+A');
  await page.keyboard.insertText(text);
  const answered = page.waitForResponse((response) => response.url().includes('/api/console/proxy'));
  await page.keyboard.press('Control+Enter');
  const response = await answered;
  // The output is that of the call before until then. Only its line breaks are not those of the answer.
  const begin = (await response.text()).replace(/\s/g, '').slice(0, 80);
  const output = page.locator('#output .ace_content');
  await page.waitForFunction(
    (begin) => document.querySelector('#output .ace_content').innerText.replace(/\s/g, '').includes(begin), begin);
  return { status: response.status(), output: await output.innerText() };
}

try {
  await page.goto(url);
  await page.waitForURL('**/app/kibana#/**');
  await settled();
  await tell('opened', { url: page.url(), failures: failures(), toasts: await toasts() });

  for (const name of ['third-parties', 'account', 'security', 'pipeline', 'who-looked']) {
    await open(`dashboard/trailgate-${name}`);
    await page.locator('dashboard-panel').first().waitFor();
    await settled();
    const shown = await page.locator('dashboard-panel').evaluateAll((panels) => panels.map((panel) => ({
      title: panel.querySelector('.panel-title').innerText,
      text: panel.querySelector('.panel-content, visualize, doc-table')?.innerText ?? '',
      bars: panel.querySelectorAll('svg rect[data-label], svg .series rect, svg path.slice').length,
    })));
    if (screenshots) {
      const height = await page.locator('.gridster').evaluate((grid) => grid.getBoundingClientRect().bottom);
      await page.screenshot({ path: `${screenshots}/${name}.png`, clip: { x: 0, y: 0, width: WIDTH, height: Math.min(HEIGHT, height) } });
    }
    await tell(name, { panels: shown, failures: failures(), toasts: await toasts() });
  }

  await open('dashboard/trailgate-third-parties');
  await page.locator('td.cell-hover', { hasText: 'user/benjamin' }).first().waitFor();
  await settled();
  await page.locator('td.cell-hover', { hasText: 'user/benjamin' }).first().click();
  await page.locator('.filter-bar .filter').first().waitFor();
  await settled();
  await tell('filtered', {
    filter: await page.locator('.filter-bar .filter').first().innerText(),
    text: await page.locator('dashboard-panel', { hasText: 'Principals' }).first().innerText(),
    failures: failures(),
  });

  // As a person gets there, so that the page keeps the dashboard's time.
  const openSearch = async () => {
    await open('dashboard/trailgate-security');
    await page.locator('.metric-value').first().waitFor();
    await settled();
    await page.getByRole('link', { name: 'IAM' }).click();
    await page.locator('.discover-table-row').first().waitFor();
    await settled();
  };
  await openSearch();
  await tell('searched', { hits: await page.locator('[data-test-subj=discoverQueryHits]').innerText(), failures: failures() });

  // Of this session alone: of a name that is there already, Kibana asks whether to replace it.
  const mine = `Mine ${new URL(url).port}`;
  await open('visualize/create?type=metric&indexPattern=cwl-*');
  await page.locator('.metric-value').first().waitFor();
  await page.getByText('Save', { exact: true }).first().click();
  await page.locator('#visTitle, input[ng-model="opts.savedVis.title"]').first().fill(mine);
  await page.locator('form[ng-submit="opts.doSave()"] button[type=submit], button:has-text("Save")').first().click();
  await page.locator('.toast', { hasText: mine }).waitFor();
  await tell('saved', { toasts: await toasts(), failures: failures() });

  await open('dev_tools/console');
  await page.locator('#editor .ace_text-input').waitFor({ state: 'attached' });
  const skip = page.getByText('Get to work');
  if (await skip.isVisible().catch(() => false)) await skip.click();
  await tell('query', { ...(await query('GET cwl-*/_count')), failures: failures() });
  await tell('delete', { ...(await query('DELETE cwl-*')), failures: failures() });
  await tell('delete by query', {
    ...(await query('POST cwl-*/_delete_by_query\n{"query":{"match_all":{}}}')), failures: failures(),
  });

  await openSearch();
  const click = async () => {
    const answered = page.waitForResponse((response) => response.url().includes('/elasticsearch/cwl-'));
    await page.locator('form[name=discoverSearch] button[type=submit]').click();
    const status = (await answered).status();
    if (status >= 400) await page.locator('.toast').first().waitFor();
    await settled();
    return status;
  };
  await tell('before the grant is gone', { failures: failures() });
  await tell('grant gone', { status: await click(), toasts: await toasts(), failures: failures() });
  await tell('proxy stopped', {});
  await tell('proxy started', { status: await click(), failures: failures() });
} finally {
  await browser.close();
}
