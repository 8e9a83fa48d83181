/*
 * What strangers write for the executor and the shim, for libFuzzer: messages, and of images the files
 * of variables and /etc/rc. `make fuzz` in libexec/ needs clang.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../fields.h"
#include "../rc.h"
#include "../task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int note(void *context, const char *name, const char *value, bool keep)
{
	(void)context;
	(void)keep;
	if (name[0] == '\0' || strchr(name, '=') != NULL || (value != NULL && strlen(value) > SIZE_MAX / 2))
		abort();
	return 0;
}

static const struct task_environment noted = { .change = note };

/* Only these change nothing but the environment. */
static bool is_harmless(const struct field *field)
{
	return field_is(field, "environment") || field_is(field, "default") || field_is(field, "unset");
}

static void read_message(const uint8_t *data, size_t size)
{
	struct fields message = { .data = data, .size = size };
	struct error err = { 0 };
	struct field field;

	while (fields_next(&message, &field, &err) == 1) {
		size_t position = 0;
		const char *argument;

		while ((argument = field_argument(&field, &position)) != NULL)
			if (strlen(argument) >= field.length)
				abort();
		if (is_harmless(&field))
			(void)task_operation(&field, &noted, &err);
	}
}

static void read_variables(const uint8_t *data, size_t size)
{
	cleanup_close int fd = memfd_create("variables", MFD_CLOEXEC);
	struct field field = { .key = "environment-file" };
	struct error err = { 0 };
	char path[32];

	if (write(fd, data, size) != (ssize_t)size)
		abort();
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	field.value = path;
	field.length = strlen(path);
	(void)task_operation(&field, &noted, &err);
}

static void read_script(const uint8_t *data, size_t size)
{
	cleanup_free char *script = strndup((const char *)data, size);
	size_t length = script == NULL ? 0 : strlen(script);
	const char *directory = script == NULL ? NULL : rc_directory(script);

	if (directory != NULL && (directory[0] == '\0' || strlen(directory) >= length))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const readers[])(const uint8_t *, size_t) = { read_message, read_variables, read_script };

	if (size > 0)
		readers[data[0] % 3](data + 1, size - 1);
	return 0;
}
