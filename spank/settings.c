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
	"runtime_path=", "use_squashfuse=", "use_enroot_load=", NULL,
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

static enum choice read_choice(const char *name, const char *value)
{
	enum choice choice = options_parse_choice(value);

	if (choice == CHOICE_NONE)
		(void)message_error("%s=%s in plugstack.conf: 0 or 1 is expected", name, value);
	return choice;
}

int settings_read(struct settings *settings, int count, char **arguments)
{
	enum choice choice = CHOICE_NO;
	const char *value;

	*settings = (struct settings){ .launcher = PINNACE_LAUNCHER, .batch = true, .entrypoint = CHOICE_NONE };
	for (int i = 0; i < count; i++) {
		if ((value = value_of(arguments[i], "launcher=")) != NULL) {
			if (value[0] != '/')
				return message_error("launcher=%s in plugstack.conf is not an absolute path",
						     value);
			settings->launcher = value;
		} else if ((value = value_of(arguments[i], "sbatch_support=")) != NULL) {
			choice = read_choice("sbatch_support", value);
			settings->batch = choice == CHOICE_YES;
		} else if ((value = value_of(arguments[i], "execute_entrypoint=")) != NULL) {
			choice = settings->entrypoint = read_choice("execute_entrypoint", value);
		} else if (!has_no_effect(arguments[i])) {
			return message_error("unknown argument %s in plugstack.conf; "
					     "known are launcher=PATH, sbatch_support=0|1 and "
					     "execute_entrypoint=0|1", arguments[i]);
		}
		if (choice == CHOICE_NONE)
			return -1;
	}
	return 0;
}
