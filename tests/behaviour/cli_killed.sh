# What the host kills ends clearly: a picoprocess as if by a signal inside, the first one with a message, the monitor with all it had.
. "$(dirname "$0")/cli_support.inc"

children()
{
    ps -o pid= --ppid "$1" | tr -d ' '
}

# killed WHICH EXIT [PREFIX]: runs two shells and kills one process of the sandbox. The picoprocesses are children of the first.
killed()
{
    "$BAILEY" run sh -c 'sh -c "sleep 50; true"; echo "child $?"; exit 7' >out 2>err &
    monitor=$!
    for i in 1 2 3 4 5 6 7 8 9 10; do
        sleep 0.2
        first=$(children $monitor)
        all=$(children "${first:-0}")
        [ "$(echo "$all" | wc -w)" = 3 ] && break
    done
    case $1 in
    monitor) victim=$monitor ;;
    first) victim=$first ;;
    main) victim=$(echo "$all" | sed -n 1p) ;;
    child) victim=$(echo "$all" | sed -n 2p) ;;
    esac
    kill -9 "$victim"
    wait $monitor
    got=$?
    [ $got = "$2" ] || fail "$1 killed: exit $got, expected $2: $(cat out err)"
    sleep 0.3
    for process in $first $all; do
        state=$(ps -o stat= -p "$process")
        [ -z "${state##Z*}" ] || fail "$1 killed: $process still lives ($state)"
    done
}

killed main 137
killed child 7
[ "$(tail -n 1 out)" = "child 137" ] || fail "child: $(cat out)"
killed first 125
complains "died of signal 9"
killed monitor 137
expect 0 "$BAILEY" ps -aq
says ""
[ -z "$(ls "$XDG_RUNTIME_DIR/bailey")" ] || fail "left behind: $(ls "$XDG_RUNTIME_DIR/bailey")"

# Where the state lies: without XDG_RUNTIME_DIR, or with one that cannot be written, in a private folder, and always the same.
expect 0 env -u XDG_RUNTIME_DIR "$BAILEY" run echo ok
says "ok"
if [ "$(id -u)" != 0 ]; then
    expect 0 env XDG_RUNTIME_DIR=/nonexistent "$BAILEY" run echo ok
    expect 0 env XDG_RUNTIME_DIR=/usr "$BAILEY" run echo ok
fi
exit 0
