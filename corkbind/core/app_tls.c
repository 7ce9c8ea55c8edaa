/* TLS of an app: its certificates and those of its server names, and what clients do wrong. */
#include <string.h>

#include "http.h"
#include "libusockets_ext.h"

/* What a client is told that speaks plain HTTP to a TLS port. */
static const char plain_answer[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 58\r\n"
                                   "Connection: close\r\n\r\nThis port speaks HTTPS: the address begins with https://.\n";

/* A pointer, not the text: what a thread has of its own comes out of the little that the
 * process holds back for libraries loaded late (1664 bytes with glibc, for all of them). */
static _Thread_local const char *tls_error = "";

void ck_tls_error_note(const char *text)
{
    tls_error = text;
}

const char *ck_tls_error(void)
{
    return tls_error;
}

static struct us_socket_context_options_t files_of(const ck_tls_options *options)
{
    return (struct us_socket_context_options_t) {
        .key_file_name = options->key_file,
        .cert_file_name = options->certificate_file,
        .passphrase = options->passphrase,
        .dh_params_file_name = options->dh_file,
        .ca_file_name = options->ca_file,
        .ssl_ciphers = options->ciphers,
        .ssl_prefer_low_memory_usage = options->low_memory != 0,
    };
}

static struct us_tls_settings_t settings_of(const ck_tls_options *options)
{
    return (struct us_tls_settings_t) {
        .min_version = (int) options->min_version,
        .verify_optional = options->verify_optional != 0,
        .name_strict = options->sni_strict != 0,
        .record_size = (int) options->record_size,
    };
}

/* ---- Contexts ---- */

struct us_socket_context_t *ck_tls_new_context(const ck_loop *loop, const ck_tls_options *options, int ext_size)
{
    struct us_tls_settings_t settings = settings_of(options);
    ck_tls_error_note("");
    struct us_socket_context_t *context = us_create_socket_context(1, loop->us, ext_size, files_of(options));
    if (!context) {
        ck_tls_error_note(us_tls_error());
        return NULL;
    }
    (void) us_socket_context_tls_settings(context, NULL, &settings);
    return context;
}

static ck_app *app_of_context(struct us_socket_context_t *context)
{
    return *(ck_app **) us_socket_context_ext(1, context);
}

static void on_tls_failure(struct us_socket_t *s, const char *reason, int plain)
{
    ck_app *app = app_of_context(us_socket_context(1, s));
    app->stats.tls_failures++;
    if (app->loop->callbacks.tls_failed) {
        app->loop->callbacks.tls_failed(app->handle, reason, plain);
    }
}

/* May destroy the app. */
static void on_server_name(struct us_socket_context_t *context, const char *name)
{
    const ck_app *app = app_of_context(context);
    if (app->loop->callbacks.server_name) {
        app->loop->callbacks.server_name(app->handle, name);
    }
}

/* The header of the PROXY protocol comes before TLS: whoever relays a handshake cannot write
 * inside it. Who has to send one and does not gets no answer. */
static int on_prefix(struct us_socket_t *s, const char *data, int length)
{
    ck_connection *connection = us_socket_ext(1, s);
    if (!connection->proxy_due) {
        return LIBUS_PREFIX_NONE;
    }
    int result = ck_proxy_parse(data, (size_t) length, &connection->proxied);
    if (result == CK_PROXY_MORE) {
        return LIBUS_PREFIX_MORE;
    }
    if (result == CK_PROXY_BAD) {
        connection->app->stats.refused++;
        return LIBUS_PREFIX_REFUSED;
    }
    connection->proxy_due = false;
    return result;
}

struct us_socket_context_t *ck_tls_context(ck_app *app, const ck_tls_options *options)
{
    app->tls = true;
    app->check_host = options->check_host != 0;
    struct us_socket_context_t *context = ck_tls_new_context(app->loop, options, sizeof(ck_app *));
    if (!context) {
        return NULL;
    }
    us_socket_context_alpn(context, "http/1.1");
    us_socket_context_plain_answer(context, plain_answer, (int) sizeof(plain_answer) - 1);
    us_socket_context_on_tls_failure(context, on_tls_failure);
    us_socket_context_on_plain_prefix(context, on_prefix);
    return context;
}

/* ---- Server names ---- */

/* Returns an app that speaks TLS, or NULL. */
static ck_app *tls_app_of(uint32_t handle, int *error)
{
    ck_app *app = ck_loop_object(handle, CK_KIND_APP, error);
    if (app && !app->tls) {
        *error = CK_STATE;
        return NULL;
    }
    return app;
}

int ck_app_add_server_name(uint32_t handle, const char *name, const ck_tls_options *options)
{
    int error;
    ck_app *app = tls_app_of(handle, &error);
    if (!app) {
        return error;
    }
    ck_domain *domain = ck_domain_named(app, name, strlen(name));
    if (!domain) {
        return CK_NOMEM;
    }
    struct us_tls_settings_t settings = settings_of(options);
    us_socket_context_add_server_name(1, app->context, name, files_of(options), app);
    const char *reason = us_tls_error();
    if (*reason) {
        ck_tls_error_note(reason);
        if (!domain->certificate) {
            ck_domain_forget(domain);
        }
        return CK_VALUE;
    }
    domain->certificate = true;
    (void) us_socket_context_tls_settings(app->context, name, &settings);
    return CK_OK;
}

int ck_app_remove_server_name(uint32_t handle, const char *name)
{
    int error;
    const ck_app *app = tls_app_of(handle, &error);
    if (!app) {
        return error;
    }
    ck_domain *domain = ck_domain_find(app, name, strlen(name));
    if (!domain || !domain->certificate) {
        return CK_VALUE;
    }
    ck_domain_forget(domain);
    us_socket_context_remove_server_name(1, app->context, name);
    return CK_OK;
}

int ck_app_missing_server_name(uint32_t handle, int on)
{
    int error;
    const ck_app *app = tls_app_of(handle, &error);
    if (!app) {
        return error;
    }
    us_socket_context_on_server_name(1, app->context, on ? on_server_name : NULL);
    return CK_OK;
}

int ck_app_refuse_server_name(uint32_t handle)
{
    int error;
    const ck_app *app = tls_app_of(handle, &error);
    if (!app) {
        return error;
    }
    us_socket_context_refuse_server_name(app->context);
    return CK_OK;
}

/* ---- Renewal ---- */

int ck_app_prepare(uint32_t handle, const char *name, const ck_tls_options *options)
{
    int error;
    const ck_app *app = tls_app_of(handle, &error);
    if (!app) {
        return error;
    }
    if (us_socket_context_prepare(app->context, name, files_of(options)) == 0) {
        return CK_OK;
    }
    ck_tls_error_note(us_tls_error());
    return CK_VALUE;
}

int ck_app_renew(uint32_t handle, int use)
{
    int error;
    const ck_app *app = tls_app_of(handle, &error);
    if (!app) {
        return error;
    }
    us_socket_context_renew(app->context, use);
    return CK_OK;
}
