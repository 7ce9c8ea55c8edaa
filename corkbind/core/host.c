/* The grammar of Host and of the authority in a target. */
#include "parser.h"

enum { MAX_HOST = 255 /* of a name in the DNS, RFC 1035 S2.3.4 */ };

/* IPv4address of RFC 3986 S3.2.2: four numbers up to 255 without leading zeros. */
static bool ipv4_valid(const char *text, size_t length)
{
    size_t at = 0;
    for (int part = 0; part < 4; part++) {
        if (part > 0 && (at == length || text[at++] != '.'))
            return false;
        size_t start = at;
        unsigned value = 0;
        while (at < length && at - start < 3 && ck_byte_is(text[at], CK_IN_DIGIT))
            value = value * 10 + (unsigned)(text[at++] - '0');
        if (at == start || value > 255 || (text[start] == '0' && at - start > 1))
            return false;
    }
    return at == length;
}

/* IPv6address of RFC 3986 S3.2.2: eight groups, or fewer around one "::". */
static bool ipv6_valid(const char *text, size_t length)
{
    unsigned groups = 0;
    size_t at = 0;
    bool gap = length >= 2 && text[0] == ':' && text[1] == ':';
    if (gap)
        at = 2;
    while (at < length) {
        size_t start = at;
        while (at < length && at - start < 4 && ck_byte_is(text[at], CK_IN_HEX))
            at++;
        if (at < length && text[at] == '.') {
            groups += 2;
            if (!ipv4_valid(text + start, length - start))
                return false;
            break;
        }
        groups++;
        if (at == start)
            return false;
        if (at == length)
            break;
        if (text[at++] != ':' || at == length)
            return false;
        if (text[at] == ':') {
            if (gap)
                return false;
            gap = true;
            at++;
        }
    }
    return gap ? groups < 8 : groups == 8;
}

/* A name: labels of unreserved bytes, of which only the last may be empty. */
static bool name_valid(const char *text, size_t length)
{
    if (length == 0 || length > MAX_HOST || text[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!ck_byte_is(text[i], CK_IN_HOST) || text[i] == ':' || text[i] == '[' || text[i] == ']')
            return false;
        if (text[i] == '.' && i > 0 && text[i - 1] == '.')
            return false;
    }
    return true;
}


/* uri-host [ ":" port ], RFC 9110 S7.2.
 * Returns the port, CK_PORT_NONE when there is none or an empty one, or CK_HOST_BAD. */
int ck_host_port(const char *text, size_t length)
{
    const char *colon = length ? memchr(text, ':', length) : NULL;
    size_t end = colon ? (size_t)(colon - text) : length;
    if (length > 0 && text[0] == '[') {
        const char *bracket = memchr(text, ']', length);
        if (!bracket || !ipv6_valid(text + 1, (size_t)(bracket - text) - 1))
            return CK_HOST_BAD;
        end = (size_t)(bracket - text) + 1;
    } else if (!name_valid(text, end)) {
        return CK_HOST_BAD;
    }
    if (end == length)
        return CK_PORT_NONE;
    if (text[end] != ':' || length - end > sizeof ":65535" - 1)
        return CK_HOST_BAD;
    int port = 0;
    for (size_t i = end + 1; i < length; i++) {
        if (!ck_byte_is(text[i], CK_IN_DIGIT))
            return CK_HOST_BAD;
        port = port * 10 + (text[i] - '0');
    }
    if (port > 65535)
        return CK_HOST_BAD;
    return end + 1 == length ? CK_PORT_NONE : port;
}
