/* Polls of the user's own descriptors. */
#include "fixture.h"
#include "faults.h"

static int ready, told, last_error, ends[2], other_ends[2];
static struct us_poll_t *poll_one, *poll_two;

static void count_ready(struct us_poll_t *p, int error, int events) {
    (void) p;
    ready++;
    last_error = error;
    told |= events;
}

static struct us_poll_t *make_poll(int fd, int events) {
    struct us_poll_t *p = us_create_poll(loop, 0, 32);
    CHECK(p != NULL);
    CHECK((uintptr_t) us_poll_ext(p) % LIBUS_EXT_ALIGNMENT == 0);
    us_poll_on_ready(p, count_ready);
    us_poll_init(p, fd, 0);
    us_poll_start(p, loop, events);
    CHECK_EQUAL(us_poll_events(p), events);
    CHECK_EQUAL(us_poll_fd(p), fd);
    return p;
}

static void open_polls(struct us_sys_t *sys) {
    fixture_open_on(sys, "");
    ready = told = 0;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, other_ends) == 0);
    poll_one = make_poll(ends[0], LIBUS_SOCKET_READABLE);
}

static void close_polls(void) {
    if (poll_one) us_poll_free(poll_one, loop);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(other_ends[i]);
    }
    fixture_close();
}

static void tells_readable_and_writable(void) {
    open_polls(us_sys_default());
    settle();
    CHECK_EQUAL(ready, 0);
    us_poll_change(poll_one, loop, LIBUS_SOCKET_WRITABLE);
    us_loop_step(loop);
    CHECK_EQUAL(told, LIBUS_SOCKET_WRITABLE);
    say(ends[1], "x");
    us_poll_change(poll_one, loop, LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE);
    told = 0;
    us_loop_step(loop);
    CHECK_EQUAL(told, LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE);
    CHECK_EQUAL(last_error, 0);
    us_poll_change(poll_one, loop, 0);
    int before = ready;
    us_loop_step(loop);
    CHECK_EQUAL(ready, before);
    close(ends[1]);
    ends[1] = -1;
    pump(&ready, before + 1);
    CHECK_EQUAL(ready, before + 1);
    CHECK(last_error != 0);
    us_poll_stop(poll_one, loop);
    CHECK(!readable_now(us_loop_fd(loop)));
    close_polls();
}

static void a_stopped_poll_may_watch_something_else(void) {
    open_polls(us_sys_default());
    say(ends[1], "x");
    us_poll_stop(poll_one, loop);
    us_poll_init(poll_one, other_ends[0], 0);
    us_poll_start(poll_one, loop, LIBUS_SOCKET_READABLE);
    us_loop_step(loop);
    CHECK_EQUAL(ready, 0);
    say(other_ends[1], "x");
    pump(&ready, 1);
    close_polls();
}

static void free_itself(struct us_poll_t *p, int error, int events) {
    count_ready(p, error, events);
    us_poll_free(p, loop);
    us_poll_free(p, loop);
    us_poll_start(p, loop, LIBUS_SOCKET_READABLE);
    poll_one = NULL;
}

static void may_free_itself(void) {
    open_polls(us_sys_default());
    us_poll_on_ready(poll_one, free_itself);
    say(ends[1], "x");
    pump(&ready, 1);
    settle();
    CHECK_EQUAL(ready, 1);
    close_polls();
}

static void free_both(struct us_poll_t *p, int error, int events) {
    count_ready(p, error, events);
    us_poll_free(poll_one, loop);
    us_poll_free(poll_two, loop);
    poll_one = NULL;
}

static void may_free_another_of_the_same_batch(void) {
    open_polls(us_sys_default());
    poll_two = make_poll(other_ends[0], LIBUS_SOCKET_READABLE);
    us_poll_on_ready(poll_one, free_both);
    us_poll_on_ready(poll_two, free_both);
    say(ends[1], "x");
    say(other_ends[1], "x");
    us_loop_step(loop);
    CHECK_EQUAL(ready, 1);
    close_polls();
}

static void lose_interest_in_both(struct us_poll_t *p, int error, int events) {
    count_ready(p, error, events);
    us_poll_change(poll_one, loop, 0);
    us_poll_change(poll_two, loop, 0);
}

static void lost_interest_counts_at_once(void) {
    open_polls(us_sys_default());
    poll_two = make_poll(other_ends[0], LIBUS_SOCKET_READABLE);
    us_poll_on_ready(poll_one, lose_interest_in_both);
    us_poll_on_ready(poll_two, lose_interest_in_both);
    say(ends[1], "x");
    say(other_ends[1], "x");
    us_loop_step(loop);
    CHECK_EQUAL(ready, 1);
    us_poll_free(poll_two, loop);
    close_polls();
}

static void resize_itself(struct us_poll_t *p, int error, int events) {
    count_ready(p, error, events);
    char byte;
    CHECK_EQUAL(recv(us_poll_fd(p), &byte, 1, 0), 1);
    poll_one = us_poll_resize(p, loop, 1000);
    CHECK(poll_one != NULL && poll_one != p);
    CHECK(!us_poll_resize(p, loop, 2000));
}

static void resizing_keeps_all(void) {
    open_polls(us_sys_default());
    memcpy(us_poll_ext(poll_one), "0123456789abcdef0123456789abcdef", 32);
    CHECK(us_poll_resize(poll_one, loop, 32) == poll_one);
    us_poll_on_ready(poll_one, resize_itself);
    say(ends[1], "x");
    pump(&ready, 1);
    CHECK(memcmp(us_poll_ext(poll_one), "0123456789abcdef0123456789abcdef", 32) == 0);
    us_poll_on_ready(poll_one, count_ready);
    say(ends[1], "x");
    pump(&ready, 2);
    poll_one = us_poll_resize(poll_one, loop, 4);
    CHECK(memcmp(us_poll_ext(poll_one), "0123", 4) == 0);
    us_poll_stop(poll_one, loop);
    poll_one = us_poll_resize(poll_one, loop, 8);
    CHECK(poll_one != NULL);
    close_polls();
}

static void failures_change_nothing(void) {
    faults_reset();
    open_polls(&faults.sys);
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(!us_create_poll(loop, 0, 0) && errno == ENOMEM);
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(!us_poll_resize(poll_one, loop, 1000) && errno == ENOMEM);
    fail_next(CALL_EPOLL_CTL, ENOMEM, 0);
    CHECK(!us_poll_resize(poll_one, loop, 1000) && errno == ENOMEM);
    fail_next(CALL_EPOLL_CTL, ENOMEM, 0);
    us_poll_change(poll_one, loop, LIBUS_SOCKET_WRITABLE);
    CHECK_EQUAL(us_poll_events(poll_one), LIBUS_SOCKET_READABLE);
    say(ends[1], "x");
    pump(&ready, 1);
    us_poll_stop(poll_one, loop);
    fail_next(CALL_EPOLL_CTL, ENOSPC, 0);
    us_poll_start(poll_one, loop, LIBUS_SOCKET_READABLE);
    CHECK(us_poll_events(poll_one) == 0 && errno == ENOSPC);
    us_poll_start(poll_one, loop, LIBUS_SOCKET_READABLE);
    us_poll_start(poll_one, loop, LIBUS_SOCKET_WRITABLE);
    CHECK_EQUAL(us_poll_events(poll_one), LIBUS_SOCKET_WRITABLE);
    close_polls();
}

static void a_socket_begins_as_a_poll(void) {
    open_polls(us_sys_default());
    struct us_socket_t *s;
    int fd = unix_client(&s);
    struct us_poll_t *p = (struct us_poll_t *) s;
    CHECK_EQUAL(us_poll_fd(p), (intptr_t) us_socket_get_native_handle(0, s));
    CHECK(us_poll_ext(p) == us_socket_ext(0, s));
    us_poll_change(p, loop, 0);
    say(fd, "x");
    settle();
    CHECK_EQUAL(seen.bytes, 0);
    us_poll_change(p, loop, LIBUS_SOCKET_READABLE);
    pump_bytes(1);
    CHECK(!us_poll_resize(p, loop, 100) && errno == EINVAL);
    us_poll_free(p, loop);
    close(fd);
    close_polls();
}

int main(void) {
    RUN(tells_readable_and_writable);
    RUN(a_stopped_poll_may_watch_something_else);
    RUN(may_free_itself);
    RUN(may_free_another_of_the_same_batch);
    RUN(lost_interest_counts_at_once);
    RUN(resizing_keeps_all);
    RUN(failures_change_nothing);
    RUN(a_socket_begins_as_a_poll);
    return check_result();
}
