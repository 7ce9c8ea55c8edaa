/* Writing frames, straight into the cork buffer. A server's are never masked (RFC 6455 S5.1). */
#include <string.h>

#include "cork.h"
#include "deflate.h"
#include "loop.h"

enum {
    PACKED_MAX = 4096, /* a frame up to here is packed in one piece */
    ROOM_LEAST = 512,  /* with less room the buffer goes, before something is compressed into it */
    HEADER_16 = 4,     /* bytes of the header of a frame that can lie in the buffer */
};

size_t ck_ws_put_header(char *out, unsigned first, uint64_t length)
{
    size_t extended = length > UINT16_MAX ? 8 : length > CK_WS_CONTROL_MAX ? 2 : 0;
    unsigned form = extended == 8 ? 127 : extended == 2 ? 126 : (unsigned)length;
    out[0] = (char)first;
    out[1] = (char)form;
    for (size_t i = 0; i < extended; i++)
        out[2 + i] = (char)(length >> 8 * (extended - 1 - i) & 0xFF);
    return 2 + extended;
}

/* Why no room could be reserved. */
static int no_place(const struct ck_stream *stream)
{
    return stream->broken || !stream->socket ? CK_ABORTED : CK_NOMEM;
}

int ck_ws_write(struct ck_stream *stream, unsigned first, const char *data, size_t length)
{
    bool packed = length <= PACKED_MAX;
    char *at = ck_stream_reserve(stream, CK_WS_HEADER_MAX + (packed ? length : 0));
    if (!at)
        return no_place(stream);
    size_t header = ck_ws_put_header(at, first, length);
    if (packed && length)
        memcpy(at + header, data, length);
    ck_stream_commit(stream, header + (packed ? length : 0));
    return packed ? CK_OK : ck_stream_write(stream, data, length);
}

/* Packs a frame whose payload lies where it was compressed to, behind the longest header. */
static void commit_compressed(struct ck_stream *stream, char *at, unsigned first, size_t length)
{
    size_t header = length > CK_WS_CONTROL_MAX ? HEADER_16 : 2;
    if (header < HEADER_16)
        memmove(at + header, at + HEADER_16, length);
    ck_stream_commit(stream, ck_ws_put_header(at, first, length) + length);
}

int ck_ws_write_compressed(struct ck_stream *stream, struct ck_deflate *deflate, unsigned first, const char *data, size_t length)
{
    size_t room = CK_CORK_CAPACITY - ck_stream_packed(stream);
    room = room < ROOM_LEAST ? CK_CORK_CAPACITY : room;
    char *at = ck_stream_reserve(stream, room);
    if (!at)
        return no_place(stream);
    ck_deflated out = {.data = at + HEADER_16, .room = room - HEADER_16};
    int result = ck_deflate_payload(stream->loop, deflate, data, length, (first & CK_WS_FIN) != 0, &out);
    if (result != CK_OK)
        return result;
    first |= (first & 0x0F) == CK_WS_CONTINUATION ? 0 : CK_WS_RSV1;
    if (!out.memory) {
        commit_compressed(stream, at, first, out.length);
        return CK_OK;
    }
    result = ck_ws_write(stream, first, out.data, out.length);
    ck_free(stream->loop, out.memory);
    if (result != CK_OK)
        ck_deflate_forget(stream->loop, deflate);
    return result;
}

int ck_ws_write_close(struct ck_stream *stream, unsigned code, const char *reason, size_t length)
{
    char payload[CK_WS_CONTROL_MAX];
    if (code == CK_WS_NO_CODE || length > CK_WS_REASON_MAX)
        return ck_ws_write(stream, CK_WS_FIN | CK_WS_CLOSE, NULL, 0);
    payload[0] = (char)(code >> 8);
    payload[1] = (char)(code & 0xFF);
    if (length)
        memcpy(payload + 2, reason, length);
    return ck_ws_write(stream, CK_WS_FIN | CK_WS_CLOSE, payload, length + 2);
}
