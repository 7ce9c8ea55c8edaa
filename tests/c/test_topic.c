/* Topics: the tables, what is published and to whom, in how many sends, and what becomes
 * of those who do not read; against a model, with memory that fails, and with handlers
 * that change everything while it is being gone through. */
#include "topic.h"

#include "topic_model.h"

/* ---- The hash ---- */

static void test_siphash(void)
{
    ck_hash_key key = {0x0706050403020100U, 0x0f0e0d0c0b0a0908U};
    const char input[] = "\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16";
    CHECK(ck_siphash(key, input, 15, 2, 4) == 0xa129ca6149be45e5U); /* of the paper */
    CHECK(ck_siphash(key, input, 0, 2, 4) == 0x726fdb47dd0e0e31U);
    CHECK(ck_hash(key, input, 15) != ck_hash(key, input, 14));
}

/* ---- Against the model ---- */

static uint64_t random_state = 88172645463325252U;

static uint8_t random_byte(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint8_t) (random_state >> 32);
}

static void test_model(void)
{
    static uint8_t bytes[3000];
    for (int round = 0; round < 60; round++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = random_byte();
        }
        run_topic_model(bytes, sizeof(bytes));
    }
}

int main(void)
{
    test_siphash();
    test_model();
    return checks_done();
}
