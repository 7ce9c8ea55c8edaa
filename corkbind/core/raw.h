/* Sockets that speak no HTTP: contexts, which say what holds for a set of them, and the sockets. */
#ifndef CK_RAW_H
#define CK_RAW_H

#include <stdbool.h>

#include "cork.h"
#include "corkbind.h"
#include "listener.h"
#include "loop.h"

struct us_socket_context_t;
struct us_timer_t;

/* Lies in the ext of its us_socket_context_t: when that is freed, it lives as long as its
 * sockets' memory does. */
typedef struct ck_context {
    ck_loop *loop;
    struct us_socket_context_t *us;
    ck_listener *listeners;
    struct ck_socket *first; /* all its sockets, connecting ones too */
    uint64_t backlog;        /* unsent bytes of a socket at which a further write closes it; 0 = none */
    uint32_t handle;         /* 0 = closed */
    bool tls;
    bool manual;             /* a write outside any cork leaves at once */
    bool adopting;           /* the caller of ck_context_adopt is told by what that returns */
    char *protocol;          /* that its listeners' sockets agree to by ALPN; NULL = none */
    ck_stats stats;
    ck_counters counters;    /* the same, which the engine adds up for each route */
} ck_context;

/* Where a socket is in its life. Opening means connecting, or being in TLS's handshake. */
enum ck_socket_phase { CK_SOCKET_OPENING, CK_SOCKET_OPEN, CK_SOCKET_GONE };

/* Lies in the ext of its us_socket_t, from connecting on. */
typedef struct ck_socket {
    ck_stream stream;        /* first */
    ck_context *context;
    struct ck_socket *next;
    struct ck_socket *previous;
    struct ck_socket *later_next;
    const char *tls_reason;  /* why TLS ended it; NULL while it has not */
    uint32_t handle;
    uint8_t phase;
    bool shutdown_due;       /* to be shut down, and */
    bool close_due;          /* closed, when all has left */
    bool shut;               /* it has been said that nothing more will be written */
    bool told;               /* the application has its handle */
    bool later;              /* on the loop's list */
    bool paused;             /* not to be read from when it opens */
    bool awaited;            /* write() has said that something waits; until it opens */
} ck_socket;

/* Lies in the ext of its us_timer_t. */
typedef struct ck_raw_timer {
    ck_loop *loop;
    struct us_timer_t *us;
    uint32_t handle;
} ck_raw_timer;

/* Sets the callbacks of a new context. */
void ck_socket_callbacks(struct us_socket_context_t *us);

/* Makes a socket of a us_socket_t; `told` = the application is to be given the handle that
 * this returns. Returns 0 without memory for one. */
uint32_t ck_socket_begin(ck_context *context, struct us_socket_t *us, bool told);

/* Closes now; what is packed is sent first. Does nothing to one that is gone. */
void ck_socket_close_now(ck_socket *socket, int code);

/* Goes on with the sockets for which something has left, or failed, outside any cork. */
void ck_sockets_look_after(ck_loop *loop);

/* Tells the application what has happened; `data` NULL gives None. Returns false, and calls
 * nobody, when there was no memory for an object. */
bool ck_socket_tell(ck_loop *loop, uint32_t handle, int event, const char *data, size_t length, int number);

#endif
