/* What TLS says of a connection: of a socket, and of a request also when its connection is gone. */
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"
#include "python.h"

/* A copy, for an exchange that outlives its connection. Version and cipher live for ever. */
struct ck_tls_facts {
    const char *version;
    const char *cipher;
    bool resumed;
    bool named;
    size_t alpn_length;
    size_t name_length;
    size_t certificate_length;
    char data[]; /* in that order */
};

void ck_tls_facts_keep(ck_exchange *exchange)
{
    struct us_socket_t *s = ck_exchange_socket(exchange);
    if (!exchange->kept || exchange->tls_facts || !s || !us_socket_tls_version(s)) {
        return;
    }
    int alpn_length;
    const char *alpn = us_socket_tls_alpn(s, &alpn_length);
    const char *name = us_socket_server_name(s);
    ck_tls_facts facts = {
        .version = us_socket_tls_version(s),
        .cipher = us_socket_tls_cipher(s),
        .resumed = us_socket_tls_is_resumed(s) != 0,
        .named = name != NULL,
        .alpn_length = (size_t) alpn_length,
        .name_length = name ? strlen(name) : 0,
        .certificate_length = (size_t) us_socket_peer_certificate(s, NULL, 0),
    };
    size_t before = facts.alpn_length + facts.name_length;
    ck_tls_facts *kept = ck_alloc(exchange->loop, sizeof(facts) + before + facts.certificate_length);
    if (!kept) {
        return; /* nobody is then told who that was, which lets nobody in */
    }
    *kept = facts;
    if (alpn) {
        memcpy(kept->data, alpn, facts.alpn_length);
    }
    if (name) {
        memcpy(kept->data + facts.alpn_length, name, facts.name_length);
    }
    (void) us_socket_peer_certificate(s, kept->data + before, (int) facts.certificate_length);
    exchange->tls_facts = kept;
}

/* ---- For Python ---- */

static void *none(void)
{
    const ck_python *py = ck_python_bound();
    py->incref(py->none);
    return py->none;
}

static void *text_or_none(const char *text, size_t length, bool there)
{
    return there ? ck_python_bound()->latin1(text, (ptrdiff_t) length, NULL) : none();
}

static void *facts_tuple(const char *version, const char *cipher, void *alpn, void *name, int resumed)
{
    const ck_python *py = ck_python_bound();
    void *parts[5] = {text_or_none(version, strlen(version), true), text_or_none(cipher, strlen(cipher), true), alpn, name,
        py->integer(resumed)};
    bool complete = true;
    for (int i = 0; i < 5; i++) {
        complete = complete && parts[i];
    }
    void *tuple = complete ? py->tuple_pack(5, parts[0], parts[1], parts[2], parts[3], parts[4]) : NULL;
    for (int i = 0; i < 5; i++) {
        if (parts[i]) {
            py->decref(parts[i]);
        }
    }
    return tuple;
}

void *ck_py_facts(struct us_socket_t *s)
{
    if (!us_socket_tls_version(s)) {
        return none();
    }
    int alpn_length;
    const char *alpn = us_socket_tls_alpn(s, &alpn_length), *name = us_socket_server_name(s);
    return facts_tuple(us_socket_tls_version(s), us_socket_tls_cipher(s), text_or_none(alpn, (size_t) alpn_length, alpn != NULL),
        text_or_none(name, name ? strlen(name) : 0, name != NULL), us_socket_tls_is_resumed(s));
}

void *ck_py_tls(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    const ck_tls_facts *facts = exchange->tls_facts;
    if (ck_exchange_socket(exchange)) {
        return ck_py_facts(ck_exchange_socket(exchange));
    }
    if (!facts) {
        return none();
    }
    return facts_tuple(facts->version, facts->cipher, text_or_none(facts->data, facts->alpn_length, facts->alpn_length > 0),
        text_or_none(facts->data + facts->alpn_length, facts->name_length, facts->named), facts->resumed);
}

void *ck_py_certificate(ck_loop *loop, struct us_socket_t *s)
{
    const ck_python *py = ck_python_bound();
    int length = us_socket_peer_certificate(s, NULL, 0);
    if (!length) {
        return none();
    }
    char *der = ck_alloc(loop, (size_t) length);
    if (!der) {
        return py->error_no_memory();
    }
    (void) us_socket_peer_certificate(s, der, length);
    void *bytes = py->bytes_new(der, length);
    ck_free(loop, der);
    return bytes;
}

void *ck_py_client_certificate(uint32_t handle)
{
    int error;
    const ck_exchange *exchange = ck_exchange_of(handle, &error);
    if (!exchange) {
        return ck_python_stale(error);
    }
    const ck_tls_facts *facts = exchange->tls_facts;
    if (ck_exchange_socket(exchange)) {
        return ck_py_certificate(exchange->loop, ck_exchange_socket(exchange));
    }
    if (!facts || !facts->certificate_length) {
        return none();
    }
    return ck_python_bound()->bytes_new(facts->data + facts->alpn_length + facts->name_length, (ptrdiff_t) facts->certificate_length);
}

int ck_certificate_text(const char *der, size_t length, int what, char *out, size_t size)
{
    int most = 0x7fffffff;
    if (length > (size_t) most) {
        return -1;
    }
    return us_certificate_text(der, (int) length, what, out, size > (size_t) most ? most : (int) size);
}
