/* Server names: which one a client asks for (SNI), whom it meets then, and who was added for which. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

/* ---- Which name is asked for --------------------------------------------- */

static struct us_internal_tls_name *find_name(const struct us_internal_tls_context *tls, const char *hostname) {
    struct us_internal_tls_name *best = NULL;
    unsigned best_fit = 0;
    for (struct us_internal_tls_name *name = tls->names; name; name = name->next) {
        unsigned found = us_hostname_fit(name->pattern, strlen(name->pattern), hostname, strlen(hostname));
        if (found > best_fit) {
            best = name;
            best_fit = found;
        }
    }
    return best;
}

/* Writes the name that a client asks for in lower case and without the dot that may end it;
 * "" when it asks for none, or for what is no host name: RFC 6066 S3 allows no address, for
 * one. What is malformed OpenSSL itself refuses. */
static void read_name(SSL *ssl, char to[256]) {
    const unsigned char *list;
    size_t size;
    to[0] = 0;
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &list, &size) || size < 5) return;
    size_t length = (size_t) list[3] << 8 | list[4];
    if (list[2] != TLSEXT_NAMETYPE_host_name || length > 255 || length > size - 5) return;
    if (!us_hostname_valid((const char *) list + 5, length)) return;
    if (list[5 + length - 1] == '.') length--;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = list[5 + i];
        to[i] = (char) (c >= 'A' && c <= 'Z' ? c | 0x20 : c);
    }
    to[length] = 0;
}

static int keep_name(struct us_internal_tls *tls, const char *hostname) {
    size_t size = strlen(hostname) + 1;
    tls->server_name = tls->loop->sys->alloc(tls->loop->sys, size);
    if (!tls->server_name) return -1;
    memcpy(tls->server_name, hostname, size);
    return 0;
}

/* Of a context change OpenSSL takes the certificate; who is let in, and by which version, it does not take. */
static int use_name(SSL *ssl, const struct us_internal_tls_name *name) {
    struct us_internal_tls *tls = SSL_get_app_data(ssl);
    if (!SSL_set_SSL_CTX(ssl, name->identity.context)) return -1;
    SSL_set_verify(ssl, SSL_CTX_get_verify_mode(name->identity.context), NULL);
    tls->user = name->user;
    tls->record_size = name->identity.settings.record_size;
    return SSL_set_min_proto_version(ssl, (int) SSL_CTX_get_min_proto_version(name->identity.context)) == 1 ? 0 : -1;
}

static int is_own_name(const struct us_internal_tls_context *context, const char *hostname) {
    X509 *certificate = SSL_CTX_get0_certificate(context->identity.context);
    return certificate && *hostname && X509_check_host(certificate, hostname, strlen(hostname), 0, NULL) == 1;
}

/* The client's first message is in, and nothing of it has been acted on: so the session that
 * it wants to go on with is looked at in the light of the context that its name decides.
 * OpenSSL takes up none that was made under another. */
static int choose_name(SSL *ssl, int *alert, void *unused) {
    struct us_internal_tls *tls = SSL_get_app_data(ssl);
    struct us_internal_tls_context *context = tls->context;
    char hostname[256];
    (void) unused;
    if (tls->named) return SSL_CLIENT_HELLO_SUCCESS; /* the second of them, which the server has asked for */
    tls->named = 1;
    *alert = SSL_AD_INTERNAL_ERROR;
    read_name(ssl, hostname);
    if (*hostname && keep_name(tls, hostname)) return SSL_CLIENT_HELLO_ERROR;
    struct us_internal_tls_name *name = *hostname ? find_name(context, hostname) : NULL;
    if (!name && *hostname && context->on_server_name) {
        context->name_refused = 0;
        context->on_server_name(context->owner, hostname);
        if (context->name_refused) return SSL_CLIENT_HELLO_ERROR;
        name = find_name(context, hostname);
    }
    if (name) return use_name(ssl, name) ? SSL_CLIENT_HELLO_ERROR : SSL_CLIENT_HELLO_SUCCESS;
    if (!context->identity.settings.name_strict || is_own_name(context, hostname)) return SSL_CLIENT_HELLO_SUCCESS;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_CLIENT_HELLO_ERROR;
}

static int acknowledge_name(SSL *ssl, int *alert, void *unused) {
    (void) ssl, (void) alert, (void) unused;
    return SSL_TLSEXT_ERR_OK;
}

void us_internal_tls_choose_by_name(SSL_CTX *context) {
    SSL_CTX_set_tlsext_servername_callback(context, acknowledge_name);
    SSL_CTX_set_client_hello_cb(context, choose_name, NULL);
}

/* ---- Which names there are ----------------------------------------------- */

static void free_name(struct us_sys_t *sys, struct us_internal_tls_name *name) {
    us_internal_tls_identity_free(&name->identity);
    sys->release(sys, name);
}

void us_internal_tls_names_free(struct us_sys_t *sys, struct us_internal_tls_context *tls) {
    while (tls->names) {
        struct us_internal_tls_name *name = tls->names;
        tls->names = name->next;
        free_name(sys, name);
    }
}

static struct us_internal_tls_name **link_of_name(struct us_internal_tls_context *tls, const char *pattern) {
    struct us_internal_tls_name **link = &tls->names;
    while (*link && strcasecmp((*link)->pattern, pattern)) link = &(*link)->next;
    return link;
}

struct us_internal_tls_name *us_internal_tls_find_pattern(struct us_internal_tls_context *tls, const char *pattern) {
    return *link_of_name(tls, pattern);
}

void us_socket_context_on_server_name(int ssl, struct us_socket_context_t *context,
    void (*cb)(struct us_socket_context_t *context, const char *hostname)) {
    (void) ssl;
    if (!context->tls) return;
    context->tls->on_server_name = cb;
    context->tls->owner = context;
}

void us_socket_context_add_server_name(int ssl, struct us_socket_context_t *context, const char *hostname_pattern,
    struct us_socket_context_options_t options, void *user) {
    (void) ssl;
    us_internal_tls_forget_error();
    if (!context->tls) {
        (void) us_internal_tls_refuse("%.200s: the context is a plain one", hostname_pattern);
        return;
    }
    size_t size = strlen(hostname_pattern) + 1;
    struct us_internal_tls_name *name = us_internal_alloc(context->loop, sizeof *name, size);
    if (!name) {
        (void) us_internal_tls_out_of_memory(hostname_pattern);
        return;
    }
    memcpy(name->pattern, hostname_pattern, size);
    name->user = user;
    name->identity.context = us_internal_tls_make_context(&options);
    if (!name->identity.context) {
        int error = errno;
        context->loop->sys->release(context->loop->sys, name);
        errno = error;
        return;
    }
    us_socket_context_remove_server_name(ssl, context, hostname_pattern);
    name->next = context->tls->names;
    context->tls->names = name;
    errno = 0;
}

void us_socket_context_remove_server_name(int ssl, struct us_socket_context_t *context, const char *hostname_pattern) {
    (void) ssl;
    if (!context->tls) return;
    struct us_internal_tls_name **link = link_of_name(context->tls, hostname_pattern), *name = *link;
    if (!name) return;
    *link = name->next;
    free_name(context->loop->sys, name); /* sockets that came in under it hold what they need */
}

void us_socket_context_refuse_server_name(struct us_socket_context_t *context) {
    if (context->tls) context->tls->name_refused = 1;
}

void *us_socket_context_find_server_name_userdata(int ssl, struct us_socket_context_t *context, const char *hostname_pattern) {
    (void) ssl;
    const struct us_internal_tls_name *name = context->tls ? us_internal_tls_find_pattern(context->tls, hostname_pattern) : NULL;
    return name ? name->user : NULL;
}

const char *us_socket_server_name(struct us_socket_t *s) {
    return s->tls ? s->tls->server_name : NULL;
}

void *us_socket_server_name_userdata(int ssl, struct us_socket_t *s) {
    (void) ssl;
    return s->tls ? s->tls->user : NULL;
}

#endif
