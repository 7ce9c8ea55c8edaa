/* A naive reader of chunked bodies, written from RFC 9112 S7.1 and from nothing of
 * the decoder that it judges. It sees the whole body at once. */
#ifndef CK_REFERENCE_CHUNKED_H
#define CK_REFERENCE_CHUNKED_H

#include <stddef.h>
#include <stdint.h>

typedef struct reference_chunked {
    int result;          /* 1 complete, 0 more bytes are needed, or minus the status of the refusal */
    size_t used;         /* bytes up to and with the one that decided */
    uint64_t overhead;   /* framing bytes; set before reading to what went before */
    uint64_t payload;    /* bytes of payload, likewise */
    uint64_t limit;      /* of the payload; set before reading */
    char *data;          /* the payload, as far as it is there; room for all input */
    size_t length;
    char *trailers;      /* the trailer section without the empty line, likewise */
    size_t trailer_length;
} reference_chunked;

void reference_chunked_read(reference_chunked *body, const char *data, size_t length);

#endif
