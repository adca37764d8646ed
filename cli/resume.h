/* What `bailey resume` and `bailey clone` share: an image that is ready to go on. */
#ifndef CLI_RESUME_H
#define CLI_RESUME_H

#include <cli/launch.h>
#include <monitor/suspension/read.h>
#include <monitor/monitor.h>

struct resumption {
    struct mon_image image;
    struct mon_policy granted; /* what the operator names: folders, root, layer, audit file */
    struct mon_resume resume;
    struct launch launch;
    struct text_list bases; /* --base */
    const char *path;       /* where the image is; NULL: it has no place */
    bool verify;
};
#define cleanup_resumption __attribute__((cleanup(resumption_free)))
void resumption_init(struct resumption *resumption);
void resumption_free(struct resumption *resumption);

/* The options of both commands; true when `option` was one of them. */
bool resumption_option(struct resumption *resumption, const struct option_help *option,
                       const char *value, struct error *error);
#define RESUMPTION_BASE_OPTION                                                                     \
    {                                                                                              \
        0, "base", "FILE",                                                                         \
            "the image that this one was made from (else beside it, or where it was)"              \
    }
#define RESUMPTION_OPTIONS                                                                         \
    {'v', "volume", "HOST[:GUEST][:ro]", "give the folder again that the sandbox had at GUEST"},   \
        {0, "rootfs", "DIR", "give the root again"},                                               \
        {0, "layer", "DIR", "give the folder of the private layer again"},                         \
        {0, "hostname", "NAME",                                                                    \
         "host name inside (else the one it had; of clones: NAME-1, NAME-2)"},                     \
        {0, "audit", "FILE", "write every decision to FILE, one JSON object a line"},              \
        {0, "accept-changed", NULL, "also when files that the sandbox had open have changed"},     \
        {0, "json", NULL, "print the name of what runs in the background as a JSON object"},       \
        {0, "force", NULL, "also when this processor lacks what the sandbox could see"},           \
    {                                                                                              \
        0, "verify", NULL, "read all of the image first and check it"                              \
    }

/* Reads and checks all pages of an image, with a line that tells how far it is. */
int resumption_verify(struct img_reader *reader, struct error *error)
    __attribute__((warn_unused_result));
/* Opens, checks and grants: then launch is complete but for its name, which is the image's. `own`:
 * it was just made by us. */
int resumption_open(struct resumption *resumption, const char *path, bool own, struct error *error)
    __attribute__((warn_unused_result));
/* The same of an image that is open already, and is taken over; `name` is for messages. */
int resumption_take(struct resumption *resumption, int descriptor, const char *name, bool own,
                    struct error *error) __attribute__((warn_unused_result));
/* Of an offer (image/frame.h) all is told that would keep it from going on here, a line each. */
int resumption_check_offer(struct resumption *resumption, int descriptor, const char *name,
                           struct error *error) __attribute__((warn_unused_result));

#endif
