import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** Rubbish for the collector, methods that become hot, threads, parallel streams, waits. */
public class Work {
    static long mix(long x) { x ^= x << 13; x ^= x >>> 7; return x ^ x << 17; }

    static long churn(int seed) {
        Map<Long, List<String>> map = new HashMap<>();
        long x = seed + 1, sum = 0;
        for (int i = 0; i < 150_000; i++) {
            x = mix(x);
            map.computeIfAbsent(x & 1023, k -> new ArrayList<>()).add(Long.toHexString(x));
            if ((i & 8191) == 0) { sum += map.values().stream().flatMap(List::stream).mapToLong(String::hashCode).sum(); map.clear(); }
        }
        return sum;
    }

    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(6);
        List<Future<Long>> parts = new ArrayList<>();
        for (int i = 0; i < 12; i++) { int seed = i; parts.add(pool.submit(() -> churn(seed))); }
        ScheduledExecutorService clock = Executors.newScheduledThreadPool(1);
        CountDownLatch ticks = new CountDownLatch(100);
        clock.scheduleAtFixedRate(ticks::countDown, 1, 10, TimeUnit.MILLISECONDS);
        double floats = 0;
        for (int i = 1; i < 5_000_000; i++) floats += Math.sin(i) / i;
        long total = IntStream.range(0, 3_000_000).parallel().mapToLong(i -> mix(i + 1)).sum();
        for (Future<Long> part : parts) total = total * 31 + part.get();
        ticks.await();
        pool.shutdown();
        clock.shutdownNow();
        System.out.println(total + " " + Double.doubleToLongBits(floats));
    }
}
