/* Datagram sockets.
 *
 * Theory of operation. What is sent is packed behind what was sent before: a parcel
 * holds the address and the payload. It leaves when the last cork of the socket is
 * closed, at the end of the iteration, or when as much is packed as one system call
 * takes; then the parcels are copied to the loop's one packet buffer, and one
 * sendmmsg takes them. Receiving is the same the other way round: one recvmmsg fills
 * the other buffer, and one callback is handed all that came, as Python objects, so
 * that the buffer is free again before anything else runs.
 *
 * What the kernel has no room for stays packed, up to a bound of bytes, and goes when
 * the socket is writable. Nothing overtakes it. What the kernel refuses is dropped, as
 * datagrams may be; one refusal of each flush is reported, at the end of the
 * iteration, so that no callback runs from inside a send. */
#include "datagrams.h"

#include <errno.h>
#include <string.h>

#include "loop.h"
#include "python.h"

enum {
    BATCH = 1024,               /* packets of one system call */
    PACKED_MAX = 256 * 1024,    /* bytes packed before they leave although the cork goes on */
    PARCELS_FIRST = 16384,
    SPARE_MAX = 65536,
};

typedef struct ck_parcel {
    ck_peer peer;
    int length;
} ck_parcel;

/* ---- Those that have packed something ---- */

static void hold(ck_udp *udp)
{
    ck_datagrams *shared = udp->loop->datagrams;
    if (udp->held) {
        return;
    }
    udp->held = true;
    udp->held_previous = shared->held_last;
    udp->held_next = NULL;
    if (shared->held_last) {
        shared->held_last->held_next = udp;
    } else {
        shared->held_first = udp;
    }
    shared->held_last = udp;
    shared->held++;
    ck_loop_need_step(udp->loop);
}

static void let_go(ck_udp *udp)
{
    ck_datagrams *shared = udp->loop->datagrams;
    if (!udp->held) {
        return;
    }
    udp->held = false;
    if (udp->held_previous) {
        udp->held_previous->held_next = udp->held_next;
    } else {
        shared->held_first = udp->held_next;
    }
    if (udp->held_next) {
        udp->held_next->held_previous = udp->held_previous;
    } else {
        shared->held_last = udp->held_previous;
    }
    shared->held--;
}

/* ---- Parcels ---- */

static size_t size_of(size_t length)
{
    return (sizeof(ck_parcel) + length + 7) & ~(size_t) 7;
}

static ck_parcels *with_capacity(ck_udp *udp, size_t wanted)
{
    ck_datagrams *shared = udp->loop->datagrams;
    ck_parcels *parcels = shared->spare;
    if (parcels && parcels->capacity >= wanted) {
        shared->spare = NULL;
    } else {
        size_t capacity = wanted < PARCELS_FIRST ? PARCELS_FIRST : wanted;
        parcels = ck_alloc(udp->loop, sizeof(*parcels) + capacity);
        if (!parcels) {
            return NULL;
        }
        parcels->capacity = capacity;
    }
    parcels->offset = parcels->length = 0;
    return parcels;
}

static void give_back(ck_udp *udp)
{
    ck_datagrams *shared = udp->loop->datagrams;
    ck_parcels *parcels = udp->parcels;
    udp->parcels = NULL;
    if (parcels && parcels->capacity <= SPARE_MAX && (!shared->spare || shared->spare->capacity < parcels->capacity)) {
        ck_parcels *smaller = shared->spare;
        shared->spare = parcels;
        parcels = smaller;
    }
    ck_free(udp->loop, parcels);
}

/* Returns room for a parcel, or NULL without memory. */
static char *room_for(ck_udp *udp, size_t size)
{
    ck_parcels *parcels = udp->parcels;
    size_t length = parcels ? parcels->length : 0;
    if (!parcels || parcels->offset + length + size > parcels->capacity) {
        bool fits = parcels && length + size <= parcels->capacity / 2;
        if (!fits) {
            parcels = with_capacity(udp, length + size + length);
        }
        if (!parcels) {
            return NULL;
        }
        if (length) {
            memmove(parcels->data, udp->parcels->data + udp->parcels->offset, length);
        }
        if (!fits) {
            give_back(udp);
        }
        udp->parcels = parcels;
        parcels->offset = 0;
        parcels->length = length;
    }
    return parcels->data + parcels->offset + length;
}

static bool append(ck_udp *udp, const ck_peer *peer, const char *data, size_t length)
{
    const ck_parcel parcel = {.peer = *peer, .length = (int) length};
    char *at = room_for(udp, size_of(length));
    if (!at) {
        return false;
    }
    memcpy(at, &parcel, sizeof(parcel));
    if (length) {
        memcpy(at + sizeof(parcel), data, length);
    }
    udp->parcels->length += size_of(length);
    udp->count++;
    return true;
}

/* Takes parcels away from the front. Returns the bytes of their payloads. */
static uint64_t unpack(ck_udp *udp, int count)
{
    uint64_t bytes = 0;
    for (; count > 0; count--) {
        ck_parcel parcel;
        memcpy(&parcel, udp->parcels->data + udp->parcels->offset, sizeof(parcel));
        size_t size = size_of((size_t) parcel.length);
        udp->parcels->offset += size;
        udp->parcels->length -= size;
        udp->count--;
        bytes += (uint64_t) parcel.length;
    }
    return bytes;
}

/* ---- Sending ---- */

/* Copies as many parcels as one system call takes. Returns their number. */
static int fill(const ck_udp *udp, struct us_udp_packet_buffer_t *packets)
{
    char *at = udp->parcels->data + udp->parcels->offset;
    int count = 0;
    while (count < BATCH && (unsigned) count < udp->count) {
        ck_parcel parcel;
        memcpy(&parcel, at, sizeof(parcel));
        us_udp_buffer_set_packet_payload(packets, count++, 0, at + sizeof(parcel), parcel.length, &parcel.peer);
        at += size_of((size_t) parcel.length);
    }
    return count;
}

/* The kernel refuses the first parcel: it goes nowhere, and the next may. */
static void drop_refused(ck_udp *udp, int error)
{
    ck_parcel parcel;
    memcpy(&parcel, udp->parcels->data + udp->parcels->offset, sizeof(parcel));
    udp->refused = parcel.peer;
    udp->error = error;
    udp->stats.failed++;
    (void) unpack(udp, 1);
}

void ck_udp_send_packed(ck_udp *udp)
{
    struct us_udp_packet_buffer_t *packets = udp->loop->datagrams->outgoing;
    while (udp->count && !udp->full) {
        int count = fill(udp, packets);
        int sent = us_udp_socket_send(udp->socket, packets, count);
        if (sent < 0) {
            drop_refused(udp, errno);
            continue;
        }
        udp->stats.sends += sent > 0;
        udp->stats.datagrams += (uint64_t) sent;
        udp->stats.bytes += unpack(udp, sent);
        udp->full = sent < count;
    }
    if (!udp->count) {
        give_back(udp);
    }
    let_go(udp);
    if (udp->error) {
        hold(udp); /* to be reported */
    }
}

/* Makes room by sending, as far as it can: what is packed fills a system call. */
static bool has_room(ck_udp *udp, size_t size)
{
    size_t packed = udp->parcels ? udp->parcels->length : 0;
    if (!udp->full && (udp->count >= BATCH || (udp->count && packed + size > PACKED_MAX))) {
        ck_udp_send_packed(udp);
        packed = udp->parcels ? udp->parcels->length : 0;
    }
    return !udp->full || packed + size <= udp->backlog;
}

int ck_udp_pack(ck_udp *udp, const ck_peer *peer, const char *data, size_t length)
{
    if (!has_room(udp, size_of(length))) {
        udp->stats.dropped++;
        return 0;
    }
    if (!append(udp, peer, data, length)) {
        return CK_NOMEM;
    }
    if (udp->manual && udp->depth == 0) {
        ck_udp_send_packed(udp);
    } else if (!udp->full) {
        hold(udp);
    }
    return 1;
}

/* ---- Calling back ---- */

/* Calls back, corked. The socket may be closed then. */
static void tell(ck_udp *udp, int event, void *payload, int number)
{
    ck_loop *loop = udp->loop;
    uint32_t handle = udp->handle;
    udp->depth++;
    loop->callbacks.udp(handle, event, payload, number);
    udp = ck_handle_get(&loop->handles, handle, CK_KIND_UDP);
    if (udp && udp->depth && --udp->depth == 0) {
        ck_udp_send_packed(udp);
    }
}

/* The same with an object that is let go; NULL = there was no memory for one. */
static void tell_object(ck_udp *udp, int event, void *payload, int number)
{
    if (payload) {
        tell(udp, event, payload, number);
        ck_python_bound()->decref(payload);
    } else {
        ck_python_forget_error();
    }
}

static void report(ck_udp *udp)
{
    int error = udp->error;
    udp->error = 0;
    if (error) {
        tell_object(udp, CK_UDP_EVENT_ERROR, ck_datagram_address(&udp->refused), error);
    }
}

/* Those that pack while others report have their turn in the next iteration. */
void ck_datagrams_flush_all(ck_loop *loop)
{
    ck_datagrams *shared = loop->datagrams;
    for (unsigned left = shared ? shared->held : 0; left && shared->held_first; left--) {
        ck_udp *udp = shared->held_first;
        ck_udp_send_packed(udp);
        let_go(udp);
        report(udp);
    }
}

bool ck_datagrams_wait(const ck_loop *loop)
{
    return loop->datagrams && loop->datagrams->held;
}

/* ---- What the socket layer calls ---- */

void ck_udp_on_data(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *packets, int count)
{
    ck_udp *udp = us_udp_socket_user(s);
    udp->stats.receives++;
    udp->stats.received += (uint64_t) count;
    for (int i = 0; i < count; i++) {
        udp->stats.received_bytes += (uint64_t) us_udp_packet_buffer_payload_length(packets, i);
    }
    void *list = ck_datagram_batch(udp, packets, count);
    if (list) {
        tell_object(udp, CK_UDP_EVENT_DATA, list, count);
    }
}

void ck_udp_on_drain(struct us_udp_socket_t *s)
{
    ck_udp *udp = us_udp_socket_user(s);
    udp->full = false;
    ck_udp_send_packed(udp);
    if (!udp->full) {
        tell(udp, CK_UDP_EVENT_DRAIN, ck_python_bound()->none, 0);
    }
}

void ck_udp_detach(ck_udp *udp)
{
    ck_udp_send_packed(udp);
    let_go(udp);
    give_back(udp);
}
