/* Fuzzes the head parser. An input is a byte that chooses limits, a seed for the
 * splits, and the bytes of a request.
 *
 * It must be read in one way however it arrives; by the same bytes, refused and
 * accepted, as the reference reader does; every span must lie in the input; and
 * what was accepted, written again from its spans, must be read as the same. */
#include "fuzz.h"
#include "http_parser.h"
#include "mutate_http.h"
#include "reference_http.h"

#include <sanitizer/asan_interface.h>

const size_t fuzz_prefix = 2;

static const ck_head_limits limit_choices[] = {
    {8192, 32768, 16384, 100}, {40, 200, 60, 4}, {16, 24, 16, 1}, {8192, 64, 100000, 200}, {0, 0, 0, 0},
};

struct outcome {
    int result;
    size_t used; /* bytes that were there when it was decided */
    ck_head head;
};

/* ---- Feeds ---- */

static void feed_whole(struct outcome *found, const char *data, size_t length, const ck_head_limits *limits)
{
    char *copy = fuzz_copy(data, length);
    ck_head_init(&found->head);
    found->result = ck_head_parse(&found->head, copy, length, limits);
    found->used = length;
    DEMAND(ck_head_parse(&found->head, copy, length, limits) == found->result);
    free(copy);
}

/* A few pieces; the request lies in new memory each time. */
static void feed_split(struct outcome *found, const char *data, size_t length, const ck_head_limits *limits, uint64_t seed)
{
    ck_head_init(&found->head);
    size_t there = 0;
    do {
        size_t left = length - there;
        there += left <= 1 ? left : 1 + fuzz_draw(&seed, (uint32_t)(left < 100 ? left : left / 4));
        char *copy = fuzz_copy(data, there);
        found->result = ck_head_parse(&found->head, copy, there, limits);
        free(copy);
    } while (found->result == CK_HEAD_MORE && there < length);
    found->used = there;
}

/* Byte for byte, with all that has not come yet out of bounds. */
static void feed_bytes(struct outcome *found, const char *data, size_t length, const ck_head_limits *limits)
{
    char *copy = fuzz_copy(data, length);
    ASAN_POISON_MEMORY_REGION(copy, length);
    ck_head_init(&found->head);
    found->used = 0;
    do {
        size_t granule = found->used & ~(size_t)7;
        found->used += found->used < length;
        ASAN_UNPOISON_MEMORY_REGION(copy + granule, found->used - granule);
        found->result = ck_head_parse(&found->head, copy, found->used, limits);
    } while (found->result == CK_HEAD_MORE && found->used < length);
    ASAN_UNPOISON_MEMORY_REGION(copy, length);
    free(copy);
}

/* ---- Comparing ---- */

static bool same_span(ck_span a, ck_span b)
{
    return a.offset == b.offset && a.length == b.length;
}

static void demand_same_head(const ck_head *a, const ck_head *b)
{
    DEMAND(a->length == b->length && a->method == b->method && a->minor_version == b->minor_version);
    DEMAND(a->keep_alive == b->keep_alive && a->chunked == b->chunked && a->expect_continue == b->expect_continue);
    DEMAND(a->upgrade == b->upgrade && a->asterisk == b->asterisk && a->content_length == b->content_length);
    DEMAND(same_span(a->method_name, b->method_name) && same_span(a->target, b->target));
    DEMAND(same_span(a->path, b->path) && same_span(a->query, b->query) && same_span(a->host, b->host));
    DEMAND(a->field_count == b->field_count);
    DEMAND(memcmp(a->fields, b->fields, a->field_count * sizeof a->fields[0]) == 0);
}

static void demand_same_outcome(const struct outcome *a, const struct outcome *b)
{
    DEMAND(a->result == b->result);
    if (a->result == CK_HEAD_DONE)
        demand_same_head(&a->head, &b->head);
}

/* An empty part may be anywhere. */
static void demand_span(ck_span found, reference_span wanted)
{
    DEMAND(found.length == wanted.length && (found.length == 0 || found.offset == wanted.offset));
}

static uint8_t number_of_method(const char *data, reference_span method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"};
    uint8_t number = 0;
    while (number < CK_METHOD_OTHER && !fuzz_same(names[number], strlen(names[number]), data + method.offset, method.length))
        number++;
    return number;
}

static void demand_as_reference(const ck_head *head, const reference_head *wanted, const char *data)
{
    DEMAND(head->length == wanted->used);
    DEMAND(head->method == number_of_method(data, wanted->method));
    DEMAND(head->minor_version == wanted->minor && head->keep_alive == wanted->keep_alive);
    DEMAND(head->expect_continue == wanted->expect_continue && head->upgrade == wanted->upgrade);
    DEMAND(head->asterisk == wanted->asterisk && head->chunked == wanted->framing.chunked);
    DEMAND(head->content_length == wanted->framing.content_length);
    demand_span(head->method_name, wanted->method);
    demand_span(head->target, wanted->target);
    demand_span(head->path, wanted->path);
    demand_span(head->query, wanted->query);
    demand_span(head->host, wanted->host);
    DEMAND(head->field_count == wanted->field_count);
    for (size_t i = 0; i < wanted->field_count; i++) {
        demand_span((ck_span){head->fields[i].name_offset, head->fields[i].name_length}, wanted->fields[i].name);
        demand_span((ck_span){head->fields[i].value_offset, head->fields[i].value_length}, wanted->fields[i].value);
    }
}

/* ---- Views ---- */

static volatile unsigned long bytes_read;

/* Reads all of a part from memory that has nothing behind the head. */
static void read_view(const ck_head *head, const char *exact, size_t offset, size_t length)
{
    DEMAND(offset <= head->length && length <= head->length - offset);
    unsigned long sum = 0;
    for (size_t i = 0; i < length; i++)
        sum += (unsigned char)exact[offset + i];
    bytes_read += sum;
}

static void read_views(const ck_head *head, const char *data)
{
    char *exact = fuzz_copy(data, head->length);
    const ck_span parts[] = {head->method_name, head->target, head->path, head->query, head->host};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        read_view(head, exact, parts[i].offset, parts[i].length);
    for (size_t i = 0; i < head->field_count; i++) {
        read_view(head, exact, head->fields[i].name_offset, head->fields[i].name_length);
        read_view(head, exact, head->fields[i].value_offset, head->fields[i].value_length);
    }
    free(exact);
}

/* ---- Writing what was read ---- */

struct writing {
    char *data;
    size_t length;
};

static void add(struct writing *out, const char *data, size_t length)
{
    if (length > 0)
        memcpy(out->data + out->length, data, length);
    out->length += length;
}

static void write_head(struct writing *out, const ck_head *head, const char *data)
{
    add(out, data + head->method_name.offset, head->method_name.length);
    add(out, " ", 1);
    add(out, data + head->target.offset, head->target.length);
    add(out, head->minor_version ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n", 11);
    for (size_t i = 0; i < head->field_count; i++) {
        add(out, data + head->fields[i].name_offset, head->fields[i].name_length);
        add(out, ": ", 2);
        add(out, data + head->fields[i].value_offset, head->fields[i].value_length);
        add(out, "\r\n", 2);
    }
    add(out, "\r\n", 2);
}

static void demand_round_trip(const ck_head *head, const char *data)
{
    static const ck_head_limits wide = {UINT32_MAX / 2, UINT32_MAX / 2, UINT16_MAX, CK_MAX_FIELDS};
    ck_head again;
    struct writing out = {malloc((size_t)head->length + CK_MAX_FIELDS + 16), 0};
    DEMAND(out.data != NULL);
    write_head(&out, head, data);
    ck_head_init(&again);
    DEMAND(ck_head_parse(&again, out.data, out.length, &wide) == CK_HEAD_DONE && again.length == out.length);
    DEMAND(again.method == head->method && again.content_length == head->content_length);
    DEMAND(again.chunked == head->chunked && again.keep_alive == head->keep_alive && again.upgrade == head->upgrade);
    DEMAND(again.expect_continue == head->expect_continue && again.field_count == head->field_count);
    DEMAND(fuzz_same(data + head->path.offset, head->path.length, out.data + again.path.offset, again.path.length));
    DEMAND(fuzz_same(data + head->query.offset, head->query.length, out.data + again.query.offset, again.query.length));
    DEMAND(fuzz_same(data + head->host.offset, head->host.length, out.data + again.host.offset, again.host.length));
    for (size_t i = 0; i < head->field_count; i++) {
        const ck_field *was = &head->fields[i], *is = &again.fields[i];
        DEMAND(fuzz_same(data + was->name_offset, was->name_length, out.data + is->name_offset, is->name_length));
        DEMAND(fuzz_same(data + was->value_offset, was->value_length, out.data + is->value_offset, is->value_length));
    }
    free(out.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    fuzz_input in = {input, size};
    const ck_head_limits *limits = &limit_choices[fuzz_byte(&in) % (sizeof limit_choices / sizeof limit_choices[0])];
    uint64_t seed = fuzz_byte(&in);
    const char *data = (const char *)in.data;
    struct outcome whole, split, bytes;
    reference_head wanted;
    reference_limits reference = {limits->line, limits->head, limits->field, limits->fields};
    reference_head_read(&wanted, data, in.length, &reference);
    feed_whole(&whole, data, in.length, limits);
    feed_split(&split, data, in.length, limits, seed);
    feed_bytes(&bytes, data, in.length, limits);
    DEMAND(whole.result == wanted.result);
    DEMAND(bytes.used == wanted.used || (whole.result == CK_HEAD_MORE && wanted.used == in.length));
    demand_same_outcome(&whole, &split);
    demand_same_outcome(&whole, &bytes);
    if (whole.result == CK_HEAD_DONE) {
        demand_as_reference(&whole.head, &wanted, data);
        read_views(&whole.head, data);
        demand_round_trip(&whole.head, data);
    }
    return 0;
}
