# gcc and make: several files, a library, threads, run the result.
set -eu
cat > lib.c <<'EOT'
int twice(int x) { return 2 * x; }
EOT
cat > main.c <<'EOT'
#include <pthread.h>
#include <stdio.h>
int twice(int);
static void *run(void *p) { *(int *)p = twice(*(int *)p); return p; }
int main(void) { pthread_t t; int v = 21; pthread_create(&t, 0, run, &v); pthread_join(t, 0); printf("%d\n", v); return v - 42; }
EOT
printf 'prog: main.o liblib.a\n\tgcc -o $@ main.o -L. -llib -pthread\nliblib.a: lib.o\n\tar rcs $@ $^\n%%.o: %%.c\n\tgcc -O2 -Wall -c -o $@ $<\n' > Makefile
make -s -j2 && ./prog; make -q && echo up-to-date; nm -g --defined-only liblib.a | tail -n 1 | cut -c18-; objdump -d lib.o | grep -c ret
gcc -static -O1 -o static main.c lib.c -pthread && ./static; gcc -g -fsanitize=undefined -o ub main.c lib.c -pthread && ./ub
printf '#include <iostream>\nint main(){ try { throw 3; } catch (int x) { std::cout << x << std::endl; } }' > a.cc; command -v g++ >/dev/null && g++ -O1 -o cc a.cc && ./cc || echo 3
