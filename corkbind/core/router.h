/* Finds the route for a method and a path: static over :param over *. */
#ifndef CK_ROUTER_H
#define CK_ROUTER_H

#include "http_parser.h"

struct us_sys_t;

enum {
    CK_METHOD_ANY = CK_METHOD_OTHER + 1, /* for ck_router_add: any method */
    CK_MAX_PARAMETERS = 32,
};

enum { CK_ROUTE_NONE = -1, CK_ROUTE_WRONG_METHOD = -2 };

typedef struct ck_router ck_router;

typedef struct ck_match {
    int route;                             /* the number given to ck_router_add */
    uint16_t parameter_count;
    ck_span parameters[CK_MAX_PARAMETERS]; /* offsets from the path's first byte; the tail matched by * is the last */
    uint32_t allowed;                      /* for CK_ROUTE_WRONG_METHOD: bit (1 << enum ck_method) for each that has a route */
} ck_match;

/* Returns NULL when memory cannot be had. Allocates from `sys`. */
ck_router *ck_router_create(struct us_sys_t *sys);
void ck_router_free(ck_router *router);

/* Adds a route. `pattern` (copied) is an absolute path; a segment ":name" takes
 * one segment that is not empty, a last segment "*" takes all that is left,
 * also nothing. The later of two routes for the same method and pattern wins.
 * Returns 0, -EINVAL for a pattern that is no such path, -E2BIG for more than
 * CK_MAX_PARAMETERS, -ENOMEM. */
int ck_router_add(ck_router *router, int method, const char *pattern, size_t length, int route);

/* Finds the candidate number `nth` (0 = best) in order of specificity: compared
 * segment by segment from the left, static before :param before *; at the same
 * pattern the method before `any`. HEAD takes GET's routes after its own.
 * Returns 0 with *match filled, CK_ROUTE_NONE, or CK_ROUTE_WRONG_METHOD (only
 * for nth = 0). Does not allocate. */
int ck_router_find(const ck_router *router, int method, const char *path, size_t length, int nth, ck_match *match);

#endif
