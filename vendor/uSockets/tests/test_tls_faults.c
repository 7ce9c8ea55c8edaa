/* A session of TLS, both ends ours, again and again: with the n-th call of each kind
 * failing (the sweep of test_faults.c), and with OpenSSL's own memory running out. It may
 * end early, but it ends: no crash, no leak, an on_close for each on_open, and of each
 * connection that was begun one end at most.
 *
 * An argument makes OpenSSL's memory run out at every allocation; without it at some. */
#include "tls_client.h"

#include "sweep.h"

#include <openssl/crypto.h>

enum { LOAD = 40000, STEP = 199 };

static struct us_socket_context_t *clients;
static struct { int begun, opened, shaken, failed, closed, resumed, bytes; } mine;
static char text[LOAD];

static struct us_socket_t *my_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    (void) ip, (void) ip_length;
    CHECK_EQUAL(is_client, 1);
    mine.opened++;
    us_socket_write(1, s, "early", 5, 0);
    us_socket_timeout(1, s, 8);
    return s;
}

static struct us_socket_t *my_handshake(struct us_socket_t *s) {
    mine.shaken++;
    mine.resumed += us_socket_tls_is_resumed(s);
    struct us_socket_t *moved = us_socket_context_adopt_socket(1, clients, s, 64);
    return moved ? moved : s;
}

static struct us_socket_t *my_writable(struct us_socket_t *s) {
    if (!us_socket_tls_is_established(s)) return s;
    us_socket_write2(1, s, "hello", 5, text, 100);
    us_socket_shutdown(1, s);
    return s;
}

static struct us_socket_t *my_data(struct us_socket_t *s, char *data, int length) {
    (void) data;
    mine.bytes += length;
    return s;
}

static struct us_socket_t *my_close(struct us_socket_t *s, int code, void *reason) {
    (void) code, (void) reason;
    mine.closed++;
    return s;
}

static struct us_socket_t *my_connect_error(struct us_socket_t *s, int code) {
    CHECK(code > 0);
    mine.failed++;
    return s;
}

static struct us_socket_t *answer(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    us_socket_write(1, s, text, LOAD, 0);
    us_socket_shutdown(1, s);
    return s;
}

static int is_over(void) {
    return mine.failed + mine.closed >= mine.begun && seen.opened == seen.closed;
}

static void try_until_over(void) {
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    for (int steps = 0; !is_over() && steps < 200; steps++) {
        if (poll(&p, 1, faulty ? 0 : GUARD_MS) <= 0) return;
        us_loop_step(loop);
    }
    if (!faulty) CHECK(is_over());
}

static void begin(struct us_socket_t *s) {
    mine.begun += s != NULL;
    try_until_over();
}

static int make_contexts(void) {
    context = us_create_socket_context(1, loop, 0, shown("localhost"));
    clients = us_create_socket_context(1, loop, 0, (struct us_socket_context_options_t) {.ca_file_name = in_folder("localhost.pem")});
    if (!context || !clients) return -1;
    count_everything(context);
    us_socket_context_on_data(1, context, answer);
    us_socket_context_on_open(1, clients, my_open);
    us_socket_context_on_handshake(clients, my_handshake);
    us_socket_context_on_writable(1, clients, my_writable);
    us_socket_context_on_data(1, clients, my_data);
    us_socket_context_on_close(1, clients, my_close);
    us_socket_context_on_connect_error(1, clients, my_connect_error);
    return 0;
}

static void connect_twice(void) {
    struct us_listen_socket_t *ls = us_socket_context_listen(1, context, "127.0.0.1", 0, 0, 16);
    int port = ls ? us_socket_local_port(1, (struct us_socket_t *) ls) : -1;
    if (port <= 0) return;
    us_socket_context_offer_protocols(clients, "http/1.1");
    begin(us_socket_context_connect(1, clients, NULL, port, NULL, 0, 8)); /* ::1 refuses, 127.0.0.1 does not */
    faults.send_limit = 3000;
    us_socket_context_peer_name(clients, "localhost");
    begin(us_socket_context_connect(1, clients, "127.0.0.1", port, NULL, 0, 8));
}

static void hold_a_talk(void) {
    if (make_contexts() == 0) connect_twice();
    if (clients) us_socket_context_free(1, clients);
    if (context) us_socket_context_free(1, context);
}

void (*const uses[])(void) = {hold_a_talk, NULL};

void session(void (*use)(void)) {
    memset(&mine, 0, sizeof mine);
    memset(&seen, 0, sizeof seen);
    loop = us_create_loop_on(&faults.sys, NULL, NULL, NULL, 8);
    if (loop) {
        use();
        us_loop_step(loop);
        us_loop_free(loop);
    }
    CHECK_EQUAL(seen.opened, seen.closed);
    CHECK_EQUAL(mine.opened, mine.closed);
    CHECK(mine.opened + mine.failed <= mine.begun);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
    CHECK(ERR_peek_error() == 0);
}

static void without_a_fault(void) {
    faulty = 0;
    faults_reset();
    session(hold_a_talk);
    CHECK(mine.begun == 2 && mine.opened == 2 && mine.shaken == 2 && mine.failed == 0);
    CHECK_EQUAL(mine.resumed, 1);
    CHECK_EQUAL(mine.bytes, 2 * LOAD);
    CHECK_EQUAL(seen.bytes, 2 * 105);
}

FAULTS(memory, CALL_ALLOC, ENOMEM)
FAULTS(connect_calls, CALL_CONNECT, ECONNREFUSED)
FAULTS(accept_calls, CALL_ACCEPT, ECONNABORTED, EMFILE)
FAULTS(getsockopt_calls, CALL_GETSOCKOPT, ENOBUFS)
FAULTS(recv_calls, CALL_RECV, EAGAIN, ECONNRESET)
FAULTS(send_calls, CALL_SEND, EAGAIN, ENOBUFS, EPIPE)
FAULTS(shutdown_calls, CALL_SHUTDOWN, ENOTCONN)
FAULTS(epoll_ctl_calls, CALL_EPOLL_CTL, ENOMEM)
FAULTS(epoll_wait_calls, CALL_EPOLL_WAIT, EBADF)

/* ---- OpenSSL's own memory ------------------------------------------------ */

static struct { long long calls, at; int for_good, blocks; } openssl;
static int every;

static int runs_out(void) {
    long long n = ++openssl.calls;
    return openssl.at && (openssl.for_good ? n >= openssl.at : n == openssl.at);
}

static void *o_alloc(size_t size, const char *file, int line) {
    (void) file, (void) line;
    return runs_out() ? NULL : malloc(size);
}

static void *o_resize(void *memory, size_t size, const char *file, int line) {
    (void) file, (void) line;
    return runs_out() ? NULL : realloc(memory, size);
}

static void o_release(void *memory, const char *file, int line) {
    (void) file, (void) line;
    free(memory);
}

static void memory_of_openssl(void) {
    faulty = 0;
    for (int i = 0; i < 2; i++) { /* the second one's is what a session takes */
        openssl.calls = openssl.at = 0;
        faults_reset();
        session(hold_a_talk);
    }
    long long calls = openssl.calls;
    CHECK(calls > 1000);
    faulty = 1;
    for (long long at = 1; at <= calls && !check_failures_here; at += every ? 1 : STEP) {
        openssl.for_good = every ? 0 : (int) (at / STEP % 2);
        openssl.calls = 0;
        openssl.at = at;
        faults_reset();
        session(hold_a_talk);
        openssl.at = 0;
        ERR_clear_error();
        if (check_failures_here) fprintf(stderr, "allocation %lld of %lld\n", at, calls);
    }
}

int main(int count, char **arguments) {
    (void) arguments;
    every = count > 1;
    alarm(every ? 0 : 280);
    CRYPTO_set_mem_functions(o_alloc, o_resize, o_release);
    make_folder();
    make_certificate("localhost", NULL, -1, 30);
    RUN(without_a_fault);
    RUN(memory);
    RUN(connect_calls);
    RUN(accept_calls);
    RUN(getsockopt_calls);
    RUN(recv_calls);
    RUN(send_calls);
    RUN(shutdown_calls);
    RUN(epoll_ctl_calls);
    RUN(epoll_wait_calls);
    RUN(memory_of_openssl);
    unlink(in_folder("localhost.pem"));
    unlink(in_folder("localhost.key"));
    CHECK(rmdir(folder) == 0);
    return check_result();
}
