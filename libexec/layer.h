/* The writable layer of a container in a directory of the node: upper and work directory of overlayfs(5). */
#ifndef PINNACE_LAYER_H
#define PINNACE_LAYER_H

#include <limits.h>
#include <stdbool.h>

#include "error.h"

/* A directory with `upper` and `work` in it, locked by flock(2) for as long as it is in use. */
struct layer {
	int directory;
	int place;               /* the directory that it was made in; -1 if it stays when the container ends */
	char name[NAME_MAX + 1]; /* in place */
};

#define LAYER_NONE { .directory = -1, .place = -1 }

/* Make a private directory in a directory of the node, to be removed at the container's end. */
int layer_create(const char *place, struct layer *layer, struct error *err);

/* Open, or make, a directory that keeps what is written. It serves one container at a time. */
int layer_open(const char *path, struct layer *layer, struct error *err);

/* Remove a directory that layer_create made, with all that is in it. Best effort: see layer_sweep. */
void layer_remove(int place, const char *name, int directory);

/* Remove those directories of the user's in place whose containers and keepers are gone. */
void layer_sweep(int place);

#endif
