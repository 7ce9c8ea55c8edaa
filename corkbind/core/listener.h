/* Listeners: of an app, or of a context of sockets. */
#ifndef CK_LISTENER_H
#define CK_LISTENER_H

#include <stdint.h>

struct ck_loop;
struct us_listen_socket_t;

typedef struct ck_listener {
    struct ck_listener *next;
    struct ck_listener **list; /* of its owner */
    struct ck_loop *loop;
    struct us_listen_socket_t *socket;
    uint32_t handle;
} ck_listener;

/* Takes in what listening gave, which may be NULL. Returns a handle, or 0 with *error set
 * to an errno. */
uint32_t ck_listener_open(struct ck_loop *loop, ck_listener **list, struct us_listen_socket_t *socket, int *error);
void ck_listeners_close(ck_listener **list);

#endif
