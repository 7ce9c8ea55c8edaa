/* Publishing, and the delivery of what has been published.
 *
 * Theory of operation. A message is framed once, into memory that all its subscribers
 * refer to. Publishing gives each of them a reference, and sends nothing: at the end of
 * the iteration what each has been given leaves in one send, a single frame from where
 * it lies, several packed in a cork buffer that is one subscriber's after another. So a
 * fan-out needs one buffer, however wide it is, and the 64 that may be held are left to
 * those who write to their sockets.
 *
 * What is pending goes before whatever else is written to the socket, so the client gets
 * everything in the order in which it was written and published. It leaves early when it
 * fills a buffer.
 *
 * A client that does not keep up has a backlog. What is published to it then stays
 * pending: a reference costs 16 bytes, and a message with a key can still be replaced by
 * a newer one. References and the frames behind them count as if they were backlog, so
 * what is held for one client has the same limit. Nor does anything leave inside a
 * message that the application sends in fragments.
 *
 * A message that is to be compressed has a second shape for all who have agreed on that
 * and keep no context, made when the first of them is sent it. Who keeps a context must
 * compress for itself, when the message is written and can be replaced no more. */
#include "ws_connection.h"

#include <string.h>

#include "poison.h"

/* A frame, compressed for windows of so many bits. */
typedef struct ck_shape {
    struct ck_shape *next;
    unsigned bits;
    size_t length;
    char data[];
} ck_shape;

struct ck_frame {
    ck_shape *shapes;
    bool compress;
    uint32_t references;
    uint32_t identity_length;  /* of topic and key; 0 = without a key */
    uint64_t key;              /* hash of these */
    size_t length;             /* header and payload */
    uint8_t header;
    uint8_t opcode;
    char data[];               /* the frame, then the identity */
};

enum { PENDING_FIRST = 16 };

/* ---- Frames ---- */

static char *put_identity(char *at, const ck_publication *publication)
{
    uint16_t length = (uint16_t) publication->topic_length;
    memcpy(at, &length, sizeof(length)); /* so that topic and key have one border */
    memcpy(at + sizeof(length), publication->topic, publication->topic_length);
    at += sizeof(length) + publication->topic_length;
    if (publication->key_length) {
        memcpy(at, publication->key, publication->key_length);
    }
    return at + publication->key_length;
}

static ck_frame *frame_new(ck_app *app, const ck_publication *publication)
{
    size_t identity = publication->keyed ? sizeof(uint16_t) + publication->topic_length + publication->key_length : 0;
    ck_frame *frame = ck_alloc(app->loop, sizeof(*frame) + CK_WS_HEADER_MAX + publication->length + identity);
    if (!frame) {
        return NULL;
    }
    size_t header = ck_ws_put_header(frame->data, CK_WS_FIN | publication->opcode, publication->length);
    frame->shapes = NULL;
    frame->compress = publication->compress;
    frame->references = 1;
    frame->header = (uint8_t) header;
    frame->opcode = publication->opcode;
    frame->length = header + publication->length;
    frame->identity_length = (uint32_t) identity;
    frame->key = 0;
    if (publication->length) {
        memcpy(frame->data + header, publication->data, publication->length);
    }
    if (identity) {
        char *start = frame->data + frame->length;
        frame->key = ck_hash(app->topics.key, start, (size_t) (put_identity(start, publication) - start)) | 1;
    }
    return frame;
}

static void frame_release(ck_loop *loop, ck_frame *frame)
{
    if (--frame->references == 0) {
        while (frame->shapes) {
            ck_shape *shape = frame->shapes;
            frame->shapes = shape->next;
            ck_free(loop, shape);
        }
        ck_poison(frame, sizeof(*frame) + frame->length);
        ck_free(loop, frame);
    }
}

static bool same_identity(const ck_frame *one, const ck_frame *other)
{
    return one->identity_length == other->identity_length
        && memcmp(one->data + one->length, other->data + other->length, one->identity_length) == 0;
}

/* ---- Shapes ---- */

static ck_shape *shape_new(ck_loop *loop, const ck_frame *frame, unsigned bits)
{
    char *payload;
    size_t length;
    if (ck_deflate_shared(loop, bits, frame->data + frame->header, frame->length - frame->header, &payload, &length) != CK_OK) {
        return NULL;
    }
    ck_shape *shape = ck_alloc(loop, sizeof(*shape) + CK_WS_HEADER_MAX + length);
    if (shape) {
        size_t header = ck_ws_put_header(shape->data, CK_WS_FIN | CK_WS_RSV1 | frame->opcode, length);
        memcpy(shape->data + header, payload, length);
        shape->bits = bits;
        shape->length = header + length;
    }
    ck_free(loop, payload);
    return shape;
}

/* Returns the bytes for a WebSocket: without memory for others, the plain ones. */
static const char *shape_of(ck_loop *loop, ck_frame *frame, const ck_deflate *deflate, size_t *length)
{
    unsigned bits = frame->compress && deflate ? ck_deflate_shares(deflate) : 0;
    ck_shape *shape = frame->shapes;
    while (shape && shape->bits != bits) {
        shape = shape->next;
    }
    if (bits && !shape) {
        shape = shape_new(loop, frame, bits);
        if (shape) {
            shape->next = frame->shapes;
            frame->shapes = shape;
        }
    }
    *length = bits && shape ? shape->length : frame->length;
    return bits && shape ? shape->data : frame->data;
}

static bool compresses_itself(const ck_websocket *websocket, const ck_frame *frame)
{
    return frame->compress && websocket->deflate && ck_deflate_shares(websocket->deflate) == 0;
}

/* ---- The list of a subscriber ---- */

static ck_loop *loop_of(const ck_subscriber *subscriber)
{
    return subscriber->websocket->connection->stream.loop;
}

static ck_stream *stream_of(const ck_subscriber *subscriber)
{
    return &subscriber->websocket->connection->stream;
}

static size_t cost_of(const ck_frame *frame)
{
    return frame->length + sizeof(ck_pending);
}

static bool pending_room(ck_subscriber *subscriber)
{
    uint32_t at = subscriber->pending_first, count = subscriber->pending_count;
    if (!subscriber->pending) {
        subscriber->pending = subscriber->own;
        subscriber->pending_capacity = CK_PENDING_OWN;
    }
    if (at + count < subscriber->pending_capacity) {
        return true;
    }
    ck_pending *from = subscriber->pending + at, *to = subscriber->pending;
    bool larger = count > subscriber->pending_capacity / 2;
    uint32_t capacity = larger ? subscriber->pending_capacity * 2 : subscriber->pending_capacity;
    capacity = larger && capacity < PENDING_FIRST ? PENDING_FIRST : capacity;
    if (larger) {
        to = capacity <= UINT32_MAX / 4 ? ck_alloc(loop_of(subscriber), capacity * sizeof(*to)) : NULL;
        if (!to) {
            return false;
        }
    }
    memmove(to, from, count * sizeof(*to));
    if (larger && subscriber->pending != subscriber->own) {
        ck_free(loop_of(subscriber), subscriber->pending);
    }
    subscriber->pending = to;
    subscriber->pending_capacity = capacity;
    subscriber->pending_first = 0;
    return true;
}

static void due_remove(ck_subscriber *subscriber)
{
    if (!subscriber->due) {
        return;
    }
    ck_due *due = &loop_of(subscriber)->due;
    *(subscriber->due_previous ? &subscriber->due_previous->due_next : &due->first) = subscriber->due_next;
    *(subscriber->due_next ? &subscriber->due_next->due_previous : &due->last) = subscriber->due_previous;
    subscriber->due = false;
}

void ck_subscriber_due(ck_subscriber *subscriber)
{
    if (subscriber->due || !subscriber->pending_count) {
        return;
    }
    ck_loop *loop = loop_of(subscriber);
    ck_due *due = &loop->due;
    subscriber->due = true;
    subscriber->due_next = NULL;
    subscriber->due_previous = due->last;
    *(due->last ? &due->last->due_next : &due->first) = subscriber;
    due->last = subscriber;
    ck_loop_need_step(loop);
}

/* Takes the first one out. The caller has its reference now. */
static ck_frame *pending_take(ck_subscriber *subscriber)
{
    ck_frame *frame = subscriber->pending[subscriber->pending_first++].frame;
    subscriber->pending_bytes -= cost_of(frame);
    if (--subscriber->pending_count == 0) {
        if (subscriber->pending != subscriber->own) {
            ck_free(loop_of(subscriber), subscriber->pending);
        }
        subscriber->pending = NULL;
        subscriber->pending_first = subscriber->pending_capacity = 0;
        due_remove(subscriber);
    }
    return frame;
}

void ck_subscriber_forget(ck_subscriber *subscriber)
{
    while (subscriber->pending_count) {
        frame_release(loop_of(subscriber), pending_take(subscriber));
    }
}

/* ---- Sending ---- */

/* Whether what is pending has to stay so for now. */
static bool is_held(const ck_subscriber *subscriber)
{
    return subscriber->websocket->fragmented || ck_stream_waits(stream_of(subscriber));
}

static void write_frame(const ck_websocket *websocket, ck_frame *frame)
{
    ck_stream *stream = &websocket->connection->stream;
    if (compresses_itself(websocket, frame)) {
        const char *payload = frame->data + frame->header;
        unsigned first = CK_WS_FIN | frame->opcode;
        if (ck_ws_write_compressed(stream, websocket->deflate, first, payload, frame->length - frame->header) != CK_NOMEM) {
            return;
        }
    }
    size_t length;
    const char *data = shape_of(stream->loop, frame, websocket->deflate, &length);
    if (ck_stream_write(stream, data, length) == CK_NOMEM && !stream->broken) {
        (void) ck_stream_send(stream, data, length, CK_FLUSH_VECTORED); /* needs no buffer */
    }
}

void ck_subscriber_pack(ck_subscriber *subscriber, bool all)
{
    const ck_stream *stream = stream_of(subscriber);
    ck_loop *loop = stream->loop;
    while (subscriber->pending_count && !subscriber->websocket->fragmented && (all || !ck_stream_waits(stream))) {
        ck_frame *frame = pending_take(subscriber);
        write_frame(subscriber->websocket, frame);
        frame_release(loop, frame);
    }
}

static void send_first(ck_subscriber *subscriber)
{
    ck_loop *loop = loop_of(subscriber);
    ck_frame *frame = pending_take(subscriber);
    size_t length;
    const char *data = shape_of(loop, frame, subscriber->websocket->deflate, &length);
    (void) ck_stream_send(stream_of(subscriber), data, length, CK_FLUSH_ITERATION);
    frame_release(loop, frame);
}

/* One send for all that is pending. May end the WebSocket. */
static void deliver(ck_subscriber *subscriber)
{
    ck_websocket *websocket = subscriber->websocket;
    ck_stream *stream = stream_of(subscriber);
    if (websocket->closing) {
        ck_subscriber_forget(subscriber);
        return;
    }
    if (is_held(subscriber)) {
        return; /* the end of the fragments, or of the backlog, delivers it */
    }
    if (websocket->limits.idle_on_send) {
        ck_connection_timer_for_phase(websocket->connection);
    }
    bool corked = ck_stream_cork(stream) == 0;
    bool copied = subscriber->pending_count > 1 || stream->depth > 1
        || compresses_itself(websocket, subscriber->pending[subscriber->pending_first].frame);
    if (corked && copied) {
        ck_subscriber_pack(subscriber, false);
    } else {
        send_first(subscriber);
        ck_subscriber_due(subscriber); /* without memory for a cork: one in each iteration */
    }
    if (corked) {
        ck_stream_uncork(stream);
    }
}

void ck_topics_deliver(ck_loop *loop)
{
    const ck_subscriber *last = loop->due.last;
    while (loop->due.first) {
        ck_subscriber *subscriber = loop->due.first;
        bool was_last = subscriber == last; /* what comes behind it has been published meanwhile */
        due_remove(subscriber);
        deliver(subscriber);
        if (was_last) {
            break;
        }
    }
}

/* ---- Publishing ---- */

/* The client does not keep up, and has what it may have. */
static void drop(const ck_subscriber *subscriber, const ck_frame *frame)
{
    ck_websocket *websocket = subscriber->websocket;
    ck_loop *loop = loop_of(subscriber);
    uint32_t handle = websocket->handle;
    ck_websocket_dropped(websocket, frame->opcode, frame->data + frame->header, frame->length - frame->header);
    websocket = ck_handle_get(&loop->handles, handle, CK_KIND_WEBSOCKET);
    if (websocket && websocket->limits.close_on_backlog) {
        ck_connection *connection = websocket->connection;
        connection->stream.broken = true; /* nothing that is packed would be read either */
        ck_connection_close(connection, CK_ABORT_TIMEOUT);
    }
}

/* Returns the place of an older message for the same topic and key. */
static ck_pending *older(ck_subscriber *subscriber, const ck_frame *frame)
{
    for (uint32_t i = 0; i < subscriber->pending_count; i++) {
        ck_pending *at = &subscriber->pending[subscriber->pending_first + i];
        if (at->key == frame->key && same_identity(at->frame, frame)) {
            return at;
        }
    }
    return NULL;
}

static void append(ck_subscriber *subscriber, ck_frame *frame)
{
    ck_pending *at = subscriber->pending + subscriber->pending_first + subscriber->pending_count++;
    *at = (ck_pending) {frame, frame->key};
    subscriber->pending_bytes += cost_of(frame);
    frame->references++;
}

static void replace(ck_subscriber *subscriber, ck_pending *place, ck_frame *frame)
{
    subscriber->pending_bytes += cost_of(frame) - cost_of(place->frame);
    frame->references++;
    frame_release(loop_of(subscriber), place->frame);
    place->frame = frame;
}

static bool over_backlog(const ck_subscriber *subscriber, size_t less)
{
    uint64_t limit = subscriber->websocket->limits.backlog;
    return limit && ck_websocket_waiting(subscriber->websocket) - less > limit;
}

/* Gives a subscriber its reference. May call back, and end whatever can be ended. */
static void enqueue(ck_loop *loop, ck_subscriber *subscriber, ck_frame *frame)
{
    uint32_t handle = subscriber->websocket->handle;
    ck_pending *place = frame->key ? older(subscriber, frame) : NULL;
    bool fits = place || subscriber->pending_bytes + cost_of(frame) <= CK_CORK_CAPACITY;
    if (subscriber->pending_count && !is_held(subscriber) && (!fits || !(place || pending_room(subscriber)))) {
        deliver(subscriber); /* what is pending fills a send */
        if (!ck_handle_get(&loop->handles, handle, CK_KIND_WEBSOCKET)) {
            return;
        }
    }
    if (is_held(subscriber) && over_backlog(subscriber, place ? cost_of(place->frame) : 0)) {
        drop(subscriber, frame);
    } else if (place) {
        replace(subscriber, place, frame);
    } else if (pending_room(subscriber)) {
        append(subscriber, frame);
        if (!is_held(subscriber)) {
            ck_subscriber_due(subscriber);
        }
    } else {
        drop(subscriber, frame);
    }
}

int ck_topics_publish(ck_app *app, const ck_subscriber *sender, const ck_publication *publication)
{
    ck_loop *loop = app->loop;
    ck_frame *frame = NULL;
    ck_walk walk;
    int count = 0;
    ck_walk_begin(&walk, &app->topics, publication->topic, publication->topic_length);
    for (ck_subscriber *to = ck_walk_next(&walk); to; to = ck_walk_next(&walk)) {
        if (to == sender || to->websocket->closing || to->websocket->connection->stream.broken) {
            continue;
        }
        frame = frame ? frame : frame_new(app, publication);
        if (!frame) {
            count = CK_NOMEM;
            break;
        }
        count++;
        enqueue(loop, to, frame);
    }
    ck_walk_end(&walk);
    if (frame) {
        frame_release(loop, frame);
    }
    return count;
}
