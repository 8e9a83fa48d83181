/* The hold of a start on its image, as pinnace.store.leases has it. */
#ifndef PINNACE_LEASE_H
#define PINNACE_LEASE_H

#include "error.h"

/*
 * Lock the image at path for reading: a descriptor, or -1 if it is being removed (the record, witness, goes
 * first), was replaced, or cannot be locked at once.
 */
int lease_take(const char *path, const char *witness, struct error *err);

/* Note the use as the time of the file's last access. */
void lease_touch(int fd);

/* Write the lease of a job, or renew it: prefix and job make its path. A store of others goes without. */
void lease_leave(const char *prefix, const char *job);

#endif
