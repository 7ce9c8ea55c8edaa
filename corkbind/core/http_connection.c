/* A server connection: the order in which a client's bytes become requests.
 *
 * Theory of operation. Received bytes are gone through with a cursor. In the head
 * phase they are parsed into a new exchange, which is routed and handed to its
 * callback; its body follows (body phase), and until the response has ended the
 * rest waits (wait phase): one exchange at a time, so answers keep the order of
 * the requests whatever the handlers do. What cannot be gone through now is kept
 * in `input`, and the socket is not read beyond what the limits allow.
 *
 * A whole read runs inside one cork: all the answers to it leave in one send.
 *
 * After the last response, or a refusal, the connection lingers: it says that it
 * will send no more (FIN), and drops what still comes until the client has closed.
 * Closing at once would make the kernel answer those bytes with a reset, which
 * can destroy the response on its way (RFC 9112 S9.6). */
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"
#include "python.h"

enum {
    LINGER_SECONDS = 4,
    LINGER_BYTES = 65536,
    TIMEOUT_MAX = 960, /* of us_socket_timeout */
    SLOW_NS = 1000000, /* a response does not wait longer than this for others of its read */
};

static ck_connection *connection_of(struct us_socket_t *s)
{
    return us_socket_ext(0, s);
}

/* ---- Timers ---- */

static unsigned timer_seconds(const ck_limits *limits, enum ck_timer timer)
{
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
    case CK_TIMER_NONE:
        break;
    }
    return 0;
}

void ck_connection_timer(ck_connection *connection, enum ck_timer timer)
{
    unsigned seconds = timer_seconds(&connection->app->limits, timer);
    connection->timer = (uint8_t) timer;
    connection->progress = 0;
    us_socket_timeout(0, connection->stream.socket, seconds > TIMEOUT_MAX ? TIMEOUT_MAX : seconds);
}

/* What to wait for when nothing is left to send. */
static void timer_for_phase(ck_connection *connection)
{
    if (connection->phase == CK_PHASE_HEAD) {
        ck_connection_timer(connection, connection->exchange ? CK_TIMER_HEAD : CK_TIMER_IDLE);
    } else if (connection->phase == CK_PHASE_LINGER) {
        ck_connection_timer(connection, CK_TIMER_LINGER);
    } else if (connection->exchange && connection->exchange->phase != CK_RESPONSE_IDLE) {
        ck_connection_timer(connection, CK_TIMER_NONE); /* a stream may take its time */
    } else {
        ck_connection_timer(connection, connection->phase == CK_PHASE_BODY ? CK_TIMER_BODY : CK_TIMER_HANDLER);
    }
}

/* ---- Ends ---- */

void ck_connection_close(ck_connection *connection, enum ck_abort_reason reason)
{
    if (!connection->closed) {
        ck_stream_flush(&connection->stream, CK_FLUSH_CLOSE);
        connection->reason = (uint8_t) reason;
        us_socket_close(0, connection->stream.socket, 0, NULL);
    }
}

/* No more requests; the client learns it when all is sent. */
static void begin_linger(ck_connection *connection)
{
    connection->phase = CK_PHASE_LINGER;
    connection->shutdown_due = true;
    connection->lingered = 0;
}

bool ck_connection_close_idle(ck_connection *connection)
{
    bool idle = connection->phase == CK_PHASE_HEAD && !connection->exchange && !connection->input
        && !connection->cursor && ck_stream_buffered(&connection->stream) == 0;
    if (idle) {
        ck_connection_close(connection, CK_ABORT_SERVER);
    }
    return idle;
}

/* Answers with an error that the core found; no handler will (or still may). */
static void refuse(ck_connection *connection, int status, enum ck_abort_reason reason)
{
    ck_exchange *exchange = connection->exchange;
    bool silent = exchange && exchange->phase != CK_RESPONSE_IDLE;
    connection->app->stats.refused++;
    connection->body_framing = CK_FRAMED_NOT;
    connection->keep_alive = false;
    if (silent || ck_refusal_write(&connection->stream, status) != CK_OK) {
        ck_connection_close(connection, reason); /* never a second head inside a response */
        return;
    }
    begin_linger(connection);
    if (exchange && !exchange->handle) {
        ck_exchange_free(exchange);
    } else if (exchange) {
        connection->app->stats.aborted += exchange->kept;
        ck_exchange_abort(exchange, reason);
    }
}

static void refuse_body(ck_connection *connection, int status)
{
    ck_exchange *exchange = connection->exchange;
    if (exchange && exchange->body_state == CK_BODY_PENDING) {
        exchange->body_state = CK_BODY_FAILED;
        exchange->body_error = status == 413 ? CK_BODY_TOO_LARGE : CK_BODY_MALFORMED;
    }
    uint32_t handle = exchange && exchange->kept && exchange->body_mode ? exchange->handle : 0;
    enum ck_body_event event = exchange ? (enum ck_body_event) exchange->body_error : CK_BODY_MALFORMED;
    ck_loop *loop = connection->stream.loop;
    if (!exchange) { /* the response has left already: nothing more to say */
        connection->body_framing = CK_FRAMED_NOT;
        begin_linger(connection);
        return;
    }
    refuse(connection, status, CK_ABORT_BODY);
    if (handle) {
        loop->callbacks.body(handle, (int) event);
    }
}

void ck_connection_finished(ck_connection *connection, ck_exchange *exchange)
{
    connection->exchange = NULL;
    connection->last = exchange->handle;
    connection->app->stats.responses++;
    if (exchange->close || !connection->keep_alive) {
        begin_linger(connection);
    } else if (ck_body_done(connection)) {
        connection->phase = CK_PHASE_HEAD;
        ck_connection_timer(connection, CK_TIMER_IDLE);
    } else {
        connection->phase = CK_PHASE_BODY;
        ck_connection_timer(connection, CK_TIMER_BODY);
    }
    if (!connection->cursor && (connection->input || connection->peer_ended || !connection->reading)) {
        ck_loop_resume_later(connection->stream.loop, connection);
    }
}

void ck_connection_unfinish(ck_connection *connection, ck_exchange *exchange)
{
    connection->exchange = exchange;
    connection->last = 0;
    connection->shutdown_due = false;
    connection->phase = ck_body_done(connection) ? CK_PHASE_WAIT : CK_PHASE_BODY;
    connection->app->stats.responses--;
}

/* The engine has sent everything that was packed. */
void ck_stream_sent(ck_stream *stream)
{
    ck_connection *connection = (ck_connection *) stream;
    if (stream->broken) {
        ck_connection_close(connection, CK_ABORT_CLIENT);
    } else if (stream->backlog) {
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
    }
}

/* ---- Dispatch ---- */

static void answer_unrouted(ck_exchange *exchange, int found)
{
    if (exchange->head.method == CK_METHOD_OTHER || (exchange->head.method == CK_CONNECT && found == CK_ROUTE_NONE)) {
        ck_response_simple(exchange, 501, "", exchange->head.method == CK_CONNECT);
    } else if (found == CK_ROUTE_WRONG_METHOD) {
        char allow[128];
        ck_allow_field(allow, exchange->match.allowed);
        ck_response_simple(exchange, 405, allow, exchange->head.method == CK_CONNECT);
    } else {
        ck_response_simple(exchange, 404, "", false);
    }
}

/* Returns false when the body is larger than the route takes. */
static bool fits(const ck_app *app, ck_exchange *exchange, const ck_route *route)
{
    exchange->body_limit = route && route->body_limit >= 0 ? (uint64_t) route->body_limit : app->limits.body;
    return exchange->head.content_length <= 0 || (uint64_t) exchange->head.content_length <= exchange->body_limit;
}

/* Tries the routes, best first, until one does not yield. */
static void run_routes(ck_connection *connection, ck_exchange *exchange)
{
    ck_app *app = connection->app;
    const ck_head *head = &exchange->head;
    const char *path = head->path.length ? exchange->data + head->path.offset : "/";
    size_t path_length = head->path.length ? head->path.length : 1;
    for (int nth = 0;; nth++) {
        exchange->yield = false;
        int found = ck_router_find(app->router, head->method, path, path_length, nth, &exchange->match);
        const ck_route *route = found == 0 ? &app->routes[exchange->match.route] : NULL;
        if (!fits(app, exchange, route)) {
            refuse(connection, 413, CK_ABORT_BODY);
            return;
        }
        if (!route) {
            answer_unrouted(exchange, found);
            return;
        }
        if (route->fixed) {
            ck_response_fixed(exchange, route->fixed);
            return;
        }
        exchange->in_callback = true;
        app->loop->callbacks.request(route->number, exchange->handle);
        exchange->in_callback = false;
        bool yielded = exchange->yield && exchange->phase == CK_RESPONSE_IDLE && !exchange->kept;
        if (!yielded) {
            return;
        }
    }
}

/* The callback has returned: what is not kept is over. */
static void settle(ck_connection *connection, ck_exchange *exchange)
{
    if (exchange->kept && exchange->phase < CK_RESPONSE_FINISHED) {
        if (connection->phase == CK_PHASE_WAIT && exchange->phase == CK_RESPONSE_IDLE) {
            ck_connection_timer(connection, CK_TIMER_HANDLER);
        } else {
            timer_for_phase(connection);
        }
        return;
    }
    if (exchange->kept) {
        return;
    }
    if (exchange->phase < CK_RESPONSE_FINISHED) {
        ck_response_unanswered(exchange);
    }
    ck_exchange_free(exchange);
}

static void dispatch(ck_connection *connection, ck_exchange *exchange, char *data)
{
    exchange->data = data;
    connection->last = 0;
    connection->keep_alive = exchange->head.keep_alive && !connection->app->draining;
    if (ck_exchange_register(exchange) != CK_OK) {
        refuse(connection, 503, CK_ABORT_SERVER);
        return;
    }
    uint32_t handle = exchange->handle;
    connection->app->stats.requests++;
    ck_body_begin(connection, exchange);
    connection->phase = ck_body_done(connection) ? CK_PHASE_WAIT : CK_PHASE_BODY;
    if (exchange->head.asterisk) {
        exchange->body_limit = connection->app->limits.body;
        ck_response_simple(exchange, 204, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n", false);
    } else {
        run_routes(connection, exchange);
    }
    /* A refusal has ended an exchange that nobody kept. */
    if (ck_handle_get(&connection->stream.loop->handles, handle, CK_KIND_EXCHANGE) == exchange) {
        settle(connection, exchange);
    }
    if (connection->refusal && !connection->closed) {
        int status = connection->refusal;
        connection->refusal = 0;
        refuse_body(connection, status);
    }
}

/* ---- Going through input ---- */

/* Returns true when a request was taken, or refused. */
static bool take_head(ck_connection *connection, ck_cursor *cursor)
{
    if (cursor->length == 0) {
        return false;
    }
    if (!connection->exchange && !(connection->exchange = ck_exchange_new(connection))) {
        refuse(connection, 503, CK_ABORT_SERVER);
        return true;
    }
    ck_exchange *exchange = connection->exchange;
    const ck_limits *limits = &connection->app->limits;
    const ck_head_limits head_limits = {limits->line, limits->head, limits->field, limits->fields};
    int result = ck_head_parse(&exchange->head, cursor->data, cursor->length, &head_limits);
    if (result == CK_HEAD_MORE) {
        if (connection->timer != CK_TIMER_HEAD) { /* absolute: later bytes do not win time */
            ck_connection_timer(connection, CK_TIMER_HEAD);
        }
        return false;
    }
    if (result < 0) {
        refuse(connection, -result, CK_ABORT_SERVER);
        return true;
    }
    char *data = cursor->data;
    cursor->data += exchange->head.length;
    cursor->length -= exchange->head.length;
    dispatch(connection, exchange, data);
    return true;
}

static bool take_body(ck_connection *connection, ck_cursor *cursor)
{
    const ck_exchange *exchange = connection->exchange;
    bool nobody_asked = exchange && !exchange->body_mode;
    bool held_back = exchange && exchange->body_mode == CK_BODY_STREAM && connection->user_paused;
    if (cursor->length == 0 || nobody_asked || held_back) {
        return false;
    }
    int result = ck_body_take(connection, cursor);
    if (result < 0 && !connection->closed) {
        refuse_body(connection, -result);
    }
    return true;
}

static int64_t now(const ck_connection *connection)
{
    struct us_sys_t *sys = connection->stream.loop->sys;
    return sys->monotonic_ns(sys);
}

static void consume(ck_connection *connection, ck_cursor *cursor)
{
    int64_t since = 0; /* first packed byte of a read that holds several requests */
    bool more = true;
    while (more && !connection->closed) {
        switch ((enum ck_connection_phase) connection->phase) {
        case CK_PHASE_HEAD:
            if (since && ck_stream_packed(&connection->stream) && now(connection) - since > SLOW_NS) {
                ck_stream_flush(&connection->stream, CK_FLUSH_SLOW);
                since = 0;
            }
            more = take_head(connection, cursor);
            if (cursor->length && !since) {
                since = now(connection);
            }
            break;
        case CK_PHASE_BODY:
            more = take_body(connection, cursor);
            break;
        case CK_PHASE_WAIT:
            more = false;
            break;
        case CK_PHASE_LINGER:
            connection->lingered += (uint32_t) cursor->length;
            cursor->data += cursor->length;
            cursor->length = 0;
            more = false;
            break;
        }
    }
}

/* ---- Input that has to wait ---- */

static bool input_append(ck_connection *connection, const char *data, size_t length)
{
    ck_loop *loop = connection->stream.loop;
    ck_input *input = connection->input;
    size_t have = input ? input->length : 0;
    if (!input || input->capacity - have < length) {
        size_t capacity = have + length + have / 2;
        input = ck_resize(loop, input, sizeof(*input) + capacity);
        if (!input) {
            return false;
        }
        input->capacity = capacity;
        input->length = have;
        connection->input = input;
    }
    memcpy(input->data + have, data, length);
    input->length += length;
    return true;
}

static void input_drop(ck_connection *connection)
{
    ck_free(connection->stream.loop, connection->input);
    connection->input = NULL;
}

/* Keeps what the cursor has not passed. */
static void keep_rest(ck_connection *connection, const ck_cursor *cursor, bool from_input)
{
    if (cursor->length == 0 || connection->closed) {
        input_drop(connection);
    } else if (from_input) {
        memmove(connection->input->data, cursor->data, cursor->length);
        connection->input->length = cursor->length;
    } else if (!input_append(connection, cursor->data, cursor->length)) {
        ck_connection_close(connection, CK_ABORT_SERVER);
    }
}

void ck_connection_update_reading(ck_connection *connection)
{
    if (connection->closed) {
        return;
    }
    size_t held = connection->input ? connection->input->length : 0;
    size_t limit = SIZE_MAX;
    if (connection->phase == CK_PHASE_WAIT) {
        limit = connection->app->limits.pipeline;
    } else if (connection->phase == CK_PHASE_BODY) {
        limit = connection->app->limits.window;
    }
    bool reading = held <= limit && !connection->user_paused && !connection->peer_ended;
    if (reading != connection->reading) {
        connection->reading = reading;
        us_socket_read_enabled(connection->stream.socket, reading);
    }
}

/* The client has said that it sends no more. What it still waits for it gets. */
static void after_peer_end(ck_connection *connection)
{
    if (connection->closed || !connection->peer_ended) {
        return;
    }
    switch ((enum ck_connection_phase) connection->phase) {
    case CK_PHASE_HEAD:
        begin_linger(connection); /* an incomplete head gets no answer */
        break;
    case CK_PHASE_BODY:
        if (connection->exchange && !connection->exchange->body_mode && connection->input) {
            break; /* bytes nobody has asked for yet: they decide when somebody does */
        }
        ck_body_fail(connection, CK_BODY_INCOMPLETE);
        if (!connection->closed && connection->phase == CK_PHASE_HEAD) {
            begin_linger(connection);
        }
        break;
    case CK_PHASE_WAIT:
    case CK_PHASE_LINGER:
        break;
    }
}

/* A stream of no body has one part: the empty, last one. */
static void deliver_empty(ck_connection *connection)
{
    ck_exchange *exchange = connection->exchange;
    if (exchange && exchange->want_empty) {
        exchange->want_empty = false;
        ck_python_data(exchange, "", 0, true);
    }
}

static void go_through(ck_connection *connection, char *data, size_t length)
{
    if (ck_stream_cork(&connection->stream) != 0
        || (connection->input && length && !input_append(connection, data, length))) {
        ck_connection_close(connection, CK_ABORT_SERVER);
        return;
    }
    bool from_input = connection->input != NULL;
    ck_cursor cursor = {data, length};
    if (from_input) {
        cursor = (ck_cursor) {connection->input->data, connection->input->length};
    }
    connection->cursor = &cursor;
    deliver_empty(connection);
    consume(connection, &cursor);
    connection->cursor = NULL;
    keep_rest(connection, &cursor, from_input);
    after_peer_end(connection);
    if (connection->phase == CK_PHASE_LINGER && connection->lingered > LINGER_BYTES) {
        ck_connection_close(connection, CK_ABORT_SERVER);
    }
    ck_stream_uncork(&connection->stream);
    ck_connection_update_reading(connection);
}

void ck_connection_resume(ck_connection *connection)
{
    go_through(connection, NULL, 0);
}

/* ---- Socket callbacks ---- */

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length)
{
    (void) is_client;
    (void) ip;
    (void) ip_length;
    ck_connection *connection = connection_of(s);
    ck_app *app = *(ck_app **) us_socket_context_ext(0, us_socket_context(0, s));
    memset(connection, 0, sizeof(*connection));
    connection->stream.socket = s;
    connection->stream.loop = app->loop;
    connection->stream.stats = &app->stats;
    connection->app = app;
    connection->reading = true;
    connection->next = app->first;
    if (app->first) {
        app->first->previous = connection;
    }
    app->first = connection;
    app->stats.connections++;
    app->stats.open++;
    ck_connection_timer(connection, CK_TIMER_IDLE);
    if (app->draining || (app->limits.connections && app->stats.open > app->limits.connections)) {
        if (ck_stream_cork(&connection->stream) == 0) {
            refuse(connection, 503, CK_ABORT_SERVER);
            ck_stream_uncork(&connection->stream);
        }
    }
    return s;
}

static struct us_socket_t *on_data(struct us_socket_t *s, char *data, int length)
{
    go_through(connection_of(s), data, (size_t) length);
    return s;
}

static struct us_socket_t *on_writable(struct us_socket_t *s)
{
    ck_connection *connection = connection_of(s);
    ck_stream *stream = &connection->stream;
    size_t before = ck_stream_buffered(stream);
    bool drained = ck_stream_drain(stream);
    size_t after = ck_stream_buffered(stream);
    connection->progress += before > after ? before - after : 0;
    if (stream->broken) {
        ck_connection_close(connection, CK_ABORT_CLIENT);
        return s;
    }
    if (!drained) {
        return s;
    }
    if (connection->timer == CK_TIMER_SEND) {
        timer_for_phase(connection);
    }
    ck_exchange *exchange = connection->exchange;
    if (exchange && exchange->want_writable) {
        exchange->want_writable = false;
        if (ck_stream_cork(stream) == 0) {
            stream->loop->callbacks.writable(exchange->handle);
            ck_stream_uncork(stream);
        }
    } else {
        ck_stream_sent(stream);
    }
    return s;
}

/* Returns true when the client keeps the least rate, and gives it another period. */
static bool rate_held(ck_connection *connection)
{
    const ck_limits *limits = &connection->app->limits;
    uint64_t least = (uint64_t) limits->rate * timer_seconds(limits, (enum ck_timer) connection->timer);
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
            refuse_body(connection, 408);
        } else {
            ck_connection_close(connection, CK_ABORT_TIMEOUT);
        }
        return;
    case CK_TIMER_HEAD:
        connection->app->stats.timeouts++;
        refuse(connection, 408, CK_ABORT_TIMEOUT);
        return;
    case CK_TIMER_HANDLER:
        connection->app->stats.timeouts++;
        refuse(connection, 503, CK_ABORT_TIMEOUT);
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
    }
}

static struct us_socket_t *on_timeout(struct us_socket_t *s)
{
    ck_connection *connection = connection_of(s);
    if (ck_stream_cork(&connection->stream) == 0) {
        timed_out(connection);
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
        go_through(connection, NULL, 0);
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
    while (connection->attached) {
        ck_exchange *exchange = connection->attached;
        if (exchange->handle) {
            ck_exchange_abort(exchange, (enum ck_abort_reason) connection->reason);
        } else {
            ck_exchange_free(exchange);
        }
    }
    if (!connection->cursor) { /* else whoever goes through it drops it */
        input_drop(connection);
    }
    return s;
}

void ck_connection_callbacks(struct us_socket_context_t *context)
{
    us_socket_context_on_open(0, context, on_open);
    us_socket_context_on_data(0, context, on_data);
    us_socket_context_on_writable(0, context, on_writable);
    us_socket_context_on_timeout(0, context, on_timeout);
    us_socket_context_on_long_timeout(0, context, on_timeout);
    us_socket_context_on_end(0, context, on_end);
    us_socket_context_on_close(0, context, on_close);
}
