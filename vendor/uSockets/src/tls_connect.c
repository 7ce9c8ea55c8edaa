/* The client side of TLS: which server is meant, who is trusted to vouch for it, and which
 * sessions are gone on with.
 *
 * Nothing of this is said to OpenSSL for a context: a context may listen and connect, and
 * whom its clients trust is not whom its server lets in. So each client is told by itself. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { NAME_MOST = 255, PROTOCOLS_MOST = 255 };

/* ---- Which server -------------------------------------------------------- */

static int is_address(const char *name) {
    char raw[16];
    return inet_pton(AF_INET, name, raw) == 1 || inet_pton(AF_INET6, name, raw) == 1;
}

/* Bytes of the name as certificates have it: without a zone, and without the dot that may end it. */
static size_t bare_length(const char *name) {
    size_t length = strcspn(name, "%");
    if (name[length]) return length;
    return length && name[length - 1] == '.' ? length - 1 : length;
}

static struct us_internal_tls_server *make_server(struct us_loop_t *loop, const struct us_internal_tls_clients *clients, const char *name) {
    size_t length = bare_length(name);
    struct us_internal_tls_server *server = us_internal_alloc(loop, sizeof *server, length + 1);
    if (!server) return NULL;
    server->verify = clients->verify;
    server->generation = clients->generation;
    memcpy(server->name, name, length);
    return server;
}

/* Asks for the server by its name; an address is none (RFC 6066). */
static int ask_for(SSL *ssl, const char *name) {
    return !*name || is_address(name) || SSL_set_tlsext_host_name(ssl, name) == 1 ? 0 : -1;
}

/* The store belongs to these clients, so that the certificates that clients show a server
 * of the context are not measured by it. */
static X509_STORE *system_store(struct us_internal_tls_clients *clients) {
    if (clients->system) return clients->system;
    clients->system = X509_STORE_new();
    if (clients->system && X509_STORE_set_default_paths(clients->system) == 1) return clients->system;
    X509_STORE_free(clients->system);
    clients->system = NULL;
    return NULL;
}

/* Lets the certificate be looked at: who vouches for it, and for which name. */
static int look_at(SSL *ssl, struct us_internal_tls_clients *clients, const char *name) {
    X509_VERIFY_PARAM *rules = SSL_get0_param(ssl);
    SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    if (clients->verify == LIBUS_VERIFY_SYSTEM && SSL_set1_verify_cert_store(ssl, clients->system) != 1) return -1;
    X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int set = is_address(name) ? X509_VERIFY_PARAM_set1_ip_asc(rules, name) : X509_VERIFY_PARAM_set1_host(rules, name, 0);
    return set == 1 ? 0 : -1;
}

static int set_up(SSL *ssl, struct us_internal_tls_clients *clients, const char *name) {
    unsigned offered = clients->protocols_length;
    if (ask_for(ssl, name) || (offered && SSL_set_alpn_protos(ssl, clients->protocols, offered))) return -1;
    SSL_set_verify(ssl, SSL_VERIFY_NONE, NULL);
    return clients->verify == LIBUS_VERIFY_NONE ? 0 : look_at(ssl, clients, name);
}

static void go_on_with_session(SSL *ssl, struct us_internal_tls_clients *clients, const struct us_internal_tls_server *server);

struct us_internal_tls_server *us_internal_tls_mean_server(struct us_loop_t *loop, struct us_internal_tls_clients *clients, SSL *ssl,
    const char *name) {
    struct us_internal_tls_server *server = make_server(loop, clients, name);
    if (!server) return NULL;
    int error = ENOMEM;
    if (strlen(server->name) > NAME_MOST) {
        (void) us_internal_tls_refuse("the name of the server is too long");
        error = EINVAL;
    } else if (server->verify != LIBUS_VERIFY_NONE && !server->name[0]) {
        (void) us_internal_tls_refuse("the server has no name that its certificate could be checked for");
        error = EINVAL;
    } else if (set_up(ssl, clients, server->name) == 0) {
        go_on_with_session(ssl, clients, server);
        return server;
    }
    ERR_clear_error();
    loop->sys->release(loop->sys, server);
    errno = error;
    return NULL;
}

/* ---- Sessions ------------------------------------------------------------ */

/* A server is known again by its name and by how closely its certificate was looked at, by
 * which files: it shows none where a session goes on. */
static unsigned place_of(struct us_internal_tls_clients *clients, const struct us_internal_tls_server *server) {
    unsigned at = 0;
    for (; at < SESSIONS_KEPT; at++) {
        const struct us_internal_tls_server *kept = clients->kept[at].server;
        if (kept && kept->verify == server->verify && kept->generation == server->generation && strcmp(kept->name, server->name) == 0) break;
    }
    return at;
}

static void forget_session(struct us_internal_tls_clients *clients, unsigned at) {
    SSL_SESSION_free(clients->kept[at].session);
    clients->kept[at].session = NULL;
}

static void go_on_with_session(SSL *ssl, struct us_internal_tls_clients *clients, const struct us_internal_tls_server *server) {
    unsigned at = place_of(clients, server);
    SSL_SESSION *session = at < SESSIONS_KEPT ? clients->kept[at].session : NULL;
    if (!session) return;
    if (server->verify != LIBUS_VERIFY_NONE && us_internal_tls_session_expired(session)) {
        forget_session(clients, at);
        return;
    }
    (void) SSL_set_session(ssl, session);
    /* From TLS 1.3 on each is for one use, so that nobody sees who comes again (RFC 8446, C.4). */
    if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION) forget_session(clients, at);
}

int us_internal_tls_keep_session(struct us_sys_t *sys, struct us_internal_tls_clients *clients,
    const struct us_internal_tls_server *server, SSL_SESSION *session) {
    if (!server || !server->name[0]) return 0;
    unsigned at = place_of(clients, server);
    if (at == SESSIONS_KEPT) {
        size_t size = sizeof *server + strlen(server->name) + 1;
        struct us_internal_tls_server *copy = sys->alloc(sys, size);
        if (!copy) return 0;
        memcpy(copy, server, size);
        at = clients->next++ % SESSIONS_KEPT;
        if (clients->kept[at].server) sys->release(sys, clients->kept[at].server);
        clients->kept[at].server = copy;
    }
    forget_session(clients, at);
    clients->kept[at].session = session;
    return 1;
}

void us_internal_tls_clients_free(struct us_sys_t *sys, struct us_internal_tls_clients *clients) {
    for (unsigned at = 0; at < SESSIONS_KEPT; at++) {
        if (clients->kept[at].server) sys->release(sys, clients->kept[at].server);
        SSL_SESSION_free(clients->kept[at].session);
    }
    if (clients->peer_name) sys->release(sys, clients->peer_name);
    X509_STORE_free(clients->system);
}

/* ---- The interface ------------------------------------------------------- */

static int without_tls(void) {
    return us_internal_tls_refuse("the context is a plain one");
}

int us_socket_context_verify(struct us_socket_context_t *context, int mode) {
    if (!context->tls) return without_tls();
    struct us_internal_tls_clients *clients = &context->tls->clients;
    switch (mode) {
    case LIBUS_VERIFY_NONE:
        break;
    case LIBUS_VERIFY_FILE:
        if (SSL_CTX_get_verify_mode(context->tls->identity.context) == SSL_VERIFY_NONE) return us_internal_tls_refuse("the context has no ca_file_name to verify by");
        break;
    case LIBUS_VERIFY_SYSTEM:
        ERR_clear_error();
        int failed = !system_store(clients);
        ERR_clear_error();
        if (failed) return us_internal_tls_out_of_memory("");
        break;
    default:
        return us_internal_tls_refuse("no such way to verify");
    }
    clients->verify = mode;
    return 0;
}

int us_socket_context_peer_name(struct us_socket_context_t *context, const char *name) {
    if (!context->tls) return without_tls();
    struct us_internal_tls_clients *clients = &context->tls->clients;
    struct us_sys_t *sys = context->loop->sys;
    char *copy = NULL;
    if (name) {
        size_t length = strlen(name);
        if (!bare_length(name)) return us_internal_tls_refuse("the name of the server is empty");
        if (length > NAME_MOST) return us_internal_tls_refuse("the name of the server is too long");
        copy = us_internal_alloc(context->loop, length + 1, 0);
        if (!copy) return us_internal_tls_out_of_memory("");
        memcpy(copy, name, length);
    }
    if (clients->peer_name) sys->release(sys, clients->peer_name);
    clients->peer_name = copy;
    return 0;
}

const char *us_internal_tls_peer_name(struct us_socket_context_t *context, const char *host) {
    const char *name = context->tls->clients.peer_name;
    return name ? name : host;
}

/* Writes "h2,http/1.1" as TLS has it: each protocol behind its length. Returns the bytes, 0 when it is wrong. */
static unsigned encode_protocols(const char *names, unsigned char *to) {
    size_t length = strlen(names);
    if (length >= PROTOCOLS_MOST) return 0;
    for (size_t at = 0; at <= length;) {
        size_t one = strcspn(names + at, ",");
        if (!one) return 0;
        to[at] = (unsigned char) one;
        memcpy(to + at + 1, names + at, one);
        at += one + 1;
    }
    return (unsigned) length + 1;
}

int us_socket_context_offer_protocols(struct us_socket_context_t *context, const char *protocols) {
    unsigned char encoded[PROTOCOLS_MOST + 1];
    if (!context->tls) return without_tls();
    unsigned length = protocols ? encode_protocols(protocols, encoded) : 0;
    if (protocols && !length) return us_internal_tls_refuse("the protocols cannot be offered: give names, between commas, of 254 bytes at most");
    struct us_internal_tls_clients *clients = &context->tls->clients;
    memcpy(clients->protocols, encoded, length);
    clients->protocols_length = length;
    return 0;
}

#endif
