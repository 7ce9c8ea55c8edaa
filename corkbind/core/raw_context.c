/* Contexts of sockets: made, listening, connecting, taking over descriptors, closed. */
#include <errno.h>
#include <string.h>

#include "raw.h"

static ck_context *context_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_CONTEXT, error);
}

/* ---- Life ---- */

static void on_tls_failure(struct us_socket_t *s, const char *reason, int plain)
{
    ck_socket *socket = us_socket_ext(1, s);
    (void) plain;
    socket->tls_reason = reason;
    if (socket->context) {
        socket->context->stats.tls_failures++;
    }
}

/* Without options it speaks no TLS. */
static uint32_t create(uint64_t backlog, int manual, const ck_tls_options *tls)
{
    static const struct us_socket_context_options_t plain;
    ck_loop *loop = ck_loop_current();
    if (!loop || loop->closing) {
        return 0;
    }
    struct us_socket_context_t *us = tls ? ck_tls_new_context(loop, tls, (int) sizeof(ck_context))
                                         : us_create_socket_context(0, loop->us, (int) sizeof(ck_context), plain);
    if (!us) {
        return 0;
    }
    ck_context *context = us_socket_context_ext(0, us);
    context->loop = loop;
    context->us = us;
    context->backlog = backlog;
    context->manual = manual != 0;
    context->tls = tls != NULL;
    context->handle = ck_handle_new(&loop->handles, CK_KIND_CONTEXT, context);
    if (!context->handle) {
        us_socket_context_free(0, us);
        return 0;
    }
    ck_socket_callbacks(us);
    if (tls) {
        us_socket_context_on_tls_failure(us, on_tls_failure);
    }
    return context->handle;
}

uint32_t ck_context_create(uint64_t backlog, int manual)
{
    return create(backlog, manual, NULL);
}

uint32_t ck_context_create_tls(uint64_t backlog, int manual, const ck_tls_options *options)
{
    ck_tls_error_note("");
    return create(backlog, manual, options);
}

/* The handle goes first, so that nothing called back opens anything here. */
int ck_context_close(uint32_t handle)
{
    int error;
    ck_context *context = context_of(handle, &error);
    if (!context) {
        return error;
    }
    context->handle = 0;
    ck_handle_drop(&context->loop->handles, handle);
    ck_listeners_close(&context->listeners);
    while (context->first) {
        ck_socket_close_now(context->first, context->first->phase == CK_SOCKET_OPENING ? ECANCELED : 0);
    }
    us_socket_context_free(0, context->us);
    ck_free(context->loop, context->protocol);
    return CK_OK;
}

/* ---- TLS ---- */

static int tls_result(int result)
{
    if (result == 0) {
        return CK_OK;
    }
    ck_tls_error_note(us_tls_error());
    return errno == ENOMEM ? CK_NOMEM : CK_VALUE;
}

int ck_context_verify(uint32_t handle, int mode)
{
    int error;
    const ck_context *context = context_of(handle, &error);
    return context ? tls_result(us_socket_context_verify(context->us, mode)) : error;
}

int ck_context_peer_name(uint32_t handle, const char *name)
{
    int error;
    const ck_context *context = context_of(handle, &error);
    return context ? tls_result(us_socket_context_peer_name(context->us, name)) : error;
}

int ck_context_protocols(uint32_t handle, const char *protocols)
{
    int error;
    const ck_context *context = context_of(handle, &error);
    return context ? tls_result(us_socket_context_offer_protocols(context->us, protocols)) : error;
}

int ck_context_protocol(uint32_t handle, const char *protocol)
{
    int error;
    ck_context *context = context_of(handle, &error);
    if (!context) {
        return error;
    }
    size_t size = strlen(protocol) + 1;
    char *copy = ck_alloc(context->loop, size);
    if (!copy) {
        return CK_NOMEM;
    }
    memcpy(copy, protocol, size);
    us_socket_context_alpn(context->us, copy);
    ck_free(context->loop, context->protocol);
    context->protocol = copy;
    return CK_OK;
}

int ck_context_stats(uint32_t handle, ck_stats *stats)
{
    int error;
    const ck_context *context = context_of(handle, &error);
    if (context) {
        *stats = context->stats;
    }
    return error;
}

/* ---- Listening ---- */

uint32_t ck_context_listen(uint32_t handle, const char *host, int port, int options, int *error)
{
    int result;
    ck_context *context = context_of(handle, &result);
    if (!context) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    return ck_listener_open(context->loop, &context->listeners,
        us_socket_context_listen(0, context->us, host, port, options, (int) sizeof(ck_socket)), error);
}

uint32_t ck_context_listen_unix(uint32_t handle, const char *path, int options, int *error)
{
    int result;
    ck_context *context = context_of(handle, &result);
    if (!context) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    return ck_listener_open(context->loop, &context->listeners,
        us_socket_context_listen_unix(0, context->us, path, options, (int) sizeof(ck_socket)), error);
}

/* ---- Connecting ---- */

static uint32_t connecting(ck_context *context, struct us_socket_t *us, int *error)
{
    if (!us) {
        *error = errno ? errno : EINVAL;
        return 0;
    }
    uint32_t handle = ck_socket_begin(context, us, true);
    if (!handle) {
        us_socket_close_connecting(0, us);
    }
    *error = handle ? 0 : ENOMEM;
    return handle;
}

uint32_t ck_context_connect(uint32_t handle, const char *host, int port, const char *source_host, int *error)
{
    int result;
    ck_context *context = context_of(handle, &result);
    if (!context) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    struct us_socket_t *us =
        us_socket_context_connect(context->tls, context->us, host, port, source_host, 0, (int) sizeof(ck_socket));
    return connecting(context, us, error);
}

uint32_t ck_context_connect_unix(uint32_t handle, const char *path, int *error)
{
    int result;
    ck_context *context = context_of(handle, &result);
    if (!context) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    return connecting(context, us_socket_context_connect_unix(context->tls, context->us, path, 0, (int) sizeof(ck_socket)), error);
}

/* ---- Taking over ---- */

static struct us_socket_t *adopt(ck_context *context, int descriptor, int client)
{
    context->adopting = true;
    struct us_socket_t *us = client
        ? us_adopt_connected_socket(context->tls, context->us, descriptor, sizeof(ck_socket), NULL, 0)
        : us_adopt_accepted_socket(context->tls, context->us, descriptor, sizeof(ck_socket), NULL, 0);
    context->adopting = false;
    return us;
}

uint32_t ck_context_adopt(uint32_t handle, int descriptor, int client, int *error)
{
    int result;
    ck_context *context = context_of(handle, &result);
    if (!context) {
        *error = EINVAL;
        return 0;
    }
    errno = 0;
    struct us_socket_t *us = adopt(context, descriptor, client);
    if (!us) {
        *error = errno ? errno : ENOMEM;
        context->loop->sys->close(context->loop->sys, descriptor);
        return 0;
    }
    const ck_socket *socket = us_socket_ext(0, us);
    *error = socket->handle ? 0 : ENOMEM; /* on_open has closed it then */
    return socket->handle;
}
