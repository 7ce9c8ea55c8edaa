/* A strict reader of responses: what a client that forgives nothing would make of
 * the bytes. It shares nothing with the core. */
#ifndef CK_RESPONSE_READER_H
#define CK_RESPONSE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RESPONSE_FIELDS = 1024 };

enum response_result { RESPONSE_BAD = -1, RESPONSE_INCOMPLETE = 0, RESPONSE_WHOLE = 1 };

typedef struct response_part {
    const char *text;
    size_t length;
} response_part;

typedef struct response {
    int status;
    response_part reason;
    size_t length;             /* of the whole message, when it is whole */
    size_t field_count;
    struct {
        response_part name, value;
    } fields[RESPONSE_FIELDS]; /* in their order, the framing ones among them */
    bool has_length, chunked, close;
    uint64_t content_length;
    response_part body;        /* decoded; lies in `decoded` or in the input */
    char *decoded;             /* free() it */
} response;

/* Reads one response from the start of the bytes. `head_only` is said of the
 * answer to HEAD; `ended` when no byte will follow. */
enum response_result response_read(response *into, const char *data, size_t length, bool head_only, bool ended);

bool response_part_is(response_part part, const char *text);

#endif
