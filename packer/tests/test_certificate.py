"""The certificate of the gates, fetched from the stack's secret: a stand-in of the AWS command line answers with it."""

import json
import os
import subprocess

import pytest

from guest import ROOT

SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:tls-AbCdEf"
SHAPE = 'is no JSON object with two texts; put {"certificate":"PEM","key":"PEM"} into it'
CERTIFICATE = "the certificate in the secret SECRET is no PEM text; keep its line breaks, as \\n in JSON"
KEY = "the key in the secret SECRET is no PEM text, or has a passphrase; keep its line breaks, as \\n in JSON"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Returns a certificate and its key."""
    folder = tmp_path_factory.mktemp("pair")
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=gate"
    subprocess.run([*make.split(), "-keyout", "key", "-out", "certificate"], cwd=folder, check=True, capture_output=True)
    return (folder / "certificate").read_text(), (folder / "key").read_text()


@pytest.fixture
def fetch(tmp_path):
    """Returns a function that fetches from a secret with this text, and the folder that it fetches into."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/stack.env").write_text(f"AWS_REGION=eu-west-1\nCERTIFICATE_SECRET={SECRET}\n")
    (tmp_path / "aws").write_text(f"#!/bin/sh\ncat {tmp_path}/secret\n")
    (tmp_path / "aws").chmod(0o755)

    def run(text):
        (tmp_path / "secret").write_text(text)
        command = [ROOT / "packer/files/fetch-certificate", tmp_path / "etc"]
        path = f"{tmp_path}:{os.environ['PATH']}"
        # Without a terminal, as in a unit.
        done = subprocess.run(
            command, env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True
        )
        return done, tmp_path / "etc/tls"

    return run


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_pair_of_the_secret_is_fetched(fetch, pair, line_break):
    certificate, key = (text.replace("\n", line_break) for text in pair)
    done, folder = fetch(json.dumps({"certificate": certificate, "key": key}))
    assert done.returncode == 0, done.stderr
    assert (folder / "key.pem").read_text() == pair[1]


def encrypted(key):
    command = ["openssl", "ec", "-aes256", "-passout", "pass:secret"]
    return subprocess.run(command, input=key, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        (lambda certificate, key: certificate + key, SHAPE),
        # The secret is binary.
        (lambda certificate, key: "None", SHAPE),
        (lambda certificate, key: json.dumps([certificate, key]), SHAPE),
        (lambda certificate, key: json.dumps({"certificate": certificate, "private_key": key}), SHAPE),
        (lambda certificate, key: json.dumps({"certificate": certificate, "key": None}), SHAPE),
        (lambda certificate, key: json.dumps({"certificate": "", "key": key}), CERTIFICATE),
        # The console's field for a value has one line.
        (lambda certificate, key: json.dumps({"certificate": certificate.replace("\n", " "), "key": key}), CERTIFICATE),
        (lambda certificate, key: json.dumps({"certificate": certificate, "key": key.replace("\n", "\\n")}), KEY),
        (lambda certificate, key: json.dumps({"certificate": certificate, "key": encrypted(key)}), KEY),
    ],
    ids=["pem", "binary", "list", "other name", "no text", "empty", "one line", "escaped twice", "passphrase"],
)
def test_secret_that_is_no_pair_is_rejected_in_one_line(fetch, pair, secret, message):
    done, folder = fetch(secret(*pair))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and message.replace("SECRET", SECRET) in done.stderr
    assert not list(folder.glob("*.pem"))
