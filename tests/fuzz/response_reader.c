/* See response_reader.h. */
#include "response_reader.h"

#include "reference_http.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    response *into;
    const char *data;
    size_t length, at;
    jmp_buf done;
};

_Noreturn static void finish(struct reader *r, enum response_result result)
{
    r->into->length = r->at;
    longjmp(r->done, result + 2);
}

static char look(struct reader *r)
{
    if (r->at == r->length)
        finish(r, RESPONSE_INCOMPLETE);
    return r->data[r->at];
}

static void demand(struct reader *r, bool holds)
{
    if (!holds)
        finish(r, RESPONSE_BAD);
}

static void expect(struct reader *r, const char *text)
{
    for (; *text; text++) {
        demand(r, look(r) == *text);
        r->at++;
    }
}

static response_part run_of(struct reader *r, bool (*is)(char byte))
{
    size_t start = r->at;
    while (is(look(r)))
        r->at++;
    return (response_part){r->data + start, r->at - start};
}

bool response_part_is(response_part part, const char *text)
{
    return reference_equals(part.text, part.length, text);
}

static void status_line(struct reader *r)
{
    expect(r, "HTTP/1.1 ");
    for (int i = 0; i < 3; i++) {
        demand(r, look(r) >= '0' && look(r) <= '9');
        r->into->status = r->into->status * 10 + (look(r) - '0');
        r->at++;
    }
    demand(r, r->into->status >= 100 && r->into->status <= 599);
    expect(r, " ");
    r->into->reason = run_of(r, reference_is_value);
    expect(r, "\r\n");
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

static response_part stripped(response_part part)
{
    while (part.length > 0 && is_blank(part.text[0]))
        part.text++, part.length--;
    while (part.length > 0 && is_blank(part.text[part.length - 1]))
        part.length--;
    return part;
}

/* What says how long the message is may be said once only. */
static void framing_field(struct reader *r, response_part name, response_part value)
{
    response *into = r->into;
    if (response_part_is(name, "content-length")) {
        demand(r, !into->has_length && value.length > 0 && value.length < 19);
        into->has_length = true;
        for (size_t i = 0; i < value.length; i++) {
            demand(r, value.text[i] >= '0' && value.text[i] <= '9');
            into->content_length = into->content_length * 10 + (uint64_t)(value.text[i] - '0');
        }
    } else if (response_part_is(name, "transfer-encoding")) {
        demand(r, !into->chunked && response_part_is(value, "chunked"));
        into->chunked = true;
    } else if (response_part_is(name, "connection")) {
        bool upgrades = into->status == 101 || into->status == 426; /* RFC 9110 S7.8, S15.5.22 */
        demand(r, response_part_is(value, "close") || response_part_is(value, "keep-alive")
            || (upgrades && response_part_is(value, "upgrade")));
        into->close = into->close || response_part_is(value, "close");
    }
}

static void fields(struct reader *r)
{
    response *into = r->into;
    while (look(r) != '\r') {
        demand(r, into->field_count < RESPONSE_FIELDS);
        response_part name = run_of(r, reference_is_token);
        demand(r, name.length > 0);
        expect(r, ":");
        response_part value = stripped(run_of(r, reference_is_value));
        expect(r, "\r\n");
        framing_field(r, name, value);
        into->fields[into->field_count].name = name;
        into->fields[into->field_count++].value = value;
    }
    expect(r, "\r\n");
    demand(r, !(into->has_length && into->chunked));
}

/* As short as it can be: no leading zeros, no capitals, no extension. */
static uint64_t chunk_size(struct reader *r)
{
    uint64_t size = 0;
    int digits = 0;
    for (; look(r) != '\r'; digits++, r->at++) {
        const char *set = "0123456789abcdef", *found = look(r) ? strchr(set, look(r)) : NULL;
        demand(r, found && digits < 15 && !(digits > 0 && size == 0));
        size = size * 16 + (uint64_t)(found - set);
    }
    demand(r, digits > 0);
    expect(r, "\r\n");
    return size;
}

static void chunks(struct reader *r)
{
    response *into = r->into;
    into->decoded = malloc(r->length - r->at + 1);
    if (!into->decoded)
        abort();
    into->body.text = into->decoded;
    for (uint64_t size = chunk_size(r); size > 0; size = chunk_size(r)) {
        if (size > r->length - r->at)
            finish(r, RESPONSE_INCOMPLETE);
        memcpy(into->decoded + into->body.length, r->data + r->at, (size_t)size);
        into->body.length += (size_t)size;
        r->at += (size_t)size;
        expect(r, "\r\n");
    }
    expect(r, "\r\n");
}

static void counted(struct reader *r, uint64_t size)
{
    if (size > r->length - r->at)
        finish(r, RESPONSE_INCOMPLETE);
    r->into->body = (response_part){r->data + r->at, (size_t)size};
    r->at += (size_t)size;
}

/* RFC 9112 S6.3 */
static void message(struct reader *r, bool head_only, bool ended)
{
    response *into = r->into;
    status_line(r);
    fields(r);
    bool interim = into->status < 200;
    if (interim || into->status == 204) /* RFC 9112 S6.1, RFC 9110 S8.6 */
        demand(r, !into->has_length && !into->chunked);
    if (interim || head_only || into->status == 204 || into->status == 304)
        finish(r, RESPONSE_WHOLE);
    if (into->chunked) {
        chunks(r);
    } else if (into->has_length) {
        counted(r, into->content_length);
    } else {
        demand(r, into->close);
        counted(r, r->length - r->at);
        if (!ended)
            finish(r, RESPONSE_INCOMPLETE);
    }
    finish(r, RESPONSE_WHOLE);
}

enum response_result response_read(response *into, const char *data, size_t length, bool head_only, bool ended)
{
    struct reader r = {.into = into, .data = data, .length = length};
    into->status = 0;
    into->reason = into->body = (response_part){NULL, 0};
    into->field_count = into->length = 0;
    into->has_length = into->chunked = into->close = false;
    into->content_length = 0;
    into->decoded = NULL;
    switch (setjmp(r.done)) {
    case 0: message(&r, head_only, ended); return RESPONSE_WHOLE;
    case RESPONSE_BAD + 2: return RESPONSE_BAD;
    case RESPONSE_INCOMPLETE + 2: return RESPONSE_INCOMPLETE;
    default: return RESPONSE_WHOLE;
    }
}
