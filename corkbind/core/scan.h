/* Byte classes of HTTP, and the search for the first byte outside one. */
#ifndef CK_SCAN_H
#define CK_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CK_IN_TOKEN = 1,  /* tchar, RFC 9110 S5.6.2 */
    CK_IN_PATH = 2,   /* pchar or "/", RFC 3986 S3.3; without "%", which needs its two digits checked */
    CK_IN_QUERY = 4,  /* CK_IN_PATH, "?" and the bytes that clients leave raw: " [ ] ^ { | } */
    CK_IN_VALUE = 8,  /* field-vchar, SP, HTAB, RFC 9110 S5.5 */
    CK_IN_HOST = 16,  /* unreserved of RFC 3986 and the punctuation of a literal and a port: : [ ] */
    CK_IN_HEX = 32,   /* HEXDIG in both cases */
    CK_IN_DIGIT = 64, /* DIGIT */
};

/* The set of classes that each byte value is in. */
extern const uint8_t ck_byte_classes[256];

static inline bool ck_byte_is(char byte, unsigned classes)
{
    return (ck_byte_classes[(uint8_t)byte] & classes) != 0;
}

/* Each returns the index of the first byte outside the class, or `length`.
 * Reads only data[0 .. length). */
size_t ck_scan_token(const char *data, size_t length);
size_t ck_scan_path(const char *data, size_t length);
size_t ck_scan_query(const char *data, size_t length);
size_t ck_scan_value(const char *data, size_t length);

#endif
