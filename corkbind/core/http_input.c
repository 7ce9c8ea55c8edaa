/* Input: the order in which a client's bytes become requests.
 *
 * Theory of operation. Received bytes are gone through with a cursor. In the head
 * phase they are parsed into a new exchange, which is routed and handed to its
 * callback; its body follows (body phase), and until the response has ended the
 * rest waits (wait phase): one exchange at a time, so answers keep the order of
 * the requests whatever the handlers do. What cannot be gone through now is kept
 * in `input`, and the socket is not read beyond what the limits allow.
 *
 * While answers wait for the client, its next request waits for them: who sends
 * and does not read must not fill memory.
 *
 * A whole read runs inside one cork: all the answers to it leave in one send. */
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"
#include "poison.h"
#include "python.h"
#include "ws_connection.h"

enum {
    LINGER_BYTES = 65536,
    SLOW_NS = 1000000, /* a response does not wait longer than this for others of its read */
};

/* ---- Going through input ---- */

/* The rest of a head has this long to come: absolute, later bytes do not win time. */
static void await_head(ck_connection *connection)
{
    if (connection->timer != CK_TIMER_HEAD) {
        ck_connection_timer(connection, CK_TIMER_HEAD);
    }
}

/* Returns true when the header of the PROXY protocol was taken. Whoever has to send
 * one and does not is no proxy, and gets no answer. */
static bool take_proxy_header(ck_connection *connection, ck_cursor *cursor)
{
    int result = ck_proxy_parse(cursor->data, cursor->length, &connection->proxied);
    if (result == CK_PROXY_MORE) {
        await_head(connection);
        return false;
    }
    if (result == CK_PROXY_BAD) {
        connection->app->stats.refused++;
        ck_connection_close(connection, CK_ABORT_CLIENT);
        return false;
    }
    cursor->data += result;
    cursor->length -= (size_t) result;
    connection->proxy_due = false;
    return true;
}

/* Returns true when a request was taken, or refused. */
static bool take_head(ck_connection *connection, ck_cursor *cursor)
{
    if (cursor->length == 0) {
        return false;
    }
    if (connection->proxy_due) {
        return take_proxy_header(connection, cursor);
    }
    if (!connection->exchange && !(connection->exchange = ck_exchange_new(connection))) {
        ck_connection_refuse(connection, 503, CK_ABORT_SERVER);
        return true;
    }
    ck_exchange *exchange = connection->exchange;
    const ck_limits *limits = &connection->app->limits;
    const ck_head_limits head_limits = {limits->line, limits->head, limits->field, limits->fields};
    int result = ck_head_parse(&exchange->head, cursor->data, cursor->length, &head_limits);
    if (result == CK_HEAD_MORE) {
        await_head(connection);
        return false;
    }
    if (result < 0) {
        ck_connection_refuse(connection, -result, CK_ABORT_SERVER);
        return true;
    }
    char *data = cursor->data;
    cursor->data += exchange->head.length;
    cursor->length -= exchange->head.length;
    ck_connection_dispatch(connection, exchange, data);
    return true;
}

/* Nobody has asked for the body's bytes yet, or not for more of them. */
static bool held_back(const ck_connection *connection)
{
    const ck_exchange *exchange = connection->exchange;
    return exchange && (!exchange->body_mode || (exchange->body_mode == CK_BODY_STREAM && connection->user_paused));
}

static bool take_body(ck_connection *connection, ck_cursor *cursor)
{
    if (cursor->length == 0 || held_back(connection)) {
        return false;
    }
    int result = ck_body_take(connection, cursor);
    if (result < 0 && !connection->closed) {
        ck_connection_refuse_body(connection, -result);
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
            more = !ck_stream_waits(&connection->stream) && take_head(connection, cursor);
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
        case CK_PHASE_WEBSOCKET:
            more = ck_websocket_take(connection, cursor);
            break;
        case CK_PHASE_LINGER:
            connection->lingered += (uint32_t) cursor->length;
            *cursor = (ck_cursor) {NULL, 0};
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

void ck_connection_drop_input(ck_connection *connection)
{
    ck_free(connection->stream.loop, connection->input);
    connection->input = NULL;
}

/* Keeps what the cursor has not passed. */
static void keep_rest(ck_connection *connection, const ck_cursor *cursor, bool from_input)
{
    if (cursor->length == 0 || connection->closed) {
        ck_connection_drop_input(connection);
    } else if (from_input) {
        memmove(connection->input->data, cursor->data, cursor->length);
        ck_poison(connection->input->data + cursor->length, connection->input->length - cursor->length);
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
    if (connection->phase == CK_PHASE_WAIT || (connection->phase == CK_PHASE_HEAD && ck_stream_waits(&connection->stream))) {
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
        if (connection->input && ck_stream_waits(&connection->stream)) {
            break; /* requests, perhaps, that wait for the answers before theirs */
        }
        ck_connection_linger(connection); /* an incomplete head gets no answer */
        break;
    case CK_PHASE_BODY:
        if (held_back(connection) && connection->input) {
            break; /* these bytes decide when somebody asks for them */
        }
        ck_body_fail(connection, CK_BODY_INCOMPLETE);
        if (!connection->closed && connection->phase == CK_PHASE_HEAD) {
            ck_connection_linger(connection);
        }
        break;
    case CK_PHASE_WEBSOCKET:
        if (!connection->input) { /* else frames wait that it has sent before */
            ck_connection_close(connection, CK_ABORT_CLIENT);
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
        if (!ck_follow_data(exchange, "", 0, true)) {
            ck_connection_refuse_body(connection, 503);
        }
    }
}

void ck_connection_go_through(ck_connection *connection, char *data, size_t length)
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
    ck_connection_go_through(connection, NULL, 0);
}

