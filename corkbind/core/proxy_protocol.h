/* The PROXY protocol, versions 1 and 2: whom a proxy says it speaks for. No input or
 * output, no allocation.
 * Source: HAProxy's doc/proxy-protocol.txt. */
#ifndef CK_PROXY_PROTOCOL_H
#define CK_PROXY_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CK_PROXY_LINE_MAX = 107,    /* a line of version 1 with its CRLF */
    CK_PROXY_BLOCK_MAX = 4096,  /* addresses and extensions of version 2 that are taken */
    CK_PROXY_MORE = 0,
    CK_PROXY_BAD = -1,
};

/* Whom a proxy speaks for. */
typedef struct ck_proxied {
    uint8_t address[16];
    uint16_t port;
    uint8_t length; /* 4 or 16; 0 when it does not tell */
} ck_proxied;

/* A network of peers, an IPv4 one as mapped into IPv6 (RFC 4291 S2.5.5.2). */
typedef struct ck_network {
    uint8_t address[16];
    uint8_t bits;
} ck_network;

/* Reads the header from its first byte. Returns its length, CK_PROXY_MORE when
 * `length` bytes do not hold all of it, or CK_PROXY_BAD. */
int ck_proxy_parse(const char *data, size_t length, ck_proxied *out);

/* Tells whether an address of 4 or 16 bytes lies in one of the networks. */
bool ck_networks_hold(const ck_network *networks, size_t count, const char *address, size_t length);

#endif
