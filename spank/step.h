/* What the tasks of a step share on a node: who makes the container, and the answer for all. */
#ifndef PINNACE_STEP_H
#define PINNACE_STEP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "../libexec/error.h"

enum step_state { STEP_NEW, STEP_READY, STEP_FAILED };

/* Shared memory, made by slurmstepd before it forks the tasks. It never reads it again. */
struct step_shared {
	pthread_mutex_t lock;
	enum step_state state; /* guarded by lock */
	int status;            /* guarded by lock: exit status of a failed step */
	atomic_flag reported;  /* an error that all tasks meet was printed */
};

struct step {
	struct step_shared *shared;
	int launcher_end, task_end; /* the socket of the answer, which stays in it for all tasks */
	int lifeline, lifeline_end; /* a pipe that the container's servers hold for writing */
};

/* A step that was not opened. */
#define STEP_CLOSED { .shared = NULL, .launcher_end = -1, .task_end = -1, .lifeline = -1, .lifeline_end = -1 }

/* Make what the tasks will share: 0 or -1. */
int step_open(struct step *step, struct error *err);

/* Let go of it. With the last task gone this ends the container's namespaces. */
void step_close(struct step *step);

/*
 * Let go of it when the last task has ended, and wait a little for the container's servers to end.
 * slurmstepd would kill what it finds and sleep a whole second over it.
 */
void step_finish(struct step *step);

/* Makes the container: 0 or the exit status of a failure that was told to the user. */
typedef int step_lead(void *context);

/*
 * Wait until the container is there. The first task leads: it makes it, and the others wait. If a
 * leader is killed, the next task leads anew. 0 if the container is ready, else the exit status.
 */
int step_enter(struct step *step, step_lead *lead, void *context, struct error *err);

/* True for the first caller on the node: what all tasks meet is told once. */
bool step_first_report(struct step *step);

#endif
