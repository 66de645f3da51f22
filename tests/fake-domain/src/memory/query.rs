//! Queries: conditions that documents match.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Error;

/// A condition on documents.
#[derive(Debug)]
pub(super) enum Query {
    All,
    /// The field equals the value, or is a list that contains it.
    Term(String, Value),
    /// The field is within all bounds.
    Range(String, Vec<(Bound, Value)>),
    Every(Vec<Query>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Query {
    pub(super) fn read(value: &Value) -> Result<Self, Error> {
        let (kind, inner) = single(value).ok_or_else(|| Error::parsing("[query] malformed query"))?;
        match kind {
            "match_all" => Ok(Self::All),
            "term" => {
                let (name, term) = single(inner).ok_or_else(|| Error::parsing("[term] takes one field"))?;
                Ok(Self::Term(name.to_owned(), term.get("value").unwrap_or(term).clone()))
            }
            "range" => {
                let (name, bounds) = single(inner).ok_or_else(|| Error::parsing("[range] takes one field"))?;
                let bounds = bounds.as_object().ok_or_else(|| Error::parsing("[range] takes an object"))?;
                Ok(Self::Range(name.to_owned(), read_bounds(bounds)?))
            }
            "bool" => {
                let clauses = inner.as_object().ok_or_else(|| Error::parsing("[bool] takes an object"))?;
                let mut queries = Vec::new();
                for (clause, value) in clauses {
                    match (clause.as_str(), value) {
                        ("filter" | "must", Value::Array(all)) => {
                            for query in all {
                                queries.push(Self::read(query)?);
                            }
                        }
                        ("filter" | "must", one) => queries.push(Self::read(one)?),
                        (other, _) => return Err(Error::parsing(format!("[bool] query does not support [{other}]"))),
                    }
                }
                Ok(Self::Every(queries))
            }
            other => Err(Error::parsing(format!("unknown query [{other}]"))),
        }
    }

    pub(super) fn matches(&self, document: &Value) -> bool {
        match self {
            Self::All => true,
            Self::Term(name, term) => field(document, name).is_some_and(|value| match value {
                Value::Array(all) => all.contains(term),
                one => one == term,
            }),
            Self::Range(name, bounds) => field(document, name)
                .is_some_and(|value| bounds.iter().all(|(bound, limit)| bound.admits(compare(value, limit)))),
            Self::Every(queries) => queries.iter().all(|query| query.matches(document)),
        }
    }
}

impl Bound {
    fn admits(self, order: Ordering) -> bool {
        match self {
            Self::Above => order.is_gt(),
            Self::AtLeast => order.is_ge(),
            Self::Below => order.is_lt(),
            Self::AtMost => order.is_le(),
        }
    }
}

/// Returns a document's field by its dotted name. The sub-field `keyword` is the field itself.
pub(super) fn field<'a>(document: &'a Value, name: &str) -> Option<&'a Value> {
    let name = name.strip_suffix(".keyword").unwrap_or(name);
    document.get(name).or_else(|| name.split('.').try_fold(document, |value, part| value.get(part)))
}

/// Compares numbers by size, dates by time, and everything else as text.
pub(super) fn compare(a: &Value, b: &Value) -> Ordering {
    if let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) {
        return a.total_cmp(&b);
    }
    let (a, b) = (text(a), text(b));
    match (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(&b),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn read_bounds(bounds: &Map<String, Value>) -> Result<Vec<(Bound, Value)>, Error> {
    let bounds = bounds.iter().filter(|(name, _)| *name != "format");
    let bounds = bounds.map(|(name, limit)| {
        let bound = match name.as_str() {
            "gt" => Bound::Above,
            "gte" => Bound::AtLeast,
            "lt" => Bound::Below,
            "lte" => Bound::AtMost,
            other => return Err(Error::parsing(format!("[range] query does not support [{other}]"))),
        };
        if limit.as_str().is_some_and(|limit| limit.starts_with("now") || limit.contains("||")) {
            return Err(Error::parsing(format!("date math is not stood in for: [{limit}]")));
        }
        Ok((bound, limit.clone()))
    });
    bounds.collect()
}

/// Returns the only key and value of an object like `{"term": {}}`.
pub(super) fn single(value: &Value) -> Option<(&str, &Value)> {
    let mut pairs = value.as_object()?.iter();
    let (key, inner) = pairs.next()?;
    pairs.next().is_none().then_some((key, inner))
}
