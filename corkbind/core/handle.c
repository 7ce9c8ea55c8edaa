/* The table behind handles: open slots addressed by the low bits of a counter. */
#include "handle.h"

#include <errno.h>
#include <string.h>

#include "libusockets_ext.h"

enum { FIRST_SIZE = 1024 };

#define COUNT_MASK ((1u << CK_HANDLE_BITS) - 1)

int ck_handles_init(ck_handles *handles, struct us_sys_t *sys, uint32_t loop_id)
{
    memset(handles, 0, sizeof(*handles));
    handles->slots = sys->alloc(sys, FIRST_SIZE * sizeof(ck_slot));
    if (!handles->slots) {
        return -ENOMEM;
    }
    memset(handles->slots, 0, FIRST_SIZE * sizeof(ck_slot));
    handles->sys = sys;
    handles->mask = FIRST_SIZE - 1;
    handles->loop_id = loop_id;
    return 0;
}

void ck_handles_free(ck_handles *handles)
{
    if (handles->slots) {
        handles->sys->release(handles->sys, handles->slots);
    }
    memset(handles, 0, sizeof(*handles));
}

/* Two live handles differ in the low bits that the old mask looked at, so they
 * differ in those of a wider one: nothing can collide. */
static int grow(ck_handles *handles)
{
    size_t size = ((size_t) handles->mask + 1) * 2;
    if (size > COUNT_MASK) {
        return -ENOMEM;
    }
    ck_slot *slots = handles->sys->alloc(handles->sys, size * sizeof(ck_slot));
    if (!slots) {
        return -ENOMEM;
    }
    memset(slots, 0, size * sizeof(ck_slot));
    for (uint32_t i = 0; i <= handles->mask; i++) {
        if (handles->slots[i].handle) {
            slots[handles->slots[i].handle & (size - 1)] = handles->slots[i];
        }
    }
    handles->sys->release(handles->sys, handles->slots);
    handles->slots = slots;
    handles->mask = (uint32_t) (size - 1);
    return 0;
}

uint32_t ck_handle_new(ck_handles *handles, enum ck_kind kind, void *object)
{
    /* Half empty, so that looking for a free slot takes two tries on average. */
    if (handles->live > handles->mask / 2 && grow(handles) != 0 && handles->live >= handles->mask) {
        return 0;
    }
    ck_slot *slot;
    uint32_t count;
    do {
        count = ++handles->next & COUNT_MASK;
        slot = &handles->slots[count & handles->mask];
    } while (slot->handle || count == 0);
    slot->handle = (handles->loop_id << CK_HANDLE_BITS) | count;
    slot->kind = (uint32_t) kind;
    slot->object = object;
    handles->live++;
    return slot->handle;
}

void ck_handle_drop(ck_handles *handles, uint32_t handle)
{
    ck_slot *slot = &handles->slots[handle & handles->mask];
    if (handle && slot->handle == handle) {
        memset(slot, 0, sizeof(*slot));
        handles->live--;
    }
}
