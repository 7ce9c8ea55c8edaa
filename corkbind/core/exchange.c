/* Exchanges: one request with its response, and who still holds on to it.
 *
 * An exchange is made when the first byte of a request arrives and gets its
 * handle when the head is complete. It ends when its response has left and its
 * keeper has let go: the callback by returning, or, after ck_keep, the caller by
 * ck_release. Until then it may outlive its connection. */
#include "http.h"

#include <string.h>

#include "poison.h"

enum { SPARES_MAX = 256 };

ck_exchange *ck_exchange_new(ck_connection *connection)
{
    ck_loop *loop = connection->stream.loop;
    ck_exchange *exchange = loop->spare_exchanges;
    if (exchange) {
        loop->spare_exchanges = exchange->next;
        loop->spare_count--;
    } else {
        exchange = ck_alloc(loop, sizeof(*exchange));
        if (!exchange) {
            return NULL;
        }
    }
    memset(exchange, 0, offsetof(ck_exchange, head));
    exchange->loop = loop;
    exchange->connection = connection;
    exchange->next = connection->attached;
    connection->attached = exchange;
    ck_head_init(&exchange->head);
    exchange->match.parameter_count = 0;
    return exchange;
}

int ck_exchange_register(ck_exchange *exchange)
{
    exchange->handle = ck_handle_new(&exchange->loop->handles, CK_KIND_EXCHANGE, exchange);
    return exchange->handle ? CK_OK : CK_NOMEM;
}

static void detach(ck_exchange *exchange)
{
    ck_connection *connection = exchange->connection;
    if (!connection) {
        return;
    }
    ck_exchange **link = &connection->attached;
    while (*link != exchange) {
        link = &(*link)->next;
    }
    *link = exchange->next;
    if (connection->exchange == exchange) {
        connection->exchange = NULL;
    }
    if (connection->last == exchange->handle) {
        connection->last = 0;
    }
    exchange->connection = NULL;
}

void ck_exchange_free(ck_exchange *exchange)
{
    ck_loop *loop = exchange->loop;
    detach(exchange);
    ck_handle_drop(&loop->handles, exchange->handle);
    if (exchange->head_owned) {
        ck_free(loop, exchange->data);
    }
    ck_free(loop, exchange->body);
    ck_free(loop, exchange->trailers);
    ck_free(loop, exchange->tls_facts);
    ck_poison(exchange, sizeof(*exchange));
    if (loop->spare_count < SPARES_MAX) {
        exchange->next = loop->spare_exchanges;
        loop->spare_exchanges = exchange;
        loop->spare_count++;
    } else {
        ck_free(loop, exchange);
    }
}

void ck_exchange_abort(ck_exchange *exchange, enum ck_abort_reason reason)
{
    ck_loop *loop = exchange->loop;
    uint32_t handle = exchange->handle;
    bool unfinished = exchange->phase < CK_RESPONSE_FINISHED;
    bool body_awaited = exchange->body_mode && exchange->body_state == CK_BODY_PENDING;
    if (unfinished) {
        exchange->phase = CK_RESPONSE_ABORTED;
    }
    if (exchange->body_state == CK_BODY_PENDING) {
        exchange->body_state = CK_BODY_FAILED;
        exchange->body_error = exchange->body_error ? exchange->body_error : CK_BODY_INCOMPLETE;
    }
    ck_tls_facts_keep(exchange);
    detach(exchange);
    if (!exchange->kept) {
        if (!exchange->in_callback) {
            ck_exchange_free(exchange);
        }
        return;
    }
    if (body_awaited && unfinished) { /* first: it says more about why */
        ck_follow_body(exchange, exchange->body_error);
    }
    ck_exchange *left = ck_handle_get(&loop->handles, handle, CK_KIND_EXCHANGE);
    if (unfinished && left && left->kept) { /* the body's callback may have let go */
        ck_follow_aborted(left, (int) reason);
    }
}

void ck_exchange_let_go(ck_exchange *exchange)
{
    exchange->kept = false;
    exchange->in_callback = true; /* ours until the last line, also if the connection closes before */
    if (exchange->phase < CK_RESPONSE_FINISHED) {
        ck_response_unanswered(exchange);
    }
    ck_exchange_free(exchange);
}

ck_exchange *ck_exchange_of(uint32_t handle, int *error)
{
    return ck_loop_object(handle, CK_KIND_EXCHANGE, error);
}

ck_exchange *ck_exchange_writable(uint32_t handle, int *error)
{
    ck_exchange *exchange = ck_exchange_of(handle, error);
    if (!exchange) {
        return NULL;
    }
    if (exchange->phase >= CK_RESPONSE_FINISHED) {
        *error = exchange->phase == CK_RESPONSE_FINISHED ? CK_FINISHED : CK_ABORTED;
        return NULL;
    }
    return exchange;
}

int ck_keep(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (!exchange->head_owned) {
        char *copy = ck_alloc(exchange->loop, exchange->head.length);
        if (!copy) {
            return CK_NOMEM;
        }
        memcpy(copy, exchange->data, exchange->head.length);
        exchange->data = copy;
        exchange->head_owned = true;
    }
    exchange->kept = true;
    return CK_OK;
}

int ck_release(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->in_callback) {
        exchange->kept = false; /* the callback's end decides */
    } else {
        ck_exchange_let_go(exchange);
    }
    return CK_OK;
}

int ck_alive(uint32_t handle)
{
    int error;
    (void) ck_exchange_writable(handle, &error);
    return error;
}

int ck_set_yield(uint32_t handle, int yield)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (exchange) {
        exchange->yield = yield != 0;
    }
    return error;
}

int ck_get_yield(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    return exchange ? exchange->yield : error;
}

/* ---- Corking by handle ---- */

/* Returns the stream to cork: also that of a response that has ended, since a
 * segment goes on after it. */
static ck_stream *stream_of(uint32_t handle, int *error)
{
    ck_exchange *exchange = ck_exchange_of(handle, error);
    if (exchange && !exchange->connection) {
        *error = CK_ABORTED;
        return NULL;
    }
    return exchange ? &exchange->connection->stream : NULL;
}

int ck_cork(uint32_t handle)
{
    int error;
    ck_stream *stream = stream_of(handle, &error);
    return stream ? ck_stream_cork(stream) : error;
}

int ck_uncork(uint32_t handle)
{
    int error;
    ck_stream *stream = stream_of(handle, &error);
    return stream ? ck_stream_uncork(stream) : error;
}

int ck_flush(uint32_t handle)
{
    int error;
    ck_stream *stream = stream_of(handle, &error);
    if (stream) {
        ck_stream_flush_now(stream);
    }
    return error;
}

uint32_t ck_corked(void)
{
    ck_loop *loop = ck_loop_current();
    if (!loop || !loop->corks.stack_depth) {
        return 0;
    }
    const ck_stream *stream = loop->corks.stack[loop->corks.stack_depth - 1];
    return stream->kind->handle(stream);
}

int ck_close(uint32_t handle)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    if (exchange->phase == CK_RESPONSE_FINISHED && exchange->connection && exchange->connection->exchange) {
        return CK_FINISHED; /* the connection is about another request by now */
    }
    if (exchange->phase < CK_RESPONSE_FINISHED) {
        exchange->phase = CK_RESPONSE_ABORTED; /* so that nobody is told: the caller knows */
    }
    if (exchange->connection) {
        ck_connection_close(exchange->connection, CK_ABORT_SERVER);
    }
    return CK_OK;
}

int ck_pause(uint32_t handle, int paused)
{
    int error;
    ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return error;
    }
    ck_connection *connection = exchange->connection;
    if (!connection || connection->exchange != exchange) {
        return connection ? CK_FINISHED : CK_ABORTED;
    }
    connection->user_paused = paused != 0;
    if (!paused && !connection->cursor) {
        ck_loop_resume_later(exchange->loop, connection);
    }
    if (connection->phase == CK_PHASE_BODY) {
        ck_connection_timer_for_phase(connection);
    }
    ck_connection_update_reading(connection);
    return CK_OK;
}
