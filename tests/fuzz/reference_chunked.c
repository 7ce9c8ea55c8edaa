/* See reference_chunked.h. Reading stops by longjmp, so that each function reads as a rule. */
#include "reference_chunked.h"

#include "reference_http.h"

#include <setjmp.h>
#include <string.h>

enum { LINE_MAX = 256, DIGITS_MAX = 16, TRAILERS_MAX = 8192, TRAILER_FIELDS_MAX = 32, FREE_OVERHEAD = 65536, RATIO = 4 };

struct reader {
    reference_chunked *body;
    const char *data;
    size_t length, at;
    size_t line_start;
    jmp_buf done;
};

_Noreturn static void finish(struct reader *r, int result)
{
    r->body->result = result;
    r->body->used = r->at;
    longjmp(r->done, 1);
}

_Noreturn static void refuse(struct reader *r, int status)
{
    r->at++;
    finish(r, -status);
}

static char look(struct reader *r)
{
    if (r->at == r->length)
        finish(r, 0);
    return r->data[r->at];
}

/* The next byte of framing, which stays; refused when there is too much of it. */
static char look_framing(struct reader *r)
{
    char byte = look(r);
    uint64_t overhead = r->body->overhead + 1;
    if (overhead > FREE_OVERHEAD && (overhead - FREE_OVERHEAD + RATIO - 1) / RATIO > r->body->payload)
        refuse(r, 400);
    return byte;
}

static void take_framing(struct reader *r)
{
    r->body->overhead++;
    r->at++;
}

/* The next byte of a size line. */
static char look_line(struct reader *r)
{
    char byte = look_framing(r);
    if (byte != '\r' && r->at - r->line_start == LINE_MAX)
        refuse(r, 400);
    return byte;
}

static void expect(struct reader *r, char byte)
{
    if (look_framing(r) != byte)
        refuse(r, 400);
    take_framing(r);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

static bool skip_blanks(struct reader *r)
{
    size_t start = r->at;
    while (is_blank(look_line(r)))
        take_framing(r);
    return r->at > start;
}

static int hex(char byte)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    for (int i = 0; i < 16; i++)
        if (byte == lower[i] || byte == upper[i])
            return i;
    return -1;
}

static uint64_t size(struct reader *r)
{
    uint64_t value = 0;
    int digits = 0;
    for (; hex(look_line(r)) >= 0; digits++) {
        if (digits == DIGITS_MAX)
            refuse(r, 400);
        value = value * 16 + (uint64_t)hex(look_line(r));
        if (value >= (uint64_t)INT64_MAX - r->body->payload)
            refuse(r, 400);
        take_framing(r);
    }
    if (digits == 0)
        refuse(r, 400);
    return value;
}

static void token(struct reader *r)
{
    if (!reference_is_token(look_line(r)))
        refuse(r, 400);
    while (reference_is_token(look_line(r)))
        take_framing(r);
}

/* RFC 9110 S5.6.4, without obs-text */
static void quoted(struct reader *r)
{
    take_framing(r);
    for (;;) {
        char byte = look_line(r);
        bool escaped = byte == '\\';
        if (escaped) {
            take_framing(r);
            byte = look_line(r);
        }
        if (!reference_is_value(byte) || (unsigned char)byte >= 0x80)
            refuse(r, 400);
        take_framing(r);
        if (byte == '"' && !escaped)
            return;
    }
}

/* *( BWS ";" BWS name [ BWS "=" BWS value ] ), where no white space is at the end */
static void extensions(struct reader *r)
{
    for (;;) {
        bool blank = skip_blanks(r);
        if (look_line(r) != ';') {
            if (blank)
                refuse(r, 400);
            return;
        }
        for (char separator = ';'; separator;) {
            take_framing(r);
            (void)skip_blanks(r);
            token(r);
            blank = skip_blanks(r);
            separator = look_line(r) == ';' ? ';' : '\0';
            if (look_line(r) == '=') {
                take_framing(r);
                (void)skip_blanks(r);
                if (look_line(r) == '"')
                    quoted(r);
                else
                    token(r);
                break;
            }
            if (!separator && blank)
                refuse(r, 400);
        }
    }
}

static void chunk_data(struct reader *r, uint64_t left)
{
    reference_chunked *body = r->body;
    for (; left > 0; left--) {
        body->data[body->length] = look(r);
        body->length++;
        body->payload++;
        r->at++;
    }
    expect(r, '\r');
    expect(r, '\n');
}

/* RFC 9110 S6.5.1 */
static bool forbidden(const char *name, size_t length)
{
    return reference_equals(name, length, "content-length") || reference_equals(name, length, "transfer-encoding")
        || reference_equals(name, length, "host");
}

static char look_trailer(struct reader *r)
{
    char byte = look(r);
    if (r->body->trailer_length == TRAILERS_MAX)
        refuse(r, 431);
    return byte;
}

static void take_trailer(struct reader *r)
{
    r->body->trailers[r->body->trailer_length++] = r->data[r->at++];
}

static void trailer_line(struct reader *r)
{
    size_t start = r->at;
    while (reference_is_token(look_trailer(r)))
        take_trailer(r);
    if (look_trailer(r) != ':' || r->at == start || forbidden(r->data + start, r->at - start))
        refuse(r, 400);
    take_trailer(r);
    while (reference_is_value(look_trailer(r)))
        take_trailer(r);
    for (const char *end = "\r\n"; *end; end++) {
        if (look_trailer(r) != *end)
            refuse(r, 400);
        take_trailer(r);
    }
}

static void body(struct reader *r)
{
    uint64_t left;
    do {
        r->line_start = r->at;
        left = size(r);
        extensions(r);
        expect(r, '\r');
        expect(r, '\n');
        if (left > 0 && (r->body->payload > r->body->limit || left > r->body->limit - r->body->payload))
            finish(r, -413); /* said by the size, so refused before it comes */
        if (left > 0)
            chunk_data(r, left);
    } while (left > 0);
    for (int i = 0; look(r) != '\r'; i++) {
        (void)look_trailer(r);
        if (i == TRAILER_FIELDS_MAX)
            refuse(r, 431);
        trailer_line(r);
    }
    expect(r, '\r');
    expect(r, '\n');
    finish(r, 1);
}

void reference_chunked_read(reference_chunked *into, const char *data, size_t length)
{
    struct reader r = {.body = into, .data = data, .length = length};
    if (setjmp(r.done) == 0)
        body(&r);
}
