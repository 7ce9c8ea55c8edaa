/* Fuzzes the opening handshake. An input is the name of a subprotocol, its length in
 * front of it, two bytes that choose how a route compresses, and the bytes of a request.
 *
 * The head parser reads the request, and the checks of the handshake judge it as the
 * reference does: whether it asks for a WebSocket, and the status of a refusal. Of a
 * valid one the answer to the key is the reference's, the subprotocols that are
 * offered are those that the client named, and permessage-deflate is agreed on, with
 * the parameters, as the naive negotiator has it. */
#include "fuzz.h"
#include "http_parser.h"
#include "mutate_http.h"
#include "reference_extensions.h"
#include "reference_handshake.h"
#include "ws_extensions.h"
#include "ws_handshake.h"

const size_t fuzz_prefix = 3;

/* Asks in memory that ends with the name. */
static bool offers(const ck_head *head, const char *data, const char *name, size_t length)
{
    char *copy = fuzz_copy(name, length);
    bool offered = ck_ws_offers(head, data, copy, length);
    free(copy);
    return offered;
}

static bool named(const reference_handshake *judged, const char *data, const char *name, size_t length)
{
    for (size_t i = 0; i < judged->protocol_count; i++)
        if (fuzz_same(data + judged->protocols[i].offset, judged->protocols[i].length, name, length))
            return true;
    return false;
}

/* A name, its parts, and the name in another case are offered when the client named just them. */
static void demand_offers(const ck_head *head, const reference_handshake *judged, const char *data, const char *name, size_t length)
{
    char *other = fuzz_copy(name, length);
    for (size_t i = 0; i < length; i++)
        if ((other[i] >= 'a' && other[i] <= 'z') || (other[i] >= 'A' && other[i] <= 'Z'))
            other[i] = (char)(other[i] ^ 0x20);
    DEMAND(offers(head, data, name, length) == named(judged, data, name, length));
    DEMAND(offers(head, data, other, length) == named(judged, data, other, length));
    if (length > 0) {
        DEMAND(offers(head, data, name, length - 1) == named(judged, data, name, length - 1));
        DEMAND(offers(head, data, name + 1, length - 1) == named(judged, data, name + 1, length - 1));
    }
    free(other);
}

static void demand_answer(const ck_head *head, const reference_handshake *judged, const char *data, const char *name, size_t length)
{
    char wanted[29];
    char *key = fuzz_copy(data + judged->key.offset, CK_WS_KEY_LENGTH), *accept = malloc(CK_WS_ACCEPT_LENGTH);
    DEMAND(accept != NULL && judged->key.length == CK_WS_KEY_LENGTH);
    reference_accept(key, wanted);
    ck_ws_accept(key, accept);
    DEMAND(fuzz_same(accept, CK_WS_ACCEPT_LENGTH, wanted, strlen(wanted)));
    free(key);
    free(accept);
    demand_offers(head, judged, data, name, length);
    for (size_t i = 0; i < judged->protocol_count; i++)
        demand_offers(head, judged, data, data + judged->protocols[i].offset, judged->protocols[i].length);
}

/* Two bytes make good CompressOptions. */
static uint32_t some_options(fuzz_input *in)
{
    uint8_t compressor = fuzz_byte(in), decompressor = fuzz_byte(in);
    uint32_t bits = 9U + compressor / 16 % 7, level = 1U + compressor % 16 % 9;
    uint32_t low = compressor % 16 > 9 ? compressor % 2 : bits * 16 + level;
    uint32_t high = decompressor < 2 ? decompressor : 9U + decompressor % 7;
    DEMAND(ck_ws_compression_valid(low | high << 8));
    return low | high << 8;
}

/* The same offer accepted, with the same answer, and with terms that say what the answer says. */
static void demand_terms(const ck_head *head, const reference_head *wanted, const char *data, uint32_t options)
{
    char answer[REFERENCE_ANSWER];
    ck_ws_terms terms;
    bool accepted = reference_negotiate(wanted, data, options, answer);
    DEMAND(ck_ws_negotiate(head, data, options, &terms) == accepted);
    if (!accepted)
        return;
    char *out = malloc(CK_WS_TERMS_MAX);
    DEMAND(out != NULL);
    size_t length = ck_ws_terms_put(&terms, out);
    DEMAND(length <= CK_WS_TERMS_MAX && fuzz_same(out, length, answer, strlen(answer)));
    free(out);
    DEMAND(terms.server_keeps == !strstr(answer, "server_no_context_takeover"));
    DEMAND(terms.client_keeps == !strstr(answer, "client_no_context_takeover"));
    DEMAND(terms.server_bits >= CK_WS_WINDOW_LEAST && terms.server_bits <= CK_WS_WINDOW_MOST);
    DEMAND(terms.server_bits == 15 || strstr(answer, "server_max_window_bits"));
    DEMAND(terms.client_bits == 15 || strstr(answer, "client_max_window_bits"));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static reference_head wanted;
    static reference_handshake judged;
    const ck_head_limits limits = {8192, 32768, 16384, CK_MAX_FIELDS};
    const reference_limits reference = {limits.line, limits.head, limits.field, limits.fields};
    fuzz_input in = {input, size};
    size_t name_length;
    const char *name = fuzz_text(&in, &name_length);
    uint32_t options = some_options(&in);
    reference_head_read(&wanted, (const char *)in.data, in.length, &reference);
    char *data = fuzz_copy((const char *)in.data, in.length);
    ck_head head;
    ck_head_init(&head);
    DEMAND(ck_head_parse(&head, data, in.length, &limits) == wanted.result);
    if (wanted.result == CK_HEAD_DONE) {
        char *exact = fuzz_copy(data, head.length);
        reference_handshake_judge(&judged, &wanted, exact);
        DEMAND(ck_ws_wanted(&head, exact) == judged.wanted);
        DEMAND(ck_ws_handshake_check(&head, exact) == judged.status);
        if (judged.status == 0) {
            demand_answer(&head, &judged, exact, name, name_length);
            demand_terms(&head, &wanted, exact, options);
        }
        free(exact);
    }
    free(data);
    return 0;
}
