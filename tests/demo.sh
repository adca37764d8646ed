#!/bin/sh
# `make demo`: three ordinary jobs inside Bailey, and what it did about each.
set -eu
bailey=$(realpath "${1:-build/bailey}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }

say "1. A Debian shell pipeline: the $(ls /usr/share/common-licenses | wc -l) files of /usr/share/common-licenses, their words counted"
echo '   $ bailey run sh -c "cat /usr/share/common-licenses/* | tr … | sort | uniq -c | sort -rn | head -5"'
"$bailey" run sh -c "cat /usr/share/common-licenses/* | tr -cs 'A-Za-z' '\n' | tr A-Z a-z | sort | uniq -c | sort -rn | head -5"
echo '   Six programs, six picoprocesses. The pipes between them were rings in shared memory: no host pipe, no message to anyone.'

say '2. A Python program: threads, a server and a client on the sandbox'"'"'s own loopback'
cat > hello.py <<'EOT'
import hashlib, os, socket, threading
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].sendall(b"a message over loopback")).start()
print("received:", socket.create_connection(server.getsockname()).recv(100).decode())
print("pid", os.getpid(), "of", len([p for p in os.listdir("/proc") if p.isdigit()]), "processes; uid", os.getuid())
try:
    open("/etc/shadow").read()
except OSError as error:
    print("/etc/shadow:", error.strerror)
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError as error:
    print("the network:", error.strerror)
EOT
echo '   $ bailey run -v . python3 hello.py'
"$bailey" run -v . python3 hello.py
echo '   Root inside, nobody outside: no secret file and no network is there unless it is granted.'

say '3. A C compile in a granted folder'
cat > main.c <<'EOT'
#include <stdio.h>
int main(void) { puts("compiled inside, run inside"); return 0; }
EOT
echo '   $ bailey run -v . sh -c "gcc -O2 -o main main.c && ./main"'
"$bailey" run -v . sh -c 'gcc -O2 -o main main.c && ./main'
ls -l "$work/main" | sed 's/^/   on the host: /; s,/[^ ]*/,,'
echo '   The file made inside is yours on the host; everything else it wrote went to a private layer and is gone.'

say 'What this host offers to hold programs in'
"$bailey" check
