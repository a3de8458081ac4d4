#!/bin/sh
# Starts Redis with the users of users.acl, and of each other .acl file beside it. Their passwords come from the
# environment; only digests are written down. Further arguments are redis-server's own.
set -eu
umask 077
users=$(cat "$(dirname "$0")"/*.acl)
for name in $(printf '%s\n' "$users" | grep -o '[A-Z]*_PASSWORD' | sort -u); do
  password=$(printenv "$name") || { echo "start-redis: $name is not set" >&2; exit 1; }
  digest=$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)
  users=$(printf '%s\n' "$users" | sed "s/>$name/#$digest/")
  unset "$name"
done
printf '%s\n' "$users" > "${ACL_FILE:=/tmp/users.acl}"
exec redis-server --aclfile "$ACL_FILE" "$@"
