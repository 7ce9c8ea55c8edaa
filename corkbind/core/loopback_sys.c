/* The system calls of a loopback: a kernel in memory that does what Linux does, as
 * far as the socket layer can tell, and what a script says instead.
 *
 * Readiness is kept, not looked for: whatever changes a descriptor brings it up to
 * date, and those that are ready stand in one list, which a wait goes through. */
#include "loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE = -1, PORT = 80 };

static ck_loopback *world_of(struct us_sys_t *sys)
{
    return (ck_loopback *) (void *) sys;
}

/* Takes the next step of a call's script. Returns whether the call fails, with
 * errno; else *most is the number of bytes that it may move. */
static bool scripted(ck_loopback *world, enum ck_call call, size_t *most)
{
    ck_script *script = &world->scripts[call];
    if (script->next == script->count) {
        return false;
    }
    int step = script->steps[script->next++];
    world->faults_left--;
    if (step < 0) {
        errno = -step;
        return true;
    }
    if (step > 0 && most && (size_t) step < *most) {
        *most = (size_t) step;
    }
    return false;
}

static bool fails(ck_loopback *world, enum ck_call call)
{
    return scripted(world, call, NULL);
}

/* ---- Descriptors and their readiness ---- */

static ck_descriptor *descriptor_of(ck_loopback *world, int fd)
{
    int index = fd - CK_LOOPBACK_FD_FIRST;
    if (index < 0 || index >= world->descriptor_count || world->descriptors[index].kind == CK_FD_FREE) {
        errno = EBADF;
        return NULL;
    }
    return &world->descriptors[index];
}

static int index_of(const ck_loopback *world, const ck_descriptor *descriptor)
{
    return (int) (descriptor - world->descriptors);
}

static uint32_t client_events(const ck_client *client)
{
    bool reads = client->unread || client->fin || client->error;
    bool writes = client->window != 0 || client->error;
    bool ends = client->fin && client->state & CK_CLIENT_SHUT;
    return (reads ? EPOLLIN : 0u) | (writes ? EPOLLOUT : 0u) | (client->error ? EPOLLERR | EPOLLHUP : 0u) | (ends ? EPOLLHUP : 0u);
}

static uint32_t ready_events(const ck_loopback *world, const ck_descriptor *descriptor)
{
    const uint32_t always = EPOLLERR | EPOLLHUP;
    switch (descriptor->polled ? descriptor->kind : CK_FD_FREE) {
    case CK_FD_EVENT:
        return descriptor->count ? descriptor->events & EPOLLIN : 0;
    case CK_FD_TIMER:
        return descriptor->due && descriptor->due <= world->now_ns ? descriptor->events & EPOLLIN : 0;
    case CK_FD_LISTENER:
        return world->first_waiting ? descriptor->events & EPOLLIN : 0;
    case CK_FD_CLIENT:
        return client_events(descriptor->client) & (descriptor->events | always);
    default:
        return 0;
    }
}

static void append_ready(ck_loopback *world, int index)
{
    ck_descriptor *descriptor = &world->descriptors[index];
    descriptor->ready = true;
    descriptor->next_ready = NONE;
    descriptor->before_ready = world->last_ready;
    if (world->last_ready == NONE) {
        world->first_ready = index;
    } else {
        world->descriptors[world->last_ready].next_ready = index;
    }
    world->last_ready = index;
    world->ready_count++;
}

static void remove_ready(ck_loopback *world, int index)
{
    ck_descriptor *descriptor = &world->descriptors[index];
    if (descriptor->before_ready == NONE) {
        world->first_ready = descriptor->next_ready;
    } else {
        world->descriptors[descriptor->before_ready].next_ready = descriptor->next_ready;
    }
    if (descriptor->next_ready == NONE) {
        world->last_ready = descriptor->before_ready;
    } else {
        world->descriptors[descriptor->next_ready].before_ready = descriptor->before_ready;
    }
    descriptor->ready = false;
    world->ready_count--;
}

static void update(ck_loopback *world, int index)
{
    ck_descriptor *descriptor = &world->descriptors[index];
    bool ready = ready_events(world, descriptor) != 0;
    if (ready && !descriptor->ready) {
        append_ready(world, index);
    } else if (!ready && descriptor->ready) {
        remove_ready(world, index);
    }
}

void ck_loopback_update_client(ck_loopback *world, const ck_client *client)
{
    if (client->fd != NONE) {
        update(world, client->fd - CK_LOOPBACK_FD_FIRST);
    }
}

static void update_list(ck_loopback *world, int first)
{
    for (int i = first; i != NONE; i = world->descriptors[i].next) {
        update(world, i);
    }
}

void ck_loopback_update_listeners(ck_loopback *world)
{
    update_list(world, world->listeners);
}

void ck_loopback_update_timers(ck_loopback *world)
{
    update_list(world, world->timers);
}

static bool more_descriptors(ck_loopback *world)
{
    int capacity = world->descriptor_capacity ? 2 * world->descriptor_capacity : 64;
    ck_descriptor *descriptors = realloc(world->descriptors, (size_t) capacity * sizeof(*descriptors));
    if (!descriptors) {
        return false;
    }
    world->descriptors = descriptors;
    world->descriptor_capacity = capacity;
    return true;
}

static int open_descriptor(ck_loopback *world, enum ck_descriptor_kind kind, int *list)
{
    int index = world->free_descriptor;
    if (index != NONE) {
        world->free_descriptor = world->descriptors[index].next;
    } else {
        if (world->descriptor_count == world->descriptor_capacity && !more_descriptors(world)) {
            errno = ENFILE;
            return -1;
        }
        index = world->descriptor_count++;
    }
    world->descriptors[index] = (ck_descriptor) {.kind = kind, .next_ready = NONE, .before_ready = NONE, .next = NONE};
    if (list) {
        world->descriptors[index].next = *list;
        *list = index;
    }
    world->open_descriptors++;
    return CK_LOOPBACK_FD_FIRST + index;
}

static void unlist(ck_loopback *world, int *list, int index)
{
    while (*list != NONE && *list != index) {
        list = &world->descriptors[*list].next;
    }
    if (*list == index) {
        *list = world->descriptors[index].next;
    }
}

/* ---- Listening and accepting ---- */

/* There are streams only. */
static int s_socket(struct us_sys_t *sys, int domain, int type, int protocol)
{
    (void) domain, (void) protocol;
    ck_loopback *world = world_of(sys);
    if (type & SOCK_DGRAM) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    return fails(world, CK_CALL_SOCKET) ? -1 : open_descriptor(world, CK_FD_LISTENER, &world->listeners);
}

static int s_bind(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    (void) fd, (void) address, (void) length;
    return fails(world_of(sys), CK_CALL_BIND) ? -1 : 0;
}

static int s_listen(struct us_sys_t *sys, int fd, int backlog)
{
    (void) fd, (void) backlog;
    return fails(world_of(sys), CK_CALL_LISTEN) ? -1 : 0;
}

static void give_address(const char *ip, size_t ip_length, uint16_t port, struct sockaddr *address, unsigned int *length)
{
    struct sockaddr_storage storage;
    memset(&storage, 0, sizeof(storage));
    unsigned int size = sizeof(sa_family_t);
    if (ip_length == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *) (void *) &storage;
        in->sin_port = htons(port);
        memcpy(&in->sin_addr, ip, 4);
        size = sizeof(*in);
        storage.ss_family = AF_INET;
    } else if (ip_length == 16) {
        struct sockaddr_in6 *in = (struct sockaddr_in6 *) (void *) &storage;
        in->sin6_port = htons(port);
        memcpy(&in->sin6_addr, ip, 16);
        size = sizeof(*in);
        storage.ss_family = AF_INET6;
    } else {
        storage.ss_family = AF_UNIX;
    }
    memcpy(address, &storage, *length < size ? *length : size);
    *length = size;
}

static int s_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags)
{
    (void) fd, (void) flags;
    ck_loopback *world = world_of(sys);
    if (fails(world, CK_CALL_ACCEPT)) {
        return -1;
    }
    ck_client *client = world->first_waiting;
    if (!client) {
        errno = EAGAIN;
        return -1;
    }
    int accepted = open_descriptor(world, CK_FD_CLIENT, NULL);
    if (accepted < 0) {
        return -1;
    }
    world->first_waiting = client->next_waiting;
    if (!world->first_waiting) {
        world->last_waiting = NULL;
        ck_loopback_update_listeners(world);
    }
    client->fd = accepted;
    client->state |= CK_CLIENT_ACCEPTED;
    ck_loopback_news(world, client);
    world->descriptors[accepted - CK_LOOPBACK_FD_FIRST].client = client;
    give_address(client->address, client->address_length, client->port, address, length);
    return accepted;
}

/* Nobody in this world listens but the server itself. */
static int s_connect(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    (void) address, (void) length;
    if (descriptor_of(world_of(sys), fd)) {
        errno = ECONNREFUSED;
    }
    return -1;
}

static int s_setsockopt(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length)
{
    (void) fd, (void) level, (void) name, (void) value, (void) length;
    return fails(world_of(sys), CK_CALL_SETSOCKOPT) ? -1 : 0;
}

static int s_getsockopt(struct us_sys_t *sys, int fd, int level, int name, void *value, unsigned int *length)
{
    ck_loopback *world = world_of(sys);
    const ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || fails(world, CK_CALL_GETSOCKOPT)) {
        return -1;
    }
    int error = level == SOL_SOCKET && name == SO_ERROR && descriptor->client ? descriptor->client->error : 0;
    memset(value, 0, *length);
    memcpy(value, &error, *length < sizeof(error) ? *length : sizeof(error));
    return 0;
}

static int s_getsockname(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length)
{
    (void) fd;
    static const char localhost[4] = {127, 0, 0, 1};
    if (fails(world_of(sys), CK_CALL_GETSOCKNAME)) {
        return -1;
    }
    give_address(localhost, sizeof(localhost), PORT, address, length);
    return 0;
}

static int s_getpeername(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length)
{
    ck_loopback *world = world_of(sys);
    const ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || fails(world, CK_CALL_GETPEERNAME)) {
        return -1;
    }
    const ck_client *client = descriptor->client;
    if (!client) {
        errno = ENOTCONN;
        return -1;
    }
    give_address(client->address, client->address_length, client->port, address, length);
    return 0;
}

/* ---- Bytes ---- */

/* Begins the next record when the one before is read. */
static void next_record(ck_client *client)
{
    if (!client->left && client->in.begin < client->in.end) {
        memcpy(&client->left, client->in.memory + client->in.begin, sizeof(client->left));
        client->in.begin += sizeof(client->left);
    }
}

static size_t at_most(size_t length, int most)
{
    return most > 0 && (size_t) most < length ? (size_t) most : length;
}

/* What has arrived can be read also after the connection broke, as on Linux. */
static ssize_t s_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags)
{
    ck_loopback *world = world_of(sys);
    const ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || !descriptor->client || scripted(world, CK_CALL_RECV, &length)) {
        return -1;
    }
    ck_client *client = descriptor->client;
    next_record(client);
    size_t there = at_most(client->left < length ? client->left : length, client->receive_most);
    if (there == 0) {
        errno = client->error ? client->error : EAGAIN;
        return client->error || !client->fin ? -1 : 0;
    }
    memcpy(buffer, client->in.memory + client->in.begin, there);
    if (flags & MSG_PEEK) {
        return (ssize_t) there;
    }
    client->in.begin += there;
    client->left -= (uint32_t) there;
    client->unread -= there;
    if (client->in.begin == client->in.end) {
        client->in.begin = client->in.end = 0;
    }
    ck_loopback_update_client(world, client);
    return (ssize_t) there;
}

static ssize_t s_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags)
{
    (void) flags;
    ck_loopback *world = world_of(sys);
    const ck_descriptor *descriptor = descriptor_of(world, fd);
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += vector[i].iov_len;
    }
    if (!descriptor || !descriptor->client || scripted(world, CK_CALL_SEND, &total)) {
        return -1;
    }
    ck_client *client = descriptor->client;
    size_t takes = at_most(total, client->send_most);
    takes = client->window >= 0 && (size_t) client->window < takes ? (size_t) client->window : takes;
    if (client->error || client->state & CK_CLIENT_SHUT || takes == 0) {
        errno = client->error ? client->error : client->state & CK_CLIENT_SHUT ? EPIPE : EAGAIN;
        return -1;
    }
    char *at = ck_records_place(&client->out, takes);
    if (!at) {
        errno = ENOBUFS;
        return -1;
    }
    size_t left = takes;
    for (int i = 0; i < count && left; i++) {
        size_t part = vector[i].iov_len < left ? vector[i].iov_len : left;
        if (part) {
            memcpy(at, vector[i].iov_base, part);
        }
        at += part;
        left -= part;
    }
    client->window -= client->window < 0 ? 0 : (int) takes;
    ck_loopback_news(world, client);
    ck_loopback_update_client(world, client);
    return (ssize_t) takes;
}

static ssize_t s_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags)
{
    struct iovec vector = {.iov_base = (void *) (uintptr_t) buffer, .iov_len = length};
    return s_sendv(sys, fd, &vector, 1, flags);
}

/* No descriptor is a datagram socket. */
static int s_mmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    (void) messages, (void) count, (void) flags;
    if (descriptor_of(world_of(sys), fd)) {
        errno = EOPNOTSUPP;
    }
    return -1;
}

/* Files are real ones. A part of one counts as a send. */
static ssize_t s_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length)
{
    char part[65536];
    ssize_t there = pread(file, part, length < sizeof(part) ? length : sizeof(part), (off_t) offset);
    return there <= 0 ? there : s_send(sys, fd, part, (size_t) there, 0);
}

static ssize_t s_file_read(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset)
{
    (void) sys;
    return pread(file, buffer, length, (off_t) offset);
}

static int s_file_dup(struct us_sys_t *sys, int file)
{
    (void) sys;
    return fcntl(file, F_DUPFD_CLOEXEC, 0);
}

static int s_file_close(struct us_sys_t *sys, int file)
{
    (void) sys;
    return close(file);
}

static int s_shutdown(struct us_sys_t *sys, int fd, int how)
{
    ck_loopback *world = world_of(sys);
    const ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || fails(world, CK_CALL_SHUTDOWN)) {
        return -1;
    }
    ck_client *client = descriptor->client;
    if (client && how != SHUT_RD) {
        client->state |= CK_CLIENT_SHUT;
        ck_loopback_news(world, client);
        ck_loopback_update_client(world, client);
    }
    return 0;
}

/* Closing with bytes unread resets, as Linux does. */
static void client_closed(ck_loopback *world, ck_client *client)
{
    client->fd = NONE;
    client->state |= CK_CLIENT_CLOSED | (client->unread || client->error ? CK_CLIENT_RESET : 0);
    ck_loopback_news(world, client);
}

/* Nobody will accept who still waits. */
static void listener_closed(ck_loopback *world, int index)
{
    unlist(world, &world->listeners, index);
    while (world->listeners == NONE && world->first_waiting) {
        ck_client *client = world->first_waiting;
        world->first_waiting = client->next_waiting;
        client->state |= CK_CLIENT_CLOSED | CK_CLIENT_RESET;
        ck_loopback_news(world, client);
    }
    if (!world->first_waiting) {
        world->last_waiting = NULL;
    }
}

/* A close that fails has closed all the same. */
static int s_close(struct us_sys_t *sys, int fd)
{
    ck_loopback *world = world_of(sys);
    ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor) {
        return -1;
    }
    int index = index_of(world, descriptor);
    if (descriptor->ready) {
        remove_ready(world, index);
    }
    if (descriptor->client) {
        client_closed(world, descriptor->client);
    } else if (descriptor->kind == CK_FD_LISTENER) {
        listener_closed(world, index);
    } else if (descriptor->kind == CK_FD_TIMER) {
        unlist(world, &world->timers, index);
    }
    *descriptor = (ck_descriptor) {.kind = CK_FD_FREE, .next = world->free_descriptor};
    world->free_descriptor = index;
    world->open_descriptors--;
    return fails(world, CK_CALL_CLOSE) ? -1 : 0;
}

static int s_unlink(struct us_sys_t *sys, const char *path)
{
    (void) path;
    return fails(world_of(sys), CK_CALL_UNLINK) ? -1 : 0;
}

/* ---- Polling ---- */

static int s_epoll_create1(struct us_sys_t *sys, int flags)
{
    (void) flags;
    ck_loopback *world = world_of(sys);
    return fails(world, CK_CALL_EPOLL_CREATE) ? -1 : open_descriptor(world, CK_FD_OTHER, NULL);
}

/* Taking a descriptor out cannot fail in Linux, and is not scripted. */
static int s_epoll_ctl(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event)
{
    (void) epfd;
    ck_loopback *world = world_of(sys);
    ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || (op != EPOLL_CTL_DEL && fails(world, CK_CALL_EPOLL_CTL))) {
        return -1;
    }
    descriptor->polled = op != EPOLL_CTL_DEL;
    descriptor->events = event->events;
    descriptor->data = event->data.ptr;
    update(world, index_of(world, descriptor));
    return 0;
}

/* Each goes to the end of the list, so that with more ready than fit all get their turn. */
static int s_epoll_wait(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms)
{
    (void) epfd, (void) timeout_ms;
    ck_loopback *world = world_of(sys);
    if (fails(world, CK_CALL_EPOLL_WAIT)) {
        return -1;
    }
    int count = world->ready_count < capacity ? world->ready_count : capacity;
    for (int i = 0; i < count; i++) {
        int index = world->first_ready;
        remove_ready(world, index);
        append_ready(world, index);
        const ck_descriptor *descriptor = &world->descriptors[index];
        events[i] = (struct epoll_event) {.events = ready_events(world, descriptor), .data = {.ptr = descriptor->data}};
    }
    return count;
}

/* ---- Wakeups and timers ---- */

static int s_eventfd(struct us_sys_t *sys, unsigned int initial, int flags)
{
    (void) initial, (void) flags;
    ck_loopback *world = world_of(sys);
    return fails(world, CK_CALL_EVENTFD) ? -1 : open_descriptor(world, CK_FD_EVENT, NULL);
}

static int s_timerfd_create(struct us_sys_t *sys, int clock, int flags)
{
    (void) clock, (void) flags;
    ck_loopback *world = world_of(sys);
    return fails(world, CK_CALL_TIMERFD_CREATE) ? -1 : open_descriptor(world, CK_FD_TIMER, &world->timers);
}

static int s_timerfd_settime(struct us_sys_t *sys, int fd, int ms, int repeat_ms)
{
    ck_loopback *world = world_of(sys);
    ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || fails(world, CK_CALL_TIMERFD_SETTIME)) {
        return -1;
    }
    descriptor->due = ms || repeat_ms ? world->now_ns + ms * (int64_t) 1000000 : 0;
    descriptor->period = repeat_ms * (int64_t) 1000000;
    update(world, index_of(world, descriptor));
    return 0;
}

/* Returns how often a timer has run out, and sets it on. */
static uint64_t expirations(const ck_loopback *world, ck_descriptor *timer)
{
    if (!timer->due || timer->due > world->now_ns) {
        return 0;
    }
    int64_t times = timer->period ? 1 + (world->now_ns - timer->due) / timer->period : 1;
    timer->due = timer->period ? timer->due + times * timer->period : 0;
    return (uint64_t) times;
}

static ssize_t s_read(struct us_sys_t *sys, int fd, void *buffer, size_t length)
{
    ck_loopback *world = world_of(sys);
    ck_descriptor *descriptor = descriptor_of(world, fd);
    if (!descriptor || fails(world, CK_CALL_READ)) {
        return -1;
    }
    uint64_t count = descriptor->kind == CK_FD_TIMER ? expirations(world, descriptor) : descriptor->count;
    if (count == 0 || length < sizeof(count)) {
        errno = count ? EINVAL : EAGAIN;
        return -1;
    }
    descriptor->count = 0;
    memcpy(buffer, &count, sizeof(count));
    update(world, index_of(world, descriptor));
    return sizeof(count);
}

static ssize_t s_write(struct us_sys_t *sys, int fd, const void *buffer, size_t length)
{
    ck_loopback *world = world_of(sys);
    ck_descriptor *descriptor = descriptor_of(world, fd);
    uint64_t count;
    if (!descriptor || fails(world, CK_CALL_WRITE)) {
        return -1;
    }
    if (length < sizeof(count)) {
        errno = EINVAL;
        return -1;
    }
    memcpy(&count, buffer, sizeof(count));
    descriptor->count += count;
    update(world, index_of(world, descriptor));
    return sizeof(count);
}

static int s_open_spare(struct us_sys_t *sys)
{
    ck_loopback *world = world_of(sys);
    return fails(world, CK_CALL_OPEN_SPARE) ? -1 : open_descriptor(world, CK_FD_OTHER, NULL);
}

static int64_t s_monotonic_ns(struct us_sys_t *sys)
{
    return world_of(sys)->now_ns;
}

static int64_t s_wall_seconds(struct us_sys_t *sys)
{
    return CK_LOOPBACK_EPOCH + (world_of(sys)->now_ns - CK_LOOPBACK_BEGINNING) / 1000000000;
}

/* ---- Memory ---- */

static bool out_of_memory(ck_loopback *world)
{
    int64_t n = ++world->allocations;
    return world->fail_at && (n == world->fail_at || (world->fail_after && n > world->fail_at));
}

/* Filled, so that whatever counts on zeros, or looks at what it has not written,
 * does so in the same way on each run. */
static void *s_alloc(struct us_sys_t *sys, size_t size)
{
    enum { FILLED = 65536 };
    ck_loopback *world = world_of(sys);
    void *memory = out_of_memory(world) ? NULL : malloc(size);
    if (memory) {
        world->memory++;
        memset(memory, 0xdd, size < FILLED ? size : FILLED);
    }
    return memory;
}

static void *s_resize(struct us_sys_t *sys, void *memory, size_t size)
{
    ck_loopback *world = world_of(sys);
    void *moved = out_of_memory(world) ? NULL : realloc(memory, size);
    world->memory += moved && !memory;
    return moved;
}

static void s_release(struct us_sys_t *sys, void *memory)
{
    world_of(sys)->memory -= memory != NULL;
    free(memory);
}

void ck_loopback_sys_init(ck_loopback *world)
{
    world->sys = (struct us_sys_t) {
        .socket = s_socket, .bind = s_bind, .listen = s_listen, .accept4 = s_accept4, .connect = s_connect, .setsockopt = s_setsockopt,
        .getsockopt = s_getsockopt, .getsockname = s_getsockname, .getpeername = s_getpeername, .recv = s_recv,
        .send = s_send, .sendv = s_sendv, .sendfile = s_sendfile, .file_read = s_file_read, .file_dup = s_file_dup,
        .file_close = s_file_close, .shutdown = s_shutdown, .close = s_close, .unlink = s_unlink,
        .epoll_create1 = s_epoll_create1, .epoll_ctl = s_epoll_ctl, .epoll_wait = s_epoll_wait,
        .recvmmsg = s_mmsg, .sendmmsg = s_mmsg, .eventfd = s_eventfd, .timerfd_create = s_timerfd_create, .timerfd_settime = s_timerfd_settime,
        .read = s_read, .write = s_write, .open_spare = s_open_spare, .monotonic_ns = s_monotonic_ns,
        .wall_seconds = s_wall_seconds, .alloc = s_alloc, .resize = s_resize, .release = s_release,
    };
    world->free_descriptor = world->listeners = world->timers = NONE;
    world->first_ready = world->last_ready = NONE;
    world->now_ns = CK_LOOPBACK_BEGINNING;
}

void ck_loopback_sys_free(ck_loopback *world)
{
    for (int i = 0; i < CK_CALLS; i++) {
        free(world->scripts[i].steps);
    }
    free(world->descriptors);
}
