/* Files in responses, which go from the page cache to the socket without copying.
 *
 * A part of a file that the kernel does not take at once stands in the order of the
 * stream like bytes of the backlog: what was there before leaves first, and what is
 * written after waits. It reads from a descriptor of its own, so that nothing the
 * application closes, and no number it uses again, can change what is sent. */
#include <errno.h>

#include "libusockets_ext.h"
#include "loop.h"
#include "response.h"

void ck_stream_drop_file(ck_stream *stream)
{
    ck_outgoing_file *file = stream->file;
    if (file) {
        struct us_sys_t *sys = stream->loop->sys;
        stream->file = NULL;
        (void) sys->file_close(sys, file->file);
        ck_free(stream->loop, file);
    }
}

bool ck_stream_drain_file(ck_stream *stream)
{
    ck_outgoing_file *file = stream->file;
    long long records = stream->tls ? us_loop_tls_records(stream->loop->us) : 0;
    int taken = us_socket_sendfile(0, stream->socket, file->file, file->offset, (int64_t) file->left);
    if (taken < 0 || us_socket_last_error(stream->socket)) {
        stream->broken = true;
        stream->unreadable = taken < 0;
        ck_stream_drop_file(stream);
        return false;
    }
    CK_COUNT(stream, sends, taken > 0);
    CK_COUNT(stream, bytes, taken);
    file->offset += taken;
    file->left -= (uint64_t) taken;
    stream->full = file->left > 0;
    if (stream->tls) {
        ck_stream_encrypted(stream, records);
    }
    if (file->left) {
        return false;
    }
    ck_stream_drop_file(stream);
    return true;
}

static int begin_file(ck_stream *stream, int file, int64_t offset, uint64_t length)
{
    struct us_sys_t *sys = stream->loop->sys;
    ck_outgoing_file *outgoing = ck_alloc(stream->loop, sizeof(*outgoing));
    if (!outgoing) {
        return CK_NOMEM;
    }
    *outgoing = (ck_outgoing_file) {.file = sys->file_dup(sys, file), .offset = offset, .left = length};
    if (outgoing->file < 0) {
        ck_free(stream->loop, outgoing);
        return CK_NOMEM;
    }
    int result = ck_stream_flush_ahead(stream);
    outgoing->before = stream->backlog ? stream->backlog->length : 0;
    stream->file = outgoing;
    if (result != 0) {
        ck_stream_drop_file(stream);
    }
    return result;
}

int ck_stream_send_file(ck_stream *stream, int file, int64_t offset, uint64_t length)
{
    if (stream->broken || !stream->socket) {
        return CK_ABORTED;
    }
    if (stream->file) {
        return CK_STATE;
    }
    int result = begin_file(stream, file, offset, length);
    if (result != 0) {
        return result;
    }
    stream->flushes++;
    if (!stream->file->before) {
        (void) ck_stream_drain_file(stream);
    }
    if (stream->depth == 0 && !stream->cork) {
        stream->kind->sent_later(stream);
    }
    if (stream->broken) {
        return stream->unreadable ? CK_LENGTH : CK_ABORTED;
    }
    return 0;
}

/* The body from now on is a hole: the client has to see that the connection ends. */
static int gave_out(ck_exchange *exchange)
{
    exchange->phase = CK_RESPONSE_ABORTED; /* the caller knows: nobody need be told */
    ck_connection_close(exchange->connection, CK_ABORT_SERVER);
    return CK_LENGTH;
}

int ck_send_file(uint32_t handle, int file, int64_t offset, uint64_t length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (offset < 0 || length > (uint64_t) (INT64_MAX - offset)) {
        return CK_VALUE;
    }
    if (!exchange->has_length || exchange->written > exchange->declared || length > exchange->declared - exchange->written) {
        return CK_LENGTH;
    }
    ck_stream *stream = stream_of(exchange);
    if (stream->file) {
        return CK_STATE;
    }
    error = ck_response_begin_parts(exchange);
    if (error == CK_OK && length && !bodiless(exchange)) {
        error = ck_stream_send_file(stream, file, offset, length);
    }
    if (error != CK_OK) {
        return stream->unreadable ? gave_out(exchange) : error;
    }
    exchange->written += length;
    int result = !ck_stream_waits(stream);
    if (exchange->written == exchange->declared) {
        ck_response_finish(exchange);
        result |= 2;
    }
    return result;
}
