/* A server connection: what its socket's events mean, its timers and its end.
 *
 * After the last response, or a refusal, a connection lingers: it says that it
 * will send no more (FIN), and drops what still comes until the client has closed.
 * Closing at once would make the kernel answer those bytes with a reset, which
 * can destroy the response on its way (RFC 9112 S9.6). */
#include <errno.h>
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"
#include "poison.h"
#include "ws_connection.h"

enum {
    LINGER_SECONDS = 8, /* timeouts come up to 4 s early */
    TIMEOUT_MAX = 960, /* of us_socket_timeout */
};

static ck_connection *connection_of(struct us_socket_t *s)
{
    return us_socket_ext(0, s);
}

/* ---- Timers ---- */

static unsigned timer_seconds(const ck_connection *connection, enum ck_timer timer)
{
    const ck_limits *limits = &connection->app->limits;
    switch (timer) {
    case CK_TIMER_IDLE:
        return limits->idle_seconds;
    case CK_TIMER_HEAD:
        return limits->head_seconds;
    case CK_TIMER_BODY:
    case CK_TIMER_SEND:
        return limits->body_seconds;
    case CK_TIMER_HANDLER:
        return limits->handler_seconds;
    case CK_TIMER_LINGER:
        return LINGER_SECONDS;
    case CK_TIMER_WS_IDLE:
    case CK_TIMER_WS_PONG:
    case CK_TIMER_WS_CLOSE:
        return ck_websocket_seconds(connection->websocket, timer);
    case CK_TIMER_NONE:
        break;
    }
    return 0;
}

void ck_connection_timer(ck_connection *connection, enum ck_timer timer)
{
    bool unsent = ck_stream_waits(&connection->stream) || connection->stream.full;
    if (unsent && connection->timer == CK_TIMER_SEND && timer != CK_TIMER_SEND) {
        return; /* its turn comes when all has left; what else arrives wins no time */
    }
    unsigned seconds = timer_seconds(connection, timer);
    connection->timer = (uint8_t) timer;
    connection->progress = 0;
    us_socket_timeout(0, connection->stream.socket, seconds > TIMEOUT_MAX ? TIMEOUT_MAX : seconds);
}

/* What to wait for when nothing is left to send. */
static enum ck_timer timer_of_phase(const ck_connection *connection)
{
    const ck_exchange *exchange = connection->exchange;
    switch ((enum ck_connection_phase) connection->phase) {
    case CK_PHASE_HEAD:
        return exchange ? CK_TIMER_HEAD : CK_TIMER_IDLE;
    case CK_PHASE_WEBSOCKET:
        return connection->websocket->closing ? CK_TIMER_WS_CLOSE : CK_TIMER_WS_IDLE;
    case CK_PHASE_LINGER:
        return CK_TIMER_LINGER;
    case CK_PHASE_BODY:
        if (!exchange || (exchange->body_mode && !connection->user_paused)) {
            return CK_TIMER_BODY;
        }
        break; /* a body that nobody has asked for, or that is paused: not the client's delay */
    case CK_PHASE_WAIT:
        break;
    }
    bool started = exchange && !ck_response_unsent(exchange);
    return started ? CK_TIMER_NONE : CK_TIMER_HANDLER; /* a stream may take its time */
}

void ck_connection_timer_for_phase(ck_connection *connection)
{
    ck_connection_timer(connection, timer_of_phase(connection));
}

/* ---- Ends ---- */

/* Whether the end of the stream now is the end of nothing: TLS then does not say close_notify,
 * so that the client of a body that the close delimits can tell. */
static bool cut_short(const ck_connection *connection)
{
    const ck_exchange *exchange = connection->exchange;
    bool begun = exchange && exchange->phase != CK_RESPONSE_IDLE && exchange->phase != CK_RESPONSE_FINISHED;
    return begun || ck_stream_buffered(&connection->stream) > 0;
}

void ck_connection_close(ck_connection *connection, enum ck_abort_reason reason)
{
    if (!connection->closed) {
        if (connection->websocket && !connection->stream.broken) {
            ck_websocket_pack(connection->websocket);
        }
        ck_stream_flush(&connection->stream, CK_FLUSH_CLOSE);
        connection->reason = (uint8_t) reason;
        us_socket_close(0, connection->stream.socket, cut_short(connection) ? ECONNABORTED : 0, NULL);
    }
}

static void close_broken(ck_connection *connection)
{
    ck_connection_close(connection, connection->stream.unreadable ? CK_ABORT_SERVER : CK_ABORT_CLIENT);
}

/* No more requests; the client learns it when all is sent. */
void ck_connection_linger(ck_connection *connection)
{
    connection->phase = CK_PHASE_LINGER;
    connection->shutdown_due = true;
    connection->lingered = 0;
}

bool ck_connection_close_idle(ck_connection *connection)
{
    if (connection->websocket) {
        ck_websocket_going_away(connection);
        return false;
    }
    /* An incomplete head is nobody's request yet; input that is to be gone through may hold a complete one. */
    bool unseen = connection->cursor || connection->resuming || (connection->input && !connection->exchange);
    bool idle = connection->phase == CK_PHASE_HEAD && !unseen && ck_stream_buffered(&connection->stream) == 0;
    if (idle) {
        ck_connection_close(connection, CK_ABORT_SERVER);
    }
    return idle;
}

/* Answers with an error that the core found; no handler will (or still may). */
void ck_connection_refuse(ck_connection *connection, int status, enum ck_abort_reason reason)
{
    ck_exchange *exchange = connection->exchange;
    bool silent = exchange && exchange->phase != CK_RESPONSE_IDLE && !ck_response_rollback(exchange);
    connection->app->stats.refused++;
    if (!exchange || !exchange->handle) {
        connection->stream.route = &connection->app->unrouted; /* not the route of the request before */
    }
    connection->body_framing = CK_FRAMED_NOT;
    connection->keep_alive = false;
    bool bare = exchange && exchange->head.method == CK_HEAD; /* RFC 9110 S9.3.2 */
    if (silent || ck_refusal_write(&connection->stream, status, bare) != CK_OK) {
        ck_connection_close(connection, reason); /* never a second head inside a response */
        return;
    }
    ck_connection_linger(connection);
    if (exchange && !exchange->handle) {
        ck_exchange_free(exchange);
    } else if (exchange) {
        connection->app->stats.aborted += exchange->kept;
        ck_exchange_abort(exchange, reason);
    }
}

void ck_connection_refuse_body(ck_connection *connection, int status)
{
    ck_exchange *exchange = connection->exchange;
    if (!exchange) { /* the response has left already: nothing more to say */
        connection->body_framing = CK_FRAMED_NOT;
        ck_connection_linger(connection);
        return;
    }
    bool malformed = status == 400 || status == 431;
    exchange->body_error = status == 413 ? CK_BODY_TOO_LARGE : malformed ? CK_BODY_MALFORMED : CK_BODY_INCOMPLETE;
    ck_connection_refuse(connection, status, status == 408 ? CK_ABORT_TIMEOUT : CK_ABORT_BODY);
}

void ck_connection_finished(ck_connection *connection, ck_exchange *exchange)
{
    connection->exchange = NULL;
    connection->last = exchange->handle;
    connection->user_paused = false;
    CK_COUNT(&connection->stream, responses, 1);
    /* A head from before the drain has not announced the close that follows all the same. */
    if (exchange->close || !connection->keep_alive || connection->app->draining) {
        ck_connection_linger(connection);
    } else {
        connection->phase = ck_body_done(connection) ? CK_PHASE_HEAD : CK_PHASE_BODY;
    }
    ck_connection_timer_for_phase(connection);
    /* An end that needed no byte has no flush ahead: a response that the close delimits, or a HEAD's. */
    bool unlooked_after = connection->stream.depth == 0 && !connection->stream.cork;
    if (!connection->cursor && (connection->input || connection->peer_ended || !connection->reading || unlooked_after)) {
        ck_loop_resume_later(connection->stream.loop, connection);
    }
}

void ck_connection_unfinish(ck_connection *connection, ck_exchange *exchange)
{
    connection->exchange = exchange;
    connection->last = 0;
    connection->shutdown_due = false;
    connection->phase = ck_body_done(connection) ? CK_PHASE_WAIT : CK_PHASE_BODY;
    exchange->phase = CK_RESPONSE_IDLE;
    ck_connection_timer_for_phase(connection);
    CK_COUNT(&connection->stream, responses, -1);
}

/* The engine has sent everything that was packed. */
static void sent(ck_stream *stream)
{
    ck_connection *connection = (ck_connection *) stream;
    if (stream->broken) {
        close_broken(connection);
    } else if (ck_stream_waits(stream) || (stream->full && (stream->tls || !connection->shutdown_due))) {
        if (connection->timer != CK_TIMER_SEND) {
            ck_connection_timer(connection, CK_TIMER_SEND);
        }
    } else if (connection->shutdown_due) {
        connection->shutdown_due = false;
        if (connection->peer_ended) {
            ck_connection_close(connection, CK_ABORT_SERVER);
        } else {
            us_socket_shutdown(0, stream->socket);
            ck_connection_timer(connection, CK_TIMER_LINGER);
        }
    } else if (connection->app->draining) {
        (void) ck_connection_close_idle(connection); /* idle only now */
    }
}

static size_t unfinished(const ck_stream *stream)
{
    const ck_exchange *exchange = ((const ck_connection *) stream)->exchange;
    bool whole = exchange && exchange->phase == CK_RESPONSE_HEAD && ck_response_unsent(exchange);
    return whole ? ck_stream_packed(stream) - exchange->mark : 0;
}

static void parked(ck_stream *stream)
{
    ck_exchange *exchange = ((ck_connection *) stream)->exchange;
    exchange->mark = 0;
    exchange->flushes_before = stream->flushes;
}

static void leaving(ck_stream *stream)
{
    const ck_websocket *websocket = ((const ck_connection *) stream)->websocket;
    if (websocket && websocket->subscriber) {
        ck_subscriber_pack(websocket->subscriber, false);
    }
}

static void sent_later(ck_stream *stream)
{
    ck_loop_resume_later(stream->loop, (ck_connection *) stream);
}

static void uncorked(ck_stream *stream)
{
    const ck_app *app = ((const ck_connection *) stream)->app;
    if (app->watched && stream->loop->callbacks.uncorked) {
        stream->loop->callbacks.uncorked(app->handle);
    }
}

static uint32_t handle_of(const ck_stream *stream)
{
    const ck_connection *connection = (const ck_connection *) stream;
    if (connection->websocket) {
        return connection->websocket->handle;
    }
    return connection->exchange ? connection->exchange->handle : connection->last;
}

static const ck_stream_kind kind = {
    .unfinished = unfinished,
    .parked = parked,
    .leaving = leaving,
    .sent = sent,
    .sent_later = sent_later,
    .uncorked = uncorked,
    .handle = handle_of,
};

/* ---- Socket callbacks ---- */

/* Opens a cork; a connection that cannot be corked for want of memory is closed,
 * since the event that wanted it will not come again. */
static bool corked_or_closed(ck_connection *connection)
{
    if (ck_stream_cork(&connection->stream) == 0) {
        return true;
    }
    ck_connection_close(connection, CK_ABORT_SERVER);
    return false;
}

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length)
{
    (void) is_client;
    ck_connection *connection = connection_of(s);
    ck_app *app = *(ck_app **) us_socket_context_ext(0, us_socket_context(0, s));
    memset(connection, 0, sizeof(*connection));
    connection->stream.kind = &kind;
    connection->stream.socket = s;
    connection->stream.loop = app->loop;
    connection->stream.stats = &app->stats;
    connection->stream.route = &app->unrouted;
    connection->opened = app->loop->date_second;
    connection->app = app;
    connection->reading = true;
    connection->stream.tls = connection->tls_due = app->tls;
    connection->proxy_due = ip_length > 0 ? ck_networks_hold(app->proxies, app->proxy_count, ip, (size_t) ip_length)
                                          : app->proxies_unix;
    connection->next = app->first;
    if (app->first) {
        app->first->previous = connection;
    }
    app->first = connection;
    app->stats.connections++;
    app->stats.open++;
    ck_connection_timer(connection, app->tls ? CK_TIMER_HEAD : CK_TIMER_IDLE);
    if (app->draining || (app->limits.connections && app->stats.open > app->limits.connections)) {
        if (corked_or_closed(connection)) {
            ck_connection_refuse(connection, 503, CK_ABORT_SERVER);
            ck_stream_uncork(&connection->stream);
        }
    }
    return s;
}

static struct us_socket_t *on_data(struct us_socket_t *s, char *data, int length)
{
    connection_of(s)->tls_due = false;
    ck_connection_go_through(connection_of(s), data, (size_t) length);
    ck_poison(data, (size_t) length);
    return s;
}

static struct us_socket_t *on_writable(struct us_socket_t *s)
{
    ck_connection *connection = connection_of(s);
    ck_stream *stream = &connection->stream;
    size_t before = ck_stream_buffered(stream);
    stream->full = false;
    bool drained = ck_stream_drain(stream);
    size_t after = ck_stream_buffered(stream);
    connection->progress += before > after ? before - after : 0;
    if (stream->broken) {
        close_broken(connection);
        return s;
    }
    if (!drained) {
        return s;
    }
    if (connection->timer == CK_TIMER_SEND) {
        ck_connection_timer_for_phase(connection);
    }
    ck_exchange *exchange = connection->exchange;
    if (connection->websocket) {
        if (corked_or_closed(connection)) {
            ck_websocket_drained(connection);
            ck_stream_uncork(stream);
        }
    } else if (exchange && exchange->want_writable) {
        exchange->want_writable = false;
        if (corked_or_closed(connection)) {
            ck_follow_writable(exchange);
            ck_stream_uncork(stream);
        }
    } else {
        sent(stream);
        if (!connection->closed && (connection->input || !connection->reading)) {
            ck_loop_resume_later(stream->loop, connection); /* requests that have waited for this */
        }
    }
    return s;
}

/* Returns true when the client keeps the least rate, and gives it another period. */
static bool rate_held(ck_connection *connection)
{
    const ck_limits *limits = &connection->app->limits;
    uint64_t least = (uint64_t) limits->rate * timer_seconds(connection, (enum ck_timer) connection->timer);
    if (connection->progress && connection->progress >= least) {
        ck_connection_timer(connection, (enum ck_timer) connection->timer);
        return true;
    }
    return false;
}

static void timed_out(ck_connection *connection)
{
    switch ((enum ck_timer) connection->timer) {
    case CK_TIMER_NONE:
        return;
    case CK_TIMER_BODY:
        if (rate_held(connection)) {
            return;
        }
        connection->app->stats.timeouts++;
        if (connection->exchange) {
            ck_connection_refuse_body(connection, 408);
        } else {
            ck_connection_close(connection, CK_ABORT_TIMEOUT);
        }
        return;
    case CK_TIMER_HEAD:
        connection->app->stats.timeouts++;
        if (connection->tls_due || connection->proxy_due) { /* whoever is slow here does not speak HTTP yet */
            ck_connection_close(connection, CK_ABORT_TIMEOUT);
            return;
        }
        ck_connection_refuse(connection, 408, CK_ABORT_TIMEOUT);
        return;
    case CK_TIMER_HANDLER:
        if (connection->exchange && !ck_response_unsent(connection->exchange)) {
            ck_connection_timer_for_phase(connection); /* the response has started since */
            return;
        }
        connection->app->stats.timeouts++;
        ck_connection_refuse(connection, 503, CK_ABORT_TIMEOUT);
        return;
    case CK_TIMER_SEND:
        if (rate_held(connection)) {
            return;
        }
        connection->app->stats.timeouts++;
        ck_connection_close(connection, CK_ABORT_TIMEOUT);
        return;
    case CK_TIMER_IDLE:
    case CK_TIMER_LINGER:
        ck_connection_close(connection, CK_ABORT_TIMEOUT);
        return;
    case CK_TIMER_WS_IDLE:
    case CK_TIMER_WS_PONG:
    case CK_TIMER_WS_CLOSE:
        ck_websocket_timed_out(connection, (enum ck_timer) connection->timer);
        return;
    }
}

static struct us_socket_t *on_timeout(struct us_socket_t *s)
{
    ck_connection *connection = connection_of(s);
    if (corked_or_closed(connection)) {
        timed_out(connection);
        ck_stream_uncork(&connection->stream);
    }
    return s;
}

static struct us_socket_t *on_long_timeout(struct us_socket_t *s)
{
    ck_connection *connection = connection_of(s);
    if (connection->websocket && corked_or_closed(connection)) {
        ck_websocket_aged(connection);
        ck_stream_uncork(&connection->stream);
    }
    return s;
}

static struct us_socket_t *on_end(struct us_socket_t *s)
{
    ck_connection *connection = connection_of(s);
    connection->peer_ended = true;
    if (connection->phase == CK_PHASE_LINGER && !connection->shutdown_due) {
        ck_connection_close(connection, CK_ABORT_CLIENT);
    } else {
        ck_connection_go_through(connection, NULL, 0);
    }
    return s;
}

static struct us_socket_t *on_close(struct us_socket_t *s, int code, void *reason)
{
    (void) code;
    (void) reason;
    ck_connection *connection = connection_of(s);
    ck_app *app = connection->app;
    connection->closed = true;
    for (ck_exchange *exchange = connection->attached; exchange; exchange = exchange->next) {
        ck_tls_facts_keep(exchange);
    }
    ck_stream_detach(&connection->stream);
    ck_loop_resume_cancel(app->loop, connection);
    if (connection->next) {
        connection->next->previous = connection->previous;
    }
    if (connection->previous) {
        connection->previous->next = connection->next;
    } else {
        app->first = connection->next;
    }
    app->stats.open--;
    app->stats.aborted += connection->exchange && connection->exchange->handle;
    if (connection->websocket) {
        ck_websocket_over(connection, CK_WS_ABNORMAL, "", 0);
    }
    while (connection->attached) {
        ck_exchange *exchange = connection->attached;
        if (exchange->handle) {
            ck_exchange_abort(exchange, (enum ck_abort_reason) connection->reason);
        } else {
            ck_exchange_free(exchange);
        }
    }
    if (!connection->cursor) { /* else whoever goes through it drops it */
        ck_connection_drop_input(connection);
    }
    return s;
}

void ck_connection_callbacks(struct us_socket_context_t *context)
{
    us_socket_context_on_open(0, context, on_open);
    us_socket_context_on_data(0, context, on_data);
    us_socket_context_on_writable(0, context, on_writable);
    us_socket_context_on_timeout(0, context, on_timeout);
    us_socket_context_on_long_timeout(0, context, on_long_timeout);
    us_socket_context_on_end(0, context, on_end);
    us_socket_context_on_close(0, context, on_close);
}
