/* Fuzzes whole WebSocket connections over a system-call table in memory. An input is a
 * byte that chooses limits, then operations: clients shake hands, well or badly, send
 * frames whole, in pieces and broken, stop, reset, read slowly or not at all; sends and
 * receives fail; time passes; memory runs out; and the application accepts at once or
 * later, sends, fragments, pings, pauses, corks, closes, breaks off, inside callbacks
 * and outside, with good handles and with bad ones.
 *
 * After each operation: descriptors as in the model, memory within what the limits
 * allow, nothing told of a WebSocket that is over. At the end: what each client heard
 * is read by a strict client: an answer to the handshake, then what the application
 * was told that it sent, in that order, pongs for pings that were sent, and nothing
 * behind a close frame. What the application was told is what the reference reader sees
 * in the client's bytes, and the end, once, for each that was accepted. Nothing is left,
 * and a second run leaves the same trace. */
#include "client_deflate.h"
#include "counted.h"
#include "fuzz.h"
#include "reference_chunked.h"
#include "reference_extensions.h"
#include "reference_handshake.h"
#include "reference_ws.h"
#include "response_reader.h"
#include "server_frames.h"
#include "ws_frame.h"

enum { CLIENTS = 4, ASKED_MAX = 64, OPERATIONS_MAX = 300, BODY = 70000, BACKLOG_OF_OURS = 100000 };

/* What the application was told that it sent. */
struct sent {
    uint8_t first;   /* FIN and opcode */
    bool compressed; /* its message is */
    char fill;
    size_t length;
};

/* A WebSocket; each client has one at most. */
struct socket {
    uint32_t handle;     /* 0 = none yet */
    const char *protocol;
    size_t valid_before; /* good handshakes of its client that came before its own */
    bool over, closing, fragmented, compressed; /* the message that has begun */
    int code;            /* that it ended with */
    struct sent *sent;
    size_t sent_count;
    char *seen;          /* events, as the reference writes them */
    size_t seen_length;
};

/* A request that waits for its answer. */
struct asked {
    uint32_t handle;
    int client;
    size_t valid_before;
    bool released, aborted;
};

static struct {
    fuzz_input in;
    const ck_ws_limits *limits;
    peer *clients[CLIENTS];
    struct socket sockets[CLIENTS];
    size_t valid[CLIENTS]; /* good handshakes that the application has seen */
    bool disturbed[CLIENTS]; /* its bytes may have been lost */
    bool unclear[CLIENTS];   /* it sent what is compressed in no usual way: what follows is not compared */
    int client_count;
    struct asked asked[ASKED_MAX];
    int asked_count;
    long descriptors; /* without those of clients */
    bool short_of_memory; /* at some time */
    bool drained;
    uint64_t trace;
} run;

static char fills[26][BODY];

static void trace(uint64_t what)
{
    run.trace = (run.trace ^ what) * 1099511628211U;
}

static int traced(int result)
{
    trace((uint64_t)(int64_t)result);
    return result;
}

/* ---- The application ---- */

static struct socket *socket_of(uint32_t handle)
{
    for (int i = 0; i < run.client_count; i++)
        if (handle && run.sockets[i].handle == handle && !run.sockets[i].over)
            return &run.sockets[i];
    return NULL;
}

static int some_length(void)
{
    static const int lengths[] = {0, 1, 5, 125, 126, 127, 4096, 4097, 16384, 65535, 65536, 70000};
    return lengths[fuzz_byte(&run.in) % 12];
}

static void note_sent(struct socket *socket, int first, char fill, size_t length)
{
    bool control = (first & 15) >= CK_WS_CLOSE;
    if (!control && (first & 15) != CK_WS_CONTINUATION)
        socket->compressed = (first & CK_WS_RSV1) && ck_ws_compressed(socket->handle) == 1;

    socket->sent = realloc(socket->sent, (socket->sent_count + 1) * sizeof *socket->sent);
    DEMAND(socket->sent != NULL);
    socket->sent[socket->sent_count++] = (struct sent){(uint8_t)(first & ~CK_WS_RSV1), !control && socket->compressed, fill, length};
    if (!control)
        socket->fragmented = !(first & CK_WS_FIN);
}

/* Sends, and demands the result that the model has for it. */
static void send_frame(struct socket *socket, int first, int length)
{
    uint32_t handle = socket->handle;
    int opcode = first & 15;
    bool control = opcode == CK_WS_PING || opcode == CK_WS_PONG;
    bool in_order = control ? (first & CK_WS_FIN) && length <= CK_WS_CONTROL_MAX
                            : opcode <= CK_WS_BINARY && (opcode == 0) == socket->fragmented;
    in_order = in_order && !(first & 0x30);
    if (in_order && opcode == 0 && ck_ws_buffered(handle) > BACKLOG_OF_OURS)
        return; /* nothing but the application limits these */
    char fill = (char)('a' + socket->sent_count % 26);
    const char *text = fills[fill - 'a'] + BODY - length; /* nothing of it lies behind */
    int result = traced(ck_ws_send(handle, text, length, first));
    if (socket->closing) {
        DEMAND(result == CK_FINISHED || run.drained);
    } else if (!in_order) {
        DEMAND(result == CK_STATE || (result == CK_FINISHED && run.drained));
    } else if (result == CK_WS_SENT || result == CK_WS_WAITS) {
        note_sent(socket, first, fill, (size_t)length);
    } else {
        bool dropped = result == CK_WS_DROPPED && run.limits->backlog > 0 && opcode != 0;
        bool failed = result == CK_ABORTED || (result == CK_NOMEM && run.short_of_memory);
        DEMAND(dropped || failed || (result == CK_FINISHED && run.drained));
    }
}

static void close_it(struct socket *socket)
{
    static const int codes[] = {1000, 1001, 1011, 3000, 4999, CK_WS_NO_CODE, 0, 999, 1004, 1006, 1015, 2999, 5000, -1, 65536 + 1000};
    uint8_t choice = fuzz_byte(&run.in);
    int code = codes[choice % 15], length = choice & 128 ? 3 : 0;
    bool good = choice % 15 < 5 || (choice % 15 == 5 && length == 0);
    int result = traced(ck_ws_close(socket->handle, code, choice & 64 ? "a\xFFz" : "bye", length));
    good = good && !(length && (choice & 64));
    if (!good)
        DEMAND(result == CK_VALUE);
    else if (socket->closing)
        DEMAND(result == CK_FINISHED);
    else
        DEMAND(result == CK_OK || result == CK_ABORTED || (result == CK_NOMEM && run.short_of_memory)
            || (result == CK_FINISHED && run.drained));
    socket->closing = socket->closing || result == CK_OK;
}

/* None of these names a WebSocket, so nothing must happen. */
static void use_wrong_handle(void)
{
    uint32_t handle = 0;
    switch (fuzz_byte(&run.in) % 4) {
    case 0: handle = fuzz_byte(&run.in); break;
    case 1: handle = world.app; break;
    case 2: handle = world.last; break;
    default: handle = run.sockets[fuzz_byte(&run.in) % CLIENTS].handle ^ (uint32_t)1 << fuzz_byte(&run.in) % 32; break;
    }
    if (socket_of(handle))
        return;
    DEMAND(ck_ws_send(handle, "x", 1, CK_WS_FIN | CK_WS_TEXT) < 0 && ck_ws_close(handle, 1000, "", 0) < 0);
    DEMAND(ck_ws_terminate(handle) < 0 && ck_ws_pause(handle, 1) < 0 && ck_ws_buffered(handle) < 0);
    DEMAND(ck_ws_cork(handle) < 0 && ck_ws_uncork(handle) < 0 && ck_ws_flush(handle) < 0);
}

/* Nothing of HTTP can be done with it. */
static void use_as_request(uint32_t handle)
{
    DEMAND(ck_send(handle, 200, "a/b", 3, "x", 1, 0) < 0 && ck_end(handle, "x", 1, 0) < 0 && ck_keep(handle) < 0);
    DEMAND(ck_close(handle) < 0 && ck_pause(handle, 1) < 0 && ck_upgrade(handle, "", 0) < 0 && ck_release(handle) < 0);
}

/* Does what the next byte says with a WebSocket, which may be over after it. 0, also at the input's end, does nothing. */
static void act(uint32_t handle)
{
    struct socket *socket = socket_of(handle);
    if (!socket)
        return;
    uint8_t choice = fuzz_byte(&run.in);
    switch (choice % 22) {
    case 1: send_frame(socket, CK_WS_FIN | CK_WS_TEXT, choice & 128 ? 5 : 100); break;
    case 2: send_frame(socket, CK_WS_FIN | CK_WS_BINARY, some_length()); break;
    case 3: send_frame(socket, CK_WS_TEXT | (choice & 128 ? CK_WS_RSV1 : 0), some_length()); break;
    case 4: send_frame(socket, CK_WS_CONTINUATION, some_length()); break;
    case 5: send_frame(socket, CK_WS_FIN | CK_WS_CONTINUATION, some_length()); break;
    case 6: send_frame(socket, CK_WS_FIN | CK_WS_PING, 1 + fuzz_byte(&run.in) % 126); break;
    case 7: send_frame(socket, CK_WS_FIN | CK_WS_PONG, 120); break;
    case 8: send_frame(socket, fuzz_byte(&run.in), 5); break;
    case 9: close_it(socket); break;
    case 10: (void)traced(ck_ws_terminate(handle)); break;
    case 11:
    case 12: (void)traced(ck_ws_pause(handle, choice % 22 == 11)); break;
    case 13: (void)traced(ck_ws_cork(handle)); break;
    case 14: (void)traced(ck_ws_uncork(handle)); break;
    case 15: (void)traced(ck_ws_flush(handle)); break;
    case 16: use_wrong_handle(); break;
    case 17: use_as_request(handle); break;
    case 18: DEMAND(ck_ws_send(handle, "x", -1, CK_WS_FIN | CK_WS_TEXT) < 0); break;
    case 19: DEMAND(ck_ws_send(handle, "x", 1, 0x181) < 0 && ck_ws_send(handle, "x", 1, -1) < 0); break;
    case 21: send_frame(socket, CK_WS_FIN | CK_WS_RSV1 | CK_WS_TEXT, some_length()); break;
    case 20: act(run.sockets[fuzz_byte(&run.in) % CLIENTS].handle); break;
    default: break;
    }
}

static void act_some(uint32_t handle)
{
    for (unsigned n = fuzz_byte(&run.in) % 4; n > 0; n--)
        act(handle);
}

/* Its client is in its path: /0, /1 and so on. */
static int client_of_request(uint32_t handle)
{
    const char *path;
    int length = ck_path_value(handle, &path);
    DEMAND(length >= 2 && path[1] >= '0' && path[1] < '0' + CLIENTS);
    return path[1] - '0';
}

static void accept_it(uint32_t request, int client, size_t valid_before, const char *protocol)
{
    int64_t result = ck_upgrade(request, protocol, strlen(protocol));
    trace(result > 0 ? 1 : (uint64_t)result); /* a handle is another one in another loop */
    if (result == CK_VALUE && *protocol) { /* it was not offered */
        protocol = "";
        result = ck_upgrade(request, "", 0);
    }
    DEMAND(result > 0 || result == CK_ABORTED || result == CK_EXPIRED || result == CK_FINISHED || result == CK_STATE
        || (result == CK_NOMEM && run.short_of_memory));
    if (result <= 0) {
        (void)traced(ck_fail(request));
        return;
    }
    DEMAND(!socket_of((uint32_t)result) && run.sockets[client].handle == 0);
    run.sockets[client] = (struct socket){.handle = (uint32_t)result, .protocol = protocol, .valid_before = valid_before};
    act_some((uint32_t)result);
}

/* Answers a good handshake, at once or later, well or not. */
static void on_asked(uint32_t handle)
{
    int client = client_of_request(handle);
    size_t valid_before = run.valid[client]++;
    trace(1);
    switch (fuzz_byte(&run.in) % 8) {
    case 0: (void)traced(ck_send(handle, 403, "a/b", 3, "no", 2, 0)); break;
    case 1: (void)traced(ck_fail(handle)); break;
    case 2:
        if (run.asked_count < ASKED_MAX && traced(ck_keep(handle)) == CK_OK)
            run.asked[run.asked_count++] = (struct asked){.handle = handle, .client = client, .valid_before = valid_before};
        break;
    case 3:
        if (traced(ck_status(handle, 404)) == CK_OK)
            DEMAND(ck_upgrade(handle, "", 0) < 0);
        break;
    case 5: accept_it(handle, client, valid_before, "b"); break;
    case 6: accept_it(handle, client, valid_before, "B"); break;
    default: accept_it(handle, client, valid_before, ""); break;
    }
}

static struct asked *asked_of(uint32_t handle)
{
    for (int i = 0; i < run.asked_count; i++)
        if (run.asked[i].handle == handle && !run.asked[i].released)
            return &run.asked[i];
    return NULL;
}

static void on_gone(uint32_t handle)
{
    struct asked *asked = asked_of(handle);
    trace(2 + (uint64_t)world.event);
    DEMAND(asked && !asked->aborted);
    asked->aborted = true;
}

static void answer_late(void)
{
    if (run.asked_count == 0)
        return;
    struct asked *asked = &run.asked[fuzz_byte(&run.in) % run.asked_count];
    uint8_t choice = fuzz_byte(&run.in);
    if (!asked->released && (choice & 3))
        accept_it(asked->handle, asked->client, asked->valid_before, "");
    if (!asked->released) {
        (void)traced(ck_release(asked->handle));
        asked->released = true;
    }
}

static void note_seen(struct socket *socket)
{
    size_t room = socket->seen_length + world.part->length + 32;
    socket->seen = realloc(socket->seen, room);
    DEMAND(socket->seen != NULL);
    char *end = ws_event(socket->seen + socket->seen_length, (uint8_t)world.event, 0, world.part->data, world.part->length);
    socket->seen_length = (size_t)(end - socket->seen);
}

static void on_websocket_event(uint32_t handle)
{
    struct socket *socket = socket_of(handle);
    trace(100 + (uint64_t)world.event);
    DEMAND(socket != NULL); /* nothing is told of one that is over */
    if (world.event == CK_WS_EVENT_CLOSED) {
        trace((uint64_t)world.number);
        socket->over = true;
        socket->code = world.number;
        DEMAND(ck_ws_send(handle, "x", 1, CK_WS_FIN | CK_WS_TEXT) == CK_EXPIRED);
        act(run.sockets[fuzz_byte(&run.in) % CLIENTS].handle);
        return;
    }
    if (world.event != CK_WS_EVENT_DRAIN) {
        DEMAND(!socket->closing);
        note_seen(socket);
    }
    act_some(handle);
}

/* ---- The clients ---- */

#define HANDSHAKE                                                                                                       \
    " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                 \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

static const char *const handshakes[] = {
    HANDSHAKE "\r\n", HANDSHAKE "Sec-WebSocket-Protocol: a, b\r\n\r\n", HANDSHAKE "Sec-WebSocket-Extensions: x; y=\"z\"\r\n\r\n",
    HANDSHAKE "Sec-WebSocket-Version: 8\r\n\r\n", HANDSHAKE "Content-Length: 1\r\n\r\nx", HANDSHAKE "Sec-WebSocket-Protocol: a, a\r\n\r\n",
    " HTTP/1.1\r\nHost: a\r\n\r\n", " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", " HTTP/1.0\r\n\r\n",
    HANDSHAKE "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
    HANDSHAKE "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; server_max_window_bits=10\r\n\r\n",
};

static int some_client(void)
{
    return fuzz_byte(&run.in) % run.client_count;
}

/* Bytes that arrive whole, or in two pieces with a step between. */
static void arrive_cut(peer *client, const char *data, size_t length, uint8_t cut)
{
    if (cut > 0 && cut < length) {
        arrive(client, data, cut);
        (void)traced(ck_loop_step());
        arrive(client, data + cut, length - cut);
    } else {
        arrive(client, data, length);
    }
}

static void shake_hands(int number)
{
    char text[600];
    const char *rest = handshakes[fuzz_byte(&run.in) % (sizeof handshakes / sizeof *handshakes)];
    int length = snprintf(text, sizeof text, "GET /%d%s", number, rest);
    uint8_t change = fuzz_byte(&run.in);
    if (change & 128) {
        text[7 + change % (length - 7)] = (char)fuzz_byte(&run.in);
        change = 0;
    }
    arrive_cut(run.clients[number], text, (size_t)length, change);
}

/* Writes a masked frame, whose length may have a longer form than it needs. Returns its size; `*start` is its payload. */
static size_t put_frame(char *frame, uint8_t first, const char *payload, size_t length, int extended, uint8_t mask, size_t *start)
{
    size_t at = 0;
    extended = length > 65535 ? 8 : length > 125 && extended < 2 ? 2 : extended;
    frame[at++] = (char)first;
    frame[at++] = (char)(128 + (extended == 8 ? 127 : extended ? 126 : (int)length));
    for (int shift = 8 * extended - 8; shift >= 0; shift -= 8)
        frame[at++] = (char)((uint64_t)length >> shift & 255);
    for (int i = 0; i < 4; i++)
        frame[at++] = (char)mask;
    *start = at;
    for (size_t i = 0; i < length; i++)
        frame[at++] = (char)(payload[i] ^ (char)mask);
    return at;
}

/* A masked frame. Its bits: a longer form than is needed, a byte that is changed, a piece of it only, a mask that is not
 * 0. A compressed message is whole, or in two fragments. */
static void send_client_frame(int number)
{
    static const uint8_t firsts[] = {0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8A, 0x88, 0xC1, 0xC2, 0x41};
    static const uint32_t lengths[] = {0, 1, 2, 5, 99, 100, 101, 125, 126, 127, 300, 2000, 20000, 65535, 65536};
    static char frame[BODY + 64], payload[BODY];
    uint8_t kind = fuzz_byte(&run.in), size = fuzz_byte(&run.in), seed = fuzz_byte(&run.in);
    uint8_t first = kind % 16 < 12 ? firsts[kind % 16] : fuzz_byte(&run.in), mask = kind & 32 ? seed : 0;
    size_t length = lengths[size % 15], start, at = 0;
    if ((first & 8) && length > 125)
        length %= 126;
    memset(payload, 'a' + seed % 26, length);
    if ((first & 15) == CK_WS_CLOSE && length >= 2) {
        unsigned code = seed & 128 ? 1000 + seed % 17U : 256U * fuzz_byte(&run.in) + seed;
        payload[0] = (char)(code >> 8);
        payload[1] = (char)(code & 255);
    }
    if ((first & 0x40) && kind % 16 < 12) {
        static char compressed[BODY];
        length = client_deflate(payload, length, compressed, sizeof compressed);
        memcpy(payload, compressed, length);
    }
    if (first == 0x41) {
        at = put_frame(frame, first, payload, length / 2, 0, mask, &start);
        at += put_frame(frame + at, 0x80, payload + length / 2, length - length / 2, 0, mask, &start);
    } else {
        at = put_frame(frame, first, payload, length, kind & 16 ? (size & 128 ? 8 : 2) : 0, mask, &start);
    }
    if (kind & 64)
        frame[fuzz_byte(&run.in) % at] = (char)fuzz_byte(&run.in);
    arrive_cut(run.clients[number], frame, kind & 128 ? 1 + seed % at : at, size & 128 ? seed : 0);
}

static void send_inline(int number)
{
    size_t length;
    const char *text = fuzz_text(&run.in, &length);
    if (length > 0)
        arrive(run.clients[number], text, length);
}

static int some_errno(void)
{
    static const int numbers[] = {0, ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH};
    return numbers[fuzz_byte(&run.in) % 5];
}

static void disturb(int number, unsigned how)
{
    peer *client = run.clients[number];
    switch (how) {
    case 0: client->fin = true; break;
    case 1: client->receive_error = client->send_error = ECONNRESET; break;
    case 2: client->room = fuzz_byte(&run.in) * 300; break;
    case 3: client->room = UNLIMITED; break;
    case 4: client->most = fuzz_byte(&run.in) * 50; break;
    case 5: client->send_error = some_errno(); break;
    default: client->receive_error = some_errno(); break;
    }
    run.disturbed[number] = run.disturbed[number] || client->send_error || client->receive_error;
}

static void run_short(void)
{
    uint8_t choice = fuzz_byte(&run.in);
    run.short_of_memory = true;
    if (choice & 64) {
        world.object_fail_at = world.objects_made + 1 + choice % 8; /* one alone: an empty str is always there */
    } else {
        world.fail_at = world.allocations + choice % 12;
        world.fail_on = choice & 128;
    }
}

static void operate(void)
{
    unsigned operation = fuzz_byte(&run.in) % 24;
    int number = operation < 14 ? some_client() : 0;
    switch (operation) {
    case 0: send_inline(number); break;
    case 1: shake_hands(number); break;
    case 2:
    case 3:
    case 4:
    case 5: send_client_frame(number); break;
    case 6:
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
    case 12: disturb(number, operation - 6); break;
    case 13: act_some(run.sockets[number].handle); break;
    case 14:
        if (run.client_count < CLIENTS && !run.drained)
            run.clients[run.client_count++] = dial();
        break;
    case 15: pass_granules(1 + fuzz_byte(&run.in) % 5); break;
    case 16: run_short(); break;
    case 17: world.fail_at = world.object_fail_at = 0; break;
    case 18: world.read_most = fuzz_byte(&run.in); break;
    case 19: answer_late(); break;
    case 20: (void)traced(ck_loop_step()); break;
    case 21: act(run.sockets[fuzz_byte(&run.in) % CLIENTS].handle); break;
    case 22:
        if (fuzz_byte(&run.in) == 1 && !run.drained) {
            run.drained = true;
            DEMAND(ck_app_drain(world.app) == CK_OK);
            settle();
            run.descriptors--; /* its listener's */
        }
        break;
    default: world.now_ns += fuzz_byte(&run.in) * (int64_t)100000; break;
    }
}

/* ---- What must hold ---- */

static long open_clients(void)
{
    long open = 0;
    for (int i = 0; i < run.client_count; i++)
        open += run.clients[i]->fd && !run.clients[i]->closed;
    return open;
}

static void check_turn(void)
{
    size_t backlog = run.limits->backlog > BACKLOG_OF_OURS ? (size_t)run.limits->backlog : BACKLOG_OF_OURS;
    size_t each = 2 * (backlog + 2 * BODY) + 2 * (size_t)run.limits->message + world.limits.pipeline + 200000;
    DEMAND(world.descriptors == run.descriptors + open_clients());
    DEMAND(run.limits->backlog == 0 || counted.bytes < 1000000 + CLIENTS * each);
    DEMAND(checks_failed == 0);
    forget_log();
}

/* Passes over the body of a request that was answered as one of HTTP. Returns whether it is complete. */
static bool pass_body(const peer *client, const reference_head *head, size_t *start)
{
    size_t left = client->in_length - *start, size = head->framing.content_length > 0 ? (size_t)head->framing.content_length : 0;
    if (head->framing.chunked) {
        reference_chunked body = {.limit = UINT64_MAX, .data = malloc(left + 1), .trailers = malloc(left + 1)};
        DEMAND(body.data && body.trailers);
        reference_chunked_read(&body, client->in + *start, left);
        free(body.data);
        free(body.trailers);
        size = body.result == 1 ? body.used : SIZE_MAX;
    }
    *start += size <= left ? size : 0;
    return size <= left;
}

/* The handshake that was accepted: where frames begin behind it, and what its answer must say. */
struct opening {
    size_t start;
    char accept[29], terms[REFERENCE_ANSWER];
};

/* Goes over what the client sent up to the handshake that was accepted. Returns whether there is such a one. */
static bool find_opening(int number, struct opening *opening)
{
    size_t *start = &opening->start;
    static reference_head head;
    static reference_handshake judged;
    const peer *client = run.clients[number];
    const reference_limits limits = {world.limits.line, world.limits.head, world.limits.field, world.limits.fields};
    size_t valid = 0;
    *start = 0;
    for (;;) {
        const char *data = client->in + *start;
        reference_head_read(&head, data, client->in_length - *start, &limits);
        if (head.result != 1)
            return false;
        reference_handshake_judge(&judged, &head, data);
        *start += head.used;
        if (judged.wanted && judged.status == 0 && valid++ == run.sockets[number].valid_before) {
            reference_accept(data + judged.key.offset, opening->accept);
            if (!reference_negotiate(&head, data, run.limits->compression, opening->terms))
                opening->terms[0] = '\0';
            return true;
        }
        if (!pass_body(client, &head, start))
            return false;
    }
}

/* Reads an event of the reference's. Returns the next one. */
static const char *read_event(const char *at, uint8_t *opcode, uint16_t *code, const char **data, size_t *length)
{
    *opcode = (uint8_t)*at++;
    memcpy(code, at, sizeof *code);
    at += sizeof *code;
    memcpy(length, at, sizeof *length);
    *data = at + sizeof *length;
    return *data + *length;
}

/* What the client said, inflated. What is no deflate, or ends it by a block of its own, is left to fz_deflate, and what
 * follows it is not compared. */
static void read_said(reference_ws *said, int number, const struct opening *opening)
{
    const peer *client = run.clients[number];
    *said = (reference_ws){.limit = run.limits->message, .deflate = opening->terms[0] != '\0'};
    reference_ws_read(said, client->in + opening->start, client->in_length - opening->start);
    if (!said->deflate)
        return;
    client_inflater inflater;
    client_inflater_open(&inflater, 15, !strstr(opening->terms, "client_no_context_takeover"), (size_t)run.limits->message);
    char *inflated = NULL;
    size_t length = 0;
    for (const char *at = said->events; at < said->events + said->length;) {
        uint8_t opcode;
        uint16_t code;
        size_t size;
        const char *data;
        at = read_event(at, &opcode, &code, &data, &size);
        if (opcode & WS_COMPRESSED) {
            run.unclear[number] = !client_inflate(&inflater, data, size, true);
            if (run.unclear[number])
                break;
            data = inflater.message;
            size = inflater.length;
        }
        inflated = realloc(inflated, length + size + 64);
        DEMAND(inflated != NULL);
        length = (size_t)(ws_event(inflated + length, opcode & 15, code, data, size) - inflated);
        if (opcode & WS_COMPRESSED)
            client_inflater_next(&inflater);
    }
    client_inflater_close(&inflater);
    free(said->events);
    said->events = inflated ? inflated : malloc(1);
    said->length = length;
}

/* The code of the client's close frame, 0 when it sent none. */
static int close_code(const reference_ws *said)
{
    uint8_t opcode = 0;
    uint16_t code = 0;
    size_t length;
    const char *data;
    for (const char *at = said->events; at < said->events + said->length;)
        at = read_event(at, &opcode, &code, &data, &length);
    return opcode == CK_WS_CLOSE ? code : 0;
}

/* Whether an end with this code is a consequence of what the client sent. */
static void check_code(const struct socket *socket, const reference_ws *said)
{
    int code = close_code(said), refused = socket->code;
    size_t header = 1 + sizeof(uint16_t) + sizeof(size_t);
    bool all_seen = socket->seen_length == said->length || (code && socket->seen_length + header <= said->length);
    if (refused == CK_WS_ABNORMAL || (refused == CK_WS_FAILED && run.short_of_memory))
        return;
    if (said->deflate && (refused == CK_WS_PROTOCOL_ERROR || refused == CK_WS_BAD_TEXT || refused == CK_WS_TOO_BIG))
        return; /* what compressed messages are refused for is fz_deflate's */
    if (code)
        DEMAND(refused == code);
    else
        DEMAND(said->result == -refused && !socket->closing);
    DEMAND(all_seen || socket->closing || run.drained);
}

/* What the application was told is a beginning of what the reference sees. */
static void check_seen(int number, const reference_ws *said)
{
    const struct socket *socket = &run.sockets[number];
    size_t both = socket->seen_length < said->length ? socket->seen_length : said->length;
    DEMAND(both == 0 || memcmp(socket->seen, said->events, both) == 0);
    if (run.unclear[number])
        return;
    DEMAND(socket->seen_length <= said->length);
    if (socket->over)
        check_code(socket, said);
    else if (!socket->closing && !run.drained && !run.disturbed[number] && !run.short_of_memory)
        DEMAND(socket->seen_length == said->length && said->result == 0); /* else it would be over */
}

/* What a client has made of frames so far. */
struct hearing {
    const struct socket *socket;
    size_t sent_at;          /* of what the application sent */
    size_t message_at;       /* where the message begins */
    const reference_ws *said;
    const char *said_at;
    bool unclear;            /* what the client said */
    client_inflater inflater;
    bool fragmented, closed;
};

/* A ping of the client's, later than those that were answered before. */
static bool answers_ping(struct hearing *hearing, const server_frame *frame)
{
    while (hearing->said_at < hearing->said->events + hearing->said->length) {
        uint8_t opcode;
        uint16_t code;
        size_t length;
        const char *data;
        hearing->said_at = read_event(hearing->said_at, &opcode, &code, &data, &length);
        if (opcode == CK_WS_PING && fuzz_same(data, length, frame->payload, frame->length))
            return true;
    }
    return hearing->unclear;
}

/* A compressed message, when it is whole, is what the application sent in all its parts. */
static void check_inflated(struct hearing *hearing)
{
    size_t at = 0;
    for (size_t i = hearing->message_at; i <= hearing->sent_at; i++) {
        const struct sent *sent = &hearing->socket->sent[i];
        if ((sent->first & 15) >= CK_WS_CLOSE)
            continue;
        DEMAND(hearing->inflater.length - at >= sent->length);
        DEMAND(fuzz_same(hearing->inflater.message + at, sent->length, fills[sent->fill - 'a'], sent->length));
        at += sent->length;
    }
    DEMAND(at == hearing->inflater.length);
    client_inflater_next(&hearing->inflater);
}

/* Whether a frame is the next that the application sent. */
static bool is_sent(struct hearing *hearing, const server_frame *frame)
{
    if (hearing->sent_at == hearing->socket->sent_count)
        return false;
    const struct sent *sent = &hearing->socket->sent[hearing->sent_at];
    bool begins = (sent->first & 15) != CK_WS_CONTINUATION;
    if (frame->first != (sent->first | (sent->compressed && begins ? CK_WS_RSV1 : 0)))
        return false;
    if (!sent->compressed)
        return fuzz_same(frame->payload, frame->length, fills[sent->fill - 'a'], sent->length);
    if (begins)
        hearing->message_at = hearing->sent_at;
    DEMAND(client_inflate(&hearing->inflater, frame->payload, frame->length, sent->first & CK_WS_FIN));
    if (sent->first & CK_WS_FIN)
        check_inflated(hearing);
    return true;
}

static void check_frame(struct hearing *hearing, const server_frame *frame)
{
    uint8_t opcode = frame->first & 15;
    DEMAND(!hearing->closed);
    if (opcode < CK_WS_CLOSE) {
        DEMAND((opcode == 0) == hearing->fragmented);
        hearing->fragmented = !(frame->first & CK_WS_FIN);
    }
    if (opcode == CK_WS_CLOSE) {
        hearing->closed = true;
        unsigned code = frame->length < 2 ? 0 : (uint8_t)frame->payload[0] * 256U + (uint8_t)frame->payload[1];
        DEMAND(frame->length == 0 || ck_ws_close_code_valid(code));
    } else if (is_sent(hearing, frame)) {
        hearing->sent_at++;
    } else if (opcode == CK_WS_PING) {
        DEMAND(frame->length == 0 && run.limits->pings);
    } else {
        DEMAND(opcode == CK_WS_PONG && answers_ping(hearing, frame));
    }
}

/* Passes over the answer to the handshake that was accepted. Returns the bytes behind it, NULL when it is not whole. */
static const char *check_switched(const char *data, size_t left, const struct opening *opening, const char *protocol)
{
    char head[1024];
    int written = snprintf(head, sizeof head, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s%s%s%s\r\n", opening->accept,
        *protocol ? "Sec-WebSocket-Protocol: " : "", protocol, *protocol ? "\r\n" : "",
        *opening->terms ? "Sec-WebSocket-Extensions: " : "", opening->terms, *opening->terms ? "\r\n" : "");
    size_t length = (size_t)written;
    DEMAND(memcmp(data, head, left < length ? left : length) == 0);
    return left < length ? NULL : data + length;
}

/* Reads the answers of HTTP. Returns the bytes behind a 101, NULL when there was none. */
static const char *check_answers(int number, const struct opening *opening)
{
    static response found;
    const peer *client = run.clients[number];
    const char *data = heard(client);
    size_t left = client->out_length;
    while (left > 0) {
        if (opening && left > 9 && data[9] == '1')
            return check_switched(data, left, opening, run.sockets[number].protocol);
        enum response_result result = response_read(&found, data, left, false, true);
        free(found.decoded);
        DEMAND(result != RESPONSE_BAD);
        if (result != RESPONSE_WHOLE)
            return NULL;
        DEMAND(found.status >= 400);
        data += found.length;
        left -= found.length;
    }
    return NULL;
}

static size_t all_sent(const struct socket *socket)
{
    size_t sum = 0;
    for (size_t i = 0; i < socket->sent_count; i++)
        sum += socket->sent[i].length;
    return sum;
}

/* What the client heard; `whole` when it must be all that was sent. */
static void check_heard(int number, const struct opening *opening, const reference_ws *said, bool whole)
{
    const peer *client = run.clients[number];
    const struct socket *socket = &run.sockets[number];
    const char *at = check_answers(number, opening);
    DEMAND(at || !whole);
    if (!at)
        return;
    struct hearing hearing = {.socket = socket, .said = said, .said_at = said->events, .unclear = run.unclear[number]};
    const char *bits = strstr(opening->terms, "server_max_window_bits=");
    bool keeps = !strstr(opening->terms, "server_no_context_takeover");
    client_inflater_open(&hearing.inflater, bits ? atoi(bits + 23) : 15, keeps, all_sent(socket));
    const char *end = client->out + client->out_length;
    while (at < end) {
        server_frame frame;
        enum response_result result = server_frame_read(&frame, at, (size_t)(end - at), said->deflate);
        DEMAND(result != RESPONSE_BAD);
        if (result == RESPONSE_INCOMPLETE)
            break;
        check_frame(&hearing, &frame);
        at += frame.size;
    }
    DEMAND(!whole || (at == end && hearing.sent_at == socket->sent_count));
    client_inflater_close(&hearing.inflater);
}

static void check_client(int number, bool alive)
{
    const struct socket *socket = &run.sockets[number];
    struct opening opening;
    reference_ws said;
    if (!socket->handle) {
        (void)check_answers(number, NULL);
        return;
    }
    DEMAND(find_opening(number, &opening));
    read_said(&said, number, &opening);
    check_seen(number, &said);
    check_heard(number, &opening, &said, alive && !socket->over && !run.disturbed[number] && !run.short_of_memory);
    free(said.events);
}

/* ---- Runs ---- */

static const ck_limits server_limits = {
    .body = 1048576, .backlog = 16777216, .line = 8192, .head = 32768, .field = 16384, .fields = 100,
    .pipeline = 65536, .window = 65536, .head_seconds = 12, .idle_seconds = 12, .body_seconds = 12,
    .handler_seconds = 60, .rate = 240,
};

static const ck_ws_limits limit_choices[] = {
    {.message = 3000, .backlog = 50000, .idle_seconds = 24, .close_seconds = 8, .pings = 1, .compression = 0x101},
    {.message = 100, .backlog = 1000, .idle_seconds = 8, .close_seconds = 4, .close_on_backlog = 1, .idle_on_send = 1},
    {.message = 70000, .close_seconds = 8, .pings = 1, .compression = 15 << 8 | 15 << 4 | 8},
    {.message = 3000, .backlog = 200000, .idle_seconds = 48, .close_seconds = 20, .pings = 1, .idle_on_send = 1, .compression = 9 << 8 | 9 << 4 | 1},
};

static void open_everything(uint8_t choice)
{
    run.limits = &limit_choices[choice % 4];
    reset_world();
    count_memory();
#ifdef OVER_TLS
    tls_pipe_open();
#endif
    DEMAND(try_open_server(&server_limits));
    world.handlers[world.routes] = on_asked;
    DEMAND(ck_app_websocket(world.app, "/*", 2, world.routes++, run.limits) == 0);
    world.aborted = on_gone;
    world.websocket = on_websocket_event;
    run.descriptors = world.descriptors;
}

/* Everything flows again, and the application holds nothing back. */
static void flow(void)
{
    world.fail_at = world.object_fail_at = 0;
    world.read_most = 0;
    for (int i = 0; i < run.client_count; i++) {
        run.clients[i]->room = UNLIMITED;
        run.clients[i]->most = 0;
        uint32_t handle = run.sockets[i].handle;
        (void)ck_ws_pause(handle, 0);
        while (ck_ws_uncork(handle) > 0)
            continue;
    }
    settle();
}

static void release_asked(void)
{
    for (int i = 0; i < run.asked_count; i++)
        if (!run.asked[i].released) {
            run.asked[i].released = true;
            (void)traced(ck_release(run.asked[i].handle));
        }
    settle();
}

static void end_everything(void)
{
    run.in.length = 0;
    flow();
    for (int i = 0; i < run.client_count; i++)
        check_client(i, true);
    for (int i = 0; i < run.client_count; i++)
        reset(run.clients[i]);
    release_asked();
    DEMAND(open_clients() == 0 && ck_loop_handles() == (run.drained ? 1 : 2)); /* the app and its listener */
    for (int i = 0; i < run.client_count; i++) {
        const peer *client = run.clients[i];
        DEMAND(run.sockets[i].over == (run.sockets[i].handle != 0));
        trace(client->out_length);
        for (size_t k = 0; k < client->out_length; k++)
            trace((unsigned char)client->out[k]);
        check_client(i, false);
        free(run.sockets[i].sent);
        free(run.sockets[i].seen);
    }
    close_server();
#ifdef OVER_TLS
    tls_pipe_close();
#endif
    DEMAND(counted.bytes == 0 && checks_failed == 0);
}

static uint64_t run_once(const uint8_t *input, size_t size)
{
    memset(&run, 0, sizeof run);
    run.in = (fuzz_input){input, size};
    run.trace = 14695981039346656037U;
    open_everything(fuzz_byte(&run.in));
    run.clients[run.client_count++] = dial();
    for (int i = 0; i < OPERATIONS_MAX && run.in.length > 0; i++) {
        uint8_t settles = *run.in.data;
        operate();
        if (settles & 128)
            settle();
        check_turn();
    }
    end_everything();
    return run.trace;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (fills[0][0] == '\0')
        for (int i = 0; i < 26; i++)
            memset(fills[i], 'a' + i, sizeof fills[i]);
    uint64_t first = run_once(input, size);
#ifdef OVER_TLS
    if (!fuzz_is_repeated(input, size))
        return 0;
#endif
    DEMAND(run_once(input, size) == first);
    return 0;
}
