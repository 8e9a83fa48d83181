#define _GNU_SOURCE
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../libexec/cleanup.h"

/* Not the job's PATH: what is found on it would run before the user has a container. */
#define LAUNCHER_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { ANSWER_FD = 3, LIFELINE_FD = 4, FIRST_FREE_FD = 5, PASSED_MAX = 16 };

/* What is left of the job's environment; the launcher reads the rest as data in the request. */
static const char *const passed[] = { "HOME=", "USER=", "LOGNAME=", "LANG=", "LC_ALL=", "LC_CTYPE=", NULL };

struct small_environment {
	char *variables[PASSED_MAX];
	char home[4096 + 8];
};

static char *find_variable(char *const *environment, const char *prefix)
{
	for (size_t i = 0; environment != NULL && environment[i] != NULL; i++)
		if (strncmp(environment[i], prefix, strlen(prefix)) == 0)
			return environment[i];
	return NULL;
}

/* A job submitted with --export=NONE may have no HOME: then the account's counts. */
static void add_account_home(struct small_environment *small, size_t *count)
{
	const struct passwd *account;

	if (find_variable(small->variables, "HOME=/") != NULL)
		return;
	account = getpwuid(getuid());
	if (account == NULL || account->pw_dir == NULL)
		return;
	if ((size_t)snprintf(small->home, sizeof(small->home), "HOME=%s", account->pw_dir) <
	    sizeof(small->home))
		small->variables[(*count)++] = small->home;
}

static void choose_environment(struct small_environment *small, char *const *environment)
{
	size_t count = 0;

	memset(small, 0, sizeof(*small));
	small->variables[count++] = (char *)LAUNCHER_PATH;
	for (size_t i = 0; passed[i] != NULL; i++) {
		char *variable = find_variable(environment, passed[i]);

		if (variable != NULL)
			small->variables[count++] = variable;
	}
	add_account_home(small, &count);
}

/* Only what is async-signal-safe may be called from here to exec: slurmstepd has threads. */

static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		(void)sigaction(number, &action, NULL); /* SIGKILL and the like refuse, rightly */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_from(unsigned int first)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, ~0U, 0) == 0)
		return;
#endif
	for (long fd = first, end = sysconf(_SC_OPEN_MAX); fd < end && fd < 1 << 20; fd++)
		(void)close((int)fd);
}

/* Put the descriptors in their places. Copies lie above them first, so that none is overwritten. */
static int place_descriptors(const struct launch *launch)
{
	int request = fcntl(launch->request, F_DUPFD, FIRST_FREE_FD);
	int answer = fcntl(launch->answer, F_DUPFD, FIRST_FREE_FD);
	int lifeline = fcntl(launch->lifeline, F_DUPFD, FIRST_FREE_FD);

	if (request < 0 || answer < 0 || lifeline < 0)
		return -1;
	if (dup2(request, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
	    dup2(answer, ANSWER_FD) < 0 || dup2(lifeline, LIFELINE_FD) < 0)
		return -1;
	close_from(FIRST_FREE_FD);
	return 0;
}

__attribute__((noreturn)) static void become_launcher(const struct launch *launch,
						      const struct small_environment *small, pid_t leader)
{
	char *const arguments[] = { (char *)launch->program, (char *)"step", NULL };
	struct error err = { 0 };

	/* A task that is killed takes the launcher along, wherever it is in a pull. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != leader)
		_exit(1);
	reset_signals();
	if (place_descriptors(launch) < 0) {
		error_set(&err, errno, "cannot pass the request on to %s", launch->program);
	} else {
		(void)execve(launch->program, arguments, small->variables);
		error_set(&err, errno, "cannot execute %s on this node", launch->program);
		error_hint(&err, "launcher= in plugstack.conf must name the pinnace command");
	}
	error_print(&err);
	_exit(1);
}

/* SIGCHLD must not be ignored while waiting, or the kernel forgets the exit status. */
static int wait_for(pid_t child, int *status)
{
	struct sigaction standard = { .sa_handler = SIG_DFL }, before;
	pid_t waited;

	if (sigaction(SIGCHLD, &standard, &before) < 0)
		return -1;
	do
		waited = waitpid(child, status, 0);
	while (waited < 0 && errno == EINTR);
	if (sigaction(SIGCHLD, &before, NULL) < 0)
		return -1;
	return waited == child ? 0 : -1;
}

int launch_run(const struct launch *launch, struct error *err)
{
	struct small_environment small;
	pid_t leader = getpid();
	pid_t child;
	int status;

	choose_environment(&small, launch->environment);
	child = fork();
	if (child < 0)
		return error_set(err, errno, "cannot start %s", launch->program);
	if (child == 0)
		become_launcher(launch, &small, leader);
	if (wait_for(child, &status) < 0)
		return error_set(err, errno, "cannot wait for %s", launch->program);
	if (WIFSIGNALED(status)) {
		error_set(err, 0, "%s step was killed by signal %d (%s) before the container was ready",
			  launch->program, WTERMSIG(status), strsignal(WTERMSIG(status)));
		err->status = 128 + WTERMSIG(status);
		return error_hint(err, WTERMSIG(status) == SIGKILL
					       ? "if the job ran out of memory, ask for more with --mem"
					       : "run the step again");
	}
	return WEXITSTATUS(status);
}
