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
 * Calls back: everything. Must not be called from inside itself (-EBUSY). */
LIBUS_EXPORT int us_loop_step(struct us_loop_t *loop);

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
 * people and lives for ever. `plain` = the peer speaks plain text. */
LIBUS_EXPORT void us_socket_context_on_tls_failure(struct us_socket_context_t *context,
    void (*on_failure)(struct us_socket_t *s, const char *reason, int plain));

/* Returns the bytes of TLS records that were accepted and the kernel has not taken yet:
 * on_writable comes when it has. 0 for a plain socket. */
LIBUS_EXPORT int us_socket_unsent(struct us_socket_t *s);

/* Returns 1 when the peer's stream ended without close_notify: what came before may
 * have been cut off by a third party. 0 for a plain socket, which cannot know. */
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
