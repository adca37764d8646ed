/* The state folder: names, life and death of entries. The monitor of an entry is a child process
 * here. */
#include "support.h"

#include <cli/state.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

static char *runtime_folder;

static int set_up(void **state)
{
    runtime_folder = test_folder();
    setenv("XDG_RUNTIME_DIR", runtime_folder, 1);
    return 0;
}

static int tear_down(void **state)
{
    test_remove(runtime_folder);
    return 0;
}

/* A child that holds an entry until it is told to end: 'f' finishes it properly, closing the pipe
 * too late is a crash. */
struct holder {
    pid_t pid;
    int tell, hear;
};

static struct holder start_holder(const char *name, bool keep)
{
    int tell[2], hear[2];
    struct holder holder = {0};
    assert_int_equal(pipe(tell), 0);
    assert_int_equal(pipe(hear), 0);
    holder.pid = fork();
    if (holder.pid == 0) {
        struct error error = {0};
        struct state_entry entry;
        struct sandbox about = {.created = 5, .keep = keep};
        text_list_add(&about.command, "prog");
        int result = state_create(&entry, name, &about, &error);
        char answer = result == 0 ? 'y' : result == -EEXIST ? 'e' : 'n', order = 0;
        (void)!write(hear[1], &answer, 1);
        if (result == 0 && read(tell[0], &order, 1) == 1 && order == 'f')
            state_finish(&entry, &about, 3);
        _exit(0);
    }
    close(tell[0]);
    close(hear[1]);
    holder.tell = tell[1];
    holder.hear = hear[0];
    return holder;
}

static char answer_of(const struct holder *holder)
{
    char answer = 0;
    assert_int_equal(read(holder->hear, &answer, 1), 1);
    return answer;
}

static void end_holder(struct holder *holder, bool properly)
{
    if (properly)
        assert_int_equal(write(holder->tell, "f", 1), 1);
    else
        kill(holder->pid, SIGKILL);
    assert_int_equal(waitpid(holder->pid, NULL, 0), holder->pid);
    close(holder->tell);
    close(holder->hear);
}

static enum sandbox_status status_of(const char *name)
{
    struct sandbox sandbox;
    struct error error = {0};
    assert_int_equal(state_find(name, &sandbox, &error), 0);
    enum sandbox_status status = sandbox.status;
    sandbox_free(&sandbox);
    return status;
}

static bool exists(const char *name)
{
    struct sandbox sandbox;
    struct error error = {0};
    int result = state_find(name, &sandbox, &error);
    sandbox_free(&sandbox);
    return result == 0;
}

static void an_entry_lives_with_its_process_and_goes_at_its_end(void **state)
{
    struct holder holder = start_holder("box", false);
    assert_int_equal(answer_of(&holder), 'y');
    assert_int_equal(status_of("box"), SANDBOX_RUNNING);
    struct sandbox sandbox;
    struct error error = {0};
    assert_int_equal(state_find_running("box", &sandbox, &error), 0);
    assert_int_equal(sandbox.pid, holder.pid);
    assert_string_equal(sandbox.command.items[0], "prog");
    sandbox_free(&sandbox);
    end_holder(&holder, true);
    assert_false(exists("box"));
}

static void a_kept_entry_tells_its_exit_status_until_it_is_removed(void **state)
{
    struct holder holder = start_holder("box", true);
    assert_int_equal(answer_of(&holder), 'y');
    struct error error = {0};
    assert_int_equal(state_remove("box", &error), -EBUSY);
    end_holder(&holder, true);
    struct sandbox sandbox;
    assert_int_equal(state_find("box", &sandbox, &error), 0);
    assert_int_equal(sandbox.status, SANDBOX_EXITED);
    assert_int_equal(sandbox.exit_status, 3);
    sandbox_free(&sandbox);
    assert_int_equal(state_find_running("box", &sandbox, &error), -ESRCH);
    sandbox_free(&sandbox);
    assert_int_equal(state_remove("box", &error), 0);
    assert_false(exists("box"));
}

static void a_dead_monitor_is_noticed_and_its_rest_swept_up(void **state)
{
    struct holder kept = start_holder("kept", true), other = start_holder("other", false);
    assert_int_equal(answer_of(&kept), 'y');
    assert_int_equal(answer_of(&other), 'y');
    end_holder(&kept, false);
    end_holder(&other, false);
    assert_int_equal(status_of("kept"), SANDBOX_DIED);
    struct sandbox *list;
    size_t count;
    struct error error = {0};
    assert_int_equal(state_list(&list, &count, &error), 0);
    assert_int_equal(count, 1);
    assert_string_equal(list[0].name, "kept");
    sandbox_free(&list[0]);
    free(list);
    assert_false(exists("other"));
    assert_int_equal(state_remove("kept", &error), 0);
}

static void a_name_belongs_to_one(void **state)
{
    struct holder first = start_holder("box", true);
    assert_int_equal(answer_of(&first), 'y');
    struct holder second = start_holder("box", true);
    assert_int_equal(answer_of(&second), 'e');
    end_holder(&second, false);
    end_holder(&first, true);
    struct holder third = start_holder("box", true);
    assert_int_equal(answer_of(&third), 'e');
    end_holder(&third, false);
    struct error error = {0};
    assert_int_equal(state_remove("box", &error), 0);
}

static void many_at_once_get_names_of_their_own(void **state)
{
    enum { COUNT = 40 };
    struct holder holders[COUNT];
    for (int i = 0; i < COUNT; i++)
        holders[i] = start_holder(NULL, false);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(answer_of(&holders[i]), 'y');
    struct sandbox *list;
    size_t count;
    struct error error = {0};
    assert_int_equal(state_list(&list, &count, &error), 0);
    assert_int_equal(count, COUNT);
    for (size_t i = 0; i < count; i++)
        sandbox_free(&list[i]);
    free(list);
    for (int i = 0; i < COUNT; i++)
        end_holder(&holders[i], true);
    assert_int_equal(state_list(&list, &count, &error), 0);
    assert_int_equal(count, 0);
    free(list);
}

static void an_unknown_name_is_answered_with_the_nearest(void **state)
{
    struct holder holder = start_holder("website", false);
    assert_int_equal(answer_of(&holder), 'y');
    struct sandbox sandbox;
    struct error error = {0};
    assert_int_equal(state_find("webstie", &sandbox, &error), -ENOENT);
    assert_non_null(strstr(error.message, "did you mean website?"));
    assert_int_equal(state_find("../x", &sandbox, &error), -ENOENT);
    end_holder(&holder, true);
}

static void a_folder_that_others_can_enter_is_not_used(void **state)
{
    char *folder = path_join(runtime_folder, "bailey");
    assert_int_equal(path_remove_tree(AT_FDCWD, folder), 0);
    assert_int_equal(mkdir(folder, 0755), 0);
    assert_int_equal(chmod(folder, 0755), 0);
    struct sandbox *list;
    size_t count;
    struct error error = {0};
    assert_int_equal(state_list(&list, &count, &error), -EPERM);
    assert_int_equal(rmdir(folder), 0);
    free(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_entry_lives_with_its_process_and_goes_at_its_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_kept_entry_tells_its_exit_status_until_it_is_removed,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_monitor_is_noticed_and_its_rest_swept_up, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_name_belongs_to_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_at_once_get_names_of_their_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_name_is_answered_with_the_nearest, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_others_can_enter_is_not_used, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
