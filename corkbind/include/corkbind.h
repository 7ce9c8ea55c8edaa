/* The C interface of corkbind's core: an HTTP server whose writes are corked.
 *
 * What a caller holds is a handle: a 32-bit number that names an object of the
 * calling thread's loop. Handles are never reused within 2^27 allocations, every
 * entry checks them, and a stale one gives CK_EXPIRED and touches nothing.
 *
 * Entries marked [hot] take only 32-bit integers and pointers to bytes, so that
 * a dynamic binding can call them without describing their arguments. Buffers
 * are borrowed until the call returns unless it says otherwise.
 *
 * Everything but ck_loop_wake belongs to the thread that opened the loop. (A
 * loopback has no thread; whoever holds the interpreter's lock may select it.) */
#ifndef CORKBIND_H
#define CORKBIND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef CK_EXPORT
#define CK_EXPORT __attribute__((visibility("default")))
#endif

struct ck_api;
struct us_loop_t;
struct us_sys_t;

/* Raised whenever a declaration below changes its meaning. */
enum { CK_ABI_VERSION = 3 };

/* What an entry returns when it refuses. Zero and above is success. */
enum ck_result {
    CK_OK = 0,
    CK_EXPIRED = -1,   /* the handle is stale: request and response are over */
    CK_FINISHED = -2,  /* the response has ended */
    CK_ABORTED = -3,   /* the connection is gone */
    CK_THREAD = -4,    /* the handle belongs to another thread's loop */
    CK_NAME = -5,      /* a field name is not a token */
    CK_VALUE = -6,     /* a field value holds a control character */
    CK_STATUS = -7,    /* a status is not 200 to 599, or its reason holds a control character */
    CK_FRAMING = -8,   /* the field is the server's own to write (Transfer-Encoding), or contradicts itself */
    CK_LENGTH = -9,    /* the body does not have the length that was declared */
    CK_STARTED = -10,  /* part of the response has left already */
    CK_NOMEM = -11,
    CK_STATE = -12,    /* the call does not fit here: a body where none may be, a second reader of a body */
    CK_NOLOOP = -13,   /* this thread has no loop */
};

/* A network as ck_app_proxy_protocol takes it: 16 bytes of address, 1 of its bits. */
enum { CK_NETWORK_SIZE = 17 };

/* Flags of ck_end and its kin. */
enum { CK_CLOSE = 1 /* close the connection after this response */ };

/* How the body of a request is to be delivered; see ck_body_ask. */
enum ck_body_mode { CK_BODY_COLLECT = 1, CK_BODY_STREAM = 2 };

/* What the body callback reports. */
enum ck_body_event { CK_BODY_COMPLETE = 0, CK_BODY_INCOMPLETE = 1, CK_BODY_TOO_LARGE = 2, CK_BODY_MALFORMED = 3 };

/* Why a connection ended under a response; given to the aborted callback. */
enum ck_abort_reason { CK_ABORT_CLIENT = 0, CK_ABORT_TIMEOUT = 1, CK_ABORT_SERVER = 2, CK_ABORT_BODY = 3 };

/* Why packed bytes left: indices of ck_stats.flushes. */
enum ck_flush_reason {
    CK_FLUSH_UNCORK, CK_FLUSH_FULL, CK_FLUSH_SLOW, CK_FLUSH_EXPLICIT, CK_FLUSH_ITERATION,
    CK_FLUSH_CLOSE, CK_FLUSH_EVICTED, CK_FLUSH_VECTORED, CK_FLUSH_REASONS
};

/* What a client of a loopback sees of its connection; see ck_loopback_state. */
enum ck_client_state {
    CK_CLIENT_ACCEPTED = 1, /* the server has taken it in */
    CK_CLIENT_SHUT = 2,     /* the server has sent its FIN */
    CK_CLIENT_CLOSED = 4,   /* the server has closed */
    CK_CLIENT_RESET = 8     /* by a reset: closed with bytes unread, or reset by the client */
};

/* System calls that ck_loopback_fault scripts; sending a vector counts as a send. */
enum ck_call {
    CK_CALL_SOCKET, CK_CALL_BIND, CK_CALL_LISTEN, CK_CALL_ACCEPT, CK_CALL_SETSOCKOPT, CK_CALL_GETSOCKOPT,
    CK_CALL_GETSOCKNAME, CK_CALL_GETPEERNAME, CK_CALL_RECV, CK_CALL_SEND, CK_CALL_SHUTDOWN, CK_CALL_CLOSE,
    CK_CALL_UNLINK, CK_CALL_EPOLL_CREATE, CK_CALL_EPOLL_CTL, CK_CALL_EPOLL_WAIT, CK_CALL_EVENTFD,
    CK_CALL_TIMERFD_CREATE, CK_CALL_TIMERFD_SETTIME, CK_CALL_READ, CK_CALL_WRITE, CK_CALL_OPEN_SPARE, CK_CALLS
};

/* What ck_loopback_count counts. */
enum ck_loopback_counter {
    CK_COUNT_MEMORY,      /* blocks that the core holds */
    CK_COUNT_DESCRIPTORS, /* open */
    CK_COUNT_ALLOCATIONS, /* so far */
    CK_COUNT_FAULTS       /* scripted and not met yet, allocations not counted */
};

typedef struct ck_stats {
    uint64_t requests;          /* heads taken in, refused ones not counted */
    uint64_t responses;         /* ended by the application or by the core */
    uint64_t sends;             /* system calls that sent */
    uint64_t bytes;             /* handed to the kernel */
    uint64_t overflows;         /* full buffers sent while the cork went on */
    uint64_t nested_corks;      /* corks of a socket while another was corked */
    uint64_t rollbacks;         /* responses dropped before a byte left */
    uint64_t uncorked_writes;   /* first writes outside any cork, packed until the end of the iteration */
    uint64_t tls_records;       /* of data, sent */
    uint64_t tls_failures;      /* connections that ended for what their client did wrong in TLS */
    uint64_t refused;           /* requests answered with an error before any handler */
    uint64_t aborted;           /* connections that ended under a response */
    uint64_t timeouts;          /* handlers, bodies and heads that took too long */
    uint64_t connections;       /* accepted */
    uint64_t open;              /* open now */
    uint64_t flushes[CK_FLUSH_REASONS];
} ck_stats;

/* What a datagram socket has done. */
typedef struct ck_datagram_stats {
    uint64_t datagrams;         /* sent */
    uint64_t sends;             /* system calls that sent */
    uint64_t bytes;             /* of payload, handed to the kernel */
    uint64_t received;          /* datagrams */
    uint64_t receives;          /* system calls that received */
    uint64_t received_bytes;
    uint64_t dropped;           /* not taken, because too much waited for the kernel */
    uint64_t failed;            /* refused by the kernel */
    uint64_t lost;              /* received, and there was no memory to hand them over */
} ck_datagram_stats;

/* The same for the requests of one route, and for one connection. */
typedef struct ck_counters {
    uint64_t requests;          /* given to the route */
    uint64_t responses;
    uint64_t sends;             /* of a route: those that ended with bytes of its response */
    uint64_t bytes;
    uint64_t overflows;
    uint64_t nested_corks;
    uint64_t rollbacks;
    uint64_t uncorked_writes;
    uint64_t tls_records;
    uint64_t flushes[CK_FLUSH_REASONS];
} ck_counters;

/* What an open connection is about. */
enum ck_connection_state {
    CK_CONNECTION_IDLE,     /* waits for a request */
    CK_CONNECTION_HEAD,     /* part of a head is there */
    CK_CONNECTION_BODY,     /* a body is on its way */
    CK_CONNECTION_HANDLER,  /* the request is in, and nothing has been written */
    CK_CONNECTION_RESPONSE, /* a response has begun */
    CK_CONNECTION_LINGER,   /* serves no more, and waits for the client to close */
    CK_CONNECTION_WEBSOCKET /* a WebSocket */
};

/* Which connections ck_app_connections gives, and in which order. */
enum ck_connection_order { CK_BY_AGE /* the newest first */, CK_BY_BACKLOG, CK_BY_BYTES };

typedef struct ck_connection_info {
    ck_counters counters;
    uint64_t packed;            /* bytes in its cork */
    uint64_t backlog;           /* bytes that wait for the client */
    uint32_t seconds;           /* since it was accepted, by the wall clock */
    uint32_t state;             /* enum ck_connection_state */
    uint32_t port;              /* the client's; 0 when unknown */
    uint32_t address_length;    /* 4, 16, or 0 for an unknown one */
    uint8_t address[16];
} ck_connection_info;

/* Limits of an app; seconds and bytes. 0 for a timeout or rate turns it off. */
typedef struct ck_limits {
    uint64_t body;              /* of a request, unless its route says otherwise */
    uint64_t backlog;           /* unsent bytes of one connection at which a further write aborts it */
    uint32_t line;              /* request line */
    uint32_t head;              /* all fields */
    uint32_t field;             /* one field */
    uint32_t fields;            /* count */
    uint32_t pipeline;          /* bytes held of requests behind the current one; reading pauses there */
    uint32_t window;            /* bytes held of a body that nobody has asked for; reading pauses there */
    uint32_t head_seconds;
    uint32_t idle_seconds;
    uint32_t body_seconds;      /* the longest silence inside a body */
    uint32_t handler_seconds;   /* until a response starts */
    uint32_t rate;              /* bytes a second, the least in a body and in a response */
    uint32_t connections;       /* open at once; 0 = no limit */
} ck_limits;

/* Files and settings of TLS; file names and other text are NULL where unset, numbers 0. */
typedef struct ck_tls_options {
    const char *key_file;         /* PEM, as all of them */
    const char *certificate_file; /* and those of the authorities between behind it */
    const char *passphrase;       /* of the key */
    const char *dh_file;          /* NULL: OpenSSL chooses */
    const char *ca_file;          /* who must have signed the certificates of clients, which are asked for then */
    const char *ciphers;          /* OpenSSL's list, or names of TLS 1.3 */
    uint32_t low_memory;
    uint32_t min_version;         /* 13: TLS 1.3 only; else 1.2 as well */
    uint32_t verify_optional;     /* 1: a client may show no certificate, but no wrong one */
    uint32_t record_size;         /* bytes of data in a record, 512 to 16384; 1: small ones first; 0: 16384 */
    uint32_t sni_strict;          /* of an app: 1 turns away clients that ask for no known name */
    uint32_t check_host;          /* of an app: 1 = with several names, Host must be the one that TLS was asked for, else 421 */
} ck_tls_options;

/* Settings of a WebSocket route; seconds and bytes. */
typedef struct ck_ws_limits {
    uint64_t message;           /* payload of a message; one with more closes with 1009 */
    uint64_t backlog;           /* unsent bytes above which messages are dropped; 0 = none are */
    uint32_t idle_seconds;      /* without a frame from the client: closed; 0 = never */
    uint32_t close_seconds;     /* in which the client must answer our close frame */
    uint32_t pings;             /* 1: a client that is idle for long is asked by a ping first */
    uint32_t close_on_backlog;  /* 1: dropping a message closes the connection */
    uint32_t idle_on_send;      /* 1: what is sent counts as well */
    uint32_t lifetime_minutes;  /* at this age it is closed with 1001; 0 = never, 240 at most */
    uint32_t compression;       /* CompressOptions: a compressor and a decompressor; 0 = none */
} ck_ws_limits;

/* What the websocket callback reports; the first two and the pings are the opcode of the frame. */
enum ck_ws_event {
    CK_WS_EVENT_TEXT = 1,    /* a message: str */
    CK_WS_EVENT_BINARY = 2,  /* a message: bytes */
    CK_WS_EVENT_CLOSED = 8,  /* it is over, and the handle stale: the reason as str; the number is the close code */
    CK_WS_EVENT_PING = 9,    /* answered already: bytes */
    CK_WS_EVENT_PONG = 10,   /* bytes */
    CK_WS_EVENT_DRAIN = 16,  /* all that waited for the client has left */
    CK_WS_EVENT_DROPPED = 17, /* published to it and not sent, too much waits: str or bytes; the number is the opcode */
    CK_WS_EVENT_SUBSCRIPTION = 18 /* at its end, before CK_WS_EVENT_CLOSED: a topic as str; the number is how many are left there */
};

/* The longest name of a topic, and the longest key, in bytes. */
enum { CK_TOPIC_BYTES = 1024 };

/* What the socket callback reports. Without another payload that is None. */
enum ck_socket_event {
    CK_SOCKET_ACCEPTED = 1,      /* a listener has let it in, and TLS is agreed: bytes, its peer's address (4, 16 or 0); the number is the context */
    CK_SOCKET_CONNECTED = 2,     /* ck_context_connect: the same */
    CK_SOCKET_CONNECT_ERROR = 3, /* that failed, and the handle is stale: the number is an errno; bytes where TLS says why */
    CK_SOCKET_DATA = 4,          /* bytes */
    CK_SOCKET_DRAIN = 5,         /* all that waited for the peer has left */
    CK_SOCKET_END = 6,           /* the peer sends no more; the number is 1 where TLS was cut off before its end */
    CK_SOCKET_TIMEOUT = 7,
    CK_SOCKET_LONG_TIMEOUT = 8,
    CK_SOCKET_CLOSED = 9,        /* it is over, and the handle stale: the number is the code; bytes where TLS says why */
    CK_SOCKET_TIMER = 10         /* the handle is a timer's */
};

/* What ck_socket_write returns for success. */
enum ck_socket_written {
    CK_SOCKET_WAITS = 0,     /* some waits for the peer */
    CK_SOCKET_SENT = 1       /* or is packed */
};

/* What ck_ws_send returns for success. */
enum ck_ws_sent {
    CK_WS_WAITS = 0,         /* some waits for the client */
    CK_WS_SENT = 1,
    CK_WS_DROPPED = 2        /* nothing was sent: too much waits */
};

/* What the udp callback reports. */
enum ck_udp_event {
    CK_UDP_EVENT_DATA = 1,   /* a list of (bytes, (host, port)); the number is how many were received */
    CK_UDP_EVENT_DRAIN = 2,  /* all that waited for the kernel has left */
    CK_UDP_EVENT_ERROR = 3,  /* the kernel refused a datagram to (host, port), the last of those; the number is its errno */
    CK_UDP_EVENT_CLOSED = 4  /* the loop has ended, and the handle is stale */
};

/* Flags of ck_udp_create. */
enum {
    CK_UDP_MANUAL = 1,       /* outside a cork each datagram leaves at once */
    CK_UDP_DETAILS = 2       /* datagrams are (bytes, (host, port), (destination, ecn)) */
};

/* What the core calls. Nothing that a callback returns is used: results travel
 * by calls. A callback may call every entry but ck_loop_step and ck_loop_close.
 * Where all routes are of ck_app_route_native and ck_app_fixed, only `deferred` is needed. */
typedef struct ck_callbacks {
    /* A request's head is complete and its route is `route`. Runs corked. When it
     * returns, the exchange is over unless ck_keep was called. */
    void (*request)(int route, uint32_t handle);
    /* A kept exchange lost its connection; the request stays readable. */
    void (*aborted)(uint32_t handle, int reason);
    /* CK_BODY_COLLECT: the body is there (ck_py_body_take), or never will be. */
    void (*body)(uint32_t handle, int event);
    /* CK_BODY_STREAM: the next part; `bytes` is a Python bytes object, `last` is 1
     * with the final part (which may be empty). Runs corked. */
    void (*data)(uint32_t handle, void *bytes, int last);
    /* ck_want_writable: all that was written has gone. Runs corked. */
    void (*writable)(uint32_t handle);
    /* Something waits for ck_loop_step although no event will come: call it soon.
     * Once until the next step. */
    void (*deferred)(void);
    /* ck_app_watch: bytes are being packed outside any cork, by the code that runs
     * now. Called from within an entry that writes: it must only look. May be NULL. */
    void (*uncorked)(uint32_t app);
    /* Something has happened on a WebSocket (enum ck_ws_event); `payload` is a Python
     * object. Runs corked, unless the connection is gone. */
    void (*websocket)(uint32_t websocket, int event, void *payload, int number);
    /* The client of a TLS app did something wrong in TLS, or (`plain`) speaks plain
     * text; its connection ends. `reason` is for people. Must only look. May be NULL. */
    void (*tls_failed)(uint32_t app, const char *reason, int plain);
    /* Something has happened on a datagram socket (enum ck_udp_event); `payload` is a
     * Python object. Runs corked. NULL where there are none. */
    void (*udp)(uint32_t udp, int event, void *payload, int number);
    /* Something has happened on a socket, or a timer has run out (enum ck_socket_event);
     * `payload` is a Python object. Runs corked, unless the socket is gone or is a timer. */
    void (*socket)(uint32_t handle, int event, void *payload, int number);
    /* ck_app_missing_server_name: the client of a TLS app asks for a host name that is
     * unknown; when this returns its handshake goes on, with what is known by then. May
     * be NULL. */
    void (*server_name)(uint32_t app, const char *name);
} ck_callbacks;

/* What follows an exchange of a route of ck_app_route_native, in place of the loop's
 * callbacks; any may be NULL. They may call what a callback of the loop may. */
typedef struct ck_follower {
    /* The kept exchange lost its connection; the request stays readable. ck_release is due. */
    void (*aborted)(uint32_t exchange, int reason, void *user);
    /* CK_BODY_COLLECT: the body is there (ck_body_value), or never will be. */
    void (*body)(uint32_t exchange, int event, void *user);
    /* CK_BODY_STREAM: the next part, borrowed until this returns; `last` is 1 with the
     * final part (which may be empty). Runs corked. */
    void (*data)(uint32_t exchange, const char *data, size_t length, int last, void *user);
    /* ck_want_writable: all that was written has gone. Runs corked. */
    void (*writable)(uint32_t exchange, void *user);
} ck_follower;

/* Addresses of the interpreter's own functions, so that the core can make Python
 * objects without being compiled against any one interpreter. */
typedef struct ck_python {
    void *(*bytes_new)(const char *data, ptrdiff_t length);                          /* PyBytes_FromStringAndSize */
    void *(*latin1)(const char *data, ptrdiff_t length, const char *errors);         /* PyUnicode_DecodeLatin1 */
    void *(*utf8)(const char *data, ptrdiff_t length, const char *errors);           /* PyUnicode_DecodeUTF8 */
    void *(*list_new)(ptrdiff_t length);                                             /* PyList_New */
    int (*list_append)(void *list, void *item);                                      /* PyList_Append */
    void *(*tuple_pack)(ptrdiff_t length, ...);                                      /* PyTuple_Pack */
    void (*incref)(void *object);                                                    /* Py_IncRef */
    void (*decref)(void *object);                                                    /* Py_DecRef */
    void (*error_set)(void *type, const char *message);                              /* PyErr_SetString */
    void *(*error_no_memory)(void);                                                  /* PyErr_NoMemory */
    void *none;                                                                      /* _Py_NoneStruct */
    void *value_error;                                                               /* PyExc_ValueError, or a subclass: a stale handle */
    void *(*integer)(long value);                                                    /* PyLong_FromLong */
    void *(*call)(void *function, ...);                                              /* PyObject_CallFunctionObjArgs */
    void *(*list_item)(void *list, ptrdiff_t index);                                 /* PyList_GetItem, which lends */
    void (*error_fetch)(void **type, void **value, void **traceback);                /* PyErr_Fetch */
    void (*error_normalize)(void **type, void **value, void **traceback);            /* PyErr_NormalizeException */
    long (*integer_value)(void *object);                                             /* PyLong_AsLong */
    int (*bytes_view)(void *object, char **data, ptrdiff_t *length);                 /* PyBytes_AsStringAndSize */
    const char *(*text_view)(void *object, ptrdiff_t *length);                       /* PyUnicode_AsUTF8AndSize */
    void *(*error_occurred)(void);                                                   /* PyErr_Occurred, which lends */
    void *(*function_new)(void *definition, void *self, void *module);               /* PyCFunction_NewEx */
    ptrdiff_t bytes_length;                                                          /* from the data of a bytes object to its ob_size */
} ck_python;

/* ---- The library ---- */

typedef struct ck_abi_entry {
    const char *name;
    int64_t value;
} ck_abi_entry;

/* Returns CK_ABI_VERSION of the built library. */
CK_EXPORT int ck_abi_version(void);
/* Returns sizes, offsets and enum values of this build, ended by a NULL name.
 * Names read "sizeof ck_stats", "offsetof ck_stats.sends", "CK_EXPIRED". */
CK_EXPORT const ck_abi_entry *ck_abi_table(void);
/* Copies the addresses. Call once, before any ck_py_ entry. */
CK_EXPORT void ck_python_bind(const ck_python *python);
/* Sets what serves requests, WebSockets and sockets where ck_callbacks.request, .websocket
 * and .socket are NULL: `entries`, a list that holds for each route number a function of the
 * handle; `websocket` and `socket`, functions of what these callbacks take; and `failed`, which
 * is called with an exception that one of these let out. Borrowed for ever. */
CK_EXPORT void ck_python_entries(void *entries, void *websocket, void *socket, void *failed);
/* Appends to a list, for the hottest entries, functions that check their arguments and
 * cost a third of a call through ctypes. Each has the entry's name, and is called as the
 * entry; ck_ws_send_bytes and ck_ws_send_text are ck_ws_send of a bytes object and of a
 * str: (websocket, object, first); ck_udp_send_to is ck_udp_send of a bytes object to a
 * str and a number: (udp, data, host, port). Returns 0, or -1 with an exception. */
CK_EXPORT int ck_python_functions(void *list);

/* ---- The loop of the calling thread ---- */

/* Opens the thread's loop, or adds a user to it. `callbacks` is copied at the
 * first opening. Returns 0 or -errno (-EMFILE, -ENOMEM; -EAGAIN: 31 threads have
 * loops already). Each success needs a ck_loop_close. */
CK_EXPORT int ck_loop_open(const ck_callbacks *callbacks);
/* The same on a system-call table; NULL means libc. */
CK_EXPORT int ck_loop_open_on(struct us_sys_t *sys, const ck_callbacks *callbacks);
/* Takes one user away; the last one flushes what is packed, closes everything
 * and frees the loop. Returns the users left, or CK_NOLOOP; CK_STATE where the last one
 * asks from inside a step or a callback. */
CK_EXPORT int ck_loop_close(void);
/* Returns a descriptor that is readable when ck_loop_step has work. */
CK_EXPORT int ck_loop_fd(void);
/* [hot] Does what is ready without waiting: resumes, events, flushes.
 * Returns the number of events, or CK_NOLOOP, or -errno. */
CK_EXPORT int ck_loop_step(void);
/* Lets one granule (4 s) of the timeouts pass: for loops on virtual time. */
CK_EXPORT int ck_loop_sweep(void);
/* Makes the descriptor readable. Any thread; `token` from ck_loop_token. */
CK_EXPORT int ck_loop_wake(uint32_t token);
CK_EXPORT uint32_t ck_loop_token(void);                                          /* [hot] */
/* In the child of a fork: makes every handle stale and closes the child's copies
 * of the descriptors without touching the parent's state. */
CK_EXPORT void ck_loop_forked(void);
/* Returns the number of handles alive on this thread: 0 when nothing leaks. */
CK_EXPORT int ck_loop_handles(void);
/* Returns the number of what keeps the loop busy: connections, listeners, timers, sockets of any
 * kind. 0 = nothing will happen any more by itself. */
CK_EXPORT int ck_loop_alive(void);
/* Returns 1 from inside a step or a callback, where something still goes on; else 0. */
CK_EXPORT int ck_loop_busy(void);
/* Returns the number of steps begun. */
CK_EXPORT int64_t ck_loop_iteration(void);
/* [hot] Makes the loop with this token the thread's own for all entries that are
 * given no handle; 0 = none. For loopbacks: a thread has one loop of sockets and
 * any number in memory. Returns CK_OK, CK_EXPIRED, or CK_THREAD. */
CK_EXPORT int ck_loop_select(uint32_t token);

/* ---- The loopback: a loop in memory, with scripted clients and virtual time ----
 *
 * No descriptor is opened and nothing waits. Apps, requests and responses work
 * as on any loop. All but the first two entries belong to the loopback that is
 * selected, and give CK_NOLOOP when none is. A client is a number from
 * ck_loopback_connect; one that has been forgotten gives CK_EXPIRED. */

/* Opens a loopback. The deferred callback is not called: see ck_loopback_work.
 * Returns its token, or 0 with *error set to an errno (EAGAIN: 31 loops are open). */
CK_EXPORT uint32_t ck_loopback_open(const ck_callbacks *callbacks, int *error);
/* Closes everything and frees the loopback. Returns the blocks and descriptors that
 * the core had not given back: 0. CK_STATE from inside one of its callbacks. */
CK_EXPORT int ck_loopback_close(uint32_t token);
/* [hot] 1 when ck_loop_step has something to do, else 0. */
CK_EXPORT int ck_loopback_work(void);
/* [hot] Connects a client. `address` has 4 bytes, 16, or 0 for an unknown one.
 * Returns its number, CK_STATE when nothing listens, CK_VALUE, CK_NOMEM. */
CK_EXPORT int ck_loopback_connect(const char *address, int length, int port);
/* [hot] The client sends: each call is one read of the server, unless it is longer
 * than a receive takes. CK_STATE after ck_loopback_fin. */
CK_EXPORT int ck_loopback_send(int client, const char *data, int length);
/* [hot] The client has sent all. */
CK_EXPORT int ck_loopback_fin(int client);
/* [hot] The connection breaks: what has arrived can be read, then `error` (an errno,
 * ECONNRESET above all) meets each receive and send. */
CK_EXPORT int ck_loopback_reset(int client, int error);
/* [hot] The client takes so many more bytes, then a send meets EAGAIN; -1 = no bound. */
CK_EXPORT int ck_loopback_window(int client, int bytes);
/* [hot] One receive gives, and one send takes, so many bytes at most; 0 = no bound. */
CK_EXPORT int ck_loopback_most(int client, int receive, int send);
/* [hot] Returns bits of ck_client_state. */
CK_EXPORT int ck_loopback_state(int client);
/* [hot] Returns the bytes that the server has not read, capped at 2^31 - 1. */
CK_EXPORT int ck_loopback_unread(int client);
/* [hot] Returns a client that bytes were sent to, or whose state has changed, since
 * it was last returned, in the order in which that happened; -1 = there is none. */
CK_EXPORT int ck_loopback_heard(void);
/* [hot] list of bytes: what each send carried since the last call. */
CK_EXPORT void *ck_py_loopback_take(int client);
/* [hot] Forgets a client. CK_STATE while the server has not closed its connection. */
CK_EXPORT int ck_loopback_forget(int client);
/* Returns the nanoseconds that have passed since the opening. */
CK_EXPORT int64_t ck_loopback_now(void);
/* Returns the nanoseconds until a timer of the core runs out, or -1 for none. */
CK_EXPORT int64_t ck_loopback_due(void);
/* Lets time pass. What has run out by then is done by ck_loop_step, once however
 * long that was: who wants each timer in turn stops at ck_loopback_due. */
CK_EXPORT int ck_loopback_pass(int64_t nanoseconds);
/* Sets the clocks back to the beginning. CK_STATE while there are clients. */
CK_EXPORT int ck_loopback_rewind(void);
/* Adds a step to the script of a call (enum ck_call): 0 = as always, above = at
 * most so many bytes (receive and send), below = fails with that errno. A step is
 * used up by one call. CK_VALUE, CK_NOMEM. */
CK_EXPORT int ck_loopback_fault(int call, int result);
/* Lets the n-th allocation from now fail, and with `after` all that follow; 0 = none. */
CK_EXPORT int ck_loopback_fail_allocation(int64_t nth, int after);
/* Forgets all scripts, that of allocations too. */
CK_EXPORT int ck_loopback_clear_faults(void);
/* Returns a count (enum ck_loopback_counter), or CK_VALUE. */
CK_EXPORT int64_t ck_loopback_count(int what);

/* ---- Certificates ---- */

/* What ck_certificate_text tells. */
enum ck_certificate_field {
    CK_CERTIFICATE_SUBJECT, CK_CERTIFICATE_ISSUER, /* as RFC 4514 writes names */
    CK_CERTIFICATE_COMMON_NAME,                    /* the last one of the subject */
    CK_CERTIFICATE_SERIAL,                         /* in hexadecimal */
    CK_CERTIFICATE_NOT_BEFORE, CK_CERTIFICATE_NOT_AFTER, /* 2026-01-31T23:59:59Z */
    CK_CERTIFICATE_NAMES                           /* other names, a line each: "DNS:a.example" */
};

/* Copies what a certificate (DER) says of itself as text in UTF-8, without an end, where `size`
 * is enough. Returns its length, or -1: no certificate, it does not say, or no memory. */
CK_EXPORT int ck_certificate_text(const char *der, size_t length, int what, char *out, size_t size);

/* ---- Apps ---- */

/* Makes an app on the thread's loop. Returns its handle, or 0 without memory or loop. */
CK_EXPORT uint32_t ck_app_create(const ck_limits *limits);
/* The same for an app whose connections all speak TLS. Returns its handle, or 0, and
 * then ck_tls_error says why: the file, and the cause. */
CK_EXPORT uint32_t ck_app_create_tls(const ck_limits *limits, const ck_tls_options *options);
/* Returns why this thread's last call that reads TLS files failed; "" when for want of memory or loop. */
CK_EXPORT const char *ck_tls_error(void);
/* Closes listeners and connections at once and frees the app. */
CK_EXPORT int ck_app_destroy(uint32_t app);
/* Gives a host name, or a pattern ("*" for a label), certificates of its own, in place of
 * those that it had. Of `options`, sni_strict and check_host have no meaning here. CK_STATE:
 * the app speaks no TLS. CK_VALUE: ck_tls_error says why; CK_NOMEM. */
CK_EXPORT int ck_app_add_server_name(uint32_t app, const char *name, const ck_tls_options *options);
/* Takes them away; connections that came in with them go on. CK_VALUE: it has none. */
CK_EXPORT int ck_app_remove_server_name(uint32_t app, const char *name);
/* Calls the server_name callback for this app (1), or no more (0). */
CK_EXPORT int ck_app_missing_server_name(uint32_t app, int on);
/* Inside that callback: ends the handshake, with the alert internal_error. */
CK_EXPORT int ck_app_refuse_server_name(uint32_t app);
/* Reads the files that are to take the place of the app's own (`name` NULL), or of those of
 * a server name; nothing changes until ck_app_renew. Results as ck_app_add_server_name. */
CK_EXPORT int ck_app_prepare(uint32_t app, const char *name, const ck_tls_options *options);
/* Uses all that was prepared for connections to come (1), or drops it (0). */
CK_EXPORT int ck_app_renew(uint32_t app, int use);
/* Returns the handle of a host name, or pattern, that has routes of its own; the app's do not
 * serve it. With TLS the name is the one that the handshake was for, else that of Host. Goes
 * with the app. 0 with *error = CK_NOMEM. */
CK_EXPORT uint32_t ck_app_domain(uint32_t app, const char *name, size_t length, int *error);
/* Adds a route to an app or a domain; see ck_router_add for patterns. `method` as in
 * ck_method_id. `body_limit` in bytes, or -1 for the app's. Returns 0 or -errno. */
CK_EXPORT int ck_app_route(uint32_t app, int method, const char *pattern, size_t length, int route, int64_t body_limit);
/* Adds a route that the core answers itself. `head` is the field lines, each
 * with CRLF, without Date and Content-Length, checked as ck_header does; all are
 * copied. Returns 0, -errno, or a ck_result. */
CK_EXPORT int ck_app_fixed(uint32_t app, int method, const char *pattern, size_t length,
    int status, const char *head, size_t head_length, const char *body, size_t body_length);
/* Adds a route for WebSockets, whose requests are given to `route` once their opening
 * handshake is good. Returns 0 or -errno. */
CK_EXPORT int ck_app_websocket(uint32_t app, const char *pattern, size_t length, int route, const ck_ws_limits *limits);
/* Returns the number of a method's name ("GET"), that of any method for "*", or -1. */
CK_EXPORT int ck_method_id(const char *name, size_t length);
/* Listens. `host` NULL = all interfaces, `port` 0 = a free one; `options` as
 * LIBUS_LISTEN_*. Returns a listener's handle, or 0 with *error set to an errno. */
CK_EXPORT uint32_t ck_app_listen(uint32_t app, const char *host, int port, int options, int *error);
CK_EXPORT uint32_t ck_app_listen_unix(uint32_t app, const char *path, int options, int *error);
CK_EXPORT int ck_listener_port(uint32_t listener);
CK_EXPORT int ck_listener_close(uint32_t listener);
/* Begins the end: listeners close, idle connections close, each response from
 * now on closes its connection. */
CK_EXPORT int ck_app_drain(uint32_t app);
/* Closes every connection now. */
CK_EXPORT int ck_app_abort(uint32_t app);
CK_EXPORT int ck_app_stats(uint32_t app, ck_stats *stats);
/* Copies the counters of `count` routes from number `first` on, in the order in
 * which they were added. Returns how many there were. */
CK_EXPORT int ck_app_route_stats(uint32_t app, int first, int count, ck_counters *out);
/* Copies those of what no route took: 404, 405, OPTIONS *, and refusals. */
CK_EXPORT int ck_app_unrouted_stats(uint32_t app, ck_counters *out);
/* Describes at most `capacity` open connections, the first ones in an order (enum
 * ck_connection_order). Returns how many, CK_NOMEM, or CK_STATE for no such order. */
CK_EXPORT int ck_app_connections(uint32_t app, int order, ck_connection_info *out, int capacity);
/* Returns the bytes that wait for clients, on all connections, or a ck_result. */
CK_EXPORT int64_t ck_app_backlog(uint32_t app);
/* From now on peers in `count` networks (CK_NETWORK_SIZE bytes each, IPv4 mapped into
 * IPv6), and with `unix_too` those without an address, begin connections with the
 * PROXY protocol, version 1 or 2; who does not is closed. CK_VALUE: too many bits. */
CK_EXPORT int ck_app_proxy_protocol(uint32_t app, const char *networks, int count, int unix_too);
/* Calls the uncorked callback for this app (1), or no more (0). */
CK_EXPORT int ck_app_watch(uint32_t app, int on);
/* Adds a Server-Timing field to each head (1), or no more (0): the responses, sends
 * and bytes of its connection before it. */
CK_EXPORT int ck_app_server_timing(uint32_t app, int on);

/* ---- An exchange: one request and its response ---- */

/* [hot] Keeps the exchange past its callback: the head is copied once, and the
 * aborted callback will tell when the client goes. Idempotent. */
CK_EXPORT int ck_keep(uint32_t handle);
/* [hot] The caller is done with a kept exchange. It goes as soon as its response
 * has ended; one that never was answered gets 500. Also from the callback itself. */
CK_EXPORT int ck_release(uint32_t handle);
/* [hot] Returns CK_OK while the response can still be written, else CK_FINISHED,
 * CK_ABORTED, CK_EXPIRED or CK_THREAD. */
CK_EXPORT int ck_alive(uint32_t handle);
/* [hot] Tries the next route (1) when the request callback returns, if nothing was written. */
CK_EXPORT int ck_set_yield(uint32_t handle, int yield);
CK_EXPORT int ck_get_yield(uint32_t handle);

/* -- Reading the request. ck_py_ entries return a new reference, None where
 * there is no such thing, or NULL with a Python exception set: `value_error` when
 * the handle is stale, MemoryError. -- */
CK_EXPORT void *ck_py_method(uint32_t handle);                                   /* [hot] str */
CK_EXPORT void *ck_py_target(uint32_t handle);                                   /* [hot] str, as received */
CK_EXPORT void *ck_py_path(uint32_t handle);                                     /* [hot] str, not decoded, "/" when empty */
CK_EXPORT void *ck_py_query(uint32_t handle);                                    /* [hot] str, not decoded, "" when none */
CK_EXPORT void *ck_py_host(uint32_t handle);                                     /* [hot] str or None */
/* [hot] `name` is lower case. Repeated fields are joined with ", " (Cookie: "; "). Latin-1 str or None. */
CK_EXPORT void *ck_py_header(uint32_t handle, const char *name, int length);
/* [hot] list of (lower-case name, value) in order of receipt. */
CK_EXPORT void *ck_py_headers(uint32_t handle);
CK_EXPORT void *ck_py_trailers(uint32_t handle);                                 /* [hot] the same of the trailer section; [] until the body has ended */
CK_EXPORT void *ck_py_parameter(uint32_t handle, int index);                     /* [hot] str, not decoded, or None */
CK_EXPORT void *ck_py_remote_address(uint32_t handle);                           /* [hot] bytes (4 or 16), or None */
CK_EXPORT void *ck_py_proxied_address(uint32_t handle);                          /* [hot] whom the PROXY protocol names: bytes (4 or 16), or None */
CK_EXPORT int ck_proxied_port(uint32_t handle);                                  /* [hot] 0 when unknown */
/* [hot] What TLS has agreed on: a tuple of version ("TLSv1.3"), cipher, protocol by ALPN or None,
 * host name that the client has asked for or None, and 1 when a session was resumed, else 0.
 * None where the connection is plain. */
CK_EXPORT void *ck_py_tls(uint32_t handle);
/* [hot] The certificate that the client has shown: bytes (DER), or None. */
CK_EXPORT void *ck_py_client_certificate(uint32_t handle);
CK_EXPORT int ck_parameter_count(uint32_t handle);                               /* [hot] */
CK_EXPORT int ck_http_minor(uint32_t handle);                                    /* [hot] 0 or 1 */
CK_EXPORT int ck_remote_port(uint32_t handle);                                   /* [hot] 0 when unknown */
/* For embedders without Python. Returns the length and points *value at the
 * first field of that name, or CK_VALUE when there is none. Borrowed: valid until
 * the callback returns, or while the exchange is kept. */
CK_EXPORT int ck_header_value(uint32_t handle, const char *name, int length, const char **value);
CK_EXPORT int ck_path_value(uint32_t handle, const char **value);
/* The same of "GET", of the target as received, of the query (not decoded, 0 when there
 * is none), of the Host field, and of the parameter number `index` of the route (not
 * decoded, CK_VALUE when there is none). */
CK_EXPORT int ck_method_value(uint32_t handle, const char **value);
CK_EXPORT int ck_target_value(uint32_t handle, const char **value);
CK_EXPORT int ck_query_value(uint32_t handle, const char **value);
CK_EXPORT int ck_host_value(uint32_t handle, const char **value);
CK_EXPORT int ck_parameter_value(uint32_t handle, int index, const char **value);
/* Points to name and value of the field number `index`, in order of receipt and as
 * received. Returns the length of the value, or CK_VALUE behind the last one. */
CK_EXPORT int ck_field_value(uint32_t handle, int index, const char **name, int *name_length, const char **value);
/* Copies the client's address to 16 bytes. Returns 4, 16, or 0 when it is unknown. */
CK_EXPORT int ck_remote_address_value(uint32_t handle, char *address);

/* [hot] Asks for the body: collected (the body callback says when), or streamed.
 * A waiting client gets its 100 Continue. Returns 1 when a collected body is
 * complete already, 0 when a callback will tell, CK_STATE for a second mode,
 * CK_ABORTED when it can never be complete. */
CK_EXPORT int ck_body_ask(uint32_t handle, int mode);
/* [hot] bytes of the collected body; None before it is complete. */
CK_EXPORT void *ck_py_body_take(uint32_t handle);
/* Points to the collected body, which lives as long as the exchange. Returns its length,
 * or CK_STATE before it is complete. */
CK_EXPORT int64_t ck_body_value(uint32_t handle, const char **value);
/* Changes the limit for this body. */
CK_EXPORT int ck_body_limit(uint32_t handle, uint64_t bytes);
/* [hot] Stops (1) or resumes (0) reading the connection. */
CK_EXPORT int ck_pause(uint32_t handle, int paused);

/* -- Writing the response. Everything is checked before a byte is packed. -- */
CK_EXPORT int ck_status(uint32_t handle, int status);                            /* [hot] the first call wins: a later one returns 1 */
CK_EXPORT int ck_status_line(uint32_t handle, const char *text, int length);     /* [hot] "404 Not Found" */
CK_EXPORT int ck_header(uint32_t handle, const char *name, int name_length, const char *value, int value_length); /* [hot] */
/* [hot] Adds a field of two Python bytes objects; the pointers are to where their bytes stand. */
CK_EXPORT int ck_header_bytes(uint32_t handle, const char *name, const char *value);
/* [hot] Adds a part of a body of unknown length (chunked, or by Content-Length
 * when the application wrote one). Returns 1 when bytes wait for the client. */
CK_EXPORT int ck_write(uint32_t handle, const char *data, int length);
/* [hot] Ends with the whole body, or with the last part after ck_write. */
CK_EXPORT int ck_end(uint32_t handle, const char *data, int length, int flags);
/* [hot] Ends with the whole of a Python bytes object; `data` is where its bytes stand. */
CK_EXPORT int ck_end_bytes(uint32_t handle, const char *data);
/* ck_write and ck_end for 2 GiB and more. */
CK_EXPORT int ck_write_large(uint32_t handle, const char *data, size_t length);
CK_EXPORT int ck_end_large(uint32_t handle, const char *data, size_t length, int flags);
/* [hot] Status, Content-Type and body in one call; `type_length` 0 = no Content-Type.
 * `status` 0 keeps what ck_status said. */
CK_EXPORT int ck_send(uint32_t handle, int status, const char *type, int type_length, const char *data, int length, int flags);
/* Ends without a body; `length` >= 0 is announced as Content-Length (for HEAD), -1
 * announces 0 where a length is needed. */
CK_EXPORT int ck_end_without_body(uint32_t handle, int64_t length, int flags);
/* Sends what the client takes of the part of a body of `total` bytes that begins
 * at the write offset; the rest is the caller's to send again.
 * Returns bits: 1 all was taken, 2 the response has ended. */
CK_EXPORT int ck_try_end(uint32_t handle, const char *data, size_t length, uint64_t total, int flags);
/* Adds a part of the body from a regular file, which the kernel copies, not the process.
 * The application has written a Content-Length; the response ends with its last
 * byte. The descriptor is copied: the caller may close its own. What has left of
 * the cork then cannot be taken back. A file that turns out shorter closes the connection.
 * Returns bits as ck_try_end: without 1, some waits for the client (ck_want_writable).
 * CK_LENGTH: more than declared, nothing was declared, or the file is shorter.
 * CK_STATE: another part of a file waits. CK_NOMEM: no memory, or no descriptor. */
CK_EXPORT int ck_send_file(uint32_t handle, int file, int64_t offset, uint64_t length);
CK_EXPORT int64_t ck_write_offset(uint32_t handle);
CK_EXPORT int ck_set_write_offset(uint32_t handle, uint64_t offset);
CK_EXPORT int ck_write_continue(uint32_t handle);
/* [hot] Asks for the writable callback, once: it comes after bytes have had to wait,
 * not when the kernel takes everything at once. */
CK_EXPORT int ck_want_writable(uint32_t handle);
/* [hot] 1 when a status, field or body byte was written. */
CK_EXPORT int ck_has_started(uint32_t handle);
/* [hot] Bytes packed or waiting, capped at 2^31 - 1. */
CK_EXPORT int ck_buffered_amount(uint32_t handle);
/* [hot] Sends that carried bytes of this response so far. */
CK_EXPORT int ck_sends(uint32_t handle);
/* [hot] The handler failed. Drops the response while it is wholly packed, ended
 * or not, and returns CK_OK: another may be written. CK_STARTED: part had left,
 * the connection is closed. CK_FINISHED: it had left whole. */
CK_EXPORT int ck_fail(uint32_t handle);
/* [hot] Closes the connection now; what is packed is flushed first. CK_FINISHED when
 * the response has ended and another request has begun since. */
CK_EXPORT int ck_close(uint32_t handle);

/* -- Corking -- */
CK_EXPORT int ck_cork(uint32_t handle);                                          /* [hot] nests */
CK_EXPORT int ck_uncork(uint32_t handle);                                        /* [hot] the outermost one sends */
CK_EXPORT int ck_flush(uint32_t handle);                                         /* [hot] sends, and stays corked */
CK_EXPORT uint32_t ck_corked(void);                                              /* [hot] the exchange, WebSocket or socket that is corked innermost, or 0 */

/* ---- WebSockets ---- */

/* Accepts the opening handshake: what was written of fields, and what a 101 needs, is
 * the answer, and what follows on the connection are frames. `protocol` is one that
 * the client offers; length 0 = none. Returns the handle of the WebSocket, or CK_STATE
 * (no such request; a status or body has been written), CK_VALUE (not offered). */
CK_EXPORT int64_t ck_upgrade(uint32_t handle, const char *protocol, size_t length);
/* [hot] Sends a frame. `first` is its first byte: an opcode, 128 with the last frame of
 * a message, and 64 with the first of one that is to be compressed, where that has been
 * agreed on. After CK_NOMEM nothing of it has been sent, and the next may be. Returns a
 * ck_ws_sent, CK_FINISHED after ck_ws_close, CK_STATE for a frame that may not come now,
 * CK_VALUE for text that is not UTF-8. */
CK_EXPORT int ck_ws_send(uint32_t websocket, const char *data, int length, int first);
/* [hot] Begins the closing handshake; 1005 = without a code. CK_WS_EVENT_CLOSED follows.
 * CK_FINISHED the second time, CK_VALUE for what a close frame may not carry. */
CK_EXPORT int ck_ws_close(uint32_t websocket, int code, const char *reason, int length);
/* [hot] Closes the connection now, without a close frame; what is packed is flushed first. */
CK_EXPORT int ck_ws_terminate(uint32_t websocket);
/* [hot] Returns 1 when compression has been agreed on, else 0. */
CK_EXPORT int ck_ws_compressed(uint32_t websocket);
/* [hot] Takes no more messages until it is called with 0. */
CK_EXPORT int ck_ws_pause(uint32_t websocket, int paused);
/* [hot] Bytes packed or waiting, capped at 2^31 - 1. */
CK_EXPORT int ck_ws_buffered(uint32_t websocket);
CK_EXPORT int ck_ws_cork(uint32_t websocket);                                    /* [hot] nests */
CK_EXPORT int ck_ws_uncork(uint32_t websocket);                                  /* [hot] the outermost one sends */
CK_EXPORT int ck_ws_flush(uint32_t websocket);                                   /* [hot] sends, and stays corked */

/* -- Topics. A name is 1 to CK_TOPIC_BYTES bytes: else CK_VALUE. -- */
/* [hot] Returns the number of subscribers that the topic has now, 0 when this was one
 * already, CK_FINISHED after ck_ws_close. */
CK_EXPORT int ck_ws_subscribe(uint32_t websocket, const char *topic, int length);
/* [hot] Returns the number that it had before, 0 when this was none. */
CK_EXPORT int ck_ws_unsubscribe(uint32_t websocket, const char *topic, int length);
CK_EXPORT int ck_ws_subscribed(uint32_t websocket, const char *topic, int length); /* [hot] 1 or 0 */
CK_EXPORT void *ck_py_ws_topics(uint32_t websocket);                             /* [hot] list of str, in the order of subscribing; [] when it is over */
/* [hot] Sends a message to all other subscribers of a topic, at the end of the iteration.
 * `first` is the opcode, and 64 when it is to be compressed for those who have agreed on that.
 * With `key_length` >= 0 it takes the place of an older message with that key and topic, for
 * those to whom that has not been sent.
 * Returns how many there were. */
CK_EXPORT int ck_ws_publish(uint32_t websocket, const char *topic, int topic_length, const char *data, int length, int first,
    const char *key, int key_length);
/* [hot] The same to all. */
CK_EXPORT int ck_app_publish(uint32_t app, const char *topic, int topic_length, const char *data, int length, int first,
    const char *key, int key_length);
CK_EXPORT int ck_app_subscribers(uint32_t app, const char *topic, int length);   /* [hot] */

/* ---- Embedding: C that lives on the loop of an app; see corkbind_api.h ----
 *
 * Python tells the handle of its app: app.native_handle. */

/* Returns the loop of an app, for polls, timers and sockets (libusockets.h), or NULL with
 * *error = CK_EXPIRED or CK_THREAD. What a callback on it writes to responses outside any
 * cork leaves in one send for each connection at the end of the iteration. `error` may be NULL. */
CK_EXPORT struct us_loop_t *ck_app_loop(uint32_t app, int *error);
/* Calls `ended` once, when the app is over and its connections are closed: what was made
 * on its loop has to go now. Of several the last one comes first. Returns CK_OK, CK_NOMEM, or CK_VALUE without `ended`. */
CK_EXPORT int ck_app_on_destroy(uint32_t app, void (*ended)(void *user), void *user);
/* Adds a route that `handler` answers: corked, and under the rules of the request callback.
 * It must be there as long as the app. The rest as ck_app_route. */
CK_EXPORT int ck_app_route_native(uint32_t app, int method, const char *pattern, size_t length,
    void (*handler)(uint32_t exchange, void *user), void *user, int64_t body_limit);
/* Has an exchange of such a route followed; without it nobody is told. `follower` is
 * borrowed for the exchange's life. CK_STATE: it belongs to another route. */
CK_EXPORT int ck_follow(uint32_t handle, const ck_follower *follower, void *user);
/* Points to the pattern of the app's route number `index`, in the order of adding, behind
 * the name of its domain if it is of one. Returns its length, 0 for a route that is not of ck_app_route_native, CK_VALUE behind the last one. */
CK_EXPORT int ck_app_native_route(uint32_t app, int index, int *method, const char **pattern);
/* Returns the table of what is here and in libusockets.h, as corkbind_api.h declares it. */
CK_EXPORT const struct ck_api *ck_api_table(void);

/* ---- Datagrams ---- */

/* Opens a datagram socket of the thread's loop. `host` is an address, NULL = all
 * interfaces; `port` 0 = a free one. `backlog` is the bytes that may wait for the kernel
 * before datagrams are dropped; the flags are CK_UDP_. All sockets of a loop share a
 * buffer of 1024 packets for receiving and one for sending, touched as they are used.
 * Returns its handle, or 0 with *error set to an errno: EINVAL for what is no address,
 * EOPNOTSUPP without a loop of sockets, ECANCELED while that is being closed. */
CK_EXPORT uint32_t ck_udp_create(const char *host, int port, uint64_t backlog, int flags, int *error);
/* Sends what is packed, and closes. No callback runs any more, CK_UDP_EVENT_CLOSED neither. */
CK_EXPORT int ck_udp_close(uint32_t udp);
CK_EXPORT int ck_udp_port(uint32_t udp);
CK_EXPORT void *ck_py_udp_address(uint32_t udp);                                 /* (host, port) */
/* [hot] Packs a datagram. It leaves with the others when the last cork is closed, at the
 * end of the iteration, or before when 1024 or 256 KiB are packed. `host` is an address
 * that ends with a NUL, an IPv6 one with the number of its zone behind a %.
 * Returns 1, 0 when it was dropped: too much waits for the kernel; CK_VALUE: no address
 * or port, CK_NAME: the zone is no number, CK_STATE: the socket has no addresses of that
 * family, CK_LENGTH: more than a datagram holds (65507 bytes, 65527 over IPv6). */
CK_EXPORT int ck_udp_send(uint32_t udp, const char *data, int length, const char *host, int port);
CK_EXPORT int ck_udp_buffered(uint32_t udp);                                     /* [hot] bytes packed or waiting, addresses included */
CK_EXPORT int ck_udp_cork(uint32_t udp);                                         /* [hot] nests */
CK_EXPORT int ck_udp_uncork(uint32_t udp);                                       /* [hot] the outermost one sends */
CK_EXPORT int ck_udp_corks(uint32_t udp);                                        /* [hot] how many are open, callbacks counted */
CK_EXPORT int ck_udp_flush(uint32_t udp);                                        /* [hot] sends, and stays corked */
CK_EXPORT int ck_udp_stats(uint32_t udp, ck_datagram_stats *stats);

/* ---- Sockets without HTTP ----
 *
 * A context says what holds for a set of sockets. A socket is named by a handle from
 * CK_SOCKET_ACCEPTED, ck_context_connect or ck_context_adopt on, and ends in exactly one
 * CK_SOCKET_CLOSED, or, where it never opened, in one CK_SOCKET_CONNECT_ERROR; that is the
 * last that is told of it. Writes that come while it connects leave when it is open. */

/* Return a new context's handle, or 0 (for TLS see ck_tls_error, which is empty when memory
 * is short). `backlog` is how many bytes may wait for a peer: a further write closes the
 * socket with ENOBUFS; 0 = any. `manual`: a write with no cork open leaves at once, in place
 * of being packed until the end of the iteration. `check_host` of the options
 * means nothing here. */
CK_EXPORT uint32_t ck_context_create(uint64_t backlog, int manual);
CK_EXPORT uint32_t ck_context_create_tls(uint64_t backlog, int manual, const ck_tls_options *options);
/* Closes its listeners and sockets; what connects ends with ECANCELED. */
CK_EXPORT int ck_context_close(uint32_t context);
/* Copies the counters of its sockets; those of requests stay 0. */
CK_EXPORT int ck_context_stats(uint32_t context, ck_stats *stats);
/* Return a listener's handle, for ck_listener_port and ck_listener_close, or 0 with *error
 * set to an errno. `options` is a LIBUS_LISTEN_ constant. */
CK_EXPORT uint32_t ck_context_listen(uint32_t context, const char *host, int port, int options, int *error);
CK_EXPORT uint32_t ck_context_listen_unix(uint32_t context, const char *path, int options, int *error);
/* Return the handle of a socket that connects, or 0 with *error set to an errno. A host name
 * is looked up before this returns. `source_host` may be NULL. */
CK_EXPORT uint32_t ck_context_connect(uint32_t context, const char *host, int port, const char *source_host, int *error);
CK_EXPORT uint32_t ck_context_connect_unix(uint32_t context, const char *path, int *error);
/* Makes a socket of a connected stream descriptor that does not block. Without TLS it is open
 * and nothing is told; with TLS CK_SOCKET_CONNECTED comes behind the handshake, ours being that
 * of a `client` or of a server. The descriptor is taken over, whatever comes of it. Returns the
 * socket's handle, or 0 with *error set to an errno. */
CK_EXPORT uint32_t ck_context_adopt(uint32_t context, int descriptor, int client, int *error);
/* How sockets of a TLS context that connect from now on look at their server's certificate: a
 * LIBUS_VERIFY_ constant; and the name that they ask it for and look for there, NULL = the host
 * that they connect to. A server without a name (adopted, on a path) needs one.
 * Return CK_OK, CK_NOMEM, or CK_VALUE: see ck_tls_error. */
CK_EXPORT int ck_context_verify(uint32_t context, int mode);
CK_EXPORT int ck_context_peer_name(uint32_t context, const char *name);
/* What they offer by ALPN, between commas: "h2,http/1.1"; and the one protocol that sockets
 * which are let in agree to. */
CK_EXPORT int ck_context_protocols(uint32_t context, const char *protocols);
CK_EXPORT int ck_context_protocol(uint32_t context, const char *protocol);

/* [hot] Packs or sends. Returns a ck_socket_written, CK_FINISHED after ck_socket_shutdown or
 * ck_socket_end, CK_ABORTED when nothing can leave any more or too much waits. */
CK_EXPORT int ck_socket_write(uint32_t socket, const char *data, int length);
/* The same for lengths beyond an int. */
CK_EXPORT int ck_socket_write_large(uint32_t socket, const char *data, size_t length);
/* Sends part of a regular file behind what is packed, without copying; the descriptor may be
 * closed after. Returns as ck_socket_write, or CK_STATE while another part is on its way. */
CK_EXPORT int ck_socket_send_file(uint32_t socket, int file, int64_t offset, uint64_t length);
CK_EXPORT int ck_socket_buffered(uint32_t socket);                               /* [hot] bytes packed or waiting, capped at 2^31 - 1 */
CK_EXPORT int ck_socket_cork(uint32_t socket);                                   /* [hot] nests */
CK_EXPORT int ck_socket_uncork(uint32_t socket);                                 /* [hot] the outermost one sends */
CK_EXPORT int ck_socket_flush(uint32_t socket);                                  /* [hot] sends, and stays corked; CK_ABORTED when it is broken */
CK_EXPORT int ck_socket_sends(uint32_t socket);                                  /* [hot] system calls that sent, so far */
/* [hot] Writes no more: the peer is told when all has left. CK_FINISHED the second time. */
CK_EXPORT int ck_socket_shutdown(uint32_t socket);
/* [hot] Closes when all has left, in a step to come; what arrives is dropped. The peer has 32
 * seconds to take it. CK_FINISHED the second time. */
CK_EXPORT int ck_socket_end(uint32_t socket);
/* [hot] Closes now: what is packed is sent, what waits is lost. `code` comes back in
 * CK_SOCKET_CLOSED; 0 is a clean end, which TLS says to the peer. */
CK_EXPORT int ck_socket_close(uint32_t socket, int code);
CK_EXPORT int ck_socket_pause(uint32_t socket, int paused);                      /* [hot] reads no more until called with 0; before it opens: from then on */
/* [hot] Tells CK_SOCKET_TIMEOUT once in about so many seconds (960 at most, 0 = never): up to
 * 4 s early. A socket that is not open yet is given up then (ETIMEDOUT); opening turns it off. */
CK_EXPORT int ck_socket_timeout(uint32_t socket, int seconds);
CK_EXPORT int ck_socket_long_timeout(uint32_t socket, int minutes);              /* [hot] 240 at most; up to a minute early */
CK_EXPORT int ck_socket_port(uint32_t socket, int remote);                       /* [hot] 0 of a unix socket */
CK_EXPORT int ck_socket_descriptor(uint32_t socket);                             /* [hot] to look at and set options of; never to read, write or close */
CK_EXPORT void *ck_py_socket_address(uint32_t socket);                           /* [hot] bytes: the peer's, 4, 16 or 0 of them */
CK_EXPORT void *ck_py_socket_tls(uint32_t socket);                               /* [hot] as ck_py_tls */
CK_EXPORT void *ck_py_socket_certificate(uint32_t socket);                       /* [hot] the peer's: bytes (DER), or None */

/* Timers tell CK_SOCKET_TIMER. One that is `fallthrough` does not count in ck_loop_alive. */
CK_EXPORT uint32_t ck_timer_create(int fallthrough);                             /* 0 without memory or a descriptor */
/* Runs out in so many milliseconds, and then every `repeat` (0 = once). Both 0: never. */
CK_EXPORT int ck_timer_set(uint32_t timer, int milliseconds, int repeat);
CK_EXPORT int ck_timer_close(uint32_t timer);

#ifdef __cplusplus
}
#endif

#endif
