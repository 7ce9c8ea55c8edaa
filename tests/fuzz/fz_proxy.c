/* Fuzzes the reader of the PROXY protocol: every beginning of an input gives what the
 * whole does, or asks for more, and what is read is what a naive reader sees, which
 * looks at the whole input and takes it apart by its words. */
#include "fuzz.h"
#include "proxy_protocol.h"

#include <arpa/inet.h>

enum { LINE_MAX_BYTES = 107, WORDS = 6 };

/* Returns whether the words of a line name addresses, by the grammar of the text. */
static bool naive_words(char *words[], int count, ck_proxied *out)
{
    bool four = strcmp(words[1], "TCP4") == 0;
    int family = four ? AF_INET : AF_INET6;
    uint8_t own[16];
    unsigned long ports[2];
    if (count != WORDS || (!four && strcmp(words[1], "TCP6") != 0))
        return false;
    if (inet_pton(family, words[2], out->address) != 1 || inet_pton(family, words[3], own) != 1)
        return false;
    for (int i = 0; i < 2; i++) {
        char back[24];
        ports[i] = strtoul(words[4 + i], NULL, 10);
        snprintf(back, sizeof back, "%lu", ports[i]);
        if (strcmp(back, words[4 + i]) != 0 || ports[i] > 65535)
            return false;
    }
    out->port = (uint16_t)ports[0];
    out->length = four ? 4 : 16;
    return true;
}

static int naive_line(const char *data, size_t length, ck_proxied *out)
{
    char line[LINE_MAX_BYTES + 1] = {0}, *words[WORDS + 1];
    size_t end = 0;
    int count = 0;
    while (end < length && data[end] != '\r')
        end++;
    if (end + 2 > LINE_MAX_BYTES || end + 2 > length)
        return length >= LINE_MAX_BYTES || end + 2 > LINE_MAX_BYTES ? CK_PROXY_BAD : CK_PROXY_MORE;
    if (data[end + 1] != '\n' || memchr(data, '\0', end))
        return data[end + 1] == '\n' && end >= 13 && memcmp(data, "PROXY UNKNOWN", 13) == 0 && (end == 13 || data[13] == ' ')
            ? (int)end + 2 : CK_PROXY_BAD;
    memcpy(line, data, end);
    for (char *at = line; at && count <= WORDS; count++) {
        words[count] = at;
        at = strchr(at, ' ');
        if (at)
            *at++ = '\0';
    }
    bool unknown = count >= 2 && strcmp(words[1], "UNKNOWN") == 0;
    return unknown || (count >= 2 && naive_words(words, count, out)) ? (int)end + 2 : CK_PROXY_BAD;
}

static int naive_binary(const uint8_t *data, size_t length, ck_proxied *out)
{
    static const size_t needs[] = {0, 12, 36, 216};
    if (length >= 13 && data[12] != 0x20 && data[12] != 0x21)
        return CK_PROXY_BAD;
    if (length < 16)
        return CK_PROXY_MORE;
    size_t rest = (size_t)data[14] * 256 + data[15];
    if (rest > CK_PROXY_BLOCK_MAX)
        return CK_PROXY_BAD;
    if (length - 16 < rest)
        return CK_PROXY_MORE;
    if (data[12] == 0x21) {
        if (data[13] >= 0x40 || data[13] % 16 > 2 || rest < needs[data[13] / 16])
            return CK_PROXY_BAD;
        if (data[13] == 0x11 || data[13] == 0x21) {
            out->length = data[13] == 0x11 ? 4 : 16;
            memcpy(out->address, data + 16, out->length);
            out->port = (uint16_t)(data[16 + 2 * out->length] * 256 + data[17 + 2 * out->length]);
        }
    }
    return (int)(16 + rest);
}

static int naive(const char *data, size_t length, ck_proxied *out)
{
    static const char binary[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};
    memset(out, 0, sizeof *out);
    size_t text_part = length < 6 ? length : 6, binary_part = length < 12 ? length : 12;
    int result = CK_PROXY_BAD;
    if (strncmp(data, "PROXY ", text_part) == 0)
        result = length < 7 ? CK_PROXY_MORE : naive_line(data, length, out);
    else if (memcmp(data, binary, binary_part) == 0)
        result = naive_binary((const uint8_t *)data, length, out);
    if (result <= 0)
        memset(out, 0, sizeof *out);
    return result;
}

static void demand_same(const ck_proxied *a, const ck_proxied *b)
{
    DEMAND(a->length == b->length && a->port == b->port && memcmp(a->address, b->address, sizeof a->address) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    ck_proxied found, wanted, early;
    char *whole = fuzz_copy((const char *)input, size);
    int result = ck_proxy_parse(whole, size, &found);
    DEMAND(result >= CK_PROXY_BAD && result <= (int)size);
    DEMAND(naive(whole, size, &wanted) == result);
    demand_same(&found, &wanted);
    free(whole);
    for (size_t cut = size; cut-- > 0;) {
        char *part = fuzz_copy((const char *)input, cut);
        int before = ck_proxy_parse(part, cut, &early);
        free(part);
        if (result > 0 && cut >= (size_t)result) {
            DEMAND(before == result);
            demand_same(&early, &found);
        } else if (before != CK_PROXY_MORE) {
            DEMAND(before == CK_PROXY_BAD && result == CK_PROXY_BAD);
        }
        if (cut > 300 && cut + 40 < size)
            cut -= cut % 29; /* of a long input not every split */
    }
    return 0;
}
