/* Server names: what is one, what becomes of clients that ask for others, which sessions
 * are resumed under which, and certificates that take the place of others. */
#include "tls_client.h"

#include <time.h>

static struct peer *asking(const char *name, int version) {
    struct peer *p = peer_of(version);
    if (name) SSL_set_tlsext_host_name(p->ssl, name);
    return p;
}

/* The common name of the certificate that a client is shown, "" when it is shown none. */
static const char *shown_to(struct peer *p) {
    static char names[4][64];
    static int next;
    char *name = names[next++ % 4];
    X509 *x = SSL_get_peer_certificate(p->ssl);
    name[0] = 0;
    if (x) X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, 64);
    X509_free(x);
    return name;
}

static int is_shown(const char *asked, const char *name) {
    struct peer *p = asking(asked, TLS1_3_VERSION);
    int right = greet(p) && strcmp(shown_to(p), name) == 0;
    peer_free(p);
    settle();
    return right;
}

/* The alert that ends a handshake under a name; -1 when none does. */
static int alert_for(const char *name, int version) {
    struct peer *p = asking(name, version);
    int alert = greet(p) ? -1 : p->alert;
    peer_free(p);
    settle();
    return alert;
}

/* ---- Host names ---------------------------------------------------------- */

static int valid(const char *name) {
    return us_hostname_valid(name, strlen(name));
}

static unsigned fit(const char *pattern, const char *name) {
    return us_hostname_fit(pattern, strlen(pattern), name, strlen(name));
}

static void what_a_host_name_is(void) {
    char most[256];
    CHECK(valid("a") && valid("a.b") && valid("A-1.example.") && valid("_dmarc.example.com") && valid("1.2.x") && valid("3com"));
    CHECK(!valid("") && !valid(".") && !valid("a..b") && !valid(".a") && !valid("a b") && !valid("a/b") && !valid("*.a"));
    CHECK(!valid("127.0.0.1") && !valid("::1") && !valid("1") && !valid("a.\xff") && !valid("a.1."));
    CHECK(!us_hostname_valid("a\0b", 3));
    memset(most, 'a', sizeof most);
    CHECK(!us_hostname_valid(most, 64) && us_hostname_valid(most, 63));
    for (int i = 50; i < 250; i += 50) most[i] = '.';
    CHECK(us_hostname_valid(most, 253) && !us_hostname_valid(most, 254));
}

static void which_pattern_fits_best(void) {
    CHECK(fit("a.example", "A.Example.") && fit("*.example", "a.example") && fit("*", "host"));
    CHECK(!fit("*.example", "example") && !fit("*.example", "b.a.example") && !fit("a.example", "b.example"));
    CHECK(!fit("a", "a.b") && !fit("a.b", "a") && !fit("", "a") && !fit("a", ""));
    CHECK(fit("a.b.c", "a.b.c") > fit("a.*.c", "a.b.c") && fit("a.*.c", "a.b.c") > fit("*.b.c", "a.b.c"));
    CHECK(us_hostname_fit("a.exampleXX", 9, "a.exampleYY", 9) > 0);
}

/* ---- Who asks for what --------------------------------------------------- */

static void strict(int on) {
    struct us_tls_settings_t settings = {.name_strict = on};
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &settings), 0);
}

static void only_known_names(int version) {
    tls_open();
    us_socket_context_add_server_name(1, context, "*.example.com", shown("wild"), NULL);
    CHECK_EQUAL(alert_for("unknown.org", version), -1);
    strict(1);
    CHECK_EQUAL(alert_for("a.example.com", version), -1);
    CHECK_EQUAL(alert_for("A.EXAMPLE.COM.", version), -1);
    CHECK_EQUAL(alert_for("server", version), -1); /* the certificate of all others is for it */
    CHECK_EQUAL(alert_for("unknown.org", version), SSL_AD_UNRECOGNIZED_NAME);
    CHECK_EQUAL(alert_for("127.0.0.1", version), SSL_AD_UNRECOGNIZED_NAME);
    CHECK_EQUAL(alert_for("a.example.com\xff", version), SSL_AD_UNRECOGNIZED_NAME);
    CHECK_EQUAL(alert_for(NULL, version), SSL_AD_UNRECOGNIZED_NAME);
    strict(0);
    CHECK_EQUAL(alert_for("127.0.0.1", version), -1);
    CHECK_EQUAL(alert_for(NULL, version), -1);
    CHECK_EQUAL(seen.opened, seen.closed);
    tls_close();
}

static void names_can_be_a_must(void) {
    only_known_names(TLS1_3_VERSION);
    only_known_names(TLS1_2_VERSION);
}

/* A client whose name extension holds these bytes in place of a name of the same length. */
static int alert_for_bytes(const char *bytes, size_t length) {
    char name[256], hello[4096];
    struct peer *p;
    memset(name, 'q', length);
    name[length] = 0;
    p = asking(name, TLS1_2_VERSION);
    (void) SSL_do_handshake(p->ssl);
    ERR_clear_error();
    int n = BIO_read(p->out, hello, sizeof hello);
    char *at = memmem(hello, (size_t) n, name, length);
    CHECK(at != NULL);
    if (at) memcpy(at, bytes, length);
    peer_send_raw(p, hello, (size_t) n);
    pass(p);
    int alert = greet(p) ? -1 : p->alert;
    peer_free(p);
    settle();
    return alert;
}

static int times_asked;

static void count_asked(struct us_socket_context_t *c, const char *hostname) {
    (void) c, (void) hostname;
    times_asked++;
}

/* Changed bytes make the handshake fail at its end at the latest: what matters is that the
 * server goes on, and that nobody is asked about them. */
static void what_is_no_name_is_none(void) {
    static const char odd[] = "a.example\0x";
    static const char *const others[] = {"a..example", "a/../b.org", "\xc3\x28\xff\xfe.org", "127.000.0.1"};
    tls_open();
    us_socket_context_on_server_name(1, context, count_asked);
    times_asked = 0;
    CHECK_EQUAL(alert_for_bytes(odd, sizeof odd - 1), SSL_AD_UNRECOGNIZED_NAME);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) CHECK(alert_for_bytes(others[i], strlen(others[i])) > 0);
    CHECK_EQUAL(times_asked, 0);
    CHECK_EQUAL(alert_for("some.name", TLS1_2_VERSION), -1);
    CHECK_EQUAL(times_asked, 1);
    tls_close();
}

static void refuse_name(struct us_socket_context_t *c, const char *hostname) {
    if (strcmp(hostname, "refused.org") == 0) us_socket_context_refuse_server_name(c);
}

static void the_callback_may_refuse(void) {
    tls_open();
    us_socket_context_on_server_name(1, context, refuse_name);
    CHECK_EQUAL(alert_for("refused.org", TLS1_3_VERSION), SSL_AD_INTERNAL_ERROR);
    CHECK_EQUAL(alert_for("refused.org", TLS1_2_VERSION), SSL_AD_INTERNAL_ERROR);
    CHECK_EQUAL(alert_for("taken.org", TLS1_3_VERSION), -1);
    CHECK_EQUAL(seen.closed, 3);
    tls_close();
}

/* ---- Settings ------------------------------------------------------------ */

static void a_version_can_be_the_least(void) {
    struct us_tls_settings_t newest = {.min_version = 13};
    tls_open();
    us_socket_context_add_server_name(1, context, "new.example", shown("other"), NULL);
    CHECK_EQUAL(us_socket_context_tls_settings(context, "old.example", &newest), -1);
    CHECK_EQUAL(us_socket_context_tls_settings(context, "new.example", &newest), 0);
    CHECK_EQUAL(alert_for("new.example", TLS1_2_VERSION), SSL_AD_PROTOCOL_VERSION);
    CHECK_EQUAL(alert_for("new.example", TLS1_3_VERSION), -1);
    CHECK_EQUAL(alert_for("any.example", TLS1_2_VERSION), -1);
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &newest), 0);
    CHECK_EQUAL(alert_for("any.example", TLS1_2_VERSION), SSL_AD_PROTOCOL_VERSION);
    tls_close();
}

/* Returns whether a client is let in that shows this certificate (NULL = none). */
static int let_in(const char *name, int version) {
    struct peer *p = peer_of(version);
    long long before = seen.bytes;
    if (name) {
        struct us_socket_context_options_t files = shown(name);
        CHECK(SSL_use_certificate_file(p->ssl, files.cert_file_name, SSL_FILETYPE_PEM) == 1);
        CHECK(SSL_use_PrivateKey_file(p->ssl, files.key_file_name, SSL_FILETYPE_PEM) == 1);
    }
    (void) greet(p);
    (void) SSL_write(p->ssl, "in", 2);
    ERR_clear_error();
    pass(p);
    peer_free(p);
    settle();
    return seen.bytes > before;
}

static void a_certificate_may_be_a_choice(int version) {
    struct us_socket_context_options_t o = shown("server");
    struct us_tls_settings_t optional = {.verify_optional = 1};
    o.ca_file_name = in_folder("other.pem");
    tls_open_with(o);
    CHECK(!let_in(NULL, version) && let_in("other", version) && !let_in("wild", version));
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &optional), 0);
    CHECK(let_in(NULL, version) && let_in("other", version) && !let_in("wild", version));
    tls_close();
    tls_open();
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &optional), 0);
    CHECK(let_in(NULL, version) && let_in("wild", version)); /* nobody asks for one */
    tls_close();
}

static void certificates_may_be_optional(void) {
    a_certificate_may_be_a_choice(TLS1_3_VERSION);
    a_certificate_may_be_a_choice(TLS1_2_VERSION);
}

/* The lengths of the records that `total` bytes leave in, without what TLS 1.3 adds. */
static int records_of(struct peer *p, int total, int *lengths) {
    static char data[400000];
    int before = p->records;
    CHECK_EQUAL(us_socket_write(1, seen.last, data, total, 0), total);
    CHECK_EQUAL(listen_to(p, data, (size_t) total), total);
    for (int i = before; i < p->records; i++) lengths[i - before] = p->lengths[i] - 17;
    return p->records - before;
}

static int64_t the_time;

static int64_t tell_time(struct us_sys_t *sys) {
    (void) sys;
    return the_time;
}

static void records_have_a_size(void) {
    struct us_tls_settings_t settings = {.record_size = 1000};
    int lengths[MOST_RECORDS];
    tls_open();
    us_socket_context_add_server_name(1, context, "a.example", shown("other"), NULL);
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &settings), 0);
    struct peer *p = greeted(TLS1_3_VERSION);
    CHECK_EQUAL(records_of(p, 2500, lengths), 3);
    CHECK(lengths[0] == 1000 && lengths[1] == 1000 && lengths[2] == 500);
    long long sends = us_loop_sends(loop);
    CHECK_EQUAL(records_of(p, 20000, lengths), 20);
    CHECK_EQUAL(us_loop_sends(loop), sends + 1);
    peer_free(p);
    p = asking("a.example", TLS1_3_VERSION); /* has settings of its own */
    CHECK(greet(p));
    CHECK_EQUAL(records_of(p, 20000, lengths), 2);
    peer_free(p);
    settle();
    tls_close();
}

static void records_begin_small(void) {
    struct us_tls_settings_t settings = {.record_size = LIBUS_RECORDS_DYNAMIC};
    int lengths[MOST_RECORDS];
    tls_open();
    faults.sys.monotonic_ns = tell_time;
    the_time = 5000000000;
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &settings), 0);
    struct peer *p = greeted(TLS1_3_VERSION);
    CHECK_EQUAL(records_of(p, 1369, lengths), 1);
    CHECK_EQUAL(records_of(p, 38 * 1369, lengths), 38);
    the_time += 1000000000;
    CHECK_EQUAL(records_of(p, 1369 + 4229, lengths), 2);
    CHECK(lengths[0] == 1369 && lengths[1] == 4229);
    CHECK_EQUAL(records_of(p, 39 * 4229 + 16384 + 16384 + 1, lengths), 42);
    CHECK(lengths[38] == 4229 && lengths[39] == 16384 && lengths[41] == 1);
    peer_free(p);
    settle();

    p = greeted(TLS1_3_VERSION);
    CHECK_EQUAL(records_of(p, 3 * 1369, lengths), 3); /* each connection begins anew */
    long long sends = us_loop_sends(loop);
    CHECK_EQUAL(records_of(p, 10 * 1369, lengths), 10);
    CHECK_EQUAL(us_loop_sends(loop), sends + 1);
    CHECK_EQUAL(records_of(p, 27 * 1369 + 4229, lengths), 28);
    CHECK_EQUAL(lengths[27], 4229);
    the_time += 1000000001;
    CHECK_EQUAL(records_of(p, 4229, lengths), 4);
    CHECK(lengths[0] == 1369 && lengths[3] == 4229 - 3 * 1369);
    peer_free(p);
    settle();
    tls_close();
}

/* ---- Bytes before TLS ---- */

static int prefixes_asked;

/* A line that ends with "!"; "x" is none, "?" may not come. */
static int take_line(struct us_socket_t *s, const char *data, int length) {
    const char *end = memchr(data, '!', (size_t) length);
    (void) s;
    prefixes_asked++;
    if (data[0] == '?') return LIBUS_PREFIX_REFUSED;
    if (data[0] != '-') return LIBUS_PREFIX_NONE;
    return end ? (int) (end - data) + 1 : LIBUS_PREFIX_MORE;
}

static struct peer *after_prefix(const char *prefix, size_t piece) {
    struct peer *p = peer_of(TLS1_3_VERSION);
    char all[4096];
    size_t length = strlen(prefix);
    memcpy(all, prefix, length);
    (void) SSL_do_handshake(p->ssl);
    ERR_clear_error();
    length += (size_t) BIO_read(p->out, all + length, (int) (sizeof all - length));
    p->piece = piece;
    peer_send_raw(p, all, length);
    p->piece = 0;
    return p;
}

static void bytes_may_come_before_tls(void) {
    static const size_t pieces[] = {0, 1, 3, 100};
    tls_open();
    us_socket_context_plain_answer(context, "plain!", 6);
    us_socket_context_on_plain_prefix(context, take_line);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        prefixes_asked = 0;
        struct peer *p = after_prefix("-PROXY whoever!", pieces[i]);
        CHECK(greet(p));
        CHECK_EQUAL(prefixes_asked, pieces[i] == 1 ? 15 : pieces[i] == 3 ? 5 : 1);
        tell(p, "-data!", 6); /* of which nothing is taken */
        peer_free(p);
        settle();
        p = after_prefix("", pieces[i]);
        CHECK(greet(p));
        peer_free(p);
        settle();
    }
    CHECK_EQUAL(seen.bytes, 24);
    struct peer *p = peer_of(TLS1_3_VERSION);
    peer_send_raw(p, "-line!GET / HTTP/1.1\r\n", 22);
    char answer[16];
    CHECK_EQUAL(recv(p->fd, answer, sizeof answer, MSG_DONTWAIT), 6);
    peer_free(p);
    settle();
    CHECK_EQUAL(seen.opened, seen.closed);
    tls_close();
}

static void bytes_before_tls_may_be_refused(void) {
    static char much[70000];
    tls_open();
    us_socket_context_on_plain_prefix(context, take_line);
    struct peer *p = peer_of(TLS1_3_VERSION);
    peer_send_raw(p, "?", 1);
    CHECK_EQUAL(seen.closed, 1);
    CHECK_EQUAL(seen.code, EPROTO);
    peer_free(p);
    memset(much, '-', sizeof much);
    p = peer_of(TLS1_3_VERSION);
    p->piece = 30000;
    peer_send_raw(p, much, sizeof much);
    CHECK_EQUAL(seen.closed, 2);
    CHECK_EQUAL(seen.code, EPROTO);
    peer_free(p);
    p = peer_of(TLS1_3_VERSION);
    peer_send_raw(p, "-half", 5);
    peer_free(p); /* and never the rest */
    settle();
    CHECK_EQUAL(seen.closed, 3);
    for (int i = 0; i < 2; i++) {
        p = peer_of(TLS1_3_VERSION);
        if (i) peer_send_raw(p, "-half", 5);
        faults.fail = CALL_ALLOC;
        faults.at = faults.calls[CALL_ALLOC] + 1;
        faults.error = ENOMEM;
        peer_send_raw(p, "-more", 5);
        faults.fail = CALL_NONE;
        CHECK_EQUAL(seen.closed, 4 + i);
        CHECK_EQUAL(seen.code, ENOMEM);
        peer_free(p);
    }
    tls_close();
}

/* ---- Sessions and new certificates --------------------------------------- */

/* Connects, with a session to go on with; gives the next one. */
static SSL_SESSION *session_of(const char *name, int version, SSL_SESSION *session, int *resumed) {
    struct peer *p = asking(name, version);
    char byte;
    if (session) SSL_set_session(p->ssl, session);
    SSL_SESSION_free(session);
    CHECK(greet(p));
    CHECK_EQUAL(us_socket_write(1, seen.last, "x", 1, 0), 1);
    CHECK_EQUAL(listen_to(p, &byte, 1), 1);
    *resumed = SSL_session_reused(p->ssl);
    session = SSL_get1_session(p->ssl);
    CHECK(SSL_SESSION_is_resumable(session));
    peer_free(p);
    settle();
    return session;
}

static void resume_by_name(int version) {
    int resumed;
    tls_open();
    us_socket_context_add_server_name(1, context, "a.example", shown("other"), NULL);
    us_socket_context_add_server_name(1, context, "*.example", shown("wild"), NULL);
    SSL_SESSION *session = session_of("a.example", version, NULL, &resumed);
    CHECK(!resumed);
    session = session_of("a.example", version, session, &resumed);
    CHECK(resumed);
    session = session_of("b.example", version, session, &resumed);
    CHECK(!resumed);
    session = session_of("b.example", version, session, &resumed);
    CHECK(resumed);
    session = session_of("unknown.org", version, session, &resumed);
    CHECK(!resumed);
    session = session_of("unknown.org", version, session, &resumed);
    CHECK(resumed);
    session = session_of("a.example", version, session, &resumed);
    CHECK(!resumed);
    SSL_SESSION_free(session);
    tls_close();
}

static void sessions_are_resumed_under_their_name(void) {
    resume_by_name(TLS1_3_VERSION);
    resume_by_name(TLS1_2_VERSION);
}

static void certificates_take_the_place_of_others(void) {
    tls_open();
    us_socket_context_add_server_name(1, context, "a.example", shown("other"), NULL);
    struct peer *half = asking("a.example", TLS1_3_VERSION), *old = asking("a.example", TLS1_3_VERSION);
    CHECK(greet(old));
    (void) SSL_do_handshake(half->ssl); /* its first flight is on its way */
    ERR_clear_error();

    CHECK_EQUAL(us_socket_context_prepare(context, NULL, shown("wild")), 0);
    CHECK_EQUAL(us_socket_context_prepare(context, "a.example", shown("wild")), 0);
    CHECK_EQUAL(us_socket_context_prepare(context, "a.example", shown("server")), 0); /* again */
    CHECK_EQUAL(us_socket_context_prepare(context, "b.example", shown("server")), -1);
    CHECK(strstr(us_tls_error(), "b.example") != NULL);
    CHECK(is_shown(NULL, "server") && is_shown("a.example", "other"));
    us_socket_context_renew(context, 1);
    CHECK(is_shown(NULL, "wild") && is_shown("a.example", "server"));
    us_socket_context_renew(context, 1); /* nothing is prepared */
    CHECK(is_shown(NULL, "wild") && is_shown("a.example", "server"));

    CHECK(greet(half) && strcmp(shown_to(half), "server") == 0);
    tell(old, "still here", 10);
    CHECK_EQUAL(seen.bytes, 10);
    peer_free(old);
    peer_free(half);
    settle();

    CHECK_EQUAL(us_socket_context_prepare(context, NULL, shown("other")), 0);
    CHECK_EQUAL(us_socket_context_prepare(context, "a.example", shown("expired")), -1);
    CHECK(strstr(us_tls_error(), "expired.pem") != NULL);
    us_socket_context_renew(context, 0);
    CHECK(is_shown(NULL, "wild") && is_shown("a.example", "server"));
    us_socket_context_renew(context, 1);
    CHECK(is_shown(NULL, "wild") && is_shown("a.example", "server"));
    CHECK_EQUAL(us_socket_context_prepare(context, "a.example", shown("wild")), 0); /* goes with the context */
    tls_close();
}

static void settings_stay(void) {
    struct us_socket_context_options_t o = shown("server");
    struct us_tls_settings_t settings = {.min_version = 13, .verify_optional = 1};
    o.ca_file_name = in_folder("other.pem");
    tls_open_with(o);
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &settings), 0);
    CHECK_EQUAL(us_socket_context_prepare(context, NULL, o), 0);
    us_socket_context_renew(context, 1);
    CHECK_EQUAL(alert_for(NULL, TLS1_2_VERSION), SSL_AD_PROTOCOL_VERSION);
    CHECK(let_in(NULL, TLS1_3_VERSION) && !let_in("wild", TLS1_3_VERSION));
    tls_close();
}

/* A session of before, made without a certificate, is worth nothing where one is asked for. */
static void old_sessions(int version) {
    struct us_socket_context_options_t o = shown("server");
    int resumed;
    tls_open();
    us_socket_context_add_server_name(1, context, "a.example", shown("other"), NULL);
    for (int named = 0; named < 2; named++) {
        const char *name = named ? "a.example" : NULL;
        SSL_SESSION *session = session_of(name, version, NULL, &resumed);
        session = session_of(name, version, session, &resumed);
        CHECK(resumed);
        o.ca_file_name = in_folder("other.pem");
        CHECK_EQUAL(us_socket_context_prepare(context, name, o), 0);
        us_socket_context_renew(context, 1);
        struct peer *p = asking(name, version);
        long long before = seen.bytes;
        SSL_set_session(p->ssl, session);
        (void) greet(p);
        CHECK(!SSL_session_reused(p->ssl));
        (void) SSL_write(p->ssl, "in", 2);
        ERR_clear_error();
        pass(p);
        CHECK_EQUAL(seen.bytes, before);
        SSL_SESSION_free(session);
        peer_free(p);
        settle();
    }
    CHECK_EQUAL(seen.opened, seen.closed);
    tls_close();
}

static void sessions_end_with_their_certificates(void) {
    old_sessions(TLS1_3_VERSION);
    old_sessions(TLS1_2_VERSION);
}

/* OpenSSL's own clock, and that of everybody here. */
static time_t later;

__attribute__((visibility("default"))) time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec + later;
    return now.tv_sec + later;
}

static struct peer *showing(const char *name, int version, SSL_SESSION *session) {
    struct us_socket_context_options_t files = shown(name);
    struct peer *p = peer_of(version);
    char byte;
    CHECK(SSL_use_certificate_file(p->ssl, files.cert_file_name, SSL_FILETYPE_PEM) == 1);
    CHECK(SSL_use_PrivateKey_file(p->ssl, files.key_file_name, SSL_FILETYPE_PEM) == 1);
    if (session) SSL_set_session(p->ssl, session);
    (void) greet(p);
    (void) SSL_write(p->ssl, "in", 2);
    ERR_clear_error();
    pass(p);
    if (seen.last && us_socket_write(1, seen.last, "x", 1, 0) == 1) (void) listen_to(p, &byte, 1);
    return p;
}

/* Certificates that expire between one visit and the next, which comes with a session. */
static void a_session_is_as_good_as_its_certificate(int version) {
    struct us_socket_context_options_t o = shown("server");
    o.ca_file_name = in_folder("brief.pem");
    tls_open_with(o);
    later = 86400 - 100;
    struct peer *p = showing("brief", version, NULL);
    CHECK_EQUAL(seen.bytes, 2);
    SSL_SESSION *session = SSL_get1_session(p->ssl);
    CHECK(SSL_SESSION_is_resumable(session));
    peer_free(p);
    settle();
    p = showing("brief", version, session);
    CHECK_EQUAL(seen.bytes, 4);
    CHECK(SSL_session_reused(p->ssl));
    SSL_SESSION_free(session);
    session = SSL_get1_session(p->ssl);
    peer_free(p);
    settle();
    later += 200;
    p = showing("brief", version, session);
    CHECK_EQUAL(seen.bytes, 4);
    CHECK(!SSL_session_reused(p->ssl));
    SSL_SESSION_free(session);
    peer_free(p);
    settle();
    CHECK_EQUAL(seen.closed, 3);
    later = 0;
    tls_close();
}

static void sessions_are_as_good_as_their_certificates(void) {
    a_session_is_as_good_as_its_certificate(TLS1_3_VERSION);
    a_session_is_as_good_as_its_certificate(TLS1_2_VERSION);
}

static void a_plain_context_has_none_of_it(void) {
    struct us_tls_settings_t settings = {0};
    faults_reset();
    fixture_open_on(&faults.sys, "");
    CHECK_EQUAL(us_socket_context_tls_settings(context, NULL, &settings), -1);
    CHECK_EQUAL(us_socket_context_prepare(context, NULL, shown("server")), -1);
    us_socket_context_renew(context, 1);
    us_socket_context_refuse_server_name(context);
    tls_close();
}

int main(void) {
    static const char *const names[] = {"server", "other", "wild", "expired", "brief"};
    make_folder();
    make_certificate("server", NULL, -1, 30);
    make_certificate("other", NULL, -1, 30);
    make_certificate("wild", NULL, -1, 30);
    make_certificate("expired", NULL, -3, -1);
    make_certificate("brief", NULL, -1, 1);
    RUN(what_a_host_name_is);
    RUN(which_pattern_fits_best);
    RUN(names_can_be_a_must);
    RUN(what_is_no_name_is_none);
    RUN(the_callback_may_refuse);
    RUN(a_version_can_be_the_least);
    RUN(certificates_may_be_optional);
    RUN(records_have_a_size);
    RUN(records_begin_small);
    RUN(bytes_may_come_before_tls);
    RUN(bytes_before_tls_may_be_refused);
    RUN(sessions_are_resumed_under_their_name);
    RUN(certificates_take_the_place_of_others);
    RUN(settings_stay);
    RUN(sessions_end_with_their_certificates);
    RUN(sessions_are_as_good_as_their_certificates);
    RUN(a_plain_context_has_none_of_it);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(shown(names[i]).cert_file_name);
        unlink(shown(names[i]).key_file_name);
    }
    CHECK(rmdir(folder) == 0);
    return check_result();
}
