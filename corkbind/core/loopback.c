/* A loop in memory: its opening and end, its clocks, and what is to fail in it. */
#include "loopback.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

static void on_deferred(void)
{
}

ck_loopback *ck_loopback_current(void)
{
    ck_loop *loop = ck_loop_current();
    return loop && loop->in_memory ? (ck_loopback *) (void *) loop->sys : NULL;
}

/* ---- Life ---- */

static void free_world(ck_loopback *world)
{
    ck_loopback_clients_free(world);
    ck_loopback_sys_free(world);
    free(world);
}

uint32_t ck_loopback_open(const ck_callbacks *callbacks, int *error)
{
    ck_callbacks own = *callbacks;
    own.deferred = on_deferred;
    ck_loopback *world = calloc(1, sizeof(*world));
    if (!world) {
        *error = ENOMEM;
        return 0;
    }
    ck_loopback_sys_init(world);
    *error = -ck_loop_create(&world->sys, &own, &world->loop);
    if (*error) {
        free_world(world);
        return 0;
    }
    world->loop->in_memory = true;
    return world->loop->token;
}

int ck_loopback_close(uint32_t token)
{
    ck_loop *before = ck_loop_current();
    int error = ck_loop_select(token);
    if (error) {
        return error;
    }
    ck_loop *loop = ck_loop_current();
    ck_loopback *world = ck_loopback_current();
    int result = CK_STATE;
    if (world && !loop->stepping) {
        bool own = before == loop;
        ck_loop_destroy(loop);
        result = (int) (world->memory + world->open_descriptors);
        free_world(world);
        before = own ? NULL : before;
    }
    (void) ck_loop_select(before ? before->token : 0);
    return result;
}

int ck_loopback_work(void)
{
    const ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    return world->ready_count || world->loop->deferred;
}

/* ---- Clocks ---- */

int64_t ck_loopback_now(void)
{
    const ck_loopback *world = ck_loopback_current();
    return world ? world->now_ns - CK_LOOPBACK_BEGINNING : CK_NOLOOP;
}

int64_t ck_loopback_due(void)
{
    const ck_loopback *world = ck_loopback_current();
    int64_t due = -1;
    for (int i = world ? world->timers : -1; i >= 0; i = world->descriptors[i].next) {
        const ck_descriptor *timer = &world->descriptors[i];
        int64_t left = timer->due > world->now_ns ? timer->due - world->now_ns : 0;
        if (timer->due && (due < 0 || left < due)) {
            due = left;
        }
    }
    return due;
}

int ck_loopback_pass(int64_t nanoseconds)
{
    ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    if (nanoseconds < 0 || nanoseconds > INT64_MAX / 2 - world->now_ns) {
        return CK_VALUE;
    }
    world->now_ns += nanoseconds;
    ck_loopback_update_timers(world);
    return CK_OK;
}

int ck_loopback_rewind(void)
{
    ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    if (world->client_live) {
        return CK_STATE;
    }
    for (int i = world->timers; i >= 0; i = world->descriptors[i].next) {
        ck_descriptor *timer = &world->descriptors[i];
        if (timer->due) {
            timer->due = CK_LOOPBACK_BEGINNING + (timer->period ? timer->period : timer->due - world->now_ns);
        }
    }
    world->now_ns = CK_LOOPBACK_BEGINNING;
    ck_loopback_update_timers(world);
    return CK_OK;
}

/* ---- Faults ---- */

int ck_loopback_fault(int call, int result)
{
    ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    if (call < 0 || call >= CK_CALLS || result < -4095) {
        return CK_VALUE;
    }
    ck_script *script = &world->scripts[call];
    if (script->next == script->count) {
        script->next = script->count = 0;
    }
    if (script->count == script->capacity) {
        int capacity = script->capacity ? 2 * script->capacity : 16;
        int *steps = capacity <= 1 << 20 ? realloc(script->steps, (size_t) capacity * sizeof(*steps)) : NULL;
        if (!steps) {
            return CK_NOMEM;
        }
        script->steps = steps;
        script->capacity = capacity;
    }
    script->steps[script->count++] = result;
    world->faults_left++;
    return CK_OK;
}

int ck_loopback_fail_allocation(int64_t nth, int after)
{
    ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    if (nth < 0 || nth > INT64_MAX - world->allocations) {
        return CK_VALUE;
    }
    world->fail_at = nth ? world->allocations + nth : 0;
    world->fail_after = after != 0;
    return CK_OK;
}

int ck_loopback_clear_faults(void)
{
    ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    for (int i = 0; i < CK_CALLS; i++) {
        world->scripts[i].next = world->scripts[i].count = 0;
    }
    world->faults_left = 0;
    world->fail_at = 0;
    return CK_OK;
}

int64_t ck_loopback_count(int what)
{
    const ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    switch (what) {
    case CK_COUNT_MEMORY:
        return world->memory;
    case CK_COUNT_DESCRIPTORS:
        return world->open_descriptors;
    case CK_COUNT_ALLOCATIONS:
        return world->allocations;
    case CK_COUNT_FAULTS:
        return world->faults_left;
    default:
        return CK_VALUE;
    }
}
