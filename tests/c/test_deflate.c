/* Compressed messages of WebSockets, over a server in memory and zlib as the client:
 * the RFC's examples, every kind of block, every cut, data that is no deflate, bombs, what
 * is sent, contexts that are kept and that are not, and memory that fails at each place. */
#include <malloc.h>
#include <zlib.h>

#include "deflate.h"
#include "loop.h"
#include "ws_frame.h"

#include "server.h"

#define HANDSHAKE                                                                                   \
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"                    \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                    \
    "Sec-WebSocket-Extensions: "
#define NAME "permessage-deflate"

enum {
    SHARED = 1 << 8 | 1,
    OWN = 15 << 8 | 15 << 4 | 8,
    OWN_SMALL = 9 << 8 | 9 << 4 | 1,
    LIMIT = 16384,
    TEXT = 0x81, BINARY = 0x82, END = 0x80, RSV1 = 0x40,
    COMPRESS = CK_WS_RSV1,
};

static const uint32_t options_all[] = {SHARED, OWN, OWN_SMALL, 1 << 8 | 15 << 4 | 8, 15 << 8 | 1, 12 << 8 | 12 << 4 | 5};
enum { OPTIONS = sizeof options_all / sizeof *options_all };

static uint32_t websocket;
static bool compress_echo;
static size_t held, peak; /* bytes that the server has of memory */

static void accept_it(uint32_t handle)
{
    int64_t result = ck_upgrade(handle, "", 0);
    CHECK(result > 0 || result == CK_NOMEM);
    websocket = result > 0 ? (uint32_t) result : 0;
}

static void echo(uint32_t handle)
{
    if (world.event == CK_WS_EVENT_TEXT || world.event == CK_WS_EVENT_BINARY) {
        int first = CK_WS_FIN | world.event | (compress_echo ? COMPRESS : 0);
        (void) ck_ws_send(handle, world.part->data, (int) world.part->length, first);
    }
}

static void serve_websocket(uint32_t options, uint64_t limit)
{
    ck_ws_limits limits = {.message = limit, .idle_seconds = 0, .close_seconds = 8, .compression = options};
    int route = world.routes++;
    world.handlers[route] = accept_it;
    CHECK(ck_app_websocket(world.app, "/ws", 3, route, &limits) == 0);
}

static peer *upgrade(const char *offer)
{
    peer *client = dial();
    feed(client, HANDSHAKE);
    feed(client, offer);
    feed(client, "\r\n\r\n");
    CHECK(strncmp(heard(client), "HTTP/1.1 101 ", 13) == 0 && strstr(heard(client), "Sec-WebSocket-Extensions: " NAME));
    forget(client);
    forget_log();
    return client;
}

static peer *upgraded_with(uint32_t options, uint64_t limit, const char *offer)
{
    open_server(NULL);
    serve_websocket(options, limit);
    return upgrade(offer);
}

static peer *upgraded(uint32_t options)
{
    return upgraded_with(options, LIMIT, NAME "; client_max_window_bits");
}

/* ---- Frames of the client, masked with zeros ---- */

static size_t put_frame(char *out, unsigned first, const void *payload, size_t length)
{
    size_t form = length > 65535 ? 8 : length > 125 ? 2 : 0;
    char *at = out;
    *at++ = (char) first;
    *at++ = (char) (0x80 | (form == 8 ? 127 : form == 2 ? 126 : (int) length));
    for (size_t i = form; i-- > 0;) {
        *at++ = (char) ((uint64_t) length >> 8 * i & 0xFF);
    }
    memset(at, 0, 4);
    memcpy(at + 4, payload, length);
    return (size_t) (at + 4 - out) + length;
}

static void send_frame(peer *client, unsigned first, const void *payload, size_t length)
{
    char *frame = malloc(length + 16);
    feed_bytes(client, frame, put_frame(frame, first, payload, length));
    free(frame);
}

#define LITERAL(client, first, bytes) send_frame(client, first, bytes, sizeof(bytes) - 1)

/* ---- zlib as the client ---- */

static void deflater(z_stream *z, int bits, int level)
{
    memset(z, 0, sizeof *z);
    CHECK(deflateInit2(z, level, Z_DEFLATED, -bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
}

/* Compresses a message as S7.2.1 says. Returns its length. */
static size_t squeeze(z_stream *z, const void *data, size_t length, uint8_t *out, size_t room)
{
    z->next_in = (Bytef *) (uintptr_t) data;
    z->avail_in = (unsigned) length;
    z->next_out = out;
    z->avail_out = (unsigned) room;
    CHECK(deflate(z, Z_SYNC_FLUSH) == Z_OK && z->avail_out > 6);
    size_t made = room - z->avail_out;
    CHECK(made >= 4 && memcmp(out + made - 4, "\0\0\xFF\xFF", 4) == 0);
    return made - 4;
}

/* Reads the server's frames: one message, inflated where it is compressed. Returns the bytes used, 0 when
 * there is no whole message. */
struct message {
    unsigned opcode;
    bool compressed;
    unsigned fragments;
    size_t length;
    char data[1 << 20];
};

static struct message got;

static void inflate_more(z_stream *z, const void *data, size_t length)
{
    z->next_in = (Bytef *) (uintptr_t) data;
    z->avail_in = (unsigned) length;
    z->next_out = (Bytef *) got.data + got.length;
    z->avail_out = (unsigned) (sizeof got.data - got.length);
    unsigned room = z->avail_out;
    int result = inflate(z, Z_SYNC_FLUSH);
    CHECK((result == Z_OK || result == Z_BUF_ERROR) && z->avail_in == 0 && z->avail_out > 0);
    got.length += room - z->avail_out;
}

static size_t read_message(z_stream *z, const char *data, size_t length)
{
    size_t at = 0;
    got.length = got.fragments = 0;
    for (;;) {
        if (length - at < 2) {
            return 0;
        }
        const uint8_t *frame = (const uint8_t *) data + at;
        size_t size = frame[1], header = 2;
        if (size >= 126) {
            header = size == 126 ? 4 : 10;
            size = 0;
            for (size_t i = 2; i < header; i++) {
                size = size << 8 | frame[i];
            }
        }
        if (length - at < header + size) {
            return 0;
        }
        bool first = got.fragments++ == 0;
        CHECK(first == ((frame[0] & 0x0F) != 0) && (first || !(frame[0] & RSV1)));
        if (first) {
            got.opcode = frame[0] & 0x0F;
            got.compressed = (frame[0] & RSV1) != 0;
        }
        at += header + size;
        if (got.compressed) {
            inflate_more(z, frame + header, size);
        } else {
            memcpy(got.data + got.length, frame + header, size);
            got.length += size;
        }
        if (frame[0] & CK_WS_FIN) {
            if (got.compressed) {
                inflate_more(z, "\0\0\xFF\xFF", 4);
            }
            return at;
        }
    }
}

static bool got_is(unsigned opcode, const void *data, size_t length)
{
    return got.opcode == opcode && got.length == length && memcmp(got.data, data, length) == 0;
}

static void inflater(z_stream *z)
{
    memset(z, 0, sizeof *z);
    CHECK(inflateInit2(z, -15) == Z_OK);
}

/* ---- Data ---- */

static uint32_t seed = 88172645;

static uint32_t draw(uint32_t below)
{
    seed ^= seed << 13, seed ^= seed >> 17, seed ^= seed << 5;
    return seed % below;
}

/* Text that can be compressed: words that come again, from near and far. */
static void fill_words(char *out, size_t length)
{
    static const char *const words[] = {"cork ", "bind ", "\"name\":", "0123456789", "{}", "socket, ", "a", "longer word "};
    for (size_t at = 0; at < length;) {
        const char *word = words[draw(8)];
        for (; *word && at < length; word++) {
            out[at++] = *word;
        }
    }
}

static void fill_noise(char *out, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        out[i] = (char) draw(256);
    }
}

/* ---- Receiving ---- */

/* RFC 7692 S7.2.3, and blocks of each kind. */
static const struct {
    const char *bytes;
    size_t length;
    const char *text;
} examples[] = {
#define EXAMPLE(bytes, text) {bytes, sizeof(bytes) - 1, text}
    EXAMPLE("\xF2\x48\xCD\xC9\xC9\x07\x00", "Hello"),
    EXAMPLE("\x00\x05\x00\xFA\xFFHello\x00", "Hello"),
    EXAMPLE("\xF3\x48\xCD\xC9\xC9\x07\x00\x00", "Hello"),                     /* WD-18 */
    EXAMPLE("\xF3\x48\xCD\xC9\xC9\x07\x00", "Hello"),                         /* the same, without the block behind it */
    EXAMPLE("\xF2\x48\x05\x00\x00\x00\xFF\xFF\xCA\xC9\xC9\x07\x00", "Hello"),
    EXAMPLE("\x01\x02\x00\xFD\xFFHe\xCB\xC9\xC9\x07\x00\x00", "Hello"),   /* two final blocks */
    EXAMPLE("\xF3\x48\xCD\xC9\xC9\x07\x00\xF2\x00\x11\x00\x00", "HelloHello"),    /* back over a final block */
    EXAMPLE("\x00", ""),                                                      /* WD-19 */
    EXAMPLE("\x02\x00", ""),
    EXAMPLE("\x03\x00", ""),
    EXAMPLE("\x00\x00\x00\xFF\xFF\x00", ""),
    EXAMPLE("\x00\x00\x00\xFF\xFF\x02\x00", ""),
};

enum { EXAMPLES = sizeof examples / sizeof *examples };

/* Sends a message in fragments cut at two places, by single bytes or whole. */
static void send_cut(peer *client, const char *bytes, size_t length, size_t first, size_t second, bool slowly)
{
    char frames[256];
    size_t size = 0;
    if (first < length) {
        size += put_frame(frames, CK_WS_TEXT | RSV1, bytes, first);
        size += put_frame(frames + size, CK_WS_CONTINUATION, bytes + first, second - first);
        size += put_frame(frames + size, END, bytes + second, length - second);
    } else {
        size += put_frame(frames, TEXT | RSV1, bytes, length);
    }
    for (size_t i = 0; slowly && i < size; i++) {
        feed_bytes(client, frames + i, 1);
    }
    if (!slowly) {
        feed_bytes(client, frames, size);
    }
}

static void test_examples(void)
{
    char wanted[256];
    for (int o = 0; o < OPTIONS; o++) {
        peer *client = upgraded(options_all[o]);
        for (int e = 0; e < EXAMPLES; e++) {
            size_t length = examples[e].length;
            snprintf(wanted, sizeof wanted, "websocket 1 0 %s|", examples[e].text);
            for (size_t first = 0; first <= length; first++) {
                for (size_t second = first; second <= length; second++) {
                    forget_log();
                    send_cut(client, examples[e].bytes, length, first, second, second & 1);
                    if (!CHECK_FOR(wanted, strcmp(world.log, wanted) == 0)) {
                        fprintf(stderr, "  example %d: %s\n", e, world.log);
                    }
                }
            }
        }
        close_server();
    }
}

/* S7.2.3.2: the second message refers to the first, also over one that is not compressed (WD-13, WD-21). */
static void test_context_of_the_client(void)
{
    peer *client = upgraded(OWN);
    LITERAL(client, TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9\x07\x00");
    LITERAL(client, TEXT, "plain");
    LITERAL(client, TEXT | RSV1, "\xF2\x00\x11\x00\x00");
    LITERAL(client, TEXT | RSV1, "\xF3\x00\x11\x00\x00"); /* a final block ends no context */
    LITERAL(client, TEXT | RSV1, "\xF2\x00\x11\x00\x00");
    CHECK_LOG("websocket 1 0 Hello|websocket 1 0 plain|websocket 1 0 Hello|websocket 1 0 Hello|websocket 1 0 Hello|");
    close_server();
    client = upgraded(SHARED); /* where nothing is kept there is nothing to refer to */
    LITERAL(client, TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9\x07\x00");
    LITERAL(client, TEXT | RSV1, "\xF2\x00\x11\x00\x00");
    CHECK_LOG("websocket 1 0 Hello|websocket 8 1002 |");
    close_server();
    client = upgraded_with(OWN, LIMIT, NAME "; client_no_context_takeover");
    LITERAL(client, TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9\x07\x00");
    LITERAL(client, TEXT | RSV1, "\xF2\x00\x11\x00\x00");
    CHECK_LOG("websocket 1 0 Hello|websocket 8 1002 |");
    close_server();
}

static void expect_end(uint32_t options, const void *payload, size_t length, unsigned code)
{
    char log[64];
    for (int way = 0; way < 3; way++) {
        peer *client = upgraded(options);
        char frames[256];
        size_t size = way == 1 ? 0 : put_frame(frames, TEXT | RSV1, payload, length);
        for (size_t i = 0; way == 1 && i < length; i++) {
            size += put_frame(frames + size, (i ? 0 : CK_WS_TEXT | RSV1) | (i + 1 < length ? 0 : END), (const char *) payload + i, 1);
        }
        for (size_t i = 0; way == 2 && i < size; i++) {
            feed_bytes(client, frames + i, 1);
        }
        if (way != 2) {
            feed_bytes(client, frames, size);
        }
        snprintf(log, sizeof log, "websocket 8 %u |", code);
        CHECK_FOR(log, strcmp(world.log, log) == 0);
        const char close[] = {'\x88', 2, (char) (code >> 8), (char) (code & 0xFF)};
        CHECK_FOR(log, client->out_length == 4 && memcmp(client->out, close, 4) == 0 && client->shut);
        close_server();
    }
}

#define EXPECT_END(payload, code)                                           \
    do {                                                                    \
        for (int o = 0; o < OPTIONS; o++) {                                 \
            expect_end(options_all[o], payload, sizeof(payload) - 1, code); \
        }                                                                   \
    } while (0)

static void test_data_that_is_refused(void)
{
    EXPECT_END("\x07", 1002);                                         /* WD-17: a block of type 3 */
    EXPECT_END("\xF2\x48\xCD\xC9\xC9", 1002);                         /* truncated */
    EXPECT_END("\xF2\x48\xCD\xC9\xC9\x07\x07", 1002);
    EXPECT_END("\x00\x05\x00\xFA\xFFHel", 1002);
    EXPECT_END("\x00\x05\x00\xFA\xFEHello\x00", 1002);                /* lengths that do not fit */
    EXPECT_END("\xF3\x48\xCD\xC9\xC9\x07\x00garbage", 1002);          /* behind a final block */
    EXPECT_END("\xF3\x48\xCD\xC9\xC9\x07\x00\x06", 1002);
    EXPECT_END("\xF2\x00\x11\x00\x00", 1002);                           /* WD-24: behind the beginning */
    EXPECT_END("\x04\x00", 1002);                                     /* a block of codes, cut off */
    /* Cut off where what its sender has left out ends the block, but leaves two bits of the next. */
    EXPECT_END("\x04\xC0\x01\x92\x24\x49\x92\x24\x49\x24"
        "\x16\x35\x8F\xAC\x9E\xBD\xFF\x7F\xF7\x00", 1002);
    EXPECT_END("\x00\x02\x00\xFD\xFF\xC3\x28\x00", 1007);             /* WD-20 */
    EXPECT_END("\x00\x01\x00\xFE\xFF\xC3\x00", 1007);                 /* a character cut off */
    EXPECT_END("\x00\x02\x00\xFD\xFF\xFF\xFF\x07", 1007);             /* the first that is wrong counts */
}

static void test_frames_that_are_refused(void)
{
    static const struct {
        const char *bytes;
        size_t length;
    } bad[] = {
#define FRAME(bytes) {bytes, sizeof(bytes) - 1}
        FRAME("\xC1\x80\0\0\0\0"),                                         /* WD-19 */
        FRAME("\x41\x80\0\0\0\0\x80\x80\0\0\0\0"),
        FRAME("\x41\x81\0\0\0\0\x00\xC0\x81\0\0\0\0\x00"),                 /* WF-06 */
        FRAME("\x41\x81\0\0\0\0\x00\x40\x81\0\0\0\0\x00"),
        FRAME("\x01\x81\0\0\0\0" "a\xC0\x81\0\0\0\0\x00"),
        FRAME("\xC9\x80\0\0\0\0"), FRAME("\xCA\x80\0\0\0\0"), FRAME("\xC8\x80\0\0\0\0"), /* WF-07 */
        FRAME("\xE1\x81\0\0\0\0\x00"), FRAME("\xD1\x81\0\0\0\0\x00"), FRAME("\xA1\x81\0\0\0\0\x00"),
        FRAME("\xC3\x81\0\0\0\0\x00"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        peer *client = upgraded(OWN);
        feed_bytes(client, bad[i].bytes, bad[i].length);
        CHECK_LOG("websocket 8 1002 |");
        close_server();
    }
    open_server(NULL); /* WF-05: nothing has been agreed on */
    serve_websocket(OWN, LIMIT);
    peer *client = dial();
    feed(client, HANDSHAKE "x-other\r\n\r\n");
    CHECK(!strstr(heard(client), "Extensions"));
    CHECK(ck_ws_compressed(websocket) == 0);
    forget_log();
    LITERAL(client, TEXT | RSV1, "\x00");
    CHECK_LOG("websocket 8 1002 |");
    close_server();
}

/* Bits as deflate packs them. */
static struct {
    uint8_t *at;
    unsigned used;
} packer;

static void put_bits(unsigned value, unsigned count)
{
    for (; count > 0; count--, value >>= 1) {
        *packer.at = (uint8_t) (packer.used ? *packer.at | (value & 1) << packer.used : value & 1);
        packer.used = (packer.used + 1) & 7;
        packer.at += packer.used == 0;
    }
}

static void put_code(unsigned code, unsigned count)
{
    while (count-- > 0) {
        put_bits(code >> count & 1, 1);
    }
}

/* A block of noise as it is, and one that refers back so far for three bytes. */
static size_t refer_back(uint8_t *out, size_t length, unsigned distance)
{
    const uint8_t header[] = {0, (uint8_t) length, (uint8_t) (length >> 8), (uint8_t) ~length, (uint8_t) (~length >> 8)};
    memcpy(out, header, sizeof header);
    fill_noise((char *) out + sizeof header, length);
    packer.at = out + sizeof header + length;
    packer.used = 0;
    unsigned back = distance - 1, extra = 0;
    while (back >> extra > 3) {
        extra++;
    }
    put_bits(2, 3);                             /* not final, fixed codes */
    put_code(1, 7);                             /* three bytes */
    put_code(2 * extra + (back >> extra), 5);
    put_bits(back & ((1U << extra) - 1), extra);
    put_code(0, 7);                             /* its end */
    put_bits(0, 3);
    return (size_t) (packer.at - out) + (packer.used > 0);
}

/* A window that was agreed on, and a client that refers back further (WD-08): twice as far
 * is always found out, and all within it is read. */
static void test_windows(void)
{
    static uint8_t packed[50000];
    for (unsigned bits = 9; bits <= 15; bits++) {
        char offer[100];
        snprintf(offer, sizeof offer, NAME "; client_max_window_bits=%u", bits);
        for (unsigned distance = 1; distance <= 32768; distance *= 2) {
            peer *client = upgraded_with(OWN, 50000, offer);
            send_frame(client, BINARY | RSV1, packed, refer_back(packed, 40000, distance));
            bool refused = strcmp(world.log, "websocket 8 1002 |") == 0;
            CHECK_FOR(offer, distance <= 1U << bits ? strncmp(world.log, "websocket 2 0 ", 14) == 0 : refused || distance == 2U << bits);
            close_server();
        }
        peer *client = upgraded_with(OWN, 50000, offer);
        size_t half = refer_back(packed, 40000, 1U << bits);
        send_frame(client, CK_WS_BINARY | RSV1, packed, 20000); /* the window goes over what came before */
        send_frame(client, END, packed + 20000, half - 20000);
        CHECK_FOR(offer, strncmp(world.log, "websocket 2 0 ", 14) == 0);
        close_server();
    }
    /* Where nothing is kept the window is as large as a message may be, and no larger. */
    for (unsigned limit = 512; limit <= 32768; limit *= 2) {
        peer *client = upgraded_with(SHARED, limit, NAME);
        size_t length = refer_back(packed, limit - 3, limit - 3);
        for (size_t at = 0; at < length; at += 1000) {
            bool last = at + 1000 >= length;
            send_frame(client, (at ? 0 : CK_WS_BINARY | RSV1) | (last ? END : 0), packed + at, last ? length - at : 1000);
        }
        CHECK(strncmp(world.log, "websocket 2 0 ", 14) == 0);
        close_server();
    }
    for (unsigned length = 1; length < 600; length += 199) { /* WD-24: behind the beginning of all */
        for (int o = 0; o < OPTIONS; o++) {
            peer *client = upgraded(options_all[o]);
            send_frame(client, BINARY | RSV1, packed, refer_back(packed, length, length + 1));
            CHECK_LOG("websocket 8 1002 |");
            close_server();
        }
    }
}

/* ---- Bombs ---- */

static void count_memory(void *memory, int sign)
{
    held += (size_t) sign * malloc_usable_size(memory);
    peak = held > peak ? held : peak;
}

static void *counted_alloc(struct us_sys_t *sys, size_t size)
{
    void *memory = s_alloc(sys, size);
    count_memory(memory, 1);
    return memory;
}

static void *counted_resize(struct us_sys_t *sys, void *memory, size_t size)
{
    count_memory(memory, -1);
    void *resized = s_resize(sys, memory, size);
    count_memory(resized ? resized : memory, 1);
    return resized;
}

static void counted_release(struct us_sys_t *sys, void *memory)
{
    count_memory(memory, -1);
    s_release(sys, memory);
}

/* A server whose memory is measured. What zlib and the loop need has been taken once. */
static peer *measured(uint32_t options, uint64_t limit)
{
    reset_world();
    world.sys.alloc = counted_alloc;
    world.sys.resize = counted_resize;
    world.sys.release = counted_release;
    held = peak = 0;
    CHECK(try_open_server(NULL));
    serve_websocket(options, limit);
    peer *client = upgrade(NAME "; client_max_window_bits");
    LITERAL(client, TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9\x07\x00");
    CHECK_LOG("websocket 1 0 Hello|");
    forget_log();
    return client;
}

static size_t bomb(uint8_t *out, size_t room, size_t length)
{
    static char zeros[1 << 16];
    z_stream z;
    deflater(&z, 15, 9);
    size_t made = 0;
    for (size_t left = length, size; left > 0; left -= size) {
        size = left < sizeof zeros ? left : sizeof zeros;
        z.next_in = (Bytef *) zeros;
        z.avail_in = (unsigned) size;
        z.next_out = out + made;
        z.avail_out = (unsigned) (room - made);
        CHECK(deflate(&z, left > size ? Z_NO_FLUSH : Z_SYNC_FLUSH) == Z_OK);
        made = room - z.avail_out;
    }
    deflateEnd(&z);
    return made - 4;
}

static void test_bombs(void) /* WD-14, WD-15 */
{
    static uint8_t packed[20000];
    size_t length = bomb(packed, sizeof packed, 16 << 20);
    CHECK(length < 17000);
    for (int o = 0; o < OPTIONS; o++) {
        for (int way = 0; way < 2; way++) {
            peer *client = measured(options_all[o], LIMIT);
            size_t before = held;
            peak = held;
            if (way == 0) {
                send_frame(client, BINARY | RSV1, packed, length);
            }
            for (size_t i = 0; way == 1 && i < length && !client->shut; i += 10) {
                send_frame(client, i ? CK_WS_CONTINUATION : CK_WS_BINARY | RSV1, packed + i, 10);
            }
            CHECK_LOG("websocket 8 1009 |");
            CHECK(peak - before <= LIMIT + 16384 + 65536); /* the message, its chunk; of zlib a window, and the input at hand */
            close_server();
            CHECK(held == 0);
        }
    }
    for (uint64_t limit = (16 << 20) - 1; limit <= 16 << 20; limit++) {
        peer *client = measured(SHARED, limit);
        size_t before = held;
        send_frame(client, BINARY | RSV1, packed, length);
        CHECK(strncmp(world.log, limit < 16 << 20 ? "websocket 8 1009 |" : "websocket 2 0 ", 14) == 0);
        CHECK(peak - before <= limit + 16384 + 131072);
        close_server();
    }
}

/* A message is over the limit by what has come of it, also when no more does. */
static void test_limits_are_seen_at_once(void)
{
    uint8_t packed[1000];
    for (int o = 0; o < OPTIONS; o++) {
        for (unsigned size = LIMIT; size <= LIMIT + 1; size++) {
            peer *client = upgraded(options_all[o]);
            size_t length = bomb(packed, sizeof packed, size);
            send_frame(client, CK_WS_TEXT | RSV1, packed, length);
            CHECK_LOG(size > LIMIT ? "websocket 8 1009 |" : "");
            close_server();
        }
    }
}

/* A block that is the last and fills the buffer of what is inflated to its end, or not quite. */
static void test_final_blocks_that_fill(void)
{
    static char zeros[2 * CK_DEFLATE_OUTPUT + 300];
    uint8_t packed[1000];
    upgraded(OWN);
    for (unsigned size = 2 * CK_DEFLATE_OUTPUT - 300; size <= sizeof zeros; size++) {
        z_stream z;
        deflater(&z, 15, 9);
        z.next_in = (Bytef *) zeros;
        z.avail_in = size;
        z.next_out = packed;
        z.avail_out = sizeof packed;
        CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
        ck_deflate *deflate = ck_deflate_new(ck_loop_current(), &(ck_ws_terms) {.client_bits = 15}, 0, sizeof zeros);
        ck_ws_part in = {.data = (char *) packed, .length = sizeof packed - z.avail_out, .opcode = CK_WS_BINARY, .last = true};
        ck_ws_part part = {.last = false};
        size_t made = 0;
        while (!part.last && CHECK(ck_inflate(ck_loop_current(), deflate, &in, &part) == CK_WS_PART)) {
            made += part.length;
        }
        CHECK(made == size);
        deflateEnd(&z);
        ck_deflate_free(ck_loop_current(), deflate);
    }
    close_server();
}

/* WD-16: input that brings nothing has a limit as well. */
static void test_empty_blocks(void)
{
    static char blocks[200000];
    for (size_t i = 0; i < sizeof blocks; i += 5) {
        memcpy(blocks + i, "\0\0\0\xFF\xFF", 5);
    }
    size_t most = (size_t) ck_ws_compressed_limit(LIMIT);
    CHECK(most == 8 * LIMIT + 1024 && ck_ws_compressed_limit(UINT64_MAX / 2) == UINT64_MAX);
    for (int o = 0; o < OPTIONS; o++) {
        peer *client = measured(options_all[o], LIMIT);
        send_frame(client, TEXT | RSV1, blocks, most / 5 * 5);
        CHECK(strcmp(world.log, "websocket 8 1002 |") == 0 || strcmp(world.log, "websocket 1 0 |") == 0);
        close_server();
        client = measured(options_all[o], LIMIT);
        send_frame(client, TEXT | RSV1, blocks, most + 1);
        CHECK_LOG("websocket 8 1009 |");
        close_server();
        client = measured(options_all[o], LIMIT);
        for (size_t i = 0; i * 100 <= most + 100; i++) {
            send_frame(client, i ? CK_WS_CONTINUATION : CK_WS_TEXT | RSV1, blocks, 100);
        }
        CHECK_LOG("websocket 8 1009 |");
        close_server();
    }
}

/* ---- Sending ---- */

static bool heard_is(const peer *client, const char *bytes, size_t length)
{
    return client->out_length == length && memcmp(client->out, bytes, length) == 0;
}

#define CHECK_BYTES(client, bytes) CHECK(heard_is(client, bytes, sizeof(bytes) - 1))

static int say(const void *data, size_t length, int first)
{
    return ck_ws_send(websocket, data, (int) length, first);
}

static void test_bytes_that_are_sent(void)
{
    peer *client = upgraded(OWN);
    CHECK(ck_ws_compressed(websocket) == 1);
    CHECK(say("Hello", 5, TEXT | COMPRESS) == CK_WS_SENT && say("Hello", 5, TEXT | COMPRESS) == CK_WS_SENT);
    CHECK(say("Hello", 5, TEXT) == CK_WS_SENT && say("", 0, BINARY | COMPRESS) == CK_WS_SENT);
    CHECK(say("p", 1, END | CK_WS_PING | COMPRESS) == CK_WS_SENT);
    settle();
    CHECK_BYTES(client, "\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\x00" "\xC1\x05\xF2\x00\x11\x00\x00" "\x81\x05Hello" "\xC2\x01\x00" "\x89\x01p");
    CHECK(client->sends == 1);
    close_server();
    client = upgraded(SHARED);
    CHECK(say("Hello", 5, TEXT | COMPRESS) == CK_WS_SENT && say("Hello", 5, TEXT | COMPRESS) == CK_WS_SENT);
    settle();
    CHECK_BYTES(client, "\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\x00" "\xC1\x07\xF2\x48\xCD\xC9\xC9\x07\x00");
    CHECK(say("x", 1, TEXT | 0x20) == CK_STATE && say("x", 1, TEXT | 0x10) == CK_STATE);
    CHECK(say("x", 1, END | CK_WS_PING | 0x20) == CK_STATE);
    close_server();
}

/* The first frame decides for all of a message; what comes between leaves it alone. */
static void test_fragments_that_are_sent(void)
{
    for (int o = 0; o < OPTIONS; o++) {
        peer *client = upgraded(options_all[o]);
        z_stream z;
        inflater(&z);
        CHECK(say("Hel", 3, CK_WS_TEXT | COMPRESS) == CK_WS_SENT && say("", 0, CK_WS_CONTINUATION) == CK_WS_SENT);
        CHECK(say("p", 1, END | CK_WS_PING) == CK_WS_SENT);
        settle();
        size_t ping = client->out_length - 3;
        CHECK(memcmp(client->out + ping, "\x89\x01p", 3) == 0);
        client->out_length = ping;
        CHECK(say("lo Hello", 8, CK_WS_CONTINUATION) == CK_WS_SENT && say("", 0, END) == CK_WS_SENT);
        CHECK(say("a", 1, CK_WS_TEXT) == CK_WS_SENT && say("b", 1, END | COMPRESS) == CK_WS_SENT);
        CHECK(say("", 0, CK_WS_TEXT | COMPRESS) == CK_WS_SENT && say("Hello", 5, END) == CK_WS_SENT);
        settle();
        size_t at = read_message(&z, client->out, client->out_length);
        CHECK(got_is(CK_WS_TEXT, "Hello Hello", 11) && got.compressed && got.fragments == 4);
        at += read_message(&z, client->out + at, client->out_length - at);
        CHECK(got_is(CK_WS_TEXT, "ab", 2) && !got.compressed);
        at += read_message(&z, client->out + at, client->out_length - at);
        CHECK(got_is(CK_WS_TEXT, "Hello", 5) && got.compressed && at == client->out_length);
        inflateEnd(&z);
        close_server();
    }
}

/* Both ways with every option and many sizes: what is sent back is what came. A client
 * that keeps the contexts reads what a server that keeps none sends. */
static void test_round_trips(void)
{
    static const size_t sizes[] = {0, 1, 2, 100, 125, 126, 1000, 4096, 16000, 16384, 20000, 65535, 65536, 200000};
    static char data[200000];
    static uint8_t packed[220000];
    compress_echo = true;
    for (int o = 0; o < OPTIONS; o++) {
        peer *client = upgraded_with(options_all[o], sizeof data, NAME "; client_max_window_bits");
        world.websocket = echo;
        unsigned bits = options_all[o] >> 8 > 1 ? options_all[o] >> 8 : 15;
        z_stream out, in;
        deflater(&out, (int) bits, 6);
        inflater(&in);
        for (size_t turn = 0; turn < 2 * sizeof sizes / sizeof *sizes; turn++) {
            size_t size = sizes[turn / 2];
            (turn & 1 ? fill_noise : fill_words)(data, size);
            unsigned opcode = turn & 1 ? CK_WS_BINARY : CK_WS_TEXT;
            size_t length = size ? squeeze(&out, data, size, packed, sizeof packed) : 1;
            packed[0] = size ? packed[0] : 0;
            forget(client);
            send_frame(client, opcode | END | RSV1, packed, length);
            CHECK(read_message(&in, client->out, client->out_length) == client->out_length);
            CHECK(got_is(opcode, data, size) && got.compressed);
            CHECK(client->sends <= 2);
            if (options_all[o] >> 8 <= 1) {
                deflateReset(&out);
            }
        }
        deflateEnd(&out);
        inflateEnd(&in);
        close_server();
    }
    compress_echo = false;
}

/* Clients that are in the middle of messages do not see each other's, in either direction. */
static void test_what_is_lent(void)
{
    enum { CLIENTS = 3, PARTS = 5 };
    peer *clients[CLIENTS];
    uint32_t sockets[CLIENTS];
    z_stream out[CLIENTS], in[CLIENTS];
    uint8_t packed[400];
    open_server(NULL);
    serve_websocket(SHARED, LIMIT);
    for (int c = 0; c < CLIENTS; c++) {
        clients[c] = upgrade(c == 1 ? NAME "; server_max_window_bits=10" : NAME);
        sockets[c] = websocket;
        deflater(&out[c], 15, 6);
        inflater(&in[c]);
    }
    for (int part = 0; part < PARTS; part++) {
        for (int c = 0; c < CLIENTS; c++) {
            char text[32];
            snprintf(text, sizeof text, "%c%c%c%d", 'a' + c, 'a' + c, 'a' + c, part);
            size_t length = squeeze(&out[c], text, 4, packed, sizeof packed);
            bool last = part == PARTS - 1;
            unsigned first = (part ? 0 : CK_WS_TEXT) | (last ? END : 0);
            send_frame(clients[c], first | (part ? 0 : RSV1), packed, length + (last ? 0 : 4));
            CHECK(ck_ws_send(sockets[c], text, 4, (int) (first | COMPRESS)) == CK_WS_SENT);
        }
    }
    CHECK_LOG("websocket 1 0 aaa0aaa1aaa2aaa3aaa4|websocket 1 0 bbb0bbb1bbb2bbb3bbb4|websocket 1 0 ccc0ccc1ccc2ccc3ccc4|");
    settle();
    for (int c = 0; c < CLIENTS; c++) {
        char text[32];
        snprintf(text, sizeof text, "%1$c%1$c%1$c0%1$c%1$c%1$c1%1$c%1$c%1$c2%1$c%1$c%1$c3%1$c%1$c%1$c4", 'a' + c);
        CHECK(read_message(&in[c], clients[c]->out, clients[c]->out_length) == clients[c]->out_length);
        CHECK(got_is(CK_WS_TEXT, text, 20));
        deflateEnd(&out[c]);
        inflateEnd(&in[c]);
    }
    close_server();
}

/* WD-22: what a WebSocket that has not compressed yet has cost, and one that keeps nothing after. */
static void test_memory_of_idle_sockets(void)
{
    for (int o = 0; o < OPTIONS; o++) {
        peer *client = measured(options_all[o], LIMIT);
        CHECK(say("Hello", 5, TEXT | COMPRESS) == CK_WS_SENT);
        settle();
        size_t before = held;
        upgrade(NAME "; client_max_window_bits");
        CHECK(held - before < 4096);
        if (options_all[o] == SHARED) {
            before = held;
            CHECK(say("Hello", 5, TEXT | COMPRESS) == CK_WS_SENT);
            settle();
            LITERAL(world.peers[1], TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9\x07\x00");
            CHECK(held == before);
        }
        (void) client;
        close_server();
    }
}

/* ---- One message for many ---- */

static void test_one_for_many(void)
{
    static char data[100000];
    fill_words(data, sizeof data);
    upgraded(SHARED);
    ck_loop *loop = ck_loop_current();
    z_stream z;
    inflater(&z);
    for (unsigned bits = 9; bits <= 15; bits++) {
        for (size_t size = 0; size <= sizeof data; size += 50000) {
            char *out;
            size_t length;
            CHECK(ck_deflate_shared(loop, bits, data, size, &out, &length) == CK_OK);
            got.length = 0;
            inflateReset2(&z, -(int) bits);
            inflate_more(&z, out, length);
            inflate_more(&z, "\0\0\xFF\xFF", 4);
            CHECK(got.length == size && memcmp(got.data, data, size) == 0);
            ck_free(loop, out);
        }
    }
    inflateEnd(&z);
    ck_deflate deflate = {.terms = {.server_bits = 11}};
    CHECK(ck_deflate_shares(&deflate) == 11);
    deflate.terms.server_keeps = true;
    CHECK(ck_deflate_shares(&deflate) == 0);
    close_server();
}

/* ---- Memory that fails ---- */

/* What was sent before and is sent after a message that could not be compressed can be read. */
static void send_while_memory_fails(uint32_t options, long nth)
{
    static char noise[40000];
    fill_noise(noise, sizeof noise);
    peer *client = upgraded(options);
    z_stream z;
    inflater(&z);
    int sent[4];
    world.fail_at = world.allocations + nth;
    sent[0] = say("Hello", 5, TEXT | COMPRESS);
    sent[1] = say(noise, sizeof noise, CK_WS_BINARY | COMPRESS);
    sent[2] = sent[1] > 0 ? say(noise, 30000, END) : CK_NOMEM;
    world.fail_at = 0;
    if (sent[1] > 0 && sent[2] < 0) {
        sent[2] = say(noise, 30000, END);
    }
    sent[3] = say("Hello", 5, TEXT | COMPRESS);
    settle();
    size_t at = 0;
    if (sent[0] > 0) {
        at += read_message(&z, client->out + at, client->out_length - at);
        CHECK(got_is(CK_WS_TEXT, "Hello", 5));
    }
    if (sent[1] > 0) {
        at += read_message(&z, client->out + at, client->out_length - at);
        CHECK(got.length == sizeof noise + 30000 && memcmp(got.data, noise, sizeof noise) == 0);
        CHECK(memcmp(got.data + sizeof noise, noise, 30000) == 0);
    }
    CHECK(sent[3] == CK_WS_SENT && sent[0] != CK_ABORTED && sent[1] != CK_ABORTED);
    at += read_message(&z, client->out + at, client->out_length - at);
    CHECK(got_is(CK_WS_TEXT, "Hello", 5) && at == client->out_length);
    CHECK_LOG("");
    inflateEnd(&z);
    close_server();
}

/* Each allocation fails in turn: a message is received whole, or the end is 1011. */
static void receive_while_memory_fails(uint32_t options, long nth)
{
    open_server(NULL);
    serve_websocket(options, LIMIT);
    world.websocket = echo;
    peer *client = dial();
    websocket = 0;
    world.fail_at = world.allocations + nth;
    feed(client, HANDSHAKE NAME "; client_max_window_bits\r\n\r\n");
    LITERAL(client, CK_WS_TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9");
    LITERAL(client, END, "\x07\x00");
    LITERAL(client, TEXT | RSV1, "\xF2\x48\xCD\xC9\xC9\x07\x00");
    LITERAL(client, CK_WS_CLOSE | END, "\x03\xE8");
    world.fail_at = 0;
    finish(client);
    CHECK(client->closed);
    const char *told = strstr(world.log, "websocket 8 ");
    CHECK((websocket != 0) == (told != NULL));
    CHECK(!told || !strstr(told + 1, "websocket 8 "));
    CHECK(!told || strstr(told, "8 1000") || strstr(told, "8 1011") || strstr(told, "8 1006"));
    close_server();
}

static void test_memory_that_fails(void)
{
    for (int o = 0; o < OPTIONS; o++) {
        for (long nth = 1; nth < 30; nth++) {
            send_while_memory_fails(options_all[o], nth);
            compress_echo = nth & 1;
            receive_while_memory_fails(options_all[o], nth);
        }
    }
    compress_echo = false;
    upgraded(SHARED);
    for (long nth = 1; nth < 10; nth++) {
        char *out = NULL;
        size_t length;
        world.fail_at = world.allocations + nth;
        int result = ck_deflate_shared(ck_loop_current(), 9 + (unsigned) nth % 7, "Hello", 5, &out, &length);
        CHECK(result == CK_OK ? out != NULL : result == CK_NOMEM && !out);
        world.fail_at = 0;
        ck_free(ck_loop_current(), out);
    }
    close_server();
}

int main(void)
{
    test_examples();
    test_context_of_the_client();
    test_data_that_is_refused();
    test_frames_that_are_refused();
    test_windows();
    test_bombs();
    test_limits_are_seen_at_once();
    test_final_blocks_that_fill();
    test_empty_blocks();
    test_bytes_that_are_sent();
    test_fragments_that_are_sent();
    test_round_trips();
    test_what_is_lent();
    test_memory_of_idle_sockets();
    test_one_for_many();
    test_memory_that_fails();
    close_world();
    return checks_done();
}
