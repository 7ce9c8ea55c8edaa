/* What the files of the head parser share. */
#ifndef CK_PARSER_H
#define CK_PARSER_H

#include <string.h>

#include "http_parser.h"
#include "scan.h"

enum { CK_HEAD_ON = 2 }; /* beside CK_HEAD_MORE and CK_HEAD_DONE: the part is complete */

/* Fields with a meaning for framing, or of which there may be only one. */
enum known {
    UNKNOWN, HOST, EXPECT, UPGRADE, CONNECTION, CONTENT_TYPE, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING,
    WEBSOCKET_KEY
};

#define BIT(known) (1U << (known))

enum {
    SINGLETONS = BIT(HOST) | BIT(EXPECT) | BIT(CONTENT_TYPE) | BIT(AUTHORIZATION) | BIT(CONTENT_LENGTH)
        | BIT(TRANSFER_ENCODING) | BIT(WEBSOCKET_KEY),
    /* What else ck_head.seen remembers. */
    TARGET_HOST = 1 << 16,      /* the target has an authority */
    OTHER_CODING = 1 << 17,     /* a transfer coding that is not implemented */
    OTHER_EXPECTATION = 1 << 18,
    CLOSE_OPTION = 1 << 19,     /* Connection: close */
    KEEP_ALIVE_OPTION = 1 << 20,
    UPGRADE_OPTION = 1 << 21,
};

/* A head, the bytes of it that are there, and how far they have been read. */
struct reader {
    ck_head *head;
    const char *data;
    size_t length;
    size_t at;
    const ck_head_limits *limits;
};

static inline size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whether the text is `lower`, which holds no capitals, in any case. Only letters
 * are folded: setting 0x20 in every byte would make "@" and "`" the same. */
static inline bool same(const char *text, const char *lower, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char byte = text[i];
        if (byte >= 'A' && byte <= 'Z')
            byte = (char)(byte | 0x20);
        if (byte != lower[i])
            return false;
    }
    return true;
}

static inline bool is_text(const char *text, size_t length, const char *lower)
{
    return length == strlen(lower) && same(text, lower, length);
}

static inline bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Removes optional white space (RFC 9110 S5.6.3) from both ends. */
static inline void trim(const char **text, size_t *length)
{
    while (*length > 0 && is_blank((*text)[0])) {
        ++*text;
        --*length;
    }
    while (*length > 0 && is_blank((*text)[*length - 1]))
        --*length;
}

static inline ck_span span_between(size_t start, size_t end)
{
    return (ck_span){(uint32_t)start, (uint32_t)(end - start)};
}

/* ---- host.c ---- */

enum { CK_PORT_NONE = -1, CK_HOST_BAD = -2 };

/* Checks "host" or "host:port" (RFC 3986 S3.2.2). Returns the port, CK_PORT_NONE
 * where there is none, or CK_HOST_BAD. */
int ck_host_port(const char *text, size_t length);

/* ---- framing_fields.c ---- */

/* Looks at a complete field. Returns CK_HEAD_ON or a refusal. */
int ck_note_field(struct reader *r, const ck_field *field);

#endif
