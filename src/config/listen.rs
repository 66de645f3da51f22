//! `[listen]` as it is written: one table, or one `[[listen]]` a listener.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper::http::uri::Authority;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_spanned::Spanned;

use super::written::{Problem, problem};
use crate::browser::Hosts;
use crate::cidr;
use crate::client_address::TrustedProxies;
use crate::csrf::{BadOrigin, TrustedOrigins};
use crate::listener::{Listener, ToHttps};
use crate::tls::CertificateFiles;

pub(super) struct Listens(Vec<Listen>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Listen {
    address: SocketAddr,
    hosts: Vec<Spanned<String>>,
    trusted_proxies: Vec<Spanned<String>>,
    trusted_origins: Vec<Spanned<String>>,
    proxy_protocol: Option<Spanned<bool>>,
    redirect_to_https: Option<Spanned<bool>>,
    tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    certificate: PathBuf,
    key: PathBuf,
}

impl Listens {
    /// Relative paths start at `folder`.
    pub(super) fn check(self, folder: &Path) -> Result<Vec<Listener>, Problem> {
        let secure = self.0.iter().find(|listen| listen.tls.is_some());
        // Without one, there is something before the gate that speaks TLS.
        let port = secure.map_or(443, |listen| listen.address.port());
        self.0.into_iter().map(|listen| listen.check(folder, port)).collect()
    }
}

impl Listen {
    fn check(self, folder: &Path, https_port: u16) -> Result<Listener, Problem> {
        let trusted_proxies = self.trusted_proxies.iter().map(|text| {
            cidr::parse(text.get_ref()).map_err(|error| problem(text, format!("{:?} {error}", text.get_ref())))
        });
        let trusted_proxies = TrustedProxies::new(trusted_proxies.collect::<Result<_, _>>()?);
        let proxy_protocol = self.proxy_protocol.as_ref().filter(|it| *it.get_ref());
        if let Some(proxy_protocol) = proxy_protocol.filter(|_| trusted_proxies.is_empty()) {
            let message = "is believed from trusted_proxies alone: name the load balancer's networks there";
            return Err(problem(proxy_protocol, message));
        }
        let redirect = self.redirect_to_https.as_ref().filter(|it| *it.get_ref());
        if let Some(redirect) = redirect.filter(|_| self.tls.is_some()) {
            return Err(problem(redirect, "is for a listener without tls"));
        }
        Ok(Listener {
            address: self.address,
            hosts: hosts(&self.hosts)?,
            trusted_proxies,
            trusted_origins: trusted_origins(&self.trusted_origins)?,
            proxy_protocol: proxy_protocol.is_some(),
            to_https: redirect.map(|_| ToHttps { port: https_port }),
            tls: self
                .tls
                .map(|tls| CertificateFiles { certificate: folder.join(tls.certificate), key: folder.join(tls.key) }),
        })
    }
}

/// Host names as they are written, here and for the admin address.
pub(super) fn hosts(written: &[Spanned<String>]) -> Result<Hosts, Problem> {
    let name = |text: &Spanned<String>| {
        let host = text.get_ref();
        // An authority that is nothing but its host.
        let is_host = host.parse().is_ok_and(|authority: Authority| authority.host() == host) && !host.contains('*');
        let message = || format!("{host:?} is no host: write a name or an address, without scheme and port");
        is_host.then(|| host.clone()).ok_or_else(|| problem(text, message()))
    };
    Ok(Hosts::new(written.iter().map(name).collect::<Result<_, _>>()?))
}

fn trusted_origins(written: &[Spanned<String>]) -> Result<TrustedOrigins, Problem> {
    let origin = |text: &Spanned<String>| {
        text.get_ref().parse().map_err(|error: BadOrigin| problem(text, format!("{:?} {error}", text.get_ref())))
    };
    Ok(TrustedOrigins::new(written.iter().map(origin).collect::<Result<_, _>>()?))
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            trusted_origins: Vec::new(),
            proxy_protocol: None,
            redirect_to_https: None,
            tls: None,
        }
    }
}

impl Default for Listens {
    fn default() -> Self {
        Self(vec![Listen::default()])
    }
}

/// By hand, for an untagged enum would lose the places of what is wrong.
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
    fn refuse(listen: &str, expected: &str) {
        let error = parse(listen).expect_err("this configuration is wrong").to_string();
        assert_eq!(error, format!("/etc/trailgate/trailgate.toml:{expected}"));
    }

    #[test]
    fn several_listeners_are_several_tables() {
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
    fn a_mistake_in_one_of_several_listeners_is_found() {
        refuse("[[listen]]\n[[listen]]\naddress = \"x\"\n", "5: listen.address: invalid socket address syntax");
        refuse("[[listen]]\n[listen.tls]\nkey = \"a\"\n", "4: listen.tls: missing field `certificate`");
        let none = "1: invalid length 0, expected [listen], or [[listen]] for each of several";
        let error = Config::parse(Path::new("a.toml"), &format!("listen = []\n{SMALLEST}")).unwrap_err().to_string();
        assert_eq!(error, format!("a.toml:{}", none.replace("1: ", "1: listen: ")));
    }

    #[test]
    fn a_proxy_header_needs_somebody_to_believe() {
        refuse(
            "[listen]\nproxy_protocol = true\n",
            "4: listen.proxy_protocol: is believed from trusted_proxies alone: name the load balancer's networks there",
        );
        let listeners = parse("[listen]\nproxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/16\"]\n").unwrap();
        assert!(listeners[0].proxy_protocol);
    }

    #[test]
    fn a_listener_with_tls_does_not_redirect_to_itself() {
        refuse(
            "[listen]\nredirect_to_https = true\n[listen.tls]\ncertificate = \"a\"\nkey = \"b\"\n",
            "4: listen.redirect_to_https: is for a listener without tls",
        );
    }

    #[test]
    fn a_host_is_a_name_alone() {
        assert!(parse("[listen]\nhosts = [\"audit.example\", \"[::1]\"]\n").is_ok());
        for host in ["audit.example:8080", "https://audit.example", "", "*.example", "a b"] {
            refuse(
                &format!("[listen]\nhosts = [{host:?}]\n"),
                &format!("4: listen.hosts: {host:?} is no host: write a name or an address, without scheme and port"),
            );
        }
    }

    #[test]
    fn trusted_origin_with_a_path_is_rejected() {
        assert!(parse("[listen]\ntrusted_origins = [\"https://portal.example\", \"https://a:8443\"]\n").is_ok());
        refuse(
            "[listen]\ntrusted_origins = [\"https://portal.example/\"]\n",
            "4: listen.trusted_origins: \"https://portal.example/\" is no origin: write scheme and host, as in \
             \"https://portal.example.com\", without a path",
        );
    }

    #[test]
    fn a_trusted_proxy_is_a_network_without_host_bits() {
        refuse(
            "[listen]\ntrusted_proxies = [\"10.0.0.1/8\"]\n",
            "4: listen.trusted_proxies: \"10.0.0.1/8\" has host bits set: write \"10.0.0.0/8\", or \"10.0.0.1\" for that one address",
        );
    }
}
