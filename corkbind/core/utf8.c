/* UTF-8, checked byte by byte, with ASCII passed over in blocks.
 *
 * RFC 3629 S4 gives each lead byte a number of continuation bytes and a range for
 * the first of them. The range alone keeps out overlong forms (after E0 and F0),
 * surrogates (after ED) and what lies above U+10FFFF (after F4), so a text is
 * refused with the first byte that cannot belong to it.
 *
 * Build with -DCK_PORTABLE_SCAN for words in place of vectors. */
#include "utf8.h"

#include <string.h>

enum { CONTINUATION_LOW = 0x80, CONTINUATION_HIGH = 0xBF };

#if !defined(CK_PORTABLE_SCAN) && defined(__SSE2__)
#include <emmintrin.h>
enum { BLOCK = 16 };

static inline bool is_ascii(const char *data)
{
    return _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)data)) == 0;
}

#elif !defined(CK_PORTABLE_SCAN) && defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
enum { BLOCK = 16 };

static inline bool is_ascii(const char *data)
{
    return vmaxvq_u8(vld1q_u8((const uint8_t *)data)) < 0x80;
}

#else
enum { BLOCK = 8 };

static inline bool is_ascii(const char *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return (word & UINT64_C(0x8080808080808080)) == 0;
}
#endif

/* Takes the first byte of a character that is not ASCII. Returns false when none begins so. */
static inline bool take_lead(ck_utf8 *text, uint8_t byte)
{
    text->low = CONTINUATION_LOW;
    text->high = CONTINUATION_HIGH;
    if (byte < 0xC2) { /* a continuation byte, or an overlong form of ASCII */
        return false;
    } else if (byte < 0xE0) {
        text->due = 1;
    } else if (byte < 0xF0) {
        text->due = 2;
        text->low = byte == 0xE0 ? 0xA0 : CONTINUATION_LOW;
        text->high = byte == 0xED ? 0x9F : CONTINUATION_HIGH;
    } else if (byte < 0xF5) {
        text->due = 3;
        text->low = byte == 0xF0 ? 0x90 : CONTINUATION_LOW;
        text->high = byte == 0xF4 ? 0x8F : CONTINUATION_HIGH;
    } else {
        return false;
    }
    return true;
}

size_t ck_utf8_check(ck_utf8 *text, const char *data, size_t length)
{
    ck_utf8 state = *text; /* in registers: the bytes could alias what `text` points to */
    size_t at = 0;
    while (at < length) {
        uint8_t byte = (uint8_t)data[at];
        if (state.due > 0) {
            if (byte < state.low || byte > state.high)
                break;
            state.due--;
            state.low = CONTINUATION_LOW;
            state.high = CONTINUATION_HIGH;
            at++;
        } else if (byte < 0x80) {
            at++;
            while (length - at >= BLOCK && is_ascii(data + at))
                at += BLOCK;
        } else if (take_lead(&state, byte)) {
            at++;
        } else {
            break;
        }
    }
    *text = state;
    return at;
}
