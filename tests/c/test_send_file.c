/* Files in responses: order with what is packed and what waits, short writes, files
 * that give out, and clients that go, with descriptors and memory counted. */
#include "server.h"

enum { SIZE = 100000 };

static char content[SIZE + 1];
static int file;
static int64_t offset;
static uint64_t length;
static int result;
static uint32_t handle;

/* The file is gone from its directory at once; only `file` names it. */
static void make_file(void)
{
    for (size_t i = 0; i < SIZE; i++) {
        content[i] = (char) ('a' + (i * 2654435761u >> 20) % 26);
    }
    char path[] = "/tmp/ck_send_file_XXXXXX";
    file = mkstemp(path);
    CHECK(file >= 0 && unlink(path) == 0);
    CHECK(write(file, content, SIZE) == SIZE);
}

static void open_with_file(void)
{
    make_file();
    open_server(NULL);
    offset = 0;
    length = SIZE;
    result = 99;
}

static void close_with_file(void)
{
    close_server();
    close(file);
}

static void declare(uint32_t request, uint64_t declared)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long) declared);
    CHECK(field(request, "Content-Length", text) == CK_OK);
}

static void answer_file(uint32_t request)
{
    handle = request;
    declare(request, length);
    result = ck_send_file(request, file, offset, length);
}

static void keep_and_answer_file(uint32_t request)
{
    CHECK(ck_keep(request) == CK_OK);
    answer_file(request);
}

/* A response with `size` bytes of the file from `from`, behind its head. */
static const char *whole(size_t from, size_t size)
{
    static char buffer[SIZE + 512];
    int head = snprintf(buffer, sizeof(buffer), "HTTP/1.1 200 OK\r\n" DATE "Content-Length: %zu\r\n\r\n", size);
    memcpy(buffer + head, content + from, size);
    buffer[(size_t) head + size] = '\0';
    return buffer;
}

static void the_head_leaves_first_and_says_that_more_follows(void)
{
    open_with_file();
    length = 5000;
    offset = 777;
    serve("GET", "/", answer_file);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(result == 3);
    CHECK_HEARD(client, whole(777, 5000));
    CHECK(client->sends == 2 && client->more == 1);
    CHECK(stats().sends == 2 && stats().bytes == client->out_length && stats().responses == 1);
    CHECK(world.files == 0);
    feed(client, GET("/"));
    CHECK(client->sends == 4 && !client->closed);
    close_with_file();
}

static void it_goes_on_when_the_client_takes_more(void)
{
    open_with_file();
    serve("GET", "/", keep_and_answer_file);
    peer *client = dial();
    client->most = 977;
    feed(client, GET("/"));
    CHECK(result == 2); /* some waits, and the response has ended */
    CHECK_HEARD(client, whole(0, SIZE));
    CHECK(world.files == 0 && world.log_length == strlen("request 0|"));
    CHECK(ck_release(handle) == CK_OK);
    close_with_file();
}

static void every_point_where_the_kernel_is_full(void)
{
    for (long room = 0; room < 120; room++) {
        open_with_file();
        length = 50;
        serve("GET", "/", answer_file);
        peer *client = dial();
        client->room = room;
        feed(client, GET("/"));
        CHECK(client->out_length <= (size_t) room);
        CHECK(world.files == ((size_t) room < strlen(whole(0, 50))));
        client->room = UNLIMITED;
        settle();
        CHECK_HEARD(client, whole(0, 50));
        CHECK(world.files == 0);
        close_with_file();
    }
}

static void write_around_a_file(uint32_t request)
{
    declare(request, 60);
    CHECK(write_text(request, "before the") == CK_OK);
    CHECK((ck_send_file(request, file, 10, 40) & 2) == 0);
    CHECK(ck_write(request, " and after", 10) >= 0);
    CHECK(end_text(request, "") == CK_OK);
}

static void what_is_written_after_stays_behind(void)
{
    for (long room = 0; room < 150; room += 3) {
        open_with_file();
        serve("GET", "/", write_around_a_file);
        peer *client = dial();
        client->room = room;
        feed(client, GET("/") GET("/"));
        client->most = 7;
        client->room = UNLIMITED;
        settle();
        char body[64];
        snprintf(body, sizeof(body), "before the%.40s and after", content + 10);
        CHECK_HEARD(client, joined(2, ok(body), ok(body)));
        close_with_file();
    }
}

static void the_next_request_waits_for_the_file(void)
{
    open_with_file();
    serve("GET", "/", answer_file);
    serve("GET", "/next", answer_path);
    peer *client = dial();
    client->room = 1000;
    feed(client, GET("/") GET("/next"));
    CHECK_LOG("request 0|");
    client->room = UNLIMITED;
    settle();
    CHECK_LOG("request 0|request 1|");
    CHECK(strcmp(heard(client) + strlen(whole(0, SIZE)), ok("/next")) == 0);
    close_with_file();
}

static uint64_t sent_so_far;

static void next_window(uint32_t request)
{
    while (sent_so_far < length) {
        uint64_t window = length - sent_so_far < 30000 ? length - sent_so_far : 30000;
        result = ck_send_file(request, file, (int64_t) sent_so_far, window);
        CHECK(result >= 0);
        sent_so_far += window;
        if (!(result & 1) && sent_so_far < length) {
            CHECK(ck_send_file(request, file, 0, 1) == CK_STATE);
            CHECK(ck_buffered_amount(request) > 0);
            CHECK(ck_want_writable(request) == CK_OK);
            return;
        }
    }
}

static void begin_windows(uint32_t request)
{
    sent_so_far = 0;
    CHECK(ck_keep(request) == CK_OK);
    declare(request, length);
    next_window(request);
    CHECK(ck_release(request) >= 0 || result & 2);
}

static void begin_windows_kept(uint32_t request)
{
    sent_so_far = 0;
    CHECK(ck_keep(request) == CK_OK);
    handle = request;
    declare(request, length);
    next_window(request);
}

static void windows_follow_each_other(void)
{
    open_with_file();
    serve("GET", "/", begin_windows_kept);
    world.writable = next_window;
    peer *client = dial();
    client->most = 4096;
    feed(client, GET("/"));
    CHECK(result & 2);
    CHECK_HEARD(client, whole(0, SIZE));
    CHECK(ck_release(handle) == CK_OK);
    close_with_file();
}

static void windows_let_go_half_way_close(void)
{
    open_with_file();
    serve("GET", "/", begin_windows);
    peer *client = dial();
    client->room = 1000;
    feed(client, GET("/"));
    client->room = UNLIMITED;
    settle();
    CHECK(client->closed);
    CHECK(client->out_length < strlen(whole(0, SIZE)));
    CHECK(world.files == 0);
    close_with_file();
}

static void a_file_too_short_at_once(void)
{
    open_with_file();
    offset = SIZE;
    length = 10;
    serve("GET", "/", keep_and_answer_file);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(result == CK_LENGTH);
    CHECK(client->closed && world.files == 0);
    CHECK(end_text(handle, "x") == CK_ABORTED);
    CHECK_LOG("request 0|");
    CHECK(ck_release(handle) == CK_OK);
    close_with_file();
}

static void a_file_that_shrinks(void)
{
    for (int unfinished = 0; unfinished < 2; unfinished++) {
        open_with_file();
        serve("GET", "/", unfinished ? begin_windows_kept : keep_and_answer_file);
        peer *client = dial();
        client->room = 1000;
        feed(client, GET("/"));
        CHECK(ftruncate(file, 5000) == 0);
        client->room = UNLIMITED;
        settle();
        CHECK(client->closed && world.files == 0);
        CHECK(client->out_length == strlen(whole(0, SIZE)) - SIZE + 5000);
        CHECK_LOG(unfinished ? "request 0|aborted 2|" : "request 0|");
        CHECK(ck_release(handle) == CK_OK);
        close_with_file();
    }
}

static void the_client_goes_half_way(void)
{
    open_with_file();
    serve("GET", "/", begin_windows_kept);
    peer *client = dial();
    client->room = 1000;
    feed(client, GET("/"));
    CHECK(world.files == 1);
    reset(client);
    CHECK(client->closed && world.files == 0);
    CHECK_LOG("request 0|aborted 0|");
    CHECK(ck_send_file(handle, file, 0, 1) == CK_ABORTED);
    CHECK(ck_release(handle) == CK_OK);
    close_with_file();
}

static void a_client_that_stops_reading_is_left(void)
{
    open_with_file();
    serve("GET", "/", begin_windows_kept);
    peer *client = dial();
    client->room = 1000;
    feed(client, GET("/"));
    pass_seconds(60);
    CHECK(client->closed && world.files == 0);
    CHECK_LOG("request 0|aborted 1|");
    CHECK(ck_release(handle) == CK_OK);
    close_with_file();
}

static void refuse_lengths(uint32_t request)
{
    CHECK(ck_send_file(request, file, 0, 10) == CK_LENGTH); /* nothing was declared */
    declare(request, 10);
    CHECK(ck_send_file(request, file, 0, 11) == CK_LENGTH);
    CHECK(ck_send_file(request, file, -1, 10) == CK_VALUE);
    CHECK(ck_send_file(request, file, INT64_MAX, 10) == CK_VALUE);
    CHECK(ck_send_file(request, file, 0, 10) == 3);
    CHECK(ck_send_file(request, file, 0, 0) == CK_FINISHED);
}

static void what_was_not_declared_is_refused(void)
{
    open_with_file();
    serve("GET", "/", refuse_lengths);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK_HEARD(client, whole(0, 10));
    CHECK(ck_send_file(12345, file, 0, 1) == CK_EXPIRED);
    close_with_file();
}

static void a_head_without_a_body(void)
{
    open_with_file();
    serve("GET", "/", answer_file);
    peer *client = dial();
    feed(client, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    CHECK(result == 3);
    CHECK(client->out_length == strlen(whole(0, SIZE)) - SIZE && world.files == 0);
    close_with_file();
}

static void fail_after_a_file(uint32_t request)
{
    declare(request, 100);
    CHECK(ck_send_file(request, file, 0, 50) == 1);
    CHECK(ck_fail(request) == CK_STARTED);
}

static void what_has_left_cannot_be_taken_back(void)
{
    open_with_file();
    serve("GET", "/", fail_after_a_file);
    peer *client = dial();
    feed(client, GET("/"));
    CHECK(client->closed && stats().rollbacks == 0);
    close_with_file();
}

static void no_descriptor_is_free(void)
{
    open_with_file();
    length = 50;
    serve("GET", "/", keep_and_answer_file);
    peer *client = dial();
    world.file_dup_error = EMFILE;
    feed(client, GET("/"));
    CHECK(result == CK_NOMEM);
    CHECK(client->out_length > 0 && !client->closed); /* the head: the caller may read the file itself */
    CHECK(ck_end(handle, content, 50, 0) == CK_OK);
    settle();
    CHECK_HEARD(client, whole(0, 50));
    CHECK(ck_release(handle) == CK_OK);
    close_with_file();
}

static void try_answer_file(uint32_t request)
{
    if (field(request, "Content-Length", "50") == CK_OK) {
        result = ck_send_file(request, file, 0, 50);
    }
}

static void memory_fails_at_every_point(void)
{
    for (long at = 1; at < 8; at++) {
        open_with_file();
        length = 50;
        serve("GET", "/", try_answer_file);
        peer *client = dial();
        client->room = 10;
        world.fail_at = world.allocations + at;
        feed(client, GET("/"));
        client->room = UNLIMITED;
        settle();
        CHECK(client->closed || strcmp(heard(client), whole(0, 50)) == 0 || strstr(heard(client), " 500 ")
            || strstr(heard(client), " 503 "));
        close_with_file();
    }
}

static uint32_t later;

static void keep_for_later(uint32_t request)
{
    CHECK(ck_keep(request) == CK_OK);
    later = request;
}

static void outside_any_cork(void)
{
    open_with_file();
    length = 50;
    serve("GET", "/", keep_for_later);
    peer *client = dial();
    feed(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    answer_file(later);
    CHECK(result == 3);
    settle();
    CHECK(strstr(heard(client), "Connection: close\r\n\r\n"));
    CHECK(client->out_length && memcmp(client->out + client->out_length - 50, content, 50) == 0);
    CHECK(client->shut); /* the end that was due came, though no flush did */
    CHECK(ck_release(later) == CK_OK);
    close_with_file();
}

int main(void)
{
    the_head_leaves_first_and_says_that_more_follows();
    it_goes_on_when_the_client_takes_more();
    every_point_where_the_kernel_is_full();
    what_is_written_after_stays_behind();
    the_next_request_waits_for_the_file();
    windows_follow_each_other();
    windows_let_go_half_way_close();
    a_file_too_short_at_once();
    a_file_that_shrinks();
    the_client_goes_half_way();
    a_client_that_stops_reading_is_left();
    what_was_not_declared_is_refused();
    a_head_without_a_body();
    what_has_left_cannot_be_taken_back();
    no_descriptor_is_free();
    memory_fails_at_every_point();
    outside_any_cork();
    return checks_done();
}
