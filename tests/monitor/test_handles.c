/* A handle reaches what it was issued for or nothing; a master in use outlives its closing. */
#include "support.h"

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
        cmocka_unit_test(a_master_in_use_stays_open_until_it_is_put_back),
        cmocka_unit_test(the_limit_holds_and_generations_last),
        cmocka_unit_test(threads_lose_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
