//! One call of an AWS service that has a JSON protocol.
//!
//! Such calls are rare, so their signature is that of `aws-sigv4`: it covers `x-amz-target`, which requests to a domain do
//! not have.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Request;

use crate::body::HashedBody;
use crate::upstream::{Upstream, Via};

/// A call of a service.
#[derive(Clone, Debug)]
pub struct JsonCall<'a> {
    /// The region of the signature.
    pub region: &'a str,
    /// The service of the signature, such as `cloudtrail`.
    pub service: &'a str,
    /// The operation, as `X-Amz-Target` names it.
    pub target: &'a str,
    /// The JSON text.
    pub body: String,
}

impl JsonCall<'_> {
    /// Signs the call, sends it once, and returns the body of a successful response.
    pub async fn send(&self, upstream: &Upstream, credentials: Credentials, now: SystemTime) -> anyhow::Result<Bytes> {
        let response = upstream.send(self.sign(upstream, credentials, now)?, Via::Pool).await?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the response breaks off")?.to_bytes();
        if !status.is_success() {
            let excerpt: String = String::from_utf8_lossy(&body).chars().take(EXCERPT_CHARS).collect();
            bail!("{}: {status}: {excerpt}", self.target);
        }
        Ok(body)
    }

    fn sign(
        &self,
        upstream: &Upstream,
        credentials: Credentials,
        now: SystemTime,
    ) -> anyhow::Result<Request<crate::BodyFrames>> {
        let endpoint = upstream.endpoint();
        let authority = endpoint.authority().as_str();
        let headers =
            [("host", authority), ("content-type", "application/x-amz-json-1.1"), ("x-amz-target", self.target)];
        let identity = credentials.into();
        let parameters = SigningParams::builder().identity(&identity).region(self.region).name(self.service);
        let parameters = parameters.time(now).settings(SigningSettings::default()).build()?.into();
        let url = format!("{}://{authority}/", endpoint.scheme());
        let body = SignableBody::Bytes(self.body.as_bytes());
        let signable = SignableRequest::new("POST", url, headers.into_iter(), body)?;
        let (signature, _) = sign(signable, &parameters)?.into_parts();
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for header in signature.into_parts().0 {
            request = request.header(header.name(), header.value());
        }
        Ok(request.body(HashedBody::from(Bytes::from(self.body.clone())).frames())?)
    }
}

const EXCERPT_CHARS: usize = 500;
