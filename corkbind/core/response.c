/* Writing a response: head, framing, body, and taking it back while it is packed.
 *
 * The head is written straight into the cork buffer. Everything the application
 * gives is checked before its first byte is packed. What the server owns (Date,
 * Content-Length, Transfer-Encoding, Connection) comes last, when the framing is
 * known; the status line comes first and is replaced in place when a status is
 * given after a field. */
#include <string.h>

#include "http.h"
#include "scan.h"
#include "status.h"

enum {
    STATUS_LINE_MAX = 512,
    TAIL_MAX = 192, /* Date, a length, Connection, an empty line */
    CHUNK_PREFIX_MAX = 18,
};

static char *put(char *at, const char *data, size_t length)
{
    memcpy(at, data, length);
    return at + length;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

static char *put_number(char *at, uint64_t number)
{
    char digits[20];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char) ('0' + number % 10);
        number /= 10;
    } while (number);
    return put(at, digits + first, sizeof(digits) - first);
}

static char *put_hex(char *at, size_t number)
{
    char digits[16];
    size_t first = sizeof(digits);
    do {
        digits[--first] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number);
    return put(at, digits + first, sizeof(digits) - first);
}

static char *put_status_line(char *at, int status)
{
    if (status == 200) {
        return PUT(at, "HTTP/1.1 200 OK\r\n");
    }
    const char *phrase = ck_status_phrase(status);
    at = PUT(at, "HTTP/1.1 ");
    at = put_number(at, (uint64_t) status);
    *at++ = ' ';
    at = put(at, phrase, strlen(phrase));
    return PUT(at, "\r\n");
}

static ck_stream *stream_of(ck_exchange *exchange)
{
    return &exchange->connection->stream;
}

/* Why a reservation failed. */
static int no_room(const ck_stream *stream)
{
    return stream->broken ? CK_ABORTED : CK_NOMEM;
}

/* RFC 9110 S6.4.1: answers that never have a body, whatever their fields say. */
static bool bodiless(const ck_exchange *exchange)
{
    return exchange->head.method == CK_HEAD || exchange->status == 204 || exchange->status == 304;
}

/* ---- The head ---- */

/* Reserves `room` bytes at the place where the response begins. */
static char *begin_at(ck_exchange *exchange, size_t room)
{
    ck_stream *stream = stream_of(exchange);
    char *at = ck_stream_reserve(stream, room);
    if (at) {
        exchange->mark = (uint32_t) ck_stream_packed(stream);
        exchange->flushes_before = stream->flushes;
        exchange->phase = CK_RESPONSE_HEAD;
    }
    return at;
}

static int begin_with_line(ck_exchange *exchange, const char *line, size_t length, int status)
{
    char *at = begin_at(exchange, length);
    if (!at) {
        return no_room(stream_of(exchange));
    }
    memcpy(at, line, length);
    ck_stream_commit(stream_of(exchange), length);
    exchange->status = (uint16_t) status;
    exchange->status_length = (uint32_t) length;
    return CK_OK;
}

static int begin(ck_exchange *exchange, int status)
{
    char line[STATUS_LINE_MAX];
    return begin_with_line(exchange, line, (size_t) (put_status_line(line, status) - line), status);
}

/* Fields have been written under an implied 200: puts the real line in its place. */
static int replace_line(ck_exchange *exchange, const char *line, size_t length, int status)
{
    ck_stream *stream = stream_of(exchange);
    if (stream->flushes != exchange->flushes_before) {
        return CK_STARTED;
    }
    if (length > exchange->status_length) {
        if (!ck_stream_reserve(stream, length - exchange->status_length) || stream->flushes != exchange->flushes_before) {
            return CK_STARTED;
        }
    }
    char *head = stream->cork->data + exchange->mark;
    size_t fields = stream->cork->used - exchange->mark - exchange->status_length;
    memmove(head + length, head + exchange->status_length, fields);
    memcpy(head, line, length);
    stream->cork->used = (uint32_t) (exchange->mark + length + fields);
    exchange->status = (uint16_t) status;
    exchange->status_length = (uint32_t) length;
    return CK_OK;
}

static int give_line(ck_exchange *exchange, const char *line, size_t length, int status)
{
    if (exchange->phase == CK_RESPONSE_BODY) {
        return CK_STARTED;
    }
    if (exchange->status_given) {
        return 1; /* the first call wins */
    }
    int result = exchange->phase == CK_RESPONSE_IDLE ? begin_with_line(exchange, line, length, status)
                                                      : replace_line(exchange, line, length, status);
    exchange->status_given = result == CK_OK;
    return result;
}

static bool is_status(int status)
{
    return status >= 200 && status <= 599;
}

static int give_status(ck_exchange *exchange, int status)
{
    char line[STATUS_LINE_MAX];
    if (!is_status(status)) {
        return CK_STATUS;
    }
    return give_line(exchange, line, (size_t) (put_status_line(line, status) - line), status);
}

/* The end of the head: what the server owns. */
static int finish_head(ck_exchange *exchange, enum ck_response_framing framing, uint64_t length)
{
    ck_connection *connection = exchange->connection;
    ck_stream *stream = &connection->stream;
    char *start = ck_stream_reserve(stream, TAIL_MAX);
    if (!start) {
        return no_room(stream);
    }
    char *at = start;
    if (!exchange->has_date) {
        at = put(at, ck_loop_date(exchange->loop), CK_DATE_LENGTH);
    }
    bool silent = exchange->status == 204 || (exchange->status == 304 && !exchange->has_length);
    if (silent) {
        /* RFC 9110 S8.6: no Content-Length in a 204; in a 304 it would be that of a 200 */
    } else if (framing == CK_BODY_BY_LENGTH) {
        at = PUT(at, "Content-Length: ");
        at = put_number(at, exchange->has_length ? exchange->declared : length);
        at = PUT(at, "\r\n");
    } else if (framing == CK_BODY_BY_CHUNKS) {
        at = PUT(at, "Transfer-Encoding: chunked\r\n");
    }
    /* A body that was announced but not asked for may never come: with nobody to
     * tell its bytes from a request, the connection ends here. */
    bool body_unsettled = connection->continue_due && !ck_body_done(connection);
    bool unframed = framing == CK_BODY_BY_CLOSE && !bodiless(exchange);
    if (!connection->keep_alive || connection->app->draining || body_unsettled || unframed) {
        exchange->close = true;
    }
    if (exchange->close) {
        at = PUT(at, "Connection: close\r\n");
    } else if (exchange->head.minor_version == 0) {
        at = PUT(at, "Connection: keep-alive\r\n");
    }
    at = PUT(at, "\r\n");
    ck_stream_commit(stream, (size_t) (at - start));
    exchange->framing = (uint8_t) framing;
    exchange->phase = CK_RESPONSE_BODY;
    return CK_OK;
}

static void finish(ck_exchange *exchange)
{
    ck_stream *stream = stream_of(exchange);
    exchange->phase = CK_RESPONSE_FINISHED;
    exchange->flushes_after = stream->flushes + (ck_stream_packed(stream) > 0);
    ck_connection_finished(exchange->connection, exchange);
}

/* ---- Fields of the application ---- */

static bool is_name(const char *name, size_t length, const char *wanted)
{
    if (strlen(wanted) != length) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        char lower = (char) (name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
        if (lower != wanted[i]) {
            return false;
        }
    }
    return true;
}

static int declare_length(ck_exchange *exchange, const char *value, size_t length)
{
    uint64_t number = 0;
    if (exchange->has_length || length == 0 || length > 18) {
        return CK_FRAMING;
    }
    for (size_t i = 0; i < length; i++) {
        if (!ck_byte_is(value[i], CK_IN_DIGIT)) {
            return CK_FRAMING;
        }
        number = number * 10 + (uint64_t) (value[i] - '0');
    }
    exchange->has_length = true;
    exchange->declared = number;
    return 1;
}

/* Looks at the fields whose meaning is the server's. Returns 0 when the field is
 * to be written, 1 when it has been taken note of, or a ck_result. */
static int own_field(ck_exchange *exchange, const char *name, size_t name_length, const char *value, size_t length)
{
    switch (name_length) {
    case 4:
        exchange->has_date = exchange->has_date || is_name(name, 4, "date");
        return 0;
    case 10:
        if (!is_name(name, 10, "connection")) {
            return 0;
        }
        if (is_name(value, length, "close")) {
            exchange->close = true;
            return 1;
        }
        return is_name(value, length, "keep-alive") ? 1 : CK_FRAMING;
    case 12:
        exchange->has_type = exchange->has_type || is_name(name, 12, "content-type");
        return 0;
    case 14:
        return is_name(name, 14, "content-length") ? declare_length(exchange, value, length) : 0;
    case 17:
        return is_name(name, 17, "transfer-encoding") ? CK_FRAMING : 0;
    default:
        return 0;
    }
}

static int check_field(const char *name, size_t name_length, const char *value, size_t length)
{
    if (name_length == 0 || ck_scan_token(name, name_length) != name_length) {
        return CK_NAME;
    }
    return ck_scan_value(value, length) == length ? CK_OK : CK_VALUE;
}

static int add_field(ck_exchange *exchange, const char *name, size_t name_length, const char *value, size_t length)
{
    if (exchange->phase == CK_RESPONSE_BODY) {
        return CK_STARTED;
    }
    int result = check_field(name, name_length, value, length);
    if (result != CK_OK) {
        return result;
    }
    size_t whole = name_length + length + 4;
    if (whole > CK_CORK_CAPACITY / 2) {
        return CK_VALUE; /* clients refuse such fields, and the head must fit in a buffer */
    }
    if (exchange->phase == CK_RESPONSE_IDLE && (result = begin(exchange, 200)) != CK_OK) {
        return result;
    }
    result = own_field(exchange, name, name_length, value, length);
    if (result != 0) {
        return result < 0 ? result : CK_OK;
    }
    char *at = ck_stream_reserve(stream_of(exchange), whole);
    if (!at) {
        return no_room(stream_of(exchange));
    }
    at = put(at, name, name_length);
    at = PUT(at, ": ");
    at = put(at, value, length);
    (void) PUT(at, "\r\n");
    ck_stream_commit(stream_of(exchange), whole);
    return CK_OK;
}

int ck_fields_check(const char *data, size_t length)
{
    while (length) {
        const char *end = memchr(data, '\r', length);
        const char *colon = memchr(data, ':', length);
        if (!end || (size_t) (end - data) + 1 >= length || end[1] != '\n' || !colon || colon > end) {
            return CK_VALUE;
        }
        const char *value = colon + 1;
        int result = check_field(data, (size_t) (colon - data), value, (size_t) (end - value));
        if (result != CK_OK) {
            return result;
        }
        size_t name_length = (size_t) (colon - data);
        if (is_name(data, name_length, "content-length") || is_name(data, name_length, "transfer-encoding")
            || is_name(data, name_length, "connection") || is_name(data, name_length, "date")) {
            return CK_FRAMING;
        }
        length -= (size_t) (end + 2 - data);
        data = end + 2;
    }
    return CK_OK;
}

/* ---- Whole answers ---- */

/* The last part of a body that has begun. */
static int end_begun(ck_exchange *exchange, const char *data, size_t length)
{
    ck_stream *stream = stream_of(exchange);
    if (exchange->framing == CK_BODY_BY_LENGTH && !bodiless(exchange)
        && exchange->written + length != exchange->declared) {
        return CK_LENGTH;
    }
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
    finish(exchange);
    return CK_OK;
}

/* Checks a whole body against what the head says. */
static int fits_head(const ck_exchange *exchange, size_t length)
{
    if (exchange->status == 205 && length) {
        return CK_LENGTH; /* RFC 9110 S15.3.6 */
    }
    bool told = exchange->has_length && !bodiless(exchange);
    return told && exchange->declared != length ? CK_LENGTH : CK_OK;
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
    if (exchange->phase == CK_RESPONSE_IDLE && (result = begin(exchange, 200)) != CK_OK) {
        return result;
    }
    result = finish_head(exchange, CK_BODY_BY_LENGTH, length);
    if (result == CK_OK && !bodiless(exchange)) {
        result = ck_stream_write(stream_of(exchange), data, length);
    }
    if (result != CK_OK) {
        return result;
    }
    exchange->written = length;
    finish(exchange);
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
    exchange->close = exchange->close || close;
    if (exchange->phase != CK_RESPONSE_IDLE && !ck_response_rollback(exchange)) {
        ck_connection_close(exchange->connection, CK_ABORT_SERVER);
        return;
    }
    int result = begin(exchange, status);
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
    int result = begin(exchange, fixed->status);
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

int ck_refusal_write(ck_stream *stream, int status)
{
    char body[64];
    size_t length = phrase_body(body, status);
    char *start = ck_stream_reserve(stream, STATUS_LINE_MAX);
    if (!start) {
        return no_room(stream);
    }
    char *at = put_status_line(start, status);
    at = put(at, ck_loop_date(stream->loop), CK_DATE_LENGTH);
    at = PUT(at, "Content-Type: text/plain\r\nContent-Length: ");
    at = put_number(at, length);
    at = PUT(at, "\r\nConnection: close\r\n\r\n");
    at = put(at, body, length);
    ck_stream_commit(stream, (size_t) (at - start));
    return CK_OK;
}

void ck_allow_field(char *out, uint32_t methods)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"};
    if (methods & 1u << CK_GET) {
        methods |= 1u << CK_HEAD;
    }
    char *at = PUT(out, "Allow: ");
    const char *separator = "";
    for (int i = 0; i < CK_METHOD_OTHER; i++) {
        if (methods & 1u << i) {
            at = put(at, separator, strlen(separator));
            at = put(at, names[i], strlen(names[i]));
            separator = ", ";
        }
    }
    at = PUT(at, "\r\n");
    *at = '\0';
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
    connection->app->stats.rollbacks++;
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

static int begin_parts(ck_exchange *exchange)
{
    int result = exchange->phase == CK_RESPONSE_IDLE ? begin(exchange, 200) : CK_OK;
    if (result != CK_OK || exchange->phase == CK_RESPONSE_BODY) {
        return result;
    }
    if (exchange->status == 205) {
        return CK_LENGTH;
    }
    enum ck_response_framing framing = exchange->head.minor_version == 0 ? CK_BODY_BY_CLOSE : CK_BODY_BY_CHUNKS;
    return finish_head(exchange, exchange->has_length ? CK_BODY_BY_LENGTH : framing, 0);
}

static int write_part(ck_exchange *exchange, const char *data, size_t length)
{
    ck_connection *connection = exchange->connection;
    ck_stream *stream = &connection->stream;
    if (exchange->has_length && !bodiless(exchange) && length > exchange->declared - exchange->written) {
        return CK_LENGTH;
    }
    int result = begin_parts(exchange);
    if (result != CK_OK || length == 0) {
        return result;
    }
    if (ck_stream_buffered(stream) > connection->app->limits.backlog) {
        stream->broken = true; /* the client does not read: nothing more is kept for it */
        ck_connection_close(connection, CK_ABORT_TIMEOUT);
        return CK_ABORTED;
    }
    if (!bodiless(exchange)) {
        result = exchange->framing == CK_BODY_BY_CHUNKS ? ck_response_chunk(exchange, data, length)
                                                         : ck_stream_write(stream, data, length);
    }
    exchange->written += length;
    return result != CK_OK ? result : stream->backlog != NULL;
}

int ck_write_large(uint32_t handle, const char *data, size_t length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? write_part(exchange, data, length) : error;
}

int ck_write(uint32_t handle, const char *data, int length)
{
    return ck_write_large(handle, data, length > 0 ? (size_t) length : 0);
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

int ck_try_end(uint32_t handle, const char *data, size_t length, uint64_t total, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    exchange->close = exchange->close || (flags & CK_CLOSE);
    if (exchange->phase != CK_RESPONSE_BODY) {
        if (exchange->has_length && exchange->declared != total) {
            return CK_LENGTH;
        }
        error = exchange->phase == CK_RESPONSE_IDLE ? begin(exchange, 200) : CK_OK;
        exchange->has_length = true;
        exchange->declared = total;
        error = error == CK_OK ? finish_head(exchange, CK_BODY_BY_LENGTH, total) : error;
        if (error != CK_OK) {
            return error;
        }
    } else if (exchange->framing != CK_BODY_BY_LENGTH) {
        /* parts of unknown total have begun: this is the next of them, and always fits */
        error = write_part(exchange, data, length);
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
        finish(exchange);
        result |= 2;
    }
    return result;
}

/* ---- What the application calls ---- */

int ck_status(uint32_t handle, int status)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? give_status(exchange, status) : error;
}

int ck_status_line(uint32_t handle, const char *text, int length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    size_t size = length > 0 ? (size_t) length : 0;
    bool shaped = size >= 3 && size < STATUS_LINE_MAX - 16 && ck_byte_is(text[0], CK_IN_DIGIT)
        && ck_byte_is(text[1], CK_IN_DIGIT) && ck_byte_is(text[2], CK_IN_DIGIT) && (size == 3 || text[3] == ' ');
    int status = shaped ? (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0') : 0;
    if (!is_status(status) || ck_scan_value(text, size) != size) {
        return CK_STATUS;
    }
    char line[STATUS_LINE_MAX];
    char *at = put(PUT(line, "HTTP/1.1 "), text, size);
    at = size == 3 ? PUT(at, " \r\n") : PUT(at, "\r\n");
    return give_line(exchange, line, (size_t) (at - line), status);
}

int ck_header(uint32_t handle, const char *name, int name_length, const char *value, int value_length)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (name_length < 0 || value_length < 0) {
        return CK_VALUE;
    }
    return add_field(exchange, name, (size_t) name_length, value, (size_t) value_length);
}

int ck_end_large(uint32_t handle, const char *data, size_t length, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    return exchange ? ck_response_end(exchange, data, length, flags) : error;
}

int ck_end(uint32_t handle, const char *data, int length, int flags)
{
    return ck_end_large(handle, data, length > 0 ? (size_t) length : 0, flags);
}

int ck_send(uint32_t handle, int status, const char *type, int type_length, const char *data, int length, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (type_length > 0 && ck_scan_value(type, (size_t) type_length) != (size_t) type_length) {
        return CK_VALUE;
    }
    if (status && (error = give_status(exchange, status)) < 0) {
        return error;
    }
    if (type_length > 0 && !exchange->has_type) {
        error = add_field(exchange, "Content-Type", 12, type, (size_t) type_length);
        if (error != CK_OK) {
            return error;
        }
    }
    return ck_response_end(exchange, data, length > 0 ? (size_t) length : 0, flags);
}

int ck_end_without_body(uint32_t handle, int64_t length, int flags)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase != CK_RESPONSE_BODY && length >= 0 && exchange->head.method == CK_HEAD && !exchange->has_length) {
        exchange->has_length = true;
        exchange->declared = (uint64_t) length;
    } else if (length > 0 && exchange->head.method != CK_HEAD) {
        return CK_LENGTH;
    }
    return ck_response_end(exchange, "", 0, flags);
}

int64_t ck_write_offset(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? (int64_t) exchange->written : error;
}

int ck_set_write_offset(uint32_t handle, uint64_t offset)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (exchange) {
        exchange->written = offset;
    }
    return error;
}

int ck_want_writable(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (exchange) {
        exchange->want_writable = true;
    }
    return error;
}

int ck_has_started(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? exchange->phase != CK_RESPONSE_IDLE && exchange->phase != CK_RESPONSE_ABORTED : error;
}

int ck_buffered_amount(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange || !exchange->connection) {
        return exchange ? 0 : error;
    }
    size_t amount = ck_stream_buffered(&exchange->connection->stream);
    return amount > INT32_MAX ? INT32_MAX : (int) amount;
}

int ck_sends(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase == CK_RESPONSE_FINISHED) {
        return (int) (exchange->flushes_after - exchange->flushes_before);
    }
    bool begun = exchange->connection && exchange->phase != CK_RESPONSE_IDLE;
    return begun ? (int) (exchange->connection->stream.flushes - exchange->flushes_before) : 0;
}

int ck_fail(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase == CK_RESPONSE_IDLE || exchange->phase == CK_RESPONSE_ABORTED) {
        return exchange->phase == CK_RESPONSE_IDLE ? CK_OK : CK_ABORTED;
    }
    if (ck_response_rollback(exchange)) {
        return CK_OK;
    }
    if (exchange->phase == CK_RESPONSE_FINISHED) {
        return CK_FINISHED;
    }
    exchange->phase = CK_RESPONSE_ABORTED; /* the caller knows: nobody need be told */
    ck_connection_close(exchange->connection, CK_ABORT_SERVER);
    return CK_STARTED;
}
