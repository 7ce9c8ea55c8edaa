/* The interface: its 83 functions have exactly these types, the header has no others, and
 * each of them bears what a caller can do wrong where no other test does it. */
#include "faults.h"
#include "fixture.h"

/* The prototypes as programs were written for, from the description of the interface and not from the header. */
#define FUNCTIONS(F) \
    F(struct us_loop_t *, us_create_loop, (void *hint, void (*wakeup_cb)(struct us_loop_t *loop), void (*pre_cb)(struct us_loop_t *loop), \
        void (*post_cb)(struct us_loop_t *loop), unsigned int ext_size)) \
    F(void, us_loop_free, (struct us_loop_t *loop)) \
    F(void *, us_loop_ext, (struct us_loop_t *loop)) \
    F(void, us_loop_run, (struct us_loop_t *loop)) \
    F(void, us_wakeup_loop, (struct us_loop_t *loop)) \
    F(void, us_loop_integrate, (struct us_loop_t *loop)) \
    F(long long, us_loop_iteration_number, (struct us_loop_t *loop)) \
    F(struct us_timer_t *, us_create_timer, (struct us_loop_t *loop, int fallthrough, unsigned int ext_size)) \
    F(void *, us_timer_ext, (struct us_timer_t *timer)) \
    F(void, us_timer_close, (struct us_timer_t *timer)) \
    F(void, us_timer_set, (struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms)) \
    F(struct us_loop_t *, us_timer_loop, (struct us_timer_t *t)) \
    F(unsigned short, us_socket_context_timestamp, (int ssl, struct us_socket_context_t *context)) \
    F(void, us_socket_context_on_server_name, (int ssl, struct us_socket_context_t *context, void (*cb)(struct us_socket_context_t *, \
        const char *hostname))) \
    F(void *, us_socket_context_get_native_handle, (int ssl, struct us_socket_context_t *context)) \
    F(struct us_socket_context_t *, us_create_socket_context, (int ssl, struct us_loop_t *loop, int ext_size, \
        struct us_socket_context_options_t options)) \
    F(void, us_socket_context_free, (int ssl, struct us_socket_context_t *context)) \
    F(void, us_socket_context_on_pre_open, (int ssl, struct us_socket_context_t *context, \
        LIBUS_SOCKET_DESCRIPTOR (*on_pre_open)(struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR fd, char *ip, int ip_length))) \
    F(void, us_socket_context_on_open, (int ssl, struct us_socket_context_t *context, struct us_socket_t *(*on_open)(struct us_socket_t *s, \
        int is_client, char *ip, int ip_length))) \
    F(void, us_socket_context_on_close, (int ssl, struct us_socket_context_t *context, struct us_socket_t *(*on_close)(struct us_socket_t *s, \
        int code, void *reason))) \
    F(void, us_socket_context_on_data, (int ssl, struct us_socket_context_t *context, struct us_socket_t *(*on_data)(struct us_socket_t *s, \
        char *data, int length))) \
    F(void, us_socket_context_on_writable, (int ssl, struct us_socket_context_t *context, \
        struct us_socket_t *(*on_writable)(struct us_socket_t *s))) \
    F(void, us_socket_context_on_timeout, (int ssl, struct us_socket_context_t *context, \
        struct us_socket_t *(*on_timeout)(struct us_socket_t *s))) \
    F(void, us_socket_context_on_long_timeout, (int ssl, struct us_socket_context_t *context, \
        struct us_socket_t *(*on_timeout)(struct us_socket_t *s))) \
    F(void, us_socket_context_on_connect_error, (int ssl, struct us_socket_context_t *context, \
        struct us_socket_t *(*on_connect_error)(struct us_socket_t *s, int code))) \
    F(void, us_socket_context_on_end, (int ssl, struct us_socket_context_t *context, struct us_socket_t *(*on_end)(struct us_socket_t *s))) \
    F(void *, us_socket_context_ext, (int ssl, struct us_socket_context_t *context)) \
    F(void, us_socket_context_close, (int ssl, struct us_socket_context_t *context)) \
    F(struct us_loop_t *, us_socket_context_loop, (int ssl, struct us_socket_context_t *context)) \
    F(struct us_socket_context_t *, us_create_child_socket_context, (int ssl, struct us_socket_context_t *context, int context_ext_size)) \
    F(void, us_socket_context_add_server_name, (int ssl, struct us_socket_context_t *context, const char *hostname_pattern, \
        struct us_socket_context_options_t options, void *user)) \
    F(void, us_socket_context_remove_server_name, (int ssl, struct us_socket_context_t *context, const char *hostname_pattern)) \
    F(void *, us_socket_server_name_userdata, (int ssl, struct us_socket_t *s)) \
    F(void *, us_socket_context_find_server_name_userdata, (int ssl, struct us_socket_context_t *context, const char *hostname_pattern)) \
    F(struct us_listen_socket_t *, us_socket_context_listen, (int ssl, struct us_socket_context_t *context, const char *host, int port, \
        int options, int socket_ext_size)) \
    F(struct us_listen_socket_t *, us_socket_context_listen_unix, (int ssl, struct us_socket_context_t *context, const char *path, int options, \
        int socket_ext_size)) \
    F(void, us_listen_socket_close, (int ssl, struct us_listen_socket_t *ls)) \
    F(struct us_socket_t *, us_adopt_accepted_socket, (int ssl, struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR client_fd, \
        unsigned int socket_ext_size, char *addr_ip, int addr_ip_length)) \
    F(struct us_socket_t *, us_socket_context_connect, (int ssl, struct us_socket_context_t *context, const char *host, int port, \
        const char *source_host, int options, int socket_ext_size)) \
    F(struct us_socket_t *, us_socket_context_connect_unix, (int ssl, struct us_socket_context_t *context, const char *server_path, int options, \
        int socket_ext_size)) \
    F(int, us_socket_is_established, (int ssl, struct us_socket_t *s)) \
    F(struct us_socket_t *, us_socket_close_connecting, (int ssl, struct us_socket_t *s)) \
    F(struct us_socket_t *, us_socket_context_adopt_socket, (int ssl, struct us_socket_context_t *context, struct us_socket_t *s, int ext_size)) \
    F(char *, us_socket_send_buffer, (int ssl, struct us_socket_t *s)) \
    F(void *, us_socket_get_native_handle, (int ssl, struct us_socket_t *s)) \
    F(int, us_socket_write, (int ssl, struct us_socket_t *s, const char *data, int length, int msg_more)) \
    F(int, us_socket_write2, (int ssl, struct us_socket_t *s, const char *header, int header_length, const char *payload, int payload_length)) \
    F(void, us_socket_timeout, (int ssl, struct us_socket_t *s, unsigned int seconds)) \
    F(void, us_socket_long_timeout, (int ssl, struct us_socket_t *s, unsigned int minutes)) \
    F(void *, us_socket_ext, (int ssl, struct us_socket_t *s)) \
    F(struct us_socket_context_t *, us_socket_context, (int ssl, struct us_socket_t *s)) \
    F(void, us_socket_flush, (int ssl, struct us_socket_t *s)) \
    F(void, us_socket_shutdown, (int ssl, struct us_socket_t *s)) \
    F(void, us_socket_shutdown_read, (int ssl, struct us_socket_t *s)) \
    F(int, us_socket_is_shut_down, (int ssl, struct us_socket_t *s)) \
    F(int, us_socket_is_closed, (int ssl, struct us_socket_t *s)) \
    F(struct us_socket_t *, us_socket_close, (int ssl, struct us_socket_t *s, int code, void *reason)) \
    F(int, us_socket_local_port, (int ssl, struct us_socket_t *s)) \
    F(int, us_socket_remote_port, (int ssl, struct us_socket_t *s)) \
    F(void, us_socket_remote_address, (int ssl, struct us_socket_t *s, char *buf, int *length)) \
    F(struct us_poll_t *, us_create_poll, (struct us_loop_t *loop, int fallthrough, unsigned int ext_size)) \
    F(void, us_poll_free, (struct us_poll_t *p, struct us_loop_t *loop)) \
    F(void, us_poll_init, (struct us_poll_t *p, LIBUS_SOCKET_DESCRIPTOR fd, int poll_type)) \
    F(void, us_poll_start, (struct us_poll_t *p, struct us_loop_t *loop, int events)) \
    F(void, us_poll_change, (struct us_poll_t *p, struct us_loop_t *loop, int events)) \
    F(void, us_poll_stop, (struct us_poll_t *p, struct us_loop_t *loop)) \
    F(int, us_poll_events, (struct us_poll_t *p)) \
    F(void *, us_poll_ext, (struct us_poll_t *p)) \
    F(LIBUS_SOCKET_DESCRIPTOR, us_poll_fd, (struct us_poll_t *p)) \
    F(struct us_poll_t *, us_poll_resize, (struct us_poll_t *p, struct us_loop_t *loop, unsigned int ext_size)) \
    F(char *, us_udp_packet_buffer_payload, (struct us_udp_packet_buffer_t *buf, int index)) \
    F(int, us_udp_packet_buffer_payload_length, (struct us_udp_packet_buffer_t *buf, int index)) \
    F(int, us_udp_packet_buffer_local_ip, (struct us_udp_packet_buffer_t *buf, int index, char *ip)) \
    F(int, us_udp_socket_bound_port, (struct us_udp_socket_t *s)) \
    F(char *, us_udp_packet_buffer_peer, (struct us_udp_packet_buffer_t *buf, int index)) \
    F(int, us_udp_packet_buffer_ecn, (struct us_udp_packet_buffer_t *buf, int index)) \
    F(int, us_udp_socket_receive, (struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf)) \
    F(void, us_udp_buffer_set_packet_payload, (struct us_udp_packet_buffer_t *send_buf, int index, int offset, void *payload, int length, \
        void *peer_addr)) \
    F(int, us_udp_socket_send, (struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int num)) \
    F(struct us_udp_packet_buffer_t *, us_create_udp_packet_buffer, (void)) \
    F(struct us_udp_socket_t *, us_create_udp_socket, (struct us_loop_t *loop, struct us_udp_packet_buffer_t *buf, \
        void (*data_cb)(struct us_udp_socket_t *, struct us_udp_packet_buffer_t *, int), void (*drain_cb)(struct us_udp_socket_t *), \
        const char *host, unsigned short port, void *user)) \
    F(void *, us_udp_socket_user, (struct us_udp_socket_t *s)) \
    F(int, us_udp_socket_bind, (struct us_udp_socket_t *s, const char *hostname, unsigned int port))

#define HAS_THIS_TYPE(result, name, parameters) _Static_assert(_Generic(&(name), result (*) parameters: 1, default: 0), #name);
FUNCTIONS(HAS_THIS_TYPE)

#define IS_CALLABLE(result, name, parameters) static result (*const call_##name) parameters = name;
FUNCTIONS(IS_CALLABLE)

#define NAME_OF(result, name, parameters) #name,
static const char *const names[] = {FUNCTIONS(NAME_OF)};

#define ADDRESS_OF(result, name, parameters) (void (*)(void)) call_##name,
static void (*const addresses[])(void) = {FUNCTIONS(ADDRESS_OF)};

enum { FUNCTIONS_THERE = sizeof names / sizeof *names };
_Static_assert(FUNCTIONS_THERE == 83, "the interface has 83 functions");

_Static_assert(LIBUS_RECV_BUFFER_LENGTH == 524288 && LIBUS_RECV_BUFFER_PADDING == 32, "of the receive buffer");
_Static_assert(LIBUS_TIMEOUT_GRANULARITY == 4 && LIBUS_EXT_ALIGNMENT == 16, "of timeouts and exts");
_Static_assert(LIBUS_LISTEN_DEFAULT == 0 && LIBUS_LISTEN_EXCLUSIVE_PORT == 1, "of listeners");
_Static_assert(LIBUS_SOCKET_READABLE == 1 && LIBUS_SOCKET_WRITABLE == 2, "of polls");

static char *read_header(void) {
    char path[512];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *name = strrchr(path, '/');
    snprintf(name, sizeof path - (size_t) (name - path), "/../src/libusockets.h");
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 20);
    CHECK(file && text && fread(text, 1, (1 << 20) - 1, file) > 0);
    if (file) fclose(file);
    return text;
}

static void the_header_declares_these_and_no_others(void) {
    char *header = read_header(), call[80];
    int declared = 0;
    for (const char *at = header; (at = strstr(at, "\nLIBUS_EXPORT ")); at++) declared++;
    CHECK_EQUAL(declared, FUNCTIONS_THERE);
    for (int i = 0; i < FUNCTIONS_THERE; i++) {
        snprintf(call, sizeof call, "%s(", names[i]);
        CHECK(strstr(header, call) != NULL);
        CHECK(addresses[i] != NULL);
    }
    CHECK(strstr(header, "#include") == NULL);
    free(header);
}

static void the_options_are_these(void) {
    struct us_socket_context_options_t o = {"key", "cert", "pass", "dh", "ca", "ciphers", 1};
    CHECK(strcmp(o.key_file_name, "key") == 0 && strcmp(o.cert_file_name, "cert") == 0 && strcmp(o.passphrase, "pass") == 0);
    CHECK(strcmp(o.dh_params_file_name, "dh") == 0 && strcmp(o.ca_file_name, "ca") == 0 && strcmp(o.ssl_ciphers, "ciphers") == 0);
    CHECK_EQUAL(o.ssl_prefer_low_memory_usage, 1);
}

/* ---- What a caller can do wrong ------------------------------------------ */

static void check_closed(struct us_socket_t *s) {
    char ip[16];
    int length = 16;
    CHECK_EQUAL(us_socket_is_closed(0, s), 1);
    CHECK_EQUAL(us_socket_is_established(0, s), 0);
    CHECK_EQUAL(us_socket_write(0, s, "x", 1, 1), 0);
    CHECK_EQUAL(us_socket_write2(0, s, "x", 1, "y", 1), 0);
    CHECK_EQUAL(us_socket_sendfile(0, s, 0, 0, 1), 0);
    us_socket_flush(0, s);
    us_socket_shutdown(0, s);
    us_socket_shutdown_read(0, s);
    us_socket_read_enabled(s, 0);
    us_socket_read_enabled(s, 1);
    us_socket_timeout(0, s, 4);
    us_socket_long_timeout(0, s, 1);
    CHECK_EQUAL(us_socket_is_shut_down(0, s), 0);
    CHECK_EQUAL(us_socket_local_port(0, s), -1);
    CHECK_EQUAL(us_socket_remote_port(0, s), -1);
    us_socket_remote_address(0, s, ip, &length);
    CHECK_EQUAL(length, 0);
    CHECK(us_socket_get_native_handle(0, s) == (void *) (intptr_t) -1);
    CHECK(us_socket_send_buffer(0, s) == NULL);
    CHECK(us_socket_server_name_userdata(0, s) == NULL);
    CHECK(us_socket_context(0, s) == context);
    CHECK(((char *) us_socket_ext(0, s))[0] == 'e');
    CHECK(us_socket_context_adopt_socket(0, context, s, 100) == s);
    CHECK(us_socket_close_connecting(0, s) == s);
    CHECK(us_socket_close(0, s, 1, NULL) == s);
    CHECK_EQUAL(us_socket_unsent(s), 0);
    CHECK_EQUAL(us_socket_was_truncated(s), 0);
    CHECK_EQUAL(us_socket_tls_is_established(s) + us_socket_tls_is_resumed(s), 0);
    CHECK(us_socket_tls_version(s) == NULL && us_socket_tls_cipher(s) == NULL);
    CHECK(us_socket_tls_alpn(s, &length) == NULL && length == 0);
    us_poll_start((struct us_poll_t *) s, loop, LIBUS_SOCKET_READABLE);
    CHECK_EQUAL(us_poll_fd((struct us_poll_t *) s), -1);
}

static struct us_socket_t *check_in_close(struct us_socket_t *s, int code, void *reason) {
    count_close(s, code, reason);
    check_closed(s);
    return s;
}

static void a_closed_socket_bears_every_call(void) {
    struct us_socket_t *s;
    fixture_open_on(faults_reset(), "");
    us_socket_context_on_close(0, context, check_in_close);
    int fd = unix_client(&s);
    ((char *) us_socket_ext(0, s))[0] = 'e';
    us_socket_close(0, s, 0, NULL);
    check_closed(s);
    CHECK_EQUAL(seen.closed, 1);
    us_loop_sweep(loop);
    CHECK_EQUAL(seen.timeouts, 0);
    close(fd);
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
}

static void no_callback_is_needed(void) {
    fixture_open_on(faults_reset(), "127.0.0.1");
    us_socket_context_free(0, context);
    context = us_create_socket_context(0, loop, 0, (struct us_socket_context_options_t) {0});
    listener = us_socket_context_listen(0, context, "127.0.0.1", 0, 0, 8);
    struct us_socket_t *client_side = us_socket_context_connect(0, context, "127.0.0.1",
        us_socket_local_port(0, (struct us_socket_t *) listener), NULL, 0, 8);
    CHECK(client_side != NULL);
    us_socket_timeout(0, client_side, 4);
    us_socket_long_timeout(0, client_side, 1);
    for (int i = 0; i < 20; i++) us_loop_sweep(loop);
    while (!us_socket_is_established(0, client_side)) {
        struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
        CHECK(poll(&p, 1, GUARD_MS) > 0);
        us_loop_step(loop);
    }
    us_socket_write(0, client_side, "x", 1, 0);
    us_socket_shutdown(0, client_side); /* without on_end the other side closes, and then this one */
    us_listen_socket_close(0, listener);
    us_listen_socket_close(0, listener);
    us_loop_run(loop);
    us_socket_context_free(0, context);
    us_socket_context_free(0, context);
    us_socket_context_close(0, context);
    us_loop_step(loop);
    us_loop_free(loop);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
}

static int asked;

static void count_name(struct us_socket_context_t *c, const char *hostname) {
    (void) c, (void) hostname;
    asked++;
}

static void a_plain_context_has_no_names(void) {
    struct us_socket_t *s;
    int user;
    fixture_open_on(faults_reset(), "");
    errno = 0;
    us_socket_context_add_server_name(0, context, "a.example", (struct us_socket_context_options_t) {0}, &user);
    CHECK(errno != 0);
    CHECK(us_tls_error()[0] != 0);
    us_socket_context_remove_server_name(0, context, "a.example");
    us_socket_context_on_server_name(0, context, count_name);
    CHECK(us_socket_context_find_server_name_userdata(0, context, "a.example") == NULL);
    CHECK(us_socket_context_get_native_handle(0, context) == NULL);
    int fd = unix_client(&s);
    CHECK(us_socket_server_name_userdata(0, s) == NULL);
    us_socket_close(0, s, 0, NULL);
    close(fd);
    CHECK_EQUAL(asked, 0);
    fixture_close();
}

static int ran_out;

static void count_timer(struct us_timer_t *t) {
    CHECK(us_timer_loop(t) == loop);
    ran_out++;
}

static void a_closed_timer_bears_every_call(void) {
    fixture_open_on(faults_reset(), "");
    struct us_timer_t *timer = us_create_timer(loop, 0, 8);
    CHECK(timer != NULL);
    memcpy(us_timer_ext(timer), "12345678", 8);
    fail_next(CALL_TIMERFD_SETTIME, EINVAL, 0);
    us_timer_set(timer, count_timer, 1, 0);
    fail_nothing();
    us_timer_close(timer);
    us_timer_close(timer);
    us_timer_set(timer, count_timer, 1, 0);
    CHECK(us_timer_loop(timer) == loop && memcmp(us_timer_ext(timer), "12345678", 8) == 0);
    settle();
    CHECK_EQUAL(ran_out, 0);
    fixture_close();
    CHECK_EQUAL(faults.descriptors, 0);
}

static int woken;

static void count_wakeup(struct us_loop_t *l) {
    CHECK(((char *) us_loop_ext(l))[0] == 'e');
    long long number = us_loop_iteration_number(l);
    us_loop_free(l);
    us_loop_run(l);
    CHECK_EQUAL(us_loop_iteration_number(l), number);
    woken++;
}

static void a_loop_bears_every_call(void) {
    faults_reset();
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(us_create_loop_on(&faults.sys, NULL, NULL, NULL, 0) == NULL);
    CHECK_EQUAL(errno, ENOMEM);
    loop = us_create_loop_on(faults_reset(), count_wakeup, NULL, NULL, 16);
    CHECK(loop != NULL && us_loop_iteration_number(loop) == 0);
    ((char *) us_loop_ext(loop))[0] = 'e';
    fail_next(CALL_TIMERFD_SETTIME, EINVAL, 0);
    us_loop_integrate(loop); /* fails, and may be tried again */
    us_loop_integrate(loop);
    CHECK_EQUAL(faults.armed_ms, LIBUS_TIMEOUT_GRANULARITY * 1000);
    fail_next(CALL_WRITE, EINTR, 2);
    errno = 17;
    us_wakeup_loop(loop);
    CHECK_EQUAL(errno, 17);
    us_wakeup_loop(loop);
    pump(&woken, 1);
    settle();
    CHECK_EQUAL(woken, 1);
    us_loop_run(loop); /* nothing keeps it */
    us_loop_free(loop);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
    loop = us_create_loop(NULL, NULL, NULL, NULL, 0);
    CHECK(loop != NULL);
    us_loop_free(loop);
}

static void an_address_that_does_not_fit(void) {
    struct us_socket_t *s;
    char ip[16];
    int length = 3;
    fixture_open_on(faults_reset(), "127.0.0.1");
    int fd = client();
    us_socket_remote_address(0, seen.last, ip, &length);
    CHECK_EQUAL(length, 0);
    length = 16;
    fail_next(CALL_GETPEERNAME, ENOTCONN, 0);
    us_socket_remote_address(0, seen.last, ip, &length);
    CHECK_EQUAL(length, 0);
    fail_next(CALL_GETPEERNAME, ENOTCONN, 0);
    CHECK_EQUAL(us_socket_remote_port(0, seen.last), -1);
    fail_next(CALL_GETSOCKNAME, ENOBUFS, 0);
    CHECK_EQUAL(us_socket_local_port(0, seen.last), -1);
    int other = unix_client(&s);
    length = 16;
    us_socket_remote_address(0, s, ip, &length);
    CHECK(length == 0 && us_socket_local_port(0, s) == 0 && us_socket_remote_port(0, s) == 0);
    CHECK_EQUAL(us_socket_write(0, s, "x", 0, 0) + us_socket_write(0, s, "x", -1, 0), 0);
    CHECK_EQUAL(us_socket_write2(0, s, "x", -1, "y", 1) + us_socket_write2(0, s, "x", 1, "y", -1), 0);
    CHECK_EQUAL(us_socket_write2(0, s, "x", INT32_MAX, "y", INT32_MAX), 0);
    unsigned short before = us_socket_context_timestamp(0, context);
    us_loop_sweep(loop);
    CHECK_EQUAL(us_socket_context_timestamp(0, context), before + 1);
    close(other);
    close(fd);
    pump(&seen.ended, 2);
    fixture_close();
}

int main(void) {
    RUN(the_header_declares_these_and_no_others);
    RUN(the_options_are_these);
    RUN(a_closed_socket_bears_every_call);
    RUN(no_callback_is_needed);
    RUN(a_plain_context_has_no_names);
    RUN(a_closed_timer_bears_every_call);
    RUN(a_loop_bears_every_call);
    RUN(an_address_that_does_not_fit);
    return check_result();
}
