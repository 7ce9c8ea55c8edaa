/* What the tests of TLS share: certificates made on the spot, a server context that
 * shows them, and a client whose bytes are moved by hand, in pieces of any size. */
#ifndef TLS_CLIENT_H
#define TLS_CLIENT_H

#include "faults.h"
#include "fixture.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

enum { MOST_RECORDS = 128 };

static char folder[64];

static inline const char *in_folder(const char *name) {
    static char paths[16][128];
    static int next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static inline EVP_PKEY *make_key(void) {
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;
    CHECK(c && EVP_PKEY_keygen_init(c) == 1 && EVP_PKEY_CTX_set_ec_paramgen_curve_nid(c, NID_X9_62_prime256v1) == 1);
    CHECK(EVP_PKEY_keygen(c, &key) == 1);
    EVP_PKEY_CTX_free(c);
    return key;
}

/* Makes NAME.pem and NAME.key, signed by itself and valid between two days from now. */
static inline void make_certificate(const char *name, const char *passphrase, int first_day, int last_day) {
    char file[64];
    EVP_PKEY *key = make_key();
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), first_day * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(x), last_day * 86400L);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");
    X509_add_ext(x, ca, -1);
    X509_EXTENSION_free(ca);
    CHECK(X509_sign(x, key, EVP_sha256()) > 0);
    snprintf(file, sizeof file, "%s.pem", name);
    BIO *out = BIO_new_file(in_folder(file), "w");
    CHECK(out && PEM_write_bio_X509(out, x) == 1);
    BIO_free(out);
    snprintf(file, sizeof file, "%s.key", name);
    out = BIO_new_file(in_folder(file), "w");
    CHECK(out && PEM_write_bio_PrivateKey(out, key, passphrase ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL, (void *) (uintptr_t) passphrase) == 1);
    BIO_free(out);
    X509_free(x);
    EVP_PKEY_free(key);
}

static inline void make_folder(void) {
    strcpy(folder, "/tmp/usockets-tls-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
}

static inline struct us_socket_context_options_t shown(const char *name) {
    char pem[64], key[64];
    snprintf(pem, sizeof pem, "%s.pem", name);
    snprintf(key, sizeof key, "%s.key", name);
    return (struct us_socket_context_options_t) {.cert_file_name = in_folder(pem), .key_file_name = in_folder(key)};
}

/* A loop with a counting TLS context and a listener on it. */
static inline void tls_open_with(struct us_socket_context_options_t options) {
    faults_reset();
    fixture_open_on(&faults.sys, "");
    us_socket_context_free(0, context);
    context = us_create_socket_context(1, loop, 0, options);
    CHECK(context != NULL);
    if (!context) {
        fprintf(stderr, "%s\n", us_tls_error());
        exit(1);
    }
    count_everything(context);
    listener = us_socket_context_listen(1, context, "127.0.0.1", 0, LIBUS_LISTEN_DEFAULT, 16);
    CHECK(listener != NULL);
}

static inline void tls_open(void) {
    tls_open_with(shown("server"));
}

static inline void tls_close(void) {
    fixture_close();
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
    CHECK(ERR_peek_error() == 0);
}

/* ---- The client ---------------------------------------------------------- */

struct peer {
    int fd;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    size_t piece;           /* bytes sent at a time; 0 = all */
    unsigned char head[5];  /* of the record that comes in */
    size_t head_length, left;
    int records, lengths[MOST_RECORDS]; /* of application data */
    int alert;              /* that has ended the handshake */
    int ended;              /* the server's FIN, or a reset, has come */
};

static inline struct peer *peer_on(int fd, SSL_CTX *made) {
    struct peer *p = calloc(1, sizeof *p);
    p->fd = fd;
    p->context = made;
    p->ssl = SSL_new(made);
    p->in = BIO_new(BIO_s_mem());
    p->out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(p->in, -1);
    BIO_set_mem_eof_return(p->out, -1);
    SSL_set_bio(p->ssl, p->in, p->out);
    SSL_set_connect_state(p->ssl);
    return p;
}

static inline SSL_CTX *speaking(int version) {
    SSL_CTX *made = SSL_CTX_new(TLS_method());
    SSL_CTX_set_min_proto_version(made, version < TLS1_2_VERSION ? version : TLS1_2_VERSION);
    SSL_CTX_set_max_proto_version(made, version);
    return made;
}

/* Over a pair of unix sockets, on which what is sent is there at once. */
static inline struct peer *peer_of(int version) {
    struct us_socket_t *s;
    faults.descriptors++;
    return peer_on(unix_client(&s), speaking(version));
}

static inline void peer_free(struct peer *p) {
    close(p->fd);
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* so that its session stays good */
    SSL_free(p->ssl);
    SSL_CTX_free(p->context);
    ERR_clear_error();
    free(p);
}

/* Notes the length of each record of data that passes. */
static inline void note_records(struct peer *p, const unsigned char *data, size_t length) {
    while (length) {
        if (p->left) {
            size_t n = p->left < length ? p->left : length;
            p->left -= n, data += n, length -= n;
            continue;
        }
        p->head[p->head_length++] = *data++;
        length--;
        if (p->head_length < 5) continue;
        p->head_length = 0;
        p->left = (size_t) p->head[3] << 8 | p->head[4];
        if (p->head[0] == 23 && p->records < MOST_RECORDS) p->lengths[p->records++] = (int) p->left;
    }
}

static inline void peer_send_raw(struct peer *p, const char *data, size_t length) {
    while (length) {
        size_t n = p->piece && p->piece < length ? p->piece : length;
        ssize_t sent = send(p->fd, data, n, MSG_NOSIGNAL);
        if (sent <= 0) return;
        data += sent, length -= (size_t) sent;
        settle();
    }
}

/* Moves bytes both ways until nothing moves any more. */
static inline void pass(struct peer *p) {
    static char buffer[65536];
    for (int moved = 1; moved;) {
        moved = 0;
        long waiting = BIO_ctrl_pending(p->out);
        if (waiting > 0) {
            char *copy = malloc((size_t) waiting);
            int n = BIO_read(p->out, copy, (int) waiting);
            peer_send_raw(p, copy, (size_t) n);
            free(copy);
            moved = 1;
        }
        settle();
        ssize_t n = p->ended ? 0 : recv(p->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n > 0) {
            note_records(p, (unsigned char *) buffer, (size_t) n);
            BIO_write(p->in, buffer, (int) n);
            moved = 1;
        } else if (!p->ended && (n == 0 || errno != EAGAIN)) {
            p->ended = 1;
        }
    }
}

/* Returns 1 when the handshake has come to its end. */
static inline int greet(struct peer *p) {
    for (int i = 0; i < 10 && !SSL_is_init_finished(p->ssl); i++) {
        ERR_clear_error();
        int done = SSL_do_handshake(p->ssl);
        if (done != 1 && SSL_get_error(p->ssl, done) == SSL_ERROR_SSL) {
            p->alert = ERR_GET_REASON(ERR_peek_last_error()) - SSL_AD_REASON_OFFSET;
            ERR_clear_error();
            pass(p);
            return 0;
        }
        pass(p);
    }
    ERR_clear_error();
    pass(p);
    return SSL_is_init_finished(p->ssl);
}

static inline struct peer *greeted(int version) {
    struct peer *p = peer_of(version);
    CHECK(greet(p));
    return p;
}

static inline void tell(struct peer *p, const char *data, int length) {
    CHECK_EQUAL(SSL_write(p->ssl, data, length), length);
    pass(p);
}

/* Returns the bytes of data read, until there are `length` or no more come. */
static inline size_t listen_to(struct peer *p, char *to, size_t length) {
    size_t got = 0;
    while (got < length) {
        ERR_clear_error();
        int n = SSL_read(p->ssl, to + got, (int) (length - got));
        if (n > 0) {
            got += (size_t) n;
            continue;
        }
        size_t before = (size_t) BIO_ctrl_pending(p->in);
        pass(p);
        if ((size_t) BIO_ctrl_pending(p->in) == before) break;
    }
    return got;
}

/* The alert that the peer was sent, -1 when it was none. */
static inline int alert_of(struct peer *p) {
    char byte;
    ERR_clear_error();
    (void) SSL_read(p->ssl, &byte, 1);
    unsigned long error = ERR_peek_last_error();
    int reason = ERR_GET_REASON(error);
    ERR_clear_error();
    return reason > SSL_AD_REASON_OFFSET ? reason - SSL_AD_REASON_OFFSET : -1;
}

static inline int notified(struct peer *p) {
    char byte;
    (void) listen_to(p, &byte, 1);
    return (SSL_get_shutdown(p->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
}

#endif
