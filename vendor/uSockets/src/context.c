/* Contexts: the class of a set of sockets, and the listeners that fill it.
 *
 * Accepting is bounded in both ways. A listener takes at most ACCEPT_BATCH
 * connections an iteration, so that those already open are served in between.
 * And where accepting fails for want of descriptors or memory, the connection
 * stays in the kernel's queue and the listener stays readable: going on would
 * spin. So at EMFILE the spare descriptor is given up for a moment to take one
 * client in and turn it away, which is a quicker answer than silence; then all
 * listeners that failed are off until the retry timer runs out, 100 ms at first
 * and up to a second while it goes on failing. Descriptors run out for a whole
 * process, so the timer and its delay belong to the loop. Sends for which the
 * kernel has no memory wait for the same timer. */
#include "tls.h"

#include <errno.h>
#include <string.h>

#define ACCEPT_BATCH 256
#define ACCEPT_DELAY_MIN_MS 100
#define ACCEPT_DELAY_MAX_MS 1000
#define RETRY_DELAY_MS 100

/* ---- Lists --------------------------------------------------------------- */

static struct us_socket_t **list_of(struct us_socket_t *s) {
    return s->p.type == POLL_LISTEN ? &s->context->listeners : &s->context->sockets;
}

void us_internal_context_link(struct us_socket_context_t *context, struct us_socket_t *s) {
    s->context = context;
    struct us_socket_t **head = list_of(s);
    s->prev = NULL;
    s->next = *head;
    if (*head) (*head)->prev = s;
    *head = s;
}

void us_internal_context_unlink(struct us_socket_t *s) {
    if (s->context->iterator == s) s->context->iterator = s->next;
    if (s->prev) s->prev->next = s->next;
    else *list_of(s) = s->next;
    if (s->next) s->next->prev = s->prev;
}

/* Runs `visit` on every socket of the loop; it may close and adopt any of them
 * and free contexts. Sockets that come meanwhile may be left out. */
void us_internal_visit_sockets(struct us_loop_t *loop, void (*visit)(struct us_socket_t *s)) {
    loop->visiting = 1;
    struct us_socket_context_t *context;
    for (context = loop->contexts; context; context = loop->iterator) {
        loop->iterator = context->next;
        for (struct us_socket_t *s = context->sockets; s; s = context->iterator) {
            context->iterator = s->next;
            visit(s);
        }
    }
    loop->visiting = 0;
}

/* ---- Life ---------------------------------------------------------------- */

static struct us_socket_context_t *create(struct us_loop_t *loop, int ext_size) {
    if (ext_size < 0) {
        errno = EINVAL;
        return NULL;
    }
    struct us_socket_context_t *context = us_internal_alloc(loop, sizeof *context, (size_t) ext_size);
    if (!context) return NULL;
    context->loop = loop;
    context->next = loop->contexts;
    if (loop->contexts) loop->contexts->prev = context;
    loop->contexts = context;
    return context;
}

struct us_socket_context_t *us_create_socket_context(int ssl, struct us_loop_t *loop, int ext_size,
    struct us_socket_context_options_t options) {
    if (!ssl) return create(loop, ext_size);
    struct us_internal_tls_context *tls = us_internal_tls_context_create(loop, options);
    if (!tls) return NULL;
    struct us_socket_context_t *context = create(loop, ext_size);
    if (context) context->tls = tls;
    else us_internal_tls_context_release(loop, tls);
    return context;
}

struct us_socket_context_t *us_create_child_socket_context(int ssl, struct us_socket_context_t *context, int context_ext_size) {
    (void) ssl;
    struct us_socket_context_t *child = create(context->loop, context_ext_size);
    if (child && context->tls) child->tls = us_internal_tls_context_hold(context->tls);
    return child;
}

void us_socket_context_close(int ssl, struct us_socket_context_t *context) {
    if (context->closing) return; /* from an on_close of ours: the outer call goes on */
    context->closing = 1;
    while (context->listeners) us_listen_socket_close(ssl, (struct us_listen_socket_t *) context->listeners);
    while (context->sockets) us_socket_close(ssl, context->sockets, 0, NULL);
    context->closing = 0;
}

void us_socket_context_free(int ssl, struct us_socket_context_t *context) {
    struct us_loop_t *loop = context->loop;
    if (context->dead) return;
    context->dead = 1;
    us_socket_context_close(ssl, context);
    if (loop->iterator == context) loop->iterator = context->next;
    if (context->prev) context->prev->next = context->next;
    else loop->contexts = context->next;
    if (context->next) context->next->prev = context->prev;
    context->next_dead = loop->dead_contexts;
    loop->dead_contexts = context;
}

void *us_socket_context_ext(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    return context + 1;
}

struct us_loop_t *us_socket_context_loop(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    return context->loop;
}

unsigned short us_socket_context_timestamp(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    return context->loop->sweeps;
}

/* ---- Callbacks ----------------------------------------------------------- */

void us_socket_context_on_pre_open(int ssl, struct us_socket_context_t *context,
    LIBUS_SOCKET_DESCRIPTOR (*on_pre_open)(struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR fd, char *ip, int ip_length)) {
    (void) ssl;
    context->on_pre_open = on_pre_open;
}

void us_socket_context_on_open(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_open)(struct us_socket_t *s, int is_client, char *ip, int ip_length)) {
    (void) ssl;
    context->on_open = on_open;
}

void us_socket_context_on_close(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_close)(struct us_socket_t *s, int code, void *reason)) {
    (void) ssl;
    context->on_close = on_close;
}

void us_socket_context_on_data(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_data)(struct us_socket_t *s, char *data, int length)) {
    (void) ssl;
    context->on_data = on_data;
}

void us_socket_context_on_writable(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_writable)(struct us_socket_t *s)) {
    (void) ssl;
    context->on_writable = on_writable;
}

void us_socket_context_on_timeout(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_timeout)(struct us_socket_t *s)) {
    (void) ssl;
    context->on_timeout = on_timeout;
}

void us_socket_context_on_long_timeout(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_timeout)(struct us_socket_t *s)) {
    (void) ssl;
    context->on_long_timeout = on_timeout;
}

void us_socket_context_on_end(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_end)(struct us_socket_t *s)) {
    (void) ssl;
    context->on_end = on_end;
}

void us_socket_context_on_connect_error(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_connect_error)(struct us_socket_t *s, int code)) {
    (void) ssl;
    context->on_connect_error = on_connect_error;
}

/* ---- Listening ----------------------------------------------------------- */

/* Makes a listener of a listening descriptor, which it owns also on failure. */
static struct us_listen_socket_t *add_listener(struct us_socket_context_t *context, int fd, const char *path, int ext_size) {
    struct us_loop_t *loop = context->loop;
    struct us_listen_socket_t *ls = us_internal_alloc(loop, sizeof *ls, 0);
    if (!ls) goto fail;
    us_internal_poll_init(&ls->s.p, fd, POLL_LISTEN, path ? LISTENER_UNIX : 0);
    ls->s.timeout = ls->s.long_timeout = TIMEOUT_OFF;
    ls->socket_ext_size = (unsigned int) ext_size;
    if (path) {
        size_t size = strlen(path) + 1;
        if (!(ls->path = us_internal_alloc(loop, size, 0))) goto fail;
        memcpy(ls->path, path, size);
        (void) bsd_path_identity(path, &ls->path_device, &ls->path_inode);
    }
    if (us_internal_poll_start(loop, &ls->s.p, LIBUS_SOCKET_READABLE)) goto fail;
    us_internal_context_link(context, &ls->s);
    loop->alive++;
    return ls;

fail:;
    int error = errno;
    if (path) loop->sys->unlink(loop->sys, path);
    loop->sys->close(loop->sys, fd);
    if (ls && ls->path) loop->sys->release(loop->sys, ls->path);
    if (ls) loop->sys->release(loop->sys, ls);
    errno = error;
    return NULL;
}

/* At EMFILE it would be too late to create the retry timer. */
int us_internal_prepare_retries(struct us_loop_t *loop) {
    if (!loop->retry_timer) loop->retry_timer = us_create_timer(loop, 1, 0);
    return loop->retry_timer ? 0 : -1;
}

static int prepare_listening(struct us_socket_context_t *context, int socket_ext_size) {
    if (socket_ext_size < 0 || context->dead) {
        errno = context->dead ? ECANCELED : EINVAL;
        return -1;
    }
    return us_internal_prepare_retries(context->loop);
}

struct us_listen_socket_t *us_socket_context_listen(int ssl, struct us_socket_context_t *context, const char *host, int port,
    int options, int socket_ext_size) {
    (void) ssl;
    if (prepare_listening(context, socket_ext_size)) return NULL;
    int fd = bsd_listen_tcp(context->loop->sys, host, port, options);
    return fd < 0 ? NULL : add_listener(context, fd, NULL, socket_ext_size);
}

struct us_listen_socket_t *us_socket_context_listen_unix(int ssl, struct us_socket_context_t *context, const char *path,
    int options, int socket_ext_size) {
    (void) ssl;
    (void) options;
    if (prepare_listening(context, socket_ext_size)) return NULL;
    int fd = bsd_listen_unix(context->loop->sys, path);
    return fd < 0 ? NULL : add_listener(context, fd, path, socket_ext_size);
}

static void remove_path(struct us_sys_t *sys, struct us_listen_socket_t *ls) {
    dev_t device;
    ino_t inode;
    if (bsd_path_identity(ls->path, &device, &inode) && device == ls->path_device && inode == ls->path_inode) {
        (void) sys->unlink(sys, ls->path);
    }
    sys->release(sys, ls->path);
    ls->path = NULL;
}

void us_listen_socket_close(int ssl, struct us_listen_socket_t *ls) {
    (void) ssl;
    struct us_loop_t *loop = ls->s.context->loop;
    if (ls->s.p.flags & POLL_DEAD) return;
    us_internal_context_unlink(&ls->s);
    us_internal_poll_stop(loop, &ls->s.p);
    if (ls->path) remove_path(loop->sys, ls);
    loop->sys->close(loop->sys, ls->s.p.fd);
    ls->s.p.fd = -1;
    loop->alive--;
    us_internal_bury(loop, &ls->s.p);
}

/* ---- Accepting and trying again ------------------------------------------ */

static void retry_timer_ran_out(struct us_timer_t *timer);

static int next_delay(struct us_loop_t *loop) {
    int delay = loop->accept_delay_ms ? 2 * loop->accept_delay_ms : ACCEPT_DELAY_MIN_MS;
    loop->accept_delay_ms = delay < ACCEPT_DELAY_MAX_MS ? delay : ACCEPT_DELAY_MAX_MS;
    return loop->accept_delay_ms;
}

static void back_off(struct us_listen_socket_t *ls) {
    struct us_loop_t *loop = ls->s.context->loop;
    /* Without the timer nobody would turn the listener on again: better to spin. */
    if (us_internal_timer_arm(loop->retry_timer, retry_timer_ran_out, next_delay(loop), 0)) return;
    /* Stopped rather than changed to no events, which would still report errors. */
    us_internal_poll_stop(loop, &ls->s.p);
    ls->s.p.flags |= LISTENER_OFF;
}

static void retry_accepting(struct us_loop_t *loop) {
    int failed = 0;
    if (loop->spare_fd < 0) loop->spare_fd = loop->sys->open_spare(loop->sys);
    for (struct us_socket_context_t *context = loop->contexts; context; context = context->next) {
        for (struct us_socket_t *s = context->listeners; s; s = s->next) {
            if (!(s->p.flags & LISTENER_OFF)) continue;
            if (us_internal_poll_start(loop, &s->p, LIBUS_SOCKET_READABLE)) failed = 1;
            else s->p.flags &= (uint16_t) ~LISTENER_OFF;
        }
    }
    if (failed) (void) us_internal_timer_arm(loop->retry_timer, retry_timer_ran_out, next_delay(loop), 0);
}

static void retry_timer_ran_out(struct us_timer_t *timer) {
    struct us_loop_t *loop = us_timer_loop(timer);
    int retries_wait = loop->retries_wait;
    loop->retries_wait = 0; /* those that fail again arm the timer again */
    if (retries_wait) {
        us_internal_visit_sockets(loop, us_internal_socket_retry);
        us_internal_udp_retry(loop);
    }
    retry_accepting(loop);
}

/* Sees to it that us_internal_socket_retry and us_internal_udp_retry run soon. Returns 0, or -1 when it will not. */
int us_internal_retry_later(struct us_loop_t *loop) {
    if (loop->retries_wait) return 0;
    if (!loop->retry_timer || us_internal_timer_arm(loop->retry_timer, retry_timer_ran_out, RETRY_DELAY_MS, 0)) return -1;
    loop->retries_wait = 1;
    return 0;
}

/* Gives up the spare descriptor to take one client in and turn it away. */
static void shed_one(struct us_loop_t *loop, int listener_fd) {
    struct us_sys_t *sys = loop->sys;
    struct bsd_address address;
    if (loop->spare_fd < 0) return;
    sys->close(sys, loop->spare_fd);
    int fd = bsd_accept(sys, listener_fd, &address);
    if (fd >= 0) sys->close(sys, fd);
    loop->spare_fd = sys->open_spare(sys);
}

/* Returns 1 to go on accepting: the error was that of one connection. */
static int accept_failed(struct us_listen_socket_t *ls, int error) {
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM: /* a firewall */
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENOPROTOOPT:
        return 1;
    case EAGAIN:
        return 0;
    case EMFILE:
    case ENFILE:
        shed_one(ls->s.context->loop, ls->s.p.fd);
        break;
    default: /* ENOBUFS, ENOMEM, and what we do not know: pause, so as not to spin */
        break;
    }
    back_off(ls);
    return 0;
}

static void accepted(struct us_listen_socket_t *ls, int fd, struct bsd_address *address) {
    struct us_socket_context_t *context = ls->s.context;
    struct us_sys_t *sys = context->loop->sys;
    if (context->on_pre_open) {
        fd = context->on_pre_open(context, fd, address->ip, address->ip_length);
        if (fd < 0) return;
        if (ls->s.p.flags & POLL_DEAD) { /* and with it the context, perhaps */
            sys->close(sys, fd);
            return;
        }
    }
    if (!(ls->s.p.flags & LISTENER_UNIX)) bsd_set_nodelay(sys, fd);
    /* Without memory, or refused by the poller: the peer is told by a close. */
    if (!us_internal_socket_open(context, fd, ls->socket_ext_size, 0, address->ip, address->ip_length)) sys->close(sys, fd);
}

void us_internal_listener_ready(struct us_listen_socket_t *ls) {
    struct us_loop_t *loop = ls->s.context->loop;
    struct bsd_address address;
    for (int i = 0; i < ACCEPT_BATCH && !(ls->s.p.flags & POLL_DEAD); i++) {
        int fd = bsd_accept(loop->sys, ls->s.p.fd, &address);
        if (fd >= 0) {
            loop->accept_delay_ms = 0;
            accepted(ls, fd, &address);
        } else if (!accept_failed(ls, errno)) {
            return;
        }
    }
}

struct us_socket_t *us_adopt_accepted_socket(int ssl, struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR client_fd,
    unsigned int socket_ext_size, char *addr_ip, int addr_ip_length) {
    (void) ssl;
    (void) us_internal_prepare_retries(context->loop);
    bsd_set_nodelay(context->loop->sys, client_fd);
    return us_internal_socket_open(context, client_fd, socket_ext_size, 0, addr_ip, addr_ip_length);
}

struct us_socket_t *us_adopt_connected_socket(int ssl, struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR fd,
    unsigned int socket_ext_size, char *addr_ip, int addr_ip_length) {
    if (ssl && !context->tls) { /* never in the clear where TLS was meant */
        errno = ENOTSUP;
        return NULL;
    }
    (void) us_internal_prepare_retries(context->loop);
    bsd_set_nodelay(context->loop->sys, fd);
    return us_internal_socket_open(context, fd, socket_ext_size, 1, addr_ip, addr_ip_length);
}
