/* The one file that knows zlib.
 *
 * Theory of operation. A compressed message is a piece of one long deflate stream, cut
 * where the sender has flushed; the four bytes of the empty block that a flush ends with
 * are not sent, and the receiver gives them to zlib as if they had been (S7.2.1, S7.2.2).
 * A stream starts anew before each message where no context is kept.
 *
 * Inflating goes by chunks: into one buffer of the loop, never more than the limit of
 * the message and one byte, which is how a message over the limit is found out while
 * it inflates. What a chunk holds is judged in the order of its bytes, and before what
 * zlib says of the bytes behind it, so the verdict on a message does not depend on how
 * it arrived.
 *
 * zlib's own memory is the loop's like any other: what fails there fails here. */
#include "deflate.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>

#include "loop.h"
#include "poison.h"

enum {
    TAIL_LENGTH = 4,
    CLEAN = 128,           /* in data_type: between two blocks... */
    BITS_LEFT = 63,        /* ... and so many bits of the last byte unused */
    OUTPUT_MARGIN = 64,    /* beside deflateBound, which knows of no flush */
    LEVEL_BELOW_BITS = 7,  /* memory level of a shared compressor, as CompressOptions pair them */
};

static const uint8_t tail[TAIL_LENGTH] = {0x00, 0x00, 0xFF, 0xFF};

typedef struct ck_compressor {
    z_stream z;
    unsigned bits;
} ck_compressor;

typedef struct ck_decompressor {
    z_stream z;
} ck_decompressor;

/* What a loop lends. */
struct ck_deflate_loop {
    ck_compressor *compressors[CK_WS_WINDOW_MOST + 1]; /* by window bits */
    ck_decompressor *decompressor;
    char output[CK_DEFLATE_OUTPUT];
};

static struct ck_deflate_loop *shared_of(ck_loop *loop)
{
    if (!loop->deflate) {
        loop->deflate = ck_alloc(loop, sizeof(*loop->deflate));
        if (loop->deflate) {
            memset(loop->deflate, 0, offsetof(struct ck_deflate_loop, output));
        }
    }
    return loop->deflate;
}

/* ---- zlib's memory ---- */

static void *z_alloc(void *loop, unsigned count, unsigned size)
{
    return ck_alloc(loop, (size_t) count * size);
}

static void z_free(void *loop, void *memory)
{
    ck_free(loop, memory);
}

static z_stream z_stream_on(ck_loop *loop)
{
    return (z_stream) {.zalloc = z_alloc, .zfree = z_free, .opaque = loop};
}

/* ---- Compressors and decompressors ---- */

static ck_compressor *compressor_new(ck_loop *loop, unsigned bits, unsigned level)
{
    ck_compressor *compressor = ck_alloc(loop, sizeof(*compressor));
    if (!compressor) {
        return NULL;
    }
    *compressor = (ck_compressor) {.z = z_stream_on(loop), .bits = bits};
    int result = deflateInit2(&compressor->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -(int) bits, (int) level, Z_DEFAULT_STRATEGY);
    if (result != Z_OK) {
        ck_free(loop, compressor);
        return NULL;
    }
    return compressor;
}

static void compressor_free(ck_loop *loop, ck_compressor *compressor)
{
    if (compressor) {
        (void) deflateEnd(&compressor->z);
        ck_free(loop, compressor);
    }
}

static ck_compressor *borrow_compressor(ck_loop *loop, unsigned bits)
{
    struct ck_deflate_loop *shared = shared_of(loop);
    if (!shared) {
        return NULL;
    }
    ck_compressor *compressor = shared->compressors[bits];
    shared->compressors[bits] = NULL;
    return compressor ? compressor : compressor_new(loop, bits, bits - LEVEL_BELOW_BITS);
}

static void give_compressor_back(ck_loop *loop, ck_compressor *compressor)
{
    ck_compressor **place = &loop->deflate->compressors[compressor->bits];
    if (*place) {
        compressor_free(loop, compressor);
    } else {
        (void) deflateReset(&compressor->z);
        *place = compressor;
    }
}

static ck_decompressor *decompressor_new(ck_loop *loop, unsigned bits)
{
    ck_decompressor *decompressor = ck_alloc(loop, sizeof(*decompressor));
    if (!decompressor) {
        return NULL;
    }
    *decompressor = (ck_decompressor) {.z = z_stream_on(loop)};
    if (inflateInit2(&decompressor->z, -(int) bits) != Z_OK) {
        ck_free(loop, decompressor);
        return NULL;
    }
    return decompressor;
}

static void decompressor_free(ck_loop *loop, ck_decompressor *decompressor)
{
    if (decompressor) {
        (void) inflateEnd(&decompressor->z);
        ck_free(loop, decompressor);
    }
}

static ck_decompressor *borrow_decompressor(ck_loop *loop, unsigned bits)
{
    ck_decompressor *decompressor = loop->deflate->decompressor;
    loop->deflate->decompressor = NULL;
    if (!decompressor) {
        return decompressor_new(loop, bits);
    }
    (void) inflateReset2(&decompressor->z, -(int) bits);
    return decompressor;
}

static void give_decompressor_back(ck_loop *loop, ck_decompressor *decompressor)
{
    if (loop->deflate->decompressor) {
        decompressor_free(loop, decompressor);
    } else {
        loop->deflate->decompressor = decompressor;
    }
}

/* ---- Of one WebSocket ---- */

/* The window that inflating needs. A message that nothing is kept of cannot refer back
 * behind its own beginning, so it needs no larger one than itself. zlib's compressor
 * makes 9 bits of 8. */
static uint8_t window_of(const ck_ws_terms *terms, uint64_t limit)
{
    uint8_t bits = terms->client_bits < CK_WS_WINDOW_LEAST ? CK_WS_WINDOW_LEAST : terms->client_bits;
    while (!terms->client_keeps && bits > CK_WS_WINDOW_LEAST && limit <= UINT64_C(1) << (bits - 1)) {
        bits--;
    }
    return bits;
}

ck_deflate *ck_deflate_new(ck_loop *loop, const ck_ws_terms *terms, uint32_t options, uint64_t limit)
{
    ck_deflate *deflate = ck_alloc(loop, sizeof(*deflate));
    if (deflate) {
        memset(deflate, 0, sizeof(*deflate));
        deflate->terms = *terms;
        deflate->level = options & 0xF;
        deflate->limit = limit;
        deflate->window = window_of(terms, limit);
    }
    return deflate;
}

void ck_deflate_free(ck_loop *loop, ck_deflate *deflate)
{
    if (deflate) {
        compressor_free(loop, deflate->compressor);
        decompressor_free(loop, deflate->decompressor);
        ck_poison(deflate, sizeof(*deflate));
        ck_free(loop, deflate);
    }
}

void ck_deflate_free_shared(ck_loop *loop)
{
    if (loop->deflate) {
        for (int bits = 0; bits <= CK_WS_WINDOW_MOST; bits++) {
            compressor_free(loop, loop->deflate->compressors[bits]);
        }
        decompressor_free(loop, loop->deflate->decompressor);
        ck_free(loop, loop->deflate);
        loop->deflate = NULL;
    }
}

/* ---- Inflating ---- */

static bool begin_receiving(ck_loop *loop, ck_deflate *deflate)
{
    if (!shared_of(loop)) {
        return false;
    }
    if (!deflate->decompressor) {
        bool own = deflate->terms.client_keeps;
        deflate->decompressor = own ? decompressor_new(loop, deflate->window) : borrow_decompressor(loop, deflate->window);
        if (!deflate->decompressor) {
            return false;
        }
    }
    deflate->receiving = true;
    deflate->more = deflate->final = deflate->tail_given = false;
    deflate->inflated = 0;
    return true; /* the check of its text stands between two characters */
}

static void end_receiving(ck_loop *loop, ck_deflate *deflate)
{
    deflate->receiving = false;
    if (!deflate->terms.client_keeps) {
        give_decompressor_back(loop, deflate->decompressor);
        deflate->decompressor = NULL;
    }
}

/* Gives zlib what comes next: of the message, and then what its sender has left out.
 * Returns whether there is something to do. */
static bool give(ck_deflate *deflate, ck_ws_part *compressed)
{
    z_stream *z = &deflate->decompressor->z;
    if (z->avail_in == 0 && compressed->length > 0) {
        z->next_in = (Bytef *) compressed->data;
        z->avail_in = compressed->length < UINT_MAX ? (unsigned) compressed->length : UINT_MAX;
        compressed->data += z->avail_in;
        compressed->length -= z->avail_in;
    } else if (z->avail_in == 0 && !deflate->more && compressed->last && !deflate->final && !deflate->tail_given) {
        z->next_in = (Bytef *) (uintptr_t) tail;
        z->avail_in = TAIL_LENGTH;
        deflate->tail_given = true;
    }
    return z->avail_in > 0 || deflate->more;
}

/* Inflates until the room is full or nothing is left to read. Returns 0 or minus a close code. */
static int run(ck_deflate *deflate, ck_ws_part *compressed)
{
    z_stream *z = &deflate->decompressor->z;
    while (z->avail_out > 0 && give(deflate, compressed)) {
        int result = inflate(z, Z_SYNC_FLUSH);
        deflate->final = result == Z_STREAM_END; /* which has no output left */
        deflate->more = z->avail_out == 0 && !deflate->final;
        if (result == Z_STREAM_END) {
            (void) inflateResetKeep(z); /* the next block begins with the next byte, and may refer back */
        } else if (result == Z_MEM_ERROR) {
            return -CK_WS_FAILED;
        } else if (result != Z_OK && result != Z_BUF_ERROR) {
            return -CK_WS_PROTOCOL_ERROR;
        }
    }
    return 0;
}

/* Judges bytes that have been inflated. Returns 0 or minus a close code. */
static int judge(ck_deflate *deflate, const char *data, size_t length, bool text)
{
    uint64_t left = deflate->limit - deflate->inflated;
    size_t allowed = length < left ? length : (size_t) left;
    if (text && ck_utf8_check(&deflate->text, data, allowed) < allowed) {
        return -CK_WS_BAD_TEXT;
    }
    deflate->inflated += allowed;
    return allowed < length ? -CK_WS_TOO_BIG : 0;
}

/* Judges the end: where what was left out has been added, a block must have ended with it. */
static int judge_end(const ck_deflate *deflate, bool text)
{
    int state = deflate->decompressor->z.data_type;
    if (!deflate->final && !((state & CLEAN) && (state & BITS_LEFT) == 0)) {
        return -CK_WS_PROTOCOL_ERROR;
    }
    return text && !ck_utf8_complete(&deflate->text) ? -CK_WS_BAD_TEXT : 0;
}

/* Room for the next chunk. A window that is smaller than the buffer would let pass what
 * refers back behind it, as long as that is still in the buffer. */
static unsigned room_of(const ck_deflate *deflate)
{
    uint64_t room = UINT64_C(1) << deflate->window;
    room = room < CK_DEFLATE_OUTPUT ? room : CK_DEFLATE_OUTPUT;
    uint64_t left = deflate->limit - deflate->inflated;
    return (unsigned) (left < room ? left + 1 : room);
}

int ck_inflate(ck_loop *loop, ck_deflate *deflate, ck_ws_part *compressed, ck_ws_part *part)
{
    if (!deflate->receiving && !begin_receiving(loop, deflate)) {
        return -CK_WS_FAILED;
    }
    z_stream *z = &deflate->decompressor->z;
    char *output = loop->deflate->output;
    bool text = compressed->opcode == CK_WS_TEXT;
    unsigned room = room_of(deflate);
    z->next_out = (Bytef *) output;
    z->avail_out = room;
    int failed = run(deflate, compressed);
    size_t made = room - z->avail_out;
    bool last = compressed->last && !failed && z->avail_out > 0;
    int result = judge(deflate, output, made, text);
    if (!result) {
        result = failed ? failed : last ? judge_end(deflate, text) : 0;
    }
    if (result) {
        return result;
    }
    if (made == 0 && !last) {
        return CK_WS_MORE;
    }
    *part = (ck_ws_part) {.data = output, .length = made, .opcode = compressed->opcode, .last = last};
    if (last) {
        end_receiving(loop, deflate);
    }
    return CK_WS_PART;
}

/* ---- Compressing ---- */

/* Makes room: the first time for the whole, by zlib's own estimate. */
static bool grow(ck_loop *loop, z_stream *z, size_t length, ck_deflated *out)
{
    size_t more = out->memory ? out->room : deflateBound(z, length) + OUTPUT_MARGIN;
    char *larger = ck_resize(loop, out->memory, out->room + more);
    if (!larger) {
        return false;
    }
    if (!out->memory && out->length) {
        memcpy(larger, out->data, out->length);
    }
    out->data = out->memory = larger;
    out->room += more;
    return true;
}

static void drop(ck_loop *loop, ck_deflated *out)
{
    ck_free(loop, out->memory);
    out->memory = NULL;
}

/* Compresses up to a flush, after which the output ends with a whole byte. */
static int squeeze(ck_loop *loop, z_stream *z, const char *data, size_t length, ck_deflated *out)
{
    z->next_in = (Bytef *) (uintptr_t) data;
    z->avail_in = (unsigned) length;
    do {
        if (out->length == out->room && !grow(loop, z, length, out)) {
            return CK_NOMEM;
        }
        z->next_out = (Bytef *) out->data + out->length;
        z->avail_out = (unsigned) (out->room - out->length);
        (void) deflate(z, Z_SYNC_FLUSH);
        out->length = out->room - z->avail_out;
    } while (z->avail_out == 0);
    return CK_OK;
}

/* The same of nothing, which zlib does not do twice: an empty block. */
static int squeeze_nothing(ck_loop *loop, z_stream *z, ck_deflated *out)
{
    if (out->room == 0 && !grow(loop, z, 0, out)) {
        return CK_NOMEM;
    }
    out->data[0] = 0;
    memcpy(out->data + 1, tail, TAIL_LENGTH);
    out->length = 1 + TAIL_LENGTH;
    return CK_OK;
}

static int compress_with(ck_loop *loop, ck_compressor *compressor, const char *data, size_t length, bool last, ck_deflated *out)
{
    out->memory = NULL;
    out->length = 0;
    int result = length ? squeeze(loop, &compressor->z, data, length, out) : squeeze_nothing(loop, &compressor->z, out);
    if (result != CK_OK) {
        drop(loop, out);
    } else if (last) {
        out->length -= TAIL_LENGTH;
    }
    return result;
}

int ck_deflate_payload(ck_loop *loop, ck_deflate *deflate, const char *data, size_t length, bool last, ck_deflated *out)
{
    bool keeps = deflate->terms.server_keeps;
    unsigned bits = deflate->terms.server_bits;
    if (!deflate->compressor) {
        deflate->compressor = keeps ? compressor_new(loop, bits, deflate->level) : borrow_compressor(loop, bits);
        if (!deflate->compressor) {
            return CK_NOMEM;
        }
    }
    int result = compress_with(loop, deflate->compressor, data, length, last, out);
    if (result != CK_OK) {
        ck_deflate_forget(loop, deflate);
        return result;
    }
    if (last && !keeps) {
        give_compressor_back(loop, deflate->compressor);
        deflate->compressor = NULL;
    }
    return CK_OK;
}

void ck_deflate_forget(ck_loop *loop, ck_deflate *deflate)
{
    if (!deflate->compressor) {
        return;
    }
    if (deflate->terms.server_keeps) {
        (void) deflateReset(&deflate->compressor->z);
    } else {
        give_compressor_back(loop, deflate->compressor);
        deflate->compressor = NULL;
    }
}

unsigned ck_deflate_shares(const ck_deflate *deflate)
{
    return deflate->terms.server_keeps ? 0 : deflate->terms.server_bits;
}

int ck_deflate_shared(ck_loop *loop, unsigned bits, const char *data, size_t length, char **out, size_t *out_length)
{
    *out = NULL;
    ck_compressor *compressor = borrow_compressor(loop, bits);
    if (!compressor) {
        return CK_NOMEM;
    }
    ck_deflated made = {.room = 0};
    int result = compress_with(loop, compressor, data, length, true, &made);
    give_compressor_back(loop, compressor);
    *out = made.memory;
    *out_length = made.length;
    return result;
}
