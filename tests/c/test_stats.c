/* What is counted for each route and each connection. That the routes add up to the
 * app is checked at the end of every test of the core: see check_counters. */
#include "server.h"

static ck_counters route(int number)
{
    ck_counters found;
    CHECK(ck_app_route_stats(world.app, number, 1, &found) == 1);
    return found;
}

static ck_counters unrouted(void)
{
    ck_counters found;
    CHECK(ck_app_unrouted_stats(world.app, &found) == CK_OK);
    return found;
}

static ck_connection_info connection_at(int order, int place)
{
    ck_connection_info found[8];
    int count = ck_app_connections(world.app, order, found, 8);
    CHECK(place < count);
    return found[place];
}

static uint32_t parked;

static void park(uint32_t handle)
{
    CHECK(ck_keep(handle) == CK_OK);
    parked = handle;
}

static void fail_at_first(uint32_t handle)
{
    CHECK(write_text(handle, "half") >= 0 && ck_fail(handle) == CK_OK);
    answer_path(handle);
}

static void answer_parked(uint32_t handle)
{
    CHECK(ck_cork(parked) == 0 && end_text(parked, "yours") == CK_OK && ck_uncork(parked) == 0);
    CHECK(ck_release(parked) == CK_OK);
    answer_path(handle);
}

static void test_routes(void)
{
    open_server(NULL);
    serve("GET", "/a", answer_path);
    serve("GET", "/park", park);
    serve("GET", "/fail", fail_at_first);
    serve("GET", "/go", answer_parked);
    peer *client = dial();
    feed(client, GET("/a"));
    feed(client, GET("/a") GET("/fail"));
    CHECK(route(0).requests == 2 && route(0).responses == 2);
    CHECK(route(0).sends == 1 && route(2).sends == 1); /* the shared send counts where it ended */
    CHECK(route(0).flushes[CK_FLUSH_UNCORK] == 1 && route(2).rollbacks == 1 && route(0).rollbacks == 0);
    CHECK(route(0).bytes + route(2).bytes == stats().bytes);
    peer *other = dial();
    feed(other, GET("/park"));
    CHECK(route(1).requests == 1 && route(1).responses == 0);
    feed(client, GET("/go"));
    CHECK(route(1).responses == 1 && route(1).nested_corks == 1 && route(1).sends == 1);
    CHECK(route(3).sends == 1 && route(3).nested_corks == 0);
    ck_counters found[8];
    CHECK(ck_app_route_stats(world.app, 0, 8, found) == 4 && found[3].requests == 1);
    CHECK(ck_app_route_stats(world.app, 3, 8, found) == 1 && ck_app_route_stats(world.app, 4, 8, found) == 0);
    CHECK(ck_app_route_stats(world.app, -5, 1, found) == 1 && found[0].requests == 2);
    close_server();
}

static void test_unrouted(void)
{
    open_server(NULL);
    serve("GET", "/a", answer_path);
    peer *client = dial();
    feed(client, GET("/a"));
    feed(client, GET("/b"));
    feed(client, "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    feed(client, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(unrouted().requests == 3 && unrouted().responses == 3 && unrouted().sends == 3);
    feed(client, "nonsense\r\n\r\n");
    CHECK(unrouted().sends == 4 && route(0).sends == 1 && route(0).requests == 1);
    close_server();
}

static int64_t wall;

static int64_t wall_seconds(struct us_sys_t *sys)
{
    (void) sys;
    return wall;
}

static void test_connections(void)
{
    open_server(NULL);
    world.sys.wall_seconds = wall_seconds;
    wall = 1000;
    serve("GET", "/a", answer_path);
    serve("GET", "/park", park);
    peer *first = dial();
    feed(first, GET("/a"));
    wall += 8;
    peer *second = dial();
    feed(second, GET("/park"));
    peer *third = dial();
    feed(third, "GET /");
    ck_connection_info found = connection_at(CK_BY_AGE, 2);
    CHECK(found.state == CK_CONNECTION_IDLE && found.seconds == 8 && found.counters.responses == 1);
    CHECK(found.counters.bytes == stats().bytes && found.counters.sends == 1 && found.counters.requests == 1);
    CHECK(found.address_length == 4 && found.address[0] == 127 && found.port > 0);
    CHECK(connection_at(CK_BY_AGE, 1).state == CK_CONNECTION_HANDLER && connection_at(CK_BY_AGE, 1).seconds == 0);
    CHECK(connection_at(CK_BY_AGE, 0).state == CK_CONNECTION_HEAD);
    wall = 990; /* the clock was set back */
    CHECK(connection_at(CK_BY_AGE, 2).seconds == 0);
    CHECK(connection_at(CK_BY_BYTES, 0).counters.responses == 1);
    second->room = 5;
    CHECK(write_text(parked, "some bytes that wait") >= 0 && connection_at(CK_BY_AGE, 1).packed > 0);
    settle();
    found = connection_at(CK_BY_BACKLOG, 0);
    CHECK(found.state == CK_CONNECTION_RESPONSE && found.backlog > 0 && found.packed == 0);
    CHECK(ck_app_backlog(world.app) == (int64_t) found.backlog);
    CHECK(found.counters.uncorked_writes == 1 && found.counters.flushes[CK_FLUSH_ITERATION] == 1);
    close_server();
}

static void test_bounds_of_connections(void)
{
    open_server(NULL);
    serve("GET", "/a", answer_path);
    for (int i = 0; i < 6; i++) {
        peer *client = dial();
        for (int j = 0; j <= (i * 5) % 6; j++) { /* in no order */
            feed(client, GET("/a"));
        }
    }
    ck_connection_info found[8];
    CHECK(ck_app_connections(world.app, CK_BY_BYTES, found, 8) == 6);
    for (int i = 0; i < 6; i++) {
        CHECK(found[i].counters.responses == (uint64_t) (6 - i));
    }
    CHECK(ck_app_connections(world.app, CK_BY_BYTES, found, 2) == 2);
    CHECK(found[0].counters.responses == 6 && found[1].counters.responses == 5);
    CHECK(ck_app_connections(world.app, CK_BY_AGE, found, 2) == 2 && ck_app_connections(world.app, CK_BY_AGE, found, 0) == 0);
    CHECK(ck_app_connections(world.app, 3, found, 2) == CK_STATE && ck_app_connections(world.app, -1, found, 2) == CK_STATE);
    world.fail_at = world.allocations + 1;
    CHECK(ck_app_connections(world.app, CK_BY_AGE, found, 2) == CK_NOMEM);
    world.fail_at = 0;
    close_server();
}

static void test_watch(void)
{
    open_server(NULL);
    serve("GET", "/park", park);
    peer *client = dial();
    feed(client, GET("/park"));
    CHECK(write_text(parked, "unseen") >= 0 && world.uncorked == 0);
    settle();
    CHECK(ck_app_watch(world.app, 1) == CK_OK);
    CHECK(write_text(parked, "seen") >= 0 && write_text(parked, "packed behind it") >= 0 && world.uncorked == 1);
    settle();
    CHECK(ck_cork(parked) == 0 && write_text(parked, "corked") >= 0 && ck_uncork(parked) == 0 && world.uncorked == 1);
    CHECK(ck_app_watch(world.app, 0) == CK_OK && end_text(parked, "unseen") == CK_OK && world.uncorked == 1);
    settle();
    close_server();
}

static void test_each_flush_outside_a_cork_begins_anew(void)
{
    open_server(NULL);
    serve("GET", "/park", park);
    peer *client = dial();
    feed(client, GET("/park"));
    CHECK(ck_app_watch(world.app, 1) == CK_OK);
    for (int i = 1; i <= 3; i++) {
        CHECK(write_text(parked, "part") >= 0 && ck_flush(parked) == CK_OK);
        CHECK(client->sends == i && world.uncorked == i && stats().uncorked_writes == (uint64_t) i);
    }
    CHECK(ck_cork(parked) == 0 && write_text(parked, "x") >= 0 && ck_flush(parked) == CK_OK);
    CHECK(write_text(parked, "y") >= 0 && ck_uncork(parked) == 0 && client->sends == 5 && world.uncorked == 3);
    CHECK(ck_end(parked, "z", 1, CK_CLOSE) == CK_OK && ck_flush(parked) == CK_OK && client->sends == 6 && !client->shut);
    settle();
    CHECK(client->shut && route(0).flushes[CK_FLUSH_EXPLICIT] == 5); /* the end is seen to in the step that follows */
    close_server();
}

static void test_server_timing(void)
{
    open_server(NULL);
    serve("GET", "/a", answer_path);
    CHECK(ck_app_server_timing(world.app, 1) == CK_OK);
    peer *client = dial();
    feed(client, GET("/a") GET("/a"));
    CHECK(strstr(heard(client), "\r\nServer-Timing: responses;desc=\"0\", sends;desc=\"0\", bytes;desc=\"0\"\r\n"));
    CHECK(strstr(heard(client), "\r\nServer-Timing: responses;desc=\"1\", sends;desc=\"0\", bytes;desc=\"0\"\r\n"));
    CHECK(client->sends == 1);
    char expected[128];
    snprintf(expected, sizeof(expected), "\r\nServer-Timing: responses;desc=\"2\", sends;desc=\"1\", bytes;desc=\"%zu\"\r\n",
        client->out_length);
    feed(client, GET("/none"));
    CHECK(strstr(heard(client), expected) && client->sends == 2);
    CHECK(ck_app_server_timing(world.app, 0) == CK_OK);
    forget(client);
    feed(client, GET("/a"));
    CHECK_HEARD(client, ok("/a"));
    close_server();
}

static int last_field;

/* The longest tail still fits where the head ends at the brim of the buffer. */
static void many_fields(uint32_t handle)
{
    static char value[8000];
    memset(value, 'x', sizeof(value) - 1);
    CHECK(field(handle, "A", value) >= 0 && field(handle, "B", value) >= 0);
    value[last_field] = '\0';
    CHECK(field(handle, "C", value) >= 0);
    answer_path(handle);
}

static void test_server_timing_at_the_brim(void)
{
    open_server(NULL);
    serve("GET", "/a", many_fields);
    CHECK(ck_app_server_timing(world.app, 1) == CK_OK);
    for (last_field = 0; last_field < 390; last_field++) {
        peer *client = dial();
        feed(client, GET("/a"));
        CHECK(strstr(heard(client), "\r\nServer-Timing: responses;desc=\"0\", sends;") && strstr(heard(client), "\r\n\r\n/a"));
        reset(client);
        settle();
    }
    close_server();
}

static void test_stale_app(void)
{
    open_server(NULL);
    uint32_t app = world.app;
    ck_counters counters;
    ck_connection_info info;
    CHECK(ck_app_destroy(app) == CK_OK);
    CHECK(ck_app_route_stats(app, 0, 1, &counters) == CK_EXPIRED && ck_app_unrouted_stats(app, &counters) == CK_EXPIRED);
    CHECK(ck_app_connections(app, CK_BY_AGE, &info, 1) == CK_EXPIRED && ck_app_watch(app, 1) == CK_EXPIRED);
    CHECK(ck_app_server_timing(app, 1) == CK_EXPIRED && ck_app_backlog(app) == CK_EXPIRED);
    close_server();
}

int main(void)
{
    test_routes();
    test_unrouted();
    test_connections();
    test_bounds_of_connections();
    test_watch();
    test_each_flush_outside_a_cork_begins_anew();
    test_server_timing();
    test_server_timing_at_the_brim();
    test_stale_app();
    return checks_done();
}
