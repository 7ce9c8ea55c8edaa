/* Memory of a server in memory, counted in bytes: what a fuzz target holds against limits. */
#ifndef CK_COUNTED_H
#define CK_COUNTED_H

#include "fuzz.h"
#include "server.h"

#include <malloc.h>
#include <sanitizer/asan_interface.h>

enum { LARGE = 1 << 19 };

/* The receive buffer of a loop: kept from run to run, out of bounds in between, as
 * half a megabyte of new pages would take longer than the run. */
static struct {
    size_t bytes;
    void *large;
    size_t large_size;
    bool large_used;
} counted;

static inline void *large_alloc(size_t size)
{
    DEMAND(!counted.large || counted.large_size == size);
    counted.large = counted.large ? counted.large : malloc(size);
    DEMAND(counted.large != NULL);
    counted.large_size = size;
    counted.large_used = true;
    ASAN_UNPOISON_MEMORY_REGION(counted.large, size);
    world.memory++;
    return counted.large;
}

static inline void large_release(void)
{
    DEMAND(counted.large_used);
    counted.large_used = false;
    ASAN_POISON_MEMORY_REGION(counted.large, counted.large_size);
    world.memory--;
}

static inline void *counted_alloc(struct us_sys_t *sys, size_t size)
{
    if (size > LARGE && !counted.large_used && !out_of_memory())
        return large_alloc(size);
    void *memory = s_alloc(sys, size);
    counted.bytes += memory ? malloc_usable_size(memory) : 0;
    return memory;
}

static inline void *counted_resize(struct us_sys_t *sys, void *memory, size_t size)
{
    DEMAND(!memory || memory != counted.large);
    size_t was = memory ? malloc_usable_size(memory) : 0;
    void *resized = s_resize(sys, memory, size);
    counted.bytes += resized ? malloc_usable_size(resized) - was : 0;
    return resized;
}

static inline void counted_release(struct us_sys_t *sys, void *memory)
{
    if (memory && memory == counted.large) {
        large_release();
        return;
    }
    counted.bytes -= memory ? malloc_usable_size(memory) : 0;
    s_release(sys, memory);
}

/* Behind reset_world. */
static inline void count_memory(void)
{
    counted.bytes = 0;
    world.sys.alloc = counted_alloc;
    world.sys.resize = counted_resize;
    world.sys.release = counted_release;
}

#endif
