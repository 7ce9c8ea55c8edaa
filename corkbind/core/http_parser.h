/* A strict HTTP/1.1 request parser: bytes in, spans out; no allocation, no I/O. */
#ifndef CK_HTTP_PARSER_H
#define CK_HTTP_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CK_MAX_FIELDS = 100,     /* RFC 6585 S5: more are answered with 431 */
    CK_MAX_METHOD = 32,      /* longer tokens are answered with 501 */
};

/* The registered methods that routes know. OTHER is any other valid token. */
enum ck_method {
    CK_GET, CK_HEAD, CK_POST, CK_PUT, CK_PATCH, CK_DELETE, CK_OPTIONS, CK_CONNECT, CK_TRACE, CK_METHOD_OTHER
};

/* Their names. */
extern const char ck_method_names[CK_METHOD_OTHER][8];

/* Returns the number of a name, CK_METHOD_OTHER for one not in the list. Methods
 * are case-sensitive, RFC 9110 S9.1. */
uint8_t ck_method_number(const char *name, size_t length);

/* A part of the head: an offset from its first byte, and a length. */
typedef struct ck_span {
    uint32_t offset;
    uint32_t length;
} ck_span;

typedef struct ck_field {
    uint32_t name_offset;
    uint32_t value_offset;
    uint16_t name_length;
    uint16_t value_length; /* a field of more than 16 KiB is refused before it gets here */
} ck_field;

/* Field names that framing needs, found while parsing. */
enum { CK_NO_LENGTH = -1 };

typedef struct ck_head_limits {
    uint32_t line;    /* bytes of the request line without CRLF: over is 414 */
    uint32_t head;    /* bytes of the field section: over is 431 */
    uint32_t field;   /* bytes of one field line: over is 431 */
    uint32_t fields;  /* number of fields, at most CK_MAX_FIELDS: over is 431 */
} ck_head_limits;

typedef struct ck_head {
    /* Valid when ck_head_parse returned CK_HEAD_DONE. */
    uint32_t length;            /* bytes of the whole head with its empty line, and with leading CRLFs */
    uint8_t method;             /* enum ck_method */
    uint8_t minor_version;      /* 0 for HTTP/1.0, 1 for 1.1 and all later minors */
    bool keep_alive;            /* by version and Connection; S9.3 */
    bool chunked;
    bool expect_continue;       /* HTTP/1.1 with a 100-continue expectation */
    bool upgrade;               /* Connection names Upgrade and an Upgrade field is there */
    bool asterisk;              /* OPTIONS * */
    uint16_t field_count;
    int64_t content_length;     /* CK_NO_LENGTH when there is no field */
    ck_span method_name;
    ck_span target;             /* as received */
    ck_span path;               /* of origin or absolute form; "/" for an empty absolute path has length 0 */
    ck_span query;              /* after "?", length 0 when there is none */
    ck_span host;               /* from the target in absolute form, else from Host */
    ck_field fields[CK_MAX_FIELDS];

    /* Where to go on when more bytes come; zero at the start (ck_head_init). */
    uint32_t line_start;        /* first byte of the line that is not complete */
    uint32_t scanned;           /* bytes of it that are known to hold no line end and no bad byte */
    uint32_t fields_start;      /* first byte after the request line, 0 before that */
    uint32_t seen;              /* bits of the singleton fields met so far (private to the parser) */
    uint8_t phase;              /* private to the parser */
    uint8_t leading;            /* empty lines skipped before the request line */
} ck_head;

enum { CK_HEAD_MORE = 0, CK_HEAD_DONE = 1 }; /* or minus a status: -400, -414, -417, -431, -501, -505 */

/* Makes `head` ready for the first byte of a request (does not touch `fields`). */
void ck_head_init(ck_head *head);

/* Parses as much of a request head as is there.
 * `data` begins at the first byte of the request on every call and holds all of
 * it so far (it may have moved since the last call); spans are offsets from it.
 * A bad byte is refused as soon as it is there, complete line or not.
 * Reads only data[0 .. length).
 * Returns CK_HEAD_DONE, CK_HEAD_MORE, or minus the status to refuse with. After
 * a refusal the connection must not be read as HTTP any more. */
int ck_head_parse(ck_head *head, const char *data, size_t length, const ck_head_limits *limits);

/* Finds a field by its lower-case name, from index `from` on.
 * Returns its index or -1. */
int ck_head_find(const ck_head *head, const char *data, const char *lower_name, size_t name_length, int from);

/* The chunked coding (RFC 9112 S7.1) as a state machine over single bytes, so
 * that it needs no buffer; data passes through as spans of the input. */
typedef struct ck_chunked {
    uint64_t size;              /* payload bytes left in this chunk, or the size so far */
    uint64_t payload;           /* payload bytes of the message so far */
    uint64_t limit;             /* payload bytes that it may have; the caller may change it between calls */
    uint64_t overhead;          /* framing bytes of the message so far */
    uint16_t line_length;       /* bytes of the size line or trailer line so far */
    uint16_t trailer_bytes;
    uint8_t trailer_fields;
    uint8_t digits;
    uint8_t state;
    uint8_t name_length;        /* of the trailer field name so far, capped */
    char name[20];              /* its first bytes in lower case, to refuse framing fields */
} ck_chunked;

enum {
    CK_CHUNK_MORE = 0,          /* all input used up */
    CK_CHUNK_DATA = 1,          /* a span of payload */
    CK_CHUNK_END = 2,           /* the message is complete; input may be left */
    CK_CHUNK_TRAILER = 3,       /* a span of the trailer section, line ends included, checked so far */
};

void ck_chunked_init(ck_chunked *chunked);

/* Decodes up to the next event.
 * Advances *data and reduces *length by what it used. For CK_CHUNK_DATA and
 * CK_CHUNK_TRAILER, *span and *span_length name the bytes, which lie in the input.
 * Returns an event above, or minus the status to refuse with (-400, -413, -431). */
int ck_chunked_next(ck_chunked *chunked, const char **data, size_t *length, const char **span, size_t *span_length);

#endif
