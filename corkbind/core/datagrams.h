/* Datagram sockets: what they send is packed, and leaves in one system call. */
#ifndef CK_DATAGRAMS_H
#define CK_DATAGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corkbind.h"
#include "peer.h"

struct ck_loop;
struct us_udp_packet_buffer_t;
struct us_udp_socket_t;

/* Datagrams one after another, each a ck_parcel and its payload. */
typedef struct ck_parcels {
    size_t offset;
    size_t length; /* from offset on */
    size_t capacity;
    _Alignas(8) char data[];
} ck_parcels;

typedef struct ck_udp {
    struct us_udp_socket_t *socket;
    struct ck_loop *loop;
    ck_parcels *parcels;       /* packed, or waiting for the kernel; NULL while nothing is */
    unsigned count;            /* of these */
    uint32_t handle;
    uint64_t backlog;          /* bytes that may wait for the kernel */
    struct ck_udp *held_previous;
    struct ck_udp *held_next;
    bool held;                 /* on the loop's list: has packed something, or an error to report */
    bool full;                 /* the kernel took less than it was given, and has no room since */
    bool manual;               /* nothing is packed outside a cork */
    bool details;              /* datagrams are handed over with where they went to */
    bool has_ip4;              /* may send to IPv4 addresses */
    bool is_ip6;
    uint16_t depth;            /* corks open */
    int error;                 /* the last errno for which a datagram was refused, not reported yet */
    ck_peer refused;           /* whom that one was for */
    ck_datagram_stats stats;
} ck_udp;

/* What those of a loop share; from the first one to the end of the loop. */
typedef struct ck_datagrams {
    struct us_udp_packet_buffer_t *incoming;
    struct us_udp_packet_buffer_t *outgoing;
    ck_parcels *spare;
    ck_udp *held_first;        /* in the order in which they began to pack */
    ck_udp *held_last;
    unsigned held;
} ck_datagrams;

/* ---- datagrams.c: packing, sending, calling back ---- */

/* Packs, or drops when too much waits. Returns 1, 0 or CK_NOMEM. */
int ck_udp_pack(ck_udp *udp, const ck_peer *peer, const char *data, size_t length);
/* Sends what is packed, as far as the kernel takes it. Calls nobody back. */
void ck_udp_send_packed(ck_udp *udp);
/* The same for the last time: lets go of everything. */
void ck_udp_detach(ck_udp *udp);
/* What the socket layer calls. */
void ck_udp_on_data(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *packets, int count);
void ck_udp_on_drain(struct us_udp_socket_t *s);
/* Sends what all have packed, and reports what was refused. */
void ck_datagrams_flush_all(struct ck_loop *loop);
/* Whether something is packed, or to be reported. */
bool ck_datagrams_wait(const struct ck_loop *loop);

/* ---- udp_calls.c ---- */

/* Closes it with its loop, which the application is told. */
void ck_udp_end(ck_udp *udp);
/* The sockets are closed: frees what they shared. */
void ck_datagrams_free(struct ck_loop *loop);

/* ---- datagram_objects.c ---- */

/* Returns a list of the datagrams for which there was memory, NULL when for none. */
void *ck_datagram_batch(ck_udp *udp, struct us_udp_packet_buffer_t *packets, int count);
/* Returns (host, port), or NULL with an exception. */
void *ck_datagram_address(const ck_peer *peer);

#endif
