/* Datagrams in memory: beside the world of server.h with the faults of faulty.h, a
 * kernel that keeps what is sent, and gives what a test has posted. Lists and tuples
 * are text: "[(data, (host, port)), ...]". */
#ifndef CK_TEST_MAIL_H
#define CK_TEST_MAIL_H

#include "faulty.h"

#include <arpa/inet.h>

enum { MAIL_MAX = 5000, LIST_MAX = 60000, OWN_PORT = 4000 };

typedef struct letter {
    struct sockaddr_storage peer;
    socklen_t peer_length;
    size_t length;
    char data[64]; /* the beginning */
} letter;

static struct {
    letter in[MAIL_MAX]; /* posted; one descriptor receives them all */
    int in_first, in_count;
    int receiver;
    letter out[MAIL_MAX];
    int out_count;
    int batches[MAIL_MAX]; /* datagrams of each sendmmsg that took some */
    int sends;
    int room;              /* datagrams that the kernel takes, or UNLIMITED */
    int receive_error;     /* that meets each receive */
    int send_error;        /* that meets what is sent to `bad_port` first in a batch */
    int bad_port;
    long receives;
    struct sockaddr_storage bound[FDS_MAX];
    char list[LIST_MAX];
    size_t list_length;
} mail;

/* ---- The kernel ---- */

static inline int m_socket(struct us_sys_t *sys, int domain, int type, int protocol)
{
    int fd = f_socket(sys, domain, type, protocol);
    if (fd >= 0 && (type & 0xf) == SOCK_DGRAM) {
        fd_of(fd)->kind = FD_DATAGRAMS;
        mail.receiver = fd;
    }
    return fd;
}

static inline int m_bind(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    memset(&mail.bound[fd - FD_FIRST], 0, sizeof(mail.bound[0]));
    memcpy(&mail.bound[fd - FD_FIRST], address, length);
    return f_bind(sys, fd, address, length);
}

static inline int m_getsockname(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length)
{
    (void) sys;
    if (fails(SITE_GETSOCKNAME, fd)) {
        return -1;
    }
    struct sockaddr_storage own = mail.bound[fd - FD_FIRST];
    if (own.ss_family == AF_INET) {
        ((struct sockaddr_in *) (void *) &own)->sin_port = htons(OWN_PORT);
    } else {
        ((struct sockaddr_in6 *) (void *) &own)->sin6_port = htons(OWN_PORT);
    }
    memcpy(address, &own, *length < sizeof(own) ? *length : sizeof(own));
    return 0;
}

static inline int port_of(const struct sockaddr_storage *address)
{
    const void *at = address;
    return ntohs(address->ss_family == AF_INET ? ((const struct sockaddr_in *) at)->sin_port : ((const struct sockaddr_in6 *) at)->sin6_port);
}

static inline int m_recvmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    (void) sys, (void) flags;
    mail.receives++;
    if (mail.receive_error || fd != mail.receiver || mail.in_count == 0) {
        fd_of(fd)->count = fd == mail.receiver ? fd_of(fd)->count : 0; /* another has opened since */
        errno = mail.receive_error ? mail.receive_error : EAGAIN;
        return -1;
    }
    unsigned int n = 0;
    for (; n < count && mail.in_count; n++, mail.in_count--) {
        const letter *next = &mail.in[mail.in_first++];
        struct msghdr *header = &messages[n].msg_hdr;
        memcpy(header->msg_name, &next->peer, sizeof(next->peer));
        header->msg_namelen = next->peer_length;
        header->msg_controllen = 0;
        memset(header->msg_iov[0].iov_base, 'x', next->length);
        memcpy(header->msg_iov[0].iov_base, next->data, next->length < sizeof(next->data) ? next->length : sizeof(next->data));
        messages[n].msg_len = (unsigned int) next->length;
    }
    mail.in_first = mail.in_count ? mail.in_first : 0;
    fd_of(fd)->count = (uint64_t) mail.in_count;
    world.moved++;
    return (int) n;
}

static inline int m_sendmmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    (void) sys, (void) flags;
    unsigned int n = 0;
    for (; n < count && mail.room != 0; n++) {
        const struct msghdr *header = &messages[n].msg_hdr;
        if (mail.send_error && port_of(header->msg_name) == mail.bad_port) {
            if (n == 0) {
                errno = mail.send_error;
                return -1;
            }
            break;
        }
        letter *sent = &mail.out[mail.out_count++ % MAIL_MAX];
        memset(sent, 0, sizeof(*sent));
        memcpy(&sent->peer, header->msg_name, header->msg_namelen);
        sent->length = header->msg_iov[0].iov_len;
        memcpy(sent->data, header->msg_iov[0].iov_base, sent->length < sizeof(sent->data) ? sent->length : sizeof(sent->data) - 1);
        mail.room -= mail.room != UNLIMITED;
        messages[n].msg_len = (unsigned int) sent->length;
    }
    if (n == 0) {
        fd_of(fd)->full = true;
        errno = EAGAIN;
        return -1;
    }
    fd_of(fd)->full = mail.room == 0;
    mail.batches[mail.sends++ % MAIL_MAX] = (int) n;
    world.moved++;
    return (int) n;
}

/* The kernel takes so many more. */
static inline void make_room(int datagrams)
{
    mail.room = datagrams;
    for (int i = 0; i < FDS_MAX; i++) {
        world.fds[i].full = false;
    }
}

/* ---- Memory: buffers of packets are used again, since making one takes long under sanitizers ---- */

enum { BUFFER_LEAST = 16 << 20, BUFFERS_KEPT = 2 };

static struct {
    void *memory;
    bool taken;
} buffers[BUFFERS_KEPT];

static inline void *m_alloc(struct us_sys_t *sys, size_t size)
{
    for (int i = 0; size >= BUFFER_LEAST && i < BUFFERS_KEPT; i++) {
        if (!buffers[i].taken) {
            buffers[i].memory = buffers[i].memory ? buffers[i].memory : malloc(size);
            buffers[i].taken = !out_of_memory();
            world.memory += buffers[i].taken;
            return buffers[i].taken ? buffers[i].memory : NULL;
        }
    }
    return s_alloc(sys, size);
}

static inline void m_release(struct us_sys_t *sys, void *memory)
{
    for (int i = 0; i < BUFFERS_KEPT; i++) {
        if (memory && buffers[i].memory == memory) {
            buffers[i].taken = false;
            world.memory--;
            return;
        }
    }
    s_release(sys, memory);
}

static inline void free_buffers(void)
{
    for (int i = 0; i < BUFFERS_KEPT; i++) {
        CHECK(!buffers[i].taken);
        free(buffers[i].memory);
    }
}

/* ---- Python ---- */

static inline void *mail_list(ptrdiff_t length)
{
    (void) length;
    mail.list_length = 0;
    return object_new("list", 4);
}

static inline int mail_append(void *list, void *item)
{
    const object *made = item;
    (void) list;
    if (no_object()) {
        return -1;
    }
    size_t room = LIST_MAX - mail.list_length;
    int n = snprintf(mail.list + mail.list_length, room, "%s ", made->data);
    mail.list_length += (size_t) n < room ? (size_t) n : 0;
    return 0;
}

static inline void *mail_pack(ptrdiff_t length, ...)
{
    char text[4096] = "(";
    size_t at = 1;
    va_list parts;
    va_start(parts, length);
    for (ptrdiff_t i = 0; i < length; i++) {
        const object *part = va_arg(parts, const object *);
        at += (size_t) snprintf(text + at, sizeof(text) - at, "%s%.200s", i ? "," : "", part->data);
    }
    va_end(parts);
    at += (size_t) snprintf(text + at, sizeof(text) - at, ")");
    return object_new(text, (ptrdiff_t) at);
}

static inline void *mail_integer(long value)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld", value);
    return object_new(text, n);
}

static inline void reset_mail(void)
{
    reset_faulty_world();
    memset(&mail, 0, sizeof(mail));
    mail.room = UNLIMITED;
    world.sys.alloc = m_alloc;
    world.sys.release = m_release;
    world.sys.socket = m_socket;
    world.sys.bind = m_bind;
    world.sys.getsockname = m_getsockname;
    world.sys.recvmmsg = m_recvmmsg;
    world.sys.sendmmsg = m_sendmmsg;
    const ck_python python = {.bytes_new = object_new, .latin1 = object_text, .utf8 = object_text, .list_new = mail_list,
        .list_append = mail_append, .tuple_pack = mail_pack, .incref = object_incref, .decref = object_decref,
        .error_set = object_error, .error_no_memory = object_no_memory, .none = &object_none, .error_fetch = object_fetch,
        .integer = mail_integer};
    ck_python_bind(&python);
}

/* ---- Peers ---- */

static inline letter *post_from(const char *host, int port, const char *data, size_t length)
{
    letter *posted = &mail.in[mail.in_first + mail.in_count++];
    memset(posted, 0, sizeof(*posted));
    struct sockaddr_in *ip4 = (void *) &posted->peer;
    struct sockaddr_in6 *ip6 = (void *) &posted->peer;
    if (inet_pton(AF_INET, host, &ip4->sin_addr) == 1) {
        ip4->sin_family = AF_INET;
        ip4->sin_port = htons((uint16_t) port);
        posted->peer_length = sizeof(*ip4);
    } else {
        CHECK(inet_pton(AF_INET6, host, &ip6->sin6_addr) == 1);
        ip6->sin6_family = AF_INET6;
        ip6->sin6_port = htons((uint16_t) port);
        posted->peer_length = sizeof(*ip6);
    }
    posted->length = length;
    memcpy(posted->data, data, strlen(data));
    fd_of(mail.receiver)->count++;
    return posted;
}

static inline void post(const char *text)
{
    post_from("10.0.0.1", 53, text, strlen(text));
}

#define CHECK_LIST(wanted) CHECK_TEXT((mail.list[mail.list_length] = '\0', mail.list), wanted)

#endif
