/* The loop: order of an iteration, driving it from another loop, running it,
 * and creating it when something is missing. */
#include "fixture.h"
#include "faults.h"

#include <sys/epoll.h>

static char order[16];

static void note(char what) {
    size_t length = strlen(order);
    if (length + 1 < sizeof order) order[length] = what;
}

static void on_wakeup(struct us_loop_t *l) { (void) l, note('w'); }
static void on_pre(struct us_loop_t *l) { (void) l, note('<'); }

static void on_post(struct us_loop_t *l) {
    note('>');
    CHECK_EQUAL(us_loop_step(l), -EBUSY);
    us_loop_run(l);
    us_loop_free(l);
}

static void an_iteration_has_its_order(void) {
    memset(order, 0, sizeof order);
    loop = us_create_loop(NULL, on_wakeup, on_pre, on_post, 40);
    CHECK((uintptr_t) us_loop_ext(loop) % LIBUS_EXT_ALIGNMENT == 0);
    memset(us_loop_ext(loop), 'x', 40);
    CHECK(us_loop_sys(loop) == us_sys_default());
    CHECK_EQUAL(us_loop_iteration_number(loop), 0);
    CHECK_EQUAL(us_loop_step(loop), 0);
    us_wakeup_loop(loop);
    CHECK_EQUAL(us_loop_step(loop), 1);
    CHECK_EQUAL(us_loop_iteration_number(loop), 2);
    CHECK(strcmp(order, "<><w>") == 0);
    us_loop_free(loop);
}

static void rides_in_another_epoll(void) {
    fixture_open();
    us_socket_context_on_data(0, context, echo_data);
    int outer = epoll_create1(EPOLL_CLOEXEC), fd = dial_listener();
    struct epoll_event event = {.events = EPOLLIN};
    CHECK(epoll_ctl(outer, EPOLL_CTL_ADD, us_loop_fd(loop), &event) == 0);
    CHECK(epoll_wait(outer, &event, 1, GUARD_MS) == 1);
    settle();
    CHECK_EQUAL(seen.opened, 1);
    CHECK_EQUAL(epoll_wait(outer, &event, 1, 0), 0);
    say(fd, "x");
    CHECK(epoll_wait(outer, &event, 1, GUARD_MS) == 1);
    us_loop_step(loop);
    CHECK_EQUAL(epoll_wait(outer, &event, 1, 0), 0);
    expect(fd, "x");
    close(fd);
    close(outer);
    fixture_close();
}

static struct us_socket_t *echo_and_stop_listening(struct us_socket_t *s, char *data, int length) {
    us_listen_socket_close(0, listener);
    return echo_data(s, data, length);
}

static void runs_until_nothing_is_left(void) {
    fixture_open();
    us_socket_context_on_data(0, context, echo_and_stop_listening);
    us_socket_context_on_end(0, context, NULL);
    int fd = dial_listener();
    say(fd, "x");
    shutdown(fd, SHUT_WR);
    us_loop_run(loop);
    CHECK_EQUAL(seen.closed, 1);
    char byte;
    CHECK(recv(fd, &byte, 1, 0) == 1 && byte == 'x');
    close(fd);
    fixture_close();
}

static void a_failed_wait_is_told_and_ends_the_run(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    fail_next(CALL_EPOLL_WAIT, EINTR, 0);
    CHECK_EQUAL(us_loop_step(loop), 0);
    fail_next(CALL_EPOLL_WAIT, EBADF, 0);
    CHECK_EQUAL(us_loop_step(loop), -EBADF);
    fail_next(CALL_EPOLL_WAIT, EBADF, 0);
    us_loop_run(loop);
    fail_nothing();
    close(client());
    fixture_close();
}

static void creation_fails_cleanly_at_every_call(void) {
    const enum call calls[] = {CALL_ALLOC, CALL_EPOLL_CREATE, CALL_EPOLL_CTL, CALL_EVENTFD, CALL_TIMERFD_CREATE, CALL_OPEN_SPARE};
    const int errors[] = {ENOMEM, EMFILE, ENOSPC, ENFILE, EMFILE, EMFILE};
    for (int i = 0; i < 6; i++) {
        /* Where timers are no descriptors, creation polls for none. */
        int failures = !is_made(calls[i]) || (calls[i] == CALL_EPOLL_CTL && !is_made(CALL_TIMERFD_CREATE));
        for (int at = 1;; at++) {
            faults_reset();
            faults.fail = calls[i];
            faults.at = at;
            faults.error = errors[i];
            errno = 0;
            loop = us_create_loop_on(&faults.sys, NULL, NULL, NULL, 100);
            if (loop) break;
            failures++;
            CHECK_EQUAL(errno, errors[i]);
            CHECK_EQUAL(faults.memory, 0);
            CHECK_EQUAL(faults.descriptors, 0);
        }
        us_loop_free(loop);
        CHECK(failures > 0);
        CHECK_EQUAL(faults.memory, 0);
        CHECK_EQUAL(faults.descriptors, 0);
    }
}

static void contexts_refuse_what_is_not_there(void) {
    fixture_open_on(us_sys_default(), "");
    struct us_socket_context_options_t options = {0};
    struct us_socket_context_t *encrypted = us_create_socket_context(1, loop, 0, options);
#ifdef LIBUS_NO_SSL
    CHECK(!encrypted && errno == ENOTSUP);
#else
    CHECK(encrypted && !us_socket_context_connect(1, context, "127.0.0.1", 1, NULL, 0, 0) && errno == ENOTSUP);
    us_socket_context_free(1, encrypted);
#endif
    CHECK(!us_create_socket_context(0, loop, -1, options) && errno == EINVAL);
    CHECK(!us_create_child_socket_context(0, context, -1) && errno == EINVAL);
    struct us_socket_t *s;
    int fd = unix_client(&s);
    CHECK(us_socket_send_buffer(0, s) == NULL);
    close(fd);
    fixture_close();
}

static void the_default_table_is_complete(void) {
    struct us_sys_t *sys = us_sys_default();
    for (size_t i = 0; i < sizeof *sys / sizeof(void *); i++) {
        void *member;
        memcpy(&member, (char *) sys + i * sizeof member, sizeof member);
        CHECK(member != NULL);
    }
    int64_t before = sys->monotonic_ns(sys);
    CHECK(before > 0 && sys->monotonic_ns(sys) >= before);
    CHECK(sys->wall_seconds(sys) > 1600000000);
    char *memory = sys->alloc(sys, 3);
    memcpy(memory, "ab", 3);
    memory = sys->resize(sys, memory, 3000);
    CHECK(memory && strcmp(memory, "ab") == 0);
    sys->release(sys, memory);
#ifdef LIBUS_USE_EPOLL
    CHECK(sys->timerfd_settime(sys, -1, -1, 0) == -1 && errno == EINVAL);
#endif
}

int main(void) {
    RUN(an_iteration_has_its_order);
    RUN(rides_in_another_epoll);
    RUN(runs_until_nothing_is_left);
    RUN(a_failed_wait_is_told_and_ends_the_run);
    RUN(creation_fails_cleanly_at_every_call);
    RUN(contexts_refuse_what_is_not_there);
    RUN(the_default_table_is_complete);
    return check_result();
}
