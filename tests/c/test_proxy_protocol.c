/* The PROXY protocol: each form read, at every split; what is none is dropped; who may
 * send it, and whom requests are from then. */
#include "proxy_protocol.h"

#include <arpa/inet.h>

#include "server.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2(command, kind, length, rest) SIGNATURE command kind "\0" length rest
#define BYTES(literal) literal, sizeof(literal) - 1
#define BLOCK4 "\x01\x02\x03\x04\x7f\0\0\x01\x12\x34\0\x50"
#define BLOCK6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34\0\x50"
#define LOCAL "\x20"
#define PROXY "\x21"
#define LINE4 "PROXY TCP4 1.2.3.4 127.0.0.1 4660 80\r\n"

/* ---- Reading ---- */

/* Reads a header of which every beginning is incomplete, and behind which nothing matters. */
static ck_proxied read_whole(const char *data, size_t length)
{
    ck_proxied found;
    char longer[512];
    CHECK(length + 4 <= sizeof(longer));
    memcpy(longer, data, length);
    memcpy(longer + length, "GET ", 4);
    for (size_t cut = 0; cut < length; cut++) {
        CHECK(ck_proxy_parse(data, cut, &found) == CK_PROXY_MORE && found.length == 0);
    }
    CHECK(ck_proxy_parse(longer, length + 4, &found) == (int) length);
    CHECK(ck_proxy_parse(data, length, &found) == (int) length);
    return found;
}

static void check_read(const char *data, size_t length, const char *text, uint16_t port)
{
    ck_proxied found = read_whole(data, length);
    uint8_t wanted[16] = {0};
    bool has4 = text && inet_pton(AF_INET, text, wanted) == 1;
    bool has6 = text && !has4 && inet_pton(AF_INET6, text, wanted) == 1;
    CHECK_FOR(data, found.length == (has4 ? 4 : has6 ? 16 : 0));
    CHECK_FOR(data, memcmp(found.address, wanted, sizeof(wanted)) == 0 && found.port == port);
}

static void test_lines(void)
{
    check_read(BYTES(LINE4), "1.2.3.4", 4660);
    check_read(BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255", 65535);
    check_read(BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0", 0);
    check_read(BYTES("PROXY TCP6 2001:db8::1 ::1 4660 80\r\n"), "2001:db8::1", 4660);
}

static void test_lines_without_an_address(void)
{
    check_read(BYTES("PROXY UNKNOWN\r\n"), NULL, 0);
    check_read(BYTES("PROXY UNKNOWN what ever 1 2 3\r\n"), NULL, 0);
    check_read(BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"), NULL, 0);
}

static void test_binary(void)
{
    check_read(BYTES(V2(PROXY, "\x11", "\x0c", BLOCK4)), "1.2.3.4", 0x1234);
    check_read(BYTES(V2(PROXY, "\x21", "\x24", BLOCK6)), "2001:db8::1", 0x1234);
    check_read(BYTES(V2(PROXY, "\x11", "\x13", BLOCK4 "\x04\0\x04" "abcd")), "1.2.3.4", 0x1234); /* with an extension */
    check_read(BYTES(V2(PROXY, "\x12", "\x0c", BLOCK4)), NULL, 0); /* datagrams */
    check_read(BYTES(V2(PROXY, "\0", "\0", "")), NULL, 0);
    check_read(BYTES(V2(LOCAL, "\0", "\0", "")), NULL, 0);
    check_read(BYTES(V2(LOCAL, "\x11", "\x0c", BLOCK4)), NULL, 0);
    check_read(BYTES(V2(LOCAL, "\xff", "\x03", "abc")), NULL, 0);
}

static void test_binary_unix(void)
{
    static char header[16 + 216] = SIGNATURE PROXY "\x31\0\xd8" "/run/client";
    check_read(header, sizeof(header), NULL, 0);
}

static void check_bad(const char *data, size_t length)
{
    ck_proxied found;
    bool seen = false;
    for (size_t cut = 0; cut <= length; cut++) { /* and once it is bad, nothing makes it good */
        int result = ck_proxy_parse(data, cut, &found);
        CHECK_FOR(data, result <= 0 && found.length == 0 && found.port == 0 && (!seen || result == CK_PROXY_BAD));
        seen = result == CK_PROXY_BAD;
    }
    CHECK_FOR(data, seen);
}

static void test_what_is_none(void)
{
    static const char *const lines[] = {
        "GET / HTTP/1.1\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXYTCP4", "\r\n\r\nX",
        "PROXY \r\n", "PROXY TCP4\r\n", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY UNKNOWNS\r\n", "PROXY unknown\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4  2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX", "PROXY TCP6 ::1%lo ::1 1 2\r\n", "PROXY TCP6 :::1 ::1 1 2\r\n",
        "PROXY UNKNOWN 3456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 1234567\r\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        check_bad(lines[i], strlen(lines[i]));
    }
    check_bad(BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"));
    check_bad(BYTES(V2("\x22", "\x11", "\x0c", BLOCK4)));
    check_bad(BYTES(V2("\x11", "\x11", "\x0c", BLOCK4)));
    check_bad(BYTES(V2(PROXY, "\x11", "\x0b", BLOCK4)));
    check_bad(BYTES(V2(PROXY, "\x21", "\x0c", BLOCK4)));
    check_bad(BYTES(V2(PROXY, "\x31", "\x0c", BLOCK4)));
    check_bad(BYTES(V2(PROXY, "\x41", "\x0c", BLOCK4)));
    check_bad(BYTES(V2(PROXY, "\x13", "\x0c", BLOCK4)));
    check_bad(BYTES(SIGNATURE PROXY "\x11\x10\x01")); /* 4097 bytes */
}

static void test_networks(void)
{
    static const ck_network networks[] = {
        {{[10] = 0xff, [11] = 0xff, [12] = 10}, 104},
        {{[10] = 0xff, [11] = 0xff, [12] = 192, [13] = 168, [14] = 1, [15] = 128}, 121},
        {{0x20, 0x01, 0x0d, 0xb8}, 32},
    };
    CHECK(ck_networks_hold(networks, 3, "\x0a\xff\0\x01", 4) && !ck_networks_hold(networks, 3, "\x0b\0\0\x01", 4));
    CHECK(ck_networks_hold(networks, 3, "\xc0\xa8\x01\x80", 4) && !ck_networks_hold(networks, 3, "\xc0\xa8\x01\x7f", 4));
    CHECK(ck_networks_hold(networks, 3, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16));
    CHECK(ck_networks_hold(networks, 3, "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01", 16));
    CHECK(!ck_networks_hold(networks, 3, "\x20\x01\x0d\xb9\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", 16));
    CHECK(!ck_networks_hold(networks, 3, "", 0) && !ck_networks_hold(NULL, 0, "\x0a\0\0\x01", 4));
    static const ck_network all = {{0}, 0};
    CHECK(ck_networks_hold(&all, 1, "\x0a\0\0\x01", 4));
}

/* ---- On connections ---- */

static const char loopback_network[CK_NETWORK_SIZE] = "\0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\0\x68"; /* 127/8 */
static const char other_network[CK_NETWORK_SIZE] = "\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\0\x68";    /* 10/8 */
static char told[64];
static int told_port;

static void tell(uint32_t handle)
{
    object *address = ck_py_proxied_address(handle);
    told[0] = '\0';
    if (address && address->length) {
        (void) inet_ntop(address->length == 4 ? AF_INET : AF_INET6, address->data, told, sizeof(told));
    }
    object_decref(address);
    told_port = ck_proxied_port(handle);
    CHECK(ck_remote_port(handle) == 4321); /* the peer stays the peer */
    answer_hello(handle);
}

static void open_behind_a_proxy(const char *network)
{
    open_server(NULL);
    serve("GET", "/", tell);
    CHECK(ck_app_proxy_protocol(world.app, network, 1, 0) == CK_OK);
    snprintf(told, sizeof(told), "nobody asked");
}

static void test_requests_through_a_proxy(void)
{
    static const char header[] = V2(PROXY, "\x11", "\x0c", BLOCK4);
    open_behind_a_proxy(loopback_network);
    for (size_t cut = 0; cut < sizeof(header); cut++) {
        peer *client = dial();
        feed_bytes(client, header, cut);
        CHECK(!client->closed && client->sends == 0);
        feed_bytes(client, header + cut, sizeof(header) - 1 - cut);
        feed(client, GET("/") GET("/"));
        CHECK_HEARD(client, joined(2, ok("hello"), ok("hello")));
        CHECK(strcmp(told, "1.2.3.4") == 0 && told_port == 0x1234);
        feed(client, LINE4); /* once is enough: this is a bad request */
        CHECK(strstr(heard(client), " 400 ") && client->shut);
        reset(client);
    }
    peer *client = dial();
    feed(client, "PROXY UNKNOWN\r\n" GET("/"));
    CHECK_HEARD(client, ok("hello"));
    CHECK(told[0] == '\0' && told_port == 0);
    close_server();
}

static void test_no_header_from_a_proxy(void)
{
    open_behind_a_proxy(loopback_network);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(client->closed && client->sends == 0 && stats().refused == 1 && stats().requests == 0);
    peer *slow = dial();
    feed(slow, "PROXY TCP4 ");
    pass_seconds(16);
    CHECK(slow->closed && slow->sends == 0 && stats().timeouts == 1);
    peer *gone = dial();
    feed(gone, "PROXY TCP4 ");
    finish(gone);
    CHECK(gone->closed && gone->sends == 0);
    close_server();
}

/* HS-28: from anybody else it is a bad request. */
static void test_header_from_a_stranger(void)
{
    open_behind_a_proxy(other_network);
    peer *client = dial();
    feed(client, LINE4 GET("/"));
    CHECK_HEARD(client, refusal("400 Bad Request"));
    CHECK(strcmp(told, "nobody asked") == 0);
    close_server();
}

static void test_networks_that_are_refused(void)
{
    open_behind_a_proxy(loopback_network);
    char network[CK_NETWORK_SIZE] = {[16] = (char) 129};
    CHECK(ck_app_proxy_protocol(world.app, network, 1, 0) == CK_VALUE);
    world.fail_at = world.allocations + 1;
    CHECK(ck_app_proxy_protocol(world.app, other_network, 1, 0) == CK_NOMEM);
    peer *client = dial(); /* what was told before stands */
    feed(client, LINE4 GET("/"));
    CHECK_HEARD(client, ok("hello"));
    CHECK(ck_app_proxy_protocol(world.app, NULL, 0, 1) == CK_OK);
    client = dial(); /* it has an address */
    feed(client, GET("/"));
    CHECK_HEARD(client, ok("hello"));
    close_server();
}

int main(void)
{
    test_lines();
    test_lines_without_an_address();
    test_binary();
    test_binary_unix();
    test_what_is_none();
    test_networks();
    test_requests_through_a_proxy();
    test_no_header_from_a_proxy();
    test_header_from_a_stranger();
    test_networks_that_are_refused();
    return checks_done();
}
