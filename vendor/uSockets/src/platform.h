/* What Linux has and other systems may lack: names that then do nothing, and calls
 * that are made of others (sys_portable.c). The files that include it look the same
 * everywhere. LIBUS_PORTABLE_CALLS asks for those calls where they are not needed. */
#ifndef US_PLATFORM_H
#define US_PLATFORM_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <sys/socket.h>

#if !defined(__linux__) && !defined(LIBUS_PORTABLE_CALLS)
#define LIBUS_PORTABLE_CALLS
#endif

/* Of the bits of a socket's type, which sys_portable.c takes out again. */
#ifndef SOCK_NONBLOCK
#define SOCK_NONBLOCK 0x10000000
#define SOCK_CLOEXEC 0x20000000
#endif

/* A socket that must not raise SIGPIPE says so itself where there is no flag. */
#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif
#ifndef MSG_MORE
#define MSG_MORE 0
#endif

#ifdef __APPLE__
struct mmsghdr {
    struct msghdr msg_hdr;
    unsigned int msg_len;
};
#endif

int us_portable_socket(int domain, int type, int protocol);
int us_portable_accept(int fd, struct sockaddr *address, socklen_t *length, int flags);
ssize_t us_portable_sendfile(int fd, int file, int64_t offset, size_t length);
int us_portable_recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
int us_portable_sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);

#endif
