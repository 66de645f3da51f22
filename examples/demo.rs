//! The full pipeline locally, without AWS: a fake domain that holds real CloudTrail events and accepts only signed
//! requests, and the proxy in front of it.
//!
//! `cargo run --example demo -- [--kibana] [PORT]`: with `--kibana` the domain is a real Elasticsearch with its Kibana and
//! the dashboards, which needs Java, Maven and npm.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use aws_credential_types::provider::SharedCredentialsProvider;
use fake_domain::{FakeDomain, Options};
use jiff::Timestamp;
use serde_json::{Value, json};
use trailgate::allowlist::Entries;
use trailgate::proxy::Proxy;
use trailgate::{
    AccessLog, BoundListener, Config, LogFailurePolicy, LogFormat, Metrics, NonBlockingWriter, RequestRecorder,
    Termination, Worker, allowlist, daemon, proxy,
};
use trailgate_client::CredentialCache;
use trailgate_testkit::{KibanaStack, fill, sample_events, signing_key};

/// The build profile of this program. The function needs the same one, because it is run from the same folder.
const PROFILE: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };

const ALLOWLIST: &str = "[[allow]]\ncidr = \"127.0.0.1\"\nname = \"this machine\"\naccess = \"full\"\n";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let with_kibana = arguments.first().is_some_and(|argument| argument == "--kibana");
    if with_kibana {
        arguments.remove(0);
    }
    let port = arguments.first().map_or(Ok(8080_u16), |port| port.parse()).context("PORT is no number")?;
    let (domain, _stack) = if with_kibana { real_domain().await? } else { (domain_in_memory().await?, None) };

    let text = format!(
        "[listen]\naddress = \"127.0.0.1:{port}\"\n[upstream]\nendpoint = \"{}\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n[log]\nformat = \"text\"\n",
        domain.url()
    );
    let mut config = Config::parse(Path::new("demo.toml"), &text)?;
    let limits = config.connections;
    let bound = BoundListener::bind(config.listeners.remove(0), None).await.context("name another PORT")?;
    let proxy_url = format!("http://{}", bound.address()?);
    let (_publisher, allowlist) = allowlist::channel(Entries::parse(Path::new("allowlist.toml"), ALLOWLIST)?);
    let (cache, refresher) = CredentialCache::new(SharedCredentialsProvider::new(signing_key(None)));
    tokio::spawn(refresher.run());
    let lines = NonBlockingWriter::start(std::io::stdout(), |lost| format!("{lost} lines were lost\n"))?;
    let metrics = Arc::<Metrics>::default();
    let access_log = AccessLog::new(Some(lines), LogFormat::Text, LogFailurePolicy::Serve);
    let recorder = RequestRecorder::new(access_log, Arc::clone(&metrics));
    let upstream = daemon::build_upstream(config.domain, cache)?;
    let (roles, keeper) = daemon::build_roles(config.roles, &upstream);
    tokio::spawn(keeper.run());
    let shared = Arc::new(proxy::Shared::new(config.proxy, allowlist, roles, recorder, metrics));

    println!(
        "\n  Domain   {0}   has 1,000 CloudTrail events, and accepts signed requests only:\n\
         \x20          curl {0}/_cat/indices\n\
         \x20 Proxy    {proxy_url}   signs requests of the clients on its allowlist:\n\
         \x20          curl '{proxy_url}/cwl-*/_search?size=1'\n\n\
         \x20 Open     {proxy_url}/\n\n\
         \x20 Each request is logged here. Ctrl-C stops both.\n",
        domain.url()
    );
    let workers = vec![Worker::here(Proxy { shared: Arc::clone(&shared), upstream })];
    proxy::serve(vec![bound], workers, limits, &shared, Termination::listen()?.wait()).await;
    Ok(())
}

async fn domain_in_memory() -> anyhow::Result<FakeDomain> {
    let domain = FakeDomain::start(Options::default()).await?;
    domain.load("cwl-2023.07.10", documents()?);
    Ok(domain)
}

/// Starts Elasticsearch and Kibana behind the fake domain's signature check. They stop when the second part is dropped.
async fn real_domain() -> anyhow::Result<(FakeDomain, Option<KibanaStack>)> {
    for (program, what) in [("java", "a JDK 17 or later"), ("mvn", "Maven"), ("npm", "Node with npm")] {
        let is_there = Command::new(program).arg("-version").output().is_ok();
        anyhow::ensure!(is_there, "--kibana needs {what}: there is no {program}");
    }
    println!("  The function that ingests the events ...");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let is_built = build.args(["build", "--package", "trailgate-ingest", "--bins"]).args(PROFILE).status()?.success();
    anyhow::ensure!(is_built, "the function cannot be built");
    let stack = KibanaStack::start(|step| println!("  {step} ...")).await?;
    let domain = FakeDomain::start(Options { backend: stack.backend(), ..Options::default() }).await?;
    print!("  {}", fill(&domain.url(), Timestamp::now()).await?);
    Ok((domain, Some(stack)))
}

/// Returns the sample events as indexed documents.
fn documents() -> anyhow::Result<Vec<Value>> {
    let mut documents = sample_events()?;
    for document in &mut documents {
        document["@timestamp"] = json!(document["eventTime"]);
    }
    Ok(documents)
}
