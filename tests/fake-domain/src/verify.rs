//! Checks a request's Signature Version 4 by AWS's public description, and more strictly than AWS.
//!
//! Servers parse the same URL differently. A signature is accepted only if it is valid under each of these readings, so
//! an accepted request is valid for a domain whichever reading it uses.

mod canonical;
mod refusal;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};
use sha2::{Digest, Sha256};

pub(crate) use canonical::decode;
use canonical::{RAW, READINGS, canonical_request};
pub use refusal::Refusal;

/// The credentials that a signature is checked against.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The access key ID.
    pub access_key: String,
    /// The secret access key.
    pub secret_key: String,
    /// The session token required with temporary credentials; if `None`, a request must not have one.
    pub session_token: Option<String>,
}

/// The credentials of AWS's own examples.
impl Default for Credentials {
    fn default() -> Self {
        Self {
            access_key: "AKIDEXAMPLE".to_owned(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        }
    }
}

/// The credentials and the scope that signatures are checked against.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// The credentials of the signer.
    pub credentials: Credentials,
    /// The region the signature must be scoped to.
    pub region: String,
    /// The service the signature must be scoped to: `es` or `aoss`.
    pub service: String,
}

/// A request as received on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The request target, undecoded.
    pub target: &'a str,
    /// All header lines in order.
    pub headers: &'a [(String, Vec<u8>)],
    /// The body.
    pub body: &'a [u8],
}

impl Verifier {
    /// Checks a request's signature, and that all required headers are signed.
    pub fn check(&self, request: &Request, now: Timestamp) -> Result<(), Refusal> {
        let Some(authorization) = request.only("authorization")? else {
            return Err(Refusal::Anonymous { method: request.method.to_owned() });
        };
        let authorization = Authorization::parse(authorization)?;
        self.check_credential(&authorization, request)?;
        let date = check_date(&authorization, request, now)?;
        self.check_signed_headers(&authorization, request)?;

        let signed = &authorization.signed_headers;
        for reading in READINGS {
            let canonical = canonical_request(request, signed, reading);
            if self.signature(&canonical, &date).1 != authorization.signature {
                let canonical = canonical_request(request, signed, RAW);
                let (string_to_sign, _) = self.signature(&canonical, &date);
                let canonical = String::from_utf8_lossy(&canonical).into_owned();
                return Err(Refusal::Mismatch { canonical, string_to_sign, reading: reading.name });
            }
        }
        Ok(())
    }

    /// Returns the `Authorization` header with which this request passes the check, if all readings of it agree.
    ///
    /// It signs all headers of the request, which must include `x-amz-date` in the format of [`date_text`].
    #[must_use]
    pub fn authorization(&self, request: &Request) -> String {
        let mut signed: Vec<String> = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        signed.sort_unstable();
        signed.dedup();
        let date = request.values("x-amz-date").next().map(String::from_utf8_lossy).unwrap_or_default();
        let (_, signature) = self.signature(&canonical_request(request, &signed, RAW), &date);
        let (access_key, scope, signed) = (&self.credentials.access_key, self.scope(&date), signed.join(";"));
        format!("{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={signed}, Signature={signature}")
    }

    fn check_credential(&self, authorization: &Authorization, request: &Request) -> Result<(), Refusal> {
        let [access_key, _, region, service, terminator] = authorization.credential;
        let token = request.only("x-amz-security-token")?.map(trim);
        if access_key != self.credentials.access_key || token != self.credentials.session_token.as_deref() {
            return Err(Refusal::UnknownToken);
        }
        if terminator != TERMINATOR {
            return Err(Refusal::Incomplete(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}'"
            )));
        }
        if region != self.region {
            return Err(Refusal::Region { given: region.to_owned() });
        }
        if service != self.service {
            return Err(Refusal::Service { expected: self.service.clone() });
        }
        Ok(())
    }

    fn check_signed_headers(&self, authorization: &Authorization, request: &Request) -> Result<(), Refusal> {
        let signed = &authorization.signed_headers;
        if !signed.is_sorted_by(|a, b| a < b) || signed.iter().any(|name| *name != name.to_ascii_lowercase()) {
            return Err(Refusal::Incomplete(
                "SignedHeaders must be sorted, lower case and without duplicates.".to_owned(),
            ));
        }
        if let Some(name) = signed.iter().find(|name| request.values(name).next().is_none()) {
            return Err(Refusal::Incomplete(format!("The signed header '{name}' is not in the request.")));
        }
        let hash = request.only("x-amz-content-sha256")?.map(trim);
        for (name, required) in [
            ("host", true),
            ("x-amz-date", true),
            ("x-amz-security-token", self.credentials.session_token.is_some()),
            ("x-amz-content-sha256", hash.is_some() || self.service == "aoss"),
        ] {
            if required && !signed.iter().any(|signed| signed == name) {
                return Err(Refusal::Incomplete(format!(
                    "'{name}' must be a 'SignedHeader' in the AWS Authorization."
                )));
            }
        }
        request.only("host")?;
        if hash.is_some_and(|hash| hash != sha256(request.body)) {
            return Err(Refusal::BodyHash);
        }
        Ok(())
    }

    fn scope(&self, date: &str) -> String {
        let day = date.get(..8).unwrap_or_default();
        format!("{day}/{}/{}/{TERMINATOR}", self.region, self.service)
    }

    /// Returns the string to sign and its signature.
    fn signature(&self, canonical: &[u8], date: &str) -> (String, String) {
        let scope = self.scope(date);
        let string_to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{}", sha256(canonical));
        let secret = format!("AWS4{}", self.credentials.secret_key);
        let key = scope.split('/').fold(secret.into_bytes(), |key, part| hmac(&key, part));
        let signature = hex::encode(hmac(&key, &string_to_sign));
        (string_to_sign, signature)
    }
}

/// Formats a time as in `x-amz-date`: `20150830T123600Z`.
#[must_use]
pub fn date_text(time: Timestamp) -> String {
    time.strftime(DATE).to_string()
}

/// Parses a time as in `x-amz-date`.
#[must_use]
pub fn parse_date(text: &str) -> Option<Timestamp> {
    let time = TimeZone::UTC.to_timestamp(DateTime::strptime(DATE, text).ok()?).ok()?;
    (date_text(time) == text).then_some(time)
}

impl<'a> Request<'a> {
    fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Returns the access key that the signature names.
    pub(crate) fn access_key(&self) -> Option<&'a str> {
        let authorization = Authorization::parse(self.only("authorization").ok()??).ok()?;
        Some(authorization.credential[0])
    }

    fn only(&self, name: &str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.values(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Refusal::Incomplete(format!("The header '{name}' comes more than once.")));
        }
        let text = std::str::from_utf8(value);
        text.map(Some).map_err(|_| Refusal::Incomplete(format!("The header '{name}' is not text.")))
    }
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    /// Access key, day, region, service and terminator.
    credential: [&'a str; 5],
    signed_headers: Vec<String>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(value: &'a str) -> Result<Self, Refusal> {
        let incomplete = |what: &str| Refusal::Incomplete(format!("{what} Authorization={value}"));
        let fields = value.trim().strip_prefix(ALGORITHM).ok_or_else(|| incomplete("Unsupported AWS 'algorithm'."))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',') {
            let (name, value) = field.trim().split_once('=').ok_or_else(|| incomplete("Not a key=value pair."))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(incomplete("Unknown parameter.")),
            };
            if slot.replace(value).is_some() {
                return Err(incomplete("A parameter comes twice."));
            }
        }
        let missing = |name| incomplete(&format!("Authorization header requires '{name}' parameter."));
        let credential: Vec<&str> = credential.ok_or_else(|| missing("Credential"))?.split('/').collect();
        Ok(Self {
            credential: credential
                .try_into()
                .map_err(|_| incomplete("Credential must have exactly 5 slash-delimited elements."))?,
            signed_headers: signed_headers
                .ok_or_else(|| missing("SignedHeaders"))?
                .split(';')
                .map(str::to_owned)
                .collect(),
            signature: signature.ok_or_else(|| missing("Signature"))?,
        })
    }
}

/// Checks the request's time against `now` and the scope, and returns it as written.
fn check_date(authorization: &Authorization, request: &Request, now: Timestamp) -> Result<String, Refusal> {
    let text = request.only("x-amz-date")?.map(trim).unwrap_or_default();
    let time = parse_date(text).ok_or_else(|| {
        Refusal::Incomplete(format!("Authorization header requires existence of a valid 'X-Amz-Date': '{text}'."))
    })?;
    if authorization.credential[1] != &text[..8] {
        return Err(Refusal::Incomplete(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', \
             from '{text}'.",
            authorization.credential[1],
            &text[..8]
        )));
    }
    check_time(time, now)?;
    Ok(text.to_owned())
}

/// Checks that the request's time `date` is within the permitted clock skew.
pub(crate) fn check_time(date: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    if now.duration_since(date) > SKEW {
        return Err(Refusal::Expired { date, now });
    }
    if date.duration_since(now) > SKEW {
        return Err(Refusal::NotYet { date, now });
    }
    Ok(())
}

fn trim(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn hmac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

const TERMINATOR: &str = "aws4_request";

const DATE: &str = "%Y%m%dT%H%M%SZ";

/// The maximum clock skew of the client.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
