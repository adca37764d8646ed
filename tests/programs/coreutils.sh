# Each of coreutils' programs does something observable.
export LC_ALL=C TZ=UTC
set -u
mkdir d; cd d
printf 'b 2\na 1\nc 3\n' > t
for p in 'cat t' 'tac t' 'nl t' 'od -c t' 'head -n1 t' 'tail -n1 t' 'split -l1 t s' 'ls' 'csplit -s t 2' 'wc t' 'sum t' 'cksum t' 'b2sum t' \
  'md5sum t' 'sha1sum t' 'sha224sum t' 'sha256sum t' 'sha384sum t' 'sha512sum t' 'sort t' 'shuf -i 1-1' 'uniq t' 'comm t t' 'ptx t' 'tsort t' \
  'cut -d" " -f1 t' 'paste t t' 'join t t' 'expand t' 'unexpand t' 'fold -w2 t' 'fmt t' 'pr -t t' 'base32 t' 'base64 t' 'basenc --base16 t' \
  'cp t u' 'dd if=t of=v bs=2 status=none' 'install -m 600 t w' 'mv w w2' 'rm w2' 'shred -u v' 'link u k' 'ln -s t l' 'readlink l' 'mkdir -p m/n' \
  'mkfifo p' 'rmdir m/n' 'unlink k' 'chmod 640 t' 'stat -c "%a %s %F %h" t p l m' 'touch -d @0 t' 'stat -c %Y t' 'truncate -s 10 u' 'stat -c %s u' \
  'realpath --relative-to=. m' 'basename /a/b.c .c' 'dirname /a/b' 'pathchk ok' 'mktemp -u XXX -p . --suffix=q >/dev/null' 'echo hi' 'printf %05d 42' \
  'true' 'false' 'test -f t' 'expr 3 + 4' 'seq 3' 'factor 360' 'numfmt --to=iec 2048' 'date -u -d @0 +%F' 'env -i A=1 env' 'printenv LC_ALL' 'nice -n 1 nice >/dev/null' \
  'nohup true' 'timeout 5 true' 'timeout 0.2 sleep 5' 'sleep 0.01' 'tee x < t' 'yes | head -n2' 'kill -l 9' 'stdbuf -o0 cat t' 'du -b t' 'dir' 'vdir p | cut -c1-10' \
  'dircolors -b | head -n1' 'sync t' 'pwd -P | sed s,.*/,,' 'id -u >/dev/null' 'groups >/dev/null' 'whoami >/dev/null' 'tty' 'uname -s' 'arch' 'nproc >/dev/null' 'hostid >/dev/null' \
  'df . >/dev/null' 'who' 'users' 'logname' 'chown $(id -u) t' 'chgrp $(id -g) t' 'mknod q p' 'ls -1' '[ 1 -lt 2 ]' 'cp -a d2 d3' 'cp -r m m2' 'ls -R' 'rm -r m2' 'ln t hard' 'stat -c %h t' 'mv t l2' 'cat l'; do
    echo "== $p"; sh -c "$p" 2>&1 </dev/null; echo "-> $?"
done
