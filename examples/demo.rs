//! The whole road on this machine, without AWS: a stand-in domain that holds real CloudTrail events and takes signed
//! requests alone, and the gate in front of it.
//!
//! `cargo run --example demo [PORT]`

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use trailgate::access_log::{AccessLog, Format};
use trailgate::allowlist::{self, Entries};
use trailgate::config::Config;
use trailgate::line_pipe::LinePipe;
use trailgate::metrics::Metrics;
use trailgate::server::{self, Entrance};
use trailgate::signals::Termination;
use trailgate::{credentials, process};
use trailgate_domain::{Domain, Options};

const EVENTS: &[u8] = include_bytes!("../tests/data/cloudtrail/events.jsonl.gz");

const ALLOWLIST: &str = "[[allow]]\ncidr = \"127.0.0.1\"\nname = \"this machine\"\naccess = \"full\"\n";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).map_or(Ok(8080_u16), |port| port.parse()).context("PORT is no number")?;
    let domain = Domain::start(Options::default()).await?;
    let documents = documents().context("the sample events cannot be read")?;
    let count = documents.len();
    domain.load("cwl-2023.07.10", documents);

    let text = format!(
        "[listen]\naddress = \"127.0.0.1:{port}\"\n[upstream]\nendpoint = \"{}\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n[log]\nformat = \"text\"\n",
        domain.url()
    );
    let mut config = Config::parse(Path::new("demo.toml"), &text)?;
    let limits = config.connections;
    let (entrance, _) = Entrance::open(config.listeners.remove(0)).await.context("name another PORT")?;
    let gate_url = format!("http://{}", entrance.address()?);
    let (_publisher, allowlist) = allowlist::channel(Entries::parse(Path::new("allowlist.toml"), ALLOWLIST)?);
    // The key that the stand-in knows; AWS uses it in its examples.
    let key = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, None, "demo");
    let (cache, renewal) = credentials::cache(SharedCredentialsProvider::new(key));
    tokio::spawn(renewal.run());
    let lines = LinePipe::start(std::io::stdout(), |lost| format!("{lost} lines were lost\n"))?;
    let metrics = Arc::<Metrics>::default();
    let access_log = AccessLog::new(Some(lines), Format::Text, Arc::clone(&metrics));
    let gate = process::gate(config, allowlist, cache, access_log, metrics)?;

    println!(
        "\n  The domain   {}   holds {count} CloudTrail events and answers signed requests alone:\n\
         \x20              curl {0}/_cat/indices\n\
         \x20 The gate     {gate_url}   signs for whom its allowlist names:\n\
         \x20              curl '{gate_url}/cwl-*/_search?size=1'\n\n\
         \x20 Open         {gate_url}/\n\n\
         \x20 Each request shows here. Ctrl-C ends both.\n",
        domain.url()
    );
    server::run(vec![entrance], Arc::new(gate), limits, Termination::listen()?.wait()).await;
    Ok(())
}

/// The sample events as the index holds them.
fn documents() -> anyhow::Result<Vec<Value>> {
    let document = |line: std::io::Result<String>| {
        let mut event: Value = serde_json::from_str(&line?)?;
        event["@timestamp"] = json!(event["eventTime"]);
        Ok(event)
    };
    BufReader::new(GzDecoder::new(EVENTS)).lines().map(document).collect()
}
