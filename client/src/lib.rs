//! A signed HTTP client for one AWS Elasticsearch or OpenSearch domain.
//!
//! Each request is signed with AWS Signature Version 4 and sent over a connection pool. It is retried where that is
//! safe: after a pooled connection was closed if the request is idempotent or was not sent, after clock skew, and after
//! the domain rejected credentials that were rotated in the meantime. Without valid credentials nothing is sent (fail
//! closed).
//!
//! ```no_run
//! use hyper::HeaderMap;
//! use trailgate_client::{CredentialCache, Endpoint, SignedClient, Signer, Target, UnsignedRequest, Upstream};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = Endpoint::parse("https://search-trail-abc123.eu-west-1.es.amazonaws.com")?;
//! let (credentials, refresher) = CredentialCache::new(trailgate_client::provider("eu-west-1", None));
//! tokio::spawn(refresher.run());
//! let signer = Signer::new(endpoint.authority(), "eu-west-1", "es");
//! let upstream = Upstream::new(endpoint, trailgate_client::load_roots(None)?, Default::default());
//! let client = SignedClient::new(upstream, signer, credentials);
//! let request = UnsignedRequest::get(Target::canonical("/_cat/indices", Some("format=json"))?);
//! let response = client.send(&request, HeaderMap::new).await?;
//! println!("{}", response.status());
//! # Ok(())
//! # }
//! ```
//!
//! The types, in the order in which a request uses them:
//!
//! 1. [`Endpoint`] is the origin of the domain. [`Target`] is a path and query in canonical form, both signed and sent.
//! 2. [`HashedBody`] is a body with its hash. [`BodyHasher`] builds one from frames as they arrive.
//! 3. [`CredentialCache`] holds the credentials that [`CredentialRefresher`] fetches. [`Clock`] corrects clock skew.
//! 4. [`RoleSessions`] holds the credentials of each role and user that the base credentials assume.
//! 5. [`Signer`] computes the signature.
//! 6. [`Upstream`] connects, sends the request, and returns a response with a [`PooledBody`].
//! 7. [`SignedClient`] combines all of this, retries, and keeps [`UpstreamHealth`] and [`ClientStats`].
//! 8. [`JsonCall`] is a call of another AWS service.
//!
//! Times are [`SystemTime`](std::time::SystemTime), durations [`Duration`](std::time::Duration), lengths bytes.

mod body;
mod clock;
mod credentials;
mod endpoint;
mod error;
mod forbidden;
mod health;
mod json_call;
mod role;
mod sign;
mod signed_client;
mod stats;
mod target;
mod upstream;

pub use self::body::{BodyFrames, BodyHasher, HashedBody};
pub use self::clock::{Clock, TOLERANCE as CLOCK_TOLERANCE, offset as clock_offset};
pub use self::credentials::{
    AssumeRoleSettings, Assumer, CredentialCache, CredentialRefresher, FetchCounts, FetchFailure, NoCredentials,
    RoleKind, RoleSession, RoleSessionKeeper, RoleSessions, RoleState, SessionLimits, innermost, is_valid,
    load_sdk_roots, provider, sdk_config, source,
};
pub use self::endpoint::{Endpoint, EndpointError, is_region};
pub use self::error::{FailureKind, RequestError};
pub use self::forbidden::Forbidden;
pub use self::health::{Failure, LastResponse, UpstreamHealth};
pub use self::json_call::JsonCall;
pub use self::role::{NotRoleArn, RoleArn, SessionName, SessionUser};
pub use self::sign::{Signer, SigningParams, is_signing_header};
pub use self::signed_client::{SignedClient, UnsignedRequest};
pub use self::stats::{ClientStats, ForbiddenKind, RetryReason};
pub use self::target::{Target, TargetError};
pub use self::upstream::{
    PooledBody, RootsError, Upstream, UpstreamConfig, UpstreamError, Via, describe_pem, load_roots, tls_config,
    without_bom,
};
