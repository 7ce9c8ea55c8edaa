/* Listeners: taken in, asked and closed by handle. */
#include "listener.h"

#include <errno.h>

#include "loop.h"

uint32_t ck_listener_open(ck_loop *loop, ck_listener **list, struct us_listen_socket_t *socket, int *error)
{
    if (!socket) {
        *error = errno ? errno : EINVAL;
        return 0;
    }
    ck_listener *listener = ck_alloc(loop, sizeof(*listener));
    uint32_t handle = listener ? ck_handle_new(&loop->handles, CK_KIND_LISTENER, listener) : 0;
    if (!handle) {
        ck_free(loop, listener);
        us_listen_socket_close(0, socket);
        *error = ENOMEM;
        return 0;
    }
    *listener = (ck_listener) {.next = *list, .list = list, .loop = loop, .socket = socket, .handle = handle};
    *list = listener;
    *error = 0;
    return handle;
}

static void close_listener(ck_listener *listener)
{
    ck_listener **link = listener->list;
    while (*link != listener) {
        link = &(*link)->next;
    }
    *link = listener->next;
    us_listen_socket_close(0, listener->socket);
    ck_handle_drop(&listener->loop->handles, listener->handle);
    ck_free(listener->loop, listener);
}

void ck_listeners_close(ck_listener **list)
{
    while (*list) {
        close_listener(*list);
    }
}

int ck_listener_port(uint32_t handle)
{
    int error;
    const ck_listener *listener = ck_loop_object(handle, CK_KIND_LISTENER, &error);
    return listener ? us_socket_local_port(0, (struct us_socket_t *) listener->socket) : error;
}

int ck_listener_close(uint32_t handle)
{
    int error;
    ck_listener *listener = ck_loop_object(handle, CK_KIND_LISTENER, &error);
    if (listener) {
        close_listener(listener);
    }
    return error;
}
