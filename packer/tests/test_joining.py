"""An instance's first boot: the user data of the stack's launch template, from its first line to its last.

moto has the bucket, the parameter and the address, Amazon's mock the instance's metadata, the stand-in the domain. Three
things are not Amazon's: Debian is the system, cfn-signal, which no registry has, writes down its arguments, and so does
the lifecycle action, which moto lacks.
"""

import contextlib
import datetime
import hashlib
import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from guest import CONSOLE, PATIENCE, ROOT, booted
from template import ACCOUNT, REGION, STACK, Stack

BUNDLE = ROOT / "target/bundle/trailgate-x86_64.tar.gz"
METADATA = "169.254.169.254"
# An address of the network that the mock says the instance is in.
BALANCER = "192.0.2.1"
# The role's temporary keys.
KEYS = {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}
PROGRAMS = {
    "/usr/local/bin/aws": 'if [ "$2" = complete-lifecycle-action ]; then echo "$@" >/tmp/lifecycle; exit; fi\n'
    'PYTHONPATH=/opt/aws/packages exec python3 -B -m awscli "$@"',
    "/opt/aws/bin/cfn-signal": 'echo "$@" >/tmp/signal',
}


@contextlib.contextmanager
def running(*command, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def metadata(instance, folder):
    """The instance's metadata service, where every instance has it.

    It is at the other end of a cable, in a network of its own: the gate takes the port on all addresses of this one.
    """
    keys = dict(zip(("AccessKeyId", "SecretAccessKey", "Token"), KEYS.values(), strict=True))
    role = {"Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC"} | keys
    role["Expiration"] = "2099-01-01T00:00:00Z"
    values = {"instance-id": instance, "iam-security-credentials": role}
    (folder / "metadata.json").write_text(json.dumps({"metadata": {"values": values}}))
    mock = f"""
until ip link show metadata; do sleep 0.1; done
ip address add {METADATA}/30 dev metadata && ip link set metadata up
exec {ROOT}/target/aws/bin/ec2-metadata-mock --hostname {METADATA} --port 80 --imdsv2 -c {folder}/metadata.json
"""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running("unshare", "--net", "bash", "-c", mock, **quiet) as player:
        end = time.monotonic() + PATIENCE
        while os.readlink(f"/proc/{player.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            assert time.monotonic() < end
            time.sleep(0.1)
        for command in (
            f"link add instance type veth peer name metadata netns {player.pid}",
            "address add 169.254.169.253/30 dev instance",
            "link set instance up",
        ):
            subprocess.run(["ip", *command.split()], check=True)
        while not answers(f"http://{METADATA}/"):
            assert time.monotonic() < end
            time.sleep(0.1)
        yield


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        pass
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def domain():
    """The stand-in for a domain, which takes what the role or a session of its STS has signed; the URLs of both."""
    serve = (ROOT / "target/debug/fake-domain", "serve", "--region", REGION, "--sts")
    with running(*serve, env=os.environ | KEYS, stdout=subprocess.PIPE, text=True) as serving:
        yield tuple(serving.stdout.readline().split(" on ")[1].strip() for _ in range(2))


class Instance:
    """A machine that the stack has started, before its user data runs."""

    def __init__(self, machine, aws, sts, name, settings):
        self.machine = machine
        self._endpoints = f"AWS_ENDPOINT_URL={aws.endpoint} AWS_ENDPOINT_URL_STS={sts}"
        self.id = name
        self._aws = aws
        self._settings = settings

    def start(self, **parameters):
        """Runs the user data of a stack; returns how it ended, and the arguments of cfn-signal."""
        parameters = {"GateBundleSha256": hashlib.sha256(BUNDLE.read_bytes()).hexdigest()} | parameters
        script = Stack(**parameters).properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
        for written, found in self._settings.items():
            script = script.replace(f"{written}\n", f"{found}\n")
        self.machine.write("/tmp/user-data", script)
        done = self.machine.run(f"{self._endpoints} bash /tmp/user-data")
        return done, self.machine.output("cat /tmp/signal")

    def reach_aws(self):
        """Points the services at AWS, until the next boot."""
        self.machine.output(f"systemctl set-environment {self._endpoints}")

    def address(self):
        """Returns EC2's description of the stack's address."""
        (address,) = self._aws.client("ec2").describe_addresses()["Addresses"]
        return address

    def follow(self):
        """Runs the service that the timer starts each minute."""
        self.machine.output("systemctl start trailgate-follow")


@pytest.fixture(scope="module")
def instance(aws, domain, tmp_path_factory):
    (endpoint, sts), ec2, s3 = domain, aws.client("ec2"), aws.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.upload_file(BUNDLE, "code", "gate.tar.gz")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    (started,) = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]
    address = ec2.allocate_address(Domain="vpc")

    # What the template's resources are called, and what they are.
    settings = {
        "ENDPOINT=https://CloudTrailESDomain.DomainEndpoint": f"ENDPOINT={endpoint}",
        "ADDRESS=GateAddress": f"ADDRESS={address['PublicIp']}",
        "ADDRESS_ALLOCATION=GateAddress.AllocationId": f"ADDRESS_ALLOCATION={address['AllocationId']}",
    }
    with booted() as machine, metadata(started["InstanceId"], tmp_path_factory.mktemp("metadata")):
        for path, body in PROGRAMS.items():
            machine.write(path, f"#!/bin/sh\n{body}\n")
            machine.output(f"chmod +x {path}")
        made = Instance(machine, aws, sts, started["InstanceId"], settings)
        made.reach_aws()
        yield made


@pytest.fixture(scope="module")
def joined(aws, instance):
    aws.put_allowlist(Stack().properties("Allowlist")["Value"])
    done, told = instance.start()
    assert (done.returncode, told) == (0, told_by(0)), done.stdout + done.stderr
    return instance


def told_by(code):
    """Returns the arguments of cfn-signal for user data that ends with this code."""
    stack = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1"
    return f"-e {code} --stack {stack} --resource GateGroup --region {REGION}"


def ask(joined):
    """Asks on the machine for the status that somebody gets who trusts its certificate and knows its address."""
    trust = "--cacert /etc/trailgate/tls/certificate.pem --connect-to ::127.0.0.1:"
    return f"curl -s -o /dev/null -w '%{{http_code}}' {trust} https://{joined.address()['PublicIp']}/_search"


def test_bundle_that_is_not_the_stack_s_is_not_unpacked(instance):
    done, told = instance.start(GateBundleSha256="0" * 64)
    assert (done.returncode, told) == (1, told_by(1)), done.stdout + done.stderr
    assert "/root/trailgate.tar.gz: FAILED" in done.stdout + done.stderr
    assert instance.machine.run("test -e /root/trailgate").returncode != 0


def test_first_start_without_an_allowlist_fails_the_stack(aws, instance):
    aws.put_allowlist("nonsense")
    done, told = instance.start()
    assert (done.returncode, told) == (1, told_by(1)), done.stdout + done.stderr
    assert instance.machine.run("systemctl is-active trailgate").stdout.strip() == "inactive"
    # In a refresh the group gives it up, and keeps the old one.
    assert instance.machine.run("test -e /tmp/lifecycle").returncode != 0


def test_gate_answers_listed_client_at_the_stack_s_address(joined):
    assert joined.machine.output(ask(joined)) == "200"
    assert joined.address()["InstanceId"] == joined.id


def test_joined_gate_completes_its_lifecycle_action(joined):
    (hook,) = Stack().properties("GateGroup")["LifecycleHookSpecificationList"]
    expected = f"autoscaling complete-lifecycle-action --auto-scaling-group-name {STACK}"
    expected += f" --lifecycle-hook-name {hook['LifecycleHookName']} --instance-id {joined.id}"
    assert joined.machine.output("cat /tmp/lifecycle") == f"{expected} --lifecycle-action-result CONTINUE"


def test_the_fingerprint_is_on_the_console(joined):
    shown = joined.machine.output("openssl x509 -in /etc/trailgate/tls/certificate.pem -noout -fingerprint -sha256")
    assert f"trailgate: certificate {shown}" in CONSOLE.read_text(errors="replace")


def test_both_ports_are_systemd_s_and_port_80_leads_to_443(joined):
    listen = joined.machine.output("systemctl show -P Listen trailgate.socket")
    assert listen.split()[::2] == ["0.0.0.0:443", "0.0.0.0:80"]
    location = "curl -s -o /dev/null -w '%{redirect_url}' http://127.0.0.1/"
    assert joined.machine.output(location) == "https://127.0.0.1/"


def test_a_reboot_comes_back(joined):
    joined.machine.reboot()
    joined.reach_aws()
    joined.machine.wait(f"[ $({ask(joined)}) = 200 ]")
    assert joined.machine.output("systemctl is-active trailgate-follow.timer") == "active"


def test_a_gate_that_answers_is_ready(aws, joined):
    joined.follow()
    assert aws.sent("ready")[0] == 1


def test_age_of_the_release_is_sent(aws, joined):
    joined.machine.write("/etc/os-release", 'NAME="Amazon Linux"\nPRETTY_NAME="Amazon Linux 2023.6.20250218"')
    joined.follow()
    age = (datetime.datetime.now(datetime.UTC) - datetime.datetime(2025, 2, 18, tzinfo=datetime.UTC)).days
    # The machine may be in the next day by now.
    assert aws.sent("image_age_days")[0] in (age, age - 1)
    alarm = Stack().properties("ImageAgeAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("trailgate", "image_age_days")
    assert alarm["Dimensions"] == [{"Name": "Stack", "Value": STACK}]


def test_bad_parameter_keeps_the_list_and_sends_the_metric(aws, joined):
    aws.put_allowlist("nonsense")
    joined.follow()
    assert aws.sent("allowlist_refused")[0] == 1
    assert joined.machine.output(ask(joined)) == "200"


def test_an_edit_of_the_parameter_is_in_force_without_a_restart(aws, joined):
    before = joined.machine.pid()
    aws.put_allowlist(Stack().properties("Allowlist")["Value"].replace("127.0.0.1", "127.0.0.9"))
    joined.follow()
    joined.machine.wait(f"[ $({ask(joined)}) = 403 ]")
    assert joined.machine.pid() == before


def test_list_of_20_kb_from_s3_is_in_effect_without_a_restart(aws, joined):
    before = joined.machine.pid()
    entry = '[[allow]]\ncidr = "198.51.{}.{}"\nname = "somebody"\naccess = "full"\n\n'
    text = "".join(entry.format(number // 200, number % 200) for number in range(400))
    assert len(text) > 20_000
    aws.client("s3").put_object(Bucket="code", Key="allowlist.toml", Body=text + entry.format(0, 0).replace("198.51.0.0", "127.0.0.1"))
    aws.put_allowlist("s3://code/allowlist.toml")
    joined.follow()
    joined.machine.wait(f"[ $({ask(joined)}) = 200 ]")
    assert "401 entries" in joined.machine.output("trailgate check")
    assert joined.machine.pid() == before


def test_gate_of_a_fleet_learns_the_client_before_tls(aws, joined):
    files = {name: joined.machine.output(f"cat /etc/trailgate/tls/{name}.pem") for name in ("certificate", "key")}
    secret = aws.client("secretsmanager").create_secret(Name="tls", SecretString=json.dumps(files))["ARN"]
    aws.put_allowlist(Stack(AllowedIPForEsCluster="203.0.113.7").properties("Allowlist")["Value"])
    done, told = joined.start(GateCount="2", CertificateSecretArn=secret)
    assert (done.returncode, told) == (0, told_by(0)), done.stdout + done.stderr
    # It ran before; that of a new instance does not.
    joined.machine.output("systemctl restart trailgate")
    joined.machine.output("systemctl restart trailgate")
    subprocess.run(["ip", "address", "replace", f"{BALANCER}/32", "dev", "lo"], check=True)
    assert [status_for(client) for client in ("203.0.113.7", "203.0.113.8")] == [200, 403]


def test_renewed_certificate_is_shown_without_a_restart(aws, joined):
    before = joined.machine.pid()
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=renewed"
    joined.machine.output(f"{made} -keyout /tmp/key.pem -out /tmp/certificate.pem")
    files = {name: joined.machine.output(f"cat /tmp/{name}.pem") + "\n" for name in ("certificate", "key")}
    aws.client("secretsmanager").put_secret_value(SecretId="tls", SecretString=json.dumps(files))
    joined.machine.output("touch -d '2 days ago' /etc/trailgate/tls/fetched")
    joined.follow()
    shown = "journalctl -u trailgate-follow -o cat | grep 'the certificate has changed'"
    joined.machine.output(shown)
    end = 'date -d "$(openssl x509 -in /tmp/certificate.pem -noout -enddate | cut -d= -f2)" +%s'
    metric = "^trailgate_certificate_expiry_timestamp_seconds.* $({end}).0$".replace("{end}", end)
    joined.machine.wait(f'curl -s http://127.0.0.1:9180/metrics | grep "{metric}"')
    assert joined.machine.output("stat -c %a:%G /etc/trailgate/tls/key.pem") == "640:trailgate"
    assert joined.machine.pid() == before


def status_for(client):
    """The status that a client gets by a load balancer that passes on TCP."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", 443), PATIENCE, (BALANCER, 0)) as stream:
        addresses = socket.inet_aton(client) + socket.inet_aton("10.0.0.1") + bytes((0xC8, 0x22, 1, 0xBB))
        stream.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + addresses)
        with trust.wrap_socket(stream) as secure:
            secure.sendall(b"GET /_search HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n")
            return int(secure.recv(4096).split()[1])
