/* Compressing and decompressing the messages of WebSockets (RFC 7692 S7.2), over zlib.
 *
 * A WebSocket whose side keeps its context has a compressor, or a decompressor, of its own,
 * which is made when its first compressed message is. One that keeps nothing borrows the
 * loop's for the time of a message; a message in fragments keeps it until its last one. */
#ifndef CK_DEFLATE_H
#define CK_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utf8.h"
#include "ws_extensions.h"
#include "ws_frame.h"

struct ck_loop;
struct ck_compressor;
struct ck_decompressor;

enum { CK_DEFLATE_OUTPUT = 16384 /* bytes that are inflated in one go */ };

/* The compression of one WebSocket. */
typedef struct ck_deflate {
    struct ck_compressor *compressor;     /* NULL until it is needed */
    struct ck_decompressor *decompressor;
    ck_ws_terms terms;
    uint8_t level;          /* zlib's memory level for a compressor of its own */
    uint8_t window;         /* bits that the decompressor needs */
    bool sending;           /* a compressed message of ours has begun and not ended */
    bool receiving;         /* one of the client's has */
    bool more;              /* zlib may hold output that had no room */
    bool final;             /* the last that came is a block that says it is the last (S7.2.3.4) */
    bool tail_given;
    uint64_t limit;         /* bytes that a message may have when it is inflated */
    uint64_t inflated;      /* of the message so far */
    ck_utf8 text;
} ck_deflate;

/* Returns NULL without memory. `options` are the route's, `limit` is that of a message. */
ck_deflate *ck_deflate_new(struct ck_loop *loop, const ck_ws_terms *terms, uint32_t options, uint64_t limit);
void ck_deflate_free(struct ck_loop *loop, ck_deflate *deflate);
/* Frees what the loop lends. */
void ck_deflate_free_shared(struct ck_loop *loop);

/* Inflates from a part of a compressed message, which it uses up, to the next part of the
 * message; that lies in memory of the loop until the next call.
 * Returns CK_WS_MORE, CK_WS_PART, or minus the code to close with: the limit is passed
 * (1009), text is no UTF-8 (1007), the data is no deflate or ends in the middle (1002),
 * memory is out (1011). */
int ck_inflate(struct ck_loop *loop, ck_deflate *deflate, ck_ws_part *compressed, ck_ws_part *part);

/* Where compressed bytes go: first to the caller's `data`, of size `room`. */
typedef struct ck_deflated {
    char *data;
    size_t room;   /* 0, or more than a few bytes */
    size_t length;
    char *memory;  /* not NULL: they needed more, and `data` is this, which the caller frees */
} ck_deflated;

/* Compresses a frame's payload, of at most INT32_MAX bytes; the `last` of a message ends it.
 * Returns 0 or CK_NOMEM, as if ck_deflate_forget had been called. */
int ck_deflate_payload(struct ck_loop *loop, ck_deflate *deflate, const char *data, size_t length, bool last, ck_deflated *out);

/* What was compressed last has not been sent: messages that follow refer to nothing before them. */
void ck_deflate_forget(struct ck_loop *loop, ck_deflate *deflate);

/* ---- One message for many ---- */

/* A message may be compressed once for all WebSockets that keep no context. One that
 * keeps it must compress for itself: the client's window would contain a message that
 * its compressor has not seen, and whatever that referred back to from then on would be
 * something else over there. */

/* Returns the window bits with which messages for the WebSocket may be compressed by
 * ck_deflate_shared, or 0: it must compress for itself. */
unsigned ck_deflate_shares(const ck_deflate *deflate);

/* Compresses a message of at most INT32_MAX bytes without context. `*out` is to be freed by
 * ck_free. Returns 0, or CK_NOMEM with `*out` NULL. */
int ck_deflate_shared(struct ck_loop *loop, unsigned bits, const char *data, size_t length, char **out, size_t *out_length);

#endif
