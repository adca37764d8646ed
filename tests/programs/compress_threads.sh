# xz and zstd with several threads, and gzip's and bzip2's relatives in pipes: the same bytes come out, and the same go in again.
export LC_ALL=C
set -eu
python3 -c '
import random, sys
chance = random.Random(42)
words = [bytes(chance.choices(range(97, 123), k=chance.randint(2, 9))) for _ in range(3000)]
for _ in range(6):
    sys.stdout.buffer.write(b" ".join(chance.choices(words, k=20000)) + chance.randbytes(20000))' > input
md5sum < input
for command in 'xz -1 -T0 --block-size=512KiB' 'xz -2 -T4 --block-size=512KiB' 'xz -0 -T1' 'zstd -q -T0' 'zstd -q -T4 -B512K -5' 'zstd -q -T2 --long=24 --rsyncable' 'zstd -q -1 --single-thread' \
    'gzip -n' 'bzip2 -1'; do
    command -v ${command%% *} >/dev/null || { echo "${command%% *} is not installed"; exit 77; }
    $command -c input > packed
    $command -c < input | cmp - packed && md5sum < packed
    ${command%% *} -dc packed | md5sum
done
xz -T0 --block-size=512KiB -k -1 input; xz -T0 -dc input.xz | cmp - input; xz -l input.xz | tail -n1; xz -t -T2 input.xz; zstd -q -T0 -k input; zstd -q -t input.zst; zstd -lv input.zst 2>&1 | grep -E 'Frames|Check'
head -c 100000 input.xz > cut.xz; xz -T0 -dc cut.xz > /dev/null || echo "xz $?"; zstd -qdc < input.xz > /dev/null || echo "zstd $?"
