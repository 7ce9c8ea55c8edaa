/* Topics: the tables, what is published and to whom, in how many sends, and what becomes
 * of those who do not read; against a model, with memory that fails, and with handlers
 * that change everything while it is being gone through. */
#include "topic.h"

#include "topic_wild.h"

/* ---- The hash ---- */

static void test_siphash(void)
{
    ck_hash_key key = {0x0706050403020100U, 0x0f0e0d0c0b0a0908U};
    const char input[] = "\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16";
    CHECK(ck_siphash(key, input, 15, 2, 4) == 0xa129ca6149be45e5U); /* of the paper */
    CHECK(ck_siphash(key, input, 0, 2, 4) == 0x726fdb47dd0e0e31U);
    CHECK(ck_hash(key, input, 15) != ck_hash(key, input, 14));
}

/* ---- Against the model ---- */

static uint64_t random_state = 88172645463325252U;

static uint8_t random_byte(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint8_t) (random_state >> 32);
}

static void test_model(void)
{
    static uint8_t bytes[3000];
    for (int round = 0; round < 60; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = random_byte();
        }
        run_topic_model(bytes, sizeof(bytes));
    }
}


/* ---- Calls ---- */

#define PUBLISH(topic, text) ck_app_publish(world.app, topic, sizeof(topic) - 1, text, sizeof(text) - 1, CK_WS_TEXT, "", -1)
#define PUBLISH_KEY(topic, text, key)                                                                   \
    ck_app_publish(world.app, topic, sizeof(topic) - 1, text, sizeof(text) - 1, CK_WS_TEXT, key, sizeof(key) - 1)
#define SEND(ws, text) ck_ws_send(ws, text, sizeof(text) - 1, CK_WS_FIN | CK_WS_TEXT)
#define HEARD_BYTES(client, bytes)                                                                      \
    CHECK((client)->out_length == sizeof(bytes) - 1 && memcmp((client)->out, bytes, sizeof(bytes) - 1) == 0)

static void all_subscribe(const char *topic)
{
    for (int i = 0; i < SOME; i++) {
        CHECK(ck_ws_subscribe(sockets[i], topic, (int) strlen(topic)) == i + 1);
    }
}

static void test_publish(void)
{
    open_with_clients(NULL);
    all_subscribe("t");
    CHECK(SEND(sockets[1], "before") == CK_WS_SENT);
    CHECK(ck_ws_publish(sockets[0], "t", 1, "x", 1, CK_WS_TEXT, "", -1) == SOME - 1);
    CHECK(PUBLISH("t", "yy") == SOME && PUBLISH("other", "z") == 0);
    CHECK(SEND(sockets[1], "after") == CK_WS_SENT);
    CHECK(clients[0]->sends == 0 && world.deferred == 1);
    CHECK(ck_ws_buffered(sockets[0]) == 4 + 16); /* frame and reference */
    settle();
    HEARD_BYTES(clients[0], "\x81\x02yy");
    HEARD_BYTES(clients[1], "\x81\x06" "before" "\x81\x01x" "\x81\x02yy" "\x81\x05" "after");
    HEARD_BYTES(clients[2], "\x81\x01x" "\x81\x02yy");
    for (int i = 0; i < SOME; i++) {
        CHECK(clients[i]->sends == 1);
    }
    close_server();
}

static void test_names(void)
{
    static char longest[CK_TOPIC_BYTES + 1];
    open_with_clients(NULL);
    CHECK(ck_ws_subscribe(sockets[0], "", 0) == CK_VALUE && ck_ws_subscribe(sockets[0], longest, CK_TOPIC_BYTES + 1) == CK_VALUE);
    CHECK(ck_ws_subscribe(sockets[0], longest, CK_TOPIC_BYTES) == 1 && ck_ws_subscribe(sockets[0], "a\0b", 3) == 1);
    CHECK(ck_ws_subscribed(sockets[0], "a\0b", 3) == 1 && ck_ws_subscribed(sockets[0], "a", 1) == 0);
    CHECK(ck_ws_subscribed(sockets[0], "a\0c", 3) == 0 && ck_ws_subscribed(sockets[0], "", 0) == CK_VALUE);
    CHECK(ck_app_subscribers(world.app, "", 0) == CK_VALUE && ck_app_subscribers(1, "a", 1) == CK_EXPIRED);
    CHECK(ck_ws_unsubscribe(sockets[1], "a\0b", 3) == 0 && ck_ws_unsubscribe(1, "a", 1) == CK_EXPIRED);
    CHECK(ck_ws_unsubscribe(sockets[0], "a\0b", 3) == 1 && ck_ws_unsubscribe(sockets[0], "a\0b", 3) == 0);
    CHECK(PUBLISH("", "x") == CK_VALUE);
    CHECK(ck_app_publish(world.app, "t", 1, "x", 1, CK_WS_PING, "", -1) == CK_VALUE);
    CHECK(ck_app_publish(world.app, "t", 1, "x", -1, CK_WS_TEXT, "", -1) == CK_VALUE);
    CHECK(ck_app_publish(world.app, "t", 1, "x", 1, CK_WS_TEXT | 0x20, "", -1) == CK_VALUE);
    CHECK(ck_app_publish(world.app, "t", 1, "x", 1, CK_WS_TEXT, longest, CK_TOPIC_BYTES + 1) == CK_VALUE);
    CHECK(ck_app_publish(1, "t", 1, "x", 1, CK_WS_TEXT, "", -1) == CK_EXPIRED);
    CHECK(ck_ws_publish(1, "t", 1, "x", 1, CK_WS_TEXT, "", -1) == CK_EXPIRED);
    object *topics = ck_py_ws_topics(sockets[0]);
    CHECK(topics != NULL);
    object_decref(topics);
    topics = ck_py_ws_topics(1);
    CHECK(topics != NULL);
    object_decref(topics);
    close_server();
}

static void answer_and_publish(uint32_t handle)
{
    if (world.event == CK_WS_EVENT_TEXT) {
        CHECK(SEND(handle, "mine") == CK_WS_SENT);
        CHECK(PUBLISH("t", "all") == SOME);
        CHECK(SEND(handle, "more") == CK_WS_SENT);
        CHECK(PUBLISH("t", "end") == SOME);
    }
}

static void test_one_send_for_a_segment(void)
{
    open_with_clients(NULL);
    all_subscribe("t");
    world.websocket = answer_and_publish;
    feed_bytes(clients[0], "\x81\x81\0\0\0\0a", 7);
    HEARD_BYTES(clients[0], "\x81\x04" "mine" "\x81\x03" "all" "\x81\x04" "more" "\x81\x03" "end");
    CHECK(clients[0]->sends == 1 && clients[1]->sends == 1);
    HEARD_BYTES(clients[1], "\x81\x03" "all" "\x81\x03" "end");
    CHECK(stats().uncorked_writes == 0);
    close_server();
}

/* A hundred messages of 1,000 bytes fill seven buffers. */
static void test_full_lists(void)
{
    static char text[1000];
    open_with_clients(NULL);
    all_subscribe("t");
    for (int i = 0; i < 100; i++) {
        CHECK(ck_app_publish(world.app, "t", 1, text, sizeof(text), CK_WS_TEXT, "", -1) == SOME);
    }
    settle();
    for (int i = 0; i < SOME; i++) {
        CHECK(clients[i]->out_length == 100 * 1004 && clients[i]->sends == 7);
    }
    close_server();
}

/* A message is framed once, and a single one is sent from where it lies: no buffer is taken. */
static void test_memory_of_a_fan_out(void)
{
    static char text[100000];
    open_with_clients(NULL);
    all_subscribe("t");
    long before = world.allocations;
    CHECK(ck_app_publish(world.app, "t", 1, text, sizeof(text), CK_WS_BINARY, "", -1) == SOME);
    settle();
    CHECK(world.allocations == before + 1);
    for (int i = 0; i < SOME; i++) {
        CHECK(clients[i]->out_length == sizeof(text) + 10 && clients[i]->sends == 1);
    }
    close_server();
}

static void test_latest_only(void)
{
    open_with_clients(NULL);
    CHECK(ck_ws_subscribe(sockets[0], "t", 1) == 1 && ck_ws_subscribe(sockets[0], "u", 1) == 1);
    CHECK(PUBLISH_KEY("t", "old", "k") == 1 && PUBLISH_KEY("u", "other topic", "k") == 1 && PUBLISH("t", "no key") == 1);
    CHECK(PUBLISH_KEY("t", "empty", "") == 1 && PUBLISH_KEY("t", "newer", "k") == 1 && PUBLISH_KEY("t", "full", "") == 1);
    settle();
    HEARD_BYTES(clients[0], "\x81\x05" "newer" "\x81\x0b" "other topic" "\x81\x06" "no key" "\x81\x04" "full");
    forget(clients[0]);
    clients[0]->room = 0;
    CHECK(PUBLISH_KEY("t", "begun", "k") == 1);
    settle(); /* in the backlog now: it cannot be taken back */
    for (int i = 0; i < 1000; i++) {
        CHECK(PUBLISH_KEY("t", "passed", "k") == 1);
        CHECK(PUBLISH_KEY("t", "b", "l") == 1);
        settle();
    }
    CHECK(PUBLISH_KEY("t", "a", "k") == 1);
    CHECK(ck_ws_buffered(sockets[0]) == 7 + 2 * (3 + 16));
    clients[0]->room = UNLIMITED;
    settle();
    HEARD_BYTES(clients[0], "\x81\x05" "begun" "\x81\x01" "a" "\x81\x01" "b");
    CHECK_LOG("websocket 16 0 |");
    close_server();
}

/* ---- Compressed ---- */

static void publish_compressed(void)
{
    char text[1000];
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char) ('a' + (i * i + i / 26) % 23); /* nothing that refers to itself much */
    }
    for (int i = 0; i < SOME; i++) {
        forget(clients[i]);
    }
    CHECK(ck_app_publish(world.app, "t", 1, text, sizeof(text), CK_WS_TEXT | COMPRESSED, "", -1) == SOME);
    settle();
    for (int i = 0; i < SOME; i++) { /* the odd ones have agreed on nothing */
        CHECK(clients[i]->sends == 1);
        CHECK(i % 2 ? clients[i]->out_length == sizeof(text) + 4 && clients[i]->out[0] == '\x81'
                    : clients[i]->out_length < sizeof(text) && clients[i]->out[0] == '\xC1');
    }
}

static void test_compressed_once(void)
{
    ck_ws_limits limits = topic_limits;
    limits.compression = NO_CONTEXT;
    open_with_clients(&limits);
    all_subscribe("t");
    publish_compressed();
    long before = world.allocations;
    publish_compressed();
    CHECK(world.allocations == before + 3); /* the frame, what it is compressed into, and its other shape */
    CHECK(clients[0]->out_length == clients[2]->out_length);
    CHECK(memcmp(clients[0]->out, clients[2]->out, clients[0]->out_length) == 0);
    close_server();
}

/* Who keeps a context refers back to what it has been sent before. */
static void test_compressed_by_each(void)
{
    ck_ws_limits limits = topic_limits;
    limits.compression = 15 << 8 | 15 << 4 | 8; /* a window that holds the message before */
    open_with_clients(&limits);
    all_subscribe("t");
    publish_compressed();
    size_t first = clients[0]->out_length;
    CHECK(ck_ws_unsubscribe(sockets[2], "t", 1) == SOME);
    CHECK(ck_ws_subscribe(sockets[2], "t", 1) == SOME);
    publish_compressed();
    CHECK(clients[0]->out_length < first / 4 && clients[2]->out_length == clients[0]->out_length);
    close_server();
}

/* ---- Clients that do not read ---- */

static void test_slow_reader(void) /* WB-02, WB-03 */
{
    static char text[1000];
    open_with_clients(NULL);
    all_subscribe("t");
    clients[0]->room = 0;
    int dropped = 0;
    world.websocket = note_event;
    topic_drops = 0;
    for (int i = 0; i < 40; i++) {
        CHECK(ck_app_publish(world.app, "t", 1, text, sizeof(text), CK_WS_TEXT, "", -1) == SOME);
        settle();
    }
    dropped = (int) topic_drops;
    CHECK(dropped == 40 - 20); /* the twentieth finds 19 references and frames, and may come on top */
    CHECK(ck_ws_buffered(sockets[0]) <= LIMIT + 1020);
    clients[0]->room = 1500; /* some of it */
    settle();
    clients[0]->room = UNLIMITED;
    settle();
    CHECK(clients[0]->out_length == (size_t) (40 - dropped) * 1004);
    CHECK(strstr(world.log, "websocket 16 0 |") != NULL);
    for (int i = 1; i < SOME; i++) {
        CHECK(clients[i]->out_length == 40 * 1004 && clients[i]->sends == 40);
    }
    close_server();
}

static void test_slow_reader_that_is_closed(void)
{
    static char text[15000];
    ck_ws_limits limits = topic_limits;
    limits.close_on_backlog = 1;
    open_with_clients(&limits);
    all_subscribe("t");
    clients[1]->room = 0;
    for (int i = 0; i < 5; i++) {
        CHECK(ck_app_publish(world.app, "t", 1, text, sizeof(text), CK_WS_BINARY, "", -1) == (i < 3 ? SOME : SOME - 1));
        settle();
    }
    CHECK(clients[1]->closed && ck_app_subscribers(world.app, "t", 1) == SOME - 1);
    CHECK(strstr(world.log, "websocket 17 2 ") != NULL && strstr(world.log, "websocket 18 3 t|websocket 8 1006 |") != NULL);
    close_server();
}

/* Without a limit all waits. */
static void test_no_limit(void)
{
    static char text[1000];
    ck_ws_limits limits = topic_limits;
    limits.backlog = 0;
    open_with_clients(&limits);
    all_subscribe("t");
    clients[0]->room = 0;
    for (int i = 0; i < 500; i++) {
        CHECK(ck_app_publish(world.app, "t", 1, text, sizeof(text), CK_WS_TEXT, "", -1) == SOME);
        settle();
    }
    CHECK(ck_ws_buffered(sockets[0]) == 1004 + 499 * (1004 + 16));
    clients[0]->most = 3000;
    clients[0]->room = UNLIMITED;
    settle();
    CHECK(clients[0]->out_length == 500 * 1004 && ck_ws_buffered(sockets[0]) == 0);
    CHECK_LOG("websocket 16 0 |");
    close_server();
}

/* What a send puts behind them leaves publications no choice: they go to the backlog before it. */
static void test_send_behind_what_waits(void)
{
    open_with_clients(NULL);
    all_subscribe("t");
    clients[0]->room = 0;
    CHECK(PUBLISH("t", "1") == SOME);
    settle();
    CHECK(PUBLISH("t", "2") == SOME && PUBLISH_KEY("t", "3", "k") == SOME);
    CHECK(SEND(sockets[0], "4") == CK_WS_WAITS);
    CHECK(PUBLISH_KEY("t", "5", "k") == SOME);
    settle();
    clients[0]->room = UNLIMITED;
    settle();
    HEARD_BYTES(clients[0], "\x81\x01" "1" "\x81\x01" "2" "\x81\x01" "3" "\x81\x01" "4" "\x81\x01" "5");
    close_server();
}

/* ---- Fragments and ends ---- */

static void test_fragments(void)
{
    open_with_clients(NULL);
    all_subscribe("t");
    CHECK(ck_ws_send(sockets[0], "a", 1, CK_WS_TEXT) == CK_WS_SENT);
    CHECK(PUBLISH("t", "p") == SOME);
    settle();
    CHECK(ck_ws_send(sockets[0], "b", 1, CK_WS_CONTINUATION) == CK_WS_SENT);
    CHECK(ck_ws_flush(sockets[0]) == CK_OK);
    HEARD_BYTES(clients[0], "\x01\x01" "a" "\x00\x01" "b");
    HEARD_BYTES(clients[1], "\x81\x01" "p");
    CHECK(ck_ws_send(sockets[0], "c", 1, CK_WS_FIN | CK_WS_CONTINUATION) == CK_WS_SENT);
    settle();
    HEARD_BYTES(clients[0], "\x01\x01" "a" "\x00\x01" "b" "\x80\x01" "c" "\x81\x01" "p");
    CHECK(ck_ws_send(sockets[0], "a", 1, CK_WS_TEXT) == CK_WS_SENT && PUBLISH("t", "q") == SOME);
    close_server(); /* with one that never ends */
}

static void test_ends(void)
{
    open_with_clients(NULL);
    all_subscribe("t");
    CHECK(PUBLISH("t", "1") == SOME);
    CHECK(ck_ws_close(sockets[0], 1000, "", 0) == CK_OK && ck_ws_terminate(sockets[1]) == CK_OK);
    CHECK(PUBLISH("t", "2") == SOME - 2);
    CHECK(ck_ws_subscribe(sockets[0], "u", 1) == CK_FINISHED);
    CHECK_LOG("websocket 18 3 t|websocket 8 1006 |");
    HEARD_BYTES(clients[1], "\x81\x01" "1");
    settle();
    HEARD_BYTES(clients[0], "\x81\x01" "1" "\x88\x02\x03\xE8");
    CHECK(PUBLISH("t", "3") == SOME - 2);
    feed_bytes(clients[2], "\x88\x80\0\0\0\0", 6);
    HEARD_BYTES(clients[2], "\x81\x01" "1" "\x81\x01" "2" "\x81\x01" "3" "\x88\x00");
    CHECK(ck_ws_flush(sockets[3]) == CK_OK);
    HEARD_BYTES(clients[3], "\x81\x01" "1" "\x81\x01" "2" "\x81\x01" "3");
    CHECK(PUBLISH("t", "4") == 1);
    CHECK(ck_app_drain(world.app) == CK_OK);
    settle();
    CHECK(clients[3]->out_length == 12 + 4 && memcmp(clients[3]->out + 9, "\x81\x01" "4" "\x88\x02\x03\xE9", 7) == 0);
    close_server();
}

/* What is published last is sent before the loop ends. */
static void test_the_end_of_the_loop(void)
{
    open_with_clients(NULL);
    all_subscribe("t");
    CHECK(PUBLISH("t", "bye") == SOME);
    CHECK(ck_loop_close() == 0);
    HEARD_BYTES(clients[0], "\x81\x03" "bye");
    close_world();
}

/* ---- Handlers that change what is being gone through (WB-04) ---- */

static void test_wild_handlers(void)
{
    static uint8_t bytes[2000];
    for (unsigned round = 0; round < 600; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = random_byte();
        }
        run_wild(bytes, sizeof(bytes), round);
    }
}

/* ---- Memory ---- */

static void test_memory_that_fails(void)
{
    for (int what = 0; what < 3; what++) {
        for (long nth = 1; nth < 30; nth++) {
            open_with_clients(NULL);
            clients[3]->room = 0;
            if (what == 2) {
                world.object_fail_at = world.objects_made + nth;
            } else {
                world.fail_at = world.allocations + nth;
                world.fail_on = what == 1;
            }
            int subscribed = 0, published = 0;
            for (int i = 0; i < SOME; i++) {
                int result = ck_ws_subscribe(sockets[i], "t", 1);
                CHECK(result > 0 || result == CK_NOMEM);
                subscribed += result > 0;
            }
            CHECK(ck_app_subscribers(world.app, "t", 1) == subscribed);
            for (int i = 0; i < 40; i++) {
                int result = PUBLISH("t", "message");
                CHECK(result >= 0 || result == CK_NOMEM);
                published += result > 0;
            }
            settle();
            void *topics = ck_py_ws_topics(sockets[0]);
            CHECK(topics || world.errors || what == 2);
            world.fail_at = world.object_fail_at = 0;
            world.fail_on = false;
            if (topics) {
                object_decref(topics);
            }
            settle();
            for (int i = 0; i < 3; i++) {
                bool whole = clients[i]->closed || ck_ws_subscribed(sockets[i], "t", 1) != 1 || clients[i]->out_length == (size_t) published * 9;
                CHECK(whole || strstr(world.log, "websocket 17 "));
            }
            close_server();
        }
    }
}

/* ---- Ten thousand, of which a hundred never read (WB-03) ---- */

enum { MANY = 10000, STALLED = 100, BURST = 200 };

static uint32_t many[MANY];
static int many_accepted;
static long many_dropped, many_over;

static void on_many_request(int route, uint32_t handle)
{
    (void) route;
    int64_t result = ck_upgrade(handle, "", 0);
    CHECK(result > 0 && ck_ws_subscribe((uint32_t) result, "t", 1) == many_accepted + 1);
    many[many_accepted++] = (uint32_t) result;
}

static void on_many_event(uint32_t websocket, int event, void *payload, int number)
{
    (void) websocket, (void) payload, (void) number;
    many_dropped += event == CK_WS_EVENT_DROPPED;
    many_over += event == CK_WS_EVENT_CLOSED;
}

static void step_all(void)
{
    while (ck_loopback_work()) {
        CHECK(ck_loop_step() >= 0);
    }
}

static void test_ten_thousand(void)
{
    static char text[1000];
    const ck_callbacks callbacks = {.request = on_many_request, .deferred = on_deferred, .websocket = on_many_event};
    int error = 0;
    uint32_t token = ck_loopback_open(&callbacks, &error);
    CHECK(token != 0 && ck_loop_select(token) == CK_OK);
    uint32_t app = ck_app_create(&limits_default);
    CHECK(ck_app_websocket(app, "/ws", 3, 0, &topic_limits) == 0);
    CHECK(ck_app_listen(app, NULL, 80, 0, &error) != 0);
    static int numbers[MANY];
    for (int i = 0; i < MANY; i++) {
        numbers[i] = ck_loopback_connect("\x7f\0\0\1", 4, 1);
        CHECK(ck_loopback_send(numbers[i], WS_UPGRADE, sizeof(WS_UPGRADE) - 1) == CK_OK);
        step_all();
        CHECK(ck_loopback_window(numbers[i], i < STALLED ? 0 : -1) == CK_OK);
    }
    CHECK(many_accepted == MANY);
    ck_stats before, after;
    CHECK(ck_app_stats(app, &before) == CK_OK);
    int64_t blocks = ck_loopback_count(CK_COUNT_MEMORY), most = 0;
    for (int i = 0; i < BURST; i++) {
        CHECK(ck_app_publish(app, "t", 1, text, 100 + i, CK_WS_TEXT, "", -1) == MANY);
        step_all();
        int64_t now = ck_loopback_count(CK_COUNT_MEMORY);
        most = now > most ? now : most;
    }
    CHECK(ck_app_stats(app, &after) == CK_OK);
    CHECK(after.sends - before.sends == (uint64_t) BURST * (MANY - STALLED));
    CHECK(after.bytes - before.bytes > (uint64_t) BURST * 100 * (MANY - STALLED));
    CHECK(most - blocks < BURST + 3 * STALLED); /* one frame for all, a backlog and a list for each */
    CHECK(many_dropped > 0 && many_dropped < STALLED * BURST);
    for (int i = 0; i < STALLED; i++) {
        CHECK(ck_ws_buffered(many[i]) <= LIMIT + 400);
    }
    CHECK(ck_loopback_close(token) == 0 && many_over == MANY);
}

int main(void)
{
    test_siphash();
    test_publish();
    test_names();
    test_one_send_for_a_segment();
    test_full_lists();
    test_memory_of_a_fan_out();
    test_latest_only();
    test_compressed_once();
    test_compressed_by_each();
    test_slow_reader();
    test_slow_reader_that_is_closed();
    test_no_limit();
    test_send_behind_what_waits();
    test_fragments();
    test_ends();
    test_the_end_of_the_loop();
    test_model();
    test_wild_handlers();
    test_memory_that_fails();
    bind_python();
    test_ten_thousand();
    return checks_done();
}
