/* Writing frames, straight into the cork buffer. A server's are never masked (RFC 6455 S5.1). */
#include <string.h>

#include "cork.h"
#include "ws_frame.h"

enum {
    PACKED_MAX = 4096, /* a frame up to here is packed in one piece */
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

int ck_ws_write(struct ck_stream *stream, unsigned first, const char *data, size_t length)
{
    bool packed = length <= PACKED_MAX;
    char *at = ck_stream_reserve(stream, CK_WS_HEADER_MAX + (packed ? length : 0));
    if (!at)
        return stream->broken || !stream->socket ? CK_ABORTED : CK_NOMEM;
    size_t header = ck_ws_put_header(at, first, length);
    if (packed && length)
        memcpy(at + header, data, length);
    ck_stream_commit(stream, header + (packed ? length : 0));
    return packed ? CK_OK : ck_stream_write(stream, data, length);
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
