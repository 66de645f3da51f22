//! Several listeners, the redirect to https, and load balancers that forward TCP.

use hyper::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{RawAnswer, Rig, Setup, allow, header, json, patiently, request};

async fn listening(listen: &str, allowed: &str) -> Rig {
    let config = format!("[[listen]]\n{listen}\n");
    Rig::with(Setup { config, allow: allow(allowed), ..Setup::default() }).await
}

#[tokio::test]
async fn listener_redirects_listed_clients_to_https() {
    let rig = listening("redirect_to_https = 443", "127.0.0.1").await;
    let response = rig.get("/_search?q=a").await;
    assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(header(&response, "location"), Some("https://gate.test/_search?q=a"));
    assert_eq!(rig.access_line().await["outcome"], "redirected");
    rig.allow(&allow("203.0.113.7"));
    assert_eq!(rig.get("/").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn request_that_came_by_https_is_not_redirected() {
    let https = [("x-forwarded-proto", "https")];
    let rig = listening("redirect_to_https = 443\ntrusted_proxies = [\"127.0.0.1\"]", "127.0.0.1").await;
    assert_eq!(rig.send(request("GET", "/", &https, "")).await.status(), StatusCode::OK);
    assert_eq!(rig.get("/").await.status(), StatusCode::PERMANENT_REDIRECT);
    let untrusting = listening("redirect_to_https = 443", "127.0.0.1").await;
    assert_eq!(untrusting.send(request("GET", "/", &https, "")).await.status(), StatusCode::PERMANENT_REDIRECT);
}

const BALANCED: &str = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]";
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

async fn sent(rig: &Rig, proxy_header: &str) -> String {
    rig.raw(format!("{proxy_header}{REQUEST}").as_bytes()).await
}

/// Asserts that the connection is closed. The bytes sent stay unread, so it may be reset instead.
async fn is_closed(rig: &Rig, proxy_header: &str) {
    let mut stream = rig.open().await;
    stream.write_all(format!("{proxy_header}{REQUEST}").as_bytes()).await.unwrap();
    assert!(matches!(patiently(stream.read(&mut [0])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn proxy_header_of_a_load_balancer_names_the_client() {
    let rig = listening(BALANCED, "203.0.113.7").await;
    let answer = RawAnswer::only(&sent(&rig, "PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n").await);
    assert_eq!(answer.status, 200);
    assert_eq!(rig.access_line().await["client"], "203.0.113.7");
    assert_eq!(rig.domain.seen()[0].header("x-forwarded-for"), Some("203.0.113.7"));
    let answer = RawAnswer::only(&sent(&rig, "PROXY TCP4 203.0.113.8 10.0.0.1 51234 443\r\n").await);
    assert_eq!(answer.status, 403);
    assert!(answer.json()["error"]["reason"].as_str().unwrap().contains("203.0.113.8"));
}

#[tokio::test]
async fn x_forwarded_for_behind_a_proxy_header_is_ignored() {
    let rig = listening(BALANCED, "203.0.113.7").await;
    let spoofed = REQUEST.replace("host: a", "host: a\r\nx-forwarded-for: 203.0.113.7");
    let bytes = format!("PROXY TCP4 198.51.100.9 10.0.0.1 51234 443\r\n{spoofed}");
    assert_eq!(RawAnswer::only(&rig.raw(bytes.as_bytes()).await).status, 403);
}

#[tokio::test]
async fn load_balancer_with_a_local_header_is_the_client() {
    let rig = listening(BALANCED, "203.0.113.7").await;
    let local = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let answer = RawAnswer::only(&sent(&rig, local).await);
    assert_eq!(answer.status, 403);
    assert!(answer.json()["error"]["reason"].as_str().unwrap().contains("127.0.0.1"));
}

/// A load balancer that forwards TCP also forwards the bytes of a client that it cannot name.
#[tokio::test]
async fn x_forwarded_for_of_an_unnamed_client_is_ignored() {
    let rig = listening(BALANCED, "203.0.113.7").await;
    let spoofed = REQUEST.replace("host: a", "host: a\r\nx-forwarded-for: 203.0.113.7");
    let unspecified = "\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";
    let unix = format!("\r\n\r\n\0\r\nQUIT\n\x21\x31\0\u{d8}{}", "\0".repeat(216));
    for header in ["PROXY UNKNOWN\r\n", unspecified, &unix] {
        // Each character is one byte.
        let bytes: Vec<u8> = format!("{header}{spoofed}").chars().map(|it| u8::try_from(it).unwrap()).collect();
        let answer = RawAnswer::only(&rig.raw(&bytes).await);
        assert_eq!(answer.status, 403, "{header:?}");
        assert!(answer.json()["error"]["reason"].as_str().unwrap().contains("127.0.0.1"), "{header:?}");
    }
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn connection_without_the_required_proxy_header_is_closed() {
    let rig = listening(BALANCED, "127.0.0.1").await;
    is_closed(&rig, "").await;
    is_closed(&rig, "PROXY TCP4 nonsense\r\n").await;
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn proxy_header_of_an_untrusted_peer_closes_the_connection() {
    let rig = listening("proxy_protocol = true\ntrusted_proxies = [\"10.0.0.0/8\"]", "203.0.113.7").await;
    is_closed(&rig, "PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n").await;
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn unexpected_proxy_header_is_rejected() {
    let rig = listening("trusted_proxies = [\"127.0.0.1\"]", "203.0.113.7").await;
    let answer = RawAnswer::only(&sent(&rig, "PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\n").await);
    assert_eq!(answer.json()["error"]["type"], "malformed_request");
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn unlisted_clients_leave_connections_for_listed_ones() {
    let config = "[limits]\nconnections = 20\n".to_owned();
    let rig = Rig::with(Setup { config, allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let mut strangers = Vec::new();
    for _ in 0..2 {
        strangers.push(rig.connect().await);
        assert_eq!(strangers.last_mut().unwrap().send(crate::support::get("/")).await.status(), StatusCode::FORBIDDEN);
    }
    rig.allow(&allow("127.0.0.1"));
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn unlisted_clients_beyond_their_share_are_rejected() {
    let config = "[limits]\nconnections = 20\n".to_owned();
    let rig = Rig::with(Setup { config, allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let _held = [rig.open().await, rig.open().await];
    let response = rig.get("/").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(&response)["error"]["type"], "too_busy");
}
