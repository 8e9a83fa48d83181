/* The plugin's arguments in plugstack.conf: the administrator's choices. */
#ifndef PINNACE_SETTINGS_H
#define PINNACE_SETTINGS_H

#include <stdbool.h>

#include "options.h"

struct settings {
	const char *launcher; /* absolute path of `pinnace` on the nodes */
	bool batch;           /* sbatch and salloc know the options */
	enum choice entrypoint; /* execute images' entry points if the user does not say; none: the nodes decide */
};

/* Read the arguments: 0, or -1 after saying which one is not possible. Strings are borrowed. */
int settings_read(struct settings *settings, int count, char **arguments);

#endif
