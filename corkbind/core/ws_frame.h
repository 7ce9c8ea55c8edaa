/* WebSocket frames (RFC 6455 S5): a strict incremental reader of a client's, and the writer of ours. */
#ifndef CK_WS_FRAME_H
#define CK_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "utf8.h"

struct ck_deflate;
struct ck_stream;

enum ck_ws_opcode {
    CK_WS_CONTINUATION = 0, CK_WS_TEXT = 1, CK_WS_BINARY = 2, CK_WS_CLOSE = 8, CK_WS_PING = 9, CK_WS_PONG = 10
};

/* Close codes (S7.4.1) that the core sends, or tells the application. */
enum ck_ws_close_code {
    CK_WS_NORMAL = 1000, CK_WS_GOING_AWAY = 1001, CK_WS_PROTOCOL_ERROR = 1002, CK_WS_NO_CODE = 1005,
    CK_WS_ABNORMAL = 1006, CK_WS_BAD_TEXT = 1007, CK_WS_POLICY = 1008, CK_WS_TOO_BIG = 1009, CK_WS_FAILED = 1011
};

enum {
    CK_WS_FIN = 0x80,             /* of the first byte of a frame */
    CK_WS_RSV1 = 0x40,            /* the message is compressed (RFC 7692 S6) */
    CK_WS_CONTROL_MAX = 125,      /* S5.5 */
    CK_WS_REASON_MAX = 123,
    CK_WS_CLIENT_HEADER_MAX = 14,
    CK_WS_HEADER_MAX = 10,        /* of a server's frame */
    CK_WS_EMPTY_MAX = 1024,       /* empty fragments of one message: they cost us and bring it no further */
};

enum {
    CK_WS_MORE = 0,         /* all input is used up */
    CK_WS_PART = 1,         /* payload of a message, unmasked in place */
    CK_WS_CONTROL = 2,      /* a whole control frame */
};

/* What ck_ws_next has found. */
typedef struct ck_ws_part {
    char *data;             /* in the input, or in the reader when it is a control frame */
    size_t length;
    uint16_t code;          /* of a close frame: its code, CK_WS_NO_CODE when it is empty; data is the reason */
    uint8_t opcode;         /* of the message, or of the control frame */
    bool last;              /* the message is complete */
    bool compressed;        /* the message is, so text has not been checked */
} ck_ws_part;

typedef struct ck_ws_reader {
    uint64_t limit;         /* payload bytes that a message may have */
    uint64_t announced;     /* by the headers of the message so far */
    uint64_t left;          /* payload bytes of the frame that have not come */
    uint32_t empty;         /* empty fragments of the message so far */
    int16_t failure;        /* minus the close code, for ever after */
    uint8_t message;        /* opcode of the message that has begun, 0 between messages */
    uint8_t opcode;         /* of the frame */
    bool final;             /* the frame's FIN */
    bool in_payload;
    bool closed;            /* a close frame has come: nothing counts after it */
    bool deflate;           /* messages may be compressed; to be set after ck_ws_reader_init */
    bool compressed;        /* the message is */
    uint8_t mask_at;        /* byte of the mask for the next byte of the payload */
    uint8_t header_length;
    uint8_t control_length;
    uint8_t header[CK_WS_CLIENT_HEADER_MAX];
    uint8_t mask[4];
    ck_utf8 text;
    char control[CK_WS_CONTROL_MAX];
} ck_ws_reader;

void ck_ws_reader_init(ck_ws_reader *reader, uint64_t limit);

/* Returns the bytes that a compressed message may have: more than compressing can add, also when
 * each byte is flushed for itself, so that what brings a message no further has an end. */
uint64_t ck_ws_compressed_limit(uint64_t limit);

/* Reads up to the next part. Unmasks payload where it lies.
 * Advances *data and reduces *length by what it used. Takes no memory: what a header
 * announces is only compared with the limit.
 * Returns CK_WS_MORE, CK_WS_PART, CK_WS_CONTROL, or minus the code to close with. */
int ck_ws_next(ck_ws_reader *reader, char **data, size_t *length, ck_ws_part *part);

/* Whether a close frame may carry the code: those of RFC 6455 and of IANA's registry
 * that are not for local use, and the ranges for libraries and applications. */
bool ck_ws_close_code_valid(unsigned code);

/* Combines the bytes with the mask, of which byte `at` modulo 4 comes first. */
void ck_ws_unmask(char *data, size_t length, const uint8_t mask[4], size_t at);

/* ---- ws_write.c ---- */

/* Writes the header of an unmasked frame to `out` (CK_WS_HEADER_MAX). `first` is the
 * opcode, with CK_WS_FIN for the last frame of a message. Returns its length. */
size_t ck_ws_put_header(char *out, unsigned first, uint64_t length);

/* Packs or sends a frame. Returns 0, CK_ABORTED or CK_NOMEM. */
int ck_ws_write(struct ck_stream *stream, unsigned first, const char *data, size_t length);

/* The same, compressing the payload. What fails leaves nothing of it packed. */
int ck_ws_write_compressed(struct ck_stream *stream, struct ck_deflate *deflate, unsigned first, const char *data, size_t length);

/* The same of a close frame; CK_WS_NO_CODE makes it empty. `length` is at most CK_WS_REASON_MAX. */
int ck_ws_write_close(struct ck_stream *stream, unsigned code, const char *reason, size_t length);

#endif
