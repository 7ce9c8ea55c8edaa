/* Apps: routes, listeners, and the end of them. */
#include <errno.h>
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"
#include "ws_extensions.h"

static ck_app *app_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_APP, error);
}

static void app_free(ck_app *app)
{
    ck_loop *loop = app->loop;
    if (app->context) {
        us_socket_context_free(0, app->context);
    }
    ck_routers_free(&app->routers);
    ck_domains_free(app);
    for (int i = 0; i < app->route_count; i++) {
        ck_free(loop, app->routes[i].fixed);
        ck_free(loop, app->routes[i].counters);
        ck_free(loop, app->routes[i].websocket);
        ck_free(loop, app->routes[i].native);
    }
    ck_free(loop, app->routes);
    ck_topics_free(&app->topics);
    ck_free(loop, app->proxies);
    ck_handle_drop(&loop->handles, app->handle);
    ck_free(loop, app);
}

static struct us_socket_context_t *plain_context(const ck_app *app)
{
    struct us_socket_context_options_t options;
    memset(&options, 0, sizeof(options));
    return us_create_socket_context(0, app->loop->us, sizeof(ck_app *), options);
}

static uint32_t create(const ck_limits *limits, const ck_tls_options *tls)
{
    ck_loop *loop = ck_loop_current();
    ck_app *app = loop ? ck_alloc(loop, sizeof(*app)) : NULL;
    if (!app) {
        return 0;
    }
    memset(app, 0, sizeof(*app));
    app->loop = loop;
    app->limits = *limits;
    ck_topics_init(&app->topics, loop->sys);
    app->context = tls ? ck_tls_context(app, tls) : plain_context(app);
    app->routers.http = ck_router_create(loop->sys);
    app->handle = ck_handle_new(&loop->handles, CK_KIND_APP, app);
    if (!app->context || !app->routers.http || !app->handle) {
        app_free(app);
        return 0;
    }
    *(ck_app **) us_socket_context_ext(0, app->context) = app;
    ck_connection_callbacks(app->context);
    return app->handle;
}

uint32_t ck_app_create(const ck_limits *limits)
{
    return create(limits, NULL);
}

uint32_t ck_app_create_tls(const ck_limits *limits, const ck_tls_options *options)
{
    return create(limits, options);
}

/* What a closing connection calls back may destroy the app. */
int ck_app_abort(uint32_t handle)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    while (app && app->first) {
        ck_connection_close(app->first, CK_ABORT_SERVER);
        app = app_of(handle, &error);
    }
    return CK_OK;
}

int ck_app_destroy(uint32_t handle)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    ck_handle_drop(&app->loop->handles, handle); /* so that nothing called back comes here again, or listens */
    ck_listeners_close(&app->listeners);
    while (app->first) {
        ck_connection_close(app->first, CK_ABORT_SERVER);
    }
    ck_app_tell_end(app);
    app_free(app);
    return CK_OK;
}

int ck_app_drain(uint32_t handle)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    app->draining = true;
    ck_listeners_close(&app->listeners);
    ck_connection *connection = app->first;
    while (connection) {
        ck_connection *next = connection->next;
        (void) ck_connection_close_idle(connection);
        connection = next;
    }
    return CK_OK;
}

int ck_app_stats(uint32_t handle, ck_stats *stats)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (app) {
        *stats = app->stats;
    }
    return error;
}

/* ---- Routes ---- */

int ck_method_id(const char *name, size_t length)
{
    if (length == 1 && name[0] == '*') {
        return CK_METHOD_ANY;
    }
    uint8_t method = ck_method_number(name, length);
    return method == CK_METHOD_OTHER ? -1 : method;
}

int ck_app_add_route(ck_app *app, ck_router *router, int method, const char *pattern, size_t length, ck_route route)
{
    if (app->route_count == app->route_capacity) {
        int capacity = app->route_capacity ? app->route_capacity * 2 : 16;
        ck_route *routes = ck_resize(app->loop, app->routes, (size_t) capacity * sizeof(*routes));
        if (!routes) {
            return -ENOMEM;
        }
        app->routes = routes;
        app->route_capacity = capacity;
    }
    route.counters = ck_alloc(app->loop, sizeof(*route.counters)); /* apart: streams point to them */
    if (!route.counters) {
        return -ENOMEM;
    }
    memset(route.counters, 0, sizeof(*route.counters));
    int error = ck_router_add(router, method, pattern, length, app->route_count);
    if (error != 0) {
        ck_free(app->loop, route.counters);
        return error;
    }
    app->routes[app->route_count++] = route;
    return 0;
}

int ck_app_route(uint32_t handle, int method, const char *pattern, size_t length, int route, int64_t body_limit)
{
    int error;
    ck_app *app;
    const ck_routers *routers = ck_routers_of(handle, &app, &error);
    if (!routers) {
        return error;
    }
    return ck_app_add_route(app, routers->http, method, pattern, length, (ck_route) {.number = route, .body_limit = body_limit});
}

int ck_app_websocket(uint32_t handle, const char *pattern, size_t length, int route, const ck_ws_limits *limits)
{
    int error;
    ck_app *app;
    ck_routers *routers = ck_routers_of(handle, &app, &error);
    if (!routers) {
        return error;
    }
    if (!ck_ws_compression_valid(limits->compression)) {
        return -EINVAL;
    }
    if (!routers->websockets && !(routers->websockets = ck_router_create(app->loop->sys))) {
        return -ENOMEM;
    }
    ck_ws_limits *copy = ck_alloc(app->loop, sizeof(*copy));
    if (!copy) {
        return -ENOMEM;
    }
    *copy = *limits;
    ck_route added = {.number = route, .body_limit = 0, .websocket = copy};
    error = ck_app_add_route(app, routers->websockets, CK_GET, pattern, length, added);
    if (error != 0) {
        ck_free(app->loop, copy);
    }
    return error;
}

int ck_app_fixed(uint32_t handle, int method, const char *pattern, size_t length,
    int status, const char *head, size_t head_length, const char *body, size_t body_length)
{
    int error;
    ck_app *app;
    const ck_routers *routers = ck_routers_of(handle, &app, &error);
    if (!routers) {
        return error;
    }
    if (status < 200 || status > 599) {
        return CK_STATUS;
    }
    if ((status == 204 || status == 205 || status == 304) && body_length) {
        return CK_STATE;
    }
    error = ck_fields_check(head, head_length);
    if (error != CK_OK) {
        return error;
    }
    if (head_length > CK_CORK_CAPACITY / 2 || body_length > SIZE_MAX / 2) {
        return CK_LENGTH;
    }
    ck_fixed *fixed = ck_alloc(app->loop, sizeof(*fixed) + head_length + body_length);
    if (!fixed) {
        return -ENOMEM;
    }
    fixed->status = status;
    fixed->head_length = head_length;
    fixed->body_length = body_length;
    if (head_length) {
        memcpy(fixed->data, head, head_length);
    }
    if (body_length) {
        memcpy(fixed->data + head_length, body, body_length);
    }
    error = ck_app_add_route(app, routers->http, method, pattern, length, (ck_route) {.body_limit = -1, .fixed = fixed});
    if (error != 0) {
        ck_free(app->loop, fixed);
    }
    return error;
}

/* ---- Proxies ---- */

int ck_app_proxy_protocol(uint32_t handle, const char *networks, int count, int unix_too)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    size_t wanted = count > 0 ? (size_t) count : 0;
    ck_network *copy = wanted ? ck_alloc(app->loop, wanted * sizeof(*copy)) : NULL;
    if (wanted && !copy) {
        return CK_NOMEM;
    }
    for (size_t i = 0; i < wanted; i++) {
        const char *network = networks + i * CK_NETWORK_SIZE;
        memcpy(copy[i].address, network, sizeof(copy[i].address));
        copy[i].bits = (uint8_t) network[sizeof(copy[i].address)];
        if (copy[i].bits > 8 * sizeof(copy[i].address)) {
            ck_free(app->loop, copy);
            return CK_VALUE;
        }
    }
    ck_free(app->loop, app->proxies);
    app->proxies = copy;
    app->proxy_count = wanted;
    app->proxies_unix = unix_too != 0;
    return CK_OK;
}

/* ---- Listeners ---- */

uint32_t ck_app_listen(uint32_t handle, const char *host, int port, int options, int *error)
{
    int result;
    ck_app *app = app_of(handle, &result);
    if (!app) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    return ck_listener_open(app->loop, &app->listeners,
        us_socket_context_listen(0, app->context, host, port, options, (int) sizeof(ck_connection)), error);
}

uint32_t ck_app_listen_unix(uint32_t handle, const char *path, int options, int *error)
{
    int result;
    ck_app *app = app_of(handle, &result);
    if (!app) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    return ck_listener_open(app->loop, &app->listeners,
        us_socket_context_listen_unix(0, app->context, path, options, (int) sizeof(ck_connection)), error);
}
