/* A short list of strings without repetition, in the order in which they were added. */
#ifndef PINNACE_LIST_H
#define PINNACE_LIST_H

#include <stddef.h>

/* Option text is read by slurmstepd as root: what it can be made to keep is bounded. */
enum { LIST_MAX = 1024 };

struct list {
	char **items;
	size_t count;
};

/* Add a copy of text unless it is there: 0, or -1 with errno set (E2BIG: the list is full). */
int list_add(struct list *list, const char *text, size_t length);

void list_free(struct list *list);

#endif
