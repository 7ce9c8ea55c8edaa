/* A loopback's state: descriptors, clients, clocks and scripts of a kernel in memory. */
#ifndef CK_LOOPBACK_H
#define CK_LOOPBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "corkbind.h"
#include "libusockets_ext.h"

struct ck_loop;

/* Records, each of a 32-bit length and that many bytes: what one send carried. */
typedef struct ck_records {
    char *memory;
    size_t begin, end, capacity;
} ck_records;

/* The client's end of a connection. */
typedef struct ck_client {
    int number;            /* -1 = forgotten */
    int next_number;       /* of the client that takes this slot then */
    int fd;                /* of the server's end; -1 = not accepted, or closed */
    ck_records in;         /* sent by the client and not read yet */
    size_t unread;         /* bytes in there, lengths not counted */
    uint32_t left;         /* of the record that is being read */
    bool fin;              /* the client has sent all */
    int error;             /* of a connection that is broken */
    int window;            /* bytes until EAGAIN; -1 = no bound */
    int receive_most, send_most; /* 0 = no bound */
    ck_records out;        /* sent by the server and not taken yet */
    int state;             /* bits of ck_client_state */
    bool heard;            /* in the list of those with news */
    uint8_t address_length;
    uint16_t port;
    char address[16];
    struct ck_client *next_waiting, *next_heard, *next_spare;
} ck_client;

enum ck_descriptor_kind { CK_FD_FREE, CK_FD_OTHER, CK_FD_EVENT, CK_FD_TIMER, CK_FD_LISTENER, CK_FD_CLIENT };

typedef struct ck_descriptor {
    enum ck_descriptor_kind kind;
    bool polled, ready;
    uint32_t events;        /* polled for */
    void *data;             /* given back with an event */
    ck_client *client;
    uint64_t count;         /* of an event descriptor */
    int64_t due, period;    /* of a timer; 0 = off */
    int next_ready, before_ready;
    int next;               /* free descriptor, listener, or timer */
} ck_descriptor;

/* Results that a call is to have, one after another. */
typedef struct ck_script {
    int *steps;
    int next, count, capacity;
} ck_script;

typedef struct ck_loopback {
    struct us_sys_t sys; /* first: the table is given to each call */
    struct ck_loop *loop;
    ck_descriptor *descriptors;
    int descriptor_count, descriptor_capacity;
    int free_descriptor, listeners, timers; /* heads of lists, -1 = empty */
    int first_ready, last_ready, ready_count;
    ck_client **clients; /* by slot */
    int client_count, client_capacity, client_live;
    ck_client *spare;
    ck_client *first_waiting, *last_waiting; /* connected and not accepted */
    ck_client *first_heard, *last_heard;
    int64_t now_ns;
    ck_script scripts[CK_CALLS];
    int64_t faults_left;
    int64_t memory, open_descriptors, allocations, fail_at;
    bool fail_after;
} ck_loopback;

enum { CK_LOOPBACK_FD_FIRST = 1 << 20 }; /* far from real descriptors, so that a mix-up shows */

/* The virtual clocks begin at 1994-11-06 08:49:37, the date of RFC 9110's examples. */
#define CK_LOOPBACK_EPOCH 784111777
#define CK_LOOPBACK_BEGINNING 1000000000 /* monotonic ns; not 0, which can mean "never" */

/* loopback_sys.c: the system-call table. */
void ck_loopback_sys_init(ck_loopback *world);
void ck_loopback_sys_free(ck_loopback *world);
/* Brings a client's readiness, or that of the listeners, up to date. */
void ck_loopback_update_client(ck_loopback *world, const ck_client *client);
void ck_loopback_update_listeners(ck_loopback *world);
void ck_loopback_update_timers(ck_loopback *world);

/* loopback_client.c: clients. */
/* Appends a record and returns where its bytes go, or NULL without memory. */
char *ck_records_place(ck_records *records, size_t length);
/* Takes note that there is something to tell of a client. */
void ck_loopback_news(ck_loopback *world, ck_client *client);
void ck_loopback_clients_free(ck_loopback *world);

/* Returns the loopback that is selected, or NULL. */
ck_loopback *ck_loopback_current(void);

#endif
