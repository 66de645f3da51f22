//! A node of the domain that vanishes without FIN or RST, in network namespaces of their own.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::program::{Program, command, path};
use crate::support::{allow, patiently};

/// The namespace of the proxy and those of two nodes, each on a network of its own; they go when this is dropped.
struct Network {
    proxy: String,
    nodes: [String; 2],
}

impl Network {
    async fn new() -> Self {
        let id = std::process::id();
        let network = Self { proxy: format!("tg{id}p"), nodes: [1, 2].map(|node| format!("tg{id}n{node}")) };
        ip(&["netns", "add", &network.proxy]).await;
        ip(&["-n", &network.proxy, "link", "set", "lo", "up"]).await;
        for (number, node) in (1..).zip(&network.nodes) {
            let (here, there) = (format!("tg{id}h{number}"), format!("tg{id}t{number}"));
            ip(&["netns", "add", node]).await;
            let peer = ["type", "veth", "peer", "name", &there, "netns", node];
            ip(&[&["link", "add", &here, "netns", &network.proxy], &peer[..]].concat()).await;
            for (namespace, name, host) in [(&network.proxy, &here, 1), (node, &there, 2)] {
                ip(&["-n", namespace, "addr", "add", &format!("10.213.{number}.{host}/30"), "dev", name]).await;
                ip(&["-n", namespace, "link", "set", name, "up"]).await;
            }
        }
        // `ip netns exec` lays what is there over /etc.
        let hosts = "127.0.0.1 localhost\n10.213.1.2 domain.test\n10.213.2.2 domain.test\n";
        let folder = Path::new("/etc/netns").join(&network.proxy);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("hosts"), hosts).unwrap();
        network
    }

    /// Starts a web server on a node, which keeps connections open.
    async fn serve(&self, node: usize) -> Child {
        let address = format!("10.213.{}.2", node + 1);
        let mut server = inside(&self.nodes[node], "python3");
        server.args(["-m", "http.server", "--protocol", "HTTP/1.1", "--bind", &address, "8000"]);
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        let url = format!("http://{address}:8000/");
        let listens = async {
            while !inside(&self.proxy, "curl").args(["-so", "/dev/null", &url]).status().await.unwrap().success() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        patiently(listens).await;
        server
    }

    /// Takes a node's address away, so that nothing it is sent is answered, and no neighbor discovery notices.
    async fn remove_address(&self, node: usize) {
        let (id, number) = (std::process::id(), node + 1);
        let (here, there) = (format!("tg{id}h{number}"), format!("tg{id}t{number}"));
        let mut show = inside(&self.nodes[node], "cat");
        let hardware = show.arg(format!("/sys/class/net/{there}/address")).output().await.unwrap().stdout;
        let (address, hardware) = (format!("10.213.{number}.2"), String::from_utf8(hardware).unwrap());
        let neighbor = ["neigh", "replace", &address, "lladdr", hardware.trim(), "dev", &here, "nud", "permanent"];
        ip(&[&["-n", &self.proxy], &neighbor[..]].concat()).await;
        ip(&["-n", &self.nodes[node], "addr", "flush", "dev", &there]).await;
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.nodes.iter().chain([&self.proxy]) {
            let _ = std::process::Command::new("ip").args(["netns", "del", namespace]).status();
        }
        let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(&self.proxy));
    }
}

async fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

#[tokio::test]
#[ignore = "needs root, iproute2, Python and curl"]
async fn vanished_node_costs_no_idempotent_request() {
    let network = Network::new().await;
    let _first = network.serve(0).await;
    let folder = tempfile::tempdir().unwrap();
    let config = "[listen]\naddress = \"127.0.0.1:0\"\n[upstream]\nendpoint = \"http://domain.test:8000\"\n\
                  allow_plaintext = true\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n\
                  [admin]\naddress = \"127.0.0.1:0\"\n";
    std::fs::write(folder.path().join("trailgate.toml"), config).unwrap();
    std::fs::write(folder.path().join("allowlist.toml"), allow("127.0.0.1")).unwrap();
    let outside = command(&["run", "--config", &path(&folder, "trailgate.toml")]);
    let program = outside.as_std().get_program().to_str().unwrap();
    let mut run = inside(&network.proxy, program);
    run.args(outside.as_std().get_args())
        .envs(outside.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    run.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let gate = Program::of(run, folder).await;
    let status = async || {
        let mut curl = inside(&network.proxy, "curl");
        curl.args(["-so", "/dev/null", "-w", "%{http_code}", &format!("http://{}/", gate.address)]);
        String::from_utf8(curl.output().await.unwrap().stdout).unwrap()
    };
    // Only the first node listens, so the pooled connection is to it.
    assert_eq!(status().await, "200");
    let _second = network.serve(1).await;
    network.remove_address(0).await;
    // Without TCP_USER_TIMEOUT it is a 504 after the response timeout of five minutes.
    let answer = timeout(Duration::from_mins(2), status()).await.expect("the connection is given up");
    assert_eq!(answer, "200");
}
