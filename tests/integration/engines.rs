mod access_log;
mod read_grant;

use std::time::Duration;

use fake_domain::Options;
use tokio::process::Command;
use tokio::time::timeout;
use trailgate_testkit::{Engine, repository};

use crate::support::{Rig, Setup};

/// Starts a proxy in front of a real server.
async fn proxy_in_front(engine: &Engine) -> Rig {
    let domain = Options { backend: engine.backend(), ..Options::default() };
    Rig::with(Setup { domain, ..Setup::default() }).await
}

/// Runs the engine's official client against the proxy in front of the engine: the proxy signs every request, the
/// stand-in verifies it, and the real server responds.
async fn official_client_reads_back_what_it_wrote(name: &str, options: &[&[&str]]) {
    let engine = Engine::start(name, &[]).await.unwrap();
    let rig = proxy_in_front(&engine).await;
    let setup = Command::new(repository("tests/engines/clients/setup.sh")).status().await.unwrap();
    assert!(setup.success(), "the clients cannot be installed");
    let script = repository("tests/engines/clients/clients.py");
    for options in options {
        let mut command = Command::new("python3");
        let run = command.arg(&script).args([name, &format!("http://{}", rig.address)]).args(*options).status();
        assert!(timeout(RUN, run).await.expect("the client ends in time").unwrap().success(), "{options:?}");
    }

    let seen = rig.domain.seen();
    let refused: Vec<_> = seen.iter().filter(|seen| seen.refusal.is_some()).map(|seen| &seen.target).collect();
    assert!(seen.len() > 1000 && refused.is_empty(), "{} requests, refused: {refused:?}", seen.len());
}

const RUN: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn elasticsearch_5_client_works_through_the_proxy() {
    // Its client does not compress.
    official_client_reads_back_what_it_wrote("elasticsearch-5.6", &[&[]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn elasticsearch_7_client_works_through_the_proxy() {
    official_client_reads_back_what_it_wrote("elasticsearch-7.10", &[&[], &["--gzip"]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn opensearch_2_client_works_through_the_proxy() {
    official_client_reads_back_what_it_wrote("opensearch-2.19", &[&[], &["--gzip"]]).await;
}
