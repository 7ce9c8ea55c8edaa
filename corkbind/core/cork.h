/* Corking: packing the writes of one socket into one send. */
#ifndef CK_CORK_H
#define CK_CORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corkbind.h"

struct us_socket_t;
struct ck_loop;

enum {
    CK_CORK_CAPACITY = 16384, /* one full TLS record */
    CK_CORKS_HELD_MAX = 64,   /* past these the oldest is flushed */
};

typedef struct ck_cork_buffer {
    struct ck_cork_buffer *next; /* in the pool */
    uint32_t used;
    char data[CK_CORK_CAPACITY];
} ck_cork_buffer;

/* Bytes that the kernel did not take. */
typedef struct ck_backlog {
    size_t offset;
    size_t length; /* from offset on */
    size_t capacity;
    char data[];
} ck_backlog;

/* Packed bytes that wait for what completes them, in no more memory than they need. */
typedef struct ck_parked {
    uint32_t length;
    char data[];
} ck_parked;

/* Part of a file that is on its way: behind the first bytes of the backlog, before
 * the others and what is packed. */
typedef struct ck_outgoing_file {
    int file;      /* a copy of the caller's descriptor */
    int64_t offset;
    uint64_t left;
    size_t before; /* bytes of the backlog that go first */
} ck_outgoing_file;

struct ck_stream;

/* What the engine asks and tells those whose writing side a stream is. */
typedef struct ck_stream_kind {
    /* Before a stream gives its buffer back: how many of the last packed bytes are the
     * beginning of something that is not to leave before what completes it. */
    size_t (*unfinished)(const struct ck_stream *stream);
    /* After these bytes have been parked: they are the first packed ones now. */
    void (*parked)(struct ck_stream *stream);
    /* Before the outermost cork is closed with something packed: there may be more to pack. */
    void (*leaving)(struct ck_stream *stream);
    /* After an outermost uncork or a flush at the end of the iteration: somebody may be
     * waiting for this. May close the socket. */
    void (*sent)(struct ck_stream *stream);
    /* The same in the next step, for bytes that left in neither of these ways. */
    void (*sent_later)(struct ck_stream *stream);
    /* When a stream begins to pack with no cork open on it. */
    void (*uncorked)(struct ck_stream *stream);
    /* Returns the handle that names it to the application, or 0. */
    uint32_t (*handle)(const struct ck_stream *stream);
} ck_stream_kind;

/* The writing side of a socket; a connection begins as one. */
typedef struct ck_stream {
    const ck_stream_kind *kind;
    struct us_socket_t *socket; /* NULL once closed */
    struct ck_loop *loop;
    ck_stats *stats;            /* of its app */
    ck_counters *route;         /* of the route that it answers for, or answered for last */
    ck_cork_buffer *cork;       /* NULL while nothing is packed, or what is packed is parked */
    ck_parked *parked;          /* NULL while nothing is; never beside a buffer */
    ck_backlog *backlog;        /* NULL while the kernel takes everything */
    ck_outgoing_file *file;     /* NULL while none is on its way */
    struct ck_stream *held_previous;
    struct ck_stream *held_next;
    uint32_t flushes;           /* times that packed bytes have left */
    uint16_t depth;             /* corks open */
    bool full;                  /* the kernel took less than it was given, and has no room since */
    bool tls;                   /* what is sent is encrypted, and may wait for the kernel after that */
    bool broken;                /* a send failed for good: nothing can leave any more */
    bool unreadable;            /* because a file gave out, which is not the client's doing */
    ck_counters own;
} ck_stream;

/* Adds to a counter of a stream, of its route and of its app. */
#define CK_COUNT(stream, counter, number)          \
    do {                                           \
        uint64_t counted = (uint64_t) (number);    \
        (stream)->stats->counter += counted;       \
        (stream)->route->counter += counted;       \
        (stream)->own.counter += counted;          \
    } while (0)

/* What the streams of a loop share. */
typedef struct ck_corks {
    ck_cork_buffer *pool;
    unsigned pooled;
    ck_stream *held_first;      /* streams with a buffer, in the order of their first write */
    ck_stream *held_last;
    unsigned held;
    ck_stream **stack;          /* corked streams, innermost last */
    unsigned stack_depth;
    unsigned stack_capacity;
} ck_corks;

void ck_corks_free(struct ck_loop *loop);

/* Opens a cork; corks nest. Returns 0 or CK_NOMEM. */
int ck_stream_cork(ck_stream *stream);
/* Closes one; the outermost sends, all but what is unfinished. Returns the number left open. */
int ck_stream_uncork(ck_stream *stream);
/* Sends what is packed. Does not change the number of open corks. */
void ck_stream_flush(ck_stream *stream, enum ck_flush_reason reason);
/* The same by the application's wish. With no cork open the stream holds on to nothing:
 * its next write is a first one again. */
void ck_stream_flush_now(ck_stream *stream);
/* Sends the first `mark` packed bytes, to make room behind the others. */
void ck_stream_flush_before(ck_stream *stream, size_t mark);
/* Flushes every stream that holds a buffer, in the order of first write; what is
 * unfinished is parked. */
void ck_corks_flush_all(struct ck_loop *loop, enum ck_flush_reason reason);

/* Returns room for `length` (at most CK_CORK_CAPACITY) bytes in a row, to be
 * packed by ck_stream_commit; NULL when memory is out or the stream is broken. */
char *ck_stream_reserve(ck_stream *stream, size_t length);
void ck_stream_commit(ck_stream *stream, size_t length);

/* Packs or sends. What is too big to pack leaves with what is packed in one
 * vectored send; what the kernel does not take waits in the backlog.
 * Returns 0, CK_ABORTED on a broken stream, CK_NOMEM. */
int ck_stream_write(ck_stream *stream, const char *data, size_t length);
/* Like write, but bytes of `data` that the kernel does not take are not kept.
 * Returns the number taken, or a negative result. */
int64_t ck_stream_try_write(ck_stream *stream, const char *data, size_t length);
/* Sends at once behind what is packed, however little, from where it lies. What the kernel
 * does not take is kept. Returns 0, CK_ABORTED or CK_NOMEM. */
int ck_stream_send(ck_stream *stream, const char *data, size_t length, enum ck_flush_reason reason);
/* Sends from the backlog, and a file on its way. Returns true when nothing is left. */
bool ck_stream_drain(ck_stream *stream);
/* Whether something waits for the client. */
static inline bool ck_stream_waits(const ck_stream *stream)
{
    return stream->backlog || stream->file;
}

/* Returns the number of packed bytes, parked ones too / of these and waiting bytes, files included. */
size_t ck_stream_packed(const ck_stream *stream);
size_t ck_stream_buffered(const ck_stream *stream);
/* Drops packed bytes from `mark` on. */
void ck_stream_truncate(ck_stream *stream, size_t mark);

/* ---- Files (send_file.c) ---- */

/* Sends from a regular file, without copying, behind what is packed. What the kernel
 * does not take goes when the stream is writable, from a descriptor of our own.
 * Returns 0, CK_ABORTED, CK_NOMEM (also without a free descriptor), CK_STATE while
 * another part is on its way, or CK_LENGTH when the file is shorter: the stream is broken then. */
int ck_stream_send_file(ck_stream *stream, int file, int64_t offset, uint64_t length);
/* Sends what the kernel takes of the file on its way. Returns true when it is through. */
bool ck_stream_drain_file(ck_stream *stream);
/* Forgets it. */
void ck_stream_drop_file(ck_stream *stream);
/* Counts the TLS records since there were `records`, and whether some wait for the kernel. */
void ck_stream_encrypted(ck_stream *stream, long long records);
/* Sends what is packed, as the beginning of what follows at once. Returns 0 or a ck_result. */
int ck_stream_flush_ahead(ck_stream *stream);

/* The socket is closed: lets go of everything. */
void ck_stream_detach(ck_stream *stream);

#endif
