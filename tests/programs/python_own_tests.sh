# Modules of Python's own test suite: each module's exit code and what fails in it. All of them at once, since most of their time is
# waiting (in the background the shell ignores SIGINT, hence env). Left out: tests that wait for many seconds, one that needs F_NOTIFY,
# and TestStartMethod, which fails natively too.
python3 -c 'import test.test_os' 2>/dev/null || { echo "libpython3.11-testsuite is not installed"; exit 77; }
# NAME OPTION...: its outcome to NAME.out
module() {
    name=$1
    shift
    env --default-signal=INT python3 -m test --verbose --timeout 100 "$name" "$@" >"$name.log" 2>&1
    { echo "$name $?"; grep -E '^(FAIL|ERROR): ' "$name.log" | sort; } >"$name.out"
}
several() {
    for name; do
        module "$name" -i test_fcntl_64_bit
    done
}
quick="test_select test_epoll test_fcntl test_os test_posix test_pathlib test_tempfile test_shutil test_mmap test_pty test_openpty test_resource
    test_popen"
waiting="test_fork1 test_wait3 test_wait4 test_threadsignals"
several $quick &
several $waiting &
module test_poll -i test_poll2 &
module test_threading &
module test_subprocess -i '*timeout*' &
module test_signal -i '*siginterrupt*' &
module test_socket -i '*Timeout*' &
module test_multiprocessing_fork -i '*WithManager*' -i '*WithThreads*' -i TestWait -i TestStartMethod -i test_thread_safety -i '*TestBarrier*' \
    -i '*TestPoll*' &
wait
for name in $quick $waiting test_poll test_threading test_subprocess test_signal test_socket test_multiprocessing_fork; do
    cat "$name.out"
done
