/* Byte classes and the search for the first byte outside one.
 *
 * One table says which classes a byte value is in; the portable search walks it
 * byte by byte. Where the processor has 16-byte registers (SSE2, NEON), the
 * search first skips blocks that hold only the USUAL bytes of a class, a subset
 * that a few range comparisons can name, and asks the table about the byte that
 * stopped it. So the table alone decides, and both ways give the same result.
 * A block is loaded only when all its 16 bytes are there.
 *
 * Build with -DCK_PORTABLE_SCAN for the table alone. */
#include "scan.h"

/* Sets of classes that occur, named by a typical member. */
enum {
    NO = 0,                                               /* refused everywhere */
    VA = CK_IN_VALUE,                                     /* in field values only */
    TO = VA | CK_IN_TOKEN,                                /* # % ` */
    QU = VA | CK_IN_QUERY,                                /* " ? { } */
    TQ = QU | CK_IN_TOKEN,                                /* ^ | */
    SU = QU | CK_IN_PATH,                                 /* ( ) , / ; = @ */
    PU = SU | CK_IN_TOKEN,                                /* ! $ & ' * + */
    UN = PU | CK_IN_HOST,                                 /* - . _ ~ and letters */
    HE = UN | CK_IN_HEX,                                  /* a to f */
    DI = HE | CK_IN_DIGIT,                                /* 0 to 9 */
    CO = SU | CK_IN_HOST,                                 /* : */
    BR = QU | CK_IN_HOST,                                 /* [ ] */
};

const uint8_t ck_byte_classes[256] = {
    NO, NO, NO, NO, NO, NO, NO, NO, NO, VA, NO, NO, NO, NO, NO, NO, /* 00 */
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, /* 10 */
    VA, PU, QU, TO, PU, TO, PU, PU, SU, SU, PU, PU, SU, UN, UN, SU, /* 20 */
    DI, DI, DI, DI, DI, DI, DI, DI, DI, DI, CO, SU, VA, SU, VA, QU, /* 30 */
    SU, HE, HE, HE, HE, HE, HE, UN, UN, UN, UN, UN, UN, UN, UN, UN, /* 40 */
    UN, UN, UN, UN, UN, UN, UN, UN, UN, UN, UN, BR, VA, BR, TQ, UN, /* 50 */
    TO, HE, HE, HE, HE, HE, HE, UN, UN, UN, UN, UN, UN, UN, UN, UN, /* 60 */
    UN, UN, UN, UN, UN, UN, UN, UN, UN, UN, UN, QU, TQ, QU, UN, NO, /* 70 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* 80 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* 90 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* A0 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* B0 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* C0 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* D0 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* E0 */
    VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, VA, /* F0 */
};

#if !defined(CK_PORTABLE_SCAN) && defined(__SSE2__)
#include <emmintrin.h>
#define SCAN_BLOCKS 1

typedef __m128i block;

static inline block load(const char *data)
{
    return _mm_loadu_si128((const __m128i *)(const void *)data);
}

static inline block all(uint8_t byte)
{
    return _mm_set1_epi8((char)byte);
}

static inline block either(block a, block b)
{
    return _mm_or_si128(a, b);
}

static inline block equal(block a, block b)
{
    return _mm_cmpeq_epi8(a, b);
}

/* SSE2 has no unsigned comparison: a <= b is min(a, b) == a. */
static inline block at_most(block a, block b)
{
    return _mm_cmpeq_epi8(_mm_min_epu8(a, b), a);
}

static inline block minus(block a, block b)
{
    return _mm_sub_epi8(a, b);
}

static inline block except(block a, block b)
{
    return _mm_andnot_si128(b, a);
}

static inline unsigned leading_ones(block set)
{
    unsigned outside = (unsigned)_mm_movemask_epi8(set) ^ 0xFFFFU;
    return outside ? (unsigned)__builtin_ctz(outside) : 16U;
}

#elif !defined(CK_PORTABLE_SCAN) && defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define SCAN_BLOCKS 1

typedef uint8x16_t block;

static inline block load(const char *data)
{
    return vld1q_u8((const uint8_t *)data);
}

static inline block all(uint8_t byte)
{
    return vdupq_n_u8(byte);
}

static inline block either(block a, block b)
{
    return vorrq_u8(a, b);
}

static inline block equal(block a, block b)
{
    return vceqq_u8(a, b);
}

static inline block at_most(block a, block b)
{
    return vcleq_u8(a, b);
}

static inline block minus(block a, block b)
{
    return vsubq_u8(a, b);
}

static inline block except(block a, block b)
{
    return vbicq_u8(a, b);
}

/* Narrowing by four bits leaves a nibble for each byte, in order. */
static inline unsigned leading_ones(block set)
{
    uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(vmvnq_u8(set)), 4);
    uint64_t outside = vget_lane_u64(vreinterpret_u64_u8(nibbles), 0);
    return outside ? (unsigned)__builtin_ctzll(outside) / 4U : 16U;
}
#endif

#ifdef SCAN_BLOCKS
enum { BLOCK = 16 };

static inline block between(block bytes, uint8_t low, uint8_t high)
{
    return at_most(minus(bytes, all(low)), all((uint8_t)(high - low)));
}

static inline block letters(block bytes)
{
    return between(either(bytes, all(0x20)), 'a', 'z');
}

/* The bytes of the block that are in a subset of the class. The table is asked about all others. */
static inline block usual(block bytes, unsigned class)
{
    block controls, marks;
    switch (class) {
    case CK_IN_TOKEN:
        return either(either(letters(bytes), between(bytes, '0', '9')), equal(bytes, all('-')));
    case CK_IN_VALUE:
        controls = either(at_most(bytes, all(0x1F)), equal(bytes, all(0x7F)));
        return either(except(all(0xFF), controls), equal(bytes, all('\t')));
    default: /* A path or query may hold all from "&" to ";": & ' ( ) * + , - . / 0-9 : ; */
        marks = either(equal(bytes, all('=')), equal(bytes, all('_')));
        return either(either(letters(bytes), between(bytes, '&', ';')), marks);
    }
}
#endif

__attribute__((always_inline)) static inline size_t scan(const char *data, size_t length, unsigned class)
{
    size_t at = 0;
#ifdef SCAN_BLOCKS
    while (length - at >= BLOCK) {
        unsigned run = leading_ones(usual(load(data + at), class));
        at += run;
        if (run == BLOCK)
            continue;
        if (!ck_byte_is(data[at], class))
            return at;
        at++;
    }
#endif
    while (at < length && ck_byte_is(data[at], class))
        at++;
    return at;
}

size_t ck_scan_token(const char *data, size_t length)
{
    return scan(data, length, CK_IN_TOKEN);
}

size_t ck_scan_path(const char *data, size_t length)
{
    return scan(data, length, CK_IN_PATH);
}

size_t ck_scan_query(const char *data, size_t length)
{
    return scan(data, length, CK_IN_QUERY);
}

size_t ck_scan_value(const char *data, size_t length)
{
    return scan(data, length, CK_IN_VALUE);
}
