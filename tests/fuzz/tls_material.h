/* What the TLS target needs before its first input: random numbers that follow from a
 * seed, and certificates in files, the same on each run. */
#ifndef CK_TLS_MATERIAL_H
#define CK_TLS_MATERIAL_H

#include <stdint.h>

#include <openssl/ssl.h>

/* Makes all random numbers of OpenSSL follow from `seed`. */
void tls_seed(uint64_t seed);

/* Writes server, other and client certificates, each signed by itself, with their keys. Once. */
void tls_material_make(void);
/* Returns the path of NAME.pem or NAME.key; one of 8 buffers in turn. */
const char *tls_material_path(const char *name);
/* Writes a file beside them. */
void tls_material_write(const char *name, const char *data, size_t length);

#endif
