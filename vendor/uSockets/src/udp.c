/* Datagrams, moved in batches: one call to the kernel receives or sends as many
 * packets as there are, up to PACKETS.
 *
 * A buffer is one block: its packets as the kernel wants them, then the payloads
 * they point to, touched only as far as they are used. It always stands ready for
 * sending; `used` says how many packets must be made ready for receiving again, so
 * that a batch of one does not cost the tidying of all. What a callback was given
 * must outlive a close in it, so the buffer of a socket's own is buried with the
 * socket, for which it begins as a poll. */
#include "internal.h"
#include "platform.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

enum { PACKETS = 1024, PAYLOAD_SIZE = 65536, CONTROL_SIZE = 128 };

struct us_udp_packet_buffer_t {
    struct us_poll_t grave;
    struct us_sys_t *sys;
    int used;
    int lengths[PACKETS];         /* of the payload, or -errno: cannot be sent */
    size_t control_sizes[PACKETS]; /* of what was received */
    struct mmsghdr messages[PACKETS];
    struct iovec vectors[PACKETS];
    struct sockaddr_storage peers[PACKETS];
    _Alignas(struct cmsghdr) char controls[PACKETS][CONTROL_SIZE];
};

struct us_udp_socket_t {
    struct us_poll_t p;
    struct us_loop_t *loop;
    struct us_udp_socket_t *prev, *next; /* in the loop */
    struct us_udp_packet_buffer_t *buffer;
    int owns_buffer, port;
    void (*data_cb)(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count);
    void (*drain_cb)(struct us_udp_socket_t *s);
    void *user;
};

/* ---- Packet buffers ------------------------------------------------------ */

static char *payload_of(struct us_udp_packet_buffer_t *buf, int index) {
    return (char *) (buf + 1) + (size_t) index * PAYLOAD_SIZE;
}

static int has_packet(int index) {
    return index >= 0 && index < PACKETS;
}

static void make_ready_for_receiving(struct us_udp_packet_buffer_t *buf) {
    for (int i = 0; i < buf->used; i++) {
        struct msghdr *header = &buf->messages[i].msg_hdr;
        buf->lengths[i] = -EINVAL;
        buf->control_sizes[i] = 0;
        buf->vectors[i].iov_len = PAYLOAD_SIZE;
        header->msg_namelen = sizeof buf->peers[i];
        header->msg_control = buf->controls[i];
        header->msg_controllen = CONTROL_SIZE;
    }
    buf->used = 0;
}

static void make_ready_for_sending(struct us_udp_packet_buffer_t *buf, int index, int length) {
    struct msghdr *header = &buf->messages[index].msg_hdr;
    buf->lengths[index] = length;
    buf->vectors[index].iov_len = length > 0 ? (size_t) length : 0;
    header->msg_control = NULL;
    header->msg_controllen = 0;
    if (buf->used <= index) buf->used = index + 1;
}

struct us_udp_packet_buffer_t *us_create_udp_packet_buffer_on(struct us_sys_t *sys) {
    struct us_udp_packet_buffer_t *buf = sys->alloc(sys, sizeof *buf + (size_t) PACKETS * PAYLOAD_SIZE);
    if (!buf) {
        errno = ENOMEM;
        return NULL;
    }
    memset(buf, 0, sizeof *buf);
    buf->sys = sys;
    for (int i = 0; i < PACKETS; i++) {
        buf->vectors[i].iov_base = payload_of(buf, i);
        buf->messages[i].msg_hdr = (struct msghdr) {.msg_name = &buf->peers[i], .msg_iov = &buf->vectors[i], .msg_iovlen = 1};
    }
    buf->used = PACKETS;
    make_ready_for_receiving(buf);
    return buf;
}

struct us_udp_packet_buffer_t *us_create_udp_packet_buffer(void) {
    return us_create_udp_packet_buffer_on(us_sys_default());
}

void us_udp_packet_buffer_free(struct us_udp_packet_buffer_t *buf) {
    buf->sys->release(buf->sys, buf);
}

char *us_udp_packet_buffer_payload(struct us_udp_packet_buffer_t *buf, int index) {
    return has_packet(index) ? payload_of(buf, index) : NULL;
}

int us_udp_packet_buffer_payload_length(struct us_udp_packet_buffer_t *buf, int index) {
    return has_packet(index) && buf->lengths[index] > 0 ? buf->lengths[index] : 0;
}

char *us_udp_packet_buffer_peer(struct us_udp_packet_buffer_t *buf, int index) {
    return has_packet(index) ? (char *) &buf->peers[index] : NULL;
}

/* The control messages that came with a packet; none for a bad index. */
static struct msghdr control_of(struct us_udp_packet_buffer_t *buf, int index) {
    if (!has_packet(index)) return (struct msghdr) {.msg_controllen = 0};
    return (struct msghdr) {.msg_control = buf->controls[index], .msg_controllen = buf->control_sizes[index]};
}

int us_udp_packet_buffer_local_ip(struct us_udp_packet_buffer_t *buf, int index, char *ip) {
    struct msghdr control = control_of(buf, index);
    struct bsd_address address;
    bsd_local_ip(&control, &address);
    memcpy(ip, address.ip, (size_t) address.ip_length);
    return address.ip_length;
}

int us_udp_packet_buffer_ecn(struct us_udp_packet_buffer_t *buf, int index) {
    struct msghdr control = control_of(buf, index);
    return bsd_ecn(&control);
}

void us_udp_buffer_set_packet_payload(struct us_udp_packet_buffer_t *send_buf, int index, int offset, void *payload, int length,
    void *peer_addr) {
    if (!has_packet(index)) return;
    if (peer_addr) memmove(&send_buf->peers[index], peer_addr, bsd_address_size(peer_addr));
    unsigned int size = bsd_address_size(peer_addr ? peer_addr : (void *) &send_buf->peers[index]);
    int fits = offset >= 0 && length >= 0 && offset <= PAYLOAD_SIZE && length <= PAYLOAD_SIZE - offset;
    if (fits && length) memmove(payload_of(send_buf, index) + offset, payload, (size_t) length);
    send_buf->messages[index].msg_hdr.msg_namelen = size;
    make_ready_for_sending(send_buf, index, !fits ? -EMSGSIZE : !size ? -EAFNOSUPPORT : offset + length);
}

/* ---- Moving packets ------------------------------------------------------ */

static int is_dead(const struct us_udp_socket_t *s) {
    return (s->p.flags & POLL_DEAD) != 0;
}

int us_udp_socket_receive(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf) {
    make_ready_for_receiving(buf);
    int count = bsd_recvmmsg(s->loop->sys, s->p.fd, buf->messages, PACKETS);
    if (count < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    for (int i = 0; i < count; i++) {
        buf->control_sizes[i] = buf->messages[i].msg_hdr.msg_controllen;
        make_ready_for_sending(buf, i, (int) buf->messages[i].msg_len);
    }
    return count;
}

/* Returns how many of the first packets the kernel may be asked to send. */
static int sendable(const struct us_udp_packet_buffer_t *buf, int num) {
    int count = 0;
    while (count < num && buf->lengths[count] >= 0) count++;
    return count;
}

int us_udp_socket_send(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int num) {
    if (num > PACKETS) num = PACKETS;
    if (num <= 0) return 0;
    int count = sendable(buf, num);
    if (count == 0) {
        errno = -buf->lengths[0];
        return -1;
    }
    int sent = bsd_sendmmsg(s->loop->sys, s->p.fd, buf->messages, (unsigned int) count);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return -1;
    if (sent > 0) s->loop->sends++;
    else sent = 0;
    if (sent == num) return sent;
    s->p.flags |= SOCKET_WANTS_WRITE;
    /* Changing what is polled for takes nothing that could run out, so this is -1
     * only where drain_cb would not come. */
    return us_internal_poll_change(s->loop, &s->p, s->p.events | LIBUS_SOCKET_WRITABLE) && !sent ? -1 : sent;
}

static void drained(struct us_udp_socket_t *s) {
    s->p.flags &= (uint16_t) ~SOCKET_WANTS_WRITE;
    if (s->drain_cb) s->drain_cb(s);
    /* Only now, so that a callback that fills the kernel again costs nothing. */
    if (is_dead(s) || s->p.flags & SOCKET_WANTS_WRITE) return;
    (void) us_internal_poll_change(s->loop, &s->p, s->p.events & ~LIBUS_SOCKET_WRITABLE);
}

/* For want of memory nothing is received, and what waits would be reported for ever.
 * Without the timer nobody would look again: better to spin. */
static void receive_later(struct us_udp_socket_t *s) {
    if (us_internal_retry_later(s->loop)) return;
    if (us_internal_poll_change(s->loop, &s->p, s->p.events & ~LIBUS_SOCKET_READABLE) == 0) s->p.flags |= UDP_RECEIVE_LATER;
}

static int polled_for(const struct us_udp_socket_t *s) {
    return s->p.events | (s->p.flags & UDP_RECEIVE_LATER ? LIBUS_SOCKET_READABLE : 0);
}

void us_internal_udp_retry(struct us_loop_t *loop) {
    for (struct us_udp_socket_t *s = loop->udp_sockets; s; s = s->next) {
        if (!(s->p.flags & UDP_RECEIVE_LATER)) continue;
        if (us_internal_poll_change(loop, &s->p, polled_for(s)) == 0) s->p.flags &= (uint16_t) ~UDP_RECEIVE_LATER;
        else (void) us_internal_retry_later(loop);
    }
}

void us_internal_udp_ready(struct us_udp_socket_t *s, int error, int events) {
    /* An error is about some packet sent before, not about the socket. Asking takes
     * it away, or it would be reported for ever. */
    if (error) (void) bsd_pending_error(s->loop->sys, s->p.fd);
    if (events & LIBUS_SOCKET_WRITABLE) drained(s);
    if (is_dead(s) || !(events & LIBUS_SOCKET_READABLE)) return;
    int count = us_udp_socket_receive(s, s->buffer);
    if (count > 0) s->data_cb(s, s->buffer, count);
    else if (count < 0 && (errno == ENOMEM || errno == ENOBUFS)) receive_later(s);
}

/* ---- Life ---------------------------------------------------------------- */

/* Binds a descriptor and starts polling it for the socket, as the last step.
 * Returns 0, or -1 with errno and the socket as it was. */
static int open_at(struct us_udp_socket_t *s, const char *host, int port, int events) {
    struct us_loop_t *loop = s->loop;
    struct us_poll_t before = s->p;
    int fd = bsd_bind_udp(loop->sys, host, port);
    if (fd < 0) return -1;
    int bound = bsd_local_port(loop->sys, fd);
    us_internal_poll_init(&s->p, fd, POLL_UDP, before.flags & SOCKET_WANTS_WRITE);
    if (bound < 0 || us_internal_poll_start(loop, &s->p, events)) {
        int error = errno;
        loop->sys->close(loop->sys, fd);
        s->p = before;
        errno = error;
        return -1;
    }
    s->port = bound;
    us_internal_poll_stop(loop, &before);
    if (before.fd >= 0) loop->sys->close(loop->sys, before.fd);
    return 0;
}

static void link_to_loop(struct us_udp_socket_t *s) {
    s->next = s->loop->udp_sockets;
    if (s->next) s->next->prev = s;
    s->loop->udp_sockets = s;
    s->loop->alive++;
}

static void unlink_from_loop(struct us_udp_socket_t *s) {
    if (s->prev) s->prev->next = s->next;
    else s->loop->udp_sockets = s->next;
    if (s->next) s->next->prev = s->prev;
    s->loop->alive--;
}

struct us_udp_socket_t *us_create_udp_socket(struct us_loop_t *loop, struct us_udp_packet_buffer_t *buf,
    void (*data_cb)(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *buf, int count),
    void (*drain_cb)(struct us_udp_socket_t *s), const char *host, unsigned short port, void *user) {
    struct us_sys_t *sys = loop->sys;
    struct us_udp_socket_t *s = us_internal_alloc(loop, sizeof *s, 0);
    if (!s) return NULL;
    us_internal_poll_init(&s->p, -1, POLL_UDP, 0);
    s->loop = loop;
    s->owns_buffer = !buf;
    s->buffer = buf ? buf : us_create_udp_packet_buffer_on(sys);
    s->data_cb = data_cb;
    s->drain_cb = drain_cb;
    s->user = user;
    int prepared = s->buffer && (!data_cb || us_internal_prepare_retries(loop) == 0);
    if (prepared && open_at(s, host, port, data_cb ? LIBUS_SOCKET_READABLE : 0) == 0) {
        link_to_loop(s);
        return s;
    }
    int error = errno;
    if (s->owns_buffer && s->buffer) us_udp_packet_buffer_free(s->buffer);
    sys->release(sys, s);
    errno = error;
    return NULL;
}

void us_udp_socket_close(struct us_udp_socket_t *s) {
    struct us_loop_t *loop = s->loop;
    if (is_dead(s)) return;
    unlink_from_loop(s);
    us_internal_poll_stop(loop, &s->p);
    loop->sys->close(loop->sys, s->p.fd);
    s->p.fd = s->port = -1;
    us_internal_bury(loop, &s->p);
    if (s->owns_buffer) us_internal_bury(loop, &s->buffer->grave);
}

int us_udp_socket_bind(struct us_udp_socket_t *s, const char *hostname, unsigned int port) {
    if (is_dead(s) || port > 65535) {
        errno = is_dead(s) ? EBADF : EINVAL;
        return -1;
    }
    return open_at(s, hostname, (int) port, polled_for(s));
}

int us_udp_socket_bound_port(struct us_udp_socket_t *s) {
    return s->port;
}

int us_udp_socket_local_address(struct us_udp_socket_t *s, void *address, int capacity) {
    return is_dead(s) ? 0 : bsd_local_address(s->loop->sys, s->p.fd, address, capacity);
}

void *us_udp_socket_user(struct us_udp_socket_t *s) {
    return s->user;
}
