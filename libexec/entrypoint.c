#define _GNU_SOURCE
#include "entrypoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "fields.h"
#include "syscalls.h"
#include "task.h"

/* More than execve(2) passes on with an ordinary limit of the stack, and half of what a plan may take. */
enum { ANSWER_MAX = 4 << 20, ANSWER_FD = 3, FIRST_FREE_FD = 4 };

static const char SHELL[] = "/bin/sh";

/*
 * The variables are those that the shell was given, so they are read from /proc, not asked of it. What follows
 * `cat` keeps the shell from becoming it.
 */
static const char TELL[] = "exec >&3; printf '%s\\0' \"$PWD\" && cat \"/proc/$$/environ\"; exit $?";

/* Variables that shells keep for themselves. */
static const char *const shells_own[] = { "_", "SHLVL", "PWD", "OLDPWD", NULL };

/* What is read of the entry point: a directory, then variables, each terminated. */
struct answer {
	char *text;
	size_t length;
};

static int ignore(void *context, const char *name, const char *value, bool keep)
{
	(void)context, (void)name, (void)value, (void)keep;
	return 0;
}

/* The rights, the filter and the directory of a task. The variables are this process's already. */
static int become_task(int plan_fd, struct error *err)
{
	const struct task_environment environment = { .change = ignore };
	struct fields plan;

	if (fields_map(plan_fd, &plan, err) < 0 || task_seek(&plan, err) < 0)
		return -1;
	return task_apply(&plan, &environment, err);
}

static int place_descriptors(int answer, int log, struct error *err)
{
	cleanup_close int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0 || dup2(answer, ANSWER_FD) < 0)
		return error_set(err, errno, "cannot give the entry point its descriptors");
	return 0;
}

/* The child: it ends with the container that is being made for it, and has no descriptor of the executor's. */
__attribute__((noreturn)) static void execute(const struct entrypoint *entrypoint, char *const *words, int answer,
					      int log)
{
	struct error err = { 0 };

	if (place_descriptors(answer, log, &err) == 0 && become_task(entrypoint->plan, &err) == 0) {
		(void)umask(entrypoint->umask);
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && sys_close_range(FIRST_FREE_FD) == 0)
			(void)execvp(words[0], words);
		error_set(&err, errno, "cannot execute %s", words[0]);
	}
	error_print(&err);
	_exit(127);
}

/* The words of the entry point with those of the command behind them; the words themselves are the caller's. */
static char **with_command(char *const *words, struct error *err)
{
	char *const command[] = { (char *)SHELL, (char *)"-c", (char *)TELL, NULL };
	size_t count = 0;
	char **all;

	while (words[count] != NULL)
		count++;
	all = calloc(count + sizeof(command) / sizeof(*command), sizeof(*all));
	if (all == NULL) {
		error_set(err, errno, "cannot execute the entry point");
		return NULL;
	}
	memcpy(all, words, count * sizeof(*all));
	memcpy(all + count, command, sizeof(command));
	return all;
}

/* Read what is there: 1 if more may come, 0 at the end, -1 if it is too much. */
static int read_some(int fd, struct answer *answer)
{
	ssize_t length;

	while ((length = read(fd, answer->text + answer->length, ANSWER_MAX - answer->length)) > 0)
		answer->length += (size_t)length;
	if (answer->length == ANSWER_MAX)
		return -1;
	return length < 0 && (errno == EAGAIN || errno == EINTR);
}

/*
 * Read until the entry point has ended. The end of the pipe is no measure: what the entry point has left
 * running may hold it.
 */
static int read_answer(int fd, pid_t child, struct answer *answer, struct error *err)
{
	cleanup_close int process = sys_pidfd_open(child);
	struct pollfd ends[] = { { .fd = process, .events = POLLIN }, { .fd = fd, .events = POLLIN } };
	int more = 1;

	if (process < 0)
		return error_set(err, errno, "cannot watch the entry point");
	while (ends[0].revents == 0) {
		if (poll(ends, 2, -1) < 0 && errno != EINTR)
			return error_set(err, errno, "cannot wait for the entry point");
		if (more > 0)
			more = read_some(fd, answer);
		if (more < 0)
			return error_set(err, 0, "the variables that the image's entry point leaves take more than %d bytes",
					 ANSWER_MAX);
		if (more == 0)
			ends[1].fd = -1;
	}
	return 0;
}

static int unusual(struct error *err)
{
	return error_hint(err, "if the image has an unusual entrypoint, try using --no-container-entrypoint");
}

static int wait_for(pid_t child, struct error *err)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return error_set(err, errno, "cannot wait for the entry point");
	if (WIFSIGNALED(status))
		error_set(err, 0, "the image's entry point was killed by signal %d (%s)", WTERMSIG(status),
			  strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		error_set(err, 0, "the image's entry point failed with exit status %d", WEXITSTATUS(status));
	else
		return 0;
	return unusual(err);
}

static int converse(const struct entrypoint *entrypoint, int log, struct answer *answer, struct error *err)
{
	cleanup_free char **words = with_command(entrypoint->words, err);
	cleanup_close int end = -1;
	int ends[2], result;
	pid_t child;

	if (words == NULL)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, errno, "cannot hear the entry point");
	end = ends[0];
	child = fork();
	if (child == 0)
		execute(entrypoint, words, ends[1], log);
	(void)close(ends[1]);
	if (child < 0)
		return error_set(err, errno, "cannot start the entry point");
	if (fcntl(end, F_SETFL, O_NONBLOCK) < 0)
		result = error_set(err, errno, "cannot hear the entry point");
	else
		result = read_answer(end, child, answer, err);
	if (result < 0) {
		(void)kill(child, SIGKILL);
		(void)waitpid(child, NULL, 0);
		return -1;
	}
	if (wait_for(child, err) < 0)
		return -1;
	if (answer->length == 0 || answer->text[0] != '/' || answer->text[answer->length - 1] != '\0') {
		error_set(err, 0, "the image's entry point has not executed the command that it was given, %s", SHELL);
		return unusual(err);
	}
	return 0;
}

/* Each line as one of Pinnace's, so that a log cannot pass for anything else. */
static void print_log(int log)
{
	struct error line = { 0 };
	FILE *file;

	if (lseek(log, 0, SEEK_SET) < 0)
		return;
	file = fdopen(log, "r");
	if (file == NULL)
		return;
	while (fgets(line.text, sizeof(line.text), file) != NULL) {
		line.text[strcspn(line.text, "\n")] = '\0';
		error_note(&line, "entrypoint");
	}
	(void)fclose(file);
}

static bool is_shells_own(const char *variable, size_t length)
{
	for (size_t i = 0; shells_own[i] != NULL; i++)
		if (strlen(shells_own[i]) == length && strncmp(shells_own[i], variable, length) == 0)
			return true;
	return false;
}

static int write_variables(int fd, const char *at, const char *end, struct error *err)
{
	for (; at < end; at += strlen(at) + 1) {
		size_t name = strcspn(at, "=");

		if (at[name] == '=' && name > 0 && !is_shells_own(at, name) &&
		    fields_write(fd, "environment", at, strlen(at), err) < 0)
			return -1;
	}
	return 0;
}

static int write_directory(int fd, const char *directory, struct error *err)
{
	cleanup_free char *value = NULL;
	int length = asprintf(&value, "%s%cimage%c", directory, '\0', '\0');

	if (length < 0) {
		value = NULL;
		return error_set(err, ENOMEM, "cannot pass the entry point's directory on");
	}
	return fields_write(fd, "working-directory", value, (size_t)length, err);
}

/* The directory that the user has asked for. */
static bool is_users_directory(const struct field *operation)
{
	size_t position = 0;
	const char *origin;

	if (!field_is(operation, "working-directory") || field_argument(operation, &position) == NULL)
		return false;
	origin = field_argument(operation, &position);
	return origin != NULL && strcmp(origin, "user") == 0;
}

/* What says the same as the answer does, for an image whose entry point was not executed. */
static bool is_replaced(const struct field *operation)
{
	return field_is(operation, "environment") || field_is(operation, "environment-file") ||
	       field_is(operation, "default") || field_is(operation, "working-directory-file") ||
	       (field_is(operation, "working-directory") && !is_users_directory(operation));
}

static int write_operations(int fd, struct fields *plan, const struct answer *answer, struct error *err)
{
	const char *variables = answer->text + strlen(answer->text) + 1;
	struct field operation;
	bool users_directory = false;
	int more;

	if (task_seek(plan, err) < 0 || fields_write(fd, "hand-over", "", 0, err) < 0)
		return -1;
	while ((more = fields_next(plan, &operation, err)) > 0) {
		users_directory |= is_users_directory(&operation);
		if (!is_replaced(&operation) &&
		    fields_write(fd, operation.key, operation.value, operation.length, err) < 0)
			return -1;
	}
	if (more < 0 || write_variables(fd, variables, answer->text + answer->length, err) < 0)
		return -1;
	return users_directory ? 0 : write_directory(fd, answer->text, err);
}

static int write_plan(int plan_fd, const struct answer *answer, struct error *err)
{
	cleanup_close int fd = memfd_create("pinnace-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct fields plan;
	int result;

	if (fd < 0)
		return error_set(err, errno, "cannot make room for what the entry point leaves");
	if (fields_map(plan_fd, &plan, err) < 0)
		return -1;
	result = write_operations(fd, &plan, answer, err);
	fields_unmap(&plan);
	if (result < 0)
		return -1;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno, "cannot seal the plan");
	return steal_fd(&fd);
}

int entrypoint_run(const struct entrypoint *entrypoint, struct error *err)
{
	int log = memfd_create("pinnace-entrypoint", MFD_CLOEXEC); /* closed with the stream that prints it */
	struct answer answer = { .text = malloc(ANSWER_MAX) };
	cleanup_free char *text = answer.text;
	int result;

	if (log < 0 || text == NULL)
		return error_set(err, errno, "cannot make room for what the entry point says");
	result = converse(entrypoint, log, &answer, err);
	if (result < 0 || entrypoint->log)
		print_log(log);
	else
		(void)close(log);
	return result < 0 ? -1 : write_plan(entrypoint->plan, &answer, err);
}
