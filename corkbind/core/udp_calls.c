/* The entries of datagram sockets. */
#include <errno.h>
#include <string.h>

#include "datagrams.h"
#include "loop.h"
#include "python.h"

enum { PAYLOAD_IP4 = 65507, PAYLOAD_IP6 = 65527 };

/* ---- Life ---- */

static ck_datagrams *shared_of(ck_loop *loop)
{
    if (loop->datagrams) {
        return loop->datagrams;
    }
    ck_datagrams *shared = ck_alloc(loop, sizeof(*shared));
    if (!shared) {
        return NULL;
    }
    memset(shared, 0, sizeof(*shared));
    loop->datagrams = shared;
    shared->incoming = us_create_udp_packet_buffer_on(loop->sys);
    shared->outgoing = us_create_udp_packet_buffer_on(loop->sys);
    if (!shared->incoming || !shared->outgoing) {
        ck_datagrams_free(loop);
    }
    return loop->datagrams;
}

void ck_datagrams_free(ck_loop *loop)
{
    ck_datagrams *shared = loop->datagrams;
    if (!shared) {
        return;
    }
    if (shared->incoming) {
        us_udp_packet_buffer_free(shared->incoming);
    }
    if (shared->outgoing) {
        us_udp_packet_buffer_free(shared->outgoing);
    }
    ck_free(loop, shared->spare);
    ck_free(loop, shared);
    loop->datagrams = NULL;
}

static int local_address(const ck_udp *udp, ck_peer *address)
{
    memset(address, 0, sizeof(*address));
    return us_udp_socket_local_address(udp->socket, address, (int) sizeof(*address)) ? CK_OK : CK_NOMEM;
}

/* Which addresses it can send to: what is bound to one address has one family. */
static int find_families(ck_udp *udp)
{
    ck_peer own;
    int result = local_address(udp, &own);
    udp->is_ip6 = own.any.sa_family == AF_INET6;
    udp->has_ip4 = !udp->is_ip6 || ck_peer_is_mapped(&own) || IN6_IS_ADDR_UNSPECIFIED(&own.ip6.sin6_addr);
    return result;
}

static int open_udp(ck_udp *udp, const char *host, int port)
{
    ck_loop *loop = udp->loop;
    errno = 0;
    udp->socket = us_create_udp_socket(loop->us, loop->datagrams->incoming, ck_udp_on_data, ck_udp_on_drain, host, (unsigned short) port, udp);
    if (!udp->socket) {
        return errno ? errno : EINVAL;
    }
    udp->handle = find_families(udp) == CK_OK ? ck_handle_new(&loop->handles, CK_KIND_UDP, udp) : 0;
    if (!udp->handle) {
        us_udp_socket_close(udp->socket);
        return ENOMEM;
    }
    return 0;
}

/* Only addresses: looking up a name would block. */
static bool may_bind(const char *host, int port)
{
    ck_peer parsed;
    return port >= 0 && port <= UINT16_MAX && (!host || ck_peer_parse(host, 1, &parsed) != CK_VALUE);
}

uint32_t ck_udp_create(const char *host, int port, uint64_t backlog, int flags, int *error)
{
    ck_loop *loop = ck_loop_current();
    bool served = loop && !loop->in_memory && loop->callbacks.udp;
    *error = !served ? EOPNOTSUPP : loop->closing ? ECANCELED : !may_bind(host, port) ? EINVAL : !shared_of(loop) ? ENOMEM : 0;
    ck_udp *udp = *error ? NULL : ck_alloc(loop, sizeof(*udp));
    if (!udp) {
        *error = *error ? *error : ENOMEM;
        return 0;
    }
    memset(udp, 0, sizeof(*udp));
    udp->loop = loop;
    udp->backlog = backlog;
    udp->manual = (flags & CK_UDP_MANUAL) != 0;
    udp->details = (flags & CK_UDP_DETAILS) != 0;
    *error = open_udp(udp, host, port);
    if (*error) {
        ck_free(loop, udp);
        return 0;
    }
    return udp->handle;
}

static ck_udp *udp_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_UDP, error);
}

int ck_udp_close(uint32_t handle)
{
    int error;
    ck_udp *udp = udp_of(handle, &error);
    if (!udp) {
        return error;
    }
    ck_udp_detach(udp);
    ck_handle_drop(&udp->loop->handles, handle);
    us_udp_socket_close(udp->socket);
    ck_free(udp->loop, udp);
    return CK_OK;
}

void ck_udp_end(ck_udp *udp)
{
    ck_loop *loop = udp->loop;
    uint32_t handle = udp->handle;
    (void) ck_udp_close(handle);
    loop->callbacks.udp(handle, CK_UDP_EVENT_CLOSED, ck_python_bound()->none, 0);
}

int ck_udp_port(uint32_t handle)
{
    int error;
    const ck_udp *udp = udp_of(handle, &error);
    return udp ? us_udp_socket_bound_port(udp->socket) : error;
}

void *ck_py_udp_address(uint32_t handle)
{
    int error;
    ck_peer own;
    const ck_udp *udp = udp_of(handle, &error);
    if (!udp) {
        return ck_python_stale(error);
    }
    return local_address(udp, &own) == CK_OK ? ck_datagram_address(&own) : ck_python_bound()->error_no_memory();
}

/* ---- Sending ---- */

/* Makes of an IPv4 address what an IPv6 socket takes, and the other way round. */
static int fit(const ck_udp *udp, ck_peer *peer)
{
    bool ip4 = peer->any.sa_family == AF_INET;
    if (ip4 || ck_peer_is_mapped(peer) ? !udp->has_ip4 : !udp->is_ip6) {
        return CK_STATE;
    }
    if (ip4 && udp->is_ip6) {
        ck_peer_map(peer);
    } else if (!ip4 && !udp->is_ip6) {
        ck_peer_unmap(peer);
    }
    return CK_OK;
}

int ck_udp_send(uint32_t handle, const char *data, int length, const char *host, int port)
{
    int error;
    ck_peer peer;
    ck_udp *udp = udp_of(handle, &error);
    if (!udp) {
        return error;
    }
    error = ck_peer_parse(host, port, &peer);
    error = error ? error : fit(udp, &peer);
    if (error) {
        return error;
    }
    bool ip4 = !udp->is_ip6 || ck_peer_is_mapped(&peer);
    if (length < 0 || length > (ip4 ? PAYLOAD_IP4 : PAYLOAD_IP6)) {
        return CK_LENGTH;
    }
    return ck_udp_pack(udp, &peer, data, (size_t) length);
}

int ck_udp_buffered(uint32_t handle)
{
    int error;
    const ck_udp *udp = udp_of(handle, &error);
    if (!udp) {
        return error;
    }
    size_t bytes = udp->parcels ? udp->parcels->length : 0;
    return bytes > INT32_MAX ? INT32_MAX : (int) bytes;
}

int ck_udp_cork(uint32_t handle)
{
    int error;
    ck_udp *udp = udp_of(handle, &error);
    if (!udp) {
        return error;
    }
    if (udp->depth >= UINT16_MAX - 1) { /* one is for callbacks */
        return CK_NOMEM;
    }
    udp->depth++;
    return CK_OK;
}

int ck_udp_uncork(uint32_t handle)
{
    int error;
    ck_udp *udp = udp_of(handle, &error);
    if (!udp) {
        return error;
    }
    if (udp->depth && --udp->depth == 0) {
        ck_udp_send_packed(udp);
    }
    return udp->depth;
}

int ck_udp_corks(uint32_t handle)
{
    int error;
    const ck_udp *udp = udp_of(handle, &error);
    return udp ? udp->depth : error;
}

int ck_udp_flush(uint32_t handle)
{
    int error;
    ck_udp *udp = udp_of(handle, &error);
    if (udp) {
        ck_udp_send_packed(udp);
    }
    return error;
}

int ck_udp_stats(uint32_t handle, ck_datagram_stats *stats)
{
    int error;
    const ck_udp *udp = udp_of(handle, &error);
    if (udp) {
        *stats = udp->stats;
    }
    return error;
}
