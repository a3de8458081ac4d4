#!/bin/sh
# Starts a Sentinel. What it has learned (who is primary, its epochs, its own id) outlives it on its disk; what is set
# here, and the password, is written anew at each start. Redis is known by addresses, never by names: a Sentinel looks
# names up while it does nothing else, and cannot fail over from one that went out of DNS with its pod.
set -eu
umask 077
file=${SENTINEL_FILE:-/data/sentinel.conf}
learned='^sentinel (myid|monitor|config-epoch|leader-epoch|current-epoch|known-replica|known-sentinel) '
if ! known=$(grep -E "$learned" "$file" 2>/dev/null); then
  until first=$(getent hosts redis-address-0 | cut -d ' ' -f 1 | grep .); do sleep 1; done
  known="sentinel monitor flashsale $first 6379 2"
fi
digest=$(printf %s "$SENTINEL_PASSWORD" | sha256sum | cut -d ' ' -f 1)
cat > "$file.new" <<END
port 26379
dir /tmp
protected-mode no
sentinel announce-ip $POD_IP
$known
sentinel auth-user flashsale sentinel
sentinel auth-pass flashsale "$SENTINEL_PASSWORD"
sentinel sentinel-user sentinel
sentinel sentinel-pass "$SENTINEL_PASSWORD"
sentinel down-after-milliseconds flashsale 5000
sentinel failover-timeout flashsale 30000
sentinel parallel-syncs flashsale 1
user default reset on nopass -@all +ping +hello +client|setinfo +sentinel|masters +sentinel|get-master-addr-by-name
user sentinel reset on #$digest ~* &* +@all
END
mv "$file.new" "$file"
unset SENTINEL_PASSWORD
exec redis-server "$file" --sentinel "$@"
