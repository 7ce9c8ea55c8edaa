/* From a request to a WebSocket: routes, refusals, and the answer that replaces HTTP on a connection.
 *
 * WebSocket routes have a router of their own, which is asked only about requests
 * that want a WebSocket, and when no route of HTTP takes a request: so a path may
 * serve both, and a path that serves only WebSockets can say so (426). */
#include <errno.h>
#include <string.h>

#include "python.h"
#include "response.h"
#include "ws_connection.h"
#include "ws_extensions.h"
#include "ws_handshake.h"

enum { ANSWER_MAX = 256 + CK_WS_TERMS_MAX /* field lines of a 101 that are ours, without the subprotocol */ };

static const ck_route *route_of(ck_app *app, ck_exchange *exchange)
{
    const ck_head *head = &exchange->head;
    const char *path = head->path.length ? exchange->data + head->path.offset : "/";
    size_t length = head->path.length ? head->path.length : 1;
    const ck_router *router = exchange->routers->websockets;
    if (!router || ck_router_find(router, CK_GET, path, length, 0, &exchange->match) != 0) {
        return NULL;
    }
    return &app->routes[exchange->match.route];
}

bool ck_websocket_dispatch(ck_connection *connection, ck_exchange *exchange)
{
    ck_app *app = connection->app;
    if (!exchange->routers->websockets || exchange->head.method != CK_GET || !ck_ws_wanted(&exchange->head, exchange->data)) {
        return false;
    }
    const ck_route *route = route_of(app, exchange);
    if (!route) {
        return false;
    }
    connection->stream.route = route->counters;
    route->counters->requests++;
    int refusal = ck_ws_handshake_check(&exchange->head, exchange->data);
    if (refusal) {
        const char *version = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        ck_response_simple(exchange, refusal, refusal == 426 ? version : "", true);
        return true;
    }
    if (exchange->head.expect_continue) { /* RFC 9110 S7.8: then it comes before the 101 */
        static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
        (void) ck_stream_write(&connection->stream, line, sizeof(line) - 1);
    }
    exchange->websocket = route->websocket;
    exchange->in_callback = true;
    ck_python_request(app->loop, route->number, exchange->handle);
    exchange->in_callback = false;
    return true;
}

bool ck_websocket_answer_plain(ck_connection *connection, ck_exchange *exchange, int found)
{
    bool read = exchange->head.method == CK_GET || exchange->head.method == CK_HEAD;
    const ck_route *route = read || found == CK_ROUTE_NONE ? route_of(connection->app, exchange) : NULL;
    if (!route) {
        return false; /* else the routes of HTTP know better what is allowed */
    }
    connection->stream.route = route->counters;
    route->counters->requests++;
    if (!read) {
        ck_response_simple(exchange, 405, "Allow: GET, HEAD\r\n", exchange->head.method == CK_CONNECT);
    } else if (exchange->head.minor_version == 0) {
        ck_response_simple(exchange, 400, "", true); /* it could not upgrade if it wanted to */
    } else {
        ck_response_simple(exchange, 426, "Upgrade: websocket\r\nConnection: Upgrade\r\n", false);
    }
    return true;
}

/* ---- The answer ---- */

static int check_protocol(const ck_exchange *exchange, const char *protocol, size_t length)
{
    return length == 0 || ck_ws_offers(&exchange->head, exchange->data, protocol, length) ? CK_OK : CK_VALUE;
}

/* What is ours of the head, and its end. */
static int write_answer(ck_exchange *exchange, const char *protocol, size_t length, const ck_deflate *deflate)
{
    ck_stream *stream = &exchange->connection->stream;
    int result = ck_head_switching(exchange);
    if (result != CK_OK) {
        return result;
    }
    char *start = ck_stream_reserve(stream, ANSWER_MAX + length);
    if (!start) {
        return no_room(stream);
    }
    int key = ck_head_find(&exchange->head, exchange->data, "sec-websocket-key", 17, 0);
    char *at = PUT(start, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    ck_ws_accept(exchange->data + exchange->head.fields[key].value_offset, at);
    at = PUT(at + CK_WS_ACCEPT_LENGTH, "\r\n");
    if (length) {
        at = put(PUT(at, "Sec-WebSocket-Protocol: "), protocol, length);
        at = PUT(at, "\r\n");
    }
    if (deflate) {
        at = PUT(at, "Sec-WebSocket-Extensions: ");
        at += ck_ws_terms_put(&deflate->terms, at);
        at = PUT(at, "\r\n");
    }
    at = PUT(at, "\r\n");
    ck_stream_commit(stream, (size_t) (at - start));
    return CK_OK;
}

/* Agrees on compression, where the route and the client want it. Returns 0 or CK_NOMEM. */
static int agree(ck_websocket *websocket, const ck_exchange *exchange)
{
    ck_loop *loop = websocket->connection->stream.loop;
    const ck_ws_limits *limits = &websocket->limits;
    ck_ws_terms terms;
    if (!ck_ws_negotiate(&exchange->head, exchange->data, limits->compression, &terms)) {
        return CK_OK;
    }
    websocket->deflate = ck_deflate_new(loop, &terms, limits->compression, limits->message);
    websocket->reader.deflate = websocket->deflate != NULL;
    return websocket->deflate ? CK_OK : CK_NOMEM;
}

static void websocket_drop(ck_websocket *websocket)
{
    ck_loop *loop = websocket->connection->stream.loop;
    ck_handle_drop(&loop->handles, websocket->handle);
    ck_deflate_free(loop, websocket->deflate);
    ck_free(loop, websocket);
}

static ck_websocket *websocket_new(ck_connection *connection, const ck_ws_limits *limits)
{
    ck_loop *loop = connection->stream.loop;
    ck_websocket *websocket = ck_alloc(loop, sizeof(*websocket));
    if (!websocket) {
        return NULL;
    }
    memset(websocket, 0, sizeof(*websocket));
    websocket->handle = ck_handle_new(&loop->handles, CK_KIND_WEBSOCKET, websocket);
    if (!websocket->handle) {
        ck_free(loop, websocket);
        return NULL;
    }
    websocket->connection = connection;
    websocket->limits = *limits;
    ck_ws_reader_init(&websocket->reader, limits->message);
    return websocket;
}

/* The response has ended with its head: from here on the bytes are frames. */
static void switch_over(ck_connection *connection, ck_exchange *exchange, ck_websocket *websocket)
{
    ck_stream *stream = &connection->stream;
    exchange->phase = CK_RESPONSE_FINISHED;
    exchange->flushes_after = stream->flushes + (ck_stream_packed(stream) > 0);
    connection->exchange = NULL;
    connection->last = 0; /* what was a response cannot be taken back */
    connection->user_paused = false;
    connection->websocket = websocket;
    connection->phase = CK_PHASE_WEBSOCKET;
    CK_COUNT(stream, responses, 1);
    ck_connection_timer_for_phase(connection);
    ck_websocket_born(connection);
    if (!connection->cursor && (connection->input || connection->peer_ended || !connection->reading)) {
        ck_loop_resume_later(stream->loop, connection);
    }
}

int64_t ck_upgrade(uint32_t handle, const char *protocol, size_t length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (!exchange->websocket || exchange->phase > CK_RESPONSE_HEAD || exchange->status_given || exchange->has_length) {
        return CK_STATE;
    }
    if (length > CK_CORK_CAPACITY / 2 || check_protocol(exchange, protocol, length) != CK_OK) {
        return CK_VALUE;
    }
    ck_connection *connection = exchange->connection;
    ck_websocket *websocket = websocket_new(connection, exchange->websocket);
    if (!websocket) {
        return CK_NOMEM;
    }
    error = agree(websocket, exchange);
    if (error == CK_OK) {
        error = write_answer(exchange, protocol, length, websocket->deflate);
    }
    if (error != CK_OK) {
        websocket_drop(websocket);
        return error;
    }
    switch_over(connection, exchange, websocket);
    return websocket->handle;
}
