/*
 * Lists that grow with each use of an option. Slurm carries only an option's last argument to the
 * nodes, so the whole list goes beside it, in a variable of the job that --export cannot drop
 * (SLURM_*).
 */
#ifndef PINNACE_CARRY_H
#define PINNACE_CARRY_H

#include "list.h"

#define CARRY_MOUNTS "SLURM_PINNACE_MOUNTS"
#define CARRY_ENVIRONMENT "SLURM_PINNACE_ENV"
#define CARRY_UNSHARE "SLURM_PINNACE_UNSHARE"

/* Put what the variable's value (or NULL) says in front of list: 0, or -1 with errno set. */
int carry_in(struct list *list, const char *value);

/* Set a variable of this process, which the job inherits: 0, or -1 with errno set. */
int carry_out(const struct list *list, const char *name);

#endif
