/* Responses: whole ones, bodies in parts, and taking one back while it is packed. */
#include "response.h"
#include "status.h"

enum { CHUNK_PREFIX_MAX = 18 };

void ck_response_finish(ck_exchange *exchange)
{
    ck_stream *stream = stream_of(exchange);
    exchange->phase = CK_RESPONSE_FINISHED;
    exchange->flushes_after = stream->flushes + (ck_stream_packed(stream) > 0);
    ck_connection_finished(exchange->connection, exchange);
}

/* ---- Whole answers ---- */

/* The last part of a body that has begun. */
static int end_begun(ck_exchange *exchange, const char *data, size_t length)
{
    ck_stream *stream = stream_of(exchange);
    int result = CK_OK;
    if (!bodiless(exchange)) {
        if (exchange->framing != CK_BODY_BY_CHUNKS) {
            result = ck_stream_write(stream, data, length);
        } else {
            result = length ? ck_response_chunk(exchange, data, length) : CK_OK;
            if (result == CK_OK) {
                result = ck_stream_write(stream, "0\r\n\r\n", 5);
            }
        }
    }
    if (result != CK_OK) {
        return result;
    }
    exchange->written += length;
    ck_response_finish(exchange);
    return CK_OK;
}

/* Checks the end of a body, of which parts may have gone before, against what
 * the head says. */
static int fits_head(const ck_exchange *exchange, size_t length)
{
    if (exchange->status == 205 && length) {
        return CK_LENGTH; /* RFC 9110 S15.3.6 */
    }
    bool told = exchange->has_length && !bodiless(exchange);
    bool fits = exchange->written <= exchange->declared && length == exchange->declared - exchange->written;
    return told && !fits ? CK_LENGTH : CK_OK;
}

int ck_response_end(ck_exchange *exchange, const char *data, size_t length, int flags)
{
    int result = fits_head(exchange, length);
    if (result != CK_OK) {
        return result;
    }
    exchange->close = exchange->close || (flags & CK_CLOSE);
    if (exchange->phase == CK_RESPONSE_BODY) {
        return end_begun(exchange, data, length);
    }
    if (exchange->phase == CK_RESPONSE_IDLE && (result = ck_head_begin(exchange, 200)) != CK_OK) {
        return result;
    }
    result = ck_head_finish(exchange, CK_BODY_BY_LENGTH, length);
    if (result == CK_OK && !bodiless(exchange)) {
        result = ck_stream_write(stream_of(exchange), data, length);
    }
    if (result != CK_OK) {
        return result;
    }
    exchange->written = length;
    ck_response_finish(exchange);
    return CK_OK;
}

/* "404 Not Found\n" */
static size_t phrase_body(char *out, int status)
{
    char *at = put_number(out, (uint64_t) status);
    const char *phrase = ck_status_phrase(status);
    *at++ = ' ';
    at = put(at, phrase, strlen(phrase));
    *at++ = '\n';
    return (size_t) (at - out);
}

void ck_response_simple(ck_exchange *exchange, int status, const char *extra, bool close)
{
    char body[64];
    size_t length = status == 204 ? 0 : phrase_body(body, status);
    ck_stream *stream = stream_of(exchange);
    if (exchange->phase != CK_RESPONSE_IDLE && !ck_response_rollback(exchange)) {
        ck_connection_close(exchange->connection, CK_ABORT_SERVER);
        return;
    }
    exchange->close = close;
    int result = ck_head_begin(exchange, status);
    if (result == CK_OK) {
        result = ck_stream_write(stream, extra, strlen(extra));
    }
    if (result == CK_OK && length) {
        static const char type[] = "Content-Type: text/plain\r\n";
        result = ck_stream_write(stream, type, sizeof(type) - 1);
    }
    if (result == CK_OK) {
        result = ck_response_end(exchange, body, length, 0);
    }
    if (result != CK_OK) {
        ck_connection_close(exchange->connection, CK_ABORT_SERVER);
    }
}

void ck_response_unanswered(ck_exchange *exchange)
{
    ck_response_simple(exchange, 500, "", false);
}

void ck_response_fixed(ck_exchange *exchange, const ck_fixed *fixed)
{
    int result = ck_head_begin(exchange, fixed->status);
    if (result == CK_OK) {
        result = ck_stream_write(stream_of(exchange), fixed->data, fixed->head_length);
    }
    if (result == CK_OK) {
        result = ck_response_end(exchange, fixed->data + fixed->head_length, fixed->body_length, 0);
    }
    if (result != CK_OK) {
        ck_connection_close(exchange->connection, CK_ABORT_SERVER);
    }
}

int ck_refusal_write(ck_stream *stream, int status, bool bare)
{
    char body[64];
    size_t length = phrase_body(body, status);
    char *start = ck_stream_reserve(stream, CK_STATUS_LINE_MAX);
    if (!start) {
        return no_room(stream);
    }
    char *at = ck_put_status_line(start, status);
    at = put(at, ck_loop_date(stream->loop), CK_DATE_LENGTH);
    at = PUT(at, "Content-Type: text/plain\r\nContent-Length: ");
    at = put_number(at, length);
    at = PUT(at, "\r\nConnection: close\r\n\r\n");
    at = put(at, body, bare ? 0 : length);
    ck_stream_commit(stream, (size_t) (at - start));
    return CK_OK;
}

void ck_allow_field(char *out, uint32_t methods)
{
    if (methods & 1u << CK_GET) {
        methods |= 1u << CK_HEAD;
    }
    char *at = PUT(out, "Allow: ");
    const char *separator = "";
    for (int i = 0; i < CK_METHOD_OTHER; i++) {
        if (methods & 1u << i) {
            at = put(at, separator, strlen(separator));
            at = put(at, ck_method_names[i], strlen(ck_method_names[i]));
            separator = ", ";
        }
    }
    at = PUT(at, "\r\n");
    *at = '\0';
}

bool ck_response_unsent(const ck_exchange *exchange)
{
    const ck_stream *stream = &exchange->connection->stream;
    return exchange->phase == CK_RESPONSE_IDLE
        || (exchange->phase == CK_RESPONSE_HEAD && stream->flushes == exchange->flushes_before);
}

bool ck_response_rollback(ck_exchange *exchange)
{
    ck_connection *connection = exchange->connection;
    bool ended = exchange->phase == CK_RESPONSE_FINISHED;
    if (!connection || connection->stream.flushes != exchange->flushes_before
        || (ended && connection->last != exchange->handle)) {
        return false;
    }
    ck_stream_truncate(&connection->stream, exchange->mark);
    if (ended) {
        ck_connection_unfinish(connection, exchange);
    }
    CK_COUNT(&connection->stream, rollbacks, 1);
    exchange->phase = CK_RESPONSE_IDLE;
    exchange->status = 0;
    exchange->status_given = exchange->has_date = exchange->has_type = exchange->has_length = false;
    exchange->close = exchange->want_writable = false;
    exchange->written = exchange->declared = 0;
    return true;
}

/* ---- Bodies in parts ---- */

int ck_response_chunk(ck_exchange *exchange, const char *data, size_t length)
{
    ck_stream *stream = stream_of(exchange);
    size_t packable = CK_CORK_CAPACITY / 2;
    char *start = ck_stream_reserve(stream, CHUNK_PREFIX_MAX + (length < packable ? length + 2 : 0));
    if (!start) {
        return no_room(stream);
    }
    char *at = PUT(put_hex(start, length), "\r\n");
    if (length < packable) {
        at = PUT(put(at, data, length), "\r\n");
        ck_stream_commit(stream, (size_t) (at - start));
        return CK_OK;
    }
    ck_stream_commit(stream, (size_t) (at - start));
    int result = ck_stream_write(stream, data, length);
    return result == CK_OK ? ck_stream_write(stream, "\r\n", 2) : result;
}

int ck_response_begin_parts(ck_exchange *exchange)
{
    int result = exchange->phase == CK_RESPONSE_IDLE ? ck_head_begin(exchange, 200) : CK_OK;
    if (result != CK_OK || exchange->phase == CK_RESPONSE_BODY) {
        return result;
    }
    if (exchange->status == 205) {
        return CK_LENGTH;
    }
    enum ck_response_framing framing = exchange->head.minor_version == 0 ? CK_BODY_BY_CLOSE : CK_BODY_BY_CHUNKS;
    return ck_head_finish(exchange, exchange->has_length ? CK_BODY_BY_LENGTH : framing, 0);
}

int ck_response_part(ck_exchange *exchange, const char *data, size_t length)
{
    ck_connection *connection = exchange->connection;
    ck_stream *stream = &connection->stream;
    bool told = exchange->has_length && !bodiless(exchange);
    if (told && (exchange->written > exchange->declared || length > exchange->declared - exchange->written)) {
        return CK_LENGTH;
    }
    int result = ck_response_begin_parts(exchange);
    if (result != CK_OK || length == 0) {
        return result;
    }
    size_t in_file = stream->file ? (size_t) stream->file->left : 0;
    if (ck_stream_buffered(stream) - in_file > connection->app->limits.backlog) {
        stream->broken = true; /* the client does not read: nothing more is kept for it */
        ck_connection_close(connection, CK_ABORT_TIMEOUT);
        return CK_ABORTED;
    }
    if (!bodiless(exchange)) {
        result = exchange->framing == CK_BODY_BY_CHUNKS ? ck_response_chunk(exchange, data, length)
                                                         : ck_stream_write(stream, data, length);
    }
    exchange->written += length;
    return result != CK_OK ? result : ck_stream_waits(stream);
}

static int try_part(ck_exchange *exchange, const char *data, size_t length, uint64_t total)
{
    ck_stream *stream = stream_of(exchange);
    if (bodiless(exchange)) {
        exchange->written = total;
        return CK_OK;
    }
    uint64_t left = total - exchange->written;
    int64_t taken = ck_stream_try_write(stream, data, length < left ? length : (size_t) left);
    if (taken < 0) {
        return (int) taken;
    }
    exchange->written += (uint64_t) taken;
    return CK_OK;
}

int ck_response_try_part(ck_exchange *exchange, const char *data, size_t length, uint64_t total)
{
    int error;
    if (exchange->status == 205 && total) {
        return CK_LENGTH;
    }
    if (exchange->phase != CK_RESPONSE_BODY) {
        if ((exchange->has_length && exchange->declared != total) || exchange->written > total) {
            return CK_LENGTH;
        }
        error = exchange->phase == CK_RESPONSE_IDLE ? ck_head_begin(exchange, 200) : CK_OK;
        exchange->has_length = true;
        exchange->declared = total;
        error = error == CK_OK ? ck_head_finish(exchange, CK_BODY_BY_LENGTH, total) : error;
        if (error != CK_OK) {
            return error;
        }
    } else if (exchange->framing != CK_BODY_BY_LENGTH) {
        /* parts of unknown total have begun: this is the next of them, and always fits */
        error = ck_response_part(exchange, data, length);
        return error < 0 ? error : 1;
    } else if (total != exchange->declared || exchange->written > total) {
        return CK_LENGTH;
    }
    uint64_t before = exchange->written;
    error = try_part(exchange, data, length, total);
    if (error != CK_OK) {
        return error;
    }
    int result = exchange->written - before >= length || exchange->written == total;
    if (exchange->written == total) {
        ck_response_finish(exchange);
        result |= 2;
    }
    return result;
}

