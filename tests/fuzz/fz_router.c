/* Fuzzes the router against a list that is searched from its start to its end. An
 * input is text, a line each:
 *
 *     +M/pattern    adds a route for method number M (a digit, or * for any)
 *     ?M/path       looks a path up, with all candidates
 *     !N            the N-th allocation from now on fails
 *
 * The naive matcher takes patterns apart into segments, tries every one, and sorts
 * what fits by the rules that router.h states. */
#include "fuzz.h"
#include "libusockets_ext.h"
#include "router.h"

#include <errno.h>

enum { ROUTES = 64, SEGMENTS = 64, PIECE_MAX = 512 };

enum segment_kind { STATIC, NAMED, TAIL };

struct segment {
    enum segment_kind kind;
    size_t start, length;
};

/* A pattern or a path, and its segments. */
struct pieces {
    const char *text;
    size_t length;
    struct segment segments[SEGMENTS];
    size_t count;
};

struct route {
    struct pieces pattern;
    int method, number;
};

static struct {
    struct route routes[ROUTES];
    int count, added;
} model;

/* ---- Memory that can run out ---- */

static long blocks, until_failure;

static void *memory_alloc(struct us_sys_t *sys, size_t size)
{
    (void)sys;
    if (until_failure > 0 && --until_failure == 0)
        return NULL;
    blocks++;
    return malloc(size);
}

static void memory_release(struct us_sys_t *sys, void *memory)
{
    (void)sys;
    blocks -= memory != NULL;
    free(memory);
}

static struct us_sys_t memory_sys = {.alloc = memory_alloc, .release = memory_release};

/* ---- The naive matcher ---- */

/* Cuts at every "/" behind the first. Returns false where there are too many for the model. */
static bool cut(struct pieces *pieces, const char *text, size_t length)
{
    *pieces = (struct pieces){.text = text, .length = length};
    size_t start = 1;
    for (size_t at = 1; at <= length; at++) {
        if (at < length && text[at] != '/')
            continue;
        if (pieces->count == SEGMENTS)
            return false;
        pieces->segments[pieces->count++] = (struct segment){STATIC, start, at - start};
        start = at + 1;
    }
    return true;
}

/* Gives the segments of a pattern their kinds. Returns what ck_router_add has to. */
static int judge_pattern(struct pieces *pattern)
{
    int parameters = 0;
    for (size_t i = 0; i < pattern->count; i++) {
        struct segment *segment = &pattern->segments[i];
        const char *text = pattern->text + segment->start;
        bool star = segment->length == 1 && text[0] == '*', named = segment->length > 0 && text[0] == ':';
        if ((star && i + 1 < pattern->count) || (named && segment->length == 1))
            return -EINVAL;
        segment->kind = star ? TAIL : named ? NAMED : STATIC;
        if ((star || named) && ++parameters > CK_MAX_PARAMETERS)
            return -E2BIG;
    }
    return 0;
}

static bool same_text(const struct pieces *a, const struct segment *x, const struct pieces *b, const struct segment *y)
{
    return fuzz_same(a->text + x->start, x->length, b->text + y->start, y->length);
}

static bool same_pattern(const struct pieces *a, const struct pieces *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct segment *x = &a->segments[i], *y = &b->segments[i];
        if (x->kind != y->kind || (x->kind == STATIC && !same_text(a, x, b, y)))
            return false;
    }
    return true;
}

/* Whether the pattern takes the path, and with which parameters. */
static bool fits(const struct pieces *pattern, const struct pieces *path, ck_match *match)
{
    match->parameter_count = 0;
    for (size_t i = 0; i < pattern->count; i++) {
        const struct segment *wants = &pattern->segments[i];
        if (i >= path->count)
            return false;
        const struct segment *has = &path->segments[i];
        if (wants->kind == STATIC) {
            if (!same_text(pattern, wants, path, has))
                return false;
            continue;
        }
        size_t length = wants->kind == TAIL ? path->length - has->start : has->length;
        if (wants->kind == NAMED && length == 0)
            return false;
        match->parameters[match->parameter_count++] = (ck_span){(uint32_t)has->start, (uint32_t)length};
        if (wants->kind == TAIL)
            return true;
    }
    return pattern->count == path->count;
}

/* The place of a route's method among those that answer a request: its own, GET for HEAD, any. */
static int method_rank(int method, int wanted)
{
    if (method == wanted)
        return 0;
    if (wanted == CK_HEAD && method == CK_GET)
        return 1;
    return method == CK_METHOD_ANY ? 2 : -1;
}

/* Whether route a comes before route b, both of which fit. */
static bool before(const struct route *a, const struct route *b, int method)
{
    for (size_t i = 0; i < a->pattern.count && i < b->pattern.count; i++)
        if (a->pattern.segments[i].kind != b->pattern.segments[i].kind)
            return a->pattern.segments[i].kind < b->pattern.segments[i].kind;
    return method_rank(a->method, method) < method_rank(b->method, method);
}

/* Finds every candidate in order. Returns how many; `allowed` gets the methods of all that fit. */
static int candidates(const struct pieces *path, int method, const struct route **found, uint32_t *allowed)
{
    int count = 0;
    ck_match match;
    *allowed = 0;
    for (int i = 0; i < model.count; i++) {
        const struct route *route = &model.routes[i];
        if (!fits(&route->pattern, path, &match))
            continue;
        *allowed |= 1U << route->method;
        if (method_rank(route->method, method) < 0)
            continue;
        int at = count++;
        for (; at > 0 && before(route, found[at - 1], method); at--)
            found[at] = found[at - 1];
        found[at] = route;
    }
    if (*allowed & 1U << CK_GET)
        *allowed |= 1U << CK_HEAD;
    return count;
}

/* ---- The lines ---- */

static int method_of(char byte)
{
    return byte == '*' ? CK_METHOD_ANY : (unsigned char)(byte - '0') % CK_METHOD_ANY;
}

static void add_line(ck_router *router, const char *line, size_t length)
{
    struct route fresh = {.method = method_of(line[0]), .number = model.added};
    line++, length--;
    if (model.count == ROUTES || !cut(&fresh.pattern, line, length))
        return;
    int wanted = length == 0 || line[0] != '/' ? -EINVAL : judge_pattern(&fresh.pattern);
    int result = ck_router_add(router, fresh.method, line, length, fresh.number);
    DEMAND(result == wanted || (wanted == 0 && result == -ENOMEM && until_failure == 0));
    if (result != 0)
        return;
    model.added++;
    for (int i = 0; i < model.count; i++) {
        if (model.routes[i].method == fresh.method && same_pattern(&model.routes[i].pattern, &fresh.pattern)) {
            model.routes[i] = fresh;
            return;
        }
    }
    model.routes[model.count++] = fresh;
}

static void demand_match(const ck_match *match, const struct route *route, const struct pieces *path, bool empty)
{
    ck_match wanted;
    DEMAND(match->route == route->number && fits(&route->pattern, path, &wanted));
    DEMAND(match->parameter_count == wanted.parameter_count);
    for (int i = 0; i < wanted.parameter_count; i++) {
        ck_span found = match->parameters[i], expected = empty ? (ck_span){0, 0} : wanted.parameters[i];
        DEMAND(found.offset == expected.offset && found.length == expected.length);
    }
}

static void find_line(const ck_router *router, const char *line, size_t length)
{
    const struct route *found[ROUTES];
    struct pieces path;
    ck_match match;
    uint32_t allowed;
    int method = method_of(line[0]) % CK_METHOD_ANY;
    line++, length--;
    if (length > 0 && line[0] != '/') {
        DEMAND(ck_router_find(router, method, line, length, 0, &match) == CK_ROUTE_NONE);
        return;
    }
    if (!cut(&path, length ? line : "/", length ? length : 1))
        return;
    int count = candidates(&path, method, found, &allowed);
    for (int nth = 0; nth < count; nth++) {
        DEMAND(ck_router_find(router, method, line, length, nth, &match) == 0);
        demand_match(&match, found[nth], &path, length == 0);
    }
    int after = ck_router_find(router, method, line, length, count, &match);
    DEMAND(after == (count == 0 && allowed ? CK_ROUTE_WRONG_METHOD : CK_ROUTE_NONE));
    DEMAND(after == CK_ROUTE_NONE || match.allowed == allowed);
}

static void run_line(ck_router *router, const char *line, size_t length)
{
    if (length < 2 || length > PIECE_MAX)
        return;
    if (line[0] == '+')
        add_line(router, line + 1, length - 1);
    else if (line[0] == '?')
        find_line(router, line + 1, length - 1);
    else if (line[0] == '!')
        until_failure = (unsigned char)line[1] % 8;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    char *text = fuzz_copy((const char *)input, size);
    model.count = model.added = 0;
    until_failure = blocks = 0;
    ck_router *router = ck_router_create(&memory_sys);
    DEMAND(router != NULL);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text) - at : size - at;
        run_line(router, text + at, length);
        at += length + 1;
    }
    ck_router_free(router);
    DEMAND(blocks == 0);
    free(text);
    return 0;
}
