/* SHA-1 against the vectors of RFC 3174 S7.3, and, at every length around the blocks,
 * against a sum over digests that another implementation made. */
#include "sha1.h"

#include "check.h"

static const char *hex(const char *data, size_t length)
{
    static char text[2 * CK_SHA1_LENGTH + 1];
    uint8_t digest[CK_SHA1_LENGTH];
    ck_sha1(data, length, digest);
    for (size_t i = 0; i < CK_SHA1_LENGTH; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return text;
}

static void test_vectors(void)
{
    CHECK(strcmp(hex("abc", 3), "a9993e364706816aba3e25717850c26c9cd0d89d") == 0);
    const char *second = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    CHECK(strcmp(hex(second, strlen(second)), "84983e441c3bd26ebaae4aa1f95129e5e54670f1") == 0);
    static char many[1000000];
    memset(many, 'a', sizeof many);
    CHECK(strcmp(hex(many, sizeof many), "34aa973cd4c4daa4f61eeb2bdbad27316534016f") == 0);
    for (size_t i = 0; i < 640; i++)
        many[i] = (char)('0' + i % 8);
    CHECK(strcmp(hex(many, 640), "dea356a2cddd90c7a7ecedc5ebb563934f460452") == 0);
    CHECK(strcmp(hex("", 0), "da39a3ee5e6b4b0d3255bfef95601890afd80709") == 0);
}

static void test_every_length(void)
{
    char data[200];
    uint8_t digests[200][CK_SHA1_LENGTH];
    struct guarded memory = guarded_create(sizeof data);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 7 + 3);
    for (size_t length = 0; length < 200; length++)
        ck_sha1(guarded_at_end(&memory, data, length), length, digests[length]);
    /* sha1(b"".join(sha1(bytes(i * 7 + 3 & 255 for i in range(n))).digest() for n in range(200))) */
    CHECK(strcmp(hex((const char *)digests, sizeof digests), "8b12ee1d73de5287db7fc3d864d1c732ac699e94") == 0);
}

int main(void)
{
    test_vectors();
    test_every_length();
    return checks_done();
}
