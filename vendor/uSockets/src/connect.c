/* Client connections: a socket that is connecting, until it opens or fails.
 *
 * It is a socket of its context from the start, so that timeouts and closing work
 * on it, flagged SOCKET_CONNECTING and polled for writing only. A name may stand
 * for several addresses. They are tried in the order of look-up, each with a
 * descriptor of its own, behind the same socket: whether one refuses at once or
 * later makes no difference to the caller. What that needs lies behind the ext,
 * so that accepted sockets do not pay for it. */
#include "tls.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

struct attempt {
    struct addrinfo *targets, *sources; /* all that were found; NULL when no longer needed */
    struct addrinfo *next;              /* in targets: the one to try after this */
    struct bsd_address address;         /* of this one */
    int error;                          /* of the first: the one that look-up holds for the best */
    char name[];                        /* of the server, for TLS */
};

static size_t padded(size_t size) {
    return (size + LIBUS_EXT_ALIGNMENT - 1) / LIBUS_EXT_ALIGNMENT * LIBUS_EXT_ALIGNMENT;
}

static struct attempt *attempt_of(struct us_socket_t *s) {
    return (struct attempt *) (void *) ((char *) (s + 1) + padded(s->ext_size));
}

void us_internal_forget_addresses(struct us_socket_t *s) {
    struct attempt *attempt = attempt_of(s);
    if (attempt->targets) freeaddrinfo(attempt->targets);
    if (attempt->sources) freeaddrinfo(attempt->sources);
    attempt->targets = attempt->sources = attempt->next = NULL;
}

/* ---- Addresses in order -------------------------------------------------- */

static const struct addrinfo *source_for(const struct attempt *attempt, int family) {
    const struct addrinfo *source = attempt->sources;
    while (source && source->ai_family != family) source = source->ai_next;
    return source;
}

static int begin(struct us_sys_t *sys, struct attempt *attempt, const struct addrinfo *target) {
    const struct addrinfo *source = source_for(attempt, target->ai_family);
    if (!attempt->sources || source) return bsd_connect_tcp(sys, target, source, &attempt->address);
    errno = EADDRNOTAVAIL; /* the local end has no address of that family */
    return -1;
}

static void note_error(struct attempt *attempt, int error) {
    if (!attempt->error) attempt->error = error;
}

/* Begins with the next address that does not fail at once and waits for it.
 * Returns 0, or -1 when none is left: the error is noted. */
static int try_next(struct us_socket_t *s, struct us_loop_t *loop) {
    struct attempt *attempt = attempt_of(s);
    while (attempt->next) {
        const struct addrinfo *target = attempt->next;
        attempt->next = target->ai_next;
        s->p.fd = begin(loop->sys, attempt, target);
        if (s->p.fd >= 0 && us_internal_poll_start(loop, &s->p, LIBUS_SOCKET_WRITABLE) == 0) return 0;
        note_error(attempt, errno);
        if (s->p.fd >= 0) loop->sys->close(loop->sys, s->p.fd);
        s->p.fd = -1;
    }
    return -1;
}

/* ---- The end of connecting ----------------------------------------------- */

static void drop_descriptor(struct us_socket_t *s) {
    struct us_loop_t *loop = s->context->loop;
    us_internal_poll_stop(loop, &s->p);
    loop->sys->close(loop->sys, s->p.fd);
    s->p.fd = -1;
}

static void failed(struct us_socket_t *s) {
    struct us_socket_context_t *context = s->context;
    struct us_loop_t *loop = context->loop;
    int code = attempt_of(s)->error;
    s->last_error = (uint16_t) code;
    us_internal_context_unlink(s);
    us_internal_forget_addresses(s);
    loop->alive--;
    us_internal_bury(loop, &s->p);
    if (context->on_connect_error) context->on_connect_error(s, code);
}

static void opened(struct us_socket_t *s) {
    struct attempt *attempt = attempt_of(s);
    if (s->context->tls && us_internal_tls_attach(s->context, s, attempt->name)) {
        attempt->error = errno; /* another address would not help */
        drop_descriptor(s);
        failed(s);
        return;
    }
    us_internal_forget_addresses(s);
    s->p.flags &= (uint16_t) ~SOCKET_CONNECTING;
    us_internal_socket_opened(s, 1, attempt->address.ip, attempt->address.ip_length);
}

void us_internal_connecting_ready(struct us_socket_t *s, int error) {
    struct us_loop_t *loop = s->context->loop;
    int code = bsd_pending_error(loop->sys, s->p.fd);
    if (!code && error & POLL_ERROR) code = ECONNABORTED;
    if (!code && us_internal_poll_change(loop, &s->p, LIBUS_SOCKET_READABLE)) code = errno;
    if (!code) {
        opened(s);
        return;
    }
    note_error(attempt_of(s), code);
    drop_descriptor(s);
    if (try_next(s, loop)) failed(s);
}

/* ---- The interface ------------------------------------------------------- */

static struct us_socket_t *create(int ssl, struct us_socket_context_t *context, int ext_size, const char *host) {
    int in_the_clear = ssl && !context->tls; /* where TLS was meant */
    if (in_the_clear || ext_size < 0 || context->closing || context->dead) {
        errno = in_the_clear ? ENOTSUP : ext_size < 0 ? EINVAL : ECANCELED;
        return NULL;
    }
    (void) us_internal_prepare_retries(context->loop);
    const char *name = context->tls ? us_internal_tls_peer_name(context, host) : "";
    size_t length = strlen(name);
    struct us_socket_t *s = us_internal_alloc(context->loop, sizeof *s, padded((size_t) ext_size) + sizeof(struct attempt) + length + 1);
    if (!s) return NULL;
    us_internal_poll_init(&s->p, -1, POLL_SOCKET, SOCKET_CONNECTING);
    s->ext_size = (uint32_t) ext_size;
    s->timeout = s->long_timeout = TIMEOUT_OFF;
    memcpy(attempt_of(s)->name, name, length);
    return s;
}

static struct us_socket_t *give_up(struct us_socket_context_t *context, struct us_socket_t *s, int error) {
    us_internal_forget_addresses(s);
    context->loop->sys->release(context->loop->sys, s);
    errno = error;
    return NULL;
}

static struct us_socket_t *connecting(struct us_socket_context_t *context, struct us_socket_t *s) {
    us_internal_context_link(context, s);
    context->loop->alive++;
    return s;
}

struct us_socket_t *us_socket_context_connect(int ssl, struct us_socket_context_t *context, const char *host, int port,
    const char *source_host, int options, int socket_ext_size) {
    (void) options;
    struct us_socket_t *s = create(ssl, context, socket_ext_size, host ? host : "localhost");
    if (!s) return NULL;
    struct attempt *attempt = attempt_of(s);
    if (bsd_look_up(host, port, SOCK_STREAM, 0, &attempt->targets)) {
        attempt->targets = NULL;
        return give_up(context, s, errno);
    }
    if (source_host && bsd_look_up(source_host, 0, SOCK_STREAM, AI_PASSIVE, &attempt->sources)) {
        attempt->sources = NULL;
        return give_up(context, s, errno);
    }
    attempt->next = attempt->targets;
    return try_next(s, context->loop) ? give_up(context, s, attempt->error) : connecting(context, s);
}

struct us_socket_t *us_socket_context_connect_unix(int ssl, struct us_socket_context_t *context, const char *server_path,
    int options, int socket_ext_size) {
    (void) options;
    struct us_socket_t *s = create(ssl, context, socket_ext_size, "");
    if (!s) return NULL;
    s->p.fd = bsd_connect_unix(context->loop->sys, server_path);
    if (s->p.fd < 0) return give_up(context, s, errno);
    if (us_internal_poll_start(context->loop, &s->p, LIBUS_SOCKET_WRITABLE) == 0) return connecting(context, s);
    int error = errno;
    context->loop->sys->close(context->loop->sys, s->p.fd);
    return give_up(context, s, error);
}

int us_socket_is_established(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return !(s->p.flags & (POLL_DEAD | SOCKET_CONNECTING));
}

struct us_socket_t *us_socket_close_connecting(int ssl, struct us_socket_t *s) {
    return s->p.flags & SOCKET_CONNECTING ? us_socket_close(ssl, s, 0, NULL) : s;
}
