/* FUSE file systems of a container: prepared in one mount namespace, mounted in a later one. */
#ifndef PINNACE_FUSE_H
#define PINNACE_FUSE_H

#include <stddef.h>

#include "error.h"
#include "fields.h"
#include "keeper.h"

/* A server that is not started yet. */
struct fuse_server {
	char name[32];
	const char *arguments; /* within the plan */
	size_t length;
	int device;    /* of /dev/fuse; -1: no server */
	int namespace; /* the mount namespace that it is to be in; -1: the keeper's */
};

#define FUSE_SERVER_NONE { .device = -1, .namespace = -1 }

/*
 * Read a `fuse-server` operation. The server is to be in the mount namespace of now, which is namespace,
 * or the keeper's if that is -1: were it in the container's, its own references would keep that namespace,
 * and so itself, alive for ever. Takes namespace over.
 */
int fuse_prepare(const struct field *operation, int namespace, struct fuse_server *server, struct error *err);

/* Mount the server's file system on target and have the keeper start it. */
int fuse_mount(struct fuse_server *server, const char *target, bool read_only, const struct keeper *keeper,
	       struct error *err);

#endif
