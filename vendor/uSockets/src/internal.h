/* Layouts and functions shared between the files of this library.
 *
 * A poll is the base of everything that waits for a descriptor: sockets, listen
 * sockets, timers and user's polls begin with one, and `type` says which it is.
 * Whatever dies is flagged POLL_DEAD and put on the loop's list of the dead at
 * once, and released at the end of the iteration. The kernel may already have
 * reported an event for it in the running batch: the flag makes that harmless,
 * and no pointer to freed memory is ever handed to the dispatcher. */
#ifndef US_INTERNAL_H
#define US_INTERNAL_H

#include "libusockets_ext.h"

#include <stdint.h>
#include <sys/stat.h>

enum us_internal_poll_type { POLL_USER, POLL_WAKEUP, POLL_TIMER, POLL_LISTEN, POLL_SOCKET, POLL_UDP };

enum us_internal_poll_flags {
    POLL_FALLTHROUGH = 1 << 0, /* does not keep us_loop_run going */
    POLL_STARTED = 1 << 1,     /* the kernel knows it */
    POLL_DEAD = 1 << 2,        /* closed, freed or moved; waits for release */

    SOCKET_SHUT_DOWN = 1 << 3,   /* our FIN is sent */
    SOCKET_ENDED = 1 << 4,       /* the peer's FIN is seen */
    SOCKET_WANTS_WRITE = 1 << 5, /* a write was short since the last on_writable */
    SOCKET_SEND_FAILED = 1 << 6, /* a send failed for good: read what is left, then close */
    SOCKET_BROKEN = 1 << 7,      /* the kernel refused to poll it: close at the end of the iteration */

    LISTENER_UNIX = 1 << 8,
    LISTENER_OFF = 1 << 9, /* waits for the retry timer */

    SOCKET_CONNECTING = 1 << 15, /* not open yet: nothing is said and heard, on_close is not owed */

    SOCKET_SEND_LATER = 1 << 10, /* the kernel had no memory for a send: waits for the retry timer */
    UDP_RECEIVE_LATER = 1 << 11  /* the same for datagrams that wait */
};

/* What the kernel reported besides readiness. */
enum us_internal_poll_error { POLL_HANGUP = 1, POLL_ERROR = 2 };

/* Socket timeouts count sweeps (short) or minutes (long) on a clock of 255
 * values: more than the longest timeout, and one left for "off". */
enum { TIMEOUT_CLOCK = 255, TIMEOUT_OFF = 255, TIMEOUT_LONGEST = 240 };

struct us_poll_t {
    _Alignas(LIBUS_EXT_ALIGNMENT) int fd;
    uint8_t type;
    uint8_t events;
    uint16_t flags;
    struct us_poll_t *next_dead;
};

struct us_socket_t {
    struct us_poll_t p;
    struct us_socket_context_t *context;
    struct us_socket_t *prev, *next; /* in the context's sockets or listeners */
    uint32_t ext_size;
    uint16_t last_error;
    uint8_t timeout, long_timeout; /* the tick that ends it, or TIMEOUT_OFF */
    struct us_internal_tls *tls;   /* NULL: plain */
};

_Static_assert(sizeof(struct us_socket_t) <= 72, "an idle connection must stay small");
_Static_assert(sizeof(struct us_socket_t) % LIBUS_EXT_ALIGNMENT == 0, "the ext follows the socket");

struct us_listen_socket_t {
    struct us_socket_t s;
    unsigned int socket_ext_size;
    char *path; /* of a unix listener, else NULL */
    dev_t path_device;
    ino_t path_inode;
};

struct us_timer_t {
    struct us_poll_t p;
    struct us_loop_t *loop;
    void (*cb)(struct us_timer_t *t);
    int then_ms; /* kqueue: the period from the first time on, where it is another */
};

struct us_socket_context_t {
    _Alignas(LIBUS_EXT_ALIGNMENT) struct us_loop_t *loop;
    struct us_socket_t *sockets;
    struct us_socket_t *listeners;
    struct us_socket_t *iterator; /* next socket of a visit; moves on when unlinked */
    struct us_socket_context_t *prev, *next;
    struct us_socket_context_t *next_dead;
    int closing, dead;
    struct us_internal_tls_context *tls; /* NULL: plain */
    int (*on_pre_open)(struct us_socket_context_t *context, int fd, char *ip, int ip_length);
    struct us_socket_t *(*on_open)(struct us_socket_t *s, int is_client, char *ip, int ip_length);
    struct us_socket_t *(*on_close)(struct us_socket_t *s, int code, void *reason);
    struct us_socket_t *(*on_data)(struct us_socket_t *s, char *data, int length);
    struct us_socket_t *(*on_writable)(struct us_socket_t *s);
    struct us_socket_t *(*on_timeout)(struct us_socket_t *s);
    struct us_socket_t *(*on_long_timeout)(struct us_socket_t *s);
    struct us_socket_t *(*on_end)(struct us_socket_t *s);
    struct us_socket_t *(*on_connect_error)(struct us_socket_t *s, int code);
};

struct us_loop_t {
    _Alignas(LIBUS_EXT_ALIGNMENT) struct us_sys_t *sys;
    void (*wakeup_cb)(struct us_loop_t *loop);
    void (*pre_cb)(struct us_loop_t *loop);
    void (*post_cb)(struct us_loop_t *loop);

    int poller;  /* the back end's descriptor */
    void *ready; /* the back end's batch of events */
    struct us_poll_t wakeup;
    uint64_t kicks; /* wakeups of our own, for which wakeup_cb does not run */

    char *recv_memory, *recv_buffer; /* the buffer is the memory without its front padding */
    long long iteration, sends, tls_records;
    int alive;  /* polls that are not fallthrough */
    int busy;   /* inside an iteration */
    int calling; /* callbacks that run now, which may be between iterations */
    int broken; /* some socket is SOCKET_BROKEN */
    int visiting;

    struct us_socket_context_t *contexts;
    struct us_socket_context_t *iterator; /* next context of a visit */
    struct us_poll_t *dead_polls;
    struct us_socket_context_t *dead_contexts;
    struct us_udp_socket_t *udp_sockets; /* only to close those left over */

    struct us_timer_t *sweep_timer;
    int swept_by_timer;
    unsigned short sweeps;           /* modulo 2^15 */
    uint8_t tick, long_tick, granule; /* of the timeout clocks; granules in this minute */

    struct us_timer_t *retry_timer;
    int accept_delay_ms; /* 0 while accepting works */
    int retries_wait;    /* some socket is SOCKET_SEND_LATER or UDP_RECEIVE_LATER, and the timer is armed */
    int spare_fd;

    struct us_internal_tls_loop *tls; /* what all TLS sockets share, from the first TLS context on */
};

/* loop.c */
void us_internal_dispatch(struct us_loop_t *loop, struct us_poll_t *p, int error, int events);
void us_internal_bury(struct us_loop_t *loop, struct us_poll_t *p);
void us_internal_kick(struct us_loop_t *loop);
void *us_internal_alloc(struct us_loop_t *loop, size_t size, size_t ext_size);

/* The back end, poll_epoll.c or poll_kqueue.c. Functions that return int give 0, or
 * -1 and errno, unless said otherwise. */
int us_internal_poller_create(struct us_loop_t *loop);
void us_internal_poller_free(struct us_loop_t *loop);
int us_internal_poller_dispatch(struct us_loop_t *loop, int timeout_ms);
int us_internal_poll_start(struct us_loop_t *loop, struct us_poll_t *p, int events);
int us_internal_poll_change(struct us_loop_t *loop, struct us_poll_t *p, int events);
int us_internal_poll_move(struct us_loop_t *loop, struct us_poll_t *to);
void us_internal_poll_stop(struct us_loop_t *loop, struct us_poll_t *p);

/* The back end's timers and wakeup. "Take" makes quiet what has become ready, and
 * returns 1 when it is to call back: not for a timer that has been set anew since,
 * not for a wakeup that was only a kick. */
int us_internal_timer_open(struct us_timer_t *timer, int flags);
int us_internal_timer_set(struct us_timer_t *timer, int ms, int repeat_ms);
int us_internal_timer_take(struct us_timer_t *timer);
void us_internal_timer_shut(struct us_timer_t *timer);
int us_internal_wakeup_open(struct us_loop_t *loop);
void us_internal_wakeup_send(struct us_loop_t *loop, int is_kick);
int us_internal_wakeup_take(struct us_loop_t *loop);
void us_internal_wakeup_shut(struct us_loop_t *loop);

/* sys_forked.c */
struct us_sys_t *us_internal_sys_without_descriptors(void);

/* poll.c */
void us_internal_poll_init(struct us_poll_t *p, int fd, int type, int flags);
void us_internal_user_poll_ready(struct us_poll_t *p, int error, int events);

/* timer.c */
int us_internal_timer_arm(struct us_timer_t *timer, void (*cb)(struct us_timer_t *t), int ms, int repeat_ms);
void us_internal_timer_ready(struct us_timer_t *timer);

/* context.c */
void us_internal_context_link(struct us_socket_context_t *context, struct us_socket_t *s);
void us_internal_context_unlink(struct us_socket_t *s);
void us_internal_visit_sockets(struct us_loop_t *loop, void (*visit)(struct us_socket_t *s));
void us_internal_listener_ready(struct us_listen_socket_t *ls);
int us_internal_retry_later(struct us_loop_t *loop);
int us_internal_prepare_retries(struct us_loop_t *loop);

/* connect.c */
void us_internal_connecting_ready(struct us_socket_t *s, int error);
void us_internal_forget_addresses(struct us_socket_t *s);

/* udp.c */
void us_internal_udp_ready(struct us_udp_socket_t *s, int error, int events);
void us_internal_udp_retry(struct us_loop_t *loop);

/* socket.c */
struct us_socket_t *us_internal_socket_open(struct us_socket_context_t *context, int fd, unsigned int ext_size, int is_client, char *ip, int ip_length);
struct us_socket_t *us_internal_socket_opened(struct us_socket_t *s, int is_client, char *ip, int ip_length);
void us_internal_socket_ready(struct us_socket_t *s, int error, int events);
void us_internal_socket_sweep(struct us_socket_t *s);
void us_internal_socket_reap(struct us_socket_t *s);
void us_internal_socket_retry(struct us_socket_t *s);

/* bsd.c: every socket call. -1 and errno on failure unless said otherwise. */
struct bsd_address {
    char ip[16];
    int ip_length; /* 4, 16, or 0: not an internet address */
};

struct addrinfo;
struct mmsghdr;
struct msghdr;

int bsd_look_up(const char *host, int port, int type, int flags, struct addrinfo **found);
int bsd_listen_tcp(struct us_sys_t *sys, const char *host, int port, int options);
int bsd_listen_unix(struct us_sys_t *sys, const char *path);
int bsd_path_identity(const char *path, dev_t *device, ino_t *inode);
int bsd_accept(struct us_sys_t *sys, int fd, struct bsd_address *address);
int bsd_connect_tcp(struct us_sys_t *sys, const struct addrinfo *target, const struct addrinfo *source, struct bsd_address *address);
int bsd_connect_unix(struct us_sys_t *sys, const char *path);
void bsd_set_nodelay(struct us_sys_t *sys, int fd);
ssize_t bsd_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length);
int bsd_has_data(struct us_sys_t *sys, int fd);
ssize_t bsd_send(struct us_sys_t *sys, int fd, const char *data, size_t length, int msg_more);
ssize_t bsd_send2(struct us_sys_t *sys, int fd, const char *header, size_t header_length, const char *payload, size_t payload_length);
ssize_t bsd_file_read(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset);
ssize_t bsd_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length);
void bsd_flush(struct us_sys_t *sys, int fd);
void bsd_shutdown_write(struct us_sys_t *sys, int fd);
void bsd_shutdown_read(struct us_sys_t *sys, int fd);
int bsd_pending_error(struct us_sys_t *sys, int fd);
int bsd_local_port(struct us_sys_t *sys, int fd);
int bsd_local_address(struct us_sys_t *sys, int fd, void *address, int capacity); /* its length; 0: unknown, or longer */
int bsd_remote_port(struct us_sys_t *sys, int fd);
int bsd_remote_address(struct us_sys_t *sys, int fd, struct bsd_address *address);
int bsd_bind_udp(struct us_sys_t *sys, const char *host, int port);
int bsd_recvmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count);
int bsd_sendmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count);
unsigned int bsd_address_size(const void *address); /* 0: no internet address */
void bsd_local_ip(struct msghdr *message, struct bsd_address *address);
int bsd_ecn(struct msghdr *message);

#endif
