/* The in-memory table of server.h with a fault in it: calls are counted by site,
 * and one of them, or all from it on, fails with an errno or moves fewer bytes.
 * Timers run on virtual time, so that back-off and sweeps are seen as they are. */
#ifndef CK_TEST_FAULTY_H
#define CK_TEST_FAULTY_H

#include "server.h"

enum site {
    SITE_NONE, SITE_SOCKET, SITE_BIND, SITE_LISTEN, SITE_ACCEPT, SITE_SETSOCKOPT, SITE_GETSOCKOPT, SITE_GETSOCKNAME,
    SITE_GETPEERNAME, SITE_RECV, SITE_SEND, SITE_SENDV, SITE_SHUTDOWN, SITE_CLOSE, SITE_EPOLL_CREATE, SITE_EPOLL_ADD,
    SITE_EPOLL_MOD, SITE_EPOLL_DEL, SITE_EPOLL_WAIT, SITE_EVENTFD, SITE_TIMERFD_CREATE, SITE_TIMERFD_SETTIME, SITE_READ,
    SITE_WRITE, SITE_OPEN_SPARE, SITE_SENDFILE, SITE_FILE_DUP, SITE_FILE_CLOSE, SITES
};

enum { STEPS_MAX = 3000, NEVER = 0 };

static struct {
    enum site site;
    long at;          /* the call that fails, from 1 */
    bool on;          /* and all after it */
    int error;        /* 0: the call moves `bytes` only */
    size_t bytes;
    long calls[SITES];
    long hits;
    peer *hit;        /* the client whose connection the first failing call was about */
    bool unnoticed;   /* also by that client */
    peer *filed;      /* the client that files are sent to: calls on a file name no connection */
    long waits;       /* of the poller that reported something */
    bool stalled;     /* the loop was still busy when it was given up */
    int64_t due_ns[FDS_MAX], repeat_ns[FDS_MAX]; /* of timers */
    int64_t wall_seconds;
} fault;

/* Counts a call. Returns whether the fault is on it. */
static inline bool is_hit(enum site site, int fd)
{
    long n = ++fault.calls[site];
    if (fault.site != site || n < fault.at || (n > fault.at && !fault.on)) {
        return false;
    }
    if (fault.hits++ == 0 && fd >= FD_FIRST) {
        fault.hit = fd_of(fd)->client;
    }
    return true;
}

/* The same for a call that has no shorter form. */
static inline bool fails(enum site site, int fd)
{
    bool hit = is_hit(site, fd);
    if (hit) {
        errno = fault.error;
    }
    return hit;
}

static inline int f_socket(struct us_sys_t *sys, int domain, int type, int protocol)
{
    return fails(SITE_SOCKET, 0) ? -1 : s_socket(sys, domain, type, protocol);
}

static inline int f_bind(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    return fails(SITE_BIND, 0) ? -1 : s_bind(sys, fd, address, length);
}

static inline int f_listen(struct us_sys_t *sys, int fd, int backlog)
{
    return fails(SITE_LISTEN, 0) ? -1 : s_listen(sys, fd, backlog);
}

static inline int f_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags)
{
    if (fails(SITE_ACCEPT, 0)) { /* with EMFILE whoever waits first is turned away */
        bool sheds = fault.error == EMFILE || fault.error == ENFILE;
        fault.hit = fault.hits == 1 && sheds && world.waiting_count ? world.waiting[0] : fault.hit;
        return -1;
    }
    return s_accept4(sys, fd, address, length, flags);
}

static inline int f_setsockopt(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length)
{
    return fails(SITE_SETSOCKOPT, fd) ? -1 : s_setsockopt(sys, fd, level, name, value, length);
}

static inline int f_getsockopt(struct us_sys_t *sys, int fd, int level, int name, void *value, unsigned int *length)
{
    return fails(SITE_GETSOCKOPT, fd) ? -1 : s_getsockopt(sys, fd, level, name, value, length);
}

static inline int f_getsockname(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length)
{
    return fails(SITE_GETSOCKNAME, fd) ? -1 : s_getname(sys, fd, address, length);
}

static inline int f_getpeername(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length)
{
    return fails(SITE_GETPEERNAME, fd) ? -1 : s_getname(sys, fd, address, length);
}

static inline ssize_t f_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags)
{
    if (is_hit(SITE_RECV, fd)) {
        if (fault.error) {
            errno = fault.error;
            return -1;
        }
        length = fault.bytes < length ? fault.bytes : length;
    }
    return s_recv(sys, fd, buffer, length, flags);
}

static inline ssize_t send_faulty(enum site site, struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags)
{
    if (!is_hit(site, fd)) {
        return s_sendv(sys, fd, vector, count, flags);
    }
    if (fault.error) {
        errno = fault.error;
        return -1;
    }
    size_t length = vector[0].iov_len < fault.bytes ? vector[0].iov_len : fault.bytes;
    const struct iovec shorter = {.iov_base = vector[0].iov_base, .iov_len = length};
    return s_sendv(sys, fd, &shorter, 1, flags);
}

static inline ssize_t f_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags)
{
    return send_faulty(SITE_SENDV, sys, fd, vector, count, flags);
}

static inline ssize_t f_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags)
{
    const struct iovec vector = {.iov_base = (void *) (uintptr_t) buffer, .iov_len = length};
    return send_faulty(SITE_SEND, sys, fd, &vector, 1, flags);
}

static inline int f_shutdown(struct us_sys_t *sys, int fd, int how)
{
    return fails(SITE_SHUTDOWN, fd) ? -1 : s_shutdown(sys, fd, how);
}

/* Whatever close says, the descriptor is gone, as close(2) tells of Linux. */
static inline int f_close(struct us_sys_t *sys, int fd)
{
    bool hit = is_hit(SITE_CLOSE, fd);
    fault.due_ns[fd - FD_FIRST] = NEVER;
    (void) s_close(sys, fd);
    errno = hit ? fault.error : errno;
    return hit ? -1 : 0;
}

static inline int f_epoll_create1(struct us_sys_t *sys, int flags)
{
    return fails(SITE_EPOLL_CREATE, 0) ? -1 : s_epoll_create1(sys, flags);
}

static inline int f_epoll_ctl(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event)
{
    enum site site = op == EPOLL_CTL_ADD ? SITE_EPOLL_ADD : op == EPOLL_CTL_MOD ? SITE_EPOLL_MOD : SITE_EPOLL_DEL;
    bool hit = fails(site, fd);
    int error = errno;
    if (hit && site != SITE_EPOLL_DEL) {
        return -1;
    }
    int result = s_epoll_ctl(sys, epfd, op, fd, event); /* what cannot be removed was not there */
    errno = error;
    return hit ? -1 : result;
}

static inline int f_epoll_wait(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms)
{
    if (fails(SITE_EPOLL_WAIT, 0)) {
        return -1;
    }
    int count = s_epoll_wait(sys, epfd, events, capacity, timeout_ms);
    fault.waits += count > 0;
    return count;
}

static inline int f_eventfd(struct us_sys_t *sys, unsigned int initial, int flags)
{
    return fails(SITE_EVENTFD, 0) ? -1 : s_eventfd(sys, initial, flags);
}

static inline int f_timerfd_create(struct us_sys_t *sys, int clock, int flags)
{
    (void) sys, (void) clock, (void) flags;
    return fails(SITE_TIMERFD_CREATE, 0) ? -1 : fd_new(FD_EVENT);
}

static inline int f_timerfd_settime(struct us_sys_t *sys, int fd, int ms, int repeat_ms)
{
    (void) sys;
    if (fails(SITE_TIMERFD_SETTIME, 0)) {
        return -1;
    }
    fault.due_ns[fd - FD_FIRST] = ms ? world.now_ns + (int64_t) ms * 1000000 : NEVER;
    fault.repeat_ns[fd - FD_FIRST] = (int64_t) repeat_ms * 1000000;
    fd_of(fd)->count = 0;
    return 0;
}

static inline ssize_t f_read(struct us_sys_t *sys, int fd, void *buffer, size_t length)
{
    if (fails(SITE_READ, 0)) {
        return -1;
    }
    if (fd_of(fd)->count == 0) {
        errno = EAGAIN;
        return -1;
    }
    return s_read(sys, fd, buffer, length);
}

static inline ssize_t f_write(struct us_sys_t *sys, int fd, const void *buffer, size_t length)
{
    return fails(SITE_WRITE, 0) ? -1 : s_write(sys, fd, buffer, length);
}

static inline int f_open_spare(struct us_sys_t *sys)
{
    return fails(SITE_OPEN_SPARE, 0) ? -1 : s_open_spare(sys);
}

static inline ssize_t f_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length)
{
    if (is_hit(SITE_SENDFILE, fd)) {
        if (fault.error) {
            errno = fault.error;
            return -1;
        }
        length = fault.bytes < length ? fault.bytes : length;
    }
    return s_sendfile(sys, fd, file, offset, length);
}

static inline bool file_fails(enum site site)
{
    bool hit = fails(site, 0);
    if (hit && fault.hits == 1) {
        fault.hit = fault.filed;
    }
    return hit;
}

static inline int f_file_dup(struct us_sys_t *sys, int file)
{
    return file_fails(SITE_FILE_DUP) ? -1 : s_file_dup(sys, file);
}

/* As f_close. */
static inline int f_file_close(struct us_sys_t *sys, int file)
{
    bool hit = file_fails(SITE_FILE_CLOSE);
    int result = s_file_close(sys, file);
    errno = hit ? fault.error : errno;
    return hit ? -1 : result;
}

static inline int64_t f_wall_seconds(struct us_sys_t *sys)
{
    return fault.wall_seconds ? fault.wall_seconds : s_wall_seconds(sys);
}

/* Starts a world without a fault; set `site` and the rest after it. */
static inline void reset_faulty_world(void)
{
    reset_world();
    memset(&fault, 0, sizeof(fault));
    struct us_sys_t *sys = &world.sys;
    sys->socket = f_socket;
    sys->bind = f_bind;
    sys->listen = f_listen;
    sys->accept4 = f_accept4;
    sys->setsockopt = f_setsockopt;
    sys->getsockopt = f_getsockopt;
    sys->getsockname = f_getsockname;
    sys->getpeername = f_getpeername;
    sys->recv = f_recv;
    sys->send = f_send;
    sys->sendv = f_sendv;
    sys->shutdown = f_shutdown;
    sys->close = f_close;
    sys->epoll_create1 = f_epoll_create1;
    sys->epoll_ctl = f_epoll_ctl;
    sys->epoll_wait = f_epoll_wait;
    sys->eventfd = f_eventfd;
    sys->timerfd_create = f_timerfd_create;
    sys->timerfd_settime = f_timerfd_settime;
    sys->read = f_read;
    sys->write = f_write;
    sys->open_spare = f_open_spare;
    sys->sendfile = f_sendfile;
    sys->file_dup = f_file_dup;
    sys->file_close = f_file_close;
    sys->wall_seconds = f_wall_seconds;
}

static inline void open_faulty_server(const ck_limits *limits)
{
    reset_faulty_world();
    CHECK(try_open_server(limits));
}

/* Lets calls of a site fail from the next one on: one, or all. */
static inline void break_next(enum site site, int error, bool on)
{
    fault.site = site;
    fault.at = fault.calls[site] + 1;
    fault.on = on;
    fault.error = error;
    fault.hits = 0;
    fault.hit = NULL;
}

static inline void mend(void)
{
    fault.site = SITE_NONE;
}

/* Steps while anything is to be done. Where a fault lasts the loop may be kept
 * busy by it; else that would be a loop that spins. */
static inline void go(void)
{
    int most = fault.on ? 60 : STEPS_MAX;
    int steps = 0;
    while ((anything_ready() || world.deferred) && steps < most) {
        world.deferred = 0;
        int result = ck_loop_step();
        CHECK(result >= 0 || (fault.site == SITE_EPOLL_WAIT && fault.hits));
        steps++;
    }
    fault.stalled |= steps == most;
    CHECK(steps < STEPS_MAX);
}

static inline int next_timer(int64_t until)
{
    int next = -1;
    for (int i = 0; i < FDS_MAX; i++) {
        int64_t due = fault.due_ns[i];
        if (due != NEVER && due <= until && (next < 0 || due < fault.due_ns[next])) {
            next = i;
        }
    }
    return next;
}

/* Lets virtual time pass; timers run out one after another, each with its steps. */
static inline void pass_ms(int64_t ms)
{
    int64_t until = world.now_ns + ms * 1000000;
    for (int i = next_timer(until); i >= 0; i = next_timer(until)) {
        int64_t due = fault.due_ns[i], repeat = fault.repeat_ns[i];
        world.now_ns = due > world.now_ns ? due : world.now_ns;
        int64_t missed = repeat ? (world.now_ns - due) / repeat : 0; /* told in one event, as the kernel does */
        fault.due_ns[i] = repeat ? due + (missed + 1) * repeat : NEVER;
        world.fds[i].count += 1 + (uint64_t) missed;
        go();
    }
    world.now_ns = until;
}

/* Connects; the caller lets the loop go. */
static inline peer *knock(void)
{
    peer *client = calloc(1, sizeof(*client));
    client->room = UNLIMITED;
    world.peers[world.peer_count++] = client;
    world.waiting[world.waiting_count++] = client;
    return client;
}

static inline peer *call_in(void)
{
    peer *client = knock();
    go();
    return client;
}

static inline void say_bytes(peer *client, const char *data, size_t length)
{
    arrive(client, data, length);
    go();
}

static inline void say(peer *client, const char *text)
{
    say_bytes(client, text, strlen(text));
}

#endif
