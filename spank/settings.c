#include "settings.h"

#include <stddef.h>
#include <string.h>

#include "message.h"

#ifndef PINNACE_LAUNCHER
#define PINNACE_LAUNCHER "/usr/bin/pinnace"
#endif

/*
 * Arguments that sites have for pyxis and that mean nothing here: they say where it keeps files
 * and how it unpacks images. Those that would change what users get are refused instead.
 */
static const char *const without_effect[] = {
	"runtime_path=", "use_squashfuse=", "use_enroot_load=", "execute_entrypoint=0", NULL,
};

/* The value of argument if it begins with name, else NULL. */
static const char *value_of(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

static bool has_no_effect(const char *argument)
{
	for (size_t i = 0; without_effect[i] != NULL; i++)
		if (value_of(argument, without_effect[i]) != NULL)
			return true;
	return false;
}

int settings_read(struct settings *settings, int count, char **arguments)
{
	const char *value;

	*settings = (struct settings){ .launcher = PINNACE_LAUNCHER, .batch = true };
	for (int i = 0; i < count; i++) {
		if ((value = value_of(arguments[i], "launcher=")) != NULL) {
			if (value[0] != '/')
				return message_error("launcher=%s in plugstack.conf is not an absolute path",
						     value);
			settings->launcher = value;
		} else if ((value = value_of(arguments[i], "sbatch_support=")) != NULL) {
			if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
				return message_error("sbatch_support=%s in plugstack.conf: 0 or 1 is expected",
						     value);
			settings->batch = value[0] == '1';
		} else if (!has_no_effect(arguments[i])) {
			return message_error("unknown argument %s in plugstack.conf; "
					     "known are launcher=PATH and sbatch_support=0|1",
					     arguments[i]);
		}
	}
	return 0;
}
