/* The catalogue of bad input, row by row: request heads and chunked bodies, each
 * whole, as every prefix, byte by byte and in every split, at protected pages.
 * A verdict must be the same in all feeds and come at the same byte. */
#include "http_parser.h"

#include "check.h"

enum { CAPACITY = 128 * 1024, LONG_INPUT = 3000 };

static const ck_head_limits usual = {8192, 32768, 16384, 100};
static struct guarded memory;

/* --- Running one head ------------------------------------------------------ */

struct outcome {
    int result;
    size_t at; /* bytes that decided it */
    ck_head head;
};

static void outcome_init(struct outcome *outcome)
{
    memset(outcome, 0, sizeof *outcome);
    ck_head_init(&outcome->head);
}

static int parse(ck_head *head, const char *data, size_t length, const ck_head_limits *limits, int at_start)
{
    const char *place = at_start ? guarded_at_start(&memory, data, length) : guarded_at_end(&memory, data, length);
    return ck_head_parse(head, place, length, limits);
}

/* The input moves at every byte. */
static void feed_bytes(struct outcome *o, const char *data, size_t length, const ck_head_limits *limits)
{
    outcome_init(o);
    for (o->at = 0; o->at <= length; o->at++) {
        int often = length < LONG_INPUT;
        const char *place = data;
        if (often)
            place = o->at & 1 ? guarded_at_start(&memory, data, o->at) : guarded_at_end(&memory, data, o->at);
        o->result = ck_head_parse(&o->head, place, o->at, limits);
        if (o->result != CK_HEAD_MORE)
            return;
    }
}

/* The head when it is complete; what a refused one holds does not matter. */
static int same_outcome(const struct outcome *a, int result, const ck_head *head)
{
    if (a->result != result)
        return 0;
    return result != CK_HEAD_DONE || memcmp(&a->head, head, sizeof *head) == 0;
}

/* Runs all feeds. Leaves what byte by byte gave in *o. */
static void run_head(const char *id, const char *data, size_t length, const ck_head_limits *limits, struct outcome *o)
{
    feed_bytes(o, data, length, limits);
    size_t step = length < LONG_INPUT ? 1 : 977;
    for (size_t cut = 0; cut <= length; cut++) {
        if (cut % step != 0 && cut != length && cut != o->at && cut + 1 != o->at)
            continue;
        struct outcome fresh, split;
        outcome_init(&fresh);
        fresh.result = parse(&fresh.head, data, cut, limits, 0);
        int expected = cut < o->at ? CK_HEAD_MORE : o->result;
        if (!CHECK_FOR(id, expected == CK_HEAD_MORE ? fresh.result == expected : same_outcome(o, fresh.result, &fresh.head)))
            return;
        outcome_init(&split);
        split.result = parse(&split.head, data, cut, limits, 1);
        if (split.result == CK_HEAD_MORE)
            split.result = parse(&split.head, data, length, limits, 0);
        if (!CHECK_FOR(id, same_outcome(o, split.result, &split.head)))
            return;
    }
}

/* method|path|query|host|content length|minor|flags|fields */
static void render(const ck_head *head, const char *data, char *out, size_t capacity)
{
    snprintf(out, capacity, "%.*s|%.*s|%.*s|%.*s|%lld|%d|%s%s%s%s%s|%d", (int)head->method_name.length,
        data + head->method_name.offset, (int)head->path.length, data + head->path.offset, (int)head->query.length,
        data + head->query.offset, (int)head->host.length, data + head->host.offset, (long long)head->content_length,
        head->minor_version, head->keep_alive ? "K" : "", head->chunked ? "C" : "", head->expect_continue ? "E" : "",
        head->upgrade ? "U" : "", head->asterisk ? "*" : "", head->field_count);
}

/* --- Heads as data --------------------------------------------------------- */

struct row {
    const char *id;
    const char *input;
    size_t length;
    int result;
    size_t at;          /* bytes after which it must be refused; 0: any */
    const char *render; /* what must come out; NULL: anything */
};

#define ROW(id, input, result) {id, input, sizeof(input) - 1, result, 0, NULL}
#define AT(id, input, result, at) {id, input, sizeof(input) - 1, result, at, NULL}
#define OK(id, input, render) {id, input, sizeof(input) - 1, CK_HEAD_DONE, 0, render}

#define LINE(line) line "\r\nHost: a\r\n\r\n"
#define GET(fields) "GET / HTTP/1.1\r\nHost: a\r\n" fields "\r\n\r\n"
#define OLD(fields) "GET / HTTP/1.0\r\n" fields "\r\n\r\n"
#define HOST_IS(host) "GET / HTTP/1.1\r\nHost: " host "\r\n\r\n"
#define POST_LENGTH(value) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:" value "\r\n\r\n"
#define POST_CODING(value) "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:" value "\r\n\r\n"
#define PLAIN "GET|/||a|-1|1|K|1"

static const struct row request_lines[] = {
    ROW("RL-01", "", CK_HEAD_MORE),
    OK("RL-02", "\r\n" LINE("GET / HTTP/1.1"), PLAIN),
    OK("RL-02", "\r\n\r\n" LINE("GET / HTTP/1.1"), PLAIN),
    AT("RL-03", "\r\n\r\n\r\n" LINE("GET / HTTP/1.1"), -400, 5),
    AT("RL-03", "\n" LINE("GET / HTTP/1.1"), -400, 1),
    AT("RL-03", "\r" LINE("GET / HTTP/1.1"), -400, 2),
    AT("RL-03", "\r\n\n" LINE("GET / HTTP/1.1"), -400, 3),
    AT("RL-04", " " LINE("GET / HTTP/1.1"), -400, 1),
    AT("RL-04", "\t" LINE("GET / HTTP/1.1"), -400, 1),
    AT("RL-05", " \t \r\n", -400, 1),
    AT("RL-06", LINE(" / HTTP/1.1"), -400, 1),
    ROW("RL-07", LINE("GET HTTP/1.1"), -400),
    AT("RL-08", LINE("GET  HTTP/1.1"), -400, 5),
    AT("RL-09", LINE("GET  /  HTTP/1.1"), -400, 5),
    AT("RL-09", LINE("GET /  HTTP/1.1"), -400, 7),
    AT("RL-10", LINE("GET\t/ HTTP/1.1"), -400, 4),
    AT("RL-10", LINE("GET\v/ HTTP/1.1"), -400, 4),
    AT("RL-10", LINE("GET\f/ HTTP/1.1"), -400, 4),
    AT("RL-10", LINE("GET\r/ HTTP/1.1"), -400, 4),
    AT("RL-10", LINE("GET /\tHTTP/1.1"), -400, 6),
    AT("RL-10", LINE("GET /\vHTTP/1.1"), -400, 6),
    AT("RL-10", LINE("GET /\fHTTP/1.1"), -400, 6),
    AT("RL-10", LINE("GET /\rHTTP/1.1"), -400, 6),
    AT("RL-11", LINE("GET\n/\nHTTP/1.1"), -400, 4),
    AT("RL-12", LINE("GET / HTTP/1.1 "), -400, 15),
    AT("RL-13", "GET /\r\n\r\n", -400, 6),
    AT("RL-14", "GET / \r\n\r\n", -400, 7),
    ROW("RL-15", LINE("GET / http/1.1"), -400), ROW("RL-15", LINE("GET / Http/1.1"), -400),
    ROW("RL-16", LINE("GET / HTTP/1"), -400), ROW("RL-16", LINE("GET / HTTP/1."), -400),
    ROW("RL-16", LINE("GET / HTTP/.1"), -400), ROW("RL-16", LINE("GET / HTTP/"), -400),
    ROW("RL-17", LINE("GET / HTTP/01.1"), -400), ROW("RL-17", LINE("GET / HTTP/1.01"), -400),
    ROW("RL-17", LINE("GET / HTTP/1.10"), -400), ROW("RL-17", LINE("GET / HTTP/11.1"), -400),
    ROW("RL-17", LINE("GET / HTTP/4294967297.1"), -400), ROW("RL-17", LINE("GET / HTTP/1.32"), -400),
    ROW("RL-18", LINE("GET / HTTP/ 1.1"), -400), ROW("RL-18", LINE("GET / HTTP /1.1"), -400),
    ROW("RL-18", LINE("GET / HTTP/1 .1"), -400), ROW("RL-18", LINE("GET / HTTP/\r\r1.1"), -400),
    OK("RL-19", LINE("GET / HTTP/1.2"), PLAIN), OK("RL-19", LINE("GET / HTTP/1.5"), PLAIN),
    OK("RL-19", LINE("GET / HTTP/1.9"), PLAIN),
    ROW("RL-20", LINE("GET / HTTP/2.0"), -505),
    ROW("RL-21", LINE("GET / HTTP/0.9"), -505), ROW("RL-21", LINE("GET / HTTP/0.99"), -505),
    ROW("RL-21", LINE("GET / HTTP/3.0"), -505), ROW("RL-21", LINE("GET / HTTP/9.9"), -505),
    ROW("RL-22", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -505),
    ROW("RL-23", LINE("GET / FTP/1.1"), -400), ROW("RL-23", LINE("GET / RTSP/1.0"), -400),
    ROW("RL-23", LINE("GET / ICE/1.0"), -400), ROW("RL-23", LINE("GET / HTTPS/1.1"), -400),
    AT("RL-24", "\x16\x03\x01\x02\x00\x01", -400, 1),
    AT("RL-25", "\0\xff\x80\x01", -400, 1),
    AT("RL-25", "A\0\xff\x80\x01", -400, 2),
    OK("RL-26", LINE("get / HTTP/1.1"), "get|/||a|-1|1|K|1"), OK("RL-26", LINE("Get / HTTP/1.1"), "Get|/||a|-1|1|K|1"),
    OK("RL-27", LINE("FROB / HTTP/1.1"), "FROB|/||a|-1|1|K|1"),
    AT("RL-29", LINE("GE:T / HTTP/1.1"), -400, 3), AT("RL-29", LINE("GE(T / HTTP/1.1"), -400, 3),
    AT("RL-29", LINE("GE=T / HTTP/1.1"), -400, 3), AT("RL-29", LINE("GE\"T / HTTP/1.1"), -400, 3),
    AT("RL-29", LINE("GE[T / HTTP/1.1"), -400, 3), AT("RL-29", LINE("GE\0T / HTTP/1.1"), -400, 3),
    AT("RL-29", LINE("GE\x80T / HTTP/1.1"), -400, 3), AT("RL-29", LINE("GE\xffT / HTTP/1.1"), -400, 3),
    OK("RL-30", LINE("ABCDEFGHIJKLMNOPQRSTUVWXYZ012345 / HTTP/1.1"), "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345|/||a|-1|1|K|1"),
    AT("RL-30", LINE("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456 / HTTP/1.1"), -501, 33),
    AT("RL-31", LINE("GET /\0 HTTP/1.1"), -400, 6), AT("RL-31", LINE("GET /\x01 HTTP/1.1"), -400, 6),
    AT("RL-31", LINE("GET /?\x1f HTTP/1.1"), -400, 7), AT("RL-31", LINE("GET /\x7f HTTP/1.1"), -400, 6),
    AT("RL-32", LINE("GET /\x80 HTTP/1.1"), -400, 6), AT("RL-32", LINE("GET /?\xff HTTP/1.1"), -400, 7),
    ROW("RL-33", LINE("GET /a b HTTP/1.1"), -400),
    AT("RL-34", LINE("GET /a#frag HTTP/1.1"), -400, 7), AT("RL-34", LINE("GET /?a#frag HTTP/1.1"), -400, 8),
    AT("RL-35", LINE("GET /\\ HTTP/1.1"), -400, 6), AT("RL-35", LINE("GET /< HTTP/1.1"), -400, 6),
    AT("RL-35", LINE("GET /> HTTP/1.1"), -400, 6), AT("RL-35", LINE("GET /\" HTTP/1.1"), -400, 6),
    AT("RL-35", LINE("GET /?\\ HTTP/1.1"), -400, 7), AT("RL-35", LINE("GET /?< HTTP/1.1"), -400, 7),
    AT("RL-35", LINE("GET /[ HTTP/1.1"), -400, 6), AT("RL-35", LINE("GET /?` HTTP/1.1"), -400, 7),
    OK("RL-35", LINE("GET /?\"|^{} HTTP/1.1"), "GET|/|\"|^{}|a|-1|1|K|1"),
    OK("RL-35", LINE("GET /?a[]=1 HTTP/1.1"), "GET|/|a[]=1|a|-1|1|K|1"),
    AT("RL-36", LINE("GET /% HTTP/1.1"), -400, 7), AT("RL-36", LINE("GET /%1 HTTP/1.1"), -400, 8),
    AT("RL-36", LINE("GET /%zz HTTP/1.1"), -400, 7), AT("RL-36", LINE("GET /?%1g HTTP/1.1"), -400, 9),
    AT("RL-37", LINE("GET /%00 HTTP/1.1"), -400, 8), AT("RL-37", LINE("GET /?%00 HTTP/1.1"), -400, 9),
    OK("RL-38", LINE("GET /%0d%0aX:%20y HTTP/1.1"), "GET|/%0d%0aX:%20y||a|-1|1|K|1"),
    OK("RL-39", LINE("GET /%c0%af%ed%a0%80 HTTP/1.1"), "GET|/%c0%af%ed%a0%80||a|-1|1|K|1"),
    AT("RL-40", LINE("GET foo HTTP/1.1"), -400, 5), AT("RL-40", LINE("GET admin/a/b HTTP/1.1"), -400, 5),
    OK("RL-44", LINE("GET //evil.example/x HTTP/1.1"), "GET|//evil.example/x||a|-1|1|K|1"),
    OK("RL-45", LINE("GET /../../etc/passwd HTTP/1.1"), "GET|/../../etc/passwd||a|-1|1|K|1"),
    OK("RL-45", LINE("GET /%2e%2e/ HTTP/1.1"), "GET|/%2e%2e/||a|-1|1|K|1"),
    OK("RL", LINE("GET /a?b?c=/d HTTP/1.1"), "GET|/a|b?c=/d|a|-1|1|K|1"),
    OK("RL", LINE("GET /a? HTTP/1.1"), "GET|/a||a|-1|1|K|1"),
    OK("TF-01", LINE("GET http://a/p?q HTTP/1.1"), "GET|/p|q|a|-1|1|K|1"),
    OK("TF-01", LINE("GET HTTPS://a/p?q HTTP/1.1"), "GET|/p|q|a|-1|1|K|1"),
    OK("TF-02", LINE("GET http://b:8/p HTTP/1.1"), "GET|/p||b:8|-1|1|K|1"),
    ROW("TF-03", "GET http://a/ HTTP/1.1\r\n\r\n", -400),
    ROW("TF-04", LINE("GET http://u:p@a/ HTTP/1.1"), -400), ROW("TF-04", LINE("GET http://u@a/ HTTP/1.1"), -400),
    AT("TF-05", LINE("GET ftp://a/ HTTP/1.1"), -400, 5), ROW("TF-05", LINE("GET s://]ufd/: HTTP/1.1"), -400),
    ROW("TF-05", LINE("GET http:/a HTTP/1.1"), -400), ROW("TF-05", LINE("GET http:a HTTP/1.1"), -400),
    ROW("TF-05", LINE("GET http HTTP/1.1"), -400), ROW("TF-05", LINE("GET https:/a HTTP/1.1"), -400),
    ROW("TF-06", LINE("GET http:///p HTTP/1.1"), -400), ROW("TF-06", LINE("GET http://:80/ HTTP/1.1"), -400),
    ROW("TF-06", LINE("GET http://?p HTTP/1.1"), -400), ROW("TF-06", LINE("GET http:// HTTP/1.1"), -400),
    OK("TF-07", LINE("GET http://a?x=1 HTTP/1.1"), "GET||x=1|a|-1|1|K|1"),
    OK("TF-07", LINE("GET http://a:8080 HTTP/1.1"), "GET|||a:8080|-1|1|K|1"),
    OK("TF-07", LINE("GET http://[::1]:8080/x HTTP/1.1"), "GET|/x||[::1]:8080|-1|1|K|1"),
    AT("TF-08", LINE("GET a:443 HTTP/1.1"), -400, 5), AT("TF-08", LINE("GET h:443 HTTP/1.1"), -400, 6),
    OK("TF-09", LINE("CONNECT a:443 HTTP/1.1"), "CONNECT|||a:443|-1|1|K|1"),
    OK("TF-09", LINE("CONNECT [::1]:443 HTTP/1.1"), "CONNECT|||[::1]:443|-1|1|K|1"),
    ROW("TF-10", LINE("CONNECT a HTTP/1.1"), -400), ROW("TF-10", LINE("CONNECT / HTTP/1.1"), -400),
    ROW("TF-10", LINE("CONNECT http://a:80 HTTP/1.1"), -400), ROW("TF-10", LINE("CONNECT a: HTTP/1.1"), -400),
    ROW("TF-10", LINE("CONNECT a:0 HTTP/1.1"), -400), ROW("TF-10", LINE("CONNECT * HTTP/1.1"), -400),
    ROW("TF-10", LINE("CONNECT :443 HTTP/1.1"), -400),
    OK("TF-11", LINE("OPTIONS * HTTP/1.1"), "OPTIONS|||a|-1|1|K*|1"),
    ROW("TF-12", LINE("GET * HTTP/1.1"), -400), ROW("TF-12", LINE("POST * HTTP/1.1"), -400),
    AT("TF-13", LINE("OPTIONS */x HTTP/1.1"), -400, 10), AT("TF-13", LINE("OPTIONS ** HTTP/1.1"), -400, 10),
    OK("TF-14", "TRACE / HTTP/1.1\r\nHost: a\r\nAuthorization: b\r\n\r\n", "TRACE|/||a|-1|1|K|2"),
    OK("TF-15", "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "TRACE|/||a|0|1|K|2"),
    ROW("TF-15", "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", -400),
    ROW("TF-15", "TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", -400),
};

static const struct row field_rows[] = {
    AT("HS-01", GET("Name : v"), -400, 30),
    ROW("HS-02", GET("Name\t: v"), -400), ROW("HS-02", GET("Na me: v"), -400),
    ROW("HS-02", GET("Content\tLength: 5"), -400),
    AT("HS-03", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", -400, 17), AT("HS-03", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", -400, 17),
    ROW("HS-04", GET("Content-Length 10"), -400), ROW("HS-04", GET("Content-Length"), -400),
    AT("HS-05", GET(": v"), -400, 26), AT("HS-05", GET(":"), -400, 26),
    ROW("HS-06", GET("X\": v"), -400), ROW("HS-06", GET("X(: v"), -400), ROW("HS-06", GET("X): v"), -400),
    ROW("HS-06", GET("X,: v"), -400), ROW("HS-06", GET("X/: v"), -400), ROW("HS-06", GET("X;: v"), -400),
    ROW("HS-06", GET("X<: v"), -400), ROW("HS-06", GET("X=: v"), -400), ROW("HS-06", GET("X>: v"), -400),
    ROW("HS-06", GET("X?: v"), -400), ROW("HS-06", GET("X@: v"), -400), ROW("HS-06", GET("X[: v"), -400),
    ROW("HS-06", GET("X\\: v"), -400), ROW("HS-06", GET("X]: v"), -400), ROW("HS-06", GET("X{: v"), -400),
    ROW("HS-06", GET("X}: v"), -400),
    ROW("HS-07", GET("Content-Length\x85: 5"), -400), ROW("HS-07", GET("\xa0X: 5"), -400),
    ROW("HS-07", GET("\xc3\x9f: 5"), -400), ROW("HS-07", GET("X\xff: 5"), -400),
    ROW("HS-08", GET("X\0: 5"), -400), ROW("HS-08", GET("X\x01: 5"), -400), ROW("HS-08", GET("X\x7f: 5"), -400),
    ROW("HS-09", GET("Transfer-\r\nEncoding: chunked"), -400),
    AT("HS-10", GET("X: a\0b"), -400, 30),
    AT("HS-11", GET("X: a\x01"), -400, 30), AT("HS-11", GET("X: a\x08"), -400, 30), AT("HS-11", GET("X: a\v"), -400, 30),
    AT("HS-11", GET("X: a\f"), -400, 30), AT("HS-11", GET("X: a\x0e"), -400, 30), AT("HS-11", GET("X: a\x1f"), -400, 30),
    AT("HS-11", GET("X: a\x7f"), -400, 30), AT("HS-11", GET("X:\x7f"), -400, 28),
    OK("HS-12", GET("X: a\tb"), "GET|/||a|-1|1|K|2"), OK("HS-13", GET("X: \x80y\xff"), "GET|/||a|-1|1|K|2"),
    OK("HS-14", GET("X: \xa0x\x85"), "GET|/||a|-1|1|K|2"),
    OK("HS-15", GET("X:"), "GET|/||a|-1|1|K|2"), OK("HS-15", GET("X: \t  "), "GET|/||a|-1|1|K|2"),
    OK("HS-17", GET("Accept: a\r\nAccept: b\r\nAccept: c"), "GET|/||a|-1|1|K|4"),
    ROW("HS-18", GET("Content-Type: a\r\nContent-Type: a"), -400),
    ROW("HS-18", GET("Authorization: a\r\nauthorization: b"), -400),
    ROW("HS-18", GET("Expect: 100-continue\r\nExpect: 100-continue"), -400),
    ROW("HS-18", GET("Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b"), -400),
    OK("HS-18", GET("Sec-WebSocket-Kex: a\r\nSec-WebSocket-Kex: b\r\nContent-Typo: a\r\nContent-Typo: a"), NULL),
    OK("HS-19", GET("Content_Length: 5\r\nTransfer_Encoding: chunked"), "GET|/||a|-1|1|K|3"),
    OK("HS-20", "GET / HTTP/1.1\r\nhOsT: a\r\n\r\n", PLAIN),
    OK("HS-20", GET("TRANSFER-ENCODING: chunked"), "GET|/||a|-1|1|KC|2"),
    OK("HS-26", GET("Cookie: ===;;;\r\nCookie: a=b"), "GET|/||a|-1|1|K|3"), ROW("HS-26", GET("Cookie: a=\0"), -400),
    OK("HS-28", GET("X-Forwarded-For: a\r\nX-Forwarded-For: b"), "GET|/||a|-1|1|K|3"),
    ROW("HS-28", "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" GET("X: y"), -400),
    AT("LE-01", "GET / HTTP/1.1\nHost: a\r\n\r\n", -400, 15),
    AT("LE-02", "GET / HTTP/1.1\r\nHost: a\n\r\n", -400, 24),
    ROW("LE-03", "GET / HTTP/1.1\nHost: a\n\n", -400), AT("LE-03", "GET / HTTP/1.1\r\nHost: a\r\n\n", -400, 26),
    ROW("LE-03", "GET / HTTP/1.1\r\nHost: a\n\r\n", -400),
    AT("LE-04", "GET / HTTP/1.1\rHost: a\r\r", -400, 16),
    AT("LE-05", GET("X: v\rX: y"), -400, 31), AT("LE-06", GET("X: v\r"), -400, 31),
    AT("LE-06", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", -400, 16), AT("LE-07", "GET / HTTP/1.1\r\nHost: a\r\n\rX", -400, 27),
    AT("LE-10", GET("X: a\nContent-Length: 26"), -400, 30),
    ROW("LE-11", "GET / HTTP/1.1\r\nHost: a\r\n", CK_HEAD_MORE),
    OK("LE-12", GET("X: a\xc2\x85" "b\xe2\x80\xa8" "c"), "GET|/||a|-1|1|K|2"),
    AT("OF-01", GET("X: a\r\n b"), -400, 32), ROW("OF-02", GET("Transfer-Encoding:\r\n chunked"), -400),
    ROW("OF-03", GET("Content-Length: 1\r\n 2"), -400), ROW("OF-03", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", -400),
    ROW("OF-04", GET("X: a\r\n "), -400), ROW("OF-05", GET("X: a\r\n\tb"), -400),
    ROW("OF-05", GET("Accept:\r\n */*"), -400),
    ROW("HO-01", "GET / HTTP/1.1\r\n\r\n", -400), OK("HO-02", "GET / HTTP/1.0\r\n\r\n", "GET|/|||-1|0||0"),
    ROW("HO-03", GET("Host: a"), -400), ROW("HO-04", GET("host: b"), -400), ROW("HO-04", GET("HOST: b"), -400),
    ROW("HO-05", HOST_IS(""), -400), ROW("HO-06", HOST_IS("a, b"), -400), ROW("HO-07", HOST_IS("u@a"), -400),
    ROW("HO-07", HOST_IS("u:p@a"), -400), ROW("HO-08", HOST_IS("a/path"), -400), ROW("HO-08", HOST_IS("a?x"), -400),
    ROW("HO-08", HOST_IS("a#x"), -400), ROW("HO-08", HOST_IS("a\\b"), -400), ROW("HO-09", HOST_IS("a:98777"), -400),
    ROW("HO-09", HOST_IS("a:1.2"), -400), ROW("HO-09", HOST_IS("a:a"), -400), ROW("HO-09", HOST_IS("a:80:80"), -400),
    ROW("HO-09", HOST_IS("a:-1"), -400), ROW("HO-09", HOST_IS("a:65536"), -400), ROW("HO-09", HOST_IS("[::1]:x"), -400),
    OK("HO-10", HOST_IS("a:"), "GET|/||a:|-1|1|K|1"), OK("HO-10", HOST_IS("a:0"), "GET|/||a:0|-1|1|K|1"),
    OK("HO-10", HOST_IS("a:65535"), "GET|/||a:65535|-1|1|K|1"),
    OK("HO-11", HOST_IS("[::1]"), "GET|/||[::1]|-1|1|K|1"), OK("HO-11", HOST_IS("[::1]:80"), "GET|/||[::1]:80|-1|1|K|1"),
    OK("HO-11", HOST_IS("[::ffff:1.2.3.4]"), NULL), OK("HO-11", HOST_IS("[::]"), NULL),
    OK("HO-11", HOST_IS("[1:2:3:4:5:6:7:8]"), NULL), OK("HO-11", HOST_IS("[1:2:3:4:5:6:1.2.3.4]"), NULL),
    OK("HO-11", HOST_IS("[1::8]"), NULL), OK("HO-11", HOST_IS("[1:2:3:4:5:6:7::]"), NULL),
    OK("HO-11", HOST_IS("[FE80::A:1]"), NULL),
    ROW("HO-12", HOST_IS("[::1"), -400), ROW("HO-12", HOST_IS("x[::1]"), -400), ROW("HO-12", HOST_IS("[::1]."), -400),
    ROW("HO-12", HOST_IS("[a..b::1]"), -400), ROW("HO-12", HOST_IS("[::1%25eth0]"), -400),
    ROW("HO-12", HOST_IS("[]"), -400), ROW("HO-12", HOST_IS("[:]"), -400), ROW("HO-12", HOST_IS("[:::]"), -400),
    ROW("HO-12", HOST_IS("[1:2:3:4:5:6:7]"), -400), ROW("HO-12", HOST_IS("[1:2:3:4:5:6:7:8:9]"), -400),
    ROW("HO-12", HOST_IS("[1:2:3:4:5:6:7:8::]"), -400), ROW("HO-12", HOST_IS("[1::2::3]"), -400),
    ROW("HO-12", HOST_IS("[:1::2]"), -400), ROW("HO-12", HOST_IS("[1:]"), -400), ROW("HO-12", HOST_IS("[::12345]"), -400),
    ROW("HO-12", HOST_IS("[::1.2.3]"), -400), ROW("HO-12", HOST_IS("[::1.2.3.256]"), -400),
    ROW("HO-12", HOST_IS("[::1.2.3.04]"), -400), ROW("HO-12", HOST_IS("[1.2.3.4::]"), -400),
    ROW("HO-12", HOST_IS("[1:2:3:4:5:6:7:1.2.3.4]"), -400), ROW("HO-12", HOST_IS("[::g]"), -400),
    ROW("HO-13", HOST_IS("."), -400), ROW("HO-13", HOST_IS("..a"), -400), ROW("HO-13", HOST_IS("a..b"), -400),
    ROW("HO-13", HOST_IS("a.."), -400),
    ROW("HO-14", HOST_IS("a b"), -400), ROW("HO-14", HOST_IS("a\tb"), -400), ROW("HO-14", HOST_IS("a\x01"), -400),
    ROW("HO-14", HOST_IS("a\0"), -400), ROW("HO-14", HOST_IS("a\x80"), -400),
    OK("HO-15", HOST_IS("a."), "GET|/||a.|-1|1|K|1"), OK("HO-15", HOST_IS("a_b"), NULL), OK("HO-15", HOST_IS("AbC"), NULL),
};

static const struct row framing_rows[] = {
    ROW("CL-01", POST_LENGTH("+5"), -400), ROW("CL-02", POST_LENGTH("-5"), -400), ROW("CL-02", POST_LENGTH("-0"), -400),
    ROW("CL-02", POST_LENGTH("-48"), -400), ROW("CL-02", POST_LENGTH("-123456789123456789123456789"), -400),
    ROW("CL-03", POST_LENGTH("0x5"), -400), ROW("CL-03", POST_LENGTH("0o5"), -400), ROW("CL-03", POST_LENGTH("0b1"), -400),
    ROW("CL-03", POST_LENGTH("5h"), -400), ROW("CL-04", POST_LENGTH("1_0"), -400), ROW("CL-04", POST_LENGTH("0_1"), -400),
    ROW("CL-04", POST_LENGTH("1e3"), -400), ROW("CL-04", POST_LENGTH("5.0"), -400), ROW("CL-04", POST_LENGTH("5,"), -400),
    ROW("CL-05", POST_LENGTH(""), -400), ROW("CL-05", POST_LENGTH(" "), -400), ROW("CL-06", POST_LENGTH("1 0"), -400),
    ROW("CL-06", POST_LENGTH("0 1"), -400), ROW("CL-06", POST_LENGTH("3\t1"), -400), ROW("CL-07", POST_LENGTH("5, 5"), -400),
    ROW("CL-08", POST_LENGTH("5, 6"), -400), ROW("CL-09", POST_LENGTH("5\r\nContent-Length: 5"), -400),
    ROW("CL-10", POST_LENGTH("5\r\nContent-Length: 6"), -400), ROW("CL-10", POST_LENGTH("6\r\ncontent-length: 5"), -400),
    ROW("CL-11", POST_LENGTH("\r\nContent-Length: 43"), -400), ROW("CL-11", POST_LENGTH("43\r\nContent-Length:"), -400),
    OK("CL-12", POST_LENGTH("005"), "POST|/||a|5|1|K|2"), OK("CL-12", POST_LENGTH("00"), "POST|/||a|0|1|K|2"),
    OK("CL-12", POST_LENGTH("010"), "POST|/||a|10|1|K|2"), OK("CL-12", POST_LENGTH("0200"), "POST|/||a|200|1|K|2"),
    ROW("CL-13", POST_LENGTH("00000000000000000005"), -400), ROW("CL-13", POST_LENGTH("9223372036854775808"), -400),
    ROW("CL-13", POST_LENGTH("18446744073709551616"), -400), ROW("CL-13", POST_LENGTH("18446744073709551621"), -400),
    ROW("CL-13", POST_LENGTH("9999999999999999999"), -400),
    OK("CL-15", POST_LENGTH("\t5 \t"), "POST|/||a|5|1|K|2"),
    ROW("CL-16", POST_LENGTH("5Z"), -400), ROW("CL-16", POST_LENGTH("5;"), -400), ROW("CL-16", POST_LENGTH("5\""), -400),
    ROW("CL-16", POST_LENGTH("abc"), -400), ROW("CL-17", POST_LENGTH("\xd9\xa5"), -400),
    ROW("CL-17", POST_LENGTH("\xef\xbc\x95"), -400), ROW("CL-18", POST_LENGTH("5\0"), -400),
    ROW("CL-18", POST_LENGTH("\v5"), -400), ROW("CL-18", POST_LENGTH("\f5"), -400), ROW("CL-18", POST_LENGTH("\xa0" "5"), -400),
    OK("CL-19", GET("Content-Length: 7"), "GET|/||a|7|1|K|2"), OK("CL-20", LINE("POST / HTTP/1.1"), "POST|/||a|-1|1|K|1"),
    OK("CL-25", OLD("Content-Length: 7"), "GET|/|||7|0||1"),
    OK("CL-26", POST_LENGTH("999999999999999999"), "POST|/||a|999999999999999999|1|K|2"),
    OK("CL-26", POST_LENGTH("9223372036854775807"), "POST|/||a|9223372036854775807|1|K|2"),
    OK("TE-01", POST_CODING("chunked"), "POST|/||a|-1|1|KC|2"), OK("TE-01", POST_CODING("Chunked"), "POST|/||a|-1|1|KC|2"),
    OK("TE-01", POST_CODING("CHUNKED"), "POST|/||a|-1|1|KC|2"),
    OK("TE-02", POST_CODING("\tchunked "), "POST|/||a|-1|1|KC|2"), ROW("TE-03", POST_CODING("identity"), -501),
    ROW("TE-04", POST_CODING("gzip"), -501), ROW("TE-04", POST_CODING("deflate"), -501),
    ROW("TE-04", POST_CODING("gzip, chunked"), -501), ROW("TE-05", POST_CODING("chunked, gzip"), -400),
    ROW("TE-05", POST_CODING("chunked, identity"), -400), ROW("TE-06", POST_CODING("chunked, chunked"), -400),
    ROW("TE-06", POST_CODING("chunked, gzip, chunked"), -400),
    ROW("TE-07", POST_CODING("chunked\r\nTransfer-Encoding: chunked"), -400),
    ROW("TE-08", POST_CODING("chunked\r\nTransfer-Encoding: identity"), -400),
    ROW("TE-08", POST_CODING("identity\r\nTransfer-Encoding: chunked"), -400), ROW("TE-09", POST_CODING("xchunked"), -501),
    ROW("TE-09", POST_CODING("chunkedx"), -501), ROW("TE-09", POST_CODING("chunked-false"), -501),
    ROW("TE-09", POST_CODING("chunkedchunked"), -501), ROW("TE-09", POST_CODING("blegh"), -501),
    ROW("TE-10", POST_CODING(",chunked"), -400), ROW("TE-10", POST_CODING("chunked,"), -400),
    ROW("TE-10", POST_CODING(", chunked ,"), -400), ROW("TE-11", POST_CODING(""), -400), ROW("TE-11", POST_CODING(" "), -400),
    ROW("TE-12", POST_CODING("chunked;a=b"), -400), ROW("TE-13", POST_CODING("\"chunked\""), -400),
    ROW("TE-13", POST_CODING("'chunked'"), -400), ROW("TE-13", POST_CODING("chunked\""), -400),
    ROW("TE-14", POST_CODING("\v" "chunked"), -400), ROW("TE-14", POST_CODING("chunked\f"), -400),
    ROW("TE-14", POST_CODING("chunked\0"), -400), ROW("TE-14", POST_CODING("\xa0" "chunked"), -400),
    ROW("TE-14", POST_CODING("chunked\xff"), -400), ROW("TE-15", OLD("Transfer-Encoding: chunked"), -400),
    ROW("TE-15", OLD("Transfer-Encoding: gzip"), -400),
    OK("TE-16", GET("Transfer_Encoding: chunked\r\nContent-Length: 5"), "GET|/||a|5|1|K|3"),
    ROW("TE-17", GET("Transfer-Encoding : chunked"), -400), ROW("TE-17", GET(" Transfer-Encoding: chunked"), -400),
    ROW("TE-17", GET("Transfer-Encoding:\v" "chunked"), -400), ROW("TE-18", GET("X: y\nTransfer-Encoding: chunked"), -400),
    OK("TE-19", GET("TE: trailers"), "GET|/||a|-1|1|K|2"), OK("TE-19", GET("TE: chunked"), "GET|/||a|-1|1|K|2"),
    OK("TE-20", GET("Transfer-Encoding: chunked"), "GET|/||a|-1|1|KC|2"),
    ROW("CT-01", GET("Content-Length: 5\r\nTransfer-Encoding: chunked"), -400),
    ROW("CT-01", GET("Transfer-Encoding: chunked\r\nContent-Length: 5"), -400),
    ROW("CT-01", GET("CONTENT-length: 0\r\ntransfer-ENCODING: chunked"), -400),
    ROW("CT-02", GET("Content-Length: 5\r\nTransfer-Encoding: identity"), -400),
    ROW("CT-02", GET("Transfer-Encoding: xchunked\r\nContent-Length: 5"), -400),
    ROW("CT-02", GET("Content-Length: 5\r\nTransfer-Encoding:"), -400),
    OK("EX-03", OLD("Expect: 100-continue"), "GET|/|||-1|0||1"), OK("EX-03", OLD("Expect: 200-ok"), "GET|/|||-1|0||1"),
    ROW("EX-04", GET("Expect: 200-ok"), -417), ROW("EX-04", GET("Expect: 100-continue;x=1"), -417),
    ROW("EX-04", GET("Expect: y 100-continue"), -417), ROW("EX-04", GET("Expect: 100-continue, 100-continue"), -417),
    ROW("EX-04", GET("Expect:"), -417), ROW("EX-04", GET("Expect: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"), -400),
    OK("EX-05", GET("Expect: 100-Continue"), "GET|/||a|-1|1|KE|2"),
    OK("PI-10", GET("Connection: close, keep-alive"), "GET|/||a|-1|1||2"),
    OK("PI-10", GET("Connection: Close"), "GET|/||a|-1|1||2"),
    OK("PI-10", GET("Connection: keep-alive\r\nConnection: TE ,\tclose"), "GET|/||a|-1|1||3"),
    OK("PI-11", GET("Connection: hello"), "GET|/||a|-1|1|K|2"), OK("PI-11", GET("Connection: closed"), "GET|/||a|-1|1|K|2"),
    OK("PI-11", GET("Connection:"), "GET|/||a|-1|1|K|2"), OK("PI-11", GET("Connection: ,, ,"), "GET|/||a|-1|1|K|2"),
    OK("PI-12", OLD("X: y"), "GET|/|||-1|0||1"), OK("PI-12", OLD("Connection: keep-alive"), "GET|/|||-1|0|K|1"),
    OK("PI-12", OLD("Connection: Keep-Alive, close"), "GET|/|||-1|0||1"),
    OK("PI-14", GET("Connection: Content-Length, Host\r\nContent-Length: 3"), "GET|/||a|3|1|K|3"),
    OK("UP", GET("Upgrade: websocket\r\nConnection: keep-alive, Upgrade"), "GET|/||a|-1|1|KU|3"),
    OK("UP-05", GET("Upgrade: websocket"), "GET|/||a|-1|1|K|2"), OK("UP", GET("Connection: Upgrade"), "GET|/||a|-1|1|K|2"),
    OK("UP", OLD("Upgrade: websocket\r\nConnection: Upgrade"), "GET|/|||-1|0||2"),
};

static void test_rows(const struct row *rows, size_t count)
{
    static struct outcome o;
    char text[512], padded[1024];
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        run_head(row->id, row->input, row->length, &usual, &o);
        if (!CHECK_FOR(row->id, o.result == row->result))
            fprintf(stderr, "    gave %d for: %s\n", o.result, row->input);
        if (row->at > 0 && !CHECK_FOR(row->id, o.at == row->at))
            fprintf(stderr, "    at %zu for: %s\n", o.at, row->input);
        if (o.result == CK_HEAD_MORE)
            continue;
        if (o.result == CK_HEAD_DONE) {
            CHECK_FOR(row->id, o.head.length == row->length && o.at == row->length);
            render(&o.head, row->input, text, sizeof text);
            if (row->render && !CHECK_FOR(row->id, strcmp(text, row->render) == 0))
                fprintf(stderr, "    gave %s\n", text);
        }
        /* What follows the deciding byte changes nothing. */
        static const char next[] = "GET /canary HTTP/1.1\r\nHost: a\r\n\r\n";
        memcpy(padded, row->input, row->length);
        memcpy(padded + row->length, next, sizeof next);
        static struct outcome followed;
        outcome_init(&followed);
        int result = parse(&followed.head, padded, row->length + sizeof next - 1, &usual, 0);
        CHECK_FOR(row->id, same_outcome(&o, result, &followed.head));
    }
}

/* --- Spans and limits ------------------------------------------------------ */

static void test_values_are_exact(void)
{
    static const char input[] = "GET / HTTP/1.1\r\nHost:  a \t\r\nX: \xa0x\x85\r\nEmpty:\t \r\nTab:a\tb\r\nX: 2\r\n\r\n";
    static const char *const names[] = {"host", "x", "empty", "tab", "x"};
    static const char *const values[] = {"a", "\xa0x\x85", "", "a\tb", "2"};
    static struct outcome o;
    run_head("values", input, sizeof input - 1, &usual, &o);
    CHECK(o.result == CK_HEAD_DONE && o.head.field_count == 5);
    for (int i = 0; i < 5; i++) {
        const ck_field *field = &o.head.fields[i];
        CHECK(field->value_length == strlen(values[i]));
        CHECK(memcmp(input + field->value_offset, values[i], field->value_length) == 0);
        CHECK(ck_head_find(&o.head, input, names[i], strlen(names[i]), i) == i);
    }
    CHECK(ck_head_find(&o.head, input, "x", 1, 0) == 1 && ck_head_find(&o.head, input, "x", 1, 2) == 4);
    CHECK(ck_head_find(&o.head, input, "x", 1, 5) == -1 && ck_head_find(&o.head, input, "xx", 2, 0) == -1);
}

static void test_methods(void)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "GETS"};
    for (int method = CK_GET; method <= CK_METHOD_OTHER; method++) {
        char input[100];
        struct outcome o;
        outcome_init(&o);
        int length = snprintf(input, sizeof input, "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", names[method],
            method == CK_CONNECT ? "a:1" : "/");
        CHECK(parse(&o.head, input, (size_t)length, &usual, 0) == CK_HEAD_DONE && o.head.method == method);
    }
}

static char big[CAPACITY];

/* before, `count` times filler, after. Returns the length. */
static size_t compose(const char *before, char filler, size_t count, const char *after)
{
    size_t start = strlen(before), end = strlen(after);
    memcpy(big, before, start);
    memset(big + start, filler, count);
    memcpy(big + start + count, after, end);
    return start + count + end;
}

static void expect_big(const char *id, size_t length, int result, size_t at)
{
    static struct outcome o;
    run_head(id, big, length, &usual, &o);
    CHECK_FOR(id, o.result == result);
    if (at > 0 && !CHECK_FOR(id, o.at == at))
        fprintf(stderr, "    at %zu, not %zu\n", o.at, at);
}

static void test_limits(void)
{
    const char *version = " HTTP/1.1\r\nHost: a\r\n\r\n", *get = "GET / HTTP/1.1\r\nHost: a\r\n";
    size_t fixed = strlen("GET / HTTP/1.1"), before = strlen(get);
    expect_big("RL-30", compose("", 'A', 100000, version), -501, 33);
    expect_big("RL-41", compose("GET /", 'a', 7899, version), CK_HEAD_DONE, 0);
    expect_big("RL-42", compose("GET /", 'a', 8192 - fixed, version), CK_HEAD_DONE, 0);
    expect_big("RL-42", compose("GET /", 'a', 8193 - fixed, version), -414, 8193);
    expect_big("RL-43", compose("GET /", 'a', 100000, ""), -414, 8193);
    expect_big("RL-43", compose("GET /?", 'a', 100000, ""), -414, 8193);
    expect_big("RL-43", compose("GET http://", 'a', 100000, ""), -414, 8193);
    expect_big("RL-43", compose("GET /", 'a', 8192 - 5, "\r\n"), -414, 8193);
    /* A bad byte before the limit, and one behind it. */
    expect_big("LM-01", compose("GET /%zz", 'a', 10000, version), -400, 7);
    expect_big("LM-01", compose("GET /", 'a', 8000, "\x01"), -400, 8006);
    expect_big("LM-01", compose("GET /", 'a', 8200, "\x01"), -414, 8193);
    expect_big("HS-16", compose("GET / HTTP/1.1\r\nHost: a\r\nX:", ' ', 65536, "y\r\n\r\n"), -431, before + 16385);
    expect_big("HS-16", compose("GET / HTTP/1.1\r\nHost: a\r\nX: y", ' ', 65536, "\r\n\r\n"), -431, before + 16385);
    expect_big("HS-22", compose(get, 'n', 102400, ": v\r\n\r\n"), -431, before + 16385);
    expect_big("HS-22", compose("GET / HTTP/1.1\r\nHost: a\r\nX: ", 'v', 102400, "\r\n\r\n"), -431, before + 16385);
    expect_big("HS-25", compose("GET / HTTP/1.1\r\nHost: a\r\nX: ", 'v', 16384 - 3, "\r\n\r\n"), CK_HEAD_DONE, 0);
    expect_big("HS-25", compose("GET / HTTP/1.1\r\nHost: a\r\nX: ", 'v', 16384 - 2, "\r\n\r\n"), -431, before + 16385);
    expect_big("HS-25", compose("GET / HTTP/1.1\r\nHost: a\r\nX:", ' ', 16384 - 2, "\r\n\r\n"), CK_HEAD_DONE, 0);
    expect_big("HO-16", compose("GET / HTTP/1.1\r\nHost: ", 'h', 255, "\r\n\r\n"), CK_HEAD_DONE, 0);
    expect_big("HO-16", compose("GET / HTTP/1.1\r\nHost: ", 'h', 256, "\r\n\r\n"), -400, 0);
}

/* The field section: 32 KiB of field lines, line ends included. */
static void test_section_limit(void)
{
    static const char line[] = "GET / HTTP/1.1\r\n", host[] = "Host: a\r\n";
    for (size_t excess = 0; excess < 4; excess++) {
        size_t at = compose(line, 0, 0, host), start = sizeof line - 1;
        for (size_t left = 32768 - (at - start) + excess; left > 0;) {
            size_t size = left > 16000 ? 10000 : left;
            at += (size_t)snprintf(big + at, 20, "X: ");
            memset(big + at, 'v', size - 5);
            at += size - 5;
            memcpy(big + at, "\r\n", 3);
            at += 2;
            left -= size;
        }
        memcpy(big + at, "\r\n", 3);
        expect_big("HS-25", at + 2, excess == 0 ? CK_HEAD_DONE : -431, excess == 0 ? at + 2 : start + 32769);
    }
}

static void test_field_count(void)
{
    static const ck_head_limits few = {8192, 32768, 16384, 3};
    static struct outcome o;
    for (int count = 99; count <= 10000; count = count < 101 ? count + 1 : count * 10) {
        size_t at = compose("GET / HTTP/1.1\r\nHost: a\r\n", 0, 0, ""), refused = 0;
        for (int i = 1; i < count && at < 100000; i++) {
            refused = i == 100 ? at + 1 : refused;
            at += (size_t)snprintf(big + at, 20, "X%d:\r\n", i);
        }
        at += (size_t)snprintf(big + at, 20, "\r\n");
        expect_big("HS-21", at, count <= 100 ? CK_HEAD_DONE : -431, count <= 100 ? at : refused);
    }
    static const char three[] = GET("A: b\r\nC: d"), four[] = GET("A: b\r\nC: d\r\nE: f");
    run_head("LM-02", three, sizeof three - 1, &few, &o);
    CHECK(o.result == CK_HEAD_DONE && o.head.field_count == 3);
    run_head("LM-02", four, sizeof four - 1, &few, &o);
    CHECK(o.result == -431);
}

/* Small limits at every value: the feeds agree wherever a limit falls. */
static void test_limits_fall_anywhere(void)
{
    static const char input[] = "\r\nOPTIONS http://ab:80/p%41?q%42=1 HTTP/1.1\r\nHost: a\r\nX: \t y \r\nLong-Name:z\r\n\r\n";
    static struct outcome o;
    for (uint32_t limit = 0; limit < sizeof input; limit++) {
        ck_head_limits line = usual, head = usual, field = usual;
        line.line = head.head = field.field = limit;
        run_head("line limit", input, sizeof input - 1, &line, &o);
        CHECK(o.result == (limit < 41 ? -414 : CK_HEAD_DONE));
        run_head("head limit", input, sizeof input - 1, &head, &o);
        CHECK(o.result == (limit < 31 ? -431 : CK_HEAD_DONE));
        run_head("field limit", input, sizeof input - 1, &field, &o);
        CHECK(o.result == (limit < 11 ? -431 : CK_HEAD_DONE));
    }
}

static void test_refusal_is_final(void)
{
    static const char input[] = GET("Content-Length: x\r\nX: y");
    struct outcome o;
    outcome_init(&o);
    CHECK(parse(&o.head, input, sizeof input - 1, &usual, 0) == -400);
    CHECK(parse(&o.head, input, sizeof input - 1, &usual, 0) == -400);
}

/* --- Chunked ----------------------------------------------------------- */

struct body {
    int result;
    size_t used;
    size_t payload_length, trailer_length;
    char payload[512], trailer[512];
};

static void append(char *to, size_t *length, const char *span, size_t size)
{
    for (size_t i = 0; i < size; i++, ++*length)
        if (*length < sizeof((struct body *)0)->payload)
            to[*length] = span[i];
}

/* Gives the decoder one piece. */
static void feed_piece(ck_chunked *chunked, struct body *body, const char *data, size_t length)
{
    const char *at = guarded_at_end(&memory, data, length), *span;
    size_t left = length, size;
    do {
        body->result = ck_chunked_next(chunked, &at, &left, &span, &size);
        if (body->result == CK_CHUNK_DATA)
            append(body->payload, &body->payload_length, span, size);
        if (body->result == CK_CHUNK_TRAILER)
            append(body->trailer, &body->trailer_length, span, size);
    } while (body->result == CK_CHUNK_DATA || body->result == CK_CHUNK_TRAILER);
    body->used += length - left;
}

static void feed_body(struct body *body, const char *data, size_t length, size_t cut, size_t step)
{
    ck_chunked chunked;
    memset(body, 0, sizeof *body);
    ck_chunked_init(&chunked);
    for (size_t at = 0; at < length && body->result == CK_CHUNK_MORE;) {
        size_t size = at < cut ? cut : step;
        size = size < length - at ? size : length - at;
        feed_piece(&chunked, body, data + at, size);
        at += size;
    }
}

static void run_body(const char *id, const char *data, size_t length, struct body *bytes)
{
    feed_body(bytes, data, length, 0, 1);
    for (size_t cut = 0; cut <= length; cut += length < 4096 ? 1 : 499) {
        static struct body split;
        feed_body(&split, data, length, cut, length);
        CHECK_FOR(id, split.result == bytes->result);
        if (bytes->result < 0)
            continue;
        CHECK_FOR(id, split.used == bytes->used && split.payload_length == bytes->payload_length);
        CHECK_FOR(id, split.trailer_length == bytes->trailer_length);
        CHECK_FOR(id, memcmp(split.payload, bytes->payload, sizeof split.payload) == 0);
        CHECK_FOR(id, memcmp(split.trailer, bytes->trailer, sizeof split.trailer) == 0);
    }
}

struct body_row {
    const char *id;
    const char *input;
    size_t length;
    int result;
    const char *payload;
    const char *trailer;
};

#define BODY(id, input, payload, trailer) {id, input, sizeof(input) - 1, CK_CHUNK_END, payload, trailer}
#define BAD(id, input) {id, input, sizeof(input) - 1, -400, NULL, NULL}
#define PART(id, input) {id, input, sizeof(input) - 1, CK_CHUNK_MORE, NULL, NULL}
#define SIZED(line) line "\r\nhello\r\n0\r\n\r\n"
#define TRAILED(lines) "5\r\nhello\r\n0\r\n" lines "\r\n\r\n"

static const struct body_row body_rows[] = {
    BODY("CH-01", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
    BODY("CH-01", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
    BODY("CH-01", "1F\r\n0123456789abcdef0123456789abcde\r\n0\r\n\r\n", "0123456789abcdef0123456789abcde", ""),
    BODY("CH-01", "0\r\n\r\n", "", ""), BODY("CH-01", "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", "abcde", ""),
    BODY("CH-02", SIZED("0005"), "hello", ""), BODY("CH-02", "000\r\n\r\n", "", ""),
    BODY("CH-02", SIZED("0000000000000005"), "hello", ""), BODY("CH-02", "0000000000000000\r\n\r\n", "", ""),
    BAD("CH-03", SIZED("0x5")), BAD("CH-03", SIZED("0X5")), BAD("CH-04", SIZED("+5")), BAD("CH-04", SIZED("-5")),
    BAD("CH-04", "-0x0\r\n\r\n"), BAD("CH-04", "+0\r\n\r\n"), BAD("CH-05", SIZED("5_0")), BAD("CH-05", SIZED("0_2e")),
    BAD("CH-05", SIZED("5.")), BAD("CH-05", SIZED("5 0")), BAD("CH-05", SIZED("5h")), BAD("CH-05", SIZED("g")),
    BAD("CH-05", SIZED("G")), BAD("CH-05", SIZED(":")), BAD("CH-05", SIZED("<")), BAD("CH-05", SIZED("@")),
    BAD("CH-05", SIZED("5:")), BAD("CH-06", SIZED("")), BAD("CH-06", SIZED(";a=b")), BAD("CH-07", SIZED(" 5")),
    BAD("CH-07", SIZED("\t5")), BAD("CH-08", SIZED("5 ")), BAD("CH-08", SIZED("5\t")), BAD("CH-08", SIZED("5;a ")),
    BAD("CH-09", SIZED("00000000000000005")), BAD("CH-09", SIZED("FFFFFFFFFFFFFFFF")),
    BAD("CH-09", SIZED("7FFFFFFFFFFFFFFF")), BAD("CH-09", SIZED("8000000000000000")),
    BAD("CH-09", SIZED("10000000000000005")), PART("CH-09", "7FFFFFFFFFFFFFFE\r\nx"),
    BAD("CH-09", "5\r\nhello\r\n7FFFFFFFFFFFFFFA\r\n"), PART("CH-09", "5\r\nhello\r\n7FFFFFFFFFFFFFF9\r\n"),
    BODY("CH-10", SIZED("5;a=b"), "hello", ""), BODY("CH-10", SIZED("5;a"), "hello", ""),
    BODY("CH-10", SIZED("5;a=\"q\\\"x;y\""), "hello", ""), BODY("CH-10", SIZED("5 ; a = b"), "hello", ""),
    BODY("CH-10", SIZED("5;a;b=\"\";c=d ;\te"), "hello", ""), BODY("CH-10", SIZED("5;a=\"\\\\\" ;b"), "hello", ""),
    BAD("CH-11", SIZED("5;")), BAD("CH-11", SIZED("5;;")), BAD("CH-11", SIZED("5;=b")), BAD("CH-11", SIZED("5;a=")),
    BAD("CH-11", SIZED("5;;a")), BAD("CH-11", SIZED("5;a==b")), BAD("CH-12", SIZED("5;bad[=1")),
    BAD("CH-12", SIZED("5;a=b c")), BAD("CH-12", SIZED("5;a b")), BAD("CH-12", SIZED("5;a=\"b\"c")),
    BAD("CH-13", SIZED("5;a\0")), BAD("CH-13", SIZED("5;a=\x01")), BAD("CH-13", SIZED("5;a=\"\x7f\"")),
    BAD("CH-13", SIZED("5;a=\"\x80\"")), BAD("CH-13", SIZED("5;a=\"\\\xff\"")), BAD("CH-13", SIZED("5;\x80=1")),
    BAD("CH-14", SIZED("5;a\nb")), BAD("CH-14", SIZED("5;a=\"\n\"")), BAD("CH-15", SIZED("5;a\rb")),
    BAD("CH-15", SIZED("5\r\r;a")), BAD("CH-15", SIZED("5;a=\"\r\n\"")), BAD("CH-16", SIZED("5;a=\"b")),
    BAD("CH-16", SIZED("5;a=\"b\\\"")), BAD("CH-20", "5\nhello\r\n0\r\n\r\n"), BAD("CH-21", "5\rXhello\r\n0\r\n\r\n"),
    BAD("CH-21", "5\r\r\nhello\r\n0\r\n\r\n"), BAD("CH-21", "5\rhello\r\n0\r\n\r\n"), BAD("CH-22", "5\r\nhelloXX0\r\n\r\n"),
    BAD("CH-23", "5\r\nhello\n0\r\n\r\n"), BAD("CH-23", "5\r\nhello\r0\r\n\r\n"), BAD("CH-23", "5\r\nhello0\r\n\r\n"),
    BAD("CH-24", "5\r\nhellox\r\n0\r\n\r\n"), BAD("CH-25", "8\r\nhello\r\n0\r\n\r\n"), BAD("CH-26", "0\r\nXX\r\n\r\n"),
    BAD("CH-27", "0\r\n\n"), BAD("CH-27", "0\n\r\n"), BAD("CH-27", "0\r\n\rX"), PART("CH-28", "5\r\nhello\r\n"),
    PART("CH-30", "0\r\n"), PART("CH-30", "0\r\n\r"), BAD("CH-33", "5x\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    BODY("CH-34", "0;a=b\r\n\r\n", "", ""),
    BODY("TR-01", TRAILED("X-Sum: abc"), "hello", "X-Sum: abc\r\n"),
    BODY("TR-01", TRAILED("A:\r\nB:\tc \x80"), "hello", "A:\r\nB:\tc \x80\r\n"),
    BAD("TR-02", TRAILED("Content-Length: 5")), BAD("TR-02", TRAILED("X: y\r\ncONTENT-lENGTH: 5")),
    BAD("TR-02", TRAILED("Transfer-Encoding: chunked")), BAD("TR-02", TRAILED("Host: a")),
    BODY("TR-02", TRAILED("Content-Length-: 5"), "hello", "Content-Length-: 5\r\n"),
    BODY("TR-02", TRAILED("Transfer-Encoding-And-More: 5"), "hello", "Transfer-Encoding-And-More: 5\r\n"),
    BODY("TR-02", TRAILED("Hos: 5\r\nHosts: 5"), "hello", "Hos: 5\r\nHosts: 5\r\n"),
    BODY("TR-03", TRAILED("Authorization: a\r\nCookie: b\r\nTrailer: c\r\nExpect: d"), "hello",
        "Authorization: a\r\nCookie: b\r\nTrailer: c\r\nExpect: d\r\n"),
    BAD("TR-04", TRAILED("X : y")), BAD("TR-04", TRAILED("X")), BAD("TR-04", TRAILED(": y")), BAD("TR-04", TRAILED("X: \x01")),
    BAD("TR-04", TRAILED("X: y\nZ: a")), BAD("TR-04", TRAILED("X: y\r\n z")), BAD("TR-04", TRAILED(" X: y")),
    BAD("TR-04", TRAILED("X: y\rZ: a")), BAD("OF-06", TRAILED("X:\r\n\ty")), BAD("TR-06", TRAILED("GET /evil HTTP/1.1\r\nHost: a")),
    PART("TR-07", "0\r\nX: y\r\n"), PART("TR-07", "0\r\nX: y"),
    BAD("U-01", "5;\r\n"), BAD("U-02", "5 a\nhello\r\n"), BAD("U-03", "5 ab\r\nhello\r\n"), BAD("U-05", "\r\n\r\n"),
};

static void test_bodies(void)
{
    static struct body body;
    for (size_t i = 0; i < sizeof body_rows / sizeof *body_rows; i++) {
        const struct body_row *row = &body_rows[i];
        run_body(row->id, row->input, row->length, &body);
        if (!CHECK_FOR(row->id, body.result == row->result))
            fprintf(stderr, "    gave %d for: %s\n", body.result, row->input);
        if (row->result != CK_CHUNK_END)
            continue;
        CHECK_FOR(row->id, body.used == row->length);
        CHECK_FOR(row->id, body.payload_length == strlen(row->payload));
        CHECK_FOR(row->id, memcmp(body.payload, row->payload, body.payload_length) == 0);
        CHECK_FOR(row->id, body.trailer_length == strlen(row->trailer));
        CHECK_FOR(row->id, memcmp(body.trailer, row->trailer, body.trailer_length) == 0);
    }
}

/* The limit is met by a complete size line: in every split by the same byte, and
 * whatever else is wrong with the line comes first. */
static void test_body_limit(void)
{
    static const struct {
        const char *input;
        int result;
        size_t used;
    } rows[] = {
        {"5\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n", CK_CHUNK_END, 23}, {"5\r\nhello\r\n4\r\nXXXX", -413, 13},
        {"9\r\nhello", -413, 3}, {"FFFFFFFFF\r\n", -413, 11}, {"FFFFFFFFFFFFFFFF\r\n", -400, 0}, {"FFFF;[\r\n", -400, 0},
        {"8\r\n12345678\r\n0\r\n\r\n", CK_CHUNK_END, 18},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t length = strlen(rows[i].input);
        for (size_t cut = 0; cut <= length; cut++) {
            struct body body;
            memset(&body, 0, sizeof body);
            ck_chunked chunked;
            ck_chunked_init(&chunked);
            chunked.limit = 8;
            feed_piece(&chunked, &body, rows[i].input, cut);
            if (body.result == CK_CHUNK_MORE)
                feed_piece(&chunked, &body, rows[i].input + cut, length - cut);
            CHECK_FOR(rows[i].input, body.result == rows[i].result);
            CHECK_FOR(rows[i].input, rows[i].used == 0 || body.used == rows[i].used);
        }
    }
}

/* Nothing after the end is used up. */
static void test_body_end(void)
{
    static const char input[] = "1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    static struct body body;
    run_body("end", input, sizeof input - 1, &body);
    CHECK(body.result == CK_CHUNK_END && body.used == 11);
    ck_chunked chunked;
    const char *at = input, *span;
    size_t left = 0, size;
    ck_chunked_init(&chunked);
    CHECK(ck_chunked_next(&chunked, &at, &left, &span, &size) == CK_CHUNK_MORE && at == input);
}

static void expect_body(const char *id, size_t length, int result)
{
    static struct body body;
    run_body(id, big, length, &body);
    if (!CHECK_FOR(id, body.result == result))
        fprintf(stderr, "    gave %d\n", body.result);
}

/* Returns the length of `count` copies of a text in `big`. */
static size_t repeat(const char *text, size_t count, size_t at)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < count; i++, at += length)
        memcpy(big + at, text, length + 1);
    return at;
}

static void test_body_limits(void)
{
    expect_body("CH-17", compose("5;", 'a', 254, "\r\nhello\r\n0\r\n\r\n"), CK_CHUNK_END);
    expect_body("CH-17", compose("5;", 'a', 255, "\r\nhello\r\n0\r\n\r\n"), -400);
    expect_body("CH-17", compose("5;a=\"", 'a', 70000, ""), -400);
    expect_body("TR-05", compose("0\r\nX:", 'a', 8192 - 4, "\r\n\r\n"), CK_CHUNK_END);
    expect_body("TR-05", compose("0\r\nX:", 'a', 8192 - 3, "\r\n\r\n"), -431);
    expect_body("TR-05", compose("0\r\n", 'n', 70000, ""), -431);
    for (size_t count = 31; count <= 33; count++) {
        size_t at = repeat("X:y\r\n", count, compose("0\r\n", 0, 0, ""));
        expect_body("TR-05", repeat("\r\n", 1, at), count <= 32 ? CK_CHUNK_END : -431);
    }
}

/* CH-18: chunks of one byte behind long extensions. */
static void test_overhead(void)
{
    static const char small[] = "1\r\nx\r\n";
    static char wide[300];
    ck_chunked chunked;
    ck_chunked_init(&chunked);
    snprintf(wide, sizeof wide, "1;%0250d\r\nx\r\n", 0);
    size_t chunks = 0, framing = strlen(wide) - 1;
    for (int result = CK_CHUNK_MORE; result >= 0 && chunks < 1000; chunks++) {
        const char *at = wide, *span;
        size_t left = strlen(wide), size;
        do
            result = ck_chunked_next(&chunked, &at, &left, &span, &size);
        while (result > 0);
    }
    CHECK(framing * chunks > 4 * chunks + 65536 && framing * (chunks - 1) <= 4 * (chunks - 1) + 65536);
    /* CH-19: chunks of one byte have five of framing, one more than the ratio allows. The
     * excess is seen at the size line, before the payload byte that would pay for it. */
    ck_chunked_init(&chunked);
    int result = CK_CHUNK_MORE;
    for (chunks = 0; result >= 0 && chunks < 1000000; chunks++) {
        const char *at = small, *span;
        size_t left = sizeof small - 1, size;
        do
            result = ck_chunked_next(&chunked, &at, &left, &span, &size);
        while (result > 0);
    }
    CHECK(result == -400 && chunks == 65535);
}

int main(void)
{
    memory = guarded_create(CAPACITY);
    test_rows(request_lines, sizeof request_lines / sizeof *request_lines);
    test_rows(field_rows, sizeof field_rows / sizeof *field_rows);
    test_rows(framing_rows, sizeof framing_rows / sizeof *framing_rows);
    test_values_are_exact();
    test_methods();
    test_limits();
    test_section_limit();
    test_field_count();
    test_limits_fall_anywhere();
    test_refusal_is_final();
    test_bodies();
    test_body_limit();
    test_body_end();
    test_body_limits();
    test_overhead();
    return checks_done();
}
