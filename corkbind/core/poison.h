/* Memory that is over but not freed: builds with CK_POISON overwrite it, so that
 * whoever still reads it gets 0xDD and no truth that happens to be there yet. */
#ifndef CK_POISON_H
#define CK_POISON_H

#include <string.h>

static inline void ck_poison(void *memory, size_t length)
{
#ifdef CK_POISON
    memset(memory, 0xdd, length);
#else
    (void) memory;
    (void) length;
#endif
}

#endif
