/* What the files that know OpenSSL share, and ask of each other. */
#ifndef US_TLS_OPENSSL_H
#define US_TLS_OPENSSL_H

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

/* What a server shows and asks for: for one name, or for all that have none of their own. */
struct us_internal_tls_identity {
    SSL_CTX *context, *prepared; /* what takes its place at us_socket_context_renew */
    struct us_tls_settings_t settings;
};

/* A name that clients may ask for (SNI). */
struct us_internal_tls_name {
    struct us_internal_tls_name *next;
    struct us_internal_tls_identity identity;
    void *user;
    char pattern[];
};

/* The TLS of a socket context. Its sockets hold it, too. */
struct us_internal_tls_context {
    struct us_internal_tls_identity identity;
    struct us_internal_tls_name *names;
    struct us_internal_tls_clients clients;
    struct us_socket_context_t *owner; /* whose callback is asked for unknown names */
    void (*on_server_name)(struct us_socket_context_t *context, const char *hostname);
    int name_refused; /* by the callback for unknown names, which runs */
    int (*on_prefix)(struct us_socket_t *s, const char *data, int length);
    struct us_socket_t *(*on_handshake)(struct us_socket_t *s);
    void (*on_failure)(struct us_socket_t *s, const char *reason, int plain);
    const char *protocol;
    const char *plain_answer;
    int plain_answer_length;
    int holders;
};

/* The TLS of a socket. */
struct us_internal_tls {
    SSL *ssl;
    struct us_internal_tls_context *context;
    struct us_loop_t *loop;
    const char *input; /* received, not yet read by OpenSSL */
    size_t input_length;
    char *waiting; /* records that the kernel has not taken */
    size_t waiting_offset, waiting_length;
    void *user; /* of the server name */
    struct us_internal_tls_server *server; /* that a client means; NULL: this is the server */
    char *server_name; /* that the client has asked for; NULL: none */
    char *prefix; /* what has come of the bytes before TLS */
    size_t prefix_length;
    int record_size; /* as us_tls_settings_t has it */
    unsigned records; /* sent since the last pause, up to where the number has no meaning any more */
    int64_t wrote_ns; /* where it has one: when the last write began */
    unsigned messages;
    unsigned established : 1, /* the handshake is over */
        refused : 1,          /* a write came before that */
        begun : 1,            /* something has been received */
        failed : 1,           /* OpenSSL can say no more */
        busy : 1,             /* inside OpenSSL */
        notified : 1,         /* the peer's close_notify is in */
        prefixed : 1,         /* nothing comes before TLS any more */
        named : 1,            /* the server name has been looked at */
        truncated : 1, deaf : 1; /* what still comes is dropped */
};

/* tls_context.c */

/* Returns a context by the options, or NULL with errno and us_tls_error. Destructor: us_internal_tls_free_context. */
SSL_CTX *us_internal_tls_make_context(const struct us_socket_context_options_t *options);
void us_internal_tls_free_context(SSL_CTX *context);
void us_internal_tls_identity_free(struct us_internal_tls_identity *identity);
/* Whether a session brings a certificate of the peer that has expired since: OpenSSL does not
 * look at it again. */
int us_internal_tls_session_expired(SSL_SESSION *session);

/* tls_names.c */

/* Lets the name that a client asks for choose whom it meets. */
void us_internal_tls_choose_by_name(SSL_CTX *context);
/* Returns the name that was added as this pattern, or NULL. */
struct us_internal_tls_name *us_internal_tls_find_pattern(struct us_internal_tls_context *tls, const char *pattern);
void us_internal_tls_names_free(struct us_sys_t *sys, struct us_internal_tls_context *tls);

/* tls_socket.c */

/* Gives a loop what its sockets of TLS share. Returns 0, or -1 with errno and us_tls_error. */
int us_internal_tls_prepare_loop(struct us_loop_t *loop);

/* tls_connect.c */

/* Makes a client of `ssl`: the name to ask for, whom to trust, and a session to go on with.
 * Returns the server, or NULL with errno. Destructor: release. */
struct us_internal_tls_server *us_internal_tls_mean_server(struct us_loop_t *loop, struct us_internal_tls_clients *clients, SSL *ssl,
    const char *name);
/* Keeps a session for the next client; owns it when it returns 1. */
int us_internal_tls_keep_session(struct us_sys_t *sys, struct us_internal_tls_clients *clients,
    const struct us_internal_tls_server *server, SSL_SESSION *session);
void us_internal_tls_clients_free(struct us_sys_t *sys, struct us_internal_tls_clients *clients);

/* tls_files.c */

/* Reads the files of the options. Returns 0, or -1 with errno and us_tls_error. */
int us_internal_tls_use_options(SSL_CTX *context, const struct us_socket_context_options_t *options);

/* tls_error.c */

/* Sets us_tls_error and EINVAL. Returns -1. */
__attribute__((format(printf, 1, 2))) int us_internal_tls_refuse(const char *format, ...);
/* The same with ENOMEM, for what is named where it is not "". Returns -1. */
int us_internal_tls_out_of_memory(const char *what);
/* Empties us_tls_error. */
void us_internal_tls_forget_error(void);
/* What the oldest error in the queue says. Lives for ever. */
const char *us_internal_tls_queued_reason(void);

#endif
#endif
