/* The negotiation of permessage-deflate: what each offer is answered with under each
 * kind of setting, by the rows of the catalogue. */
#include "ws_extensions.h"

#include "check.h"

enum { ROOM = 65536, SHARED_BOTH = 1 << 8 | 1, OWN = 15 << 4 | 8, OWN_INFLATE = 15 << 8 };
enum { OWN_BOTH = OWN_INFLATE | OWN, SMALL = 12 << 4 | 5, SMALL_INFLATE = 10 << 8 };

#define OFFER(value) "Sec-WebSocket-Extensions: " value "\r\n"
#define NAME "permessage-deflate"
#define KEEPS_NOTHING "; server_no_context_takeover; client_no_context_takeover"

static struct guarded memory;
static ck_ws_terms terms;

/* Returns the answer to a request with these fields, "" when nothing is accepted. */
static const char *answer_to(uint32_t options, const char *fields)
{
    static char text[ROOM], answer[CK_WS_TERMS_MAX + 1];
    int length = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    const ck_head_limits limits = {8192, 65535, 32768, 100};
    ck_head head;
    ck_head_init(&head);
    const char *data = guarded_at_end(&memory, text, (size_t)length);
    if (!CHECK_FOR(fields, ck_head_parse(&head, data, (size_t)length, &limits) == CK_HEAD_DONE))
        return "no head";
    if (!ck_ws_extensions_valid(&head, data))
        return "unreadable";
    if (!ck_ws_negotiate(&head, data, options, &terms))
        return "";
    memset(answer, 0, sizeof answer);
    CHECK_FOR(fields, ck_ws_terms_put(&terms, answer) <= CK_WS_TERMS_MAX);
    return answer;
}

static void expect(uint32_t options, const char *fields, const char *answer)
{
    const char *found = answer_to(options, fields);
    if (!CHECK_FOR(fields, strcmp(found, answer) == 0))
        fprintf(stderr, "  answered: %s\n", found);
}

static void test_offers_that_are_accepted(void)
{
    expect(OWN_BOTH, "", "");                                     /* WD-01 */
    expect(OWN_BOTH, OFFER(NAME), NAME);                          /* WD-02 */
    expect(0, OFFER(NAME), "");
    expect(OWN_BOTH, OFFER("PerMessage-DEFLATE"), NAME);          /* WD-09 */
    expect(OWN_BOTH, OFFER(NAME "\t ;\tClient_Max_Window_Bits \t=  \"1\\0\""), NAME "; client_max_window_bits=10");
    expect(OWN_BOTH, OFFER("x-other; a=b, " NAME), NAME);
    expect(OWN_BOTH, OFFER("x-other") OFFER(NAME), NAME);
    expect(OWN_BOTH, OFFER(NAME "; server_no_context_takeover"), NAME "; server_no_context_takeover"); /* WD-12 */
    expect(OWN_BOTH, OFFER(NAME "; client_no_context_takeover"), NAME "; client_no_context_takeover");
    expect(OWN_BOTH, OFFER(NAME "; client_no_context_takeover;server_no_context_takeover;server_max_window_bits=11;client_max_window_bits=13"),
        NAME KEEPS_NOTHING "; server_max_window_bits=11; client_max_window_bits=13");
}

static void test_first_good_offer(void)
{
    expect(OWN_BOTH, OFFER(NAME "; server_max_window_bits=10, " NAME), NAME "; server_max_window_bits=10");
    expect(OWN_BOTH, OFFER(NAME "; server_max_window_bits=8, " NAME "; client_max_window_bits=9"), NAME "; client_max_window_bits=9");
    expect(OWN_BOTH, OFFER(NAME "; unknown") OFFER(NAME "; server_max_window_bits=9, " NAME), NAME "; server_max_window_bits=9");
    expect(OWN_BOTH, OFFER(NAME "; a, " NAME "; b=c"), "");
}

static void test_names(void) /* WD-10, WD-11 */
{
    static const char *const others[] = {
        "permessage-defalte", "permessage-deflat", "permessage-deflatee", "xpermessage-deflate", "x-webkit-deflate-frame",
        "deflate-frame", "permessage_deflate", "permessage", "permessage-bzip2", "constructor",
    };
    char fields[256];
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        snprintf(fields, sizeof fields, OFFER("%s"), others[i]);
        expect(OWN_BOTH, fields, "");
    }
}

static void test_parameters_that_are_declined(void) /* WD-03, WD-04, WD-05 */
{
    static const char *const declined[] = {
        "unknown", "unknown=1", "server_no_context_takeover=1", "server_no_context_takeover=\"true\"",
        "client_no_context_takeover=15", "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; Client_No_Context_Takeover", "server_max_window_bits=9; server_max_window_bits=9",
        "client_max_window_bits; client_max_window_bits", "client_max_window_bits; client_max_window_bits=10",
        "server_max_window_bits", "server_max_window_bits=7", "server_max_window_bits=8", "server_max_window_bits=\"8\"",
        "server_max_window_bits=16", "server_max_window_bits=08", "server_max_window_bits=010", "server_max_window_bits=-8",
        "server_max_window_bits=+9", "server_max_window_bits=0", "server_max_window_bits=9a", "server_max_window_bits=1",
        "server_max_window_bits=100", "server_max_window_bits=4294967306", "server_max_window_bits=1000000000000000000000009",
        "server_max_window_bits=20", "client_max_window_bits=7", "client_max_window_bits=16", "client_max_window_bits=08",
        "client_max_window_bits=-8", "client_max_window_bits=\"07\"", "client_max_window_bits=x", "server_max_window_bit=10",
    };
    char fields[256];
    for (size_t i = 0; i < sizeof declined / sizeof *declined; i++) {
        snprintf(fields, sizeof fields, OFFER(NAME "; %s"), declined[i]);
        expect(OWN_BOTH, fields, "");
        snprintf(fields, sizeof fields, OFFER(NAME "; %s, " NAME "; client_no_context_takeover"), declined[i]);
        expect(OWN_BOTH, fields, NAME "; client_no_context_takeover");
    }
    expect(OWN_BOTH, OFFER(NAME "; server_max_window_bits="), "unreadable");
    expect(OWN_BOTH, OFFER(NAME "; server_max_window_bits=\"\""), "unreadable");
}

static void test_windows(void) /* WD-06, WD-07 */
{
    char fields[256], answer[256];
    for (int bits = 8; bits <= 15; bits++) {
        snprintf(fields, sizeof fields, OFFER(NAME "; server_max_window_bits=%d"), bits);
        snprintf(answer, sizeof answer, NAME "; server_max_window_bits=%d", bits);
        expect(OWN_BOTH, fields, bits == 8 ? "" : answer);
        CHECK(bits == 8 || terms.server_bits == bits);
        snprintf(answer, sizeof answer, NAME "; server_max_window_bits=%d", bits < 12 ? bits : 12);
        expect(OWN_INFLATE | SMALL, fields, bits == 8 ? "" : answer);
        snprintf(fields, sizeof fields, OFFER(NAME "; client_max_window_bits=\"%d\""), bits);
        snprintf(answer, sizeof answer, NAME "; client_max_window_bits=%d", bits);
        expect(OWN_BOTH, fields, bits == 15 ? NAME : answer);
        CHECK(terms.client_bits == bits && terms.server_bits == 15);
        snprintf(answer, sizeof answer, NAME "; client_max_window_bits=%d", bits < 10 ? bits : 10);
        expect(OWN | SMALL_INFLATE, fields, answer);
    }
    expect(OWN_BOTH, OFFER(NAME "; client_max_window_bits"), NAME);
    expect(OWN | SMALL_INFLATE, OFFER(NAME "; client_max_window_bits"), NAME "; client_max_window_bits=10");
    expect(OWN_INFLATE | SMALL, OFFER(NAME), NAME "; server_max_window_bits=12");
    expect(OWN | SMALL_INFLATE, OFFER(NAME), NAME "; client_no_context_takeover"); /* never told to who cannot be */
    CHECK(terms.client_bits == 15 && !terms.client_keeps);
}

static void test_shared(void)
{
    expect(SHARED_BOTH, OFFER(NAME), NAME KEEPS_NOTHING);
    expect(1, OFFER(NAME), NAME KEEPS_NOTHING); /* what is left out is shared */
    expect(1 << 8, OFFER(NAME), NAME KEEPS_NOTHING);
    expect(OWN, OFFER(NAME), NAME "; client_no_context_takeover");
    expect(OWN_INFLATE, OFFER(NAME), NAME "; server_no_context_takeover");
    expect(SHARED_BOTH, OFFER(NAME "; server_max_window_bits=10; client_max_window_bits"),
        NAME KEEPS_NOTHING "; server_max_window_bits=10");
    CHECK(terms.server_bits == 10 && terms.client_bits == 15);
}

static void test_options(void)
{
    static const uint32_t good[] = {0, 1, 1 << 8, SHARED_BOTH, OWN, OWN_INFLATE, OWN_BOTH, SMALL, SMALL_INFLATE, 9 << 4 | 1, 9 << 8};
    static const uint32_t bad[] = {2, 8, 0x10, 8 << 4 | 1, 9 << 4, 9 << 4 | 10, 2 << 8, 8 << 8, 16 << 8, 1 << 16, UINT32_MAX};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        CHECK(ck_ws_compression_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(!ck_ws_compression_valid(bad[i]));
}

/* As many offers as a head can hold, none of them good but the last. */
static void test_many_offers(void)
{
    static char fields[ROOM / 2];
    int length = snprintf(fields, sizeof fields, "Sec-WebSocket-Extensions: ");
    while (length < 16000)
        length += snprintf(fields + length, sizeof fields - (size_t)length, NAME "; a=b, ");
    snprintf(fields + length, sizeof fields - (size_t)length, NAME "\r\n");
    expect(OWN_BOTH, fields, NAME);
}

int main(void)
{
    memory = guarded_create(ROOM);
    test_offers_that_are_accepted();
    test_first_good_offer();
    test_names();
    test_parameters_that_are_declined();
    test_windows();
    test_shared();
    test_options();
    test_many_offers();
    return checks_done();
}
