#define _GNU_SOURCE
#include "carry.h"

#include <stdlib.h>
#include <string.h>

#include "../libexec/cleanup.h"

int carry_in(struct list *list, const char *value)
{
	struct list merged = { 0 };
	int result = 0;

	if (value == NULL || value[0] == '\0')
		return 0;
	while (result == 0 && *value != '\0') {
		size_t length = strcspn(value, ",");

		if (length > 0)
			result = list_add(&merged, value, length);
		value += length + (value[length] == ',');
	}
	for (size_t i = 0; result == 0 && i < list->count; i++)
		result = list_add(&merged, list->items[i], strlen(list->items[i]));
	if (result < 0) {
		list_free(&merged);
		return -1;
	}
	list_free(list);
	*list = merged;
	return 0;
}

int carry_out(const struct list *list, const char *name)
{
	cleanup_free char *value = NULL;
	size_t size = 1;
	char *end;

	for (size_t i = 0; i < list->count; i++)
		size += strlen(list->items[i]) + 1;
	value = malloc(size);
	if (value == NULL)
		return -1;
	end = value;
	for (size_t i = 0; i < list->count; i++) {
		if (i > 0)
			*end++ = ',';
		end = stpcpy(end, list->items[i]);
	}
	*end = '\0';
	return setenv(name, value, 1);
}
