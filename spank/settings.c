#include "settings.h"

#include <stddef.h>
#include <string.h>

#include "message.h"

#ifndef PINNACE_LAUNCHER
#define PINNACE_LAUNCHER "/usr/bin/pinnace"
#endif

static int read_choice(const char *name, const char *value, enum choice *choice)
{
	*choice = options_parse_choice(value);
	if (*choice == CHOICE_NONE)
		return message_error("%s=%s in plugstack.conf: 0 or 1 is expected", name, value);
	return 0;
}

static int read_launcher(struct settings *settings, const char *name, const char *value)
{
	if (value[0] != '/')
		return message_error("%s=%s in plugstack.conf is not an absolute path", name, value);
	settings->launcher = value;
	return 0;
}

static int read_batch(struct settings *settings, const char *name, const char *value)
{
	enum choice choice;

	if (read_choice(name, value, &choice) < 0)
		return -1;
	settings->batch = choice == CHOICE_YES;
	return 0;
}

static int read_entrypoint(struct settings *settings, const char *name, const char *value)
{
	return read_choice(name, value, &settings->entrypoint);
}

/* No container has a name that other jobs could use: both scopes are the same. */
static int read_scope(struct settings *settings, const char *name, const char *value)
{
	(void)settings;
	if (strcmp(value, "job") != 0 && strcmp(value, "global") != 0)
		return message_error("%s=%s in plugstack.conf: job or global is expected", name, value);
	return 0;
}

/* An importer gives users images by a site's own rules: leaving it out would be no small change. */
static int read_importer(struct settings *settings, const char *name, const char *value)
{
	(void)settings;
	if (value[0] == '\0')
		return 0;
	return message_error("%s=%s in plugstack.conf: programs that import images are not supported; "
			     "remove it, Pinnace keeps images in its store", name, value);
}

/* pyxis's choices of how it unpacks images, which mean nothing here. */
static int read_nothing(struct settings *settings, const char *name, const char *value)
{
	enum choice choice;

	(void)settings;
	return read_choice(name, value, &choice);
}

/* Where pyxis keeps files. */
static int read_path(struct settings *settings, const char *name, const char *value)
{
	(void)settings, (void)name, (void)value;
	return 0;
}

static const struct {
	const char *name;
	int (*read)(struct settings *settings, const char *name, const char *value);
} known[] = {
	{ "launcher", read_launcher },
	{ "sbatch_support", read_batch },
	{ "execute_entrypoint", read_entrypoint },
	{ "container_scope", read_scope },
	{ "importer", read_importer },
	{ "use_squashfuse", read_nothing },
	{ "use_enroot_load", read_nothing },
	{ "runtime_path", read_path },
};

static int read_argument(struct settings *settings, const char *argument)
{
	size_t length = strcspn(argument, "=");

	for (size_t i = 0; argument[length] == '=' && i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].name) == length && strncmp(known[i].name, argument, length) == 0)
			return known[i].read(settings, known[i].name, argument + length + 1);
	return message_error("unknown argument %s in plugstack.conf; known are launcher=PATH, sbatch_support=0|1, "
			     "execute_entrypoint=0|1 and container_scope=job|global", argument);
}

int settings_read(struct settings *settings, int count, char **arguments)
{
	*settings = (struct settings){ .launcher = PINNACE_LAUNCHER, .batch = true, .entrypoint = CHOICE_NONE };
	for (int i = 0; i < count; i++)
		if (read_argument(settings, arguments[i]) < 0)
			return -1;
	return 0;
}
