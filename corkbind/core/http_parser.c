/* A strict HTTP/1.1 request parser (RFC 9112, RFC 9110).
 *
 * The head is a sequence of parts (method, path, version, field name, ...). For
 * each part one function finds, with the searches of scan.h, where the part
 * ends, checks it, and moves `at` and `phase` on. Such a function returns ON, or
 * CK_HEAD_MORE when the bytes ran out, or a refusal. The next call goes on in
 * the same part at the same byte, so that no byte is searched twice, and whole,
 * split and dribbled heads take the same way through the same code.
 *
 * A refusal is decided by the shortest prefix that cannot go on. To keep that
 * true in every feed, a part never looks behind a limit: it sees the bytes up to
 * the stop of its line (`line_stop`), and the byte at the stop is over the limit.
 * What depends on a whole line (a host, a length, a list) is checked at its LF;
 * what depends on several fields, at the LF of the empty line: first what is
 * malformed (400), then what is not implemented (501), then expectations (417).
 *
 * The chunked coding is the second half of the file: a table for the size line,
 * a few states for the rest, one byte at a time except for payload. */
#include "http_parser.h"
#include "scan.h"

#include <string.h>

enum { ON = 2 }; /* beside CK_HEAD_MORE and CK_HEAD_DONE: the part is complete */

enum phase {
    LEADING, METHOD, TARGET, AUTHORITY, PATH, QUERY, VERSION, REQUEST_LINE_END,
    FIELD_START, NAME, LEADING_SPACE, VALUE, FIELD_END, HEAD_END, COMPLETE, REFUSED
};

/* Fields with a meaning for framing, or of which there may be only one. */
enum known {
    UNKNOWN, HOST, EXPECT, UPGRADE, CONNECTION, CONTENT_TYPE, AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING,
    WEBSOCKET_KEY
};

#define BIT(known) (1U << (known))

enum {
    SINGLETONS = BIT(HOST) | BIT(EXPECT) | BIT(CONTENT_TYPE) | BIT(AUTHORIZATION) | BIT(CONTENT_LENGTH)
        | BIT(TRANSFER_ENCODING) | BIT(WEBSOCKET_KEY),
    /* What else ck_head.seen remembers. */
    TARGET_HOST = 1 << 16,      /* the target has an authority */
    OTHER_CODING = 1 << 17,     /* a transfer coding that is not implemented */
    OTHER_EXPECTATION = 1 << 18,
    CLOSE_OPTION = 1 << 19,     /* Connection: close */
    KEEP_ALIVE_OPTION = 1 << 20,
    UPGRADE_OPTION = 1 << 21,
};

enum {
    MAX_LEADING_LINES = 2,      /* empty lines before the request line, RFC 9112 S2.2 */
    MAX_HOST = 255,             /* of a name in the DNS, RFC 1035 S2.3.4 */
    MAX_LENGTH_DIGITS = 19,     /* digits of 2^63 - 1 */
    VERSION_LENGTH = 8,         /* HTTP/1.1 */
};

struct reader {
    ck_head *head;
    const char *data;
    size_t length;
    size_t at;
    const ck_head_limits *limits;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whether the text is `lower`, which holds no capitals, in any case. Only letters
 * are folded: setting 0x20 in every byte would make "@" and "`" the same. */
static bool same(const char *text, const char *lower, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        char byte = text[i];
        if (byte >= 'A' && byte <= 'Z')
            byte = (char)(byte | 0x20);
        if (byte != lower[i])
            return false;
    }
    return true;
}

static bool is_text(const char *text, size_t length, const char *lower)
{
    return length == strlen(lower) && same(text, lower, length);
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Removes optional white space (RFC 9110 S5.6.3) from both ends. */
static void trim(const char **text, size_t *length)
{
    while (*length > 0 && is_blank((*text)[0])) {
        ++*text;
        --*length;
    }
    while (*length > 0 && is_blank((*text)[*length - 1]))
        --*length;
}

static ck_span span_between(size_t start, size_t end)
{
    return (ck_span){(uint32_t)start, (uint32_t)(end - start)};
}

/* --- Hosts ------------------------------------------------------------- */

/* IPv4address of RFC 3986 S3.2.2: four numbers up to 255 without leading zeros. */
static bool ipv4_valid(const char *text, size_t length)
{
    size_t at = 0;
    for (int part = 0; part < 4; part++) {
        if (part > 0 && (at == length || text[at++] != '.'))
            return false;
        size_t start = at;
        unsigned value = 0;
        while (at < length && at - start < 3 && ck_byte_is(text[at], CK_IN_DIGIT))
            value = value * 10 + (unsigned)(text[at++] - '0');
        if (at == start || value > 255 || (text[start] == '0' && at - start > 1))
            return false;
    }
    return at == length;
}

/* IPv6address of RFC 3986 S3.2.2: eight groups, or fewer around one "::". */
static bool ipv6_valid(const char *text, size_t length)
{
    unsigned groups = 0;
    size_t at = 0;
    bool gap = length >= 2 && text[0] == ':' && text[1] == ':';
    if (gap)
        at = 2;
    while (at < length) {
        size_t start = at;
        while (at < length && at - start < 4 && ck_byte_is(text[at], CK_IN_HEX))
            at++;
        if (at < length && text[at] == '.') {
            groups += 2;
            if (!ipv4_valid(text + start, length - start))
                return false;
            break;
        }
        groups++;
        if (at == start)
            return false;
        if (at == length)
            break;
        if (text[at++] != ':' || at == length)
            return false;
        if (text[at] == ':') {
            if (gap)
                return false;
            gap = true;
            at++;
        }
    }
    return gap ? groups < 8 : groups == 8;
}

/* A name: labels of unreserved bytes, of which only the last may be empty. */
static bool name_valid(const char *text, size_t length)
{
    if (length == 0 || length > MAX_HOST || text[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!ck_byte_is(text[i], CK_IN_HOST) || text[i] == ':' || text[i] == '[' || text[i] == ']')
            return false;
        if (text[i] == '.' && i > 0 && text[i - 1] == '.')
            return false;
    }
    return true;
}

enum { PORT_NONE = -1, HOST_BAD = -2 };

/* uri-host [ ":" port ], RFC 9110 S7.2.
 * Returns the port, PORT_NONE when there is none or an empty one, or HOST_BAD. */
static int host_port(const char *text, size_t length)
{
    const char *colon = length ? memchr(text, ':', length) : NULL;
    size_t end = colon ? (size_t)(colon - text) : length;
    if (length > 0 && text[0] == '[') {
        const char *bracket = memchr(text, ']', length);
        if (!bracket || !ipv6_valid(text + 1, (size_t)(bracket - text) - 1))
            return HOST_BAD;
        end = (size_t)(bracket - text) + 1;
    } else if (!name_valid(text, end)) {
        return HOST_BAD;
    }
    if (end == length)
        return PORT_NONE;
    if (text[end] != ':' || length - end > sizeof ":65535" - 1)
        return HOST_BAD;
    int port = 0;
    for (size_t i = end + 1; i < length; i++) {
        if (!ck_byte_is(text[i], CK_IN_DIGIT))
            return HOST_BAD;
        port = port * 10 + (text[i] - '0');
    }
    if (port > 65535)
        return HOST_BAD;
    return end + 1 == length ? PORT_NONE : port;
}

/* --- Request line -------------------------------------------------------- */

/* The end of what a part of this line may look at. */
static size_t line_stop(const struct reader *r)
{
    size_t stop = r->head->line_start + (size_t)r->limits->line;
    return smaller(r->length, stop);
}

/* The part reached `stop`: either there are no more bytes, or too many. */
static int ran_out(const struct reader *r, size_t stop, int over)
{
    return stop == r->length ? CK_HEAD_MORE : over;
}

/* Takes CR LF, of which no byte may lie at `limit` or after it. Neither bare CR
 * nor bare LF ends a line (RFC 9112 S2.2 lets a server accept bare LF). */
static int line_end(struct reader *r, size_t limit)
{
    for (size_t i = 0; i < 2; i++) {
        if (r->at + i == r->length)
            return CK_HEAD_MORE;
        if (r->at + i >= limit)
            return -431;
        if (r->data[r->at + i] != "\r\n"[i])
            return -400;
    }
    r->at += 2;
    r->head->line_start = (uint32_t)r->at;
    return ON;
}

/* RFC 9112 S2.2: ignore at least one empty line before the request line. */
static int leading_lines(struct reader *r)
{
    while (r->at < r->length && r->data[r->at] == '\r') {
        if (r->head->leading == MAX_LEADING_LINES)
            return -400;
        int result = line_end(r, SIZE_MAX);
        if (result != ON)
            return result;
        r->head->leading++;
    }
    if (r->at == r->length)
        return CK_HEAD_MORE;
    r->head->phase = METHOD;
    return ON;
}

static uint8_t method_number(const char *name, size_t length)
{
    static const char names[][8] = {
        [CK_GET] = "GET", [CK_HEAD] = "HEAD", [CK_POST] = "POST", [CK_PUT] = "PUT", [CK_PATCH] = "PATCH",
        [CK_DELETE] = "DELETE", [CK_OPTIONS] = "OPTIONS", [CK_CONNECT] = "CONNECT", [CK_TRACE] = "TRACE",
    };
    /* Methods are case-sensitive, RFC 9110 S9.1. */
    for (uint8_t i = 0; i < CK_METHOD_OTHER; i++)
        if (names[i][0] == name[0] && strlen(names[i]) == length && memcmp(names[i], name, length) == 0)
            return i;
    return CK_METHOD_OTHER;
}

static int method(struct reader *r)
{
    ck_head *head = r->head;
    size_t start = head->line_start, stop = line_stop(r);
    while (r->at < stop && ck_byte_is(r->data[r->at], CK_IN_TOKEN)) {
        if (r->at - start == CK_MAX_METHOD)
            return -501; /* RFC 9112 S3: longer than any it implements */
        r->at++;
    }
    if (r->at == stop)
        return ran_out(r, stop, -414);
    if (r->at == start || r->data[r->at] != ' ')
        return -400;
    head->method_name = span_between(start, r->at);
    head->method = method_number(r->data + start, r->at - start);
    r->at++;
    head->target = span_between(r->at, r->at);
    head->phase = TARGET;
    return ON;
}

static int target_end(struct reader *r)
{
    r->head->target = span_between(r->head->target.offset, r->at);
    r->at++;
    r->head->phase = VERSION;
    return ON;
}

/* Takes "http://" or "https://" of the absolute form. */
static int scheme(struct reader *r, size_t stop)
{
    static const char *const schemes[] = {"http://", "https://"};
    const char *text = r->data + r->at;
    int result = -400;
    for (size_t i = 0; i < 2; i++) {
        size_t whole = strlen(schemes[i]), there = smaller(stop - r->at, whole);
        if (!same(text, schemes[i], there))
            continue;
        if (there < whole) {
            result = ran_out(r, stop, -414);
            continue;
        }
        r->at += whole;
        r->head->host = span_between(r->at, r->at);
        r->head->seen |= TARGET_HOST;
        r->head->phase = AUTHORITY;
        return ON;
    }
    return result;
}

/* Finds the form of the target, RFC 9112 S3.2, by its first bytes. */
static int target(struct reader *r)
{
    ck_head *head = r->head;
    size_t stop = line_stop(r);
    if (r->at == stop)
        return ran_out(r, stop, -414);
    if (head->method == CK_CONNECT) { /* S3.2.3 */
        head->host = span_between(r->at, r->at);
        head->seen |= TARGET_HOST;
        head->phase = AUTHORITY;
        return ON;
    }
    if (r->data[r->at] == '/') { /* S3.2.1 */
        head->path = span_between(r->at, r->at);
        head->phase = PATH;
        return ON;
    }
    if (r->data[r->at] != '*')
        return scheme(r, stop); /* S3.2.2 */
    if (r->at + 1 == stop)
        return ran_out(r, stop, -414);
    if (r->data[++r->at] != ' ')
        return -400;
    head->asterisk = true; /* S3.2.4 */
    head->path = span_between(r->at, r->at);
    return target_end(r);
}

/* The authority of the absolute form, or that of CONNECT, which is all there is. */
static int authority(struct reader *r)
{
    ck_head *head = r->head;
    size_t stop = line_stop(r);
    while (r->at < stop && ck_byte_is(r->data[r->at], CK_IN_HOST))
        r->at++;
    if (r->at == stop)
        return ran_out(r, stop, -414);
    head->host = span_between(head->host.offset, r->at);
    int port = host_port(r->data + head->host.offset, head->host.length);
    char byte = r->data[r->at];
    head->path = span_between(r->at, r->at);
    if (head->method == CK_CONNECT) /* RFC 9110 S9.3.6: refuse an empty or invalid port */
        return port > 0 && byte == ' ' ? target_end(r) : -400;
    if (port == HOST_BAD) /* also userinfo, RFC 9110 S4.2.4 */
        return -400;
    if (byte == ' ')
        return target_end(r);
    if (byte != '/' && byte != '?')
        return -400;
    head->phase = PATH;
    return ON;
}

/* Takes "%" and two digits, RFC 3986 S2.1. An encoded NUL is refused as a NUL. */
static int percent(struct reader *r, size_t stop)
{
    for (size_t i = 1; i <= 2; i++) {
        if (r->at + i == stop)
            return ran_out(r, stop, -414);
        if (!ck_byte_is(r->data[r->at + i], CK_IN_HEX))
            return -400;
    }
    if (r->data[r->at + 1] == '0' && r->data[r->at + 2] == '0')
        return -400;
    r->at += 3;
    return ON;
}

/* Takes the path, or the query when that is the phase, up to its end. */
static int path_or_query(struct reader *r)
{
    ck_head *head = r->head;
    size_t stop = line_stop(r);
    bool in_path = head->phase == PATH;
    for (;;) {
        const char *rest = r->data + r->at;
        r->at += in_path ? ck_scan_path(rest, stop - r->at) : ck_scan_query(rest, stop - r->at);
        if (r->at == stop)
            return ran_out(r, stop, -414);
        if (r->data[r->at] != '%')
            break;
        int result = percent(r, stop);
        if (result != ON)
            return result;
    }
    ck_span *part = in_path ? &head->path : &head->query;
    *part = span_between(part->offset, r->at);
    if (r->data[r->at] == ' ')
        return target_end(r);
    if (!in_path || r->data[r->at] != '?')
        return -400;
    r->at++;
    head->query = span_between(r->at, r->at);
    head->phase = QUERY;
    return ON;
}

/* HTTP-name "/" DIGIT "." DIGIT, RFC 9112 S2.3. */
static int version(struct reader *r)
{
    ck_head *head = r->head;
    size_t start = (size_t)head->target.offset + head->target.length + 1, stop = line_stop(r);
    if (stop - start >= VERSION_LENGTH && memcmp(r->data + start, "HTTP/1.1", VERSION_LENGTH) == 0)
        r->at = start + VERSION_LENGTH;
    for (; r->at < start + VERSION_LENGTH; r->at++) {
        if (r->at == stop)
            return ran_out(r, stop, -414);
        char form = "HTTP/0.0"[r->at - start], byte = r->data[r->at];
        if (form == '0' ? !ck_byte_is(byte, CK_IN_DIGIT) : byte != form)
            return -400;
    }
    if (r->data[start + 5] != '1')
        return -505;
    head->minor_version = r->data[start + 7] != '0'; /* RFC 9110 S6.2: a higher minor is read as the highest known */
    head->phase = REQUEST_LINE_END;
    return ON;
}

static int request_line_end(struct reader *r)
{
    int result = line_end(r, SIZE_MAX);
    if (result != ON)
        return result;
    if (r->head->asterisk && r->head->method != CK_OPTIONS) /* RFC 9112 S3.2.4 */
        return -400;
    r->head->fields_start = r->head->line_start;
    r->head->phase = FIELD_START;
    return ON;
}

static int request_line(struct reader *r)
{
    int result = ON;
    while (result == ON && r->head->phase < FIELD_START) {
        switch (r->head->phase) {
        case LEADING: result = leading_lines(r); break;
        case METHOD: result = method(r); break;
        case TARGET: result = target(r); break;
        case AUTHORITY: result = authority(r); break;
        case VERSION: result = version(r); break;
        case REQUEST_LINE_END: result = request_line_end(r); break;
        default: result = path_or_query(r); break;
        }
    }
    return result;
}

/* --- Fields that framing needs --------------------------------------------- */

/* Looks at the length and the first letter before it compares. */
static enum known recognise(const char *name, size_t length)
{
    static const char *const names[] = {
        [HOST] = "host", [EXPECT] = "expect", [UPGRADE] = "upgrade", [CONNECTION] = "connection",
        [CONTENT_TYPE] = "content-type", [AUTHORIZATION] = "authorization", [CONTENT_LENGTH] = "content-length",
        [TRANSFER_ENCODING] = "transfer-encoding", [WEBSOCKET_KEY] = "sec-websocket-key",
    };
    static const uint8_t by_length[] = {
        [4] = HOST, [6] = EXPECT, [7] = UPGRADE, [10] = CONNECTION, [12] = CONTENT_TYPE, [13] = AUTHORIZATION,
        [14] = CONTENT_LENGTH, [17] = TRANSFER_ENCODING,
    };
    if (length >= sizeof by_length)
        return UNKNOWN;
    enum known known = by_length[length];
    if (known == TRANSFER_ENCODING && (name[0] | 0x20) == 's')
        known = WEBSOCKET_KEY;
    return known != UNKNOWN && same(name, names[known], length) ? known : UNKNOWN;
}

/* 1*DIGIT, RFC 9110 S8.6; no list, though RFC 9112 S6.3 would let equal values pass. */
static int content_length(ck_head *head, const char *text, size_t length)
{
    uint64_t value = 0;
    if (length == 0 || length > MAX_LENGTH_DIGITS)
        return -400;
    for (size_t i = 0; i < length; i++) {
        if (!ck_byte_is(text[i], CK_IN_DIGIT))
            return -400;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (value > INT64_MAX)
        return -400;
    head->content_length = (int64_t)value;
    return ON;
}

/* RFC 9112 S6.1 and S7: a list of codings, where chunked comes once, and last. */
static int transfer_encoding(ck_head *head, const char *text, size_t length)
{
    for (;;) {
        const char *comma = length ? memchr(text, ',', length) : NULL;
        size_t size = comma ? (size_t)(comma - text) : length;
        const char *coding = text;
        size_t coding_length = size;
        trim(&coding, &coding_length);
        if (coding_length == 0 || ck_scan_token(coding, coding_length) < coding_length)
            return -400;
        if (memchr(coding, '\'', coding_length)) /* a token, but meant as a quote: no coding has one */
            return -400;
        if (!is_text(coding, coding_length, "chunked"))
            head->seen |= OTHER_CODING;
        else if (comma)
            return -400; /* S6.3: another coding after it leaves no way to find the end */
        else
            head->chunked = true;
        if (!comma)
            return ON;
        text += size + 1;
        length -= size + 1;
    }
}

/* Collects the options that matter, RFC 9110 S7.6.1. */
static void connection(ck_head *head, const char *text, size_t length)
{
    for (;;) {
        const char *comma = length ? memchr(text, ',', length) : NULL;
        size_t size = comma ? (size_t)(comma - text) : length;
        const char *option = text;
        size_t option_length = size;
        trim(&option, &option_length);
        if (is_text(option, option_length, "close"))
            head->seen |= CLOSE_OPTION;
        else if (is_text(option, option_length, "keep-alive"))
            head->seen |= KEEP_ALIVE_OPTION;
        else if (is_text(option, option_length, "upgrade"))
            head->seen |= UPGRADE_OPTION;
        if (!comma)
            return;
        text += size + 1;
        length -= size + 1;
    }
}

/* Looks at a complete field. */
static int note_field(struct reader *r, const ck_field *field)
{
    ck_head *head = r->head;
    enum known known = recognise(r->data + field->name_offset, field->name_length);
    if (known == UNKNOWN)
        return ON;
    if (head->seen & BIT(known) & SINGLETONS) /* RFC 9110 S5.3; S7.2 for Host */
        return -400;
    head->seen |= BIT(known);
    const char *value = r->data + field->value_offset;
    size_t length = field->value_length;
    switch (known) {
    case HOST:
        if (host_port(value, length) == HOST_BAD) /* RFC 9112 S3.2 */
            return -400;
        if (!(head->seen & TARGET_HOST)) /* S3.2.2: the target's comes first */
            head->host = (ck_span){field->value_offset, field->value_length};
        return ON;
    case CONTENT_LENGTH:
        return content_length(head, value, length);
    case TRANSFER_ENCODING:
        return transfer_encoding(head, value, length);
    case CONNECTION:
        connection(head, value, length);
        return ON;
    case EXPECT:
        if (!is_text(value, length, "100-continue"))
            head->seen |= OTHER_EXPECTATION;
        return ON;
    default:
        return ON;
    }
}

/* --- Field lines --------------------------------------------------------- */

/* The first byte after the field section that is allowed. */
static size_t section_stop(const struct reader *r)
{
    return r->head->fields_start + (size_t)r->limits->head;
}

static size_t field_stop(const struct reader *r)
{
    size_t line = r->head->line_start + smaller(r->limits->field, UINT16_MAX);
    return smaller(r->length, smaller(line, section_stop(r)));
}

static int field_start(struct reader *r)
{
    ck_head *head = r->head;
    if (r->at == r->length)
        return CK_HEAD_MORE;
    if (r->data[r->at] == '\r') {
        head->phase = HEAD_END;
        return ON;
    }
    if (head->field_count >= smaller(r->limits->fields, CK_MAX_FIELDS))
        return -431;
    head->fields[head->field_count].name_offset = (uint32_t)r->at;
    head->phase = NAME;
    return ON;
}

/* A token and ":", with nothing between (RFC 9112 S5.1) and nothing before, which
 * also refuses obs-fold (S5.2). */
static int field_name(struct reader *r, size_t stop)
{
    ck_head *head = r->head;
    r->at += ck_scan_token(r->data + r->at, stop - r->at);
    if (r->at == stop)
        return ran_out(r, stop, -431);
    size_t length = r->at - head->line_start;
    if (length == 0 || r->data[r->at] != ':')
        return -400;
    head->fields[head->field_count].name_length = (uint16_t)length;
    r->at++;
    head->phase = LEADING_SPACE;
    return ON;
}

static int leading_space(struct reader *r, size_t stop)
{
    while (r->at < stop && is_blank(r->data[r->at]))
        r->at++;
    if (r->at == r->length)
        return CK_HEAD_MORE;
    r->head->fields[r->head->field_count].value_offset = (uint32_t)r->at;
    r->head->phase = VALUE;
    return ON;
}

/* A line of exactly the limit ends at `stop`, so that CR may stand there. */
static int field_value(struct reader *r, size_t stop)
{
    ck_field *field = &r->head->fields[r->head->field_count];
    r->at += ck_scan_value(r->data + r->at, stop - r->at);
    if (r->at == r->length)
        return CK_HEAD_MORE;
    if (r->data[r->at] != '\r')
        return r->at == stop ? -431 : -400;
    size_t end = r->at;
    while (end > field->value_offset && is_blank(r->data[end - 1]))
        end--;
    field->value_length = (uint16_t)(end - field->value_offset);
    r->head->phase = FIELD_END;
    return ON;
}

/* Takes one field line, from where the last call stopped. */
static int field_line(struct reader *r)
{
    ck_head *head = r->head;
    int result = ON;
    if (head->phase == FIELD_START)
        result = field_start(r);
    size_t stop = field_stop(r);
    if (result == ON && head->phase == NAME)
        result = field_name(r, stop);
    if (result == ON && head->phase == LEADING_SPACE)
        result = leading_space(r, stop);
    if (result == ON && head->phase == VALUE)
        result = field_value(r, stop);
    if (result != ON || head->phase != FIELD_END)
        return result;
    result = line_end(r, section_stop(r));
    if (result != ON)
        return result;
    head->phase = FIELD_START;
    return note_field(r, &head->fields[head->field_count++]);
}

/* What the fields mean together. */
static int head_end(struct reader *r)
{
    ck_head *head = r->head;
    int result = line_end(r, SIZE_MAX);
    if (result != ON)
        return result;
    bool latest = head->minor_version > 0, coded = (head->seen & BIT(TRANSFER_ENCODING)) != 0;
    if (latest && !(head->seen & BIT(HOST))) /* RFC 9112 S3.2 */
        return -400;
    if (coded && (!latest || head->content_length != CK_NO_LENGTH)) /* S6.1, S6.3 */
        return -400;
    if (head->method == CK_TRACE && (coded || head->content_length > 0)) /* RFC 9110 S9.3.8 */
        return -400;
    if (head->seen & OTHER_CODING) /* RFC 9112 S6.1 */
        return -501;
    if (latest && (head->seen & OTHER_EXPECTATION)) /* RFC 9110 S10.1.1 */
        return -417;
    head->expect_continue = latest && (head->seen & BIT(EXPECT));
    head->upgrade = latest && (head->seen & UPGRADE_OPTION) && (head->seen & BIT(UPGRADE)); /* S7.8 */
    head->keep_alive = !(head->seen & CLOSE_OPTION) && (latest || (head->seen & KEEP_ALIVE_OPTION)); /* RFC 9112 S9.3 */
    head->length = (uint32_t)r->at;
    head->phase = COMPLETE;
    return CK_HEAD_DONE;
}

/* --- Interface of the head parser ------------------------------------------ */

void ck_head_init(ck_head *head)
{
    memset(head, 0, offsetof(ck_head, fields));
    head->content_length = CK_NO_LENGTH;
    head->line_start = head->scanned = head->fields_start = head->seen = 0;
    head->phase = LEADING;
    head->leading = 0;
}

int ck_head_parse(ck_head *head, const char *data, size_t length, const ck_head_limits *limits)
{
    struct reader r = {head, data, length, (size_t)head->line_start + head->scanned, limits};
    if (head->phase == COMPLETE)
        return CK_HEAD_DONE;
    if (head->phase == REFUSED)
        return -(int)head->seen;
    int result = request_line(&r);
    while (result == ON && head->phase != HEAD_END)
        result = field_line(&r);
    if (result == ON)
        result = head_end(&r);
    head->scanned = (uint32_t)(r.at - head->line_start);
    if (result < 0) { /* There is no going on, even for a caller that tries. */
        head->phase = REFUSED;
        head->seen = (uint32_t)-result;
    }
    return result;
}

int ck_head_find(const ck_head *head, const char *data, const char *lower_name, size_t name_length, int from)
{
    for (int i = from; i < head->field_count; i++) {
        const ck_field *field = &head->fields[i];
        if (field->name_length == name_length && same(data + field->name_offset, lower_name, name_length))
            return i;
    }
    return -1;
}

/* --- Chunked coding -------------------------------------------------------- */

enum {
    MAX_SIZE_DIGITS = 16,
    MAX_SIZE_LINE = 256,          /* bytes of a size line with its extensions, without CRLF */
    MAX_TRAILER_BYTES = 8 * 1024, /* of the field lines, line ends included */
    MAX_TRAILER_FIELDS = 32,
    FREE_OVERHEAD = 64 * 1024,    /* framing bytes that any message may have, */
    OVERHEAD_RATIO = 4,           /* and those for each byte of payload */
};

/* The states of the decoder. Those before SIZE_LF are rows of the table below. */
enum chunk_state {
    BAD, SIZE, SIZE_BLANK, EXTENSION, EXTENSION_NAME, NAME_BLANK, EXTENSION_EQUALS, EXTENSION_VALUE, QUOTED, ESCAPE,
    QUOTE_END, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_NAME, TRAILER_VALUE, TRAILER_LF, END_LF, MESSAGE_END
};

/* What a byte is to the size line. */
enum chunk_byte { TOKEN, BLANK, SEMICOLON, EQUALS, QUOTE, BACKSLASH, RETURN, TEXT, OTHER, CHUNK_BYTES };

/* RFC 9112 S7.1: chunk-size [ chunk-ext ] CRLF
 * S7.1.1: chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )
 * White space is only where a ";", a name, a "=" or a value follows. */
static const uint8_t size_line[SIZE_LF][CHUNK_BYTES] = {
    [SIZE] = {[BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
    [SIZE_BLANK] = {[BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION},
    [EXTENSION] = {[BLANK] = EXTENSION, [TOKEN] = EXTENSION_NAME},
    [EXTENSION_NAME] = {[TOKEN] = EXTENSION_NAME, [BLANK] = NAME_BLANK, [EQUALS] = EXTENSION_EQUALS,
        [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
    [NAME_BLANK] = {[BLANK] = NAME_BLANK, [EQUALS] = EXTENSION_EQUALS, [SEMICOLON] = EXTENSION},
    [EXTENSION_EQUALS] = {[BLANK] = EXTENSION_EQUALS, [TOKEN] = EXTENSION_VALUE, [QUOTE] = QUOTED},
    [EXTENSION_VALUE] = {[TOKEN] = EXTENSION_VALUE, [BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
    [QUOTED] = {[TOKEN] = QUOTED, [BLANK] = QUOTED, [SEMICOLON] = QUOTED, [EQUALS] = QUOTED, [TEXT] = QUOTED,
        [QUOTE] = QUOTE_END, [BACKSLASH] = ESCAPE},
    [ESCAPE] = {[TOKEN] = QUOTED, [BLANK] = QUOTED, [SEMICOLON] = QUOTED, [EQUALS] = QUOTED, [TEXT] = QUOTED,
        [QUOTE] = QUOTED, [BACKSLASH] = QUOTED},
    [QUOTE_END] = {[BLANK] = SIZE_BLANK, [SEMICOLON] = EXTENSION, [RETURN] = SIZE_LF},
};

static enum chunk_byte chunk_byte(char byte)
{
    switch (byte) {
    case ' ':
    case '\t': return BLANK;
    case ';': return SEMICOLON;
    case '=': return EQUALS;
    case '"': return QUOTE;
    case '\\': return BACKSLASH;
    case '\r': return RETURN;
    default: break;
    }
    if (ck_byte_is(byte, CK_IN_TOKEN))
        return TOKEN;
    /* obs-text, which RFC 9110 S5.6.4 lets a quoted string hold, is refused. */
    return ck_byte_is(byte, CK_IN_VALUE) && (uint8_t)byte < 0x80 ? TEXT : OTHER;
}

static unsigned hex_value(char byte)
{
    return byte <= '9' ? (unsigned)(byte - '0') : (unsigned)((byte | 0x20) - 'a') + 10;
}

/* RFC 9112 S7.1: anticipate large numbers. All sizes of a message together stay
 * below 2^63 - 1. */
static int size_digit(ck_chunked *chunked, char byte)
{
    if (chunked->digits == MAX_SIZE_DIGITS)
        return -400;
    chunked->digits++;
    chunked->size = chunked->size << 4 | hex_value(byte);
    return chunked->size < INT64_MAX - chunked->payload ? CK_CHUNK_MORE : -400;
}

static int size_line_byte(ck_chunked *chunked, char byte)
{
    if (byte != '\r' && ++chunked->line_length > MAX_SIZE_LINE)
        return -400;
    if (chunked->state == SIZE) {
        if (ck_byte_is(byte, CK_IN_HEX))
            return size_digit(chunked, byte);
        if (chunked->digits == 0)
            return -400;
    }
    chunked->state = size_line[chunked->state][chunk_byte(byte)];
    return chunked->state == BAD ? -400 : CK_CHUNK_MORE;
}

static void next_chunk(ck_chunked *chunked)
{
    chunked->state = SIZE;
    chunked->size = 0;
    chunked->digits = 0;
    chunked->line_length = 0;
}

static bool overhead_exceeded(const ck_chunked *chunked)
{
    if (chunked->overhead <= FREE_OVERHEAD)
        return false;
    /* overhead - FREE > RATIO * payload, in a form that cannot overflow */
    return (chunked->overhead - FREE_OVERHEAD - 1) / OVERHEAD_RATIO >= chunked->payload;
}

/* Takes a byte that is neither payload nor part of a trailer field. */
static int framing_byte(ck_chunked *chunked, char byte)
{
    chunked->overhead++;
    if (overhead_exceeded(chunked))
        return -400;
    switch (chunked->state) {
    case SIZE_LF:
        chunked->state = chunked->size > 0 ? DATA : TRAILER;
        return byte == '\n' ? CK_CHUNK_MORE : -400;
    case DATA_CR:
        chunked->state = DATA_LF;
        return byte == '\r' ? CK_CHUNK_MORE : -400;
    case DATA_LF:
        next_chunk(chunked);
        return byte == '\n' ? CK_CHUNK_MORE : -400;
    case TRAILER: /* at the empty line */
        chunked->state = END_LF;
        return CK_CHUNK_MORE;
    case END_LF:
        chunked->state = MESSAGE_END;
        return byte == '\n' ? CK_CHUNK_END : -400;
    default:
        return size_line_byte(chunked, byte);
    }
}

/* RFC 9110 S6.5.1: nothing in a trailer may change framing or routing. */
static bool trailer_forbidden(const ck_chunked *chunked)
{
    static const char *const names[] = {"content-length", "transfer-encoding", "host"};
    for (size_t i = 0; i < 3; i++)
        if (is_text(chunked->name, chunked->name_length, names[i]))
            return true;
    return false;
}

static int trailer_name_byte(ck_chunked *chunked, char byte)
{
    if (byte == ':') {
        chunked->state = TRAILER_VALUE;
        return chunked->name_length == 0 || trailer_forbidden(chunked) ? -400 : CK_CHUNK_MORE;
    }
    if (!ck_byte_is(byte, CK_IN_TOKEN))
        return -400;
    if (chunked->name_length < sizeof chunked->name)
        chunked->name[chunked->name_length++] = byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte;
    return CK_CHUNK_MORE;
}

/* Takes a byte of a trailer field line, RFC 9112 S7.1.2. */
static int trailer_byte(ck_chunked *chunked, char byte)
{
    if (++chunked->trailer_bytes > MAX_TRAILER_BYTES)
        return -431;
    switch (chunked->state) {
    case TRAILER:
        if (++chunked->trailer_fields > MAX_TRAILER_FIELDS)
            return -431;
        chunked->name_length = 0;
        chunked->state = TRAILER_NAME;
        return trailer_name_byte(chunked, byte);
    case TRAILER_NAME:
        return trailer_name_byte(chunked, byte);
    case TRAILER_VALUE:
        if (byte == '\r')
            chunked->state = TRAILER_LF;
        else if (!ck_byte_is(byte, CK_IN_VALUE))
            return -400;
        return CK_CHUNK_MORE;
    default:
        chunked->state = TRAILER;
        return byte == '\n' ? CK_CHUNK_MORE : -400;
    }
}

static bool in_trailer_line(const ck_chunked *chunked, char byte)
{
    return chunked->state >= TRAILER && chunked->state <= TRAILER_LF && !(chunked->state == TRAILER && byte == '\r');
}

/* Takes trailer field lines as far as the input goes.
 * Returns how many bytes, or minus the status. */
static int trailer_run(ck_chunked *chunked, const char *data, size_t length)
{
    size_t at = 0; /* stays below MAX_TRAILER_BYTES */
    while (at < length && in_trailer_line(chunked, data[at])) {
        int result = trailer_byte(chunked, data[at++]);
        if (result < 0)
            return result;
    }
    return (int)at;
}

void ck_chunked_init(ck_chunked *chunked)
{
    memset(chunked, 0, sizeof *chunked);
    next_chunk(chunked);
}

/* Gives a span from the start of the input to the caller. */
static int give(int event, size_t used, const char **data, size_t *length, const char **span, size_t *span_length)
{
    *span = *data;
    *span_length = used;
    *data += used;
    *length -= used;
    return event;
}

static size_t payload_run(ck_chunked *chunked, size_t length)
{
    size_t used = chunked->size < length ? (size_t)chunked->size : length;
    chunked->size -= used;
    chunked->payload += used;
    if (chunked->size == 0)
        chunked->state = DATA_CR;
    return used;
}

int ck_chunked_next(ck_chunked *chunked, const char **data, size_t *length, const char **span, size_t *span_length)
{
    if (chunked->state == MESSAGE_END)
        return CK_CHUNK_END;
    while (*length > 0 && chunked->state != BAD) {
        if (chunked->state == DATA) {
            size_t used = payload_run(chunked, *length);
            return give(CK_CHUNK_DATA, used, data, length, span, span_length);
        }
        int result = CK_CHUNK_MORE;
        if (in_trailer_line(chunked, **data)) {
            result = trailer_run(chunked, *data, *length);
            if (result > 0)
                return give(CK_CHUNK_TRAILER, (size_t)result, data, length, span, span_length);
        } else {
            result = framing_byte(chunked, **data);
            ++*data;
            --*length;
        }
        if (result != CK_CHUNK_MORE) {
            if (result < 0)
                chunked->state = BAD;
            return result;
        }
    }
    return chunked->state == BAD ? -400 : CK_CHUNK_MORE;
}
