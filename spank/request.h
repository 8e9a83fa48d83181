/* The request for a step's container (docs/protocol.md, "A step's container"). */
#ifndef PINNACE_REQUEST_H
#define PINNACE_REQUEST_H

#include <stdint.h>

#include "../libexec/error.h"
#include "options.h"

/* What the launcher has to know of the step. */
struct step_facts {
	uint32_t job, step, tasks;
	const char *script;       /* a batch script that the container must show at its path, or NULL */
	char *const *environment; /* NAME=value, ended by NULL */
};

/*
 * Write the request into a sealed memfd, ready to be read from its start: the descriptor, or -1.
 * The working directory is the caller's.
 */
int request_create(const struct options *asked, const struct step_facts *facts, struct error *err);

#endif
