//! The engines that have a rule's paths as an API.

use std::fmt;

use crate::policy::engine::{Distribution, Engine, Version};

/// The versions of each distribution in which a path is an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Engines {
    elasticsearch: Versions,
    opensearch: Versions,
}

/// A range of versions; `below` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Versions {
    from: Version,
    below: Version,
}

impl Engines {
    /// Returns every engine that AWS offers, except Elasticsearch 1.5.
    pub(super) const fn all() -> Self {
        let elasticsearch = Versions { from: OLDEST, below: NO_END };
        Self { elasticsearch, opensearch: Versions { from: (1, 0), below: NO_END } }
    }

    pub(super) const fn elasticsearch_from(self, from: Version) -> Self {
        Self { elasticsearch: Versions { from, ..self.elasticsearch }, ..self }
    }

    pub(super) const fn elasticsearch_below(self, below: Version) -> Self {
        Self { elasticsearch: Versions { below, ..self.elasticsearch }, ..self }
    }

    pub(super) const fn no_elasticsearch(self) -> Self {
        Self { elasticsearch: NONE, ..self }
    }

    pub(super) const fn opensearch_from(self, from: Version) -> Self {
        Self { opensearch: Versions { from, ..self.opensearch }, ..self }
    }

    pub(super) const fn no_opensearch(self) -> Self {
        Self { opensearch: NONE, ..self }
    }

    /// Returns whether a `POST` to the path is harmless on `engine`: an API, or an error. An unknown engine may be any,
    /// so it fails closed.
    pub(super) fn include(self, engine: Option<Engine>) -> bool {
        let Some(engine) = engine else { return self == Self::all() };
        let Versions { from, below } = match engine.distribution {
            Distribution::Elasticsearch => self.elasticsearch,
            Distribution::OpenSearch => self.opensearch,
        };
        (from..below).contains(&engine.version) || !engine.has_mapping_types()
    }
}

impl fmt::Display for Engines {
    /// Formats the engines as docs/read-grant.md shows them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::all() {
            return f.write_str("all");
        }
        let (elasticsearch, opensearch) = (self.elasticsearch, self.opensearch);
        let known = [("Elasticsearch", elasticsearch, OLDEST), ("OpenSearch", opensearch, (1, 0))];
        let known = known.iter().filter(|(_, versions, _)| *versions != NONE);
        let texts = known.map(|(name, Versions { from, below }, oldest)| {
            let from = if from == oldest { String::new() } else { format!(" from {}.{}", from.0, from.1) };
            let below = if *below == NO_END { String::new() } else { format!(" below {}.{}", below.0, below.1) };
            format!("{name}{from}{below}")
        });
        f.write_str(&texts.collect::<Vec<_>>().join(", "))
    }
}

const OLDEST: Version = (2, 0);
const NO_END: Version = (u8::MAX, u8::MAX);
const NONE: Versions = Versions { from: NO_END, below: NO_END };

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn include(engines: Engines, engine: Option<&str>, expected: bool) {
        let engine = engine.map(|text| text.parse().unwrap());
        assert_eq!(engines.include(engine), expected, "{engines} {engine:?}");
    }

    #[test]
    fn unknown_engine_allows_only_routes_of_every_engine() {
        include(Engines::all(), None, true);
        include(Engines::all().elasticsearch_from((5, 4)), None, false);
        include(Engines::all().no_opensearch(), None, false);
    }

    #[test]
    fn engine_range_includes_its_start_and_excludes_its_end() {
        let engines = Engines::all().elasticsearch_from((5, 4)).elasticsearch_below((6, 0)).no_opensearch();
        include(engines, Some("Elasticsearch_5.3"), false);
        include(engines, Some("Elasticsearch_5.4"), true);
        include(engines, Some("Elasticsearch_5.6"), true);
        include(engines, Some("Elasticsearch_6.0"), false);
        include(engines, Some("OpenSearch_1.3"), false);
        include(Engines::all(), Some("Elasticsearch_1.5"), false);
    }

    #[test]
    fn unknown_route_is_an_error_without_mapping_types() {
        include(Engines::all().no_opensearch(), Some("OpenSearch_2.0"), true);
        include(Engines::all().opensearch_from((2, 4)), Some("OpenSearch_2.3"), true);
        include(Engines::all().opensearch_from((2, 4)), Some("OpenSearch_1.3"), false);
    }
}
