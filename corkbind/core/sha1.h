/* SHA-1 (RFC 3174), which the opening handshake of WebSocket asks for. It is broken as
 * a protection against forgery, and here protects nothing: it shows that the server
 * knows the protocol. */
#ifndef CK_SHA1_H
#define CK_SHA1_H

#include <stddef.h>
#include <stdint.h>

enum { CK_SHA1_LENGTH = 20 };

void ck_sha1(const char *data, size_t length, uint8_t digest[CK_SHA1_LENGTH]);

#endif
