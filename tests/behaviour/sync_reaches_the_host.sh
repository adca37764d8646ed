# What is to be on disk in a granted folder is asked of the host, by each of the ways that there are to say so; what lies in memory is not.
. "$(dirname "$0")/cli_support.inc"
mkdir folder read-only
echo text >folder/file
echo text >read-only/file

# asks COUNT PATTERN COMMAND...: so many calls of the ABI match the pattern.
asks()
{
    count=$1
    pattern=$2
    shift 2
    expect 0 "$BAILEY" trace --abi -- -v ./folder:/folder -v ./read-only:/read-only:ro -w /folder "$@"
    got=$(grep -cE "$pattern" err)
    [ "$got" = "$count" ] || fail "$*: $got of $pattern, expected $count: $(grep -E 'stream_(flush|write)' err)"
}

asks 1 'stream_flush\(0x[0-9a-f]+, 0x0\) = 0' sync file
asks 1 'stream_flush\(0x[0-9a-f]+, 0x1\) = 0' sync -d file
asks 1 'stream_flush\(0x[0-9a-f]+, 0x0\) = 0' sync .
asks 1 'stream_flush\(0x[0-9a-f]+, 0x2\) = 0' sync -f file
asks 1 'stream_flush\(0x[0-9a-f]+, 0x2\) = 0' sync -f .
asks 1 'stream_flush\(0x[0-9a-f]+, 0x2\) = 0' sync
asks 0 'stream_flush' sync -f /read-only/file
asks 0 'stream_flush' sync -f /tmp
asks 3 'stream_write\(.*, 0x4\) = 1' dd if=/dev/zero of=file bs=1 count=3 oflag=dsync
asks 1 'stream_flush\(0x[0-9a-f]+, 0x1\) = 0' python3 -c '
import mmap
with open("file", "r+b") as file:
    with mmap.mmap(file.fileno(), 0) as view:
        view[0] = 65
        view.flush()'
