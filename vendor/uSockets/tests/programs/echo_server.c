/* An echo server as users of the interface write one, C and C++ alike: what the
 * kernel does not take waits in memory, and while it waits the peer is given time.
 *
 * echo_server [key certificate]: prints its port, and ends when a client says "stop". */
#include <libusockets.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LIBUS_NO_SSL
static const int SSL_ON = 0;
#else
static const int SSL_ON = 1;
#endif

struct echo_socket {
    char *waiting;
    int length;
};

struct echo_context {
    struct us_listen_socket_t *listener;
    int served;
};

static void on_wakeup(struct us_loop_t *loop) {
    (void) loop;
}

static void on_pre(struct us_loop_t *loop) {
    (void) loop;
}

static void on_post(struct us_loop_t *loop) {
    (void) loop;
}

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    struct echo_socket *es = (struct echo_socket *) us_socket_ext(SSL_ON, s);
    (void) is_client, (void) ip, (void) ip_length;
    es->waiting = NULL;
    es->length = 0;
    us_socket_timeout(SSL_ON, s, 30);
    return s;
}

static struct us_socket_t *on_close(struct us_socket_t *s, int code, void *reason) {
    struct echo_socket *es = (struct echo_socket *) us_socket_ext(SSL_ON, s);
    (void) code, (void) reason;
    free(es->waiting);
    return s;
}

static struct us_socket_t *on_end(struct us_socket_t *s) {
    us_socket_shutdown(SSL_ON, s);
    return us_socket_close(SSL_ON, s, 0, NULL);
}

static struct us_socket_t *on_writable(struct us_socket_t *s) {
    struct echo_socket *es = (struct echo_socket *) us_socket_ext(SSL_ON, s);
    int written = us_socket_write(SSL_ON, s, es->waiting, es->length, 0);
    es->length -= written;
    if (es->length) memmove(es->waiting, es->waiting + written, (size_t) es->length);
    us_socket_timeout(SSL_ON, s, 30);
    return s;
}

static void keep(struct echo_socket *es, const char *data, int length) {
    char *more = (char *) realloc(es->waiting, (size_t) (es->length + length));
    if (!more) exit(3);
    memcpy(more + es->length, data, (size_t) length);
    es->waiting = more;
    es->length += length;
}

static struct us_socket_t *on_data(struct us_socket_t *s, char *data, int length) {
    struct echo_socket *es = (struct echo_socket *) us_socket_ext(SSL_ON, s);
    struct us_socket_context_t *context = us_socket_context(SSL_ON, s);
    struct echo_context *ec = (struct echo_context *) us_socket_context_ext(SSL_ON, context);
    ec->served++;
    if (length == 4 && memcmp(data, "stop", 4) == 0) {
        us_listen_socket_close(SSL_ON, ec->listener);
        us_socket_context_close(SSL_ON, context);
        return s;
    }
    int written = es->length ? 0 : us_socket_write(SSL_ON, s, data, length, 0);
    if (written < length) keep(es, data + written, length - written);
    us_socket_timeout(SSL_ON, s, 30);
    return s;
}

static struct us_socket_t *on_timeout(struct us_socket_t *s) {
    return us_socket_close(SSL_ON, s, 0, NULL);
}

int main(int argc, char **argv) {
    struct us_loop_t *loop = us_create_loop(NULL, on_wakeup, on_pre, on_post, 0);
    struct us_socket_context_options_t options;
    memset(&options, 0, sizeof options);
    if (argc > 2) {
        options.key_file_name = argv[1];
        options.cert_file_name = argv[2];
    }
    struct us_socket_context_t *context = us_create_socket_context(SSL_ON, loop, sizeof(struct echo_context), options);
    if (!context) return 2;
    us_socket_context_on_open(SSL_ON, context, on_open);
    us_socket_context_on_data(SSL_ON, context, on_data);
    us_socket_context_on_writable(SSL_ON, context, on_writable);
    us_socket_context_on_close(SSL_ON, context, on_close);
    us_socket_context_on_timeout(SSL_ON, context, on_timeout);
    us_socket_context_on_end(SSL_ON, context, on_end);
    struct us_listen_socket_t *listener = us_socket_context_listen(SSL_ON, context, "127.0.0.1", 0, LIBUS_LISTEN_DEFAULT, sizeof(struct echo_socket));
    if (!listener) return 1;
    ((struct echo_context *) us_socket_context_ext(SSL_ON, context))->listener = listener;
    printf("%d\n", us_socket_local_port(SSL_ON, (struct us_socket_t *) listener));
    fflush(stdout);
    us_loop_run(loop);
    printf("served %d\n", ((struct echo_context *) us_socket_context_ext(SSL_ON, context))->served);
    us_socket_context_free(SSL_ON, context);
    us_loop_free(loop);
    return 0;
}
