/* Routes in a tree of path segments.
 *
 * A node stands for a prefix of patterns. Its static children are sorted by
 * length, then bytes, and found by binary search; one more child takes any
 * segment that is not empty (:name). Routes end at a node in two places: `here`
 * when the pattern ends with the node, `tail` when it goes on with "*".
 *
 * A search goes down depth first: static child, parameter, tail. That is the
 * order of specificity, so that the n-th place it comes upon is the n-th best.
 * A node at depth d has used exactly d segments, so that no node is looked at
 * twice. The depth is that of the patterns, not of the path.
 *
 * "/" is one empty segment, "/a/" is "a" and an empty one: "/a" and "/a/" are
 * different patterns, and a tail below "/a/" takes "/a/", but not "/a". */
#include "router.h"

#include "libusockets_ext.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { METHODS = CK_METHOD_ANY + 1 };

/* Where patterns end: a route for each method that has one. */
struct place {
    uint32_t methods; /* bit (1 << method), also for CK_METHOD_ANY */
    int routes[METHODS];
};

struct node {
    struct node *next_made; /* all nodes of a router are in one list, to be freed */
    struct node **children; /* static */
    struct node *parameter;
    uint32_t child_count;
    uint32_t child_capacity;
    struct place here;
    struct place tail;
    size_t length;
    char segment[]; /* what a static node takes */
};

struct ck_router {
    struct us_sys_t *sys;
    struct node *made;
    struct node *root;
};

struct search {
    const char *path;
    size_t length;
    int method;
    int skip; /* candidates to pass over */
    uint32_t allowed;
    ck_match *match;
};

static struct node *node_create(ck_router *router, const char *segment, size_t length)
{
    struct node *node = router->sys->alloc(router->sys, sizeof *node + length);
    if (!node)
        return NULL;
    memset(node, 0, sizeof *node);
    node->length = length;
    if (length > 0)
        memcpy(node->segment, segment, length);
    node->next_made = router->made;
    router->made = node;
    return node;
}

ck_router *ck_router_create(struct us_sys_t *sys)
{
    ck_router *router = sys->alloc(sys, sizeof *router);
    if (!router)
        return NULL;
    *router = (ck_router){.sys = sys};
    router->root = node_create(router, NULL, 0);
    if (!router->root) {
        sys->release(sys, router);
        return NULL;
    }
    return router;
}

void ck_router_free(ck_router *router)
{
    if (!router)
        return;
    struct us_sys_t *sys = router->sys;
    while (router->made) {
        struct node *node = router->made;
        router->made = node->next_made;
        if (node->children)
            sys->release(sys, node->children);
        sys->release(sys, node);
    }
    sys->release(sys, router);
}

/* The end of the segment that starts at `at`. */
static size_t segment_end(const char *path, size_t at, size_t length)
{
    const char *slash = at < length ? memchr(path + at, '/', length - at) : NULL;
    return slash ? (size_t)(slash - path) : length;
}

static int compare(const struct node *node, const char *segment, size_t length)
{
    if (node->length != length)
        return node->length < length ? -1 : 1;
    return length > 0 ? memcmp(node->segment, segment, length) : 0;
}

/* The index of the static child that takes the segment, or of the first one
 * that sorts after it. */
static uint32_t child_index(const struct node *node, const char *segment, size_t length)
{
    uint32_t low = 0, high = node->child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare(node->children[middle], segment, length) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct node *child_find(const struct node *node, const char *segment, size_t length)
{
    uint32_t index = child_index(node, segment, length);
    if (index == node->child_count || compare(node->children[index], segment, length) != 0)
        return NULL;
    return node->children[index];
}

/* --- Adding ------------------------------------------------------------- */

static int children_grow(ck_router *router, struct node *node)
{
    struct us_sys_t *sys = router->sys;
    uint32_t capacity = node->child_capacity ? node->child_capacity * 2 : 4;
    struct node **children = sys->alloc(sys, capacity * sizeof(struct node *));
    if (!children)
        return -ENOMEM;
    if (node->children) {
        memcpy(children, node->children, node->child_count * sizeof(struct node *));
        sys->release(sys, node->children);
    }
    node->children = children;
    node->child_capacity = capacity;
    return 0;
}

/* Returns the static child for the segment, made when there is none, or NULL. */
static struct node *child_for(ck_router *router, struct node *node, const char *segment, size_t length)
{
    struct node *child = child_find(node, segment, length);
    if (child)
        return child;
    if (node->child_count == node->child_capacity && children_grow(router, node) < 0)
        return NULL;
    child = node_create(router, segment, length);
    if (!child)
        return NULL;
    uint32_t index = child_index(node, segment, length);
    struct node **position = node->children + index;
    memmove(position + 1, position, (node->child_count - index) * sizeof(struct node *));
    *position = child;
    node->child_count++;
    return child;
}

static bool is_star(const char *segment, size_t length)
{
    return length == 1 && segment[0] == '*';
}

/* Returns the number of parameters, the tail included, -EINVAL or -E2BIG. */
static int pattern_check(const char *pattern, size_t length)
{
    int parameters = 0;
    if (length == 0 || pattern[0] != '/')
        return -EINVAL;
    for (size_t at = 1, end; at <= length; at = end + 1) {
        end = segment_end(pattern, at, length);
        bool star = is_star(pattern + at, end - at), named = end > at && pattern[at] == ':';
        if ((star && end < length) || (named && end - at == 1))
            return -EINVAL;
        if ((star || named) && ++parameters > CK_MAX_PARAMETERS)
            return -E2BIG;
    }
    return parameters;
}

int ck_router_add(ck_router *router, int method, const char *pattern, size_t length, int route)
{
    int parameters = pattern_check(pattern, length);
    if (parameters < 0)
        return parameters;
    if (method < 0 || method >= METHODS)
        return -EINVAL;
    struct node *node = router->root;
    struct place *place = NULL;
    for (size_t at = 1, end; at <= length; at = end + 1) {
        end = segment_end(pattern, at, length);
        if (is_star(pattern + at, end - at)) {
            place = &node->tail;
            break;
        }
        if (end > at && pattern[at] == ':') {
            if (!node->parameter)
                node->parameter = node_create(router, NULL, 0);
            node = node->parameter;
        } else {
            node = child_for(router, node, pattern + at, end - at);
        }
        if (!node)
            return -ENOMEM;
        place = &node->here;
    }
    place->routes[method] = route;
    place->methods |= 1U << method;
    return 0;
}

/* --- Finding ------------------------------------------------------------- */

/* Takes the route for this method, unless it is one to pass over. */
static bool take(struct search *search, const struct place *place, int method)
{
    if (!(place->methods & 1U << method) || search->skip-- > 0)
        return false;
    search->match->route = place->routes[method];
    return true;
}

/* The candidates of a pattern: the method's own route, for HEAD that of GET (RFC
 * 9110 S9.3.2), and the one for any. */
static bool visit_place(struct search *search, const struct place *place)
{
    search->allowed |= place->methods;
    return take(search, place, search->method) || (search->method == CK_HEAD && take(search, place, CK_GET))
        || take(search, place, CK_METHOD_ANY);
}

static void parameter_push(struct search *search, size_t at, size_t end)
{
    search->match->parameters[search->match->parameter_count++] = (ck_span){(uint32_t)at, (uint32_t)(end - at)};
}

/* Searches below a node for what is left from `at`, the start of a segment; one
 * past the length when nothing is left. Returns whether the candidate was found,
 * with its parameters pushed. */
static bool visit(struct search *search, const struct node *node, size_t at)
{
    if (at > search->length)
        return visit_place(search, &node->here);
    ck_match *match = search->match;
    size_t end = segment_end(search->path, at, search->length);
    const struct node *child = child_find(node, search->path + at, end - at);
    if (child && visit(search, child, end + 1))
        return true;
    if (node->parameter && end > at) {
        parameter_push(search, at, end);
        if (visit(search, node->parameter, end + 1))
            return true;
        match->parameter_count--;
    }
    if (!node->tail.methods)
        return false;
    parameter_push(search, at, search->length);
    if (visit_place(search, &node->tail))
        return true;
    match->parameter_count--;
    return false;
}

int ck_router_find(const ck_router *router, int method, const char *path, size_t length, int nth, ck_match *match)
{
    struct search search = {path, length, method, nth, 0, match};
    match->route = CK_ROUTE_NONE;
    match->parameter_count = 0;
    match->allowed = 0;
    if (length > 0 && path[0] != '/')
        return CK_ROUTE_NONE;
    /* An empty path is "/", RFC 9110 S4.2.3; its one segment is empty. */
    if (length == 0)
        search.path = "/", search.length = 1;
    if (visit(&search, router->root, 1)) {
        for (int i = 0; length == 0 && i < match->parameter_count; i++)
            match->parameters[i] = (ck_span){0, 0};
        return 0;
    }
    if (nth > 0 || search.allowed == 0)
        return CK_ROUTE_NONE;
    if (search.allowed & 1U << CK_GET)
        search.allowed |= 1U << CK_HEAD;
    match->allowed = search.allowed;
    return CK_ROUTE_WRONG_METHOD;
}
