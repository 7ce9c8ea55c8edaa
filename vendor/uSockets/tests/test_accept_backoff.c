/* Accepting when it fails: no spinning, one client turned away through the spare
 * descriptor, the listener off for a growing delay and on again. */
#include "fixture.h"
#include "faults.h"

static void open_faulty(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    faults.virtual_time = 1;
}

/* Steps until the retry timer has been armed anew; gives its delay. */
static int next_delay(void) {
    int before = faults.calls[CALL_TIMERFD_SETTIME];
    pump(&faults.calls[CALL_TIMERFD_SETTIME], before + 1);
    return faults.armed_ms;
}

static void without_descriptors(void) {
    const int errors[] = {EMFILE, ENFILE};
    for (int i = 0; i < 2; i++) {
        open_faulty();
        int shed = dial_listener(), waits = dial_listener();
        /* Only accepts without the spare fail: each time the first of two. */
        fail_next(CALL_ACCEPT, errors[i], 0);
        int held_before = faults.descriptors;
        CHECK_EQUAL(next_delay(), 100);
        CHECK_EQUAL(faults.calls[CALL_ACCEPT], 2);
        CHECK_EQUAL(faults.descriptors, held_before);
        expect_end(shed);
        pump(&seen.opened, 1);
        close(shed);
        close(waits);
        fixture_close();
        CHECK_EQUAL(faults.descriptors, 0);
        CHECK_EQUAL(faults.memory, 0);
    }
}

static void the_delay_grows_to_a_second_and_starts_anew(void) {
    const int delays[] = {100, 200, 400, 800, 1000, 1000};
    open_faulty();
    int fd = dial_listener();
    fail_next(CALL_ACCEPT, EMFILE, 1000);
    for (int i = 0; i < 6; i++) CHECK_EQUAL(next_delay(), delays[i]);
    CHECK_EQUAL(faults.calls[CALL_ACCEPT], 12);
    fail_nothing();
    pump(&seen.opened, 1);
    int other = dial_listener();
    fail_next(CALL_ACCEPT, ENOBUFS, 0);
    CHECK_EQUAL(next_delay(), 100);
    pump(&seen.opened, 2);
    close(fd);
    close(other);
    fixture_close();
}

static void without_memory_nobody_is_turned_away(void) {
    const int errors[] = {ENOBUFS, ENOMEM, EINVAL, EOPNOTSUPP};
    for (int i = 0; i < 4; i++) {
        open_faulty();
        int fd = dial_listener();
        fail_next(CALL_ACCEPT, errors[i], 0);
        CHECK_EQUAL(next_delay(), 100);
        CHECK_EQUAL(faults.calls[CALL_ACCEPT], 1);
        pump(&seen.opened, 1);
        close(fd);
        fixture_close();
    }
}

static void an_off_listener_does_not_wake_the_loop(void) {
    open_faulty();
    faults.virtual_time = 0;
    int fd = dial_listener();
    fail_next(CALL_ACCEPT, ENOMEM, 0);
    next_delay();
    CHECK(!readable_now(us_loop_fd(loop)));
    us_listen_socket_close(0, listener);
    us_listen_socket_close(0, listener);
    close(fd);
    fixture_close();
}

static void errors_of_one_connection_are_skipped(void) {
    const int errors[] = {ECONNABORTED, EPROTO, EPERM, EINTR, EHOSTUNREACH};
    for (int i = 0; i < 5; i++) {
        open_faulty();
        int fd = dial_listener();
        fail_next(CALL_ACCEPT, errors[i], 2);
        pump(&seen.opened, 1);
        CHECK_EQUAL(us_loop_iteration_number(loop), 1);
        CHECK_EQUAL(faults.calls[CALL_TIMERFD_SETTIME], 0);
        close(fd);
        fixture_close();
    }
}

static void a_flood_of_them_is_bounded(void) {
    open_faulty();
    int fd = dial_listener();
    fail_next(CALL_ACCEPT, ECONNABORTED, 100000);
    us_loop_step(loop);
    CHECK_EQUAL(faults.calls[CALL_ACCEPT], 256);
    fail_nothing();
    pump(&seen.opened, 1);
    close(fd);
    fixture_close();
}

static void an_iteration_accepts_a_bounded_number(void) {
    enum { CLIENTS = 300 };
    open_faulty();
    int fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) fds[i] = dial_listener();
    us_loop_step(loop);
    CHECK_EQUAL(seen.opened, 256);
    pump(&seen.opened, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) close(fds[i]);
    fixture_close();
}

static void a_listener_that_cannot_be_polled_is_tried_again(void) {
    open_faulty();
    int fd = dial_listener();
    fail_next(CALL_ACCEPT, ENOMEM, 0);
    us_loop_step(loop);
    /* The listener cannot be polled when its time comes: another try later. */
    fail_next(CALL_EPOLL_CTL, ENOSPC, 0);
    CHECK_EQUAL(next_delay(), 200);
    pump(&seen.opened, 1);
    close(fd);
    fixture_close();
}

static void a_listener_that_cannot_be_woken_stays_on(void) {
    open_faulty();
    int fd = dial_listener();
    faults.no_arming = 1;
    fail_next(CALL_ACCEPT, ENOMEM, 0);
    pump(&seen.opened, 1);
    close(fd);
    fixture_close();
}

static int no_spare(struct us_sys_t *sys) {
    (void) sys;
    errno = EMFILE;
    return -1;
}

static void a_lost_spare_is_replaced(void) {
    open_faulty();
    int fd = dial_listener(), other = dial_listener();
    int held_before = faults.descriptors;
    faults.sys.open_spare = no_spare;
    fail_next(CALL_ACCEPT, EMFILE, 0);
    next_delay();
    CHECK_EQUAL(faults.descriptors, held_before - 1);
    pump(&seen.opened, 1);
    int third = dial_listener();
    fail_next(CALL_ACCEPT, EMFILE, 0);
    next_delay();
    faults.sys.open_spare = f_open_spare;
    pump(&seen.opened, 2);
    CHECK_EQUAL(faults.descriptors, held_before + 2);
    close(fd);
    close(other);
    close(third);
    fixture_close();
    CHECK_EQUAL(faults.descriptors, 0);
}

static void a_connection_without_memory_is_closed(void) {
    open_faulty();
    int fd = dial_listener();
    fail_next(CALL_ALLOC, ENOMEM, 0);
    expect_end(fd);
    CHECK_EQUAL(seen.opened, 0);
    close(fd);
    fd = dial_listener();
    fail_next(CALL_EPOLL_CTL, ENOSPC, 0);
    expect_end(fd);
    CHECK_EQUAL(seen.opened, 0);
    close(fd);
    close(client());
    fixture_close();
    CHECK_EQUAL(faults.descriptors, 0);
}

int main(void) {
    RUN(without_descriptors);
    RUN(the_delay_grows_to_a_second_and_starts_anew);
    RUN(without_memory_nobody_is_turned_away);
    RUN(an_off_listener_does_not_wake_the_loop);
    RUN(errors_of_one_connection_are_skipped);
    RUN(a_flood_of_them_is_bounded);
    RUN(an_iteration_accepts_a_bounded_number);
    RUN(a_listener_that_cannot_be_polled_is_tried_again);
    RUN(a_listener_that_cannot_be_woken_stays_on);
    RUN(a_lost_spare_is_replaced);
    RUN(a_connection_without_memory_is_closed);
    return check_result();
}
