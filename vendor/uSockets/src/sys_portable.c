/* Calls of Linux made of those that every system has. */
#include "platform.h"

#ifdef LIBUS_PORTABLE_CALLS

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Bytes of a file in one send: no system call less, but one copy more. */
enum { FILE_PIECE = 65536 };

static int set_up(int fd, int flags) {
    int status = fcntl(fd, F_GETFL);
    int failed = status < 0;
    if (flags & SOCK_NONBLOCK) failed |= fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0;
    if (flags & SOCK_CLOEXEC) failed |= fcntl(fd, F_SETFD, FD_CLOEXEC) < 0;
#ifdef SO_NOSIGPIPE
    const int on = 1;
    failed |= setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) < 0 && errno != EINVAL; /* it is over already */
#endif
    if (!failed) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

int us_portable_socket(int domain, int type, int protocol) {
    const int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = socket(domain, type & ~flags, protocol);
    return fd < 0 ? -1 : set_up(fd, type & flags);
}

int us_portable_accept(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    int accepted = accept(fd, address, length);
    return accepted < 0 ? -1 : set_up(accepted, flags);
}

ssize_t us_portable_sendfile(int fd, int file, int64_t offset, size_t length) {
    char piece[FILE_PIECE];
    ssize_t got = pread(file, piece, length < sizeof piece ? length : sizeof piece, (off_t) offset);
    return got <= 0 ? got : send(fd, piece, (size_t) got, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* As Linux has it: what fails after the first is told by the next call. */
int us_portable_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    unsigned int done = 0;
    while (done < count) {
        ssize_t length = recvmsg(fd, &messages[done].msg_hdr, flags);
        if (length < 0) break;
        messages[done++].msg_len = (unsigned int) length;
    }
    return done || !count ? (int) done : -1;
}

int us_portable_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags) {
    unsigned int done = 0;
    while (done < count) {
        ssize_t length = sendmsg(fd, &messages[done].msg_hdr, flags | MSG_NOSIGNAL);
        if (length < 0) break;
        messages[done++].msg_len = (unsigned int) length;
    }
    return done || !count ? (int) done : -1;
}

#endif
