/* Mutations of HTTP as text: what a fuzzer that knows only bytes would take long to try. */
#ifndef CK_MUTATE_HTTP_H
#define CK_MUTATE_HTTP_H

#include <stddef.h>

/* How many bytes in front of an input are no HTTP; each target that links mutate_http.c says so. */
extern const size_t fuzz_prefix;

#endif
