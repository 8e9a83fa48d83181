/*
 * Hooks of a site: programs of the host that are executed while a container is made, in its namespaces and with
 * the rights that the executor has there, but in the host's tree (docs/site-files.md, "Hooks").
 */
#ifndef PINNACE_HOOKS_H
#define PINNACE_HOOKS_H

#include "error.h"
#include "fields.h"

struct hooks {
	int host;              /* the host's tree */
	int directory;         /* a tmpfs with the files that hooks append to, where they see the container as well */
	char **environment;    /* of hooks */
	long long known;       /* bytes of the file of variables before any hook */
	struct fields results; /* operations: what hooks have asked for */
};

#define HOOKS_NONE { .host = -1, .directory = -1 }

/*
 * Show the container's root where hooks can see it. plan is where its variables are read from; the operation's
 * arguments are the hooks' own variables (NAME=value, or NAME for one that is not passed on), and of a step, behind
 * an empty one, those of the job.
 */
int hooks_begin(struct hooks *hooks, int host, int root, int plan, const struct field *operation, struct error *err);

/* Execute one, which has to succeed. */
int hooks_run(const struct hooks *hooks, const char *program, struct error *err);

/*
 * Have a program (its words) tell what hooks have appended to their files as operations, should they have, and hide
 * the container's root again.
 */
int hooks_end(struct hooks *hooks, int root, char **words, struct error *err);

/* The plan with the hooks' variables in the place of each `hook-variables`: a descriptor, or -1. */
int hooks_plan(const struct hooks *hooks, int plan, struct error *err);

#endif
