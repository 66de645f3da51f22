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
install -d -m 0755 /usr/share/man/man1 /usr/share/bash-completion/completions /usr/share/zsh/site-functions \
  /usr/share/fish/vendor_completions.d
for page in man/*; do place 0644 "$page" "/usr/share/man/man1/${page##*/}"; done
place 0644 completions/trailgate.bash /usr/share/bash-completion/completions/trailgate
place 0644 completions/_trailgate /usr/share/zsh/site-functions/_trailgate
place 0644 completions/trailgate.fish /usr/share/fish/vendor_completions.d/trailgate.fish
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
