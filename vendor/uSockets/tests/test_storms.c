/* Storms: echoes, loads and connects over TCP, unix paths and TLS on both, with anything
 * done in any callback. Every open has one close, every connect that fails one
 * on_connect_error, bytes come as they were sent, and nothing grows: what is held after a
 * round, when all is closed, is what was held after the first one. Only the library's
 * table and OpenSSL's own are asked for that.
 *
 * An argument is the number of events (callbacks) of each storm: 1000000 takes minutes. */
#include "tls_client.h"

#include <malloc.h>
#include <openssl/crypto.h>

enum { SLOTS = 400, AT_ONCE = 40, PERIOD = 251, CHUNK = 200000, ROUNDS = 8, HEADER = 8 };
enum kind { ECHO, LOAD, CONNECT };
enum state { FREE, CONNECTING, OPEN };

static struct {
    const char *name;
    enum kind kind;
    int tls, calm;
    const char *path;
    int port, refusing;
    unsigned random, serial;
    long long events, begun, opened, closed, clients_opened, failed, given_up, refused, completed, writable, bytes, moved;
    struct us_socket_context_t *clients[2], *servers[2];
} storm;

static struct {
    enum state state;
    int is_client;
    unsigned serial;
    struct us_socket_t *socket;
} slots[SLOTS];

/* The ext of either side: both send a pattern, as far as they may. */
struct flow {
    int slot;
    unsigned serial;
    char header[HEADER]; /* the client's first bytes: a kind and an amount */
    int header_left;
    unsigned allowed, sent, expected, received;
    int rounds;
};

static char pattern[LIBUS_RECV_BUFFER_LENGTH + PERIOD];

static unsigned dice(unsigned sides) {
    storm.random = storm.random * 1664525u + 1013904223u;
    return (storm.random >> 16) % sides;
}

/* ---- Books --------------------------------------------------------------- */

static struct { long long blocks, bytes; } openssl_holds;
static long long table_bytes;

static void *o_alloc(size_t size, const char *file, int line) {
    (void) file, (void) line;
    void *memory = malloc(size);
    openssl_holds.blocks += memory != NULL;
    openssl_holds.bytes += (long long) malloc_usable_size(memory);
    return memory;
}

static void o_release(void *memory, const char *file, int line) {
    (void) file, (void) line;
    openssl_holds.blocks -= memory != NULL;
    openssl_holds.bytes -= (long long) malloc_usable_size(memory);
    free(memory);
}

static void *o_resize(void *memory, size_t size, const char *file, int line) {
    if (!memory) return o_alloc(size, file, line);
    if (!size) {
        o_release(memory, file, line);
        return NULL;
    }
    openssl_holds.bytes -= (long long) malloc_usable_size(memory);
    void *larger = realloc(memory, size);
    openssl_holds.bytes += (long long) malloc_usable_size(larger ? larger : memory);
    return larger;
}

static void *t_alloc(struct us_sys_t *sys, size_t size) {
    void *memory = f_alloc(sys, size);
    table_bytes += (long long) malloc_usable_size(memory);
    return memory;
}

static void *t_resize(struct us_sys_t *sys, void *memory, size_t size) {
    table_bytes -= (long long) malloc_usable_size(memory);
    void *larger = f_resize(sys, memory, size);
    table_bytes += (long long) malloc_usable_size(larger ? larger : memory);
    return larger;
}

static void t_release(struct us_sys_t *sys, void *memory) {
    table_bytes -= (long long) malloc_usable_size(memory);
    f_release(sys, memory);
}

struct held {
    long long blocks, bytes, descriptors, openssl_blocks, openssl_bytes;
};

static struct held holdings(void) {
    return (struct held) {faults.memory, table_bytes, faults.descriptors, openssl_holds.blocks, openssl_holds.bytes};
}

/* ---- Slots --------------------------------------------------------------- */

static struct flow *flow_of(struct us_socket_t *s) {
    return us_socket_ext(1, s);
}

static int take_slot(struct us_socket_t *s, enum state state, int is_client) {
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].state != FREE) continue;
        slots[i].state = state;
        slots[i].is_client = is_client;
        slots[i].serial = ++storm.serial;
        slots[i].socket = s;
        *flow_of(s) = (struct flow) {.slot = i, .serial = storm.serial, .header_left = HEADER};
        return i;
    }
    CHECK(!"a slot is free");
    exit(1);
}

/* What becomes of a socket, which must be the one in its slot and in that state. */
static void becomes(struct us_socket_t *s, enum state from, enum state to) {
    int slot = flow_of(s)->slot;
    CHECK_EQUAL(slots[slot].state, from);
    CHECK(slots[slot].socket == s);
    CHECK_EQUAL(slots[slot].serial, flow_of(s)->serial);
    slots[slot].state = to;
}

static int is_live(struct us_socket_t *s) {
    return !us_socket_is_closed(1, s);
}

static void give_up(int slot) {
    slots[slot].state = FREE;
    storm.given_up++;
}

static void end_slot(int slot) {
    struct us_socket_t *s = slots[slot].socket;
    unsigned serial = slots[slot].serial;
    if (slots[slot].state == CONNECTING) {
        if (dice(2)) us_socket_close_connecting(1, s);
        else us_socket_close(1, s, 1, NULL);
        give_up(slot);
    } else if (slots[slot].state == OPEN) {
        us_socket_close(1, s, (int) dice(2), NULL);
        CHECK(slots[slot].state == FREE || slots[slot].serial != serial);
    }
}

/* Those that were connecting are told nothing. */
static void close_context(struct us_socket_context_t *c, int for_good) {
    if (for_good) us_socket_context_free(1, c);
    else us_socket_context_close(1, c);
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i].state == CONNECTING && us_socket_is_closed(1, slots[i].socket)) give_up(i);
    }
}

/* ---- Flows --------------------------------------------------------------- */

static void client_begins(struct flow *f) {
    unsigned amount = storm.kind == LOAD ? 50000 + dice(500000) : 1 + dice(2000);
    f->header[0] = storm.kind == LOAD ? 'L' : 'E';
    memcpy(f->header + 4, &amount, sizeof amount);
    f->allowed = f->expected = amount;
    f->rounds = storm.kind == ECHO ? (int) dice(40) : 0;
}

static int write_some(struct us_socket_t *s, const char *from, int length) {
    int half = (int) dice((unsigned) length + 1), taken;
    switch (dice(3)) {
    case 0: return us_socket_write(1, s, from, length, 0);
    case 1: return us_socket_write2(1, s, from, half, from + half, length - half);
    default:
        taken = us_socket_write(1, s, from, length, 1);
        us_socket_flush(1, s);
        return taken;
    }
}

static void send_on(struct us_socket_t *s, int with_header) {
    struct flow *f = flow_of(s);
    while (with_header && f->header_left) {
        int taken = us_socket_write(1, s, f->header + HEADER - f->header_left, f->header_left, 1);
        if (!taken) return;
        f->header_left -= taken;
    }
    while (f->sent < f->allowed) {
        unsigned left = f->allowed - f->sent;
        int taken = write_some(s, pattern + f->sent % PERIOD, (int) (left < CHUNK ? left : CHUNK));
        if (!taken) return;
        f->sent += (unsigned) taken;
    }
}

static void check_pattern(struct flow *f, const char *data, int length) {
    CHECK(memcmp(data, pattern + f->received % PERIOD, (size_t) length) == 0);
    f->received += (unsigned) length;
    storm.bytes += length;
}

static void client_received(struct us_socket_t *s, struct flow *f) {
    CHECK(f->received <= f->expected);
    if (f->received < f->expected || f->sent < f->allowed) return;
    if (f->rounds-- > 0) {
        unsigned amount = 1 + dice(2000);
        f->allowed += amount;
        f->expected += amount;
        send_on(s, 1);
        return;
    }
    storm.completed++;
    if (dice(2)) us_socket_shutdown(1, s);
    else us_socket_close(1, s, 0, NULL);
}

static void server_received(struct us_socket_t *s, struct flow *f) {
    unsigned amount;
    memcpy(&amount, f->header + 4, sizeof amount);
    CHECK(f->header[0] == 'L' || f->header[0] == 'E');
    f->allowed = f->header[0] == 'L' ? amount : f->received;
    send_on(s, 0);
}

/* ---- Anything ------------------------------------------------------------ */

static void connect_one(void) {
    if (storm.calm) return;
    int refuses = storm.kind == CONNECT && dice(4) == 0;
    struct us_socket_context_t *c = storm.clients[dice(2)];
    struct us_socket_t *s;
    int ext = (int) (sizeof(struct flow) + dice(40));
    int busy = 0;
    for (int i = 0; i < SLOTS; i++) busy += slots[i].state != FREE;
    if (busy > SLOTS / 2) return;
    storm.begun++;
    if (storm.path) s = us_socket_context_connect_unix(storm.tls, c, refuses ? "/" : storm.path, 0, ext);
    else s = us_socket_context_connect(storm.tls, c, dice(2) ? "127.0.0.1" : NULL, refuses ? storm.refusing : storm.port, NULL, 0, ext);
    if (!s) {
        CHECK(errno == ECANCELED || (storm.path && (errno == EAGAIN || errno == ECONNREFUSED)));
        storm.refused++;
        return;
    }
    client_begins((take_slot(s, CONNECTING, 1), flow_of(s)));
    us_socket_timeout(1, s, 1 + dice(20));
}

static struct us_socket_t *move(struct us_socket_t *s) {
    struct us_socket_context_t **pair = slots[flow_of(s)->slot].is_client ? storm.clients : storm.servers;
    struct us_socket_t *to = us_socket_context_adopt_socket(1, pair[dice(2)], s, (int) (sizeof(struct flow) + dice(60)));
    if (!to) {
        CHECK(storm.calm && errno == ECANCELED);
        return s;
    }
    slots[flow_of(to)->slot].socket = to;
    storm.moved++;
    return to;
}

static int is_wild(void) {
    static const unsigned chances[] = {[ECHO] = 40, [LOAD] = 16, [CONNECT] = 2};
    storm.events++;
    return dice(chances[storm.kind]) == 0;
}

/* May close, move, or do it to somebody else. Returns the socket that it is now. */
static struct us_socket_t *something(struct us_socket_t *s, int may_move) {
    if (!is_wild()) return s;
    switch (dice(24)) {
    case 0: us_socket_close(1, s, 0, NULL); break;
    case 1: us_socket_close(1, s, 7, NULL); break;
    case 2: us_socket_shutdown(1, s); break;
    case 3: us_socket_shutdown_read(1, s); break;
    case 4: connect_one(); break;
    case 5: end_slot((int) dice(SLOTS)); break;
    case 6: for (int i = 0; i < 30; i++) end_slot((int) dice(SLOTS)); break;
    case 7: CHECK_EQUAL(us_loop_step(loop), -EBUSY); break;
    case 8: if (is_live(s)) us_socket_read_enabled(s, 0); break;
    case 9: us_socket_timeout(1, s, dice(20)); break;
    case 10: if (dice(300) == 0) close_context(storm.clients[dice(2)], 0); break;
    case 11: us_loop_sweep(loop); break;
    case 12:
    case 13:
    case 14:
    case 15: if (may_move && is_live(s)) return move(s); break;
    default: break;
    }
    return s;
}

/* ---- Callbacks ----------------------------------------------------------- */

static struct us_socket_t *opened(struct us_socket_t *s, int is_client, char *ip, int ip_length) {
    (void) ip;
    CHECK(storm.path ? ip_length == 0 : ip_length > 0);
    storm.opened++;
    storm.clients_opened += is_client;
    if (is_client) becomes(s, CONNECTING, OPEN);
    else take_slot(s, OPEN, 0);
    if (dice(3) == 0) {
        int small = 4096;
        setsockopt(us_poll_fd((struct us_poll_t *) s), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    }
    us_socket_timeout(1, s, 1 + dice(40));
    if (is_client) send_on(s, 1);
    return something(s, 1);
}

static struct us_socket_t *closed(struct us_socket_t *s, int code, void *reason) {
    (void) code, (void) reason;
    storm.closed++;
    becomes(s, OPEN, FREE);
    return something(s, 0);
}

static struct us_socket_t *connect_failed(struct us_socket_t *s, int code) {
    CHECK(code > 0);
    storm.failed++;
    becomes(s, CONNECTING, FREE);
    return something(s, 0);
}

static struct us_socket_t *received(struct us_socket_t *s, char *data, int length) {
    struct flow *f = flow_of(s);
    if (!slots[f->slot].is_client && f->header_left) {
        int n = f->header_left < length ? f->header_left : length;
        memcpy(f->header + HEADER - f->header_left, data, (size_t) n);
        f->header_left -= n;
        data += n, length -= n;
    }
    check_pattern(f, data, length);
    if (slots[f->slot].is_client) client_received(s, f);
    else if (!f->header_left) server_received(s, f);
    return something(s, 1);
}

static struct us_socket_t *writable(struct us_socket_t *s) {
    int is_client = slots[flow_of(s)->slot].is_client;
    storm.writable++;
    send_on(s, is_client);
    if (is_client) client_received(s, flow_of(s));
    return something(s, 1);
}

static struct us_socket_t *ended(struct us_socket_t *s) {
    if (dice(2)) us_socket_shutdown(1, s);
    else us_socket_close(1, s, 0, NULL);
    return something(s, 1);
}

static struct us_socket_t *timed_out(struct us_socket_t *s) {
    int slot = flow_of(s)->slot;
    us_socket_read_enabled(s, 1);
    us_socket_timeout(1, s, 8);
    if (dice(8) == 0) end_slot(slot);
    return is_live(s) && us_socket_is_established(1, s) ? something(s, 1) : s;
}

static struct us_socket_t *shaken(struct us_socket_t *s) {
    CHECK(us_socket_tls_is_established(s) && us_socket_tls_version(s) != NULL);
    return something(s, 1);
}

static void handshake_failed(struct us_socket_t *s, const char *reason, int plain) {
    CHECK(*reason && !plain);
    something(s, 0);
}

static LIBUS_SOCKET_DESCRIPTOR turn_away(struct us_socket_context_t *c, LIBUS_SOCKET_DESCRIPTOR fd, char *ip, int ip_length) {
    (void) c, (void) ip, (void) ip_length;
    if (storm.kind != CONNECT || dice(30)) return fd;
    faults.descriptors--;
    close(fd);
    return -1;
}

/* ---- Rounds -------------------------------------------------------------- */

static void listen_to_all(struct us_socket_context_t *c) {
    us_socket_context_on_pre_open(1, c, turn_away);
    us_socket_context_on_open(1, c, opened);
    us_socket_context_on_close(1, c, closed);
    us_socket_context_on_connect_error(1, c, connect_failed);
    us_socket_context_on_data(1, c, received);
    us_socket_context_on_writable(1, c, writable);
    us_socket_context_on_end(1, c, ended);
    us_socket_context_on_timeout(1, c, timed_out);
    us_socket_context_on_handshake(c, shaken);
    us_socket_context_on_tls_failure(c, handshake_failed);
}

static void make_pair(struct us_socket_context_t **pair, struct us_socket_context_options_t options) {
    pair[0] = us_create_socket_context(storm.tls, loop, 0, options);
    CHECK(pair[0] != NULL);
    pair[1] = us_create_child_socket_context(storm.tls, pair[0], 0);
    listen_to_all(pair[0]);
    listen_to_all(pair[1]);
}

static void begin_round(void) {
    make_pair(storm.servers, shown("server"));
    make_pair(storm.clients, (struct us_socket_context_options_t) {.ca_file_name = in_folder("server.pem")});
    if (storm.tls) CHECK_EQUAL(us_socket_context_peer_name(storm.clients[0], "server"), 0);
    struct us_listen_socket_t *ls;
    if (storm.path) ls = us_socket_context_listen_unix(storm.tls, storm.servers[0], storm.path, 0, sizeof(struct flow));
    else ls = us_socket_context_listen(storm.tls, storm.servers[0], "127.0.0.1", 0, 0, sizeof(struct flow));
    CHECK(ls != NULL);
    storm.port = storm.path ? 0 : us_socket_local_port(1, (struct us_socket_t *) ls);
}

static void end_round(void) {
    storm.calm = 1;
    for (int i = 0; i < 2; i++) {
        close_context(storm.clients[i], 1);
        close_context(storm.servers[i], 1);
    }
    CHECK(us_loop_step(loop) >= 0); /* the dead are released */
    settle();
    storm.calm = 0;
    for (int i = 0; i < SLOTS; i++) CHECK_EQUAL(slots[i].state, FREE);
    CHECK_EQUAL(storm.opened, storm.closed);
}

static int clients_there(void) {
    int there = 0;
    for (int i = 0; i < SLOTS; i++) there += slots[i].is_client && slots[i].state != FREE;
    return there;
}

static void blow(long long until) {
    while (storm.events < until) {
        for (int there = clients_there(); there < AT_ONCE; there++) connect_one();
        faults.send_limit = dice(4) ? 0 : 1 + dice(20000);
        us_loop_step(loop);
        if (dice(16) == 0) us_loop_sweep(loop);
        /* Both sides may be waiting for the other: then time passes, and one may end it. */
        if (readable_now(us_loop_fd(loop))) continue;
        us_loop_sweep(loop);
        end_slot((int) dice(SLOTS));
    }
    faults.send_limit = 0;
}

static void open_table(void) {
    faults_reset();
    table_bytes = 0;
    faults.sys.alloc = t_alloc;
    faults.sys.resize = t_resize;
    faults.sys.release = t_release;
}

static long long events_wanted;

static void check_equal_holdings(struct held now, struct held before) {
    CHECK_EQUAL(now.blocks, before.blocks);
    CHECK_EQUAL(now.bytes, before.bytes);
    CHECK_EQUAL(now.descriptors, before.descriptors);
    CHECK_EQUAL(now.openssl_blocks, before.openssl_blocks);
    CHECK_EQUAL(now.openssl_bytes, before.openssl_bytes);
}

static void report(struct held now) {
    printf("%s: %lld events; %lld connects: %lld failed at once, %lld later, %lld given up; %lld opened, %lld closed, "
           "%lld moved, %lld flows complete, %lld writable, %lld MB; held: %lld blocks of %lld bytes, %lld descriptors, "
           "OpenSSL %lld blocks of %lld bytes\n",
        storm.name, storm.events, storm.begun, storm.refused, storm.failed, storm.given_up, storm.opened, storm.closed, storm.moved,
        storm.completed, storm.writable, storm.bytes / 1000000, now.blocks, now.bytes, now.descriptors, now.openssl_blocks, now.openssl_bytes);
}

static int refusing_port(int *fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(*fd, (struct sockaddr *) &address, sizeof address) == 0);
    CHECK(getsockname(*fd, (struct sockaddr *) &address, &length) == 0);
    return ntohs(address.sin_port);
}

static void blow_in_rounds(const char *name, enum kind kind, int tls, const char *path) {
    static const long long few[] = {[ECHO] = 8000, [LOAD] = 4000, [CONNECT] = 8000};
    long long wanted = events_wanted ? events_wanted : tls ? few[kind] / 2 : few[kind];
    struct held first = {0}, now;
    int holder;
    memset(&storm, 0, sizeof storm);
    storm.name = name, storm.kind = kind, storm.tls = tls, storm.path = path, storm.random = 1;
    storm.refusing = refusing_port(&holder);
    open_table();
    memset(&seen, 0, sizeof seen);
    loop = us_create_loop_on(&faults.sys, NULL, NULL, NULL, 0);
    CHECK(loop != NULL);
    for (int round = 0; round < ROUNDS; round++) {
        begin_round();
        blow(wanted * (round + 1) / ROUNDS);
        end_round();
        now = holdings();
        if (round == 0) first = now;
        else check_equal_holdings(now, first);
    }
    CHECK_EQUAL(storm.begun, storm.refused + storm.failed + storm.given_up + storm.clients_opened);
    if (events_wanted) report(now);
    CHECK(storm.completed > 0 && storm.moved > 0 && storm.writable > 0);
    us_loop_free(loop);
    close(holder);
    CHECK_EQUAL(faults.memory, 0);
    CHECK_EQUAL(faults.descriptors, 0);
    CHECK(ERR_peek_error() == 0);
}

#define STORMS(name, kind) \
    static void name(void) { \
        char path[64]; \
        temporary_path(path, sizeof path); \
        blow_in_rounds(#name " over TCP", kind, 0, NULL); \
        blow_in_rounds(#name " over a path", kind, 0, path); \
        blow_in_rounds(#name " over TLS", kind, 1, NULL); \
        blow_in_rounds(#name " over TLS on a path", kind, 1, path); \
        remove_temporary(path); \
    }

STORMS(echoes, ECHO)
STORMS(loads, LOAD)
STORMS(connects, CONNECT)

int main(int count, char **arguments) {
    CRYPTO_set_mem_functions(o_alloc, o_resize, o_release);
    if (count > 1) events_wanted = atoll(arguments[1]);
    for (size_t i = 0; i < sizeof pattern; i++) pattern[i] = (char) (i % PERIOD);
    make_folder();
    make_certificate("server", NULL, -1, 30);
    RUN(echoes);
    RUN(loads);
    RUN(connects);
    unlink(in_folder("server.pem"));
    unlink(in_folder("server.key"));
    CHECK(rmdir(folder) == 0);
    return check_result();
}
