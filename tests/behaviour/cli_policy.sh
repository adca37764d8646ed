# Policy: the default view, grants, the policy file, learning.
. "$(dirname "$0")/cli_support.inc"

# Nothing of anyone's, also for root.
expect 0 "$BAILEY" run sh -c 'cat /etc/shadow 2>/dev/null; cat /etc/ssh/ssh_host_*_key 2>/dev/null; ls -A /root /home /mnt /srv; ls -A /etc/ssl/private 2>/dev/null; true'
[ "$(grep -v '^/.*:$' out | tr -d '\n')" = "" ] || fail "seen: $(cat out)"
SECRET=1 expect 0 "$BAILEY" run sh -c 'env | grep SECRET; true'
says ""
expect 0 "$BAILEY" run -e A=1 -e HOME=/x sh -c 'echo $A $HOME'
says "1 /x"
printf '# comment\nB=2\n' >variables
expect 0 "$BAILEY" run --env-file variables sh -c 'echo $B'
says "2"
expect 0 "$BAILEY" run --hostname castle sh -c 'hostname; cat /etc/hostname'
says "castle
castle"
expect 0 "$BAILEY" run --user 7:8 sh -c 'id -u; id -g'
says "7
8"

# Grants.
mkdir -p granted/sub
echo data >granted/in
expect 0 "$BAILEY" run -v "$PWD/granted:/w" sh -c 'cat /w/in; echo new >/w/out'
says "data"
[ "$(cat granted/out)" = new ] || fail "written through -v"
expect 0 "$BAILEY" run -v "$PWD/granted:/w:ro" sh -c 'echo no >/w/no 2>/dev/null || echo refused'
says "refused"
[ ! -e granted/no ] || fail "written through :ro"
expect 0 "$BAILEY" run -v "$PWD/granted:/w:O" sh -c 'echo over >/w/over; rm /w/in; ls /w'
says "out
over
sub"
[ ! -e granted/over ] && [ -e granted/in ] || fail "written through :O"
(cd granted && "$BAILEY" run -v . sh -c 'pwd; ls') >out || fail "-v ."
says "$PWD/granted
in
out
sub"
expect 0 "$BAILEY" run -v "$PWD/granted/in:/etc/motd" cat /etc/motd
says "data"
ln -s /etc/passwd granted/way
expect 0 "$BAILEY" run -v "$PWD/granted:/w" sh -c 'cat /w/way | head -1'
says "root:x:0:0:root:/root:/bin/bash"
expect 125 "$BAILEY" run -v /proc:/p true
complains "host's kernel"
expect 125 "$BAILEY" run -v "$PWD/granted:/dev/x" true

# The private layer.
expect 0 "$BAILEY" run sh -c 'echo x >/usr/new; cat /usr/new'
[ ! -e /usr/new ] || fail "the host was written"
expect 0 "$BAILEY" run --read-only sh -c 'echo x >/usr/new 2>/dev/null || echo refused; echo y >/tmp/y && cat /tmp/y'
says "refused
y"

# The policy file.
cat >policy.yaml <<'END'
command: [sh, -c, "cat /w/in; echo $LIMIT"]
environment: [LIMIT=3]
volumes:
  - host: granted
    guest: /w
    access: ro
END
expect 0 "$BAILEY" policy check policy.yaml
expect 0 "$BAILEY" run --policy policy.yaml
says "data
3"
expect 0 "$BAILEY" run --policy policy.yaml -e LIMIT=4 sh -c 'echo $LIMIT'
says "4"
expect 0 "$BAILEY" policy show --json --policy policy.yaml
python3 -m json.tool out >/dev/null || fail "policy show --json"
printf 'name: a\nmemroy: 1g\n' >bad.yaml
expect 125 "$BAILEY" run --policy bad.yaml true
complains "bad.yaml:2: unknown key 'memroy' (did you mean 'memory'?)"

# The reader of policy files is in a program of its own, found beside the image.
mkdir parts
ln -s "$(dirname "$(realpath "$BAILEY")")/../personality/linux/bailey-linux" parts/
expect 0 env BAILEY_LIBEXEC="$PWD/parts" "$BAILEY" run true
expect 125 env BAILEY_LIBEXEC="$PWD/parts" "$BAILEY" run --policy policy.yaml true
complains "a part of Bailey is missing: cannot open $PWD/parts/bailey-full, named by BAILEY_LIBEXEC: No such file or directory"

# Learned from one run, enough for the next, and no more.
expect 0 "$BAILEY" policy learn -o learned.yaml -v "$PWD/granted:/w" -- python3 -c 'import json; print(open("/w/in").read().strip())'
says "data"
expect 0 "$BAILEY" run --policy learned.yaml
says "data"
expect 127 "$BAILEY" run --policy learned.yaml perl -v
grep -q 'access: rw' learned.yaml && fail "more than was used: $(cat learned.yaml)"

# Every decision is written down.
expect 0 "$BAILEY" run --audit audit -v "$PWD/granted:/w:ro" sh -c 'cat /w/in /etc/shadow 2>/dev/null; true'
python3 -c '
import json
lines = [json.loads(line) for line in open("audit")]
assert any(x.get("path") == "/w/in" and x["decision"] == "allowed" for x in lines)
assert any(x.get("path") == "/etc/shadow" and x["decision"] == "denied" for x in lines)
' || fail "audit: $(tail -3 audit)"
# What the sandbox refuses without asking is in it too.
expect 0 "$BAILEY" run --audit audit2 -v "$PWD/granted:/w:ro" sh -c 'echo x >/w/made; mkdir /w/folder; rm /w/out; mv /w/out /w/moved; chmod 600 /w/out; true'
python3 -c '
import json
lines = [json.loads(line) for line in open("audit2")]
refused = [x["path"] for x in lines if x.get("by") == "sandbox"]
assert refused == ["/w/made", "/w/folder", "/w/out", "/w/out", "/w/out"], refused
assert all(x["decision"] == "denied" and x["error_name"] == "EROFS" for x in lines if x.get("by") == "sandbox")
' || fail "audit of refused writes: $(tail -3 audit2)"

# Processes: the limit is that of programs.
expect 0 "$BAILEY" run --pids 1 true
expect 0 "$BAILEY" run --pids 3 sh -c 'sleep 0.1 & sleep 0.1 & wait; echo both'
says "both"
expect 2 "$BAILEY" run --pids 2 sh -c 'sleep 0.1 & sleep 0.1 & wait'

# Memory: what is given is a limit; without, three quarters of the host's memory is.
expect 0 "$BAILEY" run --memory 64m python3 -c '
try:
    blocks = [bytearray(1 << 20) for _ in range(80)]
    print("no limit")
except MemoryError:
    print("limited")'
says "limited"
complains "limit of 64 MiB"
expect 0 "$BAILEY" run sh -c "awk '/MemTotal/ { print \$2 }' /proc/meminfo"
[ "$(cat out)" -le $(($(awk '/MemTotal/ { print $2 }' /proc/meminfo) * 3 / 4)) ] || fail "no default limit of memory: $(cat out)"
expect 0 "$BAILEY" run --memory 0 sh -c "awk '/MemTotal/ { print \$2 }' /proc/meminfo"
says "$(awk '/MemTotal/ { print $2 }' /proc/meminfo)"
exit 0
