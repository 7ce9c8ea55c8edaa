/* The checks of the opening handshake, by the rows of the catalogue: each a good
 * request with something changed. */
#include "ws_handshake.h"

#include "check.h"

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE "Connection: Upgrade\r\nUpgrade: websocket\r\n"
#define GOOD UPGRADE KEY VERSION

enum { REFUSED_BY_PARSER = -1, NOT_WANTED = -2, ROOM = 65536 };

static struct guarded memory;
static ck_head head;
static const char *data;

/* Parses a head, in memory that ends with it, and judges it. */
static int judge_request(const char *line, const char *fields)
{
    static char text[ROOM];
    int length = snprintf(text, sizeof text, "%s\r\nHost: a\r\n%s\r\n", line, fields);
    const ck_head_limits limits = {8192, 65535, 32768, 100};
    ck_head_init(&head);
    data = guarded_at_end(&memory, text, (size_t)length);
    if (ck_head_parse(&head, data, (size_t)length, &limits) != CK_HEAD_DONE)
        return REFUSED_BY_PARSER;
    return ck_ws_wanted(&head, data) ? ck_ws_handshake_check(&head, data) : NOT_WANTED;
}

static int judge(const char *fields)
{
    return judge_request("GET / HTTP/1.1", fields);
}

#define EXPECT(fields, result) CHECK_FOR(fields, judge(fields) == (result))

static void test_request_line(void)
{
    CHECK(judge(GOOD) == 0);
    CHECK(judge_request("POST / HTTP/1.1", GOOD) == 400); /* WH-01 */
    CHECK(judge_request("PUT / HTTP/1.1", GOOD) == 400);
    CHECK(judge_request("HEAD / HTTP/1.1", GOOD) == 400);
    CHECK(judge_request("GET / HTTP/1.0", GOOD) == NOT_WANTED); /* WH-02: an HTTP/1.0 client's Upgrade counts for nothing */
}

static void test_connection_and_upgrade(void)
{
    EXPECT("Upgrade: websocket\r\n" KEY VERSION, NOT_WANTED);                            /* WH-05 */
    EXPECT("Connection: close\r\nUpgrade: websocket\r\n" KEY VERSION, NOT_WANTED);
    EXPECT("Connection: Upgrade\r\n" KEY VERSION, NOT_WANTED);
    EXPECT("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" KEY VERSION, 0);  /* WH-06 */
    EXPECT("connection: uPGRADE\r\nUpgrade: WebSocket\r\n" KEY VERSION, 0);              /* WH-07 */
    EXPECT("Connection: Upgrade\r\nUPGRADE: WEBSOCKET\r\n" KEY VERSION, 0);
    EXPECT("Connection: Upgrade\r\nUpgrade: websocket, foo\r\n" KEY VERSION, 0);         /* WH-08 */
    EXPECT("Connection: Upgrade\r\nUpgrade: foo,websocket\r\n" KEY VERSION, 0);
    EXPECT("Connection: Upgrade\r\nUpgrade: foo\r\nUpgrade: websocket\r\n" KEY VERSION, 0);
    EXPECT("Connection: Upgrade\r\nUpgrade: websocketx\r\n" KEY VERSION, NOT_WANTED);    /* WH-09 */
    EXPECT("Connection: Upgrade\r\nUpgrade: xwebsocket\r\n" KEY VERSION, NOT_WANTED);
    EXPECT("Connection: Upgrade\r\nUpgrade: websocke\r\n" KEY VERSION, NOT_WANTED);
    EXPECT("Connection: Upgrade\r\nUpgrade: h2c\r\n" KEY VERSION, NOT_WANTED);
    EXPECT("Connection: Upgrade\r\nUpgrade: web socket\r\n" KEY VERSION, NOT_WANTED);
}

static void test_version(void)
{
    EXPECT(UPGRADE KEY, 400); /* WH-10 */
    static const char *const others[] = {"8", "12", "14", "99", "013", "13, 8", "+13", "13.0", "1", "", "13,"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) { /* WH-11 */
        char fields[256];
        snprintf(fields, sizeof fields, UPGRADE KEY "Sec-WebSocket-Version: %s\r\n", others[i]);
        CHECK_FOR(others[i], judge(fields) == 426);
    }
    EXPECT(GOOD VERSION, 426);
    EXPECT(UPGRADE KEY "Sec-WebSocket-Version:   13\t\r\n", 0);
}

static void test_key(void)
{
    EXPECT(UPGRADE VERSION, 400); /* WH-12 */
    static const char *const bad[] = { /* WH-13 */
        "", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ===", "dGhlIHNhbXBsZSBub25jZQ==A",
        "dGhlIHNhbXBsZSBub25jZQA=", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSBub25j===Q", "dGhlIHNhbXBsZSBub25=ZQ==",
        "dGhlIHNhbXBsZSBub25jZ-==", "dGhlIHNhbXBsZSBub25jZ_==", "dGhl HNhbXBsZSBub25jZQ==", "AA==",
    };
    char fields[2048];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(fields, sizeof fields, UPGRADE VERSION "Sec-WebSocket-Key: %s\r\n", bad[i]);
        CHECK_FOR(bad[i], judge(fields) == 400);
    }
    char many[1001];
    memset(many, 'A', 1000);
    many[1000] = '\0';
    snprintf(fields, sizeof fields, UPGRADE VERSION "Sec-WebSocket-Key: %s\r\n", many);
    CHECK(judge(fields) == 400);
    CHECK(judge(GOOD KEY) == REFUSED_BY_PARSER); /* WH-14 */
    EXPECT(UPGRADE VERSION "Sec-WebSocket-Key: /+09azAZ/+09azAZ/+09aw==\r\n", 0);
}

static void test_body(void) /* WH-23 */
{
    EXPECT(GOOD "Content-Length: 5\r\n", 400);
    EXPECT(GOOD "Transfer-Encoding: chunked\r\n", 400);
    EXPECT(GOOD "Content-Length: 0\r\n", 0);
}

static void test_protocols(void)
{
    EXPECT(GOOD "Sec-WebSocket-Protocol: chat\r\n", 0);
    EXPECT(GOOD "Sec-WebSocket-Protocol: chat, superchat\t,v1.json\r\n", 0);
    EXPECT(GOOD "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: Chat\r\n", 0);
    CHECK(ck_ws_offers(&head, data, "chat", 4) && ck_ws_offers(&head, data, "Chat", 4));
    CHECK(!ck_ws_offers(&head, data, "cha", 3) && !ck_ws_offers(&head, data, "CHAT", 4));
    EXPECT(GOOD, 0);
    CHECK(!ck_ws_offers(&head, data, "chat", 4));
    EXPECT(GOOD "Sec-WebSocket-Protocol: caf\xC3\xA9\r\n", 400); /* WH-16 */
    CHECK(judge(GOOD "Sec-WebSocket-Protocol: ch\x01" "at\r\n") == REFUSED_BY_PARSER);
    EXPECT(GOOD "Sec-WebSocket-Protocol: \r\n", 400); /* WH-17 */
    EXPECT(GOOD "Sec-WebSocket-Protocol: a,\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: ,a\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: a,,b\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: a, b, a\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: a b\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: a/b\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Protocol: \"a\"\r\n", 400);
}

static void test_many_protocols(void)
{
    char fields[1024];
    for (int count = CK_WS_PROTOCOLS_MAX; count <= CK_WS_PROTOCOLS_MAX + 1; count++) {
        int length = snprintf(fields, sizeof fields, GOOD "Sec-WebSocket-Protocol: p0");
        for (int i = 1; i < count; i++)
            length += snprintf(fields + length, sizeof fields - (size_t)length, ",p%d", i);
        snprintf(fields + length, sizeof fields - (size_t)length, "\r\n");
        CHECK(judge(fields) == (count > CK_WS_PROTOCOLS_MAX ? 400 : 0));
    }
}

static void test_extensions(void) /* WH-20 */
{
    static const struct {
        const char *value;
        int result;
    } values[] = {
        {"permessage-deflate", 0},
        {"permessage-deflate; client_max_window_bits", 0},
        {"permessage-deflate; client_max_window_bits=\"10\", x-unknown;a=b;c , constructor", 0},
        {"a;b=\"c\\d\"", 0},
        {"a\t;\tb = c", 0},
        {"", 400},
        {";", 400},
        {"a;", 400},
        {"a;;b", 400},
        {"a,", 400},
        {",a", 400},
        {"a,,b", 400},
        {"a b", 400},
        {"a=b", 400},
        {"a;b=", 400},
        {"a;=c", 400},
        {"a;b=c d", 400},
        {"a;b=\"\"", 400},
        {"a;b=\"c", 400},
        {"a;b=\"c\\", 400},
        {"a;b=\"c\\\"", 400},
        {"a;b=\"c d\"", 400},
        {"a;b=\"c\"d", 400},
        {"a;b=\"c\\;\"", 400},
        {"\"a\"", 400},
        {"a;b=c=d", 400},
        {"\xC3\xA9", 400},
    };
    char fields[512];
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        snprintf(fields, sizeof fields, GOOD "Sec-WebSocket-Extensions: %s\r\n", values[i].value);
        CHECK_FOR(values[i].value, judge(fields) == values[i].result);
    }
    EXPECT(GOOD "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: ;\r\n", 400);
    EXPECT(GOOD "Sec-WebSocket-Extensions: a\r\nSec-WebSocket-Extensions: a;b\r\n", 0);
}

/* Long ones, that a search with backtracking would not come through. */
static void test_long_extensions(void)
{
    static const struct {
        const char *begin, *repeated;
        int result;
    } longs[] = {{"a", ";b", 0}, {"a", ",a", 0}, {"a;b=\"c", "\\c", 400}, {"a", ";\"\\\\", 400}, {"a", ";b=\"c\"", 0}};
    static char fields[40000];
    for (size_t i = 0; i < sizeof longs / sizeof *longs; i++) {
        int length = snprintf(fields, sizeof fields, GOOD "Sec-WebSocket-Extensions: %s", longs[i].begin);
        while (length < 16000)
            length += snprintf(fields + length, sizeof fields - (size_t)length, "%s", longs[i].repeated);
        snprintf(fields + length, sizeof fields - (size_t)length, "\r\n");
        CHECK_FOR(longs[i].repeated, judge(fields) == longs[i].result);
    }
}

static void test_accept(void)
{
    char accept[CK_WS_ACCEPT_LENGTH];
    ck_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept); /* WH-15 */
    CHECK(memcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", sizeof accept) == 0);
    ck_ws_accept("x3JJHMbDL1EzLkh9GBhXDw==", accept);
    CHECK(memcmp(accept, "HSmrc0sMlYUkAGmm5OPpG2HaGWk=", sizeof accept) == 0);
}

int main(void)
{
    memory = guarded_create(ROOM);
    test_request_line();
    test_connection_and_upgrade();
    test_version();
    test_key();
    test_body();
    test_protocols();
    test_many_protocols();
    test_extensions();
    test_long_extensions();
    test_accept();
    return checks_done();
}
