/* Reads the header that a proxy sends first on a connection.
 *
 * A header is read anew from its first byte whenever bytes come: it is short, and so
 * its reading cannot depend on how it was split. What can be no header is refused at
 * the first byte that shows it. */
#include "proxy_protocol.h"

#include <arpa/inet.h>
#include <string.h>

#include "scan.h"

enum { SIGNATURE_LENGTH = 12, FIXED_LENGTH = 16, ADDRESS_TEXT_MAX = 45 };

static const char line_start[] = "PROXY ";
static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* ---- Version 1: a line of text ---- */

/* What is left of a line. */
typedef struct words {
    const char *at;
    const char *end;
} words;

/* Takes a word and the space behind it, or the last word. */
static bool next_word(words *line, bool last, const char **word, size_t *length)
{
    size_t left = (size_t) (line->end - line->at);
    const char *space = memchr(line->at, ' ', left);
    if (last != !space) {
        return false;
    }
    *word = line->at;
    *length = space ? (size_t) (space - line->at) : left;
    line->at = space ? space + 1 : line->end;
    return true;
}

static bool read_address(words *line, int family, uint8_t *out)
{
    const char *word;
    size_t length;
    char text[ADDRESS_TEXT_MAX + 1];
    if (!next_word(line, false, &word, &length) || length > ADDRESS_TEXT_MAX || memchr(word, '\0', length)) {
        return false;
    }
    memcpy(text, word, length);
    text[length] = '\0';
    return inet_pton(family, text, out) == 1;
}

static bool read_port(words *line, bool last, uint16_t *out)
{
    const char *word;
    size_t length;
    unsigned port = 0;
    if (!next_word(line, last, &word, &length) || length == 0 || length > 5 || (length > 1 && word[0] == '0')) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!ck_byte_is(word[i], CK_IN_DIGIT)) {
            return false;
        }
        port = port * 10 + (unsigned) (word[i] - '0');
    }
    *out = (uint16_t) port;
    return port <= UINT16_MAX;
}

static bool read_line(words line, ck_proxied *out)
{
    size_t length = (size_t) (line.end - line.at);
    if (length >= 7 && memcmp(line.at, "UNKNOWN", 7) == 0) {
        return length == 7 || line.at[7] == ' '; /* the rest is not to be looked at */
    }
    bool tcp4 = length > 5 && memcmp(line.at, "TCP4 ", 5) == 0;
    if (!tcp4 && (length <= 5 || memcmp(line.at, "TCP6 ", 5) != 0)) {
        return false;
    }
    line.at += 5;
    int family = tcp4 ? AF_INET : AF_INET6;
    uint8_t own[16];
    uint16_t own_port;
    if (!read_address(&line, family, out->address) || !read_address(&line, family, own)
        || !read_port(&line, false, &out->port) || !read_port(&line, true, &own_port)) {
        return false;
    }
    out->length = tcp4 ? 4 : 16;
    return true;
}

static int parse_line(const char *data, size_t length, ck_proxied *out)
{
    size_t most = CK_PROXY_LINE_MAX - 1; /* where the CR may stand at the latest */
    const char *end = memchr(data, '\r', length < most ? length : most);
    if (!end) {
        return length < most ? CK_PROXY_MORE : CK_PROXY_BAD;
    }
    if (end + 1 == data + length) {
        return CK_PROXY_MORE;
    }
    if (end[1] != '\n' || !read_line((words) {data + sizeof(line_start) - 1, end}, out)) {
        return CK_PROXY_BAD;
    }
    return (int) (end + 2 - data);
}

/* ---- Version 2: binary ---- */

enum { LOCAL = 0x20, PROXY = 0x21, INET = 1, INET6 = 2, UNIX = 3, STREAM = 1, DATAGRAM = 2 };

static uint16_t number_at(const uint8_t *at)
{
    return (uint16_t) (at[0] << 8 | at[1]);
}

/* Reads the addresses of a stream; what is behind them are extensions, which are
 * skipped. Other kinds tell no address that is of use. */
static bool read_block(uint8_t kind, const uint8_t *block, size_t length, ck_proxied *out)
{
    static const size_t least[] = {0, 12, 36, 216};
    unsigned family = kind >> 4, transport = kind & 15;
    if (family > UNIX || transport > DATAGRAM || length < least[family]) {
        return false;
    }
    if (transport == STREAM && (family == INET || family == INET6)) {
        size_t size = family == INET ? 4 : 16;
        memcpy(out->address, block, size);
        out->port = number_at(block + 2 * size);
        out->length = (uint8_t) size;
    }
    return true;
}

static int parse_binary(const uint8_t *data, size_t length, ck_proxied *out)
{
    if (length < FIXED_LENGTH) {
        return length > SIGNATURE_LENGTH && data[12] != LOCAL && data[12] != PROXY ? CK_PROXY_BAD : CK_PROXY_MORE;
    }
    size_t block = number_at(data + 14);
    if ((data[12] != LOCAL && data[12] != PROXY) || block > CK_PROXY_BLOCK_MAX) {
        return CK_PROXY_BAD;
    }
    if (length < FIXED_LENGTH + block) {
        return CK_PROXY_MORE;
    }
    bool local = data[12] == LOCAL; /* the proxy's own connection: its addresses are to be skipped */
    return local || read_block(data[13], data + FIXED_LENGTH, block, out) ? (int) (FIXED_LENGTH + block) : CK_PROXY_BAD;
}

static bool begins(const char *data, size_t length, const char *wanted, size_t wanted_length)
{
    return memcmp(data, wanted, length < wanted_length ? length : wanted_length) == 0;
}

int ck_proxy_parse(const char *data, size_t length, ck_proxied *out)
{
    memset(out, 0, sizeof(*out));
    if (length == 0) {
        return CK_PROXY_MORE;
    }
    int result = CK_PROXY_BAD;
    if (begins(data, length, line_start, sizeof(line_start) - 1)) {
        result = length < sizeof(line_start) ? CK_PROXY_MORE : parse_line(data, length, out);
    } else if (begins(data, length, signature, SIGNATURE_LENGTH)) {
        result = parse_binary((const uint8_t *) data, length, out);
    }
    if (result <= 0) {
        memset(out, 0, sizeof(*out));
    }
    return result;
}

/* ---- Who may send it ---- */

static bool holds(const ck_network *network, const uint8_t *address)
{
    size_t bytes = network->bits / 8;
    unsigned rest = network->bits % 8;
    unsigned mask = 0xff00u >> rest & 0xff;
    return memcmp(network->address, address, bytes) == 0
        && (!rest || (network->address[bytes] & mask) == (address[bytes] & mask));
}

bool ck_networks_hold(const ck_network *networks, size_t count, const char *address, size_t length)
{
    uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    if (length != 4 && length != 16) {
        return false;
    }
    memcpy(mapped + sizeof(mapped) - length, address, length);
    for (size_t i = 0; i < count; i++) {
        if (holds(&networks[i], mapped)) {
            return true;
        }
    }
    return false;
}
