/* Fuzzes the compression of WebSocket messages, in both directions. An input is a byte of
 * flags, one that chooses windows and one the limit, a seed, an allocation that fails,
 * and messages.
 *
 * Receiving: the messages are a client's compressed payloads. However they are cut, they
 * must inflate to the same, or be refused with the same code, as zlib inflates each in
 * one go, given what the messages before it were as a dictionary; nothing beyond the
 * limit of a message is handed out, and no more calls are needed than there are pieces
 * of input and bytes of output.
 *
 * Sending: the messages are the application's. What they are compressed to, whole or in
 * fragments, into whatever room, must inflate to them again, by zlib and by ours; also
 * after messages that failed or were not sent. */
#include "fuzz.h"

#include <zlib.h>

#include "deflate.h"
#include "libusockets_ext.h"
#include "loop.h"

enum {
    KEEPS = 1, SENDS = 2, IS_TEXT = 4, FAILS = 8, /* flags */
    MESSAGES_MAX = 32, OUTPUT_MAX = 1 << 17, HISTORY = 32768,
};

static const uint64_t limits[] = {16384, 100, 0, 1, 70000, 16383, 300, 40000};

static ck_loop loop;
static struct us_sys_t sys;
static long allocations_left; /* until one fails; 0 = none does */

static void *failing_alloc(struct us_sys_t *table, size_t size)
{
    (void)table;
    return allocations_left > 0 && --allocations_left == 0 ? NULL : malloc(size);
}

static void *failing_resize(struct us_sys_t *table, void *memory, size_t size)
{
    (void)table;
    return allocations_left > 0 && --allocations_left == 0 ? NULL : realloc(memory, size);
}

struct message {
    const char *data;
    size_t length;
};

static struct message messages[MESSAGES_MAX];
static size_t message_count;

static void take_messages(fuzz_input *in)
{
    for (message_count = 0; in->length > 0 && message_count < MESSAGES_MAX; message_count++) {
        size_t length = fuzz_byte(in);
        length = length == 255 ? in->length : length;
        messages[message_count].data = fuzz_bytes(in, length, &messages[message_count].length);
    }
}

/* ---- What must come out ---- */

static struct {
    char output[MESSAGES_MAX * OUTPUT_MAX];
    size_t ends[MESSAGES_MAX]; /* of each message in the output */
    size_t count;              /* of good messages */
    int result;                /* 0, or minus the code that the next was refused with */
} wanted;

/* Starts a stream whose past is the output so far, where that is kept. */
static void restart(z_stream *z, size_t from, size_t to)
{
    DEMAND(inflateReset(z) == Z_OK);
    size_t back = to - from < HISTORY ? to - from : HISTORY;
    if (back > 0)
        DEMAND(inflateSetDictionary(z, (const Bytef *)wanted.output + to - back, (unsigned)back) == Z_OK);
}

/* Inflates a payload and what its sender has left out. Returns 0, or -1 for bad data; *made is the output's length. */
static int inflate_once(z_stream *z, struct message message, size_t from, size_t at, size_t most, size_t *made)
{
    char *input = malloc(message.length + 4);
    DEMAND(input != NULL);
    if (message.length > 0)
        memcpy(input, message.data, message.length);
    memcpy(input + message.length, "\0\0\xFF\xFF", 4);
    restart(z, from, at);
    z->next_in = (Bytef *)input;
    z->avail_in = (unsigned)message.length + 4;
    z->next_out = (Bytef *)wanted.output + at;
    z->avail_out = (unsigned)most;
    int result = Z_OK;
    bool final = false;
    while (z->avail_in > 0 && z->avail_out > 0 && (result == Z_OK || final)) {
        result = inflate(z, Z_SYNC_FLUSH);
        final = result == Z_STREAM_END;
        if (final && z->avail_in == 4)
            break; /* nothing behind a final block */
        if (final)
            restart(z, from, at + most - z->avail_out);
    }
    *made = most - z->avail_out;
    bool clean = final || ((z->data_type & 128) && !(z->data_type & 63));
    free(input);
    return (result == Z_OK || final || result == Z_BUF_ERROR) && clean ? 0 : -1;
}

static void find_wanted(bool keeps, bool text, uint64_t limit)
{
    z_stream z = {.next_in = NULL};
    DEMAND(inflateInit2(&z, -15) == Z_OK);
    size_t at = 0;
    wanted.result = 0;
    for (wanted.count = 0; wanted.count < message_count && !wanted.result; wanted.count++) {
        size_t made, most = (size_t)limit;
        int bad = inflate_once(&z, messages[wanted.count], keeps ? 0 : at, at, most + 1, &made);
        size_t allowed = made < most ? made : most;
        ck_utf8 state = {0, 0, 0};
        if (text && ck_utf8_check(&state, wanted.output + at, allowed) < allowed)
            wanted.result = -1007;
        else if (made > most)
            wanted.result = -1009;
        else if (bad)
            wanted.result = -1002;
        else if (text && !ck_utf8_complete(&state))
            wanted.result = -1007;
        if (wanted.result)
            break;
        at += made;
        wanted.ends[wanted.count] = at;
    }
    inflateEnd(&z);
}

/* ---- Receiving ---- */

struct outcome {
    int result;
    size_t count;  /* of messages */
    size_t length; /* of the output of whole ones */
    size_t calls, pieces;
};

/* Takes one piece of a message. Returns whether the message goes on. */
static bool take_piece(ck_deflate *deflate, struct outcome *found, ck_ws_part piece, size_t *made, bool exact)
{
    for (;;) {
        ck_ws_part part;
        found->calls++;
        found->result = ck_inflate(&loop, deflate, &piece, &part);
        if (found->result != CK_WS_PART) {
            DEMAND(found->result < 0 || (piece.length == 0 && !piece.last));
            return found->result == CK_WS_MORE;
        }
        DEMAND(part.opcode == piece.opcode && (part.length > 0 || part.last) && !part.compressed);
        DEMAND(*made + part.length <= deflate->limit);
        if (exact || wanted.result != -1002 || found->count < wanted.count)
            DEMAND(memcmp(part.data, wanted.output + found->length + *made, part.length) == 0);
        *made += part.length;
        if (part.last) {
            DEMAND(piece.length == 0 && piece.last);
            return false;
        }
    }
}

/* Feeds the messages in pieces of up to `most` bytes, each in memory of its own size. */
static struct outcome receive(const ck_ws_terms *terms, uint64_t limit, bool text, size_t most, uint64_t seed, bool exact)
{
    struct outcome found = {0};
    ck_deflate *deflate = ck_deflate_new(&loop, terms, 0, limit);
    if (!deflate)
        return (struct outcome){.result = -1011};
    for (; found.count < message_count; found.count++) {
        struct message message = messages[found.count];
        size_t at = 0, made = 0;
        bool on = true;
        while (on) {
            size_t left = message.length - at, size = most == 1 ? 1 : 1 + fuzz_draw(&seed, (uint32_t)most);
            size = size < left ? size : left;
            char *copy = fuzz_copy(message.data + at, size);
            at += size;
            ck_ws_part piece = {.data = copy, .length = size, .opcode = text ? CK_WS_TEXT : CK_WS_BINARY,
                .last = at == message.length, .compressed = true};
            found.pieces++;
            on = take_piece(deflate, &found, piece, &made, exact);
            free(copy);
        }
        if (found.result < 0)
            break;
        found.length += made;
    }
    DEMAND(found.calls <= found.pieces + found.length + limit + found.count + 1);
    ck_deflate_free(&loop, deflate);
    return found;
}

static void check_receiving(const ck_ws_terms *terms, uint64_t limit, bool text, uint8_t seed, long failing)
{
    find_wanted(terms->client_keeps, text, limit);
    ck_deflate *probe = ck_deflate_new(&loop, terms, 0, limit);
    /* With a smaller window zlib may still find what it must not, in what it has just written. */
    bool exact = probe->window == 15 || UINT64_C(1) << probe->window >= limit;
    exact = exact && (!terms->client_keeps || probe->window == 15);
    ck_deflate_free(&loop, probe);
    const size_t most[] = {1U << 30, 100, 7, 1};
    for (size_t i = 0; i < sizeof most / sizeof most[0]; i++) {
        allocations_left = i == 1 ? failing : 0;
        bool fails = allocations_left > 0;
        struct outcome found = receive(terms, limit, text, most[i], (uint64_t)seed + i, exact);
        allocations_left = 0;
        if (fails && found.result == -1011)
            continue;
        if (exact || found.result != -1002) {
            DEMAND(found.result >= 0 ? !wanted.result : found.result == wanted.result);
            DEMAND(found.count == wanted.count);
            DEMAND(found.length == (found.count > 0 ? wanted.ends[found.count - 1] : 0));
        }
    }
}

/* ---- Sending ---- */

/* Compresses a payload into room that the seed chooses. Returns whether it could be. */
static bool compress_part(ck_deflate *deflate, struct message part, bool last, uint64_t *seed, char **data, size_t *length)
{
    static const size_t rooms[] = {0, 64, 100, 508, 16380};
    char room[16380];
    ck_deflated out = {.data = room, .room = rooms[fuzz_draw(seed, 5)]};
    int result = ck_deflate_payload(&loop, deflate, part.data, part.length, last, &out);
    DEMAND(result == CK_OK || result == CK_NOMEM);
    DEMAND(result == CK_OK || !out.memory);
    if (result != CK_OK)
        return false;
    DEMAND(out.memory ? out.data == out.memory : out.data == room);
    DEMAND(out.length > 0 && out.length <= out.room);
    *data = fuzz_copy(out.data, out.length);
    *length = out.length;
    ck_free(&loop, out.memory);
    return true;
}

static char sent[OUTPUT_MAX], opened[OUTPUT_MAX];

/* Opens a part by zlib, as a client does, and by ours. */
static void open_part(z_stream *z, ck_deflate *ours, char *data, size_t length, bool last, size_t *made)
{
    z->next_out = (Bytef *)opened + *made;
    z->avail_out = (unsigned)(sizeof opened - *made);
    for (int i = 0; i < (last ? 2 : 1); i++) {
        z->next_in = (Bytef *)(i ? "\0\0\xFF\xFF" : data);
        z->avail_in = i ? 4 : (unsigned)length;
        int result = inflate(z, Z_SYNC_FLUSH);
        DEMAND((result == Z_OK || result == Z_BUF_ERROR) && z->avail_in == 0 && z->avail_out > 0);
    }
    size_t at = *made;
    *made = sizeof opened - z->avail_out;
    ck_ws_part in = {.data = data, .length = length, .opcode = CK_WS_BINARY, .last = last}, part = {.last = false};
    int result;
    while (!part.last && (result = ck_inflate(&loop, ours, &in, &part)) != CK_WS_MORE) {
        DEMAND(result == CK_WS_PART && at + part.length <= *made && memcmp(opened + at, part.data, part.length) == 0);
        at += part.length;
    }
    DEMAND(at == *made && part.last == last);
}

static void check_sending(const ck_ws_terms *terms, uint32_t options, uint64_t seed, long failing)
{
    ck_deflate *deflate = ck_deflate_new(&loop, terms, options, 1);
    ck_ws_terms theirs = {.client_bits = terms->server_bits, .client_keeps = true};
    ck_deflate *ours = ck_deflate_new(&loop, &theirs, 0, OUTPUT_MAX);
    z_stream z = {.next_in = NULL};
    DEMAND(deflate && ours && inflateInit2(&z, -terms->server_bits) == Z_OK);
    for (size_t i = 0; i < message_count; i++) {
        size_t parts = 1 + fuzz_draw(&seed, 3), length = 0, made = 0;
        for (size_t p = 0; p < parts; p++) {
            struct message part = messages[(i + p) % message_count];
            bool last = p + 1 == parts, failed = true;
            while (failed) { /* what has failed may be tried again */
                char *data;
                size_t size;
                allocations_left = failing;
                failed = !compress_part(deflate, part, last, &seed, &data, &size);
                allocations_left = failing = 0;
                if (failed)
                    continue;
                if (fuzz_draw(&seed, 8) == 0) {
                    ck_deflate_forget(&loop, deflate);
                    failed = true;
                } else {
                    open_part(&z, ours, data, size, last, &made);
                }
                free(data);
            }
            if (part.length > 0)
                memcpy(sent + length, part.data, part.length);
            length += part.length;
        }
        DEMAND(fuzz_same(opened, made, sent, length));
    }
    inflateEnd(&z);
    ck_deflate_free(&loop, deflate);
    ck_deflate_free(&loop, ours);
}

static void check_shared(unsigned bits, long failing)
{
    for (size_t i = 0; i < message_count; i++) {
        char *out;
        size_t length, made = 0;
        ck_ws_terms terms = {.client_bits = (uint8_t)bits, .client_keeps = false};
        ck_deflate *ours = ck_deflate_new(&loop, &terms, 0, OUTPUT_MAX);
        z_stream z = {.next_in = NULL};
        DEMAND(ours && inflateInit2(&z, -(int)bits) == Z_OK);
        allocations_left = i == 0 ? failing : 0;
        int result = ck_deflate_shared(&loop, bits, messages[i].data, messages[i].length, &out, &length);
        allocations_left = 0;
        if (result == CK_OK) {
            open_part(&z, ours, out, length, true, &made);
            DEMAND(fuzz_same(opened, made, messages[i].data, messages[i].length));
            ck_free(&loop, out);
        } else {
            DEMAND(result == CK_NOMEM && failing > 0);
        }
        inflateEnd(&z);
        ck_deflate_free(&loop, ours);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    fuzz_input in = {input, size};
    uint8_t flags = fuzz_byte(&in), windows = fuzz_byte(&in), limit = fuzz_byte(&in), seed = fuzz_byte(&in);
    long failing = flags & FAILS ? 1 + fuzz_byte(&in) % 16 : 0;
    take_messages(&in);
    sys = *us_sys_default();
    sys.alloc = failing_alloc;
    sys.resize = failing_resize;
    memset(&loop, 0, sizeof loop);
    loop.sys = &sys;
    ck_ws_terms terms = {
        .server_bits = (uint8_t)(9 + windows % 7), .client_bits = (uint8_t)(8 + windows / 7 % 8),
        .server_keeps = flags & KEEPS, .client_keeps = flags & KEEPS,
    };
    if (flags & SENDS) {
        if (!terms.server_keeps)
            check_shared(terms.server_bits, failing);
        check_sending(&terms, 1 + windows % 9U, seed, failing);
    } else {
        check_receiving(&terms, limits[limit % 8], flags & IS_TEXT, seed, failing);
    }
    ck_deflate_free_shared(&loop);
    return 0;
}
