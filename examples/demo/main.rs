//! The full pipeline locally, without AWS: a fake domain that holds real CloudTrail events and accepts only signed
//! requests, the proxy in front of it, and a few clients whose requests show the allowlist at work.
//!
//! `cargo run --example demo -- [--kibana] [PORT]`: with `--kibana` the domain is a real Elasticsearch with its Kibana and
//! the dashboards, which needs Java, Maven and npm.

mod story;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use fake_domain::{FakeDomain, Options};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::timeout;
use trailgate_testkit::{AWS_KEY, KibanaStack, fill, program, sample_events};

use self::story::Story;

/// The build profile of this program. The other programs need the same one, because they are run from the same folder.
const PROFILE: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let with_kibana = arguments.first().is_some_and(|argument| argument == "--kibana");
    if with_kibana {
        arguments.remove(0);
    }
    let port = arguments.first().map_or("8080", String::as_str);
    let wrong = || format!("{port:?} is not a port up to 64435; usage: cargo run --example demo -- [--kibana] [PORT]");
    let port: u16 = port.parse().with_context(wrong)?;
    // The status page listens 1,100 ports above the proxy.
    let admin_port = port.checked_add(1100).with_context(wrong)?;
    // With the example, so that its dependencies need no other features than now.
    build(&["--package", "trailgate", "--bins", "--example", "demo"])?;
    let (domain, _stack) = if with_kibana { real_domain().await? } else { (domain_in_memory().await?, None) };

    let folder = tempfile::tempdir()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (config, allowlist) = write_files(folder.path(), &domain.url(), address, admin_port)?;
    let mut proxy = start_proxy(&config, address).await?;
    println!(
        "\n  Domain   {0}   holds CloudTrail events, and accepts signed requests only:\n\
         \x20          curl {0}/_cat/indices\n\
         \x20 Proxy    http://{address}   signs and forwards the requests of allowed clients:\n\
         \x20          curl 'http://{address}/cwl-*/_search?size=1'\n\
         \x20 Status   http://127.0.0.1:{admin_port}/   the status page; or, in another terminal:\n\
         \x20          {1} top --config {2}\n\
         \x20 Open     http://{address}/   in a browser\n\n\
         \x20 The access log follows, a line for each request. Ctrl-C stops the demo.\n",
        domain.url(),
        program("trailgate")?.display(),
        config.display(),
    );
    let story = Story { domain: &domain, proxy: address, program: program("trailgate")?, allowlist };
    tokio::select! {
        status = proxy.wait() => anyhow::bail!("trailgate ended early: {}", status?),
        ended = async { story.run().await?; story.keep_searching().await } => ended,
        _ = tokio::signal::ctrl_c() => {
            // The terminal has sent the signal to the proxy as well. It is killed otherwise.
            let _ = timeout(Duration::from_secs(5), proxy.wait()).await;
            Ok(())
        }
    }
}

/// Writes the configuration and the allowlist, and returns their paths.
fn write_files(
    folder: &Path,
    domain: &str,
    address: SocketAddr,
    admin_port: u16,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let config = format!(
        "[listen]\naddress = \"{address}\"\n# The demo's clients are names in X-Forwarded-For.\ntrusted_proxies = [\"127.0.0.1\"]\n\
         [upstream]\nendpoint = \"{domain}\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n\
         [admin]\naddress = \"127.0.0.1:{admin_port}\"\n[limits]\nconnections = 1000\n\
         [log]\nformat = \"text\"\nlevel = \"warn\"\n\
         [reject]\ncontact = \"mailto:audit@example.com\"\n"
    );
    let paths = (folder.join("trailgate.toml"), folder.join("allowlist.toml"));
    std::fs::write(&paths.0, config)?;
    std::fs::write(&paths.1, story::allowlist(Timestamp::now())?)?;
    Ok(paths)
}

/// Starts `trailgate run`, and waits until it listens.
async fn start_proxy(config: &Path, address: SocketAddr) -> anyhow::Result<Child> {
    let mut run = tokio::process::Command::new(program("trailgate")?);
    run.args(["run", "--config"]).arg(config).envs(AWS_KEY).stdin(Stdio::null()).kill_on_drop(true);
    let mut child = run.spawn().context("cannot start trailgate")?;
    while TcpStream::connect(address).await.is_err() {
        anyhow::ensure!(
            child.try_wait()?.is_none(),
            "trailgate did not start; if the port is in use, name another one: cargo run --example demo -- 8090"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(child)
}

/// Builds programs, which `cargo run --example` does not.
fn build(targets: &[&str]) -> anyhow::Result<()> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Cargo sets these for this program, and build scripts run again if they change.
    let is_of_this_program = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars().filter(|(name, _)| is_of_this_program(name)) {
        build.env_remove(name);
    }
    let is_built = build.arg("build").args(targets).args(PROFILE).status()?.success();
    anyhow::ensure!(is_built, "cargo build {} failed", targets.join(" "));
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
        anyhow::ensure!(is_there, "--kibana needs {what}: cannot find the program {program}");
    }
    println!("  Building the ingest function ...");
    build(&["--package", "trailgate-ingest", "--bins"])?;
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
