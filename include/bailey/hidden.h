/* Included before everything else by the compiler (-include) in all code of a picoprocess image.
 *
 * An image is one static file: what is declared is called and read directly. -fvisibility=hidden says so of definitions only; without this
 * every call of another file's function would go through a table, whose pages each clone has to fault in. */
#ifndef BAILEY_HIDDEN_H
#define BAILEY_HIDDEN_H

#pragma GCC visibility push(hidden)

#endif
