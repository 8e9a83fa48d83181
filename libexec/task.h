/*
 * The operations of a plan that each process of a container carries out for itself, after it is
 * inside: environment, working directory, privileges. Used by pinnace-exec for `pinnace run` and
 * by the shim for the tasks of a step.
 */
#ifndef PINNACE_TASK_H
#define PINNACE_TASK_H

#include "error.h"
#include "fields.h"

/* The environment that the operations change: the process's own, or the one Slurm keeps. */
struct task_environment {
	/* Set (value not NULL) or unset a variable: 0 or -1. With keep, a variable that is set stays. */
	int (*change)(void *context, const char *name, const char *value, bool keep);
	/* Forget every variable: 0 or -1; NULL if that is not possible. */
	int (*clear)(void *context);
	void *context;
};

/* The process's own environment (setenv and the like). */
extern const struct task_environment task_own_environment;

/* Move the cursor of plan behind its `hand-over` operation: 0, or -1 if there is none. */
int task_seek(struct fields *plan, struct error *err);

/*
 * Carry out one operation: 1 if it was one of a task's, 0 if it is another's, -1 on failure.
 */
int task_operation(const struct field *operation, const struct task_environment *environment,
		   struct error *err);

/* Carry out all operations that are left in plan; any that is not a task's is an error. */
int task_apply(struct fields *plan, const struct task_environment *environment, struct error *err);

#endif
