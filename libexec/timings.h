/* What the phases of a start have taken: those before the executor as the plan says, its own as they go. */
#ifndef PINNACE_TIMINGS_H
#define PINNACE_TIMINGS_H

#include <stddef.h>

#include "error.h"
#include "fields.h"

enum { TIMINGS_MAX = 16 };

struct timings {
	struct timings_phase {
		char name[32];
		long long taken; /* ns */
	} phases[TIMINGS_MAX];
	size_t count;     /* 0: nobody wants to know */
	const char *now;  /* the phase that goes on */
	long long begun;  /* CLOCK_MONOTONIC, ns */
	long long last;   /* the end of the phase before */
};

/* Begin with what a `timings` operation tells: 0 or -1. */
int timings_begin(struct timings *timings, const struct field *operation, struct error *err);

/* Add what has passed to the phase that an operation belongs to. */
void timings_add(struct timings *timings, const struct field *operation);

/* Print all of it as one line on standard error, once. */
void timings_print(struct timings *timings);

#endif
