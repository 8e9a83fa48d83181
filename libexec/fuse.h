/* FUSE servers of a container: started in one mount namespace, mounted in a later one. */
#ifndef PINNACE_FUSE_H
#define PINNACE_FUSE_H

#include <stddef.h>

#include "error.h"
#include "fields.h"

/* A server that waits to be told that its file system is mounted. */
struct fuse_server {
	char name[32];
	int device;   /* of /dev/fuse; -1: no server */
	int release;  /* one byte written here lets it run; closing it ends it */
};

enum { FUSE_MAX_KEPT = 2 };

/* Descriptors that every server holds until it ends: whoever waits for that, or counts on it, sees them go. */
struct fuse_kept {
	int descriptors[FUSE_MAX_KEPT];
	size_t count;
};

#define FUSE_SERVER_NONE { .device = -1, .release = -1 }

/*
 * Fork the server of a `fuse-server` operation. It stays in the mount namespace of now: were it in
 * the container's, its own references would keep that namespace, and so itself, alive for ever.
 */
int fuse_start(const struct field *operation, const struct fuse_kept *kept, struct fuse_server *server,
	       struct error *err);

/* Mount the server's file system on target and let the server run. */
int fuse_mount(struct fuse_server *server, const char *target, struct error *err);

#endif
