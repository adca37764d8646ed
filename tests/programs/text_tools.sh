# grep, sed, awk, find, xargs, diff, patch-like tools over generated text.
export LC_ALL=C
set -eu
awk 'BEGIN { for (i = 1; i <= 5000; i++) printf "%d line %d of %s\n", i, i * 7 % 101, (i % 3 ? "odd" : "even") }' > data
grep -c even data; grep -n 'line 100 of' data | head -n 3; grep -E '^(12|99)[0-9] ' data | wc -l
sed -n '10,12p;$p' data; sed 's/line \([0-9]*\)/<\1>/' data | sed -n '100p'; sed -i '1,4990d' data; cat data
awk '{ n[$5]++; s += $1 } END { for (k in n) print k, n[k] | "sort"; close("sort"); print s }' data
mkdir -p tree/a/b tree/c; touch tree/a/1 tree/a/b/2 tree/c/3; chmod 600 tree/a/1
find tree -type f | sort; find tree -perm 600 -printf '%f %m\n'; find tree -type f -print0 | sort -z | xargs -0 -n1 basename
seq 1 1000 | xargs -P 4 -n 10 sh -c 'echo $#' _ | sort | uniq -c | sed 's/^ *//'
cp data data2; sed -i 's/odd/ODD/' data2; diff -u data data2 | grep -c '^[-+]' || true; cmp data data2 | sed 's/,.*//' || true
