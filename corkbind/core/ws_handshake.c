/* The checks of the opening handshake.
 *
 * What the head parser knows already is not looked at again: it refuses a second
 * key, and it has found out whether Connection names Upgrade. Extensions are the
 * business of ws_extensions.c. */
#include "ws_handshake.h"

#include "sha1.h"
#include "ws_extensions.h"
#include "ws_fields.h"

/* Takes the next item of a comma-separated list. Returns false when there is none. */
static bool next_item(struct rest *list, struct rest *item)
{
    if (!list->at)
        return false;
    const char *comma = list->length ? memchr(list->at, ',', list->length) : NULL;
    *item = (struct rest){list->at, comma ? (size_t)(comma - list->at) : list->length};
    *list = comma ? (struct rest){comma + 1, list->length - item->length - 1} : (struct rest){NULL, 0};
    trim(&item->at, &item->length);
    return true;
}

bool ck_ws_wanted(const ck_head *head, const char *data)
{
    if (!head->upgrade)
        return false;
    for (EACH_FIELD(head, data, "upgrade", field)) {
        struct rest list = value_of(head, data, field), item;
        while (next_item(&list, &item))
            if (is_text(item.at, item.length, "websocket"))
                return true;
    }
    return false;
}

/* S4.2.1: exactly "13", in one field. */
static int check_version(const ck_head *head, const char *data)
{
    static const char name[] = "sec-websocket-version";
    int field = ck_head_find(head, data, name, sizeof name - 1, 0);
    if (field < 0)
        return 400;
    struct rest version = value_of(head, data, field);
    bool single = ck_head_find(head, data, name, sizeof name - 1, field + 1) < 0;
    return single && is_text(version.at, version.length, "13") ? 0 : 426;
}

static bool is_base64(char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || ck_byte_is(byte, CK_IN_DIGIT) || byte == '+'
        || byte == '/';
}

/* S4.1: sixteen bytes in base64. */
static bool key_valid(const ck_head *head, const char *data)
{
    static const char name[] = "sec-websocket-key";
    int field = ck_head_find(head, data, name, sizeof name - 1, 0);
    if (field < 0)
        return false;
    struct rest key = value_of(head, data, field);
    if (key.length != CK_WS_KEY_LENGTH || memcmp(key.at + CK_WS_KEY_LENGTH - 2, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < CK_WS_KEY_LENGTH - 2; i++)
        if (!is_base64(key.at[i]))
            return false;
    return true;
}

static bool is_token(const struct rest *text)
{
    return text->length > 0 && ck_scan_token(text->at, text->length) == text->length;
}

/* S4.1: tokens, each once. */
static bool protocols_valid(const ck_head *head, const char *data)
{
    struct rest offered[CK_WS_PROTOCOLS_MAX];
    size_t count = 0;
    for (EACH_FIELD(head, data, "sec-websocket-protocol", field)) {
        struct rest list = value_of(head, data, field), item;
        while (next_item(&list, &item)) {
            if (count == CK_WS_PROTOCOLS_MAX || !is_token(&item))
                return false;
            for (size_t i = 0; i < count; i++)
                if (offered[i].length == item.length && memcmp(offered[i].at, item.at, item.length) == 0)
                    return false;
            offered[count++] = item;
        }
    }
    return true;
}

bool ck_ws_offers(const ck_head *head, const char *data, const char *name, size_t length)
{
    for (EACH_FIELD(head, data, "sec-websocket-protocol", field)) {
        struct rest list = value_of(head, data, field), item;
        while (next_item(&list, &item))
            if (item.length == length && memcmp(item.at, name, length) == 0)
                return true;
    }
    return false;
}

/* S4.2.1; that it is HTTP/1.1 is seen to by ck_ws_wanted. */
int ck_ws_handshake_check(const ck_head *head, const char *data)
{
    bool bodiless = !head->chunked && head->content_length <= 0;
    if (head->method != CK_GET || !bodiless)
        return 400;
    int refusal = check_version(head, data);
    if (refusal)
        return refusal;
    bool valid = key_valid(head, data) && protocols_valid(head, data) && ck_ws_extensions_valid(head, data);
    return valid ? 0 : 400;
}

/* ---- The answer ---- */

/* RFC 4648 S4, for lengths that leave two bytes over. */
static void put_base64(char *out, const uint8_t *bytes, size_t length)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        uint32_t third = i + 2 < length ? bytes[i + 2] : 0;
        uint32_t group = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | third;
        *out++ = letters[group >> 18];
        *out++ = letters[group >> 12 & 63];
        *out++ = letters[group >> 6 & 63];
        *out++ = i + 2 < length ? letters[group & 63] : '=';
    }
}

/* S1.3 */
void ck_ws_accept(const char key[CK_WS_KEY_LENGTH], char accept[CK_WS_ACCEPT_LENGTH])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[CK_WS_KEY_LENGTH + sizeof guid - 1];
    uint8_t digest[CK_SHA1_LENGTH];
    memcpy(text, key, CK_WS_KEY_LENGTH);
    memcpy(text + CK_WS_KEY_LENGTH, guid, sizeof guid - 1);
    ck_sha1(text, sizeof text, digest);
    put_base64(accept, digest, sizeof digest);
}
