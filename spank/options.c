#include "options.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "carry.h"
#include "message.h"
#include "mounts.h"

/* How often an option that adds to a list was given. */
static unsigned int mounts_uses, environment_uses, unshare_uses;

#define NO_OPTIONS                                                                              \
	{                                                                                       \
		.remap_root = CHOICE_NONE, .mount_home = CHOICE_NONE, .writable = CHOICE_NONE,  \
		.entrypoint = CHOICE_NONE, .entrypoint_log = CHOICE_NONE,                       \
	}

struct options options = NO_OPTIONS;

static int check_argument(const char *option, const char *argument)
{
	if (argument == NULL || argument[0] == '\0')
		return message_error("--%s: argument required", option);
	return 0;
}

/* Slurm calls back twice with the same value in slurmstepd; another value is the user's mistake. */
static int set_text(char **text, const char *option, const char *argument)
{
	if (check_argument(option, argument) < 0)
		return -1;
	if (*text != NULL) {
		if (strcmp(*text, argument) == 0)
			return 0;
		return message_error("--%s specified multiple times", option);
	}
	*text = strdup(argument);
	if (*text == NULL)
		return message_error("--%s: %s", option, strerror(errno));
	return 0;
}

static int set_choice(enum choice *choice, int value, const char *yes, const char *no)
{
	if (*choice != CHOICE_NONE && *choice != (enum choice)value)
		return message_error("both --%s and --%s were specified", yes, no);
	*choice = (enum choice)value;
	return 0;
}

static int on_image(int value, const char *argument, int remote)
{
	(void)value;
	(void)remote;
	return set_text(&options.image, "container-image", argument);
}

static int on_workdir(int value, const char *argument, int remote)
{
	(void)value;
	(void)remote;
	return set_text(&options.workdir, "container-workdir", argument);
}

/* What mounts images on the nodes; whether one can is theirs to say. */
static int on_backend(int value, const char *argument, int remote)
{
	static const char *const backends[] = { "auto", "squashfuse", "unpack" };

	(void)value;
	(void)remote;
	if (check_argument("container-backend", argument) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(backends) / sizeof(backends[0]); i++)
		if (strcmp(argument, backends[i]) == 0)
			return set_text(&options.backend, "container-backend", argument);
	return message_error("--container-backend: unknown backend %s; there are auto, squashfuse and unpack", argument);
}

static int on_mounts(int value, const char *argument, int remote)
{
	(void)value;
	(void)remote;
	if (check_argument("container-mounts", argument) < 0)
		return -1;
	mounts_uses++;
	return mounts_add(&options.mounts, argument);
}

static int on_environment(int value, const char *argument, int remote)
{
	const char *name = argument;

	(void)value;
	(void)remote;
	if (check_argument("container-env", argument) < 0)
		return -1;
	environment_uses++;
	for (;;) {
		size_t length = strcspn(name, ",");

		if (length == 0)
			return message_error("--container-env: invalid format: %s", argument);
		if (list_add(&options.environment, name, length) < 0)
			return message_error("--container-env: %s", strerror(errno));
		if (name[length] == '\0')
			return 0;
		name += length + 1;
	}
}

static int add_namespace(const char *name, size_t length)
{
	static const char *const known[] = { "net", "ipc", "uts" };

	if (length == 0)
		return message_error("--container-unshare: empty namespace argument");
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i]) == length && strncmp(known[i], name, length) == 0)
			return list_add(&options.unshare, name, length) == 0 ?
				       0 :
				       message_error("--container-unshare: %s", strerror(errno));
	return message_error("--container-unshare: unknown namespace '%.*s'; there are net, ipc and uts",
			     length > 64 ? 64 : (int)length, name);
}

static int on_unshare(int value, const char *argument, int remote)
{
	const char *name = argument;

	(void)value;
	(void)remote;
	if (check_argument("container-unshare", argument) < 0)
		return -1;
	unshare_uses++;
	for (;;) {
		size_t length = strcspn(name, ",");

		if (add_namespace(name, length) < 0)
			return -1;
		if (name[length] == '\0')
			return 0;
		name += length + 1;
	}
}

static int on_remap_root(int value, const char *argument, int remote)
{
	(void)argument;
	(void)remote;
	return set_choice(&options.remap_root, value, "container-remap-root", "no-container-remap-root");
}

static int on_mount_home(int value, const char *argument, int remote)
{
	(void)argument;
	(void)remote;
	return set_choice(&options.mount_home, value, "container-mount-home", "no-container-mount-home");
}

static int on_writable(int value, const char *argument, int remote)
{
	(void)argument;
	(void)remote;
	return set_choice(&options.writable, value, "container-writable", "container-readonly");
}

static int on_entrypoint(int value, const char *argument, int remote)
{
	(void)argument;
	(void)remote;
	return set_choice(&options.entrypoint, value, "container-entrypoint", "no-container-entrypoint");
}

static int on_entrypoint_log(int value, const char *argument, int remote)
{
	(void)argument;
	(void)remote;
	options.entrypoint_log = (enum choice)value;
	return 0;
}

/* In the order and, where they are true, the words that users know from pyxis. */
static struct spank_option table[] = {
	{ "container-image", "[USER@][REGISTRY#]IMAGE[:TAG]|PATH",
	  "[pinnace] the image to use for the container filesystem. Can be either an image of a registry, "
	  "or a path to a squashfs file on the remote host filesystem.",
	  1, 0, on_image },
	{ "container-mounts", "SRC:DST[:FLAGS][,SRC:DST...]",
	  "[pinnace] bind mount[s] inside the container. "
	  "Mount flags are separated with \"+\", e.g. \"ro+rprivate\"",
	  1, 0, on_mounts },
	{ "container-workdir", "PATH", "[pinnace] working directory inside the container", 1, 0, on_workdir },
	{ "container-mount-home", NULL,
	  "[pinnace] bind mount the user's home directory. "
	  "System-level settings might cause this directory to be already-mounted.",
	  0, CHOICE_YES, on_mount_home },
	{ "no-container-mount-home", NULL, "[pinnace] do not bind mount the user's home directory", 0, CHOICE_NO,
	  on_mount_home },
	{ "container-remap-root", NULL,
	  "[pinnace] ask to be remapped to root inside the container. "
	  "Does not grant elevated system permissions, despite appearances.",
	  0, CHOICE_YES, on_remap_root },
	{ "no-container-remap-root", NULL, "[pinnace] do not remap to root inside the container", 0, CHOICE_NO,
	  on_remap_root },
	{ "container-entrypoint", NULL, "[pinnace] execute the entrypoint from the container image", 0,
	  CHOICE_YES, on_entrypoint },
	{ "no-container-entrypoint", NULL,
	  "[pinnace] do not execute the entrypoint from the container image", 0, CHOICE_NO, on_entrypoint },
	{ "container-entrypoint-log", NULL, "[pinnace] print the output of the entrypoint script", 0,
	  CHOICE_YES, on_entrypoint_log },
	{ "container-writable", NULL, "[pinnace] make the container filesystem writable", 0, CHOICE_YES,
	  on_writable },
	{ "container-readonly", NULL, "[pinnace] make the container filesystem read-only", 0, CHOICE_NO,
	  on_writable },
	{ "container-env", "NAME[,NAME...]",
	  "[pinnace] names of environment variables to override with the host environment and set at the entrypoint. "
	  "By default, all exported host environment variables are set in the container after the entrypoint is run, "
	  "but their existing values in the image take precedence; "
	  "the variables specified with this flag are preserved from the host and set before the entrypoint runs",
	  1, 0, on_environment },
	{ "container-unshare", "NS[,NS...]",
	  "[pinnace] create new namespaces for the container. Supported: net, ipc, uts.", 1, 0, on_unshare },
	{ "container-backend", "NAME",
	  "[pinnace] what mounts the image on the nodes: squashfuse, unpack or auto, the first that can", 1, 0,
	  on_backend },
	SPANK_OPTIONS_TABLE_END
};

/*
 * A spank_options[] symbol would declare them for srun alone; registering does it for sbatch and
 * salloc too, and both together would make srun complain that they are there twice.
 */
int options_register(spank_t spank)
{
	for (size_t i = 0; table[i].name != NULL; i++) {
		spank_err_t result = spank_option_register(spank, &table[i]);

		if (result != ESPANK_SUCCESS)
			return message_error("cannot register --%s: %s", table[i].name,
					     spank_strerror(result));
	}
	return 0;
}

static int complete(struct list *list, unsigned int uses, const char *name, const char *carried,
		    bool publish)
{
	if (uses == 0)
		return 0;
	if (carry_in(list, carried) < 0 ||
	    (publish && (uses > 1 || carried != NULL) && carry_out(list, name) < 0))
		return message_error("%s: %s", name, strerror(errno));
	return 0;
}

int options_complete(options_lookup *lookup, void *context, bool publish)
{
	if (complete(&options.mounts, mounts_uses, CARRY_MOUNTS, lookup(context, CARRY_MOUNTS), publish) < 0)
		return -1;
	if (complete(&options.environment, environment_uses, CARRY_ENVIRONMENT,
		     lookup(context, CARRY_ENVIRONMENT), publish) < 0)
		return -1;
	return complete(&options.unshare, unshare_uses, CARRY_UNSHARE, lookup(context, CARRY_UNSHARE), publish);
}

enum choice options_parse_choice(const char *text)
{
	static const char *const yes[] = { "1", "true", "yes", "y" };
	static const char *const no[] = { "0", "false", "no", "n" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcmp(text, yes[i]) == 0)
			return CHOICE_YES;
		if (strcmp(text, no[i]) == 0)
			return CHOICE_NO;
	}
	return CHOICE_NONE;
}

static const char *find_variable(options_lookup *lookup, void *context, const char *suffix)
{
	static const char *const prefixes[] = { "PINNACE_CONTAINER_", "PYXIS_CONTAINER_" };
	const char *value = NULL;
	char name[64];

	/* An empty variable is as none: scripts empty what they cannot unset. */
	for (size_t i = 0; (value == NULL || value[0] == '\0') && i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		(void)snprintf(name, sizeof(name), "%s%s", prefixes[i], suffix);
		value = lookup(context, name);
	}
	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Other words than truth words are ignored, as users of pyxis know it. */
static void choice_from_environment(options_lookup *lookup, void *context, const char *suffix,
				    enum choice *choice, bool inverted)
{
	const char *value = *choice == CHOICE_NONE ? find_variable(lookup, context, suffix) : NULL;

	if (value == NULL)
		return;
	*choice = options_parse_choice(value);
	if (inverted && *choice != CHOICE_NONE)
		*choice = *choice == CHOICE_YES ? CHOICE_NO : CHOICE_YES;
}

int options_from_environment(options_lookup *lookup, void *context)
{
	const struct {
		const char *suffix;
		bool given;
		spank_opt_cb_f take;
	} texts[] = {
		{ "IMAGE", options.image != NULL, on_image },
		{ "MOUNTS", options.mounts.count > 0, on_mounts },
		{ "WORKDIR", options.workdir != NULL, on_workdir },
		{ "BACKEND", options.backend != NULL, on_backend },
		{ "ENV", options.environment.count > 0, on_environment },
		{ "UNSHARE", options.unshare.count > 0, on_unshare },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *value =
			texts[i].given ? NULL : find_variable(lookup, context, texts[i].suffix);

		if (value != NULL && texts[i].take(0, value, 0) < 0)
			return -1;
	}
	choice_from_environment(lookup, context, "MOUNT_HOME", &options.mount_home, false);
	choice_from_environment(lookup, context, "REMAP_ROOT", &options.remap_root, false);
	choice_from_environment(lookup, context, "ENTRYPOINT", &options.entrypoint, false);
	choice_from_environment(lookup, context, "ENTRYPOINT_LOG", &options.entrypoint_log, false);
	choice_from_environment(lookup, context, "WRITABLE", &options.writable, false);
	choice_from_environment(lookup, context, "READONLY", &options.writable, true);
	return 0;
}

void options_report_ignored(void)
{
	const struct {
		const char *name;
		bool given;
	} given[] = {
		{ "container-mounts", options.mounts.count > 0 },
		{ "container-workdir", options.workdir != NULL },
		{ "container-backend", options.backend != NULL },
		{ "[no-]container-mount-home", options.mount_home != CHOICE_NONE },
		{ "[no-]container-remap-root", options.remap_root != CHOICE_NONE },
		{ "[no-]container-entrypoint", options.entrypoint != CHOICE_NONE },
		{ "container-entrypoint-log", options.entrypoint_log == CHOICE_YES },
		{ "container-readonly", options.writable == CHOICE_NO },
		{ "container-writable", options.writable == CHOICE_YES },
	};

	for (size_t i = 0; i < sizeof(given) / sizeof(given[0]); i++)
		if (options.image == NULL && given[i].given)
			(void)message_error("ignoring --%s because neither --container-image nor "
					    "--container-name is set", given[i].name);
}

void options_free(void)
{
	free(options.image);
	free(options.workdir);
	free(options.backend);
	list_free(&options.mounts);
	list_free(&options.environment);
	list_free(&options.unshare);
	mounts_uses = environment_uses = unshare_uses = 0;
	options = (struct options)NO_OPTIONS;
}
