/* The head of a response.
 *
 * It is written straight into the cork buffer. Everything the application gives
 * is checked before its first byte is packed. What the server owns (Date,
 * Content-Length, Transfer-Encoding, Connection) comes last, when the framing is
 * known; the status line comes first and is replaced in place when a status is
 * given after a field. */
#include "response.h"
#include "scan.h"
#include "status.h"

enum {
    TAIL_MAX = 192,  /* Date, a length, Connection, an empty line */
    TIMING_MAX = 128 /* Server-Timing, three numbers */
};

char *ck_put_status_line(char *at, int status)
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

int ck_head_begin(ck_exchange *exchange, int status)
{
    char line[CK_STATUS_LINE_MAX];
    return begin_with_line(exchange, line, (size_t) (ck_put_status_line(line, status) - line), status);
}

/* Makes room for `more` bytes of a head that is wholly packed by sending what is
 * before it, so that it can be changed and taken back as it could elsewhere. */
static bool make_room(ck_exchange *exchange, size_t more)
{
    ck_stream *stream = stream_of(exchange);
    size_t room = CK_CORK_CAPACITY - ck_stream_packed(stream);
    if (room < more && exchange->mark && stream->flushes == exchange->flushes_before) {
        ck_stream_flush_before(stream, exchange->mark);
        exchange->mark = 0;
        exchange->flushes_before = stream->flushes;
        room = CK_CORK_CAPACITY - ck_stream_packed(stream);
    }
    return !stream->broken && room >= more;
}

static char *reserve_in_head(ck_exchange *exchange, size_t length)
{
    (void) make_room(exchange, length); /* else part of the head leaves */
    return ck_stream_reserve(stream_of(exchange), length);
}

/* Fields have been written under an implied 200: puts the real line in its place. */
static int replace_line(ck_exchange *exchange, const char *line, size_t length, int status)
{
    ck_stream *stream = stream_of(exchange);
    if (stream->flushes != exchange->flushes_before) {
        return CK_STARTED;
    }
    if (!ck_stream_reserve(stream, 0)) { /* brings a parked head back into a buffer */
        return no_room(stream);
    }
    if (length > exchange->status_length && !make_room(exchange, length - exchange->status_length)) {
        return stream->broken ? CK_ABORTED : CK_STARTED;
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

int ck_head_status(ck_exchange *exchange, int status)
{
    char line[CK_STATUS_LINE_MAX];
    if (!is_status(status)) {
        return CK_STATUS;
    }
    return give_line(exchange, line, (size_t) (ck_put_status_line(line, status) - line), status);
}

int ck_head_switching(ck_exchange *exchange)
{
    static const char line[] = "HTTP/1.1 101 Switching Protocols\r\n";
    int result = give_line(exchange, line, sizeof(line) - 1, 101);
    return result == 1 ? CK_STATE : result;
}

int ck_head_status_line(ck_exchange *exchange, const char *text, size_t length)
{
    bool shaped = length >= 3 && length < CK_STATUS_LINE_MAX - 16 && ck_byte_is(text[0], CK_IN_DIGIT)
        && ck_byte_is(text[1], CK_IN_DIGIT) && ck_byte_is(text[2], CK_IN_DIGIT) && (length == 3 || text[3] == ' ');
    int status = shaped ? (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0') : 0;
    if (!is_status(status) || ck_scan_value(text, length) != length) {
        return CK_STATUS;
    }
    char line[CK_STATUS_LINE_MAX];
    char *at = put(PUT(line, "HTTP/1.1 "), text, length);
    at = length == 3 ? PUT(at, " \r\n") : PUT(at, "\r\n");
    return give_line(exchange, line, (size_t) (at - line), status);
}

/* The bytes that the message will carry: a body that begins at an offset is the rest of it. */
static uint64_t length_left(const ck_exchange *exchange)
{
    return exchange->declared > exchange->written ? exchange->declared - exchange->written : 0;
}

/* What is known before the head leaves: the connection up to here. */
static char *put_server_timing(char *at, const ck_counters *connection)
{
    at = put_number(PUT(at, "Server-Timing: responses;desc=\""), connection->responses);
    at = put_number(PUT(at, "\", sends;desc=\""), connection->sends);
    at = put_number(PUT(at, "\", bytes;desc=\""), connection->bytes);
    return PUT(at, "\"\r\n");
}

/* The end of the head: what the server owns. */
int ck_head_finish(ck_exchange *exchange, enum ck_response_framing framing, uint64_t length)
{
    ck_connection *connection = exchange->connection;
    ck_stream *stream = &connection->stream;
    char *start = reserve_in_head(exchange, TAIL_MAX + (connection->app->server_timing ? TIMING_MAX : 0));
    if (!start) {
        return no_room(stream);
    }
    char *at = start;
    if (!exchange->has_date) {
        at = put(at, ck_loop_date(exchange->loop), CK_DATE_LENGTH);
    }
    if (connection->app->server_timing) {
        at = put_server_timing(at, &stream->own);
    }
    bool silent = exchange->status == 204 || (exchange->status == 304 && !exchange->has_length);
    if (silent) {
        /* RFC 9110 S8.6: no Content-Length in a 204; in a 304 it would be that of a 200 */
    } else if (framing == CK_BODY_BY_LENGTH) {
        at = PUT(at, "Content-Length: ");
        at = put_number(at, exchange->has_length ? length_left(exchange) : length);
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
    case 7: /* in the answer to an opening handshake it says what was accepted, which is ours to say */
        return exchange->websocket && is_name(name, 7, "upgrade") ? CK_FRAMING : 0;
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
    case 20:
        return is_name(name, 20, "sec-websocket-accept") ? CK_FRAMING : 0;
    case 22:
        return is_name(name, 22, "sec-websocket-protocol") ? CK_FRAMING : 0;
    case 24:
        return is_name(name, 24, "sec-websocket-extensions") ? CK_FRAMING : 0;
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

int ck_head_field(ck_exchange *exchange, const char *name, size_t name_length, const char *value, size_t length)
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
    int noted = own_field(exchange, name, name_length, value, length);
    if (noted < 0) {
        return noted;
    }
    if (exchange->phase == CK_RESPONSE_IDLE && (result = ck_head_begin(exchange, 200)) != CK_OK) {
        return result;
    }
    if (noted) {
        return CK_OK;
    }
    char *at = reserve_in_head(exchange, whole);
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

