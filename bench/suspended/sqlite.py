"""Processes that change one database under its locks; the sums hold, in rollback mode and with a write-ahead log in shared memory."""
import os
import sqlite3
import sys

for mode in ("delete", "wal"):
    name = f"/tmp/{mode}.db"
    base = sqlite3.connect(name, isolation_level=None)
    base.execute(f"pragma journal_mode={mode}")
    base.execute("create table account(id integer primary key, balance integer)")
    base.execute("create table history(delta integer)")
    base.executemany("insert into account values(?, 0)", [(i,) for i in range(100)])
    base.close()
    children = []
    for number in range(4):
        if (pid := os.fork()) == 0:
            own = sqlite3.connect(name, isolation_level=None, timeout=120)
            for i in range(800):
                delta = (number * 800 + i) * 7 % 101
                own.execute("begin immediate")
                own.execute("update account set balance = balance + ? where id = ?", (delta, i * 13 % 100))
                own.execute("insert into history values(?)", (delta,))
                own.execute("commit")
            own.close()
            os._exit(0)
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    base = sqlite3.connect(name)
    print(mode, statuses, base.execute("select (select sum(balance) from account), sum(delta), count(*) from history").fetchone(), base.execute("pragma integrity_check").fetchone())
