/* The byte classes against the grammar, and every search against a plain loop:
 * each byte value at each place of inputs of each length, at protected pages. */
#include "scan.h"

#include "check.h"

enum { LONGEST = 36 };

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static int among(int byte, const char *set)
{
    return byte != 0 && byte < 0x80 && strchr(set, byte) != NULL;
}

/* The classes as the RFCs list them. */
static unsigned expected_classes(int byte)
{
    unsigned classes = 0;
    if (among(byte, LETTERS DIGITS "!#$%&'*+-.^_`|~"))
        classes |= CK_IN_TOKEN;
    if (among(byte, LETTERS DIGITS "-._~" "!$&'()*+,;=" ":@" "/"))
        classes |= CK_IN_PATH | CK_IN_QUERY;
    if (among(byte, "?\"[]^{|}"))
        classes |= CK_IN_QUERY;
    if (byte == '\t' || (byte >= ' ' && byte != 0x7F))
        classes |= CK_IN_VALUE;
    if (among(byte, LETTERS DIGITS "-._~" ":[]"))
        classes |= CK_IN_HOST;
    if (among(byte, DIGITS "abcdefABCDEF"))
        classes |= CK_IN_HEX;
    if (among(byte, DIGITS))
        classes |= CK_IN_DIGIT;
    return classes;
}

static unsigned expected[256]; /* filled first */

static const struct {
    const char *name;
    size_t (*search)(const char *data, size_t length);
    unsigned class;
    char filler[3]; /* members of the class: usual, and unusual to the block search */
} searches[] = {
    {"token", ck_scan_token, CK_IN_TOKEN, {'a', '|', '-'}},
    {"path", ck_scan_path, CK_IN_PATH, {'a', '~', '/'}},
    {"query", ck_scan_query, CK_IN_QUERY, {'=', '?', '"'}},
    {"value", ck_scan_value, CK_IN_VALUE, {'x', '\t', (char)0xFF}},
};

static size_t plain_search(const char *data, size_t length, unsigned class)
{
    size_t at = 0;
    while (at < length && (expected[(uint8_t)data[at]] & class))
        at++;
    return at;
}

static void test_classes(void)
{
    for (int byte = 0; byte < 256; byte++)
        CHECK(ck_byte_classes[byte] == (expected[byte] = expected_classes(byte)));
    CHECK(ck_byte_is((char)0x80, CK_IN_VALUE) && !ck_byte_is((char)0x80, CK_IN_TOKEN));
}

static void test_every_byte_everywhere(const struct guarded *memory)
{
    char text[LONGEST];
    for (size_t s = 0; s < sizeof searches / sizeof *searches; s++)
        for (int f = 0; f < 3; f++)
            for (size_t length = 0; length <= LONGEST; length++)
                for (size_t place = 0; place <= length; place++) {
                    memset(text, searches[s].filler[f], sizeof text);
                    int matching = 0, bytes = place == length ? 1 : 256;
                    for (int byte = 0; byte < bytes; byte++) {
                        if (place < length)
                            text[place] = (char)byte;
                        size_t stop = plain_search(text, length, searches[s].class);
                        const char *end = guarded_at_end(memory, text, length);
                        matching += searches[s].search(end, length) == stop;
                        const char *start = guarded_at_start(memory, text, length);
                        matching += searches[s].search(start, length) == stop;
                    }
                    CHECK_FOR(searches[s].name, matching == 2 * bytes);
                }
}

static void test_random(const struct guarded *memory)
{
    uint32_t state = 2463534242U;
    char text[LONGEST];
    for (int round = 0; round < 200000; round++) {
        for (size_t i = 0; i < sizeof text; i++) {
            state ^= state << 13, state ^= state >> 17, state ^= state << 5;
            text[i] = state & 0x1F00 ? searches[round % 4].filler[state % 3] : (char)(state & 0xFF);
        }
        size_t length = state % (LONGEST + 1);
        const char *end = guarded_at_end(memory, text, length);
        CHECK(searches[round % 4].search(end, length) == plain_search(text, length, searches[round % 4].class));
    }
}

int main(void)
{
    struct guarded memory = guarded_create(LONGEST);
    test_classes();
    test_every_byte_everywhere(&memory);
    test_random(&memory);
    return checks_done();
}
