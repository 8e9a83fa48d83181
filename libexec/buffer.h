/*
 * A message (fields.h) that grows in memory. A failure is remembered, so that only the end has to be
 * checked.
 */
#ifndef PINNACE_BUFFER_H
#define PINNACE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
	uint8_t *data;
	size_t size;
	size_t capacity;
	size_t field;  /* where the last field begins */
	bool failed;   /* no memory, or larger than a message may be */
};

/* Begin a field. Its value is what is added until buffer_end. */
void buffer_begin(struct buffer *buffer, const char *key);
void buffer_add(struct buffer *buffer, const void *bytes, size_t length);
/* Add text with the NUL byte that ends an argument. */
void buffer_argument(struct buffer *buffer, const char *text);
void buffer_end(struct buffer *buffer);

/* A whole field. */
void buffer_field(struct buffer *buffer, const char *key, const void *value, size_t length);

void buffer_release(struct buffer *buffer);

#define cleanup_buffer __attribute__((cleanup(buffer_release)))

#endif
