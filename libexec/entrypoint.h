/*
 * An image's entry point, executed once for the container of a step. It gets a small command to execute, as
 * it would get a user's, which tells what it has left: its variables and its working directory.
 */
#ifndef PINNACE_ENTRYPOINT_H
#define PINNACE_ENTRYPOINT_H

#include <stdbool.h>
#include <sys/types.h>

#include "error.h"

struct entrypoint {
	char *const *words; /* ended by NULL; the command is put behind them */
	int plan;           /* whose operations behind `hand-over` say what a task may do */
	mode_t umask;
	bool log;           /* print what it prints; that of one that fails is printed in any case */
};

/*
 * Execute the entry point with this process's variables. Returns a sealed file with the plan's operations
 * from `hand-over` on, in which variables and directory are those that it has left, or -1.
 */
int entrypoint_run(const struct entrypoint *entrypoint, struct error *err);

#endif
