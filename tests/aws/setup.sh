#!/usr/bin/env bash
# usage: setup.sh    makes target/aws/bin with moto_server, which plays S3 and STS, the AWS command line, and aws-lambda-rie and
# ec2-metadata-mock, which play Lambda and an instance's metadata service
# They are kept while what is named here and in requirements.txt stays the same.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
emulator=github.com/aws/aws-lambda-runtime-interface-emulator/cmd/aws-lambda-rie@v0.0.0-20261030222936-bef5c4ba774d
metadata=github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock@v1.13.0
mkdir -p "$here/../../target"
tools=$(cd "$here/../../target" && pwd)/aws
# Two runs at once must not build the same; the second waits.
exec 9>"$tools.lock"
flock 9

wanted=$(echo "$emulator" "$metadata" && python3 --version && cat "$here/requirements.txt")
# Written last, so that an interrupted install counts as none.
stamp=$tools/installed
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit; fi
rm -rf "$tools"
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
go=$(echo "$tools"/lib/python3*/site-packages/go)
for program in "$emulator" "$metadata"; do
  GOROOT=$go GOBIN=$tools/bin GOTOOLCHAIN=local GOFLAGS=-buildvcs=false "$go/bin/go" install "$program"
done
printf '%s\n' "$wanted" >"$stamp"
