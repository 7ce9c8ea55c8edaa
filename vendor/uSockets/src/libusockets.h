/* The uSockets interface: event loop, timers, socket contexts, listening, client
 * and stream sockets, datagrams, polls. What is declared here works; see README.md for what
 * the family has and this version leaves out.
 *
 * Rules that hold for every function:
 *
 *  1. A loop and all that belongs to it are used by one thread. The only
 *     exception is us_wakeup_loop.
 *  2. `ssl` says how the context was created: 1 = its sockets speak TLS. The
 *     library knows that of each object itself, and goes by what it knows.
 *  3. "Ext" memory is a tail of the object, zeroed at creation, aligned to
 *     LIBUS_EXT_ALIGNMENT, and lives as long as the object.
 *  4. A closed socket, timer, poll or context is dead at once, but its memory
 *     stays until the end of the iteration (of the next one, when closed
 *     between iterations), so that callers up the stack may still look at it.
 *  5. A failed call runs no callback. Pointer functions return NULL with errno
 *     set. */
#ifndef LIBUSOCKETS_H
#define LIBUSOCKETS_H

/* Bytes read from one socket in one iteration at most. */
#define LIBUS_RECV_BUFFER_LENGTH 524288
/* Bytes before and after the received data that a handler may overwrite. */
#define LIBUS_RECV_BUFFER_PADDING 32
/* Seconds between two sweeps, the unit of socket timeouts. */
#define LIBUS_TIMEOUT_GRANULARITY 4
/* Alignment of every ext, in bytes. */
#define LIBUS_EXT_ALIGNMENT 16

/* Several listeners may share the port (SO_REUSEPORT). */
#define LIBUS_LISTEN_DEFAULT 0
/* Nobody else may listen on the port. */
#define LIBUS_LISTEN_EXCLUSIVE_PORT 1

/* Events of a poll: a bit set. */
#define LIBUS_SOCKET_READABLE 1
#define LIBUS_SOCKET_WRITABLE 2

#define LIBUS_SOCKET_DESCRIPTOR int

#ifndef LIBUS_EXPORT
#define LIBUS_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct us_loop_t;
struct us_timer_t;
struct us_socket_context_t;
struct us_listen_socket_t; /* begins as a us_socket_t */
struct us_socket_t;        /* begins as a us_poll_t */
struct us_poll_t;
struct us_udp_socket_t; /* begins as a us_poll_t */
struct us_udp_packet_buffer_t;

/* TLS settings of a context, NULL or 0 where unset. Plain contexts ignore them. */
struct us_socket_context_options_t {
    const char *key_file_name;
    const char *cert_file_name;
    const char *passphrase;
    const char *dh_params_file_name;
    const char *ca_file_name;
    const char *ssl_ciphers;
    int ssl_prefer_low_memory_usage;
};

/* ---- Loop ---------------------------------------------------------------- */

/* Creates a loop. `hint` is ignored. `pre_cb` runs before the wait of each
 * iteration, `post_cb` after its events, `wakeup_cb` after us_wakeup_loop; each
 * may be NULL. `ext_size` in bytes.
 * Returns NULL with ENOMEM, EMFILE or ENFILE when something cannot be had.
 * Destructor: us_loop_free. */
LIBUS_EXPORT struct us_loop_t *us_create_loop(void *hint, void (*wakeup_cb)(struct us_loop_t *loop),
    void (*pre_cb)(struct us_loop_t *loop), void (*post_cb)(struct us_loop_t *loop), unsigned int ext_size);

/* Frees the loop and what is still waiting to be freed in it. Its contexts,
 * timers and polls must be gone, and it must not be inside an iteration.
 * Invalidates `loop`. */
LIBUS_EXPORT void us_loop_free(struct us_loop_t *loop);

/* Returns the loop's ext. Borrowed. */
LIBUS_EXPORT void *us_loop_ext(struct us_loop_t *loop);

/* Iterates, waiting for events, until only fallthrough polls are left or the
 * wait fails for good. Starts the sweep timer. No effect inside a callback.
 * Calls back: everything. */
LIBUS_EXPORT void us_loop_run(struct us_loop_t *loop);

/* Makes `wakeup_cb` run soon in the loop's thread; several calls before that
 * give one. May be called from any thread and from a signal handler. */
LIBUS_EXPORT void us_wakeup_loop(struct us_loop_t *loop);

/* Starts the sweep timer, for a loop that is driven from outside. */
LIBUS_EXPORT void us_loop_integrate(struct us_loop_t *loop);

/* Returns the number of iterations begun since creation. */
LIBUS_EXPORT long long us_loop_iteration_number(struct us_loop_t *loop);

/* ---- Timers -------------------------------------------------------------- */

/* Creates a disarmed timer with a descriptor of its own. A `fallthrough` timer
 * does not keep us_loop_run going. `ext_size` in bytes.
 * Returns NULL with ENOMEM, EMFILE, ENFILE or ENOSPC. Destructor: us_timer_close. */
LIBUS_EXPORT struct us_timer_t *us_create_timer(struct us_loop_t *loop, int fallthrough, unsigned int ext_size);

/* Returns the timer's ext. Borrowed. */
LIBUS_EXPORT void *us_timer_ext(struct us_timer_t *timer);

/* Closes the timer; legal inside its own callback, which then is the last.
 * Invalidates `timer` after the iteration. */
LIBUS_EXPORT void us_timer_close(struct us_timer_t *timer);

/* Arms the timer: `cb` runs in `ms` milliseconds and then every `repeat_ms`
 * (0 = once). Both 0 disarms. Missed repeats are run once, not made up for. */
LIBUS_EXPORT void us_timer_set(struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms);

/* Returns the loop of the timer. Borrowed. */
LIBUS_EXPORT struct us_loop_t *us_timer_loop(struct us_timer_t *t);

/* ---- Socket contexts ----------------------------------------------------- */

/* Creates the class of a set of sockets: callbacks and an ext live here once.
 * `ext_size` in bytes. Every callback may be NULL.
 * With `ssl` a certificate and key of `options` are what the peer is shown (a server: where
 * it asks), and a `ca_file_name` is whose certificates it must show; PEM, all of it.
 * Returns NULL with ENOMEM, EINVAL when a file or a cipher cannot be used (see
 * us_tls_error), or ENOTSUP in a library without TLS.
 * Destructor: us_socket_context_free. */
LIBUS_EXPORT struct us_socket_context_t *us_create_socket_context(int ssl, struct us_loop_t *loop, int ext_size,
    struct us_socket_context_options_t options);

/* Creates a context with no callbacks yet, for sockets that are adopted out of
 * `context`. Errors and destructor as for us_create_socket_context. */
LIBUS_EXPORT struct us_socket_context_t *us_create_child_socket_context(int ssl, struct us_socket_context_t *context,
    int context_ext_size);

/* Releases the context; sockets and listeners still open are closed first.
 * Invalidates `context` after the iteration. Calls back: on_close. */
LIBUS_EXPORT void us_socket_context_free(int ssl, struct us_socket_context_t *context);

/* Closes all sockets (code 0) and listeners of the context, which stays usable.
 * Calls back: on_close. */
LIBUS_EXPORT void us_socket_context_close(int ssl, struct us_socket_context_t *context);

/* Returns the context's ext. Borrowed. */
LIBUS_EXPORT void *us_socket_context_ext(int ssl, struct us_socket_context_t *context);

/* Returns the loop of the context. Borrowed. */
LIBUS_EXPORT struct us_loop_t *us_socket_context_loop(int ssl, struct us_socket_context_t *context);

/* Returns the number of sweeps so far, modulo 2^15. */
LIBUS_EXPORT unsigned short us_socket_context_timestamp(int ssl, struct us_socket_context_t *context);

/* Sets what runs for an accepted descriptor before there is a socket: it
 * returns `fd` to go on, or -1 to take the descriptor over. `ip` as in on_open. */
LIBUS_EXPORT void us_socket_context_on_pre_open(int ssl, struct us_socket_context_t *context,
    LIBUS_SOCKET_DESCRIPTOR (*on_pre_open)(struct us_socket_context_t *context, LIBUS_SOCKET_DESCRIPTOR fd, char *ip, int ip_length));

/* The socket callbacks. Each returns the socket it was given, or the one that
 * it became by us_socket_context_adopt_socket; closing it inside is legal.
 *
 * on_open: `ip` holds 4 or 16 raw bytes (0 for a unix peer) until it returns;
 * an IPv4 peer of a dual-stack listener has 4. */
LIBUS_EXPORT void us_socket_context_on_open(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_open)(struct us_socket_t *s, int is_client, char *ip, int ip_length));

/* on_connect_error: once instead of on_open, where a connect of ours failed; `code`
 * is an errno, that of the first address if there were several. The socket is
 * closed already, there is no on_close. */
LIBUS_EXPORT void us_socket_context_on_connect_error(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_connect_error)(struct us_socket_t *s, int code));

/* on_close: once for each on_open. `code` and `reason` are those given to
 * us_socket_close; where the loop closes, code is 0 after both directions have
 * ended, else an errno, and reason is NULL. The descriptor is closed already. */
LIBUS_EXPORT void us_socket_context_on_close(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_close)(struct us_socket_t *s, int code, void *reason));

/* on_data: `length` bytes, in the loop's receive buffer until it returns; they
 * and LIBUS_RECV_BUFFER_PADDING bytes on both sides may be overwritten. */
LIBUS_EXPORT void us_socket_context_on_data(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_data)(struct us_socket_t *s, char *data, int length));

/* on_writable: the kernel takes bytes again after a short write. */
LIBUS_EXPORT void us_socket_context_on_writable(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_writable)(struct us_socket_t *s));

/* on_timeout: us_socket_timeout ran out; it is off until set again. */
LIBUS_EXPORT void us_socket_context_on_timeout(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_timeout)(struct us_socket_t *s));

/* on_long_timeout: us_socket_long_timeout ran out; it is off until set again. */
LIBUS_EXPORT void us_socket_context_on_long_timeout(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_timeout)(struct us_socket_t *s));

/* on_end: the peer sent FIN; once. Writing may go on. Without this callback the
 * socket is closed instead. */
LIBUS_EXPORT void us_socket_context_on_end(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *(*on_end)(struct us_socket_t *s));

/* ---- TLS and server names ------------------------------------------------ */

/* Shows clients that ask for `hostname_pattern` the certificate of `options`; "*" stands
 * for a whole label ("*.example.com"), and the pattern that says most decides. What stood
 * there before goes; connections that came in under it live on. `user` comes back from
 * us_socket_server_name_userdata.
 * On failure errno is set and us_tls_error says why; nothing changes. */
LIBUS_EXPORT void us_socket_context_add_server_name(int ssl, struct us_socket_context_t *context,
    const char *hostname_pattern, struct us_socket_context_options_t options, void *user);

/* Takes a name away; connections that came in under it live on. */
LIBUS_EXPORT void us_socket_context_remove_server_name(int ssl, struct us_socket_context_t *context,
    const char *hostname_pattern);

/* Sets what runs when a client asks for a name that no pattern fits: it may add one. */
LIBUS_EXPORT void us_socket_context_on_server_name(int ssl, struct us_socket_context_t *context,
    void (*cb)(struct us_socket_context_t *context, const char *hostname));

/* Returns the `user` of the name that the socket came in under, or NULL. */
LIBUS_EXPORT void *us_socket_server_name_userdata(int ssl, struct us_socket_t *s);

/* Returns the `user` of exactly this pattern, or NULL. */
LIBUS_EXPORT void *us_socket_context_find_server_name_userdata(int ssl, struct us_socket_context_t *context,
    const char *hostname_pattern);

/* Returns the SSL_CTX of a TLS context, NULL of a plain one. Borrowed. */
LIBUS_EXPORT void *us_socket_context_get_native_handle(int ssl, struct us_socket_context_t *context);

/* ---- Listen and adopt ---------------------------------------------------- */

/* Listens on `host` (name or address; NULL = all interfaces, IPv6 and IPv4) and
 * `port` (0 = any free one: ask us_socket_local_port). `options` is a
 * LIBUS_LISTEN_ constant; accepted sockets get `socket_ext_size` bytes of ext.
 * Returns NULL with EADDRINUSE, EACCES, EADDRNOTAVAIL (also: host not found),
 * EINVAL (bad port), EMFILE, ENFILE, ENOMEM, ENOSPC, ECANCELED (the context is freed).
 * Owned by the context. Destructor: us_listen_socket_close. */
LIBUS_EXPORT struct us_listen_socket_t *us_socket_context_listen(int ssl, struct us_socket_context_t *context,
    const char *host, int port, int options, int socket_ext_size);

/* Listens on a unix path. A socket left over at the path is replaced, any other
 * file is not. The path is removed at close if it is still the same socket.
 * Returns NULL as above, and ENAMETOOLONG or what bind(2) says of the path. */
LIBUS_EXPORT struct us_listen_socket_t *us_socket_context_listen_unix(int ssl, struct us_socket_context_t *context,
    const char *path, int options, int socket_ext_size);

/* Stops listening; accepted sockets live on. Idempotent within the iteration.
 * Invalidates `ls` after the iteration. */
LIBUS_EXPORT void us_listen_socket_close(int ssl, struct us_listen_socket_t *ls);

/* Makes a socket of a connected stream descriptor, such as one taken over by
 * on_pre_open, maybe in another thread's loop. `addr_ip` and `addr_ip_length`
 * are passed to on_open.
 * Returns NULL with ENOMEM, ENOSPC, or ECANCELED when the context is freed; the descriptor
 * is then still the caller's.
 * Owns client_fd on success. Calls back: on_open; the result may be closed by
 * it (us_socket_is_closed). */
LIBUS_EXPORT struct us_socket_t *us_adopt_accepted_socket(int ssl, struct us_socket_context_t *context,
    LIBUS_SOCKET_DESCRIPTOR client_fd, unsigned int socket_ext_size, char *addr_ip, int addr_ip_length);

/* Moves an open socket to `context` of the same loop with `ext_size` bytes of
 * ext (-1 = as it is); the common part of the ext, timeouts and poll state go
 * along. A closed socket is returned as it is.
 * Returns the socket, or NULL with ENOMEM, EINVAL, or ECANCELED when `context` is freed:
 * `s` is then unchanged.
 * Invalidates `s` after the iteration (it reads as closed until then) unless it
 * is returned. */
LIBUS_EXPORT struct us_socket_t *us_socket_context_adopt_socket(int ssl, struct us_socket_context_t *context,
    struct us_socket_t *s, int ext_size);

/* ---- Connect ------------------------------------------------------------- */

/* Connects to `host` (name or address; NULL = this machine) and `port`, from the
 * address of `source_host` unless it is NULL. `options` is ignored. A name is looked
 * up before this returns, which blocks for as long as that takes: give an address
 * where that may not be. Its addresses are tried in the order of look-up, one when
 * the one before has failed; us_socket_timeout counts over all.
 * Returns a connecting socket: it ends in on_open (is_client 1) or on_connect_error,
 * in an iteration to come, and until then has nothing but its context, ext, timeouts
 * and closing; all else has no effect on it or fails. Returns NULL when every address
 * fails at once: EADDRNOTAVAIL (also: host not found, or source_host of the wrong
 * family), EINVAL (bad port or size), ECANCELED (the context is being closed or is
 * freed: an on_close that connects again ends there), ENOTSUP (`ssl` and a plain context),
 * EMFILE, ENFILE, ENOMEM, ENOSPC, ECONNREFUSED, ENETUNREACH and what connect(2) says.
 * With TLS on_open comes when TCP is there, before the handshake; writes are accepted after
 * it, and on_writable comes then if one was refused. `host` is the name that the server is
 * asked for (SNI). A context with a `ca_file_name` verifies that its certificate is of one of
 * those authorities and for `host`; one without does not (us_socket_context_verify).
 * Owned by the context. Destructor: us_socket_close_connecting, us_socket_close. */
LIBUS_EXPORT struct us_socket_t *us_socket_context_connect(int ssl, struct us_socket_context_t *context,
    const char *host, int port, const char *source_host, int options, int socket_ext_size);

/* Connects to a unix path; on_open has no address then. Returns as above: NULL with
 * ENOENT or ECONNREFUSED when nobody listens, EAGAIN when the listener's queue is
 * full, ENAMETOOLONG. */
LIBUS_EXPORT struct us_socket_t *us_socket_context_connect_unix(int ssl, struct us_socket_context_t *context,
    const char *server_path, int options, int socket_ext_size);

/* Returns 1 if the socket is open, 0 while it is connecting or when it is closed. */
LIBUS_EXPORT int us_socket_is_established(int ssl, struct us_socket_t *s);

/* Gives up connecting; no callback runs, as when us_socket_close or the end of the
 * context does it. No effect on a socket that is open or closed. Returns `s`.
 * Invalidates `s` after the iteration. */
LIBUS_EXPORT struct us_socket_t *us_socket_close_connecting(int ssl, struct us_socket_t *s);

/* ---- Sockets ------------------------------------------------------------- */

/* Sends `length` bytes; `msg_more` = more follows at once, so the kernel may
 * wait for it.
 * Returns the bytes accepted, 0..length; 0 also on error, on a closed or shut
 * down socket. After a short write on_writable comes; after an error (see
 * us_socket_last_error) the socket is closed in an iteration to come, when what
 * the peer had sent is read. */
LIBUS_EXPORT int us_socket_write(int ssl, struct us_socket_t *s, const char *data, int length, int msg_more);

/* Sends header and payload in one call to the kernel. Returns as us_socket_write,
 * counted over both. */
LIBUS_EXPORT int us_socket_write2(int ssl, struct us_socket_t *s, const char *header, int header_length,
    const char *payload, int payload_length);

/* Lets go what the kernel holds back after `msg_more`. */
LIBUS_EXPORT void us_socket_flush(int ssl, struct us_socket_t *s);

/* Runs on_timeout in about `seconds` (up to 960, more is taken as 960; 0 = off):
 * at the sweep that ends the granule, so up to 4 s early. */
LIBUS_EXPORT void us_socket_timeout(int ssl, struct us_socket_t *s, unsigned int seconds);

/* Runs on_long_timeout in about `minutes` (up to 240, more is taken as 240; 0 =
 * off): at the change of the loop's minute, so up to a minute early. */
LIBUS_EXPORT void us_socket_long_timeout(int ssl, struct us_socket_t *s, unsigned int minutes);

/* Returns the socket's ext. Borrowed. */
LIBUS_EXPORT void *us_socket_ext(int ssl, struct us_socket_t *s);

/* Returns the context the socket is in. Borrowed. */
LIBUS_EXPORT struct us_socket_context_t *us_socket_context(int ssl, struct us_socket_t *s);

/* Sends FIN after what is written; reading goes on. When the peer's FIN is in
 * too, the loop closes the socket. */
LIBUS_EXPORT void us_socket_shutdown(int ssl, struct us_socket_t *s);

/* Ends reading: a coming iteration sees the end of the stream. */
LIBUS_EXPORT void us_socket_shutdown_read(int ssl, struct us_socket_t *s);

/* Returns 1 after us_socket_shutdown, else 0. */
LIBUS_EXPORT int us_socket_is_shut_down(int ssl, struct us_socket_t *s);

/* Returns 1 if the socket is closed or has moved by adoption, else 0. */
LIBUS_EXPORT int us_socket_is_closed(int ssl, struct us_socket_t *s);

/* Closes now; `code` and `reason` go to on_close. Nothing happens on a closed
 * socket. Returns `s`. Invalidates `s` after the iteration. Calls back: on_close. */
LIBUS_EXPORT struct us_socket_t *us_socket_close(int ssl, struct us_socket_t *s, int code, void *reason);

/* Return the port in host byte order, 0 for a unix socket, -1 on error. */
LIBUS_EXPORT int us_socket_local_port(int ssl, struct us_socket_t *s);
LIBUS_EXPORT int us_socket_remote_port(int ssl, struct us_socket_t *s);

/* Writes the peer's address, 4 or 16 raw bytes, to `buf` of `*length` bytes and
 * sets `*length`: 0 on error, for a unix peer, or when it does not fit. */
LIBUS_EXPORT void us_socket_remote_address(int ssl, struct us_socket_t *s, char *buf, int *length);

/* Returns the descriptor, cast to a pointer; -1 when closed. Borrowed. */
LIBUS_EXPORT void *us_socket_get_native_handle(int ssl, struct us_socket_t *s);

/* Returns NULL: only other back ends have a send buffer to lend. */
LIBUS_EXPORT char *us_socket_send_buffer(int ssl, struct us_socket_t *s);

/* ---- Polls --------------------------------------------------------------- */

/* Creates a poll for a descriptor of the caller's; what runs when it is ready is
 * set by us_poll_on_ready (libusockets_ext.h). A `fallthrough` poll does not
 * keep us_loop_run going. Order: create, init, start, change, stop, free.
 * Returns NULL with ENOMEM. Destructor: us_poll_free. */
LIBUS_EXPORT struct us_poll_t *us_create_poll(struct us_loop_t *loop, int fallthrough, unsigned int ext_size);

/* Frees the poll, stopping it if it runs. The descriptor stays the caller's.
 * Invalidates `p` after the iteration. */
LIBUS_EXPORT void us_poll_free(struct us_poll_t *p, struct us_loop_t *loop);

/* Sets the descriptor of a stopped poll. `poll_type` is for the implementation's
 * own polls; ignored. */
LIBUS_EXPORT void us_poll_init(struct us_poll_t *p, LIBUS_SOCKET_DESCRIPTOR fd, int poll_type);

/* Waits for `events` from now on. On failure errno is set (ENOMEM, ENOSPC,
 * EEXIST, EPERM: a regular file) and us_poll_events says 0. */
LIBUS_EXPORT void us_poll_start(struct us_poll_t *p, struct us_loop_t *loop, int events);

/* Waits for `events` instead of the former ones; 0 leaves errors and hang-ups.
 * On failure errno is set and us_poll_events says what still holds. */
LIBUS_EXPORT void us_poll_change(struct us_poll_t *p, struct us_loop_t *loop, int events);

/* Waits for nothing on the descriptor any more. Must come before its close. */
LIBUS_EXPORT void us_poll_stop(struct us_poll_t *p, struct us_loop_t *loop);

/* Returns the events waited for. */
LIBUS_EXPORT int us_poll_events(struct us_poll_t *p);

/* Returns the poll's ext. Borrowed. */
LIBUS_EXPORT void *us_poll_ext(struct us_poll_t *p);

/* Returns the descriptor. Owned by the caller of us_poll_init. */
LIBUS_EXPORT LIBUS_SOCKET_DESCRIPTOR us_poll_fd(struct us_poll_t *p);

/* Gives a poll of us_create_poll another ext size; the common part is kept. Legal
 * inside its own callback. Returns the poll, which may have moved, or NULL with
 * ENOMEM: `p` is then unchanged. Invalidates `p` after the iteration if it moved. */
LIBUS_EXPORT struct us_poll_t *us_poll_resize(struct us_poll_t *p, struct us_loop_t *loop, unsigned int ext_size);

/* ---- UDP ----------------------------------------------------------------- */

/* A packet buffer holds 1024 datagrams of up to 65536 bytes, numbered from 0. It is
 * filled by a socket (receive) or by the caller (set_packet_payload), and may be sent
 * as it is: packets received go back to where they came from. It belongs to no
 * socket; one a thread is enough for all of them. Memory is touched as it is used.
 * Returns NULL with ENOMEM. Destructor: us_udp_packet_buffer_free (libusockets_ext.h). */
LIBUS_EXPORT struct us_udp_packet_buffer_t *us_create_udp_packet_buffer(void);

/* Returns the payload of a packet, which may be overwritten; NULL for a bad index. Borrowed. */
LIBUS_EXPORT char *us_udp_packet_buffer_payload(struct us_udp_packet_buffer_t *buf, int index);

/* Returns the bytes of the payload; 0 for a bad index. */
LIBUS_EXPORT int us_udp_packet_buffer_payload_length(struct us_udp_packet_buffer_t *buf, int index);

/* Writes the address that a received packet was sent to, raw, to `ip` of 16 bytes.
 * Returns its length: 4 or 16; 0 where it is unknown. */
LIBUS_EXPORT int us_udp_packet_buffer_local_ip(struct us_udp_packet_buffer_t *buf, int index, char *ip);

/* Returns the packet's peer, a struct sockaddr (room for any; an IPv4 peer of a
 * dual-stack socket is a mapped IPv6 address); NULL for a bad index. Borrowed. */
LIBUS_EXPORT char *us_udp_packet_buffer_peer(struct us_udp_packet_buffer_t *buf, int index);

/* Returns the two bits of explicit congestion notification of a received packet. */
LIBUS_EXPORT int us_udp_packet_buffer_ecn(struct us_udp_packet_buffer_t *buf, int index);

/* Copies `length` bytes to `offset` of a packet's payload, which ends behind them;
 * what is before `offset` stays. `peer_addr` is an IPv4 or IPv6 struct sockaddr, NULL
 * keeps the packet's peer; both may lie in the packet itself. No effect for a bad
 * index. What does not fit or has no such peer makes a packet that cannot be sent
 * (EMSGSIZE, EAFNOSUPPORT). */
LIBUS_EXPORT void us_udp_buffer_set_packet_payload(struct us_udp_packet_buffer_t *send_buf, int index, int offset,
    void *payload, int length, void *peer_addr);

/* Creates a datagram socket on `host` (name or address, looked up at once; NULL = all
 * interfaces, IPv6 and IPv4) and `port` (0 = any free one). Each iteration that finds
 * packets waiting receives up to 1024 of them into `buf`, then `data_cb` runs with
 * their number; `drain_cb` runs when sending is possible again. Both may be NULL;
 * without data_cb nothing is received but by us_udp_socket_receive. `buf` NULL gives
 * the socket a buffer of its own. The socket keeps us_loop_run going.
 * Returns NULL with EADDRINUSE, EACCES, EADDRNOTAVAIL (also: host not found), EMFILE,
 * ENFILE, ENOMEM, ENOSPC. Borrows `buf` and `user`. Owned by the loop, and closed by
 * its end. Destructor: us_udp_socket_close (libusockets_ext.h). */
LIBUS_EXPORT struct us_udp_socket_t *us_create_udp_socket(struct us_loop_t *loop, struct us_udp_packet_buffer_t *buf,
    void (*data_cb)(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count),
    void (*drain_cb)(struct us_udp_socket_t *s), const char *host, unsigned short port, void *user);

/* Receives what waits, up to 1024 packets, into `buf`.
 * Returns their number, 0 when none waits, or -1 with errno. */
LIBUS_EXPORT int us_udp_socket_receive(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf);

/* Sends the first `num` packets of the buffer in one call to the kernel.
 * Returns the number sent. When it is less than `num`, drain_cb comes: the kernel is
 * full, or the next packet cannot be sent. The latter gives -1 with errno where it is
 * the first: EMSGSIZE, EAFNOSUPPORT, ENETUNREACH, EINVAL, EPERM (a firewall),
 * ENOBUFS; there is no drain_cb then. */
LIBUS_EXPORT int us_udp_socket_send(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int num);

/* Moves the socket to another local address; what waited at the old one is lost.
 * Returns 0, or -1 with errno as for us_create_udp_socket: all is then as it was. */
LIBUS_EXPORT int us_udp_socket_bind(struct us_udp_socket_t *s, const char *hostname, unsigned int port);

/* Returns the port in host byte order; -1 when closed. */
LIBUS_EXPORT int us_udp_socket_bound_port(struct us_udp_socket_t *s);

/* Returns what us_create_udp_socket was given. Borrowed. */
LIBUS_EXPORT void *us_udp_socket_user(struct us_udp_socket_t *s);

#ifdef __cplusplus
}
#endif

#endif
