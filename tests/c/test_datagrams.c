/* Datagram sockets of the core: what is packed and when it leaves, what the kernel does
 * not take or refuses, what is handed over, and the end of sockets in every callback. */
#include "mail.h"

static char payload[70000];

static uint32_t open_on(const char *host, int flags)
{
    int error = -1;
    uint32_t udp = ck_udp_create(host, 0, 65536, flags, &error);
    CHECK(udp != 0 && error == 0);
    return udp;
}

static void open_mail(void)
{
    reset_mail();
    CHECK(ck_loop_open_on(&world.sys, &world_callbacks) == 0);
    go();
}

static void close_mail(void)
{
    CHECK(ck_loop_close() == 0);
    close_world();
}

static int send_text(uint32_t udp, const char *text)
{
    return ck_udp_send(udp, text, (int) strlen(text), "10.0.0.1", 53);
}

static ck_datagram_stats counted(uint32_t udp)
{
    ck_datagram_stats stats;
    memset(&stats, 0, sizeof(stats));
    CHECK(ck_udp_stats(udp, &stats) == CK_OK);
    return stats;
}

/* ---- Packing ---- */

static void test_an_iteration_is_one_send(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0), other = open_on("127.0.0.1", 0);
    for (int i = 0; i < 10; i++) {
        CHECK(send_text(udp, "abc") == 1);
        CHECK(send_text(other, "defg") == 1);
    }
    CHECK(mail.sends == 0 && world.deferred == 1 && ck_udp_buffered(udp) > 30);
    go();
    CHECK(mail.sends == 2 && mail.batches[0] == 10 && mail.batches[1] == 10);
    CHECK(ck_udp_buffered(udp) == 0);
    CHECK(counted(udp).datagrams == 10 && counted(udp).sends == 1 && counted(udp).bytes == 30);
    CHECK(counted(other).bytes == 40);
    CHECK_TEXT(mail.out[0].data, "abc");
    CHECK_TEXT(mail.out[10].data, "defg");
    CHECK(port_of(&mail.out[0].peer) == 53);
    CHECK(ck_udp_close(udp) == CK_OK && ck_udp_close(other) == CK_OK);
    close_mail();
}

static void answer_thrice(uint32_t udp)
{
    CHECK(ck_udp_corks(udp) >= 1);
    for (int i = 0; i < 3; i++) {
        CHECK(send_text(udp, "answer") == 1);
    }
    CHECK(mail.sends == 0);
}

static void test_a_callback_is_one_send(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    world.udp = answer_thrice;
    post("one");
    post("two");
    post_from("10.0.0.2", 54, "", 0);
    go();
    CHECK_LOG("udp 1 3 list|");
    CHECK_LIST("(one,(10.0.0.1,53)) (two,(10.0.0.1,53)) (,(10.0.0.2,54)) ");
    CHECK(mail.sends == 1 && mail.batches[0] == 3);
    CHECK(counted(udp).received == 3 && counted(udp).receives == 1 && counted(udp).received_bytes == 6);
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

static void test_corks_nest(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", CK_UDP_MANUAL);
    CHECK(send_text(udp, "at once") == 1 && mail.sends == 1);
    CHECK(ck_udp_uncork(udp) == 0);
    CHECK(ck_udp_corks(udp) == 0);
    CHECK(ck_udp_cork(udp) == CK_OK && ck_udp_cork(udp) == CK_OK && ck_udp_corks(udp) == 2);
    CHECK(send_text(udp, "a") == 1 && send_text(udp, "b") == 1 && mail.sends == 1);
    CHECK(ck_udp_uncork(udp) == 1 && mail.sends == 1);
    CHECK(ck_udp_flush(udp) == CK_OK && mail.sends == 2);
    CHECK(send_text(udp, "c") == 1 && mail.sends == 2);
    CHECK(ck_udp_uncork(udp) == 0 && mail.sends == 3);
    CHECK(ck_udp_cork(udp) == CK_OK);
    CHECK(send_text(udp, "d") == 1);
    go(); /* an open cork does not keep it past the iteration */
    CHECK(mail.sends == 4);
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

static void test_corks_have_an_end(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    int corks = 0;
    while (ck_udp_cork(udp) == CK_OK && corks < 100000) {
        corks++;
    }
    CHECK(corks == UINT16_MAX - 1);
    world.udp = answer_thrice;
    post("one");
    go(); /* one is left for callbacks */
    CHECK(mail.sends == 1);
    for (int left = corks - 1; left >= 0; left--) {
        CHECK(ck_udp_uncork(udp) == left);
    }
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

static void test_a_full_batch_leaves_and_packing_goes_on(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    CHECK(ck_udp_cork(udp) == CK_OK);
    for (int i = 0; i < 2500; i++) {
        CHECK(send_text(udp, "x") == 1);
    }
    CHECK(mail.sends == 2 && mail.batches[0] == 1024 && mail.batches[1] == 1024);
    CHECK(ck_udp_uncork(udp) == 0 && mail.sends == 3 && mail.batches[2] == 452);
    CHECK(ck_udp_cork(udp) == CK_OK);
    for (int i = 0; i < 9; i++) { /* 256 KiB hold 4 */
        CHECK(ck_udp_send(udp, payload, 60000, "10.0.0.1", 53) == 1);
    }
    CHECK(mail.sends == 5 && mail.batches[3] == 4 && mail.batches[4] == 4);
    CHECK(ck_udp_uncork(udp) == 0 && mail.sends == 6);
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

/* ---- What the kernel does not take ---- */

static void test_what_waits_goes_when_it_can(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    char text[16];
    mail.room = 3;
    for (int i = 0; i < 10; i++) {
        snprintf(text, sizeof(text), "%d", i);
        CHECK(send_text(udp, text) == 1);
    }
    go();
    CHECK(mail.out_count == 3 && ck_udp_buffered(udp) > 0);
    CHECK(send_text(udp, "10") == 1 && ck_udp_flush(udp) == CK_OK); /* overtakes nothing */
    go();
    CHECK(mail.out_count == 3);
    make_room(4);
    go();
    CHECK(mail.out_count == 7);
    CHECK_LOG("");
    make_room(UNLIMITED);
    go();
    CHECK_LOG("udp 2 0 |");
    CHECK(mail.out_count == 11 && mail.sends == 3 && ck_udp_buffered(udp) == 0);
    for (int i = 0; i < 11; i++) {
        snprintf(text, sizeof(text), "%d", i);
        CHECK_TEXT(mail.out[i].data, text);
    }
    CHECK(counted(udp).datagrams == 11 && counted(udp).dropped == 0);
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

static void test_more_than_the_backlog_is_dropped(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    mail.room = 0;
    CHECK(ck_udp_send(udp, payload, 65000, "10.0.0.1", 53) == 1); /* not known yet to be full */
    CHECK(ck_udp_send(udp, payload, 1000, "10.0.0.1", 53) == 1);
    go();
    CHECK(ck_udp_send(udp, payload, 1000, "10.0.0.1", 53) == 0);
    CHECK(ck_udp_send(udp, payload, 60000, "10.0.0.1", 53) == 0);
    CHECK(counted(udp).dropped == 2 && counted(udp).datagrams == 0);
    make_room(UNLIMITED);
    go();
    CHECK_LOG("udp 2 0 |");
    CHECK(mail.out_count == 2 && send_text(udp, "again") == 1);
    CHECK(ck_udp_close(udp) == CK_OK); /* sends what is packed */
    CHECK(mail.out_count == 3);
    close_mail();
}

static void fill_again(uint32_t udp)
{
    if (world.event == CK_UDP_EVENT_DRAIN && mail.out_count < 20) {
        make_room(2);
        for (int i = 0; i < 5; i++) {
            CHECK(send_text(udp, "again") == 1);
        }
    }
}

static void test_a_drain_callback_that_fills_it_again(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    world.udp = fill_again;
    mail.room = 0;
    CHECK(send_text(udp, "first") == 1);
    go();
    for (int i = 0; i < 20; i++) {
        make_room(2);
        go();
    }
    CHECK(mail.out_count >= 20 && ck_udp_buffered(udp) == 0);
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

/* ---- What the kernel refuses ---- */

static void test_what_is_refused_is_dropped_and_reported_once(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", CK_UDP_MANUAL);
    mail.send_error = ENETUNREACH;
    mail.bad_port = 99;
    CHECK(ck_udp_cork(udp) == CK_OK);
    for (int i = 0; i < 6; i++) {
        CHECK(ck_udp_send(udp, "x", 1, i % 2 ? "10.9.9.9" : "10.0.0.1", i % 2 ? 99 : 53) == 1);
    }
    CHECK(ck_udp_uncork(udp) == 0);
    CHECK_LOG(""); /* nothing calls back from inside an entry */
    go();
    CHECK(mail.out_count == 3 && ck_udp_buffered(udp) == 0);
    CHECK(counted(udp).failed == 3 && counted(udp).datagrams == 3);
    CHECK(strstr(world.log, "udp 3 101 (10.9.9.9,99)|") != NULL); /* ENETUNREACH */
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

static void send_to_the_bad_one(uint32_t udp)
{
    if (world.event == CK_UDP_EVENT_ERROR) {
        CHECK(ck_udp_send(udp, "x", 1, "10.9.9.9", 99) == 1);
    }
}

/* A few in each iteration, so that the others have their turn. */
static void test_a_report_that_is_refused_again_does_not_spin(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    world.udp = send_to_the_bad_one;
    mail.send_error = EPERM;
    mail.bad_port = 99;
    CHECK(ck_udp_send(udp, "x", 1, "10.9.9.9", 99) == 1);
    for (int i = 0; i < 5; i++) {
        CHECK(world.deferred);
        world.deferred = 0;
        CHECK(ck_loop_step() >= 0);
        CHECK(counted(udp).failed > (uint64_t) i && counted(udp).failed <= 4 * ((uint64_t) i + 1));
    }
    world.udp = NULL;
    go();
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

static void test_a_lasting_error_of_sending(void)
{
    const int errors[] = {ENOMEM, ENOBUFS, EPERM, EBADF};
    for (int i = 0; i < 4; i++) {
        open_mail();
        uint32_t udp = open_on("127.0.0.1", 0);
        mail.send_error = errors[i];
        mail.bad_port = 53;
        for (int n = 0; n < 100; n++) {
            CHECK(send_text(udp, "x") == 1);
        }
        go();
        CHECK(!fault.stalled && counted(udp).failed == 100 && ck_udp_buffered(udp) == 0);
        CHECK(ck_udp_close(udp) == CK_OK);
        close_mail();
    }
}

static void test_a_lasting_want_of_memory_to_receive_with(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    mail.receive_error = ENOMEM;
    post("one");
    long waits = fault.waits;
    go();
    CHECK(!fault.stalled && mail.receives == 1 && fault.waits == waits + 1);
    pass_ms(1000); /* ten times the retry timer */
    CHECK(mail.receives == 11 && !fault.stalled);
    CHECK_LOG("");
    mail.receive_error = 0;
    pass_ms(100);
    CHECK_LOG("udp 1 1 list|");
    CHECK(ck_udp_close(udp) == CK_OK);
    close_mail();
}

/* ---- Addresses ---- */

static void expect_sent_to(uint32_t udp, const char *host, int family, const char *wanted, unsigned zone)
{
    int before = mail.out_count;
    char text[INET6_ADDRSTRLEN];
    CHECK_FOR(host, ck_udp_send(udp, "x", 1, host, 53) == 1 && ck_udp_flush(udp) == CK_OK);
    if (!CHECK_FOR(host, mail.out_count == before + 1)) {
        return;
    }
    const letter *sent = &mail.out[before];
    const struct sockaddr_in6 *ip6 = (const void *) &sent->peer;
    const struct sockaddr_in *ip4 = (const void *) &sent->peer;
    const void *ip = family == AF_INET ? (const void *) &ip4->sin_addr : (const void *) &ip6->sin6_addr;
    CHECK_FOR(host, sent->peer.ss_family == family && port_of(&sent->peer) == 53);
    CHECK_TEXT(inet_ntop(family, ip, text, sizeof(text)), wanted);
    CHECK_FOR(host, family == AF_INET || ip6->sin6_scope_id == zone);
}

static void test_where_to(void)
{
    open_mail();
    uint32_t ip4 = open_on("127.0.0.1", 0), ip6 = open_on("::1", 0), all = open_on(NULL, 0);
    expect_sent_to(ip4, "10.1.2.3", AF_INET, "10.1.2.3", 0);
    expect_sent_to(ip4, "::ffff:10.1.2.3", AF_INET, "10.1.2.3", 0);
    expect_sent_to(ip6, "2001:db8::7", AF_INET6, "2001:db8::7", 0);
    expect_sent_to(ip6, "fe80::1%4294967295", AF_INET6, "fe80::1", UINT32_MAX);
    expect_sent_to(all, "10.1.2.3", AF_INET6, "::ffff:10.1.2.3", 0);
    expect_sent_to(all, "2001:db8::7", AF_INET6, "2001:db8::7", 0);
    CHECK(ck_udp_send(ip4, "x", 1, "2001:db8::7", 53) == CK_STATE);
    CHECK(ck_udp_send(ip6, "x", 1, "10.1.2.3", 53) == CK_STATE);
    CHECK(ck_udp_send(ip6, "x", 1, "::ffff:10.1.2.3", 53) == CK_STATE);
    static const char *none[] = {"", "localhost", "10.0.0", "10.0.0.256", "10.0.0.1 ", "1::2::3", "%1", "[::1]", "::1]",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        CHECK_FOR(none[i], ck_udp_send(all, "x", 1, none[i], 53) == CK_VALUE);
    }
    static const char *zones[] = {"fe80::1%", "fe80::1%eth0", "fe80::1%0", "fe80::1%4294967296", "fe80::1%99999999999999999999",
        "fe80::1%1x"};
    for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
        CHECK_FOR(zones[i], ck_udp_send(all, "x", 1, zones[i], 53) == CK_NAME);
    }
    const int ports[] = {0, -1, 65536, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 5; i++) {
        CHECK(ck_udp_send(all, "x", 1, "10.1.2.3", ports[i]) == CK_VALUE);
    }
    CHECK(ck_udp_buffered(all) == 0);
    close_mail();
}

static void test_how_long(void)
{
    open_mail();
    uint32_t all = open_on(NULL, 0);
    CHECK(ck_udp_send(all, payload, 65507, "10.0.0.1", 53) == 1);
    CHECK(ck_udp_send(all, payload, 65508, "10.0.0.1", 53) == CK_LENGTH);
    CHECK(ck_udp_send(all, payload, 65527, "::1", 53) == 1);
    CHECK(ck_udp_send(all, payload, 65528, "::1", 53) == CK_LENGTH);
    CHECK(ck_udp_send(all, payload, INT32_MAX, "::1", 53) == CK_LENGTH);
    CHECK(ck_udp_send(all, payload, -1, "::1", 53) == CK_LENGTH);
    CHECK(ck_udp_send(all, payload, 0, "::1", 53) == 1);
    go();
    CHECK(mail.sends == 1 && mail.out[0].length == 65507 && mail.out[1].length == 65527 && mail.out[2].length == 0);
    close_mail();
}

static void test_where_from(void)
{
    open_mail();
    uint32_t udp = open_on(NULL, CK_UDP_DETAILS);
    post_from("::ffff:10.1.2.3", 7, "a", 1);
    post_from("2001:db8::7", 8, "b", 1);
    letter *zoned = post_from("fe80::1", 9, "c", 1);
    ((struct sockaddr_in6 *) (void *) &zoned->peer)->sin6_scope_id = 3;
    go();
    CHECK_LIST("(a,(10.1.2.3,7),(,0)) (b,(2001:db8::7,8),(,0)) (c,(fe80::1%3,9),(,0)) ");
    object *own = ck_py_udp_address(udp);
    CHECK_TEXT(own->data, "(::,4000)");
    object_decref(own);
    CHECK(ck_udp_port(udp) == OWN_PORT);
    close_mail();
}

static void test_no_address_to_bind(void)
{
    static const struct { const char *host; int port; int error; } bad[] = {{"localhost", 0, EINVAL}, {"", 0, EINVAL},
        {"127.0.0.1", -1, EINVAL}, {"127.0.0.1", 65536, EINVAL}, {"::1%", 0, EADDRNOTAVAIL}};
    open_mail();
    for (int i = 0; i < 5; i++) {
        int error = 0;
        CHECK_FOR(bad[i].host, ck_udp_create(bad[i].host, bad[i].port, 1, 0, &error) == 0);
        CHECK_FOR(bad[i].host, error == bad[i].error);
    }
    close_mail();
    int error = 0;
    CHECK(ck_udp_create("127.0.0.1", 0, 1, 0, &error) == 0 && error == EOPNOTSUPP); /* without a loop */
    ck_callbacks without = world_callbacks;
    without.udp = NULL;
    reset_mail();
    CHECK(ck_loop_open_on(&world.sys, &without) == 0);
    CHECK(ck_udp_create("127.0.0.1", 0, 1, 0, &error) == 0 && error == EOPNOTSUPP);
    close_mail();
}

/* ---- Faults ---- */

static void test_opening_fails_whole(void)
{
    static const struct { enum site site; int error; } faulty[] = {{SITE_SOCKET, EMFILE}, {SITE_BIND, EADDRINUSE},
        {SITE_GETSOCKNAME, ENOBUFS}, {SITE_EPOLL_ADD, ENOSPC}};
    open_mail();
    CHECK(ck_udp_close(open_on("127.0.0.1", 0)) == CK_OK); /* so that what is shared is there */
    go();
    long memory = world.memory, descriptors = world.descriptors;
    for (int i = 0; i < 4; i++) {
        int error = 0;
        break_next(faulty[i].site, faulty[i].error, true);
        CHECK(ck_udp_create("127.0.0.1", 0, 1, 0, &error) == 0);
        CHECK(error == faulty[i].error);
        mend();
        go();
        CHECK(world.memory == memory && world.descriptors == descriptors && ck_loop_handles() == 0);
    }
    close_mail();
}

/* Each allocation of a life fails in turn. */
static void test_memory_is_out(void)
{
    bool worked = false;
    for (long n = 1; n < 30 && !worked; n++) {
        open_mail();
        world.fail_at = world.allocations + n;
        int error = 0;
        uint32_t udp = ck_udp_create("127.0.0.1", 0, 65536, 0, &error);
        CHECK(udp || error == ENOMEM);
        int sent = udp ? send_text(udp, "abc") : CK_NOMEM;
        CHECK(sent == 1 || sent == CK_NOMEM);
        worked = udp && sent == 1;
        go();
        CHECK(mail.out_count == worked);
        if (udp) {
            CHECK(send_text(udp, "later") == 1);
            go();
            CHECK(mail.out_count == worked + 1);
        }
        worked = worked && world.allocations < world.fail_at;
        close_mail();
    }
    CHECK(worked);
}

/* Each object fails in turn, and then all from it on. */
static void test_python_is_out_of_memory(void)
{
    for (int on = 0; on < 2; on++) {
        for (long n = 1; n < 40; n++) {
            open_mail();
            uint32_t udp = open_on("127.0.0.1", on ? CK_UDP_DETAILS : 0);
            world.object_fail_at = n;
            world.object_fail_on = on;
            post("one");
            post_from("10.0.0.2", 2, "two", 3);
            post("three");
            mail.send_error = EPERM;
            mail.bad_port = 53;
            CHECK(send_text(udp, "refused") == 1);
            go();
            CHECK(counted(udp).received == 3);
            uint64_t handed = 0;
            for (size_t i = 0; i + 1 < mail.list_length; i++) {
                handed += mail.list[i] == ')' && mail.list[i + 1] == ' ';
            }
            CHECK(counted(udp).lost + handed == 3);
            CHECK((strstr(world.log, "udp 1 3 list|") != NULL) == (handed > 0));
            CHECK(ck_udp_close(udp) == CK_OK);
            close_mail();
        }
    }
}

/* ---- The end ---- */

static uint32_t pair[2];

static void close_both(uint32_t udp)
{
    CHECK(udp == pair[0] || udp == pair[1]);
    CHECK(send_text(udp, "last words") == 1);
    for (int i = 0; i < 2; i++) {
        (void) ck_udp_close(pair[i]);
        CHECK(ck_udp_close(pair[i]) == CK_EXPIRED && ck_udp_send(pair[i], "x", 1, "10.0.0.1", 53) == CK_EXPIRED);
    }
}

static void test_closing_in_callbacks(void)
{
    for (int event = CK_UDP_EVENT_DATA; event <= CK_UDP_EVENT_ERROR; event++) {
        open_mail();
        pair[0] = open_on("127.0.0.1", 0);
        pair[1] = open_on("127.0.0.1", 0);
        world.udp = close_both;
        if (event == CK_UDP_EVENT_DATA) {
            post("one");
        } else if (event == CK_UDP_EVENT_DRAIN) {
            mail.room = 0;
            CHECK(send_text(pair[0], "a") == 1 && send_text(pair[1], "b") == 1);
            go();
            make_room(UNLIMITED);
        } else {
            mail.send_error = EPERM;
            mail.bad_port = 99;
            CHECK(ck_udp_send(pair[0], "x", 1, "10.0.0.1", 99) == 1 && ck_udp_send(pair[1], "x", 1, "10.0.0.1", 99) == 1);
        }
        go();
        CHECK(ck_loop_handles() == 0);
        CHECK_TEXT(mail.out[mail.out_count - 1].data, event == CK_UDP_EVENT_DRAIN && mail.out_count == 3 ? "b" : "last words");
        close_mail();
    }
}

static void test_the_loop_closes_what_is_left(void)
{
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    (void) open_on("::1", 0);
    CHECK(send_text(udp, "last words") == 1);
    close_mail();
    CHECK(mail.out_count == 1);
    CHECK_LOG("udp 4 0 |udp 4 0 |");
    CHECK(ck_udp_send(udp, "x", 1, "10.0.0.1", 53) == CK_EXPIRED);
}

static void open_another(uint32_t udp)
{
    int error = 0;
    CHECK(world.event == CK_UDP_EVENT_CLOSED && ck_udp_close(udp) == CK_EXPIRED);
    CHECK(ck_udp_create("127.0.0.1", 0, 1, 0, &error) == 0 && error == ECANCELED);
}

static void test_none_is_opened_while_the_loop_closes(void)
{
    open_mail();
    (void) open_on("127.0.0.1", 0);
    (void) open_on("127.0.0.1", 0);
    world.udp = open_another;
    close_mail();
    CHECK_LOG("udp 4 0 |udp 4 0 |");
}

static void test_stale_handles(void)
{
    ck_datagram_stats stats;
    open_mail();
    uint32_t udp = open_on("127.0.0.1", 0);
    CHECK(ck_udp_close(udp) == CK_OK);
    const uint32_t bad[] = {udp, 0, 77, UINT32_MAX};
    for (int i = 0; i < 4; i++) {
        CHECK(ck_udp_close(bad[i]) == CK_EXPIRED && ck_udp_port(bad[i]) == CK_EXPIRED);
        CHECK(ck_udp_send(bad[i], "x", 1, "10.0.0.1", 53) == CK_EXPIRED && ck_udp_buffered(bad[i]) == CK_EXPIRED);
        CHECK(ck_udp_cork(bad[i]) == CK_EXPIRED && ck_udp_uncork(bad[i]) == CK_EXPIRED);
        CHECK(ck_udp_corks(bad[i]) == CK_EXPIRED && ck_udp_flush(bad[i]) == CK_EXPIRED && ck_udp_stats(bad[i], &stats) == CK_EXPIRED);
        CHECK(ck_py_udp_address(bad[i]) == NULL && world.errors == i + 1);
    }
    close_mail();
}

/* ---- A storm: anything in any order, in every callback ---- */

enum { STORM_SOCKETS = 8, STORM_STEPS = 3000 };

static struct {
    uint64_t random;
    uint32_t udp[STORM_SOCKETS];
    unsigned number[STORM_SOCKETS]; /* of the socket, among all that there were */
    unsigned sockets;
    unsigned taken[STORM_SOCKETS];  /* datagrams that it has taken */
    int checked;                    /* of what has left */
    int last_of[STORM_STEPS * 4];   /* the number of the last datagram of each socket that has left */
    int depth;
    long events;
} storm;

static unsigned draw(unsigned below)
{
    storm.random ^= storm.random << 13;
    storm.random ^= storm.random >> 7;
    storm.random ^= storm.random << 17;
    return (unsigned) (storm.random >> 33) % below;
}

/* What has left of a socket is in the order in which it was sent. */
static void check_order(void)
{
    for (; storm.checked < mail.out_count; storm.checked++) {
        int socket = 0, number = -1;
        CHECK(sscanf(mail.out[storm.checked % MAIL_MAX].data, "%d %d", &socket, &number) == 2);
        CHECK(number > storm.last_of[socket]);
        storm.last_of[socket] = number;
    }
}

/* All that it has taken has left, was refused, or still waits. */
static void check_books(unsigned i, bool all_gone)
{
    ck_datagram_stats stats = counted(storm.udp[i]);
    uint64_t done = stats.datagrams + stats.failed;
    CHECK(all_gone ? done == storm.taken[i] : done <= storm.taken[i]);
    CHECK((done == storm.taken[i]) == (ck_udp_buffered(storm.udp[i]) == 0));
}

static void storm_opens(unsigned i)
{
    int error = 0;
    if (storm.udp[i] || storm.sockets >= sizeof(storm.last_of) / sizeof(storm.last_of[0])) {
        return;
    }
    uint64_t backlog = draw(2) ? 200000 : 300;
    storm.udp[i] = ck_udp_create("127.0.0.1", 0, backlog, draw(2) ? CK_UDP_MANUAL : 0, &error);
    CHECK(storm.udp[i] != 0);
    storm.number[i] = storm.sockets++;
    storm.last_of[storm.number[i]] = -1;
    storm.taken[i] = 0;
}

static void storm_sends(unsigned i, unsigned most)
{
    for (unsigned n = draw(most); n > 0 && storm.udp[i]; n--) {
        char text[32];
        int length = snprintf(text, sizeof(text), "%u %u", storm.number[i], storm.taken[i]);
        int result = ck_udp_send(storm.udp[i], text, length, "10.0.0.1", draw(10) ? 53 : 99);
        CHECK(result == 1 || result == 0);
        storm.taken[i] += result == 1;
    }
}

static void storm_acts(void)
{
    unsigned i = draw(STORM_SOCKETS);
    switch (draw(12)) {
    case 0:
        storm_opens(i);
        break;
    case 1:
        if (storm.udp[i] && draw(3) == 0) {
            check_books(i, false);
            CHECK(ck_udp_close(storm.udp[i]) == CK_OK);
            storm.udp[i] = 0;
        }
        break;
    case 2:
        (void) ck_udp_cork(storm.udp[i]);
        break;
    case 3:
        (void) ck_udp_uncork(storm.udp[i]);
        break;
    case 4:
        (void) ck_udp_flush(storm.udp[i]);
        break;
    case 5:
        make_room(draw(2) ? UNLIMITED : (int) draw(20));
        break;
    case 6:
        mail.send_error = draw(2) ? EPERM : 0;
        mail.bad_port = 99;
        break;
    case 7:
        mail.receive_error = draw(4) ? 0 : ENOMEM;
        break;
    case 8:
        if (mail.in_first + mail.in_count < MAIL_MAX && mail.receiver && fd_of(mail.receiver)->kind == FD_DATAGRAMS) {
            post("x");
        }
        break;
    default:
        storm_sends(i, draw(20) ? 5 : 1500);
    }
}

static void storm_answers(uint32_t udp)
{
    (void) udp;
    storm.events++;
    if (storm.depth++ < 1) {
        for (unsigned n = draw(4); n > 0; n--) {
            storm_acts();
        }
    }
    storm.depth--;
    forget_log();
}

static void test_a_storm(uint64_t seed)
{
    memset(&storm, 0, sizeof(storm));
    storm.random = seed * 0x9e3779b97f4a7c15u + 1;
    open_mail();
    world.udp = storm_answers;
    for (int step = 0; step < STORM_STEPS; step++) {
        storm_acts();
        if (draw(4) == 0) {
            world.deferred = 0;
            CHECK(ck_loop_step() >= 0);
        }
        if (draw(50) == 0) {
            pass_ms(150);
        }
        check_order();
    }
    world.udp = NULL;
    mail.receive_error = mail.send_error = 0;
    make_room(UNLIMITED);
    go();
    check_order();
    for (unsigned i = 0; i < STORM_SOCKETS; i++) {
        if (storm.udp[i]) {
            check_books(i, true);
        }
    }
    CHECK(storm.events > 100 && storm.checked > 1000);
    close_mail();
}

int main(void)
{
    test_an_iteration_is_one_send();
    test_a_callback_is_one_send();
    test_corks_nest();
    test_corks_have_an_end();
    test_a_full_batch_leaves_and_packing_goes_on();
    test_what_waits_goes_when_it_can();
    test_more_than_the_backlog_is_dropped();
    test_a_drain_callback_that_fills_it_again();
    test_what_is_refused_is_dropped_and_reported_once();
    test_a_report_that_is_refused_again_does_not_spin();
    test_a_lasting_error_of_sending();
    test_a_lasting_want_of_memory_to_receive_with();
    test_where_to();
    test_how_long();
    test_where_from();
    test_no_address_to_bind();
    test_opening_fails_whole();
    test_memory_is_out();
    test_python_is_out_of_memory();
    test_closing_in_callbacks();
    test_the_loop_closes_what_is_left();
    test_none_is_opened_while_the_loop_closes();
    test_stale_handles();
    for (uint64_t seed = 1; seed <= 3; seed++) {
        test_a_storm(seed);
    }
    free_buffers();
    return checks_done();
}
