/* Connections: pipelining, half close, lingering, timeouts on virtual time, and
 * whatever a callback may do to the connection that it is called for. */
#include "http.h"

#include "server.h"

static uint32_t kept[64];
static int kept_count;

static void keep_in_order(uint32_t handle)
{
    CHECK(ck_keep(handle) == CK_OK);
    kept[kept_count++ % 64] = handle;
}

static void answer_kept(int index)
{
    const char *path;
    int length = ck_path_value(kept[index], &path);
    CHECK(ck_end(kept[index], path, length, 0) == CK_OK);
    CHECK(ck_release(kept[index]) == CK_OK);
    settle();
}

static void open_connections(const ck_limits *limits)
{
    kept_count = 0;
    open_server(limits);
    serve("GET", "/later/:name", keep_in_order);
    serve("GET", "/*", answer_path);
    serve("POST", "/*", answer_path);
}

/* ---- Every split ---- */

static const char conversation[] =
    GET("/a") "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" "HEAD /c HTTP/1.1\r\nHost: a\r\n\r\n"
    "\r\nPOST /d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n" GET("/e")
    "PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" "BREW /g HTTP/1.1\r\nHost: a\r\n\r\n"
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n" GET("/last") "bad request\r\n\r\n" GET("/never");

static void check_conversation(const peer *client)
{
    CHECK_HEARD(client, joined(10, ok("/a"), ok("/b"), "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 2\r\n\r\n", ok("/d"), ok("/e"),
        answer_with("405 Method Not Allowed", "Allow: GET, HEAD, POST\r\nContent-Type: text/plain\r\n", "", "405 Method Not Allowed\n"),
        plain("501 Not Implemented", false),
        "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" DATE "\r\n", ok("/last"),
        refusal("400 Bad Request")));
    CHECK(client->shut);
}

static void test_every_split(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, conversation);
    check_conversation(client);
    CHECK(client->sends == 1);
    client = dial();
    feed_slowly(client, conversation);
    check_conversation(client);
    for (size_t split = 1; split < sizeof(conversation) - 1; split++) {
        forget_log();
        client = dial();
        feed_bytes(client, conversation, split);
        feed_bytes(client, conversation + split, sizeof(conversation) - 1 - split);
        check_conversation(client);
        finish(client);
        CHECK(client->closed && !client->reset);
        free(client->in);
        free(client->out);
        free(client);
        world.peer_count--;
    }
    CHECK(stats().open == 2);
    close_server();
}

/* Handlers that answer later, at every split. */
static void test_every_split_later(void)
{
    static const char text[] = GET("/later/1") GET("/2") GET("/later/3") GET("/4");
    for (size_t split = 1; split < sizeof(text) - 1; split++) {
        open_connections(NULL);
        peer *client = dial();
        feed_bytes(client, text, split);
        if (kept_count) {
            answer_kept(0);
        }
        feed_bytes(client, text + split, sizeof(text) - 1 - split);
        if (ck_alive(kept[0]) == CK_OK) {
            answer_kept(0);
        }
        CHECK(kept_count == 2);
        answer_kept(1);
        CHECK_HEARD(client, joined(4, ok("/later/1"), ok("/2"), ok("/later/3"), ok("/4")));
        close_server();
    }
}

/* ---- Pipelining ---- */

static void test_order_of_later_answers(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/later/1") GET("/later/2") GET("/3"));
    CHECK(kept_count == 1); /* one at a time */
    CHECK_HEARD(client, "");
    answer_kept(0);
    CHECK_HEARD(client, ok("/later/1"));
    CHECK(kept_count == 2);
    answer_kept(1);
    CHECK_HEARD(client, joined(3, ok("/later/1"), ok("/later/2"), ok("/3")));
    CHECK(ck_loop_handles() == 2);
    close_server();
}

static void test_reading_pauses(void)
{
    ck_limits limits = limits_default;
    limits.pipeline = 200;
    open_connections(&limits);
    peer *client = dial();
    feed(client, GET("/later/1"));
    for (int i = 0; i < 100; i++) {
        feed(client, GET("/2"));
    }
    CHECK(client->in_length - client->in_taken > 2000);
    answer_kept(0);
    CHECK(client->in_taken == client->in_length);
    CHECK(client->out_length == strlen(ok("/later/1")) + 100 * strlen(ok("/2")));
    forget(client);
    feed(client, GET("/later/1") GET("/2"));
    answer_kept(1);
    CHECK_HEARD(client, joined(2, ok("/later/1"), ok("/2")));
    close_server();
}

static void test_valid_then_garbage(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/later/1") "garbage\r\n\r\n" GET("/2"));
    CHECK_HEARD(client, "");
    answer_kept(0);
    CHECK_HEARD(client, joined(2, ok("/later/1"), refusal("400 Bad Request")));
    CHECK(client->shut && stats().refused == 1 && stats().requests == 1);
    close_server();
}

/* PI-04 */
static void test_nothing_after_close(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, "GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET("/2"));
    feed(client, GET("/3"));
    CHECK_HEARD(client, answer_with("200 OK", "", "Connection: close\r\n", "/1"));
    CHECK_LOG("request 1|");
    CHECK(client->shut && !client->closed);
    finish(client);
    CHECK(client->closed && !client->reset);
    close_server();
}

/* PI-05. A client that pipelines and does not read: its requests wait for their
 * turn, mostly in the kernel. */
static peer *pipeline_much(void)
{
    ck_limits limits = limits_default;
    limits.pipeline = 10000;
    open_connections(&limits);
    peer *client = dial();
    client->room = 0;
    world.read_most = 4096;
    for (int i = 0; i < 2000; i++) {
        arrive(client, GET("/12345678"), strlen(GET("/12345678")));
    }
    settle();
    CHECK(client->in_taken < 60000 && stats().requests < 300);
    return client;
}

static void test_pipelining_without_reading(void)
{
    peer *client = pipeline_much();
    for (int i = 0; i < 4; i++) {
        feed(client, GET("/more"));
        pass_granules(1);
    }
    CHECK(client->closed && stats().timeouts == 1);
    close_server();
}

static void test_pipelining_with_late_reading(void)
{
    for (int way = 0; way < 3; way++) {
        peer *client = pipeline_much();
        client->fin = way == 1;
        for (int i = 0; way == 2 && i < 10000 && stats().requests < 2000; i++) {
            client->room = 77;
            settle();
        }
        client->room = UNLIMITED;
        settle();
        CHECK(client->out_length == 2000 * strlen(ok("/12345678")));
        CHECK(client->closed == (way == 1));
        close_server();
    }
}

static void test_requests_behind_a_backlog(void)
{
    open_connections(NULL);
    peer *client = dial();
    client->room = 3;
    feed(client, GET("/1"));
    feed(client, GET("/2") "GET /3 HT");
    CHECK_LOG("request 1|");
    client->room = UNLIMITED;
    settle();
    CHECK_HEARD(client, joined(2, ok("/1"), ok("/2")));
    feed(client, "TP/1.1\r\nHost: a\r\n\r\n");
    CHECK_HEARD(client, joined(3, ok("/1"), ok("/2"), ok("/3")));
    client->room = 3;
    arrive(client, GET("/1") GET("/2"), 2 * strlen(GET("/1")));
    finish(client);
    client->room = UNLIMITED;
    settle();
    CHECK_HEARD(client, joined(5, ok("/1"), ok("/2"), ok("/3"), ok("/1"), ok("/2")));
    CHECK(client->closed);
    client = dial();
    client->room = 3;
    feed(client, GET("/1"));
    feed(client, GET("/2"));
    finish(client);
    client->room = UNLIMITED;
    settle();
    CHECK_HEARD(client, joined(2, ok("/1"), ok("/2")));
    CHECK(client->closed);
    close_server();
}

/* ---- Half close ---- */

static void test_half_close(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/1")); /* simple */
    finish(client);
    CHECK_HEARD(client, ok("/1"));
    CHECK(client->closed);

    client = dial(); /* request and end at once, pipelined */
    arrive(client, GET("/1") GET("/2"), 2 * strlen(GET("/1")));
    finish(client);
    CHECK_HEARD(client, joined(2, ok("/1"), ok("/2")));
    CHECK(client->closed);

    client = dial(); /* answered later */
    feed(client, GET("/later/1") GET("/later/2") GET("/3"));
    finish(client);
    CHECK(!client->closed);
    answer_kept(0);
    CHECK(!client->closed);
    answer_kept(1);
    CHECK_HEARD(client, joined(3, ok("/later/1"), ok("/later/2"), ok("/3")));
    CHECK(client->closed);

    client = dial(); /* nothing at all, and part of a head */
    finish(client);
    CHECK(client->closed);
    client = dial();
    feed(client, "GET / HTT");
    finish(client);
    CHECK(client->closed);
    CHECK_HEARD(client, "");
    CHECK(stats().open == 0 && stats().aborted == 0);
    close_server();
}

static void test_half_close_with_a_backlog(void)
{
    open_connections(NULL);
    peer *client = dial();
    client->room = 5;
    feed(client, GET("/1"));
    finish(client);
    CHECK(!client->closed);
    client->room = UNLIMITED;
    settle();
    CHECK_HEARD(client, ok("/1"));
    CHECK(client->closed);
    close_server();
}

/* ---- Lingering ---- */

/* CO-09: bytes behind a refusal are read and dropped, so that it is not destroyed. */
static void test_linger(void)
{
    static char much[20000];
    memset(much, 'm', sizeof(much));
    open_connections(NULL);
    peer *client = dial();
    feed(client, "bad\r\n\r\n");
    CHECK(client->shut && !client->closed);
    for (int i = 0; i < 3; i++) {
        feed_bytes(client, much, sizeof(much));
        CHECK(!client->closed);
    }
    feed_bytes(client, much, sizeof(much)); /* but not for ever */
    CHECK(client->closed);
    client = dial();
    feed(client, "bad\r\n\r\n");
    pass_granules(1);
    CHECK(!client->closed); /* at least 4 seconds, whenever the sweep comes */
    pass_granules(1);
    CHECK(client->closed);
    CHECK_HEARD(client, refusal("400 Bad Request"));
    CHECK(stats().open == 0);
    close_server();
}

static void test_linger_after_a_backlog(void)
{
    open_connections(NULL);
    peer *client = dial();
    client->room = 10;
    feed(client, "bad\r\n\r\n");
    CHECK(!client->shut);
    client->room = UNLIMITED;
    settle();
    CHECK(client->shut);
    CHECK_HEARD(client, refusal("400 Bad Request"));
    finish(client);
    CHECK(client->closed);
    close_server();
}

/* ---- Timeouts ---- */

static void test_idle(void)
{
    open_connections(NULL);
    peer *silent = dial();
    peer *once = dial();
    feed(once, GET("/1"));
    pass_granules(2);
    CHECK(!silent->closed && !once->closed);
    pass_granules(1);
    CHECK(silent->closed && once->closed); /* TM-01, TM-05: without a word */
    CHECK_HEARD(silent, "");
    CHECK_HEARD(once, ok("/1"));
    CHECK(stats().timeouts == 0 && stats().open == 0);
    close_server();
}

/* TM-02: absolute, whatever dribbles in. */
static void test_slow_head(void)
{
    open_connections(NULL);
    peer *client = dial();
    for (int i = 0; i < 3; i++) {
        feed(client, "G");
        pass_granules(1);
    }
    CHECK_HEARD(client, refusal("408 Request Timeout"));
    CHECK(client->shut && stats().timeouts == 1);
    client = dial();
    feed(client, GET("/1") "GE"); /* behind a request as well */
    pass_granules(3);
    CHECK_HEARD(client, joined(2, ok("/1"), refusal("408 Request Timeout")));
    close_server();
}

static void ask_collect(uint32_t handle)
{
    CHECK(ck_keep(handle) == CK_OK && ck_body_ask(handle, CK_BODY_COLLECT) == 0);
}

/* TM-03, TM-04 */
static void test_slow_body(void)
{
    static char part[4000];
    memset(part, 'p', sizeof(part));
    open_connections(NULL);
    serve("POST", "/body", ask_collect);
    peer *client = dial();
    feed(client, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    for (int i = 0; i < 5; i++) { /* 4000 bytes in each 12 s: more than 240 B/s */
        feed_bytes(client, part, sizeof(part));
        pass_granules(3);
        CHECK(!client->shut && !client->closed);
    }
    for (int i = 0; i < 2; i++) {
        feed_bytes(client, part, 100);
        pass_granules(3);
    }
    CHECK_HEARD(client, refusal("408 Request Timeout"));
    CHECK_LOG("request 3|body 1|aborted 1|");
    forget_log();
    client = dial();
    feed(client, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    pass_granules(3);
    CHECK_HEARD(client, refusal("408 Request Timeout"));
    CHECK(stats().timeouts == 2);
    close_server();
}

/* One that nobody reads is dropped no longer than it moves. */
static void test_slow_body_of_an_answered_request(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    CHECK_HEARD(client, ok("/x"));
    pass_granules(3);
    CHECK(client->closed);
    CHECK_HEARD(client, ok("/x"));
    close_server();
}

/* TM-06; with bytes arriving all the time, which win nothing. */
static void test_client_does_not_read(void)
{
    open_connections(NULL);
    peer *client = dial();
    client->room = 10;
    feed(client, GET("/1"));
    for (int i = 0; i < 4; i++) {
        feed(client, "G");
        pass_granules(1);
    }
    CHECK(client->closed && client->out_length == 10);
    CHECK(stats().timeouts == 1);
    close_server();
}

/* Nor does the end of the response win time, nor a body that comes well. */
static void test_client_does_not_read_but_the_rest_moves(void)
{
    static char much[100000];
    open_connections(NULL);
    serve("POST", "/body", ask_collect);
    peer *client = dial();
    client->room = 0;
    feed(client, GET("/later/1"));
    CHECK(ck_write(kept[0], much, 1000) == CK_OK);
    settle();
    pass_granules(2);
    CHECK(ck_end(kept[0], much, 1000, 0) == CK_OK);
    settle();
    CHECK(!client->closed);
    pass_granules(1);
    CHECK(client->closed);
    client = dial();
    client->room = 0;
    feed(client, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    CHECK(ck_write(world.last, much, 1000) == CK_OK);
    settle();
    for (int i = 0; i < 3; i++) {
        feed_bytes(client, much, 20000);
        pass_granules(1);
    }
    CHECK(client->closed);
    close_server();
}

static void test_client_reads_slowly(void)
{
    static char much[200000];
    memset(much, 'm', sizeof(much));
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/later/1"));
    client->room = 0;
    CHECK(ck_end(kept[0], much, sizeof(much), 0) == CK_OK);
    for (int i = 0; i < 10; i++) {
        client->room = 3000;
        settle();
        pass_granules(3);
        CHECK(!client->closed);
    }
    client->room = 100;
    settle();
    pass_granules(6);
    CHECK(client->closed);
    close_server();
}

/* TM-07 */
static void test_slow_handler(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/later/1") GET("/2"));
    pass_seconds(56);
    CHECK_HEARD(client, "");
    pass_seconds(4);
    CHECK_HEARD(client, refusal("503 Service Unavailable"));
    CHECK_LOG("request 0|aborted 1|");
    CHECK(ck_alive(kept[0]) == CK_ABORTED && end_text(kept[0], "x") == CK_ABORTED);
    CHECK(client->shut && stats().timeouts == 1 && stats().aborted == 1);
    CHECK(ck_release(kept[0]) == CK_OK && ck_loop_handles() == 2);
    close_server();
}

/* Once it has started a response may take its time: events over hours. (A head that is
 * packed has not started: test_cork.c.) */
static void test_response_that_has_started(void)
{
    for (int way = 0; way < 2; way++) {
        open_connections(NULL);
        peer *client = dial();
        feed(client, GET("/later/1"));
        CHECK(way ? write_text(kept[0], "x") == CK_OK : ck_status(kept[0], 200) == CK_OK && ck_flush(kept[0]) == CK_OK);
        settle();
        pass_seconds(500);
        CHECK(!client->closed && ck_alive(kept[0]) == CK_OK);
        CHECK(end_text(kept[0], "y") == CK_OK);
        settle();
        CHECK(strstr(heard(client), "y"));
        pass_seconds(12);
        CHECK(client->closed); /* and now it is idle */
        close_server();
    }
}

static void test_response_that_starts_before_the_body_ends(void)
{
    open_connections(NULL);
    serve("POST", "/body", ask_collect);
    peer *client = dial();
    feed(client, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    CHECK(write_text(world.last, "x") == CK_OK);
    settle();
    feed(client, "defghij");
    CHECK_LOG("request 3|body 0|");
    pass_seconds(500);
    CHECK(!client->closed && ck_alive(world.last) == CK_OK);
    feed(client, ""); /* TM-09: a body that stalls closes, without a second head */
    client = dial();
    feed(client, "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    CHECK(write_text(world.last, "x") == CK_OK);
    settle();
    pass_seconds(12);
    CHECK(client->closed && !strstr(heard(client), "408"));
    close_server();
}

static void test_timeouts_that_are_off(void)
{
    ck_limits limits = limits_default;
    limits.head_seconds = limits.idle_seconds = limits.body_seconds = limits.handler_seconds = limits.rate = 0;
    open_connections(&limits);
    serve("POST", "/body", ask_collect);
    peer *clients[5];
    for (int i = 0; i < 5; i++) {
        clients[i] = dial();
    }
    feed(clients[1], "GET");
    feed(clients[2], GET("/later/1"));
    feed(clients[3], "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    clients[4]->room = 3;
    feed(clients[4], GET("/1"));
    pass_seconds(5000);
    for (int i = 0; i < 5; i++) {
        CHECK(!clients[i]->closed);
    }
    close_server();
}

/* More than what a socket timeout can hold (960 s) is cut down, not wrapped round. */
static void test_long_timeouts(void)
{
    ck_limits limits = limits_default;
    limits.idle_seconds = 100000;
    open_connections(&limits);
    peer *client = dial();
    pass_seconds(952);
    CHECK(!client->closed);
    close_server();
}

/* ---- Aborts ---- */

static void test_abort_of_a_kept_one(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/later/1") GET("/later/2"));
    reset(client);
    CHECK(client->closed);
    CHECK_LOG("request 0|aborted 0|"); /* once, and the one behind was never begun */
    CHECK(ck_alive(kept[0]) == CK_ABORTED && ck_write(kept[0], "x", 1) == CK_ABORTED);
    object *path = ck_py_path(kept[0]); /* the request stays readable */
    CHECK(path && strcmp(path->data, "/later/1") == 0);
    object_decref(path);
    object *parameter = ck_py_parameter(kept[0], 0);
    CHECK(parameter && strcmp(parameter->data, "1") == 0);
    object_decref(parameter);
    CHECK(ck_py_remote_address(kept[0]) == &object_none && ck_remote_port(kept[0]) == 0);
    CHECK(ck_fail(kept[0]) == CK_ABORTED && ck_close(kept[0]) == CK_OK);
    CHECK(ck_release(kept[0]) == CK_OK && ck_loop_handles() == 2);
    close_server();
}

/* Finished before the client went: nobody is told, the handle lives until released. */
static void test_abort_after_the_end(void)
{
    open_connections(NULL);
    peer *client = dial();
    feed(client, GET("/later/1"));
    CHECK(end_text(kept[0], "x") == CK_OK);
    settle();
    reset(client);
    CHECK_LOG("request 0|");
    CHECK(ck_alive(kept[0]) == CK_FINISHED && ck_cork(kept[0]) == CK_ABORTED && ck_sends(kept[0]) == 1);
    CHECK(ck_release(kept[0]) == CK_OK);
    close_server();
}

/* ---- Deeds in callbacks ---- */

enum deed {
    DO_NOTHING, DO_CLOSE, DO_KEEP_CLOSE, DO_END_CLOSE, DO_WRITE_CLOSE, DO_KEEP_RELEASE, DO_END_RELEASE, DO_FAIL, DO_WRITE_FLUSH_FAIL,
    DO_ABORT_APP, DO_DESTROY_APP, DO_DRAIN, DO_PAUSE, DO_YIELD, DO_ASK, DO_SWEEP, DO_UNCORK, DO_CORK, DO_WRITABLE, DEEDS
};

static enum deed deed;

static void do_it(uint32_t handle)
{
    const char text[] = "text";
    switch (deed) {
    case DO_NOTHING:
        break;
    case DO_CLOSE:
        (void) ck_close(handle);
        (void) ck_end(handle, text, 4, 0);
        break;
    case DO_KEEP_CLOSE:
        (void) ck_keep(handle);
        (void) ck_close(handle);
        break;
    case DO_END_CLOSE:
        (void) ck_end(handle, text, 4, 0);
        (void) ck_close(handle);
        break;
    case DO_WRITE_CLOSE:
        (void) ck_write(handle, text, 4);
        (void) ck_flush(handle);
        (void) ck_close(handle);
        break;
    case DO_KEEP_RELEASE:
        (void) ck_keep(handle);
        (void) ck_release(handle);
        (void) ck_release(handle);
        break;
    case DO_END_RELEASE:
        (void) ck_end(handle, text, 4, CK_CLOSE);
        (void) ck_release(handle);
        break;
    case DO_FAIL:
        (void) ck_end(handle, text, 4, 0);
        (void) ck_fail(handle);
        break;
    case DO_WRITE_FLUSH_FAIL:
        (void) ck_write(handle, text, 4);
        (void) ck_flush(handle);
        (void) ck_fail(handle);
        break;
    case DO_ABORT_APP:
        (void) ck_app_abort(world.app);
        break;
    case DO_DESTROY_APP:
        (void) ck_app_destroy(world.app);
        break;
    case DO_DRAIN:
        (void) ck_app_drain(world.app);
        break;
    case DO_PAUSE:
        (void) ck_pause(handle, 1);
        break;
    case DO_YIELD:
        (void) ck_set_yield(handle, 1);
        break;
    case DO_ASK:
        (void) ck_keep(handle);
        (void) ck_body_ask(handle, handle % 2 + 1);
        break;
    case DO_SWEEP:
        for (int i = 0; i < 4; i++) {
            (void) ck_loop_sweep();
        }
        (void) ck_loop_step();
        break;
    case DO_UNCORK:
        (void) ck_write(handle, text, 4);
        (void) ck_uncork(handle);
        (void) ck_write(handle, text, 4);
        (void) ck_uncork(handle);
        break;
    case DO_CORK:
        (void) ck_keep(handle);
        (void) ck_cork(handle);
        (void) ck_write(handle, text, 4);
        break;
    case DO_WRITABLE:
        (void) ck_keep(handle);
        (void) ck_write(handle, text, 4);
        (void) ck_want_writable(handle);
        break;
    case DEEDS:
        break;
    }
}

static void keep_and_write(uint32_t handle)
{
    CHECK(ck_keep(handle) == CK_OK);
    CHECK(write_text(handle, "some") >= 0);
    CHECK(ck_want_writable(handle) == CK_OK);
}

/* Each deed in each callback; with the client gone, slow, or patient. */
static void test_deeds(void)
{
    for (deed = DO_NOTHING; deed < DEEDS; deed++) {
        for (int end = 0; end < 6; end++) {
            kept_count = 0;
            open_server(NULL);
            serve("*", "/do/*", do_it);
            serve("*", "/do/*", do_it);
            serve("GET", "/keep", keep_and_write);
            serve("GET", "/later/:name", keep_in_order);
            serve("GET", "/*", answer_path);
            world.aborted = world.body = world.data = world.writable = do_it;
            peer *clients[4];
            for (int i = 0; i < 4; i++) {
                clients[i] = dial();
                clients[i]->room = end == 3 ? 20 : UNLIMITED;
                clients[i]->send_error = end == 4 ? EPIPE : 0;
            }
            feed(clients[0], GET("/later/0"));
            feed(clients[1], GET("/1") GET("/do/2") GET("/keep") GET("/3"));
            feed(clients[2], "POST /do/4 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" GET("/do/5"));
            feed(clients[3], GET("/keep") GET("/do/7"));
            if (kept_count) {
                (void) end_text(kept[0], "x");
            }
            for (int i = 0; i < 4 && end < 2; i++) {
                if (end == 0) {
                    finish(clients[i]);
                } else {
                    reset(clients[i]);
                }
            }
            for (int i = 0; i < 4; i++) {
                clients[i]->room = UNLIMITED;
            }
            settle();
            pass_seconds(end == 5 ? 0 : 80);
            close_server();
        }
    }
}

/* A sweep inside a callback times others out, and leaves the callback's cork alone. */
static void sweep_inside(uint32_t handle)
{
    CHECK(write_text(handle, "a") == CK_OK);
    CHECK(ck_loop_sweep() == CK_OK);
    CHECK(ck_sends(handle) == 0);
    CHECK(end_text(handle, "b") == CK_OK);
}

static void test_sweep_inside_a_callback(void)
{
    open_server(NULL);
    serve("GET", "/", sweep_inside);
    peer *idle = dial();
    pass_granules(2);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(idle->closed && client->sends == 1);
    close_server();
}

/* The aborted callback of one connection closes another, which is next in line. */
static void close_others(uint32_t handle)
{
    for (int i = 0; i < kept_count; i++) {
        if (kept[i] != handle) {
            (void) ck_close(kept[i]);
            (void) ck_release(kept[i]);
        }
    }
}

static void test_abort_closes_others(void)
{
    open_connections(NULL);
    world.aborted = close_others;
    peer *clients[5];
    for (int i = 0; i < 5; i++) {
        clients[i] = dial();
        feed(clients[i], GET("/later/1") GET("/2"));
    }
    for (int i = 0; i < 5; i++) {
        clients[i]->receive_error = ECONNRESET;
    }
    settle();
    CHECK(stats().open == 0);
    CHECK_LOG("request 0|request 0|request 0|request 0|request 0|aborted 0|");
    CHECK(ck_loop_handles() == 3);
    close_server();
}

static void write_to_first(uint32_t handle)
{
    if (handle != kept[0]) {
        (void) write_text(kept[0], "x");
    }
}

static void test_writes_to_others_from_an_abort(void)
{
    open_connections(NULL);
    world.aborted = write_to_first;
    peer *first = dial();
    feed(first, GET("/later/1"));
    peer *second = dial();
    feed(second, GET("/later/2"));
    reset(second);
    CHECK(first->sends == 1 && strstr(heard(first), "1\r\nx\r\n"));
    CHECK(stats().uncorked_writes == 1);
    close_server();
}

/* ---- Counters ---- */

static void test_open_and_limit(void)
{
    ck_limits limits = limits_default;
    limits.connections = 2;
    open_connections(&limits);
    peer *first = dial();
    peer *second = dial();
    peer *third = dial();
    CHECK_HEARD(third, refusal("503 Service Unavailable"));
    CHECK(third->shut);
    feed(third, GET("/1"));
    finish(third);
    CHECK(third->closed);
    feed(first, GET("/1"));
    feed(second, GET("/2"));
    CHECK_HEARD(first, ok("/1"));
    finish(first);
    peer *fourth = dial();
    feed(fourth, GET("/4"));
    CHECK_HEARD(fourth, ok("/4"));
    ck_stats found = stats();
    CHECK(found.connections == 4 && found.open == 2 && found.refused == 1);
    close_server();
}

int main(void)
{
    test_every_split();
    test_every_split_later();
    test_order_of_later_answers();
    test_reading_pauses();
    test_valid_then_garbage();
    test_nothing_after_close();
    test_pipelining_without_reading();
    test_pipelining_with_late_reading();
    test_requests_behind_a_backlog();
    test_half_close();
    test_half_close_with_a_backlog();
    test_linger();
    test_linger_after_a_backlog();
    test_idle();
    test_slow_head();
    test_slow_body();
    test_slow_body_of_an_answered_request();
    test_client_does_not_read();
    test_client_does_not_read_but_the_rest_moves();
    test_client_reads_slowly();
    test_slow_handler();
    test_response_that_has_started();
    test_response_that_starts_before_the_body_ends();
    test_timeouts_that_are_off();
    test_long_timeouts();
    test_abort_of_a_kept_one();
    test_abort_after_the_end();
    test_deeds();
    test_sweep_inside_a_callback();
    test_abort_closes_others();
    test_writes_to_others_from_an_abort();
    test_open_and_limit();
    return checks_done();
}
