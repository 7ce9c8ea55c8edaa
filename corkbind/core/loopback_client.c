/* The clients of a loopback: what they send, and what they are told. */
#include "loopback.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "python.h"

enum { SLOT_BITS = 16, SLOTS_MAX = 1 << SLOT_BITS, GENERATION_STEP = 1 << SLOT_BITS };

/* ---- Records ---- */

static bool make_room(ck_records *records, size_t more)
{
    size_t used = records->end - records->begin;
    if (records->begin && records->capacity - records->end < more) {
        memmove(records->memory, records->memory + records->begin, used);
        records->begin = 0;
        records->end = used;
    }
    if (records->capacity - records->end >= more) {
        return true;
    }
    size_t capacity = records->capacity ? records->capacity : 4096;
    while (capacity - used < more) {
        capacity *= 2;
    }
    char *memory = realloc(records->memory, capacity);
    if (memory) {
        records->memory = memory;
        records->capacity = capacity;
    }
    return memory != NULL;
}

char *ck_records_place(ck_records *records, size_t length)
{
    uint32_t size = (uint32_t) length;
    if (length > INT32_MAX || !make_room(records, sizeof(size) + length)) {
        return NULL;
    }
    memcpy(records->memory + records->end, &size, sizeof(size));
    char *at = records->memory + records->end + sizeof(size);
    records->end += sizeof(size) + length;
    return at;
}

/* ---- Life ---- */

/* Returns the client, or NULL with *error. */
static ck_client *client_of(int number, ck_loopback **world, int *error)
{
    *world = ck_loopback_current();
    int slot = number & (SLOTS_MAX - 1);
    *error = *world ? CK_EXPIRED : CK_NOLOOP;
    if (!*world || number < 0 || slot >= (*world)->client_count) {
        return NULL;
    }
    ck_client *client = (*world)->clients[slot];
    return client->number == number ? client : NULL;
}

static bool more_slots(ck_loopback *world)
{
    int capacity = world->client_capacity ? 2 * world->client_capacity : 16;
    ck_client **clients = realloc(world->clients, (size_t) capacity * sizeof(*clients));
    if (!clients) {
        return false;
    }
    world->clients = clients;
    world->client_capacity = capacity;
    return true;
}

/* Returns a client that is nobody's, with its number. */
static ck_client *unused_client(ck_loopback *world, int *number)
{
    ck_client *client = world->spare;
    if (client) {
        world->spare = client->next_spare;
        *number = client->next_number;
        return client;
    }
    if (world->client_count == SLOTS_MAX || (world->client_count == world->client_capacity && !more_slots(world))) {
        return NULL;
    }
    client = calloc(1, sizeof(*client));
    if (client) {
        *number = world->client_count;
        world->clients[world->client_count++] = client;
    }
    return client;
}

int ck_loopback_connect(const char *address, int length, int port)
{
    ck_loopback *world = ck_loopback_current();
    if (!world) {
        return CK_NOLOOP;
    }
    if ((length != 0 && length != 4 && length != 16) || port < 0 || port > 65535) {
        return CK_VALUE;
    }
    if (world->listeners < 0) {
        return CK_STATE;
    }
    int number;
    ck_client *client = unused_client(world, &number);
    if (!client) {
        return CK_NOMEM;
    }
    *client = (ck_client) {.number = number, .fd = -1, .window = -1, .in = client->in, .out = client->out,
        .address_length = (uint8_t) length, .port = (uint16_t) port};
    if (length) {
        memcpy(client->address, address, (size_t) length);
    }
    if (world->last_waiting) {
        world->last_waiting->next_waiting = client;
    } else {
        world->first_waiting = client;
    }
    world->last_waiting = client;
    world->client_live++;
    ck_loopback_update_listeners(world);
    return number;
}

static void unhear(ck_loopback *world, ck_client *client)
{
    ck_client *before = NULL;
    for (ck_client *c = world->first_heard; c != client; c = c->next_heard) {
        before = c;
    }
    if (before) {
        before->next_heard = client->next_heard;
    } else {
        world->first_heard = client->next_heard;
    }
    if (world->last_heard == client) {
        world->last_heard = before;
    }
    client->heard = false;
}

/* The slot goes with another number to the next client. Its memory for bytes goes
 * along, unless it is large. */
int ck_loopback_forget(int number)
{
    enum { KEPT = 1 << 20 };
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (!client) {
        return error;
    }
    if (!(client->state & CK_CLIENT_CLOSED)) {
        return CK_STATE;
    }
    if (client->heard) {
        unhear(world, client);
    }
    if (client->in.capacity > KEPT || client->out.capacity > KEPT) {
        free(client->in.memory);
        free(client->out.memory);
        client->in = client->out = (ck_records) {.memory = NULL};
    }
    client->in.begin = client->in.end = client->out.begin = client->out.end = 0;
    client->number = -1;
    client->next_number = (int) (((unsigned) number + GENERATION_STEP) & INT_MAX);
    client->next_spare = world->spare;
    world->spare = client;
    world->client_live--;
    return CK_OK;
}

void ck_loopback_clients_free(ck_loopback *world)
{
    for (int i = 0; i < world->client_count; i++) {
        free(world->clients[i]->in.memory);
        free(world->clients[i]->out.memory);
        free(world->clients[i]);
    }
    free(world->clients);
}

/* ---- What a client does ---- */

int ck_loopback_send(int number, const char *data, int length)
{
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (!client) {
        return error;
    }
    if (length < 0 || (length && !data)) {
        return CK_VALUE;
    }
    if (client->fin) {
        return CK_STATE;
    }
    if (length == 0 || client->error || client->state & CK_CLIENT_CLOSED) {
        return CK_OK; /* nobody is there to read it */
    }
    char *at = ck_records_place(&client->in, (size_t) length);
    if (!at) {
        return CK_NOMEM;
    }
    memcpy(at, data, (size_t) length);
    client->unread += (size_t) length;
    ck_loopback_update_client(world, client);
    return CK_OK;
}

int ck_loopback_fin(int number)
{
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (client) {
        client->fin = true;
        ck_loopback_update_client(world, client);
    }
    return client ? CK_OK : error;
}

int ck_loopback_reset(int number, int code)
{
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (!client) {
        return error;
    }
    if (code <= 0) {
        return CK_VALUE;
    }
    client->error = code;
    client->state |= CK_CLIENT_RESET;
    ck_loopback_update_client(world, client);
    ck_loopback_news(world, client);
    return CK_OK;
}

int ck_loopback_window(int number, int bytes)
{
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (!client) {
        return error;
    }
    if (bytes < -1) {
        return CK_VALUE;
    }
    client->window = bytes;
    ck_loopback_update_client(world, client);
    return CK_OK;
}

int ck_loopback_most(int number, int receive, int send)
{
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (!client) {
        return error;
    }
    if (receive < 0 || send < 0) {
        return CK_VALUE;
    }
    client->receive_most = receive;
    client->send_most = send;
    return CK_OK;
}

/* ---- What it sees ---- */

int ck_loopback_state(int number)
{
    ck_loopback *world;
    int error;
    const ck_client *client = client_of(number, &world, &error);
    return client ? client->state : error;
}

int ck_loopback_unread(int number)
{
    ck_loopback *world;
    int error;
    const ck_client *client = client_of(number, &world, &error);
    if (!client) {
        return error;
    }
    return client->unread > INT_MAX ? INT_MAX : (int) client->unread;
}

void ck_loopback_news(ck_loopback *world, ck_client *client)
{
    if (client->heard) {
        return;
    }
    client->heard = true;
    client->next_heard = NULL;
    if (world->last_heard) {
        world->last_heard->next_heard = client;
    } else {
        world->first_heard = client;
    }
    world->last_heard = client;
}

int ck_loopback_heard(void)
{
    ck_loopback *world = ck_loopback_current();
    if (!world || !world->first_heard) {
        return -1;
    }
    ck_client *client = world->first_heard;
    unhear(world, client);
    return client->number;
}

/* Appends a record's bytes to a list; false with a Python exception set. */
static bool append_bytes(const ck_python *py, void *list, const char *data, uint32_t length)
{
    void *bytes = py->bytes_new(data, (ptrdiff_t) length);
    bool appended = bytes && py->list_append(list, bytes) == 0;
    if (bytes) {
        py->decref(bytes);
    }
    return appended;
}

void *ck_py_loopback_take(int number)
{
    const ck_python *py = ck_python_bound();
    ck_loopback *world;
    int error;
    ck_client *client = client_of(number, &world, &error);
    if (!client) {
        py->error_set(py->value_error, error == CK_NOLOOP ? "no loopback is selected" : "the client has been forgotten");
        return NULL;
    }
    void *list = py->list_new(0);
    size_t at = client->out.begin;
    while (list && at < client->out.end) {
        uint32_t length;
        memcpy(&length, client->out.memory + at, sizeof(length));
        if (!append_bytes(py, list, client->out.memory + at + sizeof(length), length)) {
            py->decref(list);
            return NULL;
        }
        at += sizeof(length) + length;
    }
    if (list) {
        client->out.begin = client->out.end = 0;
    }
    return list;
}
