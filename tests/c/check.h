/* What the C tests share: counted checks, and memory whose neighbours trap. */
#ifndef CK_CHECK_H
#define CK_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static long checks_passed, checks_failed;

/* Counts a check; prints the first failures. Returns whether it passed. */
static inline int check_that(int passed, const char *file, int line, const char *what, const char *subject)
{
    if (passed) {
        checks_passed++;
        return 1;
    }
    if (checks_failed++ < 50)
        fprintf(stderr, "%s:%d: %s: %s\n", file, line, subject, what);
    return 0;
}

#define CHECK(condition) check_that(!!(condition), __FILE__, __LINE__, #condition, __func__)
#define CHECK_FOR(subject, condition) check_that(!!(condition), __FILE__, __LINE__, #condition, subject)

/* Prints the counts. Returns the exit status. */
static inline int checks_done(void)
{
    printf("%ld passed, %ld failed\n", checks_passed, checks_failed);
    return checks_failed != 0;
}

/* Readable pages between two that are not. */
struct guarded {
    char *start;
    size_t capacity;
};

static inline struct guarded guarded_create(size_t capacity)
{
    enum { PAGE = 64 * 1024 }; /* a multiple of the page size anywhere */
    capacity = (capacity + PAGE - 1) / PAGE * PAGE;
    char *map = mmap(NULL, capacity + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + PAGE, capacity, PROT_READ | PROT_WRITE) != 0) {
        perror("guarded memory");
        exit(2);
    }
    return (struct guarded){map + PAGE, capacity};
}

/* Copies the input so that it ends right before a page that traps. */
static inline const char *guarded_at_end(const struct guarded *memory, const char *data, size_t length)
{
    char *place = memory->start + memory->capacity - length;
    if (length > 0)
        memcpy(place, data, length);
    return place;
}

/* Copies the input so that it begins right after a page that traps. */
static inline const char *guarded_at_start(const struct guarded *memory, const char *data, size_t length)
{
    if (length > 0)
        memcpy(memory->start, data, length);
    return memory->start;
}

#endif
