# restic: a Go program; backs up a tree and restores it.
command -v restic >/dev/null || { echo "restic is not installed"; exit 77; }
set -eu
export RESTIC_PASSWORD=p RESTIC_REPOSITORY=$PWD/repo HOME=$PWD
mkdir data; seq 1 100000 > data/a; head -c 300000 /dev/zero > data/z
restic --no-cache -q init && restic --no-cache -q backup data && restic --no-cache -q check >/dev/null && restic --no-cache -q restore latest --target out
diff -r data out/data
echo same
restic version | cut -d' ' -f1
