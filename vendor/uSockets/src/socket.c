/* Sockets: reading, writing, ending, closing, moving.
 *
 * The states of an open socket are independent bits: shut down (our FIN), ended
 * (the peer's FIN), paused (not polled for reading), wanting to write, send
 * failed. Rules that keep them together:
 *
 *  - Polling is level-triggered and changes only when it must: for writing after
 *    a short write and back when a writable callback left nothing, for reading
 *    at a pause and at the end of the stream. A plain request and its response
 *    change nothing.
 *  - One recv a socket and iteration: what is left makes the next one ready.
 *  - Data goes before the end: a hang-up or an error closes the socket only when
 *    a recv has nothing more, which also tells why.
 *  - Errors and hang-ups are reported even for a socket that polls for nothing,
 *    again and again, so each such report must end in a close, or in taking the
 *    socket out of the poller: that is for one paused with data still unread,
 *    until it reads again.
 *  - After the ends of both directions the loop closes. When ours comes second,
 *    reading is polled again to bring that about in the next iteration, since
 *    us_socket_shutdown itself calls nobody back.
 *  - A send that failed for good does not close either, for the same reason: the
 *    socket is polled for writing and closed when its event comes.
 *  - A send for which the kernel has no memory is tried again when the retry timer
 *    runs out. The kernel reports such a socket as writable all the while, so
 *    until then it is not polled for that.
 *  - A socket that the kernel refuses to poll as it must be is broken: the loop
 *    closes it at the end of the iteration. */
#include "tls.h"

#include <errno.h>
#include <string.h>

enum { SENDFILE_MOST = 2 * 1024 * 1024 };

static int is_dead(const struct us_socket_t *s) {
    return (s->p.flags & POLL_DEAD) != 0;
}

static void set_flag(struct us_socket_t *s, int flag) {
    s->p.flags |= (uint16_t) flag;
}

static void clear_flag(struct us_socket_t *s, int flag) {
    s->p.flags &= (uint16_t) ~flag;
}

static void break_socket(struct us_socket_t *s, int error) {
    struct us_loop_t *loop = s->context->loop;
    s->last_error = (uint16_t) error;
    set_flag(s, SOCKET_BROKEN);
    if (!loop->broken && !loop->busy) us_internal_kick(loop);
    loop->broken = 1;
}

static void change_polling(struct us_socket_t *s, int events) {
    if (us_internal_poll_change(s->context->loop, &s->p, events)) break_socket(s, errno);
}

/* ---- Opening and closing ------------------------------------------------- */

/* Makes a socket of a connected descriptor, which is the caller's on failure. */
struct us_socket_t *us_internal_socket_open(struct us_socket_context_t *context, int fd, unsigned int ext_size, int is_client, char *ip, int ip_length) {
    struct us_loop_t *loop = context->loop;
    if (context->dead) {
        errno = ECANCELED; /* its memory goes at the end of the iteration */
        return NULL;
    }
    struct us_socket_t *s = us_internal_alloc(loop, sizeof *s, ext_size);
    if (!s) return NULL;
    us_internal_poll_init(&s->p, fd, POLL_SOCKET, 0);
    s->ext_size = ext_size;
    s->timeout = s->long_timeout = TIMEOUT_OFF;
    const char *server = is_client && context->tls ? us_internal_tls_peer_name(context, "") : NULL;
    if ((context->tls && us_internal_tls_attach(context, s, server)) || us_internal_poll_start(loop, &s->p, LIBUS_SOCKET_READABLE)) {
        int error = errno;
        us_internal_tls_free(loop, s->tls);
        loop->sys->release(loop->sys, s);
        errno = error;
        return NULL;
    }
    us_internal_context_link(context, s);
    loop->alive++;
    return us_internal_socket_opened(s, is_client, ip, ip_length);
}

/* Tells that a socket is open, and lets a client of TLS begin. */
struct us_socket_t *us_internal_socket_opened(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    struct us_loop_t *loop = s->context->loop;
    loop->calling++;
    struct us_socket_t *now = s->context->on_open ? s->context->on_open(s, is_client, ip, ip_length) : s;
    if (!now) now = s;
    if (is_client && now->tls) us_internal_tls_greet(now);
    loop->calling--;
    return now;
}

struct us_socket_t *us_socket_close(int ssl, struct us_socket_t *s, int code, void *reason) {
    struct us_socket_context_t *context = s->context;
    struct us_loop_t *loop = context->loop;
    if (is_dead(s)) return s;
    if (s->p.type == POLL_LISTEN) {
        us_listen_socket_close(ssl, (struct us_listen_socket_t *) s);
        return s;
    }
    if (s->tls) us_internal_tls_closing(s, code);
    us_internal_context_unlink(s);
    us_internal_poll_stop(loop, &s->p);
    loop->sys->close(loop->sys, s->p.fd);
    s->p.fd = -1;
    loop->alive--;
    us_internal_bury(loop, &s->p);
    loop->calling++;
    if (s->p.flags & SOCKET_CONNECTING) us_internal_forget_addresses(s);
    else if (context->on_close) context->on_close(s, code, reason);
    loop->calling--;
    return s;
}

void us_internal_socket_reap(struct us_socket_t *s) {
    if (s->p.flags & SOCKET_BROKEN) us_socket_close(0, s, s->last_error, NULL);
}

/* ---- Events -------------------------------------------------------------- */

/* Why a socket closes that has an error or hang-up and nothing to read. */
static int reason_to_close(struct us_socket_t *s, int error) {
    if (s->p.flags & SOCKET_SEND_FAILED) return s->last_error;
    if (!(error & POLL_ERROR)) return 0;
    int pending = bsd_pending_error(s->context->loop->sys, s->p.fd);
    if (!pending) pending = ECONNRESET;
    s->last_error = (uint16_t) pending;
    return pending;
}

void us_internal_socket_saw_end(struct us_socket_t *s, int error) {
    if (s->tls && s->p.flags & SOCKET_SHUT_DOWN && !error && us_internal_tls_waiting(s)) { /* the last of ours is on its way yet */
        set_flag(s, SOCKET_ENDED);
        change_polling(s, s->p.events & ~LIBUS_SOCKET_READABLE);
        return;
    }
    if (s->p.flags & (SOCKET_SHUT_DOWN | SOCKET_SEND_FAILED)) {
        us_socket_close(0, s, reason_to_close(s, error), NULL);
        return;
    }
    int first = !(s->p.flags & SOCKET_ENDED);
    set_flag(s, SOCKET_ENDED);
    change_polling(s, s->p.events & ~LIBUS_SOCKET_READABLE);
    if (first && s->context->on_end) {
        s = s->context->on_end(s);
        if (!s || is_dead(s)) return;
    } else if (first) {
        us_socket_close(0, s, 0, NULL);
        return;
    }
    if (error) us_socket_close(0, s, reason_to_close(s, error), NULL);
}

static void read_ready(struct us_socket_t *s, int error) {
    struct us_loop_t *loop = s->context->loop;
    size_t size = LIBUS_RECV_BUFFER_LENGTH;
    if (s->tls && !error && us_internal_tls_waits_its_turn(s)) return;
    char *buffer = s->tls ? us_internal_tls_input(loop, &size) : loop->recv_buffer;
    ssize_t length = bsd_recv(loop->sys, s->p.fd, buffer, size);
    if (length > 0 && s->tls) {
        us_internal_tls_received(s, (size_t) length);
    } else if (length > 0) {
        if (s->context->on_data) s->context->on_data(s, loop->recv_buffer, (int) length);
    } else if (length == 0) {
        if (s->tls) us_internal_tls_saw_fin(s);
        if (!is_dead(s)) us_internal_socket_saw_end(s, error);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
        int code = errno;
        s->last_error = (uint16_t) code;
        us_socket_close(0, s, code, NULL);
    } else if (error) {
        us_socket_close(0, s, reason_to_close(s, error), NULL);
    }
}

/* An error or hang-up of a socket that does not read. */
static void failed_unread(struct us_socket_t *s, int error) {
    struct us_loop_t *loop = s->context->loop;
    int ended = s->p.flags & (SOCKET_ENDED | SOCKET_SEND_FAILED);
    if (ended || error & POLL_ERROR || !bsd_has_data(loop->sys, s->p.fd)) us_socket_close(0, s, reason_to_close(s, error), NULL);
    else us_internal_poll_stop(loop, &s->p);
}

/* What stood before our FIN has left. */
static void send_due_fin(struct us_socket_t *s) {
    bsd_shutdown_write(s->context->loop->sys, s->p.fd);
    if (s->p.flags & SOCKET_ENDED) us_socket_close(0, s, 0, NULL);
}

/* Returns the socket to go on with, or NULL. */
static struct us_socket_t *write_ready(struct us_socket_t *s) {
    clear_flag(s, SOCKET_WANTS_WRITE);
    int ready = !s->tls || us_internal_tls_drain(s);
    if (ready && s->p.flags & SOCKET_SHUT_DOWN) send_due_fin(s);
    else if (ready && s->context->on_writable) s = s->context->on_writable(s);
    if (!s || is_dead(s)) return NULL;
    /* Only now, so that a callback that fills the kernel again costs nothing. */
    if (!(s->p.flags & (SOCKET_WANTS_WRITE | SOCKET_SEND_FAILED))) change_polling(s, s->p.events & ~LIBUS_SOCKET_WRITABLE);
    return s;
}

void us_internal_socket_ready(struct us_socket_t *s, int error, int events) {
    if (s->p.flags & SOCKET_CONNECTING) {
        if (error || events) us_internal_connecting_ready(s, error);
        return;
    }
    if (s->p.flags & SOCKET_SEND_FAILED) error |= POLL_ERROR;
    if (events & LIBUS_SOCKET_WRITABLE && !error) {
        s = write_ready(s);
        if (!s) return;
    }
    int reads = s->p.events & LIBUS_SOCKET_READABLE;
    if (reads && (error || events & LIBUS_SOCKET_READABLE)) read_ready(s, error);
    else if (error) failed_unread(s, error);
}

/* ---- Writing ------------------------------------------------------------- */

static int can_send(const struct us_socket_t *s) {
    return !(s->p.flags & (POLL_DEAD | SOCKET_SHUT_DOWN | SOCKET_SEND_FAILED | SOCKET_CONNECTING));
}

/* Without the timer nobody would try again: better to spin. */
static void send_later(struct us_socket_t *s) {
    set_flag(s, SOCKET_WANTS_WRITE);
    if (us_internal_retry_later(s->context->loop)) {
        change_polling(s, s->p.events | LIBUS_SOCKET_WRITABLE);
    } else {
        set_flag(s, SOCKET_SEND_LATER);
        change_polling(s, s->p.events & ~LIBUS_SOCKET_WRITABLE);
    }
}

void us_internal_socket_retry(struct us_socket_t *s) {
    if (!(s->p.flags & SOCKET_SEND_LATER)) return;
    clear_flag(s, SOCKET_SEND_LATER);
    change_polling(s, s->p.events | LIBUS_SOCKET_WRITABLE);
}

/* Books the result of a send of `length` bytes; returns the bytes accepted. */
static int sent(struct us_socket_t *s, ssize_t length, ssize_t result) {
    if (result == length) {
        s->context->loop->sends++;
        return (int) result;
    }
    if (result > 0) {
        s->context->loop->sends++;
        set_flag(s, SOCKET_WANTS_WRITE);
    } else if (result < 0 && (errno == ENOBUFS || errno == ENOMEM)) {
        send_later(s);
        return 0;
    } else if (result == 0 || errno == EAGAIN || errno == EWOULDBLOCK) {
        result = 0;
        set_flag(s, SOCKET_WANTS_WRITE);
    } else {
        result = 0;
        s->last_error = (uint16_t) errno;
        set_flag(s, SOCKET_SEND_FAILED);
    }
    change_polling(s, s->p.events | LIBUS_SOCKET_WRITABLE);
    return (int) result;
}

int us_internal_socket_send(struct us_socket_t *s, const char *data, int length, int msg_more) {
    if (s->p.flags & (POLL_DEAD | SOCKET_SEND_FAILED)) return 0;
    return sent(s, length, bsd_send(s->context->loop->sys, s->p.fd, data, (size_t) length, msg_more));
}

void us_internal_socket_send_failed(struct us_socket_t *s, int error) {
    s->last_error = (uint16_t) error;
    set_flag(s, SOCKET_SEND_FAILED);
    change_polling(s, s->p.events | LIBUS_SOCKET_WRITABLE);
}

int us_socket_write(int ssl, struct us_socket_t *s, const char *data, int length, int msg_more) {
    (void) ssl;
    if (length <= 0 || !can_send(s)) return 0;
    if (s->tls) return us_internal_tls_write(s, data, length, NULL, 0, msg_more);
    return sent(s, length, bsd_send(s->context->loop->sys, s->p.fd, data, (size_t) length, msg_more));
}

int us_socket_write2(int ssl, struct us_socket_t *s, const char *header, int header_length, const char *payload, int payload_length) {
    (void) ssl;
    if (header_length < 0 || payload_length < 0 || payload_length > INT32_MAX - header_length) return 0;
    if (header_length + payload_length == 0 || !can_send(s)) return 0;
    if (s->tls) return us_internal_tls_write(s, header, header_length, payload, payload_length, 0);
    return sent(s, header_length + payload_length,
        bsd_send2(s->context->loop->sys, s->p.fd, header, (size_t) header_length, payload, (size_t) payload_length));
}

/* Whether a failed sendfile says nothing about the socket. */
int us_internal_file_failed(int error) {
    return error == EIO || error == EINVAL || error == EBADF || error == EOVERFLOW || error == ESPIPE || error == ENOSYS
        || error == EOPNOTSUPP || error == EACCES || error == ESTALE;
}

int us_socket_sendfile(int ssl, struct us_socket_t *s, int file, int64_t offset, int64_t length) {
    (void) ssl;
    if (length <= 0 || !can_send(s)) return 0;
    size_t now = length < SENDFILE_MOST ? (size_t) length : SENDFILE_MOST;
    if (s->tls) return us_internal_tls_sendfile(s, file, offset, now);
    ssize_t result = bsd_sendfile(s->context->loop->sys, s->p.fd, file, offset, now);
    if (result == 0) errno = ENODATA;
    if (result == 0 || (result < 0 && us_internal_file_failed(errno))) return -1;
    return sent(s, (ssize_t) length, result);
}

void us_socket_flush(int ssl, struct us_socket_t *s) {
    (void) ssl;
    if (can_send(s)) bsd_flush(s->context->loop->sys, s->p.fd);
}

void us_socket_shutdown(int ssl, struct us_socket_t *s) {
    if (s->p.flags & SOCKET_CONNECTING) return;
    (void) ssl;
    if (is_dead(s) || s->p.flags & SOCKET_SHUT_DOWN) return;
    int last = !s->tls || us_internal_tls_shutdown(s);
    set_flag(s, SOCKET_SHUT_DOWN);
    int events = s->p.events;
    if (last) {
        bsd_shutdown_write(s->context->loop->sys, s->p.fd);
        clear_flag(s, SOCKET_SEND_LATER);
    }
    if (last && !(s->p.flags & SOCKET_SEND_FAILED)) events &= ~LIBUS_SOCKET_WRITABLE;
    if (s->p.flags & SOCKET_ENDED) events |= LIBUS_SOCKET_READABLE;
    change_polling(s, events);
}

void us_socket_shutdown_read(int ssl, struct us_socket_t *s) {
    (void) ssl;
    if (!(s->p.flags & (POLL_DEAD | SOCKET_CONNECTING))) bsd_shutdown_read(s->context->loop->sys, s->p.fd);
}

void us_socket_read_enabled(struct us_socket_t *s, int enabled) {
    if (s->p.flags & (POLL_DEAD | SOCKET_ENDED | SOCKET_CONNECTING)) return;
    int events = enabled ? s->p.events | LIBUS_SOCKET_READABLE : s->p.events & ~LIBUS_SOCKET_READABLE;
    if (s->p.flags & POLL_STARTED) change_polling(s, events);
    else if (enabled && us_internal_poll_start(s->context->loop, &s->p, events)) break_socket(s, errno);
}

/* ---- Moving -------------------------------------------------------------- */

static struct us_socket_t *move(struct us_socket_t *s, uint32_t ext_size) {
    struct us_loop_t *loop = s->context->loop;
    struct us_socket_t *to = us_internal_alloc(loop, sizeof *to, ext_size);
    if (!to) return NULL;
    memcpy(to, s, sizeof *to + (s->ext_size < ext_size ? s->ext_size : ext_size));
    to->ext_size = ext_size;
    if (us_internal_poll_move(loop, &to->p)) {
        int error = errno;
        loop->sys->release(loop->sys, to);
        errno = error;
        return NULL;
    }
    return to;
}

struct us_socket_t *us_socket_context_adopt_socket(int ssl, struct us_socket_context_t *context, struct us_socket_t *s, int ext_size) {
    (void) ssl;
    if (is_dead(s)) return s;
    if (s->p.type != POLL_SOCKET || s->p.flags & SOCKET_CONNECTING || context->loop != s->context->loop || ext_size < -1) {
        errno = EINVAL;
        return NULL;
    }
    if (context->dead) {
        errno = ECANCELED;
        return NULL;
    }
    struct us_socket_t *to = s;
    if (ext_size >= 0 && (uint32_t) ext_size != s->ext_size) {
        to = move(s, (uint32_t) ext_size);
        if (!to) return NULL;
    }
    us_internal_context_unlink(s);
    if (to != s) {
        s->p.fd = -1;
        s->tls = NULL; /* it went along */
        us_internal_bury(context->loop, &s->p);
    }
    us_internal_context_link(context, to);
    return to;
}

/* ---- Timeouts ------------------------------------------------------------ */

static uint8_t tick_after(uint8_t now, unsigned int ticks) {
    if (ticks == 0) return TIMEOUT_OFF;
    if (ticks > TIMEOUT_LONGEST) ticks = TIMEOUT_LONGEST;
    return (uint8_t) ((now + ticks) % TIMEOUT_CLOCK);
}

void us_socket_timeout(int ssl, struct us_socket_t *s, unsigned int seconds) {
    (void) ssl;
    unsigned int granules = seconds / LIBUS_TIMEOUT_GRANULARITY + (seconds % LIBUS_TIMEOUT_GRANULARITY != 0);
    s->timeout = tick_after(s->context->loop->tick, granules);
}

void us_socket_long_timeout(int ssl, struct us_socket_t *s, unsigned int minutes) {
    (void) ssl;
    s->long_timeout = tick_after(s->context->loop->long_tick, minutes);
}

void us_internal_socket_sweep(struct us_socket_t *s) {
    struct us_loop_t *loop = s->context->loop;
    if (s->timeout == loop->tick) {
        s->timeout = TIMEOUT_OFF;
        if (s->context->on_timeout) s = s->context->on_timeout(s);
        if (!s || is_dead(s)) return;
    }
    if (s->long_timeout == loop->long_tick) {
        s->long_timeout = TIMEOUT_OFF;
        if (s->context->on_long_timeout) s->context->on_long_timeout(s);
    }
}

/* ---- Questions ----------------------------------------------------------- */

void *us_socket_ext(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s + 1;
}

struct us_socket_context_t *us_socket_context(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s->context;
}

int us_socket_is_shut_down(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return (s->p.flags & SOCKET_SHUT_DOWN) != 0;
}

int us_socket_is_closed(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return is_dead(s);
}

int us_socket_unsent(struct us_socket_t *s) {
    return s->tls && !is_dead(s) ? us_internal_tls_waiting(s) : 0;
}

int us_socket_was_truncated(struct us_socket_t *s) {
    return s->tls ? us_internal_tls_was_truncated(s) : 0;
}

int us_socket_last_error(struct us_socket_t *s) {
    return s->last_error;
}

void *us_socket_get_native_handle(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s->tls ? us_internal_tls_native(s) : (void *) (intptr_t) s->p.fd;
}

char *us_socket_send_buffer(int ssl, struct us_socket_t *s) {
    (void) ssl;
    (void) s;
    return NULL;
}

int us_socket_local_port(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return is_dead(s) ? -1 : bsd_local_port(s->context->loop->sys, s->p.fd);
}

int us_socket_remote_port(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return is_dead(s) ? -1 : bsd_remote_port(s->context->loop->sys, s->p.fd);
}

void us_socket_remote_address(int ssl, struct us_socket_t *s, char *buf, int *length) {
    (void) ssl;
    struct bsd_address address = {.ip_length = 0};
    int known = !is_dead(s) && bsd_remote_address(s->context->loop->sys, s->p.fd, &address) == 0;
    if (!known || address.ip_length > *length) address.ip_length = 0;
    if (address.ip_length) memcpy(buf, address.ip, (size_t) address.ip_length);
    *length = address.ip_length;
}
