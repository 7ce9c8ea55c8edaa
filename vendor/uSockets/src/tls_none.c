/* The place of all other tls_*.c in a library built without TLS. */
#include "tls.h"

#include <errno.h>

#ifdef LIBUS_NO_SSL

const char *us_tls_error(void) {
    return "this library was built without TLS";
}

struct us_internal_tls_context *us_internal_tls_context_create(struct us_loop_t *loop, struct us_socket_context_options_t options) {
    (void) loop;
    (void) options;
    errno = ENOTSUP;
    return NULL;
}

struct us_internal_tls_context *us_internal_tls_context_hold(struct us_internal_tls_context *tls) {
    return tls;
}

void us_internal_tls_context_release(struct us_loop_t *loop, struct us_internal_tls_context *tls) {
    (void) loop;
    (void) tls;
}

void us_internal_tls_loop_free(struct us_loop_t *loop) {
    (void) loop;
}

const char *us_internal_tls_peer_name(struct us_socket_context_t *context, const char *host) {
    (void) context;
    return host;
}

int us_internal_tls_attach(struct us_socket_context_t *context, struct us_socket_t *s, const char *server) {
    (void) context;
    (void) s;
    (void) server;
    errno = ENOTSUP;
    return -1;
}

void us_internal_tls_greet(struct us_socket_t *s) {
    (void) s;
}

void us_internal_tls_free(struct us_loop_t *loop, struct us_internal_tls *tls) {
    (void) loop;
    (void) tls;
}

int us_internal_tls_waits_its_turn(struct us_socket_t *s) {
    (void) s;
    return 0;
}

char *us_internal_tls_input(struct us_loop_t *loop, size_t *size) {
    *size = LIBUS_RECV_BUFFER_LENGTH;
    return loop->recv_buffer;
}

void us_internal_tls_received(struct us_socket_t *s, size_t length) {
    (void) s;
    (void) length;
}

void us_internal_tls_saw_fin(struct us_socket_t *s) {
    (void) s;
}

int us_internal_tls_write(struct us_socket_t *s, const char *first, int first_length, const char *second, int second_length, int msg_more) {
    (void) s;
    (void) first, (void) first_length, (void) second, (void) second_length, (void) msg_more;
    return 0;
}

int us_internal_tls_sendfile(struct us_socket_t *s, int file, int64_t offset, size_t length) {
    (void) s;
    (void) file, (void) offset, (void) length;
    return 0;
}

int us_internal_tls_drain(struct us_socket_t *s) {
    (void) s;
    return 1;
}

int us_internal_tls_shutdown(struct us_socket_t *s) {
    (void) s;
    return 1;
}

void us_internal_tls_closing(struct us_socket_t *s, int code) {
    (void) s;
    (void) code;
}

int us_internal_tls_waiting(struct us_socket_t *s) {
    (void) s;
    return 0;
}

void *us_internal_tls_native(struct us_socket_t *s) {
    (void) s;
    return NULL;
}

int us_internal_tls_was_truncated(struct us_socket_t *s) {
    (void) s;
    return 0;
}

void us_socket_context_alpn(struct us_socket_context_t *context, const char *protocol) {
    (void) context;
    (void) protocol;
}

void us_socket_context_plain_answer(struct us_socket_context_t *context, const char *text, int length) {
    (void) context;
    (void) text, (void) length;
}

void us_socket_context_on_tls_failure(struct us_socket_context_t *context,
    void (*on_failure)(struct us_socket_t *s, const char *reason, int plain)) {
    (void) context;
    (void) on_failure;
}

void us_socket_context_on_handshake(struct us_socket_context_t *context, struct us_socket_t *(*on_handshake)(struct us_socket_t *s)) {
    (void) context;
    (void) on_handshake;
}

int us_socket_context_verify(struct us_socket_context_t *context, int mode) {
    (void) context;
    (void) mode;
    errno = ENOTSUP;
    return -1;
}

int us_socket_context_peer_name(struct us_socket_context_t *context, const char *name) {
    (void) context;
    (void) name;
    errno = ENOTSUP;
    return -1;
}

int us_socket_context_offer_protocols(struct us_socket_context_t *context, const char *protocols) {
    (void) context;
    (void) protocols;
    errno = ENOTSUP;
    return -1;
}

int us_socket_tls_is_established(struct us_socket_t *s) {
    (void) s;
    return 0;
}

const char *us_socket_tls_version(struct us_socket_t *s) {
    (void) s;
    return NULL;
}

const char *us_socket_tls_cipher(struct us_socket_t *s) {
    (void) s;
    return NULL;
}

const char *us_socket_tls_alpn(struct us_socket_t *s, int *length) {
    (void) s;
    *length = 0;
    return NULL;
}

int us_socket_tls_is_resumed(struct us_socket_t *s) {
    (void) s;
    return 0;
}

void *us_socket_context_get_native_handle(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    (void) context;
    return NULL;
}

void us_socket_context_on_server_name(int ssl, struct us_socket_context_t *context,
    void (*cb)(struct us_socket_context_t *context, const char *hostname)) {
    (void) ssl;
    (void) context, (void) cb;
}

void us_socket_context_add_server_name(int ssl, struct us_socket_context_t *context, const char *hostname_pattern,
    struct us_socket_context_options_t options, void *user) {
    (void) ssl;
    (void) context, (void) hostname_pattern, (void) options, (void) user;
    errno = ENOTSUP;
}

void us_socket_context_remove_server_name(int ssl, struct us_socket_context_t *context, const char *hostname_pattern) {
    (void) ssl;
    (void) context, (void) hostname_pattern;
}

void us_socket_context_refuse_server_name(struct us_socket_context_t *context) {
    (void) context;
}

int us_socket_context_tls_settings(struct us_socket_context_t *context, const char *hostname_pattern, const struct us_tls_settings_t *settings) {
    (void) context, (void) hostname_pattern, (void) settings;
    return -1;
}

int us_socket_context_prepare(struct us_socket_context_t *context, const char *hostname_pattern, struct us_socket_context_options_t options) {
    (void) context, (void) hostname_pattern, (void) options;
    errno = ENOTSUP;
    return -1;
}

const char *us_socket_server_name(struct us_socket_t *s) {
    (void) s;
    return NULL;
}

int us_socket_peer_certificate(struct us_socket_t *s, char *to, int size) {
    (void) s;
    (void) to, (void) size;
    return 0;
}

int us_certificate_text(const char *der, int length, int what, char *to, int size) {
    (void) der, (void) length, (void) what, (void) to, (void) size;
    return -1;
}

void us_socket_context_on_plain_prefix(struct us_socket_context_t *context,
    int (*on_prefix)(struct us_socket_t *s, const char *data, int length)) {
    (void) context, (void) on_prefix;
}

void us_socket_context_renew(struct us_socket_context_t *context, int use) {
    (void) context, (void) use;
}

void *us_socket_context_find_server_name_userdata(int ssl, struct us_socket_context_t *context, const char *hostname_pattern) {
    (void) ssl;
    (void) context, (void) hostname_pattern;
    return NULL;
}

void *us_socket_server_name_userdata(int ssl, struct us_socket_t *s) {
    (void) ssl;
    (void) s;
    return NULL;
}

#endif
