//! The steps of the demo: requests of a few clients that show the effect of the allowlist.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use fake_domain::{FakeDomain, Fault, Times};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::sleep;

/// The proxy, the domain and the files that the steps use.
pub(crate) struct Story<'a> {
    pub(crate) domain: &'a FakeDomain,
    pub(crate) proxy: SocketAddr,
    /// The path of `trailgate`.
    pub(crate) program: PathBuf,
    pub(crate) allowlist: PathBuf,
}

const AUDITOR: &str = "203.0.113.7";
const CONTRACTOR: &str = "203.0.113.8";
const GUEST: &str = "203.0.113.9";
const SEARCH: &str = "/cwl-*/_search?size=1";
/// The time after which the contractor's grant ends.
const GRANT: Duration = Duration::from_mins(1);

/// Returns the allowlist at the start.
pub(crate) fn allowlist(now: Timestamp) -> anyhow::Result<String> {
    let end = now.checked_add(GRANT)?;
    Ok(format!(
        "[[allow]]\ncidr = \"127.0.0.1\"\nname = \"this machine\"\naccess = \"full\"\n\n\
         [[allow]]\ncidr = \"{AUDITOR}\"\nname = \"Auditor\"\naccess = \"read\"\n\n\
         [[allow]]\ncidr = \"{CONTRACTOR}\"\nname = \"Contractor\"\naccess = \"read\"\nexpires = {end:.0}\n"
    ))
}

impl Story<'_> {
    /// Runs the steps, which take a minute.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        say(&format!("1. The auditor ({AUDITOR}, access = \"read\") searches the events."));
        self.send("GET", SEARCH, AUDITOR).await?;
        say("2. The auditor tries to delete an index. A read grant covers reads only.");
        self.send("DELETE", "/cwl-2023.07.10", AUDITOR).await?;
        say(&format!("3. A guest ({GUEST}) is not on the allowlist."));
        self.send("GET", SEARCH, GUEST).await?;
        say("4. The operator adds the guest to the allowlist. The change takes effect within a second.");
        self.allow(&["add", GUEST, "--name", "Guest", "--for", "1h"]).await?;
        self.wait_until_listed(GUEST).await?;
        self.send("GET", SEARCH, GUEST).await?;
        say(&format!("5. The contractor ({CONTRACTOR}) starts a long download. Its grant expires within a minute."));
        self.download_until_cut().await?;
        say("6. The contractor's next request is rejected. The error names the time of expiry.");
        self.send("GET", SEARCH, CONTRACTOR).await?;
        say("7. The operator removes the guest from the allowlist.");
        self.allow(&["remove", "Guest"]).await?;
        say("Done. From now on the auditor searches every two seconds; watch the status page.");
        Ok(())
    }

    /// Searches until the program is stopped.
    pub(crate) async fn keep_searching(&self) -> anyhow::Result<()> {
        loop {
            sleep(Duration::from_secs(2)).await;
            self.request("GET", SEARCH, AUDITOR).await?.into_body().collect().await?;
        }
    }

    /// Reads half of a response, the rest of which the domain holds back, until the proxy cuts it.
    async fn download_until_cut(&self) -> anyhow::Result<()> {
        self.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::Once);
        let response = self.request("GET", "/cwl-*/_search?size=1000", CONTRACTOR).await?;
        println!("     {}, downloading ...", response.status());
        let mut body = response.into_body();
        let mut bytes = 0;
        loop {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => break,
                None => anyhow::bail!("the download ended before the grant expired"),
            }
        }
        println!("     the grant expired: trailgate cut the response after {bytes} bytes");
        Ok(())
    }

    /// Waits until the proxy has loaded an entry for `client`: within a second.
    async fn wait_until_listed(&self, client: &str) -> anyhow::Result<()> {
        for _ in 0..100 {
            sleep(Duration::from_millis(500)).await;
            if self.request("GET", "/", client).await?.status().is_success() {
                return Ok(());
            }
        }
        anyhow::bail!("the entry for {client} is not in effect after 50 seconds")
    }

    async fn allow(&self, arguments: &[&str]) -> anyhow::Result<()> {
        println!("     $ trailgate allow {}", arguments.join(" "));
        let mut allow = Command::new(&self.program);
        allow.arg("allow").args(arguments).arg("--file").arg(&self.allowlist);
        let output = allow.output().await.context("cannot run trailgate allow")?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        print!("     {}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    }

    /// Sends a request, and prints the response in a line.
    async fn send(&self, method: &str, path: &str, client: &str) -> anyhow::Result<()> {
        let response = self.request(method, path, client).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let rejection = body["error"]["reason"].as_str().zip(body["error"]["help"].as_str());
        let text =
            rejection.map_or_else(String::new, |(reason, help)| format!(": {}. {help}", reason.trim_end_matches('.')));
        println!("     {method} {path} -> {status}{text}");
        Ok(())
    }

    async fn request(&self, method: &str, path: &str, client: &str) -> anyhow::Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.proxy).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.header("x-forwarded-for", client).body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }
}

fn say(text: &str) {
    println!("\n  {text}");
}
