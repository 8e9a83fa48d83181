/*
 * Paths inside a container's root. No path of an image is trusted: a symbolic link or `..` never
 * leads out of the root (openat2(2), RESOLVE_IN_ROOT).
 */
#ifndef PINNACE_TREE_H
#define PINNACE_TREE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

/* Open an existing path inside root; -1 with errno. */
int tree_open(int root, const char *path, int flags);

/*
 * Open (O_PATH) a path inside root and create what is missing of it: directories, and last a file
 * or a directory. A dangling symbolic link is followed inside the root, so that its target is
 * created. resolved gets the path without symbolic links and may be NULL.
 */
int tree_create(int root, const char *path, bool directory, char resolved[PATH_MAX], struct error *err);

/*
 * Write a file inside root. With prepend, what the file held (up to 1 MiB) follows the content.
 */
int tree_write(int root, const char *path, mode_t mode, const char *content, size_t length, bool prepend,
	       struct error *err);

#endif
