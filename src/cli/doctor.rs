//! `trailgate doctor`: checks configuration, DNS, TCP, TLS, clock, credentials and signed requests, in that order.
//!
//! [`network`] and [`identity`] collect facts, [`diagnose`] and [`denial`] interpret them, and the [`report`] is
//! printed.

mod denial;
mod diagnose;
mod identity;
mod image;
mod network;
mod report;
mod roles;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use trailgate_client::{Clock, RoleArn, Signer, Target, TargetError, Upstream, UpstreamConfig};

use self::denial::Context;
use self::identity::Identity;
use self::network::Caller;
use self::report::{Problem, Report};
use crate::cli::args::DoctorArgs;
use crate::cli::output::print_report;
use crate::config::{Config, DomainConfig, SigningConfig};
use crate::http::tls;
use crate::policy::allowlist::Entries;
use crate::policy::grant::Access;

/// Runs all checks and prints the report. The exit code is 1 if one fails.
pub async fn run(question: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = examine(&question.files.config, question.role.as_ref()).await;
    print_report(&report, question.json)?;
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks the proxy that the configuration in `file` describes. It need not be running.
async fn examine(file: &Path, role: Option<&RoleArn>) -> Report {
    let mut report = Report::default();
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => {
            report.add(
                "configuration",
                Err(Problem::new(error.to_string(), "trailgate does not start until this is corrected.")),
            );
            return report;
        }
    };
    let DomainConfig { endpoint, signing: SigningConfig { region, service, .. }, .. } = &config.domain;
    let text = format!("{}: signs for {service} in {region}, forwards to {}", file.display(), endpoint.authority());
    report.add("configuration", Ok(text));
    let now = SystemTime::now();
    report.add("allowlist", diagnose::allowlist(&config.allowlist, Entries::load(&config.allowlist), now));
    for files in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        report.add("certificate", diagnose::certificate(files, tls::expiry(files), tls::check(files, now), now));
    }
    match fs::read_to_string(OS_RELEASE).ok().and_then(|text| image::check(&text, now)) {
        Some(Ok(text)) => report.add("image", Ok(text)),
        Some(Err(problem)) => report.add_warning("image", problem),
        None => {}
    }

    let reachable = connect(&config, &mut report).await;
    let signer = identify_signer(&config, &mut report).await;
    let own_signer = match &signer {
        Some(base) => sign_as_reader(&config, base).await,
        None => Err("not tried without credentials".to_owned()),
    };
    match (&reachable, &own_signer) {
        (Some(reachable), Ok(signer)) => send_requests(&config, reachable, signer, &mut report).await,
        (reachable, signer) => {
            let reason = signer.as_ref().err().filter(|_| reachable.is_some());
            for step in ["request", "product", "home"] {
                report.add_unknown(step, reason.map_or("not tried without the domain", String::as_str));
            }
        }
    }
    roles::check(&config, role, reachable.as_ref(), signer.as_ref(), &mut report).await;
    report
}

/// A domain that responds.
struct Reachable {
    upstream: Upstream,
    clock: Clock,
}

/// The signing credentials and the identity of their owner.
#[derive(Clone)]
struct SignerIdentity {
    credentials: Credentials,
    identity: Identity,
}

/// Checks the connection to the domain step by step: DNS, TCP, TLS, a response.
async fn connect(config: &Config, report: &mut Report) -> Option<Reachable> {
    let DomainConfig { endpoint, upstream: limits, .. } = &config.domain;
    let limit = limits.connect_timeout;
    let steps = ["name", "tcp", "tls", "clock"];
    let not_tried = |report: &mut Report, from: usize, missing: &str| {
        for step in &steps[from..] {
            report.add_unknown(step, format!("not tried without {missing}"));
        }
    };

    let addresses = network::resolve(endpoint, limit).await;
    report.add("name", diagnose::name(endpoint, &addresses));
    let addresses = addresses.unwrap_or_default();
    if addresses.is_empty() {
        not_tried(report, 1, "an address");
        return None;
    }
    let stream = match network::connect(&addresses, limit).await {
        Ok(stream) => stream,
        Err(errors) => {
            report.add("tcp", Err(diagnose::tcp(&errors)));
            not_tried(report, 2, "a connection");
            return None;
        }
    };
    report.add(
        "tcp",
        Ok(stream.peer_addr().map_or_else(|error| error.to_string(), |peer| format!("connects to {peer}"))),
    );
    let roots = match trailgate_client::load_roots(config.domain.ca_file.as_deref()) {
        Ok(roots) => roots,
        Err(error) => {
            report.add(
                "tls",
                Err(Problem::new(format!("{error:#}"), "trailgate does not start until this is corrected.")),
            );
            not_tried(report, 3, "certificates to trust");
            return None;
        }
    };
    let tls = if endpoint.is_tls() {
        diagnose::tls(endpoint, network::shake_hands(stream, endpoint, roots.clone(), limit).await)
    } else {
        Ok("none: the endpoint is plain http".to_owned())
    };
    let is_secure = tls.is_ok();
    report.add("tls", tls);
    if !is_secure {
        not_tried(report, 3, "TLS");
        return None;
    }
    // No pooling, so that no request fails on a pooled connection that was closed.
    let limits = UpstreamConfig { response_timeout: limits.response_timeout.min(PATIENCE), pool_idle: 0, ..*limits };
    let upstream = Upstream::new(endpoint.clone(), roots, limits);
    // An unsigned request is enough: its rejection has a `Date` like any response.
    let answer = network::get(&upstream, &root(), ANY, None).await;
    let local = SystemTime::now();
    match &answer {
        Ok(answer) if answer.date().is_none() => report.add_warning("clock", diagnose::missing_date()),
        _ => report.add("clock", diagnose::clock(&answer, local)),
    }
    let clock = Clock::default();
    if let Some(date) = answer.ok()?.date() {
        clock.correct(local, date);
    }
    Some(Reachable { upstream, clock })
}

/// Finds credentials, and identifies their owner.
async fn identify_signer(config: &Config, report: &mut Report) -> Option<SignerIdentity> {
    let found = identity::find(config).await;
    report.add(
        "credentials",
        identity::credentials(
            &found,
            config.domain.signing.assume_role.as_ref().map(RoleArn::as_str),
            SystemTime::now(),
        ),
    );
    let Ok(credentials) = found else {
        report.add_unknown("identity", "not tried without credentials");
        return None;
    };
    let identity = identity::of(credentials.clone(), &config.domain.signing.region).await;
    match &identity {
        Identity::Known(arn) => report.add("identity", Ok(arn.clone())),
        Identity::Refused(message) => {
            let advice = "Renew the credentials at their source: the domain rejects them, too.";
            report.add("identity", Err(Problem::new(format!("STS rejects the credentials: {message}"), advice)));
        }
        Identity::Unknown(reason) => {
            report.add_unknown("identity", format!("unknown, and not required: {reason}"));
        }
    }
    Some(SignerIdentity { credentials, identity })
}

/// Returns the signer of the proxy's own requests: the role that reads, if there is one, because the base role may have no
/// right but to assume others. The error is the reason why there is none.
async fn sign_as_reader(config: &Config, base: &SignerIdentity) -> Result<SignerIdentity, String> {
    let Some(role) = &config.roles.defaults.read else { return Ok(base.clone()) };
    let assumed = roles::assume(config, role, Access::Read, base).await;
    let credentials = assumed.map_err(|_| format!("not tried without {role}, which cannot be assumed"))?;
    Ok(SignerIdentity { credentials, identity: Identity::Known(role.to_string()) })
}

/// Sends two signed requests to the domain: for its banner, and for the home page.
async fn send_requests(config: &Config, reachable: &Reachable, signer_identity: &SignerIdentity, report: &mut Report) {
    let DomainConfig { endpoint, signing: SigningConfig { region, service, .. }, .. } = &config.domain;
    let root_redirect = &config.proxy.root_redirect;
    let Reachable { upstream, clock } = reachable;
    let signer = Signer::new(endpoint.authority(), region, service);
    let caller =
        || Caller { signer: &signer, credentials: &signer_identity.credentials, time: clock.at(SystemTime::now()) };
    let context = Context { host: endpoint.host(), region, service, identity: signer_identity.identity.arn() };

    let answer = network::get(upstream, &root(), ANY, Some(caller())).await;
    let finding = diagnose::request(&answer, &context);
    let is_answered = finding.is_ok();
    report.add("request", finding);
    let mut product = None;
    match answer {
        Ok(answer) if is_answered => {
            let finding = diagnose::product(&answer, service);
            product = finding.as_ref().ok().cloned();
            report.add("product", finding);
        }
        _ => report.add_unknown("product", "unknown without a response to the request"),
    }
    match root_redirect.path() {
        None => report.add("home", Ok("off".to_owned())),
        Some(_) if !is_answered => report.add_unknown("home", "not tried without a response to the request"),
        Some(home) => {
            let finding = match page(home) {
                Ok(target) => {
                    let answer = network::get(upstream, &target, "text/html", Some(caller())).await;
                    diagnose::home(home, &answer, product.as_deref(), &context)
                }
                Err(error) => Err(Problem::new(format!("{home}: {error}"), "Correct upstream.home.")),
            };
            report.add("home", finding);
        }
    }
}

/// Returns the target of `home` as a browser sends it, without the fragment.
fn page(home: &str) -> Result<Target, TargetError> {
    let home = home.split('#').next().unwrap_or_default();
    let (path, query) = home.split_once('?').map_or((home, None), |(path, query)| (path, Some(query)));
    Target::canonical(path, query)
}

fn root() -> Target {
    Target::canonical("/", None).expect("is canonical")
}

const ANY: &str = "*/*";

/// The response timeout here, where a person waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// The description of the operating system ("os-release(5)").
const OS_RELEASE: &str = "/etc/os-release";
