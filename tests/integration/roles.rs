//! Requests that are signed with a role of the entry's own, or with that of its access level.

use fake_domain::{FakeDomain, FakeSts, Options, StsAnswer};
use hyper::StatusCode;
use std::net::SocketAddr;
use tokio::net::TcpSocket;

use crate::program::{Program, command, files, path};
use crate::support::{Connection, get};

/// The ARN of the role `name`.
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
        let sts = domain.sts().await.unwrap();
        let folder = files(&domain.url(), allowlist);
        let config = path(&folder, "trailgate.toml");
        let text = std::fs::read_to_string(&config).unwrap();
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
async fn entry_without_a_role_signs_with_the_base_credentials() {
    let roles = format!("full = \"{}\"", arn("Editor"));
    let it = Roles::start(&roles, &entry(1, "jane", "")).await;
    assert_eq!(it.signer(1).await, "");
    assert!(it.sts.calls().is_empty());
}

#[tokio::test]
async fn refused_role_fails_its_own_entries_only() {
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
