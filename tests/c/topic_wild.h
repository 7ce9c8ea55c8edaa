/* Clients of a server in memory whose handlers do what bytes say: subscribe, publish, send,
 * close, stop to read, or end the app, inside of each other and while topics are gone
 * through. Nothing is expected but that all memory comes back. */
#ifndef CK_TEST_TOPIC_WILD_H
#define CK_TEST_TOPIC_WILD_H

#include "topic_model.h"

#define WS_UPGRADE_DEFLATE                                                                              \
    "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"                        \
    "Sec-WebSocket-Extensions: permessage-deflate\r\n"                                                  \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

enum { SOME = 4, COMPRESSED = CK_WS_RSV1, NO_CONTEXT = 1 << 8 | 1, OWN_CONTEXT = 15 << 8 | 9 << 4 | 1 /* as CompressOptions */ };

static peer *clients[SOME];
static uint32_t sockets[SOME];

static inline void open_with_clients(const ck_ws_limits *limits)
{
    open_server(NULL);
    world.handlers[world.routes] = accept_websocket;
    CHECK(ck_app_websocket(world.app, "/ws", 3, world.routes++, limits ? limits : &topic_limits) == 0);
    for (int i = 0; i < SOME; i++) {
        clients[i] = dial();
        feed(clients[i], i % 2 ? WS_UPGRADE : WS_UPGRADE_DEFLATE);
        sockets[i] = topic_accepted;
        forget(clients[i]);
    }
    forget_log();
}

static ops wild;
static int wild_depth;

static inline void wild_call(void)
{
    unsigned op = draw(&wild), who = draw(&wild) % SOME, topic = draw(&wild) % TOPICS;
    static char text[9000];
    const char *name = topic_names[topic];
    int length = (int) strlen(name);
    switch (op % 12) {
    case 0:
    case 1:
        (void) ck_ws_subscribe(sockets[who], name, length);
        break;
    case 2:
        (void) ck_ws_unsubscribe(sockets[who], name, length);
        break;
    case 3:
        (void) (op & 0x40 ? ck_ws_terminate(sockets[who]) : ck_ws_close(sockets[who], 1000, "", 0));
        break;
    case 4:
        (void) ck_ws_send(sockets[who], text, 30, CK_WS_BINARY | COMPRESSED | (op & 0x40 ? CK_WS_FIN : 0));
        break;
    case 5:
        clients[who]->room = op & 0x40 ? UNLIMITED : 0;
        break;
    case 6:
        clients[who]->send_error = op & 0x80 ? ECONNRESET : 0;
        break;
    case 7:
        (void) ck_ws_flush(sockets[who]);
        break;
    case 8:
        if (op >= 250) {
            (void) ck_app_destroy(world.app);
        }
        break;
    default:
        (void) ck_app_publish(world.app, name, length, text, op & 0x80 ? 9000 : 300, CK_WS_BINARY | COMPRESSED, "k", op & 0x40 ? 1 : -1);
        break;
    }
}

static inline void wild_event(uint32_t handle)
{
    (void) handle;
    topic_ends += world.event == CK_WS_EVENT_SUBSCRIPTION;
    if (wild_depth < 6) {
        wild_depth++;
        for (unsigned n = draw(&wild) % 4; n > 0; n--) {
            wild_call();
        }
        wild_depth--;
    }
}

/* Bit 0 of `how`: who is over its backlog is closed; bit 1: what is sent counts against idleness;
 * bit 2: memory fails at times; bit 3: half of the clients have agreed on compression, bit 4:
 * with a context of their own. */
static inline void run_wild(const uint8_t *data, size_t length, unsigned how)
{
    ck_ws_limits limits = topic_limits;
    limits.close_on_backlog = how & 1;
    limits.idle_on_send = how >> 1 & 1;
    limits.compression = how & 8 ? how & 16 ? OWN_CONTEXT : NO_CONTEXT : 0;
    open_with_clients(&limits);
    for (int i = 0; i < SOME; i++) {
        for (int t = 0; t < TOPICS; t++) {
            (void) ck_ws_subscribe(sockets[i], topic_names[t], (int) strlen(topic_names[t]));
        }
    }
    world.websocket = wild_event;
    wild = (ops) {data, length};
    wild_depth = 0;
    while (wild.length) {
        if (how & 4 && draw(&wild) % 4 == 0) {
            world.fail_at = world.allocations + 1 + draw(&wild) % 8;
            world.fail_on = draw(&wild) % 8 == 0;
        }
        wild_call();
        if (draw(&wild) % 6 == 0) {
            settle();
        }
        world.fail_at = world.fail_on ? 0 : world.fail_at;
        world.fail_on = false;
    }
    world.fail_at = 0;
    settle();
    close_server();
}

#endif
