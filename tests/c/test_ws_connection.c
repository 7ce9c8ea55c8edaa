/* WebSockets from the request to the end, over a server in memory: the opening
 * handshake, messages however they arrive, every way to close, timers, clients that
 * do not read, and memory that fails at each place. */
#include "ws_frame.h"

#include "server.h"

#define UPGRADE_FIELDS                                                                              \
    "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"          \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define UPGRADE "GET /ws HTTP/1.1\r\n" UPGRADE_FIELDS "\r\n"
#define SWITCHED                                                                                    \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"              \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
/* Frames of the client's, masked with zeros so that they can be read. */
#define MASK "\0\0\0\0"
#define LITERAL(client, text) feed_bytes(client, text, sizeof(text) - 1)

static const ck_ws_limits limits_of_route = {.message = 100, .backlog = 50000, .idle_seconds = 24, .close_seconds = 8, .pings = 1};

static uint32_t websocket; /* that was accepted last */

static void accept_it(uint32_t handle)
{
    int64_t result = ck_upgrade(handle, "", 0);
    CHECK(result > 0 || result == CK_NOMEM);
    websocket = result > 0 ? (uint32_t) result : 0;
}

static void echo(uint32_t handle)
{
    if (world.event == CK_WS_EVENT_TEXT || world.event == CK_WS_EVENT_BINARY) {
        (void) ck_ws_send(handle, world.part->data, (int) world.part->length, CK_WS_FIN | world.event);
    }
}

static void serve_websocket(const ck_ws_limits *limits, handler run)
{
    int route = world.routes++;
    world.handlers[route] = run;
    world.websocket = echo;
    CHECK(ck_app_websocket(world.app, "/ws", 3, route, limits) == 0);
}

/* A client that has been upgraded; nothing of that is left to see. */
static peer *upgraded(const ck_ws_limits *limits)
{
    open_server(NULL);
    serve_websocket(limits ? limits : &limits_of_route, accept_it);
    peer *client = dial();
    feed(client, UPGRADE);
    CHECK_HEARD(client, SWITCHED);
    CHECK(client->sends == 1);
    forget(client);
    forget_log();
    return client;
}

static bool heard_is(const peer *client, const char *bytes, size_t length)
{
    return client->out_length == length && (length == 0 || memcmp(client->out, bytes, length) == 0);
}

#define CHECK_BYTES(client, bytes) CHECK(heard_is(client, bytes, sizeof(bytes) - 1))

/* ---- Opening ---- */

static void test_frames_behind_the_handshake(void)
{
    open_server(NULL);
    serve_websocket(&limits_of_route, accept_it);
    peer *client = dial();
    LITERAL(client, UPGRADE "\x81\x81" MASK "a" "\x82\x81" MASK "b");
    CHECK_BYTES(client, SWITCHED "\x81\x01" "a" "\x82\x01" "b");
    CHECK(client->sends == 1);
    CHECK_LOG("request 0|websocket 1 0 a|websocket 2 0 b|");
    close_server();
    CHECK_LOG("request 0|websocket 1 0 a|websocket 2 0 b|websocket 8 1006 |");
}

static void expect_refusal(const char *request, const char *begins, bool closes)
{
    open_server(NULL);
    serve_websocket(&limits_of_route, accept_it);
    peer *client = dial();
    feed(client, request);
    CHECK_FOR(request, strncmp(heard(client), begins, strlen(begins)) == 0);
    CHECK_FOR(request, client->shut == closes);
    CHECK_FOR(request, world.log_length == 0);
    close_server();
}

static void test_refusals(void)
{
    expect_refusal(GET("/ws"), "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", false); /* WH-04 */
    expect_refusal("GET /ws HTTP/1.0\r\n" UPGRADE_FIELDS "\r\n", "HTTP/1.1 400 ", true);                            /* WH-02 */
    expect_refusal("POST /ws HTTP/1.1\r\n" UPGRADE_FIELDS "\r\n", "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET, HEAD\r\n", false);
    expect_refusal("GET /ws HTTP/1.1\r\n" UPGRADE_FIELDS "Content-Length: 1\r\n\r\nx", "HTTP/1.1 400 ", true);       /* WH-23 */
    expect_refusal("GET /ws HTTP/1.1\r\n" UPGRADE_FIELDS "Sec-WebSocket-Version: 8\r\n\r\n", "HTTP/1.1 426 ", true); /* WH-11 */
    expect_refusal("GET /other HTTP/1.1\r\n" UPGRADE_FIELDS "\r\n", "HTTP/1.1 404 ", false);
    expect_refusal(GET("/other"), "HTTP/1.1 404 ", false);
}

static void test_a_path_for_both(void)
{
    open_server(NULL);
    serve_websocket(&limits_of_route, accept_it);
    serve("GET", "/ws", answer_hello);
    peer *client = dial();
    feed(client, GET("/ws"));
    CHECK_HEARD(client, ok("hello"));
    forget(client);
    feed(client, UPGRADE);
    CHECK_HEARD(client, SWITCHED);
    close_server();
}

static void accept_with_protocol(uint32_t handle)
{
    CHECK(field(handle, "X-A", "b") == CK_OK);
    CHECK(field(handle, "Sec-WebSocket-Accept", "x") == CK_FRAMING); /* WH-19 */
    CHECK(field(handle, "Upgrade", "h2c") == CK_FRAMING);
    CHECK(ck_upgrade(handle, "c", 1) == CK_VALUE);                   /* WH-18 */
    CHECK(ck_upgrade(handle, "b", 1) > 0);
    CHECK(ck_upgrade(handle, "b", 1) == CK_FINISHED);                /* WH-26 */
    CHECK(ck_fail(handle) == CK_FINISHED);
}

static void accept_too_late(uint32_t handle)
{
    CHECK(ck_status(handle, 403) == CK_OK);
    CHECK(ck_upgrade(handle, "", 0) == CK_STATE);
    CHECK(end_text(handle, "no") == CK_OK); /* WH-22 */
}

static void test_answers_of_the_application(void)
{
    open_server(NULL);
    serve_websocket(&limits_of_route, accept_with_protocol);
    peer *client = dial();
    feed(client, "GET /ws HTTP/1.1\r\n" UPGRADE_FIELDS "Sec-WebSocket-Protocol: a, b\r\n\r\n");
    CHECK_HEARD(client, "HTTP/1.1 101 Switching Protocols\r\nX-A: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\n\r\n");
    close_server();
    open_server(NULL);
    serve_websocket(&limits_of_route, accept_too_late);
    client = dial();
    feed(client, UPGRADE);
    CHECK(strncmp(heard(client), "HTTP/1.1 403 Forbidden\r\n", 24) == 0);
    close_server();
    open_server(NULL);
    serve_websocket(&limits_of_route, accept_it);
    client = dial();
    feed(client, "GET /ws HTTP/1.1\r\n" UPGRADE_FIELDS "Expect: 100-continue\r\n\r\n"); /* WH-23 */
    CHECK_HEARD(client, "HTTP/1.1 100 Continue\r\n\r\n" SWITCHED);
    CHECK(client->sends == 1);
    close_server();
}

/* What came behind a handshake that is answered later waits. */
static void test_a_late_answer(void)
{
    open_server(NULL);
    serve_websocket(&limits_of_route, just_keep);
    peer *client = dial();
    LITERAL(client, UPGRADE "\x81\x81" MASK "a");
    LITERAL(client, "\x81\x81" MASK "b");
    CHECK_HEARD(client, "");
    uint32_t request = world.last;
    CHECK(ck_upgrade(request, "", 0) > 0);
    CHECK(ck_release(request) == CK_OK);
    settle();
    CHECK_BYTES(client, SWITCHED "\x81\x01" "a" "\x81\x01" "b");
    close_server();
}

/* ---- Messages ---- */

static void test_messages_in_pieces(void)
{
    peer *client = upgraded(NULL);
    static const char frames[] = "\x01\x82" MASK "ab" "\x89\x81" MASK "p" "\x00\x80" MASK "\x80\x82" MASK "cd" "\x82\x80" MASK;
    for (size_t i = 0; i < sizeof(frames) - 1; i++) {
        feed_bytes(client, frames + i, 1);
    }
    CHECK_LOG("websocket 9 0 p|websocket 1 0 abcd|websocket 2 0 |");
    CHECK_BYTES(client, "\x8A\x01p" "\x81\x04" "abcd" "\x82\x00");
    close_server();
}

static void test_many_in_one_read(void) /* WF-32 */
{
    peer *client = upgraded(NULL);
    char frames[700];
    for (size_t i = 0; i < 100; i++) {
        memcpy(frames + 7 * i, "\x81\x81" MASK, 6);
        frames[7 * i + 6] = (char) ('a' + i % 26);
    }
    feed_bytes(client, frames, sizeof(frames));
    CHECK(client->sends == 1 && client->out_length == 300);
    for (size_t i = 0; i < 100; i++) {
        CHECK(client->out[3 * i + 2] == (char) ('a' + i % 26));
    }
    close_server();
}

/* ---- Ends ---- */

static void expect_end(const char *frames, size_t length, const char *answer, size_t answer_length, const char *log)
{
    peer *client = upgraded(NULL);
    feed_bytes(client, frames, length);
    CHECK_FOR(log, heard_is(client, answer, answer_length));
    CHECK_LOG(log);
    CHECK_FOR(log, client->shut && !client->closed);
    LITERAL(client, "\x81\x81" MASK "z" "\x89\x80" MASK); /* WC-08: nobody hears it */
    CHECK_LOG(log);
    CHECK_FOR(log, ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_EXPIRED);
    finish(client);
    CHECK_FOR(log, client->closed);
    close_server();
}

#define EXPECT_END(frames, answer, log) expect_end(frames, sizeof(frames) - 1, answer, sizeof(answer) - 1, log)

static void test_closes_of_the_client(void)
{
    EXPECT_END("\x88\x80" MASK, "\x88\x00", "websocket 8 1005 |"); /* WC-01 */
    EXPECT_END("\x88\x85" MASK "\x03\xE8" "bye", "\x88\x02\x03\xE8", "websocket 8 1000 bye|");
    EXPECT_END("\x88\x82" MASK "\x03\xF6", "\x88\x02\x03\xF6", "websocket 8 1014 |"); /* WC-04 */
    EXPECT_END("\x88\x82" MASK "\x03\xEE", "\x88\x02\x03\xEA", "websocket 8 1002 |"); /* WC-05: 1006 */
    EXPECT_END("\x81\x81" MASK "a" "\x88\x80" MASK, "\x81\x01" "a" "\x88\x00", "websocket 1 0 a|websocket 8 1005 |");
    EXPECT_END("\x01\x81" MASK "a" "\x88\x82" MASK "\x03\xE8", "\x88\x02\x03\xE8", "websocket 8 1000 |"); /* WC-09 */
}

static void test_closes_of_the_protocol(void)
{
    EXPECT_END("\x81\x01" "a", "\x88\x02\x03\xEA", "websocket 8 1002 |");
    EXPECT_END("\x81\x81" MASK "a" "\x81\x81" MASK "\xFF", "\x81\x01" "a" "\x88\x02\x03\xEF", "websocket 1 0 a|websocket 8 1007 |");
    EXPECT_END("\x82\xFE\x00\x7E", "\x88\x02\x03\xF1", "websocket 8 1009 |"); /* 126 bytes announced, 100 allowed */
}

static void test_connections_that_go(void)
{
    peer *client = upgraded(NULL);
    finish(client); /* WC-10 */
    CHECK_LOG("websocket 8 1006 |");
    CHECK(client->closed);
    close_server();
    client = upgraded(NULL);
    reset(client); /* WC-11 */
    CHECK_LOG("websocket 8 1006 |");
    close_server();
}

static void test_our_close(void)
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_close(websocket, 1006, "", 0) == CK_VALUE && ck_ws_close(websocket, 5000, "", 0) == CK_VALUE);
    CHECK(ck_ws_close(websocket, 1000, "\xFF", 1) == CK_VALUE && ck_ws_close(websocket, CK_WS_NO_CODE, "a", 1) == CK_VALUE);
    CHECK(ck_ws_close(websocket, 4000, "why", 3) == CK_OK);
    CHECK(ck_ws_close(websocket, 4001, "", 0) == CK_FINISHED);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_FINISHED);
    settle();
    CHECK_BYTES(client, "\x88\x05\x0F\xA0why");
    LITERAL(client, "\x81\x81" MASK "a"); /* of before it knew */
    CHECK_LOG("");
    CHECK(!client->shut);
    LITERAL(client, "\x88\x82" MASK "\x0F\xA0");
    CHECK_LOG("websocket 8 4000 |");
    CHECK(client->shut);
    close_server();
}

static void test_our_close_unanswered(void) /* WC-12 */
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_close(websocket, 1000, "", 0) == CK_OK);
    settle();
    for (int i = 0; i < 3; i++) { /* talking wins no time */
        LITERAL(client, "\x81\x81" MASK "a");
        pass_seconds(4);
    }
    CHECK_LOG("websocket 8 1006 |");
    CHECK(client->closed);
    close_server();
}

static void close_at_once(uint32_t handle)
{
    if (world.event == CK_WS_EVENT_TEXT) {
        CHECK(ck_ws_terminate(handle) == CK_OK);
        CHECK(ck_ws_terminate(handle) == CK_EXPIRED);
    } else if (world.event == CK_WS_EVENT_CLOSED) {
        CHECK(ck_ws_close(handle, 1000, "", 0) == CK_EXPIRED);
    }
}

static void test_the_end_inside_a_callback(void) /* WC-14 */
{
    peer *client = upgraded(NULL);
    world.websocket = close_at_once;
    LITERAL(client, "\x01\x81" MASK "a" "\x80\x81" MASK "b" "\x81\x81" MASK "c");
    CHECK_LOG("websocket 1 0 ab|websocket 8 1006 |");
    CHECK(client->closed);
    close_server();
}

static void test_the_end_of_the_app(void) /* WC-18 */
{
    peer *client = upgraded(NULL);
    CHECK(ck_app_drain(world.app) == CK_OK);
    settle();
    CHECK_BYTES(client, "\x88\x02\x03\xE9");
    LITERAL(client, "\x88\x82" MASK "\x03\xE9");
    CHECK_LOG("websocket 8 1001 |");
    finish(client);
    CHECK(client->closed);
    close_server();
}

/* ---- Time ---- */

static void test_pings(void) /* WB-06, WF-27 */
{
    peer *client = upgraded(NULL);
    pass_seconds(16);
    CHECK_BYTES(client, "\x89\x00");
    LITERAL(client, "\x8A\x80" MASK);
    CHECK_LOG("websocket 10 0 |");
    forget(client);
    pass_seconds(12);
    CHECK(!client->closed && client->out_length == 0);
    pass_seconds(12);
    CHECK_BYTES(client, "\x89\x00" "\x88\x0E\x03\xF3ping timeout");
    CHECK_LOG("websocket 10 0 |websocket 8 1006 |");
    CHECK(client->closed);
    close_server();
}

static void test_idle_without_pings(void)
{
    ck_ws_limits limits = limits_of_route;
    limits.pings = 0;
    peer *client = upgraded(&limits);
    pass_seconds(12);
    LITERAL(client, "\x8A\x80" MASK);
    pass_seconds(16);
    CHECK(!client->closed);
    pass_seconds(12);
    CHECK(client->closed && client->out_length == 0);
    limits.idle_seconds = 0;
    close_server();
    client = upgraded(&limits);
    pass_seconds(2000);
    CHECK(!client->closed);
    close_server();
}

/* Wherever in the clock's minute it was born, it is not closed before its age, nor a minute after. */
static void test_max_lifetime(void) /* WB-07 */
{
    ck_ws_limits limits = limits_of_route;
    limits.idle_seconds = 0;
    limits.lifetime_minutes = 2;
    for (int born = 0; born < 15; born++) {
        open_server(NULL);
        serve_websocket(&limits, accept_it);
        pass_granules(born);
        peer *client = dial();
        feed(client, UPGRADE);
        forget(client);
        forget_log();
        int seconds = 0;
        for (; client->out_length == 0 && seconds < 1000; seconds += 4) {
            pass_seconds(4);
        }
        CHECK(120 <= seconds && seconds <= 180);
        CHECK_BYTES(client, "\x88\x02\x03\xE9");
        LITERAL(client, "\x88\x82" MASK "\x03\xE9");
        CHECK_LOG("websocket 8 1001 |");
        pass_seconds(8);
        CHECK(client->closed);
        close_server();
    }
}

static void test_the_longest_lifetime(void)
{
    ck_ws_limits limits = limits_of_route;
    limits.idle_seconds = 0;
    limits.lifetime_minutes = 240;
    peer *client = upgraded(&limits);
    pass_seconds(240 * 60);
    CHECK(client->out_length == 0);
    pass_seconds(60);
    CHECK_BYTES(client, "\x88\x02\x03\xE9");
    pass_seconds(8);
    CHECK_LOG("websocket 8 1006 |"); /* WC-12: it did not answer */
    CHECK(client->closed);
    close_server();
}

static void test_a_lifetime_that_ends_in_a_closing_handshake(void)
{
    ck_ws_limits limits = limits_of_route;
    limits.idle_seconds = 0;
    limits.lifetime_minutes = 1;
    limits.close_seconds = 300;
    peer *client = upgraded(&limits);
    CHECK(ck_ws_close(websocket, 4000, "", 0) == CK_OK);
    pass_seconds(240);
    CHECK_BYTES(client, "\x88\x02\x0F\xA0");
    finish(client);
    pass_seconds(240); /* what lingers has no age */
    CHECK_LOG("websocket 8 1006 |");
    close_server();
}

/* ---- Clients that do not read ---- */

static void test_backpressure(void)
{
    static char large[60000];
    peer *client = upgraded(NULL);
    client->room = 0;
    CHECK(ck_ws_send(websocket, large, sizeof(large), CK_WS_FIN | CK_WS_BINARY) == CK_WS_WAITS);
    CHECK(ck_ws_buffered(websocket) == (int) sizeof(large) + 4);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_WS_DROPPED);
    LITERAL(client, "\x89\x81" MASK "1" "\x89\x81" MASK "2"); /* WF-25 */
    CHECK_LOG("websocket 9 0 1|websocket 9 0 2|");
    client->room = UNLIMITED;
    settle();
    CHECK(client->out_length == sizeof(large) + 4 + 3);
    CHECK(memcmp(client->out + sizeof(large) + 4, "\x8A\x01" "2", 3) == 0);
    CHECK_LOG("websocket 9 0 1|websocket 9 0 2|websocket 16 0 |");
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_WS_SENT);
    close_server();
}

/* What was packed when it was sent, and had to wait only then, is told of as well. */
static void test_what_waits_after_the_cork(void)
{
    peer *client = upgraded(NULL);
    client->room = 0;
    CHECK(ck_ws_cork(websocket) == CK_OK);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_WS_SENT);
    CHECK(ck_ws_uncork(websocket) == 0 && ck_ws_buffered(websocket) == 3);
    client->room = UNLIMITED;
    settle();
    CHECK_BYTES(client, "\x81\x01x");
    CHECK_LOG("websocket 16 0 |");
    close_server();
}

/* A pong that has waited for the client is not sent behind our close frame. */
static void test_a_pong_that_comes_too_late(void)
{
    static char large[60000];
    peer *client = upgraded(NULL);
    client->room = 0;
    CHECK(ck_ws_send(websocket, large, sizeof(large), CK_WS_FIN | CK_WS_BINARY) == CK_WS_WAITS);
    LITERAL(client, "\x89\x81" MASK "1");
    CHECK(ck_ws_close(websocket, 1000, "", 0) == CK_OK);
    client->room = UNLIMITED;
    settle();
    CHECK(client->out_length == sizeof(large) + 4 + 4);
    CHECK(memcmp(client->out + sizeof(large) + 4, "\x88\x02\x03\xE8", 4) == 0);
    close_server();
}

static void test_backpressure_that_closes(void) /* WB-02 */
{
    static char large[60000];
    ck_ws_limits limits = limits_of_route;
    limits.close_on_backlog = 1;
    peer *client = upgraded(&limits);
    client->room = 0;
    CHECK(ck_ws_send(websocket, large, sizeof(large), CK_WS_FIN | CK_WS_BINARY) == CK_WS_WAITS);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_WS_DROPPED);
    CHECK_LOG("websocket 8 1006 |");
    CHECK(client->closed);
    close_server();
}

static void test_pause(void) /* WB-05 */
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_pause(websocket, 1) == CK_OK);
    LITERAL(client, "\x81\x81" MASK "a");
    LITERAL(client, "\x81\x81" MASK "b");
    CHECK_LOG("");
    finish(client);
    CHECK_LOG("");
    CHECK(ck_ws_pause(websocket, 0) == CK_OK);
    settle();
    CHECK_LOG("websocket 1 0 a|websocket 1 0 b|websocket 8 1006 |");
    close_server();
}

/* A client that is not read is not silent; it has its whole time again afterwards. */
static void test_a_pause_is_not_idleness(void)
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_pause(websocket, 1) == CK_OK);
    pass_seconds(200);
    CHECK(client->out_length == 0 && !client->closed);
    CHECK(ck_ws_pause(websocket, 0) == CK_OK);
    pass_seconds(12);
    CHECK(client->out_length == 0);
    pass_seconds(4);
    CHECK_BYTES(client, "\x89\x00");
    CHECK(ck_ws_pause(websocket, 1) == CK_OK); /* now its pong is not read */
    LITERAL(client, "\x8A\x80" MASK);
    pass_seconds(200);
    CHECK(!client->closed);
    CHECK(ck_ws_pause(websocket, 0) == CK_OK);
    settle();
    CHECK_LOG("websocket 10 0 |");
    CHECK(ck_ws_close(websocket, 1000, "", 0) == CK_OK && ck_ws_pause(websocket, 1) == CK_OK);
    pass_seconds(8);
    CHECK_LOG("websocket 10 0 |websocket 8 1006 |"); /* the time for a close frame runs all the same */
    close_server();
}

/* ---- Frames that may not be sent ---- */

static void test_order_of_what_is_sent(void)
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_CONTINUATION) == CK_STATE);
    for (int reserved = 0x10; reserved <= 0x30; reserved += 0x10) {
        CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | reserved | CK_WS_TEXT) == CK_STATE);
        CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | reserved | CK_WS_PING) == CK_STATE);
    }
    CHECK(ck_ws_send(websocket, "a", 1, CK_WS_TEXT) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_STATE);
    CHECK(ck_ws_send(websocket, "p", 1, CK_WS_FIN | CK_WS_PING) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "b", 1, CK_WS_CONTINUATION) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "c", 1, CK_WS_FIN | CK_WS_CONTINUATION) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_PING) == CK_STATE && ck_ws_send(websocket, "x", 1, CK_WS_FIN | 3) == CK_STATE);
    CHECK(ck_ws_send(websocket, "x", 1, CK_WS_FIN | CK_WS_CLOSE) == CK_STATE && ck_ws_send(websocket, "x", 1, 0x181) == CK_STATE);
    settle();
    CHECK_BYTES(client, "\x01\x01" "a" "\x89\x01p" "\x00\x01" "b" "\x80\x01" "c");
    CHECK(client->sends == 1);
    close_server();
}

/* Whole, and in fragments that cut a character. */
static void test_text_is_utf8(void)
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_send(websocket, "\xFF", 1, CK_WS_FIN | CK_WS_TEXT) == CK_VALUE);
    CHECK(ck_ws_send(websocket, "\xE2\x82", 2, CK_WS_FIN | CK_WS_TEXT) == CK_VALUE);
    CHECK(ck_ws_send(websocket, "\xE2\x82", 2, CK_WS_TEXT) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "\xFF", 1, CK_WS_FIN | CK_WS_PING) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "\xFF", 1, CK_WS_CONTINUATION) == CK_VALUE);
    CHECK(ck_ws_send(websocket, "", 0, CK_WS_FIN | CK_WS_CONTINUATION) == CK_VALUE);
    CHECK(ck_ws_send(websocket, "\xAC", 1, CK_WS_FIN | CK_WS_CONTINUATION) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "\xFF", 1, CK_WS_BINARY) == CK_WS_SENT);
    CHECK(ck_ws_send(websocket, "\xFF", 1, CK_WS_FIN | CK_WS_CONTINUATION) == CK_WS_SENT);
    settle();
    CHECK_BYTES(client, "\x01\x02\xE2\x82\x89\x01\xFF\x80\x01\xAC\x02\x01\xFF\x80\x01\xFF");
    close_server();
}

static void test_corks_and_handles(void)
{
    peer *client = upgraded(NULL);
    CHECK(ck_ws_cork(websocket) == CK_OK && ck_corked() == websocket);
    CHECK(ck_ws_send(websocket, "a", 1, CK_WS_FIN | CK_WS_TEXT) == CK_WS_SENT);
    CHECK(client->sends == 0 && ck_ws_flush(websocket) == CK_OK && client->sends == 1);
    CHECK(ck_ws_uncork(websocket) == 0 && ck_corked() == 0);
    CHECK(ck_ws_send(world.app, "a", 1, CK_WS_FIN | CK_WS_TEXT) == CK_EXPIRED);
    CHECK(ck_ws_cork(1) < 0 && ck_ws_pause(world.last, 1) == CK_EXPIRED && ck_ws_buffered(world.last) == CK_EXPIRED);
    close_server();
}

/* ---- Memory ---- */

/* Each allocation and each object fails in turn: the client gets an answer or an end,
 * and the end is told once for each WebSocket. */
static void test_memory_that_fails(void)
{
    for (int what = 0; what < 2; what++) {
        for (long nth = 1; nth < 40; nth++) {
            open_server(NULL);
            serve_websocket(&limits_of_route, accept_it);
            peer *client = dial();
            websocket = 0;
            if (what == 0) {
                world.fail_at = world.allocations + nth;
            } else {
                world.object_fail_at = world.objects_made + nth;
            }
            LITERAL(client, UPGRADE "\x01\x82" MASK "ab");
            LITERAL(client, "\x80\x82" MASK "cd" "\x89\x81" MASK "p");
            LITERAL(client, "\x88\x82" MASK "\x03\xE8");
            world.fail_at = world.object_fail_at = 0;
            finish(client);
            CHECK(client->closed);
            const char *told = strstr(world.log, "websocket 8 ");
            CHECK((websocket != 0) == (told != NULL));
            CHECK(!told || !strstr(told + 1, "websocket 8 "));
            close_server();
        }
    }
}

int main(void)
{
    test_frames_behind_the_handshake();
    test_refusals();
    test_a_path_for_both();
    test_answers_of_the_application();
    test_a_late_answer();
    test_messages_in_pieces();
    test_many_in_one_read();
    test_closes_of_the_client();
    test_closes_of_the_protocol();
    test_connections_that_go();
    test_our_close();
    test_our_close_unanswered();
    test_the_end_inside_a_callback();
    test_the_end_of_the_app();
    test_pings();
    test_idle_without_pings();
    test_max_lifetime();
    test_the_longest_lifetime();
    test_a_lifetime_that_ends_in_a_closing_handshake();
    test_backpressure();
    test_what_waits_after_the_cork();
    test_a_pong_that_comes_too_late();
    test_backpressure_that_closes();
    test_pause();
    test_a_pause_is_not_idleness();
    test_order_of_what_is_sent();
    test_text_is_utf8();
    test_corks_and_handles();
    test_memory_that_fails();
    close_world();
    return checks_done();
}
