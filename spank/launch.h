/* The launcher (`pinnace step`) as a child process. */
#ifndef PINNACE_LAUNCH_H
#define PINNACE_LAUNCH_H

#include "../libexec/error.h"

struct launch {
	const char *program;
	int request, answer, lifeline; /* descriptors 0, 3 and 4 of the launcher */
	char *const *environment; /* the job's, of which it gets the few variables it needs */
};

/*
 * Run the launcher to its end. 0 if it succeeded; its exit status if it failed and has said why;
 * -1 if it could not be run or was killed, which err describes.
 */
int launch_run(const struct launch *launch, struct error *err);

#endif
