use std::path::Path;

use crate::program::{command_of, files, output, path, program_path};
use crate::support::{allow, patiently};

#[tokio::test]
async fn check_warns_of_connections_without_descriptors() {
    let folder = files("https://search-trail-abc.eu-west-1.es.amazonaws.com", &allow("203.0.113.7"));
    let config = path(&folder, "trailgate.toml");
    let script = "ulimit -n 1024; exec \"$@\"";
    let arguments = ["-c", script, "sh", &program_path(), "check", "--config", &config];
    let output = patiently(command_of("/bin/sh", &arguments).output()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success());
    assert!(
        stderr.contains("warning: limits.connections = 10000 needs 20160 file descriptors and 1024 may be"),
        "{stderr}"
    );
}

#[tokio::test]
async fn check_warns_of_an_entry_for_a_trusted_proxy() {
    let folder = files("https://search-trail-abc.eu-west-1.es.amazonaws.com", &allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[listen]\n", "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n")).unwrap();
    let (code, _, stderr) = output(&["check", "--config", &config]).await;
    assert_eq!(code, Some(0));
    assert!(stderr.contains("warning: the allowlist's entry 127.0.0.1 "), "{stderr}");
}

#[tokio::test]
async fn check_prints_the_resulting_configuration() {
    let folder = files("https://search-trail-abc.eu-west-1.es.amazonaws.com", &allow("203.0.113.7"));
    let (code, stdout, stderr) = output(&["check", "--config", &path(&folder, "trailgate.toml")]).await;
    let expected = format!(
        "{0}/trailgate.toml: listens on 127.0.0.1:0, signs for es in eu-west-1, forwards to \
         search-trail-abc.eu-west-1.es.amazonaws.com\n{0}/allowlist.toml: 1 entry, 0 expired\n",
        folder.path().display()
    );
    assert_eq!((code, stdout.as_str()), (Some(0), expected.as_str()));
    // Only of the machine that the test runs on.
    assert!(stderr.lines().all(|line| line.starts_with("trailgate: warning: limits.connections")), "{stderr}");
}

#[tokio::test]
async fn ca_file_without_pem_is_a_configuration_error() {
    let folder = files("https://search-trail-abc.eu-west-1.es.amazonaws.com", &allow("203.0.113.7"));
    let config = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[upstream]\n", "[upstream]\nca_file = \"ca.pem\"\n")).unwrap();
    std::fs::write(folder.path().join("ca.pem"), "no certificate\n").unwrap();
    for verb in ["run", "check"] {
        let (code, _, stderr) = output(&[verb, "--config", &config]).await;
        assert_eq!(code, Some(78), "{verb}: {stderr}");
        assert!(stderr.contains("ca.pem: contains no certificate"), "{verb}: {stderr}");
    }
}

/// Asserts that both `run` and `check` end with 78, `EX_CONFIG`, and one line.
async fn is_rejected(folder: &Path, expected: &str) {
    for verb in ["run", "check"] {
        let config = folder.join("trailgate.toml").display().to_string();
        let (code, stdout, stderr) = output(&[verb, "--config", &config]).await;
        let expected = format!("trailgate: {}/{expected}\n", folder.display());
        assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(78), "", expected.as_str()), "{verb}");
    }
}

#[tokio::test]
async fn mistake_in_a_file_is_reported_with_its_line() {
    let folder = files("https://a.test/path", &allow("203.0.113.7"));
    let reason = "\"https://a.test/path\" has a path: write only scheme and host";
    is_rejected(folder.path(), &format!("trailgate.toml:4: upstream.endpoint: {reason}")).await;

    let folder = files("https://a.test", "[[allow]]\ncidr = \"10.0.0.1/8\"\nname = \"a\"\n");
    let reason = "cidr \"10.0.0.1/8\" has host bits set: write \"10.0.0.0/8\", or \"10.0.0.1\" for that one address";
    is_rejected(folder.path(), &format!("allowlist.toml:2: {reason}")).await;
}

#[tokio::test]
async fn missing_or_empty_allowlist_fails_the_start() {
    let folder = files("https://a.test", "");
    let reason = "has no entries: write at least one [[allow]], or allow = [] to reject every client";
    is_rejected(folder.path(), &format!("allowlist.toml: {reason}")).await;
    std::fs::remove_file(folder.path().join("allowlist.toml")).unwrap();
    is_rejected(folder.path(), "allowlist.toml: cannot be read: No such file or directory (os error 2)").await;
}
