# --migratable: programs see a processor of the level asked for. Where CPUID can be made to fault that holds everywhere, elsewhere in the code of
# files; both ways are tested.
. "$(dirname "$0")/cli_support.inc"

tests="-v $BUILD/tests/guest:/tests:ro"
expect 125 "$BAILEY" run --migratable=x86-64-v5 true
complains "x86-64-v5 is not a level of processors"
expect 125 "$BAILEY" run --migratable=avx2 true
complains "avx2 is not a level of processors"
echo 'migratable: x86-64-v9' >policy.yaml
expect 125 "$BAILEY" run --policy policy.yaml true
complains "x86-64-v9 is not a level of processors"

see_level()
{
    for program in cpuid_features cpuid_features_static; do
        expect 0 $host "$BAILEY" run --migratable=x86-64-v$level $tests -e CPU_LEVEL=$level $everywhere /tests/$program
    done
    # What the C library's loader takes for supported is what it was shown.
    expect 0 $host "$BAILEY" run --migratable=x86-64-v$level /lib64/ld-linux-x86-64.so.2 --help
    for other in 2 3 4; do
        if [ $other -le $level ]; then
            grep -q "x86-64-v$other (supported" out || fail "v$other is not supported with v$level"
        else
            grep -q "x86-64-v$other (supported" out && fail "v$other is supported with v$level"
        fi
    done
}

shown=
for level in 2 3 4; do
    "$BAILEY" run --migratable=x86-64-v$level true 2>err || { complains "it lacks"; continue; }
    shown="$shown $level"
    host= everywhere=
    "$BAILEY" check | grep -q 'CPUID faulting *yes' && everywhere="-e CPU_EVERYWHERE=1"
    see_level
    host="$BUILD/tests/monitor/no-cpuid-faulting" everywhere=
    see_level
done
[ "$shown" ] || exit 77

# Signals preserve what programs use although it is not shown to them, where nothing keeps them from using it.
expect 0 "$BUILD/tests/monitor/no-cpuid-faulting" "$BAILEY" run --migratable=x86-64-v2 $tests /tests/signals
expect 0 "$BAILEY" run --migratable=x86-64-v2 $tests /tests/cpuid_static

echo 'migratable: x86-64-v2' >policy.yaml
expect 0 "$BAILEY" run --policy policy.yaml $tests -e CPU_LEVEL=2 /tests/cpuid_features
expect 0 "$BAILEY" policy show --json --policy policy.yaml
grep -q '"migratable": *"x86-64-v2"' out || fail "not in the policy: $(cat out)"

expect 125 "$BUILD/tests/monitor/no-cpuid-faulting" "$BAILEY" run --migratable=x86-64-v2 --no-patch true
complains "cannot make the CPUID instruction fault"
# A sandbox sees the same when it goes on elsewhere, whatever that host can do.
for from in faulting no-faulting; do
    for to in faulting no-faulting; do
        from_host= to_host= name=$from-$to
        [ $from = no-faulting ] && from_host="$BUILD/tests/monitor/no-cpuid-faulting"
        [ $to = no-faulting ] && to_host="$BUILD/tests/monitor/no-cpuid-faulting"
        rm -f stop
        expect 0 $from_host "$BAILEY" run -d --name $name --migratable=x86-64-v2 $tests -v "$PWD:/w" -e CPU_LEVEL=2 -e CPU_UNTIL=/w/stop /tests/cpuid_features
        sleep 0.2
        expect 0 "$BAILEY" suspend $name -o image
        "$BAILEY" rm -f $name >/dev/null 2>&1
        expect 0 $to_host "$BAILEY" resume -d --name $name $tests -v "$PWD:/w" image
        sleep 0.2
        touch stop
        expect 0 "$BAILEY" wait $name
        says 0
        "$BAILEY" rm -f $name >/dev/null 2>&1
        rm image
    done
done

# Where it would see more, it goes on only by force.
if "$BAILEY" check | grep -q 'CPUID faulting *yes'; then
    expect 0 "$BAILEY" run -d --name bare --no-patch --migratable=x86-64-v2 sleep 100
    expect 0 "$BAILEY" suspend bare -o image
    "$BAILEY" rm -f bare >/dev/null 2>&1
    expect 125 "$BUILD/tests/monitor/no-cpuid-faulting" "$BAILEY" resume -d --name bare image
    complains "cannot make the CPUID instruction fault"
    "$BAILEY" rm -f bare >/dev/null 2>&1
    expect 0 "$BUILD/tests/monitor/no-cpuid-faulting" "$BAILEY" resume -d --name bare --force image
    expect 0 "$BAILEY" rm -f bare
    rm image
fi

# exec and programs that were started by others see the same.
expect 0 "$BAILEY" run -d --name level --migratable=x86-64-v2 $tests sleep 100
expect 0 "$BAILEY" exec -e CPU_LEVEL=2 level sh -c /tests/cpuid_features
expect 0 "$BAILEY" rm -f level
