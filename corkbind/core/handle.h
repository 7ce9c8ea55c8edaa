/* Handles: 32-bit names for objects, checked on every use, practically never reused. */
#ifndef CK_HANDLE_H
#define CK_HANDLE_H

#include <stddef.h>
#include <stdint.h>

struct us_sys_t;

enum ck_kind { CK_KIND_NONE, CK_KIND_APP, CK_KIND_LISTENER, CK_KIND_EXCHANGE, CK_KIND_WEBSOCKET, CK_KIND_CONTEXT,
    CK_KIND_SOCKET, CK_KIND_TIMER, CK_KIND_UDP, CK_KIND_DOMAIN };

/* A handle is the number of its loop (5 bits) over a count of allocations (27
 * bits). The low bits of the count are the slot, so slots are reused oldest first
 * and a handle comes back only after 2^27 others. */
enum { CK_HANDLE_BITS = 27, CK_LOOPS_MAX = 32 };

typedef struct ck_slot {
    uint32_t handle; /* 0 = free */
    uint32_t kind;
    void *object;
} ck_slot;

typedef struct ck_handles {
    struct us_sys_t *sys;
    ck_slot *slots;
    uint32_t mask;
    uint32_t next;
    uint32_t live;
    uint32_t loop_id;
} ck_handles;

/* Returns 0 or -ENOMEM. */
int ck_handles_init(ck_handles *handles, struct us_sys_t *sys, uint32_t loop_id);
void ck_handles_free(ck_handles *handles);

/* Returns a new handle, or 0 without memory. */
uint32_t ck_handle_new(ck_handles *handles, enum ck_kind kind, void *object);
void ck_handle_drop(ck_handles *handles, uint32_t handle);

/* Returns the object, or NULL when the handle is stale or of another kind. */
static inline void *ck_handle_get(const ck_handles *handles, uint32_t handle, enum ck_kind kind)
{
    const ck_slot *slot = &handles->slots[handle & handles->mask];
    return slot->handle == handle && slot->kind == (uint32_t) kind ? slot->object : NULL;
}

#endif
