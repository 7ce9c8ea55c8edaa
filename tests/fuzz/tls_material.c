/* Certificates for the TLS target, and the random numbers of OpenSSL. */
#define OPENSSL_SUPPRESS_DEPRECATED /* a method for random numbers is the one way that all versions know */

#include "tls_material.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sanitizer/asan_interface.h>
#include <unistd.h>

#include "fuzz.h"

static char folder[64];
static const char *const files[] = {"server.pem", "server.key", "other.pem", "other.key", "client.pem", "client.key", "data"};

/* ---- Memory ---- */

/* OpenSSL takes thousands of blocks for a handshake, which is most of the time of a run.
 * So blocks are kept by size once they are free, out of bounds until they are taken
 * again: what is used after its end, or past it, is still seen. */
typedef struct block {
    struct block *next;
    size_t room, size, unused; /* keeps what follows aligned */
} block;

enum { ROOM_LEAST = 32, SIZES = 20 };

static block *free_blocks[SIZES];

static block *block_of(void *memory)
{
    return (block *)memory - 1;
}

static void *take(size_t size, const char *file, int line)
{
    (void)file, (void)line;
    size_t room = ROOM_LEAST, at = 0;
    while (room < size && at < SIZES) {
        room *= 2;
        at++;
    }
    if (at == SIZES)
        return NULL;
    block *taken = free_blocks[at];
    if (taken)
        free_blocks[at] = taken->next;
    else
        taken = malloc(sizeof *taken + room);
    if (!taken)
        return NULL;
    *taken = (block){.room = at, .size = size};
    ASAN_POISON_MEMORY_REGION(taken + 1, room);
    ASAN_UNPOISON_MEMORY_REGION(taken + 1, size);
    return taken + 1;
}

static void give_back(void *memory, const char *file, int line)
{
    (void)file, (void)line;
    if (!memory)
        return;
    block *given = block_of(memory);
    ASAN_POISON_MEMORY_REGION(given + 1, (size_t)ROOM_LEAST << given->room);
    given->next = free_blocks[given->room];
    free_blocks[given->room] = given;
}

static void *resize(void *memory, size_t size, const char *file, int line)
{
    void *moved = take(size, file, line);
    if (memory && moved) {
        size_t was = block_of(memory)->size;
        memcpy(moved, memory, was < size ? was : size);
        give_back(memory, file, line);
    }
    return moved;
}

/* ---- Random numbers ---- */

static uint64_t state;

static int give_random(unsigned char *to, int length)
{
    for (int i = 0; i < length; i++)
        to[i] = (unsigned char)fuzz_draw(&state, 256);
    return 1;
}

static int take_seed(const void *from, int length)
{
    (void)from, (void)length;
    return 1;
}

static int take_entropy(const void *from, int length, double entropy)
{
    (void)from, (void)length, (void)entropy;
    return 1;
}

static int is_seeded(void)
{
    return 1;
}

void tls_seed(uint64_t seed)
{
    static const RAND_METHOD method = {take_seed, give_random, NULL, take_entropy, give_random, is_seeded};
    static bool set;
    state = seed;
    DEMAND(set || RAND_set_rand_method(&method) == 1);
    set = true;
}

/* ---- Certificates ---- */

const char *tls_material_path(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

void tls_material_write(const char *name, const char *data, size_t length)
{
    FILE *file = fopen(tls_material_path(name), "wb");
    DEMAND(file && fwrite(data, 1, length, file) == length);
    DEMAND(fclose(file) == 0);
}

static EVP_PKEY *make_key(void)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;
    DEMAND(context && EVP_PKEY_keygen_init(context) == 1);
    DEMAND(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context, NID_X9_62_prime256v1) == 1 && EVP_PKEY_keygen(context, &key) == 1);
    EVP_PKEY_CTX_free(context);
    return key;
}

static X509 *make_certificate(const char *name, EVP_PKEY *key)
{
    X509 *made = X509_new();
    DEMAND(made && X509_set_version(made, 2) && ASN1_INTEGER_set(X509_get_serialNumber(made), 1));
    DEMAND(ASN1_TIME_set_string(X509_getm_notBefore(made), "20000101000000Z"));
    DEMAND(ASN1_TIME_set_string(X509_getm_notAfter(made), "29991231235959Z"));
    X509_NAME *subject = X509_get_subject_name(made);
    DEMAND(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0));
    DEMAND(X509_set_issuer_name(made, subject) && X509_set_pubkey(made, key));
    X509_EXTENSION *authority = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");
    DEMAND(authority && X509_add_ext(made, authority, -1));
    X509_EXTENSION_free(authority);
    DEMAND(X509_sign(made, key, EVP_sha256()) > 0);
    return made;
}

static void write_pair(const char *certificate_name, const char *key_name)
{
    EVP_PKEY *key = make_key();
    X509 *certificate = make_certificate(certificate_name, key);
    FILE *file = fopen(tls_material_path(certificate_name), "wb");
    DEMAND(file && PEM_write_X509(file, certificate) == 1 && fclose(file) == 0);
    file = fopen(tls_material_path(key_name), "wb");
    DEMAND(file && PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fclose(file) == 0);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static void remove_all(void)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        (void)unlink(tls_material_path(files[i]));
    (void)rmdir(folder);
}

void tls_material_make(void)
{
    DEMAND(CRYPTO_set_mem_functions(take, resize, give_back) == 1); /* before OpenSSL has any */
    const char *temporary = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.40s/fz-tls-XXXXXX", temporary && *temporary ? temporary : "/tmp");
    DEMAND(mkdtemp(folder) != NULL);
    (void)atexit(remove_all);
    tls_seed(1);
    write_pair("server.pem", "server.key");
    write_pair("other.pem", "other.key");
    write_pair("client.pem", "client.key");
    ERR_clear_error();
}
