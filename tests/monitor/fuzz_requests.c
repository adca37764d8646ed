/* Fuzzes the RPC decoder and everything behind it: each input is a sequence of requests served over a folder of our own. Checked, beside
 * what the sanitizers see: nothing outside the granted folder changes, replies stay within their slot, no descriptor is lost.
 *
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined ... ; ./fuzz_requests -max_len=4096
 * Built with MAIN defined it serves the files named on the command line, or random bytes, without libFuzzer. */
#include "support.h"

#include <monitor/rpc.h>

#define RECORD_HEADER (1 + 6 * 8 + 2)

static struct {
    struct fixture *fixture;
    struct mon_rpc rpc;
    struct mon_handles handles;
    struct mon_request request;
    struct mon_reply reply;
    struct stat outside;
} fuzz;

static void set_up(void)
{
    void *fixture;
    fixture_make(&fixture);
    fuzz.fixture = fixture;
    mon_handles_init(&fuzz.handles, 64);
    fuzz.rpc.files = &fuzz.fixture->files;
    fuzz.rpc.handles = &fuzz.handles;
    if (mon_rpc_init(&fuzz.rpc) < 0 || stat(in_fixture(fuzz.fixture, "outside/secret"), &fuzz.outside) < 0)
        abort();
}

static void check_outside(void)
{
    struct stat now;
    if (stat(in_fixture(fuzz.fixture, "outside/secret"), &now) < 0 || now.st_ino != fuzz.outside.st_ino ||
        now.st_mode != fuzz.outside.st_mode || now.st_nlink != fuzz.outside.st_nlink || now.st_size != fuzz.outside.st_size ||
        now.st_mtim.tv_nsec != fuzz.outside.st_mtim.tv_nsec || access(in_fixture(fuzz.fixture, "view/private/public"), F_OK) < 0)
        abort();
}

static void serve_one(const uint8_t *record, size_t data_size)
{
    struct mon_request *request = &fuzz.request;
    struct mon_reply *reply = &fuzz.reply;
    request->operation = record[0] % (BLY_RPC_OPERATION_COUNT + 1);
    memcpy(request->u, record + 1, sizeof(request->u));
    request->size = (uint32_t)data_size;
    memcpy(request->data, record + RECORD_HEADER, data_size);
    request->data[data_size] = '\0';
    memset(reply, 0, offsetof(struct mon_reply, data));
    reply->descriptor = -1;
    mon_request_serve(&fuzz.rpc, request, reply);
    if (reply->size > BLY_RPC_DATA_SIZE)
        abort();
    if (reply->in_use)
        mon_handle_put(&fuzz.handles, reply->in_use);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!fuzz.fixture)
        set_up();
    while (size >= RECORD_HEADER) {
        size_t wanted = data[RECORD_HEADER - 2] | (size_t)data[RECORD_HEADER - 1] << 8;
        size_t data_size = wanted < size - RECORD_HEADER ? wanted : size - RECORD_HEADER;
        serve_one(data, data_size);
        data += RECORD_HEADER + data_size;
        size -= RECORD_HEADER + data_size;
    }
    check_outside();
    for (uint32_t i = 0; i < fuzz.handles.count; i++)
        (void)!mon_handle_close(&fuzz.handles, (bly_handle)fuzz.handles.entries[i].generation << 20 | i);
    return 0;
}

#ifdef MAIN
/* Inputs that look right in most places. */
static size_t make_input(uint8_t *input, size_t room, uint32_t *random)
{
    static const char *const names[] = {"file:0/", "file:0/plain", "file:1/plain", "file:0/link/x", "dir:0/folder", "file:2/open/public",
                                        "file:2/private/public", "file:0/new", "file:0/up", "file:3", "file:4", "file:0/folder/deep/file"};
    size_t size = 0;
    for (int i = 0; i < 8 && size + 512 < room; i++) {
        uint8_t *record = input + size;
        for (size_t j = 0; j < RECORD_HEADER; j++) {
            *random = *random * 1664525u + 1013904223u;
            record[j] = (*random >> 13) & 3 ? 0 : (uint8_t)(*random >> 24);
        }
        record[0] = (uint8_t)((*random >> 8) % (BLY_RPC_OPERATION_COUNT + 1));
        const char *first = names[(*random >> 12) % 12], *second = names[(*random >> 20) % 12];
        int length = snprintf((char *)record + RECORD_HEADER, 400, "%s%s%s", first, second, *random & 1 ? "user.x" : "");
        record[1 + 8 * (*random % 3)] = (uint8_t)strlen(first);
        record[RECORD_HEADER - 2] = (uint8_t)(length + (*random >> 30));
        size += RECORD_HEADER + (size_t)length + (*random >> 30);
    }
    return size;
}

int main(int argc, char **argv)
{
    static uint8_t input[65536];
    uint32_t random = 1;
    for (int i = 1; i < argc; i++) {
        int file = open(argv[i], O_RDONLY);
        ssize_t size = read(file, input, sizeof(input));
        close(file);
        LLVMFuzzerTestOneInput(input, size > 0 ? (size_t)size : 0);
    }
    for (int i = 0; argc == 1 && i < 20000; i++)
        LLVMFuzzerTestOneInput(input, make_input(input, sizeof(input), &random));
    void *fixture = fuzz.fixture;
    if (fixture)
        fixture_remove(&fixture);
    return 0;
}
#endif
