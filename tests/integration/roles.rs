//! Requests that are signed with a role of the entry's own, or with that of its access level.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fake_domain::{FakeDomain, FakeSts, Fault, Options, StsAnswer, Times};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use jiff::SignedDuration;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::admin::ask;
use crate::admin::metrics::{metrics, value};
use crate::program::{Program, command, files, path};
use crate::support::{Connection, get, patiently};

/// Returns the ARN of the role `name`.
pub(crate) fn arn(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

/// Returns an entry for 127.0.0.NUMBER.
pub(crate) fn entry(number: usize, name: &str, lines: &str) -> String {
    format!("[[allow]]\ncidr = \"127.0.0.{number}\"\nname = \"{name}\"\n{lines}\n")
}

/// A domain, its STS, and the program in front.
pub(crate) struct Roles {
    pub(crate) domain: FakeDomain,
    pub(crate) sts: FakeSts,
    pub(crate) program: Program,
}

impl Roles {
    /// Starts the program with these lines in its table `[aws.roles]`, and this allowlist.
    pub(crate) async fn start(roles: &str, allowlist: &str) -> Self {
        let domain = FakeDomain::start(Options::default()).await.unwrap();
        Self::before(domain, roles, allowlist).await
    }

    pub(crate) async fn before(domain: FakeDomain, roles: &str, allowlist: &str) -> Self {
        Self::launch(domain, roles, allowlist, "engine = \"OpenSearch_2.19\"\n").await
    }

    /// Starts the program with this line in its table `[upstream]`.
    pub(crate) async fn launch(domain: FakeDomain, roles: &str, allowlist: &str, engine: &str) -> Self {
        let sts = domain.sts().await.unwrap();
        let folder = files(&domain.url(), allowlist);
        let config = path(&folder, "trailgate.toml");
        let text = std::fs::read_to_string(&config).unwrap().replace("engine = \"OpenSearch_2.19\"\n", engine);
        std::fs::write(&config, format!("{text}[aws.roles]\n{roles}\n")).unwrap();
        let mut run = command(&["run", "--config", &config]);
        run.env("AWS_ENDPOINT_URL_STS", sts.url()).env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", folder.path());
        let program = Program::of(run, folder).await;
        Self { domain, sts, program }
    }

    /// Opens a connection from 127.0.0.NUMBER.
    pub(crate) async fn connect(&self, number: u8) -> Connection {
        connect(self.program.address, number).await
    }

    /// Sends a request from 127.0.0.NUMBER, and returns the status of the response.
    pub(crate) async fn status(&self, number: u8) -> StatusCode {
        self.connect(number).await.send(get("/")).await.status()
    }

    /// Sends a request from 127.0.0.NUMBER, and returns the ARN of the session that signed it, without the account.
    pub(crate) async fn signer(&self, number: u8) -> String {
        assert_eq!(self.status(number).await, StatusCode::OK);
        let seen = self.domain.seen().pop().unwrap();
        assert_eq!(seen.refusal, None);
        let signer = seen.signer.unwrap_or_default();
        signer.trim_start_matches("arn:aws:sts::123456789012:assumed-role/").to_owned()
    }
}

pub(crate) async fn connect(address: SocketAddr, number: u8) -> Connection {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, number], 0))).unwrap();
    Connection::over(socket.connect(address).await.unwrap()).await
}

#[tokio::test]
async fn entry_signs_with_the_role_of_its_access_level() {
    let roles = format!("read = \"{}\"\nfull = \"{}\"", arn("audit/Auditor"), arn("Editor"));
    let mut list = entry(1, "jane.doe@example.com", "");
    list += &entry(2, "Head office", "access = \"full\"");
    list += &entry(3, "viewer", "access = \"view\"");
    list += &entry(4, "contractor", &format!("role = \"{}\"", arn("Contractor")));
    let it = Roles::start(&roles, &list).await;
    assert_eq!(it.signer(1).await, "Auditor/jane.doe@example.com");
    assert_eq!(it.signer(2).await, "Editor/Head-office-a582f8cb");
    assert_eq!(it.signer(3).await, "Auditor/viewer");
    assert_eq!(it.signer(4).await, "Contractor/contractor");
    let calls = it.sts.calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert!(calls.iter().all(|call| call.caller == "AKIDEXAMPLE"), "{calls:?}");
}

#[tokio::test]
async fn clock_skew_is_corrected_for_the_domain_and_sts() {
    for offset in [-600, 600] {
        let domain = FakeDomain::start(Options::default()).await.unwrap();
        domain.set_clock_offset(offset);
        let it = Roles::before(domain, &format!("read = \"{}\"", arn("Auditor")), &entry(1, "jane", "")).await;
        assert_eq!(it.signer(1).await, "Auditor/jane", "{offset}");
    }
}

#[tokio::test]
async fn entry_without_a_role_signs_with_the_base_credentials() {
    let roles = format!("full = \"{}\"", arn("Editor"));
    let it = Roles::start(&roles, &entry(1, "jane", "")).await;
    assert_eq!(it.signer(1).await, "");
    assert!(it.sts.calls().is_empty());
}

#[tokio::test]
async fn health_check_signs_with_the_role_that_reads() {
    let it = Roles::start(&format!("read = \"{}\"", arn("Auditor")), &entry(1, "jane", "access = \"full\"")).await;
    assert_eq!(ask(it.program.admin, "/readyz").await.status(), StatusCode::OK);
    let seen = it.domain.seen();
    let signers: Vec<_> = seen.iter().map(|seen| seen.signer.as_deref()).collect();
    assert_eq!(signers, [Some("arn:aws:sts::123456789012:assumed-role/Auditor/trailgate")]);
}

#[tokio::test]
async fn engine_detection_signs_with_the_role_that_reads() {
    let roles = format!("read = \"{}\"", arn("Auditor"));
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut it = Roles::launch(domain, &roles, &entry(1, "jane", "access = \"full\""), "").await;
    it.program.event("learned the domain's engine").await;
    let signers: BTreeSet<_> = it.domain.seen().into_iter().map(|seen| seen.signer.unwrap_or_default()).collect();
    assert_eq!(signers, BTreeSet::from(["arn:aws:sts::123456789012:assumed-role/Auditor/trailgate".to_owned()]));
}

#[tokio::test]
async fn denied_role_fails_only_its_own_entries() {
    let mut list = entry(1, "jane", &format!("role = \"{}\"", arn("Refused")));
    list += &entry(2, "john", &format!("role = \"{}\"", arn("Auditor")));
    let mut it = Roles::start("", &list).await;
    it.sts.answer_for(
        &arn("Refused"),
        StsAnswer::Error(403, "AccessDenied", "not authorized to perform: sts:AssumeRole"),
    );
    assert_eq!(it.status(1).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(it.signer(2).await, "Auditor/john");
    let event = it.program.event("no AWS credentials").await;
    assert_eq!(event["role"], arn("Refused"));
    assert_eq!(event["session"], "jane");
    assert!(
        event["error"].as_str().unwrap().contains("AccessDenied: not authorized to perform: sts:AssumeRole"),
        "{event}"
    );
}

/// Sends requests from 127.0.0.1 and on, one client each, and counts their statuses until `is_over`.
fn load(address: SocketAddr, clients: u8, is_over: &Arc<AtomicBool>) -> Vec<JoinHandle<BTreeMap<StatusCode, u32>>> {
    let client = |number| {
        let is_over = Arc::clone(is_over);
        tokio::spawn(async move {
            let mut connection = connect(address, number).await;
            let mut statuses = BTreeMap::new();
            while !is_over.load(Ordering::Relaxed) {
                *statuses.entry(connection.send(get("/")).await.status()).or_default() += 1;
                // Each request is kept by the stand-in, so not as many as could be.
                sleep(Duration::from_millis(100)).await;
            }
            statuses
        })
    };
    (1..=clients).map(client).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_rotate_under_load_fail_no_request() {
    let roles: String = (1..=50).map(|n| entry(n, &format!("user{n}"), &role_line(&format!("Role{n}")))).collect();
    let it = Roles::start("", &roles).await;
    // Refreshed each second. On a busy machine a session lasts long enough for one that is late.
    it.sts.answer(StsAnswer::Session(SignedDuration::from_secs(8)));
    let is_over = Arc::<AtomicBool>::default();
    let clients = load(it.program.address, 50, &is_over);
    sleep(Duration::from_secs(15)).await;
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let statuses = client.await.unwrap();
        assert!(statuses.keys().eq([&StatusCode::OK]), "{statuses:?}");
    }
    let seen = it.domain.seen();
    assert!(seen.iter().all(|seen| seen.refusal.is_none()), "a request was signed with an expired session");
    for number in 1..=50 {
        let role = arn(&format!("Role{number}"));
        let fetched = it.sts.calls().iter().filter(|call| call.role == role).count();
        assert!(fetched > 2, "{role} was assumed {fetched} times only");
    }
    assert!(it.sts.most_in_flight() <= 32, "{} calls of STS at once", it.sts.most_in_flight());
}

/// Returns the line of an entry that names its role.
pub(crate) fn role_line(name: &str) -> String {
    format!("role = \"{}\"", arn(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_sts_fail_the_entries_of_their_role_only() {
    let faults = [
        ("Refused", StsAnswer::Error(403, "AccessDenied", "not authorized to perform: sts:AssumeRole")),
        ("Throttled", StsAnswer::Error(400, "Throttling", "Rate exceeded")),
        ("Broken", StsAnswer::Error(500, "InternalFailure", "internal failure")),
        ("Garbled", StsAnswer::Garbage),
        ("Slow", StsAnswer::Slow(Duration::from_mins(1))),
    ];
    let list = (1..).zip(&faults).map(|(number, (name, _))| entry(number, name, &role_line(name)));
    let it = Roles::start("", &(list.collect::<String>() + &entry(9, "jane", &role_line("Auditor")))).await;
    for (name, answer) in &faults {
        it.sts.answer_for(&arn(name), answer.clone());
    }
    let statuses = join_all((1..=5).map(|number| it.status(number))).await;
    assert_eq!(statuses, [StatusCode::SERVICE_UNAVAILABLE; 5]);
    assert_eq!(it.signer(9).await, "Auditor/jane");
    let text = metrics(&it.program).await;
    assert_eq!(value(&text, "trailgate_role_sessions{kind=\"entry\",state=\"invalid\"}"), "5");
    assert_eq!(value(&text, "trailgate_role_sessions{kind=\"entry\",state=\"valid\"}"), "1");

    for (name, _) in &faults {
        it.sts.answer_for(&arn(name), StsAnswer::Session(SignedDuration::from_hours(1)));
    }
    for number in 1..=5 {
        let recovers = async {
            while it.status(number).await != StatusCode::OK {
                sleep(Duration::from_millis(200)).await;
            }
        };
        patiently(recovers).await;
    }
}

#[tokio::test]
async fn sessions_in_use_outlive_an_outage_of_sts() {
    let it = Roles::start("", &entry(1, "jane", &role_line("Auditor"))).await;
    it.sts.answer(StsAnswer::Session(SignedDuration::from_secs(10)));
    assert_eq!(it.signer(1).await, "Auditor/jane");
    let begun = Instant::now();
    it.sts.answer(StsAnswer::Error(503, "ServiceUnavailable", "away"));
    while it.sts.calls().len() < 3 {
        sleep(Duration::from_millis(100)).await;
    }
    // Not a matter of time: whether it answers is decided by the expiry alone.
    if begun.elapsed() < Duration::from_secs(8) {
        assert_eq!(it.status(1).await, StatusCode::OK);
    }
    let ends = async {
        while it.status(1).await != StatusCode::SERVICE_UNAVAILABLE {
            sleep(Duration::from_millis(200)).await;
        }
    };
    patiently(ends).await;
    assert!(it.domain.seen().iter().all(|seen| seen.refusal.is_none()), "signed with an expired session");
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_that_changes_roles_applies_to_the_next_request() {
    let list = |lines: &str| entry(1, "jane", lines) + &entry(2, "john", &role_line("Auditor"));
    let mut it = Roles::start("", &list(&role_line("Old"))).await;
    let is_over = Arc::<AtomicBool>::default();
    let clients = load(it.program.address, 2, &is_over);
    let mut connection = it.connect(1).await;
    let turns = [
        (role_line("New"), "New/jane"),
        (String::new(), ""),
        (role_line("Third"), "Third/jane"),
        (role_line("Old"), "Old/jane"),
    ];
    for (turn, (lines, expected)) in turns.into_iter().enumerate() {
        it.program.replace_allowlist(&list(&lines));
        it.program.event("allowlist reloaded").await;
        let target = format!("/?turn={turn}");
        assert_eq!(connection.send(get(&target)).await.status(), StatusCode::OK);
        let seen = it.domain.seen().into_iter().find(|seen| seen.target == target);
        let signer = seen.unwrap().signer.unwrap_or_default();
        assert!(signer.ends_with(expected) && signer.is_empty() == expected.is_empty(), "{signer:?}, not {expected:?}");
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        let statuses = client.await.unwrap();
        assert!(statuses.keys().eq([&StatusCode::OK]), "{statuses:?}");
    }
    let gone = async {
        while value(&metrics(&it.program).await, "trailgate_role_sessions{kind=\"entry\",state=\"valid\"}") != "2" {}
    };
    patiently(gone).await;
}

#[tokio::test]
async fn reload_that_changes_a_role_does_not_cut_a_stream() {
    let mut it = Roles::start("", &entry(1, "jane", &role_line("Old"))).await;
    let release = Arc::new(Notify::new());
    it.domain.fault(Fault::HoldBody(Arc::clone(&release)), Times::Once);
    let mut connection = it.connect(1).await;
    let response = connection.begin(get("/")).await;
    it.program.replace_allowlist(&entry(1, "jane", &role_line("New")));
    it.program.event("allowlist reloaded").await;
    release.notify_one();
    assert!(patiently(response.into_body().collect()).await.is_ok());
    assert_eq!(it.signer(1).await, "New/jane");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_log_and_domain_have_the_same_signer() {
    let names = ["jane", "Head office", "Head-office", "Zoë", "a", "x@example.com"];
    let name = |number: u8| format!("{} {}", names[usize::from(number) % names.len()], number / 2);
    let access = |number: u8| if number.is_multiple_of(3) { "access = \"full\"" } else { "" };
    let list: String = (1..=20).map(|number| entry(number.into(), &name(number), access(number))).collect();
    let roles = format!("read = \"{}\"\nfull = \"{}\"\ntags = true", arn("Auditor"), arn("Editor"));
    let mut it = Roles::start(&roles, &list).await;
    let address = it.program.address;
    let clients: Vec<_> = (1..=20)
        .map(|number| {
            tokio::spawn(async move {
                let mut connection = connect(address, number).await;
                for request in 0..50 {
                    let target = format!("/_cluster/health?level={number}-{request}");
                    assert_eq!(connection.send(get(&target)).await.status(), StatusCode::OK);
                }
            })
        })
        .collect();
    let mut logged = BTreeMap::new();
    for _ in 0..1000 {
        let line = it.program.access_line().await;
        let text = |field: &str| line[field].as_str().unwrap().to_owned();
        logged.insert(text("target"), (text("client"), text("entry"), text("signer")));
    }
    for client in clients {
        client.await.unwrap();
    }
    let seen = it.domain.seen();
    assert_eq!((logged.len(), seen.len()), (1000, 1000));
    let calls = it.sts.calls();
    for seen in seen {
        let (client, entry, signer) = &logged[&seen.target];
        let number: u8 = client.rsplit('.').next().unwrap().parse().unwrap();
        assert_eq!(*entry, name(number));
        assert_eq!(seen.signer.unwrap(), format!("arn:aws:sts::123456789012:assumed-role/{signer}"));
        let (role, session) = signer.split_once('/').unwrap();
        assert_eq!(role, if number.is_multiple_of(3) { "Editor" } else { "Auditor" });
        let of_session = calls.iter().find(|call| call.session == session && call.role == arn(role)).unwrap();
        let tag = |member: &str| of_session.parameters[&format!("Tags.member.{member}")].as_str();
        assert_eq!((tag("1.Key"), tag("2.Key")), ("trailgate:entry", "trailgate:access"));
        assert_eq!(tag("1.Value"), entry);
        assert_eq!(tag("2.Value"), if number.is_multiple_of(3) { "full" } else { "read" });
    }
    let sessions: BTreeSet<_> = logged.values().map(|(_, _, signer)| signer).collect();
    assert_eq!(sessions.len(), 20);
}
