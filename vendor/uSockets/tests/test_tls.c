/* TLS on sockets: handshakes, records, ends, and peers that do it wrong. */
#include "tls_client.h"

static struct us_socket_t *echo(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    CHECK_EQUAL(us_socket_write(1, s, data, length, 0), length);
    return s;
}

static void bytes_come_back(int version, size_t piece) {
    char got[64] = "";
    tls_open();
    us_socket_context_on_data(1, context, echo);
    struct peer *p = peer_of(version);
    p->piece = piece;
    CHECK(greet(p) && SSL_version(p->ssl) == version);
    tell(p, "hello", 5);
    CHECK_EQUAL(listen_to(p, got, 5), 5);
    CHECK(memcmp(got, "hello", 5) == 0 && seen.bytes == 5 && seen.data_events == 1);
    CHECK(us_socket_get_native_handle(1, seen.last) != NULL);
    CHECK(us_socket_context_get_native_handle(1, context) != NULL);
    peer_free(p);
    settle();
    tls_close();
}

static void an_echo(void) {
    bytes_come_back(TLS1_3_VERSION, 0);
    bytes_come_back(TLS1_2_VERSION, 0);
}

static void every_split(void) {
    for (size_t piece = 1; piece < 8; piece++) {
        bytes_come_back(TLS1_3_VERSION, piece);
        bytes_come_back(TLS1_2_VERSION, piece);
    }
}

/* ---- Records ------------------------------------------------------------- */

static char text[1024 * 1024];

static void check_text(const char *got, size_t length) {
    CHECK(memcmp(got, text, length) == 0);
}

static void full_records(int version, int overhead) {
    static const struct { int length, records; } cases[] = {
        {1, 1}, {100, 1}, {10240, 1}, {16384, 1}, {16385, 2}, {40960, 3}, {65536, 4},
    };
    char *got = malloc(sizeof text);
    tls_open();
    struct peer *p = greeted(version);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        long long sends = us_loop_sends(loop), records = us_loop_tls_records(loop);
        int before = p->records = 0, length = cases[i].length;
        CHECK_EQUAL(us_socket_write(1, seen.last, text, length, 0), length);
        CHECK_EQUAL(us_loop_sends(loop) - sends, 1);
        CHECK_EQUAL(us_loop_tls_records(loop) - records, cases[i].records);
        CHECK_EQUAL(listen_to(p, got, (size_t) length), length);
        check_text(got, (size_t) length);
        CHECK_EQUAL(p->records - before, cases[i].records);
        CHECK_EQUAL(p->lengths[0], (length < 16384 ? length : 16384) + overhead);
    }
    free(got);
    peer_free(p);
    settle();
    tls_close();
}

static void one_write_is_full_records_and_one_send(void) {
    full_records(TLS1_3_VERSION, 17);
    full_records(TLS1_2_VERSION, 24);
}

static void two_parts_share_records(void) {
    char *got = malloc(sizeof text);
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    for (int first = 0; first <= 20000; first += 4000) {
        long long sends = us_loop_sends(loop);
        p->records = 0;
        CHECK_EQUAL(us_socket_write2(1, seen.last, text, first, text + first, 30000 - first), 30000);
        CHECK_EQUAL(us_loop_sends(loop) - sends, 1);
        CHECK_EQUAL(listen_to(p, got, 30000), 30000);
        check_text(got, 30000);
        CHECK_EQUAL(p->records, 2);
    }
    free(got);
    peer_free(p);
    settle();
    tls_close();
}

/* By the extension max_fragment_length, as small devices do. */
static void records_are_as_small_as_the_peer_wants_them(void) {
    char *got = malloc(sizeof text);
    tls_open();
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct peer *p = peer_of(version);
        CHECK(SSL_set_tlsext_max_fragment_length(p->ssl, TLSEXT_max_fragment_length_512));
        CHECK(greet(p));
        for (int length = 511; length <= 40000; length = length < 513 ? length + 1 : length + 13000) {
            long long sends = us_loop_sends(loop), records = us_loop_tls_records(loop);
            CHECK_EQUAL(us_socket_write(1, seen.last, text, length, 0), length);
            CHECK_EQUAL(us_loop_sends(loop) - sends, 1);
            CHECK_EQUAL(us_loop_tls_records(loop) - records, (length / 16384) * 32 + (length % 16384 + 511) / 512);
            CHECK_EQUAL(listen_to(p, got, (size_t) length), length);
            check_text(got, (size_t) length);
        }
        CHECK_EQUAL(seen.closed, version - TLS1_2_VERSION);
        peer_free(p);
        settle();
    }
    free(got);
    tls_close();
}

static int rest;

static struct us_socket_t *write_rest(struct us_socket_t *s) {
    seen.writable++;
    while (rest) {
        int taken = us_socket_write(1, s, text + sizeof text - rest, rest, 0);
        rest -= taken;
        if (!taken) break;
    }
    return s;
}

static void in_the_face_of_short_writes(size_t limit) {
    char *got = malloc(sizeof text);
    size_t length = limit < 1000 ? 50000 : sizeof text;
    tls_open();
    us_socket_context_on_writable(1, context, write_rest);
    struct peer *p = greeted(TLS1_3_VERSION);
    faults.send_limit = limit;
    rest = (int) length;
    write_rest(seen.last);
    CHECK(!limit || us_socket_unsent(seen.last) > 0);
    size_t have = 0;
    while (have < length) {
        size_t n = listen_to(p, got + have, length - have);
        if (!n && !us_socket_unsent(seen.last) && !rest) break;
        have += n;
    }
    CHECK_EQUAL(have, length);
    CHECK(memcmp(got, text + sizeof text - length, length) == 0);
    CHECK_EQUAL(us_socket_unsent(seen.last), 0);
    free(got);
    peer_free(p);
    settle();
    tls_close();
}

static void short_writes(void) {
    in_the_face_of_short_writes(99);
    in_the_face_of_short_writes(5000);
    in_the_face_of_short_writes(0);
}

static void a_write_before_the_handshake_comes_again(void) {
    char got[8];
    tls_open();
    us_socket_context_on_writable(1, context, write_rest);
    struct peer *p = peer_of(TLS1_3_VERSION);
    CHECK_EQUAL(us_socket_write(1, seen.last, "x", 1, 0), 0);
    CHECK_EQUAL(us_socket_last_error(seen.last), 0);
    rest = 5;
    CHECK(greet(p));
    CHECK_EQUAL(seen.writable, 1);
    CHECK_EQUAL(listen_to(p, got, 5), 5);
    peer_free(p);
    settle();
    tls_close();
}

static void a_file_in_full_records(void) {
    char *got = malloc(sizeof text);
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    FILE *file = tmpfile();
    CHECK(file && fwrite(text, 1, 50000, file) == 50000 && fflush(file) == 0);
    long long sends = us_loop_sends(loop);
    p->records = 0;
    CHECK_EQUAL(us_socket_sendfile(1, seen.last, fileno(file), 1000, 40000), 40000);
    CHECK_EQUAL(us_loop_sends(loop) - sends, 1);
    CHECK_EQUAL(listen_to(p, got, 40000), 40000);
    CHECK(memcmp(got, text + 1000, 40000) == 0);
    CHECK_EQUAL(p->records, 3);
    CHECK_EQUAL(us_socket_sendfile(1, seen.last, fileno(file), 49000, 5000), 1000);
    CHECK_EQUAL(us_socket_sendfile(1, seen.last, fileno(file), 50000, 4000), -1);
    CHECK_EQUAL(errno, ENODATA);
    faults.fail = CALL_FILE_READ, faults.at = faults.calls[CALL_FILE_READ] + 1, faults.error = EIO;
    CHECK_EQUAL(us_socket_sendfile(1, seen.last, fileno(file), 0, 10), -1);
    CHECK_EQUAL(errno, EIO);
    CHECK_EQUAL(us_socket_sendfile(1, seen.last, -1, 0, 10), -1);
    fclose(file);
    free(got);
    peer_free(p);
    settle();
    tls_close();
}

/* ---- Ends ---------------------------------------------------------------- */

static void a_clean_end_of_the_peer(void) {
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    SSL_shutdown(p->ssl);
    pass(p);
    CHECK_EQUAL(seen.ended, 1);
    CHECK_EQUAL(us_socket_was_truncated(seen.last), 0);
    CHECK_EQUAL(us_socket_write(1, seen.last, "last", 4, 0), 4);
    us_socket_shutdown(1, seen.last);
    CHECK(us_socket_is_shut_down(1, seen.last));
    char got[8];
    CHECK_EQUAL(listen_to(p, got, 4), 4);
    CHECK(notified(p) && p->ended);
    shutdown(p->fd, SHUT_WR);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    CHECK_EQUAL(seen.ended, 1);
    peer_free(p);
    tls_close();
}

static void a_cut_end_of_the_peer(void) {
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    shutdown(p->fd, SHUT_WR);
    pump(&seen.ended, 1);
    CHECK_EQUAL(us_socket_was_truncated(seen.last), 1);
    us_socket_close(1, seen.last, 0, NULL);
    CHECK(notified(p));
    peer_free(p);
    tls_close();
}

static void only_a_clean_close_says_close_notify(void) {
    for (int code = 0; code < 2; code++) {
        tls_open();
        struct peer *p = greeted(TLS1_2_VERSION);
        us_socket_close(1, seen.last, code, NULL);
        CHECK_EQUAL(notified(p), !code);
        CHECK(p->ended);
        peer_free(p);
        tls_close();
    }
}

static void a_shutdown_waits_for_what_stands_before_it(void) {
    char *got = malloc(sizeof text);
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    faults.send_limit = 1000;
    CHECK_EQUAL(us_socket_write(1, seen.last, text, 30000, 0), 30000);
    us_socket_shutdown(1, seen.last);
    CHECK_EQUAL(us_socket_write(1, seen.last, text, 1, 0), 0);
    SSL_shutdown(p->ssl); /* ours comes while the last of theirs is on its way */
    CHECK_EQUAL(listen_to(p, got, 30000), 30000);
    check_text(got, 30000);
    CHECK(notified(p) && p->ended);
    CHECK_EQUAL(seen.closed, 1);
    CHECK_EQUAL(seen.code, 0);
    free(got);
    peer_free(p);
    tls_close();
}

/* Waits for TCP, which may take its time. */
static int readable_or_first(struct peer *p) {
    struct pollfd both[2] = {{.fd = p->fd, .events = POLLIN}, {.fd = us_loop_fd(loop), .events = POLLIN}};
    return BIO_ctrl_pending(p->out) == 0 && SSL_get_state(p->ssl) == TLS_ST_BEFORE ? 1 : poll(both, 2, GUARD_MS) > 0;
}

static void a_reset_in_the_middle_of_a_record(void) {
    tls_open();
    struct peer *p = peer_of(TLS1_3_VERSION);
    close(p->fd);
    pump(&seen.closed, 1);
    p->fd = client();
    while (!SSL_is_init_finished(p->ssl) && readable_or_first(p)) CHECK(greet(p) || !p->ended);
    char record[64];
    CHECK_EQUAL(SSL_write(p->ssl, "hello", 5), 5);
    int length = BIO_read(p->out, record, sizeof record);
    peer_send_raw(p, record, (size_t) length / 2);
    reset(p->fd);
    p->fd = -1;
    pump(&seen.closed, 2);
    CHECK_EQUAL(seen.code, ECONNRESET);
    CHECK_EQUAL(seen.bytes, 0);
    peer_free(p);
    tls_close();
}

static struct us_socket_t *close_on_data(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    return us_socket_close(1, s, 0, NULL);
}

static struct us_socket_t *close_now(struct us_socket_t *s) {
    return us_socket_close(1, s, 0, NULL);
}

static struct us_socket_t *close_on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    count_open(s, is_client, ip, ip_length);
    return us_socket_close(1, s, 0, NULL);
}

static void close_failed(struct us_socket_t *s, const char *reason, int plain) {
    CHECK(reason && *reason && !plain);
    us_socket_close(1, s, 7, NULL);
}

static void close_in_every_callback(void) {
    tls_open();
    us_socket_context_on_data(1, context, close_on_data);
    struct peer *p = greeted(TLS1_3_VERSION);
    tell(p, "x", 1);
    CHECK_EQUAL(seen.closed, 1);
    peer_free(p);

    us_socket_context_on_end(1, context, close_now);
    p = greeted(TLS1_3_VERSION);
    SSL_shutdown(p->ssl);
    pass(p);
    CHECK_EQUAL(seen.closed, 2);
    peer_free(p);

    us_socket_context_on_writable(1, context, close_now);
    p = peer_of(TLS1_3_VERSION);
    CHECK_EQUAL(us_socket_write(1, seen.last, "x", 1, 0), 0);
    (void) greet(p);
    CHECK_EQUAL(seen.closed, 3);
    peer_free(p);

    us_socket_context_on_tls_failure(context, close_failed);
    p = peer_of(TLS1_3_VERSION);
    peer_send_raw(p, "\x16\x03\x01\xff\xff garbage", 13);
    CHECK_EQUAL(seen.closed, 4);
    CHECK_EQUAL(seen.code, 7);
    peer_free(p);

    us_socket_context_on_open(1, context, close_on_open);
    p = peer_of(TLS1_3_VERSION);
    CHECK_EQUAL(seen.closed, 5);
    peer_free(p);
    tls_close();
}

/* ---- Peers that do it wrong ---------------------------------------------- */

static int failures, plain_failures;
static char failure_reason[128];

static void note_failure(struct us_socket_t *s, const char *reason, int plain) {
    (void) s;
    failures++;
    plain_failures += plain;
    snprintf(failure_reason, sizeof failure_reason, "%s", reason);
}

static void refused(struct peer *p, int alert) {
    int before = failures;
    CHECK(!greet(p));
    CHECK_EQUAL(p->alert, alert);
    CHECK_EQUAL(failures, before + 1);
    CHECK_EQUAL(seen.closed, seen.opened);
    CHECK_EQUAL(seen.code, EPROTO);
    CHECK(ERR_peek_error() == 0);
    peer_free(p);
}

static void old_versions_and_foreign_ciphers(void) {
    tls_open();
    us_socket_context_on_tls_failure(context, note_failure);
    struct peer *p = peer_of(TLS1_1_VERSION);
    SSL_set_security_level(p->ssl, 0);
    refused(p, SSL_AD_PROTOCOL_VERSION);
    p = peer_of(TLS1_2_VERSION);
    CHECK(SSL_set_cipher_list(p->ssl, "ECDHE-RSA-AES128-GCM-SHA256") == 1); /* the certificate is no RSA one */
    refused(p, SSL_AD_HANDSHAKE_FAILURE);
    p = greeted(TLS1_3_VERSION);
    peer_free(p);
    settle();
    tls_close();
}

static void garbage(void) {
    static const char *const all[] = {"\x16\x03\x01", "\x80\x1c\x01\x03\x01", "\x17\x03\x03\x00\x05hello", "\xff\xff\xff\xff\xff\xff\xff", "\x15\x03\x03\x00\x02\x02\x28"};
    tls_open();
    us_socket_context_on_tls_failure(context, note_failure);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct peer *p = peer_of(TLS1_3_VERSION);
        char junk[32];
        memset(junk, 0xee, sizeof junk);
        strncpy(junk, all[i], sizeof junk - 1);
        peer_send_raw(p, junk, sizeof junk);
        CHECK_EQUAL(seen.closed, (int) i + 1);
        peer_free(p);
    }
    struct peer *p = greeted(TLS1_3_VERSION);
    peer_free(p);
    settle();
    tls_close();
}

static void plain_text_is_answered_in_plain_text(void) {
    char got[16] = "";
    tls_open();
    us_socket_context_plain_answer(context, "no TLS", 6);
    us_socket_context_on_tls_failure(context, note_failure);
    plain_failures = 0;
    struct peer *p = peer_of(TLS1_3_VERSION);
    p->piece = 1;
    peer_send_raw(p, "GET / HTTP/1.1\r\n\r\n", 18);
    CHECK_EQUAL(plain_failures, 1);
    CHECK_EQUAL(recv(p->fd, got, sizeof got, 0), 6);
    CHECK(memcmp(got, "no TLS", 6) == 0 && recv(p->fd, got, sizeof got, 0) == 0);
    CHECK_EQUAL(seen.closed, 0);
    CHECK_EQUAL(seen.bytes, 0);
    close(p->fd);
    p->fd = -1;
    pump(&seen.closed, 1);
    peer_free(p);
    us_socket_context_plain_answer(context, NULL, 0);
    p = peer_of(TLS1_3_VERSION);
    peer_send_raw(p, "OPTIONS", 7);
    CHECK_EQUAL(seen.closed, 2);
    peer_free(p);
    tls_close();
}

static void a_record_that_was_changed(void) {
    tls_open();
    us_socket_context_on_tls_failure(context, note_failure);
    struct peer *p = greeted(TLS1_3_VERSION);
    char record[64];
    tell(p, "good", 4);
    CHECK_EQUAL(SSL_write(p->ssl, "evil", 4), 4);
    int length = BIO_read(p->out, record, sizeof record);
    record[length - 1] ^= 1;
    peer_send_raw(p, record, (size_t) length);
    pass(p);
    CHECK_EQUAL(seen.bytes, 4);
    CHECK_EQUAL(seen.closed, 1);
    CHECK_EQUAL(alert_of(p), SSL_AD_BAD_RECORD_MAC);
    peer_free(p);
    tls_close();
}

static void renegotiation_is_refused(void) {
    tls_open();
    struct peer *p = greeted(TLS1_2_VERSION);
    CHECK_EQUAL(SSL_renegotiate(p->ssl), 1);
    CHECK(SSL_do_handshake(p->ssl) != 1);
    pass(p);
    CHECK(SSL_do_handshake(p->ssl) != 1);
    ERR_clear_error();
    peer_free(p);
    settle();
    tls_close();
}

static void endless_key_updates_are_cut_off(void) {
    tls_open();
    us_socket_context_on_tls_failure(context, note_failure);
    struct peer *p = greeted(TLS1_3_VERSION);
    for (int i = 0; i < 900; i++) {
        CHECK(SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(p->ssl) == 1);
    }
    tell(p, "data", 4);
    CHECK_EQUAL(seen.closed, 0);
    for (int i = 0; i < 1001; i++) {
        CHECK(SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 && SSL_do_handshake(p->ssl) == 1);
    }
    pass(p);
    CHECK_EQUAL(seen.closed, 1);
    peer_free(p);
    tls_close();
}

static void handshakes_take_turns(void) {
    struct peer *peers[16];
    tls_open();
    for (int i = 0; i < 16; i++) {
        peers[i] = peer_of(TLS1_3_VERSION);
        char hello[4096];
        (void) SSL_do_handshake(peers[i]->ssl);
        int length = BIO_read(peers[i]->out, hello, sizeof hello);
        CHECK(send(peers[i]->fd, hello, (size_t) length, MSG_NOSIGNAL) == length);
    }
    long long before = us_loop_sends(loop);
    us_loop_step(loop);
    CHECK_EQUAL(us_loop_sends(loop) - before, 5);
    us_loop_step(loop);
    CHECK_EQUAL(us_loop_sends(loop) - before, 10);
    for (int i = 0; i < 16; i++) {
        CHECK(greet(peers[i]));
        peer_free(peers[i]);
    }
    settle();
    tls_close();
}

/* ---- Sessions and moves -------------------------------------------------- */

static void resumed(int version) {
    tls_open();
    us_socket_context_on_data(1, context, echo);
    struct peer *p = greeted(version);
    char got[4];
    tell(p, "x", 1);
    CHECK_EQUAL(listen_to(p, got, 1), 1);
    SSL_SESSION *session = SSL_get1_session(p->ssl);
    CHECK(SSL_SESSION_is_resumable(session));
    peer_free(p);
    settle();
    p = peer_of(version);
    SSL_set_session(p->ssl, session);
    CHECK(greet(p) && SSL_session_reused(p->ssl));
    SSL_SESSION_free(session);
    peer_free(p);
    settle();
    tls_close();
}

static void sessions_are_resumed(void) {
    resumed(TLS1_3_VERSION);
    resumed(TLS1_2_VERSION);
}

static struct us_socket_context_t *other;

static struct us_socket_t *adopt_on_data(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    return seen.last = us_socket_context_adopt_socket(1, other, s, 200);
}

static void a_socket_that_moves_takes_its_session_along(void) {
    char got[4];
    tls_open();
    us_socket_context_on_data(1, context, adopt_on_data);
    other = us_create_child_socket_context(1, context, 0);
    count_everything(other);
    us_socket_context_on_data(1, other, echo);
    struct peer *p = greeted(TLS1_3_VERSION);
    tell(p, "a", 1);
    tell(p, "b", 1);
    CHECK_EQUAL(listen_to(p, got, 1), 1);
    CHECK(got[0] == 'b');
    peer_free(p);
    settle();
    us_socket_context_free(1, other);
    tls_close();
}

int main(void) {
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char) (i * 7 + (i >> 8));
    make_folder();
    make_certificate("server", NULL, -1, 30);
    RUN(an_echo);
    RUN(every_split);
    RUN(one_write_is_full_records_and_one_send);
    RUN(two_parts_share_records);
    RUN(records_are_as_small_as_the_peer_wants_them);
    RUN(short_writes);
    RUN(a_write_before_the_handshake_comes_again);
    RUN(a_file_in_full_records);
    RUN(a_clean_end_of_the_peer);
    RUN(a_cut_end_of_the_peer);
    RUN(only_a_clean_close_says_close_notify);
    RUN(a_shutdown_waits_for_what_stands_before_it);
    RUN(a_reset_in_the_middle_of_a_record);
    RUN(close_in_every_callback);
    RUN(old_versions_and_foreign_ciphers);
    RUN(garbage);
    RUN(plain_text_is_answered_in_plain_text);
    RUN(a_record_that_was_changed);
    RUN(renegotiation_is_refused);
    RUN(endless_key_updates_are_cut_off);
    RUN(handshakes_take_turns);
    RUN(sessions_are_resumed);
    RUN(a_socket_that_moves_takes_its_session_along);
    unlink(in_folder("server.pem"));
    unlink(in_folder("server.key"));
    CHECK(rmdir(folder) == 0);
    return check_result();
}
