/* How much memory there is for this process and what it starts. */
#ifndef PINNACE_MEMORY_H
#define PINNACE_MEMORY_H

#include <stdint.h>

/* The machine's memory or the least limit of the control groups that this process is in, in bytes. */
uint64_t memory_limit(void);

/*
 * The least limit of the control groups that a file such as /proc/self/cgroup lists, mounted below root, in
 * bytes; UINT64_MAX: there is none. Of version 1 the hierarchy `memory` counts, of version 2 the only one.
 */
uint64_t memory_group_limit(const char *groups, const char *root);

#endif
