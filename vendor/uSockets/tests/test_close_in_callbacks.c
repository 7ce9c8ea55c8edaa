/* Any callback may close its socket, the others of the batch, the listener and
 * the context; each on_open has its one on_close, and nothing freed is touched. */
#include "fixture.h"
#include "faults.h"

#define SOCKETS 4

static struct us_socket_t *sockets[SOCKETS];
static int fds[SOCKETS];

enum action { CLOSE_SELF, CLOSE_OTHERS, CLOSE_CONTEXT, FREE_CONTEXT, SHUT_DOWN, PAUSE, ACTIONS };
static enum action action;

static struct us_socket_t *act(struct us_socket_t *s) {
    switch (action) {
    case CLOSE_SELF:
        CHECK(us_socket_close(0, s, 7, NULL) == s);
        CHECK(us_socket_close(0, s, 8, NULL) == s);
        break;
    case CLOSE_OTHERS:
        for (int i = 0; i < SOCKETS; i++) {
            if (sockets[i] && sockets[i] != s) us_socket_close(0, sockets[i], 0, NULL);
        }
        break;
    case CLOSE_CONTEXT:
        us_socket_context_close(0, us_socket_context(0, s));
        break;
    case FREE_CONTEXT:
        if (us_socket_context(0, s) != context) break;
        us_socket_context_free(0, context);
        us_socket_context_free(0, context);
        context = make_context(0);
        break;
    case SHUT_DOWN:
        us_socket_shutdown(0, s);
        us_socket_shutdown_read(0, s);
        break;
    case PAUSE:
        for (int i = 0; i < SOCKETS; i++) {
            if (sockets[i]) us_socket_read_enabled(sockets[i], 0);
        }
        break;
    case ACTIONS: break;
    }
    /* A dead socket may still be asked, and bears everything. */
    if (us_socket_is_closed(0, s)) {
        char ip[16];
        int length = 16;
        us_socket_remote_address(0, s, ip, &length);
        CHECK_EQUAL(length, 0);
        CHECK_EQUAL(us_socket_write(0, s, "x", 1, 0), 0);
        CHECK_EQUAL(us_socket_local_port(0, s), -1);
        CHECK_EQUAL(us_socket_remote_port(0, s), -1);
        CHECK_EQUAL((intptr_t) us_socket_get_native_handle(0, s), -1);
        us_socket_timeout(0, s, 4);
        us_socket_long_timeout(0, s, 1);
        us_socket_shutdown(0, s);
        us_socket_shutdown_read(0, s);
        us_socket_flush(0, s);
        us_socket_read_enabled(s, 1);
        CHECK(us_socket_context(0, s) != NULL && us_socket_ext(0, s) != NULL);
    }
    return s;
}

static void forget(struct us_socket_t *s) {
    for (int i = 0; i < SOCKETS; i++) {
        if (sockets[i] == s) sockets[i] = NULL;
    }
}

static struct us_socket_t *forget_on_close(struct us_socket_t *s, int code, void *reason) {
    forget(s);
    return count_close(s, code, reason);
}

static struct us_socket_t *act_on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    count_open(s, is_client, ip, ip_length);
    return act(s);
}

static struct us_socket_t *act_on_close(struct us_socket_t *s, int code, void *reason) {
    count_close(s, code, reason);
    forget(s);
    return act(s);
}

static struct us_socket_t *act_on_data(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    return act(s);
}

static struct us_socket_t *act_on_end(struct us_socket_t *s) {
    count_end(s);
    return act(s);
}

static struct us_socket_t *act_on_writable(struct us_socket_t *s) {
    count_writable(s);
    return act(s);
}

static struct us_socket_t *act_on_timeout(struct us_socket_t *s) {
    count_timeout(s);
    return act(s);
}

static struct us_socket_t *act_on_long_timeout(struct us_socket_t *s) {
    count_long_timeout(s);
    return act(s);
}

enum callback { ON_OPEN, ON_CLOSE, ON_DATA, ON_END, ON_WRITABLE, ON_TIMEOUT, ON_LONG_TIMEOUT, CALLBACKS };

static void act_in(enum callback callback) {
    switch (callback) {
    case ON_OPEN: us_socket_context_on_open(0, context, act_on_open); break;
    case ON_CLOSE: us_socket_context_on_close(0, context, act_on_close); break;
    case ON_DATA: us_socket_context_on_data(0, context, act_on_data); break;
    case ON_END: us_socket_context_on_end(0, context, act_on_end); break;
    case ON_WRITABLE: us_socket_context_on_writable(0, context, act_on_writable); break;
    case ON_TIMEOUT: us_socket_context_on_timeout(0, context, act_on_timeout); break;
    case ON_LONG_TIMEOUT: us_socket_context_on_long_timeout(0, context, act_on_long_timeout); break;
    case CALLBACKS: break;
    }
}

static void prepare(struct us_socket_t *s, enum callback callback) {
    us_socket_timeout(0, s, 4);
    us_socket_long_timeout(0, s, 1);
    if (callback == ON_WRITABLE) {
        fail_next(CALL_SEND, EAGAIN, 0);
        us_socket_write(0, s, "x", 1, 0);
    }
}

/* Four sockets, ready for everything in the same batch. */
static void run(enum callback callback, enum action what, int in_batch) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    action = what;
    us_socket_context_on_close(0, context, forget_on_close);
    if (callback == ON_OPEN) act_in(callback);
    int tcp = dial_listener();
    for (int i = 0; i < SOCKETS; i++) sockets[i] = NULL;
    for (int i = 0; i < SOCKETS; i++) {
        int ends[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        fds[i] = ends[1];
        sockets[i] = us_adopt_accepted_socket(0, context, ends[0], 16, NULL, 0);
        CHECK(sockets[i] != NULL);
        if (sockets[i] && us_socket_is_closed(0, sockets[i])) sockets[i] = NULL;
    }
    act_in(callback);
    for (int i = 0; i < SOCKETS && callback != ON_OPEN; i++) {
        if (sockets[i]) prepare(sockets[i], callback);
        (void) !send(fds[i], "x", 1, MSG_NOSIGNAL); /* its socket may be gone */
        if (callback == ON_END) shutdown(fds[i], SHUT_WR);
        if (callback == ON_CLOSE) close(fds[i]);
        if (!in_batch) us_loop_step(loop);
    }
    us_loop_step(loop);
    if (callback == ON_TIMEOUT) us_loop_sweep(loop);
    for (int i = 0; i < 15 && callback == ON_LONG_TIMEOUT; i++) us_loop_sweep(loop);
    settle();
    int acted[CALLBACKS] = {seen.opened, seen.closed, seen.data_events, seen.ended, seen.writable, seen.timeouts, seen.long_timeouts};
    CHECK(acted[callback] > 0);
    for (int i = 0; i < SOCKETS && callback != ON_CLOSE; i++) close(fds[i]);
    close(tcp);
    settle();
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, -SOCKETS); /* those given to it are closed too */
}

static void every_action_in_every_callback(void) {
    for (int callback = 0; callback < CALLBACKS; callback++) {
        for (int what = 0; what < ACTIONS; what++) {
            run((enum callback) callback, (enum action) what, 0);
            run((enum callback) callback, (enum action) what, 1);
        }
    }
}

static void closing_outside_a_step_is_released_by_the_next(void) {
    faults_reset();
    fixture_open_on(&faults.sys, "127.0.0.1");
    int fd = client();
    struct us_socket_t *s = seen.last;
    int memory = faults.memory;
    us_socket_close(0, s, 3, NULL);
    CHECK_EQUAL(seen.code, 3);
    CHECK(us_socket_is_closed(0, s));
    CHECK_EQUAL(faults.memory, memory);
    us_loop_step(loop);
    CHECK_EQUAL(faults.memory, memory - 1);
    close(fd);
    fixture_close();
}

static struct us_socket_t *step_in_close(struct us_socket_t *s, int code, void *reason) {
    count_close(s, code, reason);
    CHECK_EQUAL(us_loop_step(loop), -EBUSY);
    us_loop_run(loop);
    us_loop_free(loop);
    CHECK_EQUAL(us_socket_is_closed(0, s), 1);
    return s;
}

static struct us_socket_t *close_and_step_in_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    count_open(s, is_client, ip, ip_length);
    us_socket_close(0, s, 0, NULL);
    CHECK_EQUAL(us_loop_step(loop), -EBUSY);
    return s;
}

/* Else the socket would be released under its caller's feet. */
static void callbacks_between_iterations_run_none(void) {
    struct us_socket_t *s;
    fixture_open_on(faults_reset(), "");
    us_socket_context_on_close(0, context, step_in_close);
    int fd = unix_client(&s);
    us_socket_context_close(0, context);
    CHECK_EQUAL(seen.closed, 1);
    CHECK(us_socket_is_closed(0, s));
    close(fd);
    us_socket_context_on_open(0, context, close_and_step_in_open);
    fd = unix_client(&s);
    CHECK_EQUAL(seen.closed, 2);
    CHECK(us_socket_is_closed(0, s));
    close(fd);
    CHECK(us_loop_step(loop) >= 0);
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
}

static void a_context_stays_usable_after_close(void) {
    fixture_open();
    int fd = client();
    us_socket_context_close(0, context);
    CHECK_EQUAL(seen.closed, 1);
    us_loop_step(loop);
    listener = us_socket_context_listen(0, context, "127.0.0.1", 0, 0, 0);
    CHECK(listener != NULL);
    int other = client();
    CHECK_EQUAL(seen.opened, 2);
    us_socket_close(0, (struct us_socket_t *) listener, 0, NULL);
    close(fd);
    close(other);
    fixture_close();
}

int main(void) {
    RUN(every_action_in_every_callback);
    RUN(closing_outside_a_step_is_released_by_the_next);
    RUN(callbacks_between_iterations_run_none);
    RUN(a_context_stays_usable_after_close);
    return check_result();
}
