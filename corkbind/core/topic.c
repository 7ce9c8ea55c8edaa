/* The tables of topics: who has subscribed to what.
 *
 * Theory of operation. A subscription is a node in three lists: its topic's, its
 * subscriber's, and a chain of a hash table in which it is found by both. So each
 * question is answered, and each change is made, without a search, however many
 * subscribers a topic has or topics a subscriber. A topic is there while it has
 * subscribers: nothing is left of names that nobody wants.
 *
 * Who goes through the subscribers of a topic calls what may change them: end the
 * subscriptions to come, or the app. Each such walk is known to the tables, and steps
 * over a subscription that is removed under it. New ones come behind, and have a
 * greater serial number than the walk: it ends there. */
#include "topic.h"

#include <string.h>

#include "corkbind.h"
#include "libusockets_ext.h"
#include "poison.h"

enum { TABLE_FIRST = 16 };

void ck_topics_init(ck_topics *topics, struct us_sys_t *sys)
{
    memset(topics, 0, sizeof(*topics));
    topics->sys = sys;
    /* Where memory lies and how long the machine runs: more than a client can know. */
    topics->key.low = (uint64_t) (uintptr_t) topics ^ (uint64_t) sys->monotonic_ns(sys);
    topics->key.high = (uint64_t) (uintptr_t) &topics ^ (uint64_t) sys->wall_seconds(sys) << 32;
}

void ck_topics_free(ck_topics *topics)
{
    for (ck_walk *walk = topics->walks; walk; walk = walk->outer) {
        walk->topics = NULL;
        walk->next = NULL;
    }
    if (topics->topics) {
        topics->sys->release(topics->sys, topics->topics);
    }
    if (topics->subscriptions) {
        topics->sys->release(topics->sys, topics->subscriptions);
    }
    memset(topics, 0, sizeof(*topics));
}

/* ---- Chains ---- */

static void *new_table(const ck_topics *topics, uint32_t size)
{
    void *table = topics->sys->alloc(topics->sys, size * sizeof(void *));
    if (table) {
        memset(table, 0, size * sizeof(void *));
    }
    return table;
}

static ck_topic **topic_chain(const ck_topics *topics, uint64_t hash)
{
    return &topics->topics[hash & topics->topic_mask];
}

/* Addresses differ in their middle bits. */
static ck_subscription **subscription_chain(const ck_topics *topics, const ck_topic *topic, const ck_subscriber *subscriber)
{
    uint64_t mixed = (topic->hash ^ (uint64_t) (uintptr_t) subscriber) * 0x9E3779B97F4A7C15U;
    return &topics->subscriptions[mixed >> 32 & topics->subscription_mask];
}

/* Makes room for one more; without memory the chains get longer. Returns false when
 * there is no table at all. */
static bool topic_room(ck_topics *topics)
{
    uint32_t size = topics->topics ? topics->topic_mask + 1 : 0;
    if (topics->topic_count < size || size > UINT32_MAX / 4) {
        return true;
    }
    uint32_t larger = size ? size * 2 : TABLE_FIRST;
    ck_topic **from = topics->topics, **table = new_table(topics, larger);
    if (!table) {
        return size > 0;
    }
    topics->topics = table;
    topics->topic_mask = larger - 1;
    for (uint32_t i = 0; i < size; i++) {
        for (ck_topic *topic = from[i], *next; topic; topic = next) {
            ck_topic **chain = topic_chain(topics, topic->hash);
            next = topic->chain;
            topic->chain = *chain;
            *chain = topic;
        }
    }
    if (from) {
        topics->sys->release(topics->sys, from);
    }
    return true;
}

static bool subscription_room(ck_topics *topics)
{
    uint32_t size = topics->subscriptions ? topics->subscription_mask + 1 : 0;
    if (topics->subscription_count < size || size > UINT32_MAX / 4) {
        return true;
    }
    uint32_t larger = size ? size * 2 : TABLE_FIRST;
    ck_subscription **from = topics->subscriptions, **table = new_table(topics, larger);
    if (!table) {
        return size > 0;
    }
    topics->subscriptions = table;
    topics->subscription_mask = larger - 1;
    for (uint32_t i = 0; i < size; i++) {
        for (ck_subscription *s = from[i], *next; s; s = next) {
            ck_subscription **chain = subscription_chain(topics, s->topic, s->subscriber);
            next = s->chain;
            s->chain = *chain;
            *chain = s;
        }
    }
    if (from) {
        topics->sys->release(topics->sys, from);
    }
    return true;
}

/* ---- Topics ---- */

static ck_topic *topic_of(const ck_topics *topics, uint64_t hash, const char *name, size_t length)
{
    ck_topic *topic = topics->topics ? *topic_chain(topics, hash) : NULL;
    while (topic && (topic->hash != hash || topic->length != length || memcmp(topic->name, name, length) != 0)) {
        topic = topic->chain;
    }
    return topic;
}

const ck_topic *ck_topics_topic(const ck_topics *topics, const char *name, size_t length)
{
    return topics->topics ? topic_of(topics, ck_hash(topics->key, name, length), name, length) : NULL;
}

static ck_topic *topic_new(ck_topics *topics, uint64_t hash, const char *name, size_t length)
{
    ck_topic *topic = topic_room(topics) ? topics->sys->alloc(topics->sys, sizeof(*topic) + length) : NULL;
    if (!topic) {
        return NULL;
    }
    ck_topic **chain = topic_chain(topics, hash);
    *topic = (ck_topic) {.chain = *chain, .hash = hash, .length = (uint32_t) length};
    memcpy(topic->name, name, length);
    *chain = topic;
    topics->topic_count++;
    return topic;
}

static void topic_free(ck_topics *topics, ck_topic *topic)
{
    ck_topic **link = topic_chain(topics, topic->hash);
    while (*link != topic) {
        link = &(*link)->chain;
    }
    *link = topic->chain;
    topics->topic_count--;
    ck_poison(topic, sizeof(*topic));
    topics->sys->release(topics->sys, topic);
}

/* ---- Subscriptions ---- */

static ck_subscription *subscription_of(const ck_topics *topics, const ck_topic *topic, const ck_subscriber *subscriber)
{
    ck_subscription *found = *subscription_chain(topics, topic, subscriber);
    while (found && (found->topic != topic || found->subscriber != subscriber)) {
        found = found->chain;
    }
    return found;
}

ck_subscription *ck_topics_find(const ck_topics *topics, const ck_subscriber *subscriber, const char *name, size_t length)
{
    const ck_topic *topic = ck_topics_topic(topics, name, length);
    return topic ? subscription_of(topics, topic, subscriber) : NULL;
}

static void subscription_link(ck_topics *topics, ck_subscription *made)
{
    ck_topic *topic = made->topic;
    ck_subscriber *subscriber = made->subscriber;
    ck_subscription **chain = subscription_chain(topics, topic, subscriber);
    made->chain = *chain;
    *chain = made;
    made->previous = topic->last;
    *(topic->last ? &topic->last->next : &topic->first) = made;
    topic->last = made;
    made->other_previous = subscriber->last;
    *(subscriber->last ? &subscriber->last->other_next : &subscriber->first) = made;
    subscriber->last = made;
    topic->count++;
    subscriber->count++;
    topics->subscription_count++;
}

int ck_topics_subscribe(ck_topics *topics, ck_subscriber *subscriber, const char *name, size_t length)
{
    uint64_t hash = ck_hash(topics->key, name, length);
    ck_topic *topic = topic_of(topics, hash, name, length);
    if (topic && subscription_of(topics, topic, subscriber)) {
        return 0;
    }
    ck_subscription *made = subscription_room(topics) ? topics->sys->alloc(topics->sys, sizeof(*made)) : NULL;
    topic = made && !topic ? topic_new(topics, hash, name, length) : topic;
    if (!made || !topic) {
        if (made) {
            topics->sys->release(topics->sys, made);
        }
        return CK_NOMEM;
    }
    *made = (ck_subscription) {.topic = topic, .subscriber = subscriber, .serial = ++topics->serial};
    subscription_link(topics, made);
    return (int) topic->count;
}

static void subscription_unlink(ck_topics *topics, const ck_subscription *gone)
{
    ck_topic *topic = gone->topic;
    ck_subscriber *subscriber = gone->subscriber;
    ck_subscription **link = subscription_chain(topics, topic, subscriber);
    while (*link != gone) {
        link = &(*link)->chain;
    }
    *link = gone->chain;
    *(gone->previous ? &gone->previous->next : &topic->first) = gone->next;
    *(gone->next ? &gone->next->previous : &topic->last) = gone->previous;
    *(gone->other_previous ? &gone->other_previous->other_next : &subscriber->first) = gone->other_next;
    *(gone->other_next ? &gone->other_next->other_previous : &subscriber->last) = gone->other_previous;
    topic->count--;
    subscriber->count--;
    topics->subscription_count--;
}

void ck_topics_take_out(ck_topics *topics, ck_subscription *subscription)
{
    ck_topic *topic = subscription->topic;
    for (ck_walk *walk = topics->walks; walk; walk = walk->outer) {
        walk->next = walk->next == subscription ? subscription->next : walk->next;
    }
    subscription_unlink(topics, subscription);
    if (topic->count == 0) {
        topic_free(topics, topic);
    }
}

void ck_topics_remove(ck_topics *topics, ck_subscription *subscription)
{
    ck_topics_take_out(topics, subscription);
    ck_poison(subscription, sizeof(*subscription));
    topics->sys->release(topics->sys, subscription);
}

/* ---- Walks ---- */

void ck_walk_begin(ck_walk *walk, ck_topics *topics, const char *name, size_t length)
{
    const ck_topic *topic = ck_topics_topic(topics, name, length);
    *walk = (ck_walk) {.topics = topics, .outer = topics->walks, .next = topic ? topic->first : NULL, .serial = topics->serial};
    topics->walks = walk;
}

ck_subscriber *ck_walk_next(ck_walk *walk)
{
    const ck_subscription *at = walk->next;
    if (!at || at->serial > walk->serial) {
        return NULL;
    }
    walk->next = at->next;
    return at->subscriber;
}

void ck_walk_end(ck_walk *walk)
{
    if (walk->topics) {
        walk->topics->walks = walk->outer;
    }
}
