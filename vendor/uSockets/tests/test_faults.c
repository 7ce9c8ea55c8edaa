/* Two sessions that use everything, a server's and a client's with datagrams, run
 * again and again: with the n-th call of each kind failing, for all n and all its
 * errors, once or from then on. They may end early, but they end: no crash, no leak
 * of memory or descriptors, no hang, an on_close for each on_open, and of each
 * connection that was begun one end at most: that or on_connect_error. */
#include "sweep.h"

static int ready, ran_out, woken;
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

/* ---- The client's session ------------------------------------------------ */

static struct { int begun, opened, failed, closed, bytes, received, drained; } client_seen;
static struct us_udp_packet_buffer_t *packets;

static struct us_socket_t *client_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    (void) ip, (void) ip_length;
    CHECK_EQUAL(is_client, 1);
    client_seen.opened++;
    us_socket_write(0, s, "hello", 5, 0);
    return s;
}

static struct us_socket_t *client_failed(struct us_socket_t *s, int code) {
    CHECK(code > 0);
    client_seen.failed++;
    return s;
}

static struct us_socket_t *client_data(struct us_socket_t *s, char *data, int length) {
    (void) data;
    client_seen.bytes += length;
    us_socket_shutdown(0, s);
    return s;
}

static struct us_socket_t *client_close(struct us_socket_t *s, int code, void *reason) {
    (void) code, (void) reason;
    client_seen.closed++;
    return s;
}

static int client_ended(void) {
    return client_seen.failed + client_seen.closed;
}

static void begin(struct us_socket_t *s) {
    int before = client_ended();
    if (!s) return;
    client_seen.begun++;
    us_socket_timeout(0, s, 12);
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    for (int steps = 0; client_ended() == before && steps < 100; steps++) {
        if (poll(&p, 1, faulty ? 0 : GUARD_MS) <= 0) return;
        us_loop_step(loop);
    }
}

static struct us_socket_t *say_and_end(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    us_socket_write(0, s, data, length, 0);
    us_socket_shutdown(0, s);
    return s;
}

static void use_connections(void) {
    struct us_socket_context_t *clients = us_create_socket_context(0, loop, 8, (struct us_socket_context_options_t) {0});
    if (!clients) return;
    us_socket_context_on_open(0, clients, client_open);
    us_socket_context_on_data(0, clients, client_data);
    us_socket_context_on_close(0, clients, client_close);
    us_socket_context_on_connect_error(0, clients, client_failed);
    struct us_listen_socket_t *ls = us_socket_context_listen(0, context, "127.0.0.1", 0, 0, 16);
    int port = ls ? us_socket_local_port(0, (struct us_socket_t *) ls) : -1;
    if (port > 0) {
        begin(us_socket_context_connect(0, clients, NULL, port, NULL, 0, 8)); /* ::1 refuses, 127.0.0.1 does not */
        begin(us_socket_context_connect(0, clients, "127.0.0.1", port, "127.0.0.2", 0, 8));
        us_listen_socket_close(0, ls);
        begin(us_socket_context_connect(0, clients, "127.0.0.1", port, NULL, 0, 8)); /* refused */
    }
    if (us_socket_context_listen_unix(0, context, path, 0, 0)) begin(us_socket_context_connect_unix(0, clients, path, 0, 8));
    struct us_socket_t *given_up = us_socket_context_connect_unix(0, clients, path, 0, 8);
    if (given_up) us_socket_close_connecting(0, given_up);
    us_socket_context_close(0, clients);
    CHECK(client_seen.opened == client_seen.closed && client_ended() <= client_seen.begun);
    us_socket_context_free(0, clients);
}

static void received(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count) {
    char ip[16];
    client_seen.received += count;
    us_udp_packet_buffer_local_ip(buf, 0, ip);
    us_udp_packet_buffer_ecn(buf, 0);
    if (client_seen.received == 2) us_udp_socket_send(s, buf, count); /* to itself again */
}

static void drained(struct us_udp_socket_t *s) {
    (void) s;
    client_seen.drained++;
}

static void use_datagrams(void) {
    /* Its memory is large: a buffer of its own only where memory is what fails. */
    int own = faulty && faults.fail == CALL_ALLOC;
    struct us_udp_socket_t *s = us_create_udp_socket(loop, own ? NULL : packets, received, drained, NULL, 0, NULL);
    if (!s) return;
    us_udp_socket_bind(s, "127.0.0.1", 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    address.sin_port = htons((uint16_t) us_udp_socket_bound_port(s));
    for (int i = 0; i < 2; i++) us_udp_buffer_set_packet_payload(packets, i, 0, "hello", 5, &address);
    faults.message_limit = 1;
    if (us_udp_socket_send(s, packets, 2) == 1) try_until(&client_seen.drained, 1);
    faults.message_limit = 0;
    us_udp_buffer_set_packet_payload(packets, 0, 0, "hello", 5, &address);
    us_udp_socket_send(s, packets, 1);
    try_until(&client_seen.received, 2);
    us_udp_socket_close(s);
}

/* ---- Again and again ----------------------------------------------------- */

static void use_as_server(void) {
    us_socket_context_on_data(0, context, answer);
    use_sockets();
    struct us_socket_context_t *child = us_create_child_socket_context(0, context, 8);
    use_the_rest();
    if (child) us_socket_context_free(0, child);
}

static void use_as_client(void) {
    us_socket_context_on_data(0, context, say_and_end);
    use_connections();
    use_datagrams();
}

void (*const uses[])(void) = {use_as_server, use_as_client, NULL};

void session(void (*use)(void)) {
    memset(&client_seen, 0, sizeof client_seen);
    memset(&seen, 0, sizeof seen);
    ready = ran_out = woken = 0;
    loop = us_create_loop_on(&faults.sys, count_wakeup, NULL, NULL, 8);
    if (loop) {
        struct us_socket_context_options_t options = {0};
        context = us_create_socket_context(0, loop, 8, options);
        if (context) {
            count_everything(context);
            use();
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
    session(use_as_server);
    CHECK_EQUAL(seen.opened, 3);
    CHECK_EQUAL(seen.ended, 2);
    CHECK(ready == 1 && ran_out == 1 && woken == 1);
    faults_reset();
    session(use_as_client);
    CHECK_EQUAL(client_seen.begun, 4);
    CHECK_EQUAL(client_seen.opened, 3);
    CHECK_EQUAL(client_seen.failed, 1);
    CHECK_EQUAL(client_seen.bytes, 15);
    CHECK(client_seen.received >= 2 && client_seen.drained == 1);
}

FAULTS(memory, CALL_ALLOC, ENOMEM)
FAULTS(socket_calls, CALL_SOCKET, EACCES, EAFNOSUPPORT, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTONOSUPPORT)
FAULTS(bind_calls, CALL_BIND, EACCES, EADDRINUSE, EADDRNOTAVAIL, EBADF, EINVAL, ENOMEM, EROFS)
FAULTS(listen_calls, CALL_LISTEN, EADDRINUSE, EBADF, EOPNOTSUPP)
FAULTS(accept_calls, CALL_ACCEPT, EAGAIN, EBADF, ECONNABORTED, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOBUFS, ENOMEM, EOPNOTSUPP, EPERM, EPROTO)
FAULTS(connect_calls, CALL_CONNECT, EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EAGAIN, EBADF, ECONNREFUSED, EHOSTUNREACH, EINTR, ENETUNREACH, EPERM, ETIMEDOUT)
FAULTS(setsockopt_calls, CALL_SETSOCKOPT, EBADF, EINVAL, ENOPROTOOPT, ENOMEM)
FAULTS(getsockopt_calls, CALL_GETSOCKOPT, EBADF, ENOBUFS)
FAULTS(getsockname_calls, CALL_GETSOCKNAME, EBADF, ENOBUFS)
FAULTS(getpeername_calls, CALL_GETPEERNAME, ENOTCONN, ENOBUFS)
FAULTS(recv_calls, CALL_RECV, EAGAIN, EBADF, ECONNRESET, EINTR, EINVAL, ENOMEM, ENOTCONN, ETIMEDOUT)
FAULTS(send_calls, CALL_SEND, EAGAIN, EBADF, ECONNRESET, EHOSTUNREACH, EINTR, ENOBUFS, ENOMEM, ENOTCONN, EPIPE, ETIMEDOUT)
FAULTS(sendv_calls, CALL_SENDV, EAGAIN, EBADF, ECONNRESET, EINTR, ENOBUFS, ENOMEM, EPIPE)
FAULTS(recvmmsg_calls, CALL_RECVMMSG, EAGAIN, EBADF, ECONNREFUSED, EINTR, ENOMEM)
FAULTS(sendmmsg_calls, CALL_SENDMMSG, EAGAIN, EBADF, ECONNREFUSED, EINTR, EINVAL, EMSGSIZE, ENETUNREACH, ENOBUFS, ENOMEM, EPERM)
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
    packets = us_create_udp_packet_buffer();
    if (!packets) return 1;
    RUN(without_a_fault);
    RUN(memory);
    RUN(socket_calls);
    RUN(bind_calls);
    RUN(listen_calls);
    RUN(accept_calls);
    RUN(connect_calls);
    RUN(setsockopt_calls);
    RUN(getsockopt_calls);
    RUN(getsockname_calls);
    RUN(getpeername_calls);
    RUN(recv_calls);
    RUN(send_calls);
    RUN(sendv_calls);
    RUN(recvmmsg_calls);
    RUN(sendmmsg_calls);
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
    us_udp_packet_buffer_free(packets);
    remove_temporary(path);
    return check_result();
}
