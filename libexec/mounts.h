/* Mounts inside a container's root, made with descriptors on both sides. */
#ifndef PINNACE_MOUNTS_H
#define PINNACE_MOUNTS_H

#include "error.h"

/*
 * Mount source, a path of the host, on target, a path of the container. options as in
 * docs/protocol.md, "A plan".
 */
int mounts_bind(int host, const char *source, int root, const char *target, const char *options,
		struct error *err);

/*
 * Mount a directory of the container, made if it is missing, on itself: it can be written where the root cannot.
 * mounts_volumes: those that a file of the container names, as enroot writes an image's volumes into /etc/fstab.
 */
int mounts_volume(int root, const char *path, struct error *err);
int mounts_volumes(int root, const char *file, struct error *err);

/*
 * Mount a new file system of a type on target; data are its own options, separated by commas. One that is
 * optional is left out if the kernel refuses it.
 */
int mounts_new(const char *type, int root, const char *target, const char *options, const char *data,
	       struct error *err);

/* Change options and propagation of what is mounted on target. */
int mounts_remount(int root, const char *target, const char *options, struct error *err);

/* Detach what is mounted on target. proc: a descriptor of /proc. */
int mounts_unmount(int proc, int root, const char *target, const char *options, struct error *err);

#endif
