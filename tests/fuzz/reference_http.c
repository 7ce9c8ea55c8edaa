/* See reference_http.h. Reading stops by longjmp, so that the functions below can
 * be read as the rules of the grammar. */
#include "reference_http.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <string.h>

enum { METHOD_MAX = 32, EMPTY_LINES_MAX = 2, HOST_MAX = 255 };

/* ---- Classes of bytes ---- */

static bool among(char byte, const char *set)
{
    return byte != '\0' && strchr(set, byte) != NULL;
}

static bool is_digit(char byte)
{
    return among(byte, "0123456789");
}

static bool is_hex(char byte)
{
    return among(byte, "0123456789abcdefABCDEF");
}

static bool is_alphanumeric(char byte)
{
    return is_digit(byte) || among(byte, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

/* RFC 3986 S2.3 */
static bool is_unreserved(char byte)
{
    return is_alphanumeric(byte) || among(byte, "-._~");
}

/* RFC 9110 S5.6.2 */
bool reference_is_token(char byte)
{
    return is_alphanumeric(byte) || among(byte, "!#$%&'*+-.^_`|~");
}

/* pchar of RFC 3986 S3.3 without percent-encoding, and "/" */
bool reference_is_path(char byte)
{
    return is_unreserved(byte) || among(byte, "!$&'()*+,;=") || among(byte, ":@/");
}

/* RFC 3986 S3.4, and seven bytes that browsers do not encode */
bool reference_is_query(char byte)
{
    return reference_is_path(byte) || byte == '?' || among(byte, "\"[]^{|}");
}

/* field-vchar, SP and HTAB of RFC 9110 S5.5 */
bool reference_is_value(char byte)
{
    unsigned value = (unsigned char)byte;
    return value == 0x09 || (value >= 0x20 && value != 0x7F);
}

bool reference_equals(const char *text, size_t length, const char *lower)
{
    if (length != strlen(lower))
        return false;
    for (size_t i = 0; i < length; i++) {
        char byte = among(text[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZ") ? (char)(text[i] - 'A' + 'a') : text[i];
        if (byte != lower[i])
            return false;
    }
    return true;
}

/* ---- Host ---- */

/* RFC 3986 S3.2.2, with the C library as the judge of addresses. */
static bool literal_valid(const char *text, size_t length)
{
    char address[64];
    struct in6_addr parsed;
    if (length == 0 || length >= sizeof address || memchr(text, '\0', length))
        return false;
    memcpy(address, text, length);
    address[length] = '\0';
    return inet_pton(AF_INET6, address, &parsed) == 1;
}

/* Labels of unreserved bytes; the last label may be empty, if it is not the only one. */
static bool name_valid(const char *text, size_t length)
{
    size_t label = 0;
    if (length == 0 || length > HOST_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!is_unreserved(text[i]) || (text[i] == '.' && label == 0))
            return false;
        label = text[i] == '.' ? 0 : label + 1;
    }
    return true;
}

/* ":" and up to five digits, at most 65535; no digits are no port. */
static int port_of(const char *text, size_t length)
{
    long port = 0;
    if (length == 0)
        return -1;
    if (text[0] != ':' || length > 6)
        return -2;
    for (size_t i = 1; i < length; i++) {
        if (!is_digit(text[i]))
            return -2;
        port = port * 10 + (text[i] - '0');
    }
    if (length == 1)
        return -1;
    return port > 65535 ? -2 : (int)port;
}

int reference_host_port(const char *text, size_t length)
{
    size_t end = 0;
    if (length > 0 && text[0] == '[') {
        while (end < length && text[end] != ']')
            end++;
        if (end == length || !literal_valid(text + 1, end - 1))
            return -2;
        end++;
    } else {
        while (end < length && text[end] != ':')
            end++;
        if (!name_valid(text, end))
            return -2;
    }
    return port_of(text + end, length - end);
}

/* ---- The meaning of fields ---- */

/* Takes the next member of a comma list without the white space around it. */
static bool next_member(const char **list, size_t *left, const char **member, size_t *length, bool *last)
{
    size_t end = 0;
    while (end < *left && (*list)[end] != ',')
        end++;
    *last = end == *left;
    *member = *list;
    *length = end;
    while (*length > 0 && among(**member, " \t")) {
        ++*member;
        --*length;
    }
    while (*length > 0 && among((*member)[*length - 1], " \t"))
        --*length;
    if (!*last) {
        *list += end + 1;
        *left -= end + 1;
    }
    return *length > 0;
}

/* RFC 9112 S6.1: chunked is named once, and last. */
static bool coding_field(reference_framing *framing, const char *list, size_t left)
{
    const char *member;
    size_t length;
    bool last = false;
    while (!last) {
        if (!next_member(&list, &left, &member, &length, &last) || framing->chunked)
            return false;
        for (size_t i = 0; i < length; i++)
            if (!reference_is_token(member[i]) || member[i] == '\'')
                return false;
        if (reference_equals(member, length, "chunked"))
            framing->chunked = true;
        else
            framing->other_coding = true;
    }
    return true;
}

/* RFC 9110 S7.6.1 */
static void connection_field(reference_framing *framing, const char *list, size_t left)
{
    const char *member;
    size_t length;
    for (bool last = false; !last;) {
        (void)next_member(&list, &left, &member, &length, &last);
        framing->close_option = framing->close_option || reference_equals(member, length, "close");
        framing->keep_alive_option = framing->keep_alive_option || reference_equals(member, length, "keep-alive");
        framing->upgrade_option = framing->upgrade_option || reference_equals(member, length, "upgrade");
    }
}

/* RFC 9110 S8.6: 1*DIGIT, here of at most 19, below 2^63. */
static bool length_field(reference_framing *framing, const char *text, size_t length)
{
    static const char largest[] = "9223372036854775807";
    char digits[] = "0000000000000000000";
    if (length == 0 || length > 19)
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_digit(text[i]))
            return false;
    memcpy(digits + 19 - length, text, length);
    if (memcmp(digits, largest, 19) > 0)
        return false;
    framing->content_length = 0;
    for (size_t i = 0; i < 19; i++)
        framing->content_length = framing->content_length * 10 + (digits[i] - '0');
    return true;
}

static bool first_time(bool *seen)
{
    bool first = !*seen;
    *seen = true;
    return first;
}

void reference_framing_init(reference_framing *framing)
{
    memset(framing, 0, sizeof *framing);
    framing->content_length = -1;
}

bool reference_field(reference_framing *framing, const char *name, size_t name_length, const char *value, size_t length,
    bool *is_host)
{
    *is_host = reference_equals(name, name_length, "host");
    if (*is_host)
        return first_time(&framing->host) && reference_host_port(value, length) != -2;
    if (reference_equals(name, name_length, "content-type"))
        return first_time(&framing->type);
    if (reference_equals(name, name_length, "authorization"))
        return first_time(&framing->authorization);
    if (reference_equals(name, name_length, "sec-websocket-key"))
        return first_time(&framing->key);
    if (reference_equals(name, name_length, "content-length"))
        return first_time(&framing->length) && length_field(framing, value, length);
    if (reference_equals(name, name_length, "transfer-encoding"))
        return first_time(&framing->coding) && coding_field(framing, value, length);
    if (reference_equals(name, name_length, "expect")) {
        framing->other_expectation = !reference_equals(value, length, "100-continue");
        return first_time(&framing->expect);
    }
    if (reference_equals(name, name_length, "connection"))
        connection_field(framing, value, length);
    if (reference_equals(name, name_length, "upgrade"))
        framing->upgrade = true;
    return true;
}

/* ---- Reading ---- */

struct reader {
    reference_head *head;
    const char *data;
    size_t length, at;
    size_t stop; /* the bytes from here on are over the limit, which is `over` */
    int over;
    jmp_buf done;
};

_Noreturn static void finish(struct reader *r, int result)
{
    r->head->result = result;
    r->head->used = r->at;
    longjmp(r->done, 1);
}

/* Refuses because of the byte at `at`. */
_Noreturn static void refuse(struct reader *r, int status)
{
    r->at++;
    finish(r, -status);
}

/* The next byte, which stays. */
static char look(struct reader *r)
{
    if (r->at == r->length)
        finish(r, 0);
    if (r->at >= r->stop)
        refuse(r, r->over);
    return r->data[r->at];
}

static void expect(struct reader *r, char byte)
{
    if (look(r) != byte)
        refuse(r, 400);
    r->at++;
}

/* A line end counts for no limit but that of the section. */
static void line_end(struct reader *r, size_t stop, int over)
{
    r->stop = stop;
    r->over = over;
    expect(r, '\r');
    expect(r, '\n');
}

/* What was found with the last byte, which has been taken. */
static void demand(struct reader *r, bool holds, int status)
{
    if (!holds)
        finish(r, -status);
}

static reference_span since(const struct reader *r, size_t start)
{
    return (reference_span){start, r->at - start};
}

static bool is_method(const struct reader *r, const char *name)
{
    reference_span method = r->head->method;
    return method.length == strlen(name) && memcmp(r->data + method.offset, name, method.length) == 0;
}

static void method(struct reader *r)
{
    size_t start = r->at;
    while (reference_is_token(look(r))) {
        if (r->at - start == METHOD_MAX)
            refuse(r, 501);
        r->at++;
    }
    if (r->at == start)
        refuse(r, 400);
    r->head->method = since(r, start);
    expect(r, ' ');
}

/* Host and port; judged by the byte that ends them. Returns the port. */
static int authority(struct reader *r)
{
    size_t start = r->at;
    while (is_unreserved(look(r)) || among(look(r), ":[]"))
        r->at++;
    r->head->host = since(r, start);
    r->head->target_host = true;
    return reference_host_port(r->data + start, r->at - start);
}

static void encoded(struct reader *r)
{
    expect(r, '%');
    char first = look(r);
    if (!is_hex(first))
        refuse(r, 400);
    r->at++;
    if (!is_hex(look(r)) || (first == '0' && look(r) == '0'))
        refuse(r, 400);
    r->at++;
}

static reference_span run_of(struct reader *r, bool (*is)(char byte))
{
    size_t start = r->at;
    for (;;) {
        if (look(r) == '%')
            encoded(r);
        else if (is(look(r)))
            r->at++;
        else
            return since(r, start);
    }
}

static void path_and_query(struct reader *r)
{
    r->head->path = run_of(r, reference_is_path);
    if (look(r) != '?')
        return;
    r->at++;
    r->head->query = run_of(r, reference_is_query);
}

/* "http://" or "https://"; any letter that can still be one of them goes on. */
static void scheme(struct reader *r)
{
    static const char secure[] = "https://";
    for (size_t i = 0; i < strlen(secure); i++) {
        char byte = look(r);
        if (i == 4 && byte == ':') {
            expect(r, ':');
            expect(r, '/');
            expect(r, '/');
            return;
        }
        if (!reference_equals(&byte, 1, (char[]){secure[i], '\0'}))
            refuse(r, 400);
        r->at++;
    }
}

static void absolute_form(struct reader *r)
{
    scheme(r);
    int port = authority(r);
    if (port == -2 || !among(look(r), " /?"))
        refuse(r, 400);
    if (look(r) != ' ')
        path_and_query(r);
}

static void target(struct reader *r)
{
    size_t start = r->at;
    if (is_method(r, "CONNECT")) {
        if (authority(r) <= 0)
            refuse(r, 400);
    } else if (look(r) == '*') {
        r->at++;
        r->head->asterisk = true;
    } else if (look(r) == '/') {
        path_and_query(r);
    } else {
        absolute_form(r);
    }
    if (look(r) != ' ')
        refuse(r, 400);
    r->head->target = since(r, start);
    r->at++;
}

static void version(struct reader *r)
{
    for (const char *form = "HTTP/"; *form; form++)
        expect(r, *form);
    char digits[2];
    for (size_t i = 0; i < 2; i++) {
        if (i == 1)
            expect(r, '.');
        digits[i] = look(r);
        if (!is_digit(digits[i]))
            refuse(r, 400);
        r->at++;
    }
    demand(r, digits[0] == '1', 505);
    r->head->minor = digits[1] != '0';
}

static void request_line(struct reader *r, const reference_limits *limits)
{
    for (int i = 0; look(r) == '\r'; i++) {
        if (i == EMPTY_LINES_MAX)
            refuse(r, 400);
        line_end(r, SIZE_MAX, 0);
    }
    r->stop = r->at + limits->line;
    r->over = 414;
    method(r);
    target(r);
    version(r);
    line_end(r, SIZE_MAX, 0);
    demand(r, !r->head->asterisk || is_method(r, "OPTIONS"), 400);
}

static void field_line(struct reader *r, const reference_limits *limits, size_t section)
{
    reference_head *head = r->head;
    size_t start = r->at, most = limits->field < UINT16_MAX ? limits->field : UINT16_MAX;
    r->stop = start + most < section ? start + most : section;
    r->over = 431;
    while (reference_is_token(look(r)))
        r->at++;
    reference_span name = since(r, start);
    if (name.length == 0)
        refuse(r, 400);
    expect(r, ':');
    size_t end = r->at;
    while (end < r->length && among(r->data[end], " \t") && end < r->stop)
        end++;
    r->at = end;
    reference_span value = {end, 0};
    while (r->at < r->length && r->data[r->at] != '\r') {
        if (!reference_is_value(look(r)))
            refuse(r, 400);
        if (!among(r->data[r->at], " \t"))
            value.length = r->at + 1 - value.offset;
        r->at++;
    }
    line_end(r, section, 431);
    bool is_host;
    demand(r, reference_field(&head->framing, r->data + name.offset, name.length, r->data + value.offset, value.length,
        &is_host), 400);
    if (is_host && !head->target_host)
        head->host = value;
    head->fields[head->field_count].name = name;
    head->fields[head->field_count++].value = value;
}

/* What is malformed comes first, then what is not implemented, then expectations. */
static void judge(struct reader *r)
{
    reference_head *head = r->head;
    const reference_framing *framing = &head->framing;
    bool latest = head->minor > 0, body = framing->coding || framing->content_length > 0;
    demand(r, !latest || framing->host, 400);                            /* RFC 9112 S3.2 */
    demand(r, !framing->coding || (latest && !framing->length), 400);    /* S6.1, S6.3 */
    demand(r, !is_method(r, "TRACE") || !body, 400);                     /* RFC 9110 S9.3.8 */
    demand(r, !framing->other_coding, 501);
    demand(r, !latest || !framing->other_expectation, 417);              /* RFC 9110 S10.1.1 */
    head->expect_continue = latest && framing->expect;
    head->upgrade = latest && framing->upgrade && framing->upgrade_option;
    head->keep_alive = !framing->close_option && (latest || framing->keep_alive_option); /* RFC 9112 S9.3 */
}

void reference_head_read(reference_head *head, const char *data, size_t length, const reference_limits *limits)
{
    struct reader r = {.head = head, .data = data, .length = length, .stop = SIZE_MAX};
    memset(head, 0, sizeof *head);
    reference_framing_init(&head->framing);
    if (setjmp(r.done) == 0) {
        request_line(&r, limits);
        size_t section = r.at + limits->head;
        for (r.stop = SIZE_MAX; look(&r) != '\r'; r.stop = SIZE_MAX) {
            if (head->field_count == limits->fields || head->field_count == REFERENCE_FIELDS)
                refuse(&r, 431);
            field_line(&r, limits, section);
        }
        line_end(&r, SIZE_MAX, 0);
        judge(&r);
        finish(&r, 1);
    }
}
