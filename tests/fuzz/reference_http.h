/* A slow reader of request heads, written from the grammars of RFC 9110, 9112 and
 * 3986 and from nothing of the parser that it judges: one byte after another, so
 * that it refuses with the first byte that no valid head has at that place. */
#ifndef CK_REFERENCE_HTTP_H
#define CK_REFERENCE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REFERENCE_FIELDS = 100 };

typedef struct reference_limits {
    size_t line, head, field, fields;
} reference_limits;

typedef struct reference_span {
    size_t offset, length;
} reference_span;

/* What fields say together. */
typedef struct reference_framing {
    bool host, type, authorization, key, expect, upgrade, length, coding; /* the field is there */
    int64_t content_length;                                               /* -1 = none */
    bool chunked, other_coding, other_expectation, close_option, keep_alive_option, upgrade_option;
} reference_framing;

typedef struct reference_head {
    int result;  /* 1 accepted, 0 more bytes are needed, or minus the status of the refusal */
    size_t used; /* bytes up to and with the one that decided */
    reference_span method, target, path, query, host;
    int minor;
    bool asterisk, target_host, keep_alive, expect_continue, upgrade;
    reference_framing framing;
    size_t field_count;
    struct {
        reference_span name, value;
    } fields[REFERENCE_FIELDS];
} reference_head;

void reference_head_read(reference_head *head, const char *data, size_t length, const reference_limits *limits);

/* Takes note of one field, whose value has no white space at its ends. Returns
 * false where it must be refused with 400; tells whether it is a Host. */
void reference_framing_init(reference_framing *framing);
bool reference_field(reference_framing *framing, const char *name, size_t name_length, const char *value, size_t length,
    bool *is_host);

/* Host or authority. Returns the port, -1 where there is none, -2 where it is malformed. */
int reference_host_port(const char *text, size_t length);

bool reference_is_token(char byte);
bool reference_is_path(char byte);
bool reference_is_query(char byte);
bool reference_is_value(char byte);
bool reference_equals(const char *text, size_t length, const char *lower);

#endif
