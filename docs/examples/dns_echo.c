/* Answers DNS questions from a table, with the socket layer alone: the twin in C of
 * dns_echo.py. Compile it with all of vendor/uSockets/src, -std=c11 -D_GNU_SOURCE
 * -DLIBUS_NO_SSL -I vendor/uSockets/src; run `./dns_echo 8053`, and ask
 * `dig @127.0.0.1 -p 8053 hello.example`. It ends with its standard input.
 *
 * All questions that have come together are answered in one system call. */
#include "libusockets_ext.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { A = 1, TXT = 16, AAAA = 28, IN = 1, ANY_CLASS = 255 };
enum { NO_ERROR = 0, FORMAT_ERROR = 1, NO_SUCH_NAME = 3, NOT_IMPLEMENTED = 4, REFUSED = 5 };
enum { ANSWER = 0x8000, OPCODE = 0x7800, AUTHORITATIVE = 0x0400, TRUNCATED = 0x0200, RECURSION_DESIRED = 0x0100 };
enum { HEAD = 12, LONGEST = 512, NAME_MAX_BYTES = 255, LABEL_MAX = 63 };

/* Data as it travels; a text is preceded by its length. */
struct record {
    const char *name; /* as in a question: each label after its length */
    int type;
    int length;
    const char *data;
};

static char large[256];

static const struct record records[] = {
    {"\5hello\7example", A, 4, "\xC0\x00\x02\x01"},
    {"\5hello\7example", A, 4, "\xC0\x00\x02\x02"},
    {"\5hello\7example", AAAA, 16, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"},
    {"\5hello\7example", TXT, 20, "\x13hello from corkbind"},
    {"\5large\7example", TXT, 256, large},
    {"\5large\7example", TXT, 256, large},
    {"\5large\7example", TXT, 256, large},
    {"\5large\7example", TXT, 256, large},
};

enum { RECORDS = sizeof records / sizeof records[0] };

static struct us_loop_t *loop;
static struct us_udp_socket_t *server;
static struct us_udp_packet_buffer_t *answers;
static long long answered, sends;

static int two_bytes(const unsigned char *at) {
    return at[0] << 8 | at[1];
}

static unsigned char *put_two(unsigned char *at, int value) {
    at[0] = (unsigned char) (value >> 8);
    at[1] = (unsigned char) value;
    return at + 2;
}

/* Returns the place behind the one question, 0 when it cannot be read. */
static int end_of_question(const unsigned char *message, int length) {
    int at = HEAD;
    if (two_bytes(message + 4) != 1) return 0;
    while (at < length && at - HEAD < NAME_MAX_BYTES && message[at]) {
        if (message[at] > LABEL_MAX) return 0; /* a pointer, which no question needs */
        at += 1 + message[at];
    }
    if (at >= length || at - HEAD >= NAME_MAX_BYTES || at + 5 > length) return 0;
    return at + 5;
}

static int same_name(const unsigned char *name, const char *known) {
    for (; *name || *known; name++, known++) {
        if (tolower(*name) != (unsigned char) *known) return 0;
    }
    return 1;
}

/* Writes the head of an answer; returns its length with the question's. */
static int put_head(unsigned char *out, const unsigned char *message, int flags, int question, int count) {
    unsigned char *at = put_two(put_two(out, two_bytes(message)), flags);
    at = put_two(put_two(at, question > 0), count);
    put_two(put_two(at, 0), 0);
    if (question) memcpy(out + HEAD, message + HEAD, (size_t) question);
    return HEAD + question;
}

/* Writes the records for a question and counts them. Returns the place behind them, or -1
 * when they do not fit: then there are none. */
static int put_records(unsigned char *out, int at, const unsigned char *name, int type, int *count) {
    for (int i = 0; i < RECORDS; i++) {
        if (records[i].type != type || !same_name(name, records[i].name)) continue;
        if (at + 12 + records[i].length > LONGEST) {
            *count = 0;
            return -1;
        }
        unsigned char *to = put_two(put_two(put_two(out + at, 0xC00C), type), IN);
        to = put_two(put_two(put_two(to, 0), 60), records[i].length);
        memcpy(to, records[i].data, (size_t) records[i].length);
        at += 12 + records[i].length;
        ++*count;
    }
    return at;
}

static int is_known(const unsigned char *name) {
    for (int i = 0; i < RECORDS; i++) {
        if (same_name(name, records[i].name)) return 1;
    }
    return 0;
}

/* Writes the answer to a message. Returns its length, 0 for what is none of a client's. */
static int answer(const unsigned char *message, int length, unsigned char out[LONGEST]) {
    if (length < HEAD || two_bytes(message + 2) & ANSWER) return 0;
    int flags = ANSWER | AUTHORITATIVE | (two_bytes(message + 2) & (OPCODE | RECURSION_DESIRED));
    if (flags & OPCODE) return put_head(out, message, flags | NOT_IMPLEMENTED, 0, 0);
    int end = end_of_question(message, length), count = 0;
    if (!end) return put_head(out, message, flags | FORMAT_ERROR, 0, 0);
    int type = two_bytes(message + end - 4), group = two_bytes(message + end - 2), question = end - HEAD;
    if (group != IN && group != ANY_CLASS) return put_head(out, message, flags | REFUSED, question, 0);
    if (!is_known(message + HEAD)) return put_head(out, message, flags | NO_SUCH_NAME, question, 0);
    int at = put_records(out, end, message + HEAD, type, &count);
    put_head(out, message, at < 0 ? flags | TRUNCATED : flags | NO_ERROR, question, count);
    return at < 0 ? end : at;
}

static void on_data(struct us_udp_socket_t *s, struct us_udp_packet_buffer_t *packets, int count) {
    unsigned char out[LONGEST];
    int ready = 0;
    for (int i = 0; i < count; i++) {
        const unsigned char *message = (const unsigned char *) us_udp_packet_buffer_payload(packets, i);
        int length = answer(message, us_udp_packet_buffer_payload_length(packets, i), out);
        if (length) us_udp_buffer_set_packet_payload(answers, ready++, 0, out, length, us_udp_packet_buffer_peer(packets, i));
    }
    /* What the kernel does not take is dropped: who asks by UDP asks again. */
    int sent = us_udp_socket_send(s, answers, ready);
    answered += sent > 0 ? sent : 0;
    sends += sent > 0;
}

/* Closes everything when the standard input has come to its end. */
static void on_input(struct us_poll_t *input, int error, int events) {
    char bytes[64];
    (void) error, (void) events;
    if (read(us_poll_fd(input), bytes, sizeof bytes) > 0) return;
    us_udp_socket_close(server);
    us_poll_free(input, loop); /* nothing is left, so that the loop returns */
}

int main(int count, char **arguments) {
    int port = count > 1 ? atoi(arguments[1]) : 8053;
    memset(large, 'x', sizeof large);
    large[0] = (char) 255;
    loop = us_create_loop(NULL, NULL, NULL, NULL, 0);
    answers = us_create_udp_packet_buffer();
    struct us_poll_t *input = loop ? us_create_poll(loop, 0, 0) : NULL;
    if (input && answers) server = us_create_udp_socket(loop, NULL, on_data, NULL, "127.0.0.1", (unsigned short) port, NULL);
    if (!server) {
        perror("dns_echo");
        return 1;
    }
    us_poll_init(input, STDIN_FILENO, 0);
    us_poll_on_ready(input, on_input);
    us_poll_start(input, loop, LIBUS_SOCKET_READABLE);
    printf("answering on 127.0.0.1 port %d\n", us_udp_socket_bound_port(server));
    fflush(stdout);
    us_loop_run(loop);
    printf("%lld answers in %lld sends\n", answered, sends);
    us_udp_packet_buffer_free(answers);
    us_loop_free(loop);
    return 0;
}
