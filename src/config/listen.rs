//! `[listen]` as written in the file: one table, or one `[[listen]]` per listener.

#[cfg(test)]
mod tests;

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
        let port = |redirect: &Spanned<Redirect>| match redirect.get_ref() {
            Redirect::To(port) => Ok(port.get()),
            Redirect::Is(_) => https_port.ok_or_else(|| problem_at(redirect, WITHOUT_TLS)),
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

const WITHOUT_TLS: &str = "leads nowhere, because no [[listen]] has tls: write the port of what speaks TLS in front of \
                           this, like 443";

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
