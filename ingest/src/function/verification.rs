//! A verification of one day, in as many invocations as it needs.
//!
//! A state machine of Step Functions invokes the function with `{"verify":{}}` for the day before yesterday, whose late
//! deliveries have come, or with `{"verify":{"day":"2026-01-31"}}` for another one. A response with `verify` is the next
//! payload; one with `verified` has the verdict.
//!
//! Lambda ends an invocation after 15 minutes at most. A day that needs more pauses: the function stores its state in a
//! bucket, under the state's SHA-256, and the response names that. Write access to the bucket does not suffice to change the
//! verdict, because the hash comes from the state machine.
//!
//! A function in a VPC cannot reach CloudTrail, whose keys differ between regions. Another one, outside, adds them to the
//! first request.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::metrics::embedded_line;
use crate::domain::Domain;
use crate::load::days::{Days, parse_day};
use crate::load::source::Sources;
use crate::load::source::bucket::s3_error;
use crate::settings::{BucketFolder, Settings, VerificationPlan};
use crate::verify::keys::PublicKeys;
use crate::verify::report::{Report, Verdict};
use crate::verify::{ComparedDomain, Evidence, Part, Period, RunState, key_query, verify_part};

/// The day to verify, and what earlier invocations did of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyRequest {
    day: Date,
    #[serde(skip_serializing_if = "Option::is_none")]
    resume: Option<Resume>,
    /// CloudTrail's public keys, as `aws cloudtrail list-public-keys` prints them.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_keys: Option<Value>,
    /// The error for which the state machine gave up.
    #[serde(skip)]
    failed: Option<Failure>,
}

/// The state that an invocation stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    /// The state's SHA-256 in hexadecimal digits: its name in the folder of checkpoints.
    sha256: String,
    /// The number of invocations so far.
    invocations: u32,
}

/// An error as Step Functions passes it on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    error: String,
    #[serde(default)]
    cause: String,
}

/// The response to an invocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyResponse {
    /// The day is verified.
    Verified(VerifiedDay),
    /// The next payload.
    Verify(VerifyRequest),
}

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedDay {
    /// The day.
    pub day: Date,
    /// The verdict.
    pub verdict: Verdict,
    /// Events in log files.
    pub events: u64,
    /// Findings of all kinds.
    pub findings: u64,
    /// Requests to the domain.
    pub requests: u64,
}

/// The domain, the files and CloudTrail, as the function's role may use them.
#[derive(Clone, Debug)]
pub struct VerifierAccess {
    /// The domain.
    pub domain: Arc<Domain>,
    /// The client of S3.
    pub s3: Client,
    /// The credentials for CloudTrail.
    pub credentials: Credentials,
    /// The endpoint that replaces CloudTrail's in every region.
    pub cloudtrail: Option<String>,
}

impl VerifyRequest {
    /// Parses the payload of an invocation at the time `now`.
    pub fn parse(payload: &[u8], now: Timestamp) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Event {
            verify: Request,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Request {
            day: Option<String>,
            resume: Option<Resume>,
            public_keys: Option<Value>,
            failed: Option<Failure>,
        }

        let Event { verify: Request { day, resume, public_keys, failed } } =
            serde_json::from_slice(payload).context(NO_REQUEST)?;
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if let Some(resume) = resume.as_ref().filter(|resume| !is_hash(&resume.sha256)) {
            bail!("resume.sha256 {:?} is no SHA-256", resume.sha256);
        }
        let today = Offset::UTC.to_datetime(now).date();
        let day = match day {
            Some(day) => parse_day(&day).ok().context(NO_REQUEST)?,
            None => today.checked_sub(2.days())?,
        };
        Ok(Self { day, resume, public_keys, failed })
    }

    /// Verifies the day, or a part of it. It pauses at `pause`, and fails at `deadline`.
    pub async fn run(
        &self,
        settings: &Settings,
        plan: &VerificationPlan,
        access: &VerifierAccess,
        pause: Instant,
        deadline: Instant,
    ) -> anyhow::Result<VerifyResponse> {
        if let Some(Failure { error, cause }) = &self.failed {
            tracing::error!(day = %self.day, error, cause, "the day could not be verified");
            let verdict = Verdict::Undecided;
            return Ok(VerifyResponse::Verified(VerifiedDay {
                day: self.day,
                verdict,
                events: 0,
                findings: 0,
                requests: 0,
            }));
        }
        if plan.lists_public_keys {
            let keys = self.list_public_keys(&self.find_sources(plan, access).await?, access).await?;
            return Ok(VerifyResponse::Verify(Self { public_keys: Some(keys.to_json()), ..self.clone() }));
        }
        let invocations = self.resume.as_ref().map_or(0, |resume| resume.invocations) + 1;
        ensure!(
            invocations <= MAX_INVOCATIONS,
            "not verified in {MAX_INVOCATIONS} invocations; verify this day with trailgate-ingest verify"
        );
        let part = timeout_at(deadline, self.verify(settings, plan, access, pause)).await;
        let part = part.context("the verification did not end before the deadline; raise the memory of the function, which also raises its share of a processor")??;
        match part {
            Part::Done(report) => Ok(VerifyResponse::Verified(self.conclude(&report))),
            Part::Paused(state) => {
                let sha256 = save(&access.s3, &plan.checkpoints, state).await?;
                let resume = Some(Resume { sha256, invocations });
                Ok(VerifyResponse::Verify(Self { resume, ..self.clone() }))
            }
        }
    }

    async fn verify(
        &self,
        settings: &Settings,
        plan: &VerificationPlan,
        access: &VerifierAccess,
        pause: Instant,
    ) -> anyhow::Result<Part> {
        let state = match &self.resume {
            Some(resume) => Some(load(&access.s3, &plan.checkpoints, &resume.sha256).await?),
            None => None,
        };
        let sources = self.find_sources(plan, access).await?;
        let keys = match &self.public_keys {
            Some(keys) => PublicKeys::parse(&keys.to_string())?,
            None => self.list_public_keys(&sources, access).await?,
        };
        let evidence = Evidence { sources: Arc::new(sources), keys, period: self.period() };
        let options = settings.document_options.clone();
        let compared = ComparedDomain { domain: Arc::clone(&access.domain), options };
        verify_part(&evidence, &compared, state, || Instant::now() >= pause).await
    }

    fn period(&self) -> Period {
        Period { from: self.day, to: self.day }
    }

    async fn find_sources(&self, plan: &VerificationPlan, access: &VerifierAccess) -> anyhow::Result<Sources> {
        let days = Days { from: Some(self.day), to: Some(self.day) };
        Sources::find_days(&plan.trail, days, async || access.s3.clone()).await
    }

    async fn list_public_keys(&self, sources: &Sources, access: &VerifierAccess) -> anyhow::Result<PublicKeys> {
        let VerifierAccess { credentials, cloudtrail, .. } = access;
        let query = key_query(sources, self.period(), Timestamp::now());
        PublicKeys::fetch(&query, credentials.clone(), cloudtrail.as_deref()).await
    }

    /// Logs the verdict and the first findings.
    fn conclude(&self, report: &Report) -> VerifiedDay {
        for finding in report.findings().take(LOGGED) {
            let (kind, advice) = (finding.kind.name(), finding.kind.advice());
            tracing::error!(kind, subject = finding.subject, reason = finding.reason, advice, "finding");
        }
        let verified = VerifiedDay {
            day: self.day,
            verdict: report.verdict(),
            events: report.events(),
            findings: report.counts().values().sum(),
            requests: report.requests,
        };
        let VerifiedDay { day, verdict, events, findings, requests } = &verified;
        tracing::info!(%day, ?verdict, events, findings, requests, "verified");
        verified
    }
}

impl VerifiedDay {
    /// Returns the line of the log that CloudWatch turns into the metric.
    #[must_use]
    pub fn metric_line(&self, function: &str, now: Timestamp) -> String {
        embedded_line(function, now, &[("evidence_problems", "Count", json!(self.problems()))])
    }

    /// Returns the number of findings, or one if nothing was found and nothing is proven.
    fn problems(&self) -> u64 {
        if self.verdict == Verdict::Proven { 0 } else { self.findings.max(1) }
    }
}

/// Stores a state; returns its SHA-256.
async fn save(s3: &Client, folder: &BucketFolder, state: RunState) -> anyhow::Result<String> {
    let bytes = state.to_bytes()?;
    drop(state);
    let sha256 = hex::encode(digest(&SHA256, &bytes));
    let key = format!("{}{sha256}", folder.prefix);
    tracing::info!(key, bytes = bytes.len(), "paused");
    let put = s3.put_object().bucket(&folder.bucket).key(&key).body(bytes.into()).send().await;
    put.map_err(s3_error).with_context(|| format!("cannot store s3://{}/{key}", folder.bucket))?;
    Ok(sha256)
}

/// Reads the state of this SHA-256.
async fn load(s3: &Client, folder: &BucketFolder, sha256: &str) -> anyhow::Result<RunState> {
    let key = format!("{}{sha256}", folder.prefix);
    let place = format!("s3://{}/{key}", folder.bucket);
    let object = s3.get_object().bucket(&folder.bucket).key(&key).send().await;
    let object = object.map_err(s3_error).with_context(|| format!("cannot read {place}"))?;
    let bytes = object.body.collect().await.with_context(|| format!("cannot read {place}"))?.into_bytes();
    ensure!(hex::encode(digest(&SHA256, &bytes)) == sha256, "{place} was changed: its SHA-256 is another one");
    RunState::parse(&bytes).with_context(|| place)
}

const NO_REQUEST: &str = "the payload is no request; write {\"verify\":{\"day\":\"2026-01-31\"}}";
/// Findings that are logged.
const LOGGED: usize = 20;
/// Invocations of one day: twelve hours of them pause.
const MAX_INVOCATIONS: u32 = 72;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(payload: &str) -> anyhow::Result<VerifyRequest> {
        VerifyRequest::parse(payload.as_bytes(), "2026-02-02T05:00:00Z".parse().unwrap())
    }

    #[test]
    fn day_is_the_one_before_yesterday_or_the_named_one() {
        let day = |payload| parse(payload).unwrap().day.to_string();
        assert_eq!(day(r#"{"verify":{}}"#), "2026-01-31");
        assert_eq!(day(r#"{"verify":{"day":"2025-12-24"}}"#), "2025-12-24");
    }

    #[test]
    fn response_of_a_pause_is_the_next_payload() {
        let resume = Some(Resume { sha256: "0a".repeat(32), invocations: 3 });
        let day = Date::constant(2026, 1, 30);
        let public_keys = Some(json!({ "PublicKeyList": [] }));
        let request = VerifyRequest { day, resume, public_keys, failed: None };
        let response = serde_json::to_string(&VerifyResponse::Verify(request.clone())).unwrap();
        assert_eq!(parse(&response).unwrap(), request);
    }

    #[test]
    fn flawed_request_is_rejected() {
        let advice = "the payload is no request; write {\"verify\":{\"day\":\"2026-01-31\"}}";
        for (payload, expected) in [
            ("{}", advice),
            (r#"{"awslogs":{"data":""}}"#, advice),
            (r#"{"verify":{"day":"yesterday"}}"#, advice),
            (r#"{"verify":{"day":"2026-01-31T23:00:00-05:00"}}"#, advice),
            (r#"{"verify":{"path":"s3://other/AWSLogs"}}"#, advice),
            (r#"{"verify":{"resume":{"sha256":"../x","invocations":1}}}"#, "resume.sha256 \"../x\" is no SHA-256"),
        ] {
            assert_eq!(parse(payload).unwrap_err().to_string(), expected, "{payload}");
        }
    }

    #[test]
    fn day_that_is_not_proven_is_a_problem() {
        let problems = |verdict, findings| {
            VerifiedDay { day: Date::constant(2026, 1, 31), verdict, events: 0, findings, requests: 0 }.problems()
        };
        assert_eq!(problems(Verdict::Proven, 0), 0);
        assert_eq!(problems(Verdict::Undecided, 0), 1);
        assert_eq!(problems(Verdict::Differences, 3), 3);
    }
}
