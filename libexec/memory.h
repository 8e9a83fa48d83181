/* How much memory there is for this process and what it starts. */
#ifndef PINNACE_MEMORY_H
#define PINNACE_MEMORY_H

#include <stdint.h>

/* The machine's memory or the least limit of the control groups that this process is in, in bytes. */
uint64_t memory_limit(void);

#endif
