/* The plan of one start: a kept plan with its gaps filled, as pinnace.container.template does. */
#ifndef PINNACE_COMPOSE_H
#define PINNACE_COMPOSE_H

#include "asked.h"
#include "error.h"
#include "kept.h"

/*
 * A sealed memfd that holds the plan, or -1. begun is when the start began (CLOCK_MONOTONIC, ns), for a plan
 * that tells what its phases have taken.
 */
int compose_plan(const struct asked *asked, struct kept *kept, long long begun, struct error *err);

#endif
