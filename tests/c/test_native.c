/* Routes answered in C: handlers, followers, bodies, the request without Python, the
 * loop of an app for one's own polls, its end, and handles that are wrong. */
#include "server.h"

#include <pthread.h>

#include "corkbind_api.h"

typedef void (*native)(uint32_t exchange, void *user);

static const ck_api *api;
static int marker; /* what handlers are given */

static int route_native(const char *method, const char *path, native run)
{
    return api->ck_app_route_native(world.app, ck_method_id(method, strlen(method)), path, strlen(path), run, &marker, -1);
}

static void open_native(void)
{
    open_server(NULL);
    api = ck_api_table();
    CHECK(api->abi_version == CK_ABI_VERSION && api->size == sizeof(ck_api));
    CHECK(api->ck_end == ck_end && api->us_create_poll == us_create_poll);
}

/* ---- Answers ---- */

static void answer(uint32_t exchange, void *user)
{
    CHECK(user == &marker && api->ck_corked() == exchange);
    CHECK(api->ck_header(exchange, "A", 1, "b", 1) == CK_OK);
    CHECK(api->ck_write(exchange, "one ", 4) >= 0);
    CHECK(api->ck_end(exchange, "send", 4, 0) == CK_OK);
}

static void forget_to_answer(uint32_t exchange, void *user)
{
    (void) exchange, (void) user;
}

static void test_answers(void)
{
    open_native();
    CHECK(route_native("GET", "/c", answer) == 0);
    CHECK(route_native("GET", "/none", forget_to_answer) == 0);
    serve("GET", "/*", answer_path);
    peer *client = dial();
    feed(client, GET("/c") GET("/python") GET("/c"));
    const char *one = "HTTP/1.1 200 OK\r\nA: b\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n4\r\none \r\n4\r\nsend\r\n0\r\n\r\n";
    CHECK_HEARD(client, joined(3, one, ok("/python"), one));
    CHECK(client->sends == 1);
    CHECK_LOG("request 0|"); /* nothing but the one of Python */
    forget(client);
    feed(client, GET("/none"));
    CHECK_HEARD(client, plain("500 Internal Server Error", false));
    ck_counters counters;
    CHECK(ck_app_route_stats(world.app, 0, 1, &counters) == 1 && counters.requests == 2 && counters.responses == 2);
    close_server();
}

static void pass_on(uint32_t exchange, void *user)
{
    (void) user;
    CHECK(ck_set_yield(exchange, 1) == CK_OK);
}

static void test_a_route_that_yields_to_python(void)
{
    open_native();
    CHECK(route_native("GET", "/a", pass_on) == 0);
    serve("GET", "/*", just_keep);
    peer *client = dial();
    feed(client, GET("/a"));
    CHECK(ck_follow(world.last, NULL, NULL) == CK_STATE);
    reset(client);
    CHECK_LOG("request 0|aborted 0|");
    CHECK(ck_release(world.last) == CK_OK);
    close_server();
}

static void add_many(uint32_t exchange, void *user)
{
    (void) user;
    for (int i = 0; i < 100; i++) {
        char path[16];
        snprintf(path, sizeof(path), "/n%d", i);
        CHECK(route_native("GET", path, answer) == 0);
    }
    CHECK(ck_end(exchange, "added", 5, 0) == CK_OK);
}

static void test_routes_added_by_a_handler(void)
{
    open_native();
    CHECK(route_native("GET", "/a", add_many) == 0);
    peer *client = dial();
    feed(client, GET("/a"));
    CHECK_HEARD(client, ok("added"));
    feed(client, GET("/n99"));
    CHECK(strstr(heard(client), "A: b"));
    close_server();
}

static void test_names_of_routes(void)
{
    int method = -1;
    const char *pattern = NULL;
    open_native();
    serve("GET", "/p", answer_hello);
    CHECK(route_native("PUT", "/c/:x", answer) == 0);
    CHECK(ck_app_native_route(world.app, 0, &method, &pattern) == 0 && !pattern);
    CHECK(ck_app_native_route(world.app, 1, &method, &pattern) == 5 && memcmp(pattern, "/c/:x", 5) == 0);
    CHECK(method == ck_method_id("PUT", 3));
    CHECK(ck_app_native_route(world.app, 2, &method, &pattern) == CK_VALUE);
    CHECK(ck_app_native_route(world.app, -1, &method, &pattern) == CK_VALUE);
    close_server();
}

static void test_a_domain(void)
{
    int method = -1, error = 1;
    const char *pattern = NULL;
    open_native();
    uint32_t domain = ck_app_domain(world.app, "b.example", 9, &error);
    CHECK(domain && error == CK_OK);
    CHECK(ck_app_route_native(domain, ck_method_id("GET", 3), "/c", 2, answer, &marker, -1) == 0);
    CHECK(ck_app_native_route(world.app, 0, &method, &pattern) == 11 && memcmp(pattern, "b.example/c", 11) == 0);
    peer *client = dial();
    feed(client, GET("/c") "GET /c HTTP/1.1\r\nHost: b.example\r\n\r\n");
    CHECK(strncmp(heard(client), "HTTP/1.1 404 ", 13) == 0 && strstr(heard(client), "A: b\r\n"));
    CHECK(!ck_app_loop(domain, &error) && error == CK_EXPIRED);
    CHECK(ck_app_on_destroy(domain, NULL, NULL) == CK_EXPIRED);
    close_server();
    CHECK(ck_app_route_native(domain, 0, "/c", 2, answer, &marker, -1) == CK_EXPIRED);
}

static void ended(void *user);

static void test_what_is_refused(void)
{
    open_native();
    CHECK(route_native("GET", "no slash", answer) == -EINVAL);
    CHECK(route_native("GET", "", answer) == -EINVAL);
    CHECK(route_native("BREW", "/a", answer) == -EINVAL);
    CHECK(ck_app_route_native(world.app, 0, "/a", 2, NULL, NULL, -1) == -EINVAL);
    world.fail_at = world.allocations + 1;
    CHECK(route_native("GET", "/a", answer) == -ENOMEM);
    world.fail_at = world.allocations + 1;
    CHECK(ck_app_on_destroy(world.app, ended, NULL) == CK_NOMEM);
    world.fail_at = 0;
    CHECK(ck_app_on_destroy(world.app, NULL, NULL) == CK_VALUE);
    CHECK(ck_app_route_native(world.app, ck_method_id("POST", 4), "/small", 6, answer, &marker, 2) == 0);
    peer *client = dial();
    feed(client, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    CHECK(strncmp(heard(client), "HTTP/1.1 413 ", 13) == 0);
    close_server();
}

/* ---- The request ---- */

#define SAME(call, wanted) \
    do { \
        int length = (call); \
        CHECK(length == (int) sizeof(wanted) - 1 && memcmp(value, wanted, sizeof(wanted) - 1) == 0); \
    } while (0)

static void look(uint32_t exchange, void *user)
{
    (void) user;
    const char *value = NULL, *name = NULL;
    int name_length = 0;
    char address[16];
    SAME(ck_method_value(exchange, &value), "GET");
    SAME(ck_target_value(exchange, &value), "/x/a%20b/c?q=1&r");
    SAME(ck_path_value(exchange, &value), "/x/a%20b/c");
    SAME(ck_query_value(exchange, &value), "q=1&r");
    SAME(ck_host_value(exchange, &value), "h:1");
    SAME(ck_parameter_value(exchange, 0, &value), "a%20b");
    SAME(ck_parameter_value(exchange, 1, &value), "c");
    CHECK(ck_parameter_value(exchange, 2, &value) == CK_VALUE && ck_parameter_value(exchange, -1, &value) == CK_VALUE);
    SAME(ck_header_value(exchange, "accept", 6, &value), "text/plain");
    CHECK(ck_header_value(exchange, "none", 4, &value) == CK_VALUE && ck_header_value(exchange, "none", -1, &value) == CK_VALUE);
    SAME(ck_field_value(exchange, 1, &name, &name_length, &value), "text/plain");
    CHECK(name_length == 6 && memcmp(name, "Accept", 6) == 0);
    CHECK(ck_field_value(exchange, 2, &name, &name_length, &value) == CK_VALUE);
    CHECK(ck_field_value(exchange, -1, &name, &name_length, &value) == CK_VALUE);
    CHECK(ck_remote_address_value(exchange, address) == 4 && memcmp(address, "\x7f\0\0\1", 4) == 0);
    CHECK(ck_body_value(exchange, &value) == 0);
    CHECK(ck_keep(exchange) == CK_OK);
    world.last = exchange;
}

static void test_the_request(void)
{
    open_native();
    CHECK(route_native("GET", "/x/:one/*", look) == 0);
    peer *client = dial();
    feed(client, "GET /x/a%20b/c?q=1&r HTTP/1.1\r\nHost: h:1\r\nAccept: text/plain\r\n\r\n");
    const char *value = NULL, *name = NULL;
    int name_length;
    char address[16];
    reset(client);
    SAME(ck_target_value(world.last, &value), "/x/a%20b/c?q=1&r"); /* it was copied */
    CHECK(ck_remote_address_value(world.last, address) == 0);
    CHECK(ck_release(world.last) == CK_OK);
    CHECK(ck_method_value(world.last, &value) == CK_EXPIRED && ck_target_value(world.last, &value) == CK_EXPIRED);
    CHECK(ck_path_value(world.last, &value) == CK_EXPIRED && ck_query_value(world.last, &value) == CK_EXPIRED);
    CHECK(ck_host_value(world.last, &value) == CK_EXPIRED && ck_parameter_value(world.last, 0, &value) == CK_EXPIRED);
    CHECK(ck_header_value(world.last, "a", 1, &value) == CK_EXPIRED && ck_body_value(world.last, &value) == CK_EXPIRED);
    CHECK(ck_field_value(world.last, 0, &name, &name_length, &value) == CK_EXPIRED);
    CHECK(ck_remote_address_value(world.last, address) == CK_EXPIRED);
    CHECK(ck_follow(world.last, NULL, NULL) == CK_EXPIRED);
    close_server();
}

/* ---- Followers ---- */

static char told[4096];
static size_t told_length;

static void tell(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    told_length += (size_t) vsnprintf(told + told_length, sizeof(told) - told_length, format, arguments);
    va_end(arguments);
}

static void on_gone(uint32_t exchange, int reason, void *user)
{
    const char *value;
    tell("aborted %d|", reason);
    CHECK(user == told && ck_path_value(exchange, &value) > 0);
    CHECK(ck_end(exchange, "x", 1, 0) == CK_ABORTED);
    CHECK(ck_release(exchange) == CK_OK && ck_release(exchange) == CK_EXPIRED);
}

static void on_whole(uint32_t exchange, int event, void *user)
{
    const char *value = NULL;
    int64_t length = ck_body_value(exchange, &value);
    CHECK(user == told && (length >= 0) == (event == CK_BODY_COMPLETE));
    tell("body %d %.*s|", event, length < 0 ? 0 : (int) length, length < 0 ? "" : value);
    if (event == CK_BODY_COMPLETE) {
        CHECK(end_text(exchange, "got it") == CK_OK && ck_release(exchange) == CK_OK);
    }
}

static void on_part(uint32_t exchange, const char *data, size_t length, int last, void *user)
{
    CHECK(user == told && ck_corked() == exchange);
    tell("data %d %.*s|", last, (int) length, data);
    if (last) {
        CHECK(end_text(exchange, "all in") == CK_OK && ck_release(exchange) == CK_OK);
    }
}

static void on_room(uint32_t exchange, void *user)
{
    CHECK(user == told && ck_corked() == exchange);
    tell("writable|");
    CHECK(end_text(exchange, "z") == CK_OK && ck_release(exchange) == CK_OK);
}

static const ck_follower all = {on_gone, on_whole, on_part, on_room};

static void follow(uint32_t exchange, void *user)
{
    (void) user;
    world.last = exchange;
    CHECK(ck_keep(exchange) == CK_OK && ck_follow(exchange, &all, told) == CK_OK);
}

static void follow_whole(uint32_t exchange, void *user)
{
    const char *value;
    follow(exchange, user);
    int there = ck_body_ask(exchange, CK_BODY_COLLECT);
    CHECK(there >= 0);
    if (there) {
        on_whole(exchange, CK_BODY_COMPLETE, told);
    } else {
        CHECK(ck_body_value(exchange, &value) == CK_STATE);
    }
}

static void follow_parts(uint32_t exchange, void *user)
{
    follow(exchange, user);
    CHECK(ck_body_ask(exchange, CK_BODY_STREAM) >= 0);
}

static void follow_slow(uint32_t exchange, void *user)
{
    static char large[200000];
    follow(exchange, user);
    memset(large, 'l', sizeof(large));
    CHECK(ck_write_large(exchange, large, sizeof(large)) == 1);
    CHECK(ck_want_writable(exchange) == CK_OK);
}

static void open_followed(void)
{
    open_native();
    told_length = 0;
    told[0] = '\0';
    CHECK(route_native("GET", "/later", follow) == 0);
    CHECK(route_native("*", "/whole", follow_whole) == 0);
    CHECK(route_native("*", "/parts", follow_parts) == 0);
    CHECK(route_native("GET", "/slow", follow_slow) == 0);
}

static void test_later(void)
{
    open_followed();
    peer *client = dial();
    feed(client, GET("/later"));
    CHECK_HEARD(client, "");
    CHECK(field(world.last, "A", "b") == CK_OK && end_text(world.last, "late") == CK_OK); /* no cork: packed */
    CHECK_HEARD(client, "");
    settle();
    CHECK_HEARD(client, answer_with("200 OK", "A: b\r\n", "", "late"));
    CHECK(client->sends == 1 && stats().uncorked_writes == 1);
    CHECK(ck_release(world.last) == CK_OK && ck_end(world.last, "x", 1, 0) == CK_EXPIRED);
    CHECK_TEXT(told, "");
    CHECK_LOG("");
    close_server();
}

static void test_aborted(void)
{
    open_followed();
    peer *client = dial();
    feed(client, GET("/later"));
    reset(client);
    CHECK_TEXT(told, "aborted 0|");
    client = dial();
    feed(client, GET("/later"));
    pass_seconds(64);
    CHECK_TEXT(told, "aborted 0|aborted 1|");
    feed(dial(), GET("/later"));
    CHECK(ck_app_abort(world.app) == CK_OK);
    CHECK_TEXT(told, "aborted 0|aborted 1|aborted 2|");
    CHECK_LOG("");
    CHECK(ck_loop_handles() == 2);
    close_server();
}

static void test_bodies(void)
{
    open_followed();
    peer *client = dial();
    feed(client, "PUT /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" GET("/whole"));
    feed(client, "PUT /whole HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nd\r\n");
    feed(client, "2\r\nef\r\n0\r\n\r\n");
    CHECK_TEXT(told, "body 0 abc|body 0 |body 0 def|");
    CHECK_HEARD(client, joined(3, ok("got it"), ok("got it"), ok("got it")));
    feed(client, "PUT /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    told_length = 0;
    reset(client);
    CHECK_TEXT(told, "body 1 |aborted 0|");
    client = dial();
    told_length = 0;
    feed(client, "PUT /parts HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    feed(client, "cde" GET("/parts"));
    CHECK_TEXT(told, "data 0 ab|data 1 cde|data 1 |");
    CHECK_HEARD(client, joined(2, ok("all in"), ok("all in")));
    CHECK_LOG("");
    CHECK(world.objects_made == 0);
    close_server();
}

static void test_writable(void)
{
    open_followed();
    peer *client = dial();
    client->room = 1000;
    feed(client, GET("/slow"));
    CHECK_TEXT(told, "");
    client->room = UNLIMITED;
    settle();
    CHECK_TEXT(told, "writable|");
    CHECK(strstr(heard(client), "\r\n1\r\nz\r\n0\r\n\r\n"));
    CHECK_LOG("");
    close_server();
}

static void keep_alone(uint32_t exchange, void *user)
{
    (void) user;
    world.last = exchange;
    CHECK(ck_keep(exchange) == CK_OK && ck_body_ask(exchange, exchange % 2 ? CK_BODY_COLLECT : CK_BODY_STREAM) >= 0);
}

/* Who is not followed is told nothing, and neither is Python. */
static void test_without_a_follower(void)
{
    static const ck_follower none;
    open_native();
    CHECK(route_native("POST", "/", keep_alone) == 0);
    for (int i = 0; i < 8; i++) {
        peer *client = dial();
        feed(client, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na");
        if (i % 4 == 0) {
            CHECK(ck_follow(world.last, &none, NULL) == CK_OK);
        }
        feed(client, i % 2 ? "bcd" : "b");
        reset(client);
        CHECK(ck_release(world.last) == CK_OK);
    }
    CHECK_LOG("");
    CHECK(world.objects_made == 0 && ck_loop_handles() == 2);
    close_server();
}

/* ---- The loop ---- */

static int ready_count;
static uint32_t waiting[2];

static void answer_waiting(struct us_poll_t *poll, int error, int events)
{
    CHECK(!error && events == LIBUS_SOCKET_READABLE);
    ready_count++;
    for (int i = 0; i < 2; i++) {
        CHECK(field(waiting[i], "A", "b") == CK_OK && end_text(waiting[i], "polled") == CK_OK && ck_release(waiting[i]) == CK_OK);
    }
    api->us_poll_stop(poll, api->ck_app_loop(world.app, NULL));
}

/* A descriptor of ours on the app's loop: its callback answers two clients, one send each. */
static void test_a_poll(void)
{
    int error = 1;
    open_followed();
    struct us_loop_t *loop = api->ck_app_loop(world.app, &error);
    CHECK(loop && error == CK_OK);
    peer *clients[2];
    for (int i = 0; i < 2; i++) {
        clients[i] = dial();
        feed(clients[i], GET("/later"));
        waiting[i] = world.last;
    }
    int fd = world.sys.eventfd(&world.sys, 0, 0);
    struct us_poll_t *poll = api->us_create_poll(loop, 1, 0);
    api->us_poll_init(poll, fd, 0);
    api->us_poll_on_ready(poll, answer_waiting);
    api->us_poll_start(poll, loop, LIBUS_SOCKET_READABLE);
    settle();
    ready_count = 0;
    CHECK_HEARD(clients[0], "");
    uint64_t one = 1;
    CHECK(world.sys.write(&world.sys, fd, &one, sizeof(one)) == sizeof(one));
    settle();
    CHECK(ready_count == 1);
    for (int i = 0; i < 2; i++) {
        CHECK_HEARD(clients[i], answer_with("200 OK", "A: b\r\n", "", "polled"));
        CHECK(clients[i]->sends == 1);
    }
    api->us_poll_free(poll, loop);
    CHECK(world.sys.close(&world.sys, fd) == 0);
    settle();
    close_server();
}

static void ended(void *user)
{
    tell("%s|", (const char *) user);
    CHECK(ck_loop_token() != 0);
}

static void test_the_end(void)
{
    open_followed();
    feed(dial(), GET("/later"));
    uint32_t app = world.app;
    CHECK(ck_app_on_destroy(app, ended, (void *) "first") == CK_OK);
    CHECK(ck_app_on_destroy(app, ended, (void *) "second") == CK_OK);
    CHECK(ck_app_destroy(app) == CK_OK);
    CHECK_TEXT(told, "aborted 2|second|first|");
    int error = 0;
    CHECK(!ck_app_loop(app, &error) && error == CK_EXPIRED && !ck_app_loop(app, NULL));
    CHECK(ck_app_on_destroy(app, ended, NULL) == CK_EXPIRED);
    CHECK(ck_app_route_native(app, 0, "/", 1, answer, NULL, -1) == CK_EXPIRED);
    CHECK(ck_app_native_route(app, 0, &error, NULL) == CK_EXPIRED);
    close_server();
    CHECK(!ck_app_loop(app, &error) && error == CK_EXPIRED);
}

/* The next loop of a thread has the number of the one before, and none of its handles. */
static void test_handles_of_an_earlier_loop(void)
{
    int error = 0;
    open_followed();
    peer *client = dial();
    feed(client, GET("/later"));
    uint32_t app = world.app, exchange = world.last;
    CHECK(ck_release(exchange) == CK_OK);
    close_server();
    for (int i = 0; i < 3; i++) {
        open_followed();
        feed(dial(), GET("/later"));
        CHECK(!ck_app_loop(app, &error) && error == CK_EXPIRED);
        CHECK(ck_end(exchange, "x", 1, 0) == CK_EXPIRED);
        CHECK(world.app != app && world.last != exchange && ck_release(world.last) == CK_OK);
        close_server();
    }
}

static void free_poll(void *user)
{
    struct us_poll_t *poll = user;
    us_poll_free(poll, *(struct us_loop_t **) us_poll_ext(poll));
}

/* What is freed at the end of an app is gone with the loop. */
static void test_the_end_with_the_loop(void)
{
    open_followed();
    struct us_loop_t *loop = ck_app_loop(world.app, NULL);
    struct us_poll_t *poll = us_create_poll(loop, 1, sizeof(loop));
    memcpy(us_poll_ext(poll), &loop, sizeof(loop));
    CHECK(ck_app_on_destroy(world.app, free_poll, poll) == CK_OK);
    CHECK(ck_app_on_destroy(world.app, ended, (void *) "end") == CK_OK);
    close_server();
    CHECK_TEXT(told, "end|");
}

static void *elsewhere(void *handle)
{
    int error = 0;
    const char *value;
    uint32_t exchange = *(uint32_t *) handle;
    CHECK(!ck_app_loop(world.app, &error) && error == CK_THREAD);
    CHECK(ck_app_on_destroy(world.app, ended, NULL) == CK_THREAD);
    CHECK(ck_app_route_native(world.app, 0, "/", 1, answer, NULL, -1) == CK_THREAD);
    CHECK(ck_app_native_route(world.app, 0, &error, &value) == CK_THREAD);
    CHECK(ck_follow(exchange, &all, NULL) == CK_THREAD && ck_end(exchange, "x", 1, 0) == CK_THREAD);
    CHECK(ck_target_value(exchange, &value) == CK_THREAD && ck_body_value(exchange, &value) == CK_THREAD);
    return NULL;
}

static void test_another_thread(void)
{
    pthread_t thread;
    open_followed();
    peer *client = dial();
    feed(client, GET("/later"));
    CHECK(pthread_create(&thread, NULL, elsewhere, &world.last) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(end_text(world.last, "here") == CK_OK && ck_release(world.last) == CK_OK);
    settle();
    CHECK_HEARD(client, ok("here"));
    close_server();
}

/* ---- Memory ---- */

static void finish_all(uint32_t exchange, int reason, void *user)
{
    (void) reason, (void) user;
    (void) ck_release(exchange);
}

static void finish_body(uint32_t exchange, int event, void *user)
{
    const char *body;
    int64_t length = ck_body_value(exchange, &body);
    (void) user;
    if (event == CK_BODY_COMPLETE) {
        (void) ck_end_large(exchange, body, (size_t) length, 0);
    }
    (void) ck_release(exchange);
}

static const ck_follower finisher = {finish_all, finish_body, NULL, NULL};

static void try_whole(uint32_t exchange, void *user)
{
    if (ck_keep(exchange) == CK_OK && ck_follow(exchange, &finisher, user) == CK_OK
        && ck_body_ask(exchange, CK_BODY_COLLECT) == 1) {
        finish_body(exchange, CK_BODY_COMPLETE, user);
    }
}

static void try_answer(uint32_t exchange, void *user)
{
    (void) user;
    (void) ck_header(exchange, "A", 1, "b", 1);
    (void) ck_end(exchange, "x", 1, 0);
}

static void count_end(void *user)
{
    ++*(int *) user;
}

static long run_short_of_memory(long fail_at, bool on)
{
    int ends = 0;
    reset_world();
    world.fail_at = fail_at;
    world.fail_on = on;
    if (!try_open_server(NULL)) {
        close_world();
        return world.allocations;
    }
    int wanted = ck_app_on_destroy(world.app, count_end, &ends) == CK_OK;
    (void) route_native("GET", "/a", try_answer);
    (void) route_native("*", "/b", try_whole);
    peer *client = dial();
    feed(client, GET("/a") "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    feed(client, "cde" GET("/a"));
    feed(dial(), "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
    long allocations = world.allocations;
    world.fail_at = 0;
    close_server();
    CHECK(ends == wanted);
    return allocations;
}

static void test_memory_fails_at_each_allocation(void)
{
    long total = run_short_of_memory(0, false);
    CHECK(total > 20);
    for (long n = 1; n <= total; n++) {
        (void) run_short_of_memory(n, false);
        (void) run_short_of_memory(n, true);
    }
}

int main(void)
{
    test_answers();
    test_a_route_that_yields_to_python();
    test_routes_added_by_a_handler();
    test_names_of_routes();
    test_a_domain();
    test_what_is_refused();
    test_the_request();
    test_later();
    test_aborted();
    test_bodies();
    test_writable();
    test_without_a_follower();
    test_a_poll();
    test_the_end();
    test_the_end_with_the_loop();
    test_handles_of_an_earlier_loop();
    test_another_thread();
    test_memory_fails_at_each_allocation();
    return checks_done();
}
