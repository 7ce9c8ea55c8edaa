/* A hash that a client who chooses what is hashed cannot make collide (SipHash). */
#ifndef CK_HASH_H
#define CK_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct ck_hash_key {
    uint64_t low, high;
} ck_hash_key;

/* Returns SipHash of the bytes, with so many rounds for each word and at the end:
 * 1 and 3 for tables, 2 and 4 are those of the paper. */
uint64_t ck_siphash(ck_hash_key key, const char *data, size_t length, int rounds, int last_rounds);

static inline uint64_t ck_hash(ck_hash_key key, const char *data, size_t length)
{
    return ck_siphash(key, data, length, 1, 3);
}

#endif
