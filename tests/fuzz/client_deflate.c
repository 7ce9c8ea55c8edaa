/* See client_deflate.h. */
#include "client_deflate.h"

#include "fuzz.h"

size_t client_deflate(const char *data, size_t length, char *out, size_t room)
{
    z_stream stream;
    memset(&stream, 0, sizeof stream);
    DEMAND(deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -9, 1, Z_DEFAULT_STRATEGY) == Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)length;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)room;
    DEMAND(deflate(&stream, Z_SYNC_FLUSH) == Z_OK && stream.avail_out > 0);
    size_t written = room - stream.avail_out;
    (void)deflateEnd(&stream);
    DEMAND(written > 4 && memcmp(out + written - 4, "\0\0\xff\xff", 4) == 0);
    return written - 4;
}

void client_inflater_open(client_inflater *inflater, int bits, bool keeps, size_t most)
{
    memset(inflater, 0, sizeof *inflater);
    inflater->keeps = keeps;
    inflater->most = most;
    inflater->message = malloc(most + 1);
    DEMAND(inflater->message != NULL && inflateInit2(&inflater->stream, -bits) == Z_OK);
}

void client_inflater_close(client_inflater *inflater)
{
    (void)inflateEnd(&inflater->stream);
    free(inflater->message);
}

static bool inflate_all(client_inflater *inflater, const char *data, size_t length)
{
    z_stream *stream = &inflater->stream;
    stream->next_in = (Bytef *)(uintptr_t)data;
    stream->avail_in = (uInt)length;
    for (;;) {
        size_t room = inflater->most + 1 - inflater->length;
        stream->next_out = (Bytef *)inflater->message + inflater->length;
        stream->avail_out = (uInt)room;
        int result = inflate(stream, Z_SYNC_FLUSH);
        inflater->length += room - stream->avail_out;
        if (inflater->length > inflater->most)
            return false;
        if (result == Z_BUF_ERROR || (result == Z_OK && stream->avail_in == 0))
            return true;
        if (result != Z_OK)
            return false; /* also behind a block that says it is the last: no client that compresses as usual writes one */
    }
}

bool client_inflate(client_inflater *inflater, const char *data, size_t length, bool last)
{
    if (!inflate_all(inflater, data, length))
        return false;
    return !last || inflate_all(inflater, "\0\0\xff\xff", 4);
}

void client_inflater_next(client_inflater *inflater)
{
    inflater->length = 0;
    if (!inflater->keeps)
        (void)inflateReset(&inflater->stream);
}
