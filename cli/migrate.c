/* bailey migrate: a running sandbox goes on on another machine, where `bailey receive` waits. */
#include <cli/command.h>
#include <cli/move.h>

#include <base/text.h>
#include <cli/client.h>
#include <errno.h>
#include <image/key.h>
#include <stdio.h>
#include <stdlib.h>

static const struct option_help options[] = {
    {0, "key", "FILE", "the key that both sides have"},
    {0, "self-contained", NULL, "with the contents of the host's files that it has open or mapped"},
    {0, "hash-files", NULL, "compare the host's files that it has open by their contents"},
    {0, "dry-run", NULL, "only say whether it could move, and what would not"},
    {0, "lazy", NULL, "let it go on there at once; its memory follows"},
    {0, "timeout", "SECONDS", "give up a side that is silent for so long (default: 30)"},
    {0, "new-key", "FILE", "make a new key, and nothing else"},
    {0, "settle", "here|there", "after a link that broke at the last moment: where it runs now"},
    {0, "json", NULL, "one JSON object"},
    {0, NULL, NULL, NULL},
};

int move_parse_timeout(const char *command, const char *text, uint32_t *out_ms, struct error *error)
{
    char *end;
    unsigned long seconds = strtoul(text, &end, 10);
    if (!*text || *end || seconds < 5 || seconds > 3600)
        return error_set(error, -EINVAL, "%s: --timeout takes 5 to 3600 seconds, not %s", command,
                         text);
    *out_ms = (uint32_t)seconds * 1000;
    return 0;
}

/* The user found out what we could not know. */
static int settle(const char *name, const char *where, struct error *error)
{
    bool there = text_equal(where, "there");
    if (!there && !text_equal(where, "here"))
        return error_set(error, -EINVAL, "migrate: --settle takes here or there, not %s", where);
    cleanup_client struct client client = {.socket = -1};
    int result = client_open(&client, name, error);
    if (result == 0)
        result = client_ask(&client, CONTROL_MOVE_ORDER, there ? MOVE_LEAVE : MOVE_STAY, error);
    if (result == 0)
        result = client_receive_until(&client, CONTROL_DONE, NULL, error);
    if (result == 0 && there)
        client_wait_until_over(name);
    return result;
}

static int read_option(struct migrate_request *request, const char **new_key, const char **settled,
                       const struct option_help *option, const char *value, struct error *error)
{
    if (text_equal(option->name, "timeout"))
        return move_parse_timeout("migrate", value, &request->patience_ms, error);
    if (text_equal(option->name, "key"))
        request->key = value;
    else if (text_equal(option->name, "new-key"))
        *new_key = value;
    else if (text_equal(option->name, "settle"))
        *settled = value;
    request->self_contained |= text_equal(option->name, "self-contained");
    request->hash_files |= text_equal(option->name, "hash-files");
    request->dry_run |= text_equal(option->name, "dry-run");
    request->lazily |= text_equal(option->name, "lazy");
    request->as_json |= text_equal(option->name, "json");
    return 0;
}

static int run(int argc, char **argv, struct error *error)
{
    struct migrate_request request = {.patience_ms = MOVE_PATIENCE_MS};
    const char *new_key = NULL, *settled = NULL;
    struct option_reader reader = {.command = &command_migrate, .argc = argc, .argv = argv};
    for (const struct option_help *option; (option = option_next(&reader, error));)
        if (read_option(&request, &new_key, &settled, option, reader.value, error) < 0)
            return error->code;
    if (error->code || reader.helped)
        return error->code;
    int words = new_key ? 0 : settled ? 1 : 2;
    if (command_expect_words(&reader, words, words, error) < 0)
        return error->code;
    if (new_key)
        return img_key_make(new_key, error);
    request.name = reader.words[0];
    if (settled)
        return settle(request.name, settled, error);
    request.where = reader.words[1];
    if (!request.key) {
        error_set(error, -EINVAL, "migrate: --key FILE is missing: the key that both sides have");
        return error_hint(error, "bailey migrate --new-key FILE makes one");
    }
    return migrate_run(&request, error);
}

const struct command command_migrate = {
    .name = "migrate",
    .arguments = "NAME HOST:PORT",
    .summary = "Move a running sandbox to another machine, where bailey receive waits",
    .run = run,
    .options = options,
    .examples =
        "  bailey migrate --new-key move.key             then copy it to the other machine\n"
        "  bailey migrate db 192.0.2.7:7000 --key move.key --dry-run\n"
        "  bailey migrate db 192.0.2.7:7000 --key move.key\n"
        "  bailey migrate db 192.0.2.7:7000 --key move.key --lazy\n",
};
