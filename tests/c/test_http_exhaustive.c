/* What is small is tried completely, against a slow reader written straight from
 * the grammars: every byte value at every place of typical heads and bodies
 * (put in place of a byte, and in front of it), every pair of bytes around line
 * ends, every short chunk size. The reader here shares nothing with the parser:
 * it takes a line, then takes the line apart. */
#include "http_parser.h"

#include "check.h"

#include <arpa/inet.h>
#include <stdbool.h>

static const ck_head_limits limits = {8192, 32768, 16384, 100};
static struct guarded memory;

/* --- The grammars ------------------------------------------------------ */

struct text {
    const char *at;
    size_t length;
};

static bool among(char byte, const char *set)
{
    return byte != 0 && strchr(set, byte) != NULL;
}

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static bool is_hex(char byte)
{
    return among(byte, "0123456789abcdefABCDEF");
}

/* RFC 9110 S5.6.2 */
static bool is_tchar(char byte)
{
    return is_letter(byte) || is_digit(byte) || among(byte, "!#$%&'*+-.^_`|~");
}

/* RFC 9110 S5.5, with SP and HTAB */
static bool is_field_byte(char byte)
{
    unsigned value = (unsigned char)byte;
    return value == '\t' || (value >= 0x20 && value <= 0x7E) || value >= 0x80;
}

static bool all_of(struct text text, bool (*is)(char byte))
{
    for (size_t i = 0; i < text.length; i++)
        if (!is(text.at[i]))
            return false;
    return true;
}

static bool equals(struct text text, const char *lower)
{
    if (text.length != strlen(lower))
        return false;
    for (size_t i = 0; i < text.length; i++) {
        char byte = text.at[i];
        if (byte >= 'A' && byte <= 'Z')
            byte = (char)(byte - 'A' + 'a');
        if (byte != lower[i])
            return false;
    }
    return true;
}

static struct text part(struct text text, size_t from, size_t to)
{
    return (struct text){text.at + from, to - from};
}

/* The index of the first such byte, or the length. */
static size_t find(struct text text, const char *set)
{
    size_t i = 0;
    while (i < text.length && !among(text.at[i], set))
        i++;
    return i;
}

static struct text stripped(struct text text)
{
    while (text.length > 0 && among(text.at[0], " \t"))
        text = part(text, 1, text.length);
    while (text.length > 0 && among(text.at[text.length - 1], " \t"))
        text.length--;
    return text;
}

/* RFC 3986 S3.2.2, with the C library as the judge of addresses. */
static bool host_ok(struct text text, struct text *port)
{
    char name[300];
    struct in6_addr address;
    size_t end;
    if (text.length > 0 && text.at[0] == '[') {
        end = find(text, "]");
        if (end == text.length || end > sizeof name || end < 2)
            return false;
        memcpy(name, text.at + 1, end - 1);
        name[end - 1] = 0;
        if (strlen(name) != end - 1 || inet_pton(AF_INET6, name, &address) != 1)
            return false;
        end++;
    } else {
        end = find(text, ":");
        if (end == 0 || end > 255 || text.at[0] == '.')
            return false;
        for (size_t i = 0; i < end; i++)
            if (!is_letter(text.at[i]) && !is_digit(text.at[i]) && !among(text.at[i], "-._~"))
                return false;
        for (size_t i = 1; i < end; i++)
            if (text.at[i] == '.' && text.at[i - 1] == '.')
                return false;
    }
    *port = part(text, end, text.length);
    if (port->length == 0)
        return true;
    if (port->at[0] != ':' || port->length > 6)
        return false;
    *port = part(*port, 1, port->length);
    long number = 0;
    for (size_t i = 0; i < port->length; i++)
        number = number * 10 + (port->at[i] - '0');
    return all_of(*port, is_digit) && number <= 65535;
}

/* --- The reference for heads --------------------------------------------- */

struct reference {
    struct text method, path, query, host;
    long long length;
    int minor, fields;
    bool absolute, asterisk, has_host, has_coding, chunked, other_coding, has_expect, other_expect;
    bool close, keep_alive, upgrade_option, upgrade_field;
    int content_types, authorizations, keys;
};

static bool percents_ok(struct text text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] != '%')
            continue;
        if (i + 2 >= text.length || !is_hex(text.at[i + 1]) || !is_hex(text.at[i + 2]))
            return false;
        if (text.at[i + 1] == '0' && text.at[i + 2] == '0')
            return false;
    }
    return true;
}

static bool path_ok(struct text text, const char *more)
{
    for (size_t i = 0; i < text.length; i++)
        if (!is_letter(text.at[i]) && !is_digit(text.at[i]) && !among(text.at[i], "-._~!$&'()*+,;=:@/%")
            && !among(text.at[i], more))
            return false;
    return percents_ok(text);
}

/* RFC 9112 S3.2 */
static bool reference_target(struct reference *r, struct text target)
{
    struct text rest = target, port;
    if (equals(r->method, "connect") && memcmp(r->method.at, "CONNECT", 7) == 0) {
        r->host = target;
        r->absolute = true;
        return host_ok(target, &port) && port.length > 0 && strspn(port.at, "0") < port.length;
    }
    if (target.length == 1 && target.at[0] == '*') {
        r->asterisk = true;
        return true;
    }
    size_t slash = find(target, "/");
    if (slash > 0) {
        if (slash + 1 >= target.length || target.at[slash + 1] != '/')
            return false;
        struct text scheme = part(target, 0, slash);
        if (!equals(scheme, "http:") && !equals(scheme, "https:"))
            return false;
        rest = part(target, slash + 2, target.length);
        size_t end = find(rest, "/?");
        r->host = part(rest, 0, end);
        r->absolute = true;
        if (!host_ok(r->host, &port))
            return false;
        rest = part(rest, end, rest.length);
    } else if (target.length == 0) {
        return false;
    }
    size_t question = find(rest, "?");
    r->path = part(rest, 0, question);
    if (question < rest.length)
        r->query = part(rest, question + 1, rest.length);
    return path_ok(r->path, "") && path_ok(r->query, "?\"[]^{|}");
}

/* A request line without its end. */
static int reference_line(struct reference *r, struct text line)
{
    size_t i = 0;
    while (i < line.length && is_tchar(line.at[i]))
        i++;
    if (i > 32)
        return -501;
    if (i == 0 || i == line.length || line.at[i] != ' ')
        return -400;
    r->method = part(line, 0, i);
    struct text rest = part(line, i + 1, line.length);
    size_t space = find(rest, " ");
    if (space == rest.length || !reference_target(r, part(rest, 0, space)))
        return -400;
    struct text version = part(rest, space + 1, rest.length);
    if (version.length < 8 || memcmp(version.at, "HTTP/", 5) != 0 || !is_digit(version.at[5]) || version.at[6] != '.'
        || !is_digit(version.at[7]))
        return -400;
    if (version.at[5] != '1')
        return -505;
    if (version.length != 8)
        return -400;
    r->minor = version.at[7] != '0';
    return 1;
}

static bool reference_coding(struct reference *r, struct text value)
{
    char seen[100] = ""; /* one letter for each coding */
    for (bool more = true; more;) {
        size_t comma = find(value, ",");
        struct text coding = stripped(part(value, 0, comma));
        if (coding.length == 0 || !all_of(coding, is_tchar) || find(coding, "'") < coding.length)
            return false;
        if (strlen(seen) + 1 < sizeof seen)
            strcat(seen, equals(coding, "chunked") ? "c" : "o");
        more = comma < value.length;
        value = part(value, more ? comma + 1 : comma, value.length);
    }
    const char *first = strchr(seen, 'c');
    r->chunked = strcmp(seen, "c") == 0;
    r->other_coding = strchr(seen, 'o') != NULL;
    return first == NULL || first[1] == 0;
}

static void reference_connection(struct reference *r, struct text value)
{
    for (bool more = true; more;) {
        size_t comma = find(value, ",");
        struct text option = stripped(part(value, 0, comma));
        r->close |= equals(option, "close");
        r->keep_alive |= equals(option, "keep-alive");
        r->upgrade_option |= equals(option, "upgrade");
        more = comma < value.length;
        value = part(value, more ? comma + 1 : comma, value.length);
    }
}

static bool reference_length(struct reference *r, struct text value)
{
    char digits[20] = "";
    if (r->length >= 0 || value.length == 0 || value.length > 19 || !all_of(value, is_digit))
        return false;
    memcpy(digits, value.at, value.length);
    unsigned long long number = strtoull(digits, NULL, 10);
    r->length = (long long)number;
    return number <= INT64_MAX;
}

/* A field line without its end. */
static bool reference_field(struct reference *r, struct text line)
{
    struct text port;
    size_t colon = find(line, ":");
    if (colon == 0 || colon == line.length)
        return false;
    struct text name = part(line, 0, colon), value = stripped(part(line, colon + 1, line.length));
    if (!all_of(name, is_tchar) || !all_of(part(line, colon + 1, line.length), is_field_byte))
        return false;
    r->fields++;
    if (equals(name, "host")) {
        bool again = r->has_host;
        r->has_host = true;
        if (!r->absolute)
            r->host = value;
        return !again && host_ok(value, &port);
    }
    if (equals(name, "transfer-encoding")) {
        bool again = r->has_coding;
        r->has_coding = true;
        return !again && reference_coding(r, value);
    }
    if (equals(name, "content-length"))
        return reference_length(r, value);
    if (equals(name, "expect")) {
        bool again = r->has_expect;
        r->has_expect = true;
        r->other_expect = !equals(value, "100-continue");
        return !again;
    }
    if (equals(name, "connection"))
        reference_connection(r, value);
    r->upgrade_field |= equals(name, "upgrade");
    r->content_types += equals(name, "content-type");
    r->authorizations += equals(name, "authorization");
    r->keys += equals(name, "sec-websocket-key");
    return r->content_types < 2 && r->authorizations < 2 && r->keys < 2;
}

static int reference_end(const struct reference *r)
{
    if (r->minor == 1 && !r->has_host)
        return -400;
    if (r->has_coding && (r->minor == 0 || r->length >= 0))
        return -400;
    if (r->method.length == 5 && memcmp(r->method.at, "TRACE", 5) == 0 && (r->has_coding || r->length > 0))
        return -400;
    if (r->other_coding)
        return -501;
    if (r->other_expect && r->minor == 1)
        return -417;
    return 1;
}

/* Takes a line and its end off the input. Returns 1, 0 when it is not complete, -400. */
static int take_line(struct text *input, struct text *line)
{
    size_t end = find(*input, "\r\n");
    *line = part(*input, 0, end);
    if (end == input->length || (end + 1 == input->length && input->at[end] == '\r'))
        return 0;
    if (input->at[end] != '\r' || input->at[end + 1] != '\n')
        return -400;
    *input = part(*input, end + 2, input->length);
    return 1;
}

static int reference_head(struct reference *r, struct text input)
{
    struct text line;
    memset(r, 0, sizeof *r);
    r->length = -1;
    int ended = take_line(&input, &line);
    for (int empty = 0; ended == 1 && line.length == 0 && empty < 2; empty++)
        ended = take_line(&input, &line);
    if (ended == 0)
        return 0;
    int result = reference_line(r, line);
    if (result < 0 || ended < 0)
        return result < 0 ? result : ended;
    if (r->asterisk && !(r->method.length == 7 && memcmp(r->method.at, "OPTIONS", 7) == 0))
        return -400;
    while ((ended = take_line(&input, &line)) == 1 && line.length > 0)
        if (!reference_field(r, line))
            return -400;
    return ended == 1 ? reference_end(r) : ended;
}

/* Whether nothing that could follow makes the open input a head. */
static bool hopeless_head(struct text input)
{
    static const char *const ends[] = {"\r\n\r\n", "\n\r\n", "\n", ":\r\n\r\n", "X:\r\n\r\n", "a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "/ HTTP/1.1\r\nHost: a\r\n\r\n",
        " / HTTP/1.1\r\nHost: a\r\n\r\n", " HTTP/1.1\r\nHost: a\r\n\r\n"};
    char text[400];
    struct reference r;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t rest = strlen(ends[i]);
        memcpy(text, input.at, input.length);
        memcpy(text + input.length, ends[i], rest);
        if (reference_head(&r, (struct text){text, input.length + rest}) != -400)
            return false;
    }
    return true;
}

static void reference_render(const struct reference *r, char *out, size_t capacity)
{
    bool latest = r->minor == 1;
    snprintf(out, capacity, "%.*s|%.*s|%.*s|%.*s|%lld|%d|%s%s%s%s%s|%d", (int)r->method.length, r->method.at,
        (int)r->path.length, r->path.at, (int)r->query.length, r->query.at, (int)r->host.length, r->host.at, r->length,
        r->minor, !r->close && (latest || r->keep_alive) ? "K" : "", r->chunked ? "C" : "",
        latest && r->has_expect ? "E" : "", latest && r->upgrade_option && r->upgrade_field ? "U" : "",
        r->asterisk ? "*" : "", r->fields);
}

/* --- Heads ----------------------------------------------------------------- */

static void render(const ck_head *head, const char *data, char *out, size_t capacity)
{
    snprintf(out, capacity, "%.*s|%.*s|%.*s|%.*s|%lld|%d|%s%s%s%s%s|%d", (int)head->method_name.length,
        data + head->method_name.offset, (int)head->path.length, data + head->path.offset, (int)head->query.length,
        data + head->query.offset, (int)head->host.length, data + head->host.offset, (long long)head->content_length,
        head->minor_version, head->keep_alive ? "K" : "", head->chunked ? "C" : "", head->expect_continue ? "E" : "",
        head->upgrade ? "U" : "", head->asterisk ? "*" : "", head->field_count);
}

static void report(const char *data, size_t length, int gave, int expected)
{
    if (checks_failed > 20)
        return;
    fprintf(stderr, "    gave %d, not %d, for: ", gave, expected);
    for (size_t i = 0; i < length; i++)
        fprintf(stderr, data[i] >= ' ' && data[i] < 0x7F ? "%c" : "\\x%02x", (unsigned char)data[i]);
    fputc('\n', stderr);
}

/* Whole at a protected page against the reference; in two pieces, cut at `cut`;
 * and byte by byte when asked to. */
static void check_head(const char *data, size_t length, size_t cut, bool bytes)
{
    struct reference reference;
    ck_head head, split;
    char expected[400], given[400];
    const char *place = guarded_at_end(&memory, data, length);
    int wanted = reference_head(&reference, (struct text){place, length});
    if (wanted == CK_HEAD_MORE && hopeless_head((struct text){place, length}))
        wanted = -400; /* a bad byte does not wait for the end of its line */
    ck_head_init(&head);
    int result = ck_head_parse(&head, place, length, &limits);
    if (!CHECK(result == wanted))
        report(data, length, result, wanted);
    if (result == CK_HEAD_DONE && wanted == CK_HEAD_DONE) {
        reference_render(&reference, expected, sizeof expected);
        render(&head, place, given, sizeof given);
        if (!CHECK(strcmp(expected, given) == 0))
            fprintf(stderr, "    gave %s, not %s\n", given, expected);
    }
    ck_head_init(&split);
    int first = ck_head_parse(&split, place, cut, &limits);
    if (first == CK_HEAD_MORE)
        first = ck_head_parse(&split, place, length, &limits);
    CHECK(first == result);
    if (!bytes)
        return;
    ck_head_init(&split);
    first = CK_HEAD_MORE;
    for (size_t n = 0; n <= length && first == CK_HEAD_MORE; n++)
        first = ck_head_parse(&split, place, n, &limits);
    CHECK(first == result);
    if (result == CK_HEAD_DONE)
        CHECK(memcmp(&head, &split, offsetof(ck_head, fields)) == 0);
}

static const char *const heads[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nPOST /a%4fb/c?d=%20&e HTTP/1.0\r\nX:\r\n\r\n",
    "GET http://h.x:80/p?q HTTP/1.1\r\nhost:\t b.c:8 \r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [1:2::3]:4\r\nA: b\tc\r\n\r\n",
    "CONNECT a:443 HTTP/1.1\r\nHost: a.\r\n\r\n",
    "TRACE / HTTP/1.1\r\nHost: [::1.2.3.4]\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nConnection: a, close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent_Length: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n",
    "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nContent-Type: a\r\nContent-Typf: a\r\nAuthorization: b\r\nAuthorizatioo: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: a\r\nSec-WebSocket-Kez: a\r\nX: \x80\xff\r\n\r\n",
};

static void test_every_byte_in_heads(void)
{
    char text[300];
    for (size_t h = 0; h < sizeof heads / sizeof *heads; h++) {
        size_t length = strlen(heads[h]);
        for (size_t place = 0; place < length; place++) {
            for (int byte = 0; byte < 256; byte++) {
                memcpy(text, heads[h], length);
                text[place] = (char)byte;
                check_head(text, length, place + 1, true);
                memcpy(text + place + 1, heads[h] + place, length - place);
                check_head(text, length + 1, place + 1, false);
            }
            memcpy(text, heads[h], place);
            memcpy(text + place, heads[h] + place + 1, length - place - 1);
            check_head(text, length - 1, place, true);
        }
    }
}

/* Where two bytes are put in. */
static const struct {
    const char *before;
    const char *after;
} pair_places[] = {
    {"", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"GET", "/ HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"GET /", " HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"GET /", "HTTP/1.1\r\nHost: a\r\n\r\n"},
    {"GET / HTTP/1.1", "Host: a\r\n\r\n"},
    {"GET / HTTP/1.1\r\n", "Host: a\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a", "\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a", "X: y\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\n", "\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX", ": y\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\nX:", "y\r\n\r\n"},
    {"GET / HTTP/1.1\r\nHost: a\r\n", ""},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ", "\r\n\r\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", "\r\n\r\n"},
    {"GET / HTTP/1.", "Host: a\r\n\r\n"},
};

static void test_every_pair(void)
{
    char text[200];
    for (size_t p = 0; p < sizeof pair_places / sizeof *pair_places; p++) {
        size_t before = strlen(pair_places[p].before), after = strlen(pair_places[p].after);
        memcpy(text, pair_places[p].before, before);
        memcpy(text + before + 2, pair_places[p].after, after);
        for (int pair = 0; pair < 65536; pair++) {
            text[before] = (char)(pair >> 8);
            text[before + 1] = (char)(pair & 0xFF);
            check_head(text, before + 2 + after, before + 1, false);
        }
    }
}

/* --- The reference for bodies ------------------------------------------- */

/* [ BWS "=" BWS ( token / quoted-string ) ] and what is around it, RFC 9112 S7.1.1;
 * bytes from 0x80 on are refused. Returns the end of one extension, or 0. */
static size_t reference_extension(struct text line, size_t i)
{
#define BLANKS while (i < line.length && among(line.at[i], " \t")) i++
#define TOKEN_AT do { size_t token = i; while (i < line.length && is_tchar(line.at[i])) i++; if (i == token) return 0; } while (0)
    BLANKS;
    if (i == line.length || line.at[i++] != ';')
        return 0;
    BLANKS;
    TOKEN_AT;
    size_t name_end = i;
    BLANKS;
    if (i == line.length || line.at[i] != '=')
        return name_end;
    i++;
    BLANKS;
    if (i == line.length || line.at[i] != '"') {
        TOKEN_AT;
        return i;
    }
    for (i++; i < line.length && line.at[i] != '"'; i++) {
        if (line.at[i] == '\\')
            i++;
        if (i == line.length || !is_field_byte(line.at[i]) || (line.at[i] & 0x80))
            return 0;
    }
    return i < line.length ? i + 1 : 0;
#undef BLANKS
#undef TOKEN_AT
}

/* Returns false for a line that is not chunk-size [ chunk-ext ]. */
static bool reference_size(struct text line, unsigned long long *size)
{
    char digits[17] = "";
    size_t i = 0;
    while (i < line.length && is_hex(line.at[i]))
        i++;
    if (i == 0 || i > 16 || line.length > 256)
        return false;
    memcpy(digits, line.at, i);
    *size = strtoull(digits, NULL, 16);
    while (i < line.length)
        if ((i = reference_extension(line, i)) == 0)
            return false;
    return *size < INT64_MAX;
}

static bool reference_trailer(struct text line)
{
    size_t colon = find(line, ":");
    struct text name = part(line, 0, colon);
    if (colon == 0 || colon == line.length || equals(name, "host") || equals(name, "content-length")
        || equals(name, "transfer-encoding"))
        return false;
    return all_of(name, is_tchar) && all_of(part(line, colon + 1, line.length), is_field_byte);
}

/* Returns CK_CHUNK_END, CK_CHUNK_MORE or -400, and the number of payload bytes. */
static int reference_body(struct text input, size_t *payload)
{
    struct text line;
    unsigned long long size = 1;
    *payload = 0;
    while (size > 0) {
        int ended = take_line(&input, &line);
        if (ended == 0)
            return CK_CHUNK_MORE;
        if (ended < 0 || !reference_size(line, &size))
            return -400;
        if (size == 0)
            break;
        size_t there = size < input.length ? (size_t)size : input.length;
        *payload += there;
        input = part(input, there, input.length);
        for (size_t i = 0; i < 2; i++) {
            if (i == input.length)
                return CK_CHUNK_MORE;
            if (input.at[i] != "\r\n"[i])
                return -400;
        }
        input = part(input, 2, input.length);
    }
    for (;;) {
        int ended = take_line(&input, &line);
        if (ended == 0)
            return CK_CHUNK_MORE;
        if (ended == 1 && line.length == 0)
            return CK_CHUNK_END;
        if (ended < 0 || !reference_trailer(line))
            return -400;
    }
}

/* Whether nothing that could follow makes the open input a body. */
static bool hopeless_body(struct text input)
{
    static const char *const ends[] = {"\r\n\r\n", "\n\r\n", "\n", ":\r\n\r\n", "a:\r\n\r\n", "\"\r\n", "a\"\r\n", "a\r\n",
        "0\r\n\r\n", "\n0\r\n\r\n", "\r\n0\r\n\r\n"};
    char text[200];
    size_t payload;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t rest = strlen(ends[i]);
        memcpy(text, input.at, input.length);
        memcpy(text + input.length, ends[i], rest);
        if (reference_body((struct text){text, input.length + rest}, &payload) != -400)
            return false;
    }
    return true;
}

/* --- Bodies ---------------------------------------------------------------- */

static int decode(const char *data, size_t length, size_t step, size_t *payload)
{
    ck_chunked chunked;
    const char *span;
    size_t size;
    int result = CK_CHUNK_MORE;
    ck_chunked_init(&chunked);
    *payload = 0;
    for (size_t at = 0; at < length && result == CK_CHUNK_MORE; at += step) {
        const char *place = data + at;
        size_t left = step < length - at ? step : length - at;
        do {
            result = ck_chunked_next(&chunked, &place, &left, &span, &size);
            *payload += result == CK_CHUNK_DATA ? size : 0;
        } while (result == CK_CHUNK_DATA || result == CK_CHUNK_TRAILER);
    }
    return result;
}

static void check_body(const char *data, size_t length)
{
    size_t expected, given, dribbled;
    const char *place = guarded_at_end(&memory, data, length);
    int wanted = reference_body((struct text){place, length}, &expected);
    if (wanted == CK_CHUNK_MORE && hopeless_body((struct text){place, length}))
        wanted = -400;
    int whole = decode(place, length, length, &given), bytes = decode(place, length, 1, &dribbled);
    if (!CHECK(whole == wanted && bytes == wanted))
        report(data, length, whole, wanted);
    if (wanted >= 0)
        CHECK(given == expected && dribbled == expected);
}

/* Every text of up to `longest` symbols between the two others. */
static void check_texts(const char *before, const char *symbols, size_t count, size_t longest, const char *after)
{
    char text[64];
    size_t start = strlen(before), rest = strlen(after), total = 1;
    memcpy(text, before, start);
    for (size_t length = 0; length <= longest; length++, total *= count)
        for (size_t number = 0; number < total; number++) {
            size_t left = number;
            for (size_t i = 0; i < length; i++, left /= count)
                text[start + i] = symbols[left % count];
            memcpy(text + start + length, after, rest);
            check_body(text, start + length + rest);
        }
}

static void test_every_short_size(void)
{
    static const char symbols[] = {'0', '5', '9', 'a', 'A', 'f', 'F', 'g', 'G', 'x', 'X', '+', '-', '_', '.', ' ', '\t',
        ';', ':', '=', '"', '<', '\r', '\n'};
    static const char extension[] = {'a', ';', '=', '"', '\\', ' ', '\t', '\r', '['};
    check_texts("", symbols, sizeof symbols, 4, "\r\n");
    check_texts("1", extension, sizeof extension, 5, "\r\nx\r\n");
    check_texts("0;a=", extension, sizeof extension, 4, "\r\n\r\n");
}

static const char *const bodies[] = {
    "5\r\nhello\r\n0\r\n\r\n",
    "0A;a=b;c = \"d\\\"e\"\r\n0123456789\r\n00 ;\tz\r\n\r\n",
    "1\r\nx\r\n0\r\nHosu: y\r\nB:\r\n\r\n",
    "0\r\nContent-Lengti: 1\r\nTransfer-Encodinh: 2\r\n\r\n",
};

static void test_every_byte_in_bodies(void)
{
    char text[100];
    for (size_t b = 0; b < sizeof bodies / sizeof *bodies; b++) {
        size_t length = strlen(bodies[b]);
        for (size_t place = 0; place < length; place++)
            for (int byte = 0; byte < 256; byte++) {
                memcpy(text, bodies[b], length);
                text[place] = (char)byte;
                check_body(text, length);
                memcpy(text + place + 1, bodies[b] + place, length - place);
                check_body(text, length + 1);
            }
    }
}

static const struct {
    const char *before;
    const char *after;
} body_pairs[] = {
    {"", "5\r\nhello\r\n0\r\n\r\n"}, {"5", "hello\r\n0\r\n\r\n"}, {"5;a", "hello\r\n0\r\n\r\n"},
    {"5;a=\"", "\"\r\nhello\r\n0\r\n\r\n"}, {"5\r\nhello", "0\r\n\r\n"}, {"5\r\nhello\r\n0", "\r\n"},
    {"5\r\nhello\r\n0\r\n", ""}, {"0\r\nX: y", "\r\n"}, {"0\r\nX: y\r\n", ""},
};

static void test_every_pair_in_bodies(void)
{
    char text[100];
    for (size_t p = 0; p < sizeof body_pairs / sizeof *body_pairs; p++) {
        size_t before = strlen(body_pairs[p].before), after = strlen(body_pairs[p].after);
        memcpy(text, body_pairs[p].before, before);
        memcpy(text + before + 2, body_pairs[p].after, after);
        for (int pair = 0; pair < 65536; pair++) {
            text[before] = (char)(pair >> 8);
            text[before + 1] = (char)(pair & 0xFF);
            check_body(text, before + 2 + after);
        }
    }
}

/* --- Noise -------------------------------------------------------------------- */

static uint32_t noise_state = 88172645U;

static uint32_t noise(uint32_t below)
{
    noise_state ^= noise_state << 13, noise_state ^= noise_state >> 17, noise_state ^= noise_state << 5;
    return noise_state % below;
}

/* Several changes at once to a head, then the usual comparison. */
static void test_mutations(void)
{
    static const char *const pieces[] = {"\r\n", " ", ":", ",", "\t", "chunked", "Transfer-Encoding:", "Content-Length: 1\r\n",
        "Host: b\r\n", "%41", "?", "/", "http://", "\r", "\n", "Connection: close\r\n", "gzip", "Expect: 100-continue\r\n"};
    char text[600];
    for (int round = 0; round < 200000; round++) {
        const char *base = heads[noise(sizeof heads / sizeof *heads)];
        size_t length = strlen(base);
        memcpy(text, base, length);
        for (uint32_t changes = noise(4) + 1; changes > 0; changes--) {
            size_t place = noise((uint32_t)length);
            const char *piece = pieces[noise(sizeof pieces / sizeof *pieces)];
            size_t size = strlen(piece), cut = noise(3) == 0 ? 1 : 0;
            memmove(text + place + size, text + place + cut, length - place - cut);
            memcpy(text + place, piece, size);
            length = length + size - cut;
        }
        memcpy(text + length, "\r\n\r\n", 4); /* so that no line is left open */
        check_head(text, length + 4, noise((uint32_t)length), true);
    }
}

int main(void)
{
    memory = guarded_create(1024);
    test_every_byte_in_heads();
    test_every_pair();
    test_every_short_size();
    test_every_byte_in_bodies();
    test_every_pair_in_bodies();
    test_mutations();
    return checks_done();
}
