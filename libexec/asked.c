#define _GNU_SOURCE
#include "asked.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cleanup.h"

#ifndef PINNACE_VERSION
#error "PINNACE_VERSION is that of the Python package: see the Makefile"
#endif

static const char BOOT_ID[] = "/proc/sys/kernel/random/boot_id";

/* Lengths, how many variables of a job are looked at, and the descriptor of a request. */
enum { NUMBER_LENGTH = 19, CLUSTER_LENGTH = 64, TAKEN_MAX = 256, REQUEST = 0 };

/* A step number of Slurm's: the batch script, which starts once. */
static const char BATCH[] = "4294967291";

/* Options of `pinnace run`, as far as plans are kept for them; short ones stand for themselves. */
static const char *const with_value[] = { "env", "mount", "workdir", "platform", "pull", "backend", "upper", NULL };
static const char *const without_value[] = { "root", "no-root", "rw", "ro", "home", "no-home", "timings", NULL };
static const char SHORT_WITH_VALUE[] = "emw", SHORT_WITHOUT_VALUE[] = "r";

static const char *const variable_options[] = { "-e", "--env", NULL };
static const char *const timings_option[] = { "--timings", NULL };
/* What the settings take for true. */
static const char *const yes[] = { "1", "true", "yes", "y", NULL };

/*
 * Variables of a job that the launcher takes as its own (see pinnace.slurm.step), as far as a plan can
 * depend on them, and that which names a job's lease.
 */
static const char *const taken[] = { "PINNACE_", "XDG_", "SLURM_CLUSTER_NAME=", NULL };

static bool contains(const char *const *names, const char *name, size_t length)
{
	for (; *names != NULL; names++)
		if (strlen(*names) == length && strncmp(*names, name, length) == 0)
			return true;
	return false;
}

static int no_plan(struct error *err, const char *reason)
{
	return error_set(err, 0, "%s", reason);
}

static int add_host(struct asked *asked, struct error *err)
{
	const ssize_t length = sizeof(asked->boot) - 1;
	cleanup_close int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
	struct utsname names;

	if (fd < 0 || read(fd, asked->boot, (size_t)length) != length || uname(&names) < 0)
		return error_set(err, errno, "cannot tell which boot this is");
	buffer_begin(&asked->key, "host");
	buffer_argument(&asked->key, asked->boot);
	buffer_argument(&asked->key, names.machine);
	buffer_end(&asked->key);
	return 0;
}

static int add_user(struct buffer *key, struct error *err)
{
	gid_t groups[NGROUPS_MAX < 1024 ? NGROUPS_MAX : 1024];
	int count = getgroups((int)(sizeof(groups) / sizeof(*groups)), groups);
	char text[32]; /* two numbers of 10 digits */

	if (count < 0 || getuid() != geteuid() || getgid() != getegid())
		return no_plan(err, "the user's identity is unusual");
	buffer_begin(key, "user");
	buffer_add(key, text, (size_t)snprintf(text, sizeof(text), "%u %u", getuid(), getgid()));
	for (int i = 0; i < count; i++)
		buffer_add(key, text, (size_t)snprintf(text, sizeof(text), " %u", groups[i]));
	buffer_end(key);
	return 0;
}

static int add_origin(struct asked *asked, const char *executor, struct error *err)
{
	buffer_field(&asked->key, "pinnace", PINNACE_VERSION, strlen(PINNACE_VERSION));
	buffer_field(&asked->key, "executor", executor, strlen(executor));
	return add_host(asked, err) < 0 ? -1 : add_user(&asked->key, err);
}

static void add_option(struct asked *asked, const char *name, size_t length, const char *value)
{
	if (contains(timings_option, name, length))
		asked->timings = true;
	buffer_begin(&asked->key, "option");
	buffer_add(&asked->key, name, length);
	buffer_add(&asked->key, "", 1);
	buffer_argument(&asked->key, value);
	buffer_end(&asked->key);
}

/* Variables are no part of the key: the plan has a gap for them. */
static void add_value(struct asked *asked, const char *name, size_t length, const char *value)
{
	if (contains(variable_options, name, length))
		asked->variables[asked->variable_count++] = value;
	else
		add_option(asked, name, length, value);
}

/* An option of getopt(3)'s long form, written in full; at is that of its word and moved on to its last. */
static int read_long(struct asked *asked, char *const *argv, int *at, struct error *err)
{
	const char *word = argv[*at];
	size_t length = strcspn(word, "=");
	bool has_value = word[length] == '=';

	if (!has_value && contains(without_value, word + 2, length - 2)) {
		add_option(asked, word, length, "");
		return 0;
	}
	if (!contains(with_value, word + 2, length - 2))
		return error_set(err, 0, "%s is for Python", word);
	if (!has_value && argv[++*at] == NULL)
		return no_plan(err, "an option lacks its value");
	add_value(asked, word, length, has_value ? word + length + 1 : argv[*at]);
	return 0;
}

static int read_short(struct asked *asked, char *const *argv, int *at, struct error *err)
{
	for (const char *letter = argv[*at] + 1; *letter != '\0'; letter++) {
		char name[] = { '-', *letter };

		if (strchr(SHORT_WITHOUT_VALUE, *letter) != NULL) {
			add_option(asked, name, sizeof(name), "");
			continue;
		}
		if (strchr(SHORT_WITH_VALUE, *letter) == NULL)
			return error_set(err, 0, "-%c is for Python", *letter);
		if (letter[1] == '\0' && argv[++*at] == NULL)
			return no_plan(err, "an option lacks its value");
		add_value(asked, name, sizeof(name), letter[1] != '\0' ? letter + 1 : argv[*at]);
		break;
	}
	return 0;
}

/* Behind `pinnace run`: options, the image, perhaps `--`, the command. */
static int read_arguments(struct asked *asked, int argc, char *const *argv, struct error *err)
{
	int at;

	asked->variables = calloc((size_t)argc, sizeof(*asked->variables));
	if (asked->variables == NULL)
		return error_set(err, errno, "cannot read the options");
	buffer_field(&asked->key, "kind", "run", 3);
	for (at = 2; at < argc && argv[at][0] == '-' && argv[at][1] != '\0'; at++) {
		if (strcmp(argv[at], "--") == 0) {
			at++;
			break;
		}
		if ((argv[at][1] == '-' ? read_long : read_short)(asked, argv, &at, err) < 0)
			return -1;
	}
	if (at >= argc)
		return no_plan(err, "no image is given");
	buffer_field(&asked->key, "image", argv[at], strlen(argv[at]));
	at++;
	if (at < argc && strcmp(argv[at], "--") == 0)
		at++;
	asked->command = argv + at;
	return 0;
}

static bool is_number(const struct field *field)
{
	for (size_t i = 0; i < field->length; i++)
		if (field->value[i] < '0' || field->value[i] > '9')
			return false;
	return field->length > 0 && field->length <= NUMBER_LENGTH;
}

static bool has_text(const struct field *field, const char *text)
{
	return field->length == strlen(text) && memcmp(field->value, text, field->length) == 0;
}

static bool begins(const struct field *field, const char *text)
{
	return field->length >= strlen(text) && memcmp(field->value, text, strlen(text)) == 0;
}

/* Remember a variable of the job, should the launcher take it. */
static void take_variable(struct asked *asked, const struct field *variable)
{
	if (memchr(variable->value, '\0', variable->length) != NULL)
		return;
	for (size_t i = 0; taken[i] != NULL; i++)
		if (begins(variable, taken[i])) {
			asked->taken[asked->taken_count++] = *variable;
			return;
		}
}

/* Whether a variable of the job has this name, and its value. */
static bool is_assignment(const struct field *variable, const char *name, const char **value, size_t *length)
{
	size_t name_length = strlen(name);

	if (variable->length <= name_length || !begins(variable, name) || variable->value[name_length] != '=')
		return false;
	*value = variable->value + name_length + 1;
	*length = variable->length - name_length - 1;
	return true;
}

/* The last variable of this name in the environment of the job. */
static bool job_variable(const struct asked *asked, const char *name, const char **value, size_t *length)
{
	for (size_t i = asked->taken_count; i-- > 0;)
		if (is_assignment(&asked->taken[i], name, value, length))
			return true;
	return false;
}

/* See pinnace.store.leases.job_name: a name from a job is not believed. */
static void name_job(struct asked *asked, const struct field *job)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	static const char unknown[] = "unknown";
	const char *cluster = unknown;
	size_t length = 0;

	if (!job_variable(asked, "SLURM_CLUSTER_NAME", &cluster, &length) || length == 0 || length > CLUSTER_LENGTH)
		length = 0;
	for (size_t i = 0; i < length; i++)
		if (strchr(letters, cluster[i]) == NULL)
			length = 0;
	if (length == 0) {
		cluster = unknown;
		length = sizeof(unknown) - 1;
	}
	(void)snprintf(asked->job, sizeof(asked->job), "%.*s-%.*s", (int)job->length, job->value, (int)length, cluster);
}

/*
 * What is asked for goes into the key, in the request's words. What a step has of its own does not, see
 * pinnace.container.kept.
 */
static int read_request(struct asked *asked, struct error *err)
{
	struct field field, job = { .length = 0 };
	bool understood = false;
	int more;

	asked->step = true;
	asked->taken = calloc(TAKEN_MAX, sizeof(*asked->taken));
	if (asked->taken == NULL)
		return error_set(err, errno, "cannot read the request");
	if (fields_map(REQUEST, &asked->request, err) < 0)
		return -1;
	buffer_field(&asked->key, "kind", "step", 4);
	while ((more = fields_next(&asked->request, &field, err)) > 0) {
		if (field_is(&field, "protocol"))
			understood = has_text(&field, "1");
		else if (field_is(&field, "job-id"))
			job = field;
		else if (field_is(&field, "working-directory"))
			asked->directory = field;
		else if (field_is(&field, "step-id") && has_text(&field, BATCH))
			return no_plan(err, "a batch script starts once");
		else if (field_is(&field, "environment") && asked->taken_count < TAKEN_MAX)
			take_variable(asked, &field);
		else if (!field_is(&field, "step-id") && !field_is(&field, "node-tasks"))
			buffer_field(&asked->key, field.key, field.value, field.length);
	}
	if (more < 0)
		return -1;
	if (!understood || !is_number(&job) || asked->directory.length == 0)
		return no_plan(err, "the request is for Python");
	name_job(asked, &job);
	return 0;
}

int asked_read(int argc, char *const *argv, const char *executor, struct asked *asked, struct error *err)
{
	const char *timings;
	size_t length;
	int result;

	memset(asked, 0, sizeof(*asked));
	if (argc >= 2 && strcmp(argv[1], "run") != 0 && !(argc == 2 && strcmp(argv[1], "step") == 0))
		return no_plan(err, "another command");
	if (argc < 2)
		return no_plan(err, "no command");
	if (add_origin(asked, executor, err) < 0)
		return -1;
	if (strcmp(argv[1], "run") == 0)
		result = read_arguments(asked, argc, argv, err);
	else
		result = read_request(asked, err);
	if (asked_variable(asked, "PINNACE_TIMINGS", &timings, &length) && contains(yes, timings, length))
		asked->timings = true;
	if (result == 0 && asked->key.failed)
		return no_plan(err, "what is asked takes too many bytes");
	return result;
}

void asked_release(struct asked *asked)
{
	fields_unmap(&asked->request);
	buffer_release(&asked->key);
	free(asked->variables);
	free(asked->taken);
}

bool asked_variable(const struct asked *asked, const char *name, const char **value, size_t *length)
{
	const char *own = getenv(name);

	if (job_variable(asked, name, value, length))
		return true;
	if (own == NULL)
		return false;
	*value = own;
	*length = strlen(own);
	return true;
}

bool asked_callers_variable(const struct asked *asked, const char *name, const char **value, size_t *length)
{
	struct fields request = asked->request;
	struct error err = { .status = 0 };
	struct field field;
	bool found = false;

	if (!asked->step)
		return asked_variable(asked, name, value, length);
	request.position = 0;
	while (fields_next(&request, &field, &err) > 0)
		if (field_is(&field, "environment") && memchr(field.value, '\0', field.length) == NULL &&
		    is_assignment(&field, name, value, length))
			found = true; /* the last one counts */
	return found;
}

bool asked_directory_is(const struct asked *asked, const char *directory, size_t length)
{
	char own[PATH_MAX];

	if (asked->step)
		return asked->directory.length == length && memcmp(asked->directory.value, directory, length) == 0;
	return getcwd(own, sizeof(own)) != NULL && strlen(own) == length && memcmp(own, directory, length) == 0;
}
