/* Randomness, facts about the system, the log. */

#include "host.h"

int host_random_read(void *buffer, size_t size)
{
    unsigned char *at = buffer;
    while (size) {
        long result = sys3(__NR_getrandom, at, size, 0);
        if (result == -EINTR)
            continue;
        if (result < 0)
            return (int)result;
        at += result;
        size -= (size_t)result;
    }
    return 0;
}

int host_system_query(struct bly_system_info *out_info)
{
    struct host_rpc rpc = {
        .operation = BLY_RPC_SYSTEM_QUERY, .reply = out_info, .reply_size = sizeof *out_info};
    int64_t result = host_rpc_call(&rpc);
    if (result >= 0 && rpc.reply_size < sizeof *out_info)
        return -EIO;
    return (int)result;
}

#define LOG_TEXT_MAX (BLY_LOG_RECORD_MAX - sizeof(struct bly_log_record))

void host_log_as(uint32_t process_id, unsigned level, const char *text, size_t size)
{
    do {
        uint32_t part = size > LOG_TEXT_MAX ? LOG_TEXT_MAX : (uint32_t)size;
        struct bly_log_record header = {
            .size = (uint16_t)part, .level = (uint8_t)level, .process = process_id};
        struct bly_iovec vector[] = {{&header, sizeof header}, {(void *)text, part}};
        long result = sys6(__NR_pwritev2, BLY_FD_LOG, vector, 2, -1, 0, 0);
        if (result < 0 && result != -EINTR)
            return; /* nobody reads it */
        if (result < 0)
            continue;
        text += part;
        size -= part;
    } while (size);
}

void host_log(unsigned level, const char *text, size_t size)
{
    host_log_as(host_process_id(), level, text, size);
}
