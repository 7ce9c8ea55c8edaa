/* Host names: which routes serve a request, and whether it is for the name that TLS was asked for. */
#include <string.h>
#include <strings.h>

#include "http.h"
#include "libusockets_ext.h"

/* ---- The names that an app knows ---- */

/* The same for a name in any case, with or without the dot that may end it. Who asks for a name
 * cannot choose those that there are, so nothing is gained by a name with the same hash. */
static uint32_t hash_of(const char *name, size_t length)
{
    uint32_t hash = 0x811c9dc5;
    length -= length && name[length - 1] == '.';
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char) name[i];
        hash = (hash ^ (c >= 'A' && c <= 'Z' ? c | 0x20U : c)) * 0x01000193;
    }
    return hash;
}

ck_domain *ck_domain_find(const ck_app *app, const char *name, size_t length)
{
    ck_domain *domain = app->domains;
    uint32_t hash = hash_of(name, length);
    while (domain && (domain->hash != hash || domain->length != length || strncasecmp(domain->name, name, length) != 0)) {
        domain = domain->next;
    }
    return domain;
}

ck_domain *ck_domain_named(ck_app *app, const char *name, size_t length)
{
    ck_domain *domain = ck_domain_find(app, name, length);
    if (domain || !(domain = ck_alloc(app->loop, sizeof(*domain) + length + 1))) {
        return domain;
    }
    memset(domain, 0, sizeof(*domain));
    domain->app = app;
    domain->hash = hash_of(name, length);
    domain->pattern = memchr(name, '*', length) != NULL;
    domain->length = length;
    memcpy(domain->name, name, length);
    domain->name[length] = 0;
    domain->next = app->domains;
    app->domains = domain;
    return domain;
}

void ck_domain_forget(ck_domain *domain)
{
    domain->certificate = false;
    if (domain->handle) {
        return; /* whoever asked for its routes has it */
    }
    ck_domain **link = &domain->app->domains;
    while (*link != domain) {
        link = &(*link)->next;
    }
    *link = domain->next;
    ck_free(domain->app->loop, domain);
}

void ck_routers_free(ck_routers *routers)
{
    if (routers->http) {
        ck_router_free(routers->http);
    }
    if (routers->websockets) {
        ck_router_free(routers->websockets);
    }
}

void ck_domains_free(ck_app *app)
{
    while (app->domains) {
        ck_domain *domain = app->domains;
        app->domains = domain->next;
        ck_routers_free(&domain->routers);
        ck_handle_drop(&app->loop->handles, domain->handle);
        ck_free(app->loop, domain);
    }
}

uint32_t ck_app_domain(uint32_t handle, const char *name, size_t length, int *error)
{
    ck_app *app = ck_loop_object(handle, CK_KIND_APP, error);
    if (!app) {
        return 0;
    }
    *error = CK_NOMEM;
    ck_domain *domain = ck_domain_named(app, name, length);
    if (!domain) {
        return 0;
    }
    if (!domain->handle) {
        domain->handle = ck_handle_new(&app->loop->handles, CK_KIND_DOMAIN, domain);
    }
    if (domain->handle && !domain->routers.http) {
        domain->routers.http = ck_router_create(app->loop->sys);
    }
    if (!domain->handle || !domain->routers.http) {
        return 0;
    }
    *error = CK_OK;
    return domain->handle;
}

ck_routers *ck_routers_of(uint32_t handle, ck_app **app, int *error)
{
    ck_domain *domain = ck_loop_object(handle, CK_KIND_DOMAIN, error);
    if (domain) {
        *app = domain->app;
        return &domain->routers;
    }
    *app = ck_loop_object(handle, CK_KIND_APP, error);
    return *app ? &(*app)->routers : NULL;
}

/* ---- The name of a request ---- */

typedef struct ck_name {
    const char *text;
    size_t length;
} ck_name;

/* Without the port, and without the dot that may end it. */
static ck_name host_of(const ck_exchange *exchange)
{
    ck_name host = {exchange->data + exchange->head.host.offset, exchange->head.host.length};
    const char *colon = host.length && host.text[0] != '[' ? memchr(host.text, ':', host.length) : NULL;
    if (colon) {
        host.length = (size_t) (colon - host.text);
    }
    if (host.length && host.text[host.length - 1] == '.') {
        host.length--;
    }
    return host;
}

static ck_name server_name_of(const ck_connection *connection)
{
    const char *name = us_socket_server_name(connection->stream.socket);
    return (ck_name) {name, name ? strlen(name) : 0};
}

/* Returns the entry that fits best: of all, or of those with routes. There may be many
 * thousands, and each request asks: most are passed over by one comparison. */
static const ck_domain *fitting(const ck_app *app, ck_name name, bool routed)
{
    const ck_domain *best = NULL;
    unsigned best_fit = 0;
    uint32_t hash = hash_of(name.text, name.length);
    for (const ck_domain *domain = app->domains; domain; domain = domain->next) {
        if (!domain->pattern && domain->hash != hash) {
            continue;
        }
        bool counts = domain->routers.http || (!routed && domain->certificate);
        unsigned fit = counts ? us_hostname_fit(domain->name, domain->length, name.text, name.length) : 0;
        if (fit > best_fit) {
            best = domain;
            best_fit = fit;
        }
    }
    return best;
}

/* A client that asked TLS for no name may ask for any host that has nothing of its own. */
static bool misdirected(const ck_app *app, ck_name asked, ck_name host)
{
    if (!host.length) {
        return false; /* of HTTP/1.0 */
    }
    if (!asked.length) {
        return fitting(app, host, false) != NULL;
    }
    return asked.length != host.length || strncasecmp(asked.text, host.text, host.length) != 0;
}

const ck_routers *ck_domain_routers(const ck_connection *connection, const ck_exchange *exchange)
{
    ck_app *app = connection->app;
    if (!app->domains) {
        return &app->routers;
    }
    ck_name host = host_of(exchange);
    ck_name name = app->tls ? server_name_of(connection) : host;
    if (app->tls && app->check_host && misdirected(app, name, host)) {
        return NULL;
    }
    const ck_domain *domain = name.length ? fitting(app, name, true) : NULL;
    return domain ? &domain->routers : &app->routers;
}
