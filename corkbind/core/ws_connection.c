/* An open WebSocket: its messages, its timers, and its end.
 *
 * Theory of operation. The connection hands over what it receives; the reader
 * (ws_frame.c) makes parts of it. A message that has come whole goes to the
 * application from where it lies; any other is collected in memory that grows with
 * what has come, never with what was announced. A message, a ping or a pong runs
 * the callback inside the cork of its read, so all that is written to it leaves in
 * one send.
 *
 * The end is told once, by ck_websocket_over: with the code of the client's close
 * frame, with ours when it broke the protocol, or with 1006 when the connection
 * went without one. From then on the handle is stale, and the connection lingers
 * like any other that serves no more. */
#include "ws_connection.h"

#include <string.h>

#include "libusockets_ext.h"
#include "poison.h"
#include "python.h"

enum { PING_MARGIN_MAX = 20, PING_MARGIN_MIN = 8, IDLE_PER_MARGIN = 6, RSV_2_AND_3 = 0x30 };

/* ---- To the application ---- */

bool ck_websocket_tell(const ck_websocket *websocket, int event, void *payload, int number)
{
    const ck_python *py = ck_python_bound();
    if (!payload) {
        ck_python_forget_error();
        return false;
    }
    ck_python_websocket(websocket->connection->stream.loop, websocket->handle, event, payload, number);
    py->decref(payload);
    return true;
}

/* Calls back with an object made of the payload, which for text has been checked. */
static bool tell(const ck_websocket *websocket, int event, const char *data, size_t length, int code)
{
    const ck_python *py = ck_python_bound();
    bool text = event == CK_WS_EVENT_TEXT || event == CK_WS_EVENT_CLOSED;
    const char *bytes = length ? data : "";
    void *payload = text ? py->utf8(bytes, (ptrdiff_t) length, NULL) : py->bytes_new(bytes, (ptrdiff_t) length);
    return ck_websocket_tell(websocket, event, payload, code);
}

void ck_websocket_dropped(const ck_websocket *websocket, int opcode, const char *data, size_t length)
{
    const ck_python *py = ck_python_bound();
    bool text = opcode == CK_WS_TEXT; /* which the application may have made of anything */
    void *payload = text ? py->utf8(data, (ptrdiff_t) length, "surrogateescape") : py->bytes_new(data, (ptrdiff_t) length);
    (void) ck_websocket_tell(websocket, CK_WS_EVENT_DROPPED, payload, opcode);
}

void ck_websocket_over(ck_connection *connection, unsigned code, const char *reason, size_t length)
{
    ck_websocket *websocket = connection->websocket;
    ck_loop *loop = connection->stream.loop;
    connection->websocket = NULL;
    ck_handle_drop(&loop->handles, websocket->handle);
    ck_subscriber_over(websocket);
    if (!tell(websocket, CK_WS_EVENT_CLOSED, reason, length, (int) code)) {
        (void) tell(websocket, CK_WS_EVENT_CLOSED, "", 0, (int) code); /* the empty string is always there */
    }
    ck_free(loop, websocket->message);
    ck_deflate_free(loop, websocket->deflate);
    ck_poison(websocket, sizeof(*websocket));
    ck_free(loop, websocket);
}

/* ---- What is written ---- */

size_t ck_websocket_waiting(const ck_websocket *websocket)
{
    const ck_stream *stream = &websocket->connection->stream;
    size_t pending = websocket->subscriber ? websocket->subscriber->pending_bytes : 0;
    return ck_stream_buffered(stream) - ck_stream_packed(stream) + pending;
}

void ck_websocket_pack(ck_websocket *websocket)
{
    if (websocket->subscriber && websocket->subscriber->pending_count) {
        ck_subscriber_pack(websocket->subscriber, true);
    }
}

/* What has been published before it goes first. */
static int write_close(ck_connection *connection, unsigned code, const char *reason, size_t length)
{
    ck_websocket_pack(connection->websocket);
    return ck_ws_write_close(&connection->stream, code, reason, length);
}

/* Nothing more is read; the client gets what is written, and then our FIN. */
static void end(ck_connection *connection, unsigned code, const char *reason, size_t length)
{
    ck_connection_linger(connection);
    ck_websocket_over(connection, code, reason, length);
}

/* Closes because of what the client did, or what we could not do. */
static void fail(ck_connection *connection, unsigned code)
{
    if (connection->websocket->closing) {
        end(connection, CK_WS_ABNORMAL, "", 0);
    } else if (write_close(connection, code, "", 0) == CK_OK) {
        end(connection, code, "", 0);
    } else {
        ck_connection_close(connection, CK_ABORT_SERVER);
    }
}

/* ---- Messages ---- */

/* Keeps a part, in never more memory than a message may have. */
static bool append(ck_websocket *websocket, const ck_ws_part *part)
{
    size_t needed = websocket->message_length + part->length;
    if (needed > websocket->message_capacity) {
        uint64_t most = websocket->limits.message;
        size_t capacity = needed + websocket->message_length / 2;
        capacity = capacity > most ? (size_t) most : capacity; /* the reader has seen to it that it is enough */
        char *message = ck_resize(websocket->connection->stream.loop, websocket->message, capacity);
        if (!message) {
            return false;
        }
        websocket->message = message;
        websocket->message_capacity = capacity;
    }
    if (part->length) {
        memcpy(websocket->message + websocket->message_length, part->data, part->length);
    }
    websocket->message_length = needed;
    return true;
}

static void deliver_collected(ck_connection *connection, int event)
{
    ck_websocket *websocket = connection->websocket;
    ck_loop *loop = connection->stream.loop;
    char *message = websocket->message;
    size_t length = websocket->message_length;
    websocket->message = NULL; /* ours during the callback, which may end the WebSocket */
    websocket->message_length = websocket->message_capacity = 0;
    bool told = tell(websocket, event, message, length, 0);
    ck_free(loop, message);
    if (!told) {
        fail(connection, CK_WS_FAILED);
    }
}

static void take_part(ck_connection *connection, const ck_ws_part *part)
{
    ck_websocket *websocket = connection->websocket;
    if (part->last && !websocket->message_length) {
        if (!tell(websocket, part->opcode, part->data, part->length, 0)) {
            fail(connection, CK_WS_FAILED);
        }
    } else if (!append(websocket, part)) {
        fail(connection, CK_WS_FAILED);
    } else if (part->last) {
        deliver_collected(connection, part->opcode);
    }
}

/* Inflates what has come: to at most one message, after which the WebSocket may be over. */
static void take_compressed(ck_connection *connection, ck_ws_part *compressed)
{
    ck_loop *loop = connection->stream.loop;
    for (;;) {
        ck_ws_part part;
        int result = ck_inflate(loop, connection->websocket->deflate, compressed, &part);
        if (result < 0) {
            fail(connection, (unsigned) -result);
        } else if (result == CK_WS_PART) {
            take_part(connection, &part);
        }
        if (result != CK_WS_PART || part.last || !connection->websocket) {
            return;
        }
    }
}

static void take_data(ck_connection *connection, ck_ws_part *part)
{
    if (connection->websocket->closing) {
        return; /* who has closed wants no more messages */
    }
    if (part->compressed) {
        take_compressed(connection, part);
    } else {
        take_part(connection, part);
    }
}

/* ---- Control frames ---- */

/* RFC 6455 S5.5.3: of several pings the latest may be the one that is answered. */
static void answer_ping(ck_connection *connection, const ck_ws_part *part)
{
    ck_websocket *websocket = connection->websocket;
    if (ck_stream_waits(&connection->stream)) {
        memcpy(websocket->pong, part->data, part->length);
        websocket->pong_length = (uint8_t) part->length;
        websocket->pong_due = true;
    } else {
        (void) ck_ws_write(&connection->stream, CK_WS_FIN | CK_WS_PONG, part->data, part->length);
    }
}

static void take_close(ck_connection *connection, const ck_ws_part *part)
{
    char reason[CK_WS_REASON_MAX];
    memcpy(reason, part->data, part->length); /* the reader goes before the application has it */
    unsigned code = part->code;
    if (!connection->websocket->closing && write_close(connection, code, "", 0) != CK_OK) {
        ck_connection_close(connection, CK_ABORT_SERVER);
        return;
    }
    end(connection, code, reason, part->length);
}

static void take_control(ck_connection *connection, const ck_ws_part *part)
{
    const ck_websocket *websocket = connection->websocket;
    if (part->opcode == CK_WS_CLOSE) {
        take_close(connection, part);
        return;
    }
    if (websocket->closing) {
        return;
    }
    if (part->opcode == CK_WS_PING) {
        answer_ping(connection, part);
    }
    if (!tell(websocket, part->opcode, part->data, part->length, 0)) {
        fail(connection, CK_WS_FAILED);
    }
}

bool ck_websocket_take(ck_connection *connection, ck_cursor *cursor)
{
    if (cursor->length == 0 || connection->user_paused) {
        return false;
    }
    ck_websocket *websocket = connection->websocket;
    if (!websocket->closing) { /* else the time for the client's close frame runs */
        ck_connection_timer(connection, CK_TIMER_WS_IDLE);
    }
    ck_ws_part part = {0};
    int result = ck_ws_next(&websocket->reader, &cursor->data, &cursor->length, &part);
    if (result < 0) {
        fail(connection, (unsigned) -result);
    } else if (result == CK_WS_PART) {
        take_data(connection, &part);
    } else if (result == CK_WS_CONTROL) {
        take_control(connection, &part);
    }
    return true;
}

void ck_websocket_drained(ck_connection *connection)
{
    ck_websocket *websocket = connection->websocket;
    if (websocket->pong_due && !websocket->closing) { /* nothing follows our close frame */
        websocket->pong_due = false;
        (void) ck_ws_write(&connection->stream, CK_WS_FIN | CK_WS_PONG, websocket->pong, websocket->pong_length);
    }
    if (websocket->subscriber && websocket->subscriber->pending_count) {
        ck_subscriber_pack(websocket->subscriber, false);
        ck_stream_flush(&connection->stream, CK_FLUSH_EXPLICIT);
        if (ck_stream_waits(&connection->stream) || connection->stream.broken) {
            return;
        }
    }
    (void) tell(websocket, CK_WS_EVENT_DRAIN, "", 0, 0);
}

/* ---- Timers ---- */

/* A ping goes early enough for its answer to come in time; timeouts may come 4 s early. */
static unsigned ping_margin(const ck_ws_limits *limits)
{
    unsigned margin = limits->idle_seconds / IDLE_PER_MARGIN;
    margin = margin < PING_MARGIN_MIN ? PING_MARGIN_MIN : margin > PING_MARGIN_MAX ? PING_MARGIN_MAX : margin;
    return limits->pings && limits->idle_seconds > margin ? margin : 0;
}

unsigned ck_websocket_seconds(const ck_websocket *websocket, enum ck_timer timer)
{
    const ck_ws_limits *limits = &websocket->limits;
    if (timer == CK_TIMER_WS_CLOSE) {
        return limits->close_seconds;
    }
    unsigned margin = ping_margin(limits);
    return timer == CK_TIMER_WS_PONG ? margin : limits->idle_seconds - margin;
}

void ck_websocket_timed_out(ck_connection *connection, enum ck_timer timer)
{
    const ck_websocket *websocket = connection->websocket;
    if (timer != CK_TIMER_WS_CLOSE && connection->user_paused) {
        ck_connection_timer(connection, CK_TIMER_WS_IDLE); /* it is we who do not listen */
        return;
    }
    if (timer == CK_TIMER_WS_IDLE && ping_margin(&websocket->limits)) {
        if (ck_ws_write(&connection->stream, CK_WS_FIN | CK_WS_PING, "", 0) == CK_OK) {
            ck_connection_timer(connection, CK_TIMER_WS_PONG);
            return;
        }
    } else if (timer == CK_TIMER_WS_PONG) {
        static const char reason[] = "ping timeout";
        (void) write_close(connection, CK_WS_FAILED, reason, sizeof(reason) - 1);
    }
    connection->app->stats.timeouts++;
    ck_connection_close(connection, CK_ABORT_TIMEOUT); /* without a close frame of the client's: 1006 */
}

/* ---- Entries ---- */

static ck_websocket *websocket_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_WEBSOCKET, error);
}

static int begin_close(ck_websocket *websocket, unsigned code, const char *reason, size_t length)
{
    ck_connection *connection = websocket->connection;
    if (websocket->closing) {
        return CK_FINISHED;
    }
    int result = write_close(connection, code, reason, length);
    if (result == CK_OK) {
        websocket->closing = true;
        websocket->pong_due = false; /* nothing comes behind a close frame */
        ck_connection_timer(connection, CK_TIMER_WS_CLOSE);
    }
    return result;
}

void ck_websocket_going_away(ck_connection *connection)
{
    (void) begin_close(connection->websocket, CK_WS_GOING_AWAY, "", 0);
}

/* ---- Age ---- */

/* Minutes end for all sockets at once. The one that runs now is not counted, so that
 * nobody is closed before its time; at most a minute after it. */
void ck_websocket_born(ck_connection *connection)
{
    if (connection->websocket->limits.lifetime_minutes) {
        us_socket_long_timeout(0, connection->stream.socket, 1);
    }
}

void ck_websocket_aged(ck_connection *connection)
{
    ck_websocket *websocket = connection->websocket;
    unsigned minutes = websocket->limits.lifetime_minutes;
    if (websocket->aging) {
        minutes = begin_close(websocket, CK_WS_GOING_AWAY, "", 0) == CK_NOMEM; /* then once more */
    }
    websocket->aging = true;
    us_socket_long_timeout(0, connection->stream.socket, minutes);
}

int ck_ws_close(uint32_t handle, int code, const char *reason, int length)
{
    int error;
    ck_websocket *websocket = websocket_of(handle, &error);
    if (!websocket) {
        return error;
    }
    bool coded = code == CK_WS_NO_CODE ? length == 0 : code > 0 && ck_ws_close_code_valid((unsigned) code);
    if (!coded || length < 0 || length > CK_WS_REASON_MAX) {
        return CK_VALUE;
    }
    ck_utf8 text = {0, 0, 0};
    size_t size = (size_t) length;
    if (ck_utf8_check(&text, reason, size) < size || !ck_utf8_complete(&text)) {
        return CK_VALUE;
    }
    return begin_close(websocket, (unsigned) code, reason, size);
}

int ck_ws_terminate(uint32_t handle)
{
    int error;
    ck_websocket *websocket = websocket_of(handle, &error);
    if (websocket) {
        ck_connection_close(websocket->connection, CK_ABORT_SERVER);
    }
    return error;
}

/* Whether a frame of this kind may come now. */
static bool in_order(const ck_websocket *websocket, unsigned first, int length)
{
    unsigned opcode = first & 0x0F;
    if (opcode >= CK_WS_CLOSE) {
        bool known = opcode == CK_WS_PING || opcode == CK_WS_PONG;
        return known && (first & CK_WS_FIN) && !(first & RSV_2_AND_3) && length <= CK_WS_CONTROL_MAX;
    }
    return opcode <= CK_WS_BINARY && (opcode == CK_WS_CONTINUATION) == websocket->fragmented && !(first & RSV_2_AND_3);
}

/* The client does not read, and has what it may have. Part of a message is never left out. */
static bool over_backlog(const ck_websocket *websocket, unsigned first)
{
    bool limited = websocket->limits.backlog && (first & 0x0F) != CK_WS_CONTINUATION;
    return limited && ck_websocket_waiting(websocket) > websocket->limits.backlog;
}

/* Whether a frame is to be compressed: what its message began with decides for all of it. */
static bool compresses(const ck_websocket *websocket, unsigned first)
{
    unsigned opcode = first & 0x0F;
    if (!websocket->deflate || opcode > CK_WS_BINARY) {
        return false;
    }
    return opcode == CK_WS_CONTINUATION ? websocket->deflate->sending : (first & CK_WS_RSV1) != 0;
}

/* Writes a frame. Returns 0, CK_ABORTED or CK_NOMEM. */
static int send_frame(ck_websocket *websocket, const char *data, size_t length, unsigned first)
{
    ck_stream *stream = &websocket->connection->stream;
    bool compressed = compresses(websocket, first);
    first &= ~(unsigned) CK_WS_RSV1;
    int result = compressed ? ck_ws_write_compressed(stream, websocket->deflate, first, data, length)
                            : ck_ws_write(stream, first, data, length);
    if (result == CK_OK && (first & 0x0F) < CK_WS_CLOSE) {
        websocket->fragmented = !(first & CK_WS_FIN);
        if (websocket->deflate) {
            websocket->deflate->sending = compressed && websocket->fragmented;
        }
    }
    return result;
}

/* Whether text is UTF-8, which a client would close for. `text` becomes where it stands after this frame. */
static bool text_valid(const ck_websocket *websocket, unsigned first, const char *data, size_t length, ck_utf8 *text)
{
    unsigned opcode = first & 0x0F;
    *text = websocket->text;
    if (opcode == CK_WS_TEXT) {
        *text = (ck_utf8){0, 0, 0};
    } else if (opcode != CK_WS_CONTINUATION || !websocket->fragmented_text) {
        return true;
    }
    return ck_utf8_check(text, data, length) == length && (!(first & CK_WS_FIN) || ck_utf8_complete(text));
}

int ck_ws_send(uint32_t handle, const char *data, int length, int first)
{
    int error;
    ck_websocket *websocket = websocket_of(handle, &error);
    if (!websocket || websocket->closing) {
        return websocket ? CK_FINISHED : error;
    }
    if (length < 0 || first < 0 || first > 255 || !in_order(websocket, (unsigned) first, length)) {
        return CK_STATE;
    }
    ck_utf8 text;
    if (!text_valid(websocket, (unsigned) first, data, (size_t) length, &text)) {
        return CK_VALUE;
    }
    ck_connection *connection = websocket->connection;
    if (over_backlog(websocket, (unsigned) first)) {
        if (websocket->limits.close_on_backlog) {
            connection->stream.broken = true; /* nothing that is packed would be read either */
            ck_connection_close(connection, CK_ABORT_TIMEOUT);
        }
        return CK_WS_DROPPED;
    }
    ck_websocket_pack(websocket);
    error = send_frame(websocket, data, (size_t) length, (unsigned) first);
    if (error != CK_OK) {
        return error;
    }
    websocket->text = text;
    if ((first & 0x0F) != CK_WS_CONTINUATION && (first & 0x0F) < CK_WS_CLOSE) {
        websocket->fragmented_text = (first & 0x0F) == CK_WS_TEXT;
    }
    if (websocket->subscriber && !websocket->fragmented) {
        ck_subscriber_due(websocket->subscriber); /* what the fragments have held up */
    }
    if (websocket->limits.idle_on_send) {
        ck_connection_timer_for_phase(connection);
    }
    return ck_stream_waits(&connection->stream) ? CK_WS_WAITS : CK_WS_SENT;
}

int ck_ws_compressed(uint32_t handle)
{
    int error;
    const ck_websocket *websocket = websocket_of(handle, &error);
    return websocket ? websocket->deflate != NULL : error;
}

int ck_ws_pause(uint32_t handle, int paused)
{
    int error;
    ck_websocket *websocket = websocket_of(handle, &error);
    if (!websocket) {
        return error;
    }
    ck_connection *connection = websocket->connection;
    if (connection->user_paused && !paused) {
        ck_connection_timer_for_phase(connection);
    }
    connection->user_paused = paused != 0;
    if (!paused && !connection->cursor) {
        ck_loop_resume_later(connection->stream.loop, connection);
    }
    ck_connection_update_reading(connection);
    return CK_OK;
}

int ck_ws_buffered(uint32_t handle)
{
    int error;
    const ck_websocket *websocket = websocket_of(handle, &error);
    if (!websocket) {
        return error;
    }
    size_t buffered = ck_websocket_waiting(websocket) + ck_stream_packed(&websocket->connection->stream);
    return buffered > INT32_MAX ? INT32_MAX : (int) buffered;
}

int ck_ws_cork(uint32_t handle)
{
    int error;
    const ck_websocket *websocket = websocket_of(handle, &error);
    return websocket ? ck_stream_cork(&websocket->connection->stream) : error;
}

int ck_ws_uncork(uint32_t handle)
{
    int error;
    const ck_websocket *websocket = websocket_of(handle, &error);
    return websocket ? ck_stream_uncork(&websocket->connection->stream) : error;
}

int ck_ws_flush(uint32_t handle)
{
    int error;
    ck_websocket *websocket = websocket_of(handle, &error);
    if (websocket) {
        ck_websocket_pack(websocket);
        ck_stream_flush_now(&websocket->connection->stream);
    }
    return error;
}
