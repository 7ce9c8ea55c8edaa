/* A trivial model of topics beside a server in memory: both are given the same calls,
 * taken from bytes, and have to agree about every answer and every byte that a client
 * hears. What runs it gives random bytes, or a fuzzer's. */
#ifndef CK_TEST_TOPIC_MODEL_H
#define CK_TEST_TOPIC_MODEL_H

#include "server.h"
#include "ws_frame.h"

enum { CLIENTS = 6, TOPICS = 4, KEYS = 3, PENDING_MAX = 2000, REFERENCE = 16, BUFFER = 16384, LIMIT = 20000 };

#define WS_UPGRADE                                                                                      \
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"                        \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

static const ck_ws_limits topic_limits = {.message = 100, .backlog = LIMIT, .close_seconds = 8};
static const char *const topic_names[TOPICS] = {"a", "b", "room/1", "\xff"};

typedef struct item {
    char *data;
    size_t length;
    int key; /* topic and key in one number, or -1 */
} item;

/* What the model knows of a client. */
typedef struct member {
    peer *client;
    uint32_t handle;
    bool open;
    bool topics[TOPICS];
    bool stalled;       /* it does not read */
    bool fragmented;
    size_t packed;      /* bytes in the buffer of its socket */
    size_t backlog;     /* bytes that it has not taken */
    size_t fresh;       /* bytes since the last settle */
    bool sent_early;
    item pending[PENDING_MAX];
    int pending_count;
    size_t pending_bytes;
    char *expected;     /* all that it should hear */
    size_t expected_length;
    long dropped;
} member;

typedef struct ops {
    const uint8_t *data;
    size_t length;
} ops;

static member members[CLIENTS];
static uint32_t topic_accepted;
static long topic_drops; /* DROPPED events */
static long topic_ends;  /* SUBSCRIPTION events */
static uint32_t topic_serial;

static inline unsigned draw(ops *from)
{
    if (from->length == 0) {
        return 0;
    }
    from->length--;
    return *from->data++;
}

static inline void accept_websocket(uint32_t handle)
{
    int64_t result = ck_upgrade(handle, "", 0);
    topic_accepted = result > 0 ? (uint32_t) result : 0;
}

static inline void note_event(uint32_t handle)
{
    (void) handle;
    topic_drops += world.event == CK_WS_EVENT_DROPPED;
    topic_ends += world.event == CK_WS_EVENT_SUBSCRIPTION;
}

static inline int count_of(int topic)
{
    int count = 0;
    for (int i = 0; i < CLIENTS; i++) {
        count += members[i].open && members[i].topics[topic];
    }
    return count;
}

/* ---- Delivery, in the model ---- */

/* The buffer goes: to the client, or to the backlog. */
static inline void flush_model(member *m, size_t length)
{
    m->backlog += m->stalled ? length : 0;
    m->packed -= length;
}

static inline bool waits(const member *m)
{
    return m->backlog > 0;
}

static inline bool held(const member *m)
{
    return m->fragmented || waits(m);
}

static inline void expect_bytes(member *m, const char *data, size_t length)
{
    m->expected = realloc(m->expected, m->expected_length + length + 1);
    memcpy(m->expected + m->expected_length, data, length);
    m->expected_length += length;
    m->fresh += length;
    m->packed += length;
}

static inline void forget_pending(member *m)
{
    for (int i = 0; i < m->pending_count; i++) {
        free(m->pending[i].data);
    }
    m->pending_count = 0;
    m->pending_bytes = 0;
}

static inline void commit(member *m, bool all)
{
    int done = 0;
    while (done < m->pending_count && !m->fragmented && (all || !waits(m))) {
        expect_bytes(m, m->pending[done].data, m->pending[done].length);
        if (m->packed > BUFFER) {
            flush_model(m, BUFFER);
        }
        m->pending_bytes -= m->pending[done].length + REFERENCE;
        free(m->pending[done++].data);
    }
    m->pending_count -= done;
    memmove(m->pending, m->pending + done, (size_t) m->pending_count * sizeof(item));
}

static inline bool over(const member *m, size_t less)
{
    return m->backlog + m->pending_bytes - less > LIMIT;
}

static inline void model_publish(member *m, const char *frame, size_t length, int key)
{
    int place = -1;
    for (int i = 0; key >= 0 && i < m->pending_count; i++) {
        place = m->pending[i].key == key ? i : place;
    }
    if (place < 0 && m->pending_count && !held(m) && m->pending_bytes + length + REFERENCE > BUFFER) {
        commit(m, false);
        flush_model(m, m->packed);
        m->sent_early = true;
    }
    if (held(m) && over(m, place < 0 ? 0 : m->pending[place].length + REFERENCE)) {
        m->dropped++;
        return;
    }
    if (place >= 0) {
        m->pending_bytes -= m->pending[place].length + REFERENCE;
        free(m->pending[place].data);
    } else {
        place = m->pending_count++;
    }
    m->pending[place] = (item) {malloc(length), length, key};
    memcpy(m->pending[place].data, frame, length);
    m->pending_bytes += length + REFERENCE;
}

/* ---- Calls ---- */

static inline void agree(member *m)
{
    bool same = m->client->out_length <= m->expected_length
        && (m->client->out_length == 0 || memcmp(m->client->out, m->expected, m->client->out_length) == 0);
    CHECK(same);
    if (m->open && !m->stalled) {
        CHECK(m->client->out_length == m->expected_length);
    }
}

static inline void settle_both(void)
{
    int sends[CLIENTS];
    size_t due[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        member *m = &members[i];
        sends[i] = m->client ? m->client->sends : 0;
        if (m->open) {
            commit(m, false);
            flush_model(m, m->packed);
        }
        due[i] = m->fresh;
    }
    settle();
    for (int i = 0; i < CLIENTS; i++) {
        member *m = &members[i];
        if (!m->client) {
            continue;
        }
        if (m->open && !m->stalled && !m->sent_early && due[i] && due[i] < BUFFER / 2) {
            CHECK(m->client->sends == sends[i] + 1);
        }
        m->fresh = 0;
        m->sent_early = false;
        agree(m);
    }
}

static inline void join(member *m)
{
    peer *client = dial();
    topic_accepted = 0;
    feed(client, WS_UPGRADE);
    free(m->expected);
    memset(m, 0, sizeof(*m));
    m->client = client;
    m->handle = topic_accepted;
    m->open = m->handle != 0;
    forget(client);
}

static inline void unstall(member *m)
{
    m->stalled = false;
    m->backlog = 0;
    m->sent_early = true; /* the backlog, then the rest */
    m->client->room = UNLIMITED;
}

static inline void leave(member *m, unsigned how)
{
    long ends = topic_ends;
    int topics = 0;
    for (int i = 0; i < TOPICS; i++) {
        topics += m->topics[i];
    }
    if (how % 2) { /* it is told what was published before */
        commit(m, true);
        CHECK(ck_ws_terminate(m->handle) == CK_OK);
    } else {
        settle_both();
        m->client->fin = true;
        settle();
    }
    m->open = false;
    forget_pending(m);
    CHECK(topic_ends == ends + topics);
    CHECK(ck_ws_subscribe(m->handle, "a", 1) == CK_EXPIRED);
    if (!m->stalled) {
        CHECK(m->client->out_length == m->expected_length);
    }
    agree(m);
}

static inline void publish_both(ops *from, int sender)
{
    char message[6000], frame[6000 + CK_WS_HEADER_MAX], key[8];
    unsigned topic = draw(from) % TOPICS, size = draw(from), keyed = draw(from);
    size_t length = size % 16 == 15 ? 5990 : size % 100;
    memset(message, (int) ('a' + topic_serial % 26), sizeof(message));
    length = length < 4 ? length : length + (topic_serial % 3);
    memcpy(message, &topic_serial, sizeof(topic_serial));
    topic_serial++;
    size_t header = ck_ws_put_header(frame, CK_WS_FIN | CK_WS_BINARY, length);
    memcpy(frame + header, message, length);
    int mark = keyed % 4 ? -1 : (int) (keyed / 4 % KEYS);
    key[0] = (char) mark;
    int key_length = mark < 0 ? -1 : mark == 0 ? 0 : 1, expected = 0;
    const char *name = topic_names[topic];
    int name_length = (int) strlen(name);
    for (int i = 0; i < CLIENTS; i++) {
        if (members[i].open && members[i].topics[topic] && i != sender) {
            expected++;
        }
    }
    long drops = topic_drops, before = 0, after = 0;
    for (int i = 0; i < CLIENTS; i++) {
        before += members[i].dropped;
    }
    int result = sender < 0
        ? ck_app_publish(world.app, name, name_length, message, (int) length, CK_WS_BINARY, key, key_length)
        : ck_ws_publish(members[sender].handle, name, name_length, message, (int) length, CK_WS_BINARY, key, key_length);
    CHECK(result == expected);
    for (int i = 0; i < CLIENTS; i++) {
        if (members[i].open && members[i].topics[topic] && i != sender) {
            model_publish(&members[i], frame, header + length, mark < 0 ? -1 : (int) topic * KEYS + mark);
        }
        after += members[i].dropped;
    }
    CHECK(topic_drops - drops == after - before);
}

static inline void send_both(member *m, unsigned how)
{
    static const char text[] = "sent";
    unsigned first = CK_WS_TEXT | CK_WS_FIN;
    if (m->fragmented) {
        first = CK_WS_CONTINUATION | (how % 3 ? CK_WS_FIN : 0);
    } else if (how % 4 == 0) {
        first = CK_WS_TEXT;
    }
    bool refused = !m->fragmented && over(m, 0);
    int result = ck_ws_send(m->handle, text, 4, (int) first);
    CHECK((result == CK_WS_DROPPED) == refused);
    if (result == CK_WS_DROPPED) {
        return;
    }
    char frame[] = {(char) first, 4, 's', 'e', 'n', 't'};
    commit(m, true);
    if (BUFFER - m->packed < CK_WS_HEADER_MAX + 4) {
        flush_model(m, m->packed);
    }
    expect_bytes(m, frame, sizeof(frame));
    m->fragmented = !(first & CK_WS_FIN);
}

static inline void subscribe_both(member *m, unsigned topic, bool on)
{
    const char *name = topic_names[topic];
    int length = (int) strlen(name), before = count_of((int) topic);
    CHECK(ck_ws_subscribed(m->handle, name, length) == m->topics[topic]);
    if (on) {
        CHECK(ck_ws_subscribe(m->handle, name, length) == (m->topics[topic] ? 0 : before + 1));
    } else {
        CHECK(ck_ws_unsubscribe(m->handle, name, length) == (m->topics[topic] ? before : 0));
    }
    m->topics[topic] = on;
    CHECK(ck_app_subscribers(world.app, name, length) == count_of((int) topic));
}

static inline void run_op(ops *from)
{
    unsigned op = draw(from), who = draw(from) % CLIENTS;
    member *m = &members[who];
    if (!m->open) {
        settle_both();
        if (world.peer_count < 300) {
            join(m);
        }
        return;
    }
    switch (op % 16) {
    case 0:
    case 1:
    case 2:
        subscribe_both(m, draw(from) % TOPICS, true);
        break;
    case 3:
        subscribe_both(m, draw(from) % TOPICS, false);
        break;
    case 4:
    case 5:
        settle_both();
        break;
    case 6:
        settle_both();
        m->stalled = true;
        m->client->room = 0;
        break;
    case 7:
        settle_both();
        if (m->stalled) {
            unstall(m);
        }
        settle_both();
        break;
    case 8:
        leave(m, draw(from));
        break;
    case 9:
    case 10:
        send_both(m, draw(from));
        break;
    case 11:
    case 12:
        publish_both(from, -1);
        break;
    default:
        publish_both(from, (int) who);
        break;
    }
}

static inline void run_topic_model(const uint8_t *data, size_t length)
{
    ops from = {data, length};
    reset_world();
    CHECK(try_open_server(NULL));
    world.handlers[world.routes] = accept_websocket;
    CHECK(ck_app_websocket(world.app, "/ws", 3, world.routes++, &topic_limits) == 0);
    world.websocket = note_event;
    memset(members, 0, sizeof(members));
    topic_drops = topic_ends = 0;
    while (from.length) {
        run_op(&from);
    }
    settle_both();
    for (int i = 0; i < CLIENTS; i++) {
        if (members[i].open && members[i].stalled) {
            unstall(&members[i]);
        }
    }
    settle_both();
    close_server();
    for (int i = 0; i < CLIENTS; i++) {
        forget_pending(&members[i]);
        free(members[i].expected);
    }
}

#endif
