#!/usr/bin/env bash
# usage: setup.sh    makes target/ENGINE, one virtual environment for each requirements-ENGINE.txt
# One each, since the clients need different versions of the same packages. An environment is kept
# while its requirements and the Python stay the same. PYTHON picks the interpreter (python3).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
mkdir -p "$here/target"
# Two runs at once must not build the same environment; the second waits.
exec 9>"$here/target/setup.lock"
flock 9

for requirements in "$here"/requirements-*.txt; do
  engine=${requirements##*/requirements-}
  venv=$here/target/${engine%.txt}
  wanted=$("$python" --version && cat "$requirements")
  # Written last, so that an interrupted install counts as none.
  stamp=$venv/installed
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then continue; fi
  rm -rf "$venv"
  "$python" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
  printf '%s\n' "$wanted" >"$stamp"
done
