/* Fuzzes whole TLS connections over a system-call table in memory. An input is a byte
 * that chooses the server's context, then operations: peers of OpenSSL's make connect, or
 * are connected to, shake hands, write, ask for new keys and new handshakes, end well or badly, resume; what
 * they say arrives in pieces, changed, twice, not at all, or with other bytes between;
 * they read slowly or stop; sends and receives fail; memory runs out; time passes; and
 * the application writes, sends files, pauses, moves sockets, shuts down and closes,
 * its own socket and others, inside each callback and outside.
 *
 * Plaintext follows a pattern, so that each byte says where it belongs. After each step
 * of the server: OpenSSL's error queue is empty, descriptors are as in the model, no
 * record of it is too long. Whatever is done to the bytes on their way, the application
 * reads a beginning of what the client wrote, and the client a beginning of what the
 * application was told that it wrote; both read all of it when nothing was done to them.
 * Each open has one close, after which nothing is told. At the end nothing is left, and a
 * second run, of each fourth input, leaves the same trace. */
#include "counted.h"
#include "fuzz.h"
#include "tls_material.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

enum {
    CLIENTS = 5,
    OPERATIONS_MAX = 200,
    TEXT = 400000,      /* bytes of the pattern: what each side writes at most */
    UP_MAX = 1 << 20,   /* bytes on their way to the server */
    RECORD_MOST = 16384 + 256 + 5,
    CONTEXTS = 4
};

/* A peer, most often a client; its connection, and the end of it that we have. */
struct client {
    bool serves;            /* it is we who have connected */
    bool distrusted;        /* and its certificate is not as we want it */
    peer *wire;
    SSL *ssl;
    BIO *in, *out;
    char *up;               /* what it has said, and has not arrived */
    size_t up_length;
    size_t down;            /* of the server's bytes, that it has been given */
    size_t checked;         /* of them, that were looked at as records */
    size_t said, heard;     /* bytes of the pattern */
    bool failed;            /* OpenSSL can do no more */
    bool notified;          /* it has said close_notify, */
    bool clean;             /* and all it said has arrived before its FIN */
    bool tampered, disturbed;
    bool greeted;           /* the handshake is over */
    bool refused;           /* the application was told why */
    struct us_socket_t *socket; /* NULL before it is open, and after */
    bool opened, closed, closed_by_us, shut_by_us;
    int code, ends;
    size_t input, answered; /* bytes of the pattern that the application has read, and has been told that it wrote */
};

static char said_text[TEXT], answer_text[TEXT];

/* What lives on from input to input: all that is slow to make. */
static struct {
    struct us_loop_t *loop;
    struct us_socket_context_t *contexts[CONTEXTS];
    struct us_socket_context_options_t options[CONTEXTS];
    SSL_CTX *clients, *servers; /* of the peers */
    X509 *certificate;
    EVP_PKEY *key;
    int file;
    long memory, descriptors;
} server;

static struct {
    fuzz_input in;
    struct us_socket_context_t *context;
    struct client clients[CLIENTS];
    int client_count;
    struct us_socket_context_t *outgoing; /* the context of our clients, made when it is needed */
    bool verifies, shows; /* their rules, and whether they have a certificate */
    struct client *dialled; /* that is being connected to */
    SSL_SESSION *session;
    bool changed; /* the context is not as it was made */
    bool stepping;
    bool short_of_memory;
    bool naming; /* inside the callback for names */
    bool asks;   /* for certificates, as far as some clients go */
    uint64_t trace;
} run;

static void trace(uint64_t what)
{
    run.trace = (run.trace ^ what) * 1099511628211U;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Callbacks take their bytes from the end of the input, so that how many they take moves no operation. */
static uint8_t draw(void)
{
    if (!run.stepping)
        return fuzz_byte(&run.in);
    return run.in.length > 0 ? run.in.data[--run.in.length] : 0;
}

/* ---- The application ---- */

static struct client *client_of(struct us_socket_t *s)
{
    for (int i = 0; i < run.client_count; i++)
        if (run.clients[i].socket == s)
            return &run.clients[i];
    return NULL;
}

static size_t some_length(void)
{
    static const size_t lengths[] = {1, 5, 100, 511, 512, 4096, 16383, 16384, 16385, 40000, 65536, 65537};
    return lengths[draw() % 12];
}

static void wrote(struct client *client, int result, size_t wanted)
{
    DEMAND(result >= -1 && result <= (int)wanted);
    trace((uint64_t)(int64_t)result);
    client->answered += result > 0 ? (size_t)result : 0;
}

/* Writes in one of three ways. */
static void write_some(struct client *client, unsigned how)
{
    size_t length = least(some_length(), TEXT - client->answered), half = length / 2;
    const char *text = answer_text + client->answered;
    if (how == 0)
        wrote(client, us_socket_write(1, client->socket, text, (int)length, draw() & 1), length);
    else if (how == 1)
        wrote(client, us_socket_write2(1, client->socket, text, (int)half, text + half, (int)(length - half)), length);
    else
        wrote(client, us_socket_sendfile(1, client->socket, server.file, (int64_t)client->answered, (int64_t)length), length);
}

static void move(struct client *client)
{
    struct us_socket_t *moved = us_socket_context_adopt_socket(1, us_socket_context(1, client->socket), client->socket, 8 + draw() % 64);
    DEMAND(moved || run.short_of_memory);
    if (moved)
        client->socket = moved;
}

static void close_it(struct client *client, int code)
{
    client->closed_by_us = true;
    us_socket_close(1, client->socket, code, NULL);
}

static void ask(struct client *client)
{
    char address[16];
    int length = sizeof address;
    us_socket_remote_address(1, client->socket, address, &length);
    DEMAND(length == 4 && us_socket_remote_port(1, client->socket) >= -1);
    DEMAND(us_socket_unsent(client->socket) >= 0 && us_socket_get_native_handle(1, client->socket) != NULL);
    DEMAND(!us_socket_is_closed(1, client->socket));
    (void)us_socket_server_name_userdata(1, client->socket);
    (void)us_socket_tls_is_resumed(client->socket);
    DEMAND(!us_socket_tls_is_established(client->socket) || (us_socket_tls_version(client->socket) && us_socket_tls_cipher(client->socket)));
    (void)us_socket_tls_alpn(client->socket, &length);
    if (client->clean)
        DEMAND(!us_socket_was_truncated(client->socket));
}

/* Does what the next byte says with a socket, which may be closed after it. 0, also at the input's end, does nothing. */
static void act(struct client *client)
{
    if (!client->socket)
        return;
    uint8_t choice = draw();
    switch (choice % 18) {
    case 1:
    case 2:
    case 3: write_some(client, choice % 18 - 1U); break;
    case 4:
        client->shut_by_us = true;
        us_socket_shutdown(1, client->socket);
        break;
    case 5: close_it(client, 0); break;
    case 6: close_it(client, 1); break;
    case 7:
    case 8: us_socket_read_enabled(client->socket, choice % 18 == 8); break;
    case 9: us_socket_timeout(1, client->socket, 4U * (choice % 5)); break;
    case 10: us_socket_flush(1, client->socket); break;
    case 11:
        if (!run.naming) /* OpenSSL holds the socket there, and the application has no pointer to it anyway */
            move(client);
        break;
    case 12:
    case 13: act(&run.clients[draw() % CLIENTS]); break;
    case 14: ask(client); break;
    case 15: us_socket_long_timeout(1, client->socket, choice % 3); break;
    case 16: write_some(client, 0); break;
    default: break;
    }
}

static void act_some(struct client *client)
{
    for (unsigned n = draw() % 4; n > 0; n--)
        act(client);
}

/* What a callback returns: the socket as it is now. */
static struct us_socket_t *now(const struct client *client, struct us_socket_t *s)
{
    return client->socket ? client->socket : s;
}

static struct us_socket_t *on_open(struct us_socket_t *s, int is_client, char *ip, int ip_length)
{
    int fd = us_poll_fd((struct us_poll_t *)s);
    struct client *client = NULL;
    for (int i = 0; i < run.client_count; i++)
        if (run.clients[i].wire->fd == fd && !run.clients[i].closed)
            client = &run.clients[i];
    DEMAND(client && !client->opened && client->serves == (is_client != 0) && ip && ip_length == 4);
    trace(1);
    client->opened = true;
    client->socket = s;
    act_some(client);
    return now(client, s);
}

static struct us_socket_t *on_close(struct us_socket_t *s, int code, void *reason)
{
    struct client *client = client_of(s);
    DEMAND(client && client->opened && !client->closed && !reason);
    trace(1000 + (uint64_t)code);
    if (client->clean && !us_socket_last_error(s)) /* one whose sends have failed hears no goodbye */
        DEMAND(!us_socket_was_truncated(s));
    DEMAND(us_socket_write(1, s, "x", 1, 0) == 0 && us_socket_is_closed(1, s));
    client->closed = true;
    client->code = code;
    client->socket = NULL;
    act(&run.clients[draw() % CLIENTS]);
    return s;
}

static struct us_socket_t *on_bytes(struct us_socket_t *s, char *data, int length)
{
    struct client *client = client_of(s);
    DEMAND(client && client->greeted && length > 0 && !client->ends);
    trace(2000 + (uint64_t)length);
    DEMAND((size_t)length <= client->said - client->input);
    DEMAND(memcmp(data, said_text + client->input, (size_t)length) == 0);
    client->input += (size_t)length;
    memset(data - LIBUS_RECV_BUFFER_PADDING, 'z', (size_t)length + 2 * LIBUS_RECV_BUFFER_PADDING);
    act_some(client);
    return now(client, s);
}

static struct us_socket_t *on_room(struct us_socket_t *s)
{
    struct client *client = client_of(s);
    DEMAND(client && us_socket_unsent(s) == 0);
    trace(3);
    act_some(client);
    return now(client, s);
}

static struct us_socket_t *on_handshake(struct us_socket_t *s)
{
    struct client *client = client_of(s);
    DEMAND(client && !client->greeted && !client->input && us_socket_tls_is_established(s));
    trace(7);
    client->greeted = true;
    act_some(client);
    return now(client, s);
}

static struct us_socket_t *on_timeout(struct us_socket_t *s)
{
    struct client *client = client_of(s);
    DEMAND(client != NULL);
    trace(4);
    act_some(client);
    return now(client, s);
}

static struct us_socket_t *on_end(struct us_socket_t *s)
{
    struct client *client = client_of(s);
    DEMAND(client && !client->ends++);
    trace(5);
    if (client->clean)
        DEMAND(!us_socket_was_truncated(s));
    act_some(client);
    return now(client, s);
}

static void on_failure(struct us_socket_t *s, const char *reason, int plain)
{
    struct client *client = client_of(s);
    DEMAND(client && reason && *reason);
    trace(6 + (uint64_t)plain);
    client->refused = true;
    if (!run.short_of_memory)
        DEMAND(client->tampered || client->disturbed || client->failed || client->distrusted || !SSL_is_init_finished(client->ssl) || client->wire->fin
            || run.asks);
    act_some(client);
}

static struct us_socket_t *on_no_connection(struct us_socket_t *s, int code)
{
    (void)s;
    trace(9);
    DEMAND(code != 0);
    act(&run.clients[draw() % CLIENTS]);
    return s;
}

static const char *const patterns[] = {"a.example", "*.example", "*.*.example", "b.example", "localhost"};

static void change_names(void)
{
    uint8_t choice = draw();
    const char *pattern = patterns[choice % 5];
    if (choice & 128) {
        us_socket_context_remove_server_name(1, run.context, pattern);
        return;
    }
    struct us_socket_context_options_t options = {.cert_file_name = tls_material_path("other.pem"), .key_file_name = tls_material_path("other.key")};
    run.asks = run.asks || choice & 64;
    if (choice & 64)
        options.ca_file_name = tls_material_path("client.pem");
    if (choice & 32)
        options.cert_file_name = tls_material_path("nowhere.pem");
    us_socket_context_add_server_name(1, run.context, pattern, options, run.clients);
    DEMAND((*us_tls_error() != 0) == ((choice & 32) != 0) || run.short_of_memory);
    DEMAND(us_socket_context_find_server_name_userdata(1, run.context, pattern) || *us_tls_error());
}

static void change_settings(void)
{
    uint8_t choice = draw();
    struct us_tls_settings_t settings = {.min_version = choice & 1 ? 13 : 0, .verify_optional = choice & 2, .name_strict = choice & 4};
    (void)us_socket_context_tls_settings(run.context, choice & 8 ? patterns[(choice >> 4) % 5] : NULL, &settings);
    run.changed = true;
}

/* Certificates are replaced under connections that are open. */
static void renew(void)
{
    uint8_t choice = draw();
    struct us_socket_context_options_t options = {.cert_file_name = tls_material_path(choice & 1 ? "other.pem" : "server.pem"),
        .key_file_name = tls_material_path(choice & 3 ? "other.key" : "server.key"), .ca_file_name = choice & 4 ? tls_material_path("client.pem") : NULL};
    run.asks = run.asks || choice & 4;
    (void)us_socket_context_prepare(run.context, choice & 8 ? patterns[(choice >> 4) % 5] : NULL, options);
    if (choice & 128)
        us_socket_context_renew(run.context, !(choice & 64));
    run.changed = true;
}

static void on_name(struct us_socket_context_t *context, const char *hostname)
{
    DEMAND(context == run.context && hostname && *hostname);
    trace(8);
    run.naming = true;
    uint8_t choice = draw();
    if (choice & 1)
        change_names();
    if (choice & 2)
        act(&run.clients[draw() % CLIENTS]);
    if (choice & 4)
        us_socket_context_refuse_server_name(context);
    run.naming = false;
}

/* ---- Clients ---- */

static void step(void)
{
    DEMAND(ERR_peek_error() == 0);
    run.stepping = true;
    int ready = us_loop_step(server.loop);
    run.stepping = false;
    DEMAND(ready >= 0 && ERR_peek_error() == 0 && checks_failed == 0);
}

/* Steps while something is ready; many times without a byte that moves would be a loop that spins. */
static void settle_down(void)
{
    unsigned long moved = world.moved;
    for (int idle = 0; anything_ready(); idle++) {
        DEMAND(idle < 100);
        step();
        idle = world.moved == moved ? idle : 0;
        moved = world.moved;
    }
}

/* Takes over what the client's OpenSSL has to say. */
static void collect(struct client *client)
{
    size_t waiting = (size_t)BIO_ctrl_pending(client->out);
    if (waiting == 0)
        return;
    client->up = realloc(client->up, client->up_length + waiting);
    DEMAND(client->up && BIO_read(client->out, client->up + client->up_length, (int)waiting) == (int)waiting);
    client->up_length += waiting;
}

static void judge(struct client *client, int result)
{
    int error = SSL_get_error(client->ssl, result);
    client->failed = client->failed || error == SSL_ERROR_SSL || error == SSL_ERROR_SYSCALL;
    ERR_clear_error();
}

/* Lets the client's OpenSSL shake hands and read. */
static void think(struct client *client)
{
    static char buffer[16384];
    int result = 1;
    ERR_clear_error();
    if (!client->failed && !SSL_is_init_finished(client->ssl)) {
        result = SSL_do_handshake(client->ssl);
        judge(client, result);
    }
    while (!client->failed && result > 0) {
        result = SSL_read(client->ssl, buffer, sizeof buffer);
        if (result > 0) {
            DEMAND((size_t)result <= client->answered - client->heard);
            DEMAND(memcmp(buffer, answer_text + client->heard, (size_t)result) == 0);
            client->heard += (size_t)result;
        } else {
            judge(client, result);
        }
    }
    collect(client);
}

/* Lets some of what the client has said arrive. */
static void let_up(struct client *client, size_t length)
{
    length = least(length, client->up_length);
    if (!client->wire->fin && length > 0)
        arrive(client->wire, client->up, length);
    client->tampered = client->tampered || (client->wire->fin && length > 0); /* it can say no more */
    client->up_length -= length;
    if (length > 0)
        memmove(client->up, client->up + length, client->up_length);
}

/* No record is longer than may be; what follows plain text is not looked at. */
static void check_records(struct client *client)
{
    const peer *wire = client->wire;
    const unsigned char *out = (const unsigned char *)wire->out;
    while (wire->out_length - client->checked >= 5 && out[client->checked] >= 20 && out[client->checked] <= 24) {
        size_t length = 5 + ((size_t)out[client->checked + 3] << 8) + out[client->checked + 4];
        DEMAND(length <= RECORD_MOST);
        if (length > wire->out_length - client->checked)
            return;
        client->checked += length;
    }
}

/* Gives the client some of what the server has sent. */
static void let_down(struct client *client, size_t length)
{
    check_records(client);
    length = least(length, client->wire->out_length - client->down);
    if (length > 0)
        (void)BIO_write(client->in, client->wire->out + client->down, (int)length);
    client->down += length;
    think(client);
}

/* Moves all there is, both ways, until nothing moves. */
static void pump(struct client *client)
{
    size_t down;
    int turns = 0;
    do {
        DEMAND(turns++ < 1000);
        down = client->down;
        let_up(client, SIZE_MAX);
        settle_down();
        let_down(client, SIZE_MAX);
    } while (client->down != down || client->up_length > 0);
}

static struct client *some_client(void)
{
    return &run.clients[fuzz_byte(&run.in) % run.client_count];
}

static void choose_versions(SSL *ssl, uint8_t choice)
{
    static const char *const ciphers[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-SHA"};
    if (choice & 1)
        SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    if (choice & 2) {
        SSL_set_security_level(ssl, 0);
        SSL_set_cipher_list(ssl, ciphers[choice >> 2 & 3]);
    }
    if (choice & 16)
        (void)SSL_set1_groups_list(ssl, choice & 32 ? "P-384:X25519" : "P-256");
    if (choice & 64)
        (void)SSL_set_tlsext_max_fragment_length(ssl, choice & 128 ? TLSEXT_max_fragment_length_512 : TLSEXT_max_fragment_length_4096);
    if ((choice & 192) == 128) {
        SSL_set_security_level(ssl, 0);
        SSL_set_min_proto_version(ssl, TLS1_VERSION);
        SSL_set_max_proto_version(ssl, TLS1_1_VERSION);
    }
    ERR_clear_error();
}

static void choose_names(SSL *ssl, uint8_t choice)
{
    static char longest[256];
    static const char *const names[] = {NULL, "a.example", "x.a.example", "A.Example.", "localhost", "unknown", "127.0.0.1", longest};
    static const unsigned char offer[] = "\x02h2\x08http/1.1";
    memset(longest, 'a', sizeof longest - 1);
    const char *name = names[choice & 7];
    if (name)
        (void)SSL_set_tlsext_host_name(ssl, name);
    if (choice & 8)
        (void)SSL_set_alpn_protos(ssl, offer, choice & 16 ? 3 : 12);
    if (choice & 32) {
        (void)SSL_use_certificate(ssl, server.certificate);
        (void)SSL_use_PrivateKey(ssl, server.key);
    }
    ERR_clear_error();
}

static struct client *new_peer(SSL_CTX *context, uint8_t versions)
{
    struct client *client = &run.clients[run.client_count++];
    client->wire = calloc(1, sizeof *client->wire);
    client->ssl = SSL_new(context);
    client->in = BIO_new(BIO_s_mem());
    client->out = BIO_new(BIO_s_mem());
    DEMAND(client->wire && client->ssl && client->in && client->out);
    BIO_set_mem_eof_return(client->in, -1);
    client->wire->room = UNLIMITED;
    world.peers[world.peer_count++] = client->wire;
    SSL_set_bio(client->ssl, client->in, client->out);
    choose_versions(client->ssl, versions);
    return client;
}

static void connect_client(void)
{
    if (run.client_count == CLIENTS)
        return;
    uint8_t versions = fuzz_byte(&run.in), names = fuzz_byte(&run.in);
    struct client *client = new_peer(server.clients, versions);
    world.waiting[world.waiting_count++] = client->wire;
    SSL_set_connect_state(client->ssl);
    choose_names(client->ssl, names);
    if (names & 64 && run.session)
        (void)SSL_set_session(client->ssl, run.session);
    think(client);
    if (names & 128)
        pump(client);
}

static struct us_socket_context_t *make_context(struct us_socket_context_options_t options);

/* The rules of our clients are those of the first of a run. */
static void make_outgoing(void)
{
    uint8_t rules = fuzz_byte(&run.in);
    struct us_socket_context_options_t options = {.ssl_ciphers = rules & 1 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : NULL};
    run.verifies = rules & 2;
    run.shows = rules & 4;
    if (run.verifies)
        options.ca_file_name = tls_material_path("server.pem");
    if (run.shows) {
        options.cert_file_name = tls_material_path("client.pem");
        options.key_file_name = tls_material_path("client.key");
    }
    run.outgoing = make_context(options);
    if (!run.outgoing)
        return;
    if (run.verifies && us_socket_context_peer_name(run.outgoing, rules & 8 ? "elsewhere.example" : "server.pem"))
        DEMAND(run.short_of_memory);
    run.verifies = run.verifies && (rules & 8);
    if (rules & 64)
        DEMAND(us_socket_context_verify(run.outgoing, LIBUS_VERIFY_NONE) == 0);
    run.verifies = run.verifies && !(rules & 64);
    if (rules & 16)
        DEMAND(us_socket_context_offer_protocols(run.outgoing, rules & 32 ? "h2,http/1.1" : "http/1.1") == 0 || run.short_of_memory);
}

/* We connect: the peer is a server. */
static void connect_out(void)
{
    if (run.client_count == CLIENTS)
        return;
    if (!run.outgoing)
        make_outgoing();
    if (!run.outgoing) {
        DEMAND(run.short_of_memory);
        return;
    }
    uint8_t versions = fuzz_byte(&run.in) & 0x5F, choice = fuzz_byte(&run.in);
    struct client *client = new_peer(server.servers, versions);
    SSL_set_accept_state(client->ssl);
    client->serves = true;
    client->distrusted = run.verifies || (choice & 1) || (choice & 2);
    if (choice & 1) {
        DEMAND(SSL_use_certificate(client->ssl, server.certificate) == 1 && SSL_use_PrivateKey(client->ssl, server.key) == 1);
        ERR_clear_error();
    }
    if (choice & 2)
        SSL_set_verify(client->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    run.dialled = client;
    DEMAND(us_socket_context_connect(1, run.outgoing, "127.0.0.1", 443, NULL, 0, 8) || run.short_of_memory);
    run.dialled = NULL;
    DEMAND(ERR_peek_error() == 0);
    if (choice & 128)
        pump(client);
}

/* In place of the table's own, where nobody listens. */
static int connect_to_peer(struct us_sys_t *sys, int fd, const struct sockaddr *address, unsigned int length)
{
    (void)sys, (void)address, (void)length;
    fd_entry *entry = fd_of(fd);
    DEMAND(run.dialled != NULL);
    *entry = (fd_entry){.kind = FD_PEER, .client = run.dialled->wire};
    run.dialled->wire->fd = fd;
    errno = EINPROGRESS;
    return -1;
}

static void say(struct client *client)
{
    size_t length = least(some_length(), TEXT - client->said);
    ERR_clear_error();
    while (length > 0 && !client->wire->fin && !client->failed && !client->notified && client->up_length < UP_MAX && SSL_is_init_finished(client->ssl)) {
        int result = SSL_write(client->ssl, said_text + client->said, (int)least(length, 16384));
        if (result <= 0) {
            judge(client, result);
            break;
        }
        client->said += (size_t)result;
        length -= (size_t)result;
    }
    ERR_clear_error();
    collect(client);
}

static void ask_for_keys(struct client *client, unsigned how)
{
    ERR_clear_error();
    if (client->failed || client->notified || !SSL_is_init_finished(client->ssl))
        return;
    if (SSL_version(client->ssl) == TLS1_3_VERSION)
        (void)SSL_key_update(client->ssl, how & 1 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    else
        (void)SSL_renegotiate(client->ssl);
    judge(client, SSL_do_handshake(client->ssl));
    collect(client);
}

static void notify(struct client *client)
{
    ERR_clear_error();
    if (!client->failed && !client->notified && SSL_is_init_finished(client->ssl)) {
        client->notified = true;
        (void)SSL_shutdown(client->ssl);
    }
    ERR_clear_error();
    collect(client);
}

static void end(struct client *client)
{
    client->clean = client->notified && client->up_length == 0 && !client->tampered;
    client->tampered = client->tampered || client->up_length > 0;
    client->wire->fin = true;
}

/* Changes what is on its way to the server. */
static void tamper(struct client *client, unsigned how)
{
    size_t at = fuzz_byte(&run.in), length = least(1U + fuzz_byte(&run.in), client->up_length);
    const char *text;
    client->tampered = true;
    switch (how % 4) {
    case 0:
        if (client->up_length > 0)
            client->up[(at & 128 ? client->up_length - 1 - at % 128 % client->up_length : at) % client->up_length] ^= (char)(1 + length % 255);
        break;
    case 1: /* lost */
        client->up_length -= length;
        if (length > 0)
            memmove(client->up, client->up + length, client->up_length);
        break;
    case 2: /* sent twice */
        if (length > 0 && !client->wire->fin)
            arrive(client->wire, client->up, length);
        break;
    default: /* others' */
        text = fuzz_bytes(&run.in, at, &length);
        if (length > 0 && !client->wire->fin)
            arrive(client->wire, text, length);
        break;
    }
}

static void tamper_down(struct client *client)
{
    size_t at = client->down + fuzz_byte(&run.in);
    if (at < client->wire->out_length) {
        check_records(client);
        client->tampered = true;
        client->wire->out[at] ^= (char)(1 + fuzz_byte(&run.in) % 255);
        client->checked = client->wire->out_length; /* it is in the middle of something now */
    }
}

static void keep_session(struct client *client)
{
    SSL_SESSION_free(run.session);
    run.session = SSL_get1_session(client->ssl);
}

static int some_errno(void)
{
    static const int numbers[] = {ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH};
    return numbers[fuzz_byte(&run.in) % 4];
}

static void disturb(struct client *client, unsigned how)
{
    peer *wire = client->wire;
    switch (how) {
    case 0: wire->receive_error = wire->send_error = ECONNRESET; break;
    case 1: wire->room = fuzz_byte(&run.in) * 100; return;
    case 2: wire->room = UNLIMITED; return;
    case 3: wire->most = fuzz_byte(&run.in) * 50; return;
    case 4: wire->send_error = some_errno(); break;
    default: wire->receive_error = some_errno(); break;
    }
    client->disturbed = true;
}

/* ---- Runs ---- */

static void change_rules(void)
{
    switch (fuzz_byte(&run.in) % 4) {
    case 0: world.read_most = fuzz_byte(&run.in); break;
    case 1: change_names(); break;
    case 2: change_settings(); break;
    default: renew(); break;
    }
}

static void operate(void)
{
    uint8_t operation = fuzz_byte(&run.in);
    struct client *client = (operation & 127) % 32 < 25 && run.client_count ? some_client() : NULL;
    switch ((operation & 127) % 32) {
    case 0:
    case 1: pump(client); break;
    case 2: let_up(client, SIZE_MAX); break;
    case 3: let_up(client, fuzz_byte(&run.in)); break;
    case 4: let_down(client, SIZE_MAX); break;
    case 5: let_down(client, fuzz_byte(&run.in) * 8U); break;
    case 6:
    case 7: say(client); break;
    case 8:
    case 9:
    case 10:
    case 11: tamper(client, operation); break;
    case 12: tamper_down(client); break;
    case 13: ask_for_keys(client, operation >> 7); break;
    case 14: notify(client); break;
    case 15: end(client); break;
    case 16: keep_session(client); break;
    case 17:
    case 18:
    case 19:
    case 20:
    case 21:
    case 22: disturb(client, (unsigned)(operation & 127) % 32 - 17U); break;
    case 23:
    case 24: act_some(client); break;
    case 25: connect_client(); break;
    case 26: connect_out(); break;
    case 27: step(); break;
    case 28:
        run.stepping = true;
        us_loop_sweep(server.loop);
        run.stepping = false;
        break;
    case 29:
        run.short_of_memory = true;
        world.fail_at = world.allocations + fuzz_byte(&run.in) % 12;
        world.fail_on = operation & 1;
        break;
    case 30: world.fail_at = 0; break;
    default: change_rules(); break;
    }
}

static long open_clients(void)
{
    long open = 0;
    for (int i = 0; i < run.client_count; i++)
        open += run.clients[i].wire->fd && !run.clients[i].wire->closed;
    return open;
}

static void check_turn(void)
{
    DEMAND(world.descriptors == server.descriptors + 1 + open_clients()); /* 1: the listener */
    DEMAND(counted.bytes < (size_t)16 << 20);
    for (int i = 0; i < run.client_count; i++)
        DEMAND(run.clients[i].closed == (run.clients[i].opened && run.clients[i].wire->closed));
}

/* All has come to whom it was for, as far as nobody stood in the way. */
static void check_client(const struct client *client)
{
    if (client->tampered || client->disturbed || run.short_of_memory || client->failed || client->closed_by_us || !client->opened)
        return;
    if (!client->closed) {
        DEMAND(us_socket_unsent(client->socket) == 0);
        DEMAND(client->heard == client->answered && client->input == client->said);
    } else {
        DEMAND(client->code == 0 || client->refused);
        DEMAND(client->heard == client->answered || client->refused);
    }
}

static void flow(void)
{
    for (int i = 0; i < run.client_count; i++) {
        struct client *client = &run.clients[i];
        client->wire->room = UNLIMITED;
        client->wire->most = 0;
        if (client->socket)
            us_socket_read_enabled(client->socket, 1);
    }
    for (int i = 0; i < run.client_count; i++)
        pump(&run.clients[i]);
}

static void end_client(struct client *client)
{
    trace(client->input), trace(client->answered), trace(client->heard), trace((uint64_t)client->failed);
    DEMAND(!client->socket && client->opened == client->closed);
    SSL_set_shutdown(client->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(client->ssl);
    free(client->up);
}

/* So that the next run begins as this one did. */
static void change_back(void)
{
    static const struct us_tls_settings_t none = {0};
    us_socket_context_renew(run.context, 0);
    DEMAND(us_socket_context_tls_settings(run.context, NULL, &none) == 0);
    for (int i = 0; i < CONTEXTS; i++)
        if (server.contexts[i] == run.context)
            DEMAND(us_socket_context_prepare(run.context, NULL, server.options[i]) == 0);
    us_socket_context_renew(run.context, 1);
}

static void end_everything(struct us_listen_socket_t *listener)
{
    run.in.length = 0;
    world.fail_at = 0;
    world.read_most = 0;
    flow();
    for (int i = 0; i < run.client_count; i++)
        check_client(&run.clients[i]);
    check_turn();
    for (int i = 0; i < run.client_count; i++)
        run.clients[i].wire->receive_error = run.clients[i].wire->send_error = ECONNRESET;
    settle_down();
    us_listen_socket_close(1, listener);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++)
        us_socket_context_remove_server_name(1, run.context, patterns[i]);
    if (run.changed)
        change_back();
    if (run.outgoing)
        us_socket_context_free(1, run.outgoing);
    step();
    for (int i = 0; i < run.client_count; i++)
        end_client(&run.clients[i]);
    SSL_SESSION_free(run.session);
    free_peers();
    ERR_clear_error();
    DEMAND(world.memory == server.memory && world.descriptors == server.descriptors && checks_failed == 0);
}

static uint64_t run_once(const uint8_t *input, size_t size)
{
    memset(&run, 0, sizeof run);
    run.in = (fuzz_input){input, size};
    run.trace = 14695981039346656037U;
    tls_seed(2);
    world.waiting_count = 0;
    run.context = server.contexts[fuzz_byte(&run.in) % CONTEXTS];
    run.asks = run.context == server.contexts[2];
    struct us_listen_socket_t *listener = us_socket_context_listen(1, run.context, "127.0.0.1", 80, LIBUS_LISTEN_DEFAULT, 8);
    DEMAND(listener != NULL);
    connect_client();
    for (int i = 0; i < OPERATIONS_MAX && run.in.length > 0; i++) {
        uint8_t settles = *run.in.data;
        operate();
        if (settles & 128)
            settle_down();
        check_turn();
    }
    end_everything(listener);
    return run.trace;
}

/* ---- What is made once ---- */

static struct us_socket_context_t *make_context(struct us_socket_context_options_t options)
{
    struct us_socket_context_t *made = us_create_socket_context(1, server.loop, 0, options);
    if (!made)
        return NULL;
    us_socket_context_on_open(1, made, on_open);
    us_socket_context_on_close(1, made, on_close);
    us_socket_context_on_data(1, made, on_bytes);
    us_socket_context_on_writable(1, made, on_room);
    us_socket_context_on_timeout(1, made, on_timeout);
    us_socket_context_on_long_timeout(1, made, on_timeout);
    us_socket_context_on_end(1, made, on_end);
    us_socket_context_on_connect_error(1, made, on_no_connection);
    us_socket_context_on_tls_failure(made, on_failure);
    us_socket_context_on_handshake(made, on_handshake);
    return made;
}

static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *length, const unsigned char *offered, unsigned int size, void *unused)
{
    (void)ssl, (void)size, (void)unused;
    *chosen = offered + 1; /* the first */
    *length = offered[0];
    return SSL_TLSEXT_ERR_OK;
}

static void make_peers(void)
{
    server.clients = SSL_CTX_new(TLS_client_method());
    server.servers = SSL_CTX_new(TLS_server_method());
    DEMAND(server.clients && server.servers);
    DEMAND(SSL_CTX_use_certificate_chain_file(server.servers, tls_material_path("server.pem")) == 1);
    DEMAND(SSL_CTX_use_PrivateKey_file(server.servers, tls_material_path("server.key"), SSL_FILETYPE_PEM) == 1);
    DEMAND(SSL_CTX_load_verify_locations(server.servers, tls_material_path("client.pem"), NULL) == 1);
    DEMAND(SSL_CTX_set_session_id_context(server.servers, (const unsigned char *)"fz", 2) == 1);
    SSL_CTX_set_session_cache_mode(server.servers, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(server.servers, choose_protocol, NULL);
    FILE *file = fopen(tls_material_path("client.pem"), "rb");
    DEMAND(file && (server.certificate = PEM_read_X509(file, NULL, NULL, NULL)) != NULL);
    fclose(file);
    file = fopen(tls_material_path("client.key"), "rb");
    DEMAND(file && (server.key = PEM_read_PrivateKey(file, NULL, NULL, NULL)) != NULL);
    fclose(file);
}

static void fill_texts(void)
{
    for (size_t i = 0; i < TEXT; i++) {
        said_text[i] = (char)(i * 7 + (i >> 8) * 13 + (i >> 16));
        answer_text[i] = (char)(i * 11 + (i >> 8) * 17 + (i >> 16) + 1);
    }
}

static void nothing(struct us_loop_t *loop)
{
    (void)loop;
}

static void make_everything(void)
{
    static const char plain[] = "this is TLS";
    fill_texts();
    tls_material_make();
    tls_material_write("data", answer_text, TEXT);
    server.file = open(tls_material_path("data"), O_RDONLY | O_CLOEXEC);
    DEMAND(server.file >= 0);
    memset(&world, 0, sizeof world);
    world.sys = world_sys;
    world.now_ns = 1;
    count_memory();
    world.sys.connect = connect_to_peer;
    server.loop = us_create_loop_on(&world.sys, nothing, nothing, nothing, 0);
    DEMAND(server.loop != NULL);
    for (int i = 0; i < CONTEXTS; i++) {
        static char certificate[128], key[128], authority[128];
        snprintf(certificate, sizeof certificate, "%s", tls_material_path("server.pem"));
        snprintf(key, sizeof key, "%s", tls_material_path("server.key"));
        snprintf(authority, sizeof authority, "%s", tls_material_path("client.pem"));
        server.options[i] = (struct us_socket_context_options_t){.cert_file_name = certificate, .key_file_name = key,
            .ca_file_name = i == 2 ? authority : NULL, .ssl_ciphers = i == 3 ? "ECDHE-ECDSA-AES128-GCM-SHA256" : NULL};
        server.contexts[i] = make_context(server.options[i]);
        DEMAND(server.contexts[i] != NULL);
    }
    us_socket_context_alpn(server.contexts[1], "http/1.1");
    us_socket_context_on_server_name(1, server.contexts[1], on_name);
    us_socket_context_plain_answer(server.contexts[1], plain, sizeof plain - 1);
    make_peers();
}

/* A first exchange, after which all is there that is made at the first use. */
static void warm_up(void)
{
    static const uint8_t input[] = {0, 0, 128, 0, 0, 6, 0, 9, 23, 0, 1, 1, 9, 0, 0};
    us_listen_socket_close(1, us_socket_context_listen(1, server.contexts[0], "127.0.0.1", 80, LIBUS_LISTEN_DEFAULT, 8));
    step();
    server.descriptors = world.descriptors;
    server.memory = world.memory + 1; /* what OpenSSL says is gathered in memory of the loop, from now on */
    (void)run_once(input, sizeof input);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    if (!server.loop)
        make_everything();
    if (server.memory == 0)
        warm_up();
    uint64_t first = run_once(input, size);
    DEMAND(!fuzz_is_repeated(input, size) || run_once(input, size) == first);
    return 0;
}
