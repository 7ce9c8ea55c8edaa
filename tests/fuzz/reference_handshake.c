/* See reference_handshake.h. Every rule goes over all fields again: slow, and each one to be read alone. */
#include "reference_handshake.h"

#include <string.h>

enum { KEY_BYTES = 16 };

/* ---- Fields and lists ---- */

static bool is_named(const reference_head *head, const char *data, size_t field, const char *lower)
{
    return reference_equals(data + head->fields[field].name.offset, head->fields[field].name.length, lower);
}

static size_t count_named(const reference_head *head, const char *data, const char *lower)
{
    size_t count = 0;
    for (size_t i = 0; i < head->field_count; i++)
        count += is_named(head, data, i, lower);
    return count;
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Item number `wanted` of a list, without the white space around it. Returns false when there are fewer. */
static bool item_of(const char *data, reference_span list, size_t wanted, reference_span *item)
{
    size_t start = list.offset, end = list.offset + list.length, number = 0;
    for (size_t at = list.offset; at < end; at++) {
        if (data[at] != ',')
            continue;
        if (number++ == wanted) {
            end = at;
            break;
        }
        start = at + 1;
    }
    if (number < wanted)
        return false;
    while (start < end && is_blank(data[start]))
        start++;
    while (end > start && is_blank(data[end - 1]))
        end--;
    *item = (reference_span){start, end - start};
    return true;
}

/* Whether some field of the name has the item, in any case. */
static bool lists(const reference_head *head, const char *data, const char *name, const char *lower)
{
    reference_span item;
    for (size_t i = 0; i < head->field_count; i++)
        for (size_t n = 0; is_named(head, data, i, name) && item_of(data, head->fields[i].value, n, &item); n++)
            if (reference_equals(data + item.offset, item.length, lower))
                return true;
    return false;
}

/* ---- What must be there ---- */

/* RFC 6455 S4.2.1, 6; RFC 9110 S7.8: Upgrade counts where Connection names it, and not in HTTP/1.0. */
static bool asks(const reference_head *head, const char *data)
{
    return head->minor > 0 && lists(head, data, "connection", "upgrade") && lists(head, data, "upgrade", "websocket");
}

static int judge_version(const reference_head *head, const char *data)
{
    size_t count = count_named(head, data, "sec-websocket-version");
    if (count == 0)
        return 400;
    for (size_t i = 0; i < head->field_count; i++)
        if (is_named(head, data, i, "sec-websocket-version")
            && !reference_equals(data + head->fields[i].value.offset, head->fields[i].value.length, "13"))
            return 426; /* S4.4 */
    return count == 1 ? 0 : 426;
}

/* RFC 4648 S4: the value of a letter, -1 for a byte that is none. */
static int base64_value(char byte)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = byte ? strchr(letters, byte) : NULL;
    return found ? (int)(found - letters) : -1;
}

/* Returns how many bytes the text stands for, -1 when it is no base64. */
static int decoded_length(const char *text, size_t length)
{
    int letters = 0, pads = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '=')
            pads++;
        else if (base64_value(text[i]) < 0 || pads > 0)
            return -1;
        else
            letters++;
    }
    if ((letters + pads) % 4 != 0 || pads > 2)
        return -1;
    return letters * 6 / 8;
}

/* S4.2.1, 5 */
static bool find_key(const reference_head *head, const char *data, reference_span *key)
{
    size_t count = 0;
    for (size_t i = 0; i < head->field_count; i++)
        if (is_named(head, data, i, "sec-websocket-key")) {
            *key = head->fields[i].value;
            count++;
        }
    return count == 1 && decoded_length(data + key->offset, key->length) == KEY_BYTES;
}

/* ---- Subprotocols, S4.1, 10 ---- */

static bool is_token(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!reference_is_token(text[i]))
            return false;
    return length > 0;
}

static bool same_bytes(const char *data, reference_span a, reference_span b)
{
    return a.length == b.length && memcmp(data + a.offset, data + b.offset, a.length) == 0;
}

/* Tokens, none of them twice, of all fields together; more than REFERENCE_PROTOCOLS are too many. */
static bool collect_protocols(reference_handshake *judged, const reference_head *head, const char *data)
{
    reference_span item;
    for (size_t i = 0; i < head->field_count; i++)
        for (size_t n = 0; is_named(head, data, i, "sec-websocket-protocol") && item_of(data, head->fields[i].value, n, &item); n++) {
            if (judged->protocol_count == REFERENCE_PROTOCOLS || !is_token(data + item.offset, item.length))
                return false;
            judged->protocols[judged->protocol_count++] = item;
        }
    for (size_t i = 0; i < judged->protocol_count; i++)
        for (size_t k = 0; k < i; k++)
            if (same_bytes(data, judged->protocols[i], judged->protocols[k]))
                return false;
    return true;
}

/* ---- Extensions, S9.1 ---- */

/* Where the quoted string that begins at `at` ends; 0 when it is none, or its content is no token. */
static size_t quoted_end(const char *text, size_t length, size_t at)
{
    size_t content = 0;
    for (at++; at < length && text[at] != '"'; at++, content++) {
        if (text[at] == '\\')
            at++;
        if (at == length || !reference_is_token(text[at]))
            return 0;
    }
    return at < length && content > 0 ? at + 1 : 0;
}

/* Writes a value as one letter a lexeme: t for a token, q for a quoted one, and the marks themselves. Returns false for
 * what is no lexeme. */
static bool shape_of(const char *text, size_t length, char *shape)
{
    for (size_t at = 0; at < length;) {
        if (is_blank(text[at])) {
            at++;
        } else if (text[at] == '"') {
            at = quoted_end(text, length, at);
            if (at == 0)
                return false;
            *shape++ = 'q';
        } else if (reference_is_token(text[at])) {
            while (at < length && reference_is_token(text[at]))
                at++;
            *shape++ = 't';
        } else if (text[at] == ',' || text[at] == ';' || text[at] == '=') {
            *shape++ = text[at++];
        } else {
            return false;
        }
    }
    *shape = '\0';
    return true;
}

/* extension-list: a token begins it and follows a comma or a semicolon; "=" stands behind the token of a parameter, and
 * before a value, behind which a list goes on. */
static bool is_extension_list(const char *shape)
{
    bool parameter = false, valued = false;
    for (const char *at = shape; *at != '\0'; at++) {
        char before = at == shape ? ',' : at[-1];
        switch (*at) {
        case 't':
            if (before == 't' || before == 'q')
                return false;
            parameter = before == ';' || (before == '=' && parameter);
            valued = before == '=';
            break;
        case 'q':
            if (before != '=')
                return false;
            valued = true;
            break;
        case '=':
            if (before != 't' || !parameter || valued)
                return false;
            break;
        default:
            if (before != 't' && before != 'q')
                return false;
        }
    }
    size_t length = strlen(shape);
    return length > 0 && (shape[length - 1] == 't' || shape[length - 1] == 'q');
}

static bool extensions_readable(const reference_head *head, const char *data)
{
    static char shape[65536];
    for (size_t i = 0; i < head->field_count; i++) {
        const reference_span value = head->fields[i].value;
        if (is_named(head, data, i, "sec-websocket-extensions")
            && (value.length >= sizeof shape || !shape_of(data + value.offset, value.length, shape) || !is_extension_list(shape)))
            return false;
    }
    return true;
}

void reference_handshake_judge(reference_handshake *judged, const reference_head *head, const char *data)
{
    *judged = (reference_handshake){.wanted = asks(head, data)};
    bool body = head->framing.chunked || head->framing.content_length > 0;
    bool get = head->method.length == 3 && memcmp(data + head->method.offset, "GET", 3) == 0;
    judged->status = get && !body ? judge_version(head, data) : 400;
    if (judged->status == 0
        && !(find_key(head, data, &judged->key) && collect_protocols(judged, head, data) && extensions_readable(head, data)))
        judged->status = 400;
}

/* ---- The answer ---- */

static uint32_t rotated(uint32_t word, int bits)
{
    return word << bits | word >> (32 - bits);
}

/* RFC 3174 S6.1, of one block. */
static void sha1_block(uint32_t h[5], const uint8_t block[64])
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int t = 0; t < 80; t++) {
        if (t < 16)
            w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 | (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
        else
            w[t] = rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
        uint32_t f = t < 20 ? (b & c) | (~b & d) : t < 40 ? b ^ c ^ d : t < 60 ? (b & c) | (b & d) | (c & d) : b ^ c ^ d;
        uint32_t k = t < 20 ? 0x5A827999 : t < 40 ? 0x6ED9EBA1 : t < 60 ? 0x8F1BBCDC : 0xCA62C1D6;
        uint32_t next = (uint32_t)((uint64_t)rotated(a, 5) + f + e + w[t] + k);
        e = d, d = c, c = rotated(b, 30), b = a, a = next;
    }
    const uint32_t ends[] = {a, b, c, d, e};
    for (int i = 0; i < 5; i++)
        h[i] = (uint32_t)((uint64_t)h[i] + ends[i]);
}

void reference_accept(const char *key, char accept[29])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t blocks[128] = {0};
    uint32_t h[5] = {0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0};
    memcpy(blocks, key, 24);
    memcpy(blocks + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    blocks[60] = 0x80;
    blocks[126] = 480 / 256; /* bits */
    blocks[127] = 480 % 256;
    sha1_block(h, blocks);
    sha1_block(h, blocks + 64);
    for (int letter = 0; letter < 27; letter++) { /* six bits each, one after another */
        unsigned value = 0;
        for (int bit = letter * 6; bit < letter * 6 + 6; bit++)
            value = value * 2 + (bit < 160 ? h[bit / 32] >> (31 - bit % 32) & 1 : 0);
        accept[letter] = letters[value];
    }
    accept[27] = '=';
    accept[28] = '\0';
}
