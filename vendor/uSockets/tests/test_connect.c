/* Client connections: how they open and fail, one address after the other, what a
 * connecting socket bears, and storms of them with a close in any callback. */
#include "fixture.h"
#include "faults.h"

/* The clients have a context and a count of their own; `seen` is the server's. */
static struct us_socket_context_t *clients;
static struct {
    int opened, closed, failed, code, ip_length, bytes, timeouts;
    char ip[16];
    struct us_socket_t *last;
} client_seen;

static struct us_socket_t *client_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    CHECK_EQUAL(is_client, 1);
    CHECK_EQUAL(us_socket_is_established(0, s), 1);
    client_seen.opened++;
    client_seen.ip_length = ip_length;
    memcpy(client_seen.ip, ip, (size_t) ip_length);
    client_seen.last = s;
    return s;
}

static struct us_socket_t *client_close(struct us_socket_t *s, int code, void *reason) {
    (void) code, (void) reason;
    client_seen.closed++;
    return s;
}

static struct us_socket_t *client_failed(struct us_socket_t *s, int code) {
    CHECK_EQUAL(us_socket_is_established(0, s), 0);
    CHECK_EQUAL(us_socket_last_error(s), code);
    client_seen.failed++;
    client_seen.code = code;
    us_socket_close_connecting(0, s);
    us_socket_close(0, s, 0, NULL);
    return s;
}

static struct us_socket_t *client_data(struct us_socket_t *s, char *data, int length) {
    (void) data;
    client_seen.bytes += length;
    return s;
}

static struct us_socket_t *give_up_at_timeout(struct us_socket_t *s) {
    CHECK_EQUAL(us_socket_is_established(0, s), 0);
    client_seen.timeouts++;
    return us_socket_close_connecting(0, s);
}

static void make_clients(void) {
    memset(&client_seen, 0, sizeof client_seen);
    clients = us_create_socket_context(0, loop, 0, (struct us_socket_context_options_t) {0});
    CHECK(clients != NULL);
    us_socket_context_on_open(0, clients, client_open);
    us_socket_context_on_close(0, clients, client_close);
    us_socket_context_on_connect_error(0, clients, client_failed);
    us_socket_context_on_data(0, clients, client_data);
    us_socket_context_on_timeout(0, clients, give_up_at_timeout);
}

static void open_on(const char *host) {
    fixture_open_on(faults_reset(), host);
    us_socket_context_on_data(0, context, echo_data);
    make_clients();
}

static void end(void) {
    us_socket_context_free(0, clients);
    settle();
    fixture_close();
    CHECK_EQUAL(client_seen.opened, client_seen.closed);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
}

static int port_of(struct us_listen_socket_t *ls) {
    return us_socket_local_port(0, (struct us_socket_t *) ls);
}

/* A port that refuses: bound by `*fd`, which does not listen. */
static int refusing_port(int *fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(*fd, (struct sockaddr *) &address, sizeof address) == 0);
    CHECK(getsockname(*fd, (struct sockaddr *) &address, &length) == 0);
    return ntohs(address.sin_port);
}

static int has_ipv6(void) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int has = fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof address) == 0;
    if (fd >= 0) close(fd);
    return has;
}

/* ---- Opening ------------------------------------------------------------- */

static void talk(void) {
    struct us_socket_t *s = client_seen.last;
    CHECK_EQUAL(us_socket_write(0, s, "hello", 5, 0), 5);
    pump(&client_seen.bytes, 5);
    us_socket_shutdown(0, s);
    pump(&seen.ended, 1);
    us_socket_close(0, s, 0, NULL);
}

static void connects_to_an_address(void) {
    open_on("127.0.0.1");
    struct us_socket_t *s = us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 24);
    CHECK(s != NULL);
    CHECK_EQUAL(us_socket_is_established(0, s), 0);
    CHECK_EQUAL(us_socket_is_closed(0, s), 0);
    CHECK(us_socket_context(0, s) == clients);
    memset(us_socket_ext(0, s), 7, 24);
    CHECK_EQUAL(client_seen.opened, 0);
    pump(&client_seen.opened, 1);
    CHECK(client_seen.last == s);
    CHECK(client_seen.ip_length == 4 && memcmp(client_seen.ip, "\x7f\0\0\1", 4) == 0);
    CHECK_EQUAL(us_socket_remote_port(0, s), port_of(listener));
    CHECK_EQUAL(((char *) us_socket_ext(0, s))[23], 7);
    int on = 0;
    socklen_t size = sizeof on;
    CHECK(getsockopt(us_poll_fd((struct us_poll_t *) s), IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
    pump(&seen.opened, 1);
    talk();
    CHECK_EQUAL(us_socket_is_established(0, s), 0);
    end();
}

static void connects_to_a_name(void) {
    open_on("localhost");
    CHECK(us_socket_context_connect(0, clients, "localhost", port_of(listener), NULL, 0, 0) != NULL);
    pump(&client_seen.opened, 1);
    CHECK(client_seen.ip_length == 4 || client_seen.ip_length == 16);
    pump(&seen.opened, 1);
    talk();
    end();
}

static void connects_by_ipv6(void) {
    if (!has_ipv6()) return;
    open_on("::1");
    CHECK(us_socket_context_connect(0, clients, "::1", port_of(listener), "::1", 0, 0) != NULL);
    pump(&client_seen.opened, 1);
    CHECK(client_seen.ip_length == 16 && memcmp(client_seen.ip, &in6addr_loopback, 16) == 0);
    pump(&seen.opened, 1);
    talk();
    end();
}

static void connects_from_an_address(void) {
    open_on("127.0.0.1");
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), "127.0.0.2", 0, 0) != NULL);
    pump(&client_seen.opened, 1);
    pump(&seen.opened, 1);
    CHECK(seen.ip_length == 4 && memcmp(seen.ip, "\x7f\0\0\2", 4) == 0);
    talk();
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), "::1", 0, 0) == NULL);
    CHECK_EQUAL(errno, EADDRNOTAVAIL);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), "203.0.113.1", 0, 0) == NULL);
    CHECK_EQUAL(errno, EADDRNOTAVAIL);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), "not an address", 0, 0) == NULL);
    CHECK_EQUAL(errno, EADDRNOTAVAIL);
    end();
}

static void a_moved_client_is_a_socket_as_any(void) {
    open_on("127.0.0.1");
    struct us_socket_t *s = us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 3);
    CHECK(us_socket_context_adopt_socket(0, clients, s, 100) == NULL);
    CHECK_EQUAL(errno, EINVAL);
    pump(&client_seen.opened, 1);
    memcpy(us_socket_ext(0, s), "abc", 3);
    client_seen.last = us_socket_context_adopt_socket(0, clients, s, 500);
    CHECK(client_seen.last && memcmp(us_socket_ext(0, client_seen.last), "abc\0", 4) == 0);
    memset(us_socket_ext(0, client_seen.last), 1, 500);
    pump(&seen.opened, 1);
    talk();
    end();
}

/* Nothing but the context, ext, timeouts and closing: the rest has no effect. */
static void a_connecting_socket_bears_every_call(void) {
    open_on("127.0.0.1");
    struct us_socket_t *s = us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0);
    char ip[16];
    int length = 16;
    CHECK_EQUAL(us_socket_write(0, s, "x", 1, 0), 0);
    CHECK_EQUAL(us_socket_write2(0, s, "x", 1, "y", 1), 0);
    us_socket_flush(0, s);
    us_socket_shutdown(0, s);
    us_socket_shutdown_read(0, s);
    us_socket_read_enabled(s, 0);
    CHECK_EQUAL(us_socket_is_shut_down(0, s), 0);
    us_socket_remote_address(0, s, ip, &length);
    us_socket_timeout(0, s, 8);
    us_socket_long_timeout(0, s, 2);
    us_loop_sweep(loop);
    CHECK_EQUAL(client_seen.timeouts, 0);
    pump(&client_seen.opened, 1);
    CHECK(us_socket_close_connecting(0, s) == s);
    CHECK_EQUAL(us_socket_is_established(0, s), 1);
    pump(&seen.opened, 1);
    talk();
    end();
}

static void a_signal_does_not_end_it(void) {
    open_on("127.0.0.1");
    fail_next(CALL_CONNECT, EINTR, 2);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) != NULL);
    pump(&client_seen.opened, 1);
    pump(&seen.opened, 1);
    talk();
    end();
}

/* ---- Failing ------------------------------------------------------------- */

static void a_refusal_is_told_once(void) {
    int holder;
    open_on("");
    int port = refusing_port(&holder);
    for (int i = 0; i < 3; i++) CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port, NULL, 0, 8) != NULL);
    pump(&client_seen.failed, 3);
    settle();
    CHECK_EQUAL(client_seen.failed, 3);
    CHECK_EQUAL(client_seen.code, ECONNREFUSED);
    CHECK_EQUAL(client_seen.opened, 0);
    us_socket_context_on_connect_error(0, clients, NULL);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port, NULL, 0, 8) != NULL);
    settle();
    close(holder);
    end();
}

/* Without a host it is this machine: ::1 first, then 127.0.0.1, which listens. */
static void the_next_address_is_tried_when_one_refuses(void) {
    open_on("127.0.0.1");
    CHECK(us_socket_context_connect(0, clients, NULL, port_of(listener), NULL, 0, 0) != NULL);
    pump(&client_seen.opened, 1);
    CHECK_EQUAL(client_seen.failed, 0);
    CHECK(client_seen.ip_length == 4 && memcmp(client_seen.ip, "\x7f\0\0\1", 4) == 0);
    pump(&seen.opened, 1);
    talk();
    end();
}

static void the_next_address_is_tried_when_one_fails_at_once(void) {
    static const int errors[] = {ENETUNREACH, EADDRNOTAVAIL, EACCES, ECONNREFUSED};
    for (int i = 0; i < 4; i++) {
        open_on("127.0.0.1");
        fail_next(CALL_CONNECT, errors[i], 0);
        CHECK(us_socket_context_connect(0, clients, NULL, port_of(listener), NULL, 0, 0) != NULL);
        pump(&client_seen.opened, 1);
        CHECK_EQUAL(faults.calls[CALL_CONNECT], 2);
        pump(&seen.opened, 1);
        talk();
        end();
    }
}

static void the_error_is_that_of_the_first_address(void) {
    int holder;
    open_on("");
    int port = refusing_port(&holder);
    fail_next(CALL_CONNECT, ENETUNREACH, 0);
    CHECK(us_socket_context_connect(0, clients, NULL, port, NULL, 0, 0) != NULL);
    pump(&client_seen.failed, 1);
    CHECK_EQUAL(client_seen.code, ENETUNREACH);
    CHECK_EQUAL(faults.calls[CALL_CONNECT], 2);
    close(holder);
    end();
}

static void what_fails_at_once_gives_null(void) {
    static const int connect_errors[] = {EAGAIN, ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL, EACCES, ETIMEDOUT};
    static const int socket_errors[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS};
    open_on("127.0.0.1");
    for (int i = 0; i < 6; i++) {
        fail_next(CALL_CONNECT, connect_errors[i], 100);
        CHECK(us_socket_context_connect(0, clients, NULL, port_of(listener), NULL, 0, 0) == NULL);
        CHECK_EQUAL(errno, connect_errors[i]);
    }
    for (int i = 0; i < 4; i++) {
        fail_next(CALL_SOCKET, socket_errors[i], 100);
        CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) == NULL);
        CHECK_EQUAL(errno, socket_errors[i]);
    }
    fail_next(CALL_EPOLL_CTL, ENOSPC, 100);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) == NULL);
    CHECK_EQUAL(errno, ENOSPC);
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) == NULL);
    CHECK_EQUAL(errno, ENOMEM);
    fail_nothing();
    CHECK(us_socket_context_connect(1, clients, "127.0.0.1", 80, NULL, 0, 0) == NULL && errno == ENOTSUP);
    CHECK(us_socket_context_connect_unix(1, clients, "/x", 0, 0) == NULL && errno == ENOTSUP);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", 65536, NULL, 0, 0) == NULL && errno == EINVAL);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", -1, NULL, 0, 0) == NULL && errno == EINVAL);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", 80, NULL, 0, -1) == NULL && errno == EINVAL);
    CHECK(us_socket_context_connect(0, clients, "not an address", 80, NULL, 0, 0) == NULL && errno == EADDRNOTAVAIL);
    settle();
    CHECK(client_seen.failed == 0 && client_seen.opened == 0);
    end();
}

/* What the kernel says, or the poller refuses, when the answer is there. */
static void what_fails_later_is_told(void) {
    static const struct { enum call call; int error; } faulty[] = {{CALL_GETSOCKOPT, ENOBUFS}, {CALL_EPOLL_CTL, ENOMEM}};
    for (int i = 0; i < 2; i++) {
        open_on("127.0.0.1");
        CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) != NULL);
        fail_next(faulty[i].call, faulty[i].error, 100);
        pump(&client_seen.failed, 1);
        CHECK_EQUAL(client_seen.code, faulty[i].error);
        fail_nothing();
        end();
    }
}

/* ---- Giving up ----------------------------------------------------------- */

static void giving_up_calls_nobody_back(void) {
    for (int how = 0; how < 4; how++) {
        open_on("127.0.0.1");
        struct us_socket_t *s = us_socket_context_connect(0, clients, NULL, port_of(listener), NULL, 0, 0);
        CHECK(s != NULL);
        switch (how) {
        case 0: CHECK(us_socket_close_connecting(0, s) == s); break;
        case 1: CHECK(us_socket_close(0, s, 3, NULL) == s); break;
        case 2: us_socket_context_close(0, clients); break;
        default: us_socket_context_free(0, clients); break;
        }
        CHECK_EQUAL(us_socket_is_closed(0, s), 1);
        CHECK(us_socket_close_connecting(0, s) == s && us_socket_close(0, s, 3, NULL) == s);
        settle();
        CHECK(client_seen.opened == 0 && client_seen.closed == 0 && client_seen.failed == 0);
        if (how == 3) make_clients();
        end();
    }
}

/* As a client does that shall never be without a connection. */
static struct us_socket_t *connect_again(struct us_socket_t *s, int code, void *reason) {
    client_close(s, code, reason);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) == NULL);
    CHECK_EQUAL(errno, ECANCELED);
    return s;
}

static void a_context_that_ends_connects_no_more(void) {
    open_on("127.0.0.1");
    us_socket_context_on_close(0, clients, connect_again);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) != NULL);
    pump(&client_seen.opened, 1);
    us_socket_context_close(0, clients);
    CHECK_EQUAL(client_seen.closed, 1);
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0) != NULL);
    pump(&client_seen.opened, 2);
    us_socket_context_free(0, clients);
    CHECK(us_socket_context_connect_unix(0, clients, "/", 0, 0) == NULL && errno == ECANCELED);
    CHECK_EQUAL(client_seen.closed, 2);
    settle();
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
}

static void a_timeout_ends_connecting(void) {
    open_on("127.0.0.1");
    struct us_socket_t *s = us_socket_context_connect(0, clients, "127.0.0.1", port_of(listener), NULL, 0, 0);
    us_socket_timeout(0, s, 4);
    us_loop_sweep(loop); /* before any answer is looked at */
    CHECK_EQUAL(client_seen.timeouts, 1);
    CHECK_EQUAL(us_socket_is_closed(0, s), 1);
    settle();
    CHECK(client_seen.opened == 0 && client_seen.closed == 0 && client_seen.failed == 0);
    end();
}

static void connecting_keeps_the_loop_running(void) {
    int holder;
    open_on("");
    CHECK(us_socket_context_connect(0, clients, "127.0.0.1", refusing_port(&holder), NULL, 0, 0) != NULL);
    us_loop_run(loop);
    CHECK_EQUAL(client_seen.failed, 1);
    close(holder);
    end();
}

/* ---- Unix paths ---------------------------------------------------------- */

/* A socket at the path that nobody listens on. */
static int open_left_over(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *) &address, sizeof address) == 0);
    return fd;
}

static void connects_to_a_path(void) {
    char path[64];
    temporary_path(path, sizeof path);
    open_on("");
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, 0) == NULL);
    CHECK_EQUAL(errno, ENOENT);
    struct us_listen_socket_t *ls = us_socket_context_listen_unix(0, context, path, 0, 0);
    struct us_socket_t *s = us_socket_context_connect_unix(0, clients, path, 0, 24);
    CHECK(s != NULL && ls != NULL);
    CHECK_EQUAL(us_socket_is_established(0, s), 0);
    CHECK_EQUAL(client_seen.opened, 0);
    pump(&client_seen.opened, 1);
    CHECK(client_seen.last == s && client_seen.ip_length == 0);
    pump(&seen.opened, 1);
    talk();
    fail_next(CALL_CONNECT, EAGAIN, 0); /* the queue of the listener is full */
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, 0) == NULL && errno == EAGAIN);
    fail_next(CALL_EPOLL_CTL, ENOSPC, 0);
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, 0) == NULL && errno == ENOSPC);
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, 0) == NULL && errno == ENOMEM);
    fail_next(CALL_SOCKET, EMFILE, 0);
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, 0) == NULL && errno == EMFILE);
    fail_nothing();
    char longest[200];
    memset(longest, 'x', sizeof longest);
    longest[199] = 0;
    CHECK(us_socket_context_connect_unix(0, clients, longest, 0, 0) == NULL && errno == ENAMETOOLONG);
    CHECK(us_socket_context_connect_unix(0, clients, "", 0, 0) == NULL && errno == EINVAL);
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, -1) == NULL && errno == EINVAL);
    end();
    int left_over = open_left_over(path);
    open_on("");
    CHECK(us_socket_context_connect_unix(0, clients, path, 0, 0) == NULL && errno == ECONNREFUSED);
    end();
    close(left_over);
    remove_temporary(path);
}

/* ---- Storms -------------------------------------------------------------- */

enum { STORM = 1500, AT_ONCE = 40 };
enum state { UNUSED, CONNECTING, OPEN, CLOSED, FAILED, GIVEN_UP };

static struct {
    enum state state[STORM];
    struct us_socket_t *socket[STORM]; /* while connecting or open */
    int refuses[STORM];
    int begun, ended;
    const char *path;
    int port, refusing;
    unsigned random;
} storm;

static unsigned dice(unsigned sides) {
    storm.random = storm.random * 1664525u + 1013904223u;
    return (storm.random >> 16) % sides;
}

static int number_of(struct us_socket_t *s) {
    int number;
    memcpy(&number, us_socket_ext(0, s), sizeof number);
    return number;
}

static void ended(int number, enum state from, enum state to) {
    CHECK_EQUAL(storm.state[number], from);
    storm.state[number] = to;
    storm.socket[number] = NULL;
    storm.ended++;
}

static void storm_connect(void) {
    if (storm.begun == STORM) return;
    int number = storm.begun++, refuses = dice(3) == 0;
    struct us_socket_t *s;
    if (storm.path) s = us_socket_context_connect_unix(0, clients, storm.path, 0, sizeof number);
    else s = us_socket_context_connect(0, clients, "127.0.0.1", refuses ? storm.refusing : storm.port, NULL, 0, sizeof number);
    if (!s) { /* unix: the listener's queue may be full, or the listener closed */
        CHECK(storm.path && (errno == EAGAIN || errno == ECONNREFUSED));
        storm.state[number] = CONNECTING;
        ended(number, CONNECTING, FAILED);
        return;
    }
    memcpy(us_socket_ext(0, s), &number, sizeof number);
    us_socket_timeout(0, s, 1 + dice(20));
    storm.state[number] = CONNECTING;
    storm.socket[number] = s;
    storm.refuses[number] = refuses && !storm.path;
}

static void end_one(int number) {
    struct us_socket_t *s = storm.socket[number];
    if (!s) return;
    if (storm.state[number] == CONNECTING) {
        if (dice(2)) us_socket_close_connecting(0, s);
        else us_socket_close(0, s, 1, NULL);
        ended(number, CONNECTING, GIVEN_UP);
    } else {
        us_socket_close(0, s, 1, NULL);
        CHECK_EQUAL(storm.state[number], CLOSED);
    }
}

/* What a callback of a client does next, on the whole or to itself. */
static void something(struct us_socket_t *s) {
    switch (dice(9)) {
    case 0: us_socket_close(0, s, 2, NULL); break;
    case 1: us_socket_shutdown(0, s); break;
    case 2: us_socket_write(0, s, "ping", 4, 0); break;
    case 3: storm_connect(); break;
    case 4: end_one((int) dice((unsigned) storm.begun)); break;
    case 5: for (int i = 0; i < 3; i++) end_one(storm.begun - 1 - (int) dice(storm.begun < 20 ? (unsigned) storm.begun : 20)); break;
    case 6: us_socket_shutdown_read(0, s); break;
    case 7: us_loop_step(loop); break; /* refused inside an iteration */
    default: break;
    }
}

static struct us_socket_t *storm_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    int number = number_of(s);
    CHECK(is_client == 1 && ip_length == (storm.path ? 0 : 4));
    (void) ip;
    CHECK(!storm.refuses[number]);
    CHECK_EQUAL(storm.state[number], CONNECTING);
    CHECK(storm.socket[number] == s);
    storm.state[number] = OPEN;
    something(s);
    return s;
}

static struct us_socket_t *storm_close(struct us_socket_t *s, int code, void *reason) {
    (void) code, (void) reason;
    ended(number_of(s), OPEN, CLOSED);
    something(s);
    return s;
}

static struct us_socket_t *storm_failed(struct us_socket_t *s, int code) {
    CHECK(code != 0);
    ended(number_of(s), CONNECTING, FAILED);
    something(s);
    return s;
}

static struct us_socket_t *storm_data(struct us_socket_t *s, char *data, int length) {
    (void) data, (void) length;
    something(s);
    return s;
}

static struct us_socket_t *storm_end(struct us_socket_t *s) {
    something(s);
    return s;
}

static struct us_socket_t *storm_timeout(struct us_socket_t *s) {
    int number = number_of(s);
    if (dice(2)) end_one(number);
    else if (!us_socket_is_closed(0, s)) us_socket_timeout(0, s, 4);
    return s;
}

static struct us_socket_t *server_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    CHECK_EQUAL(is_client, 0);
    count_open(s, is_client, ip, ip_length);
    if (dice(6) == 0) us_socket_close(0, s, 0, NULL);
    else us_socket_write(0, s, "hello", 5, 0);
    return s;
}

static struct us_socket_t *server_data(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    if (dice(3) == 0) us_socket_close(0, s, 0, NULL);
    else us_socket_write(0, s, data, length, 0);
    return s;
}

static struct us_socket_t *server_end(struct us_socket_t *s) {
    count_end(s);
    if (dice(2)) us_socket_shutdown(0, s);
    else us_socket_close(0, s, 0, NULL);
    return s;
}

static void storm_context(void) {
    make_clients();
    us_socket_context_on_open(0, clients, storm_open);
    us_socket_context_on_close(0, clients, storm_close);
    us_socket_context_on_connect_error(0, clients, storm_failed);
    us_socket_context_on_data(0, clients, storm_data);
    us_socket_context_on_end(0, clients, storm_end);
    us_socket_context_on_timeout(0, clients, storm_timeout);
    us_socket_context_on_open(0, context, server_open);
    us_socket_context_on_data(0, context, server_data);
    us_socket_context_on_end(0, context, server_end);
}

static void blow(void) {
    while (storm.ended < STORM) {
        while (storm.begun < STORM && storm.begun - storm.ended < AT_ONCE) storm_connect();
        us_loop_step(loop);
        if (dice(4) == 0) us_loop_sweep(loop);
        /* Both sides may be waiting for the other: then one ends it. */
        if (!readable_now(us_loop_fd(loop))) end_one((int) dice((unsigned) storm.begun));
    }
}

static void storm_of(const char *path, unsigned seed) {
    int holder, states[GIVEN_UP + 1] = {0};
    memset(&storm, 0, sizeof storm);
    storm.random = seed;
    storm.path = path;
    fixture_open_on(faults_reset(), path ? "" : "127.0.0.1");
    storm_context();
    if (path) CHECK(us_socket_context_listen_unix(0, context, path, 0, 0) != NULL);
    else storm.port = port_of(listener);
    storm.refusing = refusing_port(&holder);
    blow();
    for (int i = 0; i < STORM; i++) states[storm.state[i]]++;
    CHECK_EQUAL(states[UNUSED] + states[CONNECTING] + states[OPEN], 0);
    CHECK(states[CLOSED] > STORM / 10 && states[GIVEN_UP] > 0);
    if (!path) CHECK(states[FAILED] > STORM / 10);
    close(holder);
    end();
}

static void storms_over_tcp(void) {
    for (unsigned seed = 1; seed <= 4; seed++) storm_of(NULL, seed);
}

static void storms_over_a_path(void) {
    char path[64];
    temporary_path(path, sizeof path);
    for (unsigned seed = 1; seed <= 4; seed++) storm_of(path, seed);
    remove_temporary(path);
}

int main(void) {
    RUN(connects_to_an_address);
    RUN(connects_to_a_name);
    RUN(connects_by_ipv6);
    RUN(connects_from_an_address);
    RUN(a_moved_client_is_a_socket_as_any);
    RUN(a_connecting_socket_bears_every_call);
    RUN(a_signal_does_not_end_it);
    RUN(a_refusal_is_told_once);
    RUN(the_next_address_is_tried_when_one_refuses);
    RUN(the_next_address_is_tried_when_one_fails_at_once);
    RUN(the_error_is_that_of_the_first_address);
    RUN(what_fails_at_once_gives_null);
    RUN(what_fails_later_is_told);
    RUN(giving_up_calls_nobody_back);
    RUN(a_context_that_ends_connects_no_more);
    RUN(a_timeout_ends_connecting);
    RUN(connecting_keeps_the_loop_running);
    RUN(connects_to_a_path);
    RUN(storms_over_tcp);
    RUN(storms_over_a_path);
    return check_result();
}
