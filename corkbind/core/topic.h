/* Topics: who has subscribed to which, and what is published to them. */
#ifndef CK_TOPIC_H
#define CK_TOPIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hash.h"

struct ck_app;
struct ck_loop;
struct ck_websocket;
struct us_sys_t;

typedef struct ck_topic ck_topic;
typedef struct ck_frame ck_frame;
typedef struct ck_subscriber ck_subscriber;
typedef struct ck_subscription ck_subscription;

/* Subscriber and topic: a node in the lists of both. */
struct ck_subscription {
    union {
        ck_topic *topic;
        void *name;                               /* of the topic, a Python object: when it has been taken out */
    };
    ck_subscriber *subscriber;
    ck_subscription *previous, *next;             /* of the topic */
    ck_subscription *other_previous, *other_next; /* of the subscriber */
    ck_subscription *chain;                       /* in the table */
    uint64_t serial;                              /* those that walk a topic pass who came after them */
};

/* There while it has subscribers. */
struct ck_topic {
    ck_topic *chain;
    ck_subscription *first, *last; /* in the order in which they came */
    uint64_t hash;
    uint32_t count;
    uint32_t length;
    char name[];
};

/* A reference to a frame that is to be sent. */
typedef struct ck_pending {
    ck_frame *frame;
    uint64_t key; /* hash of topic and key; 0 = without a key */
} ck_pending;

enum { CK_PENDING_OWN = 2 /* references that need no memory */ };

struct ck_subscriber {
    struct ck_websocket *websocket;
    ck_subscription *first, *last;  /* in the order in which they were made */
    uint32_t count;
    bool due;                       /* on the loop's list */
    ck_subscriber *due_previous, *due_next;
    ck_pending *pending;            /* `own`, or memory */
    uint32_t pending_first;
    uint32_t pending_count;
    uint32_t pending_capacity;
    size_t pending_bytes;           /* of frames and references */
    ck_pending own[CK_PENDING_OWN];
};

/* Who goes through the subscribers of a topic, while anything may happen to them. */
typedef struct ck_walk {
    struct ck_topics *topics; /* NULL once they are gone */
    struct ck_walk *outer;
    ck_subscription *next;
    uint64_t serial;
} ck_walk;

/* Those of an app. */
typedef struct ck_topics {
    struct us_sys_t *sys;
    ck_hash_key key;
    ck_topic **topics;            /* tables of chains; NULL while they are empty */
    ck_subscription **subscriptions;
    uint32_t topic_mask, subscription_mask;
    uint32_t topic_count, subscription_count;
    uint64_t serial;
    ck_walk *walks;
} ck_topics;

/* Subscribers of a loop that have something to send at the end of the iteration. */
typedef struct ck_due {
    ck_subscriber *first, *last;
} ck_due;

/* ---- topic.c: who and where ---- */

void ck_topics_init(ck_topics *topics, struct us_sys_t *sys);
/* Nobody may have subscribed. */
void ck_topics_free(ck_topics *topics);
/* Returns the number of subscribers that the topic has now, 0 when this was one already, or CK_NOMEM. */
int ck_topics_subscribe(ck_topics *topics, ck_subscriber *subscriber, const char *name, size_t length);
/* Returns the subscription, or NULL. */
ck_subscription *ck_topics_find(const ck_topics *topics, const ck_subscriber *subscriber, const char *name, size_t length);
/* Ends it. The topic goes with its last one. */
void ck_topics_remove(ck_topics *topics, ck_subscription *subscription);
/* The same, but the caller has the memory now. */
void ck_topics_take_out(ck_topics *topics, ck_subscription *subscription);
/* Returns the topic, or NULL when nobody has subscribed. */
const ck_topic *ck_topics_topic(const ck_topics *topics, const char *name, size_t length);

void ck_walk_begin(ck_walk *walk, ck_topics *topics, const char *name, size_t length);
/* Returns the next of those that were subscribers at the beginning and still are, or NULL. */
ck_subscriber *ck_walk_next(ck_walk *walk);
void ck_walk_end(ck_walk *walk);

/* ---- topic_delivery.c: what is published ---- */

/* Sends what is due to all subscribers of the loop. */
void ck_topics_deliver(struct ck_loop *loop);
/* Puts what is pending into the stream, before something else is written there: all
 * of it, or up to where the client does not keep up. Not between two fragments of a message. */
void ck_subscriber_pack(ck_subscriber *subscriber, bool all);
/* It may be sent again: at the end of the iteration. */
void ck_subscriber_due(ck_subscriber *subscriber);
/* Forgets what is pending. */
void ck_subscriber_forget(ck_subscriber *subscriber);
typedef struct ck_publication {
    const char *topic, *data, *key;
    size_t topic_length, length, key_length;
    bool keyed;    /* replaces an older one with the same key that is pending */
    bool compress;
    uint8_t opcode;
} ck_publication;
/* Sends to the subscribers of a topic, but `sender`. Returns how many there were, or CK_NOMEM. */
int ck_topics_publish(struct ck_app *app, const ck_subscriber *sender, const ck_publication *publication);

/* ---- topic_calls.c ---- */

/* The WebSocket is over: so are its subscriptions, which the application is told. */
void ck_subscriber_over(struct ck_websocket *websocket);

#endif
