# Three processes and more with data in the pipes, and a named one.
set -e
mkfifo /tmp/side
sha256sum </tmp/side >/tmp/side.sum &
seq 1 1500000 | sed 's/7/seven/g' | tee /tmp/side | awk '{ n += length($0); print n }' | sha256sum
wait
cat /tmp/side.sum
seq 1 400000 | sort -r --parallel=2 -S 4M | (sleep 1; cat) | gzip -c | (sleep 0.5; gzip -dc) | tr 0-9 a-j | sha256sum
