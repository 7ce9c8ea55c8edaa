/* Request bodies: collected and streamed, asked for at any time or never, by
 * length and chunked, limits, 100 Continue, pauses, trailers, and their ends. */
#include "http.h"

#include "server.h"

#define POST(length) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " length "\r\n\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define EXPECT(length) "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: " length "\r\n\r\n"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static uint32_t kept;
static int mode = CK_BODY_COLLECT;

static void keep_it(uint32_t handle)
{
    kept = handle;
    CHECK(ck_keep(handle) == CK_OK);
}

static void echo(uint32_t handle)
{
    object *body = ck_py_body_take(handle);
    CHECK(body && body != &object_none);
    CHECK(ck_end(handle, body->data, (int) body->length, 0) == CK_OK);
    object_decref(body);
}

static void keep_and_ask(uint32_t handle)
{
    keep_it(handle);
    int result = ck_body_ask(handle, mode);
    CHECK(result == 0 || result == 1);
    if (result == 1) {
        record("there|");
        echo(handle);
        CHECK(ck_release(handle) == CK_OK);
    }
}

/* Answers a collected body when it is complete. */
static void echo_when_told(uint32_t handle)
{
    if (world.event == CK_BODY_COMPLETE) {
        CHECK(ck_body_ask(handle, CK_BODY_COLLECT) == 1);
        echo(handle);
        CHECK(ck_release(handle) == CK_OK);
    }
}

static void end_at_last(uint32_t handle)
{
    if (world.event) {
        CHECK(end_text(handle, "done") == CK_OK);
        CHECK(ck_release(handle) == CK_OK);
    }
}

static void open_with(const ck_limits *limits, handler run)
{
    open_server(limits);
    serve("POST", "/", run);
    serve("GET", "/*", answer_path);
    world.body = echo_when_told;
}

/* ---- Collecting ---- */

static void test_collect_in_callback(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed(client, POST("5") "hello" GET("/next"));
    CHECK_HEARD(client, joined(2, ok("hello"), ok("/next")));
    CHECK_LOG("request 0|there|request 1|");
    CHECK(client->sends == 1);
    close_server();
}

static void test_collect_as_it_comes(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed_slowly(client, POST("5") "hello" GET("/next"));
    CHECK_HEARD(client, joined(2, ok("hello"), ok("/next")));
    CHECK_LOG("request 0|body 0|request 1|");
    close_server();
}

static void test_collect_chunked(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    const char *text = CHUNKED "2\r\nhe\r\n1;a=b\r\nl\r\n02\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n" GET("/next");
    feed(client, text);
    CHECK_LOG("request 0|there|request 1|");
    feed_slowly(client, text);
    CHECK_HEARD(client, joined(4, ok("hello"), ok("/next"), ok("hello"), ok("/next")));
    close_server();
}

static void test_collect_later(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, POST("5") "hel");
    CHECK(ck_py_body_take(kept) == &object_none);
    CHECK(ck_body_ask(kept, 0) == CK_STATE && ck_body_ask(kept, 3) == CK_STATE);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    CHECK(ck_body_ask(kept, CK_BODY_STREAM) == CK_STATE);
    settle();
    CHECK_LOG("request 0|");
    feed(client, "lo" GET("/next"));
    CHECK_LOG("request 0|body 0|request 1|");
    CHECK_HEARD(client, joined(2, ok("hello"), ok("/next")));
    close_server();
}

static void test_no_body(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed(client, POST("0"));
    feed(client, "POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK_HEARD(client, joined(2, ok(""), ok("")));
    CHECK_LOG("request 0|there|request 0|there|");
    close_server();
}

/* ---- Streaming ---- */

static void test_stream(void)
{
    mode = CK_BODY_STREAM;
    open_with(NULL, keep_and_ask);
    world.data = end_at_last;
    peer *client = dial();
    feed(client, POST("5") "hello" GET("/next"));
    CHECK_LOG("request 0|data hello.|request 1|");
    forget_log();
    feed_slowly(client, POST("3") "abc");
    CHECK_LOG("request 0|data a|data b|data c.|");
    forget_log();
    feed(client, CHUNKED "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n" GET("/next"));
    CHECK_LOG("request 0|data hello.|request 1|");
    forget_log();
    feed_slowly(client, CHUNKED "2\r\nhe\r\n1\r\nl\r\n0\r\n\r\n");
    CHECK_LOG("request 0|data h|data e|data l|data .|");
    forget_log();
    feed(client, POST("0"));
    CHECK_LOG("request 0|data .|");
    feed(client, GET("/end"));
    CHECK(strstr(heard(client), ok("/end")));
    close_server();
    mode = CK_BODY_COLLECT;
}

static void pause_after_first(uint32_t handle)
{
    if (world.log_length < 20) {
        CHECK(ck_pause(handle, 1) == CK_OK);
    }
    end_at_last(handle);
}

static void test_stream_paused(void)
{
    mode = CK_BODY_STREAM;
    open_with(NULL, keep_and_ask);
    world.data = pause_after_first;
    peer *client = dial();
    feed(client, POST("9") "abc");
    feed(client, "def");
    pass_seconds(40); /* the client is not to blame for this silence */
    CHECK(!client->closed);
    CHECK_LOG("request 0|data abc|");
    CHECK(client->in_length - client->in_taken == 3); /* it waits in the kernel */
    CHECK(ck_pause(kept, 0) == CK_OK);
    settle();
    CHECK_LOG("request 0|data abc|data def|");
    feed(client, "ghi" GET("/next"));
    CHECK_LOG("request 0|data abc|data def|data ghi.|request 1|");
    CHECK_HEARD(client, joined(2, ok("done"), ok("/next")));
    close_server();
    mode = CK_BODY_COLLECT;
}

/* A pause ends with its response, or the connection would be deaf for ever. */
static void test_pause_does_not_outlive_its_response(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, POST("0"));
    CHECK(ck_pause(kept, 1) == CK_OK);
    uint32_t first = kept;
    CHECK(end_text(kept, "x") == CK_OK);
    settle();
    feed(client, GET("/next"));
    CHECK_HEARD(client, joined(2, ok("x"), ok("/next")));
    CHECK(ck_pause(first, 1) == CK_FINISHED); /* nor does it stop others */
    feed(client, GET("/last"));
    CHECK_HEARD(client, joined(3, ok("x"), ok("/next"), ok("/last")));
    close_server();
}

static void test_pause_before_asking(void)
{
    mode = CK_BODY_STREAM;
    open_with(NULL, keep_it);
    world.data = end_at_last;
    peer *client = dial();
    feed(client, POST("5") "hello");
    CHECK(ck_pause(kept, 1) == CK_OK && ck_body_ask(kept, CK_BODY_STREAM) == 0);
    settle();
    client->fin = true;
    settle();
    CHECK_LOG("request 0|");
    CHECK(ck_pause(kept, 0) == CK_OK);
    settle();
    CHECK_LOG("request 0|data hello.|");
    CHECK_HEARD(client, ok("done"));
    CHECK(client->closed);
    close_server();
    mode = CK_BODY_COLLECT;
}

/* Python may be out of memory: a part must not be left out in silence. */
static void test_stream_without_memory_for_a_part(void)
{
    mode = CK_BODY_STREAM;
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed(client, POST("9") "abc");
    world.objects_fail = true;
    feed(client, "def");
    world.objects_fail = false;
    feed(client, "ghi");
    CHECK(!strstr(world.log, "ghi"));
    CHECK_HEARD(client, refusal("503 Service Unavailable"));
    CHECK(ck_alive(kept) == CK_ABORTED);
    close_server();
    mode = CK_BODY_COLLECT;
}

/* Whoever asks when it is too late is told so, and not left waiting. */
static void test_asking_too_late(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, POST("5") "hello");
    CHECK(end_text(kept, "x") == CK_OK);
    settle();
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == CK_FINISHED);
    feed(client, POST("0"));
    CHECK(end_text(kept, "x") == CK_OK);
    settle();
    CHECK(ck_body_ask(kept, CK_BODY_STREAM) == CK_FINISHED);
    feed(client, POST("0"));
    reset(client);
    CHECK(ck_body_ask(kept, CK_BODY_STREAM) == CK_ABORTED);
    client = dial();
    feed(client, POST("5"));
    reset(client);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == CK_ABORTED);
    close_server();
}

/* ---- Limits ---- */

static void test_limit_by_length(void)
{
    ck_limits limits = limits_default;
    limits.body = 5;
    open_with(&limits, keep_and_ask);
    CHECK(ck_app_route(world.app, ck_method_id("POST", 4), "/large", 6, 0, 10) == 0);
    peer *client = dial();
    feed(client, POST("5") "hello");
    CHECK_HEARD(client, ok("hello"));
    forget(client);
    feed(client, POST("6") "hello!" GET("/next"));
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    CHECK(client->shut && !client->closed);
    client = dial();
    feed(client, "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789");
    CHECK_HEARD(client, ok("0123456789"));
    client = dial();
    feed(client, "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    CHECK_LOG("request 0|there|request 0|there|");
    CHECK(stats().refused == 2);
    close_server();
}

static void break_inside(uint32_t handle)
{
    keep_and_ask(handle);
    CHECK(write_text(handle, "part") >= 0);
    world.peers[0]->send_error = EPIPE;
    (void) ck_uncork(handle); /* the send fails, and the connection closes inside the callback */
}

static void let_go(uint32_t handle)
{
    CHECK(ck_release(handle) == CK_OK);
}

/* Who lets go when told of the body is not told of the abort as well. */
static void test_let_go_when_the_body_breaks_off(void)
{
    open_with(NULL, break_inside);
    world.body = let_go;
    peer *client = dial();
    feed(client, CHUNKED "3\r\nhel");
    CHECK_LOG("request 0|body 1|");
    CHECK(client->closed);
    close_server();
}

/* CH-31, CH-32: at the end of the size line that says so. */
static void test_limit_chunked(void)
{
    ck_limits limits = limits_default;
    limits.body = 5;
    open_with(&limits, keep_and_ask);
    peer *client = dial();
    feed(client, CHUNKED "5\r\nhello\r\n0\r\n\r\n");
    CHECK_HEARD(client, ok("hello"));
    feed(client, CHUNKED "3\r\nhel\r\n2\r\nlo\r\n");
    forget(client);
    feed(client, "1\r");
    CHECK_HEARD(client, "");
    feed(client, "\n");
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    CHECK_LOG("request 0|there|request 0|body 2|aborted 3|");
    CHECK(ck_alive(kept) == CK_ABORTED && ck_body_ask(kept, CK_BODY_COLLECT) == CK_ABORTED);
    client = dial();
    feed(client, CHUNKED);
    long memory = world.memory;
    feed(client, "40000000\r\n");
    CHECK(world.memory <= memory + 2);
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    forget_log();
    client = dial();
    feed(client, CHUNKED "6\r\nhello!\r\n0\r\n\r\n" GET("/next")); /* found inside the callback */
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    CHECK_LOG("request 0|body 2|aborted 3|");
    close_server();
}

static void test_limit_changed(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, POST("5"));
    CHECK(ck_body_limit(kept, 3) == CK_OK && ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    feed(client, "hello");
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    close_server();
}

/* A response that has begun but not left gives way to the refusal. */
static void begin_and_ask(uint32_t handle)
{
    keep_it(handle);
    CHECK(ck_status(handle, 201) == CK_OK && write_text(handle, "x") == CK_OK);
    CHECK(ck_body_ask(handle, CK_BODY_COLLECT) == 0);
}

/* RFC 9110 S9.3.2: a refusal says how long its body would be, and stops there. */
static void test_refusal_of_head(void)
{
    open_with(NULL, answer_hello);
    peer *client = dial();
    feed(client, "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n");
    CHECK_HEARD(client, "HTTP/1.1 413 Content Too Large\r\n" DATE "Content-Type: text/plain\r\nContent-Length: 22\r\n"
        "Connection: close\r\n\r\n");
    client = dial();
    feed(client, "HEAD / HTTP/1.1\r\nbad\r\n\r\n");
    const char *end = strstr(heard(client), "\r\n\r\n");
    CHECK(end && end[4] == '\0' && client->shut);
    close_server();
}

static void test_refusal_in_place_of_a_packed_response(void)
{
    open_with(NULL, begin_and_ask);
    peer *client = dial();
    feed(client, CHUNKED "zz\r\n");
    CHECK_HEARD(client, refusal("400 Bad Request"));
    CHECK_LOG("request 0|body 3|aborted 3|");
    CHECK(stats().rollbacks == 1);
    close_server();
}

static void test_malformed(void)
{
    static const char *const bodies[] = {"5\nhello", "x\r\n", "1\r\nabc", "0\r\nContent-Length: 1\r\n\r\n", "-1\r\n", "\r\n"};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        open_with(NULL, keep_and_ask);
        peer *client = dial();
        feed(client, CHUNKED);
        feed(client, bodies[i]);
        feed(client, GET("/poison"));
        CHECK_HEARD(client, refusal("400 Bad Request"));
        CHECK_LOG("request 0|body 3|aborted 3|");
        CHECK(client->shut);
        close_server();
    }
}

/* ---- Nobody asks ---- */

static void test_not_asked(void)
{
    static const char *const texts[] = {POST("5") "hello" GET("/next"), CHUNKED "5\r\nhello\r\n0\r\n\r\n" GET("/next"),
        POST("29") GET("/poison") GET("/next")};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        open_with(NULL, answer_hello);
        peer *client = dial();
        feed(client, texts[i]);
        CHECK_HEARD(client, joined(2, ok("hello"), ok("/next")));
        CHECK(client->sends == 1);
        forget(client);
        feed_slowly(client, texts[i]);
        CHECK_HEARD(client, joined(2, ok("hello"), ok("/next")));
        CHECK_LOG("request 0|request 1|request 0|request 1|");
        close_server();
    }
}

/* What is dropped is limited as what is read is. */
static void test_not_asked_and_endless(void)
{
    ck_limits limits = limits_default;
    limits.body = 1000;
    open_with(&limits, answer_hello);
    peer *client = dial();
    feed(client, CHUNKED);
    for (int i = 0; i < 2000 && !client->shut; i++) {
        feed(client, "4\r\nabcd\r\n");
    }
    CHECK(client->shut);
    CHECK_HEARD(client, ok("hello"));
    CHECK(client->in_taken < 4000);
    close_server();
}

static void test_not_asked_and_malformed(void)
{
    open_with(NULL, answer_hello);
    peer *client = dial();
    feed(client, CHUNKED "zzz\r\n" GET("/poison"));
    CHECK_HEARD(client, ok("hello"));
    CHECK_LOG("request 0|");
    CHECK(client->shut);
    close_server();
}

/* Until somebody asks, no more than the window is read. */
static void test_window(void)
{
    static char part[50000];
    memset(part, 'p', sizeof(part));
    ck_limits limits = limits_default;
    limits.window = 60000;
    open_with(&limits, keep_it);
    peer *client = dial();
    feed(client, POST("500000"));
    for (int i = 0; i < 10; i++) {
        feed_bytes(client, part, sizeof(part));
    }
    CHECK(client->in_taken < 150000);
    pass_seconds(40); /* it is the handler's time that passes */
    CHECK(!client->closed);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    settle();
    CHECK(client->in_taken == client->in_length);
    CHECK_LOG("request 0|body 0|");
    CHECK(client->out_length > 500000);
    close_server();
}

/* ---- 100 Continue ---- */

static void test_continue(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, EXPECT("5"));
    CHECK_HEARD(client, "");
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    settle();
    CHECK_HEARD(client, CONTINUE);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0); /* once */
    feed(client, "hello");
    CHECK_HEARD(client, joined(2, CONTINUE, ok("hello")));
    feed(client, GET("/next"));
    CHECK_LOG("request 0|body 0|request 1|");
    close_server();
}

static void test_continue_variants(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed(client, EXPECT("5") "hello"); /* EX-02: the bytes are there */
    CHECK_HEARD(client, ok("hello"));
    client = dial();
    feed(client, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"); /* EX-03 */
    CHECK_HEARD(client, "");
    client = dial();
    feed(client, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\n"); /* EX-04 */
    CHECK_HEARD(client, refusal("417 Expectation Failed"));
    client = dial();
    feed(client, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-CONTINUE\r\nContent-Length: 5\r\n\r\n"); /* EX-05 */
    CHECK_HEARD(client, CONTINUE);
    client = dial();
    feed(client, EXPECT("9999999")); /* EX-06 */
    CHECK_HEARD(client, refusal("413 Content Too Large"));
    client = dial();
    feed(client, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"); /* EX-09 */
    CHECK_HEARD(client, ok(""));
    close_server();
}

/* EX-07: what comes after an answer without a 100 is no request. */
static void test_answer_without_continue(void)
{
    open_with(NULL, answer_hello);
    peer *client = dial();
    feed(client, EXPECT("29"));
    CHECK_HEARD(client, answer_with("200 OK", "", "Connection: close\r\n", "hello"));
    CHECK(client->shut);
    feed(client, GET("/poison"));
    CHECK_LOG("request 0|");
    client = dial();
    forget_log();
    feed(client, EXPECT("29") GET("/poison") GET("/next")); /* EX-08 */
    CHECK(!strstr(heard(client), "/poison"));
    close_server();
}

/* EX-10, and TM-04. */
static void test_continue_and_silence(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed(client, EXPECT("5"));
    pass_seconds(16);
    CHECK_HEARD(client, joined(2, CONTINUE, refusal("408 Request Timeout")));
    CHECK_LOG("request 0|body 1|aborted 1|");
    CHECK(client->shut);
    close_server();
}

/* Inside a response is no place for an interim one. In front of a head that is
 * still packed there is; else the connection ends, since the client may send the
 * body or the next request. */
static void test_continue_of_a_response_that_has_begun(void)
{
    open_with(NULL, keep_it);
    world.body = NULL;
    enum { PACKED, PARKED, FLUSHED, WRITTEN, WAYS };
    for (int way = PACKED; way < WAYS; way++) {
        peer *client = dial();
        feed(client, EXPECT("5"));
        CHECK(ck_status(kept, 201) == CK_OK);
        if (way == FLUSHED) {
            CHECK(ck_flush(kept) == CK_OK);
        } else if (way == WRITTEN) {
            CHECK(write_text(kept, "x") == CK_OK);
        }
        if (way != PACKED) {
            settle();
        }
        CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
        settle();
        CHECK(end_text(kept, "") == CK_OK);
        settle();
        const char *found = strstr(heard(client), "100 Continue");
        bool in_time = way == PACKED || way == PARKED;
        CHECK(in_time ? found == heard(client) + 9 : !found);
        CHECK(client->shut == !in_time);
        CHECK(!strstr(heard(client), "Connection: close\r\n") == in_time);
    }
    close_server();
}

static void test_write_continue(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, POST("5"));
    CHECK(ck_write_continue(kept) == CK_OK);
    settle();
    CHECK_HEARD(client, CONTINUE);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    feed(client, "hello");
    CHECK_HEARD(client, joined(2, CONTINUE, ok("hello")));
    forget(client);
    feed(client, "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n");
    CHECK(ck_write_continue(kept) == CK_OK);
    settle();
    CHECK_HEARD(client, "");
    close_server();
}

/* ---- Trailers ---- */

static void test_trailers(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, CHUNKED "2\r\nab\r\n0\r\nX-Sum: abc\r\nB:\r\n\r\n");
    world.body = NULL;
    object_decref(ck_py_trailers(kept));
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    settle();
    object_decref(ck_py_trailers(kept));
    object_decref(ck_py_headers(kept));
    CHECK(end_text(kept, "x") == CK_OK);
    close_server();
}

/* ---- Ends ---- */

static void test_fin_in_body(void)
{
    static const char *const starts[] = {POST("5") "hel", CHUNKED "5\r\nhel", CHUNKED "3\r\nhel\r\n0\r\n", CHUNKED "3\r\nhel\r\n0\r\nA: b\r\n",
        POST("5"), CHUNKED};
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        open_with(NULL, keep_and_ask);
        peer *client = dial();
        feed(client, starts[i]);
        finish(client);
        CHECK_LOG("request 0|body 1|");
        CHECK(ck_py_body_take(kept) == &object_none && ck_body_ask(kept, CK_BODY_COLLECT) == CK_ABORTED);
        CHECK(end_text(kept, "x") == CK_OK); /* it may still be told something */
        settle();
        CHECK_HEARD(client, answer_with("200 OK", "", "Connection: close\r\n", "x"));
        CHECK(client->closed);
        close_server();
    }
}

static void test_fin_before_asking(void)
{
    open_with(NULL, keep_it);
    peer *client = dial();
    feed(client, POST("5") "hello");
    finish(client);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    settle();
    CHECK_HEARD(client, ok("hello"));
    CHECK(client->closed);
    client = dial();
    feed(client, POST("5") "hell");
    finish(client);
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    settle();
    CHECK_LOG("request 0|body 0|request 0|body 1|");
    close_server();
}

static void test_reset_in_body(void)
{
    open_with(NULL, keep_and_ask);
    peer *client = dial();
    feed(client, POST("5") "hel");
    reset(client);
    CHECK(client->closed);
    CHECK_LOG("request 0|body 1|aborted 0|");
    CHECK(ck_alive(kept) == CK_ABORTED && ck_release(kept) == CK_OK);
    close_server();
}

/* Whatever a callback about a body does, the core goes on. */
static int deed;

static void do_deed(uint32_t handle)
{
    switch (deed) {
    case 0:
        CHECK(ck_close(handle) == CK_OK);
        break;
    case 1:
        CHECK(ck_release(handle) == CK_OK);
        break;
    case 2:
        (void) end_text(handle, "x");
        CHECK(ck_release(handle) == CK_OK);
        break;
    case 3:
        (void) write_text(handle, "x");
        (void) ck_flush(handle);
        CHECK(ck_release(handle) == CK_OK);
        break;
    case 4:
        CHECK(ck_app_abort(world.app) == CK_OK);
        break;
    case 5:
        (void) ck_app_destroy(world.app);
        break;
    }
}

static void test_deeds_in_callbacks(void)
{
    static const char *const bodies[] = {"hello", "hel", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhel", "zz\r\n", "9999999\r\n"};
    for (deed = 0; deed < 6; deed++) {
        for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
            for (int end = 0; end < 4; end++) {
                mode = i % 2 + 1;
                mode = end % 2 ? 3 - mode : mode;
                open_with(NULL, keep_and_ask);
                world.body = world.data = world.aborted = do_deed;
                peer *client = dial();
                feed(client, i < 2 ? POST("5") : CHUNKED);
                feed(client, bodies[i]);
                if (end < 2) {
                    finish(client);
                } else if (end == 2) {
                    reset(client);
                }
                pass_seconds(20);
                close_server();
            }
        }
    }
    mode = CK_BODY_COLLECT;
}

int main(void)
{
    test_collect_in_callback();
    test_collect_as_it_comes();
    test_collect_chunked();
    test_collect_later();
    test_no_body();
    test_stream();
    test_stream_paused();
    test_pause_does_not_outlive_its_response();
    test_pause_before_asking();
    test_stream_without_memory_for_a_part();
    test_asking_too_late();
    test_limit_by_length();
    test_limit_chunked();
    test_let_go_when_the_body_breaks_off();
    test_limit_changed();
    test_malformed();
    test_refusal_of_head();
    test_refusal_in_place_of_a_packed_response();
    test_not_asked();
    test_not_asked_and_endless();
    test_not_asked_and_malformed();
    test_window();
    test_continue();
    test_continue_variants();
    test_answer_without_continue();
    test_continue_and_silence();
    test_continue_of_a_response_that_has_begun();
    test_write_continue();
    test_trailers();
    test_fin_in_body();
    test_fin_before_asking();
    test_reset_in_body();
    test_deeds_in_callbacks();
    return checks_done();
}
