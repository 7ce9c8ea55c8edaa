/* Loads a WebSocket server from one thread over many connections, and checks what comes back.
 *
 *   echo     each connection keeps a number of messages in flight
 *   fanout   connections that only listen, and one more that publishes: the next message
 *            goes when all have got one, so that a number of them is in flight
 *
 * It must be cheaper than any server, so it sends from one buffer of ready frames: all
 * that one read has made room for leaves in one send. Plain messages are compared byte
 * for byte. A number at the start of each tells one from another. With deflate all
 * messages are the same and are compressed once; the first answer on each connection is
 * inflated, and later ones are compared with it where the server compresses each by itself.
 *
 * With --wait it prints READY when all connections are open, and begins after a line of
 * input; the connections stay, and answer pings, until the input ends. So the server's CPU
 * time can be read without what opening and closing them costs, and the memory of idle
 * ones. In the end each is closed by the closing handshake, and the program goes when the
 * server has closed all. It prints what load.lua prints, how many messages came
 * compressed, and `busy`: its own CPU time as a share of the time, to see that it was not
 * what was measured. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
    FIN = 0x80,
    COMPRESSED = 0x40,
    RESERVED = 0x30,
    TEXT = 1,
    BINARY = 2,
    CLOSE = 8,
    PING = 9,
    PONG = 10,
    MASKED = 0x80,
    TAG = 8,                    /* bytes at the start of a message that tell which it is */
    HEAD_MOST = 14,
    CONTROL_MOST = 125,
    REQUEST_MOST = 1024,
    RESPONSE_MOST = 4096,
    OPENING_MOST = 64,          /* handshakes at once: a server may be slow to see one, and have room for 100 */
    READ_SIZE = 256 * 1024,
    EVENTS = 512,
    PATIENCE = 10,              /* seconds that a server may take to answer */
    CLOSE_PATIENCE = 3,         /* and to close */
    SPARE_FILES = 64,
    STEPS = 64,                 /* of the histogram, for each power of two */
    BUCKETS = STEPS * 59,
    TAIL = 4,                   /* bytes that end what zlib flushes; permessage-deflate leaves them out */
};

typedef enum { ECHO, FANOUT } work_mode;

static struct {
    work_mode mode;
    unsigned port;
    const char *path;
    const char *publish_path;
    unsigned connections;
    size_t size;
    unsigned in_flight;
    double seconds;
    bool deflate;
    bool tls;
    bool wait;
} options = {.path = "/", .publish_path = "/publish", .connections = 64, .size = 20, .in_flight = 1, .seconds = 3};

typedef struct {
    int fd;
    SSL *ssl;                   /* NULL: plain */
    unsigned index;
    uint64_t sent, received;    /* messages */
    uint64_t *times;            /* when those in flight were sent, by number */
    /* The frame that is being read. */
    uint8_t head[HEAD_MOST];
    unsigned head_length;
    bool inside;                /* its payload comes next */
    size_t length, at;
    char control[CONTROL_MOST];
    /* The first compressed answer. */
    char *answer;
    size_t answer_length;
    bool answered;
    /* What the kernel had no room for. */
    char *unsent;
    size_t unsent_length;
} connection;

static connection *connections; /* the publisher is the last one */
static connection *publisher;
static int epoll;
static SSL_CTX *tls;
static char received[READ_SIZE];

/* The frames that are sent, each with the same payload but its tag. */
static char *plain;             /* the payload as the application sees it */
static char *frames;
static size_t frame_size, frame_body; /* of one frame; where its payload begins */

/* What the handshake agreed upon; the same on every connection. */
static struct {
    bool known, deflate, server_alone; /* alone: each message is compressed by itself */
    int client_bits;
} agreed;

static const uint8_t KEY[TAG] = {0x37, 0xFA, 0x21, 0x3D, 0x37, 0xFA, 0x21, 0x3D}; /* the mask, twice */
static uint64_t histogram[BUCKETS];
static uint64_t answers;        /* messages that came back, or were delivered */
static uint64_t answers_compressed;
static uint64_t published, complete; /* messages that were published; that all have got */
static uint64_t *deliveries;    /* of each message in flight */
static bool going;              /* messages are sent */
static bool closing;            /* close frames have been sent */
static unsigned open_count;     /* connections that the server has not closed */

static void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("ws_load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

static uint64_t clock_of(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- Latency: buckets whose width grows with the value, 1.6 % at most ---- */

static void note_latency(uint64_t nanoseconds)
{
    unsigned shift = 0;
    if (nanoseconds >= STEPS)
        shift = 63u - (unsigned)__builtin_clzll(nanoseconds) - 6u + 1u;
    uint64_t step = shift ? (nanoseconds >> (shift - 1)) & (STEPS - 1) : nanoseconds;
    histogram[shift * STEPS + step]++;
}

static double percentile(double share)
{
    uint64_t total = 0, seen = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        total += histogram[i];
    uint64_t wanted = (uint64_t)((double)total * share);
    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram[i];
        if (seen > wanted) {
            unsigned shift = i / STEPS;
            double low = shift ? (double)((uint64_t)(STEPS + i % STEPS) << (shift - 1)) : i;
            return low / 1000;
        }
    }
    return 0;
}

/* ---- Messages and frames ---- */

/* Rows of a table for text, which deflate makes smaller as it does with real ones; else bytes without a pattern. */
static void fill(char *to, size_t size, bool text)
{
    uint64_t state = 88172645463325252u;
    size_t at = 0;
    while (at < size) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        char part[64];
        size_t length = sizeof state;
        if (text)
            length = (size_t)snprintf(part, sizeof part, "{\"id\":%u,\"price\":%u.%02u},", (unsigned)(state >> 48),
                                      (unsigned)(state >> 40 & 127), (unsigned)(state >> 32 & 63));
        else
            memcpy(part, &state, length);
        size_t taken = length < size - at ? length : size - at;
        memcpy(to + at, part, taken);
        at += taken;
    }
}

static void write_tag(char *to, const connection *c, uint64_t number)
{
    if (options.deflate)
        return;
    if (options.mode == ECHO) {
        uint64_t tag = (uint64_t)c->index << 40 | number;
        memcpy(to, &tag, TAG);
    } else {
        for (unsigned i = TAG; i-- > 0; number /= 10)
            to[i] = (char)('0' + number % 10);
    }
}

static size_t write_head(char *to, int first, size_t length)
{
    size_t at = 2, wide = length < 126 ? 0 : length < 65536 ? 2 : 8;
    to[0] = (char)first;
    to[1] = (char)(MASKED | (wide == 0 ? (int)length : wide == 2 ? 126 : 127));
    for (size_t i = wide; i-- > 0; at++)
        to[at] = (char)(length >> (8 * i));
    memcpy(to + at, KEY, 4);
    return at + 4;
}

static void mask(char *to, const char *from, size_t length)
{
    for (size_t i = 0; i < length; i++)
        to[i] = (char)(from[i] ^ KEY[i & 3]);
}

static char *compressed(const char *data, size_t *length)
{
    z_stream stream = {0};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -agreed.client_bits, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        fail("zlib takes no window of %d bits", agreed.client_bits);
    size_t room = deflateBound(&stream, (uLong)*length) + 64;
    char *out = allocate(1, room);
    stream.next_in = (Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)*length;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)room;
    if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in || stream.total_out < TAIL)
        fail("zlib could not compress the message");
    *length = stream.total_out - TAIL;
    deflateEnd(&stream);
    return out;
}

/* Makes as many frames, one behind the other, as can be in flight. */
static void make_frames(void)
{
    bool text = options.mode == FANOUT || options.deflate;
    plain = allocate(1, options.size);
    fill(plain, options.size, text);
    size_t length = options.size;
    char *payload = options.deflate ? compressed(plain, &length) : plain;
    int first = FIN | (options.deflate ? COMPRESSED : 0) | (options.mode == FANOUT ? TEXT : BINARY);
    char head[HEAD_MOST];
    frame_body = write_head(head, first, length);
    frame_size = frame_body + length;
    frames = allocate(options.in_flight, frame_size);
    for (unsigned i = 0; i < options.in_flight; i++) {
        memcpy(frames + i * frame_size, head, frame_body);
        mask(frames + i * frame_size + frame_body, payload, length);
    }
    if (payload != plain)
        free(payload);
}

/* ---- Sending ---- */

static void watch(connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, operation, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

/* What OpenSSL says of a call that did not go through: 0 when it is to be tried again. */
static int tls_failed(const connection *c, int result)
{
    int error = SSL_get_error(c->ssl, result);
    return error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE;
}

static size_t send_encrypted(connection *c, const char *data, size_t length)
{
    size_t sent = 0;
    int result = SSL_write_ex(c->ssl, data, length, &sent);
    if (result <= 0 && tls_failed(c, result))
        fail("connection %u: TLS: no write", c->index);
    return result > 0 ? sent : 0;
}

static size_t send_now(connection *c, const char *data, size_t length)
{
    if (c->ssl)
        return send_encrypted(c, data, length);
    ssize_t sent = send(c->fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        fail("connection %u: send: %s", c->index, strerror(errno));
    return sent < 0 ? 0 : (size_t)sent;
}

static void put(connection *c, const char *data, size_t length)
{
    size_t sent = c->unsent_length ? 0 : send_now(c, data, length);
    if (sent == length)
        return;
    if (!c->unsent_length)
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    c->unsent = realloc(c->unsent, c->unsent_length + length - sent);
    if (!c->unsent)
        fail("out of memory");
    memcpy(c->unsent + c->unsent_length, data + sent, length - sent);
    c->unsent_length += length - sent;
}

static void put_unsent(connection *c)
{
    size_t sent = send_now(c, c->unsent, c->unsent_length);
    c->unsent_length -= sent;
    memmove(c->unsent, c->unsent + sent, c->unsent_length);
    if (!c->unsent_length)
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void put_messages(connection *c, unsigned count, uint64_t now)
{
    for (unsigned i = 0; i < count; i++, c->sent++) {
        char *body = frames + i * frame_size + frame_body;
        char tag[TAG];
        if (!options.deflate) {
            write_tag(tag, c, c->sent);
            for (unsigned j = 0; j < TAG; j++)
                body[j] = (char)(tag[j] ^ KEY[j]);
        }
        c->times[c->sent % options.in_flight] = now;
    }
    put(c, frames, count * frame_size);
}

/* Publishes as many messages as all have got. */
static void publish(uint64_t now)
{
    unsigned room = options.in_flight - (unsigned)(published - complete);
    if (!going || !room)
        return;
    for (unsigned i = 0; i < room; i++)
        deliveries[(published + i) % options.in_flight] = 0;
    published += room;
    put_messages(publisher, room, now);
}

/* ---- Reading ---- */

static void inflate_and_compare(const connection *c)
{
    z_stream stream = {0};
    char *out = allocate(1, options.size + 1);
    char *in = allocate(1, c->answer_length + TAIL);
    memcpy(in, c->answer, c->answer_length);
    memcpy(in + c->answer_length, "\0\0\xFF\xFF", TAIL);
    stream.next_in = (Bytef *)in;
    stream.avail_in = (uInt)(c->answer_length + TAIL);
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)(options.size + 1);
    int result = inflateInit2(&stream, -15);
    if (result == Z_OK)
        result = inflate(&stream, Z_SYNC_FLUSH);
    if ((result != Z_OK && result != Z_STREAM_END) || stream.total_out != options.size || memcmp(out, plain, options.size))
        fail("connection %u: the first answer does not inflate to the message", c->index);
    inflateEnd(&stream);
    free(in);
    free(out);
}

static void take_compressed(connection *c, const char *data, size_t length)
{
    if (!c->answered) {
        if (!c->at)
            c->answer = allocate(1, c->length);
        memcpy(c->answer + c->at, data, length);
        c->answer_length = c->length;
        if (c->at + length == c->length) {
            inflate_and_compare(c);
            c->answered = true;
        }
    } else if (agreed.server_alone && (c->length != c->answer_length || memcmp(c->answer + c->at, data, length)))
        fail("connection %u: a compressed message is another one than before", c->index);
}

/* Judges a frame by its header. */
static void begin_frame(connection *c)
{
    int first = c->head[0], opcode = first & 15;
    if (!(first & FIN) || first & RESERVED || c->head[1] & MASKED)
        fail("connection %u: a frame that begins with 0x%02X%02X", c->index, first, c->head[1]);
    c->length = c->head[1] & 127;
    if (c->length >= 126) {
        c->length = 0;
        for (unsigned i = 2; i < c->head_length; i++)
            c->length = c->length << 8 | c->head[i];
    }
    c->at = 0;
    c->inside = true;
    if (opcode >= CLOSE && c->length > CONTROL_MOST)
        fail("connection %u: a control frame of %zu bytes", c->index, c->length);
    if (opcode >= CLOSE)
        return;
    if (opcode != (options.mode == FANOUT ? TEXT : BINARY) || c == publisher)
        fail("connection %u: a message of opcode %d that nobody asked for", c->index, opcode);
    if (first & COMPRESSED ? !options.deflate : c->length != options.size)
        fail("connection %u: a message of %zu bytes, not %zu", c->index, c->length, options.size);
    if (c->received == (options.mode == FANOUT ? published : c->sent))
        fail("connection %u: more messages than were sent", c->index);
}

static void take_payload(connection *c, const char *data, size_t length)
{
    if ((c->head[0] & 15) >= CLOSE) {
        memcpy(c->control + c->at, data, length);
    } else if (c->head[0] & COMPRESSED) {
        take_compressed(c, data, length);
    } else {
        write_tag(plain, c, c->received);
        if (memcmp(plain + c->at, data, length))
            fail("connection %u: message %llu came back changed", c->index, (unsigned long long)c->received);
    }
    c->at += length;
}

static void end_control(connection *c)
{
    int opcode = c->head[0] & 15;
    if (opcode == CLOSE && closing)
        return;
    if (opcode == CLOSE)
        fail("connection %u: the server closes it with %d", c->index,
             c->length < 2 ? 1005 : (uint8_t)c->control[0] << 8 | (uint8_t)c->control[1]);
    if (opcode != PING)
        return;
    char pong[HEAD_MOST + CONTROL_MOST];
    size_t head = write_head(pong, FIN | PONG, c->length);
    mask(pong + head, c->control, c->length);
    put(c, pong, head + c->length);
}

static void end_frame(connection *c, uint64_t now)
{
    c->inside = false;
    c->head_length = 0;
    if ((c->head[0] & 15) >= CLOSE) {
        end_control(c);
        return;
    }
    unsigned slot = (unsigned)(c->received++ % options.in_flight);
    note_latency(now - (options.mode == FANOUT ? publisher : c)->times[slot]);
    answers++;
    if (c->head[0] & COMPRESSED)
        answers_compressed++;
    if (options.mode == FANOUT && ++deliveries[slot] == options.connections)
        complete++;
}

static unsigned head_needed(const connection *c)
{
    if (c->head_length < 2)
        return 2;
    unsigned code = c->head[1] & 127;
    return code < 126 ? 2 : code == 126 ? 4 : 10;
}

static void take(connection *c, const char *data, size_t length, uint64_t now)
{
    while (length) {
        while (!c->inside && length) {
            c->head[c->head_length++] = (uint8_t)*data++;
            length--;
            if (c->head_length == head_needed(c))
                begin_frame(c);
        }
        size_t part = c->length - c->at < length ? c->length - c->at : length;
        if (!c->inside)
            return;
        take_payload(c, data, part);
        data += part;
        length -= part;
        if (c->at == c->length)
            end_frame(c, now);
    }
}

/* Returns the bytes, 0 at the end, -1 when there are none now; what a failure says goes to errno. */
static ssize_t receive_encrypted(connection *c)
{
    size_t got = 0;
    int result = 1;
    while (got < sizeof received && (result = SSL_read(c->ssl, received + got, (int)(sizeof received - got))) > 0)
        got += (size_t)result;
    if (got)
        return (ssize_t)got;
    errno = EAGAIN;
    return tls_failed(c, result) ? 0 : -1;
}

static void readable(connection *c)
{
    ssize_t length = c->ssl ? receive_encrypted(c) : recv(c->fd, received, sizeof received, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0 && closing) {
        SSL_free(c->ssl);
        c->ssl = NULL;
        close(c->fd);
        open_count--;
        return;
    }
    if (length <= 0)
        fail("connection %u: %s", c->index, length ? strerror(errno) : "the server has closed it");
    uint64_t now = clock_of(CLOCK_MONOTONIC);
    take(c, received, (size_t)length, now);
    if (options.mode != ECHO || !going)
        return;
    unsigned room = options.in_flight - (unsigned)(c->sent - c->received);
    if (room)
        put_messages(c, room, now);
}

/* ---- Opening ---- */

static char *field_of(char *response, const char *name)
{
    for (char *line = strstr(response, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, name, strlen(name)))
            return line + 2 + strlen(name);
    return NULL;
}

static void agree(char *response)
{
    char *extensions = field_of(response, "Sec-WebSocket-Extensions:");
    char *end = extensions ? strstr(extensions, "\r\n") : NULL;
    if (end)
        *end = 0;
    bool deflated = extensions && strstr(extensions, "permessage-deflate");
    if (deflated != options.deflate)
        fail(deflated ? "the server agrees to permessage-deflate, which was not offered" : "the server takes no permessage-deflate");
    char *bits = deflated ? strstr(extensions, "client_max_window_bits=") : NULL;
    int client_bits = bits ? atoi(bits + strlen("client_max_window_bits=") + (strchr(bits, '"') ? 1 : 0)) : 15;
    bool alone = deflated && strstr(extensions, "server_no_context_takeover");
    if (agreed.known && (agreed.client_bits != client_bits || agreed.server_alone != alone))
        fail("the server agrees to different things on different connections");
    agreed.known = true;
    agreed.deflate = deflated;
    agreed.server_alone = alone;
    agreed.client_bits = client_bits;
}

static void ask(connection *c, const char *path)
{
    char text[REQUEST_MOST];
    int length = snprintf(text, sizeof text,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                          path, options.port,
                          options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; "
                                            "client_max_window_bits\r\n" : "");
    if (length >= (int)sizeof text || send_now(c, text, (size_t)length) != (size_t)length)
        fail("connection %u: the request could not be sent", c->index);
}

/* Reads the server's answer; gives what follows it to the reader of frames. */
static void shake_hands(connection *c, const char *path)
{
    char text[RESPONSE_MOST + 1];
    size_t got = 0;
    char *end = NULL;
    while (!end) {
        size_t room = RESPONSE_MOST - got;
        ssize_t part = !room ? 0 : c->ssl ? SSL_read(c->ssl, text + got, (int)room) : recv(c->fd, text + got, room, 0);
        if (part <= 0)
            fail("connection %u: no answer to the opening handshake", c->index);
        got += (size_t)part;
        text[got] = 0;
        end = strstr(text, "\r\n\r\n");
    }
    size_t head = (size_t)(end - text) + 4;
    end[2] = 0;
    if (strncmp(text, "HTTP/1.1 101 ", 13))
        fail("%s: the server answers %.40s", path, strtok(text, "\r"));
    char *accept = field_of(text, "Sec-WebSocket-Accept:");
    if (!accept || strncmp(accept + strspn(accept, " "), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", 30))
        fail("%s: a wrong Sec-WebSocket-Accept", path);
    agree(text);
    if (c->ssl && fcntl(c->fd, F_SETFL, O_NONBLOCK)) /* from now on OpenSSL must not wait either */
        fail("fcntl: %s", strerror(errno));
    take(c, text + head, got - head, 0);
}

static void encrypt(connection *c)
{
    c->ssl = SSL_new(tls);
    if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || SSL_connect(c->ssl) != 1)
        fail("connection %u: no TLS handshake", c->index);
}

static void open_one(connection *c, unsigned index, const char *path)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = PATIENCE};
    int on = 1;
    c->index = index;
    c->times = allocate(options.mode == ECHO || c == publisher ? options.in_flight : 0, sizeof *c->times);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address))
        fail("connection %u: %s", index, strerror(errno));
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    open_count++;
    if (options.tls)
        encrypt(c);
    ask(c, path);
}

static void open_all(void)
{
    connections = allocate(options.connections + 1, sizeof *connections);
    publisher = options.mode == FANOUT ? connections + options.connections : NULL;
    deliveries = allocate(options.in_flight, sizeof *deliveries);
    for (unsigned i = 0; i < options.connections; i += OPENING_MOST) {
        unsigned end = options.connections - i < OPENING_MOST ? options.connections : i + OPENING_MOST;
        for (unsigned j = i; j < end; j++)
            open_one(connections + j, j, options.path);
        for (unsigned j = i; j < end; j++)
            shake_hands(connections + j, options.path);
    }
    if (publisher) { /* when the others listen */
        open_one(publisher, options.connections, options.publish_path);
        shake_hands(publisher, options.publish_path);
    }
}

static void raise_file_limit(void)
{
    rlim_t wanted = options.connections + SPARE_FILES;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        fail("getrlimit: %s", strerror(errno));
    if (limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted;
    if (wanted > limit.rlim_max || setrlimit(RLIMIT_NOFILE, &limit))
        fail("%u connections need a limit of %llu open files (ulimit -Hn)", options.connections, (unsigned long long)wanted);
}

/* ---- Running ---- */

static void turn(int milliseconds)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, milliseconds);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        connection *c = events[i].data.ptr;
        if (!c)
            continue; /* the standard input */
        if (events[i].events & EPOLLOUT)
            put_unsent(c);
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            readable(c);
    }
}

static uint64_t outstanding(void)
{
    if (options.mode == FANOUT)
        return published - complete;
    uint64_t count = 0;
    for (unsigned i = 0; i < options.connections; i++)
        count += connections[i].sent - connections[i].received;
    return count;
}

static void run_until(uint64_t end)
{
    uint64_t now;
    while ((now = clock_of(CLOCK_MONOTONIC)) < end) {
        turn((int)((end - now) / 1000000 + 1));
        if (options.mode == FANOUT)
            publish(clock_of(CLOCK_MONOTONIC));
    }
}

static void run(void)
{
    uint64_t begin = clock_of(CLOCK_MONOTONIC), used = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    going = true;
    if (options.mode == FANOUT)
        publish(begin);
    for (unsigned i = 0; options.mode == ECHO && i < options.connections; i++)
        put_messages(connections + i, options.in_flight, clock_of(CLOCK_MONOTONIC));
    run_until(begin + (uint64_t)(options.seconds * 1e9));
    going = false;
    uint64_t latest = clock_of(CLOCK_MONOTONIC) + PATIENCE * 1000000000ull;
    while (outstanding()) {
        if (clock_of(CLOCK_MONOTONIC) > latest)
            fail("%llu messages did not come back", (unsigned long long)outstanding());
        turn(100);
    }
    double seconds = (double)(clock_of(CLOCK_MONOTONIC) - begin) / 1e9;
    double busy = (double)(clock_of(CLOCK_PROCESS_CPUTIME_ID) - used) / 1e9 / seconds;
    printf("RESULT {\"requests\": %llu, \"seconds\": %.6f, \"failed\": 0, \"p50\": %.1f, \"p99\": %.1f, ",
           (unsigned long long)answers, seconds, percentile(0.5), percentile(0.99));
    printf("\"compressed\": %llu, \"busy\": %.3f}\n", (unsigned long long)answers_compressed, busy);
    fflush(stdout);
}

/* Closes every connection and waits for the server to do so; one that does not is left. */
static void close_all(void)
{
    char frame[HEAD_MOST + 2];
    size_t head = write_head(frame, FIN | CLOSE, 2);
    mask(frame + head, "\x03\xE8", 2); /* 1000 */
    closing = true;
    for (unsigned i = 0; i < options.connections + (publisher ? 1 : 0); i++)
        put(connections + i, frame, head + 2);
    uint64_t latest = clock_of(CLOCK_MONOTONIC) + CLOSE_PATIENCE * 1000000000ull;
    while (open_count && clock_of(CLOCK_MONOTONIC) < latest)
        turn(100);
}

/* Waits for a line of input; false when the input has ended. */
static bool wait_for_line(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event))
        fail("the standard input must be a pipe or a terminal");
    char line[64];
    ssize_t length;
    while ((length = read(STDIN_FILENO, line, sizeof line)) && (length < 0 || !memchr(line, '\n', (size_t)length)))
        turn(-1);
    epoll_ctl(epoll, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
    return length > 0;
}

static work_mode mode_of(const char *name)
{
    if (!strcmp(name, "fanout"))
        return FANOUT;
    if (strcmp(name, "echo"))
        fail("no such mode: %s; there are echo, fanout", name);
    return ECHO;
}

static void read_options(int count, char **values)
{
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},        {"path", required_argument, NULL, 'u'},
        {"publish-path", required_argument, NULL, 'b'}, {"connections", required_argument, NULL, 'c'},
        {"size", required_argument, NULL, 's'},        {"in-flight", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 't'},     {"mode", required_argument, NULL, 'm'},
        {"deflate", no_argument, NULL, 'd'},           {"wait", no_argument, NULL, 'w'},
        {"tls", no_argument, NULL, 'e'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(count, values, "", known, NULL)) != -1)
        switch (option) {
        case 'p': options.port = (unsigned)strtoul(optarg, NULL, 10); break;
        case 'u': options.path = optarg; break;
        case 'b': options.publish_path = optarg; break;
        case 'c': options.connections = (unsigned)strtoul(optarg, NULL, 10); break;
        case 's': options.size = strtoul(optarg, NULL, 10); break;
        case 'n': options.in_flight = (unsigned)strtoul(optarg, NULL, 10); break;
        case 't': options.seconds = strtod(optarg, NULL); break;
        case 'm': options.mode = mode_of(optarg); break;
        case 'd': options.deflate = true; break;
        case 'w': options.wait = true; break;
        case 'e': options.tls = true; break;
        default: fail("the options are those of tests/bench/ws_load.py");
        }
    if (!options.port || !options.connections || !options.in_flight || options.size < TAG)
        fail("it needs --port, a connection, a message in flight, and messages of %d bytes or more", TAG);
}

static void prepare_tls(void)
{
    tls = SSL_CTX_new(TLS_client_method());
    if (!tls)
        fail("OpenSSL makes no context");
    SSL_CTX_set_read_ahead(tls, 1); /* a record in one call, not two */
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    signal(SIGPIPE, SIG_IGN);
}

int main(int count, char **values)
{
    read_options(count, values);
    raise_file_limit();
    if (options.tls)
        prepare_tls();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1: %s", strerror(errno));
    open_all();
    make_frames();
    if (options.wait) {
        puts("READY");
        fflush(stdout);
    }
    if (!options.wait || wait_for_line())
        run();
    while (options.wait && wait_for_line())
        ;
    close_all();
    return 0;
}
