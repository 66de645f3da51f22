"""usage: validate_logs.py BUCKET KEYS    runs `aws cloudtrail validate-logs` on the files in the folder BUCKET

The files are those of January 2026, of which 14 to 16 are validated; only what that needs is uploaded.
S3 is moto, with each digest's signature from its .sig file as metadata; CloudTrail is a stand-in that answers
ListPublicKeys with the file KEYS. Prints what the command prints, and exits as it does.
"""
import http.server
import os
import pathlib
import subprocess
import sys
import threading

import boto3
from moto.server import ThreadedMotoServer

TRAIL = "arn:aws:cloudtrail:us-east-1:123456789012:trail/trail"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class PublicKeys(http.server.BaseHTTPRequestHandler):
    answer = b""

    def do_POST(self):
        is_known = self.headers["x-amz-target"].endswith(".ListPublicKeys")
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if is_known else 400)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


def main(bucket, keys):
    PublicKeys.answer = pathlib.Path(keys).read_bytes()
    cloudtrail = http.server.ThreadingHTTPServer(("127.0.0.1", 0), PublicKeys)
    threading.Thread(target=cloudtrail.serve_forever, daemon=True).start()
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    s3_url = "http://%s:%d" % moto.get_host_and_port()
    os.environ.update(CREDENTIALS)
    upload(boto3.client("s3", endpoint_url=s3_url), pathlib.Path(bucket))
    command = [pathlib.Path(sys.executable).with_name("aws"), "cloudtrail", "validate-logs", "--verbose"]
    command += ["--trail-arn", TRAIL, "--s3-bucket", "trail", "--start-time", "2026-01-14T00:00:00Z", "--end-time", "2026-01-17T00:00:00Z"]
    environment = {**os.environ, "AWS_ENDPOINT_URL_S3": s3_url}
    environment["AWS_ENDPOINT_URL_CLOUDTRAIL"] = "http://127.0.0.1:%d" % cloudtrail.server_port
    code = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode
    moto.stop()
    sys.exit(code)


def upload(s3, folder):
    s3.create_bucket(Bucket="trail")
    needed = [path for day in range(13, 19) for path in folder.rglob(f"2026/01/{day}/*.gz")]
    for path in needed:
        signature = path.with_name(path.name + ".sig")
        metadata = {}
        if signature.exists():
            metadata = {"signature": signature.read_text(), "signature-algorithm": "SHA256withRSA"}
        if path.name.endswith("_backfill.json.gz"):
            metadata["backfill-generation-timestamp"] = "2026-02-05T00:00:00Z"
        s3.put_object(Bucket="trail", Key=str(path.relative_to(folder)), Body=path.read_bytes(), Metadata=metadata)


main(*sys.argv[1:])
