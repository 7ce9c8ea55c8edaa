/* A strict reader of a server's WebSocket frames: what a client that forgives nothing
 * would make of them (RFC 6455 S5). It shares nothing with the core. */
#ifndef CK_SERVER_FRAMES_H
#define CK_SERVER_FRAMES_H

#include "response_reader.h"

typedef struct server_frame {
    uint8_t first;       /* FIN, whether the message is compressed, and opcode */
    const char *payload;
    size_t length;       /* of the payload */
    size_t size;         /* of the whole frame */
} server_frame;

/* Reads one frame from the start of the bytes; a message may be `compressed` where that has been agreed on (RFC 7692 S6). */
enum response_result server_frame_read(server_frame *frame, const char *data, size_t length, bool compressed);

#endif
