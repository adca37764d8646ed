# sqlite3: transactions, indexes, WAL, a second process on the same file.
set -eu
sqlite3 t.db 'create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into t select i, hex(i * i) from n; create index ib on t(b);'
sqlite3 t.db 'select count(*), max(b) from t; pragma integrity_check; pragma journal_mode=wal; delete from t where a % 2; select count(*) from t; pragma wal_checkpoint(truncate); vacuum;'
for i in 1 2 3 4; do sqlite3 -cmd '.timeout 20000' t.db "begin immediate; insert into t(b) values ('p$i'); commit;" & done; wait
sqlite3 t.db "select group_concat(b) from (select b from t where b like 'p%' order by b)"
