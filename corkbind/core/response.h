/* What the files that write responses share. */
#ifndef CK_RESPONSE_H
#define CK_RESPONSE_H

#include <string.h>

#include "http.h"

enum {
    CK_STATUS_LINE_MAX = 512,
};

/* Each writes at `at` and returns the place behind. */
static inline char *put(char *at, const char *data, size_t length)
{
    memcpy(at, data, length);
    return at + length;
}

#define PUT(at, literal) put(at, literal, sizeof(literal) - 1)

static inline char *put_number(char *at, uint64_t number)
{
    char digits[20];
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char) ('0' + number % 10);
        number /= 10;
    } while (number);
    return put(at, digits + first, sizeof(digits) - first);
}

static inline char *put_hex(char *at, size_t number)
{
    char digits[16];
    size_t first = sizeof(digits);
    do {
        digits[--first] = "0123456789abcdef"[number & 15];
        number >>= 4;
    } while (number);
    return put(at, digits + first, sizeof(digits) - first);
}

static inline ck_stream *stream_of(ck_exchange *exchange)
{
    return &exchange->connection->stream;
}

/* Why a reservation failed. */
static inline int no_room(const ck_stream *stream)
{
    return stream->broken ? CK_ABORTED : CK_NOMEM;
}

/* RFC 9110 S6.4.1: answers that never have a body, whatever their fields say. */
static inline bool bodiless(const ck_exchange *exchange)
{
    return exchange->head.method == CK_HEAD || exchange->status == 204 || exchange->status == 304;
}

/* ---- response_head.c ---- */

char *ck_put_status_line(char *at, int status);
/* Begins with a status line that nobody has given yet. */
int ck_head_begin(ck_exchange *exchange, int status);
/* Gives the status; the first call wins, a later one returns 1. */
int ck_head_status(ck_exchange *exchange, int status);
/* Gives 101, which no application can: there is more to it. Returns 0 or a ck_result. */
int ck_head_switching(ck_exchange *exchange);
int ck_head_status_line(ck_exchange *exchange, const char *text, size_t length);
int ck_head_field(ck_exchange *exchange, const char *name, size_t name_length, const char *value, size_t length);
/* Ends the head with what the server owns; `length` counts by CK_BODY_BY_LENGTH. */
int ck_head_finish(ck_exchange *exchange, enum ck_response_framing framing, uint64_t length);

/* ---- response.c ---- */

/* Ends the head for a body in parts, unless it has begun. Returns 0 or a ck_result. */
int ck_response_begin_parts(ck_exchange *exchange);
/* All of the response is written. */
void ck_response_finish(ck_exchange *exchange);
/* Adds a part of a body. Returns 1 when bytes wait for the client. */
int ck_response_part(ck_exchange *exchange, const char *data, size_t length);
/* Adds what the client takes of a part; see ck_try_end. */
int ck_response_try_part(ck_exchange *exchange, const char *data, size_t length, uint64_t total);

#endif
