# tar, gzip, xz, zstd: pack and unpack trees with links, modes and sparse files.
export LC_ALL=C
set -eu
mkdir -p src/sub; seq 1 50000 > src/numbers; ln -s numbers src/link; ln src/numbers src/hard; chmod 751 src/sub
truncate -s 1M src/sparse; printf x | dd of=src/sparse bs=1 seek=500000 conv=notrunc status=none
for c in gzip xz 'zstd -q' bzip2; do command -v ${c%% *} >/dev/null || continue
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - src | $c | tee packed | wc -c | awk '{ print ($1 > 1000) }'
  mkdir out; $c -dc < packed | tar -xf - -C out; diff -r src out/src && echo "$c same"
  stat -c '%n %a %h %F' out/src/* ; readlink out/src/link; rm -r out
done
tar -cSf s.tar src/sparse; tar -tvf s.tar | awk '{ print $3, $6 }'
gzip -c src/numbers > n.gz; gzip -l n.gz | tail -n1 | awk '{ print $2 }'; gzip -t n.gz && echo fine
