/* Responses: what is refused before a byte is packed, framing by status, method
 * and version, the status line replaced in place, and taking a response back. */
#include "response.h"

#include "server.h"

static uint32_t kept;

static void keep_it(uint32_t handle)
{
    kept = handle;
    CHECK(ck_keep(handle) == CK_OK);
}

static void open_one(void)
{
    open_server(NULL);
    serve("*", "/", keep_it);
}

/* Opens a connection whose request waits for an answer, corked. */
static peer *request(const char *text)
{
    peer *client = dial();
    feed(client, text);
    CHECK(ck_cork(kept) == CK_OK);
    return client;
}

static peer *get(void)
{
    return request(GET("/"));
}

static void sent(void)
{
    CHECK(ck_uncork(kept) == 0);
    settle();
}

/* ---- Refusals ---- */

static void test_names_and_values(void)
{
    static const char *const names[] = {"", "a b", "a:", "a\r\n", "\n", "\x80", "a(", "a\"", "a/", "{", "\x7f"};
    static const char *const values[] = {"a\r\nB: c", "\n", "\r", "\x01", "\x7f", "a\x1f"};
    open_one();
    peer *client = get();
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        CHECK_FOR(names[i], field(kept, names[i], "x") == CK_NAME);
    }
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        CHECK(field(kept, "x", values[i]) == CK_VALUE);
        CHECK(ck_send(kept, 200, values[i], (int) strlen(values[i]), "a", 1, 0) == CK_VALUE);
    }
    CHECK(ck_header(kept, "x", 1, "a\0b", 3) == CK_VALUE);
    CHECK(ck_header(kept, "x\0", 2, "a", 1) == CK_NAME);
    CHECK(ck_header(kept, "x", -1, "a", 1) == CK_VALUE && ck_header(kept, "x", 1, "a", -1) == CK_VALUE);
    CHECK(ck_has_started(kept) == 0 && ck_buffered_amount(kept) == 0);
    CHECK(field(kept, "x", "\ta \xe9\xff!") == CK_OK); /* obs-text and tabs are allowed */
    CHECK(field(kept, "!#$%&'*+-.^_`|~09az", "") == CK_OK);
    CHECK(end_text(kept, "") == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("200 OK", "x: \ta \xe9\xff!\r\n!#$%&'*+-.^_`|~09az: \r\n", "", ""));
    close_server();
}

static void test_fields_of_the_server(void)
{
    open_one();
    peer *client = get();
    CHECK(field(kept, "Transfer-Encoding", "chunked") == CK_FRAMING);
    CHECK(field(kept, "tRANSFER-eNCODING", "") == CK_FRAMING);
    CHECK(field(kept, "Connection", "upgrade") == CK_FRAMING);
    CHECK(field(kept, "Connection", "close, x") == CK_FRAMING);
    CHECK(field(kept, "Content-Length", "") == CK_FRAMING);
    CHECK(field(kept, "Content-Length", "1a") == CK_FRAMING);
    CHECK(field(kept, "Content-Length", "-1") == CK_FRAMING);
    CHECK(field(kept, "Content-Length", "+1") == CK_FRAMING);
    CHECK(field(kept, "Content-Length", " 1") == CK_FRAMING);
    CHECK(field(kept, "Content-Length", "1234567890123456789") == CK_FRAMING);
    CHECK(ck_has_started(kept) == 0 && ck_buffered_amount(kept) == 0);
    CHECK(field(kept, "content-length", "2") == CK_OK);
    CHECK(ck_has_started(kept) == 1);
    CHECK(field(kept, "Content-Length", "2") == CK_FRAMING); /* twice */
    CHECK(field(kept, "Connection", "Keep-Alive") == CK_OK);
    CHECK(field(kept, "Date", "never") == CK_OK);
    CHECK(end_text(kept, "ab") == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\nDate: never\r\nContent-Length: 2\r\n\r\nab");
    close_server();
}

static void test_huge_fields(void)
{
    static char value[20000];
    memset(value, 'v', sizeof(value));
    open_one();
    peer *client = get();
    CHECK(ck_header(kept, "x", 1, value, CK_CORK_CAPACITY / 2 - 4) == CK_VALUE);
    CHECK(ck_header(kept, "x", 1, value, CK_CORK_CAPACITY / 2 - 5) == CK_OK);
    CHECK(ck_header(kept, "y", 1, value, CK_CORK_CAPACITY / 2 - 5) == CK_OK);
    CHECK(ck_header(kept, "z", 1, value, CK_CORK_CAPACITY / 2 - 5) == CK_OK);
    CHECK(end_text(kept, "end") == CK_OK);
    sent();
    CHECK(client->out_length > 3 * (CK_CORK_CAPACITY / 2 - 5));
    CHECK(strstr(heard(client), "\r\nContent-Length: 3\r\n\r\nend"));
    close_server();
}

static void test_statuses(void)
{
    static const int bad[] = {0, 1, 99, 100, 101, 199, 600, 999, 1000, -200, 0x7fffffff};
    static const char *const bad_lines[] = {"", "20", "199 x", "600 x", "2000", "200OK", "abc", "200 a\r\nB: c", "200 \x01",
        " 200", "20x OK"};
    open_one();
    peer *client = get();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(ck_status(kept, bad[i]) == CK_STATUS);
        CHECK(bad[i] == 0 || ck_send(kept, bad[i], "", 0, "", 0, 0) == CK_STATUS);
    }
    for (size_t i = 0; i < sizeof(bad_lines) / sizeof(bad_lines[0]); i++) {
        CHECK_FOR(bad_lines[i], ck_status_line(kept, bad_lines[i], (int) strlen(bad_lines[i])) == CK_STATUS);
    }
    char line[600];
    memset(line, 'x', sizeof(line));
    memcpy(line, "200 ", 4);
    CHECK(ck_status_line(kept, line, sizeof(line)) == CK_STATUS);
    CHECK(ck_status_line(kept, line, -1) == CK_STATUS);
    CHECK(ck_has_started(kept) == 0);
    CHECK(ck_status_line(kept, "299", 3) == CK_OK);
    CHECK(ck_status(kept, 404) == 1);
    CHECK(ck_status_line(kept, "404 x", 5) == 1);
    CHECK(ck_send(kept, 500, "a/b", 3, "x", 1, 0) == CK_OK); /* the first status wins */
    sent();
    CHECK_HEARD(client, answer_with("299 ", "Content-Type: a/b\r\n", "", "x"));
    close_server();
}

static void test_all_statuses(void)
{
    open_one();
    peer *client = dial();
    for (int status = 200; status < 600; status++) {
        feed(client, GET("/"));
        CHECK(ck_cork(kept) == CK_OK && ck_status(kept, status) == CK_OK);
        CHECK(ck_end(kept, NULL, 0, 0) == CK_OK);
        sent();
        char start[32];
        snprintf(start, sizeof(start), "HTTP/1.1 %d ", status);
        bool no_length = status == 204 || status == 304;
        CHECK(strncmp(heard(client), start, strlen(start)) == 0);
        CHECK(!strstr(heard(client), "Content-Length") == no_length);
        CHECK(!strstr(heard(client), "Transfer-Encoding"));
        CHECK(ck_release(kept) == CK_OK);
        forget(client);
    }
    close_server();
}

static void test_after_the_end(void)
{
    open_one();
    peer *client = get();
    CHECK(end_text(kept, "x") == CK_OK);
    CHECK(ck_alive(kept) == CK_FINISHED && ck_has_started(kept) == 1);
    CHECK(end_text(kept, "x") == CK_FINISHED && write_text(kept, "x") == CK_FINISHED);
    CHECK(field(kept, "a", "b") == CK_FINISHED && ck_status(kept, 200) == CK_FINISHED);
    CHECK(ck_send(kept, 200, "", 0, "", 0, 0) == CK_FINISHED && ck_want_writable(kept) == CK_FINISHED);
    CHECK(ck_try_end(kept, "a", 1, 1, 0) == CK_FINISHED && ck_end_without_body(kept, -1, 0) == CK_FINISHED);
    CHECK(ck_write_continue(kept) == CK_FINISHED && ck_set_write_offset(kept, 0) == CK_FINISHED);
    sent();
    CHECK_HEARD(client, ok("x"));
    close_server();
}

static void test_after_the_head(void)
{
    open_one();
    peer *client = get();
    CHECK(write_text(kept, "x") == CK_OK);
    CHECK(field(kept, "a", "b") == CK_STARTED && ck_status(kept, 404) == CK_STARTED);
    CHECK(ck_status_line(kept, "404 x", 5) == CK_STARTED && ck_write_continue(kept) == CK_STARTED);
    CHECK(ck_send(kept, 404, "", 0, "", 0, 0) == CK_STARTED);
    CHECK(ck_end(kept, NULL, 0, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    close_server();
}

/* ---- Lengths ---- */

static void test_declared_length(void)
{
    open_one();
    peer *client = get();
    CHECK(field(kept, "Content-Length", "10") == CK_OK);
    CHECK(end_text(kept, "123456789") == CK_LENGTH);
    CHECK(end_text(kept, "12345678901") == CK_LENGTH);
    CHECK(write_text(kept, "12345678901") == CK_LENGTH);
    CHECK(ck_try_end(kept, "1", 1, 9, 0) == CK_LENGTH);
    CHECK(ck_end_without_body(kept, -1, 0) == CK_LENGTH);
    CHECK(write_text(kept, "12345") == CK_OK);
    CHECK(write_text(kept, "678901") == CK_LENGTH); /* nothing of the excess goes */
    CHECK(end_text(kept, "6789") == CK_LENGTH && end_text(kept, "678901") == CK_LENGTH);
    CHECK(write_text(kept, "67") == CK_OK);
    CHECK(ck_write_offset(kept) == 7);
    CHECK(end_text(kept, "890") == CK_OK);
    sent();
    CHECK_HEARD(client, ok("1234567890"));
    close_server();
}

/* Less than declared: the client must be able to tell. */
static void test_too_little(void)
{
    open_one();
    peer *client = get();
    CHECK(field(kept, "Content-Length", "10") == CK_OK && write_text(kept, "12345") == CK_OK);
    sent();
    CHECK(ck_release(kept) == CK_OK);
    settle();
    CHECK(client->closed && strcmp(heard(client) + client->out_length - 9, "\r\n\r\n12345") == 0);
    close_server();
}

static void test_offset_beyond_the_end(void)
{
    open_one();
    peer *client = get();
    CHECK(ck_set_write_offset(kept, 100) == CK_OK);
    CHECK(ck_try_end(kept, "abcdefghij", 10, 10, 0) == CK_LENGTH);
    CHECK(end_text(kept, "hello") == CK_OK); /* no length was told: nothing to be beyond */
    sent();
    CHECK_HEARD(client, ok("hello"));
    client = get();
    CHECK(field(kept, "Content-Length", "10") == CK_OK && ck_set_write_offset(kept, 11) == CK_OK);
    CHECK(write_text(kept, "d") == CK_LENGTH && end_text(kept, "d") == CK_LENGTH);
    CHECK(ck_try_end(kept, "d", 1, 10, 0) == CK_LENGTH);
    CHECK(ck_set_write_offset(kept, UINT64_MAX) == CK_OK && end_text(kept, "01234567890") == CK_LENGTH);
    CHECK(ck_set_write_offset(kept, 0) == CK_OK && write_text(kept, "abc") == CK_OK);
    CHECK(ck_try_end(kept, "defghijxxx", 10, 11, 0) == CK_LENGTH);
    CHECK(ck_try_end(kept, "defghijxxx", 10, 10, 0) == 3);
    sent();
    CHECK_HEARD(client, ok("abcdefghij"));
    close_server();
}

/* A body that begins at an offset is the rest of it, and the message says so. */
static void test_offset_at_the_start(void)
{
    open_one();
    peer *client = get();
    CHECK(ck_set_write_offset(kept, 4) == CK_OK && ck_try_end(kept, "efghij", 6, 10, 0) == 3);
    sent();
    CHECK_HEARD(client, ok("efghij"));
    client = get();
    CHECK(field(kept, "Content-Length", "10") == CK_OK && ck_set_write_offset(kept, 4) == CK_OK);
    CHECK(end_text(kept, "abcdefghij") == CK_LENGTH && end_text(kept, "efghij") == CK_OK);
    sent();
    CHECK_HEARD(client, ok("efghij"));
    close_server();
}

/* Once the head is written, an offset that moves would make the message longer or
 * shorter than the head says, and the next response a part of it. */
static void test_offset_stays_in_a_body(void)
{
    open_one();
    peer *client = get();
    CHECK(field(kept, "Content-Length", "10") == CK_OK && write_text(kept, "abc") == CK_OK);
    CHECK(ck_set_write_offset(kept, 0) == CK_STARTED && ck_set_write_offset(kept, 10) == CK_STARTED);
    CHECK(ck_write_offset(kept) == 3 && ck_set_write_offset(kept, 3) == CK_OK);
    CHECK(end_text(kept, "defghij") == CK_OK);
    sent();
    CHECK_HEARD(client, ok("abcdefghij"));
    close_server();
}

/* ---- Framing by method, status and version ---- */

static void test_head(void)
{
    open_one();
    peer *client = request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(end_text(kept, "hello") == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 5\r\n\r\n");
    client = request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(ck_end_without_body(kept, 12345, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 12345\r\n\r\n");
    client = request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(write_text(kept, "x") == CK_OK && end_text(kept, "y") == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Transfer-Encoding: chunked\r\n\r\n");
    client = request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(field(kept, "Content-Length", "7") == CK_OK && write_text(kept, "1234567890") == CK_OK);
    CHECK(ck_end(kept, NULL, 0, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 7\r\n\r\n");
    client = request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(ck_try_end(kept, "12345", 5, 9, 0) == 3);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 9\r\n\r\n");
    close_server();
}

static void test_bodiless_statuses(void)
{
    static const int statuses[] = {204, 304};
    static const char *const lines[] = {"204 No Content", "304 Not Modified"};
    open_one();
    for (int i = 0; i < 2; i++) {
        char expected[256];
        snprintf(expected, sizeof(expected), "HTTP/1.1 %s\r\n" DATE "\r\n", lines[i]);
        peer *client = get();
        CHECK(ck_status(kept, statuses[i]) == CK_OK && end_text(kept, "body") == CK_OK);
        sent();
        CHECK_HEARD(client, expected);
        client = get();
        CHECK(ck_status(kept, statuses[i]) == CK_OK && write_text(kept, "body") == CK_OK && end_text(kept, "x") == CK_OK);
        sent();
        CHECK_HEARD(client, expected);
        client = request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        CHECK(ck_status(kept, statuses[i]) == CK_OK && write_text(kept, "body") == CK_OK && end_text(kept, "x") == CK_OK);
        sent();
        CHECK(!client->shut && strstr(heard(client), "Connection: keep-alive\r\n\r\n"));
    }
    peer *client = get();
    CHECK(ck_status(kept, 304) == CK_OK && field(kept, "Content-Length", "99") == CK_OK);
    CHECK(ck_end(kept, NULL, 0, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 304 Not Modified\r\n" DATE "Content-Length: 99\r\n\r\n");
    close_server();
}

static void test_205(void)
{
    open_one();
    peer *client = get();
    CHECK(ck_status(kept, 205) == CK_OK);
    CHECK(end_text(kept, "x") == CK_LENGTH && write_text(kept, "x") == CK_LENGTH);
    CHECK(ck_try_end(kept, "x", 1, 1, 0) == CK_LENGTH);
    CHECK(ck_end(kept, NULL, 0, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("205 Reset Content", "", "", ""));
    close_server();
}

static void test_http_10(void)
{
    open_one();
    peer *client = request("GET / HTTP/1.0\r\n\r\n");
    CHECK(end_text(kept, "x") == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("200 OK", "", "Connection: close\r\n", "x"));
    CHECK(client->shut);
    client = request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(end_text(kept, "x") == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("200 OK", "", "Connection: keep-alive\r\n", "x"));
    CHECK(!client->shut);
    client = request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(write_text(kept, "a") == CK_OK && write_text(kept, "b") == CK_OK && end_text(kept, "c") == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Connection: close\r\n\r\nabc");
    CHECK(client->shut);
    client = request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    CHECK(field(kept, "Content-Length", "3") == CK_OK);
    CHECK(write_text(kept, "a") == CK_OK && write_text(kept, "b") == CK_OK && end_text(kept, "c") == CK_OK);
    sent();
    CHECK_HEARD(client, "HTTP/1.1 200 OK\r\n" DATE "Content-Length: 3\r\nConnection: keep-alive\r\n\r\nabc");
    CHECK(!client->shut);
    close_server();
}

static void test_close_by_the_application(void)
{
    open_one();
    peer *client = get();
    CHECK(field(kept, "Connection", "Close") == CK_OK && end_text(kept, "x") == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("200 OK", "", "Connection: close\r\n", "x"));
    CHECK(client->shut && !client->closed);
    feed(client, GET("/")); /* never dispatched */
    CHECK_LOG("request 0|");
    finish(client);
    CHECK(client->closed && !client->reset);
    forget_log();
    client = get();
    CHECK(ck_send(kept, 200, "", 0, "x", 1, CK_CLOSE) == CK_OK);
    sent();
    CHECK(client->shut);
    client = get();
    CHECK(write_text(kept, "x") == CK_OK && ck_end(kept, "y", 1, CK_CLOSE) == CK_OK);
    sent();
    CHECK(client->shut);
    close_server();
}

static void test_send(void)
{
    open_one();
    peer *client = get();
    CHECK(ck_send(kept, 404, "text/html", 9, "<p>", 3, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("404 Not Found", "Content-Type: text/html\r\n", "", "<p>"));
    client = get();
    CHECK(field(kept, "content-type", "a/b") == CK_OK);
    CHECK(ck_send(kept, 0, "text/html", 9, "<p>", 3, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("200 OK", "content-type: a/b\r\n", "", "<p>"));
    client = get();
    CHECK(ck_send(kept, 0, NULL, 0, NULL, 0, 0) == CK_OK);
    sent();
    CHECK_HEARD(client, ok(""));
    CHECK(client->sends == 1);
    close_server();
}

/* ---- The status line, replaced in place ---- */

static void test_status_after_fields(void)
{
    static const char *const lines[] = {"200 OK", "500 x", "404 a phrase that is much longer than that of 200", "299"};
    open_one();
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        peer *client = get();
        CHECK(field(kept, "A", "1") == CK_OK && field(kept, "B", "2") == CK_OK);
        CHECK(ck_status_line(kept, lines[i], (int) strlen(lines[i])) == CK_OK);
        CHECK(ck_status(kept, 500) == 1);
        CHECK(field(kept, "C", "3") == CK_OK && end_text(kept, "x") == CK_OK);
        sent();
        char status[128];
        snprintf(status, sizeof(status), "%s%s", lines[i], strlen(lines[i]) == 3 ? " " : "");
        CHECK_HEARD(client, answer_with(status, "A: 1\r\nB: 2\r\nC: 3\r\n", "", "x"));
        CHECK(client->sends == 1);
    }
    close_server();
}

/* Behind another response, at every fill of the buffer around its brim. */
static int fill;

static void answer_filling(uint32_t handle)
{
    static char filler[CK_CORK_CAPACITY];
    memset(filler, 'f', sizeof(filler));
    CHECK(ck_end(handle, filler, fill, 0) == CK_OK);
}

static void answer_late_status(uint32_t handle)
{
    CHECK(field(handle, "A", "1") == CK_OK);
    CHECK(ck_status_line(handle, "404 a longer phrase than before", 31) == CK_OK);
    CHECK(end_text(handle, "x") == CK_OK);
    CHECK(ck_sends(handle) >= 1);
}

static void test_status_after_fields_at_the_brim(void)
{
    const char *answer = answer_with("404 a longer phrase than before", "A: 1\r\n", "", "x");
    size_t before = strlen(ok("")) + 4; /* five digits of length in place of one */
    open_server(NULL);
    serve("GET", "/fill", answer_filling);
    serve("GET", "/late", answer_late_status);
    for (size_t left = 1; left < 300; left++) {
        peer *client = dial();
        fill = (int) (CK_CORK_CAPACITY - before - left);
        feed(client, GET("/fill") GET("/late"));
        CHECK(client->out_length == CK_CORK_CAPACITY - left + strlen(answer));
        CHECK_TEXT(heard(client) + client->out_length - strlen(answer), answer);
        CHECK(client->sends <= 2);
        finish(client);
        forget_log();
    }
    close_server();
}

/* Alone in a full buffer there is no room to make: nothing leaves, all can be taken back. */
static void test_status_after_a_buffer_of_fields(void)
{
    static char value[CK_CORK_CAPACITY];
    memset(value, 'v', sizeof(value));
    open_one();
    peer *client = get();
    CHECK(ck_header(kept, "a", 1, value, 8000) == CK_OK && ck_header(kept, "b", 1, value, 8000) == CK_OK);
    CHECK(ck_header(kept, "c", 1, value, CK_CORK_CAPACITY - 17 - 2 * 8005 - 5) == CK_OK);
    CHECK(ck_buffered_amount(kept) == CK_CORK_CAPACITY);
    CHECK(ck_status(kept, 404) == CK_STARTED);
    CHECK(client->sends == 0 && ck_fail(kept) == CK_OK);
    CHECK(ck_status(kept, 404) == CK_OK && end_text(kept, "x") == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("404 Not Found", "", "", "x"));
    close_server();
}

static void test_status_after_a_flush(void)
{
    open_one();
    peer *client = get();
    CHECK(field(kept, "A", "1") == CK_OK && ck_flush(kept) == CK_OK);
    CHECK(client->sends == 1);
    CHECK(ck_status(kept, 404) == CK_STARTED);
    CHECK(end_text(kept, "x") == CK_OK);
    sent();
    CHECK_HEARD(client, answer_with("200 OK", "A: 1\r\n", "", "x"));
    close_server();
}

/* ---- Taking back ---- */

static void begin_status(void)
{
    CHECK(ck_status(kept, 201) == CK_OK);
}

static void begin_fields(void)
{
    CHECK(field(kept, "A", "1") == CK_OK && field(kept, "Connection", "close") == CK_OK);
    CHECK(field(kept, "Content-Length", "3") == CK_OK && field(kept, "Date", "x") == CK_OK);
    CHECK(field(kept, "Content-Type", "x") == CK_OK);
}

static void begin_parts(void)
{
    CHECK(write_text(kept, "abc") == CK_OK && write_text(kept, "def") == CK_OK);
}

static void begin_length(void)
{
    begin_fields();
    CHECK(write_text(kept, "a") == CK_OK);
}

static void begin_all(void)
{
    CHECK(ck_end(kept, "abc", 3, CK_CLOSE) == CK_OK);
}

static void begin_try(void)
{
    CHECK(ck_try_end(kept, "abc", 3, 10, 0) == 1);
}

static void begin_nothing(void)
{
}

static void (*const beginnings[])(void) = {begin_nothing, begin_status, begin_fields, begin_parts, begin_length, begin_all, begin_try};

enum { BEGINNINGS = sizeof(beginnings) / sizeof(beginnings[0]) };

static void test_rollback_in_every_state(void)
{
    open_one();
    peer *client = dial();
    for (int i = 0; i < BEGINNINGS; i++) {
        feed(client, GET("/"));
        CHECK(ck_cork(kept) == CK_OK);
        beginnings[i]();
        CHECK(ck_fail(kept) == CK_OK);
        CHECK(ck_alive(kept) == CK_OK && ck_has_started(kept) == 0 && ck_buffered_amount(kept) == 0);
        CHECK(ck_write_offset(kept) == 0);
        CHECK(ck_send(kept, 500, "a/b", 3, "sorry", 5, 0) == CK_OK);
        sent();
        CHECK_HEARD(client, answer_with("500 Internal Server Error", "Content-Type: a/b\r\n", "", "sorry"));
        CHECK(client->sends == 1 && !client->shut);
        CHECK(ck_fail(kept) == CK_FINISHED);
        CHECK(ck_release(kept) == CK_OK);
        forget(client);
    }
    ck_stats found = stats();
    CHECK(found.rollbacks == BEGINNINGS - 1 && found.responses == BEGINNINGS && found.requests == BEGINNINGS);
    close_server();
}

/* The same in the request callback, where not answering again means 500. */
static int beginning;

static void begin_and_fail(uint32_t handle)
{
    kept = handle;
    beginnings[beginning]();
    CHECK(ck_fail(handle) == CK_OK);
}

static void test_rollback_in_the_callback(void)
{
    open_server(NULL);
    serve("GET", "/fail", begin_and_fail);
    serve("GET", "/", answer_path);
    peer *client = dial();
    for (beginning = 0; beginning < BEGINNINGS; beginning++) {
        feed(client, GET("/") GET("/fail") GET("/"));
        CHECK_HEARD(client, joined(3, ok("/"), plain("500 Internal Server Error", false), ok("/")));
        CHECK(client->sends == 1);
        forget(client);
    }
    close_server();
}

/* Part has left: the client must see that the response is not whole. */
static void test_fail_after_a_flush(void)
{
    for (int i = 1; i < BEGINNINGS; i++) {
        open_one();
        peer *client = get();
        beginnings[i]();
        CHECK(ck_flush(kept) == CK_OK);
        if (i == 5) {
            CHECK(ck_fail(kept) == CK_FINISHED);
        } else {
            CHECK(ck_fail(kept) == CK_STARTED);
            CHECK(client->closed && ck_alive(kept) == CK_ABORTED);
            CHECK(ck_fail(kept) == CK_ABORTED);
            CHECK(!strstr(heard(client), "\r\n0\r\n\r\n"));
        }
        CHECK_LOG("request 0|"); /* the caller knows; nobody else need be told */
        CHECK(ck_release(kept) == CK_OK);
        close_server();
    }
}

static void test_fail_after_an_overflow(void)
{
    static char much[20000];
    open_one();
    peer *client = get();
    memset(much, 'm', sizeof(much));
    CHECK(ck_write(kept, much, 10000) == CK_OK && ck_write(kept, much, 10000) == CK_OK);
    CHECK(client->sends == 1);
    CHECK(ck_fail(kept) == CK_STARTED);
    CHECK(client->closed);
    client = get();
    CHECK(ck_end(kept, much, 20000, 0) == CK_OK);
    CHECK(ck_fail(kept) == CK_FINISHED);
    sent();
    CHECK(!client->closed && strlen(heard(client)) > 20000);
    close_server();
}

/* Earlier answers of the same read stay; so does the 100 before the response. */
static void test_rollback_leaves_what_was_before(void)
{
    open_one();
    peer *client = request("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    CHECK(ck_body_ask(kept, CK_BODY_COLLECT) == 0);
    begin_parts();
    CHECK(ck_fail(kept) == CK_OK);
    CHECK(ck_buffered_amount(kept) == 25);
    CHECK(end_text(kept, "x") == CK_OK);
    sent();
    CHECK_HEARD(client, joined(2, "HTTP/1.1 100 Continue\r\n\r\n", ok("x")));
    close_server();
}

/* Taken back after the end, the exchange is again the one being answered: those
 * behind it wait, and its own time runs. */
static void test_rollback_after_the_end_of_a_kept_one(void)
{
    open_one();
    peer *client = get();
    begin_all();
    CHECK(ck_fail(kept) == CK_OK);
    uint32_t first = kept;
    CHECK(ck_uncork(kept) == 0);
    feed(client, GET("/"));
    CHECK(kept == first && client->sends == 0 && !client->shut);
    pass_seconds(40); /* longer than an idle connection has */
    CHECK(!client->closed && client->sends == 0);
    CHECK(end_text(first, "x") == CK_OK);
    settle();
    CHECK(kept != first);
    CHECK_HEARD(client, ok("x"));
    CHECK(end_text(kept, "y") == CK_OK);
    settle();
    CHECK_HEARD(client, joined(2, ok("x"), ok("y")));
    close_server();
}

/* A cork left open over several steps keeps nothing back, so nothing can be
 * taken back that other requests have come behind. */
static void test_no_rollback_behind_the_next_request(void)
{
    open_one();
    peer *client = get();
    CHECK(end_text(kept, "x") == CK_OK);
    uint32_t first = kept;
    feed(client, "GET / HT");
    CHECK(ck_fail(first) == CK_FINISHED);
    feed(client, "TP/1.1\r\nHost: a\r\n\r\n");
    CHECK(kept != first && ck_fail(first) == CK_FINISHED);
    CHECK(end_text(kept, "y") == CK_OK);
    CHECK(ck_uncork(kept) == 0);
    settle();
    CHECK_HEARD(client, joined(2, ok("x"), ok("y")));
    feed(client, "bad\r\n\r\n");
    CHECK(ck_fail(kept) == CK_FINISHED);
    close_server();
}

/* ---- Letting go without an answer ---- */

static int way;

/* The ways for a callback to return without a whole answer. */
static void leave(uint32_t handle)
{
    const char text[] = "text";
    switch (way) {
    case 0: /* nothing */
        break;
    case 1: /* packed */
        CHECK(ck_write(handle, text, 4) == CK_OK);
        break;
    case 2: /* part has left */
        CHECK(ck_write(handle, text, 4) == CK_OK && ck_flush(handle) == CK_OK);
        break;
    case 3: /* kept and let go again */
        CHECK(ck_keep(handle) == CK_OK && ck_release(handle) == CK_OK);
        CHECK(ck_write(handle, text, 4) == CK_OK && ck_flush(handle) == CK_OK);
        break;
    case 4:
        CHECK(ck_body_ask(handle, CK_BODY_COLLECT) == 1);
        CHECK(ck_write(handle, text, 4) == CK_OK && ck_flush(handle) == CK_OK);
        break;
    }
}

static void test_leaving_without_an_answer(void)
{
    for (way = 0; way < 5; way++) {
        open_server(NULL);
        serve("POST", "/", leave);
        peer *clients[3];
        for (int i = 0; i < 3; i++) { /* what was let go twice would be shared by the next two */
            clients[i] = dial();
            feed(clients[i], "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
            CHECK(clients[i]->closed == (way >= 2));
            if (way < 2) {
                CHECK_HEARD(clients[i], plain("500 Internal Server Error", false));
            }
        }
        CHECK(ck_loop_handles() == 2);
        CHECK_LOG("request 0|request 0|request 0|");
        close_server();
    }
}

static void test_release_after_part_has_left(void)
{
    open_one();
    for (int i = 0; i < 3; i++) {
        peer *client = get();
        CHECK(write_text(kept, "x") == CK_OK);
        sent();
        CHECK(ck_release(kept) == CK_OK);
        settle();
        CHECK(client->closed && ck_alive(kept) == CK_EXPIRED);
    }
    CHECK_LOG("request 0|request 0|request 0|");
    CHECK(ck_loop_handles() == 2);
    close_server();
}

static void test_release_before_and_after_the_end(void)
{
    open_one();
    peer *client = get();
    CHECK(ck_release(kept) == CK_OK);
    CHECK(ck_alive(kept) == CK_EXPIRED);
    CHECK(ck_uncork(kept) == CK_EXPIRED); /* the cork stays: its handle is gone */
    settle();
    feed(client, GET("/"));
    CHECK(end_text(kept, "x") == CK_OK && ck_release(kept) == CK_OK);
    CHECK(ck_release(kept) == CK_EXPIRED);
    pass_seconds(4);
    CHECK_HEARD(client, joined(2, plain("500 Internal Server Error", false), ok("x")));
    close_server();
}

static void test_close_is_quiet(void)
{
    open_one();
    peer *client = get();
    CHECK(write_text(kept, "x") == CK_OK);
    CHECK(ck_close(kept) == CK_OK && ck_close(kept) == CK_OK);
    CHECK(client->closed && client->sends == 1); /* what was packed has gone */
    CHECK(ck_alive(kept) == CK_ABORTED && ck_fail(kept) == CK_ABORTED && ck_has_started(kept) == 0);
    CHECK(ck_buffered_amount(kept) == 0 && ck_sends(kept) == 0 && ck_remote_port(kept) == 0);
    CHECK(ck_body_ask(kept, CK_BODY_STREAM) == CK_ABORTED);
    CHECK(ck_pause(kept, 1) == CK_ABORTED);
    CHECK_LOG("request 0|");
    CHECK(ck_release(kept) == CK_OK);
    close_server();
}

int main(void)
{
    test_names_and_values();
    test_fields_of_the_server();
    test_huge_fields();
    test_statuses();
    test_all_statuses();
    test_after_the_end();
    test_after_the_head();
    test_declared_length();
    test_too_little();
    test_offset_beyond_the_end();
    test_offset_at_the_start();
    test_offset_stays_in_a_body();
    test_head();
    test_bodiless_statuses();
    test_205();
    test_http_10();
    test_close_by_the_application();
    test_send();
    test_status_after_fields();
    test_status_after_fields_at_the_brim();
    test_status_after_a_buffer_of_fields();
    test_status_after_a_flush();
    test_rollback_in_every_state();
    test_rollback_in_the_callback();
    test_fail_after_a_flush();
    test_fail_after_an_overflow();
    test_rollback_leaves_what_was_before();
    test_rollback_after_the_end_of_a_kept_one();
    test_no_rollback_behind_the_next_request();
    test_leaving_without_an_answer();
    test_release_after_part_has_left();
    test_release_before_and_after_the_end();
    test_close_is_quiet();
    return checks_done();
}
