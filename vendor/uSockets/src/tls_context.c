/* TLS contexts: by which rules they are made, what a program sets for them, and what takes
 * the place of their certificates. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <string.h>

/* ---- What OpenSSL asks --------------------------------------------------- */

/* One that offers others only is refused. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *chosen_length, const unsigned char *offered,
    unsigned int length, void *unused) {
    struct us_internal_tls *tls = SSL_get_app_data(ssl);
    const char *protocol = tls->context->protocol;
    (void) unused;
    if (!protocol) return SSL_TLSEXT_ERR_NOACK;
    size_t wanted = strlen(protocol);
    for (unsigned int at = 0; at < length; at += 1U + offered[at]) {
        if (offered[at] == wanted && at + 1 + wanted <= length && memcmp(offered + at + 1, protocol, wanted) == 0) {
            *chosen = offered + at + 1;
            *chosen_length = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Counts what a peer can say without end and without a byte of data. */
static void on_message(int written, int version, int type, const void *data, size_t length, SSL *ssl, void *unused) {
    struct us_internal_tls *tls = SSL_get_app_data(ssl);
    (void) version, (void) data, (void) length, (void) unused;
    if (tls && !written && type == SSL3_RT_HANDSHAKE) tls->messages++;
}

/* Of a client alone. Returns 1 when the session is kept. */
static int on_session(SSL *ssl, SSL_SESSION *session) {
    struct us_internal_tls *tls = SSL_get_app_data(ssl);
    return us_internal_tls_keep_session(tls->loop->sys, &tls->context->clients, tls->server, session);
}

int us_internal_tls_session_expired(SSL_SESSION *session) {
    X509 *certificate = SSL_SESSION_get0_peer(session);
    return certificate && X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0;
}

/* A client whose certificate has expired since it showed it has to show one anew. */
static SSL_TICKET_RETURN look_at_session(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t length,
    SSL_TICKET_STATUS status, void *unused) {
    (void) ssl, (void) name, (void) length, (void) unused;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW) return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (us_internal_tls_session_expired(session)) return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS_RENEW ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
}

/* ---- Making -------------------------------------------------------------- */

static atomic_uint contexts_made;

static void set_rules(SSL_CTX *context) {
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    /* Tickets carry sessions, which then take no memory of a server. Clients keep theirs themselves. */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    /* A session is good for the context alone that it was made with: another one may ask for certificates. */
    unsigned number = atomic_fetch_add(&contexts_made, 1);
    SSL_CTX_set_session_id_context(context, (const unsigned char *) &number, sizeof number);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    SSL_CTX_set_msg_callback(context, on_message);
    SSL_CTX_set_session_ticket_cb(context, NULL, look_at_session, NULL);
    us_internal_tls_choose_by_name(context);
    SSL_CTX_set_dh_auto(context, 1);
}

/* Where memory is short even this leaves errors behind. */
void us_internal_tls_free_context(SSL_CTX *context) {
    SSL_CTX_free(context);
    ERR_clear_error();
}

void us_internal_tls_identity_free(struct us_internal_tls_identity *identity) {
    us_internal_tls_free_context(identity->context);
    us_internal_tls_free_context(identity->prepared);
}

SSL_CTX *us_internal_tls_make_context(const struct us_socket_context_options_t *options) {
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (!context) {
        (void) us_internal_tls_refuse("cannot make a TLS context: %s", us_internal_tls_queued_reason());
        errno = ENOMEM;
        return NULL;
    }
    set_rules(context);
    int failed = us_internal_tls_use_options(context, options);
    ERR_clear_error();
    if (!failed) return context;
    us_internal_tls_free_context(context);
    errno = EINVAL;
    return NULL;
}

struct us_internal_tls_context *us_internal_tls_context_create(struct us_loop_t *loop, struct us_socket_context_options_t options) {
    if (us_internal_tls_prepare_loop(loop)) return NULL;
    struct us_internal_tls_context *tls = us_internal_alloc(loop, sizeof *tls, 0);
    if (!tls) {
        (void) us_internal_tls_out_of_memory("cannot make a TLS context");
        return NULL;
    }
    tls->holders = 1;
    tls->identity.context = us_internal_tls_make_context(&options);
    tls->clients.verify = options.ca_file_name ? LIBUS_VERIFY_FILE : LIBUS_VERIFY_NONE;
    if (tls->identity.context) return tls;
    int error = errno;
    loop->sys->release(loop->sys, tls);
    errno = error;
    return NULL;
}

struct us_internal_tls_context *us_internal_tls_context_hold(struct us_internal_tls_context *tls) {
    tls->holders++;
    return tls;
}

void us_internal_tls_context_release(struct us_loop_t *loop, struct us_internal_tls_context *tls) {
    if (!tls || --tls->holders) return;
    us_internal_tls_names_free(loop->sys, tls);
    us_internal_tls_clients_free(loop->sys, &tls->clients);
    us_internal_tls_identity_free(&tls->identity);
    loop->sys->release(loop->sys, tls);
}

/* ---- What a program sets ------------------------------------------------- */

void us_socket_context_alpn(struct us_socket_context_t *context, const char *protocol) {
    if (context->tls) context->tls->protocol = protocol;
}

void us_socket_context_plain_answer(struct us_socket_context_t *context, const char *text, int length) {
    if (!context->tls) return;
    context->tls->plain_answer = text;
    context->tls->plain_answer_length = length;
}

void us_socket_context_on_tls_failure(struct us_socket_context_t *context,
    void (*on_failure)(struct us_socket_t *s, const char *reason, int plain)) {
    if (context->tls) context->tls->on_failure = on_failure;
}

void us_socket_context_on_handshake(struct us_socket_context_t *context, struct us_socket_t *(*on_handshake)(struct us_socket_t *s)) {
    if (context->tls) context->tls->on_handshake = on_handshake;
}

void us_socket_context_on_plain_prefix(struct us_socket_context_t *context,
    int (*on_prefix)(struct us_socket_t *s, const char *data, int length)) {
    if (context->tls) context->tls->on_prefix = on_prefix;
}

void *us_socket_context_get_native_handle(int ssl, struct us_socket_context_t *context) {
    (void) ssl;
    return context->tls ? context->tls->identity.context : NULL;
}

/* ---- Settings, and what takes the place of others ------------------------ */

/* Where no authority is set, nobody is asked for a certificate, whatever the settings say. */
static void use_settings(SSL_CTX *context, const struct us_tls_settings_t *settings) {
    SSL_CTX_set_min_proto_version(context, settings->min_version == 13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    if (SSL_CTX_get_verify_mode(context) == SSL_VERIFY_NONE) return;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (settings->verify_optional ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT), NULL);
}

/* What is shown for a name, or NULL; without a name it is what all others are shown. */
static struct us_internal_tls_identity *identity_of(struct us_internal_tls_context *tls, const char *pattern) {
    if (!pattern) return &tls->identity;
    struct us_internal_tls_name *name = us_internal_tls_find_pattern(tls, pattern);
    return name ? &name->identity : NULL;
}

int us_socket_context_tls_settings(struct us_socket_context_t *context, const char *hostname_pattern, const struct us_tls_settings_t *settings) {
    struct us_internal_tls_identity *identity = context->tls ? identity_of(context->tls, hostname_pattern) : NULL;
    if (!identity) return -1;
    identity->settings = *settings;
    use_settings(identity->context, settings);
    return 0;
}

int us_socket_context_prepare(struct us_socket_context_t *context, const char *hostname_pattern, struct us_socket_context_options_t options) {
    struct us_internal_tls_identity *identity = context->tls ? identity_of(context->tls, hostname_pattern) : NULL;
    if (!identity) return us_internal_tls_refuse("%.200s: there is no such server name", hostname_pattern ? hostname_pattern : "a plain context");
    SSL_CTX *made = us_internal_tls_make_context(&options);
    if (!made) return -1;
    use_settings(made, &identity->settings);
    us_internal_tls_free_context(identity->prepared);
    identity->prepared = made;
    return 0;
}

/* Sockets hold what they were opened with. */
static void replace(struct us_internal_tls_identity *identity, int use) {
    SSL_CTX *gone = identity->prepared;
    if (gone && use) {
        gone = identity->context;
        identity->context = identity->prepared;
    }
    us_internal_tls_free_context(gone);
    identity->prepared = NULL;
}

void us_socket_context_renew(struct us_socket_context_t *context, int use) {
    if (!context->tls) return;
    context->tls->clients.generation += use != 0; /* nobody goes on with a session that others vouched for */
    replace(&context->tls->identity, use);
    for (struct us_internal_tls_name *name = context->tls->names; name; name = name->next) replace(&name->identity, use);
}

#endif
