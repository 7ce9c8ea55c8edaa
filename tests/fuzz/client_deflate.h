/* The compression of a WebSocket client (RFC 7692 S7.2), by zlib alone. */
#ifndef CK_CLIENT_DEFLATE_H
#define CK_CLIENT_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <zlib.h>

/* Compresses a message that refers to nothing before it, and back by 512 bytes at most. Returns its length. */
size_t client_deflate(const char *data, size_t length, char *out, size_t room);

/* What one side's messages are inflated with, one after another. */
typedef struct client_inflater {
    z_stream stream;
    bool keeps;       /* messages may refer to those before them */
    char *message;    /* so far; room for `most` bytes */
    size_t length, most;
} client_inflater;

void client_inflater_open(client_inflater *inflater, int bits, bool keeps, size_t most);
void client_inflater_close(client_inflater *inflater);

/* Inflates the next payload of a message, and behind the last one what S7.2.2 says.
 * Returns false for what is no deflate, or for a message of more than `most` bytes. */
bool client_inflate(client_inflater *inflater, const char *data, size_t length, bool last);

/* The message has been looked at. */
void client_inflater_next(client_inflater *inflater);

#endif
