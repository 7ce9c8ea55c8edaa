/* The cork engine: nesting, order, overflow, eviction, backlog, and exactly one
 * send where one is enough. */
#include "cork.h"

#include <sys/mman.h>

#include "server.h"

enum { BIG = 70000 };

static char letters[1 << 20];

static void fill_letters(void)
{
    for (size_t i = 0; i < sizeof(letters); i++) {
        letters[i] = (char) ('a' + i % 23);
    }
}

/* Returns how often a text occurs in what a client has heard. */
static int count_of(const peer *client, const char *text)
{
    int count = 0;
    for (const char *at = heard(client); (at = strstr(at, text)); at++) {
        count++;
    }
    return count;
}

static bool ends_with(const peer *client, const char *data, size_t length)
{
    return client->out_length >= length && memcmp(client->out + client->out_length - length, data, length) == 0;
}

/* A kept exchange of its own connection. */
static uint32_t keep_one(peer **client)
{
    *client = dial();
    feed(*client, GET("/keep"));
    return world.last;
}

/* ---- One send ---- */

static void answer_with_fields(uint32_t handle)
{
    CHECK(ck_status(handle, 201) == CK_OK);
    CHECK(field(handle, "A", "1") == CK_OK);
    CHECK(field(handle, "B", "2") == CK_OK);
    CHECK(field(handle, "C", "3") == CK_OK);
    CHECK(field(handle, "D", "4") == CK_OK);
    CHECK(field(handle, "E", "5") == CK_OK);
    CHECK(write_text(handle, "one") == CK_OK);
    CHECK(write_text(handle, "") == CK_OK);
    CHECK(write_text(handle, "three") == CK_OK);
    CHECK(end_text(handle, "end") == CK_OK);
    CHECK(ck_sends(handle) == 1);
}

static void test_one_send(void)
{
    open_server(NULL);
    serve("GET", "/", answer_hello);
    serve("GET", "/fields", answer_with_fields);
    serve("GET", "/keep", just_keep);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(client->sends == 1);
    forget(client);
    feed(client, GET("/fields"));
    CHECK(client->sends == 1);
    CHECK_HEARD(client, "HTTP/1.1 201 Created\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n" DATE
        "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n3\r\nend\r\n0\r\n\r\n");
    ck_stats found = stats();
    CHECK(found.sends == 2 && found.flushes[CK_FLUSH_UNCORK] == 2 && found.uncorked_writes == 0);
    CHECK(found.bytes == strlen(ok("hello")) + client->out_length);
    CHECK(found.responses == 2 && found.requests == 2);
    close_server();
}

static void test_eight_pipelined_in_one_send(void)
{
    open_server(NULL);
    serve("GET", "/*", answer_path);
    peer *client = dial();
    feed(client, GET("/1") GET("/2") GET("/3") GET("/4") GET("/5") GET("/6") GET("/7") GET("/8"));
    CHECK_HEARD(client, joined(8, ok("/1"), ok("/2"), ok("/3"), ok("/4"), ok("/5"), ok("/6"), ok("/7"), ok("/8")));
    CHECK(client->sends == 1);
    close_server();
}

/* A response does not wait longer than a millisecond for its neighbours. */
static void answer_slowly(uint32_t handle)
{
    answer_path(handle);
    world.now_ns += 1000001;
}

static void test_slow_pipelined_do_not_wait(void)
{
    open_server(NULL);
    serve("GET", "/*", answer_slowly);
    peer *client = dial();
    feed(client, GET("/1") GET("/2") GET("/3"));
    CHECK_HEARD(client, joined(3, ok("/1"), ok("/2"), ok("/3")));
    CHECK(client->sends == 3 - 1 || client->sends == 3);
    CHECK(stats().flushes[CK_FLUSH_SLOW] > 0);
    close_server();
}

static void test_segment(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    CHECK(ck_cork(handle) == CK_OK);
    CHECK(ck_corked() == handle);
    CHECK(field(handle, "A", "1") == CK_OK);
    CHECK(write_text(handle, "x") == CK_OK);
    CHECK(end_text(handle, "y") == CK_OK);
    CHECK(ck_corked() == handle);
    CHECK(client->sends == 0);
    CHECK(ck_buffered_amount(handle) > 0);
    CHECK(ck_uncork(handle) == 0);
    CHECK(ck_corked() == 0);
    CHECK(ck_buffered_amount(handle) == 0);
    CHECK(client->sends == 1 && ck_sends(handle) == 1);
    CHECK(world.deferred == 0 || world.deferred == 1);
    CHECK(stats().uncorked_writes == 0);
    CHECK(ck_release(handle) == CK_OK);
    close_server();
}

/* An empty cork costs nothing: no send, no step, no memory. */
static void test_empty_cork(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    long memory = world.memory;
    for (int i = 0; i < 100; i++) {
        CHECK(ck_cork(handle) == CK_OK && ck_uncork(handle) == 0);
    }
    CHECK(client->sends == 0 && world.deferred == 0 && world.memory == memory);
    close_server();
}

static uint32_t other;

static void answer_other_too(uint32_t handle)
{
    CHECK(write_text(handle, "a") == CK_OK);
    CHECK(ck_cork(other) == CK_OK);
    CHECK(ck_corked() == other);
    CHECK(write_text(other, "b") == CK_OK);
    CHECK(end_text(other, "b") == CK_OK);
    CHECK(ck_uncork(other) == 0);
    CHECK(ck_corked() == handle);
    CHECK(end_text(handle, "a") == CK_OK);
}

static void test_cork_of_another_inside_a_callback(void)
{
    peer *first;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    serve("GET", "/other", answer_other_too);
    other = keep_one(&first);
    peer *second = dial();
    feed(second, GET("/other"));
    CHECK(first->sends == 1 && second->sends == 1);
    CHECK(count_of(first, "1\r\nb\r\n") == 2 && count_of(second, "1\r\na\r\n") == 2);
    CHECK(stats().nested_corks == 1 && stats().uncorked_writes == 0);
    close_server();
}

/* ---- Nesting ---- */

static void test_nested_corks_of_one(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    for (int i = 0; i < 1000; i++) {
        CHECK(ck_cork(handle) == CK_OK);
    }
    CHECK(write_text(handle, "x") == CK_OK);
    for (int i = 999; i > 0; i--) {
        CHECK(ck_uncork(handle) == i);
    }
    CHECK(client->sends == 0);
    CHECK(ck_uncork(handle) == 0);
    CHECK(client->sends == 1);
    CHECK(ck_uncork(handle) == 0);
    CHECK(stats().nested_corks == 0);
    close_server();
}

static void test_uncork_out_of_order(void)
{
    peer *clients[3];
    uint32_t handles[3];
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    for (int i = 0; i < 3; i++) {
        handles[i] = keep_one(&clients[i]);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(ck_cork(handles[i]) == CK_OK && end_text(handles[i], "x") == CK_OK);
    }
    CHECK(ck_uncork(handles[0]) == 0 && ck_corked() == handles[2]);
    CHECK(ck_uncork(handles[2]) == 0 && ck_corked() == handles[1]);
    CHECK(ck_uncork(handles[1]) == 0 && ck_corked() == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(clients[i]->sends == 1);
        CHECK_HEARD(clients[i], ok("x"));
    }
    close_server();
}

/* More uncorks than corks, in a callback: the writes that follow still arrive. */
static void uncork_too_often(uint32_t handle)
{
    CHECK(write_text(handle, "a") == CK_OK);
    CHECK(ck_uncork(handle) == 0);
    CHECK(ck_uncork(handle) == 0);
    CHECK(ck_end(handle, "b", 1, CK_CLOSE) == CK_OK);
}

static void test_uncork_too_often(void)
{
    open_server(NULL);
    serve("GET", "/", uncork_too_often);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(count_of(client, "1\r\nb\r\n0\r\n\r\n") == 1);
    CHECK(client->shut);
    close_server();
}

/* A connection that closes while it is corked leaves no trace on the stack. */
static void test_close_while_corked(void)
{
    peer *clients[2];
    uint32_t handles[2];
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    for (int i = 0; i < 2; i++) {
        handles[i] = keep_one(&clients[i]);
        CHECK(ck_cork(handles[i]) == CK_OK && ck_cork(handles[i]) == CK_OK);
        CHECK(write_text(handles[i], "x") == CK_OK);
    }
    CHECK(ck_close(handles[1]) == CK_OK);
    CHECK(ck_corked() == handles[0]);
    CHECK(ck_uncork(handles[1]) == CK_ABORTED && ck_cork(handles[1]) == CK_ABORTED);
    CHECK(clients[1]->closed && count_of(clients[1], "1\r\nx\r\n") == 1);
    CHECK(ck_uncork(handles[0]) == 1 && ck_uncork(handles[0]) == 0);
    CHECK(ck_corked() == 0);
    CHECK(ck_alive(handles[1]) == CK_ABORTED && ck_write(handles[1], "x", 1) == CK_ABORTED);
    CHECK(ck_release(handles[1]) == CK_OK);
    close_server();
}

/* ---- Overflow ---- */

static void test_overflow_keeps_the_cork(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    CHECK(field(handle, "Content-Length", "100000") == CK_OK);
    CHECK(ck_cork(handle) == CK_OK);
    for (int i = 0; i < 99; i++) {
        CHECK(ck_write(handle, letters + i * 1000, 1000) == CK_OK);
    }
    CHECK(ck_corked() == handle);
    for (int i = 0; i < client->sends; i++) {
        CHECK(client->sizes[i] == CK_CORK_CAPACITY); /* full ones, to the brim */
    }
    CHECK(stats().overflows == (uint64_t) client->sends && client->sends == 6);
    CHECK(ck_end(handle, letters + 99000, 1000, 0) == CK_OK);
    CHECK(ck_uncork(handle) == 0);
    CHECK(client->sends == 7 && ck_sends(handle) == 7);
    CHECK(ends_with(client, letters, 100000));
    close_server();
}

static void test_big_write_leaves_with_its_head(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    static const size_t sizes[] = {16383, 16384, 16385, 100000, sizeof(letters)};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t handle = keep_one(&client);
        CHECK(ck_cork(handle) == CK_OK);
        CHECK(ck_end(handle, letters, (int) sizes[i], 0) == CK_OK);
        CHECK(ck_uncork(handle) == 0);
        CHECK(client->sends == (sizes[i] < CK_CORK_CAPACITY ? 2 : 1));
        CHECK(ends_with(client, letters, sizes[i]));
        CHECK(ck_release(handle) == CK_OK);
    }
    CHECK(stats().flushes[CK_FLUSH_VECTORED] == 4);
    close_server();
}

/* Chunks of every size around the limits of the buffer read back as they were. */
static void test_chunks_of_all_sizes(void)
{
    static const int sizes[] = {1, 15, 16, 255, 256, 4095, 8171, 8190, 8191, 8192, 8193, 16360, 16370, 16383, 16384, 16385, 20000};
    static char expected[1 << 19];
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t handle = keep_one(&client);
        size_t length = (size_t) sprintf(expected, "HTTP/1.1 200 OK\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n");
        CHECK(ck_cork(handle) == CK_OK);
        for (int n = 0; n < 5; n++) {
            CHECK(ck_write(handle, letters, sizes[i]) == CK_OK);
            length += (size_t) sprintf(expected + length, "%x\r\n%.*s\r\n", (unsigned) sizes[i], sizes[i], letters);
        }
        length += (size_t) sprintf(expected + length, "0\r\n\r\n");
        CHECK(ck_end(handle, NULL, 0, 0) == CK_OK && ck_uncork(handle) == 0);
        CHECK_HEARD(client, expected);
        CHECK(ck_release(handle) == CK_OK);
    }
    close_server();
}

/* ---- Writes outside any cork ---- */

static void test_uncorked_writes_wait_for_the_step(void)
{
    peer *clients[3];
    uint32_t handles[3];
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    for (int i = 0; i < 3; i++) {
        handles[i] = keep_one(&clients[i]);
    }
    world.deferred = 0;
    CHECK(write_text(handles[2], "x") == CK_OK);
    CHECK(write_text(handles[0], "x") == CK_OK);
    CHECK(write_text(handles[2], "x") == CK_OK);
    CHECK(write_text(handles[1], "x") == CK_OK);
    CHECK(world.deferred == 1);
    CHECK(clients[0]->sends + clients[1]->sends + clients[2]->sends == 0);
    settle();
    CHECK(clients[0]->sends == 1 && clients[1]->sends == 1 && clients[2]->sends == 1);
    CHECK(stats().uncorked_writes == 3 && stats().flushes[CK_FLUSH_ITERATION] == 3);
    CHECK(write_text(handles[1], "x") == CK_OK);
    CHECK(world.deferred == 1);
    settle();
    close_server();
}

/* The order of first write is the order of sends: the sends of the first client
 * have the table see how many the others have got. */
static peer *order_peers[3];
static int order_found[3], order_count;

static ssize_t note_order(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags)
{
    for (int i = 0; i < 3; i++) {
        if (order_peers[i]->fd == fd && order_count < 3) {
            order_found[order_count++] = i;
        }
    }
    return s_send(sys, fd, buffer, length, flags);
}

static void test_order_of_first_write(void)
{
    uint32_t handles[3];
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    for (int i = 0; i < 3; i++) {
        handles[i] = keep_one(&order_peers[i]);
    }
    order_count = 0;
    world.sys.send = note_order;
    write_text(handles[2], "x");
    write_text(handles[0], "x");
    write_text(handles[1], "x");
    write_text(handles[2], "x");
    settle();
    CHECK(order_count == 3 && order_found[0] == 2 && order_found[1] == 0 && order_found[2] == 1);
    close_server();
}

/* An answer outside any cork that ends its connection does end it, also when it
 * needed no further byte, and when its buffer was needed for others. */
static void test_uncorked_end_closes(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    CHECK(ck_end(handle, "x", 1, CK_CLOSE) == CK_OK);
    settle();
    CHECK(client->shut);
    close_server();
}

static void test_uncorked_end_without_a_byte_closes(void)
{
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    peer *client = dial();
    feed(client, "GET /keep HTTP/1.0\r\n\r\n");
    CHECK(write_text(world.last, "x") == CK_OK);
    settle();
    CHECK(client->sends == 1 && !client->shut);
    CHECK(ck_end(world.last, NULL, 0, 0) == CK_OK);
    settle();
    CHECK(client->sends == 1 && client->shut);
    finish(client);
    CHECK(client->closed);
    close_server();
}

static void test_big_uncorked_writes_are_looked_after(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    CHECK(field(handle, "Content-Length", "1000000") == CK_OK);
    CHECK(ck_write(handle, letters, 1) == CK_OK);
    settle();
    client->room = 5000;
    CHECK(ck_write(handle, letters, 100000) == 1); /* goes at once, 95 000 wait */
    settle();
    CHECK(ck_buffered_amount(handle) == 95000);
    pass_seconds(24);
    CHECK(client->closed && stats().timeouts == 1);
    CHECK_LOG("request 0|aborted 1|");
    close_server();
}

static void test_big_uncorked_write_that_fails(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    CHECK(ck_write(handle, letters, 1) == CK_OK);
    settle();
    client->room = 10;
    world.fail_at = world.allocations + 1;
    CHECK(ck_write(handle, letters, 100000) == CK_NOMEM); /* what the kernel did not take could not be kept */
    settle();
    CHECK(client->closed);
    CHECK(ck_alive(handle) == CK_ABORTED);
    close_server();
}

/* ---- More than 64 ---- */

enum { CROWD = 100 };

static peer *crowd[CROWD];
static uint32_t crowd_handles[CROWD];

static void open_crowd(void)
{
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    for (int i = 0; i < CROWD; i++) {
        crowd_handles[i] = keep_one(&crowd[i]);
    }
}

static void test_eviction(void)
{
    open_crowd();
    for (int i = 0; i < CROWD; i++) {
        CHECK(ck_cork(crowd_handles[i]) == CK_OK);
        CHECK(end_text(crowd_handles[i], "x") == CK_OK);
        if (i >= CK_CORKS_HELD_MAX) {
            CHECK(crowd[i - CK_CORKS_HELD_MAX]->sends == 1 && crowd[i - CK_CORKS_HELD_MAX + 1]->sends == 0);
        }
    }
    CHECK(stats().flushes[CK_FLUSH_EVICTED] == CROWD - CK_CORKS_HELD_MAX);
    for (int i = CROWD - 1; i >= 0; i--) {
        CHECK(ck_uncork(crowd_handles[i]) == 0);
    }
    for (int i = 0; i < CROWD; i++) {
        CHECK(crowd[i]->sends == 1);
        CHECK_HEARD(crowd[i], ok("x"));
    }
    close_server();
}

static void test_eviction_of_uncorked_writes(void)
{
    open_crowd();
    for (int i = 0; i < CROWD; i++) {
        crowd[i]->room = i == 1 ? 10 : UNLIMITED;
        crowd[i]->send_error = i == 2 ? EPIPE : 0;
        CHECK(ck_end(crowd_handles[i], "x", 1, CK_CLOSE) == CK_OK);
    }
    settle();
    for (int i = 0; i < CROWD; i++) {
        CHECK(i == 2 ? crowd[i]->closed : crowd[i]->sends == 1);
        CHECK(i == 1 || i == 2 || crowd[i]->shut);
    }
    pass_seconds(24);
    CHECK(crowd[1]->closed); /* the slow one had its time */
    close_server();
}

/* ---- A wait in the middle of a head ---- */

static const char half_and_rest[] = "HTTP/1.1 201 Created\r\nA: 1\r\nB: 2\r\n" DATE "Content-Length: 4\r\n\r\nbody";

static void begin_head(uint32_t handle)
{
    CHECK(ck_status(handle, 201) == CK_OK && field(handle, "A", "1") == CK_OK);
}

static void complete(uint32_t handle)
{
    CHECK(field(handle, "B", "2") == CK_OK && end_text(handle, "body") == CK_OK);
}

static void keep_with_half_a_head(uint32_t handle)
{
    just_keep(handle);
    begin_head(handle);
}

/* A server on which `/half` waits in the middle of its head. */
static void open_halves(void)
{
    open_server(NULL);
    serve("GET", "/half", keep_with_half_a_head);
    serve("GET", "/path", answer_path);
    serve("GET", "/keep", just_keep);
}

static uint32_t half_one(peer **client)
{
    *client = dial();
    feed(*client, GET("/half"));
    return world.last;
}

static void test_a_wait_inside_a_head(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    CHECK(client->sends == 0 && ck_sends(handle) == 0 && stats().flushes[CK_FLUSH_UNCORK] == 0);
    CHECK(ck_buffered_amount(handle) == (int) strlen("HTTP/1.1 201 Created\r\nA: 1\r\n"));
    for (int i = 0; i < 3; i++) { /* segments that write nothing, and steps, change nothing */
        CHECK(ck_cork(handle) == CK_OK && ck_uncork(handle) == 0 && ck_loop_step() >= 0);
    }
    CHECK(ck_cork(handle) == CK_OK);
    complete(handle);
    CHECK(ck_uncork(handle) == 0);
    CHECK(client->sends == 1 && ck_sends(handle) == 1);
    CHECK_HEARD(client, half_and_rest);
    CHECK(stats().sends == 1 && stats().uncorked_writes == 0 && stats().flushes[CK_FLUSH_UNCORK] == 1);
    CHECK(ck_release(handle) == CK_OK);
    close_server();
}

/* Outside any cork, over three iterations. */
static void test_iterations_inside_a_head(void)
{
    peer *client;
    open_halves();
    uint32_t handle = keep_one(&client);
    begin_head(handle);
    settle();
    CHECK(field(handle, "B", "2") == CK_OK);
    settle();
    CHECK(client->sends == 0 && stats().flushes[CK_FLUSH_ITERATION] == 0);
    CHECK(end_text(handle, "body") == CK_OK);
    settle();
    CHECK(client->sends == 1 && ck_sends(handle) == 1);
    CHECK_HEARD(client, half_and_rest);
    close_server();
}

static void test_answers_before_half_a_head_leave(void)
{
    open_halves();
    peer *client = dial();
    feed(client, GET("/path") GET("/path") GET("/half") GET("/path"));
    CHECK(client->sends == 1 && ck_sends(world.last) == 0);
    CHECK_HEARD(client, joined(2, ok("/path"), ok("/path")));
    complete(world.last);
    settle();
    CHECK_HEARD(client, joined(4, ok("/path"), ok("/path"), half_and_rest, ok("/path")));
    CHECK(client->sends == 3); /* the half and its rest, and what was behind it */
    close_server();
}

static void test_rollback_after_a_wait(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    CHECK(ck_fail(handle) == CK_OK && ck_buffered_amount(handle) == 0);
    CHECK(end_text(handle, "clean") == CK_OK);
    settle();
    CHECK_HEARD(client, ok("clean"));
    CHECK(client->sends == 1 && stats().rollbacks == 1);
    forget(client);
    feed(client, GET("/half"));
    CHECK(ck_release(world.last) == CK_OK); /* nobody answers it */
    settle();
    CHECK_HEARD(client, plain("500 Internal Server Error", false));
    close_server();
}

static void test_status_after_a_wait(void)
{
    peer *client;
    open_halves();
    uint32_t handle = keep_one(&client);
    CHECK(field(handle, "A", "1") == CK_OK);
    settle();
    CHECK(ck_status(handle, 201) == CK_OK);
    settle();
    CHECK(ck_status(handle, 404) == 1);
    complete(handle);
    settle();
    CHECK_HEARD(client, half_and_rest);
    CHECK(client->sends == 1);
    close_server();
}

static void test_flush_sends_half_a_head(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    CHECK(ck_flush(handle) == CK_OK && client->sends == 1 && ck_sends(handle) == 1);
    CHECK_HEARD(client, "HTTP/1.1 201 Created\r\nA: 1\r\n");
    CHECK(ck_status(handle, 200) == 1 && field(handle, "B", "2") == CK_OK);
    settle(); /* the head has begun to leave: nothing is held any more */
    CHECK(client->sends == 2);
    CHECK(end_text(handle, "body") == CK_OK);
    settle();
    CHECK_HEARD(client, half_and_rest);
    CHECK(ck_sends(handle) == 3 && stats().flushes[CK_FLUSH_EXPLICIT] == 1);
    forget(client);
    feed(client, GET("/half"));
    CHECK(ck_flush(world.last) == CK_OK && ck_fail(world.last) == CK_STARTED && client->closed);
    close_server();
}

/* What the kernel does not take of it at the flush stands before what follows. */
static void test_flush_of_half_a_head_that_waits(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    client->room = 5;
    CHECK(ck_flush(handle) == CK_OK && client->out_length == 5);
    complete(handle);
    client->room = UNLIMITED;
    settle();
    CHECK_HEARD(client, half_and_rest);
    close_server();
}

static void test_close_sends_half_a_head(void)
{
    peer *client, *last;
    open_halves();
    CHECK(ck_close(half_one(&client)) == CK_OK);
    CHECK_HEARD(client, "HTTP/1.1 201 Created\r\nA: 1\r\n");
    (void) half_one(&last);
    CHECK(ck_loop_close() == 0);
    CHECK_HEARD(last, "HTTP/1.1 201 Created\r\nA: 1\r\n");
    close_world();
}

static void test_client_leaves_inside_a_head(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    reset(client);
    CHECK(ck_alive(handle) == CK_ABORTED && client->sends == 0);
    close_server();
}

/* However many wait inside a head, none makes another's leave. */
static void test_a_crowd_inside_heads(void)
{
    open_crowd();
    for (int i = 0; i < CROWD; i++) {
        CHECK(ck_cork(crowd_handles[i]) == CK_OK);
        begin_head(crowd_handles[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        CHECK(crowd[i]->sends == 0);
        complete(crowd_handles[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        CHECK(ck_uncork(crowd_handles[i]) == 0);
        CHECK(crowd[i]->sends == 1 && ck_sends(crowd_handles[i]) == 1);
        CHECK_HEARD(crowd[i], half_and_rest);
    }
    close_server();
}

static void test_big_body_after_half_a_head(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    CHECK(ck_end(handle, letters, 50000, 0) == CK_OK);
    settle();
    CHECK(client->sends == 1 && ends_with(client, letters, 50000));
    close_server();
}

/* Without memory to keep it apart it leaves; without memory for a buffer it stays. */
static void test_half_a_head_without_memory(void)
{
    peer *client;
    open_halves();
    uint32_t handle = keep_one(&client);
    begin_head(handle);
    world.fail_at = world.allocations + 1;
    settle();
    CHECK_HEARD(client, "HTTP/1.1 201 Created\r\nA: 1\r\n");
    complete(handle);
    settle();
    CHECK_HEARD(client, half_and_rest);
    CHECK(ck_sends(handle) == 2);
    close_server();

    open_crowd(); /* all buffers are in use, but for the one that is not there */
    begin_head(crowd_handles[0]);
    settle();
    for (int i = 1; i <= 2; i++) {
        CHECK(ck_cork(crowd_handles[i]) == CK_OK && write_text(crowd_handles[i], "x") == CK_OK);
    }
    world.fail_at = world.allocations + 1;
    CHECK(field(crowd_handles[0], "B", "2") == CK_NOMEM);
    complete(crowd_handles[0]);
    settle();
    CHECK_HEARD(crowd[0], half_and_rest);
    close_server();
}

static void ask_inside_a_head(uint32_t handle)
{
    keep_with_half_a_head(handle);
    CHECK(ck_body_ask(handle, CK_BODY_COLLECT) == 0);
}

static void ask_later(uint32_t handle)
{
    keep_with_half_a_head(handle);
}

/* A 100 is no part of the head, and is not held with it. */
static void test_continue_is_not_held(void)
{
    open_server(NULL);
    serve("POST", "/now", ask_inside_a_head);
    serve("POST", "/later", ask_later);
    for (int later = 0; later < 2; later++) {
        peer *client = dial();
        feed(client, later ? "POST /later HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
                           : "POST /now HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
        if (later) {
            CHECK(client->sends == 0 && ck_body_ask(world.last, CK_BODY_COLLECT) == 0);
            settle();
        }
        CHECK_HEARD(client, "HTTP/1.1 100 Continue\r\n\r\n");
        feed(client, "x");
        complete(world.last);
        settle();
        CHECK_HEARD(client, joined(2, "HTTP/1.1 100 Continue\r\n\r\n", half_and_rest));
        CHECK(client->sends == 2);
    }
    close_server();
}

/* The client has seen nothing: it is not left to wait for ever. */
static void test_handler_that_stops_inside_a_head(void)
{
    peer *client;
    open_halves();
    uint32_t handle = half_one(&client);
    pass_seconds(64);
    CHECK_HEARD(client, refusal("503 Service Unavailable"));
    CHECK(ck_alive(handle) == CK_ABORTED && stats().timeouts == 1);
    handle = half_one(&client);
    CHECK(ck_flush(handle) == CK_OK);
    pass_seconds(64); /* what has been sent has started */
    CHECK(ck_alive(handle) == CK_OK && stats().timeouts == 1);
    close_server();
}

/* ---- What the kernel does not take ---- */

/* A response whose sends are short at every position, by every amount up to 40
 * and then one byte at a time, is the same stream. */
static void stream_much(uint32_t handle)
{
    CHECK(field(handle, "X", "y") == CK_OK);
    CHECK(ck_write(handle, letters, 30) == CK_OK);
    CHECK(ck_flush(handle) == CK_OK);
    CHECK(ck_write(handle, letters + 30, 20) >= 0);
    CHECK(ck_flush(handle) == CK_OK);
    CHECK(ck_write(handle, letters + 50, 17000) >= 0);
    CHECK(ck_write(handle, letters + 17050, 9000) >= 0);
    CHECK(ck_end(handle, letters + 26050, 100, 0) == CK_OK);
}

static char *wanted;
static size_t wanted_length;

static void run_short_stream(long room, size_t most)
{
    forget_log();
    peer *client = dial();
    client->room = room;
    client->most = most;
    feed(client, GET("/"));
    if (!wanted) {
        wanted = client->out;
        wanted_length = client->out_length;
        client->out = NULL;
    } else {
        client->room = UNLIMITED;
        settle();
        CHECK(client->out_length == wanted_length && memcmp(client->out, wanted, wanted_length) == 0);
    }
    finish(client);
    CHECK(client->closed);
    free(client->in);
    free(client->out);
    free(client);
    world.peer_count--;
}

static void test_short_writes_everywhere(void)
{
    open_server(NULL);
    serve("GET", "/", stream_much);
    run_short_stream(UNLIMITED, 0);
    CHECK(wanted_length > 26150);
    for (long room = 0; room <= 400; room++) {
        run_short_stream(room, 0);
    }
    for (long room = 401; room < (long) wanted_length; room += 97) {
        run_short_stream(room, 0);
    }
    for (size_t most = 61; most < 40000; most += most / 3) {
        run_short_stream(UNLIMITED, most);
    }
    free(wanted);
    wanted = NULL;
    close_server();
}

static void test_flush_with_backlog_keeps_order(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    client->room = 10;
    CHECK(write_text(handle, "first") == CK_OK);
    CHECK(ck_flush(handle) == CK_OK);
    CHECK(client->sends == 1 && client->out_length == 10);
    client->room = UNLIMITED; /* there is room again, but the first come first */
    CHECK(write_text(handle, "second") == 1);
    CHECK(ck_flush(handle) == CK_OK);
    CHECK(client->sends == 1);
    CHECK(ck_end(handle, letters, 20000, 0) == CK_OK);
    CHECK(client->sends == 1);
    CHECK(ck_buffered_amount(handle) > 20000);
    settle();
    CHECK(client->sends == 2);
    const char *found = strstr(heard(client), "5\r\nfirst\r\n6\r\nsecond\r\n4e20\r\n");
    CHECK(found && strcmp(found + strlen(found) - 7, "\r\n0\r\n\r\n") == 0);
    close_server();
}

static void test_eagain_and_enobufs_wait(void)
{
    static const int errors[] = {EAGAIN, ENOBUFS, ENOMEM};
    for (size_t i = 0; i < 3; i++) {
        peer *client;
        open_server(NULL);
        serve("GET", "/keep", just_keep);
        uint32_t handle = keep_one(&client);
        client->send_error = errors[i];
        CHECK(ck_cork(handle) == CK_OK && end_text(handle, "x") == CK_OK && ck_uncork(handle) == 0);
        CHECK(!client->closed && ck_buffered_amount(handle) > 0);
        CHECK(stats().sends == 0); /* nothing was sent by a call that sent nothing */
        client->send_error = 0;
        settle();
        if (errors[i] == EAGAIN) { /* for want of memory it waits on a timer: test_faults.c, FT-04 */
            CHECK_HEARD(client, ok("x"));
        }
        close_server();
    }
}

static void test_epipe(void)
{
    static const int errors[] = {EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, EBADF};
    for (size_t i = 0; i < 5; i++) {
        peer *client;
        open_server(NULL);
        serve("GET", "/keep", just_keep);
        uint32_t handle = keep_one(&client);
        client->send_error = errors[i];
        CHECK(ck_cork(handle) == CK_OK && write_text(handle, "x") == CK_OK);
        CHECK(ck_uncork(handle) == 0);
        settle();
        CHECK(client->closed);
        CHECK_LOG("request 0|aborted 0|");
        CHECK(ck_alive(handle) == CK_ABORTED && end_text(handle, "x") == CK_ABORTED);
        CHECK(ck_release(handle) == CK_OK);
        CHECK(stats().aborted == 1 && stats().open == 0);
        close_server();
    }
}

/* A client that does not read is let go when its backlog is full. */
static void test_backlog_limit(void)
{
    peer *client;
    ck_limits limits = limits_default;
    limits.backlog = 50000;
    open_server(&limits);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    client->room = 0;
    int writes = 0;
    int result = 0;
    for (; writes < 100 && result >= 0; writes++) {
        result = ck_write(handle, letters, 1000);
        settle();
    }
    CHECK(result == CK_ABORTED && writes > 45 && writes < 55);
    CHECK(client->closed && ck_alive(handle) == CK_ABORTED);
    close_server();
}

static uint64_t offset_of(uint32_t handle)
{
    return (uint64_t) ck_write_offset(handle);
}

/* try_end hands back what the client did not take; writable says when to go on. */
static void go_on_trying(uint32_t handle)
{
    uint64_t offset = offset_of(handle);
    int result = ck_try_end(handle, letters + offset, BIG - offset, BIG, 0);
    CHECK(result >= 0);
    if (!(result & 2)) {
        CHECK(ck_want_writable(handle) == CK_OK);
    }
}

static void test_try_end(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    world.writable = go_on_trying;
    uint32_t handle = keep_one(&client);
    client->room = 0;
    go_on_trying(handle);
    while (!client->closed && ck_alive(handle) == CK_OK) {
        client->room = 7777;
        settle();
        CHECK(ck_buffered_amount(handle) < CK_CORK_CAPACITY + 200); /* a last part that fits is packed */
    }
    client->room = UNLIMITED;
    settle();
    CHECK(ck_alive(handle) == CK_FINISHED && offset_of(handle) == BIG);
    CHECK(ends_with(client, letters, BIG));
    close_server();
}

/* A client that stops reading is let go, though all that waits is with the caller. */
static void test_try_end_of_a_stuck_client(void)
{
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    world.writable = go_on_trying;
    uint32_t handle = keep_one(&client);
    CHECK(ck_cork(handle) == CK_OK);
    client->room = 1000;
    go_on_trying(handle);
    CHECK(ck_uncork(handle) == 0);
    settle();
    client->room = 1000;
    settle();
    CHECK(ck_buffered_amount(handle) == 0 && !client->closed);
    pass_seconds(24);
    CHECK(client->closed && ck_alive(handle) == CK_ABORTED);
    close_server();
}

/* A part of 2 GiB, which no one system call takes. */
static void test_more_than_an_int(void)
{
    size_t size = (size_t) 1 << 31;
    char *much = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(much != MAP_FAILED);
    peer *client;
    open_server(NULL);
    serve("GET", "/keep", just_keep);
    uint32_t handle = keep_one(&client);
    client->most = 1000;
    CHECK(ck_cork(handle) == CK_OK);
    CHECK(ck_try_end(handle, much, size, size, 0) == 0);
    CHECK(ck_uncork(handle) == 0);
    CHECK(client->sends > 0 && client->out_length > 0);
    CHECK(offset_of(handle) > 0 && offset_of(handle) < 1000);
    CHECK(ck_close(handle) == CK_OK);
    munmap(much, size);
    close_server();
}

int main(void)
{
    fill_letters();
    test_one_send();
    test_eight_pipelined_in_one_send();
    test_slow_pipelined_do_not_wait();
    test_segment();
    test_empty_cork();
    test_cork_of_another_inside_a_callback();
    test_nested_corks_of_one();
    test_uncork_out_of_order();
    test_uncork_too_often();
    test_close_while_corked();
    test_overflow_keeps_the_cork();
    test_big_write_leaves_with_its_head();
    test_chunks_of_all_sizes();
    test_uncorked_writes_wait_for_the_step();
    test_order_of_first_write();
    test_uncorked_end_closes();
    test_uncorked_end_without_a_byte_closes();
    test_big_uncorked_writes_are_looked_after();
    test_big_uncorked_write_that_fails();
    test_eviction();
    test_eviction_of_uncorked_writes();
    test_a_wait_inside_a_head();
    test_iterations_inside_a_head();
    test_answers_before_half_a_head_leave();
    test_rollback_after_a_wait();
    test_status_after_a_wait();
    test_flush_sends_half_a_head();
    test_flush_of_half_a_head_that_waits();
    test_close_sends_half_a_head();
    test_client_leaves_inside_a_head();
    test_a_crowd_inside_heads();
    test_big_body_after_half_a_head();
    test_half_a_head_without_memory();
    test_continue_is_not_held();
    test_handler_that_stops_inside_a_head();
    test_short_writes_everywhere();
    test_flush_with_backlog_keeps_order();
    test_eagain_and_enobufs_wait();
    test_epipe();
    test_backlog_limit();
    test_try_end();
    test_try_end_of_a_stuck_client();
    test_more_than_an_int();
    return checks_done();
}
