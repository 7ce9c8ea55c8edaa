/* Fuzzes the reader of WebSocket frames. An input is a byte that chooses the limit of
 * a message and whether it may be compressed, a seed for the splits, and the bytes of a client.
 *
 * They must be read in one way however they arrive, and as the reference reader does:
 * the same messages and control frames, refused by the same byte with the same code.
 * Nothing that a header announces may be waited for once it is refused, and what is
 * handed out lies in the input that was consumed, or in the reader. */
#include "fuzz.h"
#include "reference_ws.h"
#include "ws_frame.h"

struct outcome {
    int result;
    size_t fed;         /* bytes given until it was decided */
    char *events, *end; /* as the reference writes them */
    char *message;
    size_t message_length;
};

static void note(struct outcome *found, const ck_ws_part *part, const char *from, const char *to, const ck_ws_reader *reader)
{
    if (found->result == CK_WS_PART) {
        DEMAND(part->data >= from && part->data + part->length <= to);
        DEMAND(part->opcode == CK_WS_TEXT || part->opcode == CK_WS_BINARY);
        DEMAND(part->length > 0 || part->last);
        if (part->length > 0)
            memcpy(found->message + found->message_length, part->data, part->length);
        found->message_length += part->length;
        if (part->last) {
            uint8_t opcode = (uint8_t)(part->opcode | (part->compressed ? WS_COMPRESSED : 0));
            found->end = ws_event(found->end, opcode, 0, found->message, found->message_length);
            found->message_length = 0;
        }
        return;
    }
    DEMAND(part->data >= reader->control && part->data + part->length <= reader->control + sizeof reader->control);
    found->end = ws_event(found->end, part->opcode, part->code, part->data, part->length);
}

/* Takes one piece in. */
static void feed(ck_ws_reader *reader, struct outcome *found, char *data, size_t length)
{
    found->fed += length;
    for (;;) {
        char *before = data;
        size_t was = length;
        ck_ws_part part;
        found->result = ck_ws_next(reader, &data, &length, &part);
        DEMAND(length <= was && data == before + (was - length));
        if (found->result <= CK_WS_MORE) {
            DEMAND(found->result < 0 || length == 0);
            return;
        }
        note(found, &part, before, data, reader);
    }
}

/* Feeds pieces of up to `most` bytes, each in memory of its own size. */
static void feed_pieces(struct outcome *found, const char *data, size_t length, const reference_ws *as, size_t most, uint64_t seed)
{
    ck_ws_reader reader;
    ck_ws_reader_init(&reader, as->limit);
    reader.deflate = as->deflate != 0;
    *found = (struct outcome){.events = malloc(ws_events_room(length)), .message = malloc(length + 1)};
    DEMAND(found->events && found->message);
    found->end = found->events;
    while (found->result == CK_WS_MORE && found->fed < length) {
        size_t left = length - found->fed, size = most <= 1 ? 1 : 1 + fuzz_draw(&seed, (uint32_t)most);
        size = most >= length ? left : size < left ? size : left;
        char *copy = fuzz_copy(data + found->fed, size);
        feed(&reader, found, copy, size);
        free(copy);
    }
    if (found->result < 0) { /* there is no going on */
        char frame[] = "\x82\x80\0\0\0", *more = frame;
        size_t more_length = 6;
        ck_ws_part part;
        DEMAND(ck_ws_next(&reader, &more, &more_length, &part) == found->result && more_length == 6);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static const uint64_t limits[] = {16384, 100, 0, 5, 70000, INT64_MAX, UINT64_MAX, 65535};
    fuzz_input in = {input, size};
    uint8_t options = fuzz_byte(&in);
    uint8_t seed = fuzz_byte(&in);
    const char *data = (const char *)in.data;
    reference_ws wanted = {.limit = limits[options % 8], .deflate = options & 8};
    reference_ws_read(&wanted, data, in.length);
    const size_t most[] = {SIZE_MAX, in.length / 3 + 1, 7, 1};
    for (size_t i = 0; i < sizeof most / sizeof most[0]; i++) {
        struct outcome found;
        feed_pieces(&found, data, in.length, &wanted, most[i], (uint64_t)seed + i);
        DEMAND(found.result == wanted.result);
        DEMAND(fuzz_same(found.events, (size_t)(found.end - found.events), wanted.events, wanted.length));
        if (most[i] == 1 && found.result < 0)
            DEMAND(found.fed == wanted.used);
        free(found.events);
        free(found.message);
    }
    free(wanted.events);
    return 0;
}
