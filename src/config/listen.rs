//! `[listen]` as written in the file: one table, or one `[[listen]]` per listener.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use hyper::http::uri::Authority;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_spanned::Spanned;
use trailgate_client::Endpoint;

use super::problem::{Problem, problem_at};
use crate::http::listener::{Listener, ToHttps};
use crate::http::tls::CertificateFiles;
use crate::policy::cidr;
use crate::policy::client_address::TrustedProxies;
use crate::policy::csrf::{BadOrigin, TrustedOrigins};
use crate::policy::host_check::Hosts;

pub(super) struct Listens(Vec<Listen>);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    address: Option<Spanned<Address>>,
    hosts: Vec<Spanned<String>>,
    trusted_proxies: Vec<Spanned<String>>,
    trusted_origins: Vec<Spanned<String>>,
    proxy_protocol: Option<Spanned<bool>>,
    redirect_to_https: Option<Spanned<Redirect>>,
    tls: Option<Tls>,
}

/// An address and a port.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(SocketAddr);

/// The redirect setting of a listener: to the port of the TLS listener, or to the port that is given.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "expected true, false, or the port that https is at")]
enum Redirect {
    Is(bool),
    To(NonZeroU16),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
}

impl Listens {
    /// Validates the listeners. Relative paths start at `folder`.
    pub(super) fn check(self, folder: &Path) -> Result<Vec<Listener>, Problem> {
        let secure = self.0.iter().find(|listen| listen.tls.is_some());
        let port = secure.map(|listen| listen.address().port());
        for (index, listen) in self.0.iter().enumerate() {
            let address = listen.address();
            let others = self.0[..index].iter().map(Listen::address);
            let other = others.filter(|other| other.is_ipv6() == address.is_ipv6()).find(|it| overlap(*it, address));
            if let (Some(written), Some(other)) = (&listen.address, other) {
                let of_other = "the address of another [[listen]]";
                let message = if other == address {
                    format!("{address} is {of_other}")
                } else {
                    format!("{address} overlaps with {other}, {of_other}: write another port, or remove one")
                };
                return Err(problem_at(written, message));
            }
        }
        let addresses: Vec<SocketAddr> = self.0.iter().map(Listen::address).collect();
        // `[::]` accepts IPv4, too, unless another listener does.
        let is_ipv6_only = |address: SocketAddr| {
            let is_other = |other: &SocketAddr| other.is_ipv4() && overlap(*other, address);
            address.is_ipv6() && addresses.iter().any(is_other)
        };
        let check = |listen: Listen| {
            let is_ipv6_only = is_ipv6_only(listen.address());
            listen.check(folder, port, is_ipv6_only)
        };
        self.0.into_iter().map(check).collect()
    }

    /// Returns the address of a listener that cannot be bound together with `address`, with its location unless it is
    /// the default.
    pub(super) fn overlapping(&self, address: SocketAddr) -> Option<(SocketAddr, Option<&Spanned<Address>>)> {
        let listen = self.0.iter().find(|listen| overlap(listen.address(), address))?;
        Some((listen.address(), listen.address.as_ref()))
    }

    /// Returns the address of the listener that accepts the connections of this proxy to `endpoint`.
    pub(super) fn accepting(&self, endpoint: &Endpoint) -> Option<SocketAddr> {
        let host = endpoint.host();
        let hosts: Vec<IpAddr> = match host.parse() {
            Ok(ip) => vec![ip],
            Err(_) if host == "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Err(_) => Vec::new(),
        };
        let is_at = |address: &SocketAddr| {
            let is_own = |ip: &IpAddr| address.ip() == *ip || (address.ip().is_unspecified() && ip.is_loopback());
            address.port() == endpoint.port() && hosts.iter().any(is_own)
        };
        self.0.iter().map(Listen::address).find(is_at)
    }

    /// Returns warnings about settings that are valid, and probably not intended.
    pub(super) fn warnings(listeners: &[Listener]) -> Vec<String> {
        let is_open = |listener: &&Listener| listener.trusted_proxies.is_everyone();
        let warning = |listener: &Listener| {
            format!(
                "listen.trusted_proxies of {} trusts every address: any client can name another one in \
                 X-Forwarded-For, and so pass the allowlist; name the networks of your proxies",
                listener.address
            )
        };
        listeners.iter().filter(is_open).map(warning).collect()
    }
}

impl Listen {
    fn address(&self) -> SocketAddr {
        self.address.as_ref().map_or(ADDRESS, |address| address.get_ref().0)
    }

    fn check(self, folder: &Path, https_port: Option<u16>, is_ipv6_only: bool) -> Result<Listener, Problem> {
        let trusted_proxies = self.trusted_proxies.iter().map(|text| {
            cidr::parse(text.get_ref()).map_err(|error| problem_at(text, format!("{:?} {error}", text.get_ref())))
        });
        let trusted_proxies = TrustedProxies::new(trusted_proxies.collect::<Result<_, _>>()?);
        let proxy_protocol = self.proxy_protocol.as_ref().filter(|it| *it.get_ref());
        if let Some(proxy_protocol) = proxy_protocol.filter(|_| trusted_proxies.is_empty()) {
            let message = "requires trusted_proxies: list the load balancer's networks there";
            return Err(problem_at(proxy_protocol, message));
        }
        let redirect = self.redirect_to_https.as_ref().filter(|it| !matches!(it.get_ref(), Redirect::Is(false)));
        if let Some(redirect) = redirect.filter(|_| self.tls.is_some()) {
            return Err(problem_at(redirect, "is for a listener without tls"));
        }
        let port = |redirect: &Spanned<Redirect>| {
            match redirect.get_ref() {
            Redirect::To(port) => Ok(port.get()),
            Redirect::Is(_) => https_port.ok_or_else(|| {
                let message = "leads nowhere, because no [[listen]] has tls: write the port of what speaks TLS in front \
                               of this, like 443";
                problem_at(redirect, message)
            }),
        }
        };
        let to_https = redirect.map(port).transpose()?.map(|port| ToHttps { port });
        Ok(Listener {
            address: self.address(),
            is_ipv6_only,
            hosts: hosts(&self.hosts)?,
            trusted_proxies,
            trusted_origins: trusted_origins(&self.trusted_origins)?,
            proxy_protocol: proxy_protocol.is_some(),
            to_https,
            tls: self
                .tls
                .map(|tls| CertificateFiles { certificate: folder.join(tls.certificate), key: folder.join(tls.key) }),
        })
    }
}

/// Returns whether one of two addresses includes the other. `[::]` includes IPv4. The system chooses another port for
/// each port 0.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let includes = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || (one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4()))
    };
    one.port() == other.port() && one.port() != 0 && (includes(one, other) || includes(other, one))
}

const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Validates host names, of a listener or of the admin address.
pub(super) fn hosts(written: &[Spanned<String>]) -> Result<Hosts, Problem> {
    let name = |text: &Spanned<String>| {
        let host = text.get_ref();
        // The trailing dot of the DNS root is ignored when names are compared.
        let host = host.strip_suffix('.').unwrap_or(host);
        // A host is an authority without userinfo and port.
        let is_host = host.parse().is_ok_and(|authority: Authority| authority.host() == host) && !host.contains('*');
        let message = || format!("{host:?} is not a host: write a name or an address, without scheme and port");
        is_host.then(|| host.to_owned()).ok_or_else(|| problem_at(text, message()))
    };
    Ok(Hosts::new(written.iter().map(name).collect::<Result<_, _>>()?))
}

fn trusted_origins(written: &[Spanned<String>]) -> Result<TrustedOrigins, Problem> {
    let origin = |text: &Spanned<String>| {
        text.get_ref().parse().map_err(|error: BadOrigin| problem_at(text, format!("{:?} {error}", text.get_ref())))
    };
    Ok(TrustedOrigins::new(written.iter().map(origin).collect::<Result<_, _>>()?))
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            let hint = match text.rsplit_once(':') {
                Some(("", port)) if port.parse::<u16>().is_ok() => {
                    format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\" for all addresses of this machine")
                }
                Some(("localhost", port)) => format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
                _ => "write one like \"127.0.0.1:8080\"".to_owned(),
            };
            format!("{text:?} is not an IP address with a port: {hint}")
        })
    }
}

impl Default for Listens {
    fn default() -> Self {
        Self(vec![Listen::default()])
    }
}

/// Implemented by hand: a derived untagged enum would lose the location of errors.
impl<'de> Deserialize<'de> for Listens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Listens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[listen], or [[listen]] for each of several")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listens, A::Error> {
                Ok(Listens(vec![Listen::deserialize(MapAccessDeserializer::new(map))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Listens, A::Error> {
                let mut listens = Vec::new();
                while let Some(listen) = tables.next_element()? {
                    listens.push(listen);
                }
                if listens.is_empty() { Err(serde::de::Error::invalid_length(0, &self)) } else { Ok(Listens(listens)) }
            }
        }

        deserializer.deserialize_any(OneOrMany)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, ConfigError};
    use super::*;

    const SMALLEST: &str = "[upstream]\nendpoint = \"https://search-trail-abc.eu-west-1.es.amazonaws.com\"\n";

    fn parse(listen: &str) -> Result<Vec<Listener>, ConfigError> {
        let text = format!("{SMALLEST}{listen}");
        Ok(Config::parse(Path::new("/etc/trailgate/trailgate.toml"), &text)?.listeners)
    }

    #[track_caller]
    fn rejects(listen: &str, expected: &str) {
        let error = parse(listen).expect_err("this configuration is wrong").to_string();
        assert_eq!(error, format!("/etc/trailgate/trailgate.toml:{expected}"));
    }

    #[test]
    fn several_listen_tables_are_several_listeners() {
        let listeners = parse(
            "[[listen]]\naddress = \"0.0.0.0:8443\"\n[listen.tls]\ncertificate = \"tls/cert.pem\"\nkey = \"/key.pem\"\n\
             [[listen]]\naddress = \"0.0.0.0:80\"\nredirect_to_https = true\n",
        );
        let [secure, plain] = &listeners.unwrap()[..] else { panic!("there are two") };
        let files = secure.tls.as_ref().unwrap();
        assert_eq!(files.certificate, Path::new("/etc/trailgate/tls/cert.pem"));
        assert_eq!(files.key, Path::new("/key.pem"));
        assert_eq!((secure.to_https, plain.to_https), (None, Some(ToHttps { port: 8443 })));
        assert_eq!(plain.address.port(), 80);
    }

    #[test]
    fn mistake_in_one_of_several_listeners_is_reported() {
        rejects(
            "[[listen]]\n[[listen]]\naddress = \"x\"\n",
            "5: listen.address: \"x\" is not an IP address with a port: write one like \"127.0.0.1:8080\"",
        );
        rejects("[[listen]]\n[listen.tls]\nkey = \"a\"\n", "4: listen.tls: missing field `certificate`");
        let none = "1: invalid length 0, expected [listen], or [[listen]] for each of several";
        let error = Config::parse(Path::new("a.toml"), &format!("listen = []\n{SMALLEST}")).unwrap_err().to_string();
        assert_eq!(error, format!("a.toml:{}", none.replace("1: ", "1: listen: ")));
    }

    #[test]
    fn proxy_protocol_without_trusted_proxies_is_rejected() {
        rejects(
            "[listen]\nproxy_protocol = true\n",
            "4: listen.proxy_protocol: requires trusted_proxies: list the load balancer's networks there",
        );
        let listeners = parse("[listen]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/16\"]\n").unwrap();
        assert!(listeners[0].proxy_protocol);
    }

    #[test]
    fn redirect_to_https_with_tls_is_rejected() {
        rejects(
            "[listen]\nredirect_to_https = true\n[listen.tls]\ncertificate = \"a\"\nkey = \"b\"\n",
            "4: listen.redirect_to_https: is for a listener without tls",
        );
    }

    #[test]
    fn address_of_another_format_gets_a_hint() {
        rejects(
            "[listen]\naddress = \":8080\"\n",
            "4: listen.address: \":8080\" is not an IP address with a port: write \"0.0.0.0:8080\" or \"[::]:8080\" for \
             all addresses of this machine",
        );
        rejects(
            "[listen]\naddress = \"localhost:8080\"\n",
            "4: listen.address: \"localhost:8080\" is not an IP address with a port: write \"127.0.0.1:8080\" or \
             \"[::1]:8080\"",
        );
    }

    #[test]
    fn two_listeners_on_one_address_are_rejected() {
        let listen = "[[listen]]\naddress = \"0.0.0.0:80\"\n";
        rejects(&listen.repeat(2), "6: listen.address: 0.0.0.0:80 is the address of another [[listen]]");
        assert!(parse(&"[[listen]]\naddress = \"0.0.0.0:0\"\n".repeat(2)).is_ok());
    }

    #[test]
    fn overlapping_addresses_are_rejected() {
        let both =
            |one: &str, other: &str| format!("[[listen]]\naddress = \"{one}\"\n[[listen]]\naddress = \"{other}\"\n");
        let message = |one: &str, other: &str| {
            format!(
                "6: listen.address: {one} overlaps with {other}, the address of another [[listen]]: write another port, \
                 or remove one"
            )
        };
        rejects(&both("0.0.0.0:80", "10.0.0.1:80"), &message("10.0.0.1:80", "0.0.0.0:80"));
        rejects(&both("[::1]:80", "[::]:80"), &message("[::]:80", "[::1]:80"));
        assert!(parse(&both("0.0.0.0:80", "10.0.0.1:81")).is_ok());
        let admin = |listen: &str, admin: &str| format!("[listen]\naddress = \"{listen}\"\n[admin]\n{admin}");
        let message = |line: &str, key: &str, one: &str, other: &str| {
            format!(
                "{line}: {key}.address: {one} of a [[listen]] and {other} of admin.address overlap: write another port"
            )
        };
        rejects(&admin("[::]:80", "address = \"127.0.0.1:80\""), &message("6", "admin", "[::]:80", "127.0.0.1:80"));
        rejects(&admin("0.0.0.0:9180", ""), &message("4", "listen", "0.0.0.0:9180", "127.0.0.1:9180"));
    }

    #[test]
    fn ipv6_wildcard_leaves_ipv4_to_another_listener() {
        let is_ipv6_only = |addresses: &[&str]| {
            let listen: Vec<_> = addresses.iter().map(|it| format!("[[listen]]\naddress = \"{it}\"\n")).collect();
            parse(&listen.concat()).unwrap().iter().map(|listener| listener.is_ipv6_only).collect::<Vec<_>>()
        };
        assert_eq!(is_ipv6_only(&["[::]:80", "0.0.0.0:80"]), [true, false]);
        assert_eq!(is_ipv6_only(&["10.0.0.1:80", "[::]:80"]), [false, true]);
        assert_eq!(is_ipv6_only(&["0.0.0.0:80", "[::]:443", "[::1]:80"]), [false, false, false]);
    }

    #[test]
    fn endpoint_of_this_proxy_is_rejected() {
        let parse = |endpoint: &str, listen: &str| {
            let aws = "[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n";
            let text = format!("[upstream]\nendpoint = {endpoint:?}\n{aws}[listen]\naddress = {listen:?}\n");
            Config::parse(Path::new("a.toml"), &text).map(|_| ()).map_err(|error| error.to_string())
        };
        let error = parse("http://127.0.0.1:8080", "127.0.0.1:8080").unwrap_err();
        let message = "is this proxy itself, which listens on 127.0.0.1:8080";
        assert_eq!(error, format!("a.toml:2: upstream.endpoint: \"http://127.0.0.1:8080\" {message}"));
        parse("http://localhost:8080", "[::1]:8080").unwrap_err();
        parse("http://[::1]:8080", "[::]:8080").unwrap_err();
        parse("https://10.0.0.1", "10.0.0.1:443").unwrap_err();
        parse("http://127.0.0.1:9200", "127.0.0.1:8080").unwrap();
        parse("https://10.0.0.2", "10.0.0.1:443").unwrap();
        parse("https://audit.example", "0.0.0.0:443").unwrap();
    }

    #[test]
    fn redirect_to_https_without_tls_or_port_is_rejected() {
        rejects(
            "[listen]\nredirect_to_https = true\n",
            "4: listen.redirect_to_https: leads nowhere, because no [[listen]] has tls: write the port of what speaks \
             TLS in front of this, like 443",
        );
        let listeners = parse("[listen]\nredirect_to_https = 443\n").unwrap();
        assert_eq!(listeners[0].to_https, Some(ToHttps { port: 443 }));
        assert_eq!(parse("[listen]\nredirect_to_https = false\n").unwrap()[0].to_https, None);
    }

    #[test]
    fn trusted_proxies_of_every_address_are_warned_of() {
        let warned = |networks: &str| {
            let text = format!("{SMALLEST}[listen]\ntrusted_proxies = [{networks}]\n");
            Config::parse(Path::new("a.toml"), &text).unwrap().warnings.len()
        };
        assert_eq!(warned("\"0.0.0.0/0\""), 1);
        assert_eq!(warned("\"10.0.0.0/8\", \"::/0\""), 1);
        assert_eq!(warned("\"10.0.0.0/8\""), 0);
    }

    #[test]
    fn trailing_dot_of_a_host_is_removed() {
        let hosts = &parse("[listen]\nhosts = [\"audit.example.\"]\n").unwrap()[0].hosts;
        assert!(hosts.names("audit.example") && hosts.names("audit.example.:8080"));
    }

    #[test]
    fn host_with_scheme_port_or_wildcard_is_rejected() {
        assert!(parse("[listen]\nhosts = [\"audit.example\", \"[::1]\"]\n").is_ok());
        for host in ["audit.example:8080", "https://audit.example", "", "*.example", "a b"] {
            rejects(
                &format!("[listen]\nhosts = [{host:?}]\n"),
                &format!(
                    "4: listen.hosts: {host:?} is not a host: write a name or an address, without scheme and port"
                ),
            );
        }
    }

    #[test]
    fn trusted_origin_with_a_path_is_rejected() {
        assert!(parse("[listen]\ntrusted_origins = [\"https://portal.example\", \"https://a:8443\"]\n").is_ok());
        rejects(
            "[listen]\ntrusted_origins = [\"https://portal.example/\"]\n",
            "4: listen.trusted_origins: \"https://portal.example/\" is not an origin: write scheme and host, as in \
             \"https://portal.example.com\", without a path",
        );
    }

    #[test]
    fn trusted_proxy_with_host_bits_is_rejected() {
        rejects(
            "[listen]\ntrusted_proxies = [\"10.0.0.1/8\"]\n",
            "4: listen.trusted_proxies: \"10.0.0.1/8\" has host bits set: write \"10.0.0.0/8\", or \"10.0.0.1\" for that one address",
        );
    }
}
