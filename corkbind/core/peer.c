/* Addresses of datagrams: reading them, writing them, and IPv4 within IPv6. */
#include "peer.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "corkbind.h"

static bool parse_zone(const char *text, uint32_t *zone)
{
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9' && number <= UINT32_MAX; text++) {
        number = 10 * number + (uint64_t) (*text - '0');
    }
    *zone = (uint32_t) number;
    return *text == '\0' && number > 0 && number <= UINT32_MAX;
}

/* Reads an IPv6 address, with a zone behind a % or without. CK_NAME: the zone is no number. */
static int parse_ip6(const char *host, ck_peer *peer)
{
    char text[INET6_ADDRSTRLEN];
    const char *zone = strchr(host, '%');
    size_t length = zone ? (size_t) (zone - host) : strlen(host);
    if (length >= sizeof(text)) {
        return CK_VALUE;
    }
    memcpy(text, host, length);
    text[length] = '\0';
    if (inet_pton(AF_INET6, text, &peer->ip6.sin6_addr) != 1) {
        return CK_VALUE;
    }
    return zone && !parse_zone(zone + 1, &peer->ip6.sin6_scope_id) ? CK_NAME : CK_OK;
}

bool ck_peer_is_mapped(const ck_peer *peer)
{
    return peer->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&peer->ip6.sin6_addr);
}

int ck_peer_parse(const char *host, int port, ck_peer *peer)
{
    memset(peer, 0, sizeof(*peer));
    if (port < 1 || port > UINT16_MAX) {
        return CK_VALUE;
    }
    if (inet_pton(AF_INET, host, &peer->ip4.sin_addr) == 1) {
        peer->ip4.sin_family = AF_INET;
        peer->ip4.sin_port = htons((uint16_t) port);
        return CK_OK;
    }
    peer->ip6.sin6_family = AF_INET6;
    peer->ip6.sin6_port = htons((uint16_t) port);
    return parse_ip6(host, peer);
}

void ck_peer_map(ck_peer *peer)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    const struct sockaddr_in given = peer->ip4;
    memset(peer, 0, sizeof(*peer));
    peer->ip6.sin6_family = AF_INET6;
    peer->ip6.sin6_port = given.sin_port;
    memcpy(peer->ip6.sin6_addr.s6_addr, prefix, sizeof(prefix));
    memcpy(peer->ip6.sin6_addr.s6_addr + sizeof(prefix), &given.sin_addr, sizeof(given.sin_addr));
}

void ck_peer_unmap(ck_peer *peer)
{
    const struct sockaddr_in6 given = peer->ip6;
    memset(peer, 0, sizeof(*peer));
    peer->ip4.sin_family = AF_INET;
    peer->ip4.sin_port = given.sin6_port;
    memcpy(&peer->ip4.sin_addr, given.sin6_addr.s6_addr + 12, sizeof(peer->ip4.sin_addr));
}

int ck_peer_write(const ck_peer *peer, char text[CK_PEER_TEXT])
{
    if (peer->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &peer->ip4.sin_addr, text, CK_PEER_TEXT);
        return ntohs(peer->ip4.sin_port);
    }
    if (ck_peer_is_mapped(peer)) {
        inet_ntop(AF_INET, peer->ip6.sin6_addr.s6_addr + 12, text, CK_PEER_TEXT);
        return ntohs(peer->ip6.sin6_port);
    }
    if (peer->any.sa_family != AF_INET6) {
        text[0] = '\0';
        return 0;
    }
    inet_ntop(AF_INET6, &peer->ip6.sin6_addr, text, CK_PEER_TEXT);
    if (peer->ip6.sin6_scope_id) {
        size_t length = strlen(text);
        snprintf(text + length, CK_PEER_TEXT - length, "%%%u", (unsigned) peer->ip6.sin6_scope_id);
    }
    return ntohs(peer->ip6.sin6_port);
}
