/* What this implementation adds to the uSockets interface: driving the loop
 * from outside, callbacks for a user's polls, and the system-call table. */
#ifndef LIBUSOCKETS_EXT_H
#define LIBUSOCKETS_EXT_H

#include "libusockets.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The back end of the event loop: what the build says, else what the platform has. */
#if defined(LIBUS_USE_EPOLL) && defined(LIBUS_USE_KQUEUE)
#error "one back end: LIBUS_USE_EPOLL or LIBUS_USE_KQUEUE"
#elif !defined(LIBUS_USE_EPOLL) && !defined(LIBUS_USE_KQUEUE)
#ifdef __linux__
#define LIBUS_USE_EPOLL
#else
#define LIBUS_USE_KQUEUE
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct sockaddr;
struct iovec;
struct mmsghdr;
struct epoll_event;
struct kevent;
struct timespec;

/* Every system call of a loop goes through such a table. The first parameter is
 * the table itself, so that a test can embed it in a struct of its own and keep
 * state there. Results are those of the call of the same name: -1 and errno on
 * failure. All members must be set; us_sys_default() has libc's. */
struct us_sys_t {
    int (*socket)(struct us_sys_t *sys, int domain, int type, int protocol);
    int (*bind)(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length);
    int (*listen)(struct us_sys_t *sys, int fd, int backlog);
    int (*accept4)(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags);
    int (*connect)(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length);
    int (*setsockopt)(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length);
    int (*getsockopt)(struct us_sys_t *sys, int fd, int level, int name, void *value, unsigned int *length);
    int (*getsockname)(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length);
    int (*getpeername)(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length);
    ssize_t (*recv)(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags);
    ssize_t (*send)(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags);
    /* Like sendmsg(2) with nothing but a vector: MSG_NOSIGNAL applies. */
    ssize_t (*sendv)(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags);
    /* Like sendfile(2) from `offset` of a regular file; a socket that is gone gives
     * EPIPE and no signal. Files are the process's own, whatever sockets are. */
    ssize_t (*sendfile)(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length);
    /* Like pread(2). */
    ssize_t (*file_read)(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset);
    int (*file_dup)(struct us_sys_t *sys, int file); /* closed on exec */
    int (*file_close)(struct us_sys_t *sys, int file);
    int (*recvmmsg)(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags);
    int (*sendmmsg)(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags);
    int (*shutdown)(struct us_sys_t *sys, int fd, int how);
    int (*close)(struct us_sys_t *sys, int fd);
    int (*unlink)(struct us_sys_t *sys, const char *path);
#ifdef LIBUS_USE_EPOLL
    int (*epoll_create1)(struct us_sys_t *sys, int flags);
    int (*epoll_ctl)(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event);
    int (*epoll_wait)(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms);
    int (*eventfd)(struct us_sys_t *sys, unsigned int initial, int flags);
    int (*timerfd_create)(struct us_sys_t *sys, int clock, int flags);
    /* Arms or (both 0) disarms; milliseconds, relative. */
    int (*timerfd_settime)(struct us_sys_t *sys, int fd, int ms, int repeat_ms);
#else
    int (*kqueue)(struct us_sys_t *sys); /* closed on exec */
    int (*kevent)(struct us_sys_t *sys, int kq, const struct kevent *changes, int change_count, struct kevent *events,
        int capacity, const struct timespec *timeout);
#endif
    ssize_t (*read)(struct us_sys_t *sys, int fd, void *buffer, size_t length);
    ssize_t (*write)(struct us_sys_t *sys, int fd, const void *buffer, size_t length);
    int (*open_spare)(struct us_sys_t *sys); /* a descriptor held back for EMFILE: /dev/null */
    int64_t (*monotonic_ns)(struct us_sys_t *sys);
    int64_t (*wall_seconds)(struct us_sys_t *sys); /* for Date fields: seconds since 1970 */
    void *(*alloc)(struct us_sys_t *sys, size_t size);
    void *(*resize)(struct us_sys_t *sys, void *memory, size_t size);
    void (*release)(struct us_sys_t *sys, void *memory);
};

/* Returns the process-wide table that calls libc. Borrowed; never freed. */
LIBUS_EXPORT struct us_sys_t *us_sys_default(void);

/* Like us_create_loop, on a system-call table of the caller's.
 * Returns NULL with errno set when a descriptor or memory cannot be had.
 * Borrows `sys`, which must outlive the loop. Destructor: us_loop_free. */
LIBUS_EXPORT struct us_loop_t *us_create_loop_on(struct us_sys_t *sys, void (*wakeup_cb)(struct us_loop_t *loop),
    void (*pre_cb)(struct us_loop_t *loop), void (*post_cb)(struct us_loop_t *loop), unsigned int ext_size);

/* Returns the table that the loop was created on. Borrowed. */
LIBUS_EXPORT struct us_sys_t *us_loop_sys(struct us_loop_t *loop);

/* Lets go of what a forked child shares with its parent: for whatever still runs
 * on this loop in the child every call on a descriptor fails with EBADF from here
 * on, but for close. The loop can then only be left to the end of the process.
 * A loop on a table of the caller's is the caller's to look after: no effect. */
LIBUS_EXPORT void us_loop_abandon(struct us_loop_t *loop);

/* Returns a descriptor that is readable when a step has something to do, so
 * that another event loop can wait on it. Owned by the loop. */
LIBUS_EXPORT int us_loop_fd(struct us_loop_t *loop);

/* Runs one iteration without waiting: pre callback, ready events, timers and
 * wakeups, post callback, deferred frees.
 * Returns the number of ready polls, or -errno when the wait failed.
 * Calls back: everything. Must not be called from inside a callback (-EBUSY). */
LIBUS_EXPORT int us_loop_step(struct us_loop_t *loop);

/* Returns the number of sockets, listeners, timers and polls that keep us_loop_run
 * going: 0 = nothing will ever happen here. */
LIBUS_EXPORT int us_loop_alive(struct us_loop_t *loop);

/* Lets one granule of the socket timeouts pass, as the sweep timer does every
 * LIBUS_TIMEOUT_GRANULARITY seconds. For loops that run on virtual time.
 * Calls back: on_timeout, on_long_timeout. */
LIBUS_EXPORT void us_loop_sweep(struct us_loop_t *loop);

/* Sets what runs when a user's poll is ready; `error` is nonzero on an error or a
 * hang-up, `events` a set of LIBUS_SOCKET_READABLE and LIBUS_SOCKET_WRITABLE. */
LIBUS_EXPORT void us_poll_on_ready(struct us_poll_t *p, void (*cb)(struct us_poll_t *p, int error, int events));

/* Like us_create_udp_packet_buffer, with memory from a table of the caller's.
 * Borrows `sys`, which must outlive the buffer. Destructor: us_udp_packet_buffer_free. */
LIBUS_EXPORT struct us_udp_packet_buffer_t *us_create_udp_packet_buffer_on(struct us_sys_t *sys);

/* Frees a packet buffer that no socket uses any more. Invalidates `buf` at once. */
LIBUS_EXPORT void us_udp_packet_buffer_free(struct us_udp_packet_buffer_t *buf);

/* Closes a datagram socket; legal inside its callbacks. A buffer that was made with
 * the socket goes with it. No callback runs any more. Idempotent within the iteration.
 * Invalidates `s` after the iteration. */
LIBUS_EXPORT void us_udp_socket_close(struct us_udp_socket_t *s);

/* Writes the local address of a datagram socket, a struct sockaddr_in or sockaddr_in6.
 * Returns its length, or 0: unknown, closed, or longer than `capacity`. */
LIBUS_EXPORT int us_udp_socket_local_address(struct us_udp_socket_t *s, void *address, int capacity);

/* Stops (0) or resumes (1) reading; data waits in the kernel meanwhile. A paused
 * socket still reports errors and hang-ups. No effect on a closed socket. */
LIBUS_EXPORT void us_socket_read_enabled(struct us_socket_t *s, int enabled);

/* Sends from a regular file without copying, as far as the kernel takes it now; what
 * it did not is polled for as after us_socket_write. One call moves 2 MiB at most, so
 * that other sockets get their turn.
 * Returns the bytes taken, or -1 with errno when the file cannot be read: ENODATA
 * when it ends before `length`. The socket itself is as it was then. */
LIBUS_EXPORT int us_socket_sendfile(int ssl, struct us_socket_t *s, int file, int64_t offset, int64_t length);

/* Returns the errno of the last failed send or receive on the socket, 0 when
 * none failed: tells EPIPE from a full kernel buffer after a short write. */
LIBUS_EXPORT int us_socket_last_error(struct us_socket_t *s);

/* ---- TLS ---------------------------------------------------------------- */

/* Returns why the last TLS context or server name of this thread could not be made:
 * the file, and the cause. Good until the next one. Never NULL. */
LIBUS_EXPORT const char *us_tls_error(void);

/* Sets the one protocol that TLS sockets of the context agree to by ALPN, such as
 * "http/1.1": a client that offers others only is refused, one that offers none is not.
 * Borrows `protocol`. */
LIBUS_EXPORT void us_socket_context_alpn(struct us_socket_context_t *context, const char *protocol);

/* Sets what a client is sent that speaks plain text where TLS is spoken; the socket is
 * shut down after, and stays until the client closes or somebody closes it.
 * Borrows `text`. */
LIBUS_EXPORT void us_socket_context_plain_answer(struct us_socket_context_t *context, const char *text, int length);

/* Sets what runs before a TLS socket is closed for what its peer did; `reason` is for
 * people and lives for ever. `plain` = the peer speaks plain text. A client is also told
 * when the server's certificate will not do, and when the server leaves in the handshake. */
LIBUS_EXPORT void us_socket_context_on_tls_failure(struct us_socket_context_t *context,
    void (*on_failure)(struct us_socket_t *s, const char *reason, int plain));

/* Sets what runs when the handshake of a TLS socket is over, before anything else does. As
 * with the callbacks of sockets it returns the socket, and closing is legal. */
LIBUS_EXPORT void us_socket_context_on_handshake(struct us_socket_context_t *context,
    struct us_socket_t *(*on_handshake)(struct us_socket_t *s));

/* How the clients of a TLS context look at a server's certificate: not at all, ... */
#define LIBUS_VERIFY_NONE 0
/* ... by the authorities of its ca_file_name, the rule where it has one, ... */
#define LIBUS_VERIFY_FILE 1
/* ... or by those that this machine trusts (as SSL_CERT_FILE and SSL_CERT_DIR say, too). */
#define LIBUS_VERIFY_SYSTEM 2

/* Sets how clients that connect from now on look at the server's certificate. Where they do,
 * it must also be one for the name (or address) of the server; else the handshake fails. A
 * server without a name (a unix path, a descriptor) must be given one (us_socket_context_peer_name).
 * Returns 0, or -1 with EINVAL (FILE without a ca_file_name, a plain context: see us_tls_error),
 * ENOMEM, or ENOTSUP in a library without TLS. */
LIBUS_EXPORT int us_socket_context_verify(struct us_socket_context_t *context, int mode);

/* Sets the name that TLS clients that connect from now on ask their server for (SNI) and
 * look for in its certificate, instead of the host that they connect to; NULL: that host.
 * Returns 0, or -1 with EINVAL (empty, over 255 bytes, a plain context), ENOMEM or ENOTSUP. */
LIBUS_EXPORT int us_socket_context_peer_name(struct us_socket_context_t *context, const char *name);

/* Sets the protocols that TLS clients of the context offer by ALPN, the preferred one first,
 * between commas: "h2,http/1.1". NULL: none. What the server chose is in us_socket_tls_alpn.
 * Returns 0, or -1 with EINVAL (an empty name, too long, a plain context) or ENOTSUP. */
LIBUS_EXPORT int us_socket_context_offer_protocols(struct us_socket_context_t *context, const char *protocols);

/* Makes a client socket of a connected stream descriptor; with a TLS context it begins the
 * handshake. Else as us_adopt_accepted_socket, with is_client 1 in on_open.
 * Returns NULL with ENOMEM, ENOSPC, EINVAL (the server's certificate is to be verified and
 * the server has no name) or ENOTSUP (`ssl` and a plain context); the descriptor is then
 * still the caller's. Owns fd on success. Calls back: on_open; the result may be closed by
 * it (us_socket_is_closed). */
LIBUS_EXPORT struct us_socket_t *us_adopt_connected_socket(int ssl, struct us_socket_context_t *context,
    LIBUS_SOCKET_DESCRIPTOR fd, unsigned int socket_ext_size, char *addr_ip, int addr_ip_length);

/* Returns 1 when the handshake of the socket is over, else 0. 0 for a plain socket. */
LIBUS_EXPORT int us_socket_tls_is_established(struct us_socket_t *s);

/* Return what the handshake has agreed to, NULL before it is over and for a plain socket:
 * the version ("TLSv1.3") and the cipher, by names that live for ever. */
LIBUS_EXPORT const char *us_socket_tls_version(struct us_socket_t *s);
LIBUS_EXPORT const char *us_socket_tls_cipher(struct us_socket_t *s);

/* Returns the protocol that was agreed to by ALPN, `*length` bytes without an end; NULL and 0
 * when there is none. Borrowed from the socket. */
LIBUS_EXPORT const char *us_socket_tls_alpn(struct us_socket_t *s, int *length);

/* Returns 1 when the handshake has gone on with an earlier session, else 0. */
LIBUS_EXPORT int us_socket_tls_is_resumed(struct us_socket_t *s);

/* What a callback for the plain prefix returns: wait for more bytes, there is none, and the
 * socket is to be closed; else the bytes of it. */
#define LIBUS_PREFIX_MORE 0
#define LIBUS_PREFIX_NONE -1
#define LIBUS_PREFIX_REFUSED -2

/* Sets what is given the first bytes that a TLS server's socket receives, before TLS is: for
 * what a proxy says in the clear, of 64 KiB at most. After LIBUS_PREFIX_MORE it is called
 * again, with all of them and what follows. Calls nothing back; on_close, where it refuses. */
LIBUS_EXPORT void us_socket_context_on_plain_prefix(struct us_socket_context_t *context,
    int (*on_prefix)(struct us_socket_t *s, const char *data, int length));

/* What us_socket_context_options_t has no member for. All 0 = as without. */
struct us_tls_settings_t {
    int min_version;     /* 13: TLS 1.3 only; else TLS 1.2 as well */
    int verify_optional; /* with ca_file_name: a client may show no certificate, but no wrong one */
    int name_strict;     /* of a context: clients that ask for no name that is known end with unrecognized_name */
    int record_size;     /* bytes of data in a record, 512 to 16384; or LIBUS_RECORDS_DYNAMIC */
};

/* A connection begins with 40 records that each fill a segment, so that a client can read
 * each one as it comes, goes on with 40 that fill three, and then with full ones; after a
 * second without a write it begins again. What leaves in one send does so all the same. */
#define LIBUS_RECORDS_DYNAMIC 1

/* Sets that for a context (`hostname_pattern` NULL), or for one of its server names, and
 * connections to come. Returns 0, or -1 when there is no such name. */
LIBUS_EXPORT int us_socket_context_tls_settings(struct us_socket_context_t *context, const char *hostname_pattern,
    const struct us_tls_settings_t *settings);

/* Inside the callback for unknown names: the handshake ends, with the alert internal_error. */
LIBUS_EXPORT void us_socket_context_refuse_server_name(struct us_socket_context_t *context);

/* Reads the files of what is to take the place of a context's certificates (`hostname_pattern`
 * NULL), or of those of a server name; with the settings of before. Nothing changes until
 * us_socket_context_renew. Returns 0, or -1 with errno and us_tls_error. */
LIBUS_EXPORT int us_socket_context_prepare(struct us_socket_context_t *context, const char *hostname_pattern,
    struct us_socket_context_options_t options);

/* Returns the host name that the client of a TLS socket has asked for, in lower case and
 * without the dot that may end it, or NULL. Lives as long as the socket. */
LIBUS_EXPORT const char *us_socket_server_name(struct us_socket_t *s);

/* Copies the certificate that the peer of a TLS socket has shown, as DER, where `size` is
 * enough. Returns its length, 0 when there is none. A server's socket has one only where the
 * context has a ca_file_name, and that certificate is then one of its authorities'. */
LIBUS_EXPORT int us_socket_peer_certificate(struct us_socket_t *s, char *to, int size);

/* What us_certificate_text tells: names as RFC 4514 writes them, ... */
#define LIBUS_CERTIFICATE_SUBJECT 0
#define LIBUS_CERTIFICATE_ISSUER 1
/* ... the last common name of the subject, the number in hexadecimal, ... */
#define LIBUS_CERTIFICATE_COMMON_NAME 2
#define LIBUS_CERTIFICATE_SERIAL 3
/* ... dates as 2026-01-31T23:59:59Z, ... */
#define LIBUS_CERTIFICATE_NOT_BEFORE 4
#define LIBUS_CERTIFICATE_NOT_AFTER 5
/* ... and other names, a line each: "DNS:a.example"; what is not plain in one is written as \xHH. */
#define LIBUS_CERTIFICATE_NAMES 6

/* Copies what a certificate (DER) says of itself as text in UTF-8, without an end, where `size`
 * is enough. Returns its length, or -1: no certificate, it does not say, or no memory. */
LIBUS_EXPORT int us_certificate_text(const char *der, int length, int what, char *to, int size);

/* Puts all that was prepared in use for connections to come (1), or drops it (0). Open
 * connections go on with what they have. Sessions that were made before are not resumed. */
LIBUS_EXPORT void us_socket_context_renew(struct us_socket_context_t *context, int use);

/* Returns how well a name fits a pattern, 0 = not at all. They are compared label by label
 * in any case, without the dot that may end them; a label of the pattern that is "*" fits
 * any. From the left, the first label that is written out decides which fits better. */
LIBUS_EXPORT unsigned int us_hostname_fit(const char *pattern, size_t pattern_length, const char *name, size_t length);

/* Returns 1 for a host name: labels of letters, digits, "-" and "_", the last not of digits
 * alone (so no address), 253 bytes, and a dot that may end it. */
LIBUS_EXPORT int us_hostname_valid(const char *name, size_t length);

/* Returns the bytes of TLS records that were accepted and the kernel has not taken yet:
 * on_writable comes when it has. 0 for a plain socket. */
LIBUS_EXPORT int us_socket_unsent(struct us_socket_t *s);

/* Returns 1 when the peer's stream ended without a close_notify that was read: what came
 * before may have been cut off by a third party, or have come after a send had failed, from
 * where on nothing is read. 0 for a plain socket, which cannot know. */
LIBUS_EXPORT int us_socket_was_truncated(struct us_socket_t *s);

/* Returns the number of TLS records of data sent on sockets of this loop. */
LIBUS_EXPORT long long us_loop_tls_records(struct us_loop_t *loop);

/* Returns the number of sends (system calls that moved bytes out) on sockets of
 * this loop since its creation. */
LIBUS_EXPORT long long us_loop_sends(struct us_loop_t *loop);

#ifdef __cplusplus
}
#endif

#endif
