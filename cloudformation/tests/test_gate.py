"""The image's programs with the settings of the user data, the real proxy, and moto in the place of AWS."""

import json
import os
import pathlib
import re
import stat
import subprocess
import tomllib

import pytest

from template import ACCOUNT, REGION, STACK, Stack

ROOT = pathlib.Path(__file__).parent.parent.parent
FILES = ROOT / "packer/files"
PROGRAMS = ROOT / "target/debug"
PARAMETER = f"/trailgate/{STACK}/allowlist"


class Gate:
    """A gate's /etc/trailgate, as it is when the stack with these parameters has started the machine."""

    def __init__(self, aws, folder, **parameters):
        self.aws = aws
        self.folder = folder
        script = Stack(**parameters).properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
        settings = re.search(r"stack\.env <<'END'\n(.*?)^END$", script, re.DOTALL | re.MULTILINE).group(1)
        settings = settings.replace("CloudTrailESDomain.DomainEndpoint", f"search-trail-abc.{REGION}.es.amazonaws.com")
        settings = settings.replace("ADDRESS=GateAddress", "ADDRESS=198.51.100.9")
        (folder / "stack.env").write_text(settings)

    def run(self, program, *arguments, **variables):
        environment = self.aws.environment | {"PATH": f"{PROGRAMS}:{self.aws.environment['PATH']}"} | variables
        command = [FILES / program, self.folder, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def configure(self, *networks):
        done = self.run("configure", *networks)
        assert done.returncode == 0, done.stderr
        return tomllib.loads((self.folder / "trailgate.toml").read_text())

    def check(self):
        """Has trailgate check all that was written."""
        command = [PROGRAMS / "trailgate", "check", "--config", self.folder / "trailgate.toml"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def list(self):
        return (self.folder / "allowlist.toml").read_text()


@pytest.fixture
def gate(aws, tmp_path):
    made = Gate(aws, tmp_path)
    aws.put_allowlist(entry("203.0.113.7"))
    made.configure()
    return made


def entry(cidr):
    return f'[[allow]]\ncidr = "{cidr}"\nname = "somebody"\naccess = "full"\n'


def test_allowlist_of_a_new_stack_is_accepted_by_the_gate(aws, gate):
    aws.put_allowlist(Stack(AllowedIPForEsCluster="198.51.100.0/24").properties("Allowlist")["Value"])
    assert gate.run("follow").returncode == 0
    assert gate.check().returncode == 0
    assert "2 entries" in gate.check().stdout


def test_one_gate_listens_for_clients_themselves(gate):
    secure, plain = gate.configure()["listen"]
    assert secure["address"] == "0.0.0.0:443"
    assert plain == {"address": "0.0.0.0:80", "redirect_to_https": True}
    assert "proxy_protocol" not in secure


def test_gate_of_a_fleet_trusts_the_load_balancer(aws, tmp_path, gate):
    keys = {name: (gate.folder / f"tls/{name}.pem").read_text() for name in ("certificate", "key")}
    secret = aws.client("secretsmanager").create_secret(Name="tls", SecretString=json.dumps(keys))["ARN"]
    folder = tmp_path / "fleet"
    folder.mkdir()
    fleet = Gate(aws, folder, GateCount="2", CertificateSecretArn=secret)
    configuration = fleet.configure("10.0.0.0/16", "10.1.0.0/16")
    for listener in configuration["listen"]:
        assert listener["proxy_protocol"] is True
        assert listener["trusted_proxies"] == ["10.0.0.0/16", "10.1.0.0/16"]
    assert (folder / "tls/certificate.pem").read_text() == keys["certificate"]
    assert (folder / "tls/key.pem").read_text() == keys["key"]
    fleet.run("follow")
    assert fleet.check().returncode == 0, fleet.check().stderr


@pytest.mark.parametrize(
    ("engine", "home"), [("OpenSearch_2.19", "/_dashboards/"), ("Elasticsearch_7.10", "/_plugin/kibana/")]
)
def test_configuration_names_the_domain_and_its_pages(aws, tmp_path, engine, home):
    configuration = Gate(aws, tmp_path, EngineVersion=engine).configure()
    assert configuration["upstream"] == {"endpoint": f"https://search-trail-abc.{REGION}.es.amazonaws.com", "home": home}
    roles = {"read": f"arn:aws:iam::{ACCOUNT}:role/AuditorRole", "tags": True}
    assert configuration["aws"] == {"region": REGION, "service": "es", "roles": roles}


def test_full_entries_of_a_fine_grained_domain_have_a_role(aws, tmp_path):
    gate = Gate(aws, tmp_path, FineGrainedAccessControl="true")
    roles = gate.configure()["aws"]["roles"]
    assert roles["full"] == f"arn:aws:iam::{ACCOUNT}:role/EditorRole"
    aws.put_allowlist(entry("203.0.113.7"))
    gate.run("follow")
    assert gate.check().returncode == 0, gate.check().stderr


def test_a_host_name_is_the_only_one_that_is_answered(aws, tmp_path):
    configuration = Gate(aws, tmp_path, HostName="audit.example.com").configure()
    assert configuration["listen"][0]["hosts"] == ["audit.example.com"]


def test_missing_certificate_is_made_once_for_the_address(gate):
    certificate = gate.folder / "tls/certificate.pem"
    shown = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-text"], capture_output=True, text=True)
    assert "IP Address:198.51.100.9" in shown.stdout
    before = certificate.read_bytes()
    gate.configure()
    assert certificate.read_bytes() == before


def test_written_files_are_not_world_readable(gate):
    gate.run("follow")
    for name in ("trailgate.toml", "allowlist.toml", "tls/key.pem"):
        assert stat.S_IMODE(os.stat(gate.folder / name).st_mode) == 0o640, name


def test_an_edit_of_the_parameter_reaches_the_gate(aws, gate):
    gate.run("follow")
    aws.put_allowlist(entry("198.51.100.0/24"))
    done = gate.run("follow")
    assert done.returncode == 0
    assert done.stdout.startswith("the allowlist has changed: ")
    assert gate.list().strip() == entry("198.51.100.0/24").strip()


def test_a_list_that_has_not_changed_is_left_alone(gate):
    gate.run("follow")
    before = os.stat(gate.folder / "allowlist.toml")
    assert "allowlist has changed" not in gate.run("follow").stdout
    after = os.stat(gate.folder / "allowlist.toml")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_bad_edit_keeps_the_list_and_sends_the_metric(aws, gate):
    gate.run("follow")
    before = gate.list()
    aws.put_allowlist(entry("203.0.113.7/24"))
    done = gate.run("follow")
    assert done.returncode == 0
    assert f"the allowlist in {PARAMETER} has a mistake: " in done.stderr
    assert "allowlist.toml" in done.stderr
    assert gate.list() == before
    assert aws.sent("allowlist_refused")[0] == 1
    alarm = Stack().properties("AllowlistAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("trailgate", "allowlist_refused")
    assert alarm["Dimensions"] == [{"Name": "Stack", "Value": STACK}]


def test_without_any_list_a_bad_one_fails_the_start(aws, gate):
    aws.put_allowlist("nonsense")
    assert gate.run("follow").returncode == 1


def test_a_parameter_that_cannot_be_read_changes_nothing(aws, gate):
    gate.run("follow")
    before = gate.list()
    aws.client("ssm").delete_parameter(Name=PARAMETER)
    done = gate.run("follow")
    assert done.returncode == 0
    assert f"cannot read {PARAMETER}" in done.stderr
    assert gate.list() == before


def test_follow_leaves_no_temporary_files(aws, gate):
    gate.run("follow")
    aws.put_allowlist("nonsense")
    gate.run("follow")
    assert sorted(path.name for path in gate.folder.iterdir()) == ["allowlist.toml", "stack.env", "tls", "trailgate.toml"]


def test_a_gate_that_does_not_answer_is_not_ready(aws, gate):
    gate.run("follow")
    assert aws.sent("ready")[0] == 0


def test_list_of_20_kb_is_read_from_the_named_bucket(aws, gate):
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="lists", CreateBucketConfiguration={"LocationConstraint": REGION})
    long = "\n".join(entry(f"198.51.{third}.{fourth}") for third in range(2) for fourth in range(200))
    assert len(long) > 20_000
    s3.put_object(Bucket="lists", Key="allowlist.toml", Body=long.encode())
    aws.put_allowlist("s3://lists/allowlist.toml\n")
    assert gate.run("follow").returncode == 0
    assert gate.list().strip() == long.strip()
    assert "400 entries" in gate.check().stdout


def test_list_that_the_bucket_lacks_changes_nothing(aws, gate):
    gate.run("follow")
    before = gate.list()
    aws.put_allowlist("s3://lists/other.toml")
    done = gate.run("follow")
    assert done.returncode == 0
    assert f"cannot read {PARAMETER}" in done.stderr
    assert gate.list() == before


@pytest.fixture
def secret(aws, tmp_path):
    """A gate whose certificate is in a secret, and how the secret gets another pair."""
    folder = tmp_path / "secret"
    folder.mkdir()
    client = aws.client("secretsmanager")
    arn = client.create_secret(Name=f"tls-{tmp_path.name}", SecretString=json.dumps(pair(tmp_path, 90)))["ARN"]
    made = Gate(aws, folder, CertificateSecretArn=arn)
    aws.put_allowlist(entry("203.0.113.7"))
    made.configure()
    return made, lambda files: client.put_secret_value(SecretId=arn, SecretString=json.dumps(files))


def pair(folder, days):
    """A certificate of so many days, and its key."""
    paths = {name: folder / f"made-{name}.pem" for name in ("certificate", "key")}
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", str(days), "-subj", "/CN=gate", "-out", paths["certificate"], "-keyout", paths["key"]]
    subprocess.run(command, check=True, capture_output=True)
    return {name: path.read_text() for name, path in paths.items()}


def age(gate):
    """Makes it a day since the certificate was fetched."""
    fetched = gate.folder / "tls/fetched"
    os.utime(fetched, (fetched.stat().st_mtime - 90_000,) * 2)


def test_renewed_certificate_is_fetched_after_a_day(tmp_path, secret):
    gate, put = secret
    renewed = pair(tmp_path, 90)
    put(renewed)
    assert "the certificate has changed" not in gate.run("follow").stdout
    age(gate)
    assert "the certificate has changed: notAfter=" in gate.run("follow").stdout
    assert (gate.folder / "tls/certificate.pem").read_text() == renewed["certificate"]
    assert (gate.folder / "tls/key.pem").read_text() == renewed["key"]
    assert gate.check().returncode == 0
    assert stat.S_IMODE(os.stat(gate.folder / "tls/key.pem").st_mode) == 0o640


def test_certificate_without_its_key_stays_out(tmp_path, secret):
    gate, put = secret
    before = (gate.folder / "tls/certificate.pem").read_text()
    put({"certificate": pair(tmp_path, 90)["certificate"], "key": pair(tmp_path, 90)["key"]})
    age(gate)
    done = gate.run("follow")
    assert done.returncode == 0
    assert "do not belong together" in done.stderr
    assert (gate.folder / "tls/certificate.pem").read_text() == before
    assert not list(gate.folder.glob("new.*"))


def test_days_that_the_certificate_has_left_are_sent(aws, secret):
    gate, _ = secret
    # Other gates of the same minute have other certificates.
    settings = (gate.folder / "stack.env").read_text()
    (gate.folder / "stack.env").write_text(settings.replace(f"STACK={STACK}\n", "STACK=other\n"))
    gate.run("follow")
    assert aws.sent("certificate_days_left", "other")[0] in (89, 90)
    alarm = Stack().properties("CertificateAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == ("trailgate", "certificate_days_left")
    assert alarm["Dimensions"] == [{"Name": "Stack", "Value": STACK}]
