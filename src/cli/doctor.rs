//! `trailgate doctor`: goes the way of a request step by step, and says where it ends and what to do about it.
//!
//! [`network`] and [`identity`] look, [`judge`] and [`denial`] tell what it means, the [`report`] is what is printed.

mod denial;
mod identity;
mod judge;
mod network;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use trailgate_client::{Clock, Signer, Target, TargetError, Upstream, UpstreamConfig};

use self::denial::Context;
use self::identity::Identity;
use self::network::Caller;
use self::report::{Problem, Report};
use crate::cli::args::{Question, print};
use crate::config::Config;
use crate::http::tls;
use crate::policy::allowlist::Entries;

/// Examines the gate and prints what was found. The exit code is 1 if anything is wrong.
pub async fn run(question: &Question) -> anyhow::Result<ExitCode> {
    let report = examine(&question.files.config).await;
    print(&report, question.json)?;
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Examines the gate that the configuration in `file` describes, without one having to run.
async fn examine(file: &Path) -> Report {
    let mut report = Report::default();
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            report.add("configuration", Err(Problem::new(error.to_string(), "Until then the gate does not start.")));
            return report;
        }
    };
    let Config { endpoint, region, service, .. } = &config;
    let text = format!("{}: signs for {service} in {region}, forwards to {}", file.display(), endpoint.authority());
    report.add("configuration", Ok(text));
    let now = SystemTime::now();
    report.add("allowlist", judge::allowlist(Entries::load(&config.allowlist), now));
    for files in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        report.add("certificate", judge::certificate(files, tls::expiry(files), tls::check(files, now), now));
    }

    let reached = reach(&config, &mut report).await;
    let signer = who_signs(&config, &mut report).await;
    match (reached, signer) {
        (Some(reached), Some(signer)) => ask(&config, &reached, &signer, &mut report).await,
        (reached, _) => {
            let missing = if reached.is_none() { "the domain" } else { "credentials" };
            for step in ["request", "product", "home"] {
                report.add_unknown(step, format!("not tried without {missing}"));
            }
        }
    }
    report
}

/// A domain that answers.
struct Reached {
    upstream: Upstream,
    clock: Clock,
}

/// Those who sign.
struct Signatory {
    credentials: Credentials,
    identity: Identity,
}

/// Goes the way to the domain: its name, its port, its certificate, an answer.
async fn reach(config: &Config, report: &mut Report) -> Option<Reached> {
    let Config { endpoint, upstream: limits, .. } = config;
    let limit = limits.connect_timeout;
    let steps = ["name", "tcp", "tls", "clock"];
    let not_tried = |report: &mut Report, from: usize, missing: &str| {
        for step in &steps[from..] {
            report.add_unknown(step, format!("not tried without {missing}"));
        }
    };

    let addresses = network::resolve(endpoint, limit).await;
    report.add("name", judge::name(endpoint, &addresses));
    let addresses = addresses.unwrap_or_default();
    if addresses.is_empty() {
        not_tried(report, 1, "an address");
        return None;
    }
    let stream = match network::connect(&addresses, limit).await {
        Ok(stream) => stream,
        Err(errors) => {
            report.add("tcp", Err(judge::tcp(&errors)));
            not_tried(report, 2, "a connection");
            return None;
        }
    };
    report.add(
        "tcp",
        Ok(stream.peer_addr().map_or_else(|error| error.to_string(), |peer| format!("connects to {peer}"))),
    );
    let roots = match trailgate_client::load_roots(config.ca_file.as_deref()) {
        Ok(roots) => roots,
        Err(error) => {
            report.add("tls", Err(Problem::new(format!("{error:#}"), "Until then the gate does not start.")));
            not_tried(report, 3, "certificates to trust");
            return None;
        }
    };
    let tls = if endpoint.is_tls() {
        judge::tls(endpoint, network::shake_hands(stream, endpoint, roots.clone(), limit).await)
    } else {
        Ok("none: the endpoint is plain http".to_owned())
    };
    let is_secure = tls.is_ok();
    report.add("tls", tls);
    if !is_secure {
        not_tried(report, 3, "TLS");
        return None;
    }
    // A connection for each request: one that turns out closed says nothing about the domain.
    let limits = UpstreamConfig { response_timeout: limits.response_timeout.min(PATIENCE), pool_idle: 0, ..*limits };
    let upstream = Upstream::new(endpoint.clone(), roots, limits);
    // The refusal of an unsigned request tells the time as well as any answer.
    let answer = network::ask(&upstream, &root(), ANY, None).await;
    let local = SystemTime::now();
    report.add("clock", judge::clock(&answer, local));
    let clock = Clock::default();
    if let Some(date) = answer.ok()?.date() {
        clock.correct(local, date);
    }
    Some(Reached { upstream, clock })
}

/// Looks for credentials, and whose they are.
async fn who_signs(config: &Config, report: &mut Report) -> Option<Signatory> {
    let found = identity::find(config).await;
    report.add("credentials", identity::credentials(&found, config.assume_role.as_deref(), SystemTime::now()));
    let Ok(credentials) = found else {
        report.add_unknown("identity", "not tried without credentials");
        return None;
    };
    let identity = identity::of(credentials.clone(), &config.region).await;
    match &identity {
        Identity::Known(arn) => report.add("identity", Ok(arn.clone())),
        Identity::Refused(message) => {
            let advice = "Renew the credentials where they come from: the domain does not take them either.";
            report.add("identity", Err(Problem::new(format!("STS says: {message}"), advice)));
        }
        Identity::Unknown(reason) => {
            report.add_unknown("identity", format!("STS does not tell, and the gate needs it not: {reason}"));
        }
    }
    Some(Signatory { credentials, identity })
}

/// Asks the domain two things in the gate's name: who it is, and for the home page.
async fn ask(config: &Config, reached: &Reached, signatory: &Signatory, report: &mut Report) {
    let Config { endpoint, region, service, home, .. } = config;
    let Reached { upstream, clock } = reached;
    let signer = Signer::new(endpoint.authority(), region, service);
    let caller = || Caller { signer: &signer, credentials: &signatory.credentials, time: clock.at(SystemTime::now()) };
    let context = Context { host: endpoint.host(), region, service, identity: signatory.identity.arn() };

    let answer = network::ask(upstream, &root(), ANY, Some(caller())).await;
    let judgement = judge::request(&answer, &context);
    let is_answered = judgement.is_ok();
    report.add("request", judgement);
    let mut product = None;
    match answer {
        Ok(answer) if is_answered => {
            let judgement = judge::product(&answer, service);
            product = judgement.as_ref().ok().cloned();
            report.add("product", judgement);
        }
        _ => report.add_unknown("product", "not told without an answer to the request"),
    }
    match home.path() {
        None => report.add("home", Ok("off".to_owned())),
        Some(_) if !is_answered => report.add_unknown("home", "not tried without an answer to the request"),
        Some(home) => {
            let judgement = match page(home) {
                Ok(target) => {
                    let answer = network::ask(upstream, &target, "text/html", Some(caller())).await;
                    judge::home(home, &answer, product.as_deref(), &context)
                }
                Err(error) => Err(Problem::new(format!("{home}: {error}"), "Correct upstream.home.")),
            };
            report.add("home", judgement);
        }
    }
}

/// What a browser asks for that is sent to `home`: all of it but the fragment.
fn page(home: &str) -> Result<Target, TargetError> {
    let home = home.split('#').next().unwrap_or_default();
    let (path, query) = home.split_once('?').map_or((home, None), |(path, query)| (path, Some(query)));
    Target::canonical(path, query)
}

fn root() -> Target {
    Target::canonical("/", None).expect("is canonical")
}

const ANY: &str = "*/*";

/// How long an answer may take here, where somebody waits for it.
const PATIENCE: Duration = Duration::from_secs(15);
