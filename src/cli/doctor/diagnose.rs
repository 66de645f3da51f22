//! The findings: the result of each check as a text, or as a problem with advice.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use hyper::StatusCode;
use hyper::header;
use hyper::http::Uri;
use rustls::CertificateError as Untrusted;
use serde_json::Value;
use trailgate_client::{CLOCK_TOLERANCE, Endpoint, Forbidden, UpstreamError, clock_offset};

use super::denial::{Context, Denial};
use super::network::Answer;
use super::report::Problem;
use crate::http::tls::{CertificateError, CertificateFiles};
use crate::human::{count_entries, file_option, join_sources, round_duration};
use crate::policy::allowlist::{Entries, LoadError};

type Finding = Result<String, Problem>;

pub(super) fn allowlist(file: &Path, entries: Result<Entries, LoadError>, now: SystemTime) -> Finding {
    let entries = entries
        .map_err(|error| Problem::new(error.to_string(), "trailgate does not start until this is corrected."))?;
    let (all, expired) = (entries.len(), entries.expired(now));
    if all == expired {
        let file = file_option(file);
        let advice =
            format!("Every client is rejected. Add an entry: trailgate allow add ADDRESS --name NAME --for 8h{file}");
        return Err(Problem::new(format!("{}, all expired", count_entries(all)), advice));
    }
    Ok(format!("{}, {expired} expired", count_entries(all)))
}

/// Checks the expiry of a listener's certificate.
pub(super) fn certificate(
    files: &CertificateFiles,
    ends: Result<SystemTime, CertificateError>,
    valid: Result<(), CertificateError>,
    now: SystemTime,
) -> Finding {
    let ends =
        ends.map_err(|error| Problem::new(error.to_string(), "trailgate does not start until this is corrected."))?;
    let advice = "Replace both files with a valid certificate and its key; a running trailgate reloads them.";
    valid.map_err(|error| Problem::new(error.to_string(), advice))?;
    let left = ends.duration_since(now).unwrap_or_default();
    Ok(format!("{}: expires in {}", files.certificate.display(), round_duration(left)))
}

pub(super) fn name(endpoint: &Endpoint, addresses: &io::Result<Vec<SocketAddr>>) -> Finding {
    let host = endpoint.host();
    let advice = "Check that upstream.endpoint is the domain's endpoint in the AWS console, that the domain exists, and \
                  that this machine has a name server (/etc/resolv.conf).";
    match addresses {
        Ok(addresses) if !addresses.is_empty() => {
            let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Ok(format!("{host} resolves to {}", addresses.join(", ")))
        }
        Ok(_) => Err(Problem::new(format!("{host} has no address"), advice)),
        Err(error) => Err(Problem::new(format!("{host} cannot be resolved: {error}"), advice)),
    }
}

pub(super) fn tcp(errors: &[(SocketAddr, io::Error)]) -> Problem {
    let text: Vec<_> = errors.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    let is_refused = errors.iter().any(|(_, error)| error.kind() == io::ErrorKind::ConnectionRefused);
    let advice = if is_refused {
        "No server listens there. Check the port in upstream.endpoint; a domain listens on 443."
    } else {
        "No response. Allow this machine's security group on port 443 in the security group of the domain, and check \
         that this machine's subnet has a route to it."
    };
    Problem::new(text.join("; "), advice)
}

pub(super) fn tls(endpoint: &Endpoint, handshake: Result<String, io::Error>) -> Finding {
    handshake.map(|version| format!("{version}, certificate valid for {}", endpoint.host())).map_err(|error| {
        let advice = match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(certificate)) => certificate_advice(certificate),
            Some(rustls::Error::InvalidMessage(_)) => {
                "The server does not speak TLS. Check scheme and port of upstream.endpoint."
            }
            _ => {
                "The server broke off the handshake. Look for a proxy or firewall between this machine and the domain."
            }
        };
        Problem::new(error.to_string(), advice)
    })
}

fn certificate_advice(error: &Untrusted) -> &'static str {
    match error {
        // `BadSignature` occurs if a different authority has the same name.
        Untrusted::UnknownIssuer | Untrusted::BadSignature => {
            "The certificate is not signed by a trusted CA. AWS's is signed by Amazon Root CA: install \
             ca-certificates, or take away upstream.ca_file. If a proxy of your own opens TLS, name its authority in \
             upstream.ca_file."
        }
        Untrusted::NotValidForName | Untrusted::NotValidForNameContext { .. } => {
            "The certificate is for another host. Set upstream.endpoint to the domain's own endpoint, or to the custom \
             endpoint that the certificate names."
        }
        Untrusted::Expired
        | Untrusted::ExpiredContext { .. }
        | Untrusted::NotValidYet
        | Untrusted::NotValidYetContext { .. } => "Check the certificate, then this machine's clock (`date`).",
        // rustls has no variant of its own for it.
        Untrusted::Other(error) if error.to_string() == "CaUsedAsEndEntity" => {
            "The server's own certificate is a CA, as `openssl req -x509` makes by default. Make one that is none, by \
             `-addext basicConstraints=critical,CA:FALSE`, and name it in upstream.ca_file."
        }
        _ => "Look for a proxy or firewall that responds instead of the domain.",
    }
}

/// Checks the clock by the `Date` of the response to an unsigned request. This machine's clock showed `local` on its
/// arrival.
pub(super) fn clock(answer: &Result<Answer, UpstreamError>, local: SystemTime) -> Finding {
    let date = answer.as_ref().map_err(no_answer)?.date().ok_or_else(missing_date)?;
    let ahead = clock_offset(local, date);
    let seconds = ahead.abs();
    if seconds < CLOCK_TOLERANCE {
        return Ok("this machine's clock and the domain's agree".to_owned());
    }
    let text =
        format!("this machine's clock is {seconds} s {} the domain's", if ahead > 0 { "behind" } else { "ahead of" });
    if seconds < SIGNATURE_LIFE {
        return Ok(text);
    }
    let advice = "The domain accepts signatures within five minutes. trailgate signs by the domain's clock, but the check \
                  of certificates and other programs do not: set the clock, and keep it set (chrony, or `timedatectl \
                  set-ntp true`).";
    Err(Problem::new(text, advice))
}

/// Returns the problem of a response by which the clock cannot be checked. Requests do not depend on it.
pub(super) fn missing_date() -> Problem {
    let advice =
        "An AWS domain sends one: look for a proxy between it and this machine. An engine of your own sends none.";
    Problem::new("not checked: the response has no Date header", advice)
}

/// Checks the response to a signed `GET /`.
pub(super) fn request(answer: &Result<Answer, UpstreamError>, context: &Context<'_>) -> Finding {
    let answer = answer.as_ref().map_err(no_answer)?;
    let status = answer.status;
    match status {
        StatusCode::OK => Ok("the domain accepts the signature".to_owned()),
        StatusCode::NOT_FOUND if context.service == "aoss" => Ok("the collection accepts the signature".to_owned()),
        StatusCode::FORBIDDEN => Err(forbidden(answer, context)),
        StatusCode::UNAUTHORIZED => Err(Problem::new(
            "the domain requires a user name and a password",
            "Its fine-grained access control has password users only, and trailgate signs. Set an IAM role as the master \
             user, or map the signing role, in the domain's security configuration.",
        )),
        _ if status.is_server_error() => Err(Problem::new(
            format!("the domain responds with {status}"),
            "The signature is not the cause. Check the domain's health and pending changes in the AWS console.",
        )),
        _ => Err(Problem::new(
            format!("the domain responds to GET / with {status}"),
            "Elasticsearch and OpenSearch do not respond so. Check that upstream.endpoint is the domain's.",
        )),
    }
}

pub(super) fn forbidden(answer: &Answer, context: &Context<'_>) -> Problem {
    match Forbidden::read(&answer.headers, &answer.body) {
        Forbidden::Mismatch { .. } => Problem::new(
            "the domain computes a different signature",
            "The secret access key does not belong to this access key, or a proxy changes the request. The log of trailgate \
             shows both canonical requests.",
        ),
        Forbidden::Skew { .. } => Problem::new(
            "the domain rejects the time of the signature, which was made by the domain's clock",
            "A proxy between this machine and the domain caches responses or sets their Date.",
        ),
        Forbidden::Credentials { message } if message.starts_with("Credential should be scoped") => Problem::new(
            format!("the domain says: {message}"),
            "Set aws.region to the domain's region, and aws.service to \"es\", or \"aoss\" for a collection.",
        ),
        Forbidden::Credentials { message } => Problem::new(
            format!("the domain says: {message}"),
            "Renew the credentials at their source. Session credentials need their session token, too.",
        ),
        Forbidden::Other => Denial::read(&answer.body).problem(context),
    }
}

/// Checks which product responded to `GET /`.
pub(super) fn product(answer: &Answer, service: &str) -> Finding {
    if service == "aoss" {
        return Ok("OpenSearch Serverless, which does not report its version".to_owned());
    }
    let banner: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let product = if is_opensearch(&banner) { "OpenSearch" } else { "Elasticsearch" };
    banner.pointer("/version/number").and_then(Value::as_str).map(|version| format!("{product} {version}")).ok_or_else(
        || {
            let advice = "Check that upstream.endpoint is the domain's, and look for a proxy in front of it.";
            Problem::new("the response is not the banner of Elasticsearch or OpenSearch", advice)
        },
    )
}

/// Returns whether the banner is OpenSearch's. In compatibility mode it reports 7.10 without a distribution, but keeps
/// its tagline.
fn is_opensearch(banner: &Value) -> bool {
    let text = |pointer| banner.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    text("/version/distribution") == "opensearch" || text("/tagline").contains("OpenSearch")
}

/// Checks the response for the home page at `path`. `product` is the finding of [`product`].
pub(super) fn home(
    path: &str,
    answer: &Result<Answer, UpstreamError>,
    product: Option<&str>,
    context: &Context<'_>,
) -> Finding {
    let answer = answer.as_ref().map_err(no_answer)?;
    let status = answer.status;
    if status.is_success() {
        return Ok(format!("{path} exists"));
    }
    if status.is_redirection() {
        let location = answer.headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
        let location = location.unwrap_or_default();
        let elsewhere = location.parse::<Uri>().ok().and_then(|uri| Some(uri.host()?.to_owned()));
        return match elsewhere.filter(|host| !host.eq_ignore_ascii_case(context.host)) {
            None => Ok(format!("{path} redirects to {location}")),
            Some(host) => Err(Problem::new(
                format!("{path} redirects to {host}: the domain has a login of its own"),
                "trailgate signs for every client that it allows. Disable the login of Dashboards (Cognito or SAML), or have \
                 users log in.",
            )),
        };
    }
    let text = format!("{path} responds with {status}");
    match status {
        StatusCode::FORBIDDEN => {
            let Problem { text: reason, advice } = forbidden(answer, context);
            Err(Problem::new(format!("{text}: {reason}"), advice))
        }
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => {
            let is_opensearch = product.is_some_and(|product| product.starts_with("OpenSearch"));
            let usual = if is_opensearch { "/_dashboards/" } else { "/_plugin/kibana/" };
            let advice = if path == usual {
                "This domain has no such page. Set upstream.home to one that exists, or to \"off\".".to_owned()
            } else {
                format!("Set upstream.home = \"{usual}\", the page of {}.", product.unwrap_or("such a domain"))
            };
            Err(Problem::new(text, advice))
        }
        _ => {
            Err(Problem::new(text, "Kibana or Dashboards is not ready. Check the domain's health in the AWS console."))
        }
    }
}

fn no_answer(error: &UpstreamError) -> Problem {
    let text = join_sources(error);
    let advice = match error {
        UpstreamError::Connect(_) | UpstreamError::ConnectTimeout => "The previous connection succeeded. Try again.",
        UpstreamError::ResponseTimeout => {
            "The domain accepts connections and does not respond. Check its health in the AWS console."
        }
        UpstreamError::Broken(_) | UpstreamError::HeadTooLarge | UpstreamError::Unrequested(_) => {
            "The server does not speak HTTP, or closes connections at once. Check scheme and port of upstream.endpoint."
        }
    };
    Problem::new(text, advice)
}

/// The maximum clock skew between a signature and the domain, in seconds.
const SIGNATURE_LIFE: i64 = 300;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use hyper::header::{HeaderMap, HeaderValue};
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::UnixTime;

    use super::*;

    const COLLECTION: Context<'static> =
        Context { host: "abc123.eu-west-1.aoss.amazonaws.com", region: "eu-west-1", service: "aoss", identity: None };

    fn answer(status: u16, body: &'static str) -> Answer {
        let (status, body) = (StatusCode::from_u16(status).unwrap(), Bytes::from_static(body.as_bytes()));
        Answer { status, headers: HeaderMap::new(), body }
    }

    #[test]
    fn timeout_suggests_the_security_group_and_refusal_the_port() {
        let at = |kind: io::ErrorKind| vec![(SocketAddr::from(([10, 0, 0, 1], 443)), kind.into())];
        let problem = tcp(&at(io::ErrorKind::TimedOut));
        assert_eq!(problem.text, "10.0.0.1:443: timed out");
        assert!(problem.advice.contains("security group"), "{}", problem.advice);
        let problem = tcp(&at(io::ErrorKind::ConnectionRefused));
        assert!(problem.advice.contains("Check the port"), "{}", problem.advice);
    }

    /// Returns the finding of a server whose self-signed certificate is the only root.
    fn verify_self_signed(is_ca: rcgen::IsCa) -> Finding {
        let mut params = rcgen::CertificateParams::new([COLLECTION.host.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let certificate = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let (name, now) = (COLLECTION.host.try_into().unwrap(), UnixTime::since_unix_epoch(NOW));
        let result = verifier.verify_server_cert(certificate.der(), &[], &name, &[], now);
        let endpoint = Endpoint::parse(&format!("https://{}", COLLECTION.host)).unwrap();
        tls(&endpoint, result.map(|_| "TLS 1.3".to_owned()).map_err(io::Error::other))
    }

    /// Within the validity that rcgen gives by default.
    const NOW: Duration = Duration::from_secs(1_795_000_000);

    #[test]
    fn self_signed_ca_as_server_certificate_has_advice() {
        let problem = verify_self_signed(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)).unwrap_err();
        assert!(problem.advice.contains("basicConstraints=critical,CA:FALSE"), "{} {}", problem.text, problem.advice);
        assert!(verify_self_signed(rcgen::IsCa::ExplicitNoCa).is_ok());
    }

    #[test]
    fn collection_is_recognised_without_a_banner() {
        let found = answer(404, "");
        assert_eq!(product(&found, "aoss").unwrap(), "OpenSearch Serverless, which does not report its version");
        assert_eq!(request(&Ok(found), &COLLECTION).unwrap(), "the collection accepts the signature");
    }

    #[test]
    fn product_is_detected_by_distribution_or_tagline() {
        let found = |body| product(&answer(200, body), "es").unwrap();
        let banner = r#"{"version":{"distribution":"opensearch","number":"2.19.1"},"tagline":""}"#;
        assert_eq!(found(banner), "OpenSearch 2.19.1");
        let banner = r#"{"version":{"number":"7.10.2"},"tagline":"The OpenSearch Project: https://opensearch.org/"}"#;
        assert_eq!(found(banner), "OpenSearch 7.10.2");
        let banner = r#"{"version":{"number":"5.1.1"},"tagline":"You Know, for Search"}"#;
        assert_eq!(found(banner), "Elasticsearch 5.1.1");
    }

    #[test]
    fn expired_signature_by_the_domains_clock_blames_a_middlebox() {
        let found = answer(403, r#"{"message":"Signature expired: 20150830T120000Z is now earlier than …"}"#);
        let problem = request(&Ok(found), &COLLECTION).unwrap_err();
        assert!(problem.advice.contains("caches responses or sets their Date"), "{}", problem.advice);
    }

    #[test]
    fn home_page_may_redirect_within_the_domain() {
        for location in ["/_dashboards/app/home", "https://ABC123.eu-west-1.aoss.amazonaws.com/_dashboards/app/home"] {
            let mut found = answer(302, "");
            found.headers.insert(header::LOCATION, HeaderValue::from_static(location));
            let expected = format!("/_dashboards/ redirects to {location}");
            assert_eq!(home("/_dashboards/", &Ok(found), None, &COLLECTION).unwrap(), expected);
        }
    }
}
