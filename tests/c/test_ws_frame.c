/* The reader and the writer of WebSocket frames: every pair of first bytes in every
 * state, every close code, every length form, masks at every alignment, and each
 * case of the RFC fed whole, in single bytes, with each cut, in threes, and at random. */
#include "ws_frame.h"

#include <stdarg.h>

#include "check.h"

enum { EVENTS_MAX = 65536, LIMIT = 16384 };

/* What the reader has said of an input: "text:hello|ping:x|close 1000:bye|refused 1002". */
static struct {
    char text[EVENTS_MAX];
    size_t length;
    size_t fed;       /* bytes given until it was refused */
    char *message;    /* parts of a message */
    size_t message_length;
} seen;

static void note(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(seen.text + seen.length, sizeof seen.text - seen.length, format, arguments);
    va_end(arguments);
    seen.length += (size_t)length;
}

static void note_bytes(const char *data, size_t length)
{
    for (size_t i = 0; i < length && seen.length + 8 < sizeof seen.text; i++)
        if (data[i] >= ' ' && data[i] < 0x7F)
            note("%c", data[i]);
        else
            note("\\x%02x", (unsigned)(uint8_t)data[i]);
}

static const char *opcode_name(uint8_t opcode)
{
    switch (opcode) {
    case CK_WS_TEXT: return "text";
    case CK_WS_BINARY: return "binary";
    case CK_WS_PING: return "ping";
    case CK_WS_PONG: return "pong";
    case CK_WS_CLOSE: return "close";
    default: return "?";
    }
}

static void note_part(int result, const ck_ws_part *part)
{
    if (result == CK_WS_PART) {
        memcpy(seen.message + seen.message_length, part->data, part->length);
        seen.message_length += part->length;
        if (!part->last)
            return;
        note("%s:", opcode_name(part->opcode));
        note_bytes(seen.message, seen.message_length);
        seen.message_length = 0;
    } else if (part->opcode == CK_WS_CLOSE) {
        note("close %d:", part->code);
        note_bytes(part->data, part->length);
    } else {
        note("%s:", opcode_name(part->opcode));
        note_bytes(part->data, part->length);
    }
    note("|");
}

/* Gives one piece, in memory of its own that ends at a page that traps. Returns false when it was refused. */
static bool feed(ck_ws_reader *reader, const struct guarded *memory, const char *data, size_t length)
{
    char *piece = (char *)(uintptr_t)guarded_at_end(memory, data, length);
    for (;;) {
        ck_ws_part part;
        int result = ck_ws_next(reader, &piece, &length, &part);
        if (result == CK_WS_MORE) {
            CHECK(length == 0);
            return true;
        }
        if (result < 0) {
            note("refused %d", -result);
            CHECK(ck_ws_next(reader, &piece, &length, &part) == result);
            return false;
        }
        note_part(result, &part);
    }
}

static struct guarded memory;
static bool deflate; /* messages may be compressed */

/* Reads an input in pieces; returns what was seen. `piece` 0 draws sizes. */
static const char *read_pieces(const char *data, size_t length, uint64_t limit, size_t first, size_t piece)
{
    static uint32_t random = 2463534242U;
    ck_ws_reader reader;
    memset(&reader, 0xA5, sizeof reader);
    ck_ws_reader_init(&reader, limit);
    reader.deflate = deflate;
    seen.length = seen.fed = seen.message_length = 0;
    seen.text[0] = '\0';
    free(seen.message);
    seen.message = malloc(length + 1);
    for (size_t at = 0; at < length;) {
        random ^= random << 13, random ^= random >> 17, random ^= random << 5;
        size_t size = at == 0 && first ? first : piece ? piece : 1 + random % 9;
        size = size < length - at ? size : length - at;
        if (!feed(&reader, &memory, data + at, size)) {
            seen.fed = at + size;
            return seen.text;
        }
        at += size;
    }
    return seen.text;
}

/* Checks one input in all feeds. Returns the bytes after which it was refused, 0 when it was not. */
static size_t expect_limited(const char *data, size_t length, uint64_t limit, const char *expected)
{
    CHECK_FOR(expected, strcmp(read_pieces(data, length, limit, 0, SIZE_MAX), expected) == 0);
    if (strcmp(seen.text, expected) != 0)
        fprintf(stderr, "  seen: %.200s\n", seen.text);
    for (size_t cut = 1; cut < length && length <= 400; cut++)
        CHECK_FOR(expected, strcmp(read_pieces(data, length, limit, cut, SIZE_MAX), expected) == 0);
    CHECK_FOR(expected, strcmp(read_pieces(data, length, limit, 0, 3), expected) == 0);
    CHECK_FOR(expected, strcmp(read_pieces(data, length, limit, 0, 0), expected) == 0);
    CHECK_FOR(expected, strcmp(read_pieces(data, length, limit, 0, 1), expected) == 0);
    return seen.fed;
}

static size_t expect(const char *data, size_t length, const char *expected)
{
    return expect_limited(data, length, LIMIT, expected);
}

/* ---- Frames to feed ---- */

static char built[1 << 21];
static size_t built_length;

enum { KEY_SIZE = 4, SHORTEST = 0, FORM_16 = 2, FORM_64 = 8 };

static const uint8_t key[KEY_SIZE] = {0x37, 0xFA, 0x21, 0x3D};

static void add_masked(unsigned first, const char *payload, size_t length, int form, const uint8_t mask[4])
{
    char *at = built + built_length;
    *at++ = (char)first;
    if (form == SHORTEST)
        form = length > 65535 ? FORM_64 : length > 125 ? FORM_16 : SHORTEST;
    *at++ = (char)(0x80 | (form == FORM_64 ? 127 : form == FORM_16 ? 126 : (int)length));
    for (int i = form; i-- > 0;)
        *at++ = (char)((uint64_t)length >> 8 * i & 0xFF);
    memcpy(at, mask, KEY_SIZE);
    at += KEY_SIZE;
    for (size_t i = 0; i < length; i++)
        at[i] = (char)(payload[i] ^ (char)mask[i % KEY_SIZE]);
    built_length = (size_t)(at - built) + length;
}

static void add(unsigned first, const char *payload)
{
    add_masked(first, payload, strlen(payload), SHORTEST, key);
}

static void add_length(unsigned first, size_t length)
{
    static char filler[1 << 20];
    memset(filler, 'a', sizeof filler);
    add_masked(first, filler, length, SHORTEST, key);
}

#define CASE(expected, ...)                         \
    do {                                            \
        built_length = 0;                           \
        __VA_ARGS__;                                \
        expect(built, built_length, expected);      \
    } while (0)

enum { TEXT = 0x81, BINARY = 0x82, CLOSE = 0x88, PING = 0x89, PONG = 0x8A, TEXT_BEGIN = 0x01, BINARY_BEGIN = 0x02, ON = 0x00, END = 0x80 };

/* ---- Cases ---- */

static void test_messages(void)
{
    expect("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11, "text:Hello|"); /* RFC 6455 S5.7 */
    CASE("text:|binary:|", add(TEXT, ""), add(BINARY, ""));
    CASE("text:a|binary:b|", add(TEXT, "a"), add(BINARY, "b"));
    CASE("binary:\\xff\\xfe|", add(BINARY, "\xFF\xFE"));
    built_length = 0;
    add_masked(TEXT, "a\0b", 3, SHORTEST, key);
    expect(built, built_length, "text:a\\x00b|");
    built_length = 0;
    add_masked(TEXT, "zero", 4, SHORTEST, (const uint8_t[]){0, 0, 0, 0}); /* WF-03 */
    expect(built, built_length, "text:zero|");
}

static void test_fragments(void)
{
    CASE("text:Hello|", add(TEXT_BEGIN, "Hel"), add(END, "lo"));
    CASE("binary:abc|text:d|", add(BINARY_BEGIN, "a"), add(ON, "b"), add(END, "c"), add(TEXT, "d"));
    CASE("ping:x|pong:y|text:Hello|", add(TEXT_BEGIN, "Hel"), add(PING, "x"), add(ON, ""), add(PONG, "y"), add(END, "lo"));
    CASE("text:|", add(TEXT_BEGIN, ""), add(ON, ""), add(END, ""));
    CASE("text:a|", add(TEXT_BEGIN, ""), add(ON, "a"), add(END, ""));
    CASE("close 1000:|", add(TEXT_BEGIN, "Hel"), add(CLOSE, "\x03\xE8")); /* WC-09 */
    CASE("refused 1002", add(END, "a"));                                 /* WF-17 */
    CASE("refused 1002", add(ON, "a"));
    CASE("text:a|refused 1002", add(TEXT, "a"), add(END, "b"));
    CASE("refused 1002", add(TEXT_BEGIN, "a"), add(TEXT, "b")); /* WF-18 */
    CASE("refused 1002", add(TEXT_BEGIN, "a"), add(BINARY_BEGIN, "b"));
    CASE("refused 1002", add(BINARY_BEGIN, "a"), add(TEXT, "b"));
}

static void test_text_across_fragments(void)
{
    CASE("text:\\xe2\\x82\\xac|", add(TEXT_BEGIN, "\xE2"), add(ON, "\x82"), add(END, "\xAC"));
    CASE("refused 1007", add(TEXT, "\xE2\x82"));                          /* WU-06 */
    CASE("refused 1007", add(TEXT_BEGIN, "\xE2\x82"), add(END, ""));
    CASE("text:\\xce\\xba|refused 1007", add(TEXT, "\xCE\xBA"), add(TEXT, "a\x80"));
    CASE("binary:\\xe2\\x82|", add(BINARY, "\xE2\x82"));
}

/* WU-08: refused by the byte, although neither frame nor message is complete. */
static void test_text_fails_fast(void)
{
    built_length = 0;
    add(TEXT_BEGIN, "good\xFFmore");
    CHECK(expect(built, built_length, "refused 1007") == 6 + 5);
    built_length = 0;
    add(TEXT_BEGIN, "\xF4");
    add(END, "\x90");
    CHECK(expect(built, built_length, "refused 1007") == 7 + 7);
    built_length = 0; /* one message leaves nothing for the next to begin with */
    add(TEXT, "\xCE\xBA");
    add(TEXT, "a");
    expect(built, built_length, "text:\\xce\\xba|text:a|");
}

static void test_control(void)
{
    char payload[126];
    memset(payload, 'p', sizeof payload);
    payload[125] = '\0';
    char expected[160];
    snprintf(expected, sizeof expected, "ping:%s|", payload);
    CASE(expected, add(PING, payload));
    CASE("refused 1002", add_length(PING, 126)); /* WF-09 */
    CASE("refused 1002", add_length(CLOSE, 126));
    built_length = 0;
    add_masked(PING, "a", 1, FORM_16, key);
    CHECK(expect(built, built_length, "refused 1002") == 2);
    built_length = 0;
    add_masked(PONG, "a", 1, FORM_64, key);
    CHECK(expect(built, built_length, "refused 1002") == 2);
    CASE("refused 1002", add(0x09, "")); /* WF-10 */
    CASE("pong:|", add(PONG, ""));
}

/* ---- Lengths ---- */

static void test_length_forms(void)
{
    static const size_t lengths[] = {0, 1, 125, 126, 127, 65535, 65536, 65537};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int form = FORM_16; form <= FORM_64; form += FORM_64 - FORM_16) {
            if (form == FORM_16 && lengths[i] > 65535)
                continue;
            bool shortest = form == FORM_16 ? lengths[i] > 125 : lengths[i] > 65535;
            built_length = 0;
            static char payload[70000];
            add_masked(BINARY, payload, lengths[i], form, key);
            const char *said = read_pieces(built, built_length, 100000, 0, SIZE_MAX);
            CHECK(shortest ? strncmp(said, "binary:", 7) == 0 : strcmp(said, "refused 1002") == 0); /* WF-11, WF-12 */
            if (!shortest) {
                read_pieces(built, built_length, 100000, 0, 1);
                CHECK(seen.fed == 2 + (size_t)form);
            }
        }
}

/* WF-13 and WF-14: judged when the length is there, with no byte of payload. */
static void test_huge_lengths(void)
{
    static const struct {
        const char *length;
        int code;
    } huge[] = {
        {"\x80\0\0\0\0\0\0\0", 1002}, {"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 1002}, {"\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 1009},
        {"\0\0\0\1\0\0\0\0", 1009},   {"\0\0\0\1\0\0\0\5", 1009},                 {"\0\0\0\0\0\1\0\0", 1009},
    };
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        char frame[10] = "\x82\xFF", expected[32];
        memcpy(frame + 2, huge[i].length, 8);
        snprintf(expected, sizeof expected, "refused %d", huge[i].code);
        CHECK(expect(frame, sizeof frame, expected) == 10);
    }
}

static void test_limit(void)
{
    for (size_t length = 98; length <= 103; length++) { /* WF-16 */
        built_length = 0;
        add_length(BINARY, length);
        const char *said = read_pieces(built, built_length, 100, 0, SIZE_MAX);
        CHECK(length <= 100 ? strncmp(said, "binary:", 7) == 0 : strcmp(said, "refused 1009") == 0);
    }
    built_length = 0; /* WF-15: at the fragment that exceeds, by its header */
    add_length(BINARY_BEGIN, 60);
    add_length(ON, 40);
    size_t before = built_length;
    add_length(ON, 1);
    CHECK(expect_limited(built, built_length, 100, "refused 1009") == before + 2);
    built_length = 0; /* the sum begins anew, and control frames do not count */
    add(BINARY, "abc");
    add(BINARY_BEGIN, "de");
    add(PING, "12345");
    add(END, "f");
    expect_limited(built, built_length, 3, "binary:abc|ping:12345|binary:def|");
    add(BINARY_BEGIN, "gh");
    add(END, "ij");
    expect_limited(built, built_length, 3, "binary:abc|ping:12345|binary:def|refused 1009");
    built_length = 0;
    add(TEXT, "");
    add(TEXT, "a");
    expect_limited(built, built_length, 0, "text:|refused 1009");
}

/* WF-21, WF-22: fragments that bring nothing are counted; those that bring a byte are bounded by the limit. */
static void test_many_fragments(void)
{
    built_length = 0;
    add(BINARY_BEGIN, "");
    for (int i = 1; i < CK_WS_EMPTY_MAX; i++)
        add(ON, "");
    add(END, "");
    CHECK(strcmp(read_pieces(built, built_length, LIMIT, 0, SIZE_MAX), "binary:|") == 0);
    add(BINARY_BEGIN, ""); /* counted anew */
    add(END, "");
    CHECK(strcmp(read_pieces(built, built_length, LIMIT, 0, SIZE_MAX), "binary:|binary:|") == 0);
    built_length -= 18;
    add(ON, "");
    CHECK(strcmp(read_pieces(built, built_length, LIMIT, 0, SIZE_MAX), "refused 1009") == 0);
    built_length = 0;
    add(BINARY_BEGIN, "a");
    for (int i = 1; i < LIMIT; i++)
        add(ON, "a");
    size_t full = built_length;
    add(END, "");
    CHECK(strlen(read_pieces(built, built_length, LIMIT, 0, SIZE_MAX)) == strlen("binary:|") + LIMIT);
    built_length = full;
    add(ON, "a");
    CHECK(strcmp(read_pieces(built, built_length, LIMIT, 0, 7), "refused 1009") == 0);
}

/* ---- Everything small enough to try all of it ---- */

/* The rules for two first bytes, as the RFC lists them. */
static bool pair_allowed(unsigned first, unsigned second, unsigned message)
{
    unsigned opcode = first & 15;
    bool final = first & 0x80;
    if (first & 0x70 || !(second & 0x80))
        return false;
    switch (opcode) {
    case 0: return message != 0;
    case 1: case 2: return message == 0;
    case 8: case 9: case 10: return final && (second & 0x7F) < 126;
    default: return false;
    }
}

static void test_every_pair_in_every_state(void)
{
    static const unsigned states[] = {0, CK_WS_TEXT, CK_WS_BINARY};
    for (size_t s = 0; s < 3; s++)
        for (unsigned first = 0; first < 256; first++) {
            int right = 0;
            for (unsigned second = 0; second < 256; second++) {
                char bytes[9] = {(char)states[s], (char)0x81, 0, 0, 0, 0, 'a', (char)first, (char)second};
                size_t skip = states[s] ? 0 : 7;
                read_pieces(bytes + skip, sizeof bytes - skip, LIMIT, 0, second & 1 ? 1 : SIZE_MAX);
                bool refused = strcmp(seen.text, "refused 1002") == 0;
                bool silent = seen.length == 0;
                bool begins = (first & 0x7F) == (0x40 | CK_WS_TEXT) || (first & 0x7F) == (0x40 | CK_WS_BINARY);
                bool allowed = pair_allowed(deflate && begins ? first & ~0x40U : first, second, states[s]); /* WF-06, WF-07 */
                right += allowed ? silent : refused && seen.fed == sizeof bytes - skip;
            }
            CHECK(right == 256);
        }
}

/* What they hold is not looked at here; they may be longer than what they will be inflated to. */
static void test_compressed_messages(void)
{
    enum { RSV1 = 0x40 };
    CASE("text:\\xff|text:a|", add(TEXT | RSV1, "\xFF"), add(TEXT, "a"));
    CASE("binary:abc|", add(BINARY_BEGIN | RSV1, "a"), add(ON, "b"), add(END, "c"));
    CASE("text:a|", add(TEXT_BEGIN | RSV1, ""), add(END, "a"));
    CASE("refused 1002", add(TEXT | RSV1, ""));
    CASE("refused 1002", add(TEXT_BEGIN | RSV1, ""), add(ON, ""), add(END, ""));
    CASE("text:\\xff|refused 1007", add(TEXT | RSV1, "\xFF"), add(TEXT, "\xFF"));
    for (size_t limit = 0; limit < 40; limit += 13) {
        size_t most = 8 * limit + 1024;
        built_length = 0;
        add_length(BINARY_BEGIN | RSV1, most - 1);
        add(END, "a");
        char *expected = calloc(most + 16, 1);
        memcpy(expected, "binary:", 7);
        memset(expected + 7, 'a', most);
        expected[most + 7] = '|';
        expect_limited(built, built_length, limit, expected);
        built_length = 0;
        add_length(BINARY | RSV1, most + 1);
        CHECK(expect_limited(built, built_length, limit, "refused 1009") == 4);
        built_length = 0;
        add_length(BINARY, limit + 1);
        CHECK(expect_limited(built, built_length, limit, "refused 1009") == 2);
        free(expected);
    }
    CHECK(ck_ws_compressed_limit(UINT64_MAX / 8) == UINT64_MAX && ck_ws_compressed_limit(1) == 1032);
}

static void test_every_close_code(void)
{
    for (unsigned code = 0; code <= 65535; code++) {
        char payload[4] = {(char)(code >> 8), (char)code, 'b', 'y'}, expected[32];
        bool valid = (code >= 3000 && code < 5000)
            || (code >= 1000 && code < 1015 && code != 1004 && code != 1005 && code != 1006);
        snprintf(expected, sizeof expected, valid ? "close %u:by|" : "refused 1002", code);
        built_length = 0;
        add_masked(CLOSE, payload, sizeof payload, SHORTEST, key);
        bool right = strcmp(read_pieces(built, built_length, LIMIT, 0, code & 1 ? 1 : SIZE_MAX), expected) == 0;
        if (!right || code % 256 == 0)
            CHECK(right);
        if (valid != ck_ws_close_code_valid(code))
            CHECK(valid == ck_ws_close_code_valid(code));
    }
    CHECK(!ck_ws_close_code_valid(65536 + 1000));
}

static void test_close(void)
{
    CASE("close 1005:|", add(CLOSE, ""));        /* WC-01 */
    CASE("refused 1002", add(CLOSE, "\x03"));    /* WC-02 */
    CASE("close 1000:bye|", add(CLOSE, "\x03\xE8" "bye"));
    CASE("refused 1007", add(CLOSE, "\x03\xE8" "by\xFF")); /* WC-06 */
    CASE("refused 1007", add(CLOSE, "\x03\xE8" "\xE2\x82"));
    CASE("refused 1002", add(CLOSE, "\x03\xED" "by\xFF")); /* 1005: the code is looked at first */
    char payload[126];
    memset(payload, 'r', sizeof payload);
    memcpy(payload, "\x03\xE8", 2);
    payload[125] = '\0';
    char expected[160];
    snprintf(expected, sizeof expected, "close 1000:%s|", payload + 2); /* WC-07 */
    CASE(expected, add(CLOSE, payload));
    CASE("close 1000:|", add(CLOSE, "\x03\xE8"), add(TEXT, "a"), add(PING, "b"), add(CLOSE, ""), add(0x77, "c")); /* WC-08 */
}

static void test_http_bytes(void)
{
    CHECK(expect("GET / HTTP/1.1\r\n", 16, "refused 1002") == 2); /* WF-30 */
    CHECK(expect("\x81\x00", 2, "refused 1002") == 2);             /* WF-01, WF-02 */
    CHECK(expect("\x88\x00", 2, "refused 1002") == 2);
}

/* ---- Masks, and what we write ---- */

static void test_unmask(void)
{
    char text[320], copy[320];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7 + 3);
    for (size_t offset = 0; offset < 16; offset++)
        for (size_t length = 0; length <= 300; length++) { /* WF-31 */
            size_t at = length % 5;
            memcpy(copy, text, sizeof text);
            ck_ws_unmask(copy + offset, length, key, at);
            bool right = memcmp(copy, text, offset) == 0
                && memcmp(copy + offset + length, text + offset + length, sizeof text - offset - length) == 0;
            for (size_t i = 0; i < length; i++)
                right &= copy[offset + i] == (char)(text[offset + i] ^ (char)key[(at + i) % 4]);
            CHECK(right);
        }
}

static void test_headers_written(void)
{
    static const struct {
        uint64_t length;
        size_t header;
        const char *bytes;
    } headers[] = {
        {0, 2, "\x81\x00"}, {125, 2, "\x81\x7D"}, {126, 4, "\x81\x7E\x00\x7E"}, {65535, 4, "\x81\x7E\xFF\xFF"},
        {65536, 10, "\x81\x7F\0\0\0\0\0\1\0\0"}, {0x0102030405060708, 10, "\x81\x7F\1\2\3\4\5\6\7\x08"},
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        char out[CK_WS_HEADER_MAX];
        CHECK(ck_ws_put_header(out, CK_WS_FIN | CK_WS_TEXT, headers[i].length) == headers[i].header);
        CHECK(memcmp(out, headers[i].bytes, headers[i].header) == 0);
    }
}

int main(void)
{
    memory = guarded_create(sizeof built);
    test_messages();
    test_fragments();
    test_text_across_fragments();
    test_text_fails_fast();
    test_control();
    test_length_forms();
    test_huge_lengths();
    test_limit();
    test_many_fragments();
    test_every_pair_in_every_state();
    deflate = true;
    test_every_pair_in_every_state();
    test_compressed_messages();
    deflate = false;
    test_every_close_code();
    test_close();
    test_http_bytes();
    test_unmask();
    test_headers_written();
    free(seen.message);
    return checks_done();
}
