/* A server without a socket: a loop on a system-call table in memory, clients
 * whose bytes are fed and whose answers are read back send by send, handlers
 * that are plain functions, and time that passes only when it is told to.
 * Nothing waits and nothing is random, so a test sees the same on every run. */
#ifndef CK_TEST_SERVER_H
#define CK_TEST_SERVER_H

#include "check.h"
#include "corkbind.h"
#include "http_parser.h"
#include "libusockets_ext.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    FD_FIRST = 100,
    FDS_MAX = 400,
    SENDS_MAX = 4096,
    ROUTES_MAX = 32,
    LOG_MAX = 65536,
    UNLIMITED = -1,
};

enum fd_kind { FD_FREE, FD_OTHER, FD_POLLER, FD_EVENT, FD_LISTENER, FD_PEER, FD_DATAGRAMS };

/* The client's end of a connection. */
typedef struct peer {
    int fd;           /* of the server's end; 0 = not accepted yet */
    char *in;         /* what the client has sent */
    size_t in_length;
    size_t in_capacity;
    size_t in_taken;  /* of it, by the server */
    size_t beneath;   /* bytes of a layer below that wait to be received */
    bool hidden;      /* what the client has sent waits for that layer */
    bool fin;         /* the client has sent all */
    int receive_error;
    char *out;        /* what the server has sent */
    size_t out_length;
    size_t out_capacity;
    size_t sizes[SENDS_MAX]; /* of each send that took something */
    int sends;
    int more;         /* of them, that said that more follows */
    long room;        /* bytes until EAGAIN, or UNLIMITED */
    size_t most;      /* bytes that one send takes, 0 = all */
    int send_error;
    bool shut;        /* the server has sent its FIN */
    bool closed;      /* by the server */
    bool reset;       /* closed with bytes unread, which the kernel answers with a reset */
    bool once_closed;
} peer;

typedef struct fd_entry {
    enum fd_kind kind;
    peer *client;
    uint64_t count;
    bool full;        /* of datagrams: the kernel takes no more */
    bool polled;
    uint32_t events;
    void *data;
} fd_entry;

/* An object such as Python would make: counted, so that leaks show. */
typedef struct object {
    long references;
    size_t length;
    char data[];
} object;

typedef void (*handler)(uint32_t handle);

static struct {
    struct us_sys_t sys;
    fd_entry fds[FDS_MAX];
    peer *waiting[FDS_MAX]; /* connected and not accepted */
    int waiting_count;
    peer *peers[FDS_MAX];
    int peer_count;
    int64_t now_ns;
    long memory;            /* blocks held */
    long descriptors;
    int file_dup_error;
    long files;             /* copies of descriptors of real files */
    long allocations;       /* so far */
    long fail_at;           /* the allocation that fails; 0 = none */
    bool fail_on;           /* and all after it */
    size_t read_most;       /* bytes that one receive gives, 0 = all */
    long objects;           /* alive */
    bool objects_fail;
    long objects_made;      /* so far, and tried */
    long object_fail_at;    /* the object that cannot be made; 0 = none */
    bool object_fail_on;    /* and all after it */
    long errors;            /* exceptions set */
    uint32_t app;
    ck_limits limits;
    uint32_t (*make_app)(const ck_limits *limits); /* NULL: a plain one */
    handler handlers[ROUTES_MAX];
    int routes;
    handler aborted, body, data, writable, websocket, udp, socket; /* besides the record */
    int event;              /* the second argument of the callback that runs */
    int number;             /* the last of the websocket callback */
    peer *answering;        /* who takes the next connection that is made; NULL: nobody does */
    int connect_error;      /* that is told of connections later */
    const object *part;     /* that of the data callback */
    int deferred;
    unsigned long moved;    /* receives and sends that took something */
    int uncorked;           /* times that the callback has said so */
    char log[LOG_MAX];      /* of callbacks: "request 0|aborted 1|..." */
    size_t log_length;
    uint32_t last;          /* handle that was given last */
} world;

/* ---- The table ---- */

static inline int fd_new(enum fd_kind kind)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (world.fds[i].kind == FD_FREE) {
            world.fds[i] = (fd_entry) {.kind = kind};
            world.descriptors++;
            return FD_FIRST + i;
        }
    }
    errno = EMFILE;
    return -1;
}

static inline fd_entry *fd_of(int fd)
{
    return &world.fds[fd - FD_FIRST];
}

static inline int s_socket(struct us_sys_t *sys, int domain, int type, int protocol)
{
    (void) sys, (void) domain, (void) type, (void) protocol;
    return fd_new(FD_LISTENER);
}

static inline int s_bind(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    (void) sys, (void) fd, (void) address, (void) length;
    return 0;
}

static inline int s_listen(struct us_sys_t *sys, int fd, int backlog)
{
    (void) sys, (void) fd, (void) backlog;
    return 0;
}

static inline int s_accept4(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length, int flags)
{
    (void) sys, (void) fd, (void) flags;
    if (world.waiting_count == 0) {
        errno = EAGAIN;
        return -1;
    }
    int accepted = fd_new(FD_PEER);
    if (accepted < 0) {
        return -1;
    }
    peer *client = world.waiting[0];
    memmove(world.waiting, world.waiting + 1, (size_t) --world.waiting_count * sizeof(*world.waiting));
    fd_of(accepted)->client = client;
    client->fd = accepted;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(4321), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    memcpy(address, &from, *length < sizeof(from) ? *length : sizeof(from));
    return accepted;
}

static inline int s_connect(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    (void) sys, (void) address, (void) length;
    if (!world.answering) {
        errno = ECONNREFUSED;
        return -1;
    }
    fd_of(fd)->kind = FD_PEER;
    fd_of(fd)->client = world.answering;
    world.answering->fd = fd;
    world.answering = NULL;
    errno = EINPROGRESS;
    return -1;
}

static inline int s_mmsg(struct us_sys_t *sys, int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    (void) sys, (void) fd, (void) messages, (void) count, (void) flags;
    errno = EOPNOTSUPP;
    return -1;
}

static inline int s_setsockopt(struct us_sys_t *sys, int fd, int level, int name, const void *value, unsigned int length)
{
    (void) sys, (void) fd, (void) level, (void) name, (void) value, (void) length;
    return 0;
}

static inline int s_getsockopt(struct us_sys_t *sys, int fd, int level, int name, void *value, unsigned int *length)
{
    (void) sys, (void) fd, (void) level, (void) name;
    memset(value, 0, *length);
    if (name == SO_ERROR) {
        memcpy(value, &world.connect_error, sizeof(world.connect_error));
        world.connect_error = 0;
    }
    return 0;
}

static inline int s_getname(struct us_sys_t *sys, int fd, struct sockaddr *address, unsigned int *length)
{
    (void) sys, (void) fd;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(4321), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    memcpy(address, &name, *length < sizeof(name) ? *length : sizeof(name));
    return 0;
}

static inline ssize_t s_recv(struct us_sys_t *sys, int fd, void *buffer, size_t length, int flags)
{
    (void) sys;
    peer *client = fd_of(fd)->client;
    if (client->receive_error) {
        errno = client->receive_error;
        return -1;
    }
    size_t there = client->in_length - client->in_taken;
    if (there == 0 && !client->fin) {
        errno = EAGAIN;
        return -1;
    }
    there = there < length ? there : length;
    there = world.read_most && there > world.read_most ? world.read_most : there;
    if (there) {
        memcpy(buffer, client->in + client->in_taken, there);
    }
    client->in_taken += flags & MSG_PEEK ? 0 : there;
    world.moved += !(flags & MSG_PEEK) && there;
    return (ssize_t) there;
}

/* Memory that grows by doubling: a long answer comes in very many sends. */
static inline char *with_room(char *memory, size_t wanted, size_t *capacity)
{
    if (!memory || wanted > *capacity) {
        *capacity = 2 * wanted;
        memory = realloc(memory, *capacity);
    }
    return memory;
}

static inline ssize_t s_sendv(struct us_sys_t *sys, int fd, const struct iovec *vector, int count, int flags)
{
    (void) sys;
    peer *client = fd_of(fd)->client;
    if (client->send_error) {
        errno = client->send_error;
        return -1;
    }
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        total += vector[i].iov_len;
    }
    size_t takes = client->most && client->most < total ? client->most : total;
    takes = client->room != UNLIMITED && (size_t) client->room < takes ? (size_t) client->room : takes;
    if (takes == 0) {
        errno = EAGAIN;
        return -1;
    }
    client->room -= client->room == UNLIMITED ? 0 : (long) takes;
    world.moved++;
    client->out = with_room(client->out, client->out_length + takes + 1, &client->out_capacity);
    size_t left = takes;
    for (int i = 0; i < count && left; i++) {
        size_t part = vector[i].iov_len < left ? vector[i].iov_len : left;
        memcpy(client->out + client->out_length, vector[i].iov_base, part);
        client->out_length += part;
        left -= part;
    }
    client->out[client->out_length] = '\0';
    if (client->sends < SENDS_MAX) {
        client->sizes[client->sends] = takes;
    }
    client->sends++;
    client->more += (flags & MSG_MORE) != 0;
    return (ssize_t) takes;
}

static inline ssize_t s_send(struct us_sys_t *sys, int fd, const void *buffer, size_t length, int flags)
{
    struct iovec vector = {.iov_base = (void *) (uintptr_t) buffer, .iov_len = length};
    return s_sendv(sys, fd, &vector, 1, flags);
}

/* Like a send of what the file has there; the file is a real one. */
static inline ssize_t s_sendfile(struct us_sys_t *sys, int fd, int file, int64_t offset, size_t length)
{
    char part[8192];
    ssize_t there = pread(file, part, length < sizeof(part) ? length : sizeof(part), offset);
    return there <= 0 ? there : s_send(sys, fd, part, (size_t) there, 0);
}

static inline ssize_t s_file_read(struct us_sys_t *sys, int file, void *buffer, size_t length, int64_t offset)
{
    (void) sys;
    return pread(file, buffer, length, offset);
}

static inline int s_file_dup(struct us_sys_t *sys, int file)
{
    (void) sys;
    if (world.file_dup_error) {
        errno = world.file_dup_error;
        return -1;
    }
    int copy = fcntl(file, F_DUPFD_CLOEXEC, 0);
    world.files += copy >= 0;
    return copy;
}

static inline int s_file_close(struct us_sys_t *sys, int file)
{
    (void) sys;
    world.files--;
    return close(file);
}

static inline int s_shutdown(struct us_sys_t *sys, int fd, int how)
{
    (void) sys;
    fd_of(fd)->client->shut |= how != SHUT_RD;
    return 0;
}

static inline int s_close(struct us_sys_t *sys, int fd)
{
    (void) sys;
    peer *client = fd_of(fd)->client;
    if (client) {
        client->closed = true;
        client->reset = client->in_taken < client->in_length;
    }
    CHECK(fd_of(fd)->kind != FD_FREE);
    *fd_of(fd) = (fd_entry) {.kind = FD_FREE};
    world.descriptors--;
    return 0;
}

static inline int s_unlink(struct us_sys_t *sys, const char *path)
{
    (void) sys, (void) path;
    return 0;
}

static inline int s_epoll_create1(struct us_sys_t *sys, int flags)
{
    (void) sys, (void) flags;
    return fd_new(FD_POLLER);
}

static inline int s_epoll_ctl(struct us_sys_t *sys, int epfd, int op, int fd, struct epoll_event *event)
{
    (void) sys, (void) epfd;
    fd_entry *entry = fd_of(fd);
    entry->polled = op != EPOLL_CTL_DEL;
    entry->events = event->events;
    entry->data = event->data.ptr;
    return 0;
}

/* What is ready of a descriptor, by level as epoll tells it. */
static inline uint32_t ready_events(const fd_entry *entry)
{
    const peer *client = entry->client;
    if (!entry->polled) {
        return 0;
    }
    switch (entry->kind) {
    case FD_EVENT:
        return entry->count ? EPOLLIN & entry->events : 0;
    case FD_LISTENER:
        return world.waiting_count ? EPOLLIN & entry->events : 0;
    case FD_PEER: {
        bool failed = client->receive_error || (client->send_error && client->send_error != EAGAIN);
        bool arrived = client->beneath || (!client->hidden && client->in_taken < client->in_length);
        uint32_t events = arrived || client->fin || failed ? EPOLLIN : 0;
        events |= client->room != 0 || failed ? EPOLLOUT : 0;
        return (events & entry->events) | (failed ? EPOLLERR : 0);
    }
    case FD_DATAGRAMS:
        return ((entry->count ? EPOLLIN : 0u) | (entry->full ? 0u : EPOLLOUT)) & entry->events;
    default:
        return 0;
    }
}

static inline int s_epoll_wait(struct us_sys_t *sys, int epfd, struct epoll_event *events, int capacity, int timeout_ms)
{
    (void) sys, (void) epfd, (void) timeout_ms;
    int count = 0;
    for (int i = 0; i < FDS_MAX && count < capacity; i++) {
        uint32_t ready = ready_events(&world.fds[i]);
        if (ready) {
            events[count++] = (struct epoll_event) {.events = ready, .data = {.ptr = world.fds[i].data}};
        }
    }
    return count;
}

static inline int s_eventfd(struct us_sys_t *sys, unsigned int initial, int flags)
{
    (void) sys, (void) initial, (void) flags;
    return fd_new(FD_EVENT);
}

static inline int s_timerfd_create(struct us_sys_t *sys, int clock, int flags)
{
    (void) sys, (void) clock, (void) flags;
    return fd_new(FD_OTHER);
}

static inline int s_timerfd_settime(struct us_sys_t *sys, int fd, int ms, int repeat_ms)
{
    (void) sys, (void) fd, (void) ms, (void) repeat_ms;
    return 0;
}

static inline ssize_t s_read(struct us_sys_t *sys, int fd, void *buffer, size_t length)
{
    (void) sys;
    memcpy(buffer, &fd_of(fd)->count, length < 8 ? length : 8);
    fd_of(fd)->count = 0;
    return 8;
}

static inline ssize_t s_write(struct us_sys_t *sys, int fd, const void *buffer, size_t length)
{
    (void) sys, (void) buffer, (void) length;
    fd_of(fd)->count++;
    return 8;
}

static inline int s_open_spare(struct us_sys_t *sys)
{
    (void) sys;
    return fd_new(FD_OTHER);
}

static inline int64_t s_monotonic_ns(struct us_sys_t *sys)
{
    (void) sys;
    return world.now_ns;
}

static inline int64_t s_wall_seconds(struct us_sys_t *sys)
{
    (void) sys;
    return 784111777;
}

static inline bool out_of_memory(void)
{
    long n = ++world.allocations;
    return world.fail_at && (n == world.fail_at || (world.fail_on && n > world.fail_at));
}

static inline void *s_alloc(struct us_sys_t *sys, size_t size)
{
    (void) sys;
    if (out_of_memory()) {
        return NULL;
    }
    world.memory++;
    void *memory = malloc(size);
    memset(memory, 0xdd, size < 65536 ? size : 65536); /* nothing may count on zeros */
    return memory;
}

static inline void *s_resize(struct us_sys_t *sys, void *memory, size_t size)
{
    (void) sys;
    if (out_of_memory()) {
        return NULL;
    }
    world.memory += memory == NULL;
    return realloc(memory, size);
}

static inline void s_release(struct us_sys_t *sys, void *memory)
{
    (void) sys;
    world.memory -= memory != NULL;
    free(memory);
}

static const struct us_sys_t world_sys = {
    .socket = s_socket, .bind = s_bind, .listen = s_listen, .accept4 = s_accept4, .connect = s_connect, .setsockopt = s_setsockopt,
    .getsockopt = s_getsockopt, .getsockname = s_getname, .getpeername = s_getname, .recv = s_recv, .send = s_send,
    .sendv = s_sendv, .sendfile = s_sendfile, .file_read = s_file_read, .file_dup = s_file_dup, .file_close = s_file_close, .shutdown = s_shutdown, .close = s_close, .unlink = s_unlink, .epoll_create1 = s_epoll_create1,
    .epoll_ctl = s_epoll_ctl, .epoll_wait = s_epoll_wait, .eventfd = s_eventfd, .timerfd_create = s_timerfd_create,
    .timerfd_settime = s_timerfd_settime, .recvmmsg = s_mmsg, .sendmmsg = s_mmsg, .read = s_read, .write = s_write, .open_spare = s_open_spare,
    .monotonic_ns = s_monotonic_ns, .wall_seconds = s_wall_seconds, .alloc = s_alloc, .resize = s_resize,
    .release = s_release,
};

/* ---- Objects ---- */

static inline bool no_object(void)
{
    long n = ++world.objects_made;
    bool fails = world.object_fail_at && (n == world.object_fail_at || (world.object_fail_on && n > world.object_fail_at));
    return world.objects_fail || fails;
}

static inline void *object_new(const char *data, ptrdiff_t length)
{
    object *made = no_object() ? NULL : malloc(sizeof(*made) + (size_t) length + 1);
    if (!made) {
        return NULL;
    }
    made->references = 1;
    made->length = (size_t) length;
    if (length) {
        memcpy(made->data, data, (size_t) length);
    }
    made->data[length] = '\0';
    world.objects++;
    return made;
}

static inline void *object_text(const char *data, ptrdiff_t length, const char *errors)
{
    (void) errors;
    return object_new(data, length);
}

static inline void *object_list(ptrdiff_t length)
{
    (void) length;
    return object_new("", 0);
}

/* A list is told apart by nothing: tests of lists are Python's. */
static inline int object_append(void *list, void *item)
{
    (void) list, (void) item;
    return 0;
}

static inline void *object_pack(ptrdiff_t length, ...)
{
    (void) length;
    return object_new("", 0);
}

static inline void object_incref(void *made)
{
    ((object *) made)->references++;
}

static inline void object_decref(void *made)
{
    object *was = made;
    if (--was->references == 0) {
        world.objects--;
        free(was);
    }
}

static inline void object_error(void *type, const char *message)
{
    (void) type, (void) message;
    world.errors++;
}

static inline void *object_no_memory(void)
{
    world.errors++;
    return NULL;
}

/* The C tests keep no exception. */
static inline void object_fetch(void **type, void **value, void **traceback)
{
    *type = *value = *traceback = NULL;
}

static object object_none = {.references = 1000000};

static inline void bind_python(void)
{
    const ck_python python = {.bytes_new = object_new, .latin1 = object_text, .utf8 = object_text, .list_new = object_list,
        .list_append = object_append, .tuple_pack = object_pack, .incref = object_incref, .decref = object_decref,
        .error_set = object_error, .error_no_memory = object_no_memory, .none = &object_none,
        .error_fetch = object_fetch};
    ck_python_bind(&python);
}

/* ---- Callbacks ---- */

static inline void record(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(world.log + world.log_length, LOG_MAX - world.log_length, format, arguments);
    va_end(arguments);
    world.log_length += (size_t) n < LOG_MAX - world.log_length ? (size_t) n : 0;
}

static inline void on_request(int route, uint32_t handle)
{
    record("request %d|", route);
    world.last = handle;
    if (route >= 0 && route < ROUTES_MAX && world.handlers[route]) {
        world.handlers[route](handle);
    }
}

static inline void call_also(handler also, uint32_t handle, int event)
{
    if (also) {
        world.event = event;
        also(handle);
    }
}

static inline void on_aborted(uint32_t handle, int reason)
{
    record("aborted %d|", reason);
    call_also(world.aborted, handle, reason);
}

static inline void on_body(uint32_t handle, int event)
{
    record("body %d|", event);
    call_also(world.body, handle, event);
}

static inline void on_data(uint32_t handle, void *bytes, int last)
{
    const object *part = bytes;
    record("data %.*s%s|", (int) part->length, part->data, last ? "." : "");
    world.part = part;
    call_also(world.data, handle, last);
}

static inline void on_writable(uint32_t handle)
{
    record("writable|");
    call_also(world.writable, handle, 0);
}

static inline void on_deferred(void)
{
    world.deferred++;
}

static inline void on_uncorked(uint32_t app)
{
    CHECK(app == world.app);
    world.uncorked++;
}

static inline void on_websocket(uint32_t handle, int event, void *payload, int number)
{
    const object *made = payload;
    record("websocket %d %d %.*s|", event, number, (int) made->length, made->data);
    world.part = made;
    world.number = number;
    call_also(world.websocket, handle, event);
}

static inline void on_udp(uint32_t handle, int event, void *payload, int number)
{
    const object *made = payload;
    record("udp %d %d %.*s|", event, number, (int) made->length, made->data);
    world.number = number;
    call_also(world.udp, handle, event);
}

static inline void on_socket(uint32_t handle, int event, void *payload, int number)
{
    const object *made = payload;
    record("socket %d %d %.*s|", event, event <= CK_SOCKET_CONNECTED ? 0 : number, (int) made->length,
        event <= CK_SOCKET_CONNECTED ? "addr" : made->data);
    world.part = made;
    world.number = number;
    world.last = handle;
    call_also(world.socket, handle, event);
}

static const ck_callbacks world_callbacks = {
    .request = on_request, .aborted = on_aborted, .body = on_body, .data = on_data, .writable = on_writable,
    .deferred = on_deferred, .uncorked = on_uncorked, .websocket = on_websocket, .udp = on_udp, .socket = on_socket,
};

static const ck_limits limits_default = {
    .body = 1048576, .backlog = 16777216, .line = 8192, .head = 32768, .field = 16384, .fields = 100,
    .pipeline = 65536, .window = 65536, .head_seconds = 12, .idle_seconds = 12, .body_seconds = 12,
    .handler_seconds = 60, .rate = 240, .connections = 0,
};

/* ---- The server ---- */

/* Adds a route and its handler, NULL = one that does nothing. Returns its number. */
static inline int serve(const char *method, const char *path, handler run)
{
    int route = world.routes++;
    world.handlers[route] = run;
    CHECK(ck_app_route(world.app, ck_method_id(method, strlen(method)), path, strlen(path), route, -1) == 0);
    return route;
}

/* Opens without checking, for tests in which memory is short. Returns whether it could. */
static inline bool try_open_server(const ck_limits *limits)
{
    if (ck_loop_open_on(&world.sys, &world_callbacks) != 0) {
        return false;
    }
    world.limits = limits ? *limits : limits_default;
    world.app = world.make_app ? world.make_app(&world.limits) : ck_app_create(&world.limits);
    int error = 0;
    if (!world.app || !ck_app_listen(world.app, "127.0.0.1", 80, LIBUS_LISTEN_DEFAULT, &error)) {
        (void) ck_loop_close();
        return false;
    }
    return true;
}

static inline void reset_world(void)
{
    memset(&world, 0, sizeof(world));
    world.sys = world_sys;
    world.now_ns = 1;
    bind_python();
}

static inline void open_server(const ck_limits *limits)
{
    reset_world();
    CHECK(try_open_server(limits));
}

static inline void free_peers(void)
{
    for (int i = 0; i < world.peer_count; i++) {
        free(world.peers[i]->in);
        free(world.peers[i]->out);
        free(world.peers[i]);
    }
    world.peer_count = 0;
}

/* What is counted for the routes, and for what no route took, is what is counted for the app. */
static inline void check_counters(void)
{
    ck_stats app;
    ck_counters sum;
    if (ck_app_stats(world.app, &app) != CK_OK) {
        return; /* the test has ended it */
    }
    CHECK(ck_app_unrouted_stats(world.app, &sum) == CK_OK);
    ck_counters route;
    for (int i = 0; ck_app_route_stats(world.app, i, 1, &route) == 1; i++) {
        uint64_t *to = (void *) &sum;
        const uint64_t *from = (const void *) &route;
        for (size_t word = 0; word < sizeof(sum) / sizeof(*to); word++) {
            to[word] += from[word];
        }
    }
    CHECK(sum.responses == app.responses && sum.sends == app.sends && sum.bytes == app.bytes);
    CHECK(sum.overflows == app.overflows && sum.nested_corks == app.nested_corks && sum.rollbacks == app.rollbacks);
    CHECK(sum.uncorked_writes == app.uncorked_writes && memcmp(sum.flushes, app.flushes, sizeof(sum.flushes)) == 0);
}

/* Ends everything at once and sees that nothing is left. */
static inline void close_server(void)
{
    check_counters();
    CHECK(ck_loop_close() == 0);
    CHECK(world.memory == 0);
    CHECK(world.descriptors == 0);
    CHECK(world.files == 0);
    CHECK(world.objects == 0);
    for (int i = 0; i < world.peer_count; i++) {
        CHECK(world.peers[i]->closed || !world.peers[i]->fd);
    }
    free_peers();
}

/* The same where the loop is gone already, or never was. */
static inline void close_world(void)
{
    CHECK(world.memory == 0);
    CHECK(world.descriptors == 0);
    CHECK(world.files == 0);
    CHECK(world.objects == 0);
    free_peers();
}

static inline bool anything_ready(void)
{
    for (int i = 0; i < FDS_MAX; i++) {
        if (ready_events(&world.fds[i])) {
            return true;
        }
    }
    return false;
}

/* Steps as a host loop does, while something is ready or a step was asked for.
 * Some thousand times without a byte that moves would be a loop that spins. */
static inline void settle(void)
{
    unsigned long moved = world.moved;
    int idle = 0;
    while ((anything_ready() || world.deferred) && idle++ < 5000) {
        world.deferred = 0;
        CHECK(ck_loop_step() >= 0);
        idle = world.moved == moved ? idle : 0;
        moved = world.moved;
    }
    CHECK(idle < 5000);
}

static inline void pass_granules(int count)
{
    for (int i = 0; i < count; i++) {
        world.now_ns += (int64_t) 4000000000;
        CHECK(ck_loop_sweep() == CK_OK);
        settle();
    }
}

static inline void pass_seconds(int seconds)
{
    pass_granules((seconds + 3) / 4);
}

/* ---- Clients ---- */

static inline peer *dial(void)
{
    peer *client = calloc(1, sizeof(*client));
    client->room = UNLIMITED;
    world.peers[world.peer_count++] = client;
    world.waiting[world.waiting_count++] = client;
    settle();
    return client;
}

/* Lets bytes arrive, without a step. */
static inline void arrive(peer *client, const char *data, size_t length)
{
    client->in = with_room(client->in, client->in_length + length + 1, &client->in_capacity);
    memcpy(client->in + client->in_length, data, length);
    client->in_length += length;
}

static inline void feed_bytes(peer *client, const char *data, size_t length)
{
    arrive(client, data, length);
    settle();
}

static inline void feed(peer *client, const char *text)
{
    feed_bytes(client, text, strlen(text));
}

static inline void feed_slowly(peer *client, const char *text)
{
    for (; *text; text++) {
        feed_bytes(client, text, 1);
    }
}

static inline void finish(peer *client)
{
    client->fin = true;
    settle();
}

static inline void reset(peer *client)
{
    client->receive_error = client->send_error = ECONNRESET;
    settle();
}

static inline const char *heard(const peer *client)
{
    return client->out ? client->out : "";
}

/* Forgets what was sent so far. */
static inline void forget(peer *client)
{
    client->out_length = 0;
    client->sends = 0;
    if (client->out) {
        client->out[0] = '\0';
    }
}

static inline void forget_log(void)
{
    world.log_length = 0;
    world.log[0] = '\0';
}

static inline ck_stats stats(void)
{
    ck_stats found;
    memset(&found, 0, sizeof(found));
    CHECK(ck_app_stats(world.app, &found) == CK_OK);
    return found;
}

/* ---- What is expected ---- */

#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

/* Returns one of 16 buffers in turn: a response by Content-Length. */
static inline const char *answer_with(const char *status, const char *fields, const char *last_fields, const char *body)
{
    static char buffers[16][4096];
    static int turn;
    char *out = buffers[turn++ % 16];
    snprintf(out, sizeof(buffers[0]), "HTTP/1.1 %s\r\n%s" DATE "Content-Length: %zu\r\n%s\r\n%s",
        status, fields, strlen(body), last_fields, body);
    return out;
}

static inline const char *ok(const char *body)
{
    return answer_with("200 OK", "", "", body);
}

/* What the core itself answers: the phrase as a body. */
static inline const char *plain(const char *status, bool last)
{
    char body[128];
    snprintf(body, sizeof(body), "%s\n", status);
    return answer_with(status, "Content-Type: text/plain\r\n", last ? "Connection: close\r\n" : "", body);
}

/* The same for a refusal, whose Date comes first. */
static inline const char *refusal(const char *status)
{
    static char buffers[4][512];
    static int turn;
    char *out = buffers[turn++ % 4];
    snprintf(out, sizeof(buffers[0]), "HTTP/1.1 %s\r\n" DATE "Content-Type: text/plain\r\nContent-Length: %zu\r\n"
        "Connection: close\r\n\r\n%s\n", status, strlen(status) + 1, status);
    return out;
}

/* Returns one of 4 buffers in turn: the texts one after another. */
static inline const char *joined(int count, ...)
{
    static char buffers[4][65536];
    static int turn;
    char *out = buffers[turn++ % 4];
    size_t length = 0;
    va_list arguments;
    va_start(arguments, count);
    for (int i = 0; i < count; i++) {
        length += (size_t) snprintf(out + length, sizeof(buffers[0]) - length, "%s", va_arg(arguments, const char *));
    }
    va_end(arguments);
    return out;
}

static inline int text_is(const char *found, const char *wanted, const char *file, int line, const char *subject)
{
    int same = strcmp(found, wanted) == 0;
    if (!same && checks_failed < 20) {
        fprintf(stderr, "---- found ----\n%.2000s\n---- wanted ----\n%.2000s\n----\n", found, wanted);
    }
    return check_that(same, file, line, "the text is as wanted", subject);
}

#define CHECK_TEXT(found, wanted) text_is(found, wanted, __FILE__, __LINE__, __func__)
#define CHECK_HEARD(client, wanted) CHECK_TEXT(heard(client), wanted)
#define CHECK_LOG(wanted) CHECK_TEXT(world.log, wanted)

/* ---- Handlers that many tests use ---- */

static inline int end_text(uint32_t handle, const char *text)
{
    return ck_end(handle, text, (int) strlen(text), 0);
}

static inline int write_text(uint32_t handle, const char *text)
{
    return ck_write(handle, text, (int) strlen(text));
}

static inline int field(uint32_t handle, const char *name, const char *value)
{
    return ck_header(handle, name, (int) strlen(name), value, (int) strlen(value));
}

static inline void answer_hello(uint32_t handle)
{
    CHECK(end_text(handle, "hello") == CK_OK);
}

/* Answers with the request's path, so that order shows. */
static inline void answer_path(uint32_t handle)
{
    const char *path;
    int length = ck_path_value(handle, &path);
    CHECK(length > 0 && ck_end(handle, path, length, 0) == CK_OK);
}

static inline void just_keep(uint32_t handle)
{
    CHECK(ck_keep(handle) == CK_OK);
}

#endif
