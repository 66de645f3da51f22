"""An instance's first boot: the user data of the stack's launch template, from its first line to its last.

moto has the bucket, the parameter and the address, Amazon's mock the instance's metadata, the stand-in the domain. Three
things are not Amazon's: Debian is the system, cfn-signal, which no registry has, writes down its arguments, and so does
the lifecycle action, which moto lacks.
"""

import datetime
import json
import socket
import ssl
import subprocess

import pytest

import instance as instances
from guest import CONSOLE, PATIENCE
from instance import told_by
from template import REGION, STACK, Stack

# An address of the network that the mock says the instance is in.
BALANCER = "192.0.2.1"


@pytest.fixture(scope="module")
def instance(aws, tmp_path_factory):
    with instances.domain() as (endpoint, sts):
        with instances.started(aws, tmp_path_factory.mktemp("metadata"), endpoint, STS=sts) as made:
            yield made


@pytest.fixture(scope="module")
def joined(aws, instance):
    aws.put_allowlist(Stack().properties("Allowlist")["Value"])
    done, told = instance.start()
    assert (done.returncode, told) == (0, told_by(0)), done.stdout + done.stderr
    return instance


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


def test_missing_signal_program_is_installed_first(aws, instance):
    aws.put_allowlist("nonsense")
    machine = instance.machine
    machine.output("mv /opt/aws/bin/cfn-signal /root && rm /tmp/signal")
    # It fails once, as while the SSM agent is updated.
    once = '[ "$(wc -l </root/dnf)" -gt 1 ] || exit 1'
    machine.program("/usr/local/bin/dnf", f'echo "$@" >>/root/dnf; {once}; mv /root/cfn-signal /opt/aws/bin')
    _, told = instance.start()
    machine.output("rm /usr/local/bin/dnf")
    assert machine.output("cat /root/dnf").splitlines() == ["-y -q install aws-cfn-bootstrap"] * 2
    assert told == told_by(1)


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


def test_missing_console_does_not_fail_the_join(joined):
    joined.machine.program("/usr/local/bin/tee", "cat >/dev/null; exit 1")
    _, told = joined.start()
    joined.machine.output("rm /usr/local/bin/tee")
    assert told == told_by(0)


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
    assert "warn    image          Amazon Linux 2023.6.20250218 is" in joined.doctor().stdout
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


def test_wrong_clock_is_corrected_and_reported(joined):
    machine = joined.machine
    machine.output("cp -p /etc/trailgate/trailgate.toml /tmp")
    # The stand-ins' clocks are ahead, because all containers share the machine's.
    with instances.domain("--clock-offset", "600") as (endpoint, sts):
        machine.output(f"sed -i 's|^endpoint = .*|endpoint = \"{endpoint}\"|' /etc/trailgate/trailgate.toml")
        machine.output(f"systemctl set-environment AWS_ENDPOINT_URL_STS={sts} && systemctl restart trailgate")
        assert machine.output(ask(joined)) == "200"
        # It signs with a role, for which STS has to accept the time, too.
        machine.wait("curl -sf http://127.0.0.1:9180/readyz")
        found = joined.doctor(f"AWS_ENDPOINT_URL_STS={sts}")
    machine.output("mv /tmp/trailgate.toml /etc/trailgate")
    joined.reach_aws()
    machine.output("systemctl restart trailgate")
    assert found.returncode == 1
    assert " s behind the domain's" in found.stdout and "set the clock" in found.stdout
    assert "the domain accepts the signature" in found.stdout


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
