/* Dispatch: from a complete head to its route, its callback, and what that left behind. */
#include "http.h"
#include "ws_connection.h"

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
        int found = ck_router_find(exchange->routers->http, head->method, path, path_length, nth, &exchange->match);
        const ck_route *route = found == 0 ? &app->routes[exchange->match.route] : NULL;
        if (!fits(app, exchange, route)) {
            ck_connection_refuse(connection, 413, CK_ABORT_BODY);
            return;
        }
        connection->stream.route = route ? route->counters : &app->unrouted;
        connection->stream.route->requests++;
        if (!route) {
            if (!ck_websocket_answer_plain(connection, exchange, found)) {
                answer_unrouted(exchange, found);
            }
            return;
        }
        if (route->fixed) {
            ck_response_fixed(exchange, route->fixed);
            return;
        }
        exchange->in_callback = true;
        ck_follow_request(exchange, route);
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
        ck_connection_timer_for_phase(connection);
        return;
    }
    if (!exchange->kept) {
        ck_exchange_let_go(exchange);
    }
}

void ck_connection_dispatch(ck_connection *connection, ck_exchange *exchange, char *data)
{
    exchange->data = data;
    connection->last = 0;
    connection->keep_alive = exchange->head.keep_alive && !connection->app->draining;
    if (ck_exchange_register(exchange) != CK_OK) {
        ck_connection_refuse(connection, 503, CK_ABORT_SERVER);
        return;
    }
    uint32_t handle = exchange->handle;
    connection->app->stats.requests++;
    connection->stream.own.requests++;
    connection->stream.route = &connection->app->unrouted;
    ck_body_begin(connection, exchange);
    connection->phase = ck_body_done(connection) ? CK_PHASE_WAIT : CK_PHASE_BODY;
    if (exchange->head.asterisk) {
        connection->app->unrouted.requests++;
        exchange->body_limit = connection->app->limits.body;
        ck_response_simple(exchange, 204, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n", false);
    } else if (!(exchange->routers = ck_domain_routers(connection, exchange))) {
        connection->app->unrouted.requests++;
        ck_connection_refuse(connection, 421, CK_ABORT_BODY);
    } else if (!ck_websocket_dispatch(connection, exchange)) {
        run_routes(connection, exchange);
    }
    /* A refusal has ended an exchange that nobody kept. */
    if (ck_handle_get(&connection->stream.loop->handles, handle, CK_KIND_EXCHANGE) == exchange) {
        settle(connection, exchange);
    }
    if (connection->refusal && !connection->closed) {
        int status = connection->refusal;
        connection->refusal = 0;
        ck_connection_refuse_body(connection, status);
    }
}

