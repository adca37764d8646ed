/* TLS by OpenSSL. Its configuration files are not read and its error queue is emptied before each
 * call, so that what is found there afterwards is that call's. */
#include "image/tls.h"

#include <base/text.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>

/* Of the key, not of a side: both have the same. */
static const char identity[] = "bailey move 1";
/* That of TLS_AES_128_GCM_SHA256, whose hash the key is for. */
static const unsigned char cipher_number[] = {0x13, 0x01};
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"

struct img_tls {
    SSL_CTX *context;
    SSL *connection;
    unsigned char key[IMG_KEY_SIZE];
    bool receives, found_key;
    short events;
};

static SSL_SESSION *key_session(SSL *connection)
{
    struct img_tls *tls = SSL_get_app_data(connection);
    SSL_SESSION *session = SSL_SESSION_new();
    const SSL_CIPHER *cipher = SSL_CIPHER_find(connection, cipher_number);
    if (!session || !cipher || !SSL_SESSION_set1_master_key(session, tls->key, sizeof(tls->key)) ||
        !SSL_SESSION_set_cipher(session, cipher) ||
        !SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION)) {
        SSL_SESSION_free(session);
        return NULL;
    }
    return session;
}

static int use_key(SSL *connection, const EVP_MD *hash, const unsigned char **out_identity,
                   size_t *out_size, SSL_SESSION **out_session)
{
    *out_identity = (const unsigned char *)identity;
    *out_size = sizeof(identity) - 1;
    *out_session = key_session(connection);
    return *out_session != NULL;
}

static int find_key(SSL *connection, const unsigned char *name, size_t size,
                    SSL_SESSION **out_session)
{
    struct img_tls *tls = SSL_get_app_data(connection);
    *out_session = NULL;
    if (size != sizeof(identity) - 1 || memcmp(name, identity, size) != 0)
        return 1; /* none, which leaves the handshake without a way to go on */
    tls->found_key = true;
    *out_session = key_session(connection);
    return *out_session != NULL;
}

static int library_failed(struct error *error)
{
    char text[256];
    ERR_error_string_n(ERR_get_error(), text, sizeof(text));
    return error_set(error, -ENOMEM, "cannot prepare an encrypted connection: %s", text);
}

int img_tls_open(int socket, bool receives, const unsigned char key[IMG_KEY_SIZE],
                 struct img_tls **out_tls, struct error *error)
{
    unsigned char warm_up[16];
    struct img_tls *tls = memory_new(sizeof(*tls));
    memcpy(tls->key, key, sizeof(tls->key));
    tls->receives = receives;
    if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS, NULL) ||
        !(tls->context = SSL_CTX_new(receives ? TLS_server_method() : TLS_client_method())) ||
        !SSL_CTX_set_min_proto_version(tls->context, TLS1_3_VERSION) ||
        !SSL_CTX_set_max_proto_version(tls->context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(tls->context, CIPHERS) ||
        !SSL_CTX_set_num_tickets(tls->context, 0) || RAND_bytes(warm_up, sizeof(warm_up)) != 1)
        goto failed;
    /* A server that shows a certificate instead of having the key finds no trust in anybody's. */
    if (!receives)
        SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_session_cache_mode(tls->context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(tls->context,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_psk_use_session_callback(tls->context, use_key);
    SSL_CTX_set_psk_find_session_callback(tls->context, find_key);
    tls->connection = SSL_new(tls->context);
    if (!tls->connection || !SSL_set_fd(tls->connection, socket))
        goto failed;
    SSL_set_app_data(tls->connection, tls);
    if (receives)
        SSL_set_accept_state(tls->connection);
    else
        SSL_set_connect_state(tls->connection);
    *out_tls = tls;
    return 0;
failed:
    library_failed(error);
    img_tls_close(tls);
    return error->code;
}

void img_tls_close(struct img_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->connection);
    SSL_CTX_free(tls->context);
    explicit_bzero(tls->key, sizeof(tls->key));
    free(tls);
}

short img_tls_events(const struct img_tls *tls)
{
    return tls->events;
}

static int peer_is_no_bailey(const struct img_tls *tls, struct error *error)
{
    return error_set(error, -EPROTO,
                     tls->receives ? "it is no `bailey migrate`: it does not speak TLS 1.3"
                                   : "there is no `bailey receive`: it does not speak TLS 1.3");
}

static int keys_differ(struct error *error)
{
    return error_set(error, -EACCES, "the keys of the two sides differ");
}

/* What OpenSSL says of a failed handshake, as far as it can mean something to the user. */
static int explain_handshake(const struct img_tls *tls, unsigned long reason, struct error *error)
{
    switch (ERR_GET_REASON(reason)) {
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_BAD_PSK:
    case SSL_R_DIGEST_CHECK_FAILED:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR: /* the other side's word for it */
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
        return keys_differ(error);
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_NO_PROTOCOLS_AVAILABLE:
    case SSL_R_LENGTH_MISMATCH:
    case SSL_R_LENGTH_TOO_SHORT:
    case SSL_R_VERSION_TOO_LOW:
        return peer_is_no_bailey(tls, error);
    }
    if (tls->receives && !tls->found_key)
        return error_set(error, -EACCES, "it is no `bailey migrate`: it has no key for this");
    const char *text = ERR_reason_error_string(reason);
    return error_set(error, -EACCES,
                     "the other side does not show that it has the key, or is no Bailey (%s)",
                     text ? text : "no reason given");
}

/* After a call that did not succeed: what it means. */
static int explain(struct img_tls *tls, int result, bool handshake, struct error *error)
{
    int system = errno;
    switch (SSL_get_error(tls->connection, result)) {
    case SSL_ERROR_WANT_READ:
        tls->events = POLLIN;
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        tls->events = POLLOUT;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return error_set(error, -EPIPE, "the other side ended the connection");
    case SSL_ERROR_SYSCALL:
        if (!system)
            system = EPIPE;
        return error_set(error, -system, "the connection broke: %s", strerror(system));
    default: {
        unsigned long reason = ERR_peek_error();
        if (ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
            return error_set(error, -EPIPE,
                             handshake ? "the other side closed the connection at once: it refuses "
                                         "it, or is no Bailey"
                                       : "the connection broke");
        if (handshake)
            return explain_handshake(tls, reason, error);
        const char *text = ERR_reason_error_string(reason);
        return error_set(error, -EPROTO, "the connection was damaged: %s",
                         text ? text : "no reason given");
    }
    }
}

int img_tls_handshake(struct img_tls *tls, struct error *error)
{
    ERR_clear_error();
    errno = 0;
    int result = SSL_do_handshake(tls->connection);
    if (result != 1)
        return explain(tls, result, /*handshake=*/true, error);
    /* The key was used, whatever else could make a handshake succeed. */
    return SSL_session_reused(tls->connection) ? 0 : keys_differ(error);
}

ssize_t img_tls_read(struct img_tls *tls, void *buffer, size_t size, struct error *error)
{
    size_t count = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_read_ex(tls->connection, buffer, size, &count);
    if (result == 1)
        return (ssize_t)count;
    if (SSL_get_error(tls->connection, result) == SSL_ERROR_ZERO_RETURN)
        return 0;
    return explain(tls, result, /*handshake=*/false, error);
}

ssize_t img_tls_write(struct img_tls *tls, const void *data, size_t size, struct error *error)
{
    size_t count = 0;
    ERR_clear_error();
    errno = 0;
    int result = SSL_write_ex(tls->connection, data, size, &count);
    return result == 1 ? (ssize_t)count : explain(tls, result, /*handshake=*/false, error);
}

void img_tls_finish(struct img_tls *tls)
{
    ERR_clear_error();
    SSL_shutdown(tls->connection);
}
