# busybox-static: a static program with everything in one.
export LC_ALL=C
command -v busybox >/dev/null || { echo "busybox is not installed"; exit 77; }
set -eu
busybox sh -c 'for i in 1 2 3; do echo $i; done | busybox tac'; busybox seq 100 | busybox awk '{ s += $1 } END { print s }'
busybox md5sum /usr/bin/env | busybox cut -c33-; busybox find /usr/share/common-licenses -name 'GPL*' | busybox sort; busybox tar -cf - -C /usr/share/common-licenses . | busybox tar -tf - | busybox sort | busybox head -n 3
busybox sh -c 'kill -9 $$' || echo $?
