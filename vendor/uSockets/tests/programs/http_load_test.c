/* An HTTP load tester as users of the interface write one, C and C++ alike: so many
 * connections, each with the next request when the answer to the one before is whole.
 *
 * http_load_test CONNECTIONS REQUESTS HOST PORT [authorities]: prints what came back. */
#include <libusockets.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LIBUS_NO_SSL
static const int SSL_ON = 0;
#else
static const int SSL_ON = 1;
#endif

static const char request[] = "GET /load HTTP/1.1\r\nHost: localhost\r\n\r\n";
enum { REQUEST_LENGTH = sizeof request - 1 };

static struct {
    const char *host;
    int port, connections, wanted;
    int asked, answered, bad, opened, failed;
} load;

struct http_socket {
    int offset;      /* of the request, as far as it is sent */
    int in_body;     /* the end of the head is seen */
    long body_left;
    char head[512];
    int head_length;
};

static struct us_socket_t *send_rest(struct us_socket_t *s) {
    struct http_socket *hs = (struct http_socket *) us_socket_ext(SSL_ON, s);
    hs->offset += us_socket_write(SSL_ON, s, request + hs->offset, REQUEST_LENGTH - hs->offset, 0);
    return s;
}

/* Returns the socket; one that has nothing left to ask is closed. */
static struct us_socket_t *ask(struct us_socket_t *s) {
    struct http_socket *hs = (struct http_socket *) us_socket_ext(SSL_ON, s);
    if (load.asked == load.wanted) return us_socket_close(SSL_ON, s, 0, NULL);
    load.asked++;
    hs->offset = hs->in_body = hs->head_length = 0;
    return send_rest(s);
}

static void connect_next(struct us_socket_context_t *context) {
    if (!us_socket_context_connect(SSL_ON, context, load.host, load.port, NULL, 0, sizeof(struct http_socket))) load.failed++;
}

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    (void) ip;
    if (!is_client || (ip_length != 4 && ip_length != 16)) load.bad++;
    if (++load.opened < load.connections) connect_next(us_socket_context(SSL_ON, s));
    us_socket_timeout(SSL_ON, s, 60);
    return ask(s);
}

static void head_is_whole(struct http_socket *hs) {
    hs->head[hs->head_length] = 0;
    const char *length = strstr(hs->head, "\r\nContent-Length: ");
    if (strncmp(hs->head, "HTTP/1.1 200 OK\r\n", 17) || !length) load.bad++;
    hs->body_left = length ? atol(length + 18) : 0;
    hs->in_body = 1;
}

/* Takes bytes of one answer. Returns their number. */
static int take(struct http_socket *hs, const char *data, int length) {
    int used = 0;
    while (!hs->in_body && used < length) {
        if (hs->head_length + 1 == (int) sizeof hs->head) hs->head_length = 0, load.bad++;
        hs->head[hs->head_length++] = data[used++];
        if (hs->head_length >= 4 && memcmp(hs->head + hs->head_length - 4, "\r\n\r\n", 4) == 0) head_is_whole(hs);
    }
    if (!hs->in_body) return used;
    int body = length - used < hs->body_left ? length - used : (int) hs->body_left;
    hs->body_left -= body;
    return used + body;
}

static struct us_socket_t *on_data(struct us_socket_t *s, char *data, int length) {
    struct http_socket *hs = (struct http_socket *) us_socket_ext(SSL_ON, s);
    if (take(hs, data, length) != length) load.bad++; /* an answer that nobody asked for */
    if (!hs->in_body || hs->body_left) return s;
    load.answered++;
    return ask(s);
}

static struct us_socket_t *on_close(struct us_socket_t *s, int code, void *reason) {
    (void) reason;
    if (code) load.failed++;
    return s;
}

static struct us_socket_t *on_end(struct us_socket_t *s) {
    load.failed++;
    return us_socket_close(SSL_ON, s, 0, NULL);
}

static struct us_socket_t *on_timeout(struct us_socket_t *s) {
    load.failed++;
    return us_socket_close(SSL_ON, s, 0, NULL);
}

static struct us_socket_t *on_connect_error(struct us_socket_t *s, int code) {
    (void) code;
    load.failed++;
    return s;
}

static void nothing(struct us_loop_t *loop) {
    (void) loop;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    load.connections = atoi(argv[1]);
    load.wanted = atoi(argv[2]);
    load.host = argv[3];
    load.port = atoi(argv[4]);
    struct us_socket_context_options_t options;
    memset(&options, 0, sizeof options);
    if (argc > 5) options.ca_file_name = argv[5];
    struct us_loop_t *loop = us_create_loop(NULL, nothing, nothing, nothing, 0);
    struct us_socket_context_t *context = us_create_socket_context(SSL_ON, loop, 0, options);
    if (!context) return 2;
    us_socket_context_on_open(SSL_ON, context, on_open);
    us_socket_context_on_data(SSL_ON, context, on_data);
    us_socket_context_on_writable(SSL_ON, context, send_rest);
    us_socket_context_on_close(SSL_ON, context, on_close);
    us_socket_context_on_timeout(SSL_ON, context, on_timeout);
    us_socket_context_on_end(SSL_ON, context, on_end);
    us_socket_context_on_connect_error(SSL_ON, context, on_connect_error);
    connect_next(context);
    us_loop_run(loop);
    printf("%d answers on %d connections, %d bad, %d failed\n", load.answered, load.opened, load.bad, load.failed);
    us_socket_context_free(SSL_ON, context);
    us_loop_free(loop);
    return 0;
}
