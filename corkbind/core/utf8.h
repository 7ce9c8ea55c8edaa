/* A strict check of UTF-8 (RFC 3629) that takes a text in any pieces. */
#ifndef CK_UTF8_H
#define CK_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a text stands between two of its pieces; all zero at its start. */
typedef struct ck_utf8 {
    uint8_t due;  /* continuation bytes that the current character still needs */
    uint8_t low;  /* the range of the next of them: the first is not always 80 to BF */
    uint8_t high;
} ck_utf8;

/* Checks the next piece of a text. Reads only data[0 .. length).
 * Returns the index of the first byte that no valid text has at that place, or `length`. */
size_t ck_utf8_check(ck_utf8 *text, const char *data, size_t length);

/* Whether the text may end here: no character is cut off. */
static inline bool ck_utf8_complete(const ck_utf8 *text)
{
    return text->due == 0;
}

#endif
