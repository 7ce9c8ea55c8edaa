/* TLS at bad moments: writes amid reads, a kernel that takes nothing, a failing OpenSSL,
 * and ends inside every callback. A comment before a test begins with the row of the
 * list of situations that it shows; a test of the whole project counts the rows. */
#include "tls_client.h"

enum { TEXT = 1024 * 1024 };

static char text[TEXT];

static struct us_socket_t *echo(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    CHECK_EQUAL(us_socket_write(1, s, data, length, 0), length);
    return s;
}

/* Moves bytes both ways once: where sends are made to fail, the loop never comes to rest. */
static void pass_once(struct peer *p) {
    static char buffer[65536];
    int n = BIO_read(p->out, buffer, sizeof buffer);
    if (n > 0) CHECK_EQUAL(send(p->fd, buffer, (size_t) n, MSG_NOSIGNAL), n);
    for (int i = 0; i < 4; i++) us_loop_step(loop);
    ssize_t got = recv(p->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) BIO_write(p->in, buffer, (int) got);
}

/* ---- The error queue ----------------------------------------------------- */

static void leave_an_error(void) {
    CHECK(BIO_new_file("/no/such/file", "r") == NULL);
    CHECK(ERR_peek_error() != 0);
}

/* TL-02: the queue is empty after every failure, and what others leave in it does no harm. */
static void errors_of_others_mean_nothing(int version) {
    char got[8];
    tls_open();
    us_socket_context_on_data(1, context, echo);
    for (int i = 0; i < 2; i++) {
        struct peer *bad = peer_of(version);
        leave_an_error();
        peer_send_raw(bad, "\x16\x03\x01\x00\x04\x01\x00\x00\x00 and more", 18);
        CHECK(ERR_peek_error() == 0);
        peer_free(bad);
        leave_an_error();
        struct peer *p = greeted(version);
        CHECK_EQUAL(SSL_write(p->ssl, "hello", 5), 5);
        leave_an_error();
        pass(p);
        CHECK_EQUAL(listen_to(p, got, 5), 5);
        leave_an_error();
        CHECK_EQUAL(us_socket_write(1, seen.last, "again", 5, 0), 5);
        CHECK_EQUAL(listen_to(p, got, 5), 5);
        leave_an_error();
        us_socket_close(1, seen.last, 0, NULL);
        CHECK(ERR_peek_error() == 0);
        CHECK(notified(p));
        peer_free(p);
    }
    CHECK_EQUAL(seen.closed, 4);
    tls_close();
}

static void the_queue_of_errors(void) {
    errors_of_others_mean_nothing(TLS1_3_VERSION);
    errors_of_others_mean_nothing(TLS1_2_VERSION);
}

/* ---- Many handshakes ----------------------------------------------------- */

enum { CROWD = 40 };

static void crowd_in(struct peer **crowd) {
    for (int i = 0; i < CROWD; i++) {
        static char hello[4096];
        crowd[i] = peer_of(TLS1_3_VERSION);
        (void) SSL_do_handshake(crowd[i]->ssl);
        int length = BIO_read(crowd[i]->out, hello, sizeof hello);
        CHECK_EQUAL(send(crowd[i]->fd, hello, (size_t) length, MSG_NOSIGNAL), length);
    }
}

static void crowd_out(struct peer **crowd) {
    for (int i = 0; i < CROWD; i++) peer_free(crowd[i]);
    settle();
}

/* TL-05: five steps of handshakes in an iteration at most; who is in already is answered in
 * each, and all others are answered in as few as that takes. */
static void who_is_in_is_served_while_others_come(void) {
    struct peer *crowd[CROWD], *p;
    tls_open();
    us_socket_context_on_data(1, context, echo);
    p = greeted(TLS1_3_VERSION);
    crowd_in(crowd);
    for (int turn = 1; turn <= CROWD / 5; turn++) {
        char record[64], got[8];
        CHECK_EQUAL(SSL_write(p->ssl, "hello", 5), 5);
        int length = BIO_read(p->out, record, sizeof record);
        CHECK_EQUAL(send(p->fd, record, (size_t) length, MSG_NOSIGNAL), length);
        long long before = us_loop_sends(loop);
        us_loop_step(loop);
        CHECK_EQUAL(us_loop_sends(loop) - before, 5 + 1);
        ssize_t n = recv(p->fd, record, sizeof record, MSG_DONTWAIT);
        CHECK(n > 0);
        BIO_write(p->in, record, (int) n);
        CHECK_EQUAL(SSL_read(p->ssl, got, 5), 5);
    }
    for (int i = 0; i < CROWD; i++) CHECK(readable_now(crowd[i]->fd));
    peer_free(p);
    crowd_out(crowd);
    tls_close();
}

/* TL-05: those whose turn has not come run out of time as all others. */
static void who_waits_runs_out_of_time(void) {
    struct peer *crowd[CROWD];
    struct us_socket_t *sockets[CROWD];
    tls_open();
    for (int i = 0; i < CROWD; i++) {
        crowd[i] = peer_of(TLS1_3_VERSION);
        sockets[i] = seen.last;
        us_socket_timeout(1, sockets[i], 8);
        CHECK_EQUAL(send(crowd[i]->fd, "\x16\x03\x01", 3, MSG_NOSIGNAL), 3);
    }
    for (int i = 0; i < 3; i++) us_loop_sweep(loop);
    CHECK_EQUAL(seen.timeouts, CROWD);
    crowd_out(crowd);
    tls_close();
}

/* ---- Early data ----------------------------------------------------------- */

static void move(SSL *from, SSL *to) {
    static char buffer[16384];
    for (int n; (n = BIO_read(SSL_get_wbio(from), buffer, sizeof buffer)) > 0;) CHECK_EQUAL(BIO_write(SSL_get_rbio(to), buffer, n), n);
}

static SSL *in_memory(SSL_CTX *made) {
    SSL *ssl = SSL_new(made);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    BIO_set_mem_eof_return(in, -1);
    BIO_set_mem_eof_return(out, -1);
    SSL_set_bio(ssl, in, out);
    return ssl;
}

/* Returns a session of another server, one that takes early data. */
static SSL_SESSION *session_that_allows(uint32_t early_bytes) {
    struct us_socket_context_options_t files = shown("server");
    SSL_CTX *giving = speaking(TLS1_3_VERSION), *taking = speaking(TLS1_3_VERSION);
    CHECK(SSL_CTX_use_certificate_file(giving, files.cert_file_name, SSL_FILETYPE_PEM) == 1);
    CHECK(SSL_CTX_use_PrivateKey_file(giving, files.key_file_name, SSL_FILETYPE_PEM) == 1);
    CHECK(SSL_CTX_set_max_early_data(giving, early_bytes) == 1);
    SSL *server = in_memory(giving), *taker = in_memory(taking);
    SSL_set_accept_state(server);
    SSL_set_connect_state(taker);
    char byte;
    for (int i = 0; i < 4; i++) {
        (void) SSL_read(taker, &byte, 1); /* makes the handshake, and takes tickets */
        move(taker, server);
        (void) SSL_read(server, &byte, 1);
        move(server, taker);
    }
    ERR_clear_error();
    SSL_SESSION *session = SSL_get1_session(taker);
    CHECK_EQUAL(SSL_SESSION_get_max_early_data(session), early_bytes);
    SSL_set_shutdown(taker, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(server);
    SSL_free(taker);
    SSL_CTX_free(giving);
    SSL_CTX_free(taking);
    return session;
}

/* TL-23: early data is off. A client that sends some all the same is told, and what it sends
 * when the handshake is over arrives; who sends a lot of it is cut off. */
static void early_data_is_dropped(void) {
    SSL_SESSION *session = session_that_allows(1024 * 1024);
    size_t written;
    tls_open();
    for (int times = 1; times <= 100; times += 99) {
        struct peer *p = peer_of(TLS1_3_VERSION);
        SSL_set_session(p->ssl, session);
        for (int i = 0; i < times; i++) CHECK(SSL_write_early_data(p->ssl, text, 1000, &written) == 1 && written == 1000);
        pass(p);
        CHECK(greet(p) || times > 1);
        pass(p);
        CHECK_EQUAL(seen.bytes, 0);
        CHECK_EQUAL(seen.closed, times > 1);
        if (times == 1) {
            CHECK_EQUAL(SSL_get_early_data_status(p->ssl), SSL_EARLY_DATA_REJECTED);
            CHECK(!SSL_session_reused(p->ssl));
            tell(p, "late", 4);
            CHECK_EQUAL(seen.bytes, 4);
            us_socket_context_close(1, context);
            seen.bytes = seen.closed = seen.opened = 0;
        }
        peer_free(p);
        settle();
    }
    SSL_SESSION_free(session);
    tls_close();
}

/* TL-23: no session of ours allows any. */
static void our_sessions_allow_no_early_data(void) {
    char byte;
    tls_open();
    us_socket_context_on_data(1, context, echo);
    struct peer *p = greeted(TLS1_3_VERSION);
    tell(p, "x", 1);
    CHECK_EQUAL(listen_to(p, &byte, 1), 1);
    SSL_SESSION *session = SSL_get1_session(p->ssl);
    CHECK(SSL_SESSION_is_resumable(session));
    CHECK_EQUAL(SSL_SESSION_get_max_early_data(session), 0);
    SSL_SESSION_free(session);
    peer_free(p);
    settle();
    tls_close();
}

/* ---- A peer that does not read ------------------------------------------- */

/* TL-08: tickets that the peer does not take hold nothing up but what is behind them. */
static void tickets_that_nobody_takes(void) {
    char got[8];
    tls_open();
    struct peer *p = peer_of(TLS1_3_VERSION);
    CHECK(SSL_do_handshake(p->ssl) != 1);
    pass_once(p);
    CHECK_EQUAL(SSL_do_handshake(p->ssl), 1);
    fail_next(CALL_SEND, EAGAIN, 1 << 20);
    CHECK_EQUAL(SSL_write(p->ssl, "one", 3), 3); /* behind the Finished */
    pass_once(p);
    CHECK_EQUAL(seen.bytes, 3);
    CHECK(us_socket_unsent(seen.last) > 0);
    CHECK_EQUAL(us_socket_write(1, seen.last, "no", 2, 0), 0);
    for (int i = 1; i <= 100; i++) {
        CHECK_EQUAL(SSL_write(p->ssl, "more", 4), 4);
        pass_once(p);
        CHECK_EQUAL(seen.bytes, 3 + 4 * i);
    }
    int before = seen.writable;
    fail_nothing();
    pass(p);
    CHECK_EQUAL(us_socket_unsent(seen.last), 0);
    CHECK_EQUAL(seen.writable, before + 1);
    CHECK_EQUAL(us_socket_write(1, seen.last, "yes", 3, 0), 3);
    CHECK_EQUAL(listen_to(p, got, 3), 3);
    CHECK(memcmp(got, "yes", 3) == 0);
    peer_free(p);
    settle();
    tls_close();
}

/* TL-08: what a peer makes us say without reading any of it has a bound: then it is cut off. */
static void answers_that_nobody_takes(void) {
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    fail_next(CALL_SEND, EAGAIN, 1 << 30);
    for (int i = 0; i < 100000 && !seen.closed; i++) { /* each is an answer of 27 bytes */
        CHECK_EQUAL(SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        (void) SSL_do_handshake(p->ssl);
        if (i % 500 == 499) { /* data in between, so that the updates alone are no reason */
            CHECK_EQUAL(SSL_write(p->ssl, "x", 1), 1);
            pass_once(p);
        }
        CHECK(!seen.last || us_socket_unsent(seen.last) <= 2 * 1024 * 1024);
    }
    CHECK_EQUAL(seen.closed, 1);
    CHECK_EQUAL(seen.code, ECONNABORTED);
    fail_nothing();
    peer_free(p);
    tls_close();
}

/* ---- Writes amid reads --------------------------------------------------- */

enum { TOTAL = 100000 };

static struct {
    char data[TOTAL];
    int length, sent;
} echoes;

static struct us_socket_t *echo_rest(struct us_socket_t *s) {
    for (int taken = 1; taken && echoes.sent < echoes.length; echoes.sent += taken) {
        int piece = echoes.length - echoes.sent < 7777 ? echoes.length - echoes.sent : 7777;
        taken = us_socket_write(1, s, echoes.data + echoes.sent, piece, 0);
        CHECK(taken == 0 || taken == piece);
    }
    return s;
}

static struct us_socket_t *echo_in_pieces(struct us_socket_t *s, char *data, int length) {
    count_data(s, data, length);
    CHECK(echoes.length + length <= TOTAL);
    memcpy(echoes.data + echoes.length, data, (size_t) length);
    echoes.length += length;
    return echo_rest(s);
}

/* TL-24: answers written while more records are there, and half of one: no input is lost. */
static void writes_amid_reads(int version, size_t piece, int record) {
    static char wire[2 * TOTAL], got[TOTAL];
    tls_open();
    memset(&echoes, 0, sizeof echoes);
    us_socket_context_on_data(1, context, echo_in_pieces);
    us_socket_context_on_writable(1, context, echo_rest);
    struct peer *p = greeted(version);
    p->piece = piece;
    for (int at = 0; at < TOTAL; at += record) {
        int length = TOTAL - at < record ? TOTAL - at : record;
        CHECK_EQUAL(SSL_write(p->ssl, text + at, length), length);
    }
    int length = BIO_read(p->out, wire, sizeof wire);
    peer_send_raw(p, wire, (size_t) length);
    CHECK_EQUAL(listen_to(p, got, TOTAL), TOTAL);
    CHECK(memcmp(got, text, TOTAL) == 0);
    CHECK(seen.bytes == TOTAL && echoes.sent == TOTAL);
    peer_free(p);
    settle();
    tls_close();
}

static void no_input_is_lost(void) {
    static const size_t pieces[] = {0, 997, 16384 + 22, 50000};
    static const int records[] = {100, 1000, 16384};
    for (size_t i = 0; i < 12; i++) {
        writes_amid_reads(TLS1_3_VERSION, pieces[i / 3], records[i % 3]);
        writes_amid_reads(TLS1_2_VERSION, pieces[i / 3], records[i % 3]);
    }
}

/* ---- Sends that take a part ---------------------------------------------- */

/* Writes from memory that is gone, and full of something else, right after. */
static int write_and_forget(struct us_socket_t *s, const char *data, int length) {
    char *moved = malloc((size_t) length);
    memcpy(moved, data, (size_t) length);
    int taken = us_socket_write(1, s, moved, length, 0);
    memset(moved, '!', (size_t) length);
    free(moved);
    return taken;
}

/* TL-25: the same bytes leave whatever part of them a send takes: ends within a record, at
 * its end, and one byte off; from memory that has moved. */
static void sends_that_take_a_part(void) {
    static const size_t limits[] = {7, 22, 100, 16405, 16406, 16407, 32811, 32812, 32813};
    static char got[40000];
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        tls_open();
        struct peer *p = greeted(TLS1_3_VERSION);
        faults.send_limit = limits[i];
        CHECK_EQUAL(write_and_forget(seen.last, text, 40000), 40000);
        CHECK_EQUAL(write_and_forget(seen.last, "no", 2), 0);
        CHECK_EQUAL(listen_to(p, got, sizeof got), sizeof got);
        CHECK(memcmp(got, text, sizeof got) == 0);
        CHECK_EQUAL(seen.writable, 1);
        peer_free(p);
        settle();
        tls_close();
    }
}

/* TL-25: the peer asks for new keys while records wait: the answer waits behind them, and
 * what is written later is in the new keys. WANT_READ on a write and WANT_WRITE on a read
 * cannot be: the buffers of the BIO take all, and a renegotiation is refused. */
static void new_keys_amid_waiting_records(void) {
    static char got[50000];
    tls_open();
    us_socket_context_on_data(1, context, count_data);
    struct peer *p = greeted(TLS1_3_VERSION);
    fail_next(CALL_SEND, EAGAIN, 1 << 20);
    CHECK_EQUAL(write_and_forget(seen.last, text, 40000), 40000);
    CHECK_EQUAL(SSL_key_update(p->ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    CHECK_EQUAL(SSL_do_handshake(p->ssl), 1);
    CHECK_EQUAL(SSL_write(p->ssl, "in new keys", 11), 11);
    pass_once(p);
    CHECK_EQUAL(seen.bytes, 11);
    fail_nothing();
    CHECK_EQUAL(listen_to(p, got, 40000), 40000);
    CHECK_EQUAL(write_and_forget(seen.last, text + 40000, 10000), 10000);
    CHECK_EQUAL(listen_to(p, got + 40000, 10000), 10000);
    CHECK(memcmp(got, text, 50000) == 0);
    peer_free(p);
    settle();
    tls_close();
}

/* ---- OpenSSL fails ------------------------------------------------------- */

static void ends_without_a_word(struct peer *p) {
    CHECK_EQUAL(us_socket_write(1, seen.last, "more", 4, 0), 0);
    CHECK_EQUAL(seen.closed, 0); /* not from inside the write */
    CHECK(ERR_peek_error() == 0);
    pump(&seen.closed, 1);
    CHECK_EQUAL(seen.code, EPROTO);
    CHECK(!notified(p) && p->ended);
    peer_free(p);
    tls_close();
}

/* TL-26: a write that fails for good closes the connection, in an iteration to come. */
static void a_write_that_fails_for_good(void) {
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    fail_next(CALL_ALLOC, ENOMEM, 1 << 20);
    CHECK_EQUAL(us_socket_write(1, seen.last, text, 60000, 0), 0);
    fail_nothing();
    ends_without_a_word(p);

    tls_open();
    p = greeted(TLS1_2_VERSION);
    (void) SSL_shutdown(us_socket_get_native_handle(1, seen.last)); /* behind our back: no write can follow */
    CHECK_EQUAL(us_socket_write(1, seen.last, "hello", 5, 0), 0);
    ends_without_a_word(p);

    tls_open();
    FILE *file = tmpfile();
    CHECK(file && fwrite(text, 1, 60000, file) == 60000 && fflush(file) == 0);
    p = greeted(TLS1_3_VERSION);
    fail_next(CALL_ALLOC, ENOMEM, 1 << 20);
    CHECK(us_socket_sendfile(1, seen.last, fileno(file), 0, 60000) <= 0);
    fail_nothing();
    fclose(file);
    ends_without_a_word(p);
}

/* ---- An end in every callback -------------------------------------------- */

enum event { EVENT_OPEN, EVENT_HANDSHAKE_OVER, EVENT_DATA, EVENT_DRAINED, EVENT_TIMEOUT, EVENT_END, EVENT_FAILURE, EVENT_NAME, EVENT_CLOSE, EVENTS };
enum action { ACTION_CLOSE, ACTION_CUT, ACTION_SHUTDOWN, ACTION_WRITE_CLOSE, ACTION_SHUTDOWN_CLOSE, ACTION_CLOSE_ALL, ACTIONS };

static struct {
    enum event event;
    enum action action;
    int done, over;
    struct us_socket_t *socket;
} end;

static struct us_socket_t *act(enum event event, struct us_socket_t *s) {
    if (event != end.event || end.done) return s;
    end.done = 1;
    switch (end.action) {
    case ACTION_CLOSE: return us_socket_close(1, s, 0, NULL);
    case ACTION_CUT: return us_socket_close(1, s, 7, NULL);
    case ACTION_SHUTDOWN: us_socket_shutdown(1, s); return s;
    case ACTION_WRITE_CLOSE: (void) us_socket_write(1, s, text, 20000, 0); return us_socket_close(1, s, 0, NULL);
    case ACTION_SHUTDOWN_CLOSE: us_socket_shutdown(1, s); return us_socket_close(1, s, 0, NULL);
    default: us_socket_context_close(1, context); return s;
    }
}

static struct us_socket_t *end_open(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    count_open(s, is_client, ip, ip_length);
    end.socket = s;
    (void) us_socket_write(1, s, "early", 5, 0); /* so that on_writable tells the end of the handshake */
    return act(EVENT_OPEN, s);
}

static struct us_socket_t *end_writable(struct us_socket_t *s) {
    enum event now = end.over++ ? EVENT_DRAINED : EVENT_HANDSHAKE_OVER;
    return act(now, count_writable(s));
}

static struct us_socket_t *end_data(struct us_socket_t *s, char *data, int length) {
    return act(EVENT_DATA, count_data(s, data, length));
}

static struct us_socket_t *end_timeout(struct us_socket_t *s) {
    return act(EVENT_TIMEOUT, count_timeout(s));
}

static struct us_socket_t *end_end(struct us_socket_t *s) {
    return act(EVENT_END, count_end(s));
}

static void end_failure(struct us_socket_t *s, const char *reason, int plain) {
    CHECK(reason && *reason && !plain);
    (void) act(EVENT_FAILURE, s);
}

static void end_name(struct us_socket_context_t *c, const char *hostname) {
    CHECK(c == context && strcmp(hostname, "any.example") == 0);
    (void) act(EVENT_NAME, end.socket);
}

static struct us_socket_t *end_close(struct us_socket_t *s, int code, void *reason) {
    count_close(s, code, reason);
    (void) act(EVENT_CLOSE, s);
    return s;
}

/* A life with all events, in the order of the list. */
static void a_whole_life(struct peer *p, int broken) {
    static char got[30000];
    SSL_set_tlsext_host_name(p->ssl, "any.example");
    if (!greet(p) || seen.closed) return;
    tell(p, "hello", 5);
    if (seen.closed) return;
    faults.send_limit = 5000;
    (void) us_socket_write(1, end.socket, text, sizeof got, 0);
    (void) listen_to(p, got, sizeof got);
    faults.send_limit = 0;
    if (seen.closed) return;
    us_socket_timeout(1, end.socket, 4);
    for (int i = 0; i < 2; i++) us_loop_sweep(loop);
    if (seen.closed) return;
    if (broken) {
        peer_send_raw(p, "\x17\x03\x03\x00\x20 this was never encrypted by anyone", 40);
        return;
    }
    SSL_shutdown(p->ssl);
    pass(p);
}

static void end_in(enum event event, enum action action, int version) {
    memset(&end, 0, sizeof end);
    end.event = event;
    end.action = action;
    tls_open();
    us_socket_context_on_open(1, context, end_open);
    us_socket_context_on_writable(1, context, end_writable);
    us_socket_context_on_data(1, context, end_data);
    us_socket_context_on_timeout(1, context, end_timeout);
    us_socket_context_on_end(1, context, end_end);
    us_socket_context_on_close(1, context, end_close);
    us_socket_context_on_tls_failure(context, end_failure);
    us_socket_context_on_server_name(1, context, end_name);
    struct peer *p = peer_of(version);
    a_whole_life(p, event == EVENT_FAILURE);
    if (!seen.closed) us_socket_close(1, end.socket, 0, NULL);
    pass(p);
    CHECK_EQUAL(end.done, 1);
    CHECK_EQUAL(seen.closed, 1);
    CHECK(p->ended);
    peer_free(p);
    tls_close();
}

/* TL-27: every way to end a connection, inside each of its callbacks. */
static void an_end_in_every_callback(void) {
    for (int event = 0; event < EVENTS; event++) {
        for (int action = 0; action < ACTIONS; action++) {
            end_in((enum event) event, (enum action) action, TLS1_3_VERSION);
            end_in((enum event) event, (enum action) action, TLS1_2_VERSION);
        }
    }
}

/* ---- What is on, and what is off ----------------------------------------- */

/* TL-29: a connection that is idle holds no buffers of records. */
static void idle_connections_hold_no_buffers(void) {
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    CHECK(SSL_get_mode((SSL *) us_socket_get_native_handle(1, seen.last)) & SSL_MODE_RELEASE_BUFFERS);
    CHECK_EQUAL(us_socket_unsent(seen.last), 0);
    peer_free(p);
    settle();
    tls_close();
}

/* TL-31: the kernel encrypts nothing. With a BIO of ours, by which a flush of many records is
 * one send, it cannot; it would need a second path, and a measurement that is worth one. */
static void the_kernel_encrypts_nothing(void) {
#ifdef SSL_OP_ENABLE_KTLS
    tls_open();
    struct peer *p = greeted(TLS1_3_VERSION);
    SSL *ssl = us_socket_get_native_handle(1, seen.last);
    CHECK(!(SSL_get_options(ssl) & SSL_OP_ENABLE_KTLS));
    CHECK(!BIO_get_ktls_send(SSL_get_wbio(ssl)) && !BIO_get_ktls_recv(SSL_get_rbio(ssl)));
    peer_free(p);
    settle();
    tls_close();
#endif
}

int main(void) {
    for (size_t i = 0; i < sizeof text; i++) text[i] = (char) (i * 7 + (i >> 8));
    make_folder();
    make_certificate("server", NULL, -1, 30);
    RUN(the_queue_of_errors);
    RUN(who_is_in_is_served_while_others_come);
    RUN(who_waits_runs_out_of_time);
    RUN(early_data_is_dropped);
    RUN(our_sessions_allow_no_early_data);
    RUN(tickets_that_nobody_takes);
    RUN(answers_that_nobody_takes);
    RUN(no_input_is_lost);
    RUN(sends_that_take_a_part);
    RUN(new_keys_amid_waiting_records);
    RUN(a_write_that_fails_for_good);
    RUN(an_end_in_every_callback);
    RUN(idle_connections_hold_no_buffers);
    RUN(the_kernel_encrypts_nothing);
    unlink(in_folder("server.pem"));
    unlink(in_folder("server.key"));
    CHECK(rmdir(folder) == 0);
    return check_result();
}
