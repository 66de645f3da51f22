//! Searches of the domain, with requests that all engines know.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use hyper::{Method, StatusCode};
use jiff::civil::Date;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::delivery::DeliveryLimits;
use crate::domain::Domain;
use crate::domain::json_client::{JSON, JsonClient, JsonRequestError, JsonResponse};

/// A document that was found.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) index: String,
    id: String,
    pub(super) source: Value,
}

impl Hit {
    /// Returns sixteen bytes that identify the document.
    pub(super) fn key(&self) -> u128 {
        let hash = digest(&SHA256, self.place().as_bytes());
        hash.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
    }

    /// Returns index and id.
    pub(super) fn place(&self) -> String {
        format!("{}/{}", self.index, self.id)
    }

    fn read(hit: &Value) -> Self {
        let text = |key: &str| hit[key].as_str().unwrap_or_default().to_owned();
        Self { index: text("_index"), id: text("_id"), source: hit["_source"].clone() }
    }
}

/// A reader of one domain's documents.
pub(super) struct Search<'a> {
    client: JsonClient<'a>,
    prefix: &'a str,
    requests: Cell<u64>,
}

impl<'a> Search<'a> {
    pub(super) fn new(domain: &'a Domain, prefix: &'a str) -> Self {
        Self { client: JsonClient::new(domain, TIMEOUT), prefix, requests: Cell::new(0) }
    }

    pub(super) fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Finds the documents of these events, whatever their ids are, by event id.
    pub(super) async fn find(&self, events: &[&str]) -> anyhow::Result<HashMap<String, Vec<Hit>>> {
        let by_field = json!({ "terms": { "eventID": events } });
        let by_id = json!({ "ids": { "values": events } });
        let query = json!({ "bool": { "should": [by_field, by_id], "minimum_should_match": 1 } });
        let body = json!({ "size": WINDOW, "query": query });
        let path = format!("/{}*/_search?ignore_unavailable=true", self.prefix);
        let response = self.send(Method::POST, &path, &body).await?;
        let hits = hits(&response)?;
        if hits.len() >= WINDOW {
            bail!("the domain has more than {WINDOW} documents for {} events", events.len());
        }
        let mut found: HashMap<String, Vec<Hit>> = HashMap::new();
        for hit in hits.iter().map(Hit::read) {
            let by_id = events.iter().find(|event| **event == hit.id);
            let by_field = hit.source["eventID"].as_str();
            let event = by_id.copied().or(by_field).unwrap_or_default().to_owned();
            found.entry(event).or_default().push(hit);
        }
        Ok(found)
    }

    /// Calls `each` with every document of the day's index, and every document of the day by its time, in any index.
    /// Of the source it has the times, the event id and the region.
    pub(super) async fn each_of_day(&self, day: Date, mut each: impl FnMut(Hit)) -> anyhow::Result<()> {
        let (from, to) = (day.to_string(), day.tomorrow()?.to_string());
        let index = format!("{}{}", self.prefix, day.strftime("%Y.%m.%d"));
        let by_time = json!({ "range": { "eventTime": { "gte": from, "lt": to } } });
        let by_index = json!({ "term": { "_index": index } });
        let body = json!({
            "size": PAGE,
            "sort": ["_doc"],
            "_source": ["eventTime", "@timestamp", "eventID", "awsRegion"],
            "query": { "bool": { "should": [by_time, by_index], "minimum_should_match": 1 } },
        });
        let path = format!("/{}*/_search?ignore_unavailable=true&scroll={SCROLL}", self.prefix);
        let mut response = self.send(Method::POST, &path, &body).await?;
        loop {
            let page = hits(&response)?;
            page.iter().map(Hit::read).for_each(&mut each);
            let Some(scroll) = response["_scroll_id"].as_str().map(str::to_owned) else { return Ok(()) };
            if page.len() < PAGE {
                // An error costs nothing: the context ends by itself.
                let _ = self.send(Method::DELETE, "/_search/scroll", &json!({ "scroll_id": [scroll] })).await;
                return Ok(());
            }
            let body = json!({ "scroll": SCROLL, "scroll_id": scroll });
            response = self.send(Method::POST, "/_search/scroll", &body).await?;
        }
    }

    /// Sends a request, and again with a backoff while the domain has no room for it.
    async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
        let limits = DeliveryLimits::default();
        for attempt in 1.. {
            self.requests.set(self.requests.get() + 1);
            let response = self.client.send(method.clone(), path, JSON, body.to_string()).await;
            if attempt == MAX_ATTEMPTS || !is_transient(&response) {
                let response: Value = response?.json()?;
                // Without the documents of a shard an event would be missing that is not.
                if response["_shards"]["failed"].as_u64().unwrap_or(0) > 0 || response["timed_out"] == true {
                    bail!("{method} {path}: a part of the domain did not answer: {}", response["_shards"]);
                }
                return Ok(response);
            }
            sleep(limits.backoff(attempt)).await;
        }
        bail!("{method} {path}: no response")
    }
}

fn hits(response: &Value) -> anyhow::Result<&Vec<Value>> {
    response["hits"]["hits"].as_array().ok_or_else(|| anyhow::anyhow!("the domain's response has no hits"))
}

fn is_transient(response: &Result<JsonResponse, JsonRequestError>) -> bool {
    match response {
        Ok(response) => response.status() == StatusCode::TOO_MANY_REQUESTS || response.status().is_server_error(),
        Err(JsonRequestError::NoResponse { error, .. }) => error.is_transient(),
        Err(JsonRequestError::Unexpected { .. }) => false,
    }
}

/// The longest time for one request.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Attempts of one request.
const MAX_ATTEMPTS: u32 = 8;
/// The most documents in a response; engines have this limit by default.
const WINDOW: usize = 10_000;
/// The documents of one page of a scroll.
const PAGE: usize = 5_000;
/// The time for which the domain keeps a scroll context between two pages.
const SCROLL: &str = "2m";
