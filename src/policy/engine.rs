//! The upstream's engine: its distribution and version, which decide the meaning of a route.
//!
//! Engines with mapping types interpret an unknown `POST /name/_route` as "index a document of the type `_route`", and
//! create the index before they reject the type. So a read grant permits such a route only if it is an API of the
//! engine.

mod banner;
mod learn;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;
use tokio::sync::Notify;

pub(crate) use self::banner::fetch_banner;
pub use self::learn::learn;

/// A distribution and its version without the patch level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The distribution.
    pub distribution: Distribution,
    /// Major and minor version.
    pub version: Version,
}

/// Major and minor version, which compare in this order.
pub type Version = (u8, u8);

/// An engine family that AWS offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Elasticsearch up to 7.10.
    Elasticsearch,
    /// `OpenSearch`.
    OpenSearch,
}

impl Engine {
    /// The oldest engine that a serverless collection can have.
    pub const SERVERLESS: Self = Self { distribution: Distribution::OpenSearch, version: (2, 0) };

    /// Parses the response to `GET /`. Returns `None` if it names no known distribution or no version.
    ///
    /// In compatibility mode (`compatibility.override_main_response_version`) OpenSearch 1 and 2 report 7.10.2 and no
    /// distribution. The tagline still names OpenSearch, and Lucene's version separates the two. The minor version is
    /// then 0, the oldest.
    #[must_use]
    pub fn from_banner(banner: &[u8]) -> Option<Self> {
        let Banner { tagline, version } = serde_json::from_slice(banner).ok()?;
        let reported = parse(&version.number)?;
        if version.distribution.as_deref() == Some("opensearch") {
            return Some(Self { distribution: Distribution::OpenSearch, version: reported });
        }
        if tagline.contains("OpenSearch") {
            let lucene = version.lucene_version.as_deref().and_then(parse);
            let version = if lucene.is_some_and(|(major, _)| major >= 9) { (2, 0) } else { (1, 0) };
            return Some(Self { distribution: Distribution::OpenSearch, version });
        }
        let is_elasticsearch = tagline == "You Know, for Search" && version.distribution.is_none();
        is_elasticsearch.then_some(Self { distribution: Distribution::Elasticsearch, version: reported })
    }

    /// Returns whether the engine interprets an unknown route below an index as a mapping type, and a `POST` to it as
    /// indexing a document.
    #[must_use]
    pub fn has_mapping_types(self) -> bool {
        match self.distribution {
            Distribution::Elasticsearch => self.version < (8, 0),
            Distribution::OpenSearch => self.version < (2, 0),
        }
    }

    fn to_bits(self) -> u32 {
        let distribution = match self.distribution {
            Distribution::Elasticsearch => 1,
            Distribution::OpenSearch => 2,
        };
        u32::from_be_bytes([0, distribution, self.version.0, self.version.1])
    }

    fn from_bits(bits: u32) -> Option<Self> {
        let [_, distribution, major, minor] = bits.to_be_bytes();
        let distribution = match distribution {
            1 => Distribution::Elasticsearch,
            2 => Distribution::OpenSearch,
            _ => return None,
        };
        Some(Self { distribution, version: (major, minor) })
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    /// Parses AWS's spelling, such as `OpenSearch_2.19`.
    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        let unknown = || UnknownEngine(text.to_owned());
        let (distribution, version) = text.split_once('_').ok_or_else(unknown)?;
        let distribution = match distribution {
            "Elasticsearch" => Distribution::Elasticsearch,
            "OpenSearch" => Distribution::OpenSearch,
            _ => return Err(unknown()),
        };
        Ok(Self { distribution, version: parse(version).ok_or_else(unknown)? })
    }
}

/// A text that names no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no engine: write it as AWS does, such as \"OpenSearch_2.19\" or \"Elasticsearch_7.10\"")]
pub struct UnknownEngine(String);

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version;
        write!(f, "{} {major}.{minor}", self.distribution)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elasticsearch => "Elasticsearch",
            Self::OpenSearch => "OpenSearch",
        })
    }
}

/// The domain's engine as last detected, shared by all workers. A read costs one atomic load.
#[derive(Clone, Debug, Default)]
pub struct KnownEngine(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The engine's encoding, or 0 if it is unknown.
    bits: AtomicU32,
    doubted: Notify,
}

impl KnownEngine {
    /// Returns the engine, or `None` while it is not known.
    #[must_use]
    pub fn get(&self) -> Option<Engine> {
        // Relaxed: no other memory is published with it.
        Engine::from_bits(self.0.bits.load(Ordering::Relaxed))
    }

    /// Replaces the engine, and returns the previous one.
    pub fn set(&self, engine: Option<Engine>) -> Option<Engine> {
        Engine::from_bits(self.0.bits.swap(engine.map_or(0, Engine::to_bits), Ordering::Relaxed))
    }

    /// Schedules another detection soon, because a response contradicts the engine.
    pub fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    async fn doubted(&self) {
        self.0.doubted.notified().await;
    }
}

#[derive(Deserialize)]
struct Banner {
    #[serde(default)]
    tagline: String,
    version: BannerVersion,
}

#[derive(Deserialize)]
struct BannerVersion {
    number: String,
    distribution: Option<String>,
    lucene_version: Option<String>,
}

fn parse(version: &str) -> Option<Version> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn banner(text: &str, expected: Option<(Distribution, Version)>) {
        let expected = expected.map(|(distribution, version)| Engine { distribution, version });
        assert_eq!(Engine::from_banner(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn banner_names_distribution_and_version() {
        use Distribution::{Elasticsearch, OpenSearch};
        let elasticsearch = |number| {
            format!(
                r#"{{"version":{{"number":"{number}","lucene_version":"8.7.0"}},"tagline":"You Know, for Search"}}"#
            )
        };
        banner(&elasticsearch("7.10.2"), Some((Elasticsearch, (7, 10))));
        banner(&elasticsearch("2.4.6"), Some((Elasticsearch, (2, 4))));
        banner(&elasticsearch("2.4.6-SNAPSHOT"), Some((Elasticsearch, (2, 4))));
        banner(&elasticsearch("seven"), None);
        let opensearch = r#"{"version":{"distribution":"opensearch","number":"2.19.6","lucene_version":"9.12.3"},
            "tagline":"The OpenSearch Project: https://opensearch.org/"}"#;
        banner(opensearch, Some((OpenSearch, (2, 19))));
        banner(r#"{"version":{"number":"8.1.0"},"tagline":"You Know, for something else"}"#, None);
        banner("<html>", None);
        banner("{}", None);
    }

    #[test]
    fn compatibility_mode_is_detected_by_tagline_and_lucene() {
        let compatible = |lucene| {
            format!(
                r#"{{"version":{{"number":"7.10.2"{lucene}}},"tagline":"The OpenSearch Project: https://opensearch.org/"}}"#
            )
        };
        let opensearch = |version| Some((Distribution::OpenSearch, version));
        banner(&compatible(r#","lucene_version":"8.10.1""#), opensearch((1, 0)));
        banner(&compatible(r#","lucene_version":"9.12.3""#), opensearch((2, 0)));
        // The older of the two is the stricter choice.
        banner(&compatible(""), opensearch((1, 0)));
    }

    #[test]
    fn engine_is_parsed_as_aws_spells_it() {
        let opensearch = Engine { distribution: Distribution::OpenSearch, version: (2, 19) };
        assert_eq!("OpenSearch_2.19".parse(), Ok(opensearch));
        for text in ["OpenSearch", "OpenSearch_2", "opensearch_2.19", "OpenSearch_2.x", ""] {
            assert_eq!(text.parse::<Engine>(), Err(UnknownEngine(text.to_owned())));
        }
    }

    #[test]
    fn known_engine_returns_the_last_value() {
        let known = KnownEngine::default();
        assert_eq!(known.get(), None);
        let engine = Engine { distribution: Distribution::OpenSearch, version: (2, 19) };
        assert_eq!(known.set(Some(engine)), None);
        assert_eq!(known.clone().get(), Some(engine));
        assert_eq!(known.set(None), Some(engine));
        assert_eq!(known.get(), None);
    }

    #[test]
    fn mapping_types_end_with_elasticsearch_8_and_opensearch_2() {
        let has = |distribution, version| Engine { distribution, version }.has_mapping_types();
        assert!(has(Distribution::Elasticsearch, (7, 10)));
        assert!(!has(Distribution::Elasticsearch, (8, 0)));
        assert!(has(Distribution::OpenSearch, (1, 3)));
        assert!(!has(Distribution::OpenSearch, (2, 0)));
    }
}
