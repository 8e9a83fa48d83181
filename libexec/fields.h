/* The key/value format shared by launcher, executor and shim (docs/protocol.md, "Fields"). */
#ifndef PINNACE_FIELDS_H
#define PINNACE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum { FIELDS_MAX_MESSAGE = 8 << 20, FIELDS_MAX_KEY = 63 };

/* A message in memory and how far it has been read. */
struct fields {
	const uint8_t *data;
	size_t size;
	size_t position;
};

/* One field. The value is length bytes and not terminated. */
struct field {
	char key[FIELDS_MAX_KEY + 1];
	const char *value;
	size_t length;
};

/* Read the next field: 1 if there was one, 0 at the end, -1 if the message is malformed. */
int fields_next(struct fields *message, struct field *field, struct error *err);

bool field_is(const struct field *field, const char *key);

/*
 * The next NUL-terminated argument of a value, or NULL when there is none left or it is not
 * terminated. position starts at 0.
 */
const char *field_argument(const struct field *field, size_t *position);

/* Map a file (a plan or request) read-only: 0 or -1. fields_unmap ends it. */
int fields_map(int fd, struct fields *message, struct error *err);
void fields_unmap(struct fields *message);

/* Append one field to a file, in one write if possible: 0 or -1. */
int fields_write(int fd, const char *key, const char *value, size_t length, struct error *err);

#endif
