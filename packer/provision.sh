#!/usr/bin/env bash
# usage: provision.sh    installs trailgate on this machine, from the folder that it is in; as root
#
# The folder is a bundle that packer/bundle made. It is for images and for any machine with systemd. Running it again
# upgrades, and keeps the configuration. It starts nothing: /usr/libexec/trailgate/join-stack does that for a stack, and
# `systemctl enable --now trailgate` for a single machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cd root

# The unprivileged user that trailgate runs as, and the group that may read its files.
systemd-sysusers "$PWD"/usr/lib/sysusers.d/trailgate.conf

# Each file is replaced atomically, because the program may be running.
find usr -type f -printf '%m %p\n' | while read -r mode file; do
  install -D -o root -g root -m "$mode" "$file" "/$file.new"
  mv "/$file.new" "/$file"
done

# The set-group-id bit passes the group on to files that are written later.
install -d -o root -g trailgate -m 2750 /etc/trailgate
for file in etc/trailgate/*; do
  [ -e "/$file" ] || install -o root -g trailgate -m 0640 "$file" "/$file"
done

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # journald reads its limits only at start; without a journal there is nothing to limit.
  systemctl try-restart systemd-journald || true
fi
trailgate check --config /etc/trailgate/trailgate.toml
