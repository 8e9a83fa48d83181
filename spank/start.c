#define _GNU_SOURCE
#include "start.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "../libexec/cleanup.h"
#include "../libexec/task.h"
#include "command.h"
#include "join.h"
#include "launch.h"
#include "options.h"
#include "request.h"

enum { STEP_BATCH = 0xfffffffbU, VARIABLE_MAX = 1 << 17 };

struct leader {
	spank_t spank;
	struct step *step;
	const struct settings *settings;
};

static int arguments_of(spank_t spank, int *count, char ***arguments)
{
	*count = 0;
	if (spank_get_item(spank, S_JOB_ARGV, count, arguments) != ESPANK_SUCCESS)
		*count = 0;
	return *count;
}

static int collect_facts(spank_t spank, struct step_facts *facts, struct error *err)
{
	char **environment = NULL, **arguments;
	int count;

	memset(facts, 0, sizeof(*facts));
	if (spank_get_item(spank, S_JOB_ID, &facts->job) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_STEPID, &facts->step) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &facts->tasks) != ESPANK_SUCCESS ||
	    spank_get_item(spank, S_JOB_ENV, &environment) != ESPANK_SUCCESS)
		return error_set(err, 0, "Slurm does not describe the step to its plugin");
	facts->environment = environment;
	if (facts->step == STEP_BATCH && arguments_of(spank, &count, &arguments) > 0)
		facts->script = arguments[0];
	return 0;
}

static int ask_launcher(const struct leader *leader, struct error *err)
{
	struct step_facts facts;
	cleanup_close int request = -1;
	struct launch launch = { .program = leader->settings->launcher };
	struct options asked = options;
	int status;

	if (collect_facts(leader->spank, &facts, err) < 0)
		return -1;
	if (asked.entrypoint == CHOICE_NONE)
		asked.entrypoint = leader->settings->entrypoint;
	request = request_create(&asked, &facts, err);
	if (request < 0)
		return -1;
	launch.request = request;
	launch.answer = leader->step->launcher_end;
	launch.lifeline = leader->step->lifeline;
	launch.environment = facts.environment;
	status = launch_run(&launch, err);
	if (status == 0)
		status = join_check(leader->step->task_end, err);
	return status;
}

/* The launcher has printed its own errors; what it could not tell is told here. */
static int lead(void *context)
{
	struct error err = { 0 };
	int status = ask_launcher(context, &err);

	if (status < 0) {
		error_print(&err);
		status = err.status;
	}
	return status;
}

/* True for a variable of --container-env that the task has; an empty one counts as none. */
static bool is_kept(spank_t spank, const char *name)
{
	char start[2] = "";

	for (size_t i = 0; i < options.environment.count; i++)
		if (strcmp(options.environment.items[i], name) == 0)
			return spank_getenv(spank, name, start, sizeof(start)) == ESPANK_NOSPACE ||
			       start[0] != '\0';
	return false;
}

static int change_variable(void *context, const char *name, const char *value, bool keep)
{
	spank_err_t result;

	if (is_kept(context, name))
		return 0;
	result = value != NULL ? spank_setenv(context, name, value, !keep) : spank_unsetenv(context, name);
	if (result == ESPANK_SUCCESS || (keep && result == ESPANK_ENV_EXISTS))
		return 0;
	errno = EINVAL;
	return -1;
}

/* PyTorch's names for what Slurm says of a task; images of PyTorch announce themselves. */
static int set_pytorch_variables(spank_t spank, struct error *err)
{
	static const char *const names[][2] = { { "SLURM_PROCID", "RANK" }, { "SLURM_LOCALID", "LOCAL_RANK" } };
	char value[64];

	if (spank_getenv(spank, "PYTORCH_VERSION", value, sizeof(value)) == ESPANK_ENV_NOEXIST)
		return 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (spank_getenv(spank, names[i][0], value, sizeof(value)) == ESPANK_SUCCESS &&
		    spank_setenv(spank, names[i][1], value, 1) != ESPANK_SUCCESS)
			return error_set(err, 0, "cannot set the variable %s", names[i][1]);
	return 0;
}

/*
 * With --multi-prog the arguments are the configuration's name and its lines, each of which
 * begins with task numbers: which program runs is not known yet.
 */
static bool is_multi_prog(int count, char **arguments)
{
	return count == 2 && (isdigit((unsigned char)arguments[1][0]) || arguments[1][0] == '*') &&
	       strpbrk(arguments[1], " \t") != NULL;
}

static int check_command(spank_t spank, struct error *err)
{
	cleanup_free char *path = malloc(VARIABLE_MAX);
	char **arguments;
	int count;
	bool known;

	if (arguments_of(spank, &count, &arguments) == 0 || is_multi_prog(count, arguments))
		return 0;
	if (path == NULL)
		return error_set(err, errno, "cannot look for %s", arguments[0]);
	known = spank_getenv(spank, "PATH", path, VARIABLE_MAX) == ESPANK_SUCCESS;
	return command_check(arguments[0], known ? path : NULL, options.image, err);
}

/*
 * While the container is being made, a task ends with its slurmstepd. Afterwards it is as any
 * other task of Slurm's.
 */
static void end_with_parent(bool enabled)
{
	(void)prctl(PR_SET_PDEATHSIG, enabled ? SIGKILL : 0);
}

static int enter_container(spank_t spank, struct step *step, const struct settings *settings)
{
	struct leader leader = { .spank = spank, .step = step, .settings = settings };
	struct task_environment environment = { .change = change_variable, .context = spank };
	struct error err = { 0 };
	int status = step_enter(step, lead, &leader, &err);

	if (status != 0 && err.status == 0)
		return status;
	if (status == 0 && join_container(step->task_end, &environment, &err) == 0 &&
	    set_pytorch_variables(spank, &err) == 0 && check_command(spank, &err) == 0)
		return 0;
	if (step_first_report(step))
		error_print(&err);
	return err.status;
}

/*
 * A task that is cancelled meanwhile ends. Until exec(2) it has the handlers of its slurmstepd, which in
 * Slurm 24.11 catches these signals for purposes of its own; what is ignored stays so.
 */
static void end_on_signals(void)
{
	static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	struct sigaction action;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			(void)signal(numbers[i], SIG_DFL);
}

int task_start(spank_t spank, struct step *step, const struct settings *settings)
{
	int status;

	end_on_signals();
	end_with_parent(true);
	status = enter_container(spank, step, settings);
	end_with_parent(false);
	return status;
}
