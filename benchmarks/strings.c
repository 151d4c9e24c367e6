// Times string functions of the C library: prints "function size nanoseconds", the median of many batches. See bench_strings.py.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCHES = 31, LARGEST = 1 << 20 };

static char *from, *to;
static volatile size_t sink;

static void do_memcpy(size_t n) { sink += (size_t)memcpy(to, from, n); }
static void do_memset(size_t n) { sink += (size_t)memset(to, 1, n); }
static void do_strlen(size_t n) { from[n] = 0; sink += strlen(from); from[n] = 'x'; }
static void do_memchr(size_t n) { sink += (size_t)memchr(from, 'y', n); }
static void do_memcmp(size_t n) { sink += (size_t)memcmp(from, to, n); }

static const struct { const char *name; void (*run)(size_t); } jobs[] = {
    {"memcpy", do_memcpy}, {"memset", do_memset}, {"strlen", do_strlen}, {"memchr", do_memchr}, {"memcmp", do_memcmp},
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) { return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b); }

int main(void) {
    from = aligned_alloc(4096, LARGEST + 4096);
    to = aligned_alloc(4096, LARGEST + 4096);
    for (size_t job = 0; job < sizeof jobs / sizeof *jobs; job++)
        for (size_t n = 16; n <= LARGEST; n *= 2) {
            memset(from, 'x', LARGEST + 4096);
            memset(to, 'x', LARGEST + 4096);
            size_t calls = n < 4096 ? 20000 : (size_t)40000000 / n;
            double times[BATCHES];
            for (int batch = 0; batch < BATCHES; batch++) {
                double start = now();
                for (size_t i = 0; i < calls / BATCHES + 1; i++)
                    jobs[job].run(n);
                times[batch] = (now() - start) / (calls / BATCHES + 1);
            }
            qsort(times, BATCHES, sizeof *times, ascending);
            printf("%s %zu %.2f\n", jobs[job].name, n, times[BATCHES / 2]);
        }
}
