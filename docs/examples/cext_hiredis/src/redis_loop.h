/* hiredis on the loop of a corkbind app. */
#ifndef REDIS_LOOP_H
#define REDIS_LOOP_H

#include <corkbind_api.h>
#include <hiredis/async.h>

/* The functions of corkbind; set by the module's init. */
extern const ck_api *ck;

/* Watches the descriptor of a connection from here to its end. Returns REDIS_OK or REDIS_ERR. */
int redis_loop_attach(struct us_loop_t *loop, redisAsyncContext *redis);

#endif
