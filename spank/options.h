/* The options of srun, sbatch and salloc, and the variables that stand in for them. */
#ifndef PINNACE_OPTIONS_H
#define PINNACE_OPTIONS_H

#include <stdbool.h>

#include "list.h"
#include "spank_api.h"

enum choice { CHOICE_NONE = -1, CHOICE_NO = 0, CHOICE_YES = 1 };

struct options {
	char *image;
	char *workdir;
	char *backend;
	struct list mounts;      /* SRC:DST or SRC:DST:FLAGS each */
	struct list environment; /* names of --container-env */
	struct list unshare;     /* names of namespaces */
	enum choice remap_root, mount_home, writable, entrypoint, entrypoint_log;
};

/* What the user asked for, as far as Slurm has told. */
extern struct options options;

/* Make the options known to Slurm: 0 or -1. */
int options_register(spank_t spank);

/* The value of a truth word (1, true, yes, y and their opposites), or CHOICE_NONE for any other word. */
enum choice options_parse_choice(const char *text);

/* Looks up a variable of the user's: its value or NULL. */
typedef const char *options_lookup(void *context, const char *name);

/*
 * Complete the lists of options that were given more than once, and with publish see to it that
 * the nodes can do the same: 0 or -1.
 */
int options_complete(options_lookup *lookup, void *context, bool publish);

/* Take PINNACE_CONTAINER_* and PYXIS_CONTAINER_* for options that were not given: 0 or -1. */
int options_from_environment(options_lookup *lookup, void *context);

/* Say which options have no effect because no image was asked for. */
void options_report_ignored(void);

void options_free(void);

#endif
