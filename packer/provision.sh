#!/usr/bin/env bash
# usage: provision.sh    installs the gate on this machine, from the folder that it is in; as root
#
# The folder is a bundle, as packer/bundle makes it. It serves an image and any machine with systemd; to run it again
# upgrades, and keeps the configuration. Nothing is started: /usr/libexec/trailgate/join-stack does that for a stack,
# `systemctl enable --now trailgate` for a machine of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# The unprivileged user that the gate runs as, and the group that may read its files.
cat >/usr/lib/sysusers.d/trailgate.conf <<'END'
u trailgate - "Gate in front of a search domain"
END
systemd-sysusers /usr/lib/sysusers.d/trailgate.conf

# In one step each, for the program may be running.
place() {
  install -o root -g root -m "$1" "$2" "$3.new"
  mv "$3.new" "$3"
}
install -d -m 0755 /usr/libexec/trailgate
place 0755 bin/trailgate /usr/bin/trailgate
for program in libexec/*; do place 0755 "$program" "/usr/libexec/trailgate/${program##*/}"; done
for unit in units/*; do place 0644 "$unit" "/usr/lib/systemd/system/${unit##*/}"; done

# Its set-group-id bit gives the files that are written later the group as well.
install -d -o root -g trailgate -m 2750 /etc/trailgate
for file in config/*.toml; do
  [ -e "/etc/trailgate/${file##*/}" ] || install -o root -g trailgate -m 0640 "$file" /etc/trailgate/
done

# The access log must not fill the disk.
install -d -m 0755 /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nSystemMaxUse=512M\n' >/etc/systemd/journald.conf.d/trailgate.conf

if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
trailgate check --config /etc/trailgate/trailgate.toml
