//! The sources of the program's credentials, and changes of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fake_domain::verify::Credentials;
use fake_domain::{FakeDomain, Options};
use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use trailgate_testkit::{AwsMock, ReservedPort};

use crate::program::{Program, command, files, path};
use crate::support::{Connection, allow, get, json as body, patiently, request};

/// Starts the program with this environment in the place of keys, and with this in its `[aws]` table.
async fn started(domain: &FakeDomain, aws: &str, environment: &[(&str, String)]) -> Program {
    started_with(domain, |text| text.replace("[aws]\n", &format!("[aws]\n{aws}\n")), environment).await
}

/// Does the same with a configuration that `change` derives from the usual one.
async fn started_with(
    domain: &FakeDomain,
    change: impl FnOnce(&str) -> String,
    environment: &[(&str, String)],
) -> Program {
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, change(&text)).unwrap();
    let mut run = command(&["run", "--config", &config]);
    run.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    // Independent of the machine that the tests run on.
    run.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", folder.path());
    run.envs(environment.iter().map(|(name, value)| (name, value)));
    Program::of(run, folder).await
}

/// Returns all credentials that STS, played by moto, has issued.
async fn issued(sts: &AwsMock) -> Vec<Credentials> {
    let mut connection = Connection::open(sts.port().address()).await;
    let all = body(&connection.send(request("GET", "/moto-api/data.json", &[], "")).await);
    let credentials = |role: &Value| {
        let text = |name: &str| role[name].as_str().unwrap().to_owned();
        Credentials {
            access_key: text("access_key_id"),
            secret_key: text("secret_access_key"),
            session_token: Some(text("session_token")),
        }
    };
    all["sts"]["AssumedRole"].as_array().unwrap().iter().map(credentials).collect()
}

/// Returns the credentials of this access key that STS has issued.
async fn issued_key(sts: &AwsMock, access_key: &str) -> Credentials {
    issued(sts).await.into_iter().find(|credentials| credentials.access_key == access_key).unwrap()
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap()
}

/// Returns the access key that the program logs as found.
async fn found_key(program: &mut Program) -> String {
    program.event("AWS credentials found").await["access_key_id"].as_str().unwrap().to_owned()
}

/// Asserts that the program signs with keys from STS and the domain accepts them.
async fn signs_with_sts_credentials(sts: &AwsMock, aws: &str, environment: &[(&str, String)]) {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = started(&domain, aws, environment).await;
    let access_key = found_key(&mut program).await;
    assert!(access_key.starts_with("ASIA"), "{access_key}");
    domain.accept(issued_key(sts, &access_key).await, seconds(900));
    assert_eq!(program.status().await, StatusCode::OK);
    assert_eq!(domain.seen()[0].refusal, None);
}

#[tokio::test]
#[ignore = "needs Python"]
async fn configured_role_is_assumed() {
    let sts = AwsMock::moto().await.unwrap();
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    let aws = "assume_role = \"arn:aws:iam::123456789012:role/trailgate\"";
    signs_with_sts_credentials(&sts, aws, &environment).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn role_of_an_access_level_is_assumed_with_tags() {
    let sts = AwsMock::moto().await.unwrap();
    let environment = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    let aws = "[aws.roles]\nfull = \"arn:aws:iam::123456789012:role/audit/Editor\"\nexternal_id = \"trailgate\"\n\
               tags = true\nsession_duration = \"15 min\"";
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = started_with(&domain, |text| format!("{text}{aws}\n"), &environment).await;
    // The base credentials are found before the first request.
    assert_eq!(found_key(&mut program).await, "AKIDEXAMPLE");
    // The session begins with the first request, and its key is not yet accepted: the program fetches others meanwhile.
    patiently(async {
        while program.status().await != StatusCode::OK {
            for credentials in issued(&sts).await {
                domain.accept(credentials, seconds(900));
            }
        }
    })
    .await;
    assert_eq!(domain.seen().last().unwrap().refusal, None);
}

#[tokio::test]
#[ignore = "needs Python"]
async fn web_identity_token_file_yields_credentials() {
    let sts = AwsMock::moto().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "a token of the cluster").unwrap();
    let environment = [
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/trailgate".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", path(&folder, "token")),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    signs_with_sts_credentials(&sts, "", &environment).await;
}

#[tokio::test]
#[ignore = "needs Python"]
async fn profile_with_a_role_yields_its_credentials() {
    let sts = AwsMock::moto().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let profiles = "[profile gate]\nrole_arn = arn:aws:iam::123456789012:role/trailgate\nsource_profile = base\n\
                    [profile base]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n";
    std::fs::write(folder.path().join("config"), profiles).unwrap();
    let environment = [
        ("AWS_CONFIG_FILE", path(&folder, "config")),
        ("AWS_PROFILE", "gate".to_owned()),
        ("AWS_ENDPOINT_URL_STS", sts.url()),
    ];
    signs_with_sts_credentials(&sts, "", &environment).await;
}

/// An instance's metadata service, as Amazon's own mock plays it, by version 2 alone.
struct Metadata {
    mock: Option<AwsMock>,
    port: Arc<ReservedPort>,
    folder: TempDir,
}

impl Metadata {
    fn new() -> Self {
        Self { mock: None, port: Arc::new(ReservedPort::bind().unwrap()), folder: tempfile::tempdir().unwrap() }
    }

    /// Gives these keys from now on. The mock reads them once, so another takes its place.
    async fn give(&mut self, credentials: &Credentials, expires: Timestamp) {
        self.stop().await;
        let values = json!({ "iam-security-credentials": {
            "Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key, "SecretAccessKey": credentials.secret_key,
            "Token": credentials.session_token, "Expiration": expires.to_string(),
        } });
        let file: PathBuf = self.folder.path().join("metadata.json");
        std::fs::write(&file, json!({ "metadata": { "values": values } }).to_string()).unwrap();
        let (port, file) = (self.port.number().to_string(), file.display().to_string());
        let arguments = ["--hostname", "127.0.0.1", "--port", &port, "--imdsv2", "-c", &file];
        self.mock = Some(AwsMock::start("ec2-metadata-mock", Arc::clone(&self.port), &arguments).await.unwrap());
    }

    async fn stop(&mut self) {
        if let Some(mock) = self.mock.take() {
            mock.stop().await.unwrap();
        }
    }

    fn environment(&self) -> [(&'static str, String); 2] {
        [("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.port.url()), ("AWS_EC2_METADATA_DISABLED", "false".to_owned())]
    }
}

fn keys(number: usize) -> Credentials {
    Credentials {
        access_key: format!("ASIA{number}"),
        secret_key: format!("secret {number}"),
        session_token: Some(format!("token{number}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python"]
async fn instance_credentials_rotated_under_load_fail_no_request() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut metadata = Metadata::new();
    // Fetched again after a tenth of their life, so there is time for the mock to start on a busy machine.
    let (life, rotations) = (20, 5);
    let expires = seconds(life);
    domain.accept(keys(0), expires);
    metadata.give(&keys(0), expires).await;
    let mut program = started(&domain, "", &metadata.environment()).await;
    assert_eq!(found_key(&mut program).await, "ASIA0");

    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..8).map(|_| {
        let (address, is_over) = (program.address, Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut statuses = BTreeSet::new();
            while !is_over.load(Ordering::Relaxed) {
                statuses.insert(connection.send(get("/")).await.status());
                // Each request is kept by the stand-in, so not as many as could be.
                sleep(Duration::from_millis(5)).await;
            }
            statuses
        })
    });
    let clients: Vec<_> = clients.collect();
    for number in 1..=rotations {
        domain.accept(keys(number), seconds(life));
        metadata.give(&keys(number), seconds(life)).await;
        let token = keys(number).session_token;
        let is_used = async {
            while domain.seen().last().and_then(|seen| seen.header("x-amz-security-token")) != token.as_deref() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        patiently(is_used).await;
    }
    // The first keys expire while the clients go on.
    sleep(Duration::try_from(expires.duration_since(Timestamp::now())).unwrap_or_default()).await;
    Connection::open(program.address).await.send(get("/")).await;
    is_over.store(true, Ordering::Relaxed);

    for client in clients {
        assert_eq!(client.await.unwrap(), BTreeSet::from([StatusCode::OK]));
    }
    let seen = domain.seen();
    assert!(seen.iter().all(|seen| seen.refusal.is_none()), "a request was signed with expired keys");
    let used: BTreeSet<_> = seen.iter().filter_map(|seen| seen.header("x-amz-security-token")).collect();
    assert!(used.len() >= rotations, "of the keys only {used:?} were used, for {} requests", seen.len());
}

#[tokio::test]
#[ignore = "needs Python"]
async fn credentials_stay_in_use_without_metadata_service() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut metadata = Metadata::new();
    // The program finds them by then, on a busy machine too.
    let expires = seconds(20);
    domain.accept(keys(1), expires);
    metadata.give(&keys(1), expires).await;
    let mut program = started(&domain, "", &metadata.environment()).await;
    found_key(&mut program).await;
    metadata.stop().await;
    assert_eq!(program.status().await, StatusCode::OK);

    sleep(expires.duration_since(Timestamp::now()).try_into().unwrap()).await;
    assert_eq!(program.status().await, StatusCode::SERVICE_UNAVAILABLE);
    program.event("no AWS credentials").await;
    // A service that returns expired keys is no better than none.
    metadata.give(&keys(1), expires).await;
    assert_eq!(program.status().await, StatusCode::SERVICE_UNAVAILABLE);
    assert!(domain.seen().iter().all(|seen| seen.refusal.is_none()), "a request was signed with expired keys");

    domain.accept(keys(2), seconds(900));
    metadata.give(&keys(2), seconds(900)).await;
    let is_back = async {
        while program.status().await != StatusCode::OK {
            sleep(Duration::from_millis(100)).await;
        }
    };
    patiently(is_back).await;
}

/// Starts a server that answers requests for `path` with `content`.
async fn serve_file(folder: &TempDir, path: &str, content: &Value) -> AwsMock {
    let file = folder.path().join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, content.to_string()).unwrap();
    let port = Arc::new(ReservedPort::bind().unwrap());
    let (number, directory) = (port.number().to_string(), folder.path().display().to_string());
    let arguments = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", &directory, &number];
    AwsMock::start("python3", port, &arguments).await.unwrap()
}

#[tokio::test]
#[ignore = "needs Python"]
async fn container_credentials_are_found() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(1);
    let given = json!({
        "AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key, "Token": keys.session_token,
        "Expiration": seconds(900).to_string(),
    });
    let agent = serve_file(&folder, "credentials", &given).await;
    domain.accept(keys, seconds(900));
    let url = format!("{}/credentials", agent.url());
    let mut program = started(&domain, "", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]).await;
    assert_eq!(found_key(&mut program).await, "ASIA1");
    assert_eq!(program.status().await, StatusCode::OK);
}

#[tokio::test]
#[ignore = "needs Python"]
async fn sso_credentials_are_found() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let keys = keys(1);
    let given = json!({ "roleCredentials": {
        "accessKeyId": keys.access_key, "secretAccessKey": keys.secret_key, "sessionToken": keys.session_token,
        "expiration": seconds(900).as_millisecond(),
    } });
    let portal = serve_file(&folder, "federation/credentials", &given).await;
    let profile = format!(
        "[profile gate]\nsso_start_url = {START_URL}\nsso_region = eu-west-1\nsso_account_id = 123456789012\n\
         sso_role_name = auditor\n"
    );
    std::fs::write(folder.path().join("config"), profile).unwrap();
    // What `aws sso login` leaves, under the SHA-1 of the URL.
    let token = json!({ "accessToken": "t", "expiresAt": "2099-01-01T00:00:00Z", "startUrl": START_URL, "region": "eu-west-1" });
    let cache = folder.path().join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(cache.join("0c51d0e3f0ac7e7fb178d5d7c2c6fd570a491a24.json"), token.to_string()).unwrap();
    domain.accept(keys, seconds(900));
    let environment = [
        ("AWS_CONFIG_FILE", path(&folder, "config")),
        ("AWS_PROFILE", "gate".to_owned()),
        ("HOME", folder.path().display().to_string()),
        ("AWS_ENDPOINT_URL_SSO", portal.url()),
    ];
    let mut program = started(&domain, "", &environment).await;
    assert_eq!(found_key(&mut program).await, "ASIA1");
    assert_eq!(program.status().await, StatusCode::OK);
}

const START_URL: &str = "https://trail.awsapps.com/start";
