/* The system-call table that production uses: libc, and nothing added. */
#include "libusockets_ext.h"
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifdef LIBUS_USE_EPOLL
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#else
#include <sys/event.h>
#endif

#ifndef LIBUS_PORTABLE_CALLS
#include <signal.h>
#include <sys/sendfile.h>
#endif

/* ---- What not every system has -------------------------------------------- */

#ifdef LIBUS_PORTABLE_CALLS

static int sys_socket(struct us_sys_t *sys, int domain, int type, int protocol) {
    (void) sys;
    return us_portable_socket(domain, type, protocol);
}

static int sys_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags) {
    (void) sys;
    return us_portable_accept(fd, address, length, flags);
}

static int sys_recvmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys;
    return us_portable_recvmmsg(fd, messages, count, flags);
}

static int sys_sendmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys;
    return us_portable_sendmmsg(fd, messages, count, flags);
}

static ssize_t sys_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length) {
    (void) sys;
    return us_portable_sendfile(fd, file, offset, length);
}

#else

static int sys_socket(struct us_sys_t *sys, int domain, int type, int protocol) {
    (void) sys;
    return socket(domain, type, protocol);
}

static int sys_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags) {
    (void) sys;
    return accept4(fd, address, length, flags);
}

static int sys_recvmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys;
    return recvmmsg(fd, messages, count, flags, NULL);
}

static int sys_sendmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    (void) sys;
    return sendmmsg(fd, messages, count, flags | MSG_NOSIGNAL);
}

static ssize_t send_from(int fd, int file, int64_t offset, size_t length) {
    off_t from = (off_t) offset;
    return sendfile(fd, file, &from, length);
}

/* sendfile(2) has no flag against SIGPIPE. Where the program has not ignored the
 * signal it is held back for the call, and what the call raised is taken away. */
static ssize_t sys_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length) {
    (void) sys;
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_IGN) return send_from(fd, file, offset, length);
    sigset_t pipe_signal, before, pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    sigpending(&pending);
    ssize_t sent = send_from(fd, file, offset, length);
    int error = errno;
    if (sent < 0 && error == EPIPE && !sigismember(&pending, SIGPIPE)) sigtimedwait(&pipe_signal, NULL, &(struct timespec) {0});
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return sent;
}

#endif

/* ---- What every system has --------------------------------------------------- */

static int sys_bind(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length) {
    (void) sys;
    return bind(fd, address, length);
}

static int sys_listen(struct us_sys_t *sys, int fd, int backlog) {
    (void) sys;
    return listen(fd, backlog);
}

static int sys_connect(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length) {
    (void) sys;
    return connect(fd, address, length);
}

static int sys_setsockopt(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length) {
    (void) sys;
    return setsockopt(fd, level, name, value, length);
}

static int sys_getsockopt(struct us_sys_t *sys, int fd, int level, int name, void *value, unsigned int *length) {
    (void) sys;
    return getsockopt(fd, level, name, value, length);
}

static int sys_getsockname(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length) {
    (void) sys;
    return getsockname(fd, address, length);
}

static int sys_getpeername(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length) {
    (void) sys;
    return getpeername(fd, address, length);
}

static ssize_t sys_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags) {
    (void) sys;
    return recv(fd, buffer, length, flags);
}

static ssize_t sys_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags) {
    (void) sys;
    return send(fd, buffer, length, flags | MSG_NOSIGNAL);
}

static ssize_t sys_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags) {
    (void) sys;
    struct msghdr message = {.msg_iov = (struct iovec *) vector, .msg_iovlen = (size_t) count};
    return sendmsg(fd, &message, flags | MSG_NOSIGNAL);
}

static ssize_t sys_file_read(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset) {
    (void) sys;
    return pread(file, buffer, length, (off_t) offset);
}

static int sys_file_dup(struct us_sys_t *sys, int file) {
    (void) sys;
    return fcntl(file, F_DUPFD_CLOEXEC, 0);
}

static int sys_file_close(struct us_sys_t *sys, int file) {
    (void) sys;
    return close(file);
}

static int sys_shutdown(struct us_sys_t *sys, int fd, int how) {
    (void) sys;
    return shutdown(fd, how);
}

static int sys_close(struct us_sys_t *sys, int fd) {
    (void) sys;
    return close(fd);
}

static int sys_unlink(struct us_sys_t *sys, const char *path) {
    (void) sys;
    return unlink(path);
}

#ifdef LIBUS_USE_EPOLL

static int sys_epoll_create1(struct us_sys_t *sys, int flags) {
    (void) sys;
    return epoll_create1(flags);
}

static int sys_epoll_ctl(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event) {
    (void) sys;
    return epoll_ctl(epfd, op, fd, event);
}

static int sys_epoll_wait(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms) {
    (void) sys;
    return epoll_wait(epfd, events, capacity, timeout_ms);
}

static int sys_eventfd(struct us_sys_t *sys, unsigned int initial, int flags) {
    (void) sys;
    return eventfd(initial, flags);
}

static int sys_timerfd_create(struct us_sys_t *sys, int clock, int flags) {
    (void) sys;
    return timerfd_create(clock, flags);
}

static struct timespec timespec_of_ms(int ms) {
    return (struct timespec) {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
}

static int sys_timerfd_settime(struct us_sys_t *sys, int fd, int ms, int repeat_ms) {
    (void) sys;
    if (ms < 0 || repeat_ms < 0) {
        errno = EINVAL;
        return -1;
    }
    struct itimerspec spec = {.it_value = timespec_of_ms(ms), .it_interval = timespec_of_ms(repeat_ms)};
    if (ms == 0 && repeat_ms > 0) spec.it_value.tv_nsec = 1; /* to the kernel 0 means disarm, to us at once */
    return timerfd_settime(fd, 0, &spec, NULL);
}

#else

static int sys_kqueue(struct us_sys_t *sys) {
    (void) sys;
    int kq = kqueue();
    if (kq >= 0) (void) fcntl(kq, F_SETFD, FD_CLOEXEC);
    return kq;
}

static int sys_kevent(struct us_sys_t *sys, int kq, const struct kevent *changes, int change_count, struct kevent *events,
    int capacity, const struct timespec *timeout) {
    (void) sys;
    return kevent(kq, changes, change_count, events, capacity, timeout);
}

#endif

static ssize_t sys_read(struct us_sys_t *sys, int fd, void *buffer, size_t length) {
    (void) sys;
    return read(fd, buffer, length);
}

static ssize_t sys_write(struct us_sys_t *sys, int fd, const void *buffer, size_t length) {
    (void) sys;
    return write(fd, buffer, length);
}

static int sys_open_spare(struct us_sys_t *sys) {
    (void) sys;
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static int64_t sys_monotonic_ns(struct us_sys_t *sys) {
    (void) sys;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t sys_wall_seconds(struct us_sys_t *sys) {
    (void) sys;
    return (int64_t) time(NULL);
}

static void *sys_alloc(struct us_sys_t *sys, size_t size) {
    (void) sys;
    return malloc(size);
}

static void *sys_resize(struct us_sys_t *sys, void *memory, size_t size) {
    (void) sys;
    return realloc(memory, size);
}

static void sys_release(struct us_sys_t *sys, void *memory) {
    (void) sys;
    free(memory);
}

struct us_sys_t *us_sys_default(void) {
    static struct us_sys_t libc = {
        .socket = sys_socket,
        .bind = sys_bind,
        .listen = sys_listen,
        .accept4 = sys_accept4,
        .connect = sys_connect,
        .setsockopt = sys_setsockopt,
        .getsockopt = sys_getsockopt,
        .getsockname = sys_getsockname,
        .getpeername = sys_getpeername,
        .recv = sys_recv,
        .send = sys_send,
        .sendv = sys_sendv,
        .sendfile = sys_sendfile,
        .file_read = sys_file_read,
        .file_dup = sys_file_dup,
        .file_close = sys_file_close,
        .recvmmsg = sys_recvmmsg,
        .sendmmsg = sys_sendmmsg,
        .shutdown = sys_shutdown,
        .close = sys_close,
        .unlink = sys_unlink,
#ifdef LIBUS_USE_EPOLL
        .epoll_create1 = sys_epoll_create1,
        .epoll_ctl = sys_epoll_ctl,
        .epoll_wait = sys_epoll_wait,
        .eventfd = sys_eventfd,
        .timerfd_create = sys_timerfd_create,
        .timerfd_settime = sys_timerfd_settime,
#else
        .kqueue = sys_kqueue,
        .kevent = sys_kevent,
#endif
        .read = sys_read,
        .write = sys_write,
        .open_spare = sys_open_spare,
        .monotonic_ns = sys_monotonic_ns,
        .wall_seconds = sys_wall_seconds,
        .alloc = sys_alloc,
        .resize = sys_resize,
        .release = sys_release,
    };
    return &libc;
}
