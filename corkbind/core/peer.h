/* Addresses of datagrams, as text and as the kernel takes them. */
#ifndef CK_PEER_H
#define CK_PEER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>

typedef union ck_peer {
    struct sockaddr any;
    struct sockaddr_in ip4;
    struct sockaddr_in6 ip6;
} ck_peer;

enum { CK_PEER_TEXT = INET6_ADDRSTRLEN + 12 /* with a zone */ };

/* Reads an address; the zone of an IPv6 one is a number behind a %. Looks nothing up.
 * Returns 0, CK_VALUE, or CK_NAME: all is well but that the zone is no number. */
int ck_peer_parse(const char *host, int port, ck_peer *peer);
/* Writes it as people do, IPv4 also where it is mapped. Returns the port. */
int ck_peer_write(const ck_peer *peer, char text[CK_PEER_TEXT]);
/* Whether it is an IPv4 address in the clothes of an IPv6 one. */
bool ck_peer_is_mapped(const ck_peer *peer);
/* Makes one of an IPv4 address, and the other way round. */
void ck_peer_map(ck_peer *peer);
void ck_peer_unmap(ck_peer *peer);

#endif
