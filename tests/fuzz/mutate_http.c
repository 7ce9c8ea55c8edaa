/* The mutator of the HTTP targets. It works on tokens and lines: puts bytes that
 * mean something where they may mean something else, doubles and splits lines,
 * changes the fields that decide framing, cuts bodies into chunks, and every
 * second time makes lengths true again, so that the bytes behind them are reached. */
#include "mutate_http.h"

#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned int seed);

/* The text that is being changed. */
struct text {
    char *data;
    size_t length, capacity;
    uint64_t state;
};

static const char *const marks[] = {
    "\r", "\n", "\r\n", "\r\n\r\n", "\n\n", "\r\r\n", ":", " ", "\t", ",", ";", "=", "\"", "\\", "/", "?", "#", "%", "%00",
    "%2f", "\x7f", "\x80", "\xff", "\x0b", "\x01", "[", "]", "@", "0", "f", "+", "-", "0x", "_", "0\r\n\r\n", "5\r\nhello\r\n",
    "http://", "HTTP/1.1", "HTTP/1.0", "*", "[::1]", ":80",
};

static const char *const fields[] = {
    "Content-Length: 5\r\n", "Content-Length: 0\r\n", "Content-Length: +5\r\n", "Content-Length: 5, 5\r\n",
    "Content-Length: 9223372036854775807\r\n", "Content-Length : 5\r\n", "Content-Length: \r\n",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding:\vchunked\r\n", "Transfer-Encoding: ,chunked\r\n", "transfer-encoding: CHUNKED \r\n",
    "Transfer_Encoding: chunked\r\n", "Host: b\r\n", "Host: [::1]:80\r\n", "Host:\r\n", "Expect: 100-continue\r\n",
    "Expect: 200-maybe\r\n", "Connection: close\r\n", "Connection: keep-alive, Upgrade\r\n", "Upgrade: websocket\r\n",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n", "Content-Type: a/b\r\n", "Authorization: x\r\n", " folded\r\n", ": x\r\n",
};

#define PICK(text, list) ((list)[fuzz_draw(&(text)->state, (uint32_t)(sizeof(list) / sizeof *(list)))])

static uint32_t draw(struct text *text, size_t below)
{
    return fuzz_draw(&text->state, (uint32_t)below);
}

/* Puts bytes in place of `removed` others; leaves the text alone when they do not fit. */
static void replace(struct text *text, size_t at, size_t removed, const char *data, size_t length)
{
    if (text->length - removed > text->capacity - length)
        return;
    memmove(text->data + at + length, text->data + at + removed, text->length - at - removed);
    memcpy(text->data + at, data, length);
    text->length = text->length - removed + length;
}

static void insert(struct text *text, size_t at, const char *string)
{
    replace(text, at, 0, string, strlen(string));
}

/* ---- Lines ---- */

/* The index behind the line end that follows, or the length. */
static size_t next_line(const struct text *text, size_t at)
{
    const char *end = at < text->length ? memchr(text->data + at, '\n', text->length - at) : NULL;
    return end ? (size_t)(end - text->data) + 1 : text->length;
}

/* The start of a line drawn from all. */
static size_t some_line(struct text *text)
{
    size_t at = draw(text, text->length + 1);
    while (at > 0 && text->data[at - 1] != '\n')
        at--;
    return at;
}

static void double_line(struct text *text)
{
    char line[1024];
    size_t at = some_line(text), length = next_line(text, at) - at;
    if (length > sizeof line)
        return;
    memcpy(line, text->data + at, length);
    replace(text, some_line(text), 0, line, length);
}

static void remove_line(struct text *text)
{
    size_t at = some_line(text);
    replace(text, at, next_line(text, at) - at, "", 0);
}

/* Puts a framing field in front of a line, or in its place. */
static void change_field(struct text *text)
{
    size_t at = some_line(text);
    const char *field = PICK(text, fields);
    replace(text, at, draw(text, 2) ? next_line(text, at) - at : 0, field, strlen(field));
}

static void put_mark(struct text *text)
{
    const char *mark = PICK(text, marks);
    size_t at = draw(text, text->length + 1), removed = at < text->length ? draw(text, 2) : 0;
    replace(text, at, removed, mark, strlen(mark));
}

static void remove_byte(struct text *text)
{
    if (text->length > 0)
        replace(text, draw(text, text->length), 1, "", 0);
}

/* ---- Bodies ---- */

/* The index behind the first empty line, or the length. */
static size_t body_start(const struct text *text)
{
    for (size_t at = 0; at + 4 <= text->length; at++)
        if (memcmp(text->data + at, "\r\n\r\n", 4) == 0)
            return at + 4;
    return text->length;
}

/* Makes chunks of a few bytes out of what follows a place, some with extensions, some with trailers. */
static void cut_into_chunks(struct text *text)
{
    size_t at = body_start(text) % (text->length + 1);
    for (int i = 0; i < 4 && at < text->length; i++) {
        char line[32];
        size_t size = 1 + draw(text, text->length - at < 40 ? text->length - at : 40);
        snprintf(line, sizeof line, "%zx%s\r\n", size, draw(text, 3) ? "" : ";a=\"b\"");
        insert(text, at, line);
        at += strlen(line) + size;
        if (at > text->length)
            return;
        insert(text, at, "\r\n");
        at += 2;
    }
    if (at <= text->length)
        insert(text, at, draw(text, 2) ? "0\r\n\r\n" : "0\r\nA: b\r\n\r\n");
}

/* Makes the first Content-Length say how many bytes follow the head. */
static void repair_length(struct text *text)
{
    static const char name[] = "\r\nContent-Length: ";
    size_t body = text->length - body_start(text);
    for (size_t at = 0; at + sizeof name - 1 < text->length; at++) {
        if (memcmp(text->data + at, name, sizeof name - 1) != 0)
            continue;
        size_t start = at + sizeof name - 1, end = start;
        while (end < text->length && text->data[end] >= '0' && text->data[end] <= '9')
            end++;
        char digits[24];
        snprintf(digits, sizeof digits, "%zu", body);
        replace(text, start, end - start, digits, strlen(digits));
        return;
    }
}

static bool is_hex(char byte)
{
    return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'f');
}

/* Makes a line that begins with hex digits say how many bytes the next line has. */
static void repair_chunk(struct text *text)
{
    size_t at = some_line(text), end = at;
    while (end < text->length && is_hex(text->data[end]))
        end++;
    size_t data = next_line(text, end), after = next_line(text, data);
    if (end == at || after < data + 2)
        return;
    char digits[24];
    snprintf(digits, sizeof digits, "%zx", after - data - 2);
    replace(text, at, end - at, digits, strlen(digits));
}

static void mutate(struct text *text)
{
    switch (draw(text, 8)) {
    case 0: put_mark(text); break;
    case 1: put_mark(text); break;
    case 2: remove_byte(text); break;
    case 3: double_line(text); break;
    case 4: remove_line(text); break;
    case 5: change_field(text); break;
    case 6: cut_into_chunks(text); break;
    default: insert(text, some_line(text), "\r\n"); break;
    }
    if (draw(text, 2)) {
        repair_length(text);
        repair_chunk(text);
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned int seed)
{
    uint64_t state = seed;
    if (size < fuzz_prefix || capacity <= fuzz_prefix || fuzz_draw(&state, 2) == 0)
        return LLVMFuzzerMutate(data, size, capacity);
    struct text text = {(char *)data + fuzz_prefix, size - fuzz_prefix, capacity - fuzz_prefix, state};
    for (uint32_t i = draw(&text, 3) + 1; i > 0; i--)
        mutate(&text);
    return fuzz_prefix + text.length;
}
