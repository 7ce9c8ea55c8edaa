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
 * malformed (400), then what is not implemented (501), then expectations (417). */
#include "parser.h"

enum phase {
    LEADING, METHOD, TARGET, AUTHORITY, PATH, QUERY, VERSION, REQUEST_LINE_END,
    FIELD_START, NAME, LEADING_SPACE, VALUE, FIELD_END, HEAD_END, COMPLETE, REFUSED
};

enum {
    MAX_LEADING_LINES = 2,      /* empty lines before the request line, RFC 9112 S2.2 */
    VERSION_LENGTH = 8,         /* HTTP/1.1 */
};

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
    return CK_HEAD_ON;
}

/* RFC 9112 S2.2: ignore at least one empty line before the request line. */
static int leading_lines(struct reader *r)
{
    while (r->at < r->length && r->data[r->at] == '\r') {
        if (r->head->leading == MAX_LEADING_LINES)
            return -400;
        int result = line_end(r, SIZE_MAX);
        if (result != CK_HEAD_ON)
            return result;
        r->head->leading++;
    }
    if (r->at == r->length)
        return CK_HEAD_MORE;
    r->head->phase = METHOD;
    return CK_HEAD_ON;
}

const char ck_method_names[CK_METHOD_OTHER][8] = {
    [CK_GET] = "GET", [CK_HEAD] = "HEAD", [CK_POST] = "POST", [CK_PUT] = "PUT", [CK_PATCH] = "PATCH",
    [CK_DELETE] = "DELETE", [CK_OPTIONS] = "OPTIONS", [CK_CONNECT] = "CONNECT", [CK_TRACE] = "TRACE",
};

uint8_t ck_method_number(const char *name, size_t length)
{
    for (uint8_t i = 0; i < CK_METHOD_OTHER; i++)
        if (length && ck_method_names[i][0] == name[0] && strlen(ck_method_names[i]) == length
            && memcmp(ck_method_names[i], name, length) == 0)
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
    head->method = ck_method_number(r->data + start, r->at - start);
    r->at++;
    head->target = span_between(r->at, r->at);
    head->phase = TARGET;
    return CK_HEAD_ON;
}

static int target_end(struct reader *r)
{
    r->head->target = span_between(r->head->target.offset, r->at);
    r->at++;
    r->head->phase = VERSION;
    return CK_HEAD_ON;
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
        return CK_HEAD_ON;
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
        return CK_HEAD_ON;
    }
    if (r->data[r->at] == '/') { /* S3.2.1 */
        head->path = span_between(r->at, r->at);
        head->phase = PATH;
        return CK_HEAD_ON;
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
    int port = ck_host_port(r->data + head->host.offset, head->host.length);
    char byte = r->data[r->at];
    head->path = span_between(r->at, r->at);
    if (head->method == CK_CONNECT) /* RFC 9110 S9.3.6: refuse an empty or invalid port */
        return port > 0 && byte == ' ' ? target_end(r) : -400;
    if (port == CK_HOST_BAD) /* also userinfo, RFC 9110 S4.2.4 */
        return -400;
    if (byte == ' ')
        return target_end(r);
    if (byte != '/' && byte != '?')
        return -400;
    head->phase = PATH;
    return CK_HEAD_ON;
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
    return CK_HEAD_ON;
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
        if (result != CK_HEAD_ON)
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
    return CK_HEAD_ON;
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
    return CK_HEAD_ON;
}

static int request_line_end(struct reader *r)
{
    int result = line_end(r, SIZE_MAX);
    if (result != CK_HEAD_ON)
        return result;
    if (r->head->asterisk && r->head->method != CK_OPTIONS) /* RFC 9112 S3.2.4 */
        return -400;
    r->head->fields_start = r->head->line_start;
    r->head->phase = FIELD_START;
    return CK_HEAD_ON;
}

static int request_line(struct reader *r)
{
    int result = CK_HEAD_ON;
    while (result == CK_HEAD_ON && r->head->phase < FIELD_START) {
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
        return CK_HEAD_ON;
    }
    if (head->field_count >= smaller(r->limits->fields, CK_MAX_FIELDS))
        return -431;
    head->fields[head->field_count].name_offset = (uint32_t)r->at;
    head->phase = NAME;
    return CK_HEAD_ON;
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
    return CK_HEAD_ON;
}

static int leading_space(struct reader *r, size_t stop)
{
    while (r->at < stop && is_blank(r->data[r->at]))
        r->at++;
    if (r->at == r->length)
        return CK_HEAD_MORE;
    r->head->fields[r->head->field_count].value_offset = (uint32_t)r->at;
    r->head->phase = VALUE;
    return CK_HEAD_ON;
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
    return CK_HEAD_ON;
}

/* Takes one field line, from where the last call stopped. */
static int field_line(struct reader *r)
{
    ck_head *head = r->head;
    int result = CK_HEAD_ON;
    if (head->phase == FIELD_START)
        result = field_start(r);
    size_t stop = field_stop(r);
    if (result == CK_HEAD_ON && head->phase == NAME)
        result = field_name(r, stop);
    if (result == CK_HEAD_ON && head->phase == LEADING_SPACE)
        result = leading_space(r, stop);
    if (result == CK_HEAD_ON && head->phase == VALUE)
        result = field_value(r, stop);
    if (result != CK_HEAD_ON || head->phase != FIELD_END)
        return result;
    result = line_end(r, section_stop(r));
    if (result != CK_HEAD_ON)
        return result;
    head->phase = FIELD_START;
    return ck_note_field(r, &head->fields[head->field_count++]);
}

/* What the fields mean together. */
static int head_end(struct reader *r)
{
    ck_head *head = r->head;
    int result = line_end(r, SIZE_MAX);
    if (result != CK_HEAD_ON)
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
    while (result == CK_HEAD_ON && head->phase != HEAD_END)
        result = field_line(&r);
    if (result == CK_HEAD_ON)
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
