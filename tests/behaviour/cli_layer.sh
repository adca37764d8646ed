# --layer DIR: what a sandbox changes is kept on disk and is there in the next one.
. "$(dirname "$0")/cli_support.inc"

in_layer()
{
    expect 0 "$BAILEY" run --layer layer sh -c "$1"
}

in_layer 'cd /srv; echo one >file; chmod 751 file; chown 5:6 file; ln file twin; ln -s file way; mkfifo fifo; touch -d "2001-02-03 04:05:06" old
mkdir -p deep/er; chmod 1770 deep; echo x >deep/er/x; truncate -s 1M sparse; echo end >>sparse; : >empty
rm /etc/issue; mv /usr/share/doc /usr/share/papers; rm -r /usr/share/man; mkdir /usr/share/man; echo only >/usr/share/man/only
echo more >>/etc/services; : >/etc/shells; chmod 600 /etc/profile; echo 10.0.0.1 me >>/etc/hosts; rm /etc/hostname; echo gone >/tmp/gone'
[ ! -e /etc/hosts.x ] && ! grep -q '^more$' /etc/services || fail "the host was written"

in_layer 'cd /srv; stat -c "%n %a %u:%g %h %F" file twin way fifo deep deep/er empty; stat -c %Y old; stat -c "%s" sparse; tail -n1 sparse; cat deep/er/x; readlink way; cat way
[ "$(stat -c %i file)" = "$(stat -c %i twin)" ] && echo linked
ls -d /etc/issue /usr/share/doc /etc/hostname /tmp/gone 2>/dev/null; ls /usr/share/man; tail -n1 /etc/services /etc/hosts | grep -E "more|me"; wc -c </etc/shells; stat -c %a /etc/profile; true'
says "file 751 5:6 2 regular file
twin 751 5:6 2 regular file
way 777 0:0 1 symbolic link
fifo 644 0:0 1 fifo
deep 1770 0:0 3 directory
deep/er 755 0:0 2 directory
empty 644 0:0 1 regular empty file
$(date -d '2001-02-03 04:05:06' +%s)
1048580
end
x
file
one
linked
only
more
10.0.0.1 me
0
600"
expect 0 "$BAILEY" run --layer layer sh -c 'ls /usr/share/papers | wc -l'
says "$(ls /usr/share/doc | wc -l)"

# A second generation: kept contents are changed, renamed, removed.
[ "$(find layer -size +1000k | wc -l)" = 1 ] || fail "the sparse file's contents"
in_layer 'cd /srv; echo two >>twin; mv deep shallow; rm sparse; mv /usr/share/papers/bash /srv/; setfattr -n user.a -v b file 2>/dev/null; true'
in_layer 'cd /srv; cat file; ls; ls -d bash /usr/share/papers/bash 2>/dev/null; cat shallow/er/x'
says "one
two
bash
empty
fifo
file
old
shallow
twin
way
bash
x"
[ "$(find layer -size +1000k | wc -l)" = 0 ] || fail "contents of removed files are kept"

# Also when it is stopped from outside; not what a killed monitor had, but all from before.
expect 0 "$BAILEY" run -d --name box --layer layer sh -c 'echo stopped >/srv/stopped; sleep 1000'
expect 125 "$BAILEY" run --layer layer true
complains "in use by another sandbox"
expect 0 "$BAILEY" exec box sh -c 'echo exec >/srv/exec'
expect 0 "$BAILEY" stop -t 1 box
expect 0 "$BAILEY" rm box
in_layer 'cat /srv/stopped /srv/exec'
says "stopped
exec"
expect 0 "$BAILEY" run -d --name box --layer layer sh -c 'echo lost >/srv/lost; sleep 1000'
kill -9 "$("$BAILEY" ps --json | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["pid"])')"
expect 0 "$BAILEY" rm -f box
in_layer 'cat /srv/stopped; ls /srv/lost 2>/dev/null; true'
says "stopped"

# Programs do not see the folder; without the option nothing of it is there.
in_layer 'ls -A / | grep layer; grep layer /proc/mounts; true'
says ""
expect 0 "$BAILEY" run ls -A /srv
says ""

# A granted overlay and a root of its own are kept alike.
mkdir -p over root/bin
echo lower >over/lower
expect 0 "$BAILEY" run --layer layer -v "$PWD/over:/over:O" sh -c 'echo upper >/over/upper; rm /over/lower'
expect 0 "$BAILEY" run --layer layer -v "$PWD/over:/over:O" ls /over
says "upper"
in_layer 'true'
expect 0 "$BAILEY" run --layer layer -v "$PWD/over:/over:O" ls /over
says "upper"
[ "$(ls over)" = lower ] || fail "the host was written"
cp /bin/busybox root/bin/sh 2>/dev/null && {
    expect 0 "$BAILEY" run --rootfs root --layer layer2 /bin/sh -c 'echo made >/made; mkdir /folder'
    expect 0 "$BAILEY" run --rootfs root --layer layer2 /bin/sh -c 'cat made; ls -d folder'
    says "made
folder"
    [ ! -e root/made ] || fail "the root on the host was written"
}

# A full disk: said, and nothing of what was kept before is lost.
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=512k none small 2>/dev/null; then
    trap 'clean_up; umount small' EXIT
    expect 0 "$BAILEY" run --layer small/layer sh -c 'echo kept >/srv/kept'
    expect 125 "$BAILEY" run --layer small/layer sh -c 'head -c 1000000 /dev/urandom >/srv/big; echo changed >/srv/kept'
    complains "the disk is full"
    expect 0 "$BAILEY" run --layer small/layer sh -c 'cat /srv/kept; ls /srv'
    says "kept
kept"
fi

# What is damaged is said, and not overwritten.
cp -r layer damaged
printf 'xxxx' | dd of=damaged/tree@+ conv=notrunc bs=1 seek=30 2>/dev/null
cp damaged/tree@+ reference
expect 125 "$BAILEY" run --layer damaged true
complains "damaged"
cmp -s damaged/tree@+ reference || fail "a damaged tree was overwritten"
: >damaged/tree@+
expect 125 "$BAILEY" run --layer damaged true
complains "damaged"
expect 125 "$BAILEY" run --layer /proc/layer true
complains "/proc/layer"
expect 125 "$BAILEY" run --layer reference true
complains "reference"
expect 125 "$BAILEY" run --layer layer --read-only true
complains "contradict"
exit 0
