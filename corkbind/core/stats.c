/* What is counted beside an app's totals: by route and by open connection. */
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"
#include "ws_connection.h"

static ck_app *app_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_APP, error);
}

int ck_app_watch(uint32_t handle, int on)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (app) {
        app->watched = on != 0;
    }
    return error;
}

int ck_app_server_timing(uint32_t handle, int on)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (app) {
        app->server_timing = on != 0;
    }
    return error;
}

/* ---- Routes ---- */

int ck_app_route_stats(uint32_t handle, int first, int count, ck_counters *out)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    int copied = 0;
    for (int i = first < 0 ? 0 : first; i < app->route_count && copied < count; i++) {
        out[copied++] = *app->routes[i].counters;
    }
    return copied;
}

int ck_app_unrouted_stats(uint32_t handle, ck_counters *out)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (app) {
        *out = app->unrouted;
    }
    return error;
}

/* ---- Connections ---- */

static uint64_t backlog_of(const ck_connection *connection)
{
    if (connection->websocket) {
        return ck_websocket_waiting(connection->websocket);
    }
    return ck_stream_buffered(&connection->stream) - ck_stream_packed(&connection->stream);
}

int64_t ck_app_backlog(uint32_t handle)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    uint64_t sum = 0;
    for (const ck_connection *c = app->first; c; c = c->next) {
        sum += backlog_of(c);
    }
    return (int64_t) sum;
}

static uint64_t rank(const ck_connection *connection, int order)
{
    return order == CK_BY_BACKLOG ? backlog_of(connection) : connection->stream.own.bytes;
}

static enum ck_connection_state state_of(const ck_connection *connection)
{
    const ck_exchange *exchange = connection->exchange;
    if (connection->phase == CK_PHASE_LINGER) {
        return CK_CONNECTION_LINGER;
    }
    if (connection->phase == CK_PHASE_WEBSOCKET) {
        return CK_CONNECTION_WEBSOCKET;
    }
    if (exchange && exchange->phase != CK_RESPONSE_IDLE) {
        return CK_CONNECTION_RESPONSE;
    }
    if (connection->phase == CK_PHASE_HEAD) {
        return exchange ? CK_CONNECTION_HEAD : CK_CONNECTION_IDLE;
    }
    return connection->phase == CK_PHASE_BODY ? CK_CONNECTION_BODY : CK_CONNECTION_HANDLER;
}

static void describe(const ck_connection *connection, int64_t now, ck_connection_info *out)
{
    const ck_stream *stream = &connection->stream;
    int length = (int) sizeof(out->address);
    char address[sizeof(out->address)];
    us_socket_remote_address(0, stream->socket, address, &length);
    int port = us_socket_remote_port(0, stream->socket);
    *out = (ck_connection_info) {
        .counters = stream->own,
        .packed = ck_stream_packed(stream),
        .backlog = backlog_of(connection),
        .seconds = now > connection->opened ? (uint32_t) (now - connection->opened) : 0,
        .state = state_of(connection),
        .port = port > 0 ? (uint32_t) port : 0,
        .address_length = length > 0 ? (uint32_t) length : 0,
    };
    if (length > 0) {
        memcpy(out->address, address, (size_t) length);
    }
}

/* Puts the connection in its place among the `count` first ones; what no longer
 * fits falls out at the end. Returns the new count. */
static int place(const ck_connection **best, int count, int capacity, const ck_connection *connection, int order)
{
    uint64_t own = rank(connection, order);
    if (count == capacity && rank(best[count - 1], order) >= own) {
        return count;
    }
    int at = count < capacity ? count : count - 1;
    for (; at > 0 && rank(best[at - 1], order) < own; at--) {
        best[at] = best[at - 1];
    }
    best[at] = connection;
    return count < capacity ? count + 1 : count;
}

int ck_app_connections(uint32_t handle, int order, ck_connection_info *out, int capacity)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (!app || capacity <= 0) {
        return error;
    }
    if (order < CK_BY_AGE || order > CK_BY_BYTES) {
        return CK_STATE;
    }
    const ck_connection **best = ck_alloc(app->loop, (size_t) capacity * sizeof(const ck_connection *));
    if (!best) {
        return CK_NOMEM;
    }
    int count = 0;
    for (const ck_connection *c = app->first; c; c = c->next) {
        if (order != CK_BY_AGE) {
            count = place(best, count, capacity, c, order);
        } else if (count < capacity) {
            best[count++] = c; /* the list begins with the newest */
        }
    }
    int64_t now = app->loop->sys->wall_seconds(app->loop->sys);
    for (int i = 0; i < count; i++) {
        describe(best[i], now, &out[i]);
    }
    ck_free(app->loop, (void *) best);
    return count;
}
