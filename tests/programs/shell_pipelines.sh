# dash and bash: pipelines, substitution, here documents, traps, background jobs, redirections, arithmetic.
set -eu
seq 1 20000 | sort -rn | head -n 5 | paste -sd,
printf '%s\n' one two three | while read -r word; do echo "${#word} $word"; done
(exit 7) || echo "status $?"
sh -c 'trap "echo caught; exit 3" TERM; kill -TERM $$; echo not reached' || echo "status $?"
cat <<EOT | tr a-z A-Z
here document $((6 * 7))
EOT
sleep 0.2 & wait $! && echo "waited"
bash -c 'set -o pipefail; false | true; echo "pipefail $?"; arr=(a b c); echo "${arr[@]:1}" "${#arr[@]}"; [[ abc =~ b. ]] && echo "${BASH_REMATCH[0]}"'
bash -c 'diff <(seq 5) <(seq 2 6)' || echo "diff $?"
bash -c 'coproc tr a-z A-Z; echo hello >&"${COPROC[1]}"; exec {COPROC[1]}>&-; cat <&"${COPROC[0]}"'
bash -c 'mkfifo f; (echo through > f) & read -r x < f; echo "$x"; rm f; wait'
bash -c 'ulimit -n 64; ulimit -n; kill -KILL $$' || echo "killed $?"
bash -c 'for i in $(seq 1 100); do (exit $((i % 3))) ; s=$((${s:-0} + $?)); done; echo $s'
echo a > x; echo b >> x; exec 3< x; read -r l <&3; echo "$l"; exec 3<&-
yes | head -n 100000 | wc -c
