/* Extensions of WebSocket in the opening handshake: permessage-deflate (RFC 7692 S7.1), and no other. */
#ifndef CK_WS_EXTENSIONS_H
#define CK_WS_EXTENSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "http_parser.h"

enum {
    CK_WS_TERMS_MAX = 160,  /* bytes of an answer */
    CK_WS_WINDOW_LEAST = 9, /* bits; zlib cannot compress without headers for a window of 8 */
    CK_WS_WINDOW_MOST = 15,
};

/* What was agreed of permessage-deflate. */
typedef struct ck_ws_terms {
    uint8_t server_bits;  /* how far back our messages may refer, as a power of two */
    uint8_t client_bits;  /* the client's; 15 when it may not be told */
    bool server_keeps;    /* our messages may refer to those before them */
    bool client_keeps;
    bool server_bits_due; /* the answer names the bits */
    bool client_bits_due;
} ck_ws_terms;

/* Whether the extensions that a client offers can be read (RFC 6455 S9.1). */
bool ck_ws_extensions_valid(const ck_head *head, const char *data);

/* Whether `options` are one compressor and one decompressor of CompressOptions, either of
 * which may be left out, or 0. */
bool ck_ws_compression_valid(uint32_t options);

/* Finds the first offer of permessage-deflate that can be accepted. The head has passed
 * the check above. Returns whether there is one; `options` 0 accepts none. */
bool ck_ws_negotiate(const ck_head *head, const char *data, uint32_t options, ck_ws_terms *terms);

/* Writes the value of the field that accepts, at most CK_WS_TERMS_MAX bytes. Returns its length. */
size_t ck_ws_terms_put(const ck_ws_terms *terms, char *out);

#endif
