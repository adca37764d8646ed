# Every program of Debian's coreutils, several command lines each, chosen for the system calls they make. A line of the table is run in a
# fresh folder that holds the same few files; what it writes, its exit code and what is in the folder afterwards is printed.
# bailey: --user 65534:65534
#
# What has to differ between two runs (or between the host and a sandbox) goes through one of these filters, by name:
#   times     clock times and dates          numbers   sizes, counts and ids of this machine
#   pids      process ids                    relative  a niceness, compared with that of the test itself
# Left out is what Bailey refuses, access control lists (setfacl), and what depends on the host's security module (a context that is set).
[ -n "${BASH_VERSION-}" ] || exec bash "$0"
export LC_ALL=C TZ=UTC0 COLUMNS=80 BLOCKSIZE=
umask 022
set -o pipefail
ulimit -f 65536 # should one run wild, it ends
here=$PWD

times() { sed -E 's/[0-9]{4}-[0-9]{2}-[0-9]{2}/DATE/g; s/(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +[0-9]+ +([0-9]{2}:[0-9]{2}|[0-9]{4})/DATE/g; s/[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?/TIME/g; s/[0-9.]+(e-[0-9]+)? s, [0-9.]+ .?B\/s/SECONDS/'; }
numbers() { sed -E 's/[0-9]+([.][0-9]+)?[KMGTP%]?/N/g; s/ +/ /g'; }
pids() { sed -E 's/[0-9]{2,}/PID/g'; }
base=$(nice)
relative() { local value; read -r value; echo $((value - base)); }
# Whether $1 seconds have passed and less than $2 while the rest ran.
lasts() { local from=$1 to=$2 start=$EPOCHREALTIME; shift 2; "$@"; local code=$? end=$EPOCHREALTIME; local ms=$(((${end/./} - ${start/./}) / 1000)); ((ms >= from && ms < to)) && echo "lasted as it should" || echo "lasted $ms ms"; return $code; }

fixture() {
    printf 'banana 2\napple 1\ncherry 3\napple 1\n' > text
    printf 'one\ttwo  three\n\nfour five\n' > blanks
    printf 'apple red\nbanana yellow\n' > colours
    printf '\001\002\377\000abc\n' > bytes
    : > empty
    mkdir -p tree/deep/er; echo in > tree/deep/er/file; ln -s file tree/deep/er/link; ln tree/deep/er/file tree/hard
    ln -s nowhere dangling; ln -s tree to-tree
    chmod 640 text; chmod 750 tree
    touch -d '2001-02-03 04:05:06.123456789' text; touch -d @86400 tree/hard colours
}

# What a folder holds: kinds, modes, links, sizes, contents.
contents() { find . -mindepth 1 \( -type f -printf '%P %y %M %n %s\n' -o -printf '%P %y %M %l\n' \) | sort; find . -type f -exec md5sum {} + | sort -k2; }

table() {
cat <<'TABLE'
# arch uname nproc hostid uptime: the machine
arch; arch --help | sed -n 1p; arch extra
uname -s -m -o; uname -srv > /dev/null; uname -p -i; uname -a | wc -w; uname -n | wc -w
nproc; nproc --all; nproc --ignore=100; OMP_NUM_THREADS=3 nproc; OMP_THREAD_LIMIT=1 nproc; taskset -c 0 nproc
hostid | wc -c
# users
id; id -u; id -un; id -Gn; id -G; id root; id -u daemon; id nosuch; id -Z; id -z -G; id -rg
groups; groups root; groups nosuch
whoami; whoami extra
logname; logname extra
who; who -b | times; who -q; who am i; who -u /dev/null; who nosuchfile
users; users /dev/null
pinky -s | sed -n 1p; pinky -l root | head -n2; pinky -l nosuch
# echo printf true false yes
echo -e 'a\tb\x41\0101\c'; /bin/echo -e 'a\tb\c' ; /bin/echo -n x; /bin/echo -E '\n'
/usr/bin/printf '%s|%5d|%-5s|%x|%e\n' a 42 b 255 1.5; /usr/bin/printf '%b %q\n' 'a\tb' "it's"; /usr/bin/printf '%d\n' 12x; /usr/bin/printf '%(x'
/usr/bin/printf '\u20ac\n' | od -c; /usr/bin/printf '%d\n' "'a"; /usr/bin/printf %s > /dev/full
/bin/true; /bin/false; /bin/true --version | sed -n 1p; /bin/false --help > /dev/full
yes | head -n 3; yes a b | head -n 2; yes > /dev/full
# cat tac nl head tail tee
cat text; cat -A blanks bytes; cat -n text blanks; cat -b -s blanks; cat < text; cat - text < colours; cat tree; cat nosuch text; cat text > /dev/full
cat text >> text; cat < text > out; cat /proc/self/comm; cat /dev/null
cat 1<>text text; exec 3<text; read -u3 x; cat <&3
tac text; tac -s a text; tac -r -s '[an]' text; cat text | tac; tac nosuch; seq 100000 | tac | md5sum
nl text; nl -ba -w3 -s: blanks; nl -v10 -i5 text
head -n2 text; head -c5 bytes | od -c; head -n-1 text; head -c-5 text; head -q -n1 text colours; head -v -n1 text; head -n1 tree; head -n0 nosuch
(head -n1; cat) < text; seq 10000 | (head -n1; head -n1 | wc -l); head -c 1K /dev/zero | wc -c; head -n -3 < <(seq 10)
tail -n1 text; tail -c5 text; tail -n+3 text; tail -c+10 text; tail -n2 text colours; tail nosuch; tail tree; seq 100000 | tail -n 3; seq 10 | tail -c 4
tail -c 10 /dev/zero & sleep 0.1; kill $!; wait $! ; echo $?
sh -c 'for i in 1 2 3; do sleep 0.1; echo line $i >> grow; done; sleep 0.3' & touch grow; tail -f -s 0.05 --pid=$! grow; wait
sh -c 'sleep 0.2; echo new > next; mv next grow; sleep 1.3' & echo first > grow; tail -F -s 0.05 --pid=$! grow 2>&1; wait
sh -c 'sleep 0.2; : > grow; sleep 0.2; echo x >> grow; sleep 0.3' & seq 50 > grow; tail -n1 -f -s 0.05 --pid=$! grow; wait
sh -c 'sleep 0.2; echo a >> one; sleep 0.1; echo b >> two; sleep 0.3' & touch one two; tail ---disable-inotify -f -s 0.02 --pid=$! one two; wait
timeout 0.3 tail -f /dev/null; echo $?; timeout 0.3 tail -f nosuch; (sleep 0.1; echo in; sleep 0.1) | tail -f -n1 -s 0.02
mkfifo p; (echo through > p) & tail -n1 p
tee a b < text | md5sum; echo more | tee -a text; echo x | tee tree; echo x | tee /dev/full; echo x | tee -p /dev/full out; echo x | tee nosuch/x out
seq 50000 | tee -p out2 | head -n1; echo ${PIPESTATUS[*]}; wc -c out2; yes | head -c 200000 | tee --output-error=warn-nopipe >(head -c1 >/dev/null) | wc -c; seq 3 | tee --output-error=exit /dev/full > out 2> err; cat out err
tee -i out < text & wait; echo | tee --output-error=bad
# od sums and encodings
od bytes; od -A x -t x1z bytes; od -c -j2 -N3 bytes; od -t f4 bytes; od -An -tu2 -w4 bytes; od --endian=big -tx4 bytes; od nosuch; od -S 3 bytes
sum text; sum -s text colours; sum nosuch; sum < text
cksum text; cksum -a sha256 text; cksum -a crc --debug text >/dev/null 2>&1; cksum -a blake2b --tag text; cksum -a sha1 text > s; cksum -a sha1 -c s; cksum nosuch; cksum tree
b2sum text; b2sum -l 128 text; b2sum text > s; b2sum -c s
md5sum text colours; md5sum --tag text; md5sum -z text | od -c | tail -n2; md5sum text colours > s; echo >> text; md5sum -c s; md5sum -c --quiet s; md5sum --status -c s; md5sum -c --ignore-missing empty; md5sum -b nosuch tree
md5sum.textutils text
sha1sum text; sha1sum < text; sha1sum - < text; sha1sum text > s; sha1sum -c --strict s
sha224sum text; sha256sum text /dev/null; sha384sum text; sha512sum text; seq 200000 | sha512sum; sha256sum text > s; sha256sum -c s; sha224sum nosuch; sha384sum -w -c text
base32 bytes; base32 bytes | base32 -d | cmp - bytes; base32 -w 5 text
base64 bytes; base64 -w0 text; base64 -d <<< 'YWJj!'; base64 -di <<< 'YW Jj!'; seq 50000 | base64 | base64 -d | md5sum
basenc --base16 bytes; basenc --z85 <<< abc; basenc --base2msbf bytes; basenc --base64url bytes; basenc --base32hex -d <<< 'C5H66==='
# lines and fields
wc text; wc -l text colours; wc -c < text; wc -L blanks; wc -w blanks; printf 'text\0colours\0' | wc --files0-from=-; wc tree nosuch; wc --total=only text 2>&1 | sed -n 1p; seq 100000 | wc; wc -c /dev/null /proc/self/comm
sort text; sort -r text; sort -k2n text; sort -u text; sort -c text; sort -m text colours; sort -t' ' -k2,2r -k1,1 text; sort -o text text; sort -s -f blanks; sort -R text | wc -l; sort --random-source=text -R text; sort -h <<< $'2K\n1M\n3'; sort -V <<< $'a10\na9'; sort -M <<< $'Feb\nJan'
seq 200000 | sort -S 64K -T . -rn | md5sum; seq 200000 | sort --parallel=4 -S 1M -n | tail -n1; seq 50000 | sort -S 40K --compress-program=gzip -T tree -r | md5sum; seq 20000 | sort -S 32K --batch-size=2 -n -o out && tail -n1 out; ls -A tree
seq 1000 > a; seq 500 1500 > b; sort -m -n a b | uniq -c | awk '$1 > 1' | wc -l; sort --files0-from=<(printf 'a\0b\0') | md5sum; sort nosuch; sort -T nosuch -S 1K a > /dev/null; sort tree; sort text > /dev/full; sort -z <(printf 'b\0a\0') | od -c
seq 300000 | sort -S 50K -T nosuch; seq 10 | sort -n -k1,1 --debug 2>&1 | sed -n 1,2p; ulimit -n 8; seq 30000 | sort -S 30K -n | tail -n1
sort -S 100M --parallel=2 <(seq 100000 -1 1) | tail -n1; trap 'echo caught' TERM; seq 400000 | (timeout -s TERM 0.01 sort -S 50K -T tree >/dev/null; echo $?); ls tree
shuf -i 1-1; shuf -n0 text; shuf -e a a; shuf --random-source=bytes -i 1-3; shuf -r -n 3 -e x; shuf -i 1-100000 | sort -n | md5sum; shuf nosuch; shuf -o out --random-source=bytes -n 0 text; shuf text -o out; sort out; rm out
uniq text; uniq -c text; sort text | uniq -d; sort text | uniq -u; uniq -f1 text; uniq -w1 text out; uniq --group text; uniq nosuch
comm <(sort text) colours; comm -12 <(sort -u text) <(sort colours); comm --total -3 colours colours; comm text colours
ptx text; ptx -G text; ptx -f -w 40 colours; ptx nosuch
tsort <<< 'a b b c'; tsort <<< 'a b b a'; tsort <<< 'a'
cut -d' ' -f1 text; cut -c1-3 text; cut -b2- bytes | od -c; cut -f2 --complement -d' ' text; cut -s -d: -f1 text; cut -d' ' -f1,2 --output-delimiter=: text; cut -f0 text; cut nosuch -c1
paste text colours; paste -s text; paste -d, text text; paste - - < text; paste -s -d'\n,' text nosuch
join <(sort text) colours; join -a1 -e X -o 0,1.2,2.2 <(sort text) colours; join -v1 <(sort text) colours; join -j2 text colours; join text nosuch
expand blanks; expand -t4 blanks; expand -i blanks; unexpand -a <<< '        x       y'; unexpand --first-only <<< '        x       y'; unexpand -t 4 blanks; expand nosuch; unexpand nosuch
fold -w5 text; fold -sw10 text; fold -b -w3 bytes | od -c; fold nosuch
fmt -w 20 text; fmt -u blanks; fmt -p a text; fmt -t blanks; fmt nosuch
pr -t text; pr -2 -t -l5 text; pr -n -t -o3 text; pr -h title -l 20 colours | times; pr -m -t text colours; pr nosuch
tr a-z A-Z < text; tr -d aeiou < text; tr -s '[:alpha:]' < text; tr -cd '[:digit:]\n' < text; tr -t abc x < text; tr '[:upper:' x; tr a; tr '\0' 0 < bytes | od -c
numfmt --to=iec 2048 1000000; numfmt --from=si 1K; numfmt --to=si --format='%10.2f' 123456; numfmt -d, --field=2 --to=iec <<< 'a,4096'; numfmt x; numfmt --grouping 1234567; numfmt --invalid=warn y
factor 360 97 18446744073709551617; factor <<< '12 0'; factor x; factor -- -1
seq 3; seq 2 2 8; seq 5 -2 1; seq -w 8 11; seq -s, 3; seq -f %03g 3; seq 0.1 0.1 0.5; seq x; seq 1 inf | head -n 2; seq 10 > /dev/full; seq 999999 1000001
expr 3 + 4; expr 7 / 0; expr abc : 'a\(.\)c'; expr length hello; expr substr hello 2 3; expr index hello l; expr 1 = 2; expr '(' 1 ; expr 99999999999999999999 '*' 9
# split csplit
split -l1 text; ls x*; split -b 5 -d text y; ls y*; cat y* | cmp - text; split -n 3 text n; wc -c n*; split -n l/2 text m; cat m*; split -n r/2 text r; cat raa; split -n 2/3 text; split -n l/1/2 text
split -l1 --filter='tr a-z A-Z > $FILE.up' text f; cat f*.up; seq 100 | split -l 40 --filter='wc -l' ; seq 1000 | split -l 100 --filter='exit 3'; yes | head -c 100000 | split -b 10000 --filter='head -c 1 > /dev/null'; echo $?; split -C 20 text c; wc -c c*; split -a1 -l1 <(seq 30) z; ls z* | wc -l; split -e -n 10 text e; ls e*; split -t ' ' -l 1 text t; ls t*; split --additional-suffix=.txt -x -l2 text h; ls h*; split --verbose -l3 text v; split nosuch; split -b 0 text; split text nosuch/x; split -u -n r/2 <(seq 4) u; cat uaa
csplit text 2; csplit -f part -n 3 text /cherry/; ls part*; csplit -z -k text 1 '{5}'; csplit -s text '%ban%' 3; cat xx00; csplit -b %02x.out text 3; csplit text /nothing/; ls; csplit --suppress-matched text /apple/ '{*}'
# copying
cp text new; cp -p text kept; stat -c '%a' new; stat -c '%Y' kept; cp -a tree tree2; find tree2 | sort; readlink tree2/deep/er/link; cp -r tree/deep tree3; cp text tree; cp tree x; cp nosuch x; cp text text; cp -i text new < /dev/null; cp -n colours new; cp -u colours text; cp -f text new
cp --reflink=auto text a; cp --reflink=never text b; cp --reflink=always text c 2>&1 | sed 's/: .*: /: /'; cmp a b; cp -l text d; stat -c %h text; cp -s text e 2>&1; readlink e; cp -s $PWD/text e2; rm e2; cp -b text a; ls a*; cp --backup=numbered text a; ls a*; cp -S .old -b text a; ls a*; cp --attributes-only text q; wc -c q; chmod 444 colours; cp colours ro; stat -c %a ro; cat ro; cp -f empty ro; wc -c ro; cp /proc/version pv; wc -l pv; rm -f pv; umask 777; cp colours none; stat -c %a none; umask 022; rm -f none; cp -t tree text colours; ls tree; cp -T text tree; cp --parents tree/deep/er/file empty 2>&1; mkdir dst; cp --parents tree/deep/er/file dst; find dst
truncate -s 3M sparse; printf x | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none; cp --sparse=always sparse s1; cp --sparse=never sparse s2; cp sparse s3; cmp s1 s2; cmp s1 s3; stat -c '%s' s1 s2 s3; [ $(stat -c %b s1) -lt 100 ] && echo thin; [ $(stat -c %b s2) -gt 5000 ] && echo thick; [ $(stat -c %b s3) -lt 100 ] && echo thin; rm s? sparse
cp -d dangling d2; readlink d2; cp -L dangling d3; cp -P to-tree t2; readlink t2; cp -rL to-tree t3; stat -c %F t3; cp -H -r to-tree t4; stat -c %F t4; cp -r to-tree t5; stat -c %F t5; cp text dangling; cp --remove-destination text t5; cp -rx tree t6; cp --strip-trailing-slashes tree/ t7 2>&1; cp -a dangling to-tree tree/deep; ls tree/deep
mkfifo p; cp -r p q; stat -c %F q; (echo data > p) & cp p out; cat out; wait; cp /dev/null out; wc -c out; cp -p tree/hard h; stat -c %Y h; cp --preserve=links tree/hard tree/deep/er/file dst 2>&1; mkdir dst; cp --preserve=links tree/hard tree/deep/er/file dst; stat -c %h dst/hard; cp --preserve=all text all; cp --preserve=xattr text xa; cp --preserve=context text co; cp --no-preserve=mode text nm; stat -c %a nm; cp -v text v1; cp -a --debug text v2 2>&1 | sed -n 1p; cp /proc/self/comm c; cat c; cp text /dev/full; chmod 0 text; cp text un; cp -r / 2>&1
dd if=text of=out bs=3 2>&1 | times; dd if=text bs=1 count=3 skip=2 status=none; dd if=text of=out conv=ucase,notrunc oseek=2 bs=1 status=none; od -c out; dd if=/dev/zero of=z bs=1k count=2 oflag=append conv=notrunc status=none; wc -c z; dd if=text of=out oflag=sync,nofollow status=none; dd if=text of=out conv=fsync status=none; dd if=text of=out conv=fdatasync,sync bs=64 status=none; wc -c out; dd if=text of=out conv=excl status=none; dd if=text of=new conv=nocreat status=none; dd if=text of=to-tree oflag=nofollow; dd of=out if=nosuch; dd if=tree status=none; dd if=text iflag=directory; dd if=text cbs=10 conv=block status=none; dd if=text conv=swab status=none; dd if=text conv=ebcdic status=none | od -c | sed -n 1p; dd if=text conv=badone
dd if=/dev/zero of=d bs=4096 count=4 oflag=direct status=none && dd if=d iflag=direct bs=4096 status=none | md5sum; dd if=/dev/zero of=d bs=4096 count=4 oflag=dsync conv=notrunc status=none; dd if=d iflag=nocache count=0 status=none; dd of=d oflag=nocache conv=notrunc,fdatasync count=0 status=none; dd if=/dev/zero of=s bs=1M seek=5 count=0 status=none; stat -c '%s %b' s; dd if=/dev/zero of=s bs=1M count=1 conv=sparse status=none; stat -c '%s %b' s; dd if=d bs=1000 iflag=fullblock,count_bytes,skip_bytes count=1500 skip=100 status=none | wc -c; (sleep 0.1; echo slow) | dd bs=1M iflag=nonblock status=none; dd if=/dev/full of=/dev/full count=1 2>&1 | times; dd if=d of=d2 bs=512 2>&1 | times; rm s
(dd if=/dev/zero of=/dev/null bs=1k & p=$!; sleep 0.2; kill -USR1 $p; sleep 0.2; kill -TERM $p; wait $p; echo $?) 2>&1 | numbers | cut -c1-9; yes | dd bs=64k count=3 iflag=fullblock status=none | wc -c; dd if=text ibs=2 obs=3 status=noxfer of=o; dd seek=-1; dd if=text bs=0; dd if=/dev/zero bs=1 count=1 seek=1 of=/dev/null status=none; dd if=text of=/dev/fd/1 status=none; seq 5 | dd bs=2 skip=1 count=2 status=none
install text new; stat -c %a new; install -m 600 -D text a/b/c; stat -c %a a/b/c a/b; install -d -m 700 n/m; stat -c %a n n/m; install -p text kept; stat -c %Y kept; install -C text new; install -v -b text new; ls new*; install -s /bin/true st; ./st; install -t tree text; install nosuch x; install -o nosuch text x; install -g 0 text x; install -m u=rwx,go= text y; stat -c %a y; install -m bad text y; install -T text tree
mv text new; mv new tree; mv -n colours empty; mv -v tree tree2; mv -t tree2 colours empty; ls tree2; mv nosuch x; mv tree2 tree2/deep; mv -b tree2/text tree2/colours; ls tree2; mv -T tree2 dangling; mv dangling d2; readlink d2; mv -f bytes blanks; mv -i blanks d2 < /dev/null; mv --strip-trailing-slashes tree2/ t3; mv -u t3/text t3/colours; mv . x; mv x/. y
mv text /dev/shm/coreutils-$$ && cat /dev/shm/coreutils-$$ && mv /dev/shm/coreutils-$$ back && stat -c '%a %Y' back; cp -a tree /dev/shm/t-$$; mv /dev/shm/t-$$ moved; find moved | sort; stat -c %h moved/hard; mkdir full; touch full/x; mv full tree/full; mkdir full; mv -T full tree/full
rm text; rm nosuch; rm -f nosuch; rm tree; rm -d tree; rm -r tree; ls; rm -i empty < /dev/null; yes n | rm -i empty; mkdir e; rm -d e; rm -v dangling; rm -rf nosuch to-tree; rm -I blanks bytes; rm -r .; rm --one-file-system -rf .; ls; rm -- -x; rm ''; rm -rf /; rm colours/
mkdir -p a/{1..60}/b; rm -rf a; ls -d a; mkdir -m 500 ro; touch ro/x; rm -rf ro; mkdir r2; touch r2/x; chmod 555 r2; rm -r r2; rm -f r2/x; chmod 0 r2; rm -r r2; ls r2; chmod 700 r2; rm -r --preserve-root r2; touch a b; chmod 400 a; rm a < /dev/null; ls a; rm -f b
shred text; stat -c %s text; cmp -s text colours; echo $?; rm text; shred -u colours; ls colours; shred -n1 -z -x blanks; od blanks; shred -s 10 -v -n1 bytes; stat -c %s bytes; shred nosuch; shred tree; shred --random-source=bytes -n1 empty; shred -zun1 --remove=unlink tree/hard; shred -n1 - <> bytes >&0; stat -c %s bytes; rm bytes; chmod 400 empty; shred -f empty; stat -c %a empty
# links and special files
ln text hard; stat -c %h text; ln -s text soft; readlink soft; ln text hard; ln -f colours hard; stat -c %h colours text; ln -sf text soft; ln -sfn tree soft; readlink soft; ln -sr tree/deep/er/file rel; readlink rel; ln -b text soft; ls soft*; ln tree x; ln -s text tree; readlink tree/text; ln -t tree empty; ln -L dangling x; ln -P dangling x; readlink x; ln nosuch x; ln -sT a tree; ln -v text v; ln -d tree y 2>&1; ln -s '' e
link text k; stat -c %h k; link text k; link nosuch x; link tree x; link a; link dangling dl; stat -c %F dl
unlink text; ls text; unlink nosuch; unlink tree; unlink dangling; unlink a b
readlink dangling; readlink text; readlink -f to-tree/deep/er/link | sed "s,$PWD,.,"; readlink -f nosuch/x; readlink -m nosuch/x/.. | sed "s,$PWD,.,"; readlink -e dangling; readlink -n dangling; readlink -z dangling to-tree | od -c; readlink -v text; ln -s loop loop; readlink -f loop; readlink /proc/self/fd/0 < /dev/null; readlink -q ''
realpath to-tree/deep --relative-to=.; realpath -s to-tree/deep --relative-to=.; realpath -e dangling; realpath -m a/../b --relative-to=.; realpath --relative-base=/usr /usr/bin /etc; realpath /usr/bin/../lib; realpath -L to-tree/.. --relative-to=.; ln -s loop loop; realpath loop; realpath -z / | od -c; realpath text/x
mkdir d; mkdir d; mkdir -p a/b/c; mkdir -m 711 m; stat -c %a m; mkdir -v v; mkdir -pv p/q; mkdir nosuch/x; mkdir -pm 700 s/t; stat -c %a s s/t; mkdir text/x; mkdir -Z z; umask 077; mkdir u; stat -c %a u; mkdir -m +t st; stat -c %a st; mkdir $(printf %0300d 1) 2>&1 | tail -c 20; mkdir ''; mkdir -m bad b; mkdir -p .; mkdir /proc/x 2>&1 | cut -c1-40
rmdir tree; mkdir -p e/f/g; rmdir -p e/f/g; ls e; rmdir nosuch; rmdir text; mkdir e; rmdir -v e; rmdir --ignore-fail-on-non-empty tree; rmdir to-tree; mkdir x; rmdir x/.; rmdir -p tree/deep/er; rmdir /proc; rmdir .
mkfifo p; stat -c '%F %a' p; mkfifo -m 600 q; stat -c %a q; mkfifo p; mkfifo nosuch/p; mkfifo -m 7777 s 2>&1; (cat text > p) & cat < p | wc -l; (sleep 0.1; cat p) & echo late > p; wait
mknod f p; stat -c %F f; mknod -m 600 g p; stat -c %a g; mknod b b 7 0; mknod c c 1 3; mknod f p 1 2; mknod x; mknod y q 1 1; mknod z c 1
mktemp | sed 's/.\{10\}$//'; f=$(mktemp -p . xXXXXXX); stat -c '%a %s %F' $f; d=$(mktemp -d -p . yXXXXXXX); stat -c '%a %F' $d; rm -r $f $d; mktemp -u aXXX | wc -c; mktemp XX; mktemp nosuch/XXX; mktemp -p nosuch XXX 2>&1 | sed 's/nosuch.[^:]*/nosuch/; s/‘.*’/X/'; mktemp -q nosuch/XXX; TMPDIR=tree mktemp -t qXXX --suffix=.c -u | wc -c; mktemp a/bXXX -t
truncate -s 10 text; wc -c text; truncate -s +5 text; wc -c text; truncate -s %8 text; wc -c text; truncate -s '<4' text; wc -c text; truncate -r colours text; wc -c text; truncate -c -s 1 nosuch; ls nosuch; truncate -s 50M big; stat -c '%s %b' big; rm big; truncate -o -s 1 blk; truncate -s -100 text; wc -c text; truncate -s x text; truncate -s 1 tree; truncate -s 9E too; stat -c %s too; rm -f too; truncate -s 1 nosuch/x; truncate text; chmod 400 colours; truncate -s 0 colours; mkfifo ff; truncate -s 1 ff; rm ff
# modes, owners, times
chmod 600 text; chmod u+x,g=w,o= text; stat -c %A text; chmod -R go-rwx tree; stat -c %a tree tree/deep/er/file; chmod -v 644 text; chmod -c 644 text; chmod --reference=text colours; chmod 7777 empty; stat -c %A empty; chmod +t tree; stat -c %A tree; chmod g+s tree; stat -c %A tree; mkdir tree/new; stat -c %A tree/new; chmod 644 nosuch; chmod -f 644 nosuch; chmod bad text; chmod a=X tree text; stat -c %A tree text; chmod 644 dangling; chmod 600 to-tree; stat -c %a tree; chmod -R 700 to-tree; chmod 644 /etc/passwd 2>&1; chmod -R --preserve-root 0 /; chmod u=rwx,g=u,o=g text; stat -c %a text; umask 027; chmod +w text; stat -c %a text; chmod -x+r text
chmod 0 text; cat text; test -r text; echo $?; chmod 200 text; echo x >> text; cat text; chmod 0 tree; ls tree; cd tree; chmod 700 tree; chmod 600 tree; ls tree 2>&1; stat tree/hard 2>&1; chmod 300 tree; ls tree; cat tree/hard; chmod -R u+rwX tree; chmod 4755 text; stat -c %a text; echo >> text; stat -c %a text
chown $(id -u) text; chown $(id -u):$(id -g) text; chown :$(id -g) text; chown root text; chown 0:0 text; chown -h $(id -u) dangling; chown $(id -u) dangling; chown -R $(id -u) tree; chown -v $(id -u) text; chown -c $(id -u) text; chown nosuch text; chown --from=0 1 text; chown --reference=colours text; chown -RH $(id -u) to-tree; chown -RL $(id -u) to-tree; chown 1 nosuch; chmod 6755 empty; chown $(id -u) empty; stat -c %a empty; chown root /etc/passwd; chown '' text; chown : text; chown -R root tree; chown -f root text
chgrp $(id -g) text; chgrp root text; chgrp nosuch text; chgrp -R $(id -g) tree; chgrp -v $(id -g) text; chgrp -h $(id -g) dangling; chgrp -c --reference=text colours; chgrp 1 nosuch; chgrp 0 /etc/passwd; chmod 2755 empty; chgrp $(id -g) empty; stat -c %a empty
touch new; stat -c '%s %a' new; [ $(stat -c %.X new) = $(stat -c %.Z new) ] && echo one clock; touch colours; [ $(stat -c %.Y colours) = $(stat -c %.Z colours) ] && echo one clock; touch -d '2020-01-02 03:04:05' text; stat -c '%X %Y' text; touch -a -d @5 text; stat -c '%X %Y' text; touch -m -t 201001020304.05 text; stat -c '%X %Y' text; touch -r text colours; stat -c %Y colours; touch -c nosuch; ls nosuch; touch -h -d @7 dangling; stat -c %Y dangling; touch dangling; stat -c %F nowhere; touch nosuch/x; touch -d bad x; touch tree/; touch -d '2001-02-03 04:05:06.987654321' text; stat -c %y text; touch -d @-1 text; stat -c %Y text; touch -d @4294967296 text; stat -c %Y text; touch -d '1900-01-01' text; stat -c %Y text; touch /; touch /etc/passwd; touch - > out; chmod 0 empty; touch empty; touch -d @1 empty; stat -c %Y empty; touch ''; a=$(stat -c %Z text); touch -r text -d '+1 day' text; stat -c %Y text
# looking
ls; ls -a; ls -A -1; ls -l | times; ls -la tree | times; ls -ln text | times; ls -i1 | numbers; ls -R tree; ls -d tree; ls -F; ls -p; ls -s text; ls -S; ls -t text colours; ls -tr text colours; ls -X; ls -x; ls -m; ls -C; ls -w 20; ls --color=always; ls -Q; ls -b; ls -N; ls -k -s text; ls -h -l tree/hard; ls --full-time text; ls --time-style=+%s -l text; ls -lu text | times; ls -lc text | times; ls --time=birth -l text | times; ls -g text | times; ls -o text | times; ls -G -l text | times; ls -L dangling; ls -lH to-tree | times; ls -U1 tree | sort; ls -f | sort; ls -Z text; ls --group-directories-first; ls -I 't*'; ls -B; ls nosuch; ls -l nosuch text 2>&1 | times; ls --hyperlink=never; ls -v; ls --zero | od -c | sed -n 1p; ls --author -l text | times; ls -D tree; ls -lZ text | times; ls > /dev/full; ls ''; ls --sort=size; ls -l /dev/null | times; ls -l /proc/self/fd/0 < /dev/null | cut -c1-10; ls -d /proc/self/cwd
setfattr -n user.colour -v red text; getfattr -d text; ls -l text; cp -a text copy; getfattr -d copy; cp text plain; getfattr -d plain; cp --preserve=xattr text px; getfattr --only-values -n user.colour px; mv text moved; getfattr -d moved; setfattr -x user.colour moved; getfattr -d moved; setfattr -n trusted.x -v y moved; setfattr -n security.x -v y moved; setfattr -n user.x -v y dangling; setfattr -h -n user.x -v y dangling; install colours inst; getfattr -d inst
getfacl -c text tree; getfacl -c --omit-header dangling; getfacl -cd tree; ls -l text | times; cp --preserve=all text c2; getfacl -c c2; chmod 2711 tree; getfacl tree; getfacl -R -c tree
dir; dir -1 tree; dir -l text | times; vdir text | times; vdir -R tree | times; dir nosuch; vdir -n nosuch
dircolors | md5sum; dircolors -c | cut -c1-20; dircolors -p | sed -n 1,3p; dircolors text; echo 'DIR 01;34' | dircolors -; SHELL= dircolors
stat text | sed -E 's/(Device|Inode): [^ \t]+/\1/g; s/^ *(Change|Birth): .*/\1/; s/Access: [0-9].*/Access/'; stat -c '%n %s %a %A %F %h %u %U %g %G %t %T %B %o %N' text dangling tree; stat -t nosuch; stat -L dangling; stat -L -c %F to-tree; stat -c %N dangling; stat --printf '%a\n' text; stat -c %b%B empty; stat -c '%m' / ; stat - < text | sed -n 1p; stat -c '%F %t %T' /dev/null /dev/zero /dev/full /dev/random /dev/tty; stat --cached=never -c %s text; stat --cached=always -c %s text; stat -c %D text | wc -l; stat -c '%w' /proc/self/comm; stat -c %Q text; stat ''; stat -c %h tree
stat -f / > /dev/null; stat -f -c '%T' /proc /dev/shm /dev/pts; stat -f -c '%s %S %l' /dev/shm; stat -f nosuch; stat -f -c '%n %a' . | numbers; stat -f -t . | wc -w; stat -f -c %T /sys; stat -f -c '%b %f %a' /proc
df . > /dev/null; df --output=target / ; df -h . | numbers | wc -l; df -i . | wc -l; df -T /dev/shm | awk 'NR > 1 { print $2, $NF }'; df nosuch; df --total / /dev/shm | tail -n1 | cut -d' ' -f1; df -P / | wc -l; df -t nosuchtype; df -x tmpfs > /dev/null; df -l > /dev/null; df -B1 /dev/shm --output=itotal,file | wc -l; df --output=bad; df -a > /dev/null; df /proc | awk 'NR > 1 { print $NF }'; df --sync / > /dev/null; df -H -k > /dev/null; df /dev/null | awk 'NR > 1 { print $NF }'
du -b text; du -s -b --apparent-size text colours; du -a -b tree/deep/er/file; du --inodes tree; du -l --inodes tree; du -c -b text colours; du -0 -b text | od -c; du nosuch; du -L -b dangling; du -D -b to-tree/deep/er/link; du -d 0 --inodes tree; du -S --inodes tree; du -t 1M .; du --exclude='deep' --inodes tree; du -X <(echo '*ee*') --inodes .; printf 'text\0' | du -b --files0-from=-; du -x --inodes -s .; du --time -b text | times; du --time=atime --time-style=+%Y -b empty | wc -l; du -h -b text; du -b -m text; chmod 0 tree/deep; du --inodes tree; chmod 700 tree/deep; seq 100000 > big; [ $(du -k big | cut -f1) -ge 500 ] && echo blocks; truncate -s 10M hole; du hole; du --apparent-size -m hole; rm hole
sync; sync text; sync -d text; sync -f text; sync nosuch; sync -d; sync tree; sync -d -f text
pwd | sed "s,$here,.,"; /bin/pwd | sed "s,$here,.,"; cd to-tree; /bin/pwd -L | sed "s,$here,.,"; /bin/pwd -P | sed "s,$here,.,"; mkdir gone; cd gone; rmdir ../gone; /bin/pwd; ls; ls -a; touch x; stat -c %h .; cat .; sync .
basename /a/b.c .c; basename -a a/b c/d; basename -s .x a.x b.x; basename; basename -z a | od -c; basename /; basename ''
dirname /a/b /c a; dirname -z a/b | od -c; dirname ''; dirname
pathchk ok; pathchk -p 'a b'; pathchk -P -- -x; pathchk $(printf %0300d 1) 2>&1 | cut -c1-30; pathchk text/x; pathchk ''; pathchk -p ''
date -u -d @0; date -d '2001-02-03 04:05:06' +'%F %T %s %j %U'; date -r text; date -I -d @0; date -R -d @0; date --rfc-3339=ns -d @1.5; date -d bad; date -f <(printf '@1\n@2\n') +%s; date +%Y | wc -c; date +%N | wc -c; date -s @0 2>&1 | cut -c1-28; TZ=Europe/Berlin date -d @0; date -d 'TZ="America/New_York" @0'; date --resolution; date -d '1 day ago' > /dev/null; date --debug -d @0 +%s 2>&1 | tail -n1; date -u -d '2001-01-01 +1 month' +%F
# test and [
for o in e f d h L p S b c r w x s O G k u g t; do for f in text empty tree dangling to-tree nosuch /dev/null; do /usr/bin/test -$o $f; printf '%s' $?; done; echo " $o"; done
/usr/bin/test text -nt colours; echo $?; /usr/bin/test text -ot colours; echo $?; /usr/bin/test tree/hard -ef tree/deep/er/file; echo $?; /usr/bin/test text -ef colours; echo $?; /usr/bin/test -t 0 < /dev/null; echo $?; /usr/bin/test -S /dev/null; echo $?; chmod 111 text; /usr/bin/test -x text; echo $?; /usr/bin/test -r text; echo $?; /usr/bin/test -w /etc/passwd; echo $?; /usr/bin/test -r /etc/shadow; echo $?; touch -a -d @5 colours; touch -m -d @9 colours; /usr/bin/test -N colours; echo $?; cat colours > /dev/null; /usr/bin/test -N colours; echo $?; chmod 6755 empty; /usr/bin/test -u empty -a -g empty; echo $?; chmod +t tree; /usr/bin/test -k tree; echo $?; /usr/bin/test 1 -lt 2 -a 2 -ge 2; echo $?; /usr/bin/test 1 -eq a; echo $?; /usr/bin/test; echo $?; /usr/bin/test a = b = c; echo $?; /usr/bin/test -l abc = 3; echo $?
/usr/bin/[ -f text ]; echo $?; '/usr/bin/[' 1 -lt 2 ]; echo $?; '/usr/bin/[' 1; echo $?; '/usr/bin/[' -d text -o -n x ]; echo $?; '/usr/bin/[' --version | sed -n 1p
# running programs
env -i A=1 B=2 env; env -u PATH /usr/bin/env | grep -c ^PATH; env -S 'A=1 sh -c "echo \$A"'; env -C tree sh -c 'ls'; env A=1 nosuch; env ./text; env -0 -i A=1 | od -c; env --ignore-signal=TERM sh -c 'kill -TERM $$; echo alive'; env --default-signal=PIPE sh -c 'echo ok'; env --block-signal=USR1 grep SigBlk /proc/self/status; env --list-signal-handling --ignore-signal=INT true; env -v -S 'true x' 2>&1; env -C nosuch true; env tree; env sh -c 'exit 9'; env sh -c 'kill -9 $$'; env -S '\q'; env -i -S 'V=${LANG} env' | wc -c; env -- true
chmod 755 text; printf '#!/usr/bin/env -S sh -e\necho from script $1\nfalse\necho not\n' > text; ./text a; printf '#!/nosuch/interpreter\n' > text; ./text; env ./text; printf 'echo no hash bang\n' > text; env ./text; echo -n > text; ./text; echo $?
printenv LC_ALL; printenv NOSUCH; printenv -0 LC_ALL | od -c; A=1 printenv A LC_ALL; printenv | grep -c '^TZ='
nice -n 5 nice | relative; nice -n 3 sh -c 'nice -n 2 nice' | relative; nice -n -5 nice | relative; nice -n 100 nice; nice nosuch; nice sh -c 'exit 7'; nice -n x true; nice -n 5; nice -n 1 ps -o ni= -p $$ | relative
nohup sh -c 'echo out; echo err >&2' < /dev/null > o 2>&1; cat o; nohup nosuch > /dev/null 2>&1; echo $?; nohup sh -c 'kill -HUP $$; echo alive' 2> /dev/null; nohup; nohup sh -c 'trap | cat; grep -c "SigIgn:.*[13579bdf]\$" /proc/self/status' 2>/dev/null; POSIXLY_CORRECT=1 nohup
timeout 5 true; timeout 0.1 sleep 5; echo $?; timeout -s KILL 0.1 sleep 5; echo $?; timeout --preserve-status 0.1 sleep 5; echo $?; timeout -k 0.1 0.1 sh -c 'trap "" TERM; sleep 3 & wait; while :; do sleep 0.2; done'; echo $?; timeout --foreground 0.1 sleep 5; echo $?; timeout 0 true; timeout x true; timeout 1 nosuch; echo $?; timeout 1 ./text; echo $?; timeout -v 0.1 sleep 5; timeout 1 sh -c 'exit 42'; echo $?; timeout 5 sh -c 'kill -SEGV $$'; echo $?; timeout -s BAD 1 true; (sleep 0.1; echo in) | timeout 2 cat; timeout 1d true; lasts 200 2000 timeout -s INT 0.2 sleep 5
lasts 0 900 sleep 0.01; lasts 100 2000 sleep 0.05 0.05; sleep x; sleep; sleep -1; sleep 0; sleep 1e-3; sleep infinity & sleep 0.1; kill $!; wait $!; echo $?; sleep 0.01s
stdbuf -o0 sh -c 'echo a; exit 3'; stdbuf -oL tr a b <<< a; stdbuf -oL -eL nosuch; stdbuf -iL true; stdbuf -o 1K cat text | md5sum; stdbuf; stdbuf -o x true; (stdbuf -oL awk 'BEGIN { print "x"; system("sleep 0.1; echo y") ; print "z" }') | cat
kill -l; kill -l 9; kill -l TERM; /bin/kill -l | sed -n 1p | cut -c1-20; sleep 5 & /bin/kill -s TERM $!; wait $!; echo $?; sleep 5 & kill -9 $!; wait $!; echo $?; kill -0 $$; echo $?; kill 999999 2>&1 | pids; kill -BAD 1 2>&1; kill -l 200 2>&1
chroot . true; chroot nosuch true; chroot / true; chroot --userspec=1 / true; chroot; chroot --skip-chdir / true; chroot / nosuch
runcon 2>&1 | cut -d: -f1,2; runcon -t x true; runcon user_u:role:type true; chcon -t x text; chcon --reference=colours text; chcon nosuch; chcon -R -t x tree; runcon -c true
tty; tty -s; echo $?; tty < text; tty extra; tty -s < /dev/null; echo $?
stty < /dev/null; stty -a < text; stty -F /dev/null; stty -F nosuch; stty bad < /dev/null; stty size < /dev/null; stty -F tree -g
script -qec 'stty -echo; stty -a | grep -o -e "-echo "; stty rows 30 cols 90; stty size; tty | cut -c1-9; test -t 0; echo $?; stty raw; stty -g | tr : "\n" | wc -l; stty sane; stty speed; stty intr ^X; stty | grep intr; stty 9600; stty speed; ls -C | sed -n 1p' /dev/null < /dev/null | tr -d '\r'
script -qec 'nohup echo hi; ls nohup.out; cat nohup.out; who am i; logname; stty tostop; stty -a | grep -o tostop; (sleep 0.1; stty size) & wait' /dev/null < /dev/null | tr -d '\r'
# signals and ends
sh -c 'kill -PIPE $$'; echo $?; yes | true; seq 1000000 | head -n1; cat /dev/zero | head -c 100 | wc -c; (trap '' PIPE; seq 100000 2> err | head -n1; echo ${PIPESTATUS[*]}; cat err; rm err); cat <&-; cat text >&-; echo x | cat - - ; head -c 3 <&- ; ls >&-; wc 0<&-; sort <&-; cp text new >&-; ls new; date >&-; tee >&- < text; echo $?
ulimit -f 1; seq 100000 > big; echo $?; wc -c big; cp big big2; dd if=/dev/zero of=z bs=4k count=1 status=none; echo $?; (trap '' XFSZ; seq 100000 > big3; echo $?); ulimit -n 4; cat text; ls; sort text colours
TABLE
}

tested=$(table | grep -v '^#' | grep -oE "[][a-z0-9.]+" | sort -u)
for program in $(dpkg -L coreutils | sed -n 's,.*bin/,,p' | sort -u); do
    grep -qxF -- "$program" <<< "$tested" || echo "not tested: $program"
done

table | grep -v '^#' | while read -r -u 0 line; do
    rm -rf case; mkdir case
    (cd case && fixture)
    echo "== $line"
    (
        cd case
        # Whatever fails says so at once, not only the last command of a line.
        trap 'echo "-> $?"' ERR
        eval "$line"
        echo "-> $?"
    ) < /dev/null 2>&1 | sed -E "s,$here/case,HERE,g; s,$here,ABOVE,g; s/(script.sh: line [0-9]+:) +[0-9]+ /\1 PID /"
    chmod -R u+rwX case 2> /dev/null
    (cd case && contents)
    rm -rf case
done
exit 0
