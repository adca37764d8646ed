# dash: what a shell does with descriptors, jobs, signals, substitution and here documents; ed: editing, files, shell commands, failures.
export LC_ALL=C HOME="$PWD"
cd "$(mktemp -d "$PWD/XXXXXX")" || exit 1
# Each case in a shell of its own; its output and exit code are compared.
try() {
    echo "== $1"
    dash -c "$1" dash one 'two words' '' < /dev/null 2>&1 | sed 's/dash: [0-9]*: /dash: /'
    echo "-> $(dash -c "$1" dash one 'two words' '' < /dev/null > /dev/null 2>&1; echo $?)"
}
printf 'alpha\nbeta\ngamma\n' > f
while read -r line; do try "$line"; done <<'END'
for a; do echo "[$a]"; done; echo $# "$*"; shift 2; echo $#; set -- x y; echo "$@"; shift 9
exec 3> out 4< f; echo to three >&3; read x <&4; read y <&4; echo "$x $y"; exec 3>&- 4<&-; cat out; echo x >&3
exec 5<> f; read x <&5; echo BETA >&5; cat f; printf 'alpha\nbeta\ngamma\n' > f
cat < nosuch; echo $?; cat f > nosuch/x; echo $?; : > ro; chmod 444 ro; set -C; echo x > out; echo y >| out; cat out; echo $?
(exit 3); echo $?; (kill -9 $$) ; sh -c 'kill -TERM $$'; echo $?; ! true; echo $?; false || true && echo and; { echo a; false; }; echo $?
sleep 0.1 & p=$!; wait $p; echo $?; (sleep 0.05; exit 7) & wait $!; echo $?; wait; echo $?; wait 99999; echo $?; jobs; sleep 5 & kill $!; wait $!; echo $?
sleep 0.3 & sleep 0.1 & wait; echo all; (sleep 0.1; echo later) | cat & wait; a=$(sleep 0.1 & echo now); echo $a
trap 'echo usr1' USR1; kill -USR1 $$; trap; trap - USR1; trap 'echo bye; exit 4' EXIT; kill -l 15; kill -s BAD $$; echo going
trap '' INT; sh -c 'kill -INT $$; echo alive'; trap 'echo term' TERM; (kill -TERM $$); sleep 0.1; trap -- 'echo quoted "x"' HUP; kill -HUP $$; trap
set -e; (false; echo not) || echo caught; if false; then :; fi; f() { false; echo after; }; f || true; false; echo not reached
set -u; echo ${x-default} ${x:=set} $x ${#x}; y=/a/b.c.d; echo ${y##*/} ${y%%.*} ${y#*/} ${y%.*}; echo ${z?message}; echo not reached
x=$(cat f; echo; echo); echo "$x"; echo "$(echo "$(echo deep)")"; echo `echo \`echo old\``; x=$(exit 5); echo $?; echo $(< f)
cat <<A; cat <<-'B'; cat <<C | tr a-z A-Z
echo $((7 / 2 * 3 % 4)) $((1 << 10 | 5)) $((x = 5, x > 3)) $((010 + 0x10)); echo $((1 / 0)); echo not
case abc in a*) echo star;; *) echo other;; esac; case x in [!a-w]) echo class;; esac; case '*' in \*) echo literal; esac
i=0; while [ $i -lt 5 ]; do i=$((i + 1)); [ $i = 2 ] && continue; [ $i = 4 ] && break; echo $i; done; until true; do :; done; for i in 1 2; do for j in a b; do break 2; done; done; echo $i$j
echo *; echo f*; echo nosuch*; mkdir -p d/e; touch d/.h d/e/x; echo d/* d/.??* */*/x; set -f; echo *; IFS=:; x=a:b::c; set -- $x; echo $#
umask; umask 077; > private; ls -l private | cut -c1-10; umask u=rwx,g=,o=; umask -S; ulimit -n 20; ulimit -n; ulimit -c; (ulimit -f 1; yes > big); echo $?
cd d && pwd | sed 's,.*/,,'; cd - > /dev/null; cd nosuch; echo $?; cd ''; CDPATH=d; cd e > /dev/null && pwd | sed 's,.*/,,'; cd -P ..; hash -r; type cd cat if; command -v ls; command nosuch; echo $?
printf '%s-%d-%x\n' a 5 255 b 6; printf '%5.2f|%-5s|\n' 3.14159 ab; echo 'a\tb\c'; test -t 0; echo $?; [ f -nt nosuch ]; echo $?; test -e f -a ! -d f; echo $?; getopts ab: o -b val; echo $o $OPTARG
read a b < f; echo "$a|$b"; printf 'x\\y z\n' | { read -r a b; echo "$a|$b"; }; printf 'no newline' | { read a; echo $? $a; }; echo a,b | { IFS=, read x y; echo $y; }
eval 'echo $((1+1))'; eval 'if'; echo not reached; . ./nosuch
alias ll='echo aliased'; ll x; unalias ll; f() { local v=in; echo $v; return 3; }; v=out; f; echo $? $v; unset v f; f; echo $?; readonly r=1; r=2; echo not
exec nosuch; echo not reached
exec sh -c 'echo replaced $0 $PPID' | sed 's/[0-9]*$//'; echo $$ | grep -c .; times | wc -l; (exec 9>&1; echo nine >&9); : | cat; yes | head -n 1; echo ${PIPESTATUS-none}
mkfifo p; (cat p; echo end) & echo through > p; wait; (echo a; echo b) > p & while read x; do echo "got $x"; done < p; cat f | while read x; do last=$x; done; echo "[$last]"
END
printf 'cat <<A\n$((1+1)) `echo sub` \\$x\nA\ncat <<-"B"\n\t$x\n\tB\nwhile read x; do echo "<$x>"; done <<C\none\ntwo\nC\n' | dash
echo 'echo from $0; exit 6' > script; dash script; echo $?; chmod +x script; dash -c ./script; dash nosuch; echo $?; dash -n script; dash -x script 2>&1; dash -s a b < script; echo 'echo in $1' | dash -s arg; dash -e -c 'false; echo x'; dash -o noglob -c 'echo *'
echo 'echo prompt; exit 2' | dash -i 2>/dev/null; echo $?; dash -c 'echo $-' | tr -d '\n' | wc -c; ENV=script dash -c 'echo no'; dash -v script 2>&1

command -v ed >/dev/null || { echo "ed is not installed"; exit 77; }
edit() { echo "== ed $*"; ed "$@" 2>&1; echo "-> $?"; }
printf 'a\none\ntwo\nthree\n.\nw new\nq\n' | edit
printf ',p\n2d\n1,$n\nu\n,l\n$=\nw\nq\n' | edit new
printf 'g/o/s/o/0/g\n,p\n1,2m$\n,p\n1t.\n1,2j\n,n\nk\nka\n'"'"'ap\nw other\nq\n' | edit -s new
printf 'r !echo from shell\n,p\nw !cat -n\n!echo command\ne new\nP\nh\nzz\nh\nH\nq\nq\n' | edit -v new
printf '1i\ntop\n.\n$a\nbottom\n.\n/t[ow]/\n?e$?\n1,3c\nchanged\n.\n,p\nq\nq\n' | edit -s new
printf 'v/t/d\n,p\ns/\\(t\\)\\(.\\)/\\2\\1/\np\n1,$y\n$x\n,p\nQ\n' | edit -s -E new
edit nosuch < /dev/null; edit -s /nosuch/file < /dev/null; chmod 400 new; printf 'a\nx\n.\nw\nq\nq\n' | edit -s new; printf 'f\nf name\nf\nE new\n=\nW other\nw other2\nq\n' | edit new; cat other; printf 'q\n' | edit -p '* ' new; printf '!exit 3\n99p\nq\n' | edit -s new; seq 20000 > many; printf 'g/7$/d\n,s/1/one/g\n$=\nw\nq\n' | edit many; md5sum many; printf 'r many\n1,10p\nw /dev/full\nQ\n' | edit -s new
exit 0
