//! The search and count APIs.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{
    Answer, Call, Error, Indices, Reply, parse,
    query::{Query, compare, field},
};

/// A parsed search request.
struct Search {
    query: Query,
    from: usize,
    size: usize,
    /// The fields to sort by, each with true for ascending.
    sort: Vec<(String, bool)>,
}

/// A matching document: its index, its id, its source.
type Hit<'a> = (&'a str, &'a str, &'a Value);

impl Indices {
    pub(super) fn search(&self, names: &str, call: &Call) -> Answer {
        let search = Search::read(call)?;
        let (shards, mut hits) = self.hits(names, &search.query)?;
        let total = hits.len();
        hits.sort_by(|a, b| search.order(a.2, b.2));
        let hits: Vec<Value> = hits
            .into_iter()
            .skip(search.from)
            .take(search.size)
            .map(|(index, id, source)| {
                json!({ "_index": index, "_type": "_doc", "_id": id, "_score": null, "_source": source })
            })
            .collect();
        Ok(Reply::ok(json!({
            "took": 1, "timed_out": false, "_shards": shards,
            "hits": { "total": { "value": total, "relation": "eq" }, "max_score": null, "hits": hits },
        })))
    }

    pub(super) fn count(&self, names: &str, call: &Call) -> Answer {
        let search = Search::read(call)?;
        let (shards, hits) = self.hits(names, &search.query)?;
        Ok(Reply::ok(json!({ "count": hits.len(), "_shards": shards })))
    }

    fn hits(&self, names: &str, query: &Query) -> Result<(Value, Vec<Hit<'_>>), Error> {
        let indices = self.find(names)?;
        let shards = json!({ "total": indices.len(), "successful": indices.len(), "skipped": 0, "failed": 0 });
        let mut hits = Vec::new();
        for (name, index) in indices {
            let found = index.documents.iter().filter(|(_, document)| query.matches(&document.source));
            hits.extend(found.map(|(id, document)| (name, id.as_str(), &document.source)));
        }
        Ok((shards, hits))
    }
}

impl Search {
    fn read(call: &Call) -> Result<Self, Error> {
        let mut search = Self { query: Query::All, from: 0, size: 10, sort: vec![("@timestamp".to_owned(), false)] };
        for (key, value) in &call.parameters {
            match key.as_str() {
                "size" => search.size = number(&json!(value.parse::<u64>().ok()))?,
                "from" => search.from = number(&json!(value.parse::<u64>().ok()))?,
                "q" | "sort" | "_source" => {
                    return Err(Error::illegal(format!("the parameter [{key}] is not stood in for")));
                }
                _ => {}
            }
        }
        if call.body.is_empty() {
            return Ok(search);
        }
        let body = parse(&call.body)?;
        for (key, value) in body.as_object().ok_or_else(|| Error::parsing("the body is not an object"))? {
            match key.as_str() {
                "query" => search.query = Query::read(value)?,
                "size" => search.size = number(value)?,
                "from" => search.from = number(value)?,
                "sort" => search.sort = sort(value)?,
                "track_total_hits" | "timeout" => {}
                other => return Err(Error::parsing(format!("Unknown key for a START_OBJECT in [{other}]."))),
            }
        }
        Ok(search)
    }

    fn order(&self, a: &Value, b: &Value) -> Ordering {
        let orders = self.sort.iter().map(|(name, upwards)| match (field(a, name), field(b, name)) {
            (Some(a), Some(b)) if *upwards => compare(a, b),
            (Some(a), Some(b)) => compare(b, a),
            // Documents without the field come last in either order.
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        orders.fold(Ordering::Equal, Ordering::then)
    }
}

/// Parses `"field"`, `{"field": "asc"}`, `{"field": {"order": "asc"}}` or a list of these.
fn sort(value: &Value) -> Result<Vec<(String, bool)>, Error> {
    match value {
        Value::String(name) => Ok(vec![(name.clone(), true)]),
        Value::Array(all) => Ok(all.iter().map(sort).collect::<Result<Vec<_>, _>>()?.concat()),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, order)| match order.get("order").unwrap_or(order).as_str() {
                Some("asc") => Ok((name.clone(), true)),
                Some("desc") => Ok((name.clone(), false)),
                _ => Err(Error::parsing(format!("no sort order for [{name}]"))),
            })
            .collect(),
        _ => Err(Error::parsing("malformed sort")),
    }
}

fn number(value: &Value) -> Result<usize, Error> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| Error::parsing("[from] and [size] must be numbers that are not negative"))
}
