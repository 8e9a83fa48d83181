#include "list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../libexec/cleanup.h"

int list_add(struct list *list, const char *text, size_t length)
{
	cleanup_free char *copy = NULL;
	char **grown;

	for (size_t i = 0; i < list->count; i++)
		if (strlen(list->items[i]) == length && memcmp(list->items[i], text, length) == 0)
			return 0;
	if (list->count == LIST_MAX) {
		errno = E2BIG;
		return -1;
	}
	copy = strndup(text, length);
	if (copy == NULL)
		return -1;
	grown = realloc(list->items, (list->count + 1) * sizeof(*grown));
	if (grown == NULL)
		return -1;
	list->items = grown;
	list->items[list->count++] = copy;
	copy = NULL;
	return 0;
}

void list_free(struct list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	memset(list, 0, sizeof(*list));
}
