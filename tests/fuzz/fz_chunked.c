/* Fuzzes the decoder of chunked bodies. An input is a byte that chooses what has
 * gone before in the message, a seed for the splits, and bytes of the body.
 *
 * It must be read in one way however it arrives, and as the reference reader does:
 * the same payload, the same trailers, refused by the same byte; and nothing may be
 * consumed behind the end, as that is the next request. */
#include "fuzz.h"
#include "http_parser.h"
#include "mutate_http.h"
#include "reference_chunked.h"

const size_t fuzz_prefix = 2;

struct outcome {
    int result;
    size_t fed;      /* bytes given until it was decided */
    size_t left;     /* of them, not consumed */
    size_t sum;      /* of the lengths of the spans of payload */
    char *payload;   /* room for all input */
    char *trailers;
    size_t trailer_length;
};

/* A decoder in the middle of a large message, where the sums come to their limits. */
static void begin(ck_chunked *chunked, uint8_t choice)
{
    ck_chunked_init(chunked);
    chunked->overhead = choice & 1 ? 65500 : 0;
    chunked->limit = choice & 8 ? 20 : UINT64_MAX;
    chunked->payload = choice & 2 ? (uint64_t)INT64_MAX - 300 : choice & 4 ? 5 : 0;
}

/* Takes one piece in. Each span must lie in what the call consumed. */
static void feed(ck_chunked *chunked, struct outcome *found, const char *data, size_t length)
{
    found->fed += length;
    for (;;) {
        const char *span = NULL, *before = data;
        size_t span_length = 0, was = length;
        found->result = ck_chunked_next(chunked, &data, &length, &span, &span_length);
        DEMAND(length <= was && data == before + (was - length));
        found->left = length;
        if (found->result != CK_CHUNK_DATA && found->result != CK_CHUNK_TRAILER)
            return;
        DEMAND(span_length > 0 && span >= before && span + span_length <= data);
        bool payload = found->result == CK_CHUNK_DATA;
        memcpy(payload ? found->payload + found->sum : found->trailers + found->trailer_length, span, span_length);
        found->sum += payload ? span_length : 0;
        found->trailer_length += payload ? 0 : span_length;
    }
}

/* Feeds pieces of up to `most` bytes, each in memory of its own size. */
static void feed_pieces(struct outcome *found, const char *data, size_t length, uint8_t choice, size_t most, uint64_t seed)
{
    ck_chunked chunked;
    begin(&chunked, choice);
    uint64_t before = chunked.payload;
    *found = (struct outcome){.payload = malloc(length + 1), .trailers = malloc(length + 1)};
    DEMAND(found->payload && found->trailers);
    do {
        if (found->fed == length)
            break;
        size_t left = length - found->fed, size = left <= 1 || most <= 1 ? 1 : 1 + fuzz_draw(&seed, (uint32_t)most);
        size = size < left ? size : left;
        if (size == 1) {
            char byte = data[found->fed];
            feed(&chunked, found, &byte, 1);
            continue;
        }
        char *copy = fuzz_copy(data + found->fed, size);
        feed(&chunked, found, copy, size);
        free(copy);
    } while (found->result == CK_CHUNK_MORE && found->fed < length);
    DEMAND(chunked.payload - before == found->sum);
    if (found->result != CK_CHUNK_MORE) { /* there is no going on */
        const char *more = "0\r\n\r\n", *span;
        size_t more_length = 5, span_length;
        int again = ck_chunked_next(&chunked, &more, &more_length, &span, &span_length);
        DEMAND(found->result == CK_CHUNK_END ? again == CK_CHUNK_END && more_length == 5 : again < 0);
    }
}

static void let_go(struct outcome *found)
{
    free(found->payload);
    free(found->trailers);
}

static void demand_as_reference(const struct outcome *found, const reference_chunked *wanted)
{
    DEMAND(found->result == (wanted->result == 1 ? (int)CK_CHUNK_END : wanted->result));
    DEMAND(fuzz_same(found->payload, found->sum, wanted->data, wanted->length));
    if (found->result < 0)
        return;
    DEMAND(fuzz_same(found->trailers, found->trailer_length, wanted->trailers, wanted->trailer_length));
    DEMAND(found->fed - found->left == wanted->used);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    fuzz_input in = {input, size};
    uint8_t choice = fuzz_byte(&in), seed = fuzz_byte(&in);
    const char *data = (const char *)in.data;
    ck_chunked start;
    begin(&start, choice);
    reference_chunked wanted = {.overhead = start.overhead, .payload = start.payload, .limit = start.limit,
        .data = malloc(in.length + 1), .trailers = malloc(in.length + 1)};
    DEMAND(wanted.data && wanted.trailers);
    reference_chunked_read(&wanted, data, in.length);
    const size_t most[] = {in.length, in.length / 3 + 1, 12, 1};
    for (size_t i = 0; i < sizeof most / sizeof most[0]; i++) {
        struct outcome found;
        feed_pieces(&found, data, in.length, choice, i == 0 ? UINT32_MAX : most[i], i == 0 ? 0 : (uint64_t)seed + i);
        demand_as_reference(&found, &wanted);
        if (most[i] == 1 && in.length > 0)
            DEMAND(found.fed == wanted.used);
        let_go(&found);
    }
    free(wanted.data);
    free(wanted.trailers);
    return 0;
}
