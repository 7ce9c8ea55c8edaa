/* A WebSocket: what a connection is about once it has been upgraded. */
#ifndef CK_WS_CONNECTION_H
#define CK_WS_CONNECTION_H

#include "deflate.h"
#include "http.h"
#include "topic.h"
#include "ws_frame.h"

typedef struct ck_websocket {
    ck_connection *connection;
    uint32_t handle;
    ck_ws_limits limits;
    ck_ws_reader reader;
    ck_deflate *deflate;     /* not NULL: permessage-deflate has been agreed on */
    char *message;           /* payload of a message that has not come whole */
    size_t message_length;
    size_t message_capacity;
    bool closing;            /* our close frame is written, and the client's has not come */
    bool fragmented;         /* a message of ours has begun and not ended */
    bool fragmented_text;    /* and it is text */
    ck_utf8 text;            /* where that stands between two fragments */
    bool pong_due;           /* the client does not read: only its latest ping will be answered */
    bool aging;              /* the clock of minutes has begun a new one since the upgrade */
    uint8_t pong_length;
    char pong[CK_WS_CONTROL_MAX];
    ck_subscriber *subscriber; /* NULL before it has subscribed to anything */
} ck_websocket;

/* ---- ws_connection.c ---- */

/* Takes frames from the cursor. Returns whether the connection is to be looked at again. */
bool ck_websocket_take(ck_connection *connection, ck_cursor *cursor);
/* It is over: tells the application, and lets go of everything. */
void ck_websocket_over(ck_connection *connection, unsigned code, const char *reason, size_t length);
/* Everything that waited for the client has left. Runs corked. */
void ck_websocket_drained(ck_connection *connection);
void ck_websocket_timed_out(ck_connection *connection, enum ck_timer timer);
/* Begins to count its age; and what runs when the clock of minutes says so. */
void ck_websocket_born(ck_connection *connection);
void ck_websocket_aged(ck_connection *connection);
/* The app ends: begins the closing handshake, once. */
void ck_websocket_going_away(ck_connection *connection);
/* Reports an event with a Python object, which is let go; NULL = there was no memory for one.
 * Returns whether it could. */
bool ck_websocket_tell(const ck_websocket *websocket, int event, void *payload, int number);
/* What was published to it was not sent: too much waits. */
void ck_websocket_dropped(const ck_websocket *websocket, int opcode, const char *data, size_t length);
/* Returns the bytes that wait for the client, what is pending for it too. */
size_t ck_websocket_waiting(const ck_websocket *websocket);
/* Puts what is pending for it before what is written next. */
void ck_websocket_pack(ck_websocket *websocket);
unsigned ck_websocket_seconds(const ck_websocket *websocket, enum ck_timer timer);

/* ---- ws_upgrade.c ---- */

/* Has a request for a WebSocket served by its route. Returns false when it is none,
 * or when there is no such route. */
bool ck_websocket_dispatch(ck_connection *connection, ck_exchange *exchange);
/* No route of HTTP took the request, as the router has `found`: answers it when its path
 * is a WebSocket's. */
bool ck_websocket_answer_plain(ck_connection *connection, ck_exchange *exchange, int found);

#endif
