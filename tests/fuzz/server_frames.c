/* See server_frames.h. */
#include "server_frames.h"

enum response_result server_frame_read(server_frame *frame, const char *data, size_t length, bool compressed)
{
    const uint8_t *bytes = (const uint8_t *)data;
    if (length < 2)
        return RESPONSE_INCOMPLETE;
    uint8_t opcode = bytes[0] & 15, form = bytes[1];
    bool control = opcode >= 8, known = opcode <= 2 || (opcode >= 8 && opcode <= 10);
    uint8_t reserved = bytes[0] & (compressed && (opcode == 1 || opcode == 2) ? 0x30 : 0x70);
    if (reserved || form >= 128 || !known)
        return RESPONSE_BAD;
    if (control && (form > 125 || bytes[0] < 128))
        return RESPONSE_BAD;
    size_t extended = form == 127 ? 8 : form == 126 ? 2 : 0;
    if (length < 2 + extended)
        return RESPONSE_INCOMPLETE;
    uint64_t size = extended ? 0 : form;
    for (size_t i = 0; i < extended; i++)
        size = size * 256 + bytes[2 + i];
    if ((extended == 2 && size < 126) || (extended == 8 && (size < 65536 || size >> 63))) /* the shortest form */
        return RESPONSE_BAD;
    if (size > length - 2 - extended)
        return RESPONSE_INCOMPLETE;
    *frame = (server_frame){bytes[0], data + 2 + extended, (size_t)size, 2 + extended + (size_t)size};
    return RESPONSE_WHOLE;
}
