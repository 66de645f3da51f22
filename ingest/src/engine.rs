//! The engine that a domain runs, as far as requests depend on it.

use std::fmt;
use std::str::FromStr;

use hyper::StatusCode;
use serde::Deserialize;

/// The server behind the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The product.
    pub kind: EngineKind,
    /// The version that it reports: an `OpenSearch` domain in compatibility mode reports 7.10.
    pub version: (u32, u32),
}

/// A search product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Elasticsearch.
    Elasticsearch,
    /// `OpenSearch`.
    OpenSearch,
    /// An `OpenSearch` Serverless collection, which has no version and manages its shards itself.
    Serverless,
}

/// The form of index templates that an engine needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateForm {
    /// `_template`, its mapping below the name of a document type.
    Typed,
    /// `_template` without document types.
    Typeless,
    /// `_index_template`, which alone applies where several match.
    Composable,
}

impl Engine {
    /// The engine that is assumed of a domain that reports none: without types, and with `_index_template`, which
    /// Elasticsearch has since 7.8.
    pub const ASSUMED: Self = Self { kind: EngineKind::OpenSearch, version: (1, 0) };

    /// Detects the engine by the response to `GET /`; `None` if the response names none.
    #[must_use]
    pub fn from_root(status: StatusCode, body: &[u8]) -> Option<Self> {
        match status {
            StatusCode::OK => {
                let root: RootResponse = serde_json::from_slice(body).ok()?;
                Some(Self { kind: root.kind(), version: root.version.numbers()? })
            }
            // An access policy can deny the function `/` and still permit its writes.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(Self::ASSUMED),
            StatusCode::NOT_FOUND => Some(Self { kind: EngineKind::Serverless, version: (0, 0) }),
            _ => None,
        }
    }

    /// Returns the document type that `_bulk` must name, on the engines that still have types.
    ///
    /// It is one for all documents, because 6.x allows one type an index; 5.x rejects one that begins with `_`.
    #[must_use]
    pub fn document_type(self) -> Option<&'static str> {
        (self.template_form() == TemplateForm::Typed).then_some("event")
    }

    pub(crate) fn template_form(self) -> TemplateForm {
        match (self.kind, self.version.0) {
            (EngineKind::Elasticsearch, ..7) => TemplateForm::Typed,
            // 7.8 has `_index_template` too, but the 7.x before it have not.
            (EngineKind::Elasticsearch, 7) => TemplateForm::Typeless,
            _ => TemplateForm::Composable,
        }
    }

    /// Returns the path of index state management, on the engines that attach a policy to new indices by their names.
    pub(crate) fn state_management(self) -> Option<&'static str> {
        match (self.kind, self.version) {
            (EngineKind::OpenSearch, _) => Some("/_plugins/_ism"),
            (EngineKind::Elasticsearch, (7, 10..)) => Some("/_opendistro/_ism"),
            _ => None,
        }
    }
}

/// Displays it as AWS writes it: `Elasticsearch_7.10`, `OpenSearch_2.19`.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        match self.kind {
            EngineKind::Elasticsearch => write!(f, "Elasticsearch_{major}.{minor}"),
            EngineKind::OpenSearch => write!(f, "OpenSearch_{major}.{minor}"),
            EngineKind::Serverless => f.write_str("OpenSearch Serverless"),
        }
    }
}

/// Parses a domain's `EngineVersion`, as `CloudFormation` and the service's API write it.
impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let (name, version) = text.split_once('_').ok_or(UnknownEngine)?;
        let kind = match name {
            "Elasticsearch" => EngineKind::Elasticsearch,
            "OpenSearch" => EngineKind::OpenSearch,
            _ => return Err(UnknownEngine),
        };
        let (major, minor) = version.split_once('.').ok_or(UnknownEngine)?;
        let number = |text: &str| text.parse().map_err(|_| UnknownEngine);
        Ok(Self { kind, version: (number(major)?, number(minor)?) })
    }
}

/// A text that names no engine and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an engine and version; write one like Elasticsearch_5.6 or OpenSearch_2.19")]
pub struct UnknownEngine;

/// The response to `GET /`.
#[derive(Deserialize)]
struct RootResponse {
    version: Version,
    #[serde(default)]
    tagline: String,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    distribution: Option<String>,
}

impl RootResponse {
    fn kind(&self) -> EngineKind {
        // In compatibility mode only the tagline names OpenSearch.
        let is_opensearch =
            self.version.distribution.as_deref() == Some("opensearch") || self.tagline.contains("OpenSearch");
        if is_opensearch { EngineKind::OpenSearch } else { EngineKind::Elasticsearch }
    }
}

impl Version {
    fn numbers(&self) -> Option<(u32, u32)> {
        let mut numbers = self.number.split(['.', '-']).map_while(|number| number.parse().ok());
        Some((numbers.next()?, numbers.next().unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn test(body: &str, kind: EngineKind, version: (u32, u32), form: TemplateForm, document_type: Option<&str>) {
        let engine = Engine::from_root(StatusCode::OK, body.as_bytes()).unwrap();
        assert_eq!((engine.kind, engine.version), (kind, version));
        assert_eq!((engine.template_form(), engine.document_type()), (form, document_type));
    }

    #[test]
    fn engine_is_detected_by_its_banner() {
        use EngineKind::{Elasticsearch, OpenSearch};
        use TemplateForm::{Composable, Typed, Typeless};
        let elasticsearch =
            |number: &str| format!(r#"{{"version":{{"number":"{number}"}},"tagline":"You Know, for Search"}}"#);
        test(&elasticsearch("2.4.6"), Elasticsearch, (2, 4), Typed, Some("event"));
        test(&elasticsearch("5.6.16"), Elasticsearch, (5, 6), Typed, Some("event"));
        test(&elasticsearch("6.8.23"), Elasticsearch, (6, 8), Typed, Some("event"));
        test(&elasticsearch("7.10.2"), Elasticsearch, (7, 10), Typeless, None);
        test(&elasticsearch("8.0.0-rc1"), Elasticsearch, (8, 0), Composable, None);

        let opensearch = r#"{"version":{"distribution":"opensearch","number":"3.9.0"}}"#;
        test(opensearch, OpenSearch, (3, 9), Composable, None);
        let compatible =
            r#"{"version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#;
        test(compatible, OpenSearch, (7, 10), Composable, None);
    }

    #[test]
    fn domain_without_a_banner_is_assumed_recent() {
        assert_eq!(Engine::from_root(StatusCode::FORBIDDEN, b"{}"), Some(Engine::ASSUMED));
        let serverless = Engine::from_root(StatusCode::NOT_FOUND, b"").unwrap();
        assert_eq!((serverless.kind, serverless.template_form()), (EngineKind::Serverless, TemplateForm::Composable));
        assert_eq!(Engine::from_root(StatusCode::OK, b"<html>"), None);
        assert_eq!(Engine::from_root(StatusCode::OK, br#"{"version":{"number":"new"}}"#), None);
        assert_eq!(Engine::from_root(StatusCode::SERVICE_UNAVAILABLE, b"{}"), None);
    }

    #[test]
    fn engine_is_parsed_and_displayed_as_aws_spells_it() {
        for text in ["Elasticsearch_2.3", "Elasticsearch_7.10", "OpenSearch_2.19"] {
            assert_eq!(text.parse::<Engine>().unwrap().to_string(), text);
        }
        let engine: Engine = "Elasticsearch_5.6".parse().unwrap();
        assert_eq!((engine.kind, engine.version), (EngineKind::Elasticsearch, (5, 6)));
        for text in ["", "5.6", "Elasticsearch", "Elasticsearch_7", "elasticsearch_7.10", "Solr_9.1", "OpenSearch_2.x"]
        {
            assert_eq!(text.parse::<Engine>(), Err(UnknownEngine), "{text}");
        }
    }

    #[test]
    fn retention_requires_index_state_management() {
        let state_management = |kind, version| Engine { kind, version }.state_management();
        assert_eq!(state_management(EngineKind::OpenSearch, (2, 19)), Some("/_plugins/_ism"));
        assert_eq!(state_management(EngineKind::Elasticsearch, (7, 10)), Some("/_opendistro/_ism"));
        assert_eq!(state_management(EngineKind::Elasticsearch, (7, 9)), None);
        assert_eq!(state_management(EngineKind::Elasticsearch, (6, 8)), None);
        assert_eq!(state_management(EngineKind::Serverless, (0, 0)), None);
    }
}
