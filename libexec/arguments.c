#include "arguments.h"

#include <errno.h>
#include <stdlib.h>

int take(const struct field *operation, size_t *position, const char **argument, struct error *err)
{
	*argument = field_argument(operation, position);
	if (*argument == NULL)
		return error_set(err, 0, "the plan's %s lacks an argument", operation->key);
	return 0;
}

int take_two(const struct field *operation, const char **first, const char **second, struct error *err)
{
	size_t position = 0;

	return take(operation, &position, first, err) < 0 ? -1 : take(operation, &position, second, err);
}

int take_one(const struct field *operation, const char **argument, struct error *err)
{
	size_t position = 0;

	return take(operation, &position, argument, err);
}

int number(const char *text, unsigned long maximum, int base, unsigned long *value, struct error *err)
{
	char *end;

	errno = 0;
	*value = strtoul(text, &end, base);
	if (errno != 0 || end == text || *end != '\0' || *value > maximum)
		return error_set(err, 0, "the plan holds the wrong number `%.40s`", text);
	return 0;
}

char **command_line(const struct field *operation, size_t first, struct error *err)
{
	size_t position = 0, count = 0;
	char **arguments;
	const char *argument;

	while ((argument = field_argument(operation, &position)) != NULL)
		count++;
	if (count == 0 || position != operation->length) {
		error_set(err, 0, "the plan's %s is malformed", operation->key);
		return NULL;
	}
	arguments = calloc(first + count + 1, sizeof(*arguments));
	if (arguments == NULL) {
		error_set(err, errno, "cannot read the plan's %s", operation->key);
		return NULL;
	}
	position = 0;
	for (size_t i = 0; i < count; i++)
		arguments[first + i] = (char *)field_argument(operation, &position);
	return arguments;
}
