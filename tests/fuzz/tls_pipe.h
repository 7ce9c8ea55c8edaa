/* Puts TLS under the clients of a server in memory: what a client sends is encrypted on
 * its way, and what it is sent is decrypted, so that a target for plain connections runs
 * over TLS as it is. Room, errors and short sends are of the bytes beneath. */
#ifndef CK_TLS_PIPE_H
#define CK_TLS_PIPE_H

#include "fuzz.h"
#include "server.h"
#include "tls_material.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

typedef struct tls_pipe {
    peer *client;
    SSL *ssl;
    BIO *in, *out;
    size_t said;       /* bytes of the client's plaintext that are encrypted */
    char *wire;        /* encrypted; from `received` on not received */
    size_t received, wire_length;
    bool failed, notified;
} tls_pipe;

static struct {
    SSL_CTX *clients;
    tls_pipe *pipes[FDS_MAX];
    int count;
    char key[128], certificate[128];
} tls_pipes;

static inline tls_pipe *pipe_of(int fd)
{
    for (int i = 0; i < tls_pipes.count; i++)
        if (tls_pipes.pipes[i]->client == fd_of(fd)->client)
            return tls_pipes.pipes[i];
    return NULL;
}

static inline void pipe_judge(tls_pipe *pipe, int result)
{
    int error = SSL_get_error(pipe->ssl, result);
    pipe->failed = pipe->failed || error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL;
    ERR_clear_error();
}

/* Takes over what OpenSSL has to say. */
static inline void pipe_collect(tls_pipe *pipe)
{
    size_t waiting = (size_t)BIO_ctrl_pending(pipe->out);
    if (pipe->received == pipe->wire_length)
        pipe->received = pipe->wire_length = 0;
    if (waiting > 0) {
        pipe->wire = realloc(pipe->wire, pipe->wire_length + waiting);
        DEMAND(pipe->wire && BIO_read(pipe->out, pipe->wire + pipe->wire_length, (int)waiting) == (int)waiting);
        pipe->wire_length += waiting;
    }
    peer *client = pipe->client;
    client->beneath = pipe->wire_length - pipe->received;
    client->hidden = pipe->failed || !SSL_is_init_finished(pipe->ssl);
    if (pipe->said == client->in_length && client->beneath == 0)
        client->in_taken = client->in_length;
}

/* Encrypts what the client has sent meanwhile, and its end. */
static inline void pipe_say(tls_pipe *pipe)
{
    const peer *client = pipe->client;
    ERR_clear_error();
    while (!pipe->failed && SSL_is_init_finished(pipe->ssl) && pipe->said < client->in_length) {
        size_t left = client->in_length - pipe->said;
        int result = SSL_write(pipe->ssl, client->in + pipe->said, (int)(left < 16384 ? left : 16384));
        if (result <= 0)
            pipe_judge(pipe, result);
        else
            pipe->said += (size_t)result;
    }
    if (client->fin && !pipe->failed && !pipe->notified && SSL_is_init_finished(pipe->ssl)) {
        pipe->notified = true;
        (void)SSL_shutdown(pipe->ssl);
        ERR_clear_error();
    }
    pipe_collect(pipe);
}

/* Decrypts what has come. Returns the bytes of plaintext. */
static inline size_t pipe_hear(tls_pipe *pipe)
{
    static char part[16384];
    peer *client = pipe->client;
    size_t before = client->out_length;
    int result = 1;
    if (!pipe->failed && !SSL_is_init_finished(pipe->ssl)) {
        result = SSL_do_handshake(pipe->ssl);
        if (result <= 0)
            pipe_judge(pipe, result);
    }
    while (result > 0 && !pipe->failed) {
        result = SSL_read(pipe->ssl, part, sizeof part);
        if (result <= 0) {
            pipe_judge(pipe, result);
            break;
        }
        client->out = with_room(client->out, client->out_length + (size_t)result + 1, &client->out_capacity);
        memcpy(client->out + client->out_length, part, (size_t)result);
        client->out_length += (size_t)result;
        client->out[client->out_length] = '\0';
    }
    pipe_collect(pipe);
    return client->out_length - before;
}

/* ---- In place of calls of the table ---- */

static inline int tls_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags)
{
    int accepted = s_accept4(sys, fd, address, length, flags);
    if (accepted < 0)
        return accepted;
    tls_pipe *pipe = calloc(1, sizeof *pipe);
    DEMAND(pipe != NULL);
    tls_pipes.pipes[tls_pipes.count++] = pipe;
    pipe->client = fd_of(accepted)->client;
    pipe->ssl = SSL_new(tls_pipes.clients);
    pipe->in = BIO_new(BIO_s_mem());
    pipe->out = BIO_new(BIO_s_mem());
    DEMAND(pipe->ssl && pipe->in && pipe->out);
    BIO_set_mem_eof_return(pipe->in, -1);
    SSL_set_bio(pipe->ssl, pipe->in, pipe->out);
    SSL_set_connect_state(pipe->ssl);
    (void)pipe_hear(pipe);
    return accepted;
}

static inline ssize_t tls_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags)
{
    (void)sys;
    tls_pipe *pipe = pipe_of(fd);
    peer *client = pipe->client;
    DEMAND(ERR_peek_error() == 0);
    if (client->receive_error) {
        errno = client->receive_error;
        return -1;
    }
    pipe_say(pipe);
    if (client->beneath == 0) {
        errno = EAGAIN;
        return client->fin ? 0 : -1;
    }
    size_t there = client->beneath < length ? client->beneath : length;
    there = world.read_most && there > world.read_most ? world.read_most : there;
    memcpy(buffer, pipe->wire + pipe->received, there);
    if (flags & MSG_PEEK)
        return (ssize_t)there;
    pipe->received += there;
    world.moved++;
    pipe_collect(pipe);
    return (ssize_t)there;
}

static inline ssize_t tls_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags)
{
    (void)sys, (void)flags;
    tls_pipe *pipe = pipe_of(fd);
    peer *client = pipe->client;
    DEMAND(ERR_peek_error() == 0 && count == 1); /* records lie in a row */
    if (client->send_error) {
        errno = client->send_error;
        return -1;
    }
    size_t takes = vector->iov_len;
    takes = client->most && client->most < takes ? client->most : takes;
    takes = client->room != UNLIMITED && (size_t)client->room < takes ? (size_t)client->room : takes;
    if (takes == 0) {
        errno = EAGAIN;
        return -1;
    }
    client->room -= client->room == UNLIMITED ? 0 : (long)takes;
    world.moved++;
    DEMAND(BIO_write(pipe->in, vector->iov_base, (int)takes) == (int)takes);
    ERR_clear_error();
    client->sends += pipe_hear(pipe) > 0;
    return (ssize_t)takes;
}

static inline ssize_t tls_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags)
{
    struct iovec vector = {.iov_base = (void *)(uintptr_t)buffer, .iov_len = length};
    return tls_sendv(sys, fd, &vector, 1, flags);
}

static inline uint32_t make_tls_app(const ck_limits *limits)
{
    const ck_tls_options options = {.key_file = tls_pipes.key, .certificate_file = tls_pipes.certificate};
    return ck_app_create_tls(limits, &options);
}

/* ---- A run ---- */

/* Behind reset_world, before the server is opened. */
static inline void tls_pipe_open(void)
{
    if (!tls_pipes.clients) {
        tls_material_make();
        tls_pipes.clients = SSL_CTX_new(TLS_client_method());
        DEMAND(tls_pipes.clients != NULL);
        snprintf(tls_pipes.key, sizeof tls_pipes.key, "%s", tls_material_path("server.key"));
        snprintf(tls_pipes.certificate, sizeof tls_pipes.certificate, "%s", tls_material_path("server.pem"));
    }
    tls_seed(2);
    world.sys.accept4 = tls_accept4;
    world.sys.recv = tls_recv;
    world.sys.send = tls_send;
    world.sys.sendv = tls_sendv;
    world.make_app = make_tls_app;
}

static inline void tls_pipe_close(void)
{
    for (int i = 0; i < tls_pipes.count; i++) {
        SSL_free(tls_pipes.pipes[i]->ssl);
        free(tls_pipes.pipes[i]->wire);
        free(tls_pipes.pipes[i]);
    }
    tls_pipes.count = 0;
    ERR_clear_error();
}

#endif
