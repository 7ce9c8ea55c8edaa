/* What an HTTP app is made of: the app, its connections, and their exchanges. */
#ifndef CK_HTTP_H
#define CK_HTTP_H

#include <stdbool.h>

#include "cork.h"
#include "corkbind.h"
#include "http_parser.h"
#include "listener.h"
#include "loop.h"
#include "proxy_protocol.h"
#include "router.h"
#include "topic.h"

struct us_socket_context_t;

/* A whole answer but for its Date, made once. */
typedef struct ck_fixed {
    int status;
    size_t head_length; /* field lines of the user's */
    size_t body_length;
    char data[];        /* fields, then body */
} ck_fixed;

/* A route that a function of C answers. */
typedef struct ck_native {
    void (*handler)(uint32_t exchange, void *user);
    void *user;
    int method;
    int length;
    char pattern[];
} ck_native;

/* Somebody who wants to know of the app's end. */
typedef struct ck_ending {
    struct ck_ending *next;
    void (*ended)(void *user);
    void *user;
} ck_ending;

typedef struct ck_route {
    int number;         /* what the request callback is given */
    int64_t body_limit; /* -1: the app's */
    ck_native *native;  /* not NULL: answered in C */
    ck_fixed *fixed;    /* not NULL: answered here */
    ck_counters *counters;
    ck_ws_limits *websocket; /* not NULL: of a WebSocket */
} ck_route;

/* What a request is routed by: those of an app, or of one of its domains. */
typedef struct ck_routers {
    ck_router *http;
    ck_router *websockets;       /* NULL without any */
} ck_routers;

/* A host name that an app knows, or a pattern of some. */
typedef struct ck_domain {
    struct ck_domain *next;
    struct ck_app *app;
    ck_routers routers;          /* `http` NULL: has only a certificate of its own */
    uint32_t handle;
    uint32_t hash;               /* of the name, for those that are no pattern */
    bool pattern;
    bool certificate;            /* is a server name of TLS */
    size_t length;
    char name[];                 /* ended by NUL */
} ck_domain;

typedef struct ck_app {
    ck_loop *loop;
    struct us_socket_context_t *context;
    ck_routers routers;
    ck_topics topics;
    ck_domain *domains;
    ck_route *routes;
    int route_count;
    int route_capacity;
    ck_listener *listeners;
    ck_ending *endings;
    struct ck_connection *first; /* all open connections */
    uint32_t handle;
    bool draining;
    bool tls;                    /* its connections all speak TLS */
    bool check_host;             /* with several names, Host must be the one that TLS was asked for */
    bool server_timing;          /* each head tells the counters of its connection */
    bool watched;                /* the uncorked callback is wanted */
    bool proxies_unix;           /* peers without an address send the PROXY protocol */
    ck_network *proxies;         /* so do peers from here */
    size_t proxy_count;
    ck_limits limits;
    ck_stats stats;
    ck_counters unrouted;        /* of what no route took */
} ck_app;

typedef struct ck_tls_facts ck_tls_facts;

/* How the rest of a request's body is framed. */
enum ck_body_framing { CK_FRAMED_NOT, CK_FRAMED_LENGTH, CK_FRAMED_CHUNKED };

/* Where a connection is in its cycle. */
enum ck_connection_phase {
    CK_PHASE_HEAD,   /* waiting for a request, or inside its head */
    CK_PHASE_BODY,   /* a body is on its way: to the exchange, or to nobody when that is over */
    CK_PHASE_WAIT,   /* the request is in, its response is not finished */
    CK_PHASE_WEBSOCKET, /* no more HTTP */
    CK_PHASE_LINGER, /* nothing more is served; reads and drops until the client closes */
};

/* What the socket's timeout means when it fires. */
enum ck_timer {
    CK_TIMER_NONE, CK_TIMER_IDLE, CK_TIMER_HEAD, CK_TIMER_BODY, CK_TIMER_HANDLER, CK_TIMER_SEND, CK_TIMER_LINGER,
    CK_TIMER_WS_IDLE, CK_TIMER_WS_PONG, CK_TIMER_WS_CLOSE
};

typedef struct ck_input {
    size_t length;
    size_t capacity;
    char data[];
} ck_input;

/* Received bytes that are being gone through. */
typedef struct ck_cursor {
    char *data;
    size_t length;
} ck_cursor;

typedef struct ck_connection {
    ck_stream stream;            /* must be first: the engine hands streams back */
    ck_app *app;
    struct ck_connection *previous;
    struct ck_connection *next;
    struct ck_connection *resume_next;
    struct ck_exchange *exchange; /* the one being read or answered */
    struct ck_websocket *websocket; /* while it is one */
    struct ck_exchange *attached; /* all that still point here */
    ck_input *input;              /* bytes behind the current request, or an incomplete head */
    ck_cursor *cursor;            /* while input is being gone through */
    uint64_t body_left;
    int64_t opened;               /* when it was accepted, in seconds of the wall clock */
    uint64_t progress;            /* bytes of a body or of a backlog that have moved since the timer was set */
    uint32_t last;                /* handle of the exchange that ended last, as long as it may be rolled back */
    uint32_t lingered;            /* bytes dropped after the end */
    ck_proxied proxied;           /* whom its proxy speaks for */
    uint8_t phase;
    uint8_t timer;
    uint8_t body_framing;
    bool keep_alive;
    bool continue_due;            /* the client waits for 100 Continue */
    bool user_paused;
    bool tls_due;                 /* the handshake comes first: nothing can be answered yet */
    bool proxy_due;               /* the header of the PROXY protocol comes first */
    bool reading;                 /* the socket is polled for reading */
    bool peer_ended;
    bool shutdown_due;            /* half-close as soon as everything has left */
    bool resuming;                /* on the loop's resume list */
    bool closed;
    uint8_t reason;               /* enum ck_abort_reason, for on_close */
    int16_t refusal;              /* status to refuse with, found while a callback was running */
    ck_chunked chunked;
} ck_connection;

enum ck_response_phase { CK_RESPONSE_IDLE, CK_RESPONSE_HEAD, CK_RESPONSE_BODY, CK_RESPONSE_FINISHED, CK_RESPONSE_ABORTED };

enum ck_response_framing { CK_BODY_BY_LENGTH, CK_BODY_BY_CHUNKS, CK_BODY_BY_CLOSE };

enum ck_body_state { CK_BODY_PENDING, CK_BODY_DONE, CK_BODY_FAILED };

typedef struct ck_exchange {
    struct ck_exchange *next;       /* spare list, or the connection's list of attached ones */
    ck_loop *loop;
    ck_connection *connection;      /* NULL once the client is gone */
    uint32_t handle;                /* 0 until the head is complete */

    bool kept;
    bool in_callback;
    bool yield;
    bool head_owned;

    /* request */
    char *data;                     /* the head: in the receive buffer, or a copy when head_owned */
    uint8_t body_mode;              /* 0 or enum ck_body_mode */
    uint8_t body_state;
    uint8_t body_error;             /* enum ck_body_event */
    bool asking;                    /* inside ck_body_ask: its result tells, no callback */
    const ck_ws_limits *websocket;  /* the request is a good opening handshake */
    const ck_follower *follower;    /* not NULL: of a native route, and told instead of the loop's callbacks */
    void *user;                     /* the follower's */
    const ck_routers *routers;      /* that it is routed by */
    ck_tls_facts *tls_facts;        /* of the connection that is gone */
    uint64_t body_limit;
    uint64_t body_received;
    char *body;
    size_t body_length;
    size_t body_capacity;
    char *trailers;
    size_t trailers_length;
    size_t trailers_capacity;

    /* response */
    uint8_t phase;
    uint8_t framing;
    bool close;
    bool status_given;
    bool has_date;
    bool has_type;
    bool has_length;
    bool want_writable;
    bool want_empty;                /* a stream of no body: its one empty part is due */
    uint16_t status;
    uint32_t mark;                  /* where the response begins in the cork buffer */
    uint32_t status_length;         /* of its status line */
    uint32_t flushes_before;        /* of the stream, when it began */
    uint32_t flushes_after;
    uint64_t declared;              /* Content-Length of the application's */
    uint64_t written;

    ck_head head;                   /* from here on nothing is cleared between uses */
    ck_match match;
} ck_exchange;

/* ---- connection (http_connection.c, http_input.c, dispatch.c) ---- */

void ck_connection_callbacks(struct us_socket_context_t *context);
/* Goes on with the input that is there. */
void ck_connection_resume(ck_connection *connection);
/* Closes now; what is packed is flushed first, unless the stream is broken. */
void ck_connection_close(ck_connection *connection, enum ck_abort_reason reason);
/* The response has ended: makes the connection ready for what comes next. */
void ck_connection_finished(ck_connection *connection, ck_exchange *exchange);
/* Takes that back, for a rollback. */
void ck_connection_unfinish(ck_connection *connection, ck_exchange *exchange);
void ck_connection_timer(ck_connection *connection, enum ck_timer timer);
/* Sets the timer for what the connection waits for once nothing is left to send. */
void ck_connection_timer_for_phase(ck_connection *connection);
/* No more requests; the client learns it when all is sent. */
void ck_connection_linger(ck_connection *connection);
/* Answers with an error that the core found, in place of a handler's response. */
void ck_connection_refuse(ck_connection *connection, int status, enum ck_abort_reason reason);
/* The same for an error in a body, which whoever asked for it is told as well. */
void ck_connection_refuse_body(ck_connection *connection, int status);
/* Takes `length` received bytes (none: just goes on with what is kept). */
void ck_connection_go_through(ck_connection *connection, char *data, size_t length);
void ck_connection_drop_input(ck_connection *connection);
/* The head of `exchange`, at `data`, is complete. */
void ck_connection_dispatch(ck_connection *connection, ck_exchange *exchange, char *data);
/* Polls for reading or not, by what is held and who paused. */
void ck_connection_update_reading(ck_connection *connection);
/* Closes if idle; for draining. Returns true when it did. */
bool ck_connection_close_idle(ck_connection *connection);

/* ---- host names (domain.c) ---- */

/* Returns what a request is routed by, or NULL when it is misdirected: TLS was asked for
 * one name, and this request is for another. */
const ck_routers *ck_domain_routers(const ck_connection *connection, const ck_exchange *exchange);
/* Returns the app's entry of that name, made if need be, or NULL without memory. */
ck_domain *ck_domain_named(ck_app *app, const char *name, size_t length);
/* Returns it, or NULL. */
ck_domain *ck_domain_find(const ck_app *app, const char *name, size_t length);
/* It has no certificate any more; without routes it goes. */
void ck_domain_forget(ck_domain *domain);
/* Returns what routes given with the handle of an app or a domain go to, and its app in
 * *app; or NULL with *error set. */
ck_routers *ck_routers_of(uint32_t handle, ck_app **app, int *error);
void ck_domains_free(ck_app *app);
void ck_routers_free(ck_routers *routers);

/* ---- TLS of an app (app_tls.c) ---- */

/* Makes the app's sockets speak TLS. Returns their context, or NULL. */
struct us_socket_context_t *ck_tls_context(ck_app *app, const ck_tls_options *options);

/* Copies what TLS says of the connection of an exchange that is kept, which is about to go;
 * without memory it is lost. */
void ck_tls_facts_keep(ck_exchange *exchange);

/* ---- exchange (exchange.c) ---- */

ck_exchange *ck_exchange_new(ck_connection *connection);
/* Gives it its handle. Returns 0 or CK_NOMEM. */
int ck_exchange_register(ck_exchange *exchange);
void ck_exchange_free(ck_exchange *exchange);
/* Nobody holds it any more: answers for whoever did not, and frees it. */
void ck_exchange_let_go(ck_exchange *exchange);
/* The connection is gone: detaches, and tells whoever kept the exchange, and
 * first whoever waits for its body. */
void ck_exchange_abort(ck_exchange *exchange, enum ck_abort_reason reason);
/* Returns the exchange of a handle, or NULL with *error set. */
ck_exchange *ck_exchange_of(uint32_t handle, int *error);
/* Returns the socket of its connection; NULL from the moment on in which that closes. */
static inline struct us_socket_t *ck_exchange_socket(const ck_exchange *exchange)
{
    return exchange->connection ? exchange->connection->stream.socket : NULL;
}
/* Returns it while its response can be written. */
ck_exchange *ck_exchange_writable(uint32_t handle, int *error);

/* ---- routes (app.c) ---- */

/* Adds a route; on success the app owns what it points to. Returns 0 or -errno. */
int ck_app_add_route(ck_app *app, ck_router *router, int method, const char *pattern, size_t length, ck_route route);

/* ---- who serves and follows an exchange: C or the loop's callbacks (native.c) ---- */

/* Has a request served by its route. */
void ck_follow_request(ck_exchange *exchange, const ck_route *route);
void ck_follow_aborted(ck_exchange *exchange, int reason);
void ck_follow_body(ck_exchange *exchange, int event);
/* Returns false when there was no memory to hand the part over. */
bool ck_follow_data(ck_exchange *exchange, const char *data, size_t length, bool last);
void ck_follow_writable(ck_exchange *exchange);
/* Tells those who want to know that the app is over, the last of them first. */
void ck_app_tell_end(ck_app *app);

/* ---- request body (body.c) ---- */

void ck_body_begin(ck_connection *connection, ck_exchange *exchange);
/* Takes body bytes from the cursor. Returns 0, or minus a status to refuse with. */
int ck_body_take(ck_connection *connection, ck_cursor *cursor);
/* The body will never be complete: tells whoever asked. */
void ck_body_fail(ck_connection *connection, enum ck_body_event event);
bool ck_body_done(const ck_connection *connection);

/* ---- response (response.c) ---- */

int ck_response_end(ck_exchange *exchange, const char *data, size_t length, int flags);
/* Answers with a status and its phrase as the body, from the core. `extra` is
 * field lines or "". */
void ck_response_simple(ck_exchange *exchange, int status, const char *extra, bool close);
/* Whoever held the exchange let it go without answering. */
void ck_response_unanswered(ck_exchange *exchange);
/* Writes an Allow field line for a set of methods to `out` (128 bytes). */
void ck_allow_field(char *out, uint32_t methods);
void ck_response_fixed(ck_exchange *exchange, const ck_fixed *fixed);
/* Packs one chunk of a chunked body. Returns 0 or a ck_result. */
int ck_response_chunk(ck_exchange *exchange, const char *data, size_t length);
/* Whether the client can have seen nothing of it: nothing is written, or a head that
 * is not complete and wholly packed. */
bool ck_response_unsent(const ck_exchange *exchange);
/* Drops the response while it is wholly packed. */
bool ck_response_rollback(ck_exchange *exchange);
/* Checks field lines "Name: value\r\n". Returns 0 or a ck_result. */
int ck_fields_check(const char *data, size_t length);
/* Packs an answer to a request that could not be read; a `bare` one is for HEAD and
 * has no body. Returns 0 or a ck_result. */
int ck_refusal_write(ck_stream *stream, int status, bool bare);

#endif
