#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"
#include "cleanup.h"
#include "entrypoint.h"
#include "executor.h"
#include "task.h"

static int explain_command(const char *program, int code, struct error *err)
{
	const char *path = getenv("PATH");

	if (code == ENOENT) {
		err->status = 127;
		if (strchr(program, '/') != NULL && access(program, F_OK) == 0) {
			error_set(err, 0, "cannot execute %s: the interpreter or loader it names is not in the image", program);
			return error_hint(err, "use a program built for this image");
		}
		if (strchr(program, '/') != NULL)
			error_set(err, 0, "command not found in the image: %s", program);
		else
			error_set(err, 0, "command not found in the image: %s (PATH is %.300s)", program,
				  path == NULL ? "not set" : path);
		return error_hint(err, "check its name, or give its full path inside the image");
	}
	err->status = 126;
	error_set(err, code, "cannot execute %s in the container", program);
	if (code == EACCES)
		return error_hint(err, "a file with execute permission is expected (chmod +x)");
	if (code == ENOEXEC)
		return error_hint(err, "it is no program for this machine's architecture");
	return -1;
}

/*
 * The shell that executes a script of the image, NULL if either is missing. enroot quotes in bash's way, which
 * other shells read wrong in rare cases.
 */
static const char *shell_for(const char *script)
{
	static const char *const shells[] = { "/bin/bash", "/bin/sh" };
	struct stat status;

	if (stat(script, &status) < 0 || !S_ISREG(status.st_mode) || access(script, R_OK) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++)
		if (access(shells[i], X_OK) == 0)
			return shells[i];
	return NULL;
}

/* Become the shell that executes a script of the image, if both are there. */
int do_script(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **arguments = command_line(operation, 1, err);

	if (arguments == NULL)
		return -1;
	arguments[0] = (char *)shell_for(arguments[1]);
	if (arguments[0] == NULL)
		return 0;
	(void)umask(executor->umask);
	timings_print(&executor->timings);
	execv(arguments[0], arguments);
	return explain_command(arguments[0], errno, err);
}

static int run_entrypoint(struct executor *executor, char *const *words, const char *log, struct error *err)
{
	const struct entrypoint entrypoint = {
		.words = words,
		.plan = executor->plan,
		.umask = executor->umask,
		.log = strcmp(log, "log") == 0,
	};
	int plan;

	/* Under remap-root it has the executor's rights: what this process holds is not for it. */
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_set(err, errno, "cannot protect the executor from the entry point");
	plan = entrypoint_run(&entrypoint, err);
	if (plan < 0)
		return -1;
	(void)close(executor->plan);
	executor->plan = plan;
	return 0;
}

int do_entrypoint(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **arguments = command_line(operation, 0, err);

	if (arguments == NULL)
		return -1;
	if (arguments[1] == NULL)
		return error_set(err, 0, "the plan's %s is malformed", operation->key);
	return run_entrypoint(executor, arguments + 1, arguments[0], err);
}

/* An image whose script or shell is missing has no entry point. */
int do_entrypoint_script(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *log, *script;
	char *words[3] = { NULL };

	if (take_two(operation, &log, &script, err) < 0)
		return -1;
	words[0] = (char *)shell_for(script);
	words[1] = (char *)script;
	return words[0] == NULL ? 0 : run_entrypoint(executor, words, log, err);
}

int do_command(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **arguments = command_line(operation, 0, err);

	if (arguments == NULL)
		return -1;
	if (arguments[0][0] == '\0')
		return explain_command("''", ENOENT, err);
	(void)umask(executor->umask);
	timings_print(&executor->timings);
	execvp(arguments[0], arguments);
	return explain_command(arguments[0], errno, err);
}

int do_hooks_begin(struct executor *executor, const struct field *operation, struct error *err)
{
	return hooks_begin(&executor->hooks, executor->host, executor->root, executor->plan, operation, err);
}

int do_hook(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *program;

	return take_one(operation, &program, err) < 0 ? -1 : hooks_run(&executor->hooks, program, err);
}

/* Each operation of those kinds that hooks may ask for. */
static int carry_out_results(struct executor *executor, bool variables, struct error *err)
{
	struct fields results = executor->hooks.results;
	struct field operation;
	int more = 0, result = 0;

	while (result >= 0 && results.size > 0 && (more = fields_next(&results, &operation, err)) > 0)
		if (field_is(&operation, "environment"))
			result = variables ? task_operation(&operation, &task_own_environment, err) : 0;
		else if (variables)
			continue;
		else if (field_is(&operation, "bind"))
			result = do_bind(executor, &operation, err);
		else if (field_is(&operation, "tmpfs"))
			result = do_tmpfs(executor, &operation, err);
		else if (field_is(&operation, "remount"))
			result = do_remount(executor, &operation, err);
		else if (field_is(&operation, "unmount"))
			result = do_unmount(executor, &operation, err);
		else
			result = error_set(err, 0, "hooks cannot ask for %s", operation.key);
	return more < 0 || result < 0 ? -1 : 0;
}

int do_hooks_end(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **words = command_line(operation, 0, err);
	int plan;

	if (words == NULL || hooks_end(&executor->hooks, executor->root, words, err) < 0)
		return -1;
	plan = hooks_plan(&executor->hooks, executor->plan, err);
	if (plan < 0)
		return -1;
	executor->plan = plan;
	return carry_out_results(executor, false, err);
}

int do_hook_variables(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	return carry_out_results(executor, true, err);
}
