/* Host names over plain HTTP: which routes serve which, handles of domains, and memory that
 * fails at each allocation in turn. */
#include "http.h"

#include "server.h"

static uint32_t domain(const char *name)
{
    int error = 1;
    uint32_t handle = ck_app_domain(world.app, name, strlen(name), &error);
    CHECK(!handle || error == CK_OK);
    return handle;
}

/* Without memory nothing is answered. */
static void answer_own(uint32_t handle)
{
    (void) end_text(handle, "own");
}

static void answer_a(uint32_t handle)
{
    (void) end_text(handle, "a");
}

static void answer_wild(uint32_t handle)
{
    (void) end_text(handle, "wild");
}

static void answer_deep(uint32_t handle)
{
    (void) end_text(handle, "deep");
}

static int route(uint32_t owner, const char *path, handler run)
{
    world.handlers[world.routes] = run;
    return ck_app_route(owner, ck_method_id("GET", 3), path, strlen(path), world.routes++, -1);
}

static void add_routes(void)
{
    (void) route(world.app, "/", answer_own);
    (void) route(domain("a.example"), "/", answer_a);
    (void) route(domain("*.example"), "/", answer_wild);
    (void) route(domain("*.*.example"), "/", answer_deep);
}

static const char *asked(peer *client, const char *host)
{
    static char request[512];
    forget(client);
    snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    feed(client, request);
    return heard(client);
}

static void test_which_routes_serve_a_host(void)
{
    open_server(NULL);
    add_routes();
    peer *client = dial();
    CHECK_TEXT(asked(client, "a.example"), ok("a"));
    CHECK_TEXT(asked(client, "A.Example.:80"), ok("a"));
    CHECK_TEXT(asked(client, "b.example"), ok("wild"));
    CHECK_TEXT(asked(client, "a.b.example"), ok("deep"));
    CHECK_TEXT(asked(client, "example"), ok("own"));
    CHECK_TEXT(asked(client, "[::1]:80"), ok("own"));
    CHECK_TEXT(asked(client, "127.0.0.1"), ok("own"));
    forget(client);
    feed(client, "GET http://a.example:8080/ HTTP/1.1\r\nHost: a.example:8080\r\n\r\n");
    CHECK_HEARD(client, ok("a"));
    feed(client, "OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n");
    CHECK(strstr(heard(client), "HTTP/1.1 204 "));
    close_server();
}

static void test_handles_of_domains(void)
{
    open_server(NULL);
    uint32_t first = domain("a.example");
    CHECK(first && domain("A.EXAMPLE") == first && domain("b.example") != first);
    CHECK(route(first + 1000, "/", answer_a) == CK_EXPIRED);
    CHECK(route(first, "no slash", answer_a) == -EINVAL);
    CHECK(ck_app_fixed(first, ck_method_id("GET", 3), "/fixed", 6, 200, "", 0, "x", 1) == 0);
    int error = 0;
    CHECK(ck_app_domain(first, "c.example", 9, &error) == 0 && error == CK_EXPIRED);
    CHECK(ck_app_drain(first) == CK_EXPIRED); /* a domain is no app */
    const ck_tls_options options = {0};
    CHECK(ck_app_add_server_name(world.app, "a.example", &options) == CK_STATE);
    CHECK(ck_app_remove_server_name(world.app, "a.example") == CK_STATE);
    CHECK(ck_app_missing_server_name(world.app, 1) == CK_STATE && ck_app_refuse_server_name(world.app) == CK_STATE);
    CHECK(ck_app_prepare(world.app, NULL, &options) == CK_STATE && ck_app_renew(world.app, 1) == CK_STATE);
    CHECK(ck_app_add_server_name(world.app + 1000, "a.example", &options) == CK_EXPIRED);
    close_server();
    CHECK(route(first, "/", answer_a) < 0);
}

/* ---- Without memory ---- */

static long session(long fail_at, bool on)
{
    reset_world();
    world.fail_at = fail_at;
    world.fail_on = on;
    if (!try_open_server(NULL)) {
        close_world();
        return world.allocations;
    }
    add_routes();
    static const ck_ws_limits limits = {.message = 100};
    (void) ck_app_websocket(domain("a.example"), "/ws", 3, 0, &limits);
    peer *client = dial();
    feed(client, GET("/") "GET / HTTP/1.1\r\nHost: a.example\r\n\r\nGET /none HTTP/1.1\r\nHost: b.example\r\n\r\n");
    long allocations = world.allocations;
    world.fail_at = 0;
    uint32_t late = domain("late.example");
    CHECK(late && route(late, "/", answer_deep) == 0);
    CHECK_TEXT(asked(dial(), "late.example"), ok("deep"));
    close_server();
    return allocations;
}

static void test_memory_fails_at_each_allocation(void)
{
    long total = session(0, false);
    CHECK(total > 20);
    for (long n = 1; n <= total; n++) {
        (void) session(n, false);
        (void) session(n, true);
    }
}

int main(void)
{
    test_which_routes_serve_a_host();
    test_handles_of_domains();
    test_memory_fails_at_each_allocation();
    return checks_done();
}
