#!/usr/bin/env bash
# usage: provision.sh    installs the gate on this machine, from the folder that it is in; as root
#
# The folder is a bundle, as packer/bundle makes it. It serves an image and any machine with systemd; to run it again
# upgrades, and keeps the configuration. Nothing is started: /usr/libexec/trailgate/join-stack does that for a stack,
# `systemctl enable --now trailgate` for a machine of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

cd root

# The unprivileged user that the gate runs as, and the group that may read its files.
systemd-sysusers "$PWD"/usr/lib/sysusers.d/trailgate.conf

# In one step each, for the program may be running.
find usr -type f -printf '%m %p\n' | while read -r mode file; do
  install -D -o root -g root -m "$mode" "$file" "/$file.new"
  mv "/$file.new" "/$file"
done

# Its set-group-id bit gives the files that are written later the group as well.
install -d -o root -g trailgate -m 2750 /etc/trailgate
for file in etc/trailgate/*; do
  [ -e "/$file" ] || install -o root -g trailgate -m 0640 "$file" "/$file"
done

if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  # It reads its bounds only as it starts; without a journal there is nothing to bound.
  systemctl try-restart systemd-journald || true
fi
trailgate check --config /etc/trailgate/trailgate.toml
