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
    let both = |one: &str, other: &str| format!("[[listen]]\naddress = \"{one}\"\n[[listen]]\naddress = \"{other}\"\n");
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
        format!("{line}: {key}.address: {one} of a [[listen]] and {other} of admin.address overlap: write another port")
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
            &format!("4: listen.hosts: {host:?} is not a host: write a name or an address, without scheme and port"),
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
