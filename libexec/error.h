/* One error: what went wrong, in words for the user, and the exit status it means. */
#ifndef PINNACE_ERROR_H
#define PINNACE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

struct error {
	int status;          /* exit status; 0: no error */
	char text[1024];     /* one line without a newline */
};

/*
 * Describe a failure and return -1, so that a function can say
 *     return error_set(err, errno, "cannot mount %s", target);
 * code is an errno whose text is appended, or 0 for none.
 */
int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Append what the user can do about it. Returns -1. */
int error_hint(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Put the object concerned in front of what a callee said. Returns -1. */
int error_wrap(struct error *err, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Print "pinnace: error: TEXT" on standard error in one write, control characters made visible. */
void error_print(const struct error *err);

/* The same for what is no error: "pinnace: WHAT: TEXT". */
void error_note(const struct error *err, const char *what);

#endif
