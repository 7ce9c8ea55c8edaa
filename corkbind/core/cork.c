/* The cork engine.
 *
 * Theory of operation. A stream is corked while at least one cork is open on it
 * (depth > 0). Its writes then go into a buffer of 16 KiB that it takes from the
 * loop's pool at the first byte, so an empty cork costs nothing and memory
 * follows the streams that write, not the connections there are. Each stream has
 * a buffer of its own: corking one while another is corked needs nothing from it,
 * and uncorking restores nothing but the answer to "which one is corked" (the
 * stack).
 *
 * A write with no cork open packs as well. Such a stream is on the held list like
 * the others, and the step that follows flushes it; whoever drives the loop is
 * told that a step is needed.
 *
 * Order of a write: buffer, else the kernel, else the backlog. While there is a
 * backlog nothing overtakes it: flushes append to it.
 *
 * A response whose head is begun and not complete when its buffer has to go stays:
 * its bytes are copied to memory of just their size (parked), and come back with
 * the next buffer. So a coroutine may wait in the middle of a head, thousands of them
 * may, and none holds 16 KiB or makes another's half head leave.
 *
 * `flushes` counts the times bytes have left the buffer. A response remembers
 * the count it began at: as long as it has not changed, all of it is still
 * here and can be dropped. */
#include "cork.h"

#include <limits.h>
#include <string.h>

#include "loop.h"
#include "poison.h"

enum { POOL_MAX = 64, BACKLOG_FIRST = 16384 };

/* ---- Buffers and the list of those who hold one ---- */

static void held_append(ck_corks *corks, ck_stream *stream)
{
    stream->held_previous = corks->held_last;
    stream->held_next = NULL;
    if (corks->held_last) {
        corks->held_last->held_next = stream;
    } else {
        corks->held_first = stream;
    }
    corks->held_last = stream;
    corks->held++;
}

static void held_remove(ck_corks *corks, ck_stream *stream)
{
    if (stream->held_previous) {
        stream->held_previous->held_next = stream->held_next;
    } else {
        corks->held_first = stream->held_next;
    }
    if (stream->held_next) {
        stream->held_next->held_previous = stream->held_previous;
    } else {
        corks->held_last = stream->held_previous;
    }
    corks->held--;
}

static void give_back(ck_stream *stream)
{
    ck_corks *corks = &stream->loop->corks;
    ck_cork_buffer *buffer = stream->cork;
    if (!buffer) {
        return;
    }
    held_remove(corks, stream);
    stream->cork = NULL;
    ck_poison(buffer, sizeof(*buffer));
    if (corks->pooled < POOL_MAX) {
        buffer->next = corks->pool;
        corks->pool = buffer;
        corks->pooled++;
    } else {
        ck_free(stream->loop, buffer);
    }
}

static void drop_parked(ck_stream *stream)
{
    ck_free(stream->loop, stream->parked);
    stream->parked = NULL;
}

/* Gives the buffer back: sends what is packed, but parks what is unfinished. Without
 * memory for that it leaves as well: later writes find their place behind it. */
static void let_go(ck_stream *stream, enum ck_flush_reason reason)
{
    size_t length = stream->broken ? 0 : stream->kind->unfinished(stream);
    ck_parked *parked = length ? ck_alloc(stream->loop, sizeof(*parked) + length) : NULL;
    if (parked) {
        parked->length = (uint32_t) length;
        stream->cork->used -= (uint32_t) length;
        memcpy(parked->data, stream->cork->data + stream->cork->used, length);
    }
    ck_stream_flush(stream, reason);
    give_back(stream);
    stream->parked = parked;
    if (parked) {
        stream->kind->parked(stream);
    }
}

static void unpark(ck_stream *stream)
{
    const ck_parked *parked = stream->parked;
    if (parked) {
        memcpy(stream->cork->data, parked->data, parked->length);
        stream->cork->used = parked->length;
        drop_parked(stream);
    }
}

static ck_cork_buffer *take(ck_stream *stream)
{
    ck_corks *corks = &stream->loop->corks;
    if (corks->held >= CK_CORKS_HELD_MAX) {
        ck_stream *oldest = corks->held_first;
        let_go(oldest, CK_FLUSH_EVICTED);
        if (oldest->depth == 0) {
            oldest->kind->sent_later(oldest);
        }
    }
    ck_cork_buffer *buffer = corks->pool;
    if (buffer) {
        corks->pool = buffer->next;
        corks->pooled--;
    } else {
        buffer = ck_alloc(stream->loop, sizeof(*buffer));
        if (!buffer) {
            return NULL;
        }
    }
    buffer->used = 0;
    stream->cork = buffer;
    unpark(stream);
    held_append(corks, stream);
    if (stream->depth == 0) {
        CK_COUNT(stream, uncorked_writes, 1);
        stream->kind->uncorked(stream);
        ck_loop_need_step(stream->loop);
    }
    return buffer;
}

void ck_corks_free(struct ck_loop *loop)
{
    ck_corks *corks = &loop->corks;
    while (corks->pool) {
        ck_cork_buffer *buffer = corks->pool;
        corks->pool = buffer->next;
        ck_free(loop, buffer);
    }
    ck_free(loop, corks->stack);
    memset(corks, 0, sizeof(*corks));
}

/* ---- The backlog ---- */

static ck_backlog *backlog_with_room(ck_stream *stream, size_t more)
{
    ck_backlog *backlog = stream->backlog;
    size_t length = backlog ? backlog->length : 0;
    if (more > SIZE_MAX / 4 - length) {
        return NULL;
    }
    if (backlog && backlog->offset + length + more <= backlog->capacity) {
        return backlog;
    }
    if (backlog && length + more <= backlog->capacity) {
        memmove(backlog->data, backlog->data + backlog->offset, length);
        backlog->offset = 0;
        return backlog;
    }
    size_t capacity = length + more + (length + more) / 2;
    capacity = capacity < BACKLOG_FIRST ? BACKLOG_FIRST : capacity;
    ck_backlog *larger = ck_alloc(stream->loop, sizeof(*larger) + capacity);
    if (!larger) {
        return NULL;
    }
    larger->offset = 0;
    larger->length = length;
    larger->capacity = capacity;
    if (backlog) {
        memcpy(larger->data, backlog->data + backlog->offset, length);
        ck_free(stream->loop, backlog);
    }
    stream->backlog = larger;
    return larger;
}

/* A stream whose bytes cannot be kept has a hole in it: it is as good as broken. */
static int backlog_append(ck_stream *stream, const char *data, size_t length)
{
    if (length == 0) {
        return 0;
    }
    ck_backlog *backlog = backlog_with_room(stream, length);
    if (!backlog) {
        stream->broken = true;
        return CK_NOMEM;
    }
    memcpy(backlog->data + backlog->offset + backlog->length, data, length);
    backlog->length += length;
    return 0;
}

static void backlog_drop(ck_stream *stream)
{
    ck_free(stream->loop, stream->backlog);
    stream->backlog = NULL;
}

/* ---- Sending ---- */

static int at_most(size_t length, int most)
{
    return length > (size_t) most ? most : (int) length;
}

void ck_stream_encrypted(ck_stream *stream, long long records)
{
    CK_COUNT(stream, tls_records, us_loop_tls_records(stream->loop->us) - records);
    stream->full = stream->full || us_socket_unsent(stream->socket) > 0;
}

/* Sends one or two parts in one system call; `more` of them follow at once. Returns
 * the bytes taken. */
static size_t send_parts(ck_stream *stream, const char *first, size_t first_length, const char *second,
    size_t second_length, bool more)
{
    int taken;
    long long records = stream->tls ? us_loop_tls_records(stream->loop->us) : 0;
    if (first_length == 0) {
        taken = us_socket_write(0, stream->socket, second, at_most(second_length, INT_MAX), more);
    } else if (second_length == 0) {
        taken = us_socket_write(0, stream->socket, first, at_most(first_length, INT_MAX), more);
    } else { /* the first is packed bytes: a small part of an int */
        int left = INT_MAX - (int) first_length;
        taken = us_socket_write2(0, stream->socket, first, (int) first_length, second, at_most(second_length, left));
    }
    CK_COUNT(stream, sends, taken > 0);
    CK_COUNT(stream, bytes, taken);
    stream->full = (size_t) taken < first_length + second_length;
    if (stream->tls) {
        ck_stream_encrypted(stream, records);
    }
    if (stream->full && us_socket_last_error(stream->socket)) {
        stream->broken = true;
        backlog_drop(stream);
    }
    return (size_t) taken;
}

/* Sends the first bytes, packed up to now, and then `data`. */
static int64_t send_both(ck_stream *stream, const char *packed_data, size_t packed, const char *data, size_t length,
    bool keep, bool more)
{
    stream->flushes++;
    if (stream->broken || !stream->socket) {
        return CK_ABORTED;
    }
    size_t taken = ck_stream_waits(stream) ? 0 : send_parts(stream, packed_data, packed, data, length, more);
    if (stream->broken) {
        return CK_ABORTED;
    }
    if (taken < packed) {
        if (backlog_append(stream, packed_data + taken, packed - taken) != 0) {
            return CK_NOMEM;
        }
        taken = packed;
    }
    taken -= packed;
    if (keep && taken < length) {
        if (backlog_append(stream, data + taken, length - taken) != 0) {
            return CK_NOMEM;
        }
        taken = length;
    }
    return (int64_t) taken;
}

/* Sends the packed bytes and then `data`, keeping what the kernel does not take
 * of the former, and of the latter when `keep`. Returns bytes of `data` taken or kept. */
static int64_t send_packed_and(ck_stream *stream, const char *data, size_t length, bool keep, bool more)
{
    size_t packed = ck_stream_packed(stream);
    const char *packed_data = NULL;
    if (stream->parked) {
        packed_data = stream->parked->data;
    } else if (packed) {
        packed_data = stream->cork->data;
        stream->cork->used = 0; /* the bytes stay in place until the next write */
    }
    int64_t taken = send_both(stream, packed_data, packed, data, length, keep, more);
    drop_parked(stream);
    return taken;
}

/* Sends at once what is too big to pack. A stream that holds no buffer and is
 * not corked has no flush ahead that would look after it. */
static int64_t send_big(ck_stream *stream, const char *data, size_t length, bool keep)
{
    CK_COUNT(stream, flushes[CK_FLUSH_VECTORED], 1);
    int64_t taken = send_packed_and(stream, data, length, keep, false);
    if (stream->depth == 0 && !stream->cork) {
        stream->kind->sent_later(stream);
    }
    return taken;
}

void ck_stream_flush(ck_stream *stream, enum ck_flush_reason reason)
{
    if (ck_stream_packed(stream)) {
        CK_COUNT(stream, flushes[reason], 1);
        (void) send_packed_and(stream, NULL, 0, true, false);
    }
}

void ck_stream_flush_now(ck_stream *stream)
{
    bool held = stream->cork || stream->parked;
    ck_stream_flush(stream, CK_FLUSH_EXPLICIT);
    if (stream->depth == 0 && held) {
        give_back(stream);
        stream->kind->sent_later(stream);
    }
}

int ck_stream_flush_ahead(ck_stream *stream)
{
    if (!ck_stream_packed(stream)) {
        return 0;
    }
    CK_COUNT(stream, flushes[CK_FLUSH_VECTORED], 1);
    int64_t result = send_packed_and(stream, NULL, 0, true, true);
    return result < 0 ? (int) result : 0;
}

void ck_stream_flush_before(ck_stream *stream, size_t mark)
{
    ck_cork_buffer *buffer = stream->cork;
    size_t rest = buffer->used - mark;
    buffer->used = (uint32_t) mark;
    CK_COUNT(stream, overflows, 1);
    ck_stream_flush(stream, CK_FLUSH_FULL);
    memmove(buffer->data, buffer->data + mark, rest);
    buffer->used = (uint32_t) rest;
}

void ck_corks_flush_all(struct ck_loop *loop, enum ck_flush_reason reason)
{
    while (loop->corks.held_first) {
        ck_stream *stream = loop->corks.held_first;
        let_go(stream, reason);
        stream->kind->sent(stream);
    }
}

/* Sends from the backlog, up to where a file on its way stands in it. */
static bool drain_backlog(ck_stream *stream)
{
    ck_backlog *backlog = stream->backlog;
    ck_outgoing_file *file = stream->file;
    size_t due = file ? file->before : backlog->length;
    size_t taken = send_parts(stream, backlog->data + backlog->offset, due, NULL, 0, file != NULL);
    if (stream->broken) {
        return false; /* the backlog is gone already */
    }
    backlog->offset += taken;
    backlog->length -= taken;
    if (backlog->length == 0) {
        backlog_drop(stream);
    }
    if (file) {
        file->before -= taken;
    }
    return taken == due;
}

bool ck_stream_drain(ck_stream *stream)
{
    while (ck_stream_waits(stream) && !stream->broken) {
        bool of_backlog = !stream->file || stream->file->before;
        if (!(of_backlog ? drain_backlog(stream) : ck_stream_drain_file(stream))) {
            return false;
        }
    }
    return !ck_stream_waits(stream);
}

/* ---- Writing ---- */

char *ck_stream_reserve(ck_stream *stream, size_t length)
{
    if (stream->broken || !stream->socket || length > CK_CORK_CAPACITY) {
        return NULL;
    }
    ck_cork_buffer *buffer = stream->cork ? stream->cork : take(stream);
    if (!buffer) {
        return NULL;
    }
    if (CK_CORK_CAPACITY - buffer->used < length) {
        CK_COUNT(stream, overflows, 1);
        ck_stream_flush(stream, CK_FLUSH_FULL);
        if (stream->broken) {
            return NULL;
        }
    }
    return buffer->data + buffer->used;
}

void ck_stream_commit(ck_stream *stream, size_t length)
{
    stream->cork->used += (uint32_t) length;
}

/* Fills the buffer to the brim before it goes, so that every send but the last
 * is a full one. */
static int pack_over_full(ck_stream *stream, const char *data, size_t length)
{
    size_t room = CK_CORK_CAPACITY - stream->cork->used;
    memcpy(stream->cork->data + stream->cork->used, data, room);
    stream->cork->used = CK_CORK_CAPACITY;
    CK_COUNT(stream, overflows, 1);
    ck_stream_flush(stream, CK_FLUSH_FULL);
    if (stream->broken) {
        return CK_ABORTED;
    }
    memcpy(stream->cork->data, data + room, length - room);
    stream->cork->used = (uint32_t) (length - room);
    return 0;
}

int ck_stream_write(ck_stream *stream, const char *data, size_t length)
{
    if (length == 0) {
        return 0;
    }
    if (stream->broken || !stream->socket) {
        return CK_ABORTED;
    }
    if (length >= CK_CORK_CAPACITY) {
        int64_t taken = send_big(stream, data, length, true);
        return taken < 0 ? (int) taken : 0;
    }
    if (!stream->cork && !take(stream)) {
        return CK_NOMEM;
    }
    if (CK_CORK_CAPACITY - stream->cork->used < length) {
        return pack_over_full(stream, data, length);
    }
    memcpy(stream->cork->data + stream->cork->used, data, length);
    stream->cork->used += (uint32_t) length;
    return 0;
}

int64_t ck_stream_try_write(ck_stream *stream, const char *data, size_t length)
{
    if (stream->broken || !stream->socket) {
        return CK_ABORTED;
    }
    if (length <= CK_CORK_CAPACITY - ck_stream_packed(stream) && !ck_stream_waits(stream)) {
        int result = ck_stream_write(stream, data, length);
        return result < 0 ? result : (int64_t) length;
    }
    return send_big(stream, data, length, false);
}

int ck_stream_send(ck_stream *stream, const char *data, size_t length, enum ck_flush_reason reason)
{
    CK_COUNT(stream, flushes[reason], 1);
    int64_t taken = send_packed_and(stream, data, length, true, false);
    if (stream->depth == 0 && !stream->cork) {
        stream->kind->sent_later(stream);
    }
    return taken < 0 ? (int) taken : 0;
}

size_t ck_stream_packed(const ck_stream *stream)
{
    if (stream->parked) {
        return stream->parked->length;
    }
    return stream->cork ? stream->cork->used : 0;
}

size_t ck_stream_buffered(const ck_stream *stream)
{
    size_t file = stream->file ? (size_t) stream->file->left : 0;
    size_t encrypted = stream->tls && stream->socket ? (size_t) us_socket_unsent(stream->socket) : 0;
    return encrypted + ck_stream_packed(stream) + (stream->backlog ? stream->backlog->length : 0) + file;
}

void ck_stream_truncate(ck_stream *stream, size_t mark)
{
    if (mark >= ck_stream_packed(stream)) {
        return;
    }
    if (stream->cork) {
        stream->cork->used = (uint32_t) mark;
    } else if (mark) {
        stream->parked->length = (uint32_t) mark;
    } else {
        drop_parked(stream);
    }
}

/* ---- Corks ---- */

int ck_stream_cork(ck_stream *stream)
{
    ck_corks *corks = &stream->loop->corks;
    if (corks->stack_depth == corks->stack_capacity) {
        unsigned capacity = corks->stack_capacity ? corks->stack_capacity * 2 : 16;
        ck_stream **stack = ck_resize(stream->loop, corks->stack, capacity * sizeof(*stack));
        if (!stack) {
            return CK_NOMEM;
        }
        corks->stack = stack;
        corks->stack_capacity = capacity;
    }
    if (stream->depth == UINT16_MAX) {
        return CK_NOMEM;
    }
    if (corks->stack_depth && stream->depth == 0) {
        CK_COUNT(stream, nested_corks, 1);
    }
    corks->stack[corks->stack_depth++] = stream;
    stream->depth++;
    return 0;
}

/* Takes the innermost entry of the stream off the stack; it is the last one
 * unless corks were closed out of order. */
static bool unstack(ck_corks *corks, const ck_stream *stream)
{
    for (unsigned i = corks->stack_depth; i > 0; i--) {
        if (corks->stack[i - 1] == stream) {
            memmove(&corks->stack[i - 1], &corks->stack[i], (corks->stack_depth - i) * sizeof(*corks->stack));
            corks->stack_depth--;
            return true;
        }
    }
    return false;
}

int ck_stream_uncork(ck_stream *stream)
{
    if (stream->depth == 0 || !unstack(&stream->loop->corks, stream)) {
        return 0;
    }
    if (stream->depth == 1 && ck_stream_packed(stream)) {
        stream->kind->leaving(stream);
    }
    if (--stream->depth == 0) {
        if (stream->cork) {
            let_go(stream, CK_FLUSH_UNCORK);
        }
        stream->kind->sent(stream);
        return 0;
    }
    return stream->depth;
}

void ck_stream_detach(ck_stream *stream)
{
    give_back(stream);
    drop_parked(stream);
    while (unstack(&stream->loop->corks, stream)) {
        continue;
    }
    stream->depth = 0;
    backlog_drop(stream);
    ck_stream_drop_file(stream);
    stream->socket = NULL;
    stream->broken = true;
}
