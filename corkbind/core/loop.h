/* The loop of a thread: what its apps share. */
#ifndef CK_LOOP_H
#define CK_LOOP_H

#include <stdbool.h>

#include "corkbind.h"
#include "cork.h"
#include "handle.h"
#include "libusockets_ext.h"
#include "topic.h"

struct ck_connection;
struct ck_datagrams;
struct ck_deflate_loop;
struct ck_exchange;
struct ck_socket;

enum { CK_DATE_LENGTH = 37 }; /* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n" */

typedef struct ck_loop {
    struct us_loop_t *us;
    struct us_sys_t *sys;
    ck_handles handles;
    ck_callbacks callbacks;
    ck_corks corks;
    struct ck_deflate_loop *deflate;    /* what its WebSockets compress with; NULL until one does */
    ck_due due;
    struct ck_datagrams *datagrams;     /* what its datagram sockets share; NULL until there is one */
    struct ck_exchange *spare_exchanges;
    unsigned spare_count;
    struct ck_connection *resume_first; /* connections with input to go on with; see ck_loop_resume_later */
    struct ck_connection *resume_last;
    struct ck_socket *later_first;      /* sockets to look after; see ck_sockets_look_after */
    struct ck_socket *later_last;
    int64_t date_second;
    uint32_t token;                     /* for ck_loop_wake */
    int users;
    bool stepping;
    unsigned telling;                   /* callbacks of sockets that run: those of an end come from inside entries, too */
    bool closing;                       /* nothing new is made */
    bool in_memory;                     /* belongs to a loopback, and to no thread */
    const void *home;                   /* of the thread that opened it */
    bool deferred;                      /* the deferred callback has been called since the last step */
    char date[CK_DATE_LENGTH + 1];
} ck_loop;

/* Returns the calling thread's loop, or NULL. */
ck_loop *ck_loop_current(void);

/* Makes a loop on a table and gives it its number. Returns 0 or -errno. */
int ck_loop_create(struct us_sys_t *sys, const ck_callbacks *callbacks, ck_loop **made);

/* Flushes what is packed, closes everything and frees the loop. */
void ck_loop_destroy(ck_loop *loop);

/* Returns the object of a handle, or NULL with *error = CK_EXPIRED or CK_THREAD. */
void *ck_loop_object(uint32_t handle, enum ck_kind kind, int *error);

/* Sees to it that a step comes, also when no event does. */
void ck_loop_need_step(ck_loop *loop);

/* Goes on with the connection's input at the next step. */
void ck_loop_resume_later(ck_loop *loop, struct ck_connection *connection);
void ck_loop_resume_cancel(ck_loop *loop, struct ck_connection *connection);

/* Returns the current Date field line, CK_DATE_LENGTH bytes. */
const char *ck_loop_date(ck_loop *loop);

/* Says what ck_tls_error returns; `text` is borrowed until the next call. */
void ck_tls_error_note(const char *text);

/* Makes a context of TLS sockets. Returns NULL where it cannot: see ck_tls_error. */
struct us_socket_context_t *ck_tls_new_context(const ck_loop *loop, const ck_tls_options *options, int ext_size);

void *ck_alloc(ck_loop *loop, size_t size);
void *ck_resize(ck_loop *loop, void *memory, size_t size);
void ck_free(ck_loop *loop, void *memory);

#endif
