//! Searches of the domain, with requests that all engines support.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use jiff::ToSpan as _;
use jiff::civil::Date;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::files::DELIVERY_DAYS;
use crate::delivery::DeliveryLimits;
use crate::domain::Domain;
use crate::domain::json_client::{JSON, JsonClient, JsonRequestError};

/// A document that was found.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Hit {
    #[serde(rename = "_index")]
    pub(super) index: String,
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source", default)]
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
}

/// A response to a search or a count.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SearchResponse {
    #[serde(rename = "_scroll_id")]
    scroll_id: Option<String>,
    #[serde(rename = "_shards")]
    shards: Value,
    timed_out: bool,
    hits: Hits,
    count: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hits {
    hits: Vec<Hit>,
}

/// A reader of one domain's documents.
#[derive(Debug)]
pub(super) struct Search {
    domain: Arc<Domain>,
    prefix: String,
    limits: DeliveryLimits,
    requests: AtomicU64,
}

/// Documents that are read page by page.
#[derive(Debug)]
pub(super) struct Pages {
    first: Option<SearchResponse>,
    scroll_id: Option<String>,
}

impl Search {
    pub(super) fn new(domain: Arc<Domain>, prefix: &str) -> Self {
        Self { domain, prefix: prefix.to_owned(), limits: DeliveryLimits::default(), requests: AtomicU64::new(0) }
    }

    /// Returns the number of requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Finds the documents of these events by event id, whatever the documents' ids are.
    pub(super) async fn find(&self, events: &[String]) -> anyhow::Result<HashMap<String, Vec<Hit>>> {
        let path = format!("/{}*/_search?ignore_unavailable=true", self.prefix);
        let mut found: HashMap<String, Vec<Hit>> = HashMap::new();
        let mut parts = vec![events];
        while let Some(events) = parts.pop() {
            let by_field = json!({ "terms": { "eventID": events } });
            let by_id = json!({ "ids": { "values": events } });
            let query = json!({ "bool": { "should": [by_field, by_id], "minimum_should_match": 1 } });
            let body = json!({ "size": WINDOW, "query": query });
            let hits = self.send(Method::POST, &path, &body).await?.hits.hits;
            if hits.len() >= WINDOW && events.len() > 1 {
                let (first, second) = events.split_at(events.len() / 2);
                parts.extend([first, second]);
                continue;
            }
            for hit in hits {
                let event = match events.iter().find(|event| **event == hit.id) {
                    Some(event) => event.clone(),
                    None => hit.source["eventID"].as_str().unwrap_or_default().to_owned(),
                };
                found.entry(event).or_default().push(hit);
            }
        }
        Ok(found)
    }

    /// Returns the number of documents in the day's index.
    pub(super) async fn count_in_index(&self, day: Date) -> anyhow::Result<u64> {
        let path = format!("/{}/_count?ignore_unavailable=true", self.index(day));
        let body = json!({ "query": { "match_all": {} } });
        Ok(self.send(Method::POST, &path, &body).await?.count)
    }

    /// Opens the documents of the day's index. Of the source they have the times, the event id and the region.
    pub(super) async fn open_index(&self, day: Date) -> anyhow::Result<Pages> {
        self.open(&json!({ "term": { "_index": self.index(day) } })).await
    }

    /// Opens the documents of the day by their time that are in another index. Dashboards find a document by its
    /// `@timestamp`, so one whose `eventTime` is missing or far from it belongs to the day of the `@timestamp`.
    pub(super) async fn open_other_indices(&self, day: Date) -> anyhow::Result<Pages> {
        let range = |field: &str, from: Date, to: Date| json!({ "range": { field: { "gte": from, "lt": to } } });
        let next = day.tomorrow()?;
        let has_own_day = range("eventTime", day.saturating_sub(DELIVERY_DAYS.days()), next.tomorrow()?);
        let by_delivery = json!({ "bool": { "filter": range("@timestamp", day, next), "must_not": has_own_day } });
        let either = [range("eventTime", day, next), by_delivery];
        let by_time = json!({ "bool": { "should": either, "minimum_should_match": 1 } });
        let by_index = json!({ "term": { "_index": self.index(day) } });
        self.open(&json!({ "bool": { "filter": by_time, "must_not": by_index } })).await
    }

    async fn open(&self, query: &Value) -> anyhow::Result<Pages> {
        let body = json!({
            "size": PAGE, "sort": ["_doc"], "_source": SCANNED_FIELDS, "query": query,
        });
        let path = format!("/{}*/_search?ignore_unavailable=true&scroll={SCROLL}", self.prefix);
        let first = self.send(Method::POST, &path, &body).await?;
        Ok(Pages { first: Some(first), scroll_id: None })
    }

    /// Returns the next documents; none at the end.
    pub(super) async fn next_page(&self, pages: &mut Pages) -> anyhow::Result<Option<Vec<Hit>>> {
        let response = match (pages.first.take(), pages.scroll_id.take()) {
            (Some(first), _) => first,
            (None, Some(scroll_id)) => {
                let body = json!({ "scroll": SCROLL, "scroll_id": scroll_id });
                self.send(Method::POST, "/_search/scroll", &body).await?
            }
            (None, None) => return Ok(None),
        };
        let hits = response.hits.hits;
        if hits.len() == PAGE {
            pages.scroll_id = response.scroll_id;
        } else if let Some(scroll_id) = response.scroll_id {
            // An error costs nothing: the context ends by itself.
            let body = json!({ "scroll_id": [scroll_id] }).to_string();
            self.requests.fetch_add(1, Ordering::Relaxed);
            let _ = self.client().send(Method::DELETE, "/_search/scroll", JSON, body).await;
        }
        Ok(Some(hits))
    }

    /// Makes all that was written so far visible to searches.
    pub(super) async fn refresh(&self) -> anyhow::Result<()> {
        self.send(Method::POST, &format!("/{}*/_refresh", self.prefix), &Value::Null).await.map(drop)
    }

    fn client(&self) -> JsonClient<'_> {
        JsonClient::new(&self.domain, TIMEOUT)
    }

    fn index(&self, day: Date) -> String {
        format!("{}{}", self.prefix, day.strftime("%Y.%m.%d"))
    }

    /// Sends a request, and again with a backoff while the domain, or a part of it, has no room for it.
    async fn send(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<SearchResponse> {
        let body = Bytes::from(if body.is_null() { String::new() } else { body.to_string() });
        for attempt in 1.. {
            self.requests.fetch_add(1, Ordering::Relaxed);
            let is_last = attempt == MAX_ATTEMPTS;
            match self.client().send(method.clone(), path, JSON, body.clone()).await {
                Ok(response) if is_transient(response.status()) && !is_last => {}
                Err(JsonRequestError::NoResponse { error, .. }) if error.is_transient() && !is_last => {}
                response => {
                    let response = response?;
                    let response: SearchResponse = spawn_blocking(move || response.json()).await??;
                    // Without the documents of a shard an event would be missing that is not.
                    let is_whole = response.shards["failed"].as_u64().unwrap_or(0) == 0 && !response.timed_out;
                    if is_whole {
                        return Ok(response);
                    }
                    if is_last {
                        bail!("{method} {path}: some shards did not respond: {}", response.shards);
                    }
                }
            }
            sleep(self.limits.backoff(attempt)).await;
        }
        bail!("{method} {path}: no response")
    }
}

fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

/// The longest time for one request.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Attempts of one request, about 40 seconds.
const MAX_ATTEMPTS: u32 = 12;
/// The most documents in a response; engines have this limit by default.
const WINDOW: usize = 10_000;
/// The documents of one page of a scroll.
const PAGE: usize = 5_000;
/// The fields by which a scan judges a document.
const SCANNED_FIELDS: [&str; 5] = ["eventTime", "timeWindow.windowStart", "@timestamp", "eventID", "awsRegion"];
/// The time for which the domain keeps a scroll context between two pages.
const SCROLL: &str = "2m";
