//! The endpoint of a domain, and the region and service that its host name contains.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};

/// The origin of a domain: scheme, host and port, without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    scheme: Scheme,
    authority: Authority,
}

impl Endpoint {
    /// Parses `https://HOST[:PORT]`, `http://HOST[:PORT]` or `HOST[:PORT]`, which means https.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::NoUrl)?;
        let scheme = uri.scheme().cloned().unwrap_or(Scheme::HTTPS);
        let authority = uri.authority().cloned().ok_or(EndpointError::NoUrl)?;
        if scheme != Scheme::HTTPS && scheme != Scheme::HTTP {
            return Err(EndpointError::Scheme);
        }
        if authority.as_str().contains('@') {
            return Err(EndpointError::UserInfo);
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(EndpointError::Path);
        }
        // A URL may contain an empty port, and one that does not exist.
        let has_port = authority.as_str().len() > authority.host().len();
        if has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(EndpointError::Port);
        }
        // The default port is omitted: clients omit it in `Host`, and `Host` is signed.
        let default_port = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let own_port = authority.port_u16().is_some_and(|port| port == default_port);
        let host_and_port = if own_port { authority.host() } else { authority.as_str() };
        let authority = host_and_port.to_ascii_lowercase().parse().map_err(|_| EndpointError::NoUrl)?;
        Ok(Self { scheme, authority })
    }

    /// Returns `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Returns the host, in lower case, with the port unless it is the scheme's default: the value of the `Host`
    /// header.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the host name or IP address, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }

    /// Returns the port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 })
    }

    /// Returns whether the scheme is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Returns whether others can read the traffic: plain http to a host that is not loopback.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        let host = self.host();
        let loopback = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        !self.is_tls() && !loopback
    }

    /// Returns the region in an AWS host name: `eu-west-1` for `search-trail-abc.eu-west-1.es.amazonaws.com`.
    #[must_use]
    pub fn region(&self) -> Option<&str> {
        self.region_and_service().map(|(region, _)| region)
    }

    /// Returns the service in an AWS host name: `es`, or `aoss` for a serverless collection.
    #[must_use]
    pub fn service(&self) -> Option<&'static str> {
        self.region_and_service().map(|(_, service)| service)
    }

    /// Returns region and service of an AWS host name. It contains `REGION.es` or, with dual stack, `aos.REGION`; for
    /// collections `REGION.aoss` or `aoss.REGION`. FIPS endpoints append `-fips` to the service.
    fn region_and_service(&self) -> Option<(&str, &'static str)> {
        let host = self.authority.host();
        let suffix = AWS_SUFFIXES.iter().find(|suffix| host.ends_with(*suffix))?;
        let labels: Vec<&str> = host[..host.len() - suffix.len()].split('.').collect();
        labels.windows(2).rev().find_map(|pair| match *pair {
            [region, service] if is_region(region) => Some((region, service_name(service)?)),
            [service, region] if is_region(region) => Some((region, service_name(service)?)),
            _ => None,
        })
    }
}

/// The reason why a text is not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text has no host, or is not a URL.
    #[error("is not a URL: write \"https://HOST\"")]
    NoUrl,
    /// The scheme is neither `https` nor `http`.
    #[error("has a scheme other than https")]
    Scheme,
    /// The URL contains userinfo. Requests are authenticated by signature.
    #[error("has a user name: remove the part before the @")]
    UserInfo,
    /// The port is not a number from 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// The URL has a path or a query, which would be lost.
    #[error("has a path: write only scheme and host")]
    Path,
}

fn service_name(label: &str) -> Option<&'static str> {
    match label {
        "es" | "es-fips" | "aos" | "aos-fips" => Some("es"),
        "aoss" | "aoss-fips" => Some("aoss"),
        _ => None,
    }
}

/// Returns whether `label` has the form of an AWS region, words and a number: `eu-west-1`, `us-gov-east-1`,
/// `us-isob-east-1`. The list of regions grows, so it is not compared with one.
#[must_use]
pub fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The DNS suffixes of the AWS partitions, with the leading dot.
const AWS_SUFFIXES: [&str; 9] = [
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".on.aws",
    ".on.amazonwebservices.com.cn",
    ".amazonaws.eu",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn host(host: &str, expected: Option<(&str, &str)>) {
        let endpoint = Endpoint::parse(&format!("https://{host}")).unwrap();
        assert_eq!(endpoint.region().zip(endpoint.service()), expected, "{host}");
    }

    #[test]
    fn aws_host_yields_region_and_service() {
        host("search-trail-abc123.us-east-1.es.amazonaws.com", Some(("us-east-1", "es")));
        host("vpc-trail-abc123.eu-central-1.es.amazonaws.com", Some(("eu-central-1", "es")));
        host("search-trail-abc123.cn-north-1.es.amazonaws.com.cn", Some(("cn-north-1", "es")));
        host("search-trail-abc123.us-gov-west-1.es-fips.amazonaws.com", Some(("us-gov-west-1", "es")));
        host("search-trail-abc123.aos.us-east-1.on.aws", Some(("us-east-1", "es")));
        host("search-trail-abc123.aos.cn-north-1.on.amazonwebservices.com.cn", Some(("cn-north-1", "es")));
        host("abc123.eu-west-1.aoss.amazonaws.com", Some(("eu-west-1", "aoss")));
        host("abc123.us-east-2.aoss-fips.amazonaws.com", Some(("us-east-2", "aoss")));
        host("abc123.aoss.eu-west-1.on.aws", Some(("eu-west-1", "aoss")));
        host("dashboards.eu-west-1.aoss.amazonaws.com", Some(("eu-west-1", "aoss")));
        host("search-x.us-isob-east-1.es.sc2s.sgov.gov", Some(("us-isob-east-1", "es")));
        // A domain name may equal the name of a service, or have the form of a region.
        host("search-es-1.us-west-2.es.amazonaws.com", Some(("us-west-2", "es")));
        host("vpc-us-east-1.ap-south-1.es.amazonaws.com", Some(("ap-south-1", "es")));
    }

    #[test]
    fn other_host_yields_no_region_or_service() {
        host("logs.example.com", None);
        host("logs.us-east-1.es.example.com", None);
        host("ec2.us-east-1.amazonaws.com", None);
        host("es.amazonaws.com", None);
        host("127.0.0.1:9200", None);
    }

    #[track_caller]
    fn rejects(text: &str, error: EndpointError) {
        assert_eq!(Endpoint::parse(text), Err(error), "{text}");
    }

    #[test]
    fn endpoint_that_is_no_origin_is_rejected() {
        rejects("", EndpointError::NoUrl);
        rejects("/path", EndpointError::NoUrl);
        rejects("ftp://host", EndpointError::Scheme);
        rejects("https://user:secret@host", EndpointError::UserInfo);
        rejects("https://host:", EndpointError::Port);
        rejects("https://host:0", EndpointError::Port);
        rejects("https://[::1]:99999", EndpointError::Port);
        rejects("https://host/_plugin/kibana/", EndpointError::Path);
        rejects("https://host/?a", EndpointError::Path);
    }

    #[test]
    fn host_header_omits_the_default_port() {
        let authority = |text| Endpoint::parse(text).unwrap().authority().to_string();
        assert_eq!(authority("https://Search-X.example:443/"), "search-x.example");
        assert_eq!(authority("https://search-x.example:9243"), "search-x.example:9243");
        assert_eq!(authority("http://search-x.example:80"), "search-x.example");
        assert_eq!(authority("search-x.example"), "search-x.example");
    }

    #[test]
    fn plain_http_is_exposed_unless_on_loopback() {
        let exposed = |text| Endpoint::parse(text).unwrap().is_exposed();
        assert!(exposed("http://10.0.0.5:9200"));
        assert!(exposed("http://search.example"));
        assert!(!exposed("https://search.example"));
        assert!(!exposed("http://127.0.0.1:9200"));
        assert!(!exposed("http://[::1]:9200"));
        assert!(!exposed("http://localhost:9200"));
    }
}
