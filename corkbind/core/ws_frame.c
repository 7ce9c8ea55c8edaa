/* Reading frames. A header is judged as soon as its bytes are there: after two bytes all
 * but its length, with the length all but its mask. What follows a refused header
 * or a close frame is never read.
 *
 * Text is checked piece by piece, so a message is refused with its first byte that
 * is no UTF-8, and not when it is complete. */
#include "ws_frame.h"

#include <string.h>

enum {
    MASKED = 0x80,       /* of the second byte */
    RESERVED = 0x70,     /* RSV1 to RSV3 of the first, to which only an extension gives a meaning */
    LENGTH_16 = 126,
    LENGTH_64 = 127,
    START = 2,           /* bytes of a header before the length proper */
    ON = 3,              /* beside CK_WS_MORE, CK_WS_PART, CK_WS_CONTROL: go on reading */
    GROWTH = 8,          /* of a message by compressing it... */
    GROWTH_BYTES = 1024, /* ...and what a short one may have beside */
};

void ck_ws_reader_init(ck_ws_reader *reader, uint64_t limit)
{
    memset(reader, 0, offsetof(ck_ws_reader, control));
    reader->limit = limit;
}

bool ck_ws_close_code_valid(unsigned code)
{
    if (code >= 3000)
        return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

void ck_ws_unmask(char *data, size_t length, const uint8_t mask[4], size_t at)
{
    uint8_t key[8];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = mask[(at + i) & 3];
    uint64_t word, wide_key;
    memcpy(&wide_key, key, sizeof key);
    size_t done = 0;
    for (; length - done >= sizeof word; done += sizeof word) { /* compilers make vectors of this */
        memcpy(&word, data + done, sizeof word);
        word ^= wide_key;
        memcpy(data + done, &word, sizeof word);
    }
    for (; done < length; done++)
        data[done] = (char)((uint8_t)data[done] ^ key[done & 7]);
}

/* ---- Headers ---- */

static bool is_control(uint8_t opcode)
{
    return opcode >= CK_WS_CLOSE;
}

/* Collects the header up to `wanted` bytes. Returns whether they are there. */
static bool collect(ck_ws_reader *reader, char **data, size_t *length, size_t wanted)
{
    while (reader->header_length < wanted) {
        if (*length == 0)
            return false;
        reader->header[reader->header_length++] = (uint8_t)**data;
        ++*data;
        --*length;
    }
    return true;
}

/* RFC 7692 S6: with the first frame of a message only. */
static bool may_be_compressed(const ck_ws_reader *reader, uint8_t opcode)
{
    return reader->deflate && (opcode == CK_WS_TEXT || opcode == CK_WS_BINARY);
}

/* Judges the first two bytes. Returns ON or a refusal. */
static int check_start(const ck_ws_reader *reader)
{
    uint8_t first = reader->header[0], second = reader->header[1];
    uint8_t opcode = first & 0x0F;
    int reserved = may_be_compressed(reader, opcode) ? RESERVED & ~CK_WS_RSV1 : RESERVED;
    if ((first & reserved) || !(second & MASKED)) /* S5.2, S5.1 */
        return -CK_WS_PROTOCOL_ERROR;
    if (is_control(opcode)) { /* S5.5: whole, and short */
        bool fits = (first & CK_WS_FIN) && (second & 0x7F) <= CK_WS_CONTROL_MAX;
        return opcode <= CK_WS_PONG && fits ? ON : -CK_WS_PROTOCOL_ERROR;
    }
    if (opcode > CK_WS_BINARY)
        return -CK_WS_PROTOCOL_ERROR;
    bool goes_on = opcode == CK_WS_CONTINUATION; /* S5.4: inside a message nothing else, outside never */
    return goes_on == (reader->message != 0) ? ON : -CK_WS_PROTOCOL_ERROR;
}

static uint64_t number(const uint8_t *bytes, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++)
        value = value << 8 | bytes[i];
    return value;
}

uint64_t ck_ws_compressed_limit(uint64_t limit)
{
    return limit > (UINT64_MAX - GROWTH_BYTES) / GROWTH ? UINT64_MAX : limit * GROWTH + GROWTH_BYTES;
}

/* Bytes that the message may have, of which a frame's header is there. */
static uint64_t limit_of(const ck_ws_reader *reader)
{
    bool compressed = reader->message ? reader->compressed : (reader->header[0] & CK_WS_RSV1) != 0;
    return compressed ? ck_ws_compressed_limit(reader->limit) : reader->limit;
}

/* Judges the length, of which `extended` bytes follow the first two. */
static int check_length(ck_ws_reader *reader, size_t extended)
{
    uint64_t length = extended ? number(reader->header + START, extended) : reader->header[1] & 0x7FU;
    if (length > INT64_MAX || (extended == 8 && length <= UINT16_MAX) || (extended == 2 && length < LENGTH_16))
        return -CK_WS_PROTOCOL_ERROR; /* S5.2: the shortest form */
    if (!is_control(reader->header[0] & 0x0F) && length > limit_of(reader) - reader->announced)
        return -CK_WS_TOO_BIG;
    reader->left = length;
    return ON;
}

/* The header is complete and good. */
static int begin_frame(ck_ws_reader *reader)
{
    memcpy(reader->mask, reader->header + reader->header_length - sizeof reader->mask, sizeof reader->mask);
    reader->mask_at = 0;
    reader->opcode = reader->header[0] & 0x0F;
    reader->final = (reader->header[0] & CK_WS_FIN) != 0;
    reader->header_length = 0;
    reader->in_payload = true;
    if (is_control(reader->opcode)) {
        reader->control_length = 0;
        return ON;
    }
    if (!reader->message) {
        reader->message = reader->opcode;
        reader->compressed = (reader->header[0] & CK_WS_RSV1) != 0;
    }
    reader->announced += reader->left;
    if (reader->left == 0 && !reader->final && ++reader->empty > CK_WS_EMPTY_MAX)
        return -CK_WS_TOO_BIG;
    return ON;
}

static int take_header(ck_ws_reader *reader, char **data, size_t *length)
{
    if (!collect(reader, data, length, START))
        return CK_WS_MORE;
    int result = check_start(reader);
    if (result != ON)
        return result;
    uint8_t form = reader->header[1] & 0x7F;
    size_t extended = form == LENGTH_64 ? 8 : form == LENGTH_16 ? 2 : 0;
    if (!collect(reader, data, length, START + extended))
        return CK_WS_MORE;
    result = check_length(reader, extended);
    if (result != ON)
        return result;
    if (!collect(reader, data, length, START + extended + sizeof reader->mask))
        return CK_WS_MORE;
    return begin_frame(reader);
}

/* ---- Payload ---- */

/* Takes and unmasks what is there of the frame's payload. Returns its length. */
static size_t take_payload(ck_ws_reader *reader, char **data, size_t *length)
{
    size_t taken = *length < reader->left ? *length : (size_t)reader->left;
    if (taken == 0)
        return 0;
    ck_ws_unmask(*data, taken, reader->mask, reader->mask_at);
    reader->mask_at = (uint8_t)((reader->mask_at + taken) & 3);
    reader->left -= taken;
    *data += taken;
    *length -= taken;
    return taken;
}

/* The check of its text needs nothing: it stands between two characters. */
static void end_message(ck_ws_reader *reader)
{
    reader->message = 0;
    reader->announced = 0;
    reader->empty = 0;
}

static int take_data(ck_ws_reader *reader, char **data, size_t *length, ck_ws_part *part)
{
    char *start = *data;
    size_t taken = take_payload(reader, data, length);
    bool text = reader->message == CK_WS_TEXT && !reader->compressed;
    if (text && ck_utf8_check(&reader->text, start, taken) < taken)
        return -CK_WS_BAD_TEXT;
    reader->in_payload = reader->left > 0;
    bool last = !reader->in_payload && reader->final;
    if (last && text && !ck_utf8_complete(&reader->text))
        return -CK_WS_BAD_TEXT;
    if (last && reader->compressed && reader->announced == 0) /* not even an empty message compresses to nothing */
        return -CK_WS_PROTOCOL_ERROR;
    if (taken == 0 && !last)
        return reader->in_payload ? CK_WS_MORE : ON;
    bool compressed = reader->compressed;
    *part = (ck_ws_part){.data = start, .length = taken, .opcode = reader->message, .last = last, .compressed = compressed};
    if (last)
        end_message(reader);
    return CK_WS_PART;
}

/* S5.5.1: nothing, or a code and a reason in UTF-8. */
static int check_close(ck_ws_part *part)
{
    if (part->length == 0) {
        part->code = CK_WS_NO_CODE;
        return CK_WS_CONTROL;
    }
    if (part->length < 2)
        return -CK_WS_PROTOCOL_ERROR;
    part->code = (uint16_t)number((const uint8_t *)part->data, 2);
    part->data += 2;
    part->length -= 2;
    if (!ck_ws_close_code_valid(part->code))
        return -CK_WS_PROTOCOL_ERROR;
    ck_utf8 text = {0, 0, 0};
    bool valid = ck_utf8_check(&text, part->data, part->length) == part->length && ck_utf8_complete(&text);
    return valid ? CK_WS_CONTROL : -CK_WS_BAD_TEXT;
}

static int take_control(ck_ws_reader *reader, char **data, size_t *length, ck_ws_part *part)
{
    const char *start = *data;
    size_t taken = take_payload(reader, data, length);
    if (taken)
        memcpy(reader->control + reader->control_length, start, taken);
    reader->control_length = (uint8_t)(reader->control_length + taken);
    if (reader->left > 0)
        return CK_WS_MORE;
    reader->in_payload = false;
    *part = (ck_ws_part){.data = reader->control, .length = reader->control_length, .opcode = reader->opcode, .last = true};
    if (reader->opcode != CK_WS_CLOSE)
        return CK_WS_CONTROL;
    reader->closed = true;
    return check_close(part);
}

int ck_ws_next(ck_ws_reader *reader, char **data, size_t *length, ck_ws_part *part)
{
    if (reader->failure)
        return reader->failure;
    if (reader->closed) { /* S5.5.1: whatever comes after it */
        *data += *length;
        *length = 0;
        return CK_WS_MORE;
    }
    int result = ON;
    while (result == ON) {
        if (!reader->in_payload)
            result = take_header(reader, data, length);
        else if (is_control(reader->opcode))
            result = take_control(reader, data, length, part);
        else
            result = take_data(reader, data, length, part);
    }
    if (result < 0)
        reader->failure = (int16_t)result;
    return result;
}
