/* What programs have switched on in a terminal, as far as it must be switched off again when they are gone, and on again where they go on:
 * alternate screen, hidden cursor, mouse, bracketed paste, keypad. Found in what they write. What is written to the terminal in their
 * place is made here alone: of their words nothing is repeated. */
#ifndef BASE_SCREEN_H
#define BASE_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCREEN_PARAMETER_MAX 16
#define SCREEN_TEXT_MAX 320 /* what screen_enter and screen_leave make is shorter */

struct screen {
    uint32_t modes; /* what is on, by an order of screen.c; 0: all is as it was */
    bool in_line;   /* the cursor is not at a line's start: something was written since the last one */
    uint8_t state;  /* within a sequence */
    char prefix, intermediate;
    uint8_t parameter_count;
    uint16_t parameters[SCREEN_PARAMETER_MAX];
};

/* Looks through what is written to the terminal; a sequence may come in pieces. */
void screen_follow(struct screen *screen, const void *data, size_t size);
/* A program draws on all of it: it is to be told to do so anew on another terminal. */
bool screen_is_full(const struct screen *screen);
/* What makes a terminal so, and what takes it back. Returns the size; 0: nothing is to be done. */
size_t screen_enter(uint32_t modes, char out_text[SCREEN_TEXT_MAX]);
size_t screen_leave(uint32_t modes, char out_text[SCREEN_TEXT_MAX]);

#endif
