# make.sh SOURCE: builds a copy of an autoconf-like tree by make -j2 and prints what came of it.
set -e
cp -r "$1" /tmp/tree
cd /tmp/tree
./configure >/tmp/log 2>&1
make -j2 >>/tmp/log 2>&1 || { tail -5 /tmp/log; exit 1; }
find . -name '*.o' -o -name '*.a' -o -name '*.lo' -o -name '*.so*' -type f | sort | xargs sha256sum
