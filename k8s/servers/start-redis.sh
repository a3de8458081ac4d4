#!/bin/sh
# Starts Redis with the users of users.acl. Their passwords come from the environment; only digests are written down.
# Further arguments are redis-server's own.
set -eu
umask 077
users=$(cat "$(dirname "$0")/users.acl")
for name in OWNER API WORKER SCHEDULER OPS; do
  password=$(printenv "${name}_PASSWORD") || { echo "start-redis: ${name}_PASSWORD is not set" >&2; exit 1; }
  digest=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
  users=$(printf '%s\n' "$users" | sed "s/>${name}_PASSWORD/#${digest}/")
done
printf '%s\n' "$users" > "${ACL_FILE:=/tmp/users.acl}"
unset OWNER_PASSWORD API_PASSWORD WORKER_PASSWORD SCHEDULER_PASSWORD OPS_PASSWORD
exec redis-server --aclfile "$ACL_FILE" "$@"
