/* For guest tests: ordinary programs that must pass on Linux first and then inside. A test file is a table of cases, each named by
 * what must hold; `program` runs all of them, `program NAME` one. Exit 0: all hold. */
#ifndef TESTS_GUEST_H
#define TESTS_GUEST_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct guest_case { const char *name; void (*run)(void); };

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s does not hold (errno %d, %s)\n", __FILE__, __LINE__, #condition, errno, strerror(errno)); \
            exit(1); \
        } \
    } while (0)
#define CHECK_EQUAL(actual, expected) \
    do { \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected); \
        if (actual_ != expected_) { \
            fprintf(stderr, "%s:%d: %s is %lld, not %s (%lld); errno %d\n", __FILE__, __LINE__, #actual, actual_, #expected, expected_, errno); \
            exit(1); \
        } \
    } while (0)
/* The call fails with exactly this error. */
#define CHECK_ERROR(call, error) \
    do { \
        errno = 0; \
        long long result_ = (long long)(call); \
        if (result_ != -1 || errno != (error)) { \
            fprintf(stderr, "%s:%d: %s gave %lld, errno %d (%s), not %s\n", __FILE__, __LINE__, #call, result_, errno, strerror(errno), #error); \
            exit(1); \
        } \
    } while (0)

#define GUEST_CASE(function) { #function, function }
#define GUEST_MAIN(cases) \
    int main(int argc, char **argv) \
    { \
        for (size_t i = 0; i < sizeof(cases) / sizeof((cases)[0]); i++) { \
            if (argc > 1 && strcmp(argv[1], (cases)[i].name) != 0) \
                continue; \
            if (getenv("GUEST_VERBOSE")) \
                fprintf(stderr, "%s\n", (cases)[i].name); \
            (cases)[i].run(); \
        } \
        return 0; \
    }

#endif
