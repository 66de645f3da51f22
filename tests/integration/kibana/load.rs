//! The time that a page takes to load.

use fake_domain::{FakeDomain, Options};
use jiff::Timestamp;
use trailgate_testkit::{KibanaStack, fill};

use super::session::Script;
use super::{KIBANA, open_domain, reader};
use crate::program::{Program, command, files, path};

/// Milliseconds without the proxy and through it, each with an empty and with a full browser cache.
type Round = [[f64; 2]; 2];

/// Returns the median over all rounds, for one way and one state of the cache.
fn median(rounds: &[Round], way: usize, cache: usize) -> f64 {
    let mut took: Vec<f64> = rounds.iter().map(|round| round[way][cache]).collect();
    took.sort_by(f64::total_cmp);
    let middle = took.len() / 2;
    if took.len() % 2 == 1 { took[middle] } else { f64::midpoint(took[middle - 1], took[middle]) }
}

/// Returns the load time through the proxy as a multiple of the time without it.
fn factor(rounds: &[Round], cache: usize) -> f64 {
    median(rounds, 1, cache) / median(rounds, 0, cache)
}

/// Starts a proxy as it is shipped, which the variable `TRAILGATE` names. The default is the one just built, which is not
/// optimized: on a busy machine it uses up most of the permitted tenth.
async fn start(domain: &FakeDomain) -> Program {
    let folder = files(&domain.url(), &reader());
    let run = command(&["run", "--config", &path(&folder, "trailgate.toml")]);
    Program::of(run, folder).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven, Node and Chromium"]
async fn page_through_the_proxy_loads_at_most_a_tenth_slower() {
    let stack = KibanaStack::start(|_| ()).await.unwrap();
    let signed = FakeDomain::start(Options { backend: stack.backend(), ..Options::default() }).await.unwrap();
    fill(&signed.url(), Timestamp::now()).await.unwrap();
    // The same server without signature checks answers both, so that only the proxy differs.
    let domain = open_domain(&stack).await;
    let program = start(&domain).await;

    let ways = [format!("{}{KIBANA}", domain.url()), format!("http://{}{KIBANA}", program.address)];
    let mut browser = Script::start("load.mjs", &[&ways[0], &ways[1]]).await;
    let mut rounds: Vec<Round> = Vec::new();
    let slower = loop {
        rounds.push(browser.next().await);
        let slower = [factor(&rounds, 0), factor(&rounds, 1)];
        // On a busy machine a few rounds are too noisy.
        let is_enough = rounds.len() >= FEW && slower.iter().all(|slower| *slower <= BOUND);
        if is_enough || rounds.len() == MANY {
            break slower;
        }
        browser.proceed().await;
    };
    for (cache, name) in ["without a cache", "with one"].into_iter().enumerate() {
        let [without, through] = [0, 1].map(|way| median(&rounds, way, cache));
        println!("{name}: {without:.0} ms without the proxy, {through:.0} ms through it, in {} rounds", rounds.len());
    }
    assert!(slower.iter().all(|slower| *slower <= BOUND), "{slower:?} times as long: {rounds:?}");
}

/// A tenth.
const BOUND: f64 = 1.1;

const FEW: usize = 7;

const MANY: usize = 31;
