/* Apps: routes, fixed answers, listeners, draining, the end of everything, and
 * memory that fails at each allocation in turn. */
#include "http.h"

#include "server.h"

static uint32_t kept[16];
static int kept_count;

static void keep_in_order(uint32_t handle)
{
    if (ck_keep(handle) == CK_OK) {
        kept[kept_count++ % 16] = handle;
    }
}

static void open_app(void)
{
    kept_count = 0;
    open_server(NULL);
    serve("GET", "/later", keep_in_order);
    serve("GET", "/*", answer_path);
}

static int fix(const char *method, const char *path, int status, const char *head, const char *body)
{
    return ck_app_fixed(world.app, ck_method_id(method, strlen(method)), path, strlen(path), status, head, strlen(head), body,
        strlen(body));
}

/* ---- Routes ---- */

static void test_unrouted(void)
{
    open_server(NULL);
    serve("GET", "/a", answer_path);
    serve("POST", "/a", answer_path);
    peer *client = dial();
    feed(client, GET("/b") "DELETE /a HTTP/1.1\r\nHost: a\r\n\r\n" "BREW /a HTTP/1.1\r\nHost: a\r\n\r\n" GET("/a"));
    CHECK_HEARD(client, joined(4, plain("404 Not Found", false),
        answer_with("405 Method Not Allowed", "Allow: GET, HEAD, POST\r\nContent-Type: text/plain\r\n", "", "405 Method Not Allowed\n"),
        plain("501 Not Implemented", false), ok("/a")));
    CHECK(client->sends == 1 && stats().responses == 4 && stats().requests == 4);
    feed(client, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" GET("/a"));
    CHECK(strstr(heard(client), "HTTP/1.1 501 Not Implemented\r\n") && client->shut);
    close_server();
}

static int yields;

static void yield_first(uint32_t handle)
{
    CHECK(ck_get_yield(handle) == 0);
    if (yields-- > 0) {
        CHECK(ck_set_yield(handle, 1) == CK_OK && ck_get_yield(handle) == 1);
    } else {
        answer_path(handle);
    }
}

static void test_yield(void)
{
    open_server(NULL);
    serve("GET", "/a", yield_first);
    serve("GET", "/:b", yield_first);
    serve("GET", "/*", yield_first);
    peer *client = dial();
    for (int i = 0; i <= 3; i++) {
        yields = i;
        forget_log();
        forget(client);
        feed(client, GET("/a"));
        CHECK_HEARD(client, i < 3 ? ok("/a") : plain("404 Not Found", false));
        CHECK_TEXT(world.log, i == 0 ? "request 0|" : i == 1 ? "request 0|request 1|" : "request 0|request 1|request 2|");
    }
    close_server();
}

/* Adding routes from a handler must not move what the core is looking at. */
static void add_routes(uint32_t handle)
{
    for (int i = 0; i < 100; i++) {
        char path[16];
        int length = snprintf(path, sizeof(path), "/n%d", i);
        CHECK(ck_app_route(world.app, ck_method_id("GET", 3), path, (size_t) length, 1, -1) == 0);
    }
    CHECK(ck_set_yield(handle, 1) == CK_OK);
}

static void test_routes_added_by_a_handler(void)
{
    open_server(NULL);
    serve("GET", "/a", add_routes);
    serve("GET", "/*", answer_path);
    peer *client = dial();
    feed(client, GET("/a") GET("/n99"));
    CHECK_HEARD(client, joined(2, ok("/a"), ok("/n99")));
    close_server();
}

/* ---- Fixed answers ---- */

static void test_fixed(void)
{
    open_server(NULL);
    CHECK(fix("GET", "/health", 200, "Content-Type: text/plain\r\n", "fine") == 0);
    CHECK(fix("*", "/gone", 410, "", "") == 0);
    CHECK(ck_app_fixed(world.app, ck_method_id("GET", 3), "/null", 5, 204, NULL, 0, NULL, 0) == 0);
    peer *client = dial();
    feed(client, GET("/health") "HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n" GET("/gone") GET("/null")
        "POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" GET("/health"));
    const char *fine = answer_with("200 OK", "Content-Type: text/plain\r\n", "", "fine");
    CHECK_HEARD(client, joined(6, fine, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" DATE "Content-Length: 4\r\n\r\n",
        answer_with("410 Gone", "", "", ""), "HTTP/1.1 204 No Content\r\n" DATE "\r\n", answer_with("410 Gone", "", "", ""), fine));
    CHECK_LOG("");
    CHECK(client->sends == 1 && ck_loop_handles() == 2);
    close_server();
}

static void test_fixed_refused(void)
{
    static char much[CK_CORK_CAPACITY];
    open_server(NULL);
    CHECK(fix("GET", "/", 199, "", "") == CK_STATUS && fix("GET", "/", 600, "", "") == CK_STATUS);
    CHECK(fix("GET", "/", 204, "", "x") == CK_STATE && fix("GET", "/", 304, "", "x") == CK_STATE && fix("GET", "/", 205, "", "x") == CK_STATE);
    CHECK(fix("GET", "/", 200, "A", "") == CK_VALUE && fix("GET", "/", 200, "A: b", "") == CK_VALUE);
    CHECK(fix("GET", "/", 200, "A: b\r", "") == CK_VALUE && fix("GET", "/", 200, "A: b\n", "") == CK_VALUE);
    CHECK(fix("GET", "/", 200, "A: b\r\n\r\n", "") < 0 && fix("GET", "/", 200, "\r\n", "") < 0);
    CHECK(fix("GET", "/", 200, "A b: c\r\n", "") == CK_NAME && fix("GET", "/", 200, ": c\r\n", "") == CK_NAME);
    CHECK(fix("GET", "/", 200, "A: b\x01\r\n", "") == CK_VALUE && fix("GET", "/", 200, "A: b\nC: d\r\n", "") == CK_VALUE);
    CHECK(fix("GET", "/", 200, "Content-Length: 1\r\n", "x") == CK_FRAMING && fix("GET", "/", 200, "A: b\r\nDate: x\r\n", "") == CK_FRAMING);
    CHECK(fix("GET", "/", 200, "TRANSFER-ENCODING: x\r\n", "") == CK_FRAMING && fix("GET", "/", 200, "Connection: x\r\n", "") == CK_FRAMING);
    CHECK(fix("GET", "no/slash", 200, "", "") == -EINVAL);
    memset(much, 'm', sizeof(much));
    memcpy(much, "A: ", 3);
    memcpy(much + sizeof(much) - 2, "\r\n", 2);
    CHECK(ck_app_fixed(world.app, 0, "/", 1, 200, much, sizeof(much), "", 0) == CK_LENGTH);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK_HEARD(client, plain("404 Not Found", false));
    close_server();
}

static void test_method_ids(void)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"};
    for (int i = 0; i < 9; i++) {
        CHECK(ck_method_id(names[i], strlen(names[i])) == i);
    }
    CHECK(ck_method_id("*", 1) > 8);
    CHECK(ck_method_id("get", 3) == -1 && ck_method_id("GE", 2) == -1 && ck_method_id("", 0) == -1 && ck_method_id("BREW", 4) == -1);
}

/* ---- Draining and ending ---- */

static void test_drain(void)
{
    open_app();
    peer *idle = dial();
    peer *used = dial();
    peer *half = dial();
    peer *busy = dial();
    peer *slow = dial();
    feed(used, GET("/1"));
    feed(half, "GET /2 HT");
    feed(busy, GET("/later") GET("/never"));
    slow->room = 5;
    feed(slow, GET("/3"));
    CHECK(ck_app_drain(world.app) == CK_OK);
    settle();
    CHECK(idle->closed && used->closed && half->closed && !busy->closed && !slow->closed);
    CHECK(end_text(kept[0], "x") == CK_OK);
    settle();
    CHECK_HEARD(busy, answer_with("200 OK", "", "Connection: close\r\n", "x"));
    slow->room = UNLIMITED;
    settle();
    CHECK_HEARD(slow, ok("/3"));
    CHECK(slow->shut || slow->closed); /* idle at last */
    finish(busy);
    finish(slow);
    CHECK(stats().open == 0);
    CHECK(ck_app_drain(world.app) == CK_OK);
    close_server();
}

static void test_drain_while_a_body_is_dropped(void)
{
    open_app();
    serve("POST", "/*", answer_path);
    peer *client = dial();
    feed(client, "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc");
    CHECK_HEARD(client, ok("/1"));
    CHECK(ck_app_drain(world.app) == CK_OK);
    settle();
    feed(client, "de");
    CHECK(client->shut || client->closed);
    CHECK(!client->reset);
    close_server();
}

static void test_listeners(void)
{
    int error = -1;
    open_app();
    uint32_t more = ck_app_listen(world.app, "127.0.0.1", 81, 0, &error);
    CHECK(more && error == 0 && ck_listener_port(more) == 4321);
    CHECK(ck_listener_close(more) == CK_OK && ck_listener_close(more) == CK_EXPIRED);
    CHECK(ck_app_listen(world.app, "127.0.0.1", -1, 0, &error) == 0 && error == EINVAL);
    CHECK(ck_app_listen(world.app, "127.0.0.1", 65536, 0, &error) == 0 && error == EINVAL);
    peer *client = dial(); /* by the first */
    feed(client, GET("/1"));
    CHECK_HEARD(client, ok("/1"));
    close_server();
}

static void test_everything_open(void)
{
    for (int way = 0; way < 3; way++) {
        open_app();
        serve("POST", "/later", keep_in_order);
        peer *clients[7];
        for (int i = 0; i < 7; i++) {
            clients[i] = dial();
        }
        feed(clients[1], "GET / HT");
        feed(clients[2], GET("/later") GET("/behind"));
        feed(clients[3], "POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
        CHECK(ck_body_ask(kept[1], CK_BODY_COLLECT) == 0);
        settle();
        clients[4]->room = 3;
        feed(clients[4], GET("/later"));
        CHECK(write_text(kept[2], "unsent") == CK_OK && ck_flush(kept[2]) == CK_OK && write_text(kept[2], "more") == 1);
        feed(clients[5], GET("/later"));
        CHECK(ck_cork(kept[3]) == CK_OK && end_text(kept[3], "packed") == CK_OK);
        feed(clients[6], "bad\r\n\r\n");
        forget_log();
        if (way == 0) {
            CHECK(ck_app_destroy(world.app) == CK_OK);
            CHECK(ck_app_destroy(world.app) == CK_EXPIRED);
            CHECK(ck_loop_handles() == 4);
        } else if (way == 1) {
            CHECK(ck_app_abort(world.app) == CK_OK && stats().open == 0);
        }
        if (way < 2) {
            CHECK(strstr(world.log, "body 1|aborted 2|"));
            CHECK(ck_alive(kept[0]) == CK_ABORTED && ck_alive(kept[3]) == CK_FINISHED);
            CHECK(ck_release(kept[0]) == CK_OK);
        }
        close_server();
        CHECK(strlen(world.log) == strlen("aborted 2|aborted 2|body 1|aborted 2|"));
    }
}

/* What was packed leaves before the end. */
static void test_packed_bytes_survive_the_end(void)
{
    open_app();
    peer *client = dial();
    feed(client, GET("/later"));
    CHECK(end_text(kept[0], "x") == CK_OK);
    CHECK(client->sends == 0);
    CHECK(ck_loop_close() == 0);
    CHECK_HEARD(client, ok("x"));
    CHECK(client->closed);
    close_world();
}

static void test_two_apps(void)
{
    open_app();
    uint32_t first = world.app;
    ck_limits limits = limits_default;
    limits.body = 1;
    world.app = ck_app_create(&limits);
    serve("GET", "/second", answer_path);
    CHECK(ck_loop_open_on(&world.sys, &world_callbacks) == 0);
    CHECK(ck_loop_close() == 1);
    peer *client = dial();
    feed(client, GET("/second"));
    CHECK_HEARD(client, ok("/second")); /* by the first one's wildcard */
    CHECK(stats().requests == 0);
    CHECK(ck_app_destroy(world.app) == CK_OK);
    world.app = first;
    feed(client, GET("/later"));
    CHECK(end_text(kept[0], "x") == CK_OK);
    settle();
    CHECK(stats().requests == 2 && ck_corked() == 0);
    close_server();
}

static uint32_t doomed;

static void destroy_again(uint32_t handle)
{
    (void) handle;
    int error;
    (void) ck_app_destroy(doomed);
    (void) ck_app_abort(doomed);
    CHECK(ck_app_listen(doomed, "127.0.0.1", 82, 0, &error) == 0);
}

static void test_destroy_inside_destroy(void)
{
    for (int way = 0; way < 2; way++) {
        open_app();
        doomed = world.app;
        world.aborted = destroy_again;
        peer *clients[3];
        for (int i = 0; i < 3; i++) {
            clients[i] = dial();
            feed(clients[i], GET("/later"));
        }
        if (way) {
            CHECK(ck_app_destroy(doomed) == CK_OK);
        } else {
            world.aborted = destroy_again;
            (void) ck_app_abort(doomed);
            (void) ck_app_destroy(doomed);
        }
        CHECK(clients[0]->closed && clients[1]->closed && clients[2]->closed);
        CHECK(ck_loop_handles() == 3);
        close_server();
    }
}

static void test_without_a_loop(void)
{
    int error;
    reset_world();
    CHECK(ck_loop_close() == CK_NOLOOP && ck_loop_step() == CK_NOLOOP && ck_loop_sweep() == CK_NOLOOP);
    CHECK(ck_app_create(&limits_default) == 0 && ck_loop_handles() == 0 && ck_loop_token() == 0);
    CHECK(ck_app_listen(1, NULL, 0, 0, &error) == 0);
    CHECK(ck_loop_wake(12345) == CK_NOLOOP);
}

static void test_wake(void)
{
    open_app();
    uint32_t token = ck_loop_token();
    CHECK(token && ck_loop_wake(token) == CK_OK);
    CHECK(anything_ready());
    settle();
    CHECK(!anything_ready());
    close_server();
    CHECK(ck_loop_wake(token) == CK_NOLOOP);
}

/* ---- Memory ---- */

static void do_much(uint32_t handle)
{
    char large[40000];
    memset(large, 'l', sizeof(large));
    (void) field(handle, "A", "b");
    (void) ck_write(handle, large, 9000);
    (void) ck_write(handle, large, sizeof(large));
    (void) ck_end(handle, large, 100, 0);
}

static void collect(uint32_t handle)
{
    if (ck_keep(handle) == CK_OK && ck_body_ask(handle, CK_BODY_COLLECT) == 1) {
        (void) end_text(handle, "x");
        (void) ck_release(handle);
    }
}

static void stream(uint32_t handle)
{
    if (ck_keep(handle) == CK_OK) {
        (void) ck_body_ask(handle, CK_BODY_STREAM);
    }
}

static void end_and_release(uint32_t handle)
{
    (void) end_text(handle, "x");
    (void) ck_release(handle);
}

static void end_last(uint32_t handle)
{
    if (world.event) {
        end_and_release(handle);
    }
}

static void answer_if_possible(uint32_t handle)
{
    (void) end_text(handle, "answer");
}

static void release(uint32_t handle)
{
    (void) ck_release(handle);
}

static bool route(const char *method, const char *path, handler run)
{
    world.handlers[world.routes] = run;
    return ck_app_route(world.app, ck_method_id(method, strlen(method)), path, strlen(path), world.routes++, -1) == 0;
}

/* A session that allocates in all the ways there are. */
static bool session(void)
{
    kept_count = 0;
    if (!try_open_server(NULL)) {
        return false;
    }
    world.body = end_and_release;
    world.data = end_last;
    world.aborted = release;
    (void) route("GET", "/later", keep_in_order);
    (void) route("GET", "/much", do_much);
    (void) route("POST", "/collect", collect);
    (void) route("POST", "/stream/:a/:b", stream);
    (void) fix("GET", "/fixed", 200, "A: b\r\n", "body");
    (void) route("GET", "/*", answer_if_possible);
    peer *clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = dial();
    }
    feed(clients[0], GET("/1") GET("/fixed") GET("/later") GET("/2"));
    clients[1]->most = 1000;
    feed(clients[1], GET("/much") GET("/4"));
    feed(clients[2], "POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    feed(clients[2], "lo" "POST /stream/1/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n");
    feed(clients[3], "POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n" "GE");
    if (kept_count) {
        void *header = ck_py_header(kept[0], "host", 4);
        if (header) {
            object_decref(header);
        }
        (void) ck_cork(kept[0]);
        (void) write_text(kept[0], "x");
        (void) ck_uncork(kept[0]);
        settle();
        end_and_release(kept[0]);
    }
    settle();
    finish(clients[0]);
    reset(clients[3]);
    pass_seconds(24);
    return true;
}

/* Afterwards, with memory again, the same process serves as ever. */
static void check_alive_again(void)
{
    world.fail_at = 0;
    forget_log();
    peer *client = dial();
    CHECK(route("GET", "/alive", answer_hello));
    feed(client, GET("/alive"));
    CHECK_HEARD(client, ok("hello"));
}

static long run_session(long fail_at, bool on)
{
    reset_world();
    world.fail_at = fail_at;
    world.fail_on = on;
    if (session()) {
        check_alive_again();
        close_server();
    } else {
        close_world();
    }
    return world.allocations;
}

static void test_memory_fails_at_each_allocation(void)
{
    long total = run_session(0, false);
    CHECK(total > 30);
    for (long n = 1; n <= total; n++) {
        (void) run_session(n, false);
        (void) run_session(n, true);
    }
}

/* An event that cannot be handled for want of memory must not be forgotten: the
 * seventeenth cork needs memory, and a timeout comes only once. */
static void test_no_memory_to_cork(void)
{
    open_app();
    peer *client = dial();
    feed(client, GET("/later"));
    peer *idle = dial();
    peer *slow = dial();
    feed(slow, GET("/later"));
    slow->room = 0;
    CHECK(write_text(kept[1], "x") == CK_OK && ck_flush(kept[1]) == CK_OK && ck_want_writable(kept[1]) == CK_OK);
    settle();
    for (int i = 0; i < 16; i++) {
        CHECK(ck_cork(kept[0]) == CK_OK);
    }
    world.fail_at = world.allocations + 1;
    world.fail_on = true;
    CHECK(ck_cork(kept[0]) == CK_NOMEM);
    slow->room = UNLIMITED;
    settle();
    CHECK(slow->closed);
    pass_seconds(12);
    CHECK(idle->closed && !client->closed);
    world.fail_at = 0;
    CHECK(end_text(kept[0], "x") == CK_OK);
    for (int i = 15; i >= 0; i--) {
        CHECK(ck_uncork(kept[0]) == i);
    }
    CHECK_HEARD(client, ok("x"));
    close_server();
}

/* Descriptors that fail leave nothing behind either. */
static int calls_left;

static int failing_socket(struct us_sys_t *sys, int domain, int type, int protocol)
{
    if (calls_left-- == 0) {
        errno = EMFILE;
        return -1;
    }
    return s_socket(sys, domain, type, protocol);
}

static void test_no_descriptors(void)
{
    int error = 0;
    open_app();
    world.sys.socket = failing_socket;
    calls_left = 0;
    CHECK(ck_app_listen(world.app, "127.0.0.1", 83, 0, &error) == 0 && error == EMFILE);
    close_server();
}

int main(void)
{
    test_unrouted();
    test_yield();
    test_routes_added_by_a_handler();
    test_fixed();
    test_fixed_refused();
    test_method_ids();
    test_drain();
    test_drain_while_a_body_is_dropped();
    test_listeners();
    test_everything_open();
    test_packed_bytes_survive_the_end();
    test_two_apps();
    test_destroy_inside_destroy();
    test_without_a_loop();
    test_wake();
    test_memory_fails_at_each_allocation();
    test_no_memory_to_cork();
    test_no_descriptors();
    return checks_done();
}
