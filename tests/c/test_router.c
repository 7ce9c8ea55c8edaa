/* The router: examples as data, every order of candidates against a list that is
 * searched plainly, and memory that runs out at each allocation. */
#include "router.h"

#include "check.h"
#include "libusockets_ext.h"

#include <errno.h>
#include <stdbool.h>

/* A table that counts what is allocated, and fails from some allocation on. */
struct counting_sys {
    struct us_sys_t sys;
    long live;
    long left; /* allocations before failure; negative: no failure */
};

static void *counting_alloc(struct us_sys_t *sys, size_t size)
{
    struct counting_sys *counting = (struct counting_sys *)sys;
    if (counting->left == 0)
        return NULL;
    counting->left -= counting->left > 0;
    counting->live++;
    return malloc(size);
}

static void counting_release(struct us_sys_t *sys, void *block)
{
    ((struct counting_sys *)sys)->live -= block != NULL;
    free(block);
}

static struct counting_sys counting(long left)
{
    return (struct counting_sys){.sys = {.alloc = counting_alloc, .release = counting_release}, .live = 0, .left = left};
}

static int add(ck_router *router, int method, const char *pattern, int route)
{
    return ck_router_add(router, method, pattern, strlen(pattern), route);
}

static struct guarded memory;

static int find(const ck_router *router, int method, const char *path, int nth, ck_match *match)
{
    size_t length = strlen(path);
    memset(match, 0x55, sizeof *match);
    return ck_router_find(router, method, guarded_at_end(&memory, path, length), length, nth, match);
}

/* --- Examples ---------------------------------------------------------- */

static const struct {
    int method;
    const char *pattern;
} routes[] = {
    {CK_GET, "/"},                   /* 0 */
    {CK_GET, "/users"},              /* 1 */
    {CK_GET, "/users/:id"},          /* 2 */
    {CK_GET, "/users/me"},           /* 3 */
    {CK_POST, "/users/:id"},         /* 4 */
    {CK_GET, "/users/:id/posts/:p"}, /* 5 */
    {CK_GET, "/static/*"},           /* 6 */
    {CK_METHOD_ANY, "/static/x"},    /* 7 */
    {CK_HEAD, "/users/me"},          /* 8 */
    {CK_METHOD_ANY, "/any/:a/*"},    /* 9 */
    {CK_GET, "/users/"},             /* 10 */
    {CK_PUT, "/a*b/:n"},              /* 11 */
    {CK_DELETE, "/static/:f"},       /* 12 */
    {CK_GET, "/:x/me"},              /* 13 */
};

static const struct {
    int method;
    const char *path;
    int nth;
    int expected;           /* a route, or CK_ROUTE_* */
    const char *parameters; /* in brackets */
} finds[] = {
    {CK_GET, "/", 0, 0, ""}, {CK_GET, "", 0, 0, ""}, {CK_HEAD, "/", 0, 0, ""}, {CK_GET, "/users", 0, 1, ""},
    {CK_GET, "/users/", 0, 10, ""}, {CK_GET, "/users/42", 0, 2, "[42]"}, {CK_GET, "/users/me", 0, 3, ""},
    {CK_GET, "/users/me", 1, 2, "[me]"}, {CK_GET, "/users/me", 2, 13, "[users]"}, {CK_GET, "/users/me", 3, CK_ROUTE_NONE, ""},
    {CK_HEAD, "/users/me", 0, 8, ""}, {CK_HEAD, "/users/me", 1, 3, ""}, {CK_HEAD, "/users/me", 2, 2, "[me]"},
    {CK_POST, "/users/me", 0, 4, "[me]"}, {CK_GET, "/users/1/posts/2", 0, 5, "[1][2]"},
    {CK_GET, "/users//posts/2", 0, CK_ROUTE_NONE, ""}, {CK_GET, "/users/1/posts/", 0, CK_ROUTE_NONE, ""},
    {CK_GET, "/users/1/posts", 0, CK_ROUTE_NONE, ""}, {CK_GET, "/static/", 0, 6, "[]"},
    {CK_GET, "/static", 0, CK_ROUTE_NONE, ""}, {CK_GET, "/static/a/b/", 0, 6, "[a/b/]"}, {CK_GET, "/static/x", 0, 7, ""},
    {CK_GET, "/static/x", 1, 6, "[x]"}, {CK_METHOD_OTHER, "/static/x", 0, 7, ""}, {CK_DELETE, "/static/x", 1, 12, "[x]"},
    {CK_PATCH, "/any/1/2/3", 0, 9, "[1][2/3]"}, {CK_PATCH, "/any/1/", 0, 9, "[1][]"}, {CK_PATCH, "/any/1", 0, CK_ROUTE_NONE, ""},
    {CK_PUT, "/a*b/c", 0, 11, "[c]"}, {CK_GET, "/Users", 0, CK_ROUTE_NONE, ""}, {CK_GET, "//users", 0, CK_ROUTE_NONE, ""},
    {CK_GET, "users", 0, CK_ROUTE_NONE, ""}, {CK_GET, "*", 0, CK_ROUTE_NONE, ""}, {CK_GET, "/x/me", 0, 13, "[x]"},
    {CK_GET, "/userz", 0, CK_ROUTE_NONE, ""}, {CK_PUT, "/users", 0, CK_ROUTE_WRONG_METHOD, ""},
    {CK_PUT, "/users/me", 0, CK_ROUTE_WRONG_METHOD, ""}, {CK_PUT, "/users/me", 1, CK_ROUTE_NONE, ""},
    {CK_METHOD_OTHER, "/static/y", 0, CK_ROUTE_WRONG_METHOD, ""},
};

static void render(const ck_match *match, const char *path, char *out)
{
    *out = 0;
    for (int i = 0; i < match->parameter_count; i++)
        out += sprintf(out, "[%.*s]", (int)match->parameters[i].length, path + match->parameters[i].offset);
}

static void test_examples(void)
{
    struct counting_sys sys = counting(-1);
    ck_router *router = ck_router_create(&sys.sys);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        CHECK_FOR(routes[i].pattern, add(router, routes[i].method, routes[i].pattern, (int)i) == 0);
    long live = sys.live;
    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        ck_match match;
        char text[200];
        int result = find(router, finds[i].method, finds[i].path, finds[i].nth, &match);
        CHECK_FOR(finds[i].path, (result == 0 ? match.route : result) == finds[i].expected);
        render(&match, finds[i].path, text);
        CHECK_FOR(finds[i].path, strcmp(text, finds[i].parameters) == 0);
    }
    CHECK(sys.live == live);
    ck_match match;
    CHECK(find(router, CK_PUT, "/users/me", 0, &match) == CK_ROUTE_WRONG_METHOD);
    CHECK(match.allowed == ((1U << CK_GET) | (1U << CK_HEAD) | (1U << CK_POST)));
    CHECK(find(router, CK_PUT, "/users", 0, &match) == CK_ROUTE_WRONG_METHOD);
    CHECK(match.allowed == ((1U << CK_GET) | (1U << CK_HEAD)));
    ck_router_free(router);
    CHECK(sys.live == 0);
    ck_router_free(NULL);
}

static void test_later_wins(void)
{
    struct counting_sys sys = counting(-1);
    ck_router *router = ck_router_create(&sys.sys);
    ck_match match;
    CHECK(find(router, CK_GET, "/", 0, &match) == CK_ROUTE_NONE);
    CHECK(add(router, CK_GET, "/a/:x", 1) == 0 && add(router, CK_GET, "/a/:y", 2) == 0);
    CHECK(find(router, CK_GET, "/a/b", 0, &match) == 0 && match.route == 2);
    CHECK(find(router, CK_GET, "/a/b", 1, &match) == CK_ROUTE_NONE);
    CHECK(add(router, CK_METHOD_ANY, "/a/:z", 3) == 0);
    CHECK(find(router, CK_GET, "/a/b", 0, &match) == 0 && match.route == 2);
    CHECK(find(router, CK_GET, "/a/b", 1, &match) == 0 && match.route == 3);
    CHECK(add(router, CK_METHOD_ANY, "/*", -7) == 0);
    CHECK(find(router, CK_GET, "/q", 0, &match) == 0 && match.route == -7 && match.parameter_count == 1);
    CHECK(find(router, CK_GET, "", 0, &match) == 0 && match.parameters[0].offset == 0 && match.parameters[0].length == 0);
    ck_router_free(router);
}

static void test_bad_patterns(void)
{
    static const char *const bad[] = {"", "a", "*", ":a", "/:", "/a/:/b", "/*/", "/*/a", "/a/*/:b"};
    static const char *const good[] = {"/", "//", "/*", "/a:b", "/a*", "/**", "/*a", "/:*", "/::"};
    struct counting_sys sys = counting(-1);
    ck_router *router = ck_router_create(&sys.sys);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FOR(bad[i], add(router, CK_GET, bad[i], 1) == -EINVAL);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK_FOR(good[i], add(router, CK_GET, good[i], 1) == 0);
    CHECK(add(router, -1, "/", 1) == -EINVAL && add(router, CK_METHOD_ANY + 1, "/", 1) == -EINVAL);
    ck_router_free(router);
    CHECK(sys.live == 0);
}

static void test_parameter_limit(void)
{
    struct counting_sys sys = counting(-1);
    ck_router *router = ck_router_create(&sys.sys);
    char pattern[200] = "", path[200] = "";
    for (int i = 1; i <= CK_MAX_PARAMETERS; i++) {
        strcat(pattern, "/:p");
        strcat(path, "/v");
        CHECK(add(router, CK_GET, pattern, i) == 0);
        ck_match match;
        CHECK(find(router, CK_GET, path, 0, &match) == 0 && match.route == i && match.parameter_count == i);
    }
    CHECK(add(router, CK_GET, strcat(pattern, "/*"), 1) == -E2BIG);
    pattern[strlen(pattern) - 2] = 0;
    CHECK(add(router, CK_GET, strcat(pattern, "/:p"), 1) == -E2BIG);
    ck_router_free(router);
}

static void test_memory_runs_out(void)
{
    for (long left = 0;; left++) {
        struct counting_sys sys = counting(left);
        ck_router *router = ck_router_create(&sys.sys);
        int result = router ? 0 : -ENOMEM;
        for (size_t i = 0; i < sizeof routes / sizeof *routes && result == 0; i++)
            result = add(router, routes[i].method, routes[i].pattern, (int)i);
        CHECK(result == 0 || result == -ENOMEM);
        if (router && result < 0) { /* It still works, and takes the route later. */
            ck_match match;
            CHECK(find(router, CK_GET, "/nothing", 0, &match) == CK_ROUTE_NONE);
            sys.left = -1;
            CHECK(add(router, CK_GET, "/users/:id/posts/:p", 5) == 0);
            CHECK(find(router, CK_GET, "/users/1/posts/2", 0, &match) == 0 && match.route == 5);
        }
        ck_router_free(router);
        CHECK(sys.live == 0);
        if (result == 0)
            break;
    }
}

/* --- Against a plain list -------------------------------------------------- */

enum { PATTERNS = 40, SEGMENTS = 4 };

struct listed {
    int method;
    char pattern[40];
    char kinds[SEGMENTS + 1]; /* of its segments: the digits order them */
};

struct candidate {
    char key[SEGMENTS + 3]; /* kinds, then the order of methods */
    int route;
};

static uint32_t noise_state = 362436069U;

static uint32_t noise(uint32_t below)
{
    noise_state ^= noise_state << 13, noise_state ^= noise_state >> 17, noise_state ^= noise_state << 5;
    return noise_state % below;
}

static void make_pattern(struct listed *listed)
{
    static const char *const statics[] = {"a", "b", "bb", ""};
    uint32_t count = noise(SEGMENTS) + 1;
    *listed->pattern = *listed->kinds = 0;
    listed->method = (int)noise(CK_METHOD_ANY + 1);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t kind = noise(6);
        strcat(listed->pattern, "/");
        if (kind == 5) {
            strcat(listed->pattern, "*");
            strcat(listed->kinds, "2");
            return;
        }
        strcat(listed->pattern, kind >= 3 ? ":x" : statics[noise(4)]);
        strcat(listed->kinds, kind >= 3 ? "1" : "0");
    }
}

static bool matches(const char *pattern, const char *path)
{
    while (*pattern == '/' && *path == '/') {
        size_t wanted = strcspn(++pattern, "/"), there = strcspn(++path, "/");
        if (wanted == 1 && *pattern == '*')
            return true;
        bool named = wanted > 1 && *pattern == ':';
        if (named ? there == 0 : wanted != there || memcmp(pattern, path, wanted) != 0)
            return false;
        pattern += wanted;
        path += there;
    }
    return *pattern == 0 && *path == 0;
}

static int compare_candidates(const void *a, const void *b)
{
    return strcmp(((const struct candidate *)a)->key, ((const struct candidate *)b)->key);
}

static const char *method_order(int wanted, int method)
{
    if (method == wanted)
        return "!a";
    if (wanted == CK_HEAD && method == CK_GET)
        return "!b";
    return method == CK_METHOD_ANY ? "!c" : NULL;
}

/* The same pattern with other parameter names is the same; here all have one name. */
static bool overridden(const struct listed *list, int count, int index)
{
    for (int i = index + 1; i < count; i++)
        if (list[i].method == list[index].method && strcmp(list[i].pattern, list[index].pattern) == 0)
            return true;
    return false;
}

static void check_path(const ck_router *router, const struct listed *list, const char *path, int method)
{
    struct candidate candidates[PATTERNS];
    size_t count = 0;
    uint32_t allowed = 0;
    for (int i = 0; i < PATTERNS; i++) {
        if (!matches(list[i].pattern, path))
            continue;
        allowed |= 1U << list[i].method;
        const char *order = method_order(method, list[i].method);
        if (!order || overridden(list, PATTERNS, i))
            continue;
        snprintf(candidates[count].key, sizeof candidates->key, "%s%s", list[i].kinds, order);
        candidates[count++].route = i;
    }
    qsort(candidates, count, sizeof *candidates, compare_candidates);
    ck_match match;
    for (size_t nth = 0; nth < count; nth++)
        CHECK_FOR(path, find(router, method, path, (int)nth, &match) == 0 && match.route == candidates[nth].route);
    int result = find(router, method, path, (int)count, &match);
    bool wrong = count == 0 && allowed != 0;
    CHECK_FOR(path, result == (wrong ? CK_ROUTE_WRONG_METHOD : CK_ROUTE_NONE));
    allowed |= allowed & 1U << CK_GET ? 1U << CK_HEAD : 0;
    CHECK_FOR(path, match.allowed == (wrong ? allowed : 0));
}

static void test_against_list(void)
{
    static const char *const segments[] = {"/a", "/b", "/bb", "/", "/c"};
    for (int round = 0; round < 300; round++) {
        struct counting_sys sys = counting(-1);
        ck_router *router = ck_router_create(&sys.sys);
        struct listed list[PATTERNS];
        for (int i = 0; i < PATTERNS; i++) {
            make_pattern(&list[i]);
            CHECK(add(router, list[i].method, list[i].pattern, i) == 0);
        }
        for (int i = 0; i < 200; i++) {
            char path[40] = "";
            for (uint32_t count = noise(SEGMENTS + 1) + 1; count > 0; count--)
                strcat(path, segments[noise(5)]);
            check_path(router, list, path, (int)noise(CK_METHOD_ANY));
        }
        ck_router_free(router);
        CHECK(sys.live == 0);
    }
}

int main(void)
{
    memory = guarded_create(1024);
    test_examples();
    test_later_wins();
    test_bad_patterns();
    test_parameter_limit();
    test_memory_runs_out();
    test_against_list();
    return checks_done();
}
