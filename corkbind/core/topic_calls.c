/* Topics by handle: the entries that an application calls, and the end of a subscriber. */
#include <string.h>

#include "poison.h"
#include "python.h"
#include "ws_connection.h"

enum { COMPRESS = 0x40 /* where a frame's first byte has RSV1 */ };

static ck_websocket *websocket_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_WEBSOCKET, error);
}

static ck_app *app_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_APP, error);
}

static bool is_name(int length)
{
    return length > 0 && length <= CK_TOPIC_BYTES;
}

/* ---- Subscriptions ---- */

static ck_subscriber *subscriber_made(ck_websocket *websocket)
{
    if (!websocket->subscriber) {
        ck_subscriber *made = ck_alloc(websocket->connection->stream.loop, sizeof(*made));
        if (made) {
            memset(made, 0, sizeof(*made));
            made->websocket = websocket;
            websocket->subscriber = made;
        }
    }
    return websocket->subscriber;
}

int ck_ws_subscribe(uint32_t handle, const char *topic, int length)
{
    int error;
    ck_websocket *websocket = websocket_of(handle, &error);
    if (!websocket || websocket->closing) {
        return websocket ? CK_FINISHED : error;
    }
    if (!is_name(length)) {
        return CK_VALUE;
    }
    ck_subscriber *subscriber = subscriber_made(websocket);
    ck_topics *topics = &websocket->connection->app->topics;
    return subscriber ? ck_topics_subscribe(topics, subscriber, topic, (size_t) length) : CK_NOMEM;
}

/* Returns the subscription, or NULL with *error set: CK_OK when there is none. */
static ck_subscription *subscription_of(uint32_t handle, const char *topic, int length, int *error)
{
    const ck_websocket *websocket = websocket_of(handle, error);
    if (!websocket) {
        return NULL;
    }
    *error = is_name(length) ? CK_OK : CK_VALUE;
    if (*error != CK_OK || !websocket->subscriber) {
        return NULL;
    }
    return ck_topics_find(&websocket->connection->app->topics, websocket->subscriber, topic, (size_t) length);
}

int ck_ws_unsubscribe(uint32_t handle, const char *topic, int length)
{
    int error;
    ck_subscription *found = subscription_of(handle, topic, length, &error);
    if (!found) {
        return error;
    }
    int before = (int) found->topic->count;
    ck_topics_remove(&found->subscriber->websocket->connection->app->topics, found);
    return before;
}

int ck_ws_subscribed(uint32_t handle, const char *topic, int length)
{
    int error;
    return subscription_of(handle, topic, length, &error) ? 1 : error;
}

static void *name_of(const ck_python *py, const ck_topic *topic)
{
    return py->utf8(topic->name, (ptrdiff_t) topic->length, "surrogateescape");
}

void *ck_py_ws_topics(uint32_t handle)
{
    const ck_python *py = ck_python_bound();
    int error;
    const ck_websocket *websocket = websocket_of(handle, &error);
    if (error == CK_THREAD) {
        py->error_set(py->value_error, "the handle belongs to another thread");
        return NULL;
    }
    void *list = py->list_new(0);
    const ck_subscription *at = websocket && websocket->subscriber ? websocket->subscriber->first : NULL;
    for (; list && at; at = at->other_next) {
        void *name = name_of(py, at->topic);
        bool added = name && py->list_append(list, name) == 0;
        if (name) {
            py->decref(name);
        }
        if (!added) {
            py->decref(list);
            list = NULL;
        }
    }
    return list;
}

int ck_app_subscribers(uint32_t handle, const char *topic, int length)
{
    int error;
    const ck_app *app = app_of(handle, &error);
    if (!app || !is_name(length)) {
        return app ? CK_VALUE : error;
    }
    const ck_topic *found = ck_topics_topic(&app->topics, topic, (size_t) length);
    return found ? (int) found->count : 0;
}

/* Takes all its subscriptions out. Returns them as a list, with names in the place of topics
 * and in the place of serial numbers the subscribers that are left. */
static ck_subscription *taken_out(ck_subscriber *subscriber, ck_topics *topics)
{
    const ck_python *py = ck_python_bound();
    ck_subscription *first = NULL, **end = &first;
    while (subscriber->first) {
        ck_subscription *gone = subscriber->first;
        void *name = name_of(py, gone->topic);
        uint32_t left = gone->topic->count - 1;
        ck_topics_take_out(topics, gone);
        *gone = (ck_subscription) {.name = name, .serial = left};
        *end = gone;
        end = &gone->next;
    }
    return first;
}

/* Whatever the application does when it is told, nothing of it is left in the tables. */
void ck_subscriber_over(ck_websocket *websocket)
{
    ck_subscriber *subscriber = websocket->subscriber;
    if (!subscriber) {
        return;
    }
    ck_loop *loop = websocket->connection->stream.loop;
    ck_subscriber_forget(subscriber);
    ck_subscription *gone = taken_out(subscriber, &websocket->connection->app->topics);
    websocket->subscriber = NULL;
    ck_poison(subscriber, sizeof(*subscriber));
    ck_free(loop, subscriber);
    while (gone) {
        ck_subscription *next = gone->next;
        (void) ck_websocket_tell(websocket, CK_WS_EVENT_SUBSCRIPTION, gone->name, (int) gone->serial);
        ck_free(loop, gone);
        gone = next;
    }
}

/* ---- Publishing ---- */

static int publish(ck_app *app, const ck_subscriber *sender, const char *topic, int topic_length, const char *data,
    int length, int first, const char *key, int key_length)
{
    int opcode = first & 0x0F;
    bool known = opcode == CK_WS_TEXT || opcode == CK_WS_BINARY;
    if (!is_name(topic_length) || length < 0 || !known || first & ~(0x0F | COMPRESS) || key_length > CK_TOPIC_BYTES) {
        return CK_VALUE;
    }
    ck_utf8 text = {0, 0, 0};
    size_t size = (size_t) length;
    if (opcode == CK_WS_TEXT && (ck_utf8_check(&text, data, size) < size || !ck_utf8_complete(&text))) {
        return CK_VALUE;
    }
    const ck_publication publication = {
        .topic = topic, .topic_length = (size_t) topic_length,
        .data = data, .length = (size_t) length,
        .key = key, .key_length = key_length > 0 ? (size_t) key_length : 0,
        .keyed = key_length >= 0, .compress = (first & COMPRESS) != 0, .opcode = (uint8_t) opcode,
    };
    return ck_topics_publish(app, sender, &publication);
}

int ck_ws_publish(uint32_t handle, const char *topic, int topic_length, const char *data, int length, int first,
    const char *key, int key_length)
{
    int error;
    const ck_websocket *websocket = websocket_of(handle, &error);
    if (!websocket) {
        return error;
    }
    ck_app *app = websocket->connection->app;
    return publish(app, websocket->subscriber, topic, topic_length, data, length, first, key, key_length);
}

int ck_app_publish(uint32_t handle, const char *topic, int topic_length, const char *data, int length, int first,
    const char *key, int key_length)
{
    int error;
    ck_app *app = app_of(handle, &error);
    return app ? publish(app, NULL, topic, topic_length, data, length, first, key, key_length) : error;
}
