// A small HTTP server in the style of C++ users of the interface: everything is a
// template over SSL, classes are built in ext memory by placement new, small writes
// are corked in a buffer of the loop, an upgrade is an adopt into another context,
// and work of other threads comes in by a wakeup.
//
// app [key certificate]: prints its port, and ends after GET /stop.
//   GET /anything   the target as the body; its head and body leave in one write
//   GET /name       the server name that the connection came in under
//   GET /big        a body that no kernel takes at once
//   GET /thread     answered from another thread
//   GET /upgrade    from there on each line is answered by itself in capitals
#include <libusockets.h>

#include <cctype>
#include <cstdio>
#include <cstring>
#include <functional>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace {

// What a loop has besides its descriptor: the cork buffer and deferred work.
struct LoopData {
    static constexpr int CORK_SIZE = 16 * 1024;
    char cork[CORK_SIZE];
    int corked = 0;
    void *owner = nullptr; // the socket that is corked
    std::mutex mutex;
    std::vector<std::function<void()>> deferred;
    int writes = 0;
};

class Loop {
public:
    static Loop *create() {
        auto *loop = us_create_loop(nullptr, wakeup, [](us_loop_t *) {}, [](us_loop_t *) {}, sizeof(LoopData));
        if (loop) new (us_loop_ext(loop)) LoopData;
        return reinterpret_cast<Loop *>(loop);
    }

    void free() {
        data()->~LoopData();
        us_loop_free(raw());
    }

    void defer(std::function<void()> work) {
        {
            std::lock_guard<std::mutex> held(data()->mutex);
            data()->deferred.push_back(std::move(work));
        }
        us_wakeup_loop(raw());
    }

    us_loop_t *raw() { return reinterpret_cast<us_loop_t *>(this); }
    LoopData *data() { return static_cast<LoopData *>(us_loop_ext(raw())); }

private:
    static void wakeup(us_loop_t *loop) {
        auto *data = static_cast<LoopData *>(us_loop_ext(loop));
        std::vector<std::function<void()>> work;
        {
            std::lock_guard<std::mutex> held(data->mutex);
            work.swap(data->deferred);
        }
        for (auto &each : work) each();
    }
};

struct AsyncSocketData {
    std::string backpressure;
};

// A socket seen as a class of its own: never built, only cast to.
template <bool SSL>
class AsyncSocket {
public:
    us_socket_t *raw() { return reinterpret_cast<us_socket_t *>(this); }
    AsyncSocketData *asyncData() { return static_cast<AsyncSocketData *>(us_socket_ext(SSL, raw())); }
    LoopData *loopData() { return static_cast<LoopData *>(us_loop_ext(us_socket_context_loop(SSL, us_socket_context(SSL, raw())))); }

    void cork() { loopData()->owner = this; }

    void write(std::string_view text) {
        LoopData *loop = loopData();
        if (loop->owner != this) {
            send(text);
            return;
        }
        if (loop->corked + static_cast<int>(text.size()) > LoopData::CORK_SIZE) {
            flush();
            send(text);
            return;
        }
        std::memcpy(loop->cork + loop->corked, text.data(), text.size());
        loop->corked += static_cast<int>(text.size());
    }

    void uncork() {
        flush();
        loopData()->owner = nullptr;
    }

    // Returns whether nothing waits any more.
    bool drain() {
        std::string &waiting = asyncData()->backpressure;
        int written = us_socket_write(SSL, raw(), waiting.data(), static_cast<int>(waiting.size()), 0);
        waiting.erase(0, static_cast<std::size_t>(written));
        return waiting.empty();
    }

private:
    void flush() {
        LoopData *loop = loopData();
        int length = std::exchange(loop->corked, 0);
        if (length) send({loop->cork, static_cast<std::size_t>(length)});
    }

    void send(std::string_view text) {
        std::string &waiting = asyncData()->backpressure;
        loopData()->writes++;
        int written = waiting.empty() ? us_socket_write(SSL, raw(), text.data(), static_cast<int>(text.size()), 0) : 0;
        waiting.append(text.substr(static_cast<std::size_t>(written)));
    }
};

template <bool SSL>
struct HttpContextData {
    std::function<void(AsyncSocket<SSL> *, std::string_view)> handler;
    us_socket_context_t *lines = nullptr;
    us_listen_socket_t *listener = nullptr;
};

struct HttpData : AsyncSocketData {
    std::string head;
};

struct LineData : AsyncSocketData {
    std::string line;
    int count = 0;
};

// Connections that have been upgraded.
template <bool SSL>
class LineContext {
public:
    static us_socket_context_t *create(us_socket_context_t *parent) {
        us_socket_context_t *context = us_create_child_socket_context(SSL, parent, 0);
        us_socket_context_on_data(SSL, context, [](us_socket_t *s, char *data, int length) {
            auto *socket = reinterpret_cast<AsyncSocket<SSL> *>(s);
            auto *lines = static_cast<LineData *>(us_socket_ext(SSL, s));
            socket->cork();
            for (int i = 0; i < length; i++) {
                lines->line += static_cast<char>(std::toupper(static_cast<unsigned char>(data[i])));
                if (data[i] != '\n') continue;
                socket->write(std::to_string(++lines->count) + " " + lines->line);
                lines->line.clear();
            }
            socket->uncork();
            return s;
        });
        us_socket_context_on_writable(SSL, context, [](us_socket_t *s) {
            reinterpret_cast<AsyncSocket<SSL> *>(s)->drain();
            return s;
        });
        us_socket_context_on_close(SSL, context, [](us_socket_t *s, int, void *) {
            static_cast<LineData *>(us_socket_ext(SSL, s))->~LineData();
            return s;
        });
        us_socket_context_on_end(SSL, context, [](us_socket_t *s) { return us_socket_close(SSL, s, 0, nullptr); });
        us_socket_context_on_timeout(SSL, context, [](us_socket_t *s) { return us_socket_close(SSL, s, 0, nullptr); });
        return context;
    }

    // What the socket had in its ext moves over; returns the socket that it has become.
    static us_socket_t *upgrade(us_socket_context_t *context, us_socket_t *s) {
        auto *before = static_cast<HttpData *>(us_socket_ext(SSL, s));
        std::string waiting = std::move(before->backpressure);
        before->~HttpData();
        us_socket_t *now = us_socket_context_adopt_socket(SSL, context, s, sizeof(LineData));
        auto *lines = new (us_socket_ext(SSL, now)) LineData;
        lines->backpressure = std::move(waiting);
        return now;
    }
};

template <bool SSL>
class HttpContext {
public:
    using Data = HttpContextData<SSL>;

    static us_socket_context_t *create(us_loop_t *loop, us_socket_context_options_t options) {
        us_socket_context_t *context = us_create_socket_context(SSL, loop, sizeof(Data), options);
        if (!context) return nullptr;
        auto *data = new (us_socket_context_ext(SSL, context)) Data;
        data->lines = LineContext<SSL>::create(context);
        us_socket_context_on_open(SSL, context, [](us_socket_t *s, int, char *, int) {
            new (us_socket_ext(SSL, s)) HttpData;
            us_socket_timeout(SSL, s, 30);
            return s;
        });
        us_socket_context_on_close(SSL, context, [](us_socket_t *s, int, void *) {
            static_cast<HttpData *>(us_socket_ext(SSL, s))->~HttpData();
            return s;
        });
        us_socket_context_on_data(SSL, context, on_data);
        us_socket_context_on_writable(SSL, context, [](us_socket_t *s) {
            reinterpret_cast<AsyncSocket<SSL> *>(s)->drain();
            us_socket_timeout(SSL, s, 30);
            return s;
        });
        us_socket_context_on_end(SSL, context, [](us_socket_t *s) { return us_socket_close(SSL, s, 0, nullptr); });
        us_socket_context_on_timeout(SSL, context, [](us_socket_t *s) { return us_socket_close(SSL, s, 0, nullptr); });
        return context;
    }

    static Data *data(us_socket_context_t *context) { return static_cast<Data *>(us_socket_context_ext(SSL, context)); }

    static void free(us_socket_context_t *context) {
        us_socket_context_free(SSL, data(context)->lines);
        data(context)->~Data();
        us_socket_context_free(SSL, context);
    }

private:
    // Answers each request that is whole; the one that upgrades is the last.
    static us_socket_t *on_data(us_socket_t *s, char *bytes, int length) {
        Data *context = data(us_socket_context(SSL, s));
        auto *socket = reinterpret_cast<AsyncSocket<SSL> *>(s);
        auto *http = static_cast<HttpData *>(us_socket_ext(SSL, s));
        http->head.append(bytes, static_cast<std::size_t>(length));
        us_socket_timeout(SSL, s, 30);
        socket->cork();
        std::size_t end;
        while ((end = http->head.find("\r\n\r\n")) != std::string::npos) {
            std::string head = http->head.substr(0, end);
            http->head.erase(0, end + 4);
            std::string_view target = std::string_view(head).substr(4, head.find(' ', 4) - 4);
            if (target == "/upgrade") {
                socket->write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: lines\r\nConnection: upgrade\r\n\r\n");
                socket->uncork();
                return LineContext<SSL>::upgrade(context->lines, s);
            }
            context->handler(socket, target);
            if (us_socket_is_closed(SSL, s)) break;
        }
        if (!us_socket_is_closed(SSL, s)) socket->uncork();
        else socket->loopData()->owner = nullptr;
        return s;
    }
};

template <bool SSL>
class App {
public:
    App(Loop *of, us_socket_context_options_t options) : loop(of), context(HttpContext<SSL>::create(of->raw(), options)), options_(options) {}

    explicit operator bool() const { return context != nullptr; }

    // Names are asked for when a client comes with one: a missing one is made then.
    void serverNames() {
        missing() = this;
        us_socket_context_on_server_name(SSL, context, [](us_socket_context_t *c, const char *name) {
            us_socket_context_add_server_name(SSL, c, name, missing()->options_, missing());
        });
    }

    int listen() {
        auto *data = HttpContext<SSL>::data(context);
        data->handler = [this](AsyncSocket<SSL> *socket, std::string_view target) { answer(socket, target); };
        data->listener = us_socket_context_listen(SSL, context, "127.0.0.1", 0, LIBUS_LISTEN_EXCLUSIVE_PORT, sizeof(HttpData));
        return data->listener ? us_socket_local_port(SSL, reinterpret_cast<us_socket_t *>(data->listener)) : -1;
    }

    void free() {
        if (worker.joinable()) worker.join();
        HttpContext<SSL>::free(context);
    }

private:
    Loop *loop;
    us_socket_context_t *context;
    us_socket_context_options_t options_;
    std::thread worker;

    static App *&missing() {
        static App *app = nullptr;
        return app;
    }

    static void respond(AsyncSocket<SSL> *socket, std::string_view body) {
        socket->write("HTTP/1.1 200 OK\r\n");
        socket->write("Content-Length: ");
        socket->write(std::to_string(body.size()));
        socket->write("\r\n\r\n");
        socket->write(body);
    }

    void answer(AsyncSocket<SSL> *socket, std::string_view target) {
        if (target == "/name") respond(socket, us_socket_server_name_userdata(SSL, socket->raw()) == this ? "found" : "none");
        else if (target == "/big") respond(socket, std::string(8 * 1024 * 1024, 'b'));
        else if (target == "/writes") respond(socket, std::to_string(loop->data()->writes));
        else if (target == "/thread") fromThread(socket);
        else if (target == "/stop") stop(socket);
        else respond(socket, target);
    }

    // The socket must live until then: the client of the test waits.
    void fromThread(AsyncSocket<SSL> *socket) {
        if (worker.joinable()) worker.join();
        worker = std::thread([this, socket] {
            loop->defer([socket] {
                socket->cork();
                respond(socket, "from a thread");
                socket->uncork();
            });
        });
    }

    void stop(AsyncSocket<SSL> *socket) {
        auto *data = HttpContext<SSL>::data(context);
        respond(socket, "stopping");
        socket->uncork();
        us_listen_socket_close(SSL, data->listener);
        us_socket_shutdown(SSL, socket->raw());
        us_socket_context_close(SSL, data->lines);
    }
};

template <bool SSL>
int serve(us_socket_context_options_t options) {
    Loop *loop = Loop::create();
    if (!loop) return 1;
    App<SSL> app(loop, options);
    if (!app) return 2;
    if (SSL) app.serverNames();
    std::printf("%d\n", app.listen());
    std::fflush(stdout);
    us_loop_run(loop->raw());
    app.free();
    loop->free();
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    us_socket_context_options_t options = {};
    if (argc < 3) return serve<false>(options);
    options.key_file_name = argv[1];
    options.cert_file_name = argv[2];
#ifdef LIBUS_NO_SSL
    return 2;
#else
    return serve<true>(options);
#endif
}
