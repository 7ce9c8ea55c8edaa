/* The sweep of the fault tests: sessions again and again, with the n-th call of each kind
 * failing, for all n and all its errors, once or from then on. The program has the sessions. */
#ifndef SWEEP_H
#define SWEEP_H

#include "faults.h"
#include "fixture.h"

/* What a test program brings along: ways to use the library (NULL ends them), and what
 * runs one of them on `faults.sys` and checks that nothing is left of it. */
extern void (*const uses[])(void);
void session(void (*use)(void));

static int faulty; /* a call fails in the session that runs */

/* Steps until the counter is there. A session with a fault may wait in vain, so
 * it gives up when nothing is ready any more. */
static inline void try_until(const int *counter, int target) {
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    for (int steps = 0; *counter < target && steps < 100; steps++) {
        if (poll(&p, 1, faulty ? 0 : GUARD_MS) <= 0) return;
        us_loop_step(loop);
    }
    if (!faulty) CHECK(*counter >= target);
}

static inline void fail_each_at(enum call call, int at, int error, void (*use)(void)) {
    for (int more = 0; more < 3; more++) {
        faults_reset();
        faults.fail = call;
        faults.at = at;
        /* EINTR for ever is not a fault the kernel has. */
        faults.until = more == 0 ? at : more == 1 ? at + 1 : error == EINTR ? at + 5 : at + 100000;
        faults.error = error;
        session(use);
    }
}

static inline int fail_each_in(enum call call, const int *errors, void (*use)(void)) {
    faulty = 0;
    faults_reset();
    session(use);
    int calls = faults.calls[call];
    faulty = 1;
    for (; calls && *errors; errors++) {
        for (int at = 1; at <= calls; at++) fail_each_at(call, at, *errors, use);
        if (!check_failures_here) continue;
        fprintf(stderr, "call %d, errno %d, session %d\n", (int) call, *errors, use == uses[1]);
        break;
    }
    return calls;
}

static inline void fail_each(enum call call, const int *errors) {
    int calls = 0;
    for (int i = 0; uses[i] && !check_failures_here; i++) calls += fail_each_in(call, errors, uses[i]);
    CHECK(calls > 0 || !is_made(call));
}

#define FAULTS(name, call, ...) \
    static void name(void) { \
        const int errors[] = {__VA_ARGS__, 0}; \
        fail_each(call, errors); \
    }

#endif
