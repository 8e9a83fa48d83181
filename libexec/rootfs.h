/* The steps from the host's tree to the container's root. */
#ifndef PINNACE_ROOTFS_H
#define PINNACE_ROOTFS_H

#include "error.h"

/* A tmpfs over /tmp with the directories lower, upper, work, root and host. size: bytes, "0" for the default. */
int rootfs_scratch(const char *size, struct error *err);

/* Make the scratch the root; the host's tree is then at /host, whole, with its own /tmp. */
int rootfs_base(struct error *err);

/* Lay a writable overlayfs of /lower, /upper and /work over /root (kernel 5.11: userxattr). */
int rootfs_overlay(struct error *err);

/* A descriptor that becomes readable when the overlay on /root is no longer mounted anywhere; -1: there is none left. */
int rootfs_watch(void);

/* A mount of what lies on /root that belongs to this mount namespace: its descriptor or -1. */
int rootfs_root(struct error *err);

/* Make the mount of the container's root read-only, but none below it. */
int rootfs_read_only(int root, struct error *err);

/* Make root the process's root and let go of everything else. */
int rootfs_pivot(int root, struct error *err);

#endif
