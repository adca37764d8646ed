/* A handle reaches what it was issued for or nothing; a master in use outlives its closing. */
#include "support.h"

#include <bailey/rpc.h>
#include <monitor/handles.h>
#include <pthread.h>

static bool is_open(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

static int new_descriptor(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void stale_and_invented_handles_are_refused(void **state)
{
    struct mon_handles handles;
    struct mon_handle entry;
    bly_handle first, second;
    mon_handles_init(&handles, 16);
    assert_int_equal(mon_handle_get(&handles, 0, &entry), -EBADF);
    int descriptor = new_descriptor();
    assert_int_equal(mon_handle_add(&handles, descriptor, BLY_KIND_FILE, BLY_ACCESS_READ, 3, &first), 0);
    assert_int_not_equal(first, BLY_NO_HANDLE);
    assert_int_equal(mon_handle_get(&handles, first, &entry), 0);
    assert_int_equal(entry.descriptor, descriptor);
    assert_int_equal(entry.mount, 3);
    mon_handle_put(&handles, first);
    assert_int_equal(mon_handle_close(&handles, first), 0);
    assert_false(is_open(descriptor));
    assert_int_equal(mon_handle_close(&handles, first), -EBADF);
    assert_int_equal(mon_handle_get(&handles, first, &entry), -EBADF);
    assert_int_equal(mon_handle_add(&handles, new_descriptor(), BLY_KIND_FILE, BLY_ACCESS_READ, 0, &second), 0);
    assert_int_not_equal(first, second);
    assert_int_equal(mon_handle_get(&handles, second ^ 1u << 20, &entry), -EBADF);
    assert_int_equal(mon_handle_get(&handles, second + 1, &entry), -EBADF);
    assert_int_equal(mon_handle_get(&handles, UINT32_MAX, &entry), -EBADF);
    mon_handles_destroy(&handles);
}

static void a_handle_can_be_placed_where_it_was(void **state)
{
    struct mon_handles handles;
    struct mon_handle entry;
    bly_handle added, other;
    mon_handles_init(&handles, 16);
    assert_int_equal(mon_handle_place(&handles, 3u << 20 | 2, -1, BLY_KIND_FILE, BLY_ACCESS_READ, MON_NO_MOUNT), 0);
    assert_int_equal(mon_handle_place(&handles, 7u << 20 | 9, new_descriptor(), BLY_KIND_FILE, BLY_ACCESS_READ, 5), 0);
    assert_int_equal(mon_handle_get(&handles, 7u << 20 | 9, &entry), 0);
    assert_int_equal(entry.mount, 5);
    mon_handle_put(&handles, 7u << 20 | 9);
    assert_int_equal(mon_handle_place(&handles, 4u << 20 | 9, -1, BLY_KIND_FILE, 0, 0), -EEXIST);
    assert_int_equal(mon_handle_place(&handles, 5, -1, BLY_KIND_FILE, 0, 0), -EINVAL);
    assert_int_equal(mon_handle_place(&handles, 1u << 20 | 16, -1, BLY_KIND_FILE, 0, 0), -EMFILE);
    assert_int_equal(mon_handle_place(&handles, 1u << 20 | BLY_LOCAL_HANDLE_FIRST, -1, BLY_KIND_FILE, 0, 0), -EINVAL);
    /* Out of the queue of free ones: its first, its last, one amid. */
    assert_int_equal(mon_handle_place(&handles, 1u << 20 | 0, -1, BLY_KIND_FILE, 0, 0), 0);
    assert_int_equal(mon_handle_place(&handles, 1u << 20 | 5, -1, BLY_KIND_FILE, 0, 0), 0);
    assert_int_equal(mon_handle_place(&handles, 1u << 20 | 8, -1, BLY_KIND_FILE, 0, 0), 0);
    /* What is left is given once, and then what comes after. */
    static const uint32_t left[] = {1, 3, 4, 6, 7, 10, 11};
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        assert_int_equal(mon_handle_add(&handles, -1, BLY_KIND_FILE, 0, 0, &added), 0);
        assert_int_equal(added & 0xfffff, left[i]);
    }
    /* A placed one is closed as any other, and its successor has another number. */
    assert_int_equal(mon_handle_close(&handles, 3u << 20 | 2), 0);
    assert_int_equal(mon_handle_add(&handles, -1, BLY_KIND_FILE, 0, 0, &other), 0);
    assert_int_equal(other, 4u << 20 | 2);
    mon_handles_destroy(&handles);
}

static void a_master_in_use_stays_open_until_it_is_put_back(void **state)
{
    struct mon_handles handles;
    struct mon_handle entry;
    bly_handle handle;
    mon_handles_init(&handles, 16);
    int descriptor = new_descriptor();
    assert_int_equal(mon_handle_add(&handles, descriptor, BLY_KIND_FILE, BLY_ACCESS_READ, 0, &handle), 0);
    assert_int_equal(mon_handle_get(&handles, handle, &entry), 0);
    assert_int_equal(mon_handle_close(&handles, handle), 0);
    assert_true(is_open(descriptor));
    assert_int_equal(mon_handle_close(&handles, handle), -EBADF);
    mon_handle_put(&handles, handle);
    assert_false(is_open(descriptor));
    mon_handles_destroy(&handles);
}

static void the_limit_holds_and_generations_last(void **state)
{
    struct mon_handles handles;
    bly_handle all[8], handle, pool;
    mon_handles_init(&handles, 8);
    assert_int_equal(mon_handle_add_range(&handles, 4, BLY_KIND_FILE, &pool), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(mon_handle_add(&handles, -1, BLY_KIND_FILE, 0, 0, &all[i]), 0);
    assert_int_equal(all[0], pool + 4);
    assert_int_equal(mon_handle_add(&handles, -1, BLY_KIND_FILE, 0, 0, &handle), -EMFILE);
    bly_handle stale = all[0];
    for (int i = 0; i < 4095; i++) {
        assert_int_equal(mon_handle_close(&handles, all[0]), 0);
        assert_int_equal(mon_handle_add(&handles, -1, BLY_KIND_FILE, 0, 0, &all[0]), 0);
        assert_int_not_equal(all[0], BLY_NO_HANDLE);
        assert_int_equal(mon_handle_close(&handles, stale), i == 4094 ? 0 : -EBADF);
    }
    mon_handles_destroy(&handles);
}

static void *open_and_close(void *argument)
{
    struct mon_handles *handles = argument;
    struct mon_handle entry;
    for (int i = 0; i < 20000; i++) {
        bly_handle handle;
        if (mon_handle_add(handles, new_descriptor(), BLY_KIND_FILE, 0, 0, &handle) < 0)
            continue;
        if (mon_handle_get(handles, handle, &entry) == 0) {
            assert_true(is_open(entry.descriptor));
            mon_handle_put(handles, handle);
        }
        (void)!mon_handle_close(handles, handle);
    }
    return NULL;
}

static void threads_lose_no_descriptor(void **state)
{
    struct mon_handles handles;
    pthread_t threads[3];
    int before = new_descriptor();
    close(before);
    mon_handles_init(&handles, 1000);
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, open_and_close, &handles);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    mon_handles_destroy(&handles);
    int after = new_descriptor();
    assert_int_equal(before, after);
    close(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stale_and_invented_handles_are_refused),
        cmocka_unit_test(a_handle_can_be_placed_where_it_was),
        cmocka_unit_test(a_master_in_use_stays_open_until_it_is_put_back),
        cmocka_unit_test(the_limit_holds_and_generations_last),
        cmocka_unit_test(threads_lose_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
