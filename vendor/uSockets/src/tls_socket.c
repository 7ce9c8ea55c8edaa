/* Sockets that speak TLS, by OpenSSL (3, or 1.1.1): their life, sending and receiving.
 *
 * OpenSSL never touches a descriptor. What is received goes into a buffer of the loop,
 * from which a BIO of ours feeds it; what it has to say is gathered in another one and
 * leaves in one send when the call is over. So a handshake's flight is one send, and so
 * are all records of one write.
 *
 *  - All that was received is decrypted before the application sees any of it, in one
 *    call of on_data: OpenSSL is never entered from inside itself, and nothing is
 *    left in it that no event would announce.
 *  - A record that is encrypted cannot be taken back. What the kernel does not take of
 *    it waits with the socket, is accepted all the same, and leaves before anything
 *    else; up to then no write is accepted.
 *  - Before the handshake is over no write is accepted either; on_writable comes after.
 *  - The error queue belongs to the thread, not to a socket: it is empty before each
 *    call and after, also for whoever else uses OpenSSL here.
 *  - close_notify of the peer is the end of its stream (on_end). A FIN without it is one
 *    too, and us_socket_was_truncated tells the difference. */
#include "tls_openssl.h"

#ifndef LIBUS_NO_SSL

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <string.h>

enum {
    RECORD = 16384,               /* bytes of plaintext in a full record */
    BATCH = 4 * RECORD,           /* of records that leave in one send */
    INPUT = 128 * 1024,           /* received at once; decrypted it fits the loop's buffer */
    WAITING_MOST = 1024 * 1024,   /* of answers that the peer does not take */
    HANDSHAKES = 5,               /* steps of them in an iteration, so that traffic goes on */
    MESSAGES_MOST = 1000,         /* of the peer's handshake layer without any data between */
    SEGMENT_RECORD = 1369,        /* with 5 + 1 + 16 bytes of TLS, 40 of IPv6, 32 of TCP: in 1500 there is room to spare */
    MIDDLE_RECORD = 4229,         /* three segments */
    RECORDS_EACH = 40,            /* of those, then of these */
    PAUSE_NS = 1000000000,        /* after which they begin again */
    PREFIX_MOST = 65536           /* in the clear before TLS */
};

/* What the sockets of a loop share. */
struct us_internal_tls_loop {
    long long iteration; /* that `handshakes` is about */
    int handshakes;
    char *out; /* what OpenSSL has to say in the running call */
    size_t out_length, out_capacity;
    char in[INPUT];
    char record[RECORD]; /* of plaintext that lies in two places */
};

/* Looking at the queue costs less than emptying it, and it is empty nearly always. */
static void forget_errors(void) {
    if (ERR_peek_error()) ERR_clear_error();
}

/* ---- The BIO ------------------------------------------------------------- */

static int bio_read(BIO *bio, char *to, int length) {
    struct us_internal_tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (!tls->input_length) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t n = (size_t) length < tls->input_length ? (size_t) length : tls->input_length;
    memcpy(to, tls->input, n);
    tls->input += n;
    tls->input_length -= n;
    return (int) n;
}

static int bio_write(BIO *bio, const char *data, int length) {
    struct us_internal_tls *tls = BIO_get_data(bio);
    struct us_internal_tls_loop *shared = tls->loop->tls;
    struct us_sys_t *sys = tls->loop->sys;
    size_t wanted = shared->out_length + (size_t) length;
    BIO_clear_retry_flags(bio);
    if (wanted > shared->out_capacity) {
        char *larger = sys->resize(sys, shared->out, 2 * wanted);
        if (!larger) return -1;
        shared->out = larger;
        shared->out_capacity = 2 * wanted;
    }
    memcpy(shared->out + shared->out_length, data, (size_t) length);
    shared->out_length = wanted;
    return length;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void) bio, (void) number, (void) pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_method_once = PTHREAD_ONCE_INIT;

static void make_bio_method(void) {
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "us_socket");
    if (method && BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write) && BIO_meth_set_ctrl(method, bio_control)) {
        bio_method = method;
    } else {
        BIO_meth_free(method);
    }
}

/* ---- Life: of what the sockets of a loop share, and of each --------------- */

int us_internal_tls_prepare_loop(struct us_loop_t *loop) {
    pthread_once(&bio_method_once, make_bio_method);
    if (bio_method && !loop->tls) loop->tls = us_internal_alloc(loop, sizeof *loop->tls, 0);
    if (bio_method && loop->tls) return 0;
    return us_internal_tls_out_of_memory("cannot make a TLS context");
}

void us_internal_tls_loop_free(struct us_loop_t *loop) {
    if (!loop->tls) return;
    if (loop->tls->out) loop->sys->release(loop->sys, loop->tls->out);
    loop->sys->release(loop->sys, loop->tls);
    loop->tls = NULL;
}

int us_internal_tls_attach(struct us_socket_context_t *context, struct us_socket_t *s, const char *server) {
    struct us_loop_t *loop = context->loop;
    struct us_internal_tls *tls = us_internal_alloc(loop, sizeof *tls, 0);
    BIO *bio = NULL;
    int error = ENOMEM;
    if (!tls) return -1;
    tls->loop = loop;
    if (!(tls->ssl = SSL_new(context->tls->identity.context)) || !(bio = BIO_new(bio_method))) goto fail;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    if (!SSL_set_app_data(tls->ssl, tls)) goto fail;
    if (!server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        tls->server = us_internal_tls_mean_server(loop, &context->tls->clients, tls->ssl, server);
        error = errno;
        if (!tls->server) goto fail;
    }
    tls->context = us_internal_tls_context_hold(context->tls);
    tls->record_size = context->tls->identity.settings.record_size;
    s->tls = tls;
    return 0;

fail:
    SSL_free(tls->ssl);
    forget_errors();
    loop->sys->release(loop->sys, tls);
    errno = error;
    return -1;
}

void us_internal_tls_free(struct us_loop_t *loop, struct us_internal_tls *tls) {
    if (!tls) return;
    if (tls->waiting) loop->sys->release(loop->sys, tls->waiting);
    if (tls->server_name) loop->sys->release(loop->sys, tls->server_name);
    if (tls->prefix) loop->sys->release(loop->sys, tls->prefix);
    /* Else a session that ended without close_notify could not be resumed. */
    if (tls->established && !tls->failed) SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(tls->ssl);
    if (tls->server) loop->sys->release(loop->sys, tls->server);
    us_internal_tls_context_release(loop, tls->context);
    forget_errors();
    loop->sys->release(loop->sys, tls);
}

/* Adds bytes to those that are kept. Returns 0, or -1 without memory. */
static int append(struct us_sys_t *sys, char **kept, size_t *kept_length, const char *data, size_t length) {
    char *larger = sys->resize(sys, *kept, *kept_length + length);
    if (!larger) return -1;
    memcpy(larger + *kept_length, data, length);
    *kept = larger;
    *kept_length += length;
    return 0;
}

/* ---- Sending ------------------------------------------------------------- */

static void drop_waiting(struct us_internal_tls *tls) {
    struct us_sys_t *sys = tls->loop->sys;
    if (tls->waiting) sys->release(sys, tls->waiting);
    tls->waiting = NULL;
    tls->waiting_offset = tls->waiting_length = 0;
}

/* Keeps bytes behind those that wait. Returns 0, or -1 without memory. */
static int keep_waiting(struct us_internal_tls *tls, const char *data, size_t length) {
    if (tls->waiting_offset) memmove(tls->waiting, tls->waiting + tls->waiting_offset, tls->waiting_length);
    tls->waiting_offset = 0;
    return append(tls->loop->sys, &tls->waiting, &tls->waiting_length, data, length);
}

/* Sends what OpenSSL has said; what the kernel does not take waits. */
static void send_out(struct us_socket_t *s, int msg_more) {
    struct us_internal_tls *tls = s->tls;
    struct us_internal_tls_loop *shared = tls->loop->tls;
    size_t length = shared->out_length, taken = 0;
    shared->out_length = 0;
    if (!length || s->p.flags & (POLL_DEAD | SOCKET_SEND_FAILED)) return;
    if (!tls->waiting_length) taken = (size_t) us_internal_socket_send(s, shared->out, (int) length, msg_more);
    if (taken == length || s->p.flags & SOCKET_SEND_FAILED) return;
    if (tls->waiting_length + length - taken > WAITING_MOST + 2 * BATCH) us_internal_socket_send_failed(s, ECONNABORTED);
    else if (keep_waiting(tls, shared->out + taken, length - taken)) us_internal_socket_send_failed(s, ENOMEM);
}

int us_internal_tls_waiting(struct us_socket_t *s) {
    return s->p.flags & SOCKET_SEND_FAILED ? 0 : (int) s->tls->waiting_length;
}

int us_internal_tls_drain(struct us_socket_t *s) {
    struct us_internal_tls *tls = s->tls;
    if (tls->waiting_length) {
        int length = (int) tls->waiting_length;
        int taken = us_internal_socket_send(s, tls->waiting + tls->waiting_offset, length, 0);
        tls->waiting_offset += (size_t) taken;
        tls->waiting_length -= (size_t) taken;
        if (tls->waiting_length) return 0;
        drop_waiting(tls);
    }
    return tls->established || s->p.flags & SOCKET_SHUT_DOWN;
}

/* Whether a write can be accepted now; if not, on_writable will come. */
static int may_write(struct us_internal_tls *tls) {
    if (!tls->established) tls->refused = 1;
    return tls->established && !tls->waiting_length && !tls->busy && !tls->failed;
}

/* A write begins: after a pause so do the small records. */
static void note_write(struct us_internal_tls *tls) {
    if (tls->record_size != LIBUS_RECORDS_DYNAMIC) return;
    int64_t now = tls->loop->sys->monotonic_ns(tls->loop->sys);
    if (now - tls->wrote_ns > PAUSE_NS) tls->records = 0;
    tls->wrote_ns = now;
}

/* Bytes of data in the next record. */
static int record_length(const struct us_internal_tls *tls) {
    if (tls->record_size != LIBUS_RECORDS_DYNAMIC) return tls->record_size ? tls->record_size : RECORD;
    if (tls->records < RECORDS_EACH) return SEGMENT_RECORD;
    return tls->records < 2 * RECORDS_EACH ? MIDDLE_RECORD : RECORD;
}

/* Makes one record, or several where the peer takes smaller ones only. Returns 0, or -1
 * when the socket cannot send any more. */
static int encrypt(struct us_socket_t *s, const char *data, int length) {
    struct us_internal_tls *tls = s->tls;
    int written = 1, done = 0;
    forget_errors();
    for (; done < length && written > 0; done += written > 0 ? written : 0) {
        written = SSL_write(tls->ssl, data + done, length - done);
        tls->loop->tls_records += written > 0;
        if (tls->records < 2 * RECORDS_EACH) tls->records++;
    }
    forget_errors();
    if (done == length) return 0;
    tls->failed = 1;
    tls->loop->tls->out_length = 0;
    us_internal_socket_send_failed(s, EPROTO);
    return -1;
}

/* Returns where the next `length` bytes of two parts lie in a row. */
static const char *in_a_row(struct us_internal_tls_loop *shared, const char *first, int first_length, const char *second, int at, int length) {
    if (at + length <= first_length) return first + at;
    if (at >= first_length) return second + (at - first_length);
    int of_first = first_length - at;
    memcpy(shared->record, first + at, (size_t) of_first);
    memcpy(shared->record + of_first, second, (size_t) (length - of_first));
    return shared->record;
}

int us_internal_tls_write(struct us_socket_t *s, const char *first, int first_length, const char *second, int second_length, int msg_more) {
    struct us_internal_tls *tls = s->tls;
    struct us_internal_tls_loop *shared = tls->loop->tls;
    int total = first_length + second_length, accepted = 0;
    note_write(tls);
    while (accepted < total && may_write(tls) && !(s->p.flags & SOCKET_SEND_FAILED)) {
        int batch = 0;
        while (accepted < total && batch < BATCH) {
            int most = record_length(tls), length = total - accepted < most ? total - accepted : most;
            if (encrypt(s, in_a_row(shared, first, first_length, second, accepted, length), length)) return accepted;
            accepted += length;
            batch += length;
        }
        send_out(s, msg_more);
    }
    return accepted;
}

int us_internal_tls_sendfile(struct us_socket_t *s, int file, int64_t offset, size_t length) {
    struct us_internal_tls *tls = s->tls;
    struct us_internal_tls_loop *shared = tls->loop->tls;
    size_t accepted = 0;
    ssize_t got = 1;
    note_write(tls);
    while (accepted < length && got > 0 && may_write(tls) && !(s->p.flags & SOCKET_SEND_FAILED)) {
        for (size_t batch = 0; accepted < length && batch < BATCH; batch += (size_t) got) {
            size_t most = (size_t) record_length(tls), wanted = length - accepted < most ? length - accepted : most;
            got = bsd_file_read(tls->loop->sys, file, shared->record, wanted, offset + (int64_t) accepted);
            if (got <= 0) break;
            if (encrypt(s, shared->record, (int) got)) return (int) accepted;
            accepted += (size_t) got;
        }
        int error = errno;
        send_out(s, 0);
        errno = error;
    }
    if (got == 0) errno = ENODATA;
    return got <= 0 && !accepted ? -1 : (int) accepted; /* the next call says what is wrong */
}

static void say_close_notify(struct us_internal_tls *tls) {
    forget_errors();
    (void) SSL_shutdown(tls->ssl);
    forget_errors();
}

int us_internal_tls_shutdown(struct us_socket_t *s) {
    struct us_internal_tls *tls = s->tls;
    if (tls->established && !tls->failed && !tls->busy) {
        say_close_notify(tls);
        send_out(s, 0);
    }
    return !tls->waiting_length || s->p.flags & SOCKET_SEND_FAILED;
}

void us_internal_tls_closing(struct us_socket_t *s, int code) {
    struct us_internal_tls *tls = s->tls;
    struct us_internal_tls_loop *shared = tls->loop->tls;
    int clean = !code && !(s->p.flags & (SOCKET_SHUT_DOWN | SOCKET_SEND_FAILED | SOCKET_BROKEN));
    if (!clean || !tls->established || tls->failed || tls->busy || tls->waiting_length) return;
    say_close_notify(tls);
    if (shared->out_length) (void) bsd_send(tls->loop->sys, s->p.fd, shared->out, shared->out_length, 0);
    shared->out_length = 0;
}

/* ---- Receiving ----------------------------------------------------------- */

int us_internal_tls_waits_its_turn(struct us_socket_t *s) {
    struct us_internal_tls_loop *shared = s->tls->loop->tls;
    if (shared->iteration != s->tls->loop->iteration) {
        shared->iteration = s->tls->loop->iteration;
        shared->handshakes = 0;
    }
    return !s->tls->established && shared->handshakes >= HANDSHAKES;
}

char *us_internal_tls_input(struct us_loop_t *loop, size_t *size) {
    *size = INPUT;
    return loop->tls->in;
}

/* Decrypts all there is into the loop's buffer. Returns the bytes; *error is OpenSSL's. Once
 * nothing is left it is not asked again, for which it would take a buffer and give it back. */
static size_t decrypt(struct us_internal_tls *tls, int *error) {
    char *to = tls->loop->recv_buffer;
    size_t got = 0;
    int result;
    tls->busy = 1;
    forget_errors();
    do {
        result = SSL_read(tls->ssl, to + got, (int) (LIBUS_RECV_BUFFER_LENGTH - got));
        if (result <= 0) break;
        got += (size_t) result;
        tls->messages = 0;
    } while (tls->input_length || SSL_has_pending(tls->ssl));
    *error = result > 0 ? SSL_ERROR_WANT_READ : SSL_get_error(tls->ssl, result);
    tls->busy = 0;
    return got;
}

/* Returns the socket to go on with, or NULL. */
static struct us_socket_t *go_on(struct us_socket_t *s) {
    return s && !(s->p.flags & POLL_DEAD) ? s : NULL;
}

static struct us_socket_t *tell_failure(struct us_socket_t *s, const char *reason, int plain) {
    if (s->tls->context->on_failure) s->tls->context->on_failure(s, reason, plain);
    return go_on(s);
}

static void end_failed(struct us_socket_t *s, const char *reason) {
    if (tell_failure(s, reason, 0)) us_socket_close(0, s, EPROTO, NULL);
}

/* Clients that speak plain text begin with a letter, servers with one or a number; no record does. */
static int is_plain(const struct us_internal_tls *tls, char first) {
    return tls->server ? first >= ' ' && first <= '~' : first >= 'A' && first <= 'Z';
}

static void answer_plain(struct us_socket_t *s) {
    struct us_internal_tls *tls = s->tls;
    const char *who = tls->server ? "the server speaks plain text where TLS is spoken" : "the client speaks plain text where TLS is spoken";
    tls->failed = tls->deaf = 1;
    if (!tell_failure(s, who, 1)) return;
    if (!tls->context->plain_answer || tls->server) {
        us_socket_close(0, s, EPROTO, NULL);
        return;
    }
    (void) us_internal_socket_send(s, tls->context->plain_answer, tls->context->plain_answer_length, 0);
    us_socket_shutdown(0, s);
}

static struct us_socket_t *handshake_over(struct us_socket_t *s) {
    struct us_internal_tls *tls = s->tls;
    tls->established = 1;
    tls->messages = 0;
    if (tls->context->on_handshake && !(s = go_on(tls->context->on_handshake(s)))) return NULL;
    if (!tls->refused || tls->waiting_length) return s; /* a drained socket is writable anyway */
    tls->refused = 0;
    return go_on(s->context->on_writable ? s->context->on_writable(s) : s);
}

static const char closed_early[] = "the server closed the connection in the middle of the handshake";

/* What is wrong with a server's certificate, or the reason that is still in the queue. */
static const char *reason_of(struct us_internal_tls *tls) {
    unsigned long error = ERR_peek_error();
    int looked_at = ERR_GET_LIB(error) == ERR_LIB_SSL && ERR_GET_REASON(error) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    return tls->server && looked_at ? X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl)) : us_internal_tls_queued_reason();
}

/* Returns NULL when nothing is wrong. */
static const char *failure(struct us_internal_tls *tls, int error) {
    if (tls->established && tls->messages > MESSAGES_MOST) return "too many handshake messages";
    switch (error) {
    case SSL_ERROR_NONE:
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: return NULL;
    case SSL_ERROR_ZERO_RETURN: return tls->server && !SSL_is_init_finished(tls->ssl) ? closed_early : NULL;
    case SSL_ERROR_SYSCALL: return "out of memory";
    default: return reason_of(tls);
    }
}

/* Says a client's first word. */
void us_internal_tls_greet(struct us_socket_t *s) {
    struct us_internal_tls *tls = s->tls;
    if (!tls->server || s->p.flags & (POLL_DEAD | SOCKET_SHUT_DOWN)) return;
    tls->busy = 1;
    forget_errors();
    int error = SSL_get_error(tls->ssl, SSL_do_handshake(tls->ssl));
    const char *reason = failure(tls, error);
    forget_errors();
    tls->busy = 0;
    tls->failed = reason != NULL;
    send_out(s, 0);
    if (reason) end_failed(s, reason);
}

static struct us_socket_t *deliver(struct us_socket_t *s, size_t length) {
    if (!length || s->p.flags & SOCKET_ENDED || !s->context->on_data) return s;
    return go_on(s->context->on_data(s, s->context->loop->recv_buffer, (int) length));
}

static int gather_prefix(struct us_internal_tls *tls, const char *data, size_t length) {
    return append(tls->loop->sys, &tls->prefix, &tls->prefix_length, data, length);
}

static size_t close_prefixed(struct us_socket_t *s, int error) {
    us_socket_close(0, s, error, NULL);
    return 0;
}

/* Takes away what comes in the clear before TLS. Returns the bytes of TLS behind it, which then
 * are the first of the input; 0: there is nothing to go on with. */
static size_t take_prefix(struct us_socket_t *s, size_t length) {
    struct us_internal_tls *tls = s->tls;
    char *in = tls->loop->tls->in;
    int first = !tls->prefix_length;
    if (!first && gather_prefix(tls, in, length)) return close_prefixed(s, ENOMEM);
    const char *all = first ? in : tls->prefix;
    size_t total = first ? length : tls->prefix_length;
    int taken = tls->context->on_prefix(s, all, (int) total);
    if (!go_on(s)) return 0;
    if (taken == LIBUS_PREFIX_REFUSED || (taken == LIBUS_PREFIX_MORE && total > PREFIX_MOST)) return close_prefixed(s, EPROTO);
    if (taken == LIBUS_PREFIX_MORE) return first && gather_prefix(tls, in, length) ? close_prefixed(s, ENOMEM) : 0;
    size_t left = taken > 0 ? total - (size_t) taken : total;
    if (left > INPUT) return close_prefixed(s, EPROTO);
    memmove(in, all + (total - left), left);
    if (tls->prefix) tls->loop->sys->release(tls->loop->sys, tls->prefix);
    tls->prefix = NULL;
    tls->prefixed = 1;
    return left;
}

void us_internal_tls_received(struct us_socket_t *s, size_t length) {
    struct us_internal_tls *tls = s->tls;
    struct us_internal_tls_loop *shared = tls->loop->tls;
    if (tls->deaf || tls->failed || s->p.flags & SOCKET_SEND_FAILED) return;
    if (tls->context->on_prefix && !tls->prefixed && !tls->server && !tls->begun && !(length = take_prefix(s, length))) return;
    if (!tls->begun && is_plain(tls, shared->in[0])) {
        answer_plain(s);
        return;
    }
    tls->begun = 1;
    tls->input = shared->in;
    tls->input_length = length;
    int error;
    size_t got = decrypt(tls, &error);
    const char *reason = failure(tls, error);
    forget_errors();
    tls->input_length = 0;
    tls->failed = reason != NULL;
    if (!go_on(s)) { /* by the callback for unknown names */
        shared->out_length = 0;
        return;
    }
    int over = !tls->established && !reason && SSL_is_init_finished(tls->ssl);
    if (!tls->established && (shared->out_length || over)) shared->handshakes++;
    send_out(s, 0);
    if (over) s = handshake_over(s);
    if (s) s = deliver(s, got);
    if (!s) return;
    if (reason) {
        end_failed(s, reason);
    } else if (error == SSL_ERROR_ZERO_RETURN && !tls->notified) {
        tls->notified = 1;
        us_internal_socket_saw_end(s, 0);
    }
}

void us_internal_tls_saw_fin(struct us_socket_t *s) {
    struct us_internal_tls *tls = s->tls;
    if (!tls->notified) tls->truncated = 1;
    if (!tls->server || tls->established || tls->failed || s->p.flags & (SOCKET_SHUT_DOWN | SOCKET_SEND_FAILED)) return;
    tls->failed = 1;
    end_failed(s, closed_early);
}

int us_internal_tls_was_truncated(struct us_socket_t *s) {
    return s->tls->truncated;
}

void *us_internal_tls_native(struct us_socket_t *s) {
    return s->tls->ssl;
}

#endif
