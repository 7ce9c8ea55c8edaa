/* See reference_extensions.h. The list can be read, so no comma, semicolon or equals sign is anything but a mark: it is
 * simply cut at them, again and again. */
#include "reference_extensions.h"

#include <stdio.h>
#include <string.h>

enum { VALUE = 64 };

/* A parameter that was offered: whether it is there, and its value, "" for none. */
struct parameter {
    const char *name;
    int count;
    bool valued;
    char value[VALUE];
};

struct offer {
    bool known; /* it is permessage-deflate, with parameters that are its own */
    struct parameter server_no_takeover, client_no_takeover, server_bits, client_bits;
};

/* Piece number `wanted` between marks, without the white space around it. Returns false when there are fewer. */
static bool piece_of(const char *data, reference_span whole, char mark, size_t wanted, reference_span *piece)
{
    size_t start = whole.offset, end = whole.offset + whole.length;
    for (; wanted > 0; wanted--) {
        while (start < end && data[start] != mark)
            start++;
        if (start == end)
            return false;
        start++;
    }
    size_t stop = start;
    while (stop < end && data[stop] != mark)
        stop++;
    while (start < stop && strchr(" \t", data[start]))
        start++;
    while (stop > start && strchr(" \t", data[stop - 1]))
        stop--;
    *piece = (reference_span){start, stop - start};
    return true;
}

/* A value without its quotes and backslashes; one that is too long is cut, and wrong anyway. */
static void unquote(const char *data, reference_span text, char value[VALUE])
{
    size_t length = 0;
    for (size_t i = text.offset; i < text.offset + text.length; i++)
        if (data[i] != '"' && data[i] != '\\' && length < VALUE - 1)
            value[length++] = data[i];
    value[length] = '\0';
}

static void note_parameter(struct offer *offer, const char *data, reference_span text)
{
    struct parameter *all[] = {&offer->server_no_takeover, &offer->client_no_takeover, &offer->server_bits, &offer->client_bits};
    reference_span name, value;
    (void)piece_of(data, text, '=', 0, &name);
    for (int i = 0; i < 4; i++)
        if (reference_equals(data + name.offset, name.length, all[i]->name)) {
            all[i]->count++;
            all[i]->valued = piece_of(data, text, '=', 1, &value);
            if (all[i]->valued)
                unquote(data, value, all[i]->value);
            return;
        }
    offer->known = false;
}

static struct offer read_offer(const char *data, reference_span text)
{
    struct offer offer = {
        .server_no_takeover.name = "server_no_context_takeover", .client_no_takeover.name = "client_no_context_takeover",
        .server_bits.name = "server_max_window_bits", .client_bits.name = "client_max_window_bits",
    };
    reference_span name, parameter;
    (void)piece_of(data, text, ';', 0, &name);
    offer.known = reference_equals(data + name.offset, name.length, "permessage-deflate");
    for (size_t n = 1; piece_of(data, text, ';', n, &parameter); n++)
        note_parameter(&offer, data, parameter);
    return offer;
}

/* S7.1.2.1: 8 to 15 without a zero in front. Returns 0 for what is none. */
static int window(const char *value)
{
    static const char *const good[] = {"8", "9", "10", "11", "12", "13", "14", "15"};
    for (int i = 0; i < 8; i++)
        if (strcmp(value, good[i]) == 0)
            return 8 + i;
    return 0;
}

/* S7.1: nothing unknown, nothing twice, no value that is wrong. A window of 8 is one that zlib cannot have, so we decline it. */
static bool acceptable(const struct offer *offer)
{
    return offer->known && offer->server_no_takeover.count < 2 && offer->client_no_takeover.count < 2
        && offer->server_bits.count < 2 && offer->client_bits.count < 2
        && !offer->server_no_takeover.valued && !offer->client_no_takeover.valued
        && (offer->server_bits.count == 0 || window(offer->server_bits.value) > 8)
        && (!offer->client_bits.valued || window(offer->client_bits.value) > 0);
}

static void say(char answer[REFERENCE_ANSWER], const char *text, int number)
{
    size_t length = strlen(answer);
    (void)snprintf(answer + length, REFERENCE_ANSWER - length, number ? "%s=%d" : "%s", text, number);
}

static void answer_offer(const struct offer *offer, uint32_t options, char answer[REFERENCE_ANSWER])
{
    int ours = (int)(options / 16 % 16), theirs = (int)(options / 256);
    bool shared_compressor = options % 256 < 2, shared_decompressor = theirs < 2;
    if (!shared_decompressor && theirs < 15 && offer->client_bits.count == 0)
        shared_decompressor = true; /* S7.1.2.2: this client must not be told how small its window has to be */
    if (shared_compressor)
        ours = 15;
    if (shared_decompressor)
        theirs = 15;
    if (offer->server_bits.count && window(offer->server_bits.value) < ours)
        ours = window(offer->server_bits.value);
    if (offer->client_bits.valued && window(offer->client_bits.value) < theirs)
        theirs = window(offer->client_bits.value);
    answer[0] = '\0';
    say(answer, "permessage-deflate", 0);
    if (shared_compressor || offer->server_no_takeover.count)
        say(answer, "; server_no_context_takeover", 0);
    if (shared_decompressor || offer->client_no_takeover.count)
        say(answer, "; client_no_context_takeover", 0);
    if (offer->server_bits.count || ours < 15)
        say(answer, "; server_max_window_bits", ours);
    if (offer->client_bits.count && theirs < 15)
        say(answer, "; client_max_window_bits", theirs);
}

bool reference_negotiate(const reference_head *head, const char *data, uint32_t options, char answer[REFERENCE_ANSWER])
{
    reference_span text;
    for (size_t i = 0; options && i < head->field_count; i++)
        if (reference_equals(data + head->fields[i].name.offset, head->fields[i].name.length, "sec-websocket-extensions"))
            for (size_t n = 0; piece_of(data, head->fields[i].value, ',', n, &text); n++) {
                struct offer offer = read_offer(data, text);
                if (!acceptable(&offer))
                    continue;
                answer_offer(&offer, options, answer);
                return true;
            }
    return false;
}
