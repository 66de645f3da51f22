use std::time::Duration;

use fake_domain::verify::{Credentials, Verifier};
use fake_domain::{Answer, FakeDomain, Fault, Options, Seen, StsAnswer, Times};
use serde_json::{Value, json};
use trailgate_testkit::ReservedPort;

use self::case::{Case, Diagnosis};
use crate::support::{allow, patiently};

pub(crate) mod case;

async fn domain() -> FakeDomain {
    FakeDomain::start(Options::default()).await.unwrap()
}

async fn tls_domain() -> FakeDomain {
    FakeDomain::start(Options { tls: true, ..Options::default() }).await.unwrap()
}

/// Starts a stand-in for STS: AWS's own client signs to it as to any service.
async fn sts(status: u16, answer: &str) -> FakeDomain {
    let verifier =
        Verifier { credentials: Credentials::default(), region: "eu-west-1".to_owned(), service: "sts".to_owned() };
    let sts = FakeDomain::start(Options { verifier, ..Options::default() }).await.unwrap();
    let headers = vec![("content-type".to_owned(), "text/xml".to_owned())];
    let body = answer.to_owned().into();
    sts.fault(Fault::Answer(Answer { status, headers, body }), Times::UntilCleared);
    sts
}

const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/trailgate/i-0abc";
const ROLE: &str = "arn:aws:iam::123456789012:role/trailgate";

fn caller() -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <Arn>{SESSION}</Arn><UserId>AROA:i-0abc</UserId><Account>123456789012</Account></GetCallerIdentityResult>\
         <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )
}

fn sts_error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
}

#[tokio::test]
async fn healthy_proxy_passes_every_step() {
    let (domain, sts) = (tls_domain().await, sts(200, &caller()).await);
    let case = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url());
    let found = case.diagnose().await;
    assert_eq!((found.code, found.unknown()), (Some(0), vec![]), "{:#?}", found.steps);
    let names: Vec<_> = found.steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let expected = [
        "configuration",
        "allowlist",
        "name",
        "tcp",
        "tls",
        "clock",
        "credentials",
        "identity",
        "request",
        "product",
        "home",
    ];
    assert_eq!(names, expected);
    found.passes("configuration", "signs for es in eu-west-1");
    found.passes("allowlist", "1 entry, 0 expired");
    found.passes("name", "127.0.0.1 resolves to 127.0.0.1");
    found.passes("tls", "TLS 1.3, certificate valid for 127.0.0.1");
    found.passes("credentials", "AKIDEXAMPLE from the environment, without an expiry");
    found.passes("identity", SESSION);
    found.passes("product", "Elasticsearch 7.10.2");
    found.passes("home", "/_plugin/kibana/ exists");
}

#[tokio::test]
async fn text_output_has_a_line_a_step_and_advice_below() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    case.allowlist = format!("{}expires = 2020-01-01T00:00:00Z\n", allow("127.0.0.1"));
    let output = patiently(case.command().output()).await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = "FAILED  allowlist      1 entry, all expired\n                       \
                    Every client is rejected. Add an entry: trailgate allow add ADDRESS --name NAME --for 8h --file ";
    assert!(text.contains(expected), "{text}");
    let next = "/allowlist.toml\nok      name           127.0.0.1 resolves to 127.0.0.1\n";
    assert!(text.contains(next), "{text}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn mistake_in_a_file_fails_its_step_with_file_and_line() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    case.config = "hime = \"/\"\n".to_owned();
    case.diagnose().await.fails("configuration", "trailgate.toml:6: upstream.hime: unknown field", "does not start");
    let mut case = Case::of(&domain);
    case.allowlist = allow("10.0.0.1/8");
    case.diagnose().await.fails("allowlist", "allowlist.toml:2: cidr \"10.0.0.1/8\" has host bits", "does not start");
}

#[tokio::test]
async fn expired_listener_certificate_is_reported() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    case.config = "[listen.tls]\ncertificate = \"gate.pem\"\nkey = \"gate.key\"\n".to_owned();
    case.diagnose().await.fails("certificate", "gate.pem: cannot be read", "does not start");

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["gate.test".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    std::fs::write(case.folder.path().join("gate.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(case.folder.path().join("gate.key"), key.serialize_pem()).unwrap();
    case.diagnose().await.fails(
        "certificate",
        "gate.pem: has expired at 2020-01-01",
        "a running trailgate reloads them",
    );
}

#[tokio::test]
async fn unknown_name_differs_from_a_closed_port() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    case.endpoint = "https://search-gone-abc123.invalid".to_owned();
    let found = case.diagnose().await;
    found.fails("name", "search-gone-abc123.invalid cannot be resolved: ", "that the domain exists");
    assert_eq!(found.unknown(), ["tcp", "tls", "clock", "identity", "request", "product", "home"]);

    let port = ReservedPort::bind().unwrap();
    let closed = port.address();
    case.endpoint = format!("https://{closed}");
    let found = case.diagnose().await;
    found.fails("tcp", &format!("{closed}: Connection refused"), "No server listens there");
    assert_eq!(found.unknown(), ["tls", "clock", "identity", "request", "product", "home"]);
}

#[tokio::test]
async fn untrusted_certificate_differs_from_one_of_another_host() {
    let (domain, other) = (tls_domain().await, tls_domain().await);
    let case = Case::of(&domain);
    std::fs::write(case.folder.path().join("ca.pem"), other.ca_pem().unwrap()).unwrap();
    let found = case.diagnose().await;
    found.fails("tls", "invalid peer certificate", "name its authority in upstream.ca_file");
    assert_eq!(found.unknown(), ["clock", "identity", "request", "product", "home"]);

    // Its certificate is for 127.0.0.1.
    let address = "127.0.0.2:0".parse().unwrap();
    let domain = FakeDomain::start(Options { tls: true, address, ..Options::default() }).await.unwrap();
    Case::of(&domain).diagnose().await.fails("tls", "not valid for name", "The certificate is for another host");
}

#[tokio::test]
async fn wrong_scheme_is_reported_in_both_directions() {
    let (plain, tls) = (domain().await, tls_domain().await);
    let mut case = Case::of(&tls);
    case.endpoint = plain.url().replace("http://", "https://");
    case.diagnose().await.fails("tls", "received corrupt message", "does not speak TLS");
    case.endpoint = tls.url().replace("https://", "http://");
    case.diagnose().await.fails("clock", "broke off, or its response is malformed", "does not speak HTTP, or closes");
}

#[tokio::test]
async fn clock_skew_is_reported_and_corrected_by_the_domain() {
    let domain = domain().await;
    let case = Case::of(&domain);
    for (offset, direction) in [(900, "s behind the domain's"), (-900, "s ahead of the domain's")] {
        domain.set_clock_offset(offset);
        let found = case.diagnose().await;
        found.fails("clock", direction, "set the clock");
        found.passes("request", "accepts the signature");
    }
    domain.set_clock_offset(60);
    let found = case.diagnose().await;
    found.passes("clock", "s behind the domain's");
    assert_eq!(found.code, Some(0));
}

#[tokio::test]
async fn domain_is_diagnosed_without_credentials() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    case.environment.retain(|(name, _)| !name.contains("KEY"));
    let found = case.diagnose().await;
    found.fails("credentials", "no credentials: ", "AWS_ACCESS_KEY_ID");
    found.passes("clock", "agree");
    assert_eq!(found.unknown(), ["identity", "request", "product", "home"]);
}

#[tokio::test]
async fn expired_credentials_are_reported_with_their_source() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    case.environment.retain(|(name, _)| !name.contains("KEY"));
    let profile = case.folder.path().join("aws-config");
    let key = json!({
        "Version": 1, "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": Credentials::default().secret_key,
        "SessionToken": "old", "Expiration": "2020-01-01T00:00:00Z",
    });
    std::fs::write(case.folder.path().join("key.json"), key.to_string()).unwrap();
    let process = format!("[default]\ncredential_process = /bin/cat {}/key.json\n", case.folder.path().display());
    std::fs::write(&profile, process).unwrap();
    let found = case.with_environment("AWS_CONFIG_FILE", &profile.display().to_string()).diagnose().await;
    let step = found.step("credentials");
    assert_eq!(step["status"], "failed", "{:#?}", found.steps);
    assert!(step["text"].as_str().unwrap().starts_with("AKIDEXAMPLE from a process expired "), "{step}");
    assert!(step["advice"].as_str().unwrap().starts_with("Renew them at their source"), "{step}");
}

#[tokio::test]
async fn rejected_credentials_are_reported_with_the_reason() {
    let domain = domain().await;
    let found = Case::of(&domain).with_environment("AWS_ACCESS_KEY_ID", "AKIDOTHER").diagnose().await;
    found.fails("request", "The security token included in the request is invalid", "Renew the credentials");
    let found = Case::of(&domain).with_environment("AWS_SECRET_ACCESS_KEY", "other").diagnose().await;
    found.fails("request", "computes a different signature", "does not belong to this access key");
    let expired = json!({ "message": "The security token included in the request is expired" });
    denied(expired).await.fails(
        "request",
        "The security token included in the request is expired",
        "Renew the credentials",
    );

    let mut case = Case::of(&domain);
    case.aws = String::new();
    let elsewhere = Verifier { credentials: Credentials::default(), region: "us-east-1".into(), service: "es".into() };
    let elsewhere = FakeDomain::start(Options { verifier: elsewhere, ..Options::default() }).await.unwrap();
    case.endpoint = elsewhere.url();
    let found = case.diagnose().await;
    found.fails("request", "scoped to a valid region, not 'eu-west-1'", "Set aws.region to the domain's region");
    assert_eq!(found.unknown(), ["identity", "product", "home"]);
}

#[tokio::test]
async fn sts_error_fails_identity_and_sts_outage_does_not() {
    let domain = domain().await;
    let found = Case::of(&domain).diagnose().await;
    assert_eq!((found.code, found.unknown()), (Some(0), vec!["identity"]));

    let sts = sts(403, &sts_error("ExpiredToken", "The security token included in the request is expired")).await;
    let found = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url()).diagnose().await;
    found.fails(
        "identity",
        "STS rejects the credentials: The security token included in the request is expired",
        "Renew the credentials",
    );
}

#[tokio::test]
async fn response_that_is_not_from_sts_is_named() {
    let domain = domain().await;
    for (status, answer, expected) in [
        (403, "<html><body>Blocked</body></html>", "a response of status 403 is not from STS"),
        (200, "<html><body>Log in</body></html>", "a response of status 200 is not from STS"),
        (403, &sts_error("AccessDenied", "Denied by a policy"), "STS rejects the call: Denied by a policy"),
    ] {
        let sts = sts(status, answer).await;
        let found = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url()).diagnose().await;
        assert_eq!(found.code, Some(0));
        let text = found.step("identity")["text"].as_str().unwrap();
        assert!(text.starts_with(&format!("unknown, and not required: {expected}")), "{text}");
    }
}

#[tokio::test]
async fn denied_role_is_reported_with_the_needed_trust_policy() {
    let domain = domain().await;
    let message = format!("User: {SESSION} is not authorized to perform: sts:AssumeRole on resource: {ROLE}");
    let sts = sts(403, &sts_error("AccessDenied", &message)).await;
    let mut case = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url());
    case.aws = format!("assume_role = \"{ROLE}\"\n");
    let found = case.diagnose().await;
    found.fails("credentials", &message, &format!("the trust policy of {ROLE} has to name their owner"));
}

#[tokio::test]
async fn role_that_cannot_be_assumed_fails_with_its_statement() {
    let domain = domain().await;
    let sts = domain.sts().await.unwrap();
    let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
    let refused = "not authorized to perform: sts:AssumeRole because no resource-based policy allows it";
    sts.answer_for(&role("Editor"), StsAnswer::Error(403, "AccessDenied", refused));
    let mut case = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url());
    let (auditor, editor) = (role("Auditor"), role("Editor"));
    case.config.extend(["[aws.roles]\nread = \"", &auditor, "\"\nfull = \"", &editor, "\"\n"]);
    let found = case.diagnose().await;
    let advice = found.fails("role", refused, &format!("Add to the trust policy of {}:\n", role("Editor")));
    assert!(!advice.contains("Resource"), "{advice}");
    let texts: Vec<_> =
        found.steps.iter().filter(|step| step["status"] == "passed" && step["step"] == "role").collect();
    assert_eq!(texts.len(), 1, "{:#?}", found.steps);
    assert_eq!(texts[0]["text"], format!("{} can be assumed", role("Auditor")));
}

#[tokio::test]
async fn doctor_signs_its_own_requests_with_the_role_that_reads() {
    let domain = domain().await;
    let sts = domain.sts().await.unwrap();
    let mut case = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url());
    case.config += "[aws.roles]\nread = \"arn:aws:iam::123456789012:role/Auditor\"\n";
    let found = case.diagnose().await;
    found.passes("request", "the domain accepts the signature");
    found.passes("home", "/_plugin/kibana/ exists");
    let accepted = domain.seen().into_iter().filter(|seen| seen.refusal.is_none());
    let signers: Vec<_> = accepted.map(|seen| (seen.target, seen.signer)).collect();
    let auditor = Some("arn:aws:sts::123456789012:assumed-role/Auditor/trailgate-doctor".to_owned());
    assert!(signers.len() >= 3 && signers.iter().all(|(_, signer)| *signer == auditor), "{signers:#?}");
}

#[tokio::test]
async fn doctor_does_not_sign_with_the_base_role_instead() {
    let domain = domain().await;
    let sts = domain.sts().await.unwrap();
    let role = "arn:aws:iam::123456789012:role/Auditor";
    sts.answer_for(role, StsAnswer::Error(403, "AccessDenied", "not authorized to perform: sts:AssumeRole"));
    let mut case = Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url());
    case.config.extend(["[aws.roles]\nread = \"", role, "\"\n"]);
    let found = case.diagnose().await;
    found.fails("role", "sts:AssumeRole", "to the trust policy");
    assert_eq!(found.unknown(), ["identity", "request", "product", "home"]);
    assert!(domain.seen().iter().all(|seen| seen.refusal.is_some()), "a request was signed");
}

/// Diagnoses a domain that denies the signed `GET /` with this body.
async fn denied(body: Value) -> Diagnosis {
    let (domain, sts) = (domain().await, sts(200, &caller()).await);
    domain.fault(Fault::status(403, body.to_string()), Times::UntilCleared);
    Case::of(&domain).with_environment("AWS_ENDPOINT_URL_STS", &sts.url()).diagnose().await
}

#[tokio::test]
async fn access_policy_denial_proposes_the_missing_statement() {
    let message = format!(
        "User: {SESSION} is not authorized to perform: es:ESHttpGet on resource: \
         arn:aws:es:eu-west-1:123456789012:domain/trail/ because no resource-based policy allows the \
         es:ESHttpGet action"
    );
    let found = denied(json!({ "Message": message })).await;
    let advice = found.fails("request", "no policy allows es:ESHttpGet", "Add to the domain's access policy:\n{");
    let statement: Value = serde_json::from_str(&advice[advice.find('{').unwrap()..]).unwrap();
    let expected = json!({
        "Effect": "Allow",
        "Principal": { "AWS": ROLE },
        "Action": "es:ESHttp*",
        "Resource": "arn:aws:es:eu-west-1:123456789012:domain/trail/*",
    });
    assert_eq!(statement, expected);
    assert_eq!(found.unknown(), ["product", "home"]);
}

#[tokio::test]
async fn fine_grained_denial_proposes_a_role_mapping() {
    let reason = format!(
        "no permissions for [cluster:monitor/main] and User [name={ROLE}, backend_roles=[{ROLE}], requestedTenant=null]"
    );
    let cause = json!({ "type": "security_exception", "reason": reason });
    let found = denied(json!({
        "error": { "root_cause": [cause], "type": "security_exception", "reason": reason }, "status": 403,
    }))
    .await;
    let advice = found.fails(
        "request",
        &format!("fine-grained access control denies cluster:monitor/main to {ROLE}"),
        "PATCH _plugins/_security/api/rolesmapping/readall_and_monitor\n[",
    );
    assert!(advice.contains(&format!("\"value\": \"{ROLE}\"")), "{advice}");
}

#[tokio::test]
async fn other_denial_gets_neither_proposal() {
    let message = format!("User: {SESSION} is not authorized to perform: es:ESHttpGet with an explicit deny");
    denied(json!({ "Message": message })).await.fails(
        "request",
        "a policy denies es:ESHttpGet",
        "outweighs every Allow",
    );
    denied(json!({ "oops": true })).await.fails("request", "neither AWS's nor", "a proxy or firewall");
}

#[tokio::test]
async fn unusable_domain_response_is_reported_by_its_kind() {
    let domain = domain().await;
    let mut case = Case::of(&domain);
    for (fault, text, advice) in [
        (Fault::Hang, "did not answer in time", "accepts connections and does not respond"),
        (Fault::BreakOff, "broke off, or its response is malformed", "closes connections at once"),
        (Fault::BreakBody, "broke off, or its response is malformed", "closes connections at once"),
        (
            Fault::Garbage("SSH-2.0-OpenSSH_9.2\r\n".into()),
            "broke off, or its response is malformed",
            "does not speak HTTP",
        ),
        (Fault::status(503, ""), "503 Service Unavailable", "Check the domain's health"),
        (
            Fault::status(401, "Unauthorized"),
            "requires a user name and a password",
            "Set an IAM role as the master user",
        ),
        (Fault::status(404, "{}"), "to GET / with 404 Not Found", "Check that upstream.endpoint is the domain's"),
    ] {
        // Short only where it is to come, so that no answer comes too late.
        let timeout = if matches!(fault, Fault::Hang) { "1 s" } else { "1 min" };
        case.config = format!("response_timeout = \"{timeout}\"\n");
        domain.fault(fault, Times::Once);
        case.diagnose().await.fails("request", text, advice);
    }
    domain.fault(Fault::status(200, "{}"), Times::Once);
    case.diagnose().await.fails("product", "is not the banner", "a proxy in front of it");
}

#[tokio::test]
async fn slow_domain_or_one_that_closes_connections_passes() {
    let domain = domain().await;
    domain.fault(Fault::Slow(Duration::from_millis(50)), Times::Once);
    domain.fault(Fault::CloseAfter, Times::UntilCleared);
    for _ in 0..2 {
        assert_eq!(Case::of(&domain).diagnose().await.code, Some(0));
    }
}

/// Responds like OpenSearch 2.11 in compatibility mode, without Kibana's old path.
fn opensearch(seen: &Seen) -> Option<Fault> {
    match seen.target.as_str() {
        "/" => Some(Fault::status(
            200,
            r#"{"version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#,
        )),
        "/_plugin/kibana/" => Some(Fault::status(404, "{}")),
        _ => None,
    }
}

#[tokio::test]
async fn missing_home_page_is_reported_with_the_existing_one() {
    let domain = domain().await;
    domain.judge_requests(opensearch);
    let mut case = Case::of(&domain);
    let found = case.diagnose().await;
    found.passes("product", "OpenSearch 7.10.2");
    found.fails("home", "/_plugin/kibana/ responds with 404 Not Found", "Set upstream.home = \"/_dashboards/\"");

    case.config = "home = \"/_dashboards/\"\n".to_owned();
    case.diagnose().await.passes("home", "/_dashboards/ exists");
    case.config = "home = \"off\"\n".to_owned();
    case.diagnose().await.passes("home", "off");
}

#[tokio::test]
async fn login_redirect_of_dashboards_is_reported() {
    let domain = domain().await;
    domain.judge_requests(|seen| {
        let login = ("location".to_owned(), "https://trail.auth.eu-west-1.amazoncognito.com/login".to_owned());
        let answer = Answer { status: 302, headers: vec![login], body: "".into() };
        (seen.target == "/_plugin/kibana/").then_some(Fault::Answer(answer))
    });
    let found = Case::of(&domain).diagnose().await;
    found.fails("home", "redirects to trail.auth.eu-west-1.amazoncognito.com", "Cognito or SAML");
}
