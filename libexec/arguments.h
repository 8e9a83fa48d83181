/* The arguments of a plan's operations. */
#ifndef PINNACE_ARGUMENTS_H
#define PINNACE_ARGUMENTS_H

#include <stddef.h>

#include "error.h"
#include "fields.h"

/* The next arguments of an operation into the given variables; each must be there. */
int take(const struct field *operation, size_t *position, const char **argument, struct error *err);

/* Its first, and its first two. */
int take_one(const struct field *operation, const char **argument, struct error *err);
int take_two(const struct field *operation, const char **first, const char **second, struct error *err);

/* A number of at most maximum. */
int number(const char *text, unsigned long maximum, int base, unsigned long *value, struct error *err);

/* All, of which there must be some, behind `first` places that are left free. Allocated; NULL: an error. */
char **command_line(const struct field *operation, size_t first, struct error *err);

#endif
