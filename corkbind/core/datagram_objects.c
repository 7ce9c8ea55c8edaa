/* Datagrams as Python objects. */
#include <string.h>

#include "datagrams.h"
#include "libusockets_ext.h"
#include "python.h"

/* Returns a tuple of two objects, which are let go; NULL where one is. */
static void *pair(void *first, void *second)
{
    const ck_python *py = ck_python_bound();
    void *made = first && second ? py->tuple_pack(2, first, second) : NULL;
    if (first) {
        py->decref(first);
    }
    if (second) {
        py->decref(second);
    }
    return made;
}

static void *text_object(const char *text)
{
    return ck_python_bound()->latin1(text, (ptrdiff_t) strlen(text), NULL);
}

void *ck_datagram_address(const ck_peer *peer)
{
    char text[CK_PEER_TEXT];
    int port = ck_peer_write(peer, text);
    void *host = text_object(text);
    return pair(host, host ? ck_python_bound()->integer(port) : NULL);
}

/* Returns (destination, ecn), or NULL with an exception. */
static void *details_object(struct us_udp_packet_buffer_t *packets, int index)
{
    const ck_python *py = ck_python_bound();
    char ip[16], text[CK_PEER_TEXT] = "";
    int length = us_udp_packet_buffer_local_ip(packets, index, ip);
    if (length) {
        inet_ntop(length == 4 ? AF_INET : AF_INET6, ip, text, sizeof(text));
    }
    void *destination = text_object(text);
    return pair(destination, destination ? py->integer(us_udp_packet_buffer_ecn(packets, index)) : NULL);
}

/* The address of the datagram before, which many have in common with the next. */
typedef struct ck_last_peer {
    ck_peer peer;
    void *object;
} ck_last_peer;

static void *same_or_new_address(ck_last_peer *last, const char *from)
{
    const ck_python *py = ck_python_bound();
    if (!last->object || memcmp(&last->peer, from, sizeof(last->peer)) != 0) {
        if (last->object) {
            py->decref(last->object);
        }
        memcpy(&last->peer, from, sizeof(last->peer));
        last->object = ck_datagram_address(&last->peer);
    }
    if (last->object) {
        py->incref(last->object);
    }
    return last->object;
}

/* Appends (data, address) to a list, or (data, address, (destination, ecn)). */
static bool append_datagram(const ck_udp *udp, void *list, struct us_udp_packet_buffer_t *packets, int index, ck_last_peer *last)
{
    const ck_python *py = ck_python_bound();
    void *data = py->bytes_new(us_udp_packet_buffer_payload(packets, index), us_udp_packet_buffer_payload_length(packets, index));
    void *address = data ? same_or_new_address(last, us_udp_packet_buffer_peer(packets, index)) : NULL;
    void *made;
    if (udp->details) {
        void *details = address ? details_object(packets, index) : NULL;
        made = details ? py->tuple_pack(3, data, address, details) : NULL;
        void *parts[] = {data, address, details};
        for (int i = 0; i < 3; i++) {
            if (parts[i]) {
                py->decref(parts[i]);
            }
        }
    } else {
        made = pair(data, address);
    }
    bool appended = made && py->list_append(list, made) == 0;
    if (made) {
        py->decref(made);
    }
    return appended;
}

void *ck_datagram_batch(ck_udp *udp, struct us_udp_packet_buffer_t *packets, int count)
{
    const ck_python *py = ck_python_bound();
    ck_last_peer last = {.object = NULL};
    void *list = py->list_new(0);
    int made = 0;
    while (list && made < count && append_datagram(udp, list, packets, made, &last)) {
        made++;
    }
    if (last.object) {
        py->decref(last.object);
    }
    if (made < count) {
        ck_python_forget_error();
        udp->stats.lost += (uint64_t) (count - made);
    }
    if (list && made == 0) {
        py->decref(list);
        return NULL;
    }
    return list;
}
