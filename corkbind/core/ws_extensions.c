/* The negotiation of permessage-deflate.
 *
 * A list of extensions that cannot be read is refused with its request, as any other
 * field that breaks its grammar. Of a list that can be read, offers are looked at in
 * order; one with a parameter that is unknown, twice there, or of a wrong value is
 * passed over, which S7.1 demands, and so is every extension of another name.
 *
 * What we want ourselves comes from the route's CompressOptions. A shared compressor or
 * decompressor keeps nothing between messages, so it is announced or demanded that
 * neither side does. A decompressor with a small window needs a client that can be told
 * so; one that cannot gets a shared one, which costs no more. */
#include "ws_extensions.h"

#include "ws_fields.h"

enum {
    SERVER_NO_TAKEOVER, CLIENT_NO_TAKEOVER, SERVER_BITS, CLIENT_BITS, PARAMETERS,
    VALUE_MAX = 8,  /* bytes of a parameter's value that are looked at; no good one has more */
    BITS_LEAST = 8, /* of a window, S7.1.2 */
    SHARED = 1,     /* in CompressOptions: a compressor, and a decompressor */
};

static const char *const names[PARAMETERS] = {
    "server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits",
};

/* A value without its quotes; `length` counts what does not fit as well. */
struct value {
    char text[VALUE_MAX];
    size_t length;
};

/* An offer of permessage-deflate. */
struct offer {
    bool has[PARAMETERS];
    uint8_t server_bits;
    uint8_t client_bits; /* 15 where the parameter has no value */
    bool bad;
};

/* ---- Grammar, RFC 6455 S9.1 ---- */

static void skip_blanks(struct rest *text)
{
    while (text->length > 0 && is_blank(text->at[0])) {
        text->at++;
        text->length--;
    }
}

/* Passes over one byte, and blanks before and behind it. */
static bool take_mark(struct rest *text, char mark)
{
    skip_blanks(text);
    if (text->length == 0 || text->at[0] != mark)
        return false;
    text->at++;
    text->length--;
    skip_blanks(text);
    return true;
}

static bool take_token(struct rest *text, struct rest *token)
{
    size_t length = ck_scan_token(text->at, text->length);
    *token = (struct rest){text->at, length};
    text->at += length;
    text->length -= length;
    return length > 0;
}

static void add_byte(struct value *value, char byte)
{
    if (value->length < VALUE_MAX)
        value->text[value->length] = byte;
    value->length++;
}

/* A quoted string whose content, without its backslashes, is a token. */
static bool take_quoted(struct rest *text, struct value *value)
{
    size_t at = 1;
    for (; at < text->length && text->at[at] != '"'; at++) {
        if (text->at[at] == '\\' && ++at == text->length)
            return false;
        if (!ck_byte_is(text->at[at], CK_IN_TOKEN))
            return false;
        add_byte(value, text->at[at]);
    }
    if (at == text->length || value->length == 0)
        return false;
    text->at += at + 1;
    text->length -= at + 1;
    return true;
}

static bool take_value(struct rest *text, struct value *value)
{
    if (text->length > 0 && text->at[0] == '"')
        return take_quoted(text, value);
    struct rest token;
    if (!take_token(text, &token))
        return false;
    for (size_t i = 0; i < token.length; i++)
        add_byte(value, token.at[i]);
    return true;
}

/* ---- Offers ---- */

/* 8 to 15, as decimals are written. Returns 0 for anything else. */
static uint8_t bits_of(const struct value *value)
{
    if (value->length == 1)
        return value->text[0] == '8' || value->text[0] == '9' ? (uint8_t)(value->text[0] - '0') : 0;
    bool two = value->length == 2 && value->text[0] == '1' && value->text[1] >= '0' && value->text[1] <= '5';
    return two ? (uint8_t)(10 + value->text[1] - '0') : 0;
}

/* Notes a parameter; `value` is NULL where it has none. */
static void note(struct offer *offer, const struct rest *name, const struct value *value)
{
    int found = 0;
    while (found < PARAMETERS && !is_text(name->at, name->length, names[found]))
        found++;
    if (found == PARAMETERS || offer->has[found]) {
        offer->bad = true;
        return;
    }
    offer->has[found] = true;
    uint8_t bits = value ? bits_of(value) : 0;
    if (found < SERVER_BITS) {
        offer->bad = offer->bad || value;
    } else if (found == SERVER_BITS) {
        offer->server_bits = bits;
        offer->bad = offer->bad || bits < CK_WS_WINDOW_LEAST;
    } else {
        offer->client_bits = value ? bits : CK_WS_WINDOW_MOST;
        offer->bad = offer->bad || offer->client_bits < BITS_LEAST;
    }
}

/* Takes one extension; whether it is a good offer stands in `offer`. Returns false when it cannot be read. */
static bool take_extension(struct rest *text, struct offer *offer)
{
    struct rest name;
    if (!take_token(text, &name))
        return false;
    *offer = (struct offer){.bad = !is_text(name.at, name.length, "permessage-deflate")};
    while (take_mark(text, ';')) {
        struct value value = {.length = 0};
        if (!take_token(text, &name))
            return false;
        bool valued = take_mark(text, '=');
        if (valued && !take_value(text, &value))
            return false;
        note(offer, &name, valued ? &value : NULL);
    }
    return true;
}

bool ck_ws_extensions_valid(const ck_head *head, const char *data)
{
    struct offer offer;
    for (EACH_FIELD(head, data, "sec-websocket-extensions", field)) {
        struct rest list = value_of(head, data, field);
        do
            if (!take_extension(&list, &offer))
                return false;
        while (take_mark(&list, ','));
        if (list.length > 0)
            return false;
    }
    return true;
}

static bool first_good(const ck_head *head, const char *data, struct offer *offer)
{
    for (EACH_FIELD(head, data, "sec-websocket-extensions", field)) {
        struct rest list = value_of(head, data, field);
        do
            if (take_extension(&list, offer) && !offer->bad)
                return true;
        while (take_mark(&list, ','));
    }
    return false;
}

/* ---- Terms ---- */

static uint8_t less(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

bool ck_ws_compression_valid(uint32_t options)
{
    uint32_t bits = options >> 4 & 0xF, level = options & 0xF, decompressor = options >> 8;
    bool compressor = (options & 0xFF) <= SHARED || (bits >= CK_WS_WINDOW_LEAST && level >= 1 && level <= 9);
    return compressor && (decompressor <= SHARED || (decompressor >= CK_WS_WINDOW_LEAST && decompressor <= CK_WS_WINDOW_MOST));
}

bool ck_ws_negotiate(const ck_head *head, const char *data, uint32_t options, ck_ws_terms *terms)
{
    struct offer offer;
    if (!options || !first_good(head, data, &offer))
        return false;
    bool compressor = (options & 0xFF) > SHARED, decompressor = options >> 8 > SHARED;
    uint8_t ours = compressor ? (uint8_t)(options >> 4 & 0xF) : CK_WS_WINDOW_MOST;
    uint8_t theirs = decompressor ? (uint8_t)(options >> 8 & 0xF) : CK_WS_WINDOW_MOST;
    if (theirs < CK_WS_WINDOW_MOST && !offer.has[CLIENT_BITS]) { /* S7.1.2.2: it may not be told */
        theirs = CK_WS_WINDOW_MOST;
        decompressor = false;
    }
    terms->server_bits = offer.has[SERVER_BITS] ? less(ours, offer.server_bits) : ours;
    terms->client_bits = offer.has[CLIENT_BITS] ? less(theirs, offer.client_bits) : theirs;
    terms->server_keeps = compressor && !offer.has[SERVER_NO_TAKEOVER];
    terms->client_keeps = decompressor && !offer.has[CLIENT_NO_TAKEOVER];
    terms->server_bits_due = offer.has[SERVER_BITS] || terms->server_bits < CK_WS_WINDOW_MOST;
    terms->client_bits_due = terms->client_bits < CK_WS_WINDOW_MOST;
    return true;
}

static char *put_text(char *at, const char *text)
{
    size_t length = strlen(text);
    memcpy(at, text, length);
    return at + length;
}

static char *put_parameter(char *at, int parameter)
{
    return put_text(put_text(at, "; "), names[parameter]);
}

static char *put_bits(char *at, int parameter, uint8_t bits)
{
    at = put_parameter(at, parameter);
    *at++ = '=';
    if (bits > 9)
        *at++ = '1';
    *at++ = (char)('0' + bits % 10);
    return at;
}

size_t ck_ws_terms_put(const ck_ws_terms *terms, char *out)
{
    char *at = put_text(out, "permessage-deflate");
    if (!terms->server_keeps)
        at = put_parameter(at, SERVER_NO_TAKEOVER);
    if (!terms->client_keeps)
        at = put_parameter(at, CLIENT_NO_TAKEOVER);
    if (terms->server_bits_due)
        at = put_bits(at, SERVER_BITS, terms->server_bits);
    if (terms->client_bits_due)
        at = put_bits(at, CLIENT_BITS, terms->client_bits);
    return (size_t)(at - out);
}
