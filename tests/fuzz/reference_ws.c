/* See reference_ws.h. Reading stops by longjmp, so that each function reads as a rule. */
#include "reference_ws.h"

#include "fuzz.h"

#include <setjmp.h>

enum { CONTROL = 8, CLOSE = 8, PONG = 10, EMPTY_MAX = 1024 };

struct reader {
    reference_ws *ws;
    const uint8_t *data;
    size_t length, at;
    char *end;              /* of the events */
    char *message;          /* payload of the message so far */
    size_t message_length;
    size_t checked;         /* bytes of it that are whole characters: what follows is judged by itself */
    uint64_t announced;
    size_t empty;
    int opcode;             /* of the message, -1 between messages */
    int compressed;         /* the message is */
    jmp_buf done;
};

struct frame {
    int final, opcode, compressed;
    uint64_t length;
    uint8_t mask[4];
};

char *ws_event(char *at, uint8_t opcode, uint16_t code, const char *data, size_t length)
{
    *at++ = (char)opcode;
    memcpy(at, &code, sizeof code);
    at += sizeof code;
    memcpy(at, &length, sizeof length);
    at += sizeof length;
    if (length > 0)
        memcpy(at, data, length);
    return at + length;
}

size_t ws_events_room(size_t length)
{
    return length + (length / 6 + 1) * (1 + sizeof(uint16_t) + sizeof(size_t));
}

_Noreturn static void finish(struct reader *r, int code)
{
    r->ws->result = -code;
    r->ws->used = r->at;
    longjmp(r->done, 1);
}

static uint8_t take(struct reader *r)
{
    if (r->at == r->length)
        finish(r, 0);
    return r->data[r->at++];
}

static uint64_t take_number(struct reader *r, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value = value * 256 + take(r);
    return value;
}

/* RFC 3629 S3: whether bytes are the beginning of a text, of which a character may be
 * cut off unless it is `whole`. Each character is decoded to a code point, or, where it
 * is cut off, to the lowest and the highest that it can still be. */
static bool is_text(const char *data, size_t length, bool whole)
{
    static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t at = 0;
    while (at < length) {
        uint8_t lead = (uint8_t)data[at];
        uint32_t need = 0, low;
        if (lead < 0x80)
            need = 1, low = lead;
        else if ((lead & 0xE0) == 0xC0)
            need = 2, low = lead & 0x1FU;
        else if ((lead & 0xF0) == 0xE0)
            need = 3, low = lead & 0x0FU;
        else if ((lead & 0xF8) == 0xF0)
            need = 4, low = lead & 0x07U;
        else
            return false;
        uint32_t high = low;
        for (uint32_t i = 1; i < need; i++) {
            bool there = at + i < length;
            uint8_t byte = there ? (uint8_t)data[at + i] : 0;
            if (there && (byte & 0xC0) != 0x80)
                return false;
            low = low * 64 + (there ? byte & 0x3FU : 0);
            high = high * 64 + (there ? byte & 0x3FU : 0x3F);
        }
        if (high < lowest[need] || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF))
            return false;
        if (at + need > length)
            return !whole;
        at += need;
    }
    return true;
}

/* S7.4 and IANA's registry: what may stand in a close frame. */
static bool may_be_sent(unsigned code)
{
    switch (code) {
    case 1000: case 1001: case 1002: case 1003: case 1007: case 1008: case 1009: case 1010:
    case 1011: case 1012: case 1013: case 1014:
        return true;
    default:
        return code / 1000 == 3 || code / 1000 == 4;
    }
}

static struct frame take_frame_header(struct reader *r)
{
    struct frame frame;
    uint8_t first = take(r), second = take(r);
    frame.final = first >= 0x80;
    frame.opcode = first % 16;
    frame.compressed = r->ws->deflate && first / 64 % 2 == 1 && (frame.opcode == 1 || frame.opcode == 2);
    if (first / 16 % 8 != (frame.compressed ? 4 : 0) || second < 0x80) /* RSV bits; not masked */
        finish(r, 1002);
    if (frame.opcode > PONG || (frame.opcode > 2 && frame.opcode < CONTROL))
        finish(r, 1002);
    frame.length = second % 128;
    if (frame.opcode >= CONTROL && (frame.length > 125 || !frame.final))
        finish(r, 1002);
    if (frame.opcode < CONTROL && (frame.opcode == 0) != (r->opcode >= 0))
        finish(r, 1002);
    if (frame.length == 126 && (frame.length = take_number(r, 2)) < 126)
        finish(r, 1002);
    else if (second % 128 == 127) {
        frame.length = take_number(r, 8);
        if (frame.length < 65536 || frame.length >> 63)
            finish(r, 1002);
    }
    uint64_t limit = r->ws->limit;
    if (r->opcode < 0 ? frame.compressed : r->compressed) /* eight times as much, and 1024 */
        limit = limit > (UINT64_MAX - 1024) / 8 ? UINT64_MAX : 8 * limit + 1024;
    if (frame.opcode < CONTROL && (frame.length > limit || r->announced + frame.length > limit))
        finish(r, 1009);
    for (int i = 0; i < 4; i++)
        frame.mask[i] = take(r);
    return frame;
}

static void take_control(struct reader *r, const struct frame *frame)
{
    char payload[125];
    for (uint64_t i = 0; i < frame->length; i++)
        payload[i] = (char)(take(r) ^ frame->mask[i % 4]);
    if (frame->opcode != CLOSE) {
        r->end = ws_event(r->end, (uint8_t)frame->opcode, 0, payload, frame->length);
        return;
    }
    unsigned code = frame->length < 2 ? 1005 : (uint8_t)payload[0] * 256U + (uint8_t)payload[1];
    if (frame->length == 1 || (frame->length > 1 && !may_be_sent(code)))
        finish(r, 1002);
    size_t skip = frame->length < 2 ? 0 : 2;
    if (!is_text(payload + skip, frame->length - skip, true))
        finish(r, 1007);
    r->end = ws_event(r->end, CLOSE, (uint16_t)code, payload + skip, frame->length - skip);
    finish(r, 0); /* nothing after it is looked at */
}

static void take_data(struct reader *r, const struct frame *frame)
{
    if (r->opcode < 0) {
        r->opcode = frame->opcode;
        r->compressed = frame->compressed;
    }
    r->announced += frame->length;
    if (frame->length == 0 && !frame->final && ++r->empty > EMPTY_MAX)
        finish(r, 1009);
    for (uint64_t i = 0; i < frame->length; i++) {
        r->message[r->message_length++] = (char)(take(r) ^ frame->mask[i % 4]);
        if (r->opcode == 1 && !r->compressed && !is_text(r->message + r->checked, r->message_length - r->checked, false))
            finish(r, 1007);
        if (is_text(r->message + r->checked, r->message_length - r->checked, true))
            r->checked = r->message_length;
    }
    if (!frame->final)
        return;
    if (r->compressed && r->message_length == 0)
        finish(r, 1002);
    if (r->opcode == 1 && !r->compressed && r->checked < r->message_length)
        finish(r, 1007);
    r->end = ws_event(r->end, (uint8_t)(r->opcode | (r->compressed ? WS_COMPRESSED : 0)), 0, r->message, r->message_length);
    r->opcode = -1;
    r->message_length = r->checked = r->announced = r->empty = 0;
}

void reference_ws_read(reference_ws *ws, const char *data, size_t length)
{
    struct reader r = {.ws = ws, .data = (const uint8_t *)data, .length = length, .opcode = -1};
    ws->events = malloc(ws_events_room(length));
    char *message = malloc(length + 1);
    DEMAND(ws->events && message);
    r.end = ws->events;
    r.message = message;
    struct reader *volatile reader = &r; /* longjmp: what is in memory stays */
    if (setjmp(r.done) == 0)
        for (;;) {
            struct frame frame = take_frame_header(reader);
            if (frame.opcode >= CONTROL)
                take_control(reader, &frame);
            else
                take_data(reader, &frame);
        }
    ws->length = (size_t)(reader->end - ws->events);
    free(message);
}
