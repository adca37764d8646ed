# restic, a static Go program: many threads of its own scheduler, a collector, signals to itself for preemption.
set -e
export RESTIC_PASSWORD=p RESTIC_REPOSITORY=/tmp/repo HOME=/tmp
mkdir /tmp/data
cd /tmp/data
seq 1 300000 >numbers
cp -r /usr/share/perl perl
for i in 1 2; do
    restic --no-cache -q init 2>/dev/null || true
    restic --no-cache -q backup /tmp/data
    restic --no-cache -q check >/dev/null
    echo $i >>more
done
restic --no-cache -q restore latest --target /tmp/out
cd /tmp/out/tmp/data
find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum
