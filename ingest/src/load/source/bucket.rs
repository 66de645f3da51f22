//! A bucket of S3.

use std::io::Cursor;

use anyhow::ensure;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Region;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::types::Object;
use tokio::runtime::Handle;
use tokio_util::io::SyncIoBridge;

use crate::load::input::ByteReader;

/// A bucket, and a client of its region.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    name: String,
    client: Client,
}

impl Bucket {
    /// Finds the region of a bucket, which may be another one than the domain's: S3 rejects requests for another region
    /// than the bucket's, and names that. `prefix` is one that may be listed.
    pub(crate) async fn locate(client: Client, name: &str, prefix: &str) -> Self {
        // Boxed: the future of the function's runtime would be nested too deep for the compiler otherwise.
        let listed = Box::pin(client.list_objects_v2().bucket(name).prefix(prefix).max_keys(1).send()).await;
        // Any other error is that of the next request, too.
        let region = listed.err().and_then(|error| region_of_bucket(&error));
        let client = match region {
            Some(region) => Client::from_conf(client.config().to_builder().region(region).build()),
            None => client,
        };
        Self { name: name.to_owned(), client }
    }

    /// Returns the objects whose keys begin with a prefix.
    pub(super) async fn list_objects(&self, prefix: &str) -> anyhow::Result<Vec<Object>> {
        let mut pages = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            found.extend(page.map_err(s3_error)?.contents.unwrap_or_default());
        }
        Ok(found)
    }

    /// Returns the folders in a folder.
    pub(crate) async fn list_folders(&self, folder: &str) -> anyhow::Result<Vec<String>> {
        let pages = self.client.list_objects_v2().bucket(&self.name).prefix(folder).delimiter("/");
        let mut pages = pages.into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(s3_error)?;
            found.extend(page.common_prefixes.unwrap_or_default().into_iter().filter_map(|folder| folder.prefix));
        }
        Ok(found)
    }

    /// Requests an object.
    pub(super) async fn get(&self, key: &str) -> anyhow::Result<GetObjectOutput> {
        let object = self.client.get_object().bucket(&self.name).key(key).send().await;
        object.map_err(s3_error)
    }
}

/// Parses what follows `s3://`: the bucket, and the prefix of keys.
pub(super) fn parse_place(place: &str) -> anyhow::Result<(&str, &str)> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    ensure!(!bucket.is_empty(), "names no bucket; write s3://BUCKET/PREFIX");
    ensure!(!bucket.starts_with("arn:"), "an ARN is not accepted; write the access point's alias: s3://ALIAS/PREFIX");
    Ok((bucket, prefix))
}

/// Returns the reader of an object's content.
pub(super) async fn read_object(object: GetObjectOutput) -> anyhow::Result<ByteReader> {
    if object.content_length().is_some_and(|length| length <= SMALL) {
        return Ok(Box::new(Cursor::new(object.body.collect().await?.into_bytes())));
    }
    let body = object.body.into_async_read();
    Ok(Box::new(SyncIoBridge::new_with_handle(Box::pin(body), Handle::current())))
}

/// Returns the code and the message of S3, the status if the response has neither, or the causes if there was none.
pub(crate) fn s3_error<E>(error: SdkError<E, HttpResponse>) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match (error.code(), error.message(), error.raw_response()) {
        (Some(code @ "InvalidObjectState"), Some(message), _) => {
            anyhow::anyhow!("{code}: {message}; restore the object from its archive first")
        }
        (Some(code), Some(message), _) => anyhow::anyhow!("{code}: {message}"),
        (Some(code), None, _) => anyhow::anyhow!("{code}"),
        (None, _, Some(response)) if !response.status().is_success() => {
            anyhow::anyhow!("status {} without a reason, perhaps of a proxy or an endpoint policy", response.status())
        }
        _ => anyhow::Error::from(error),
    }
}

/// Returns the region that S3 names in its response.
fn region_of_bucket<E>(error: &SdkError<E, HttpResponse>) -> Option<Region> {
    let region = error.raw_response()?.headers().get("x-amz-bucket-region")?;
    Some(Region::new(region.to_owned()))
}

/// Objects up to here are read as a whole while others are still worked on: most of CloudTrail's are this small.
const SMALL: i64 = 1024 * 1024;
