"""The upstream and the proxies, each as its own documents advise for speed, with an access log in a file."""
import contextlib
import os
import socket
import subprocess
import time


@contextlib.contextmanager
def started(command, port, core, log, environment=None):
    """A program on one core, once it listens."""
    environment = {**os.environ, **(environment or {})}
    child = subprocess.Popen(["taskset", "-c", core, *command], stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and child.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"{command[0]} does not start; see {log.name}")
        yield child
    finally:
        child.terminate()
        child.wait()


class Upstream:
    """nginx with fixed answers."""

    def __init__(self, port, status, tls):
        self.port, self.status, self.tls = port, status, tls

    def connections(self):
        """How many it has accepted so far."""
        with socket.create_connection(("127.0.0.1", self.status)) as status:
            status.sendall(b"GET /status HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: status.recv(4096), b"")).decode()
        return int(text.split("requests\n")[1].split()[0])


@contextlib.contextmanager
def upstream(folder, tls, core):
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
        with started(["nginx", "-c", str(folder / "upstream.conf")], status, core, log):
            yield Upstream(port, status, tls)


def nginx(folder, upstream, _gate):
    """With memory for bodies, for by default it writes the large ones to disk."""
    port = free_port()
    scheme = "https" if upstream.tls else "http"
    config = f"""
{USER} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/nginx-access.log combined buffer=64k flush=1s; keepalive_requests 1000000;
  client_max_body_size 0; client_body_buffer_size 16m; proxy_max_temp_file_size 0;
  upstream domain {{ server 127.0.0.1:{upstream.port}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass {scheme}://domain; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""
    (folder / "nginx.conf").write_text(config)
    return ["nginx", "-c", str(folder / "nginx.conf")], port, None


def haproxy(folder, upstream, _gate):
    port = free_port()
    tls = "ssl verify none" if upstream.tls else ""
    config = f"""
global
  nbthread 1
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
  bind 127.0.0.1:{port}
  default_backend domain
backend domain
  server one 127.0.0.1:{upstream.port} {tls} pool-max-conn 64
"""
    (folder / "haproxy.cfg").write_text(config)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], port, None


def trailgate(folder, upstream, gate):
    port = free_port()
    scheme = "https" if upstream.tls else "http"
    config = f"""
[listen]
address = "127.0.0.1:{port}"
[upstream]
endpoint = "{scheme}://127.0.0.1:{upstream.port}"
ca_file = "cert.pem"
[aws]
region = "eu-west-1"
service = "es"
[admin]
address = "off"
"""
    (folder / "trailgate.toml").write_text(config)
    entries = [f'[[allow]]\ncidr = "10.{n >> 8}.{n & 255}.0/24"\nname = "n{n}"\n' for n in range(9)]
    entries.append('[[allow]]\ncidr = "127.0.0.1"\nname = "bench"\naccess = "full"\n')
    (folder / "allowlist.toml").write_text("".join(entries))
    environment = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "TOKIO_WORKER_THREADS": "1"}
    return [str(gate), "run", "--config", str(folder / "trailgate.toml")], port, environment


PORTS = iter(range(18_800, 19_800))

# As root, nginx would read the files as somebody else.
USER = "user root;" if os.getuid() == 0 else ""

PEERS = [nginx, haproxy, trailgate]


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
