/* Short writes: order is kept, writable comes exactly when it is due, polling
 * for it goes away after, and failed sends are told from full buffers. */
#include "fixture.h"
#include "faults.h"

#define TOTAL (6 << 20)

static char pattern[TOTAL];
static int given;

static struct us_socket_t *give_more(struct us_socket_t *s) {
    count_writable(s);
    while (given < TOTAL) {
        int chunk = TOTAL - given < 100000 ? TOTAL - given : 100000;
        int n = given % 2 ? us_socket_write(0, s, pattern + given, chunk, 0) : us_socket_write2(0, s, pattern + given, chunk / 3, pattern + given + chunk / 3, chunk - chunk / 3);
        given += n;
        if (n < chunk) break;
    }
    return s;
}

static void megabytes_arrive_in_order(void) {
    for (int i = 0; i < TOTAL; i++) pattern[i] = (char) (i * 2654435761u >> 24);
    fixture_open();
    us_socket_context_on_writable(0, context, give_more);
    int fd = client();
    given = 0;
    give_more(seen.last);
    CHECK(given < TOTAL);
    CHECK(us_poll_events((struct us_poll_t *) seen.last) & LIBUS_SOCKET_WRITABLE);
    char *got = malloc(TOTAL);
    CHECK_EQUAL(hear(fd, got, TOTAL), TOTAL);
    CHECK(memcmp(got, pattern, TOTAL) == 0);
    free(got);
    settle();
    CHECK_EQUAL(us_poll_events((struct us_poll_t *) seen.last), LIBUS_SOCKET_READABLE);
    close(fd);
    fixture_close();
}

static struct us_socket_t *give_letters(struct us_socket_t *s) {
    count_writable(s);
    given += us_socket_write(0, s, &"abcdefgh"[given], 8 - given, 0);
    return s;
}

static void one_byte_at_a_time(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    us_socket_context_on_writable(0, context, give_letters);
    int fd = client();
    faults.send_limit = 1;
    given = 0;
    int polls = faults.calls[CALL_EPOLL_CTL];
    CHECK_EQUAL(us_socket_write(0, seen.last, "", 0, 0), 0);
    CHECK_EQUAL(us_socket_write(0, seen.last, "x", -1, 0), 0);
    give_letters(seen.last);
    expect(fd, "abcdefgh");
    settle();
    CHECK_EQUAL(faults.calls[CALL_SEND], 8);
    CHECK_EQUAL(faults.calls[CALL_EPOLL_CTL] - polls, 2);
    CHECK_EQUAL(us_loop_sends(loop), 8);
    close(fd);
    fixture_close();
}

static void a_full_kernel_is_no_error(void) {
    const int errors[] = {EAGAIN, ENOBUFS, ENOMEM};
    for (int i = 0; i < 3; i++) {
        faults_reset();
        fixture_open_on(&faults.sys, "127.0.0.1");
        int fd = client();
        fail_next(CALL_SEND, errors[i], 0);
        CHECK_EQUAL(us_socket_write(0, seen.last, "abc", 3, 0), 0);
        CHECK_EQUAL(us_socket_last_error(seen.last), 0);
        pump(&seen.writable, 1);
        CHECK_EQUAL(us_socket_write(0, seen.last, "abc", 3, 0), 3);
        expect(fd, "abc");
        close(fd);
        fixture_close();
    }
}

static void interrupted_calls_are_repeated(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    us_socket_context_on_data(0, context, echo_data);
    int fd = client();
    fail_next(CALL_SEND, EINTR, 2);
    say(fd, "x");
    expect(fd, "x");
    fail_next(CALL_RECV, EINTR, 2);
    say(fd, "y");
    expect(fd, "y");
    fail_next(CALL_SENDV, EINTR, 0);
    CHECK_EQUAL(us_socket_write2(0, seen.last, "a", 1, "b", 1), 2);
    expect(fd, "ab");
    close(fd);
    fixture_close();
}

static void a_failed_send_is_remembered_and_closes(void) {
    const int errors[] = {EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, EBADF};
    for (int i = 0; i < 10; i++) {
        faults_reset();
        fixture_open_on(&faults.sys, "127.0.0.1");
        int fd = client(), vectored = i % 2;
        struct us_socket_t *s = seen.last;
        say(fd, "unread");
        fail_next(vectored ? CALL_SENDV : CALL_SEND, errors[i / 2], 0);
        CHECK_EQUAL(vectored ? us_socket_write2(0, s, "a", 1, "b", 1) : us_socket_write(0, s, "abc", 3, 0), 0);
        CHECK_EQUAL(us_socket_last_error(s), errors[i / 2]);
        CHECK_EQUAL(us_socket_is_closed(0, s), 0);
        CHECK_EQUAL(us_socket_write(0, s, "abc", 3, 0), 0);
        pump(&seen.closed, 1);
        CHECK_EQUAL(seen.bytes, 6);
        CHECK_EQUAL(seen.writable, 0);
        CHECK_EQUAL(seen.code, errors[i / 2]);
        close(fd);
        fixture_close();
    }
}

static void a_refused_poll_change_closes(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    faults.send_limit = 1;
    fail_next(CALL_EPOLL_CTL, ENOMEM, 0);
    CHECK_EQUAL(us_socket_write(0, seen.last, "abc", 3, 0), 1);
    CHECK_EQUAL(us_socket_last_error(seen.last), ENOMEM);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, ENOMEM);
    close(fd);
    fixture_close();
}

/* The kernel calls the socket writable all the while: polled for that it would spin. */
static void without_memory_to_send_the_timer_tries_again(void) {
    const int errors[] = {ENOBUFS, ENOMEM};
    for (int i = 0; i < 2; i++) {
        faults_reset();
        faults.virtual_time = 1;
        fixture_open_on(&faults.sys, "127.0.0.1");
        us_socket_context_on_writable(0, context, give_letters);
        int fd = client();
        given = 0;
        fail_next(CALL_SEND, errors[i], 2);
        give_letters(seen.last);
        CHECK_EQUAL(us_socket_last_error(seen.last), 0);
        for (int tries = 1; tries <= 3; tries++) {
            CHECK_EQUAL(us_poll_events((struct us_poll_t *) seen.last), LIBUS_SOCKET_READABLE);
            CHECK_EQUAL(faults.calls[CALL_SEND], tries);
            CHECK_EQUAL(faults.calls[CALL_TIMERFD_SETTIME], tries);
            CHECK_EQUAL(faults.armed_ms, 100);
            pump(&faults.calls[CALL_SEND], tries + 1);
        }
        expect(fd, "abcdefgh");
        settle();
        CHECK_EQUAL(us_poll_events((struct us_poll_t *) seen.last), LIBUS_SOCKET_READABLE);
        CHECK_EQUAL(faults.calls[CALL_SEND], 4);
        close(fd);
        fixture_close();
    }
}

/* The timer belongs to all sockets: the first that waits arms it. */
static void without_memory_two_sockets_share_the_timer(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    us_socket_context_on_writable(0, context, give_letters);
    int fd = client();
    struct us_socket_t *one = seen.last;
    int other_fd = client();
    struct us_socket_t *other = seen.last;
    given = 0;
    faults.virtual_time = 1;
    fail_next(CALL_SEND, ENOBUFS, 1);
    CHECK_EQUAL(us_socket_write(0, one, "x", 1, 0), 0);
    CHECK_EQUAL(us_socket_write(0, other, "y", 1, 0), 0);
    CHECK_EQUAL(faults.calls[CALL_TIMERFD_SETTIME], 1);
    us_socket_shutdown(0, other); /* it has no more to say */
    pump(&seen.writable, 1);
    settle();
    CHECK_EQUAL(seen.writable, 1);
    expect(fd, "abcdefgh");
    close(fd);
    close(other_fd);
    fixture_close();
}

static ssize_t without_memory(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags) {
    (void) sys, (void) fd, (void) buffer, (void) length, (void) flags;
    errno = ENOBUFS;
    return -1;
}

/* Without the timer it has to poll. */
static void a_retry_that_cannot_be_armed_polls(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    us_socket_context_on_writable(0, context, give_letters);
    int fd = client();
    given = 0;
    fail_next(CALL_TIMERFD_SETTIME, EBADF, 0);
    struct us_socket_t *s = seen.last;
    faults.sys.send = without_memory;
    give_letters(s);
    faults.sys.send = f_send;
    CHECK(us_poll_events((struct us_poll_t *) s) & LIBUS_SOCKET_WRITABLE);
    pump(&given, 8);
    expect(fd, "abcdefgh");
    close(fd);
    fixture_close();
}

int main(void) {
    RUN(megabytes_arrive_in_order);
    RUN(one_byte_at_a_time);
    RUN(a_full_kernel_is_no_error);
    RUN(interrupted_calls_are_repeated);
    RUN(a_failed_send_is_remembered_and_closes);
    RUN(a_refused_poll_change_closes);
    RUN(without_memory_to_send_the_timer_tries_again);
    RUN(without_memory_two_sockets_share_the_timer);
    RUN(a_retry_that_cannot_be_armed_polls);
    return check_result();
}
