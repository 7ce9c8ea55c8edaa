/* The body of a request: unframing it, holding it back until somebody asks, and
 * delivering it collected or as a stream. */
#include <string.h>

#include "http.h"

enum { BODY_FIRST = 4096 };

bool ck_body_done(const ck_connection *connection)
{
    return connection->body_framing == CK_FRAMED_NOT;
}

void ck_body_begin(ck_connection *connection, ck_exchange *exchange)
{
    const ck_head *head = &exchange->head;
    connection->continue_due = false;
    if (head->chunked) {
        connection->body_framing = CK_FRAMED_CHUNKED;
        ck_chunked_init(&connection->chunked);
    } else if (head->content_length > 0) {
        connection->body_framing = CK_FRAMED_LENGTH;
        connection->body_left = (uint64_t) head->content_length;
    } else {
        connection->body_framing = CK_FRAMED_NOT;
        exchange->body_state = CK_BODY_DONE;
    }
    if (connection->body_framing != CK_FRAMED_NOT) {
        connection->continue_due = head->expect_continue;
    }
}

/* Grows by what has arrived, never by what was announced. */
static bool append(ck_loop *loop, char **data, size_t *length, size_t *capacity, const char *more, size_t more_length)
{
    if (*capacity - *length < more_length) {
        size_t wanted = *length + more_length;
        size_t larger = *capacity * 2 > wanted ? *capacity * 2 : wanted;
        larger = larger < BODY_FIRST ? BODY_FIRST : larger;
        char *memory = ck_resize(loop, *data, larger);
        if (!memory) {
            return false;
        }
        *data = memory;
        *capacity = larger;
    }
    memcpy(*data + *length, more, more_length);
    *length += more_length;
    return true;
}

static void tell_collector(ck_exchange *exchange, enum ck_body_event event)
{
    if (!exchange->asking) {
        ck_follow_body(exchange, (int) event);
    }
}

void ck_body_fail(ck_connection *connection, enum ck_body_event event)
{
    ck_exchange *exchange = connection->exchange;
    connection->body_framing = CK_FRAMED_NOT;
    connection->keep_alive = false;
    connection->continue_due = false;
    if (connection->phase == CK_PHASE_BODY) {
        connection->phase = exchange ? CK_PHASE_WAIT : CK_PHASE_HEAD;
    }
    if (exchange && exchange->body_state == CK_BODY_PENDING) {
        exchange->body_state = CK_BODY_FAILED;
        exchange->body_error = (uint8_t) event;
        if (exchange->body_mode) {
            tell_collector(exchange, event);
        }
    }
}

/* The last byte is in. The next phase is set before anybody is told, since the
 * teller may end the response. */
static void complete(ck_connection *connection)
{
    ck_exchange *exchange = connection->exchange;
    connection->body_framing = CK_FRAMED_NOT;
    connection->continue_due = false;
    connection->phase = exchange ? CK_PHASE_WAIT : CK_PHASE_HEAD;
    if (exchange) {
        exchange->body_state = CK_BODY_DONE;
    }
    ck_connection_timer_for_phase(connection);
}

/* Hands over `length` bytes, which end the body when `last`. */
static int deliver(ck_connection *connection, const char *data, size_t length, bool last)
{
    ck_exchange *exchange = connection->exchange;
    if (connection->timer == CK_TIMER_BODY) {
        connection->progress += length;
    }
    if (exchange) {
        exchange->body_received += length;
        if (exchange->body_received > exchange->body_limit) {
            return -413;
        }
        if (exchange->body_mode == CK_BODY_COLLECT && length
            && !append(exchange->loop, &exchange->body, &exchange->body_length, &exchange->body_capacity, data, length)) {
            return -503;
        }
    }
    if (last) {
        complete(connection);
    }
    if (!exchange || !exchange->body_mode) {
        return 0;
    }
    if (exchange->body_mode == CK_BODY_COLLECT) {
        if (last) {
            tell_collector(exchange, CK_BODY_COMPLETE);
        }
    } else if (length || last) {
        return ck_follow_data(exchange, data, length, last) ? 0 : -503;
    }
    return 0;
}

static int take_by_length(ck_connection *connection, ck_cursor *cursor)
{
    size_t length = cursor->length;
    if (length > connection->body_left) {
        length = (size_t) connection->body_left;
    }
    const char *data = cursor->data;
    cursor->data += length;
    cursor->length -= length;
    connection->body_left -= length;
    return deliver(connection, data, length, connection->body_left == 0);
}

/* Decodes all that is there, moving the payload together in place, and delivers
 * once: many tiny chunks in one read are one callback. */
static int take_chunked(ck_connection *connection, ck_cursor *cursor)
{
    char *start = cursor->data;
    char *end = start;
    ck_exchange *exchange = connection->exchange;
    for (;;) {
        const char *at = cursor->data;
        const char *span = NULL;
        size_t span_length = 0;
        int event = ck_chunked_next(&connection->chunked, &at, &cursor->length, &span, &span_length);
        cursor->data += at - cursor->data;
        if (event < 0) {
            return event;
        }
        if (event == CK_CHUNK_DATA) {
            memmove(end, span, span_length);
            end += span_length;
        } else if (event == CK_CHUNK_TRAILER) {
            if (exchange && !append(exchange->loop, &exchange->trailers, &exchange->trailers_length,
                    &exchange->trailers_capacity, span, span_length)) {
                return -503;
            }
        } else {
            return deliver(connection, start, (size_t) (end - start), event == CK_CHUNK_END);
        }
    }
}

int ck_body_take(ck_connection *connection, ck_cursor *cursor)
{
    if (connection->body_framing == CK_FRAMED_CHUNKED) {
        /* What is dropped because nobody asked for it has its limit, too. */
        const ck_exchange *exchange = connection->exchange;
        connection->chunked.limit = exchange ? exchange->body_limit : connection->app->limits.body;
        return take_chunked(connection, cursor);
    }
    return take_by_length(connection, cursor);
}

/* ---- What the application calls ---- */

/* In front of a head that has begun, while all of it is still packed. */
static bool insert_before_head(ck_exchange *exchange, const char *line, size_t length)
{
    ck_stream *stream = &exchange->connection->stream;
    bool packed = exchange->phase == CK_RESPONSE_HEAD && stream->flushes == exchange->flushes_before;
    if (!packed || !ck_stream_reserve(stream, 0) || CK_CORK_CAPACITY - stream->cork->used < length) {
        return false;
    }
    char *head = stream->cork->data + exchange->mark;
    memmove(head + length, head, stream->cork->used - exchange->mark);
    memcpy(head, line, length);
    ck_stream_commit(stream, length);
    exchange->mark += (uint32_t) length;
    return true;
}

/* RFC 9110 S10.1.1: the body is wanted now; bytes that are there already make
 * the interim response pointless. */
static void send_continue(ck_connection *connection, ck_exchange *exchange)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    bool have_bytes = connection->cursor ? connection->cursor->length > 0 : connection->input != NULL;
    if (connection->continue_due && !have_bytes) {
        if (exchange->phase == CK_RESPONSE_IDLE) {
            (void) ck_stream_write(&connection->stream, line, sizeof(line) - 1);
        } else if (!insert_before_head(exchange, line, sizeof(line) - 1)) {
            return; /* too late to say it: clients do not wait for ever, but the connection ends here */
        }
    }
    connection->continue_due = false;
}

int ck_body_ask(uint32_t handle, int mode)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (mode != CK_BODY_COLLECT && mode != CK_BODY_STREAM) {
        return CK_STATE;
    }
    if (exchange->body_mode && exchange->body_mode != mode) {
        return CK_STATE;
    }
    bool first = !exchange->body_mode;
    exchange->body_mode = (uint8_t) mode;
    if (exchange->body_state == CK_BODY_FAILED) {
        return CK_ABORTED;
    }
    ck_connection *connection = exchange->connection;
    if (exchange->body_state == CK_BODY_DONE) {
        if (mode == CK_BODY_COLLECT) {
            return 1;
        }
        if (!connection || connection->exchange != exchange) {
            return connection ? CK_FINISHED : CK_ABORTED;
        }
        if (first) {
            exchange->want_empty = true; /* no body at all: one empty, last part */
            ck_loop_resume_later(exchange->loop, connection);
        }
        return 0;
    }
    if (!connection || connection->exchange != exchange) {
        return CK_FINISHED; /* the response has ended: the rest of the body is dropped */
    }
    if (!first) {
        return 0;
    }
    send_continue(connection, exchange);
    ck_connection_timer_for_phase(connection);
    if (connection->cursor) {
        if (mode == CK_BODY_COLLECT && connection->cursor->length && exchange->in_callback) {
            exchange->asking = true;
            int refused = ck_body_take(connection, connection->cursor);
            exchange->asking = false;
            connection->refusal = refused < 0 ? (int16_t) -refused : 0;
            return exchange->body_state == CK_BODY_DONE;
        }
        return 0; /* whoever goes through the input comes by here next */
    }
    ck_loop_resume_later(exchange->loop, connection);
    ck_connection_update_reading(connection);
    return 0;
}

int ck_body_limit(uint32_t handle, uint64_t bytes)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (exchange) {
        exchange->body_limit = bytes;
    }
    return error;
}

int ck_write_continue(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_writable(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase != CK_RESPONSE_IDLE) {
        return CK_STARTED;
    }
    ck_connection *connection = exchange->connection;
    if (exchange->head.minor_version >= 1) { /* RFC 9110 S15.2: never to a 1.0 client */
        connection->continue_due = true;
        send_continue(connection, exchange);
    }
    return CK_OK;
}
