/* Fuzzes the table behind handles against a list of all that were ever given. An
 * input is a byte that says where the count begins, then a byte for each call. */
#include "fuzz.h"
#include "handle.h"
#include "libusockets_ext.h"

enum { GIVEN_MAX = 6000, LOOP = 3 };

static struct {
    uint32_t handle;
    enum ck_kind kind;
    bool live;
    char object;
} given[GIVEN_MAX];

static unsigned count;
static long blocks;
static bool short_of_memory;

static void *memory_alloc(struct us_sys_t *sys, size_t size)
{
    (void)sys;
    void *memory = short_of_memory ? NULL : malloc(size);
    blocks += memory != NULL;
    return memory;
}

static void memory_release(struct us_sys_t *sys, void *memory)
{
    (void)sys;
    blocks--;
    free(memory);
}

static struct us_sys_t memory_sys = {.alloc = memory_alloc, .release = memory_release};

static void make(ck_handles *handles, enum ck_kind kind)
{
    if (count == GIVEN_MAX)
        return;
    uint32_t handle = ck_handle_new(handles, kind, &given[count].object);
    if (handle == 0) {
        DEMAND(short_of_memory);
        return;
    }
    DEMAND(handle >> CK_HANDLE_BITS == LOOP && (handle & ((1U << CK_HANDLE_BITS) - 1)) != 0);
    for (unsigned i = 0; i < count && count < 200; i++)
        DEMAND(given[i].handle != handle);
    given[count].handle = handle;
    given[count].kind = kind;
    given[count++].live = true;
}

/* A handle names its object while it lives, for its own kind, and nothing after. */
static void look_up(const ck_handles *handles, unsigned which)
{
    for (enum ck_kind kind = CK_KIND_APP; kind <= CK_KIND_EXCHANGE; kind++) {
        bool known = given[which].live && given[which].kind == kind;
        DEMAND(ck_handle_get(handles, given[which].handle, kind) == (known ? &given[which].object : NULL));
    }
}

static void drop(ck_handles *handles, unsigned which)
{
    uint32_t live = handles->live;
    ck_handle_drop(handles, given[which].handle);
    DEMAND(handles->live == live - given[which].live);
    given[which].live = false;
}

static void demand_model(const ck_handles *handles)
{
    uint32_t live = 0;
    for (unsigned i = 0; i < count; i++) {
        look_up(handles, i);
        live += given[i].live;
    }
    DEMAND(handles->live == live);
    DEMAND(ck_handle_get(handles, 0, CK_KIND_NONE) == NULL);
}

static void run_call(ck_handles *handles, fuzz_input *in)
{
    uint8_t call = fuzz_byte(in);
    unsigned which = count ? (unsigned)(fuzz_byte(in) << 8 | fuzz_byte(in)) % count : 0;
    switch (call % 8) {
    case 0: /* enough at once for the table to grow */
        for (unsigned n = call; n > 0; n--)
            make(handles, (enum ck_kind)(1 + n % 3));
        break;
    case 1:
    case 2:
        make(handles, (enum ck_kind)(1 + which % 3));
        break;
    case 3:
        short_of_memory = !short_of_memory;
        break;
    case 4: /* some in a row */
        for (unsigned n = call; n > 0 && which < count; n--)
            drop(handles, which++);
        break;
    case 5:
        ck_handle_drop(handles, (uint32_t)which); /* one of another loop */
        break;
    default:
        if (count)
            drop(handles, which);
        break;
    }
    if (count)
        look_up(handles, which % count);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    fuzz_input in = {input, size};
    ck_handles handles;
    count = 0;
    short_of_memory = false;
    DEMAND(ck_handles_init(&handles, &memory_sys, LOOP) == 0);
    uint32_t last = (1U << CK_HANDLE_BITS) - 1, back = fuzz_byte(&in);
    handles.next = back & 1 ? last - back : back; /* shortly before the count begins again, or at its start */
    while (in.length > 0)
        run_call(&handles, &in);
    demand_model(&handles);
    short_of_memory = false;
    ck_handles_free(&handles);
    DEMAND(blocks == 0);
    return 0;
}
