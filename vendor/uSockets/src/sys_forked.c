/* The system-call table of a loop in the child of a fork: whatever would be seen
 * by the parent, which goes on with the same descriptors, is refused. */
#include "internal.h"

#include <errno.h>

static int refuse(void) {
    errno = EBADF;
    return -1;
}

static int no_socket(struct us_sys_t *sys, int domain, int type, int protocol) {
    (void) sys, (void) domain, (void) type, (void) protocol;
    return refuse();
}

static int no_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags) {
    (void) sys, (void) fd, (void) address, (void) length, (void) flags;
    return refuse();
}

static int no_connect(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length) {
    (void) sys, (void) fd, (void) address, (void) length;
    return refuse();
}

static int no_setsockopt(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length) {
    (void) sys, (void) fd, (void) level, (void) name, (void) value, (void) length;
    return refuse();
}

static ssize_t no_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags) {
    (void) sys, (void) fd, (void) buffer, (void) length, (void) flags;
    return refuse();
}

static ssize_t no_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags) {
    (void) sys, (void) fd, (void) buffer, (void) length, (void) flags;
    return refuse();
}

static ssize_t no_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags) {
    (void) sys, (void) fd, (void) vector, (void) count, (void) flags;
    return refuse();
}

static ssize_t no_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length) {
    (void) sys, (void) fd, (void) file, (void) offset, (void) length;
    return refuse();
}

static int no_messages(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys, (void) fd, (void) messages, (void) count, (void) flags;
    return refuse();
}

static int no_shutdown(struct us_sys_t *sys, int fd, int how) {
    (void) sys, (void) fd, (void) how;
    return refuse();
}

static int no_unlink(struct us_sys_t *sys, const char *path) {
    (void) sys, (void) path;
    return refuse();
}

#ifdef LIBUS_USE_EPOLL

static int no_epoll_ctl(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event) {
    (void) sys, (void) epfd, (void) op, (void) fd, (void) event;
    return refuse();
}

static int no_epoll_wait(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms) {
    (void) sys, (void) epfd, (void) events, (void) capacity, (void) timeout_ms;
    return refuse();
}

static int no_timerfd_settime(struct us_sys_t *sys, int fd, int ms, int repeat_ms) {
    (void) sys, (void) fd, (void) ms, (void) repeat_ms;
    return refuse();
}

#else

static int no_kevent(struct us_sys_t *sys, int kq, const struct kevent *changes, int change_count, struct kevent *events,
    int capacity, const struct timespec *timeout) {
    (void) sys, (void) kq, (void) changes, (void) change_count, (void) events, (void) capacity, (void) timeout;
    return refuse();
}

#endif

static ssize_t no_read(struct us_sys_t *sys, int fd, void *buffer, size_t length) {
    (void) sys, (void) fd, (void) buffer, (void) length;
    return refuse();
}

static ssize_t no_write(struct us_sys_t *sys, int fd, const void *buffer, size_t length) {
    (void) sys, (void) fd, (void) buffer, (void) length;
    return refuse();
}

/* Closing is not refused: the parent keeps its own. */
struct us_sys_t *us_internal_sys_without_descriptors(void) {
    static struct us_sys_t refusing;
    refusing = *us_sys_default();
    refusing.socket = no_socket;
    refusing.accept4 = no_accept4;
    refusing.connect = no_connect;
    refusing.setsockopt = no_setsockopt;
    refusing.recv = no_recv;
    refusing.send = no_send;
    refusing.sendv = no_sendv;
    refusing.sendfile = no_sendfile;
    refusing.recvmmsg = no_messages;
    refusing.sendmmsg = no_messages;
    refusing.shutdown = no_shutdown;
    refusing.unlink = no_unlink;
#ifdef LIBUS_USE_EPOLL
    refusing.epoll_ctl = no_epoll_ctl;
    refusing.epoll_wait = no_epoll_wait;
    refusing.timerfd_settime = no_timerfd_settime;
#else
    refusing.kevent = no_kevent;
#endif
    refusing.read = no_read;
    refusing.write = no_write;
    return &refusing;
}
