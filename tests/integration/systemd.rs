use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use fake_domain::{FakeDomain, Options};
use hyper::StatusCode;
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::Command;

use crate::admin::ask;
use crate::program::{Program, command, files, path};
use crate::support::{allow, patiently};

/// A stand-in for systemd: its notification socket.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { socket: UnixDatagram::bind(folder.path().join("notify")).unwrap(), folder }
    }

    async fn start(&self, domain: &FakeDomain, environment: &[(&str, &str)]) -> Program {
        Program::with(domain, "127.0.0.1", |command| {
            command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).envs(environment.iter().copied());
        })
        .await
    }

    /// Returns the next message that is not about `STATUS` and `WATCHDOG`.
    async fn next(&self) -> String {
        loop {
            let message = self.any().await;
            if !message.starts_with("STATUS=") && message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    async fn any(&self) -> String {
        let mut buffer = [0; 1024];
        let length = patiently(self.socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }
}

#[tokio::test]
async fn systemd_is_notified_of_start_reload_and_stop() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let manager = Manager::new();
    let mut program = manager.start(&domain, &[]).await;
    assert_eq!(manager.next().await, "READY=1\n");
    program.signal("-HUP").await;
    let reloading = manager.next().await;
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading:?}"));
    assert!(time.trim_end().parse::<u64>().is_ok(), "{time:?}");
    assert_eq!(manager.next().await, "READY=1\n");
    program.signal("-TERM").await;
    assert_eq!(manager.next().await, "STOPPING=1\n");
    assert_eq!(patiently(program.child.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn failed_reload_notifies_ready_again() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let manager = Manager::new();
    let program = manager.start(&domain, &[]).await;
    assert_eq!(manager.next().await, "READY=1\n");
    std::fs::write(program.folder.path().join("allowlist.toml"), "nonsense").unwrap();
    program.signal("-HUP").await;
    assert!(manager.next().await.starts_with("RELOADING=1\n"));
    assert_eq!(manager.next().await, "READY=1\n");
}

#[tokio::test]
async fn watchdog_is_notified_repeatedly() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let manager = Manager::new();
    let _program = manager.start(&domain, &[("WATCHDOG_USEC", "100000")]).await;
    for _ in 0..3 {
        while manager.any().await != "WATCHDOG=1\n" {}
    }
}

#[tokio::test]
async fn systemd_status_has_entries_and_request_rate() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let manager = Manager::new();
    let _program = manager.start(&domain, &[("WATCHDOG_USEC", "100000")]).await;
    while manager.any().await != "STATUS=1 entries in effect, 0.0 requests/s\n" {}
}

/// Passes a listener on as standard input: that is a descriptor whose number a test can choose.
fn pass_on(command: &mut Command, name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    command.stdin(OwnedFd::from(listener));
    command.envs([("LISTEN_FDS", "1"), ("LISTEN_FDS_FIRST_FD", "0"), ("LISTEN_FDNAMES", name)]);
    address
}

async fn with_socket(domain: &FakeDomain, name: &str) -> (Program, SocketAddr) {
    let mut address = None;
    let program = Program::with(domain, "127.0.0.1", |command| address = Some(pass_on(command, name))).await;
    (program, address.unwrap())
}

#[tokio::test]
async fn passed_socket_without_a_listener_is_an_error_at_start() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let mut command = command(&["run", "--config", &path(&folder, "trailgate.toml")]);
    pass_on(&mut command, "trailgate.socket");
    let output = patiently(command.output()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = "the socket \"trailgate.socket\" that was passed has no listener: name it \"listen\" or \"admin\"";
    assert!(stderr.contains(expected), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn passed_socket_accepts_clients() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let (program, address) = with_socket(&domain, "listen").await;
    assert_eq!(program.address, address);
    assert_eq!(program.status().await, StatusCode::OK);
}

#[tokio::test]
async fn passed_admin_socket_serves_no_clients() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let (program, address) = with_socket(&domain, "admin").await;
    assert_eq!(program.admin, address);
    assert_ne!(program.address, address);
    assert_eq!(ask(address, "/healthz").await.status(), StatusCode::OK);
}
