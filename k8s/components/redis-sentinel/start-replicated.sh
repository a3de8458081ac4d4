#!/bin/sh
# Starts one of the Redis that the Sentinels watch. Only they say who is primary, and two of them have to agree, so one
# that comes back does not sell beside another. Arguments are redis-server's own.
set -eu
umask 077
# Its Service's address: it stays when the pod, its own address and its name in DNS go. The pod's own name would do neither.
address() { getent hosts "redis-address-$1" | cut -d ' ' -f 1 | grep .; }
primary() {
  for number in 0 1 2; do
    timeout 3 redis-cli -e -h "redis-sentinel-$number.redis-sentinel" -p 26379 \
      sentinel get-master-addr-by-name flashsale 2>/dev/null | head -n 1
  done | grep -E '^[0-9a-f.:]+$' | sort | uniq -d | grep .
}
until mine=$(address "${HOSTNAME##*-}"); do sleep 1; done
until primary=$(primary); do
  echo "start-replicated: no two Sentinels say who is primary" >&2
  sleep 1
done
replication=${ACL_FILE:=/tmp/users.acl}.replication
cat > "$replication" <<END
masteruser replica
masterauth "$REPLICA_PASSWORD"
replica-announce-ip $mine
END
[ "$primary" = "$mine" ] || echo "replicaof $primary 6379" >> "$replication"
export ACL_FILE
exec sh "$(dirname "$0")/start-redis.sh" --include "$replication" "$@"
