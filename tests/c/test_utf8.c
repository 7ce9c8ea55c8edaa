/* The UTF-8 check against a decoder that works in code points: every sequence of up
 * to three bytes, four bytes around every edge, each place in a text, each split. */
#include "utf8.h"

#include "check.h"

enum { LONGEST = 40 };

/* What a decoder would say of a whole input: the bytes in front of the first impossible
 * one, and whether a character is cut off at the end. */
struct verdict {
    size_t valid;
    int complete;
};

/* Whether some character is encoded by bytes that begin so. All that could follow are
 * between the same bytes filled up with the least and with the greatest continuation. */
static int begins_character(const uint8_t *bytes, size_t have, size_t need)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t low = bytes[0] & (0xFFU >> (need + 1)), high = low;
    for (size_t i = 1; i < need; i++) {
        if (i < have && (bytes[i] & 0xC0) != 0x80)
            return 0;
        low = low << 6 | (i < have ? bytes[i] & 0x3FU : 0);
        high = high << 6 | (i < have ? bytes[i] & 0x3FU : 0x3F);
    }
    if (high < least[need] || low > 0x10FFFF)
        return 0;
    return !(low >= 0xD800 && high <= 0xDFFF);
}

static struct verdict decode(const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    while (at < length) {
        uint8_t lead = bytes[at];
        size_t need = lead < 0x80 ? 1 : lead < 0xC0 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF8 ? 4 : 0;
        if (need == 0)
            return (struct verdict){at, 1};
        for (size_t have = 1; have <= need && need > 1; have++) {
            if (at + have > length)
                return (struct verdict){length, 0};
            if (!begins_character(bytes + at, have, need))
                return (struct verdict){at + have - 1, 0};
        }
        at += need;
    }
    return (struct verdict){length, 1};
}

/* Whether the check agrees when the bytes come in two pieces. */
static int agrees_cut(const uint8_t *bytes, size_t length, size_t cut, struct verdict expected)
{
    ck_utf8 text = {0, 0, 0};
    size_t valid = ck_utf8_check(&text, (const char *)bytes, cut);
    if (valid == cut)
        valid += ck_utf8_check(&text, (const char *)bytes + cut, length - cut);
    return valid == expected.valid && (valid < length || ck_utf8_complete(&text) == expected.complete);
}

/* The same of the whole, and with a cut at each place. */
static int agrees(const uint8_t *bytes, size_t length)
{
    struct verdict expected = decode(bytes, length);
    int agreed = 1;
    for (size_t cut = 0; cut <= length; cut++)
        agreed &= agrees_cut(bytes, length, cut, expected);
    return agreed;
}

static void test_all_up_to_three_bytes(void)
{
    CHECK(agrees((const uint8_t *)"", 0));
    for (unsigned first = 0; first < 256; first++) {
        int agreed = agrees((uint8_t[]){(uint8_t)first}, 1);
        for (unsigned second = 0; second < 256; second++) {
            agreed &= agrees((uint8_t[]){(uint8_t)first, (uint8_t)second}, 2);
            for (unsigned third = 0; third < 256; third++) { /* one cut each: sixteen million sequences */
                uint8_t bytes[] = {(uint8_t)first, (uint8_t)second, (uint8_t)third};
                agreed &= agrees_cut(bytes, 3, third % 3, decode(bytes, 3));
            }
        }
        CHECK(agreed);
    }
}

/* Bytes on both sides of every edge that RFC 3629 names. */
static const uint8_t edges[] = {
    0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1,
    0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF,
};

static void test_four_and_five_bytes_at_edges(void)
{
    uint8_t bytes[5];
    for (size_t a = 0; a < sizeof edges; a++) {
        int agreed = 1;
        for (size_t b = 0; b < sizeof edges; b++)
            for (size_t c = 0; c < sizeof edges; c++)
                for (size_t d = 0; d < sizeof edges; d++) {
                    bytes[0] = edges[a], bytes[1] = edges[b], bytes[2] = edges[c], bytes[3] = edges[d];
                    bytes[4] = 0x80; /* one more than any character has */
                    agreed &= agrees(bytes, 4) & agrees(bytes, 5);
                }
        CHECK(agreed);
    }
}

static size_t encode(uint32_t point, uint8_t *out)
{
    if (point < 0x80)
        return out[0] = (uint8_t)point, 1;
    size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; point >>= 6)
        out[i] = (uint8_t)(0x80 | (point & 0x3F));
    out[0] = (uint8_t)(0xF00U >> length | point);
    return length;
}

static void test_every_code_point(void)
{
    uint8_t bytes[4];
    int accepted = 1, refused = 1;
    for (uint32_t point = 0; point < 0x110000; point++) {
        ck_utf8 text = {0, 0, 0};
        size_t length = encode(point, bytes);
        size_t valid = ck_utf8_check(&text, (const char *)bytes, length);
        if (point >= 0xD800 && point <= 0xDFFF)
            refused &= valid == 1;
        else
            accepted &= valid == length && ck_utf8_complete(&text);
    }
    CHECK(accepted);
    CHECK(refused);
}

/* Known answers, so that the reference is not judged by itself alone. */
static void test_known(void)
{
    static const struct {
        const char *text;
        size_t length, valid;
        int complete;
    } known[] = {
        {"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5", 11, 11, 1},
        {"\xC0\xAF", 2, 0, 0},
        {"\xE0\x80\xAF", 3, 1, 0},
        {"\xF0\x80\x80\x80", 4, 1, 0},
        {"\xED\xA0\x80", 3, 1, 0},
        {"\xED\x9F\xBF", 3, 3, 1},
        {"\xEE\x80\x80", 3, 3, 1},
        {"\xEF\xBF\xBE", 3, 3, 1},
        {"\xF4\x8F\xBF\xBF", 4, 4, 1},
        {"\xF4\x90\x80\x80", 4, 1, 0},
        {"a\0b", 3, 3, 1},
        {"\xF0\x9F\x98", 3, 3, 0},
        {"ab\x80", 3, 2, 1},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        ck_utf8 text = {0, 0, 0};
        CHECK(ck_utf8_check(&text, known[i].text, known[i].length) == known[i].valid);
        struct verdict verdict = decode((const uint8_t *)known[i].text, known[i].length);
        CHECK(verdict.valid == known[i].valid && verdict.complete == known[i].complete);
    }
}

/* Each character and each bad byte at each place of ASCII, where blocks are passed over, between pages that trap. */
static void test_every_place(const struct guarded *memory)
{
    static const char *const inserts[] = {
        "\x80", "\xFF", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xC3", "\xE2\x82", "\xED\xA0\x80", "\xC3\x41", "\x7F",
    };
    uint8_t bytes[LONGEST + 4];
    for (size_t i = 0; i < sizeof inserts / sizeof *inserts; i++) {
        size_t insert = strlen(inserts[i]);
        int agreed = 1;
        for (size_t length = insert; length <= LONGEST; length++)
            for (size_t place = 0; place + insert <= length; place++) {
                memset(bytes, 'a', sizeof bytes);
                memcpy(bytes + place, inserts[i], insert);
                agreed &= agrees((const uint8_t *)guarded_at_end(memory, (const char *)bytes, length), length);
                agreed &= agrees((const uint8_t *)guarded_at_start(memory, (const char *)bytes, length), length);
            }
        CHECK_FOR(inserts[i], agreed);
    }
}

static void test_random(const struct guarded *memory)
{
    uint32_t state = 2463534242U;
    uint8_t bytes[LONGEST + 4];
    for (int round = 0; round < 50000; round++) {
        size_t length = 0;
        while (length < LONGEST) {
            state ^= state << 13, state ^= state >> 17, state ^= state << 5;
            if ((state & 0xF000) == 0)
                bytes[length++] = edges[state % sizeof edges];
            else
                length += encode(state & 0x100 ? state % 0x80 : state % 0xD800, bytes + length);
        }
        CHECK(agrees((const uint8_t *)guarded_at_end(memory, (const char *)bytes, LONGEST), LONGEST));
    }
}

int main(void)
{
    struct guarded memory = guarded_create(LONGEST);
    test_known();
    test_all_up_to_three_bytes();
    test_four_and_five_bytes_at_edges();
    test_every_code_point();
    test_every_place(&memory);
    test_random(&memory);
    return checks_done();
}
