# mixed.sh once: what each part prints; mixed.sh FILE WANTED: all parts beside each other, over and over until FILE is there; each round must
# print what is in WANTED for that part.
part()
{
    case $1 in
    threads) python3 /programs/threads.py ;;
    pipeline) rm -f /tmp/side; sh /programs/pipeline.sh ;;
    perl) perl /programs/perl.pl ;;
    sqlite) rm -f /tmp/*.db*; python3 /programs/sqlite.py ;;
    redis) python3 /programs/redis_client.py 2000 300 2 2>/dev/null ;;
    node) node /programs/node.js ;;
    java) java -Xmx128m /programs/Work.java ;;
    held) /guest/held_state && echo held ;;
    processes) /guest/processes && echo processes ;;
    signals) /guest/signals && echo signals ;;
    sockets) /guest/socket_unix && /guest/socket_inet && echo sockets ;;
    esac
}
parts="threads pipeline perl sqlite redis held processes signals sockets"
for program in node java; do
    command -v $program >/dev/null && parts="$parts $program"
done
if [ "$1" = once ]; then
    for name in $parts; do
        part $name 2>&1 | sed "s/^/$name: /"
    done
    exit
fi
for name in $parts; do
    (
        sed -n "s/^$name: //p" "$2" >/tmp/wanted.$name
        rounds=0
        while [ ! -e "$1" ]; do
            if ! part $name >/tmp/got.$name 2>&1 || ! cmp -s /tmp/got.$name /tmp/wanted.$name; then
                echo "DIFFERENCE in $name, round $rounds: $(tail -c 500 /tmp/got.$name)"
                break
            fi
            rounds=$((rounds + 1))
        done
        echo "$name: $rounds rounds"
    ) &
done
wait
