/* A naive reader of a WebSocket client's frames, written from RFC 6455 S5 and RFC 3629
 * and from nothing of the reader that it judges. It sees the whole stream at once and
 * goes one byte after another, so it refuses with the first byte that must not be there. */
#ifndef CK_REFERENCE_WS_H
#define CK_REFERENCE_WS_H

#include <stddef.h>
#include <stdint.h>

typedef struct reference_ws {
    uint64_t limit;   /* of a message; set before reading */
    int deflate;      /* messages may be compressed (RFC 7692); set before reading */
    int result;       /* 0 all is good so far, or minus the close code */
    size_t used;      /* bytes up to and with the one that decided */
    char *events;     /* what came of it, as ws_event writes it; freed by the caller */
    size_t length;
} reference_ws;

void reference_ws_read(reference_ws *ws, const char *data, size_t length);

enum { WS_COMPRESSED = 0x40 }; /* beside the opcode of a message whose payload is still compressed */

/* Appends an event to memory with room for it: opcode, close code, length, payload. Returns its end. */
char *ws_event(char *at, uint8_t opcode, uint16_t code, const char *data, size_t length);

/* Room for the events of an input: each frame has six bytes at least. */
size_t ws_events_room(size_t length);

#endif
