# postgres.sh SECONDS: a cluster under pgbench; afterwards the sums of all balances are those of the history.
set -e
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
export PGHOST=/tmp PGUSER=bench PATH=$bin:$PATH
initdb -D /tmp/db -U bench -A trust --no-sync >/tmp/log
pg_ctl -D /tmp/db -w -l /tmp/server.log -o "-k /tmp -c listen_addresses=127.0.0.1 -c autovacuum_naptime=1s -c checkpoint_timeout=30s" start >/dev/null
createdb bench
pgbench -q -i -s 2 bench >/tmp/log 2>&1
pgbench -n -c 4 -j 2 -T "$1" bench >/tmp/bench.log 2>&1 &
local=$!
pgbench -n -h 127.0.0.1 -c 2 -T "$1" bench >/tmp/tcp.log 2>&1 || { cat /tmp/tcp.log; exit 1; }
wait $local || { cat /tmp/bench.log; exit 1; }
grep -h "failed transactions" /tmp/bench.log /tmp/tcp.log
made=$(sed -n 's/.*actually processed: \([0-9]*\).*/\1/p' /tmp/bench.log /tmp/tcp.log | awk '{ n += $1 } END { print n }')
psql -At bench -c "select (select sum(abalance) from pgbench_accounts) = s and (select sum(bbalance) from pgbench_branches) = s
    and (select sum(tbalance) from pgbench_tellers) = s, n = $made and n > 50 from (select sum(delta) s, count(*) n from pgbench_history) h"
pg_ctl -D /tmp/db -w -m fast stop >/dev/null
grep -hE "PANIC|FATAL|ERROR|corrupt" /tmp/server.log | grep -vE "starting up|administrator command" || echo "no complaint of the server"
