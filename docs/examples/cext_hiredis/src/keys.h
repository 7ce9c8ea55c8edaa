/* Routes that Redis answers: GET and PUT /key/:name, POST /count/:name. */
#ifndef KEYS_H
#define KEYS_H

#include <corkbind_api.h>

struct keys_stats {
    int connected;   /* connections to Redis that stand */
    long waiting;    /* requests that Redis has not answered */
    long asked;      /* commands given to it so far */
    long unanswered; /* of these, those that it was gone for */
    long connects;   /* times that a connection stood */
};

/* Adds the routes to an app. `address` is a Unix path or "host:port"; it is copied. The rest
 * goes on by itself until the app ends. Returns CK_OK or what refused, below zero. */
int keys_serve(uint32_t app, const char *address);

/* Counts over all apps. */
struct keys_stats keys_counted(void);

#endif
