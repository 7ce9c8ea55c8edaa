/* Socket timeouts, on virtual time: the test lets the granules pass. */
#include "fixture.h"
#include "faults.h"

static struct us_socket_t *one, *two;

static void open_two(void) {
    fixture_open_on(us_sys_default(), "");
    close(unix_client(&one)); /* nobody steps the loop, so the ends go unseen */
    close(unix_client(&two));
}

static void sweep(int times) {
    while (times--) us_loop_sweep(loop);
}

static void runs_out_once_and_stays_off(void) {
    open_two();
    us_socket_timeout(0, one, 10);
    sweep(2);
    CHECK_EQUAL(seen.timeouts, 0);
    sweep(1);
    CHECK_EQUAL(seen.timeouts, 1);
    sweep(600);
    CHECK_EQUAL(seen.timeouts, 1);
    CHECK_EQUAL(us_socket_context_timestamp(0, context), 603);
    fixture_close();
}

static void may_be_set_again_and_switched_off(void) {
    open_two();
    us_socket_timeout(0, one, 4);
    us_socket_timeout(0, one, 8);
    us_socket_timeout(0, two, 4);
    us_socket_timeout(0, two, 0);
    sweep(1);
    CHECK_EQUAL(seen.timeouts, 0);
    sweep(1);
    CHECK_EQUAL(seen.timeouts, 1);
    fixture_close();
}

static void longest_and_beyond_at_every_phase_of_the_clock(void) {
    open_two();
    for (int phase = 0; phase < 300; phase++) {
        int before = seen.timeouts;
        us_socket_timeout(0, one, phase % 2 ? 960 : 100000);
        sweep(239);
        CHECK_EQUAL(seen.timeouts, before);
        sweep(1);
        CHECK_EQUAL(seen.timeouts, before + 1);
        sweep(1);
    }
    fixture_close();
}

static void long_ones_count_minutes(void) {
    open_two();
    us_socket_long_timeout(0, one, 2);
    us_socket_long_timeout(0, two, 4000);
    sweep(29);
    CHECK_EQUAL(seen.long_timeouts, 0);
    sweep(1);
    CHECK_EQUAL(seen.long_timeouts, 1);
    sweep(15 * 238 - 1);
    CHECK_EQUAL(seen.long_timeouts, 1);
    sweep(1);
    CHECK_EQUAL(seen.long_timeouts, 2);
    CHECK_EQUAL(seen.timeouts, 0);
    us_socket_long_timeout(0, two, 1);
    us_socket_long_timeout(0, two, 0);
    sweep(40);
    CHECK_EQUAL(seen.long_timeouts, 2);
    fixture_close();
}

static struct us_socket_t *close_the_other(struct us_socket_t *s) {
    count_timeout(s);
    us_socket_close(0, s == one ? two : one, 0, NULL);
    return s;
}

static struct us_socket_t *close_itself(struct us_socket_t *s) {
    count_timeout(s);
    us_socket_long_timeout(0, s, 1);
    return us_socket_close(0, s, 0, NULL);
}

static struct us_socket_t *move_both(struct us_socket_t *s) {
    count_timeout(s);
    us_socket_timeout(0, one, 0);
    us_socket_timeout(0, two, 0);
    struct us_socket_context_t *child = us_create_child_socket_context(0, context, 0);
    count_everything(child);
    struct us_socket_t *moved_one = us_socket_context_adopt_socket(0, child, one, 128);
    struct us_socket_t *moved_two = us_socket_context_adopt_socket(0, child, two, 0);
    struct us_socket_t *self = s == one ? moved_one : moved_two;
    us_socket_context_free(0, child);
    return self;
}

static struct us_socket_t *free_the_context(struct us_socket_t *s) {
    count_timeout(s);
    us_socket_context_free(0, context);
    context = make_context(0);
    return s;
}

static struct us_socket_t *step_and_sweep(struct us_socket_t *s) {
    count_timeout(s);
    CHECK_EQUAL(us_loop_step(loop), -EBUSY);
    us_loop_run(loop);
    us_loop_sweep(loop);
    us_loop_free(loop);
    return s;
}

static void callbacks_may_do_anything(void) {
    struct us_socket_t *(*const callbacks[])(struct us_socket_t *) = {close_the_other, close_itself, move_both, free_the_context, step_and_sweep, NULL};
    const int timeouts[] = {1, 2, 1, 1, 2, 0};
    for (int i = 0; i < 6; i++) {
        open_two();
        us_socket_context_on_timeout(0, context, callbacks[i]);
        us_socket_timeout(0, one, 4);
        us_socket_timeout(0, two, 4);
        sweep(1);
        CHECK_EQUAL(seen.timeouts, timeouts[i]);
        fixture_close();
    }
}

static void the_sweep_timer_sweeps(void) {
    faults_reset();
    faults.virtual_time = 1;
    fixture_open_on(&faults.sys, "");
    int fd = unix_client(&one);
    us_socket_timeout(0, one, 4);
    us_loop_integrate(loop);
    us_loop_integrate(loop);
    CHECK_EQUAL(faults.armed_ms, 4000);
    CHECK_EQUAL(faults.armed_repeat_ms, 4000);
    CHECK_EQUAL(faults.calls[CALL_TIMERFD_SETTIME], 1);
    pump(&seen.timeouts, 1);
    close(fd);
    fixture_close();
}

int main(void) {
    RUN(runs_out_once_and_stays_off);
    RUN(may_be_set_again_and_switched_off);
    RUN(longest_and_beyond_at_every_phase_of_the_clock);
    RUN(long_ones_count_minutes);
    RUN(callbacks_may_do_anything);
    RUN(the_sweep_timer_sweeps);
    return check_result();
}
