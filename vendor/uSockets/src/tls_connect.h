/* What tls_openssl.c, tls_connect.c and tls_files.c, which know OpenSSL, ask of each other. */
#ifndef US_TLS_CONNECT_H
#define US_TLS_CONNECT_H

#include "tls.h"

#ifndef LIBUS_NO_SSL

#include <openssl/ssl.h>

enum { SESSIONS_KEPT = 16 };

/* The client side of a TLS context; all zero at first. */
struct us_internal_tls_clients {
    int verify;         /* a LIBUS_VERIFY_ constant */
    X509_STORE *system; /* whom this machine trusts, from the first need on */
    char *peer_name;    /* to ask for instead of the host */
    unsigned char protocols[256]; /* that are offered, each behind its length */
    unsigned protocols_length;
    unsigned generation; /* of the context's files */
    unsigned next;       /* of the kept, to be overwritten */
    struct {
        struct us_internal_tls_server *server;
        SSL_SESSION *session;
    } kept[SESSIONS_KEPT];
};

/* The server that a client means. A session is good for the same one alone, looked at as closely. */
struct us_internal_tls_server {
    int verify;
    unsigned generation;
    char name[]; /* "" = it has none */
};

/* tls_connect.c */

/* Makes a client of `ssl`: the name to ask for, whom to trust, and a session to go on with.
 * Returns the server, or NULL with errno. Destructor: release. */
struct us_internal_tls_server *us_internal_tls_mean_server(struct us_loop_t *loop, struct us_internal_tls_clients *clients, SSL *ssl,
    const char *name);
/* Keeps a session for the next client; owns it when it returns 1. */
int us_internal_tls_keep_session(struct us_sys_t *sys, struct us_internal_tls_clients *clients,
    const struct us_internal_tls_server *server, SSL_SESSION *session);
void us_internal_tls_clients_free(struct us_sys_t *sys, struct us_internal_tls_clients *clients);

/* tls_openssl.c */

struct us_internal_tls_clients *us_internal_tls_clients_of(struct us_internal_tls_context *tls);
/* Sets us_tls_error and EINVAL. Returns -1. */
__attribute__((format(printf, 1, 2))) int us_internal_tls_refuse(const char *format, ...);
/* What the oldest error in the queue says. Lives for ever. */
const char *us_internal_tls_queued_reason(void);

/* tls_files.c */

/* Reads the files of the options. Returns 0, or -1 with errno and us_tls_error. */
int us_internal_tls_use_options(SSL_CTX *context, const struct us_socket_context_options_t *options);

#endif
#endif
