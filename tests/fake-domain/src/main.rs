//! The fake domain as a program: serves one, or checks signatures from standard input.

use std::{
    env, fs,
    io::{self, BufRead, Write},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::Context;
use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Parser};
use fake_domain::{
    Backend, FakeDomain, Options,
    verify::{Credentials, Refusal, Request, Verifier, parse_date},
};
use hyper::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// A fake AWS Elasticsearch domain.
#[derive(Parser)]
enum Command {
    /// Serves a domain until it is stopped.
    Serve(Box<Serve>),
    /// Checks signatures: reads one request as JSON per line, writes one verdict as JSON per line.
    Verify,
}

#[derive(Args)]
struct Serve {
    /// The port to listen on, on 127.0.0.1; 0 selects a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The region that signatures must be scoped to.
    #[arg(long, default_value = "eu-west-1")]
    region: String,
    /// The service that signatures must be scoped to: es or aoss.
    #[arg(long, default_value = "es")]
    service: String,
    /// The Elasticsearch to pass requests on to; documents are in memory without it.
    #[arg(long, value_name = "URL")]
    elasticsearch: Option<Uri>,
    /// The Kibana to pass requests on to.
    #[arg(long, value_name = "URL", requires = "elasticsearch")]
    kibana: Option<Uri>,
    /// Serves an STS, too, whose sessions the domain accepts; the second line names its URL.
    #[arg(long)]
    sts: bool,
    /// Seconds by which the clock of the domain and of its STS is ahead of the system's; negative if it is behind.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    clock_offset: i64,
    /// Speaks TLS, under a certificate of its own making.
    #[arg(long)]
    tls: bool,
    /// Writes the certificate of the authority to trust to this file.
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Serve(options) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(*options))
        }
        Command::Verify => verify(),
    }
}

async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let backend = match arguments.elasticsearch {
        Some(elasticsearch) => Backend::PassOn { elasticsearch, kibana: arguments.kibana },
        None => Backend::Memory,
    };
    let domain = FakeDomain::start(Options {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)),
        tls: arguments.tls,
        verifier: Verifier { credentials: credentials(), region: arguments.region, service: arguments.service },
        is_open: false,
        backend,
    })
    .await?;
    domain.set_clock_offset(arguments.clock_offset);
    if let Some((file, pem)) = arguments.ca_file.zip(domain.ca_pem()) {
        fs::write(&file, pem).with_context(|| format!("write {}", file.display()))?;
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let sts = if arguments.sts { Some(domain.sts().await?) } else { None };
    println!("listening on {}", domain.url());
    if let Some(sts) = &sts {
        println!("STS on {}", sts.url());
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn credentials() -> Credentials {
    match (env::var("AWS_ACCESS_KEY_ID"), env::var("AWS_SECRET_ACCESS_KEY")) {
        (Ok(access_key), Ok(secret_key)) => {
            Credentials { access_key, secret_key, session_token: env::var("AWS_SESSION_TOKEN").ok() }
        }
        _ => Credentials::default(),
    }
}

fn verify() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for (number, line) in io::stdin().lock().lines().enumerate() {
        let verdict = verdict(&line?).with_context(|| format!("line {}", number + 1))?;
        writeln!(out, "{verdict}")?;
    }
    Ok(())
}

fn verdict(line: &str) -> anyhow::Result<Value> {
    let line: Line = serde_json::from_str(line)?;
    let body = BASE64_STANDARD.decode(&line.body_base64)?;
    let headers: Vec<_> = line.headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
    let request = Request { method: &line.method, target: &line.target, headers: &headers, body: &body };
    let credentials =
        Credentials { access_key: line.access_key, secret_key: line.secret_key, session_token: line.session_token };
    let verifier = Verifier { credentials, region: line.region, service: line.service };
    let now = parse_date(&line.now).context("now must be like 20150830T123600Z")?;
    Ok(match verifier.check(&request, now) {
        Ok(()) => json!({ "ok": true }),
        Err(Refusal::Mismatch { canonical, reading, .. }) => {
            json!({ "ok": false, "error": format!("no match under: {reading}"), "canonical": canonical })
        }
        Err(refusal) => json!({ "ok": false, "error": refusal.message() }),
    })
}

/// A request to check, and the credentials, scope and time to check it against.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    #[serde(default)]
    body_base64: String,
    now: String,
    region: String,
    service: String,
    access_key: String,
    secret_key: String,
    session_token: Option<String>,
}
