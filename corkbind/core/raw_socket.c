/* A raw socket: what its events mean, and its end.
 *
 * Every socket that the application has the handle of ends in exactly one callback:
 * CK_SOCKET_CLOSED when it has been told that it is open, CK_SOCKET_CONNECT_ERROR when
 * not. The handle is stale by then. Callbacks run corked, but for these two, which have
 * nothing to write to.
 *
 * With TLS a socket is open when the handshake is over; of one that was let in nothing is
 * told before. Bytes written until then wait in the backlog. */
#include <errno.h>
#include <string.h>

#include "poison.h"
#include "python.h"
#include "raw.h"

enum { HANDSHAKE_SECONDS = 12 }; /* for a client that was let in; timeouts come up to 4 s early */

static ck_socket *socket_of(struct us_socket_t *s)
{
    return us_socket_ext(0, s);
}

/* ---- To the application ---- */

bool ck_socket_tell(ck_loop *loop, uint32_t handle, int event, const char *data, size_t length, int number)
{
    const ck_python *py = ck_python_bound();
    void *payload = data ? py->bytes_new(data, (ptrdiff_t) length) : py->none;
    if (!payload) {
        ck_python_forget_error();
        return false;
    }
    loop->telling++;
    ck_python_socket(loop, handle, event, payload, number);
    loop->telling--;
    if (data) {
        py->decref(payload);
    }
    return true;
}

/* A socket of which something cannot be told is closed, since that will not happen again. If
 * it was that it is open, it never was. */
static void untold(ck_socket *socket, int event)
{
    if (event == CK_SOCKET_ACCEPTED || event == CK_SOCKET_CONNECTED) {
        socket->phase = CK_SOCKET_OPENING;
        socket->told = event == CK_SOCKET_CONNECTED;
        socket->context->stats.open--;
    }
    ck_socket_close_now(socket, ENOMEM);
}

static void tell_corked(ck_socket *socket, int event, const char *data, size_t length, int number)
{
    if (ck_stream_cork(&socket->stream) != 0) {
        untold(socket, event);
        return;
    }
    if (!ck_socket_tell(socket->context->loop, socket->handle, event, data, length, number)) {
        untold(socket, event);
    }
    ck_stream_uncork(&socket->stream);
}

/* ---- The writing side ---- */

/* Records that are encrypted and not taken count as well. */
static bool waits(const ck_socket *socket)
{
    const ck_stream *stream = &socket->stream;
    return ck_stream_waits(stream) || (stream->tls && us_socket_unsent(stream->socket) > 0);
}

/* Where the loop has seen the send fail it closes the socket itself, when what the peer had
 * sent is read. */
static void sent(ck_stream *stream)
{
    ck_socket *socket = (ck_socket *) stream;
    if (socket->close_due || socket->shutdown_due) { /* a cork may still be open */
        ck_stream_flush(stream, CK_FLUSH_CLOSE);
    }
    if (stream->broken) {
        int error = us_socket_last_error(stream->socket);
        if (!error || socket->close_due) {
            ck_socket_close_now(socket, error ? error : stream->unreadable ? EIO : ENOMEM);
        }
    } else if (socket->phase == CK_SOCKET_OPEN && !waits(socket)) {
        if (socket->close_due) {
            ck_socket_close_now(socket, 0);
        } else if (socket->shutdown_due) {
            socket->shutdown_due = false;
            us_socket_shutdown(0, stream->socket);
        }
    }
}

static void sent_later(ck_stream *stream)
{
    ck_socket *socket = (ck_socket *) stream;
    ck_loop *loop = stream->loop;
    if (socket->later) {
        return;
    }
    socket->later = true;
    socket->later_next = NULL;
    if (loop->later_last) {
        loop->later_last->later_next = socket;
    } else {
        loop->later_first = socket;
    }
    loop->later_last = socket;
    ck_loop_need_step(loop);
}

static void forget_later(ck_socket *socket)
{
    ck_loop *loop = socket->stream.loop;
    if (!socket->later) {
        return;
    }
    ck_socket *before = NULL;
    for (ck_socket *s = loop->later_first; s != socket; s = s->later_next) {
        before = s;
    }
    if (before) {
        before->later_next = socket->later_next;
    } else {
        loop->later_first = socket->later_next;
    }
    if (loop->later_last == socket) {
        loop->later_last = before;
    }
    socket->later = false;
}

void ck_sockets_look_after(ck_loop *loop)
{
    while (loop->later_first) {
        ck_socket *socket = loop->later_first;
        forget_later(socket);
        sent(&socket->stream);
    }
}

static size_t unfinished(const ck_stream *stream)
{
    (void) stream;
    return 0;
}

static void nothing(ck_stream *stream)
{
    (void) stream;
}

static uint32_t handle_of(const ck_stream *stream)
{
    return ((const ck_socket *) stream)->handle;
}

static const ck_stream_kind kind = {
    .unfinished = unfinished,
    .parked = nothing,
    .leaving = nothing,
    .sent = sent,
    .sent_later = sent_later,
    .uncorked = nothing,
    .handle = handle_of,
};

/* ---- Beginning and end ---- */

uint32_t ck_socket_begin(ck_context *context, struct us_socket_t *us, bool told)
{
    ck_socket *socket = socket_of(us);
    ck_loop *loop = context->loop;
    socket->handle = ck_handle_new(&loop->handles, CK_KIND_SOCKET, socket);
    if (!socket->handle) {
        return 0;
    }
    socket->stream.kind = &kind;
    socket->stream.socket = us;
    socket->stream.loop = loop;
    socket->stream.stats = &context->stats;
    socket->stream.route = &context->counters;
    socket->stream.tls = context->tls;
    socket->context = context;
    socket->told = told;
    socket->next = context->first;
    if (context->first) {
        context->first->previous = socket;
    }
    context->first = socket;
    return socket->handle;
}

/* Everything lets go of it; only its memory is left. Returns the handle that it had. */
static uint32_t let_go(ck_socket *socket)
{
    ck_context *context = socket->context;
    uint32_t handle = socket->handle;
    socket->phase = CK_SOCKET_GONE;
    socket->handle = 0;
    ck_handle_drop(&context->loop->handles, handle);
    forget_later(socket);
    ck_stream_detach(&socket->stream);
    if (socket->next) {
        socket->next->previous = socket->previous;
    }
    if (socket->previous) {
        socket->previous->next = socket->next;
    } else {
        context->first = socket->next;
    }
    return handle;
}

/* Tells of an end; without memory for the reason, without it. */
static void tell_end(ck_loop *loop, uint32_t handle, int event, const char *reason, int code)
{
    if (!reason || !ck_socket_tell(loop, handle, event, reason, strlen(reason), code)) {
        (void) ck_socket_tell(loop, handle, event, NULL, 0, code);
    }
}

static void open_failed(ck_socket *socket, int code)
{
    ck_loop *loop = socket->context->loop;
    uint32_t handle = let_go(socket);
    if (socket->told) {
        tell_end(loop, handle, CK_SOCKET_CONNECT_ERROR, socket->tls_reason, code ? code : ECONNABORTED);
    }
}

void ck_socket_close_now(ck_socket *socket, int code)
{
    if (socket->phase == CK_SOCKET_OPENING && !code) {
        code = ECANCELED;
    }
    if (socket->phase == CK_SOCKET_OPEN) {
        ck_stream_flush(&socket->stream, CK_FLUSH_CLOSE);
    }
    if (socket->phase != CK_SOCKET_GONE) {
        us_socket_close(0, socket->stream.socket, code, NULL);
    }
    if (socket->phase != CK_SOCKET_GONE) { /* one that connects is closed without a callback */
        open_failed(socket, code);
    }
}

/* ---- Socket callbacks ---- */

/* Sends what waits; `tell` = the application is told when all has left. */
static void drain(ck_socket *socket, bool tell)
{
    ck_stream *stream = &socket->stream;
    bool drained = ck_stream_drain(stream);
    if (drained && tell && !waits(socket) && !socket->close_due) {
        tell_corked(socket, CK_SOCKET_DRAIN, NULL, 0, 0);
    } else if (drained || stream->broken) {
        sent(stream);
    }
}

static void opened(ck_socket *socket, const char *ip, int ip_length)
{
    ck_context *context = socket->context;
    socket->phase = CK_SOCKET_OPEN;
    context->stats.connections++;
    context->stats.open++;
    us_socket_timeout(0, socket->stream.socket, 0); /* until here it has been about opening */
    if (socket->paused) {
        us_socket_read_enabled(socket->stream.socket, 0);
    }
    if (!context->adopting) {
        int event = socket->told ? CK_SOCKET_CONNECTED : CK_SOCKET_ACCEPTED;
        socket->told = true;
        tell_corked(socket, event, ip, (size_t) ip_length, (int) context->handle);
    }
    if (socket->phase == CK_SOCKET_OPEN) { /* what was written while it opened leaves now */
        socket->stream.full = false;
        drain(socket, socket->awaited);
    }
}

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length)
{
    ck_context *context = us_socket_context_ext(0, us_socket_context(0, s));
    ck_socket *socket = socket_of(s);
    if (!socket->handle && !ck_socket_begin(context, s, context->adopting)) {
        us_socket_close(0, s, ENOMEM, NULL);
        return s;
    }
    if (!context->tls) {
        opened(socket, ip, ip_length);
    } else if (!is_client) {
        us_socket_timeout(0, s, HANDSHAKE_SECONDS);
    }
    return s;
}

static struct us_socket_t *on_handshake(struct us_socket_t *s)
{
    char ip[16];
    int length = sizeof(ip);
    us_socket_remote_address(0, s, ip, &length);
    opened(socket_of(s), ip, length);
    return s;
}

static struct us_socket_t *on_connect_error(struct us_socket_t *s, int code)
{
    ck_socket *socket = socket_of(s);
    open_failed(socket, code);
    return s;
}

static struct us_socket_t *on_data(struct us_socket_t *s, char *data, int length)
{
    ck_socket *socket = socket_of(s);
    if (socket->phase == CK_SOCKET_OPEN && !socket->close_due) {
        tell_corked(socket, CK_SOCKET_DATA, data, (size_t) length, 0);
    }
    ck_poison(data, (size_t) length);
    return s;
}

static struct us_socket_t *on_writable(struct us_socket_t *s)
{
    ck_socket *socket = socket_of(s);
    if (socket->phase == CK_SOCKET_OPEN) {
        socket->stream.full = false;
        drain(socket, true);
    }
    return s;
}

static struct us_socket_t *on_end(struct us_socket_t *s)
{
    ck_socket *socket = socket_of(s);
    if (socket->phase != CK_SOCKET_OPEN) {
        ck_socket_close_now(socket, ECONNRESET);
    } else if (!socket->close_due) {
        tell_corked(socket, CK_SOCKET_END, NULL, 0, us_socket_was_truncated(s));
    }
    return s;
}

static struct us_socket_t *on_timeout(struct us_socket_t *s)
{
    ck_socket *socket = socket_of(s);
    if (socket->phase == CK_SOCKET_OPENING || socket->close_due) {
        ck_socket_close_now(socket, ETIMEDOUT);
    } else {
        tell_corked(socket, CK_SOCKET_TIMEOUT, NULL, 0, 0);
    }
    return s;
}

static struct us_socket_t *on_long_timeout(struct us_socket_t *s)
{
    ck_socket *socket = socket_of(s);
    if (socket->phase == CK_SOCKET_OPEN && !socket->close_due) {
        tell_corked(socket, CK_SOCKET_LONG_TIMEOUT, NULL, 0, 0);
    }
    return s;
}

static struct us_socket_t *on_close(struct us_socket_t *s, int code, void *reason)
{
    ck_socket *socket = socket_of(s);
    (void) reason;
    if (!socket->handle) { /* there was no memory for one when it came in */
        return s;
    }
    if (socket->phase == CK_SOCKET_OPENING) {
        open_failed(socket, code);
        return s;
    }
    ck_context *context = socket->context;
    context->stats.open--;
    uint32_t handle = let_go(socket);
    tell_end(context->loop, handle, CK_SOCKET_CLOSED, socket->tls_reason, code);
    return s;
}

void ck_socket_callbacks(struct us_socket_context_t *us)
{
    us_socket_context_on_open(0, us, on_open);
    us_socket_context_on_connect_error(0, us, on_connect_error);
    us_socket_context_on_data(0, us, on_data);
    us_socket_context_on_writable(0, us, on_writable);
    us_socket_context_on_end(0, us, on_end);
    us_socket_context_on_timeout(0, us, on_timeout);
    us_socket_context_on_long_timeout(0, us, on_long_timeout);
    us_socket_context_on_close(0, us, on_close);
    us_socket_context_on_handshake(us, on_handshake);
}
