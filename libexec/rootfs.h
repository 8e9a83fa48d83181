/* The steps from the host's tree to the container's root. */
#ifndef PINNACE_ROOTFS_H
#define PINNACE_ROOTFS_H

#include <stdint.h>

#include "error.h"

/* A mount of an image's directory, read-only, for rootfs_scratch: its descriptor or -1. */
int rootfs_lower(const char *path, struct error *err);

/* The same of the directory that holds the writable layer. */
int rootfs_upper(int directory, struct error *err);

/*
 * A tmpfs over /tmp with the directories lower, writable/upper, writable/work, root and host. size: bytes, 0 for
 * half of the memory that there is for this process. lower and upper are mounted on lower and writable, unless -1.
 */
int rootfs_scratch(uint64_t size, int lower, int upper, struct error *err);

/* The file system of the writable layer, by a mount that keeps nothing else: its descriptor or -1. */
int rootfs_writable(void);

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
