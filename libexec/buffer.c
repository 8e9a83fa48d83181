#define _GNU_SOURCE
#include "buffer.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"

enum { FIRST_CAPACITY = 16 << 10 };

/* How a field begins: the lengths of its key and of its value, big-endian. */
struct lengths {
	uint32_t key;
	uint32_t value;
};

static bool make_room(struct buffer *buffer, size_t length)
{
	size_t capacity = buffer->capacity != 0 ? buffer->capacity : FIRST_CAPACITY;
	uint8_t *data;

	if (buffer->failed || length > FIELDS_MAX_MESSAGE - buffer->size)
		return false;
	while (capacity < buffer->size + length)
		capacity *= 2;
	if (capacity == buffer->capacity)
		return true;
	data = realloc(buffer->data, capacity);
	if (data == NULL)
		return false;
	buffer->data = data;
	buffer->capacity = capacity;
	return true;
}

void buffer_add(struct buffer *buffer, const void *bytes, size_t length)
{
	if (!make_room(buffer, length)) {
		buffer->failed = true;
		return;
	}
	if (length > 0)
		memcpy(buffer->data + buffer->size, bytes, length);
	buffer->size += length;
}

void buffer_argument(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text) + 1);
}

void buffer_begin(struct buffer *buffer, const char *key)
{
	struct lengths lengths = { .key = htonl((uint32_t)strlen(key)) };

	buffer->field = buffer->size;
	buffer_add(buffer, &lengths, sizeof(lengths));
	buffer_add(buffer, key, strlen(key));
}

void buffer_end(struct buffer *buffer)
{
	struct lengths lengths;

	if (buffer->failed)
		return;
	memcpy(&lengths, buffer->data + buffer->field, sizeof(lengths));
	lengths.value = htonl((uint32_t)(buffer->size - buffer->field - sizeof(lengths) - ntohl(lengths.key)));
	memcpy(buffer->data + buffer->field, &lengths, sizeof(lengths));
}

void buffer_field(struct buffer *buffer, const char *key, const void *value, size_t length)
{
	buffer_begin(buffer, key);
	buffer_add(buffer, value, length);
	buffer_end(buffer);
}

void buffer_release(struct buffer *buffer)
{
	free(buffer->data);
	memset(buffer, 0, sizeof(*buffer));
}
