/* The fields that decide how a message is framed, or of which there may be one only. */
#include "parser.h"

enum { MAX_LENGTH_DIGITS = 19 /* digits of 2^63 - 1 */ };

/* Looks at the length and the first letter before it compares. */
static enum known recognise(const char *name, size_t length)
{
    static const char *const names[] = {
        [HOST] = "host", [EXPECT] = "expect", [UPGRADE] = "upgrade", [CONNECTION] = "connection",
        [CONTENT_TYPE] = "content-type", [AUTHORIZATION] = "authorization", [CONTENT_LENGTH] = "content-length",
        [TRANSFER_ENCODING] = "transfer-encoding", [WEBSOCKET_KEY] = "sec-websocket-key",
    };
    static const uint8_t by_length[] = {
        [4] = HOST, [6] = EXPECT, [7] = UPGRADE, [10] = CONNECTION, [12] = CONTENT_TYPE, [13] = AUTHORIZATION,
        [14] = CONTENT_LENGTH, [17] = TRANSFER_ENCODING,
    };
    if (length >= sizeof by_length)
        return UNKNOWN;
    enum known known = by_length[length];
    if (known == TRANSFER_ENCODING && (name[0] | 0x20) == 's')
        known = WEBSOCKET_KEY;
    return known != UNKNOWN && same(name, names[known], length) ? known : UNKNOWN;
}

/* 1*DIGIT, RFC 9110 S8.6; no list, though RFC 9112 S6.3 would let equal values pass. */
static int content_length(ck_head *head, const char *text, size_t length)
{
    uint64_t value = 0;
    if (length == 0 || length > MAX_LENGTH_DIGITS)
        return -400;
    for (size_t i = 0; i < length; i++) {
        if (!ck_byte_is(text[i], CK_IN_DIGIT))
            return -400;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > INT64_MAX)
        return -400;
    head->content_length = (int64_t)value;
    return CK_HEAD_ON;
}

/* RFC 9112 S6.1 and S7: a list of codings, where chunked comes once, and last. */
static int transfer_encoding(ck_head *head, const char *text, size_t length)
{
    for (;;) {
        const char *comma = length ? memchr(text, ',', length) : NULL;
        size_t size = comma ? (size_t)(comma - text) : length;
        const char *coding = text;
        size_t coding_length = size;
        trim(&coding, &coding_length);
        if (coding_length == 0 || ck_scan_token(coding, coding_length) < coding_length)
            return -400;
        if (memchr(coding, '\'', coding_length)) /* a token, but meant as a quote: no coding has one */
            return -400;
        if (!is_text(coding, coding_length, "chunked"))
            head->seen |= OTHER_CODING;
        else if (comma)
            return -400; /* S6.3: another coding after it leaves no way to find the end */
        else
            head->chunked = true;
        if (!comma)
            return CK_HEAD_ON;
        text += size + 1;
        length -= size + 1;
    }
}

/* Collects the options that matter, RFC 9110 S7.6.1. */
static void connection(ck_head *head, const char *text, size_t length)
{
    for (;;) {
        const char *comma = length ? memchr(text, ',', length) : NULL;
        size_t size = comma ? (size_t)(comma - text) : length;
        const char *option = text;
        size_t option_length = size;
        trim(&option, &option_length);
        if (is_text(option, option_length, "close"))
            head->seen |= CLOSE_OPTION;
        else if (is_text(option, option_length, "keep-alive"))
            head->seen |= KEEP_ALIVE_OPTION;
        else if (is_text(option, option_length, "upgrade"))
            head->seen |= UPGRADE_OPTION;
        if (!comma)
            return;
        text += size + 1;
        length -= size + 1;
    }
}

/* Looks at a complete field. */
int ck_note_field(struct reader *r, const ck_field *field)
{
    ck_head *head = r->head;
    enum known known = recognise(r->data + field->name_offset, field->name_length);
    if (known == UNKNOWN)
        return CK_HEAD_ON;
    if (head->seen & BIT(known) & SINGLETONS) /* RFC 9110 S5.3; S7.2 for Host */
        return -400;
    head->seen |= BIT(known);
    const char *value = r->data + field->value_offset;
    size_t length = field->value_length;
    switch (known) {
    case HOST:
        if (ck_host_port(value, length) == CK_HOST_BAD) /* RFC 9112 S3.2 */
            return -400;
        if (!(head->seen & TARGET_HOST)) /* S3.2.2: the target's comes first */
            head->host = (ck_span){field->value_offset, field->value_length};
        return CK_HEAD_ON;
    case CONTENT_LENGTH:
        return content_length(head, value, length);
    case TRANSFER_ENCODING:
        return transfer_encoding(head, value, length);
    case CONNECTION:
        connection(head, value, length);
        return CK_HEAD_ON;
    case EXPECT:
        if (!is_text(value, length, "100-continue"))
            head->seen |= OTHER_EXPECTATION;
        return CK_HEAD_ON;
    default:
        return CK_HEAD_ON;
    }
}
