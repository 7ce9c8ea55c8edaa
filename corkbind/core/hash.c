/* SipHash (Aumasson and Bernstein, 2012): a keyed hash for tables whose keys clients choose. */
#include "hash.h"

typedef struct state {
    uint64_t a, b, c, d;
} state;

static uint64_t turned(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static void mix(state *s, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        s->a += s->b;
        s->c += s->d;
        s->b = turned(s->b, 13) ^ s->a;
        s->d = turned(s->d, 16) ^ s->c;
        s->a = turned(s->a, 32) + s->d;
        s->c += s->b;
        s->b = turned(s->b, 17) ^ s->c;
        s->d = turned(s->d, 21) ^ s->a;
        s->c = turned(s->c, 32);
    }
}

/* Returns up to 8 bytes, the first one lowest. */
static uint64_t word_of(const char *data, size_t length)
{
    uint64_t word = 0;
    for (size_t i = 0; i < length; i++) {
        word |= (uint64_t) (unsigned char) data[i] << 8 * i;
    }
    return word;
}

uint64_t ck_siphash(ck_hash_key key, const char *data, size_t length, int rounds, int last_rounds)
{
    state s = {key.low ^ 0x736f6d6570736575U, key.high ^ 0x646f72616e646f6dU, key.low ^ 0x6c7967656e657261U,
        key.high ^ 0x7465646279746573U};
    size_t rest = length % 8;
    for (const char *at = data; at < data + (length - rest); at += 8) {
        uint64_t word = word_of(at, 8);
        s.d ^= word;
        mix(&s, rounds);
        s.a ^= word;
    }
    uint64_t last = (uint64_t) length << 56 | word_of(data + (length - rest), rest);
    s.d ^= last;
    mix(&s, rounds);
    s.a ^= last;
    s.c ^= 0xFF;
    mix(&s, last_rounds);
    return s.a ^ s.b ^ s.c ^ s.d;
}
