"""An instance that the stack has started: Debian in systemd-nspawn, with the metadata service of EC2, before its user data."""

import contextlib
import hashlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request

from guest import PATIENCE, ROOT, booted
from template import ACCOUNT, REGION, STACK, Stack

BUNDLE = ROOT / "target/bundle/trailgate-x86_64.tar.gz"
METADATA = "169.254.169.254"
# The role's temporary keys, which the stand-in for the domain accepts.
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
def metadata(instance, keys, folder):
    """The instance's metadata service, where every instance has it.

    It is in a network namespace of its own, because the proxy binds the port on all addresses of this one.
    """
    keys = dict(zip(("AccessKeyId", "SecretAccessKey", "Token"), keys.values(), strict=True))
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


@contextlib.contextmanager
def domain(*arguments, environment=KEYS):
    """The stand-in for a domain, which accepts what the role or a session of its STS has signed; the URLs of both."""
    serve = (ROOT / "target/debug/fake-domain", "serve", "--region", REGION, "--sts", *arguments)
    with running(*serve, env=os.environ | environment, stdout=subprocess.PIPE, text=True) as serving:
        yield tuple(serving.stdout.readline().split(" on ")[1].strip() for _ in range(2))


@contextlib.contextmanager
def started(aws, folder, domain, keys=KEYS, **endpoints):
    """An instance of a stack with this domain; `endpoints` has the URLs of services that moto is not to play."""
    ec2, s3 = aws.client("ec2"), aws.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.upload_file(BUNDLE, "code", "gate.tar.gz")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    (instance,) = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"]
    address = ec2.allocate_address(Domain="vpc")

    # What the template's resources are called, and what they are.
    settings = {
        "ENDPOINT=https://CloudTrailESDomain.DomainEndpoint": f"ENDPOINT={domain}",
        "ADDRESS=GateAddress": f"ADDRESS={address['PublicIp']}",
        "ADDRESS_ALLOCATION=GateAddress.AllocationId": f"ADDRESS_ALLOCATION={address['AllocationId']}",
    }
    with booted() as machine, metadata(instance["InstanceId"], keys, folder):
        for path, body in PROGRAMS.items():
            machine.program(path, body)
        made = Instance(machine, aws, endpoints, instance["InstanceId"], settings)
        made.reach_aws()
        yield made


class Instance:
    """A machine that the stack has started, before its user data runs."""

    def __init__(self, machine, aws, endpoints, name, settings):
        self.machine = machine
        urls = {"": aws.endpoint} | {f"_{service}": url for service, url in endpoints.items()}
        self._endpoints = " ".join(f"AWS_ENDPOINT_URL{service}={url}" for service, url in urls.items())
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

    def doctor(self, variables=""):
        """Runs `trailgate doctor`, with these variables of the environment."""
        return self.machine.run(f"{self._endpoints} {variables} trailgate doctor")

    def follow(self):
        """Runs the service that the timer starts each minute."""
        self.machine.output("systemctl start trailgate-follow")


def told_by(code):
    """Returns the arguments of cfn-signal for user data that ends with this code."""
    stack = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1"
    return f"-e {code} --stack {stack} --resource GateGroup --region {REGION}"
