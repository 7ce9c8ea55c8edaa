/* TLS clients: whom they ask for and trust, what they agree to, and servers that do it
 * wrong. Servers are contexts of the same loop, or (where they misbehave) are moved by hand. */
#include "tls_client.h"

#include <time.h>

static struct us_socket_context_t *clients;
static struct {
    int opened, closed, handshakes, writable, ended, failures, plain, connect_errors, timeouts, over, code;
    long long bytes;
    char reason[128], got[64];
    struct us_socket_t *last;
} mine;

static struct us_socket_t *my_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    (void) ip, (void) ip_length;
    CHECK_EQUAL(is_client, 1);
    CHECK_EQUAL(us_socket_tls_is_established(s), 0);
    CHECK(us_socket_tls_version(s) == NULL && us_socket_tls_cipher(s) == NULL);
    mine.opened++;
    mine.last = s;
    return s;
}

static struct us_socket_t *my_handshake(struct us_socket_t *s) {
    CHECK_EQUAL(us_socket_tls_is_established(s), 1);
    mine.handshakes++;
    mine.over++;
    return s;
}

static struct us_socket_t *my_close(struct us_socket_t *s, int code, void *reason) {
    (void) reason;
    mine.closed++;
    mine.over++;
    mine.code = code;
    if (mine.last == s) mine.last = NULL;
    return s;
}

static struct us_socket_t *my_data(struct us_socket_t *s, char *data, int length) {
    if (mine.bytes + length <= (int) sizeof mine.got) memcpy(mine.got + mine.bytes, data, (size_t) length);
    mine.bytes += length;
    return s;
}

static struct us_socket_t *my_writable(struct us_socket_t *s) {
    mine.writable++;
    return s;
}

static struct us_socket_t *my_end(struct us_socket_t *s) {
    mine.ended++;
    return s;
}

static struct us_socket_t *my_connect_error(struct us_socket_t *s, int code) {
    mine.connect_errors++;
    mine.over++;
    mine.code = code;
    return s;
}

static struct us_socket_t *my_timeout(struct us_socket_t *s) {
    mine.timeouts++;
    return us_socket_close(1, s, ETIMEDOUT, NULL);
}

static void my_failure(struct us_socket_t *s, const char *reason, int plain) {
    CHECK_EQUAL(us_socket_is_closed(1, s), 0);
    mine.failures++;
    mine.plain += plain;
    snprintf(mine.reason, sizeof mine.reason, "%s", reason);
}

static void listen_to_clients(struct us_socket_context_t *c) {
    us_socket_context_on_open(1, c, my_open);
    us_socket_context_on_handshake(c, my_handshake);
    us_socket_context_on_close(1, c, my_close);
    us_socket_context_on_data(1, c, my_data);
    us_socket_context_on_writable(1, c, my_writable);
    us_socket_context_on_end(1, c, my_end);
    us_socket_context_on_timeout(1, c, my_timeout);
    us_socket_context_on_connect_error(1, c, my_connect_error);
    us_socket_context_on_tls_failure(c, my_failure);
}

static void make_clients(struct us_socket_context_options_t options) {
    memset(&mine, 0, sizeof mine);
    clients = us_create_socket_context(1, loop, 0, options);
    CHECK(clients != NULL);
    if (!clients) {
        fprintf(stderr, "%s\n", us_tls_error());
        exit(1);
    }
    listen_to_clients(clients);
}

static struct us_socket_t *echo(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    CHECK(us_socket_tls_is_established(s) && us_socket_tls_version(s) != NULL);
    CHECK_EQUAL(us_socket_write(1, s, data, length, 0), length);
    return s;
}

/* A server that shows `name`, and clients that trust `authority` (NULL: do not look). */
static void open_both(const char *name, const char *authority) {
    tls_open_with(shown(name));
    us_socket_context_on_data(1, context, echo);
    make_clients((struct us_socket_context_options_t) {.ca_file_name = authority});
}

static void close_both(void) {
    us_socket_context_free(1, clients);
    settle();
    tls_close();
    CHECK_EQUAL(mine.opened, mine.closed);
}

static struct us_socket_t *connect_to(const char *host) {
    return us_socket_context_connect(1, clients, host, us_socket_local_port(1, (struct us_socket_t *) listener), NULL, 0, 8);
}

/* Connects to the listener and waits for the end of the handshake, or of the socket. */
static int meet(const char *host) {
    int handshakes = mine.handshakes;
    CHECK(connect_to(host) != NULL);
    pump(&mine.over, mine.over + 1);
    return mine.handshakes > handshakes;
}

/* Says "hello", hears it, and ends cleanly. */
static void talk(void) {
    long long before = mine.bytes;
    int closed = mine.closed;
    struct pollfd p = {.fd = us_loop_fd(loop), .events = POLLIN};
    CHECK_EQUAL(us_socket_write(1, mine.last, "hello", 5, 0), 5);
    while (mine.bytes < before + 5 && poll(&p, 1, GUARD_MS) > 0) us_loop_step(loop);
    CHECK(mine.bytes == before + 5 && memcmp(mine.got + before, "hello", 5) == 0);
    us_socket_shutdown(1, mine.last);
    pump(&seen.ended, seen.ended + 1);
    CHECK_EQUAL(us_socket_was_truncated(seen.last), 0);
    us_socket_shutdown(1, seen.last);
    pump(&mine.closed, closed + 1);
    CHECK_EQUAL(mine.code, 0);
    pump(&seen.closed, seen.opened);
}

static void refused(const char *host, const char *reason) {
    int failures = mine.failures, closed = mine.closed;
    CHECK(!meet(host));
    CHECK_EQUAL(mine.failures, failures + 1);
    CHECK_EQUAL(mine.closed, closed + 1);
    CHECK_EQUAL(mine.code, EPROTO);
    if (!strstr(mine.reason, reason)) fprintf(stderr, "%s\n", mine.reason);
    CHECK(strstr(mine.reason, reason) != NULL);
    CHECK(ERR_peek_error() == 0);
    pump(&seen.closed, seen.opened);
}

/* ---- Certificates of an authority ---------------------------------------- */

static void extend(X509 *x, int nid, const char *value) {
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    CHECK(extension && X509_add_ext(x, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static EVP_PKEY *read_key(const char *name) {
    BIO *in = BIO_new_file(shown(name).key_file_name, "r");
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    BIO_free(in);
    CHECK(key != NULL);
    return key;
}

/* Makes NAME.pem and NAME.key, signed by `authority` for the names of `san`. */
static void issue(const char *name, const char *authority, const char *san, int first_day, int last_day) {
    EVP_PKEY *key = make_key(), *signer = read_key(authority);
    X509_NAME *issuer = X509_NAME_new();
    X509 *x = X509_new();
    X509_NAME_add_entry_by_txt(issuer, "CN", MBSTRING_ASC, (const unsigned char *) authority, -1, -1, 0);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 2);
    X509_gmtime_adj(X509_getm_notBefore(x), first_day * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(x), last_day * 86400L);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *) name, -1, -1, 0);
    X509_set_issuer_name(x, issuer);
    if (san) extend(x, NID_subject_alt_name, san);
    CHECK(X509_sign(x, signer, EVP_sha256()) > 0);
    struct us_socket_context_options_t files = shown(name);
    BIO *out = BIO_new_file(files.cert_file_name, "w");
    CHECK(out && PEM_write_bio_X509(out, x) == 1);
    BIO_free(out);
    out = BIO_new_file(files.key_file_name, "w");
    CHECK(out && PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1);
    BIO_free(out);
    X509_NAME_free(issuer);
    X509_free(x);
    EVP_PKEY_free(key);
    EVP_PKEY_free(signer);
}

/* ---- Opening ------------------------------------------------------------- */

static void connects_and_talks(void) {
    open_both("site", NULL);
    struct us_socket_t *s = connect_to("127.0.0.1");
    CHECK(s && !us_socket_is_established(1, s) && !us_socket_tls_is_established(s));
    CHECK_EQUAL(us_socket_write(1, s, "early", 5, 0), 0);
    pump(&mine.opened, 1);
    CHECK(us_socket_is_established(1, s) && mine.last == s);
    CHECK_EQUAL(us_socket_write(1, s, "early", 5, 0), 0);
    CHECK_EQUAL(us_socket_last_error(s), 0);
    CHECK(us_socket_get_native_handle(1, s) != NULL);
    pump(&mine.handshakes, 1);
    CHECK_EQUAL(mine.writable, 1);
    CHECK(strcmp(us_socket_tls_version(s), "TLSv1.3") == 0 && strncmp(us_socket_tls_cipher(s), "TLS_", 4) == 0);
    int length = 7;
    CHECK(us_socket_tls_alpn(s, &length) == NULL && length == 0);
    talk();
    CHECK(mine.failures == 0 && mine.handshakes == 1);
    close_both();
}

static void by_a_path(void) {
    char path[64];
    temporary_path(path, sizeof path);
    open_both("site", in_folder("root.pem"));
    CHECK(us_socket_context_listen_unix(1, context, path, 0, 0) != NULL);
    CHECK(us_socket_context_connect_unix(1, clients, path, 0, 8) != NULL);
    pump(&mine.connect_errors, 1); /* a certificate, and no name to look for in it */
    CHECK_EQUAL(mine.code, EINVAL);
    CHECK(strstr(us_tls_error(), "no name") != NULL);
    CHECK_EQUAL(mine.opened, 0);
    CHECK_EQUAL(us_socket_context_peer_name(clients, "www.example"), 0);
    CHECK(us_socket_context_connect_unix(1, clients, path, 0, 8) != NULL);
    pump(&mine.handshakes, 1);
    talk();
    close_both();
    remove_temporary(path);
}

static void of_a_descriptor(void) {
    open_both("site", in_folder("root.pem"));
    int fd = dial_listener();
    faults.descriptors++;
    CHECK(us_adopt_connected_socket(1, clients, fd, 8, NULL, 0) == NULL);
    CHECK_EQUAL(errno, EINVAL);
    CHECK_EQUAL(us_socket_context_peer_name(clients, "www.example"), 0);
    CHECK(us_adopt_connected_socket(1, clients, fd, 8, NULL, 0) != NULL);
    CHECK_EQUAL(mine.opened, 1);
    pump(&mine.handshakes, 1);
    talk();
    struct us_socket_context_t *plain = make_context(0);
    fd = dial_listener();
    CHECK(us_adopt_connected_socket(1, plain, fd, 8, NULL, 0) == NULL);
    CHECK_EQUAL(errno, ENOTSUP);
    close(fd);
    us_socket_context_free(0, plain);
    close_both();
}

/* ::1 refuses where only 127.0.0.1 listens: the name outlives that. */
static void the_name_outlives_an_address_that_refuses(void) {
    open_both("site", in_folder("root.pem"));
    CHECK(meet(NULL));
    CHECK(strcmp(SSL_get_servername(us_socket_get_native_handle(1, mine.last), TLSEXT_NAMETYPE_host_name), "localhost") == 0);
    talk();
    close_both();
}

static void the_first_word_leaves_in_one_send(void) {
    open_both("site", NULL);
    long long sends = us_loop_sends(loop);
    CHECK(connect_to("127.0.0.1") != NULL);
    pump(&mine.opened, 1);
    CHECK_EQUAL(us_loop_sends(loop) - sends, 1);
    pump(&mine.handshakes, 1);
    talk();
    close_both();
}

/* ---- Names and trust ----------------------------------------------------- */

static void a_name_is_asked_for(const char *host, const char *name, const char *expected) {
    if (name) CHECK_EQUAL(us_socket_context_peer_name(clients, name), 0);
    CHECK(meet(host));
    pump(&seen.opened, mine.opened);
    const char *asked = SSL_get_servername(us_socket_get_native_handle(1, seen.last), TLSEXT_NAMETYPE_host_name);
    CHECK(expected ? asked && strcmp(asked, expected) == 0 : asked == NULL);
    talk();
    CHECK_EQUAL(us_socket_context_peer_name(clients, NULL), 0);
}

static void servers_are_asked_for_by_name(void) {
    char longest[300];
    open_both("site", NULL);
    a_name_is_asked_for("127.0.0.1", NULL, NULL);
    a_name_is_asked_for("localhost", NULL, "localhost");
    a_name_is_asked_for("127.0.0.1", "www.example", "www.example");
    a_name_is_asked_for("127.0.0.1", "www.example.", "www.example");
    a_name_is_asked_for("localhost", "::1", NULL);
    a_name_is_asked_for("localhost", "fe80::1%eth0", NULL);
    memset(longest, 'x', sizeof longest);
    longest[299] = 0;
    CHECK(us_socket_context_peer_name(clients, "") == -1 && errno == EINVAL);
    CHECK(us_socket_context_peer_name(clients, ".") == -1 && errno == EINVAL);
    CHECK(us_socket_context_peer_name(clients, longest) == -1 && errno == EINVAL);
    fail_next(CALL_ALLOC, ENOMEM, 0);
    CHECK(us_socket_context_peer_name(clients, "www.example") == -1 && errno == ENOMEM);
    fail_nothing();
    close_both();
}

static void as(const char *name) {
    CHECK_EQUAL(us_socket_context_peer_name(clients, name), 0);
}

static void names_are_verified(void) {
    open_both("site", in_folder("root.pem"));
    CHECK(meet("127.0.0.1")); /* the address is in the certificate */
    talk();
    CHECK(meet("localhost"));
    talk();
    as("www.example");
    CHECK(meet("127.0.0.1"));
    talk();
    as("any.sub.example");
    CHECK(meet("127.0.0.1"));
    talk();
    as("other.example");
    refused("127.0.0.1", "ostname mismatch");
    as("sub.example");
    refused("127.0.0.1", "ostname mismatch");
    as("a.any.sub.example");
    refused("127.0.0.1", "ostname mismatch");
    as("127.0.0.2");
    refused("127.0.0.1", "IP address mismatch");
    as("::1");
    refused("127.0.0.1", "IP address mismatch");
    close_both();
}

static void authorities_are_verified(void) {
    open_both("site", in_folder("stranger.pem"));
    refused("localhost", "unable to get local issuer certificate");
    CHECK_EQUAL(us_socket_context_verify(clients, LIBUS_VERIFY_NONE), 0);
    CHECK(meet("localhost"));
    talk();
    CHECK_EQUAL(us_socket_context_verify(clients, LIBUS_VERIFY_FILE), 0);
    refused("localhost", "unable to get local issuer certificate"); /* no session of the blind one helps */
    close_both();
    open_both("self", in_folder("root.pem"));
    refused("localhost", "self");
    close_both();
}

/* A certificate that was good when the context was made. */
static void dates_are_verified(void) {
    open_both("site", in_folder("root.pem"));
    X509_VERIFY_PARAM *rules = SSL_CTX_get0_param(us_socket_context_get_native_handle(1, clients));
    X509_VERIFY_PARAM_set_time(rules, time(NULL) + 40 * 86400L);
    refused("localhost", "expired");
    X509_VERIFY_PARAM_set_time(rules, time(NULL) - 40 * 86400L);
    refused("localhost", "not yet valid");
    close_both();
}

static void the_system_is_trusted(void) {
    setenv("SSL_CERT_FILE", in_folder("root.pem"), 1);
    setenv("SSL_CERT_DIR", folder, 1);
    open_both("site", NULL);
    CHECK(us_socket_context_verify(clients, LIBUS_VERIFY_FILE) == -1 && errno == EINVAL);
    CHECK(strstr(us_tls_error(), "ca_file_name") != NULL);
    CHECK(us_socket_context_verify(clients, 17) == -1 && errno == EINVAL);
    CHECK_EQUAL(us_socket_context_verify(clients, LIBUS_VERIFY_SYSTEM), 0);
    CHECK(meet("localhost"));
    talk();
    as("other.example");
    refused("localhost", "ostname mismatch");
    close_both();
    setenv("SSL_CERT_FILE", in_folder("stranger.pem"), 1);
    open_both("site", in_folder("root.pem"));
    CHECK_EQUAL(us_socket_context_verify(clients, LIBUS_VERIFY_SYSTEM), 0);
    refused("localhost", "unable to get local issuer certificate");
    CHECK_EQUAL(us_socket_context_verify(clients, LIBUS_VERIFY_FILE), 0);
    CHECK(meet("localhost"));
    talk();
    close_both();
    unsetenv("SSL_CERT_FILE");
    unsetenv("SSL_CERT_DIR");
}

static void plain_contexts_have_none_of_it(void) {
    open_both("site", NULL);
    struct us_socket_context_t *plain = make_context(0);
    CHECK(us_socket_context_verify(plain, LIBUS_VERIFY_NONE) == -1 && errno == EINVAL);
    CHECK(us_socket_context_peer_name(plain, "a") == -1 && errno == EINVAL);
    CHECK(us_socket_context_offer_protocols(plain, "a") == -1 && errno == EINVAL);
    us_socket_context_on_handshake(plain, my_handshake);
    us_socket_context_free(0, plain);
    close_both();
}

/* ---- What is agreed to --------------------------------------------------- */

static void protocols_are_offered(void) {
    int length;
    char longest[300];
    open_both("site", NULL);
    us_socket_context_alpn(context, "http/1.1");
    CHECK_EQUAL(us_socket_context_offer_protocols(clients, "h2,http/1.1"), 0);
    CHECK(meet("localhost"));
    const char *protocol = us_socket_tls_alpn(mine.last, &length);
    CHECK(length == 8 && protocol && memcmp(protocol, "http/1.1", 8) == 0);
    talk();
    CHECK_EQUAL(us_socket_context_offer_protocols(clients, "h2"), 0);
    refused("localhost", "no application protocol");
    CHECK_EQUAL(us_socket_context_offer_protocols(clients, NULL), 0);
    CHECK(meet("localhost") && us_socket_tls_alpn(mine.last, &length) == NULL && length == 0);
    talk();
    CHECK(us_socket_context_offer_protocols(clients, "") == -1 && errno == EINVAL);
    CHECK(us_socket_context_offer_protocols(clients, "a,,b") == -1 && errno == EINVAL);
    CHECK(us_socket_context_offer_protocols(clients, "a,") == -1 && errno == EINVAL);
    memset(longest, 'x', sizeof longest);
    longest[255] = 0;
    CHECK(us_socket_context_offer_protocols(clients, longest) == -1 && errno == EINVAL);
    longest[254] = 0;
    CHECK_EQUAL(us_socket_context_offer_protocols(clients, longest), 0);
    close_both();
}

static void show_when_asked(int version) {
    struct us_socket_context_options_t server = shown("site"), client = shown("guest");
    server.ca_file_name = in_folder("root.pem");
    tls_open_with(server);
    us_socket_context_on_data(1, context, echo);
    make_clients(client);
    SSL_CTX_set_max_proto_version(us_socket_context_get_native_handle(1, clients), version);
    CHECK(meet("localhost"));
    talk();
    us_socket_context_free(1, clients);
    settle();
    CHECK_EQUAL(mine.opened, mine.closed);
    make_clients((struct us_socket_context_options_t) {0});
    SSL_CTX_set_max_proto_version(us_socket_context_get_native_handle(1, clients), version);
    (void) meet("localhost"); /* in TLS 1.3 the server's no comes after */
    pump(&mine.closed, 1);
    CHECK_EQUAL(mine.failures, 1);
    CHECK(mine.code == EPROTO && strstr(mine.reason, version == TLS1_3_VERSION ? "certificate required" : "handshake failure"));
    close_both();
}

static void a_certificate_is_shown_when_asked_for(void) {
    show_when_asked(TLS1_3_VERSION);
    show_when_asked(TLS1_2_VERSION);
}

static void go_on_with_sessions(int version) {
    open_both("site", in_folder("root.pem"));
    SSL_CTX_set_max_proto_version(us_socket_context_get_native_handle(1, clients), version);
    for (int i = 0; i < 4; i++) {
        CHECK(meet("localhost"));
        CHECK_EQUAL(us_socket_tls_is_resumed(mine.last), i > 0);
        talk();
    }
    CHECK(meet("127.0.0.1") && !us_socket_tls_is_resumed(mine.last)); /* another server */
    talk();
    us_socket_context_verify(clients, LIBUS_VERIFY_NONE);
    CHECK(meet("localhost") && !us_socket_tls_is_resumed(mine.last)); /* looked at in another way */
    talk();
    CHECK(meet("localhost") && us_socket_tls_is_resumed(mine.last));
    talk();
    close_both();
}

static void sessions_are_gone_on_with(void) {
    go_on_with_sessions(TLS1_3_VERSION);
    go_on_with_sessions(TLS1_2_VERSION);
}

static void renewed_files_end_sessions_and_nothing_else(void) {
    int length;
    open_both("site", in_folder("root.pem"));
    us_socket_context_alpn(context, "http/1.1");
    CHECK_EQUAL(us_socket_context_offer_protocols(clients, "http/1.1"), 0);
    CHECK(meet("localhost"));
    talk();
    CHECK_EQUAL(us_socket_context_prepare(clients, NULL, (struct us_socket_context_options_t) {.ca_file_name = in_folder("root.pem")}), 0);
    us_socket_context_renew(clients, 1);
    CHECK(meet("localhost") && !us_socket_tls_is_resumed(mine.last));
    CHECK(us_socket_tls_alpn(mine.last, &length) != NULL && length == 8);
    talk();
    CHECK(meet("localhost") && us_socket_tls_is_resumed(mine.last));
    talk();
    CHECK_EQUAL(us_socket_context_prepare(clients, NULL, (struct us_socket_context_options_t) {.ca_file_name = in_folder("stranger.pem")}), 0);
    us_socket_context_renew(clients, 1);
    refused("localhost", "unable to get local issuer certificate");
    CHECK_EQUAL(us_socket_context_prepare(clients, NULL, (struct us_socket_context_options_t) {0}), 0);
    us_socket_context_renew(clients, 1);
    refused("localhost", "unable to get local issuer certificate"); /* whom to trust is gone, that one looks is not */
    CHECK(us_socket_context_verify(clients, LIBUS_VERIFY_FILE) == -1 && errno == EINVAL);
    close_both();
}

static void few_sessions_are_kept(void) {
    char name[32];
    open_both("site", NULL);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "host%d.example", i);
        as(name);
        CHECK(meet("127.0.0.1") && !us_socket_tls_is_resumed(mine.last));
        mine.bytes = 0;
        talk();
    }
    int memory = faults.memory;
    as("host39.example");
    CHECK(meet("127.0.0.1") && us_socket_tls_is_resumed(mine.last));
    mine.bytes = 0;
    talk();
    as("host0.example");
    CHECK(meet("127.0.0.1") && !us_socket_tls_is_resumed(mine.last));
    mine.bytes = 0;
    talk();
    settle();
    CHECK(faults.memory <= memory);
    close_both();
}

/* ---- Servers that are moved by hand -------------------------------------- */

static SSL_CTX *showing(const char *name, int version) {
    struct us_socket_context_options_t files = shown(name);
    SSL_CTX *made = speaking(version);
    CHECK(SSL_CTX_use_certificate_chain_file(made, files.cert_file_name) == 1);
    CHECK(SSL_CTX_use_PrivateKey_file(made, files.key_file_name, SSL_FILETYPE_PEM) == 1);
    return made;
}

/* A client of ours, and its server at the other end of a pair of unix sockets. */
static struct peer *server_of(int version) {
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    faults.descriptors++;
    struct peer *p = peer_on(ends[1], showing("site", version));
    SSL_set_accept_state(p->ssl);
    CHECK_EQUAL(us_socket_context_peer_name(clients, "localhost"), 0);
    CHECK(us_adopt_connected_socket(1, clients, ends[0], 8, NULL, 0) != NULL);
    return p;
}

static struct peer *shaken_server(int version) {
    struct peer *p = server_of(version);
    int before = mine.handshakes;
    CHECK(greet(p));
    CHECK_EQUAL(mine.handshakes, before + 1);
    return p;
}

static void open_clients(void) {
    open_both("site", in_folder("root.pem"));
}

static void failed_by(struct peer *p, const char *reason, int plain) {
    CHECK(mine.failures == 1 && mine.closed == 1 && mine.plain == plain);
    CHECK_EQUAL(mine.code, EPROTO);
    if (!strstr(mine.reason, reason)) fprintf(stderr, "%s\n", mine.reason);
    CHECK(strstr(mine.reason, reason) != NULL);
    CHECK(mine.bytes == 0 && mine.handshakes == 0);
    peer_free(p);
    close_both();
}

/* Lets the server have what the client has said, and drops it. */
static void swallow(struct peer *p) {
    char buffer[4096];
    settle();
    while (recv(p->fd, buffer, sizeof buffer, MSG_DONTWAIT) > 0) continue;
}

/* The clock of OpenSSL's own is put back, so that the certificate is good for the first time. */
static void a_session_ends_with_its_certificate(void) {
    SSL_CTX *shared = showing("old", TLS1_2_VERSION);
    for (int looks = 0; looks < 2; looks++) {
        open_clients();
        if (!looks) CHECK_EQUAL(us_socket_context_verify(clients, LIBUS_VERIFY_NONE), 0);
        X509_VERIFY_PARAM_set_time(SSL_CTX_get0_param(us_socket_context_get_native_handle(1, clients)), time(NULL) - 7 * 86400L);
        CHECK_EQUAL(us_socket_context_peer_name(clients, "localhost"), 0);
        for (int i = 0; i < 2; i++) {
            int ends[2];
            CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
            faults.descriptors++;
            SSL_CTX_up_ref(shared);
            struct peer *p = peer_on(ends[1], shared);
            SSL_set_accept_state(p->ssl);
            CHECK(us_adopt_connected_socket(1, clients, ends[0], 8, NULL, 0) != NULL);
            CHECK(greet(p));
            CHECK_EQUAL(us_socket_tls_is_resumed(mine.last), i && !looks);
            peer_free(p);
            settle();
        }
        close_both();
    }
    SSL_CTX_free(shared);
}

static void every_split_of_a_servers_flight(void) {
    for (size_t piece = 1; piece < 6; piece++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            open_clients();
            struct peer *p = server_of(version);
            p->piece = piece;
            CHECK(greet(p) && SSL_version(p->ssl) == version);
            CHECK_EQUAL(mine.handshakes, 1);
            tell(p, "hello", 5);
            CHECK(mine.bytes == 5 && memcmp(mine.got, "hello", 5) == 0);
            CHECK_EQUAL(us_socket_write(1, mine.last, "world", 5, 0), 5);
            char got[8];
            CHECK(listen_to(p, got, 5) == 5 && memcmp(got, "world", 5) == 0);
            peer_free(p);
            settle();
            close_both();
        }
    }
}

static void no_common_version(void) {
    open_clients();
    struct peer *p = server_of(TLS1_1_VERSION);
    SSL_set_security_level(p->ssl, 0);
    CHECK(!greet(p));
    failed_by(p, "protocol version", 0);
}

static void plain_text_is_told_apart(void) {
    static const char *const answers[] = {"HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail.example ESMTP\r\n", "* OK IMAP4\r\n", "-ERR\r\n", "SSH-2.0-x\r\n"};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        open_clients();
        struct peer *p = server_of(TLS1_3_VERSION);
        p->piece = i % 2;
        peer_send_raw(p, answers[i], strlen(answers[i]));
        failed_by(p, "the server speaks plain text", 1);
    }
}

static void garbage_is_refused(void) {
    static const char *const all[] = {"\xff\xff\xff\xff\xff\xff\xff", "\x16\x03\x03\x00\x04\x0e\x01\x02\x03\xee", "\x17\x03\x03\x00\x05hello", "\x16\x03\x03\xff\xff\xee\xee\xee", "\x80\x1c\x01\x03\x01"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char junk[32];
        open_clients();
        struct peer *p = server_of(TLS1_3_VERSION);
        memset(junk, 0xee, sizeof junk);
        strncpy(junk, all[i], sizeof junk - 1);
        peer_send_raw(p, junk, sizeof junk);
        failed_by(p, "", 0);
    }
}

static void alerts_are_named(void) {
    open_clients();
    struct peer *p = server_of(TLS1_3_VERSION);
    peer_send_raw(p, "\x15\x03\x03\x00\x02\x02\x28", 7);
    failed_by(p, "handshake failure", 0);
    open_clients();
    p = server_of(TLS1_3_VERSION);
    peer_send_raw(p, "\x15\x03\x03\x00\x02\x02\x70", 7);
    failed_by(p, "unrecognized name", 0);
    open_clients();
    p = server_of(TLS1_3_VERSION);
    peer_send_raw(p, "\x15\x03\x03\x00\x02\x01\x00", 7); /* close_notify */
    failed_by(p, "the server closed the connection", 0);
}

/* Wherever the server's flight is cut off. */
static void a_server_that_leaves_in_the_handshake(void) {
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (int part = 0; part < 16; part++) {
            static char flight[8192];
            open_clients();
            struct peer *p = server_of(version);
            settle();
            ssize_t n = recv(p->fd, flight, sizeof flight, MSG_DONTWAIT);
            CHECK(n > 0);
            BIO_write(p->in, flight, (int) n);
            CHECK(SSL_do_handshake(p->ssl) != 1);
            int length = BIO_read(p->out, flight, sizeof flight);
            CHECK(length > 16);
            peer_send_raw(p, flight, (size_t) (length * part / 16));
            shutdown(p->fd, SHUT_WR);
            settle();
            CHECK_EQUAL(mine.ended, 0);
            failed_by(p, "the server closed the connection", 0);
        }
    }
}

static void a_reset_in_the_handshake(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listening, (struct sockaddr *) &address, size) == 0 && listen(listening, 1) == 0);
    CHECK(getsockname(listening, (struct sockaddr *) &address, &size) == 0);
    open_clients();
    CHECK(us_socket_context_connect(1, clients, "127.0.0.1", ntohs(address.sin_port), NULL, 0, 8) != NULL);
    int fd = accept(listening, NULL, NULL);
    char byte;
    CHECK_EQUAL(hear(fd, &byte, 1), 1);
    reset(fd);
    pump(&mine.closed, 1);
    CHECK(mine.code == ECONNRESET && mine.failures == 0 && mine.opened == 1);
    close(listening);
    close_both();
}

static void a_handshake_that_stalls(void) {
    open_clients();
    struct peer *p = server_of(TLS1_3_VERSION);
    us_socket_timeout(1, mine.last, 8);
    swallow(p);
    us_loop_sweep(loop);
    CHECK_EQUAL(mine.timeouts, 0);
    us_loop_sweep(loop);
    CHECK(mine.timeouts == 1 && mine.closed == 1 && mine.code == ETIMEDOUT);
    peer_free(p);
    close_both();
}

static void the_end_of_a_server(void) {
    for (int clean = 0; clean < 2; clean++) {
        open_clients();
        struct peer *p = shaken_server(TLS1_3_VERSION);
        tell(p, "last", 4);
        if (clean) SSL_shutdown(p->ssl);
        pass(p);
        if (!clean) shutdown(p->fd, SHUT_WR);
        settle();
        CHECK_EQUAL(mine.ended, 1);
        CHECK_EQUAL(us_socket_was_truncated(mine.last), !clean);
        CHECK_EQUAL(us_socket_write(1, mine.last, "still", 5, 0), 5);
        us_socket_close(1, mine.last, 0, NULL);
        char got[8];
        CHECK(listen_to(p, got, 5) == 5 && notified(p));
        peer_free(p);
        CHECK_EQUAL(mine.failures, 0);
        close_both();
    }
}

static void a_record_that_was_changed(void) {
    char record[64];
    open_clients();
    struct peer *p = shaken_server(TLS1_3_VERSION);
    CHECK_EQUAL(SSL_write(p->ssl, "evil", 4), 4);
    int length = BIO_read(p->out, record, sizeof record);
    record[length - 1] ^= 1;
    peer_send_raw(p, record, (size_t) length);
    CHECK(mine.bytes == 0 && mine.failures == 1 && mine.closed == 1);
    pass(p);
    CHECK_EQUAL(alert_of(p), SSL_AD_BAD_RECORD_MAC);
    peer_free(p);
    close_both();
}

static void a_server_renegotiates_in_vain(void) {
    open_clients();
    struct peer *p = shaken_server(TLS1_2_VERSION);
    CHECK(SSL_renegotiate(p->ssl) == 1 && SSL_do_handshake(p->ssl) == 1);
    pass(p);
    CHECK(mine.handshakes == 1);
    if (mine.last) CHECK_EQUAL(us_socket_write(1, mine.last, "x", 1, 0), 1);
    peer_free(p);
    settle();
    close_both();
}

static void endless_key_updates_are_cut_off(void) {
    open_clients();
    struct peer *p = shaken_server(TLS1_3_VERSION);
    for (int i = 0; i < 1001; i++) CHECK(SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(p->ssl) == 1);
    pass(p);
    CHECK(mine.closed == 1 && strstr(mine.reason, "too many"));
    peer_free(p);
    close_both();
}

/* What the kernel does not take of the first word waits, and a broken send ends the socket. */
static void the_first_word_in_the_face_of_faults(void) {
    open_clients();
    faults.send_limit = 7;
    CHECK(meet("localhost"));
    CHECK(us_socket_unsent(mine.last) > 0 && us_socket_write(1, mine.last, "x", 1, 0) == 0);
    faults.send_limit = 0;
    pump(&mine.writable, 1);
    talk();
    close_both();
    open_clients();
    fail_next(CALL_SEND, EPIPE, 0);
    CHECK(connect_to("127.0.0.1") != NULL);
    pump(&mine.closed, 1);
    CHECK(mine.code == EPIPE && mine.opened == 1 && mine.failures == 0);
    close_both();
    open_clients();
    CHECK(connect_to("127.0.0.1") != NULL);
    int allocations = faults.calls[CALL_ALLOC];
    fail_next(CALL_ALLOC, ENOMEM, 100000); /* no TLS for it: it never opens */
    pump(&mine.connect_errors, 1);
    CHECK(mine.code == ENOMEM && mine.opened == 0 && faults.calls[CALL_ALLOC] > allocations);
    fail_nothing();
    settle();
    close_both();
}

/* ---- Callbacks that do something ----------------------------------------- */

enum callback { ON_OPEN, ON_HANDSHAKE, ON_WRITABLE, ON_DATA, ON_END, ON_FAILURE, ON_CLOSE, ON_TIMEOUT, CALLBACKS };
enum action { CLOSE, CLOSE_DIRTY, SHUT_DOWN, MOVE, MOVE_TO_PLAIN, CLOSE_ALL, WRITE, ACTIONS };

static struct {
    enum callback in;
    enum action what;
    int done;
    struct us_socket_context_t *child, *plain;
} plan;

static struct us_socket_t *act(enum callback here, struct us_socket_t *s) {
    if (here != plan.in) return s;
    plan.done++;
    switch (plan.what) {
    case CLOSE: return us_socket_close(1, s, 0, NULL);
    case CLOSE_DIRTY: return us_socket_close(1, s, 9, NULL);
    case SHUT_DOWN: us_socket_shutdown(1, s); return s;
    case MOVE:
    case MOVE_TO_PLAIN: {
        struct us_socket_t *to = us_socket_context_adopt_socket(1, plan.what == MOVE ? plan.child : plan.plain, s, 64 + plan.done);
        CHECK(to != NULL);
        if (mine.last == s) mine.last = to;
        return to;
    }
    case CLOSE_ALL: us_socket_context_close(1, clients); return s;
    default: us_socket_write(1, s, "word", 4, 0); return s;
    }
}

static struct us_socket_t *act_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    us_socket_write(1, s, "early", 5, 0); /* refused: on_writable comes */
    return act(ON_OPEN, my_open(s, is_client, ip, ip_length));
}

static struct us_socket_t *act_handshake(struct us_socket_t *s) {
    return act(ON_HANDSHAKE, my_handshake(s));
}

static struct us_socket_t *act_writable(struct us_socket_t *s) {
    return act(ON_WRITABLE, my_writable(s));
}

static struct us_socket_t *act_data(struct us_socket_t *s, char *data, int length) {
    return act(ON_DATA, my_data(s, data, length));
}

static struct us_socket_t *act_end(struct us_socket_t *s) {
    return act(ON_END, my_end(s));
}

static void act_failure(struct us_socket_t *s, const char *reason, int plain) {
    my_failure(s, reason, plain);
    act(ON_FAILURE, s);
}

static struct us_socket_t *act_close(struct us_socket_t *s, int code, void *reason) {
    return act(ON_CLOSE, my_close(s, code, reason));
}

static struct us_socket_t *act_timeout(struct us_socket_t *s) {
    mine.timeouts++;
    return act(ON_TIMEOUT, s);
}

static void listen_and_act(struct us_socket_context_t *c) {
    listen_to_clients(c);
    us_socket_context_on_open(1, c, act_open);
    us_socket_context_on_handshake(c, act_handshake);
    us_socket_context_on_close(1, c, act_close);
    us_socket_context_on_data(1, c, act_data);
    us_socket_context_on_writable(1, c, act_writable);
    us_socket_context_on_end(1, c, act_end);
    us_socket_context_on_timeout(1, c, act_timeout);
    us_socket_context_on_tls_failure(c, act_failure);
}

/* One connection in which every callback runs that is left to. */
static void a_life(int fails) {
    open_clients();
    us_socket_context_on_writable(1, context, count_writable);
    plan.child = us_create_child_socket_context(1, clients, 0);
    plan.plain = make_context(0);
    listen_and_act(clients);
    listen_and_act(plan.child);
    listen_and_act(plan.plain);
    struct peer *p = server_of(TLS1_3_VERSION);
    if (mine.last) us_socket_timeout(1, mine.last, 4);
    us_loop_sweep(loop);
    if (fails) peer_send_raw(p, "HTTP", 4);
    else if (greet(p)) {
        (void) SSL_write(p->ssl, "data", 4);
        pass(p);
        SSL_shutdown(p->ssl);
        pass(p);
    }
    ERR_clear_error();
    shutdown(p->fd, SHUT_WR);
    settle();
    peer_free(p);
    settle();
    us_socket_context_free(1, plan.child);
    us_socket_context_free(1, plan.plain);
    close_both();
}

static void every_action_in_every_callback(void) {
    for (int in = 0; in < CALLBACKS; in++) {
        for (int what = 0; what < ACTIONS; what++) {
            plan.in = (enum callback) in;
            plan.what = (enum action) what;
            plan.done = 0;
            a_life(in == ON_FAILURE);
            CHECK(plan.done > 0);
            if (check_failures_here) {
                fprintf(stderr, "callback %d, action %d\n", in, what);
                return;
            }
        }
    }
}

/* A program may set up its SSL in on_open. */
static struct us_socket_t *ask_for_another(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    CHECK(SSL_set_tlsext_host_name(us_socket_get_native_handle(1, s), "another.example") == 1);
    return my_open(s, is_client, ip, ip_length);
}

static void the_first_word_comes_after_on_open(void) {
    open_both("site", NULL);
    us_socket_context_on_open(1, clients, ask_for_another);
    CHECK(meet("localhost"));
    pump(&seen.opened, 1);
    const char *asked = SSL_get_servername(us_socket_get_native_handle(1, seen.last), TLSEXT_NAMETYPE_host_name);
    CHECK(asked && strcmp(asked, "another.example") == 0);
    talk();
    close_both();
}

static void giving_up_before_the_first_word(void) {
    for (int how = 0; how < 4; how++) {
        open_clients();
        struct us_socket_t *s = connect_to("localhost");
        switch (how) {
        case 0: CHECK(us_socket_close_connecting(1, s) == s); break;
        case 1: us_socket_close(1, s, 0, NULL); break;
        case 2: us_socket_context_close(1, clients); break;
        default: break; /* close_both does */
        }
        if (how < 3) settle();
        CHECK(mine.opened == 0 && mine.closed == 0 && mine.connect_errors == 0);
        close_both();
    }
}

int main(void) {
    static const char *const names[] = {"root", "stranger", "self", "site", "guest", "old"};
    make_folder();
    make_certificate("root", NULL, -50, 100);
    make_certificate("stranger", NULL, -50, 100);
    make_certificate("self", NULL, -1, 30);
    issue("site", "root", "DNS:localhost,DNS:www.example,DNS:*.sub.example,IP:127.0.0.1", -1, 30);
    issue("old", "root", "DNS:localhost", -10, -5);
    issue("guest", "root", NULL, -1, 30);
    RUN(connects_and_talks);
    RUN(by_a_path);
    RUN(of_a_descriptor);
    RUN(the_name_outlives_an_address_that_refuses);
    RUN(the_first_word_leaves_in_one_send);
    RUN(servers_are_asked_for_by_name);
    RUN(names_are_verified);
    RUN(authorities_are_verified);
    RUN(dates_are_verified);
    RUN(the_system_is_trusted);
    RUN(plain_contexts_have_none_of_it);
    RUN(protocols_are_offered);
    RUN(a_certificate_is_shown_when_asked_for);
    RUN(sessions_are_gone_on_with);
    RUN(renewed_files_end_sessions_and_nothing_else);
    RUN(few_sessions_are_kept);
    RUN(a_session_ends_with_its_certificate);
    RUN(every_split_of_a_servers_flight);
    RUN(no_common_version);
    RUN(plain_text_is_told_apart);
    RUN(garbage_is_refused);
    RUN(alerts_are_named);
    RUN(a_server_that_leaves_in_the_handshake);
    RUN(a_reset_in_the_handshake);
    RUN(a_handshake_that_stalls);
    RUN(the_end_of_a_server);
    RUN(a_record_that_was_changed);
    RUN(a_server_renegotiates_in_vain);
    RUN(endless_key_updates_are_cut_off);
    RUN(the_first_word_in_the_face_of_faults);
    RUN(every_action_in_every_callback);
    RUN(the_first_word_comes_after_on_open);
    RUN(giving_up_before_the_first_word);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(shown(names[i]).cert_file_name);
        unlink(shown(names[i]).key_file_name);
    }
    CHECK(rmdir(folder) == 0);
    return check_result();
}
