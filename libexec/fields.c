#define _GNU_SOURCE
#include "fields.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static uint32_t read_u32(const uint8_t *data)
{
	uint32_t number;

	memcpy(&number, data, sizeof(number));
	return ntohl(number);
}

int fields_next(struct fields *message, struct field *field, struct error *err)
{
	size_t left = message->size - message->position;
	const uint8_t *at = message->data + message->position;
	uint32_t key_length, value_length;

	if (left == 0)
		return 0;
	if (left < 8)
		return error_set(err, 0, "a message between Pinnace's parts is cut short");
	key_length = read_u32(at);
	value_length = read_u32(at + 4);
	left -= 8;
	if (key_length > FIELDS_MAX_KEY || key_length > left || value_length > left - key_length)
		return error_set(err, 0, "a message between Pinnace's parts is malformed");
	memcpy(field->key, at + 8, key_length);
	field->key[key_length] = '\0';
	field->value = (const char *)at + 8 + key_length;
	field->length = value_length;
	message->position += 8 + (size_t)key_length + value_length;
	return 1;
}

bool field_is(const struct field *field, const char *key)
{
	return strcmp(field->key, key) == 0;
}

const char *field_argument(const struct field *field, size_t *position)
{
	const char *start = field->value + *position;
	const char *end;

	if (*position >= field->length)
		return NULL;
	end = memchr(start, '\0', field->length - *position);
	if (end == NULL)
		return NULL;
	*position += (size_t)(end - start) + 1;
	return start;
}

int fields_map(int fd, struct fields *message, struct error *err)
{
	struct stat status;
	void *data;

	memset(message, 0, sizeof(*message));
	if (fstat(fd, &status) < 0)
		return error_set(err, errno, "cannot read descriptor %d", fd);
	if (status.st_size < 0 || status.st_size > FIELDS_MAX_MESSAGE)
		return error_set(err, 0, "a message between Pinnace's parts is larger than %d bytes",
				 FIELDS_MAX_MESSAGE);
	if (status.st_size == 0)
		return 0;
	data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (data == MAP_FAILED)
		return error_set(err, errno, "cannot map descriptor %d", fd);
	message->data = data;
	message->size = (size_t)status.st_size;
	return 0;
}

void fields_unmap(struct fields *message)
{
	if (message->data != NULL)
		(void)munmap((void *)message->data, message->size);
	memset(message, 0, sizeof(*message));
}

int fields_write(int fd, const char *key, const char *value, size_t length, struct error *err)
{
	size_t key_length = strlen(key);
	uint32_t lengths[2] = { htonl((uint32_t)key_length), htonl((uint32_t)length) };
	struct iovec parts[] = {
		{ .iov_base = lengths, .iov_len = sizeof(lengths) },
		{ .iov_base = (void *)key, .iov_len = key_length },
		{ .iov_base = (void *)value, .iov_len = length },
	};
	ssize_t expected = (ssize_t)(sizeof(lengths) + key_length + length);

	if (key_length > FIELDS_MAX_KEY || length > FIELDS_MAX_MESSAGE)
		return error_set(err, 0, "the value of %s is too long", key);
	if (writev(fd, parts, 3) != expected)
		return error_set(err, errno, "cannot write %s for another part of Pinnace", key);
	return 0;
}
