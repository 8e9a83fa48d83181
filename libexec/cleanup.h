/* Resources that end with the scope that holds them (GCC and Clang cleanup attribute). */
#ifndef PINNACE_CLEANUP_H
#define PINNACE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
}

static inline void cleanup_free_pointer(void *pointer)
{
	free(*(void **)pointer);
}

#define cleanup_close __attribute__((cleanup(cleanup_close_fd)))
#define cleanup_free __attribute__((cleanup(cleanup_free_pointer)))

/* Give a descriptor away: the scope no longer closes it. */
static inline int steal_fd(int *fd)
{
	int given = *fd;

	*fd = -1;
	return given;
}

#endif
