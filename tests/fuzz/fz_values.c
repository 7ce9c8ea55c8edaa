/* Fuzzes the small readers of the core, each against a naive one: hosts, searches
 * for the end of a class, framing fields, method names, finding a field, and the
 * field lines of fixed answers. (Percent encoding, queries and cookies are Python.)
 * An input is a byte that chooses the reader, then its text. */
#include "fuzz.h"
#include "http.h"
#include "mutate_http.h"
#include "parser.h"
#include "reference_http.h"

const size_t fuzz_prefix = 2;

static void check_host(const char *text, size_t length)
{
    DEMAND(ck_host_port(text, length) == reference_host_port(text, length));
}

static size_t naive_run(const char *text, size_t length, bool (*is)(char byte))
{
    size_t at = 0;
    while (at < length && is(text[at]))
        at++;
    return at;
}

/* From each of 16 places, so that the block search sees every alignment. */
static void check_scans(const char *text, size_t length)
{
    for (size_t at = 0; at < 16 && at <= length; at++) {
        const char *rest = text + at;
        size_t left = length - at;
        DEMAND(ck_scan_token(rest, left) == naive_run(rest, left, reference_is_token));
        DEMAND(ck_scan_path(rest, left) == naive_run(rest, left, reference_is_path));
        DEMAND(ck_scan_query(rest, left) == naive_run(rest, left, reference_is_query));
        DEMAND(ck_scan_value(rest, left) == naive_run(rest, left, reference_is_value));
    }
}

static void strip(const char **text, size_t *length)
{
    while (*length > 0 && (**text == ' ' || **text == '\t')) {
        ++*text;
        --*length;
    }
    while (*length > 0 && ((*text)[*length - 1] == ' ' || (*text)[*length - 1] == '\t'))
        --*length;
}

/* Takes "name: value" lines; stops where a line has no colon. */
static bool next_field(const char **text, size_t *left, ck_field *field, const char *start)
{
    const char *colon = *left ? memchr(*text, ':', *left) : NULL;
    if (!colon)
        return false;
    const char *end = memchr(colon, '\n', *left - (size_t)(colon - *text));
    const char *stop = end ? end : *text + *left, *value = colon + 1;
    size_t name_length = (size_t)(colon - *text), length = (size_t)(stop - value);
    strip(&value, &length);
    *field = (ck_field){(uint32_t)(*text - start), (uint32_t)(value - start), (uint16_t)name_length, (uint16_t)length};
    *left -= (size_t)(stop - *text) + (end ? 1 : 0);
    *text = end ? end + 1 : stop;
    return true;
}

/* Fields, one after another, until one is refused. */
static void check_framing(const char *text, size_t length)
{
    ck_head head;
    ck_field field;
    reference_framing wanted;
    ck_head_limits limits = {0, 0, 0, 0};
    struct reader r = {&head, text, length, 0, &limits};
    const char *at = text;
    size_t left = length;
    ck_head_init(&head);
    reference_framing_init(&wanted);
    while (next_field(&at, &left, &field, text)) {
        bool is_host, accepted = reference_field(&wanted, text + field.name_offset, field.name_length,
            text + field.value_offset, field.value_length, &is_host);
        int result = ck_note_field(&r, &field);
        DEMAND(result == (accepted ? (int)CK_HEAD_ON : -400));
        if (!accepted)
            return;
        if (is_host)
            DEMAND(head.host.offset == field.value_offset && head.host.length == field.value_length);
    }
    DEMAND(head.content_length == wanted.content_length && head.chunked == wanted.chunked);
    DEMAND(((head.seen & OTHER_CODING) != 0) == wanted.other_coding);
    DEMAND(((head.seen & OTHER_EXPECTATION) != 0) == wanted.other_expectation);
    DEMAND(((head.seen & CLOSE_OPTION) != 0) == wanted.close_option);
    DEMAND(((head.seen & KEEP_ALIVE_OPTION) != 0) == wanted.keep_alive_option);
    DEMAND(((head.seen & UPGRADE_OPTION) != 0) == wanted.upgrade_option);
}

static void check_method(const char *text, size_t length)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"};
    int wanted = 0;
    while (wanted < CK_METHOD_OTHER && !fuzz_same(text, length, names[wanted], strlen(names[wanted])))
        wanted++;
    DEMAND(ck_method_number(text, length) == wanted);
}

/* The first line is the name to look for. */
static void check_find(const char *text, size_t length)
{
    static ck_head head;
    char name[256];
    size_t name_length = 0;
    const char *at = text;
    size_t left = length;
    for (; left > 0 && *at != '\n' && name_length < sizeof name; at++, left--)
        name[name_length++] = *at >= 'A' && *at <= 'Z' ? (char)(*at - 'A' + 'a') : *at;
    if (left > 0 && *at == '\n')
        at++, left--;
    ck_head_init(&head);
    while (head.field_count < CK_MAX_FIELDS && next_field(&at, &left, &head.fields[head.field_count], text))
        head.field_count++;
    char *lower = calloc(1, name_length + 1);
    DEMAND(lower != NULL);
    memcpy(lower, name, name_length);
    bool comparable = strlen(lower) == name_length; /* the naive comparison takes a string */
    int from = 0;
    for (int i = 0; comparable && i < head.field_count; i++) {
        if (!reference_equals(text + head.fields[i].name_offset, head.fields[i].name_length, lower))
            continue;
        DEMAND(ck_head_find(&head, text, lower, name_length, from) == i);
        from = i + 1;
    }
    DEMAND(!comparable || ck_head_find(&head, text, lower, name_length, from) == -1);
    free(lower);
}

/* Whether all is field lines that an application may write, none of them the server's own. */
static bool lines_valid(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        size_t name = naive_run(text + at, length - at, reference_is_token);
        const char *start = text + at;
        at += name;
        if (name == 0 || at == length || text[at++] != ':')
            return false;
        at += naive_run(text + at, length - at, reference_is_value);
        if (length - at < 2 || text[at] != '\r' || text[at + 1] != '\n')
            return false;
        at += 2;
        if (reference_equals(start, name, "content-length") || reference_equals(start, name, "transfer-encoding")
            || reference_equals(start, name, "connection") || reference_equals(start, name, "date"))
            return false;
    }
    return true;
}

static void check_lines(const char *text, size_t length)
{
    DEMAND((ck_fields_check(text, length) == CK_OK) == lines_valid(text, length));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static void (*const checks[])(const char *, size_t) = {
        check_host, check_scans, check_framing, check_method, check_find, check_lines,
    };
    fuzz_input in = {input, size};
    uint8_t choice = fuzz_byte(&in);
    (void)fuzz_byte(&in); /* all HTTP targets have two bytes in front */
    char *exact = fuzz_copy((const char *)in.data, in.length);
    checks[choice % (sizeof checks / sizeof checks[0])](exact, in.length);
    free(exact);
    return 0;
}
