/* One session that uses everything, run again and again: with the n-th call of
 * each kind failing, for all n and all its errors, once or from then on. It may
 * end early, but it ends: no crash, no leak of memory or descriptors, no hang,
 * and an on_close for each on_open. */
#include "fixture.h"
#include "faults.h"

static int faulty, ready, ran_out, woken;
static char path[64];

static void count_ready(struct us_poll_t *p, int error, int events) {
    (void) error, (void) events;
    ready++;
    us_poll_change(p, loop, 0);
}

static void count_timer(struct us_timer_t *t) {
    (void) t;
    ran_out++;
}

static void count_wakeup(struct us_loop_t *l) {
    (void) l;
    woken++;
}

/* Steps until the counter is there. A session with a fault may wait in vain, so
 * it gives up when nothing is ready any more. */
static void try_until(const int *counter, int target) {
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    for (int steps = 0; *counter < target && steps < 100; steps++) {
        if (poll(&p, 1, faulty ? 0 : GUARD_MS) <= 0) return;
        us_loop_step(loop);
    }
    if (!faulty) CHECK(*counter >= target);
}

static struct us_socket_t *answer(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    us_socket_write(0, s, data, length, 1);
    us_socket_write2(0, s, "head", 4, data, length);
    us_socket_flush(0, s);
    us_socket_timeout(0, s, 4);
    struct us_socket_t *moved = us_socket_context_adopt_socket(0, context, s, 64);
    seen.last = moved ? moved : s;
    return seen.last;
}

static void talk(int fd) {
    int before = seen.data_events, ended = seen.ended, closed = seen.closed;
    (void) !send(fd, "hello", 5, MSG_NOSIGNAL);
    try_until(&seen.data_events, before + 1);
    struct us_socket_t *s = seen.last;
    if (s && !us_socket_is_closed(0, s)) {
        us_socket_read_enabled(s, 0);
        us_socket_read_enabled(s, 1);
        us_socket_local_port(0, s);
        us_socket_remote_port(0, s);
    }
    shutdown(fd, SHUT_WR);
    try_until(&seen.ended, ended + 1);
    us_loop_sweep(loop);
    close(fd);
    if (seen.last && !us_socket_is_closed(0, seen.last)) us_socket_shutdown(0, seen.last);
    try_until(&seen.closed, closed + 1);
}

static void use_sockets(void) {
    struct us_listen_socket_t *ls = us_socket_context_listen(0, context, NULL, 0, 0, 16);
    int port = ls ? us_socket_local_port(0, (struct us_socket_t *) ls) : -1;
    if (port > 0) {
        int fd = dial(port);
        try_until(&seen.opened, seen.opened + 1);
        talk(fd);
        seen.last = NULL;
        fd = dial(port);
        try_until(&seen.opened, seen.opened + 1);
        reset(fd);
        try_until(&seen.closed, seen.closed + 1);
    }
    seen.last = NULL;
    if (us_socket_context_listen_unix(0, context, path, 0, 0)) {
        int fd = dial_unix(path);
        try_until(&seen.opened, seen.opened + 1);
        talk(fd);
    }
    seen.last = NULL;
}

static void use_the_rest(void) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    struct us_poll_t *p = us_create_poll(loop, 0, 8);
    if (p) {
        us_poll_init(p, ends[0], 0);
        us_poll_on_ready(p, count_ready);
        us_poll_start(p, loop, LIBUS_SOCKET_READABLE | LIBUS_SOCKET_WRITABLE);
        struct us_poll_t *resized = us_poll_resize(p, loop, 100);
        if (resized) p = resized;
        try_until(&ready, 1);
        us_poll_free(p, loop);
    }
    close(ends[0]);
    close(ends[1]);
    struct us_timer_t *timer = us_create_timer(loop, 0, 8);
    if (timer) {
        us_timer_set(timer, count_timer, 1, 0);
        try_until(&ran_out, 1);
        us_timer_close(timer);
    }
    us_loop_integrate(loop);
    us_wakeup_loop(loop);
    try_until(&woken, 1);
}

static void session(void) {
    memset(&seen, 0, sizeof seen);
    ready = ran_out = woken = 0;
    loop = us_create_loop_on(&faults.sys, count_wakeup, NULL, NULL, 8);
    if (loop) {
        struct us_socket_context_options_t options = {0};
        context = us_create_socket_context(0, loop, 8, options);
        if (context) {
            count_everything(context);
            us_socket_context_on_data(0, context, answer);
            use_sockets();
            struct us_socket_context_t *child = us_create_child_socket_context(0, context, 8);
            use_the_rest();
            if (child) us_socket_context_free(0, child);
            us_socket_context_free(0, context);
        }
        us_loop_step(loop);
        us_loop_free(loop);
    }
    CHECK_EQUAL(seen.opened, seen.closed);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
    if (!faulty || faults.fail != CALL_UNLINK) CHECK(access(path, F_OK) != 0);
    unlink(path);
}

static void without_a_fault(void) {
    faulty = 0;
    faults_reset();
    session();
    CHECK_EQUAL(seen.opened, 3);
    CHECK_EQUAL(seen.ended, 2);
    CHECK(ready == 1 && ran_out == 1 && woken == 1);
}

static void fail_each(enum call call, const int *errors) {
    faulty = 0;
    faults_reset();
    session();
    int calls = faults.calls[call];
    CHECK(calls > 0);
    faulty = 1;
    for (; *errors; errors++) {
        for (int at = 1; at <= calls; at++) {
            for (int more = 0; more < 3; more++) {
                faults_reset();
                faults.fail = call;
                faults.at = at;
                /* EINTR for ever is not a fault the kernel has. */
                faults.until = more == 0 ? at : more == 1 ? at + 1 : *errors == EINTR ? at + 5 : at + 100000;
                faults.error = *errors;
                session();
            }
        }
        if (check_failures_here) {
            fprintf(stderr, "call %d, errno %d\n", (int) call, *errors);
            return;
        }
    }
}

#define FAULTS(name, call, ...) \
    static void name(void) { \
        const int errors[] = {__VA_ARGS__, 0}; \
        fail_each(call, errors); \
    }

FAULTS(memory, CALL_ALLOC, ENOMEM)
FAULTS(socket_calls, CALL_SOCKET, EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT)
FAULTS(bind_calls, CALL_BIND, EACCES, EADDRINUSE, EADDRNOTAVAIL, EBADF, EINVAL, ENOMEM, EROFS)
FAULTS(listen_calls, CALL_LISTEN, EADDRINUSE, EBADF, EOPNOTSUPP)
FAULTS(accept_calls, CALL_ACCEPT, EAGAIN, EBADF, ECONNABORTED, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EOPNOTSUPP, EPERM, EPROTO)
FAULTS(setsockopt_calls, CALL_SETSOCKOPT, EBADF, EINVAL, ENOPROTOOPT, ENOMEM)
FAULTS(getsockname_calls, CALL_GETSOCKNAME, EBADF, ENOBUFS)
FAULTS(getpeername_calls, CALL_GETPEERNAME, ENOTCONN, ENOBUFS)
FAULTS(recv_calls, CALL_RECV, EAGAIN, EBADF, ECONNRESET, EINTR, EINVAL, ENOMEM, ENOTCONN, ETIMEDOUT)
FAULTS(send_calls, CALL_SEND, EAGAIN, EBADF, ECONNRESET, EHOSTUNREACH, EINTR, ENOBUFS, ENOMEM, ENOTCONN, EPIPE, ETIMEDOUT)
FAULTS(sendv_calls, CALL_SENDV, EAGAIN, EBADF, ECONNRESET, EINTR, ENOBUFS, ENOMEM, EPIPE)
FAULTS(shutdown_calls, CALL_SHUTDOWN, EBADF, EINVAL, ENOTCONN)
FAULTS(unlink_calls, CALL_UNLINK, EACCES, ENOENT, EPERM, EROFS)
FAULTS(epoll_create_calls, CALL_EPOLL_CREATE, EMFILE, ENFILE, ENOMEM)
FAULTS(epoll_ctl_calls, CALL_EPOLL_CTL, EBADF, EEXIST, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM)
FAULTS(epoll_wait_calls, CALL_EPOLL_WAIT, EBADF, EINTR, EINVAL)
FAULTS(eventfd_calls, CALL_EVENTFD, EMFILE, ENFILE, ENODEV, ENOMEM)
FAULTS(timerfd_create_calls, CALL_TIMERFD_CREATE, EMFILE, ENFILE, ENODEV, ENOMEM)
FAULTS(timerfd_settime_calls, CALL_TIMERFD_SETTIME, EBADF, EINVAL, ECANCELED)
FAULTS(read_calls, CALL_READ, EAGAIN, EBADF, EINTR, EIO)
FAULTS(write_calls, CALL_WRITE, EAGAIN, EBADF, EINTR, EIO)
FAULTS(spare_calls, CALL_OPEN_SPARE, EMFILE, ENFILE, ENOENT)

int main(void) {
    alarm(280);
    temporary_path(path, sizeof path);
    RUN(without_a_fault);
    RUN(memory);
    RUN(socket_calls);
    RUN(bind_calls);
    RUN(listen_calls);
    RUN(accept_calls);
    RUN(setsockopt_calls);
    RUN(getsockname_calls);
    RUN(getpeername_calls);
    RUN(recv_calls);
    RUN(send_calls);
    RUN(sendv_calls);
    RUN(shutdown_calls);
    RUN(unlink_calls);
    RUN(epoll_create_calls);
    RUN(epoll_ctl_calls);
    RUN(epoll_wait_calls);
    RUN(eventfd_calls);
    RUN(timerfd_create_calls);
    RUN(timerfd_settime_calls);
    RUN(read_calls);
    RUN(write_calls);
    RUN(spare_calls);
    remove_temporary(path);
    return check_result();
}
