//! A configuration with its environment, and the program's report about it.

use std::process::Stdio;

use fake_domain::FakeDomain;
use fake_domain::verify::Credentials;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::program_path;
use crate::support::{allow, patiently};

/// The inputs of the program.
pub(crate) struct Case {
    pub(crate) folder: TempDir,
    pub(crate) endpoint: String,
    /// More keys of `[upstream]`, then other tables than `[aws]`.
    pub(crate) config: String,
    /// More keys of `[aws]`.
    pub(crate) aws: String,
    pub(crate) allowlist: String,
    pub(crate) environment: Vec<(&'static str, String)>,
}

/// The program's exit code and reported steps.
pub(crate) struct Diagnosis {
    pub(crate) code: Option<i32>,
    pub(crate) steps: Vec<Value>,
}

impl Case {
    /// Creates a case without a fault, except that STS cannot be reached.
    pub(crate) fn of(domain: &FakeDomain) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = "connect_timeout = \"20 s\"\n".to_owned();
        if let Some(ca_pem) = domain.ca_pem() {
            std::fs::write(folder.path().join("ca.pem"), ca_pem).unwrap();
            config += "ca_file = \"ca.pem\"\n";
        }
        let key = Credentials::default();
        let environment = vec![
            ("AWS_ACCESS_KEY_ID", key.access_key),
            ("AWS_SECRET_ACCESS_KEY", key.secret_key),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            // A closed port.
            ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1".to_owned()),
        ];
        let (endpoint, aws, allowlist) = (domain.url(), String::new(), allow("127.0.0.1"));
        Self { folder, endpoint, config, aws, allowlist, environment }
    }

    pub(crate) fn with_environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.retain(|(other, _)| *other != name);
        self.environment.push((name, value.to_owned()));
        self
    }

    pub(crate) fn command(&self) -> Command {
        let Self { endpoint, config, aws, .. } = self;
        let text = format!(
            "[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n{aws}[upstream]\nendpoint = \"{endpoint}\"\n{config}"
        );
        let file = self.folder.path().join("trailgate.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(self.folder.path().join("allowlist.toml"), &self.allowlist).unwrap();
        let mut command = Command::new(program_path());
        command.args(["doctor", "--config"]).arg(file).env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    pub(crate) async fn diagnose(&self) -> Diagnosis {
        let output = patiently(self.command().arg("--json").output()).await.unwrap();
        let secret = Credentials::default().secret_key;
        let said = [&output.stdout[..], &output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains(&secret), "the secret is shown: {output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"));
        Diagnosis { code: output.status.code(), steps: report["steps"].as_array().unwrap().clone() }
    }
}

impl Diagnosis {
    pub(crate) fn step(&self, name: &str) -> &Value {
        self.steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("no {name} in {:?}", self.steps))
    }

    #[track_caller]
    pub(crate) fn passes(&self, name: &str, text: &str) {
        let step = self.step(name);
        assert_eq!(step["status"], "passed", "{step}");
        assert!(step["text"].as_str().unwrap().contains(text), "{step}");
    }

    /// Asserts that the first failing step is this one, with this message, and returns its advice.
    #[track_caller]
    pub(crate) fn fails(&self, name: &str, text: &str, advice: &str) -> String {
        let failed: Vec<_> = self.steps.iter().filter(|step| step["status"] == "failed").collect();
        assert_eq!((failed.len(), self.code), (1, Some(1)), "{:#?}", self.steps);
        let (step, said) = (failed[0], failed[0]["advice"].as_str().unwrap());
        assert_eq!(step["step"], name, "{step}");
        assert!(step["text"].as_str().unwrap().contains(text), "{step}");
        assert!(said.contains(advice), "{said}");
        said.to_owned()
    }

    /// Returns the steps that were not tried.
    pub(crate) fn unknown(&self) -> Vec<&str> {
        let unknown = self.steps.iter().filter(|step| step["status"] == "unknown");
        unknown.map(|step| step["step"].as_str().unwrap()).collect()
    }
}
