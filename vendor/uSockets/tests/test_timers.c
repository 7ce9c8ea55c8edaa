/* Timers: once, repeating, disarmed, closed inside their own callback and in
 * that of another one which ran out in the same batch. */
#include "fixture.h"
#include "faults.h"

#ifdef LIBUS_USE_KQUEUE
#include <sys/timerfd.h>
#include <time.h>
#endif

static int ran_out;

static void count(struct us_timer_t *t) {
    CHECK(us_timer_loop(t) == loop);
    ran_out++;
}

static struct us_timer_t *make_timer(void) {
    struct us_timer_t *t = us_create_timer(loop, 0, 24);
    CHECK(t != NULL);
    CHECK((uintptr_t) us_timer_ext(t) % LIBUS_EXT_ALIGNMENT == 0);
    CHECK(us_poll_ext((struct us_poll_t *) t) == us_timer_ext(t));
    memset(us_timer_ext(t), 'x', 24);
    return t;
}

static void open_timers(void) {
    fixture_open_on(us_sys_default(), "");
    ran_out = 0;
}

static void once_and_repeating(void) {
    open_timers();
    struct us_timer_t *t = make_timer();
    us_timer_set(t, count, 1, 0);
    pump(&ran_out, 1);
    us_timer_set(t, count, 1, 1);
    pump(&ran_out, 4);
    us_timer_set(t, count, 0, 1);
    pump(&ran_out, 6);
    us_timer_set(t, count, 0, 0);
    settle();
    us_timer_set(t, count, -5, -5);
    us_timer_set(t, NULL, 1, 0);
    us_timer_close(t);
    us_timer_close(t);
    us_timer_set(t, count, 1, 0);
    fixture_close();
}

static void close_itself(struct us_timer_t *t) {
    count(t);
    us_timer_close(t);
}

static void may_close_itself_and_ends_the_run(void) {
    open_timers();
    us_timer_set(make_timer(), close_itself, 1, 1);
    us_loop_run(loop);
    CHECK_EQUAL(ran_out, 1);
    fixture_close();
}

static struct us_timer_t *pair[2];

static void wait_for(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    CHECK(poll(&p, 1, GUARD_MS) > 0);
}

#ifdef LIBUS_USE_EPOLL
static void wait_for_both(void) {
    for (int i = 0; i < 2; i++) wait_for(us_poll_fd((struct us_poll_t *) pair[i]));
}
#else
/* These have no descriptors; but a timer that runs out after them does. */
static void wait_for_both(void) {
    int later = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    const struct itimerspec spec = {.it_value = {.tv_nsec = 5000000}};
    CHECK(timerfd_settime(later, 0, &spec, NULL) == 0);
    wait_for(later);
    close(later);
}
#endif

static void close_both(struct us_timer_t *t) {
    count(t);
    us_timer_close(pair[0]);
    us_timer_close(pair[1]);
}

static void disarm_both(struct us_timer_t *t) {
    count(t);
    us_timer_set(pair[0], count, 0, 0);
    us_timer_set(pair[1], count, 0, 0);
}

static void may_close_or_disarm_another_of_the_same_batch(void) {
    void (*const callbacks[])(struct us_timer_t *) = {close_both, disarm_both};
    for (int i = 0; i < 2; i++) {
        open_timers();
        for (int k = 0; k < 2; k++) {
            pair[k] = make_timer();
            us_timer_set(pair[k], callbacks[i], 1, 0);
        }
        wait_for_both();
        us_loop_step(loop);
        settle();
        CHECK_EQUAL(ran_out, 1);
        if (callbacks[i] == disarm_both) close_both(pair[0]);
        fixture_close();
    }
}

static void a_fallthrough_timer_does_not_keep_the_loop(void) {
    open_timers();
    struct us_timer_t *t = us_create_timer(loop, 1, 0);
    us_timer_set(t, count, 1, 1);
    us_loop_run(loop);
    CHECK_EQUAL(us_loop_iteration_number(loop), 0);
    us_timer_close(t);
    fixture_close();
}

static void creation_fails_cleanly(void) {
    const enum call calls[] = {CALL_ALLOC, CALL_TIMERFD_CREATE, CALL_EPOLL_CTL};
    const int errors[] = {ENOMEM, EMFILE, ENOSPC};
    for (int i = 0; i < (is_made(CALL_TIMERFD_CREATE) ? 3 : 1); i++) {
        faults_reset();
        fixture_open_on(&faults.sys, "");
        int memory = faults.memory, descriptors = faults.descriptors;
        fail_next(calls[i], errors[i], 0);
        CHECK(!us_create_timer(loop, 0, 0) && errno == errors[i]);
        CHECK(faults.memory == memory && faults.descriptors == descriptors);
        fixture_close();
    }
}

int main(void) {
    RUN(once_and_repeating);
    RUN(may_close_itself_and_ends_the_run);
    RUN(may_close_or_disarm_another_of_the_same_batch);
    RUN(a_fallthrough_timer_does_not_keep_the_loop);
    RUN(creation_fails_cleanly);
    return check_result();
}
