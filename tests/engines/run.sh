#!/usr/bin/env bash
# usage: run.sh ENGINE PORT DATA_DIR [setting=value ...]    one node on 127.0.0.1:PORT, in the foreground
#        run.sh ENGINE --prepare                            only download and build, then exit
# ENGINE is a folder beside this script: elasticsearch-5.6, elasticsearch-7.10 or opensearch-2.19.
set -euo pipefail
engines=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

if [ $# -lt 2 ] || [ ! -f "$engines/$1/pom.xml" ]; then usage; fi
engine=$engines/$1
shift
bin=${JAVA_HOME:+$JAVA_HOME/bin/}
server=$engine/target/server
classes=$engine/target/classes
built=$engine/target/built

# The lock lets several tests start the same engine at once: the first builds, the others wait.
# Maven fetches the server's jars to target/server/lib; javac adds the one class that starts a node.
(
  flock 9
  if [ ! -e "$built" ] || [ -n "$(find "$engine/pom.xml" "$engine/src" -newer "$built" -type f)" ]; then
    rm -rf "$engine/target"
    mvn -q -B -f "$engine/pom.xml" generate-resources >&2
    mkdir "$classes"
    "${bin}javac" -Xlint:none -proc:none -encoding UTF-8 -d "$classes" -cp "$server/lib/*" "$engine/src/LocalEngine.java"
    touch "$built"
  fi
) 9>"$engine/.build.lock"
[ "$1" = --prepare ] && exit 0
[ $# -ge 2 ] || usage

mkdir -p "$2"
heap=${ENGINE_HEAP:-512m}
read -ra extra <<<"${ENGINE_JAVA_OPTS:-}"
# exec: the caller's child process is the node itself, so that SIGTERM to it stops the node.
exec "${bin}java" "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Djna.nosys=true -Dlog4j2.formatMsgNoLookups=true "-Dlog4j.configurationFile=$engines/log4j2.properties" \
  "-Dengine.home=$server" "${extra[@]}" -cp "$classes:$server/lib/*" LocalEngine "$@"
