/* What the sockets ask of TLS. tls_socket.c answers, with the files beside it that know
 * OpenSSL, which are all other tls_*.c; in a library built with LIBUS_NO_SSL tls_none.c
 * does, which refuses to make a context, so that no socket ever has TLS.
 *
 * A socket speaks TLS when its `tls` is not NULL, whatever `ssl` a caller says. */
#ifndef US_TLS_H
#define US_TLS_H

#include "internal.h"

/* ---- Contexts ---- */

/* Returns NULL with errno and us_tls_error set. Destructor: us_internal_tls_context_release. */
struct us_internal_tls_context *us_internal_tls_context_create(struct us_loop_t *loop, struct us_socket_context_options_t options);
struct us_internal_tls_context *us_internal_tls_context_hold(struct us_internal_tls_context *tls);
void us_internal_tls_context_release(struct us_loop_t *loop, struct us_internal_tls_context *tls);
void us_internal_tls_loop_free(struct us_loop_t *loop);
/* The name that clients of a TLS context mean when they connect to `host`. Borrowed. */
const char *us_internal_tls_peer_name(struct us_socket_context_t *context, const char *host);

/* ---- Sockets ---- */

/* Gives a socket that is being opened its TLS: as a client of the `server` of that name
 * ("" = it has none), or as a server where it is NULL. Returns 0, or -1 with errno. */
int us_internal_tls_attach(struct us_socket_context_t *context, struct us_socket_t *s, const char *server);
/* Begins the handshake of a client; no effect on a server. Calls back: on_close. */
void us_internal_tls_greet(struct us_socket_t *s);
void us_internal_tls_free(struct us_loop_t *loop, struct us_internal_tls *tls);
/* Whether enough handshakes have gone on in this iteration: what came waits in the kernel. */
int us_internal_tls_waits_its_turn(struct us_socket_t *s);
/* Where received bytes go, and how many at most. */
char *us_internal_tls_input(struct us_loop_t *loop, size_t *size);
/* Takes received bytes. Calls back: on_writable, on_data, on_end, on_close. */
void us_internal_tls_received(struct us_socket_t *s, size_t length);
/* The peer's FIN has come: notes whether its close_notify was there before. A client whose
 * handshake it cuts off is closed. Calls back: on_close. */
void us_internal_tls_saw_fin(struct us_socket_t *s);
/* Encrypts and sends two parts. Returns the bytes accepted; their records may wait here. */
int us_internal_tls_write(struct us_socket_t *s, const char *first, int first_length, const char *second, int second_length, int msg_more);
/* Reads from a file, encrypts and sends. Returns the bytes accepted, or -1 with errno of the file. */
int us_internal_tls_sendfile(struct us_socket_t *s, int file, int64_t offset, size_t length);
/* Sends records that wait. Returns 1 when none does and the application may write. */
int us_internal_tls_drain(struct us_socket_t *s);
/* Sends close_notify. Returns 1 when the FIN may follow, 0 while records wait before it. */
int us_internal_tls_shutdown(struct us_socket_t *s);
/* The socket is about to close: says close_notify where the end is a clean one. */
void us_internal_tls_closing(struct us_socket_t *s, int code);
/* Bytes of records that wait for the kernel. */
int us_internal_tls_waiting(struct us_socket_t *s);
void *us_internal_tls_native(struct us_socket_t *s);
int us_internal_tls_was_truncated(struct us_socket_t *s);

/* ---- What TLS asks of the sockets (socket.c) ---- */

/* Sends bytes as they are. Returns those taken; what becomes of the rest is the caller's. */
int us_internal_socket_send(struct us_socket_t *s, const char *data, int length, int msg_more);
/* The socket can send no more, for `error`: it is closed in an iteration to come. */
void us_internal_socket_send_failed(struct us_socket_t *s, int error);
void us_internal_socket_saw_end(struct us_socket_t *s, int error);
int us_internal_file_failed(int error);

#endif
