/* The ends of the two directions, in every order: what the peer's FIN, ours, a
 * hang-up and a reset do, with data still to be read and without, paused and not. */
#include "fixture.h"
#include "faults.h"

#include <sys/epoll.h>

static void writing_goes_on_after_the_peers_end(void) {
    fixture_open();
    int fd = client();
    say(fd, "request");
    shutdown(fd, SHUT_WR);
    pump(&seen.ended, 1);
    CHECK_EQUAL(seen.bytes, 7);
    settle();
    CHECK_EQUAL(seen.ended, 1);
    CHECK_EQUAL(us_poll_events((struct us_poll_t *) seen.last), 0);
    CHECK_EQUAL(us_socket_write(0, seen.last, "response", 8, 0), 8);
    expect(fd, "response");
    us_socket_read_enabled(seen.last, 1);
    CHECK_EQUAL(us_poll_events((struct us_poll_t *) seen.last), 0);
    us_socket_shutdown(0, seen.last);
    CHECK(us_socket_is_shut_down(0, seen.last));
    CHECK_EQUAL(seen.closed, 0);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    CHECK_EQUAL(seen.ended, 1);
    expect_end(fd);
    close(fd);
    fixture_close();
}

static void reading_goes_on_after_our_end(void) {
    fixture_open();
    int fd = client();
    CHECK_EQUAL(us_socket_write(0, seen.last, "bye", 3, 0), 3);
    us_socket_shutdown(0, seen.last);
    us_socket_shutdown(0, seen.last);
    CHECK_EQUAL(us_socket_write(0, seen.last, "more", 4, 0), 0);
    CHECK_EQUAL(us_socket_write2(0, seen.last, "more", 4, "", 0), 0);
    expect(fd, "bye");
    expect_end(fd);
    say(fd, "late");
    pump_bytes(4);
    close(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    CHECK_EQUAL(seen.ended, 0);
    fixture_close();
}

static void reading_may_be_ended_by_us(void) {
    fixture_open();
    int fd = client();
    us_socket_shutdown_read(0, seen.last);
    pump(&seen.ended, 1);
    settle();
    CHECK_EQUAL(us_socket_write(0, seen.last, "still", 5, 0), 5);
    expect(fd, "still");
    close(fd);
    fixture_close();
}

static void without_on_end_the_end_closes(void) {
    fixture_open();
    us_socket_context_on_end(0, context, NULL);
    int fd = client();
    shutdown(fd, SHUT_WR);
    pump(&seen.closed, 1);
    expect_end(fd);
    close(fd);
    fixture_close();
}

static void data_goes_before_a_hang_up(void) {
    fixture_open();
    struct us_socket_t *s;
    int fd = unix_client(&s);
    say(fd, "last words");
    close(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.bytes, 10);
    CHECK_EQUAL(seen.ended, 1);
    CHECK_EQUAL(seen.code, 0);
    fixture_close();
}

static void data_goes_before_a_reset(void) {
    fixture_open();
    int fd = client();
    say(fd, "last words");
    reset(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.bytes, 10);
    CHECK_EQUAL(seen.code, ECONNRESET);
    CHECK_EQUAL(seen.ended, 0);
    fixture_close();
}

static void paused_data_waits(void) {
    fixture_open();
    int fd = client();
    us_socket_read_enabled(seen.last, 0);
    say(fd, "later");
    shutdown(fd, SHUT_WR);
    settle();
    CHECK_EQUAL(seen.bytes, 0);
    us_socket_read_enabled(seen.last, 1);
    pump(&seen.ended, 1);
    CHECK_EQUAL(seen.bytes, 5);
    close(fd);
    fixture_close();
}

static void a_paused_socket_hears_of_a_reset(void) {
    fixture_open();
    int fd = client();
    us_socket_read_enabled(seen.last, 0);
    say(fd, "unread");
    reset(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, ECONNRESET);
    fixture_close();
}

static void a_paused_socket_keeps_its_data_over_a_hang_up(void) {
    fixture_open();
    struct us_socket_t *s;
    int fd = unix_client(&s);
    us_socket_read_enabled(s, 0);
    say(fd, "kept");
    close(fd);
    settle();
    CHECK_EQUAL(seen.closed, 0);
    CHECK_EQUAL(us_socket_write(0, s, "x", 1, 0), 0);
    us_socket_read_enabled(s, 0);
    us_socket_read_enabled(s, 1);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.bytes, 4);
    CHECK_EQUAL(seen.code, EPIPE);
    fixture_close();
}

static void a_paused_socket_without_data_closes_at_a_hang_up(void) {
    fixture_open();
    struct us_socket_t *s;
    int fd = unix_client(&s);
    us_socket_read_enabled(s, 0);
    close(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    fixture_close();
}

static void a_detached_socket_may_close_or_move(void) {
    for (int moves = 0; moves < 2; moves++) {
        fixture_open();
        struct us_socket_t *s;
        int fd = unix_client(&s);
        us_socket_read_enabled(s, 0);
        say(fd, "kept");
        close(fd);
        settle();
        if (moves) {
            s = us_socket_context_adopt_socket(0, context, s, 64);
            us_socket_read_enabled(s, 1);
            pump(&seen.closed, 1);
            CHECK_EQUAL(seen.bytes, 4);
        } else {
            us_socket_close(0, s, 0, NULL);
        }
        fixture_close();
    }
}

static void receive_errors_close_with_their_code(void) {
    const int errors[] = {ECONNRESET, ENOTCONN, ETIMEDOUT, EBADF, ENOMEM, EHOSTUNREACH};
    for (int i = 0; i < 6; i++) {
        faults_reset();
        fixture_open_on(&faults.sys, "127.0.0.1");
        int fd = client();
        fail_next(CALL_RECV, errors[i], 0);
        say(fd, "x");
        pump(&seen.closed, 1);
        CHECK_EQUAL(seen.code, errors[i]);
        close(fd);
        fixture_close();
    }
}

static void readiness_without_data_is_harmless(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    fail_next(CALL_RECV, EAGAIN, 3);
    say(fd, "x");
    pump_bytes(1);
    CHECK_EQUAL(seen.closed, 0);
    close(fd);
    fixture_close();
}

static void an_error_without_a_cause_closes(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    faults.add_events = EPOLLERR;
    fail_next(CALL_RECV, EAGAIN, 0);
    say(fd, "x");
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, ECONNRESET);
    close(fd);
    fixture_close();
}

static void an_unknown_cause_closes(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    us_socket_read_enabled(seen.last, 0);
    fail_next(CALL_GETSOCKOPT, ENOBUFS, 0);
    reset(fd);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, ENOBUFS);
    fixture_close();
}

/* Data, the end and room to write in one report, each more than once. */
static void everything_in_one_event(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    us_socket_context_on_data(0, context, echo_data);
    int fd = client();
    faults.add_events = EPOLLIN | EPOLLOUT | EPOLLHUP;
    say(fd, "x");
    shutdown(fd, SHUT_WR);
    expect(fd, "x");
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.ended, 1);
    CHECK_EQUAL(seen.writable, 0);
    close(fd);
    fixture_close();
}

int main(void) {
    RUN(writing_goes_on_after_the_peers_end);
    RUN(reading_goes_on_after_our_end);
    RUN(reading_may_be_ended_by_us);
    RUN(without_on_end_the_end_closes);
    RUN(data_goes_before_a_hang_up);
    RUN(data_goes_before_a_reset);
    RUN(paused_data_waits);
    RUN(a_paused_socket_hears_of_a_reset);
    RUN(a_paused_socket_keeps_its_data_over_a_hang_up);
    RUN(a_paused_socket_without_data_closes_at_a_hang_up);
    RUN(a_detached_socket_may_close_or_move);
    RUN(receive_errors_close_with_their_code);
    RUN(readiness_without_data_is_harmless);
    RUN(an_error_without_a_cause_closes);
    RUN(an_unknown_cause_closes);
    if (ALL_IN_ONE_EVENT) RUN(everything_in_one_event);
    return check_result();
}
