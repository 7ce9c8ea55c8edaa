/* What the test programs share: a server whose callbacks count, clients on plain
 * descriptors, and ways to drive the loop until something has happened. Nothing
 * here sleeps: waiting is on descriptors, and a guard ends a test that hangs. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include "check.h"
#include "libusockets_ext.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GUARD_MS 20000

/* Whether readiness to read and to write is one event. */
#ifdef LIBUS_USE_EPOLL
enum { ALL_IN_ONE_EVENT = 1 };
#else
enum { ALL_IN_ONE_EVENT = 0 };
#endif

/* What the counting callbacks have seen since fixture_open. */
static struct {
    int opened, closed, ended, writable, timeouts, long_timeouts, data_events;
    long long bytes;
    int code, ip_length;
    char ip[16];
    struct us_socket_t *last;
} seen;

static struct us_loop_t *loop;
static struct us_socket_context_t *context;
static struct us_listen_socket_t *listener;

static inline struct us_socket_t *count_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    (void) is_client;
    seen.opened++;
    seen.last = s;
    seen.ip_length = ip_length;
    if (ip_length) memcpy(seen.ip, ip, (size_t) ip_length);
    return s;
}

static inline struct us_socket_t *count_close(struct us_socket_t *s, int code, void *reason) {
    (void) reason;
    seen.closed++;
    seen.code = code;
    if (seen.last == s) seen.last = NULL;
    return s;
}

static inline struct us_socket_t *count_data(struct us_socket_t *s, char *data, int length) {
    (void) data;
    seen.data_events++;
    seen.bytes += length;
    return s;
}

static inline struct us_socket_t *echo_data(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    CHECK_EQUAL(us_socket_write(0, s, data, length, 0), length);
    return s;
}

static inline struct us_socket_t *count_end(struct us_socket_t *s) {
    seen.ended++;
    return s;
}

static inline struct us_socket_t *count_writable(struct us_socket_t *s) {
    seen.writable++;
    return s;
}

static inline struct us_socket_t *count_timeout(struct us_socket_t *s) {
    seen.timeouts++;
    return s;
}

static inline struct us_socket_t *count_long_timeout(struct us_socket_t *s) {
    seen.long_timeouts++;
    return s;
}

static inline void count_everything(struct us_socket_context_t *c) {
    us_socket_context_on_open(0, c, count_open);
    us_socket_context_on_close(0, c, count_close);
    us_socket_context_on_data(0, c, count_data);
    us_socket_context_on_end(0, c, count_end);
    us_socket_context_on_writable(0, c, count_writable);
    us_socket_context_on_timeout(0, c, count_timeout);
    us_socket_context_on_long_timeout(0, c, count_long_timeout);
}

static inline struct us_socket_context_t *make_context(int ext_size) {
    struct us_socket_context_options_t options = {0};
    struct us_socket_context_t *c = us_create_socket_context(0, loop, ext_size, options);
    CHECK(c != NULL);
    count_everything(c);
    return c;
}

/* A loop, a counting context and, unless `host` is "", a listener on it. */
static inline void fixture_open_on(struct us_sys_t *sys, const char *host) {
    memset(&seen, 0, sizeof seen);
    alarm(120);
    loop = us_create_loop_on(sys, NULL, NULL, NULL, 0);
    CHECK(loop != NULL);
    if (!loop) exit(1);
    context = make_context(0);
    listener = NULL;
    if (host && !*host) return;
    listener = us_socket_context_listen(0, context, host, 0, LIBUS_LISTEN_DEFAULT, 16);
    CHECK(listener != NULL);
    if (!listener) exit(1);
}

static inline void fixture_open(void) {
    fixture_open_on(us_sys_default(), "127.0.0.1");
}

static inline void fixture_close(void) {
    us_socket_context_free(0, context);
    CHECK(us_loop_step(loop) >= 0);
    us_loop_free(loop);
    CHECK_EQUAL(seen.opened, seen.closed);
}

/* ---- Driving ------------------------------------------------------------- */

static inline int readable_now(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Steps until `*counter` has reached `target`. Returns whether it has. */
static inline int pump(const int *counter, int target) {
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    while (*counter < target && poll(&p, 1, GUARD_MS) > 0) {
        if (us_loop_step(loop) < 0) break;
    }
    CHECK(*counter >= target);
    return *counter >= target;
}

static inline int pump_bytes(long long target) {
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    while (seen.bytes < target && poll(&p, 1, GUARD_MS) > 0) us_loop_step(loop);
    CHECK(seen.bytes >= target);
    return seen.bytes >= target;
}

/* Steps until nothing is ready; fails when that never comes, for then it spins. */
static inline void settle(void) {
    int steps = 0;
    while (readable_now(us_loop_fd(loop)) && steps++ < 1000) us_loop_step(loop);
    CHECK(steps < 1000);
}

/* ---- Clients ------------------------------------------------------------- */

static inline int dial(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof address) == 0);
    return fd;
}

static inline int dial_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *) &address, sizeof address) == 0);
    return fd;
}

static inline int dial_listener(void) {
    return dial(us_socket_local_port(0, (struct us_socket_t *) listener));
}

/* Dials and waits until the server has opened it. */
static inline int client(void) {
    int fd = dial_listener();
    pump(&seen.opened, seen.opened + 1);
    return fd;
}

/* Makes a connected pair: one end a socket of `context`, one a descriptor. */
static inline int unix_client(struct us_socket_t **s) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    *s = us_adopt_accepted_socket(0, context, ends[0], 16, NULL, 0);
    CHECK(*s != NULL);
    return ends[1];
}

static inline void say(int fd, const char *text) {
    size_t length = strlen(text);
    CHECK_EQUAL(send(fd, text, length, MSG_NOSIGNAL), length);
}

/* Receives up to `length` bytes while driving the loop; fewer at the end of the
 * stream or after an error. */
static inline size_t hear(int fd, char *buffer, size_t length) {
    size_t got = 0;
    while (got < length) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = us_loop_fd(loop), .events = POLLIN}};
        int ready = poll(p, 2, GUARD_MS);
        CHECK(ready > 0);
        if (ready <= 0) break;
        if (p[1].revents) us_loop_step(loop);
        if (!p[0].revents) continue;
        ssize_t n = recv(fd, buffer + got, length - got, MSG_DONTWAIT);
        if (n <= 0 && !(n < 0 && errno == EAGAIN)) break;
        if (n > 0) got += (size_t) n;
    }
    return got;
}

static inline void expect(int fd, const char *text) {
    char buffer[256] = {0};
    size_t got = hear(fd, buffer, strlen(text));
    CHECK(got == strlen(text) && memcmp(buffer, text, got) == 0);
}

static inline void expect_end(int fd) {
    char byte;
    CHECK_EQUAL(hear(fd, &byte, 1), 0);
}

/* Closes so that the peer gets a reset. */
static inline void reset(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

static inline void temporary_path(char *path, size_t size) {
    char directory[] = "/tmp/usockets-XXXXXX";
    CHECK(mkdtemp(directory) != NULL);
    snprintf(path, size, "%s/socket", directory);
}

static inline void remove_temporary(char *path) {
    unlink(path);
    *strrchr(path, '/') = 0;
    CHECK(rmdir(path) == 0);
}

#endif
