/* TLS contexts: what makes none, whose certificate a client sees, who is let in, and
 * what becomes of all of it when memory runs out. */
#include "tls_client.h"

static void none_of(struct us_socket_context_options_t options, const char *file, const char *cause) {
    errno = 0;
    CHECK(us_create_socket_context(1, loop, 0, options) == NULL);
    CHECK(errno == EINVAL);
    if (!strstr(us_tls_error(), file) || !strstr(us_tls_error(), cause)) fprintf(stderr, "%s\n", us_tls_error());
    CHECK(strstr(us_tls_error(), file) && strstr(us_tls_error(), cause));
    CHECK(ERR_peek_error() == 0);
}

static void what_cannot_be_used_is_named(void) {
    struct us_socket_context_options_t good = shown("server"), o;
    tls_open();
    none_of((o = good, o.cert_file_name = "/none.pem", o), "/none.pem", "No such file");
    none_of((o = good, o.key_file_name = "/none.key", o), "/none.key", "No such file");
    none_of((o = good, o.cert_file_name = folder, o), folder, "directory");
    none_of((o = good, o.cert_file_name = good.key_file_name, o), "server.key", "no certificate");
    none_of((o = good, o.key_file_name = good.cert_file_name, o), "server.pem", "no private key");
    none_of((o = good, o.key_file_name = in_folder("other.key"), o), "other.key", "does not belong to the certificate in");
    none_of((o = good, o.key_file_name = NULL, o), "server.pem", "key_file_name is not given");
    none_of((o = good, o.cert_file_name = NULL, o), "server.key", "cert_file_name is not given");
    none_of(shown("expired"), "expired.pem", "expired on");
    none_of(shown("early"), "early.pem", "is not valid before");
    none_of(shown("locked"), "locked.key", "no passphrase is given");
    none_of((o = shown("locked"), o.passphrase = "wrong", o), "locked.key", "does not open");
    none_of((o = good, o.ca_file_name = good.key_file_name, o), "server.key", "authority");
    none_of((o = good, o.dh_params_file_name = good.cert_file_name, o), "server.pem", "DH");
    none_of((o = good, o.ssl_ciphers = "NO-SUCH", o), "NO-SUCH", "no cipher match");
    none_of((o = good, o.ssl_ciphers = "TLS_NO_SUCH", o), "TLS_NO_SUCH", "no cipher match");
    tls_close();
}

static void what_can_be_used_is(void) {
    struct us_socket_context_options_t o = shown("locked"), nothing = {0};
    o.passphrase = "open";
    o.ssl_ciphers = "TLS_AES_256_GCM_SHA384";
    o.ssl_prefer_low_memory_usage = 1;
    tls_open_with(o);
    struct us_socket_context_t *bare = us_create_socket_context(1, loop, 8, nothing);
    CHECK(bare && us_socket_context_get_native_handle(1, bare) != NULL);
    us_socket_context_free(1, bare);
    struct peer *p = greeted(TLS1_3_VERSION);
    CHECK(strcmp(SSL_get_cipher_name(p->ssl), "TLS_AES_256_GCM_SHA384") == 0);
    peer_free(p);
    settle();
    tls_close();
}

/* ---- Names --------------------------------------------------------------- */

static const char *name_seen(const char *asked) {
    static char name[64];
    struct peer *p = peer_of(TLS1_3_VERSION);
    name[0] = 0;
    if (asked) SSL_set_tlsext_host_name(p->ssl, asked);
    CHECK(greet(p));
    X509 *x = SSL_get_peer_certificate(p->ssl);
    CHECK(x != NULL);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof name);
    X509_free(x);
    peer_free(p);
    return name;
}

static int asked_for;

static void add_late(struct us_socket_context_t *c, const char *hostname) {
    asked_for++;
    if (strcmp(hostname, "late.example") == 0) us_socket_context_add_server_name(1, c, hostname, shown("other"), &asked_for);
}

static void the_name_decides_the_certificate(void) {
    int exact = 0, wild = 0;
    tls_open();
    us_socket_context_add_server_name(1, context, "*.example.com", shown("wild"), &wild);
    CHECK_EQUAL(errno, 0);
    us_socket_context_add_server_name(1, context, "a.example.com", shown("other"), &exact);
    CHECK(us_socket_context_find_server_name_userdata(1, context, "*.example.com") == &wild);
    CHECK(us_socket_context_find_server_name_userdata(1, context, "b.example.com") == NULL);
    CHECK(strcmp(name_seen("a.example.com"), "other") == 0);
    CHECK(us_socket_server_name_userdata(1, seen.last) == &exact);
    CHECK(strcmp(name_seen("A.Example.COM"), "other") == 0);
    CHECK(strcmp(name_seen("a.example.com."), "other") == 0);
    CHECK(strcmp(name_seen("b.example.com"), "wild") == 0);
    CHECK(us_socket_server_name_userdata(1, seen.last) == &wild);
    CHECK(strcmp(name_seen("example.com"), "server") == 0);
    CHECK(strcmp(name_seen("c.b.example.com"), "server") == 0);
    CHECK(strcmp(name_seen("unknown.org"), "server") == 0);
    CHECK(strcmp(name_seen(NULL), "server") == 0);
    CHECK(us_socket_server_name_userdata(1, seen.last) == NULL);

    struct peer *p = peer_of(TLS1_3_VERSION);
    SSL_set_tlsext_host_name(p->ssl, "a.example.com");
    CHECK(greet(p));
    us_socket_context_remove_server_name(1, context, "a.example.com");
    us_socket_context_remove_server_name(1, context, "a.example.com");
    tell(p, "still here", 10);
    CHECK_EQUAL(seen.bytes, 10);
    peer_free(p);
    CHECK(strcmp(name_seen("a.example.com"), "wild") == 0);

    us_socket_context_add_server_name(1, context, "bad.org", shown("expired"), NULL);
    CHECK(errno == EINVAL && strstr(us_tls_error(), "expired"));
    asked_for = 0;
    us_socket_context_on_server_name(1, context, add_late);
    CHECK(strcmp(name_seen("late.example"), "other") == 0);
    CHECK(strcmp(name_seen("late.example"), "other") == 0);
    CHECK_EQUAL(asked_for, 1);
    CHECK(strcmp(name_seen("never.example"), "server") == 0);
    settle();
    tls_close();
}

static void close_all(struct us_socket_context_t *c, const char *hostname) {
    (void) hostname;
    us_socket_context_close(1, c);
}

static void the_callback_for_names_may_close_everything(void) {
    tls_open();
    us_socket_context_on_server_name(1, context, close_all);
    struct peer *p = peer_of(TLS1_3_VERSION);
    SSL_set_tlsext_host_name(p->ssl, "any.example");
    CHECK(!greet(p));
    CHECK_EQUAL(seen.closed, 1);
    peer_free(p);
    tls_close();
}

static int with_protocols(const char *offered, unsigned length, struct peer **p) {
    *p = peer_of(TLS1_3_VERSION);
    SSL_set_alpn_protos((*p)->ssl, (const unsigned char *) offered, length);
    return greet(*p);
}

static void the_protocol_is_agreed_to(void) {
    const unsigned char *chosen;
    unsigned length;
    struct peer *p;
    tls_open();
    us_socket_context_alpn(context, "http/1.1");
    CHECK(with_protocols("\x02h2\x08http/1.1", 12, &p));
    SSL_get0_alpn_selected(p->ssl, &chosen, &length);
    CHECK(length == 8 && memcmp(chosen, "http/1.1", 8) == 0);
    peer_free(p);
    CHECK(!with_protocols("\x02h2", 3, &p));
    CHECK_EQUAL(p->alert, SSL_AD_NO_APPLICATION_PROTOCOL);
    peer_free(p);
    CHECK(with_protocols(NULL, 0, &p));
    peer_free(p);
    settle();
    tls_close();
}

/* ---- Who is let in ------------------------------------------------------- */

static struct peer *with_certificate(const char *name, int version, SSL_SESSION *session) {
    struct peer *p = peer_of(version);
    if (name) {
        struct us_socket_context_options_t files = shown(name);
        CHECK(SSL_use_certificate_file(p->ssl, files.cert_file_name, SSL_FILETYPE_PEM) == 1);
        CHECK(SSL_use_PrivateKey_file(p->ssl, files.key_file_name, SSL_FILETYPE_PEM) == 1);
    }
    if (session) SSL_set_session(p->ssl, session);
    (void) greet(p);
    (void) SSL_write(p->ssl, "in", 2);
    ERR_clear_error();
    pass(p);
    return p;
}

static void only_known_clients(int version) {
    struct us_socket_context_options_t o = shown("server");
    o.ca_file_name = in_folder("other.pem");
    tls_open_with(o);
    struct peer *p = with_certificate("other", version, NULL);
    CHECK_EQUAL(seen.bytes, 2);
    peer_free(p);
    settle();
    for (int i = 0; i < 2; i++) {
        p = with_certificate(i ? "wild" : NULL, version, NULL);
        CHECK_EQUAL(seen.bytes, 2);
        CHECK_EQUAL(seen.closed, i + 2);
        CHECK_EQUAL(seen.code, EPROTO);
        peer_free(p);
    }
    tls_close();
}

static void strangers_are_not_let_in(void) {
    only_known_clients(TLS1_3_VERSION);
    only_known_clients(TLS1_2_VERSION);
}

/* A session that was made without a certificate opens no door that asks for one. */
static void a_session_is_no_certificate(int version) {
    struct us_socket_context_options_t o = shown("server");
    char byte;
    tls_open();
    o.ca_file_name = in_folder("other.pem");
    us_socket_context_add_server_name(1, context, "inner.example", o, NULL);
    struct peer *p = with_certificate(NULL, version, NULL);
    CHECK_EQUAL(seen.bytes, 2);
    CHECK_EQUAL(us_socket_write(1, seen.last, "x", 1, 0), 1);
    CHECK_EQUAL(listen_to(p, &byte, 1), 1);
    SSL_SESSION *session = SSL_get1_session(p->ssl);
    CHECK(SSL_SESSION_is_resumable(session));
    peer_free(p);
    settle();
    p = peer_of(version);
    SSL_set_session(p->ssl, session);
    SSL_set_tlsext_host_name(p->ssl, "inner.example");
    (void) greet(p);
    (void) SSL_write(p->ssl, "in", 2);
    ERR_clear_error();
    pass(p);
    CHECK_EQUAL(seen.bytes, 2);
    CHECK_EQUAL(seen.closed, 2);
    SSL_SESSION_free(session);
    peer_free(p);
    tls_close();
}

static void sessions_stay_where_they_were_made(void) {
    a_session_is_no_certificate(TLS1_3_VERSION);
    a_session_is_no_certificate(TLS1_2_VERSION);
}

/* ---- Without memory ------------------------------------------------------ */

/* Everything once; whatever fails, nothing is left. */
static void a_session_of_everything(void) {
    struct us_socket_context_t *c = us_create_socket_context(1, loop, 0, shown("server"));
    if (!c) {
        CHECK(errno == ENOMEM && strstr(us_tls_error(), "out of memory"));
        return;
    }
    count_everything(c);
    us_socket_context_add_server_name(1, c, "a.example", shown("other"), NULL);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    faults.descriptors++;
    struct us_socket_t *s = us_adopt_accepted_socket(1, c, ends[0], 16, NULL, 0);
    if (!s) {
        faults.descriptors--;
        close(ends[0]);
        close(ends[1]);
        us_socket_context_free(1, c);
        return;
    }
    struct peer *p = peer_on(ends[1], speaking(TLS1_3_VERSION));
    SSL_set_tlsext_host_name(p->ssl, "a.example");
    if (greet(p) && !us_socket_is_closed(1, s)) {
        static char data[40000];
        faults.send_limit = 500;
        (void) us_socket_write(1, s, data, sizeof data, 0);
        us_socket_shutdown(1, s);
        (void) listen_to(p, data, sizeof data);
        faults.send_limit = 0;
    }
    peer_free(p);
    settle();
    us_socket_context_free(1, c);
}

static void every_allocation_may_fail(void) {
    for (int n = 1;; n++) {
        faults_reset();
        fixture_open_on(&faults.sys, "");
        faults.fail = CALL_ALLOC;
        faults.at = faults.calls[CALL_ALLOC] + n;
        faults.error = ENOMEM;
        int last = faults.at;
        a_session_of_everything();
        int reached = faults.calls[CALL_ALLOC] >= last;
        faults.fail = CALL_NONE;
        settle();
        tls_close();
        if (!reached) break;
        CHECK(n < 200);
        if (n >= 200) break;
    }
}

int main(void) {
    static const char *const names[] = {"server", "other", "wild", "expired", "early", "locked"};
    make_folder();
    make_certificate("server", NULL, -1, 30);
    make_certificate("other", NULL, -1, 30);
    make_certificate("wild", NULL, -1, 30);
    make_certificate("expired", NULL, -3, -1);
    make_certificate("early", NULL, 1, 30);
    make_certificate("locked", "open", -1, 30);
    RUN(what_cannot_be_used_is_named);
    RUN(what_can_be_used_is);
    RUN(the_name_decides_the_certificate);
    RUN(the_callback_for_names_may_close_everything);
    RUN(the_protocol_is_agreed_to);
    RUN(strangers_are_not_let_in);
    RUN(sessions_stay_where_they_were_made);
    RUN(every_allocation_may_fail);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(shown(names[i]).cert_file_name);
        unlink(shown(names[i]).key_file_name);
    }
    CHECK(rmdir(folder) == 0);
    return check_result();
}
