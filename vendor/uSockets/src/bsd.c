/* Every socket call, made through the loop's system-call table. Nothing here
 * knows of loops or sockets: descriptors go in, results and errno come out.
 * EINTR is retried, and MSG_DONTWAIT keeps also those descriptors from blocking
 * that somebody else created. (Name look-up and file status are no socket calls
 * and go to libc directly.) */
#include "internal.h"
#include "platform.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/un.h>

/* The kernel cuts this down to net.core.somaxconn. */
#define LISTEN_BACKLOG 4096

static void set_option(struct us_sys_t *sys, int fd, int level, int name, int value) {
    /* The options set here are refinements: a socket without one still works. */
    (void) sys->setsockopt(sys, fd, level, name, &value, sizeof value);
}

static int close_failed(struct us_sys_t *sys, int fd) {
    int error = errno;
    sys->close(sys, fd);
    errno = error;
    return -1;
}

static int listen_on(struct us_sys_t *sys, const struct sockaddr *address, unsigned int length, int options) {
    int fd = sys->socket(sys, address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    set_option(sys, fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!(options & LIBUS_LISTEN_EXCLUSIVE_PORT)) set_option(sys, fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (address->sa_family == AF_INET6) set_option(sys, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    set_option(sys, fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (sys->bind(sys, fd, address, length) || sys->listen(sys, fd, LISTEN_BACKLOG)) return close_failed(sys, fd);
    return fd;
}

static int without_ipv6(int error) {
    return error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == EADDRNOTAVAIL;
}

static int listen_on_all(struct us_sys_t *sys, int port, int options) {
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t) port), .sin6_addr = in6addr_any};
    int fd = listen_on(sys, (struct sockaddr *) &any6, sizeof any6, options);
    if (fd >= 0 || !without_ipv6(errno)) return fd;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = {htonl(INADDR_ANY)}};
    return listen_on(sys, (struct sockaddr *) &any, sizeof any, options);
}

static int bad_port(int port) {
    return port < 0 || port > 65535;
}

/* Finds the addresses of a name, the best first; `host` NULL is this machine, or
 * with AI_PASSIVE all its interfaces. It blocks. */
int bsd_look_up(const char *host, int port, int type, int flags, struct addrinfo **found) {
    char service[8];
    if (bad_port(port)) {
        errno = EINVAL;
        return -1;
    }
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_family = AF_UNSPEC, .ai_socktype = type};
    int failed = getaddrinfo(host, service, &hints, found);
    if (failed == 0) return 0;
    if (failed == EAI_MEMORY) errno = ENOMEM;
    else if (failed != EAI_SYSTEM) errno = EADDRNOTAVAIL;
    return -1;
}

int bsd_listen_tcp(struct us_sys_t *sys, const char *host, int port, int options) {
    struct addrinfo *found;
    if (!host && !bad_port(port)) return listen_on_all(sys, port, options);
    if (bsd_look_up(host, port, SOCK_STREAM, AI_PASSIVE, &found)) return -1;
    int fd = -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) fd = listen_on(sys, a->ai_addr, a->ai_addrlen, options);
    int error = errno;
    freeaddrinfo(found);
    errno = error;
    return fd;
}

/* Tells which file a path is, so that only a socket is ever unlinked, and at
 * close only our own. Returns 1 for a socket, else 0. */
int bsd_path_identity(const char *path, dev_t *device, ino_t *inode) {
    struct stat status;
    if (lstat(path, &status) || !S_ISSOCK(status.st_mode)) return 0;
    *device = status.st_dev;
    *inode = status.st_ino;
    return 1;
}

static int unix_address(const char *path, struct sockaddr_un *address) {
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof address->sun_path) {
        errno = length ? ENAMETOOLONG : EINVAL;
        return -1;
    }
    *address = (struct sockaddr_un) {.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, length + 1);
    return 0;
}

int bsd_listen_unix(struct us_sys_t *sys, const char *path) {
    struct sockaddr_un address;
    if (unix_address(path, &address)) return -1;
    int fd = sys->socket(sys, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    dev_t device;
    ino_t inode;
    if (bsd_path_identity(path, &device, &inode) && sys->unlink(sys, path)) return close_failed(sys, fd);
    if (sys->bind(sys, fd, (struct sockaddr *) &address, sizeof address)) return close_failed(sys, fd);
    if (sys->listen(sys, fd, LISTEN_BACKLOG) == 0) return fd;
    int error = errno;
    sys->unlink(sys, path); /* bind made it */
    errno = error;
    return close_failed(sys, fd);
}

/* An IPv4 peer of a dual-stack listener appears as ::ffff:a.b.c.d. It is an IPv4
 * peer all the same, and is given as one. */
static void read_address(const struct sockaddr *from, struct bsd_address *to) {
    to->ip_length = 0;
    if (from->sa_family == AF_INET) {
        memcpy(to->ip, &((const struct sockaddr_in *) (const void *) from)->sin_addr, 4);
        to->ip_length = 4;
    } else if (from->sa_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *) (const void *) from)->sin6_addr;
        int mapped = IN6_IS_ADDR_V4MAPPED(ip);
        memcpy(to->ip, ip->s6_addr + (mapped ? 12 : 0), mapped ? 4 : 16);
        to->ip_length = mapped ? 4 : 16;
    }
}

int bsd_accept(struct us_sys_t *sys, int fd, struct bsd_address *address) {
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    unsigned int length = sizeof storage;
    int accepted = sys->accept4(sys, fd, (struct sockaddr *) &storage, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (accepted >= 0) read_address((struct sockaddr *) &storage, address);
    return accepted;
}

/* A connect that a signal cut short goes on by itself, as the second call says. */
static int connect_to(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length) {
    int failed, cut = 0;
    while ((failed = sys->connect(sys, fd, address, length)) && errno == EINTR) cut = 1;
    if (failed && (errno == EINPROGRESS || (cut && (errno == EALREADY || errno == EISCONN)))) return 0;
    return failed;
}

/* Begins to connect; `source` NULL leaves the local end to the kernel. How it ends
 * is known when the descriptor is writable, also where it has succeeded at once. */
int bsd_connect_tcp(struct us_sys_t *sys, const struct addrinfo *target, const struct addrinfo *source, struct bsd_address *address) {
    int fd = sys->socket(sys, target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    bsd_set_nodelay(sys, fd);
#ifdef IP_BIND_ADDRESS_NO_PORT
    if (source) set_option(sys, fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1); /* a port is shared by peers */
#endif
    if (source && sys->bind(sys, fd, source->ai_addr, source->ai_addrlen)) return close_failed(sys, fd);
    if (connect_to(sys, fd, target->ai_addr, target->ai_addrlen)) return close_failed(sys, fd);
    read_address(target->ai_addr, address);
    return fd;
}

int bsd_connect_unix(struct us_sys_t *sys, const char *path) {
    struct sockaddr_un address;
    if (unix_address(path, &address)) return -1;
    int fd = sys->socket(sys, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    return connect_to(sys, fd, (struct sockaddr *) &address, sizeof address) ? close_failed(sys, fd) : fd;
}

void bsd_set_nodelay(struct us_sys_t *sys, int fd) {
    set_option(sys, fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

ssize_t bsd_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length) {
    ssize_t n;
    do n = sys->recv(sys, fd, buffer, length, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

/* Returns 1 if there is something to read, the end of the stream not counted. */
int bsd_has_data(struct us_sys_t *sys, int fd) {
    char byte;
    ssize_t n;
    do n = sys->recv(sys, fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

static int send_flags(int msg_more) {
    return MSG_NOSIGNAL | MSG_DONTWAIT | (msg_more ? MSG_MORE : 0);
}

ssize_t bsd_send(struct us_sys_t *sys, int fd, const char *data, size_t length, int msg_more) {
    ssize_t n;
    do n = sys->send(sys, fd, data, length, send_flags(msg_more));
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t bsd_send2(struct us_sys_t *sys, int fd, const char *header, size_t header_length, const char *payload, size_t payload_length) {
    /* The vector is only read, but POSIX has no const for it. */
    struct iovec vector[2] = {
        {.iov_base = (void *) (uintptr_t) header, .iov_len = header_length},
        {.iov_base = (void *) (uintptr_t) payload, .iov_len = payload_length},
    };
    ssize_t n;
    do n = sys->sendv(sys, fd, vector, 2, send_flags(0));
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t bsd_file_read(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset) {
    ssize_t n;
    do n = sys->file_read(sys, file, buffer, length, offset);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t bsd_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length) {
    ssize_t n;
    do n = sys->sendfile(sys, fd, file, offset, length);
    while (n < 0 && errno == EINTR);
    return n;
}

void bsd_flush(struct us_sys_t *sys, int fd) {
    /* Uncorking pushes what MSG_MORE held back, also when it was never corked. */
#ifdef TCP_CORK
    set_option(sys, fd, IPPROTO_TCP, TCP_CORK, 0);
#else
    (void) sys, (void) fd; /* nothing is held back there */
#endif
}

void bsd_shutdown_write(struct us_sys_t *sys, int fd) {
    (void) sys->shutdown(sys, fd, SHUT_WR);
}

void bsd_shutdown_read(struct us_sys_t *sys, int fd) {
    (void) sys->shutdown(sys, fd, SHUT_RD);
}

/* Returns the error that the kernel holds for the socket, 0 for none. */
int bsd_pending_error(struct us_sys_t *sys, int fd) {
    int error = 0;
    unsigned int length = sizeof error;
    return sys->getsockopt(sys, fd, SOL_SOCKET, SO_ERROR, &error, &length) ? errno : error;
}

static int port_of(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *) address)->sin_port);
    if (address->ss_family == AF_INET6) return ntohs(((const struct sockaddr_in6 *) address)->sin6_port);
    return 0;
}

int bsd_local_port(struct us_sys_t *sys, int fd) {
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    unsigned int length = sizeof storage;
    return sys->getsockname(sys, fd, (struct sockaddr *) &storage, &length) ? -1 : port_of(&storage);
}

int bsd_local_address(struct us_sys_t *sys, int fd, void *address, int capacity) {
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    unsigned int length = sizeof storage;
    if (sys->getsockname(sys, fd, (struct sockaddr *) &storage, &length)) return 0;
    length = bsd_address_size(&storage);
    if (capacity < 0 || length > (unsigned int) capacity) return 0;
    memcpy(address, &storage, length);
    return (int) length;
}

int bsd_remote_port(struct us_sys_t *sys, int fd) {
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    unsigned int length = sizeof storage;
    return sys->getpeername(sys, fd, (struct sockaddr *) &storage, &length) ? -1 : port_of(&storage);
}

int bsd_remote_address(struct us_sys_t *sys, int fd, struct bsd_address *address) {
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    unsigned int length = sizeof storage;
    if (sys->getpeername(sys, fd, (struct sockaddr *) &storage, &length)) return -1;
    read_address((struct sockaddr *) &storage, address);
    return 0;
}

/* ---- Datagrams ----------------------------------------------------------- */

static int bind_udp(struct us_sys_t *sys, const struct sockaddr *address, unsigned int length) {
    int fd = sys->socket(sys, address->sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    /* An IPv6 socket may get IPv4 packets, so both kinds are asked for. */
#ifdef IP_PKTINFO
    set_option(sys, fd, IPPROTO_IP, IP_PKTINFO, 1);
#endif
    set_option(sys, fd, IPPROTO_IP, IP_RECVTOS, 1);
    if (address->sa_family == AF_INET6) {
        set_option(sys, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        set_option(sys, fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
        set_option(sys, fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    }
    return sys->bind(sys, fd, address, length) ? close_failed(sys, fd) : fd;
}

static int bind_udp_to_all(struct us_sys_t *sys, int port) {
    struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t) port), .sin6_addr = in6addr_any};
    int fd = bind_udp(sys, (struct sockaddr *) &any6, sizeof any6);
    if (fd >= 0 || !without_ipv6(errno)) return fd;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port), .sin_addr = {htonl(INADDR_ANY)}};
    return bind_udp(sys, (struct sockaddr *) &any, sizeof any);
}

/* Makes a datagram socket bound to `host`, NULL for all interfaces, and `port`. */
int bsd_bind_udp(struct us_sys_t *sys, const char *host, int port) {
    struct addrinfo *found;
    if (!host && !bad_port(port)) return bind_udp_to_all(sys, port);
    if (bsd_look_up(host, port, SOCK_DGRAM, AI_PASSIVE, &found)) return -1;
    int fd = -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) fd = bind_udp(sys, a->ai_addr, a->ai_addrlen);
    int error = errno;
    freeaddrinfo(found);
    errno = error;
    return fd;
}

int bsd_recvmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count) {
    int n;
    do n = sys->recvmmsg(sys, fd, messages, count, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

int bsd_sendmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count) {
    int n;
    do n = sys->sendmmsg(sys, fd, messages, count, send_flags(0));
    while (n < 0 && errno == EINTR);
    return n;
}

unsigned int bsd_address_size(const void *address) {
    switch (((const struct sockaddr *) address)->sa_family) {
    case AF_INET: return sizeof(struct sockaddr_in);
    case AF_INET6: return sizeof(struct sockaddr_in6);
    default: return 0;
    }
}

/* Reads the address that a datagram was sent to from its control messages. */
void bsd_local_ip(struct msghdr *message, struct bsd_address *address) {
    address->ip_length = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
#ifdef IP_PKTINFO
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            struct sockaddr_in ip = {.sin_family = AF_INET, .sin_addr = info.ipi_addr};
            read_address((struct sockaddr *) &ip, address);
            continue;
        }
#endif
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof info);
            struct sockaddr_in6 ip = {.sin6_family = AF_INET6, .sin6_addr = info.ipi6_addr};
            read_address((struct sockaddr *) &ip, address);
        }
    }
}

/* Returns the two bits of explicit congestion notification, 0 where unknown. */
int bsd_ecn(struct msghdr *message) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) return *CMSG_DATA(c) & 3;
        if (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_TCLASS) continue;
        int traffic_class;
        memcpy(&traffic_class, CMSG_DATA(c), sizeof traffic_class);
        return traffic_class & 3;
    }
    return 0;
}
