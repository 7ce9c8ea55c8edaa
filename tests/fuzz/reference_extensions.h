/* A naive negotiator of permessage-deflate, written from RFC 7692 S7.1 and from what the
 * CompressOptions of a route mean. */
#ifndef CK_REFERENCE_EXTENSIONS_H
#define CK_REFERENCE_EXTENSIONS_H

#include "reference_http.h"

enum { REFERENCE_ANSWER = 256 };

/* Writes what the offers of a valid handshake are answered with, a string. Returns false when none can be accepted. */
bool reference_negotiate(const reference_head *head, const char *data, uint32_t options, char answer[REFERENCE_ANSWER]);

#endif
