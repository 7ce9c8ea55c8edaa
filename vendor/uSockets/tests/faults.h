/* A system-call table that counts, keeps books of memory and descriptors, and
 * fails where it is told: the n-th call of a kind, or all from the n-th on. */
#ifndef FAULTS_H
#define FAULTS_H

#include "libusockets_ext.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#ifdef LIBUS_USE_KQUEUE
#include <sys/event.h>
#endif

enum call {
    CALL_NONE, CALL_SOCKET, CALL_BIND, CALL_LISTEN, CALL_ACCEPT, CALL_CONNECT, CALL_RECVMMSG, CALL_SENDMMSG, CALL_SETSOCKOPT, CALL_GETSOCKOPT, CALL_GETSOCKNAME, CALL_GETPEERNAME,
    CALL_RECV, CALL_SEND, CALL_SENDV, CALL_SENDFILE, CALL_SHUTDOWN, CALL_UNLINK, CALL_EPOLL_CREATE, CALL_EPOLL_CTL, CALL_EPOLL_WAIT, CALL_EVENTFD,
    CALL_TIMERFD_CREATE, CALL_TIMERFD_SETTIME, CALL_READ, CALL_WRITE, CALL_OPEN_SPARE, CALL_ALLOC, CALL_FILE_READ, CALL_COUNT
};

static struct {
    struct us_sys_t sys;
    enum call fail;
    int at;      /* which call of that kind fails, from 1 */
    int until;   /* the last that fails; 0 = only one */
    int error;
    int calls[CALL_COUNT];
    int memory, descriptors; /* held at the moment */
    size_t send_limit;       /* bytes a send takes at most; 0 = no limit */
    unsigned message_limit;  /* datagrams a sendmmsg takes at most; 0 = no limit */
    int virtual_time;        /* timers run out at once */
    int no_arming;           /* timers cannot be armed */
    uint32_t add_events;     /* reported besides those there are */
    int armed_ms, armed_repeat_ms;
} faults;

static inline int failing(enum call call) {
    int n = ++faults.calls[call];
    if (faults.fail != call || n < faults.at || n > (faults.until ? faults.until : faults.at)) return 0;
    errno = faults.error;
    return 1;
}

static inline int refuses_to_arm(void) {
    if (faults.no_arming) errno = EBADF;
    return faults.no_arming;
}

/* Whether the back end makes such calls. */
static inline int is_made(enum call call) {
#ifdef LIBUS_USE_EPOLL
    (void) call;
    return 1;
#else
    return call != CALL_TIMERFD_CREATE && call != CALL_READ;
#endif
}

static inline int held(int fd) {
    if (fd >= 0) faults.descriptors++;
    return fd;
}

#define REAL us_sys_default()

static inline int f_socket(struct us_sys_t *sys, int domain, int type, int protocol) {
    (void) sys;
    return failing(CALL_SOCKET) ? -1 : held(REAL->socket(REAL, domain, type, protocol));
}

static inline int f_bind(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length) {
    (void) sys;
    return failing(CALL_BIND) ? -1 : REAL->bind(REAL, fd, address, length);
}

static inline int f_listen(struct us_sys_t *sys, int fd, int backlog) {
    (void) sys;
    return failing(CALL_LISTEN) ? -1 : REAL->listen(REAL, fd, backlog);
}

static inline int f_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags) {
    (void) sys;
    return failing(CALL_ACCEPT) ? -1 : held(REAL->accept4(REAL, fd, address, length, flags));
}

static inline int f_connect(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length) {
    (void) sys;
    return failing(CALL_CONNECT) ? -1 : REAL->connect(REAL, fd, address, length);
}

static inline int f_setsockopt(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length) {
    (void) sys;
    return failing(CALL_SETSOCKOPT) ? -1 : REAL->setsockopt(REAL, fd, level, name, value, length);
}

static inline int f_getsockopt(struct us_sys_t *sys, int fd, int level, int name, void *value, unsigned int *length) {
    (void) sys;
    return failing(CALL_GETSOCKOPT) ? -1 : REAL->getsockopt(REAL, fd, level, name, value, length);
}

static inline int f_getsockname(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length) {
    (void) sys;
    return failing(CALL_GETSOCKNAME) ? -1 : REAL->getsockname(REAL, fd, address, length);
}

static inline int f_getpeername(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length) {
    (void) sys;
    return failing(CALL_GETPEERNAME) ? -1 : REAL->getpeername(REAL, fd, address, length);
}

static inline ssize_t f_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags) {
    (void) sys;
    return failing(CALL_RECV) ? -1 : REAL->recv(REAL, fd, buffer, length, flags);
}

static inline ssize_t f_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags) {
    (void) sys;
    if (failing(CALL_SEND)) return -1;
    if (faults.send_limit && length > faults.send_limit) length = faults.send_limit;
    return REAL->send(REAL, fd, buffer, length, flags);
}

static inline ssize_t f_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags) {
    (void) sys;
    if (failing(CALL_SENDV)) return -1;
    if (faults.send_limit) return REAL->send(REAL, fd, vector[0].iov_base, vector[0].iov_len < faults.send_limit ? vector[0].iov_len : faults.send_limit, flags);
    return REAL->sendv(REAL, fd, vector, count, flags);
}

static inline ssize_t f_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length) {
    (void) sys;
    if (failing(CALL_SENDFILE)) return -1;
    return REAL->sendfile(REAL, fd, file, offset, faults.send_limit && faults.send_limit < length ? faults.send_limit : length);
}

static inline int f_recvmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys;
    return failing(CALL_RECVMMSG) ? -1 : REAL->recvmmsg(REAL, fd, messages, count, flags);
}

static inline int f_sendmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys;
    if (failing(CALL_SENDMMSG)) return -1;
    if (faults.message_limit && count > faults.message_limit) count = faults.message_limit;
    return REAL->sendmmsg(REAL, fd, messages, count, flags);
}

static inline int f_shutdown(struct us_sys_t *sys, int fd, int how) {
    (void) sys;
    return failing(CALL_SHUTDOWN) ? -1 : REAL->shutdown(REAL, fd, how);
}

static inline int f_close(struct us_sys_t *sys, int fd) {
    (void) sys;
    faults.descriptors--;
    return REAL->close(REAL, fd);
}

static inline int f_unlink(struct us_sys_t *sys, const char *path) {
    (void) sys;
    return failing(CALL_UNLINK) ? -1 : REAL->unlink(REAL, path);
}

#ifdef LIBUS_USE_EPOLL

static inline int f_epoll_create1(struct us_sys_t *sys, int flags) {
    (void) sys;
    return failing(CALL_EPOLL_CREATE) ? -1 : held(REAL->epoll_create1(REAL, flags));
}

static inline int f_epoll_ctl(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event) {
    (void) sys;
    /* A removal does not fail: the kernel has no reason to, and a registration
     * that stayed behind would be this table's doing. */
    if (op != EPOLL_CTL_DEL && failing(CALL_EPOLL_CTL)) return -1;
    return REAL->epoll_ctl(REAL, epfd, op, fd, event);
}

static inline int f_epoll_wait(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms) {
    (void) sys;
    if (failing(CALL_EPOLL_WAIT)) return -1;
    int count = REAL->epoll_wait(REAL, epfd, events, capacity, timeout_ms);
    for (int i = 0; i < count; i++) events[i].events |= faults.add_events;
    return count;
}

static inline int f_eventfd(struct us_sys_t *sys, unsigned int initial, int flags) {
    (void) sys;
    return failing(CALL_EVENTFD) ? -1 : held(REAL->eventfd(REAL, initial, flags));
}

static inline int f_timerfd_create(struct us_sys_t *sys, int clock, int flags) {
    (void) sys;
    return failing(CALL_TIMERFD_CREATE) ? -1 : held(REAL->timerfd_create(REAL, clock, flags));
}

static inline int f_timerfd_settime(struct us_sys_t *sys, int fd, int ms, int repeat_ms) {
    (void) sys;
    if (failing(CALL_TIMERFD_SETTIME) || refuses_to_arm()) return -1;
    faults.armed_ms = ms;
    faults.armed_repeat_ms = repeat_ms;
    return REAL->timerfd_settime(REAL, fd, ms && faults.virtual_time ? 1 : ms, repeat_ms);
}

#else

/* What the kqueue back end says by kevent, under the names of the calls that do the
 * same for the other one. */
static inline enum call kevent_call(const struct kevent *changes, int count) {
    const struct kevent *last = &changes[count - 1];
    if (count == 0) return CALL_EPOLL_WAIT;
    if (last->filter == EVFILT_TIMER) return last->flags & EV_DELETE ? CALL_NONE : CALL_TIMERFD_SETTIME;
    if (last->filter == EVFILT_USER) return last->fflags & NOTE_TRIGGER ? CALL_WRITE : CALL_EVENTFD;
    int is_stop = count == 2 && last->flags & EV_DELETE && changes->flags & EV_DELETE;
    return is_stop ? CALL_NONE : CALL_EPOLL_CTL;
}

static inline int f_kqueue(struct us_sys_t *sys) {
    (void) sys;
    return failing(CALL_EPOLL_CREATE) ? -1 : held(REAL->kqueue(REAL));
}

/* Returns whether the call fails. A removal does not, as above. */
static inline int f_change(struct kevent *changes, int count) {
    struct kevent *last = &changes[count - 1];
    enum call call = kevent_call(changes, count);
    if (call != CALL_NONE && failing(call)) return 1;
    if (call != CALL_TIMERFD_SETTIME || last->flags & EV_DELETE) return 0;
    if (refuses_to_arm()) return 1;
    faults.armed_ms = (int) last->data;
    faults.armed_repeat_ms = last->flags & EV_ONESHOT ? 0 : (int) last->data;
    if (faults.virtual_time) last->data = 1;
    return 0;
}

static inline int f_kevent(struct us_sys_t *sys, int kq, const struct kevent *changes, int change_count, struct kevent *events,
    int capacity, const struct timespec *timeout) {
    (void) sys;
    struct kevent list[8];
    if (change_count) {
        memcpy(list, changes, (size_t) change_count * sizeof *list);
        return f_change(list, change_count) ? -1 : REAL->kevent(REAL, kq, list, change_count, events, capacity, timeout);
    }
    if (failing(CALL_EPOLL_WAIT)) return -1;
    int count = REAL->kevent(REAL, kq, NULL, 0, events, capacity, timeout);
    for (int i = 0; i < count; i++) {
        if (events[i].filter != EVFILT_READ && events[i].filter != EVFILT_WRITE) continue;
        if (faults.add_events & (EPOLLHUP | EPOLLERR)) events[i].flags |= EV_EOF;
        if (faults.add_events & EPOLLERR) events[i].fflags = EIO;
    }
    return count;
}

#endif

static inline ssize_t f_file_read(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset) {
    (void) sys;
    return failing(CALL_FILE_READ) ? -1 : REAL->file_read(REAL, file, buffer, length, offset);
}

static inline ssize_t f_read(struct us_sys_t *sys, int fd, void *buffer, size_t length) {
    (void) sys;
    return failing(CALL_READ) ? -1 : REAL->read(REAL, fd, buffer, length);
}

static inline ssize_t f_write(struct us_sys_t *sys, int fd, const void *buffer, size_t length) {
    (void) sys;
    return failing(CALL_WRITE) ? -1 : REAL->write(REAL, fd, buffer, length);
}

static inline int f_open_spare(struct us_sys_t *sys) {
    (void) sys;
    return failing(CALL_OPEN_SPARE) ? -1 : held(REAL->open_spare(REAL));
}

static inline void *f_alloc(struct us_sys_t *sys, size_t size) {
    (void) sys;
    if (failing(CALL_ALLOC)) return NULL;
    faults.memory++;
    return REAL->alloc(REAL, size);
}

static inline void *f_resize(struct us_sys_t *sys, void *memory, size_t size) {
    (void) sys;
    if (failing(CALL_ALLOC)) return NULL;
    faults.memory += !memory;
    return REAL->resize(REAL, memory, size);
}

static inline void f_release(struct us_sys_t *sys, void *memory) {
    (void) sys;
    faults.memory--;
    REAL->release(REAL, memory);
}

/* Starts anew and returns the table. Set `fail` and the rest after it. */
static inline struct us_sys_t *faults_reset(void) {
    memset(&faults, 0, sizeof faults);
    faults.sys = *us_sys_default();
    faults.sys.socket = f_socket;
    faults.sys.bind = f_bind;
    faults.sys.listen = f_listen;
    faults.sys.accept4 = f_accept4;
    faults.sys.connect = f_connect;
    faults.sys.setsockopt = f_setsockopt;
    faults.sys.getsockopt = f_getsockopt;
    faults.sys.getsockname = f_getsockname;
    faults.sys.getpeername = f_getpeername;
    faults.sys.recv = f_recv;
    faults.sys.send = f_send;
    faults.sys.sendv = f_sendv;
    faults.sys.sendfile = f_sendfile;
    faults.sys.file_read = f_file_read;
    faults.sys.shutdown = f_shutdown;
    faults.sys.recvmmsg = f_recvmmsg;
    faults.sys.sendmmsg = f_sendmmsg;
    faults.sys.close = f_close;
    faults.sys.unlink = f_unlink;
#ifdef LIBUS_USE_EPOLL
    faults.sys.epoll_create1 = f_epoll_create1;
    faults.sys.epoll_ctl = f_epoll_ctl;
    faults.sys.epoll_wait = f_epoll_wait;
    faults.sys.eventfd = f_eventfd;
    faults.sys.timerfd_create = f_timerfd_create;
    faults.sys.timerfd_settime = f_timerfd_settime;
#else
    faults.sys.kqueue = f_kqueue;
    faults.sys.kevent = f_kevent;
#endif
    faults.sys.read = f_read;
    faults.sys.write = f_write;
    faults.sys.open_spare = f_open_spare;
    faults.sys.alloc = f_alloc;
    faults.sys.resize = f_resize;
    faults.sys.release = f_release;
    return &faults.sys;
}

/* Lets the next call of a kind fail, and `more` after it. */
static inline void fail_next(enum call call, int error, int more) {
    faults.fail = call;
    faults.at = faults.calls[call] + 1;
    faults.until = faults.at + more;
    faults.error = error;
}

static inline void fail_nothing(void) {
    faults.fail = CALL_NONE;
}

#endif
