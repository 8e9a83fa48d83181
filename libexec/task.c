#define _GNU_SOURCE
#include "task.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "rc.h"

enum { IMAGE_FILE_MAX = 1 << 20 };

/* Variables that enroot keeps for itself. */
static const char RESERVED[] = "ENROOT_";

static int own_change(void *context, const char *name, const char *value, bool keep)
{
	(void)context;
	return value == NULL ? unsetenv(name) : setenv(name, value, !keep);
}

static int own_clear(void *context)
{
	(void)context;
	return clearenv();
}

const struct task_environment task_own_environment = { .change = own_change, .clear = own_clear };

/* The value of an operation that takes one argument without a terminating NUL, as a string. */
static char *text_of(const struct field *operation, struct error *err)
{
	char *text;

	if (memchr(operation->value, '\0', operation->length) != NULL) {
		error_set(err, 0, "the plan's %s holds a NUL byte", operation->key);
		return NULL;
	}
	text = strndup(operation->value, operation->length);
	if (text == NULL)
		error_set(err, errno, "cannot read the plan's %s", operation->key);
	return text;
}

static int change(const struct task_environment *environment, const char *name, const char *value,
		  bool keep, struct error *err)
{
	if (environment->change(environment->context, name, value, keep) < 0)
		return error_set(err, errno, "cannot change the variable %s", name);
	return 0;
}

/* Set the variable of a NAME=value text, which is modified. */
static int assign(char *text, bool keep, const struct task_environment *environment, struct error *err)
{
	char *equals = strchr(text, '=');

	if (equals == NULL || equals == text)
		return error_set(err, 0, "`%.60s` is no variable: NAME=value is expected", text);
	*equals = '\0';
	return change(environment, text, equals + 1, keep, err);
}

static int set_variable(const struct field *operation, bool keep,
			const struct task_environment *environment, struct error *err)
{
	cleanup_free char *text = text_of(operation, err);

	return text == NULL ? -1 : assign(text, keep, environment, err);
}

static int unset_variable(const struct field *operation, const struct task_environment *environment,
			  struct error *err)
{
	cleanup_free char *name = text_of(operation, err);

	return name == NULL ? -1 : change(environment, name, NULL, false, err);
}

static int clear_variables(const struct task_environment *environment, struct error *err)
{
	if (environment->clear == NULL || environment->clear(environment->context) < 0)
		return error_set(err, 0, "the environment cannot be cleared here");
	return 0;
}

static bool is_name(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		char c = text[i];
		bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';

		if (!letter && !(i > 0 && c >= '0' && c <= '9'))
			return false;
	}
	return length > 0;
}

/* One line of an environment file; what is no assignment is passed over, as pam_env(8) does. */
static int assign_line(char *line, const struct task_environment *environment, struct error *err)
{
	char *equals;
	char *value;
	size_t length;

	line += strspn(line, " \t");
	equals = strchr(line, '=');
	if (equals == NULL || !is_name(line, (size_t)(equals - line)) ||
	    strncmp(line, RESERVED, sizeof(RESERVED) - 1) == 0)
		return 0;
	value = equals + 1;
	length = strlen(value);
	if (length >= 2 && (*value == '"' || *value == '\'') && value[length - 1] == *value) {
		value[length - 1] = '\0';
		value++;
	}
	*equals = '\0';
	return change(environment, line, value, false, err);
}

/* Read a small file of the container, as a string: 1, or 0 if it is missing or no plain file. */
static int read_image_file(const char *path, char **content, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	ssize_t length;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return 0;
	if (status.st_size > IMAGE_FILE_MAX)
		return error_set(err, 0, "%s of the image is larger than %d bytes", path, IMAGE_FILE_MAX);
	*content = malloc((size_t)status.st_size + 1);
	if (*content == NULL)
		return error_set(err, errno, "cannot read %s of the image", path);
	length = read(fd, *content, (size_t)status.st_size);
	if (length < 0)
		return error_set(err, errno, "cannot read %s of the image", path);
	(*content)[length] = '\0';
	return 1;
}

/* Read the variables of a file of the container; a file that is missing has none. */
static int read_environment_file(const struct field *operation, const struct task_environment *environment,
				 struct error *err)
{
	cleanup_free char *path = text_of(operation, err);
	cleanup_free char *content = NULL;
	char *rest, *line;
	int found;

	if (path == NULL)
		return -1;
	found = read_image_file(path, &content, err);
	if (found <= 0)
		return found;
	rest = content;
	while ((line = strsep(&rest, "\n")) != NULL)
		if (assign_line(line, environment, err) < 0)
			return -1;
	return 0;
}

/* Be in the directory that an image names, if that is possible. */
static int change_to_image_directory(const char *path, struct error *err)
{
	if (chdir(path) == 0)
		return 0;
	/* Docker creates the directory that an image names; in a read-only container "/" must do. */
	if (errno == ENOENT && (mkdir(path, 0755) == 0 || errno == EEXIST) && chdir(path) == 0)
		return 0;
	return chdir("/") == 0 ? 0 : error_set(err, errno, "couldn't chdir to /");
}

static int change_directory(const struct field *operation, struct error *err)
{
	size_t position = 0;
	const char *path = field_argument(operation, &position);
	const char *origin = field_argument(operation, &position);

	if (path == NULL || origin == NULL)
		return error_set(err, 0, "the plan's working-directory lacks an argument");
	if (strcmp(origin, "user") != 0)
		return change_to_image_directory(path, err);
	if (chdir(path) == 0)
		return 0;
	error_set(err, errno, "couldn't chdir to %s: the container's working directory", path);
	return error_hint(err, "choose a directory of the image, or mount one there");
}

/* Be where the image's own /etc/rc would go. */
static int change_directory_as_script(const struct field *operation, struct error *err)
{
	cleanup_free char *path = text_of(operation, err);
	cleanup_free char *script = NULL;
	const char *directory = NULL;

	if (path == NULL)
		return -1;
	if (read_image_file(path, &script, err) < 0)
		return -1;
	if (script != NULL)
		directory = rc_directory(script);
	return change_to_image_directory(directory != NULL ? directory : "/", err);
}

static int drop_capabilities(struct error *err)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return error_set(err, errno, "cannot drop capability %lu", capability);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return error_set(err, errno, "cannot clear the ambient capabilities");
	if (syscall(SYS_capset, &header, data) < 0)
		return error_set(err, errno, "cannot drop the capabilities");
	return 0;
}

static int no_new_privileges(struct error *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_set(err, errno, "cannot give up gaining privileges");
	return 0;
}

static int load_filter(const struct field *operation, struct error *err)
{
	/* The value lies unaligned in the message. */
	cleanup_free struct sock_filter *filter = malloc(operation->length + 1);
	struct sock_fprog program = {
		.len = (unsigned short)(operation->length / sizeof(*filter)),
		.filter = filter,
	};

	if (filter == NULL)
		return error_set(err, errno, "cannot load the seccomp filter");
	if (operation->length % sizeof(*filter) != 0 || operation->length > BPF_MAXINSNS * sizeof(*filter))
		return error_set(err, 0, "the plan's seccomp filter has a wrong size");
	memcpy(filter, operation->value, operation->length);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		return error_set(err, errno, "cannot load the seccomp filter");
	return 0;
}

int task_operation(const struct field *operation, const struct task_environment *environment,
		   struct error *err)
{
	int result;

	if (field_is(operation, "environment"))
		result = set_variable(operation, false, environment, err);
	else if (field_is(operation, "default"))
		result = set_variable(operation, true, environment, err);
	else if (field_is(operation, "unset"))
		result = unset_variable(operation, environment, err);
	else if (field_is(operation, "clear-environment"))
		result = clear_variables(environment, err);
	else if (field_is(operation, "environment-file"))
		result = read_environment_file(operation, environment, err);
	else if (field_is(operation, "working-directory"))
		result = change_directory(operation, err);
	else if (field_is(operation, "working-directory-file"))
		result = change_directory_as_script(operation, err);
	else if (field_is(operation, "drop-capabilities"))
		result = drop_capabilities(err);
	else if (field_is(operation, "no-new-privileges"))
		result = no_new_privileges(err);
	else if (field_is(operation, "seccomp"))
		result = load_filter(operation, err);
	else
		return 0;
	return result < 0 ? -1 : 1;
}

int task_seek(struct fields *plan, struct error *err)
{
	struct field operation;
	int more;

	while ((more = fields_next(plan, &operation, err)) > 0)
		if (field_is(&operation, "hand-over"))
			return 0;
	return more < 0 ? -1 : error_set(err, 0, "the plan hands nothing over");
}

int task_apply(struct fields *plan, const struct task_environment *environment, struct error *err)
{
	struct field operation;
	int more, done;

	while ((more = fields_next(plan, &operation, err)) > 0) {
		done = task_operation(&operation, environment, err);
		if (done == 0)
			error_set(err, 0, "the plan's %s is not for a task", operation.key);
		if (done <= 0)
			return -1;
	}
	return more;
}
