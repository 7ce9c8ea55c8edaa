/* Routes answered in C, and who is told what happens to an exchange: its follower in
 * C, or the callbacks of the loop.
 *
 * An exchange of a native route has a follower from the start, one that does nothing
 * until ck_follow names another. So nothing about it ever enters Python. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "http.h"
#include "python.h"

static const ck_follower nobody;

static ck_app *app_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_APP, error);
}

/* ---- An exchange ---- */

void ck_follow_request(ck_exchange *exchange, const ck_route *route)
{
    const ck_native *native = route->native; /* the handler may add routes, which moves this one */
    exchange->follower = native ? &nobody : NULL;
    exchange->user = NULL;
    if (native) {
        native->handler(exchange->handle, native->user);
    } else {
        ck_python_request(exchange->loop, route->number, exchange->handle);
    }
}

void ck_follow_aborted(ck_exchange *exchange, int reason)
{
    const ck_follower *follower = exchange->follower;
    if (!follower) {
        exchange->loop->callbacks.aborted(exchange->handle, reason);
    } else if (follower->aborted) {
        follower->aborted(exchange->handle, reason, exchange->user);
    }
}

void ck_follow_body(ck_exchange *exchange, int event)
{
    const ck_follower *follower = exchange->follower;
    if (!follower) {
        exchange->loop->callbacks.body(exchange->handle, event);
    } else if (follower->body) {
        follower->body(exchange->handle, event, exchange->user);
    }
}

bool ck_follow_data(ck_exchange *exchange, const char *data, size_t length, bool last)
{
    const ck_follower *follower = exchange->follower;
    if (!follower) {
        return ck_python_data(exchange, data, length, last);
    }
    if (follower->data) {
        follower->data(exchange->handle, data, length, last, exchange->user);
    }
    return true;
}

void ck_follow_writable(ck_exchange *exchange)
{
    const ck_follower *follower = exchange->follower;
    if (!follower) {
        exchange->loop->callbacks.writable(exchange->handle);
    } else if (follower->writable) {
        follower->writable(exchange->handle, exchange->user);
    }
}

int ck_follow(uint32_t handle, const ck_follower *follower, void *user)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (!exchange->follower) {
        return CK_STATE;
    }
    exchange->follower = follower ? follower : &nobody;
    exchange->user = user;
    return CK_OK;
}

/* ---- An app ---- */

struct us_loop_t *ck_app_loop(uint32_t handle, int *error)
{
    int result;
    const ck_app *app = app_of(handle, &result);
    if (error) {
        *error = result;
    }
    return app ? app->loop->us : NULL;
}

int ck_app_on_destroy(uint32_t handle, void (*ended)(void *user), void *user)
{
    int error;
    ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    if (!ended) {
        return CK_VALUE;
    }
    ck_ending *ending = ck_alloc(app->loop, sizeof(*ending));
    if (!ending) {
        return CK_NOMEM;
    }
    *ending = (ck_ending) {.next = app->endings, .ended = ended, .user = user};
    app->endings = ending;
    return CK_OK;
}

void ck_app_tell_end(ck_app *app)
{
    while (app->endings) {
        ck_ending ending = *app->endings;
        ck_free(app->loop, app->endings);
        app->endings = ending.next;
        ending.ended(ending.user);
    }
}

static ck_native *native_new(ck_loop *loop, const ck_domain *domain, const char *pattern, size_t length)
{
    size_t name = domain ? domain->length : 0;
    if (length > INT_MAX / 2 || name > INT_MAX / 2) {
        return NULL;
    }
    ck_native *native = ck_alloc(loop, sizeof(*native) + name + length);
    if (!native) {
        return NULL;
    }
    if (domain) {
        memcpy(native->pattern, domain->name, name);
    }
    if (length) {
        memcpy(native->pattern + name, pattern, length);
    }
    native->length = (int) (name + length);
    return native;
}

int ck_app_route_native(uint32_t handle, int method, const char *pattern, size_t length,
    void (*handler)(uint32_t exchange, void *user), void *user, int64_t body_limit)
{
    int error, kind;
    ck_app *app;
    const ck_routers *routers = ck_routers_of(handle, &app, &error);
    if (!routers) {
        return error;
    }
    if (!handler) {
        return -EINVAL;
    }
    ck_native *native = native_new(app->loop, ck_loop_object(handle, CK_KIND_DOMAIN, &kind), pattern, length);
    if (!native) {
        return -ENOMEM;
    }
    native->handler = handler;
    native->user = user;
    native->method = method;
    ck_route route = {.body_limit = body_limit, .native = native};
    error = ck_app_add_route(app, routers->http, method, pattern, length, route);
    if (error != 0) {
        ck_free(app->loop, native);
    }
    return error;
}

int ck_app_native_route(uint32_t handle, int index, int *method, const char **pattern)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (!app) {
        return error;
    }
    if (index < 0 || index >= app->route_count) {
        return CK_VALUE;
    }
    const ck_native *native = app->routes[index].native;
    if (!native) {
        return 0;
    }
    *method = native->method;
    *pattern = native->pattern;
    return native->length;
}
