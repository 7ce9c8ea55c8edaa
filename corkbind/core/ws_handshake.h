/* The opening handshake of WebSocket (RFC 6455 S4.2): what a client must send, and the answer to its key. */
#ifndef CK_WS_HANDSHAKE_H
#define CK_WS_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>

#include "http_parser.h"

enum {
    CK_WS_KEY_LENGTH = 24,    /* 16 bytes in base64 */
    CK_WS_ACCEPT_LENGTH = 28, /* 20 bytes in base64 */
    CK_WS_PROTOCOLS_MAX = 64, /* that a client may offer: each is compared with each */
};

/* Whether a complete head asks for a WebSocket: Connection names Upgrade, and a token
 * of Upgrade is "websocket". */
bool ck_ws_wanted(const ck_head *head, const char *data);

/* Judges a head that asks for a WebSocket.
 * Returns 0, or the status to refuse with: 400, or 426 for another version of the protocol. */
int ck_ws_handshake_check(const ck_head *head, const char *data);

/* Writes the value of Sec-WebSocket-Accept for a key. */
void ck_ws_accept(const char key[CK_WS_KEY_LENGTH], char accept[CK_WS_ACCEPT_LENGTH]);

/* Whether the client offers the subprotocol; names are case-sensitive. The head has passed the check. */
bool ck_ws_offers(const ck_head *head, const char *data, const char *name, size_t length);

#endif
