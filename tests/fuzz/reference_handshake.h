/* A slow judge of opening handshakes, written from RFC 6455 S4.2.1, the list grammar of
 * RFC 9110 S5.6 and RFC 3174, and from nothing of the checks that it judges. */
#ifndef CK_REFERENCE_HANDSHAKE_H
#define CK_REFERENCE_HANDSHAKE_H

#include "reference_http.h"

enum { REFERENCE_PROTOCOLS = 64 };

typedef struct reference_handshake {
    bool wanted;             /* the request asks for a WebSocket */
    int status;              /* 0 = valid, else what it is refused with */
    reference_span key;      /* when it is valid */
    size_t protocol_count;   /* what the client offers, in its order */
    reference_span protocols[REFERENCE_PROTOCOLS];
} reference_handshake;

/* Judges a head that reference_head_read has accepted. */
void reference_handshake_judge(reference_handshake *judged, const reference_head *head, const char *data);

/* The value of Sec-WebSocket-Accept for a key of 24 bytes, and a NUL. */
void reference_accept(const char *key, char accept[29]);

#endif
