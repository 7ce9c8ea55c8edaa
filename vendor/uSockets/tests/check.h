/* Checks for the test programs: CHECK in test functions, RUN for each of them,
 * `return check_result();` at the end of main. A failing check is printed and
 * the test goes on. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static int check_passed, check_failed, check_failures_here;

#define CHECK(condition) ((condition) ? (void) 0 : check_fail(#condition, __FILE__, __LINE__))
#define CHECK_EQUAL(a, b) check_equal((long long) (a), (long long) (b), #a " == " #b, __FILE__, __LINE__)
#define RUN(test) check_run(test, #test)

static inline void check_fail(const char *what, const char *file, int line) {
    if (check_failures_here++ < 20) fprintf(stderr, "%s:%d: not true: %s\n", file, line, what);
}

static inline void check_equal(long long a, long long b, const char *what, const char *file, int line) {
    if (a == b) return;
    if (check_failures_here < 20) fprintf(stderr, "%lld and %lld: ", a, b);
    check_fail(what, file, line);
}

static inline void check_run(void (*test)(void), const char *name) {
    check_failures_here = 0;
    test();
    if (check_failures_here) {
        check_failed++;
        fprintf(stderr, "failed: %s\n", name);
    } else {
        check_passed++;
    }
}

static inline int check_result(void) {
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

#endif
