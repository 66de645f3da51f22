//! The validated configuration. [`written`] parses the file; an error names file, line and key.

mod listen;
mod problem;
mod types;
mod units;
mod written;

use std::path::{Path, PathBuf};
use std::{fmt, fs};

pub use self::types::Config;
pub(crate) use self::types::{DomainConfig, LogConfig, RolesConfig, SigningConfig};
use crate::watched_file::explain_encoding;

impl Config {
    /// Reads the configuration in `file`. Relative paths in it start at its directory.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(explain_encoding);
        let text = text.map_err(|error| ConfigError::new(file, format!("cannot be read: {error}")))?;
        Self::parse(file, &text)
    }

    /// Parses the configuration `text` of `file`.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let written: written::Config = toml::from_str(text).map_err(|error| {
            let message = error.message().lines().next().unwrap_or_default().to_owned();
            ConfigError::new(file, message).at(text, error.span().map(|span| span.start))
        })?;
        let folder = file.parent().unwrap_or(Path::new(""));
        written.check(folder).map_err(|problem| ConfigError::new(file, problem.message).at(text, Some(problem.at)))
    }
}

/// An error in the configuration, with its location.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    line: Option<usize>,
    key: Option<String>,
    message: String,
}

impl ConfigError {
    fn new(file: &Path, message: String) -> Self {
        Self { file: file.to_owned(), line: None, key: None, message }
    }

    /// Adds the line and the key at byte `offset` of `text`.
    fn at(mut self, text: &str, offset: Option<usize>) -> Self {
        let Some(before) = offset.and_then(|offset| text.get(..offset)) else { return self };
        self.line = Some(before.matches('\n').count() + 1);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let table = table_name(line).or_else(|| before.lines().rev().find_map(table_name));
        let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.starts_with('#'));
        let path: Vec<&str> = table.into_iter().chain(key).collect();
        self.key = Some(path.join(".")).filter(|path| !path.is_empty());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

fn table_name(line: &str) -> Option<&str> {
    line.trim().strip_prefix('[')?.trim_start_matches('[').split(']').next()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::ops::admin::AdminAddress;
    use crate::proxy::root_redirect::RootRedirect;

    const SMALLEST: &str = "[upstream]\nendpoint = \"https://search-trail-abc.eu-west-1.es.amazonaws.com\"\n";

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/etc/trailgate/trailgate.toml"), text)
    }

    #[track_caller]
    fn rejects(text: &str, expected: &str) {
        let error = parse(text).expect_err("this configuration is wrong").to_string();
        assert_eq!(error, format!("/etc/trailgate/trailgate.toml:{expected}"));
    }

    #[test]
    fn endpoint_alone_is_a_valid_configuration() {
        let config = parse(SMALLEST).unwrap();
        assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8080");
        assert_eq!(
            (config.domain.signing.region.as_str(), config.domain.signing.service.as_str()),
            ("eu-west-1", "es")
        );
        assert_eq!(config.allowlist, Path::new("/etc/trailgate/allowlist.toml"));
        assert_eq!(config.proxy.root_redirect, RootRedirect::to("/_plugin/kibana/"));
        assert_eq!(config.domain.upstream.response_timeout, Duration::from_mins(5));
        assert_eq!(config.proxy.body.max_body, 100 * 1024 * 1024);
        assert_eq!(config.log.level, LevelFilter::INFO);
        assert_eq!(config.proxy.searches.keep_alive, Duration::from_mins(5));
        assert_eq!(config.admin.address.to_string(), "127.0.0.1:9180");
    }

    #[test]
    fn admin_address_is_tcp_a_socket_or_off() {
        let admin =
            |address: &str| parse(&format!("{SMALLEST}[admin]\naddress = {address:?}\n")).map(|it| it.admin.address);
        assert_eq!(admin("unix:admin.sock"), Ok(AdminAddress::Unix("/etc/trailgate/admin.sock".into())));
        assert_eq!(admin("off"), Ok(AdminAddress::Disabled));
        rejects(
            &format!("{SMALLEST}[admin]\naddress = \"localhost\"\n"),
            "4: admin.address: \"localhost\" is not an admin address: write \"127.0.0.1:9180\", \"unix:/PATH\", or \"off\"",
        );
    }

    #[test]
    fn every_key_of_the_shipped_file_is_known() {
        let shipped = include_str!("../config/trailgate.toml");
        let is_key =
            |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
        let lines = shipped.lines().map(|line| line.strip_prefix('#').filter(|rest| is_key(rest)).unwrap_or(line));
        let text = lines.collect::<Vec<_>>().join("\n");
        assert!(text.contains("\n[listen.tls]\n") && text.contains("\nproxy_protocol = false\n"), "{text}");
        let config = parse(&text).unwrap();
        assert!(config.listeners[0].tls.is_some());
    }

    #[test]
    fn sizes_and_durations_have_units() {
        let config = parse(&format!("{SMALLEST}[limits]\nmax_body = \"1.5 MiB\"\ndrain = \"2 min\"\n")).unwrap();
        assert_eq!(config.proxy.body.max_body, 3 * 512 * 1024);
        assert_eq!(config.connections.drain, Duration::from_mins(2));
    }

    #[test]
    fn error_has_file_line_and_key() {
        rejects(
            &format!("{SMALLEST}[limits]\nmax_body = \"many\"\n"),
            "4: limits.max_body: \"many\" is not a size: write a number and B, KiB, MiB or GiB, as in \"100 MiB\"",
        );
        rejects(
            &format!("{SMALLEST}[limits]\ndrain = \"5\"\n"),
            "4: limits.drain: \"5\" is not a duration: write a number and ms, s, min or h, as in \"30 s\"",
        );
        rejects(&format!("{SMALLEST}[limits]\ndrain = \"0 s\"\n"), "4: limits.drain: must be longer than nothing");
        rejects(
            &format!("{SMALLEST}[limits]\nconnections = -1\n"),
            "4: limits.connections: invalid value: integer `-1`, expected a nonzero usize",
        );
        rejects(
            &format!("{SMALLEST}[listen]\nadress = \"x\"\n"),
            "4: listen.adress: unknown field `adress`, expected one of `address`, `hosts`, `trusted_proxies`, \
             `trusted_origins`, `proxy_protocol`, `redirect_to_https`, `tls`",
        );
        rejects(
            &format!("{SMALLEST}[listen]\naddress = \"localhost\"\n"),
            "4: listen.address: \"localhost\" is not an IP address with a port: write one like \"127.0.0.1:8080\"",
        );
        rejects(
            &format!("{SMALLEST}[log]\nlevel = \"loud\"\n"),
            "4: log.level: \"loud\" is not a level: write off, error, warn, info, debug or trace",
        );
    }

    #[test]
    fn unusable_endpoint_is_rejected() {
        rejects(
            "[upstream]\nendpoint = \"https://a.test/x\"\n",
            "2: upstream.endpoint: \"https://a.test/x\" has a path: write only scheme and host",
        );
        rejects(
            "[upstream]\nendpoint = \"http://a.test\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n",
            "2: upstream.endpoint: is plain http to another machine: write https, or set upstream.allow_plaintext = true",
        );
        rejects(
            "[upstream]\nendpoint = \"https://a.test\"\n",
            "2: upstream.endpoint: names neither region nor service: set aws.region, and aws.service to \"es\" or \"aoss\"",
        );
        rejects(
            "[upstream]\nendpoint = \"https://a.test\"\n[aws]\nservice = \"es\"\n",
            "2: upstream.endpoint: does not name a region: set aws.region",
        );
        rejects(
            "[upstream]\nendpoint = \"https://a.test\"\n[aws]\nregion = \"eu-west-1\"\n",
            "2: upstream.endpoint: does not name a service: set aws.service to \"es\" or \"aoss\"",
        );
        rejects("[upstream]\nhome = \"off\"\n", "1: upstream: missing field `endpoint`");
    }

    #[test]
    fn roles_are_parsed_and_bounded() {
        let roles = |lines: &str| format!("{SMALLEST}[aws.roles]\n{lines}\n");
        let config =
            parse(&roles("full = \"arn:aws:iam::123456789012:role/Editor\"\nsession_duration = \"2 h\"")).unwrap();
        assert_eq!(config.roles.defaults.full.unwrap().name(), "Editor");
        assert_eq!(config.roles.settings.duration, Some(Duration::from_hours(2)));
        assert!(config.roles.defaults.read.is_none() && !config.roles.settings.tags);
        rejects(
            &roles("session_duration = \"5 min\""),
            "4: aws.roles.session_duration: is not between 15 min and 12 h, as STS requires",
        );
        rejects(
            &roles("external_id = \"a b\""),
            "4: aws.roles.external_id: \"a b\" is not an external ID: write 2 to 1224 of the characters \
             A-Z a-z 0-9 _ + = , . @ : / -",
        );
        rejects(&roles("session_idle = \"0 s\""), "4: aws.roles.session_idle: must be longer than nothing");
    }

    #[test]
    fn custom_endpoint_uses_the_configured_region_and_service() {
        let config = parse(
            "[upstream]\nendpoint = \"http://127.0.0.1:9200\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"aoss\"\n",
        )
        .unwrap();
        assert_eq!(
            (config.domain.signing.region.as_str(), config.domain.signing.service.as_str()),
            ("eu-west-1", "aoss")
        );
        assert_eq!(config.proxy.root_redirect, RootRedirect::to("/_dashboards/"));
    }

    #[test]
    fn malformed_region_or_role_is_rejected() {
        let aws = |line: &str| format!("{SMALLEST}[aws]\n{line}\n");
        rejects(&aws("region = \"\""), "4: aws.region: \"\" is not a region: write one like \"eu-west-1\"");
        let message = "is not the ARN of a role: write one like \"arn:aws:iam::123456789012:role/trailgate\"";
        for role in ["trailgate", "", "arn:aws:iam::123456789012:user/a", "arn:aws:iam::1234:role/a"] {
            rejects(&aws(&format!("assume_role = {role:?}")), &format!("4: aws.assume_role: {role:?} {message}"));
            let read = format!("region = \"eu-west-1\"\n[aws.roles]\nread = {role:?}");
            rejects(&aws(&read), &format!("6: aws.roles.read: {role:?} {message}"));
        }
        for role in ["arn:aws:iam::123456789012:role/a/b", "arn:aws-cn:iam::123456789012:role/a"] {
            assert!(parse(&aws(&format!("assume_role = {role:?}"))).is_ok(), "{role}");
        }
    }

    #[test]
    fn max_body_above_the_buffer_memory_is_rejected() {
        rejects(
            &format!("{SMALLEST}[limits]\nbuffer_memory = \"64 MiB\"\n"),
            "4: limits.buffer_memory: is less than limits.max_body, so the largest body would never fit",
        );
    }

    #[test]
    fn home_page_is_a_path_or_off() {
        assert_eq!(
            parse(&format!("{SMALLEST}home = \"off\"\n")).unwrap().proxy.root_redirect,
            RootRedirect::disabled()
        );
        rejects(
            &format!("{SMALLEST}home = \"https://a.test/\"\n"),
            "3: upstream.home: \"https://a.test/\" is not a path: write \"/…\", or \"off\"",
        );
    }
}
