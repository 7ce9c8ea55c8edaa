/* The chunked coding (RFC 9112 S7.1): a table for the size line, a few states for
 * the rest, one byte at a time except for payload. */
#include "parser.h"

enum {
    MAX_SIZE_DIGITS = 16,
    MAX_SIZE_LINE = 256,          /* bytes of a size line with its extensions, without CRLF */
    MAX_TRAILER_BYTES = 8 * 1024, /* of the field lines, line ends included */
    MAX_TRAILER_FIELDS = 32,
    FREE_OVERHEAD = 64 * 1024,    /* framing bytes that any message may have, */
    OVERHEAD_RATIO = 4,           /* and those for each byte of payload */
};

/* The states of the decoder. Those before SIZE_LF are rows of the table below. */
enum chunk_state {
    BAD, SIZE, SIZE_BLANK, EXTENSION, EXTENSION_NAME, NAME_BLANK, EXTENSION_EQUALS, EXTENSION_VALUE, QUOTED, ESCAPE,
    QUOTE_END, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_NAME, TRAILER_VALUE, TRAILER_LF, END_LF, MESSAGE_END
};

/* What a byte is to the size line. */
enum chunk_byte { TOKEN, BLANK, SEMICOLON, EQUALS, QUOTE, BACKSLASH, RETURN, TEXT, OTHER, CHUNK_BYTES };

/* RFC 9112 S7.1: chunk-size [ chunk-ext ] CRLF
 * S7.1.1: chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )
 * White space is only where a ";", a name, a "=" or a value follows. */
static const uint8_t size_line[SIZE_LF][CHUNK_BYTES] = {
    [SIZE] = {[BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
    [SIZE_BLANK] = {[BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION},
    [EXTENSION] = {[BLANK] = EXTENSION, [TOKEN] = EXTENSION_NAME},
    [EXTENSION_NAME] = {[TOKEN] = EXTENSION_NAME, [BLANK] = NAME_BLANK, [EQUALS] = EXTENSION_EQUALS,
        [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
    [NAME_BLANK] = {[BLANK] = NAME_BLANK, [EQUALS] = EXTENSION_EQUALS, [SEMICOLON] = EXTENSION},
    [EXTENSION_EQUALS] = {[BLANK] = EXTENSION_EQUALS, [TOKEN] = EXTENSION_VALUE, [QUOTE] = QUOTED},
    [EXTENSION_VALUE] = {[TOKEN] = EXTENSION_VALUE, [BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
    [QUOTED] = {[TOKEN] = QUOTED, [BLANK] = QUOTED, [SEMICOLON] = QUOTED, [EQUALS] = QUOTED, [TEXT] = QUOTED,
        [QUOTE] = QUOTE_END, [BACKSLASH] = ESCAPE},
    [ESCAPE] = {[TOKEN] = QUOTED, [BLANK] = QUOTED, [SEMICOLON] = QUOTED, [EQUALS] = QUOTED, [TEXT] = QUOTED,
        [QUOTE] = QUOTED, [BACKSLASH] = QUOTED},
    [QUOTE_END] = {[BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
};

static enum chunk_byte chunk_byte(char byte)
{
    switch (byte) {
    case ' ':
    case '\t': return BLANK;
    case ';': return SEMICOLON;
    case '=': return EQUALS;
    case '"': return QUOTE;
    case '\\': return BACKSLASH;
    case '\r': return RETURN;
    default: break;
    }
    if (ck_byte_is(byte, CK_IN_TOKEN))
        return TOKEN;
    /* obs-text, which RFC 9110 S5.6.4 lets a quoted string hold, is refused. */
    return ck_byte_is(byte, CK_IN_VALUE) && (uint8_t)byte < 0x80 ? TEXT : OTHER;
}

static unsigned hex_value(char byte)
{
    return byte <= '9' ? (unsigned)(byte - '0') : (unsigned)((byte | 0x20) - 'a') + 10;
}

/* RFC 9112 S7.1: anticipate large numbers. All sizes of a message together stay
 * below 2^63 - 1. */
static int size_digit(ck_chunked *chunked, char byte)
{
    if (chunked->digits == MAX_SIZE_DIGITS)
        return -400;
    chunked->digits++;
    chunked->size = chunked->size << 4 | hex_value(byte);
    return chunked->size < INT64_MAX - chunked->payload ? CK_CHUNK_MORE : -400;
}

static int size_line_byte(ck_chunked *chunked, char byte)
{
    if (byte != '\r' && ++chunked->line_length > MAX_SIZE_LINE)
        return -400;
    if (chunked->state == SIZE) {
        if (ck_byte_is(byte, CK_IN_HEX))
            return size_digit(chunked, byte);
        if (chunked->digits == 0)
            return -400;
    }
    chunked->state = size_line[chunked->state][chunk_byte(byte)];
    return chunked->state == BAD ? -400 : CK_CHUNK_MORE;
}

static void next_chunk(ck_chunked *chunked)
{
    chunked->state = SIZE;
    chunked->size = 0;
    chunked->digits = 0;
    chunked->line_length = 0;
}

static bool overhead_exceeded(const ck_chunked *chunked)
{
    if (chunked->overhead <= FREE_OVERHEAD)
        return false;
    /* overhead - FREE > RATIO * payload, in a form that cannot overflow */
    return (chunked->overhead - FREE_OVERHEAD - 1) / OVERHEAD_RATIO >= chunked->payload;
}

/* The size line is complete: what is too much is refused now, not when it has come. */
static int announced(const ck_chunked *chunked)
{
    bool fits = chunked->payload <= chunked->limit && chunked->size <= chunked->limit - chunked->payload;
    return fits || chunked->size == 0 ? CK_CHUNK_MORE : -413;
}

/* Takes a byte that is neither payload nor part of a trailer field. */
static int framing_byte(ck_chunked *chunked, char byte)
{
    chunked->overhead++;
    if (overhead_exceeded(chunked))
        return -400;
    switch (chunked->state) {
    case SIZE_LF:
        chunked->state = chunked->size > 0 ? DATA : TRAILER;
        return byte == '\n' ? announced(chunked) : -400;
    case DATA_CR:
        chunked->state = DATA_LF;
        return byte == '\r' ? CK_CHUNK_MORE : -400;
    case DATA_LF:
        next_chunk(chunked);
        return byte == '\n' ? CK_CHUNK_MORE : -400;
    case TRAILER: /* at the empty line */
        chunked->state = END_LF;
        return CK_CHUNK_MORE;
    case END_LF:
        chunked->state = MESSAGE_END;
        return byte == '\n' ? CK_CHUNK_END : -400;
    default:
        return size_line_byte(chunked, byte);
    }
}

/* RFC 9110 S6.5.1: nothing in a trailer may change framing or routing. */
static bool trailer_forbidden(const ck_chunked *chunked)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "host"};
    for (size_t i = 0; i < 3; i++)
        if (is_text(chunked->name, chunked->name_length, names[i]))
            return true;
    return false;
}

static int trailer_name_byte(ck_chunked *chunked, char byte)
{
    if (byte == ':') {
        chunked->state = TRAILER_VALUE;
        return chunked->name_length == 0 || trailer_forbidden(chunked) ? -400 : CK_CHUNK_MORE;
    }
    if (!ck_byte_is(byte, CK_IN_TOKEN))
        return -400;
    if (chunked->name_length < sizeof chunked->name)
        chunked->name[chunked->name_length++] = byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
    return CK_CHUNK_MORE;
}

/* Takes a byte of a trailer field line, RFC 9112 S7.1.2. */
static int trailer_byte(ck_chunked *chunked, char byte)
{
    if (++chunked->trailer_bytes > MAX_TRAILER_BYTES)
        return -431;
    switch (chunked->state) {
    case TRAILER:
        if (++chunked->trailer_fields > MAX_TRAILER_FIELDS)
            return -431;
        chunked->name_length = 0;
        chunked->state = TRAILER_NAME;
        return trailer_name_byte(chunked, byte);
    case TRAILER_NAME:
        return trailer_name_byte(chunked, byte);
    case TRAILER_VALUE:
        if (byte == '\r')
            chunked->state = TRAILER_LF;
        else if (!ck_byte_is(byte, CK_IN_VALUE))
            return -400;
        return CK_CHUNK_MORE;
    default:
        chunked->state = TRAILER;
        return byte == '\n' ? CK_CHUNK_MORE : -400;
    }
}

static bool in_trailer_line(const ck_chunked *chunked, char byte)
{
    return chunked->state >= TRAILER && chunked->state <= TRAILER_LF && !(chunked->state == TRAILER && byte == '\r');
}

/* Takes trailer field lines as far as the input goes.
 * Returns how many bytes, or minus the status. */
static int trailer_run(ck_chunked *chunked, const char *data, size_t length)
{
    size_t at = 0; /* stays below MAX_TRAILER_BYTES */
    while (at < length && in_trailer_line(chunked, data[at])) {
        int result = trailer_byte(chunked, data[at++]);
        if (result < 0)
            return result;
    }
    return (int)at;
}

void ck_chunked_init(ck_chunked *chunked)
{
    memset(chunked, 0, sizeof *chunked);
    chunked->limit = UINT64_MAX;
    next_chunk(chunked);
}

/* Gives a span from the start of the input to the caller. */
static int give(int event, size_t used, const char **data, size_t *length, const char **span, size_t *span_length)
{
    *span = *data;
    *span_length = used;
    *data += used;
    *length -= used;
    return event;
}

static size_t payload_run(ck_chunked *chunked, size_t length)
{
    size_t used = chunked->size < length ? (size_t)chunked->size : length;
    chunked->size -= used;
    chunked->payload += used;
    if (chunked->size == 0)
        chunked->state = DATA_CR;
    return used;
}

int ck_chunked_next(ck_chunked *chunked, const char **data, size_t *length, const char **span, size_t *span_length)
{
    if (chunked->state == MESSAGE_END)
        return CK_CHUNK_END;
    while (*length > 0 && chunked->state != BAD) {
        if (chunked->state == DATA) {
            size_t used = payload_run(chunked, *length);
            return give(CK_CHUNK_DATA, used, data, length, span, span_length);
        }
        int result = CK_CHUNK_MORE;
        if (in_trailer_line(chunked, **data)) {
            result = trailer_run(chunked, *data, *length);
            if (result > 0)
                return give(CK_CHUNK_TRAILER, (size_t)result, data, length, span, span_length);
        } else {
            result = framing_byte(chunked, **data);
            ++*data;
            --*length;
        }
        if (result != CK_CHUNK_MORE) {
            if (result < 0)
                chunked->state = BAD;
            return result;
        }
    }
    return chunked->state == BAD ? -400 : CK_CHUNK_MORE;
}
