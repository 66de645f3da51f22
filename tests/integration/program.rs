use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;

use fake_domain::{FakeDomain, Fault, Options, Times};
use hyper::StatusCode;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::Notify;
use trailgate_testkit::{AWS_KEY, packaged_program};

use crate::admin::ask;
use crate::admin::metrics::{metrics, reaches, value};
use crate::support::{Connection, allow, get, patiently};

/// The program, started with files of its own.
pub(crate) struct Program {
    pub(crate) child: Child,
    /// The address that clients connect to.
    pub(crate) address: SocketAddr,
    /// The address that the operator connects to.
    pub(crate) admin: SocketAddr,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
    pub(crate) folder: TempDir,
}

impl Program {
    pub(crate) async fn start(domain: &FakeDomain) -> Self {
        Self::with(domain, "127.0.0.1", |_| {}).await
    }

    /// Starts it without a configured engine, so that it asks the domain for it. Other tests count requests.
    pub(crate) async fn detecting_engine(domain: &FakeDomain) -> Self {
        let folder = files(&domain.url(), &allow("127.0.0.1"));
        let config = path(&folder, "trailgate.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text.replace("engine = \"OpenSearch_2.19\"\n", "")).unwrap();
        Self::of(command(&["run", "--config", &config]), folder).await
    }

    /// Lets the clients in `cidr` in, and has `change` change how it is started.
    pub(crate) async fn with(domain: &FakeDomain, cidr: &str, change: impl FnOnce(&mut Command)) -> Self {
        let folder = files(&domain.url(), &allow(cidr));
        let mut run = command(&["run", "--config", &path(&folder, "trailgate.toml")]);
        change(&mut run);
        Self::of(run, folder).await
    }

    /// Starts `command` and waits until it listens.
    pub(crate) async fn of(mut command: Command, folder: TempDir) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut program = Self { child, address: nowhere, admin: nowhere, stdout, stderr, folder };
        program.address = program.event("listening").await["address"].as_str().unwrap().parse().unwrap();
        program.admin = program.event("admin listening").await["address"].as_str().unwrap().parse().unwrap();
        program
    }

    /// Waits for the event with this message.
    pub(crate) async fn event(&mut self, message: &str) -> serde_json::Value {
        loop {
            let line = patiently(self.stderr.next_line()).await.unwrap().expect("the program has ended");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if event["message"].as_str().is_some_and(|text| text.contains(message)) {
                return event;
            }
        }
    }

    /// Waits for the next line of the access log.
    pub(crate) async fn access_line(&mut self) -> serde_json::Value {
        let line = patiently(self.stdout.next_line()).await.unwrap().expect("the program has ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"))
    }

    /// Returns the path of one of its files.
    pub(crate) fn file(&self, name: &str) -> String {
        path(&self.folder, name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the program runs")
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().await.unwrap().success());
    }

    /// Replaces the allowlist as careful tools do: by a new file that is moved over the old one.
    pub(crate) fn replace_allowlist(&self, text: &str) {
        let new = self.folder.path().join("allowlist.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.path().join("allowlist.toml")).unwrap();
    }

    pub(crate) async fn status(&self) -> StatusCode {
        Connection::open(self.address).await.send(get("/")).await.status()
    }
}

pub(crate) fn files(endpoint: &str, allowlist: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[listen]\naddress = \"127.0.0.1:0\"\n[upstream]\nendpoint = \"{endpoint}\"\n\
         engine = \"OpenSearch_2.19\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n[admin]\naddress = \"127.0.0.1:0\"\n"
    );
    std::fs::write(folder.path().join("trailgate.toml"), config).unwrap();
    std::fs::write(folder.path().join("allowlist.toml"), allowlist).unwrap();
    folder
}

pub(crate) fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

/// Returns the path of the program that the tests run: the one that `TRAILGATE` names, such as that of another architecture,
/// or otherwise the one just built.
pub(crate) fn program_path() -> String {
    packaged_program("TRAILGATE", "trailgate").unwrap().display().to_string()
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    command_of(&program_path(), arguments)
}

pub(crate) fn command_of(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(AWS_KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

pub(crate) async fn output(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = patiently(command(arguments).output()).await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn program_signs_with_its_environment_and_logs_to_stdout() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    assert_eq!(program.status().await, StatusCode::OK);
    assert_eq!(domain.seen()[0].refusal, None);
    let line = patiently(program.stdout.next_line()).await.unwrap().unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["entry"], &line["outcome"]), (&"auditor".into(), &"forwarded".into()));
}

#[tokio::test]
async fn engine_is_requested_at_start() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let _program = Program::detecting_engine(&domain).await;
    let seen = patiently(domain.wait_for_requests(1)).await;
    assert_eq!((seen[0].target.as_str(), &seen[0].refusal), ("/", &None));
}

#[tokio::test]
async fn changed_allowlist_applies_to_open_connections() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    let mut connection = Connection::open(program.address).await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
    program.replace_allowlist(&allow("203.0.113.7"));
    program.event("allowlist reloaded").await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn invalid_allowlist_keeps_the_previous_one() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    program.replace_allowlist("[[allow]]\ncidr = \"203.0.113.7/8\"\nname = \"typo\"\n");
    let event = program.event("allowlist not reloaded").await;
    assert_eq!(event["level"], "ERROR");
    assert!(event.to_string().contains("allowlist.toml:2: cidr"), "{event}");
    assert_eq!(program.status().await, StatusCode::OK);
}

#[tokio::test]
async fn hangup_reloads_the_allowlist() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    program.signal("-HUP").await;
    program.event("allowlist").await;
    assert_eq!(program.status().await, StatusCode::OK);
}

#[tokio::test]
async fn sigterm_finishes_requests_in_flight_and_exits_with_0() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    let release = Arc::new(Notify::new());
    domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let address = program.address;
    let sent = tokio::spawn(async move { Connection::open(address).await.send(get("/")).await });
    domain.wait_for_requests(1).await;
    program.signal("-TERM").await;
    program.event("draining").await;
    release.notify_one();
    assert_eq!(sent.await.unwrap().status(), StatusCode::OK);
    assert_eq!(patiently(program.child.wait()).await.unwrap().code(), Some(0));
    let line = patiently(program.stdout.next_line()).await.unwrap().expect("the last request is logged");
    assert!(line.contains("\"forwarded\""), "{line}");
}

#[tokio::test]
async fn request_beyond_the_drain_time_is_logged_as_cut() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    domain.fault(Fault::Hang, Times::UntilCleared);
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n[limits]\ndrain = \"100 ms\"\n")).unwrap();
    let mut program = Program::of(command(&["run", "--config", &config]), folder).await;
    let address = program.address;
    let asking = tokio::spawn(async move { Connection::open(address).await.send(get("/")).await });
    domain.wait_for_requests(1).await;
    program.signal("-TERM").await;
    let line = patiently(program.stdout.next_line()).await.unwrap().expect("the line is written before the end");
    assert!(line.contains("\"outcome\":\"cut_at_shutdown\""), "{line}");
    assert!(patiently(program.child.wait()).await.unwrap().success());
    asking.abort();
}

#[tokio::test]
async fn unread_log_blocks_no_request() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    let mut connection = Connection::open(program.address).await;
    // A pipe holds 64 KiB; these lines are some 200 KiB.
    let target = format!("/_cluster/health?{}", "x".repeat(1000));
    for _ in 0..200 {
        assert_eq!(connection.send(get(&target)).await.status(), StatusCode::OK);
    }
}

/// Starts a program under a limit on file descriptors, as an argument of the shell's `ulimit`.
async fn limited(domain: &FakeDomain, ulimit: &str) -> Program {
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    let script = format!("ulimit {ulimit}; exec \"$@\"");
    let arguments = ["-c", &script, "sh", &program_path(), "run", "--config", &config];
    Program::of(command_of("/bin/sh", &arguments), folder).await
}

/// Connections from an address of its own that send nothing; those that find no place are closed again.
async fn idle_connections(program: &Program, from: &str, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        held.push(patiently(socket.connect(program.address)).await.unwrap());
    }
    held
}

#[tokio::test]
async fn idle_unlisted_connections_leave_descriptors_for_listed() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = limited(&domain, "-n 80").await;
    let mut connection = Connection::open(program.address).await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
    let _held = idle_connections(&program, "127.0.0.2", 200).await;
    assert_eq!(program.status().await, StatusCode::OK);
    assert_eq!(ask(program.admin, "/healthz").await.status(), StatusCode::OK);
    program.replace_allowlist(&allow("203.0.113.7"));
    program.event("allowlist reloaded").await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn connections_beyond_the_descriptors_are_rejected_until_free() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = limited(&domain, "-n 80").await;
    let held = idle_connections(&program, "127.0.0.1", 200).await;
    reaches(&program, "trailgate_connections_accepted_total", "18").await;
    drop(held);
    patiently(async { while value(&metrics(&program).await, "trailgate_connections") != "0" {} }).await;
    assert_eq!(program.status().await, StatusCode::OK);
}

#[tokio::test]
async fn soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = limited(&domain, "-Sn 80").await;
    let _held = idle_connections(&program, "127.0.0.1", 200).await;
    reaches(&program, "trailgate_connections_accepted_total", "200").await;
}

#[tokio::test]
async fn port_in_use_is_reported() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let text = std::fs::read_to_string(&config).unwrap().replacen("127.0.0.1:0", &taken, 1);
    std::fs::write(&config, text).unwrap();
    let (code, _, stderr) = output(&["run", "--config", &config]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&format!("cannot listen on {taken}: Address already in use")), "{stderr}");
}

#[tokio::test]
async fn help_and_version_are_printed() {
    let (code, stdout, _) = output(&["--version"]).await;
    assert_eq!((code, stdout), (Some(0), format!("trailgate {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, stdout, _) = output(&["run", "--help"]).await;
    assert_eq!(code, Some(0));
    assert!(stdout.contains("/etc/trailgate/trailgate.toml"), "{stdout}");
}
