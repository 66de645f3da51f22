"""The upstream and the proxies, each as its own documents advise for speed, with an access log in a file."""
import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import time


@dataclasses.dataclass
class Setting:
    """What all proxies are to be set up with."""

    folder: pathlib.Path
    upstream: "Upstream"
    trailgate: pathlib.Path
    envoy: str
    workers: int
    is_tls: bool  # towards clients
    entries: int  # of the allowlist


@contextlib.contextmanager
def started(command, port, cores, log, environment=None):
    """A program on these cores, once it listens."""
    environment = {**os.environ, **(environment or {})}
    child = subprocess.Popen(["taskset", "-c", cores, *command], stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and child.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"{command[0]} does not start:\n{open(log.name).read()[-2000:]}")
        yield child
    finally:
        child.terminate()
        child.wait()


class Upstream:
    """nginx with fixed answers."""

    def __init__(self, pid, port, status, tls):
        self.pid, self.port, self.status, self.tls = pid, port, status, tls

    @property
    def url(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def connections(self):
        """How many it has accepted so far."""
        with socket.create_connection(("127.0.0.1", self.status)) as status:
            status.sendall(b"GET /status HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: status.recv(4096), b"")).decode()
        return int(text.split("requests\n")[1].split()[0])


@contextlib.contextmanager
def upstream(folder, tls, cores):
    port, status = free_port(), free_port()
    certificate(folder)
    with open(folder / "100m", "wb") as large:
        large.truncate(100 * 1024 * 1024)
    (folder / "1k").write_text('{"hits": "' + "x" * 1012 + '"}')
    secure = f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;" if tls else ""
    config = f"""
{USER} worker_processes 1; daemon off; pid {folder}/upstream.pid; error_log {folder}/upstream.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000; client_max_body_size 0; client_body_buffer_size 16m; sendfile on;
  types {{ }} default_type application/json;
  server {{
    listen 127.0.0.1:{port}{" ssl" if tls else ""} backlog=4096; {secure} root {folder};
    location /_bulk {{ return 200 '{{"took":1,"errors":false}}'; }}
  }}
  server {{
    listen 127.0.0.1:{status};
    location /status {{ stub_status; }}
  }}
}}
"""
    (folder / "upstream.conf").write_text(config)
    with open(folder / "upstream.log", "wb") as log:
        with started(["nginx", "-c", str(folder / "upstream.conf")], status, cores, log) as child:
            yield Upstream(child.pid, port, status, tls)


def nginx(setting):
    """Configures memory for bodies, because by default it writes the large ones to disk."""
    folder, port = setting.folder, free_port()
    secure = f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;" if setting.is_tls else ""
    scheme = setting.upstream.url.split(":")[0]
    config = f"""
{USER} worker_processes {setting.workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 16384; }}
http {{
  access_log {folder}/nginx-access.log combined buffer=64k flush=1s; keepalive_requests 1000000;
  client_max_body_size 0; client_body_buffer_size 16m; proxy_max_temp_file_size 0;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:a:10m;
  upstream domain {{ server 127.0.0.1:{setting.upstream.port}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port}{" ssl http2" if setting.is_tls else ""} backlog=4096; {secure}
    location / {{ proxy_pass {scheme}://domain; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
    (folder / "nginx.conf").write_text(config)
    return ["nginx", "-c", str(folder / "nginx.conf")], port, None


def haproxy(setting):
    folder, port = setting.folder, free_port()
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    secure = f"ssl crt {folder}/both.pem alpn h2,http/1.1" if setting.is_tls else ""
    tls = "ssl verify none" if setting.upstream.tls else ""
    config = f"""
global
  nbthread {setting.workers}
  maxconn 8192
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend gate
  bind 127.0.0.1:{port} {secure}
  default_backend domain
backend domain
  server one 127.0.0.1:{setting.upstream.port} {tls} pool-max-conn 64
"""
    (folder / "haproxy.cfg").write_text(config)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], port, None


def envoy(setting):
    """It signs, too."""
    folder, port = setting.folder, free_port()
    extension = "type.googleapis.com/envoy.extensions"

    def typed(name, kind, **config):
        return {"name": name, "typed_config": {"@type": f"{extension}.{kind}", **config}}

    def socket_address(port):
        return {"socket_address": {"address": "127.0.0.1", "port_value": port}}

    pair = {"certificate_chain": {"filename": f"{folder}/cert.pem"}, "private_key": {"filename": f"{folder}/key.pem"}}
    ours = {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]}
    theirs = {"validation_context": {"trusted_ca": {"filename": f"{folder}/cert.pem"}}}
    down = typed("tls", "transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=ours)
    up = typed("tls", "transport_sockets.tls.v3.UpstreamTlsContext", common_tls_context=theirs)
    route = {"match": {"prefix": "/"}, "route": {"cluster": "domain", "timeout": "0s"}}
    manager = typed(
        "manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="gate",
        # For openssl s_time, which speaks nothing later, and waits for the server to close.
        http_protocol_options={"accept_http_10": True},
        delayed_close_timeout="0s",
        access_log=[typed("file", "access_loggers.file.v3.FileAccessLog", path=f"{folder}/envoy-access.log")],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            typed("sign", "filters.http.aws_request_signing.v3.AwsRequestSigning", service_name="es", region="eu-west-1"),
            typed("router", "filters.http.router.v3.Router"),
        ],
    )
    chain = {"filters": [manager], **({"transport_socket": down} if setting.is_tls else {})}
    domain = {"lb_endpoints": [{"endpoint": {"address": socket_address(setting.upstream.port)}}]}
    cluster = {"name": "domain", "type": "STATIC", "connect_timeout": "5s"}
    cluster["load_assignment"] = {"cluster_name": "domain", "endpoints": [domain]}
    cluster |= {"transport_socket": up} if setting.upstream.tls else {}
    listener = {"name": "gate", "address": socket_address(port), "filter_chains": [chain]}
    listener["per_connection_buffer_limit_bytes"] = 16 * 1024 * 1024
    config = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    (folder / "envoy.json").write_text(json.dumps(config))
    command = [setting.envoy, "-c", str(folder / "envoy.json"), "--concurrency", str(setting.workers)]
    return [*command, "--disable-hot-restart", "--log-level", "error"], port, KEY


def trailgate(setting):
    folder, port = setting.folder, free_port()
    secure = 'tls = { certificate = "cert.pem", key = "key.pem" }' if setting.is_tls else ""
    config = f"""
[listen]
address = "127.0.0.1:{port}"
{secure}
[upstream]
endpoint = "{setting.upstream.url}"
ca_file = "cert.pem"
[aws]
region = "eu-west-1"
service = "es"
[admin]
address = "off"
"""
    (folder / "trailgate.toml").write_text(config)
    others = (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(setting.entries - 1))
    entries = [f'[[allow]]\ncidr = "{address}"\nname = "{address}"\n' for address in others]
    entries.append('[[allow]]\ncidr = "127.0.0.1"\nname = "bench"\naccess = "full"\n')
    (folder / "allowlist.toml").write_text("".join(entries))
    return [str(setting.trailgate), "run", "--config", str(folder / "trailgate.toml")], port, KEY


KEY = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}

PORTS = iter(range(18_800, 19_800))

# As root, nginx would read the files as another user.
USER = "user root;" if os.getuid() == 0 else ""

PEERS = [nginx, haproxy, envoy, trailgate]


def certificate(folder):
    """One for this machine that vouches for itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)


def free_port():
    """Below those that the system gives to clients, so that no client takes it meanwhile; no port is given twice."""
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SystemExit("no port is free")
