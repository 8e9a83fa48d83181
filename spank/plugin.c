/*
 * The plugin's hooks. In srun, sbatch and salloc it checks what was asked for. In slurmstepd it
 * prepares shared state as root, and everything else happens in the tasks, as the user.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "options.h"
#include "settings.h"
#include "spank_api.h"
#include "start.h"
#include "step.h"

#pragma GCC visibility push(default)
SPANK_PLUGIN(pinnace, 1)
#pragma GCC visibility pop

/* Which Slurm this was compiled for, where `pinnace doctor` finds it. */
#define TEXT_OF(value) #value
#define TEXT(macro) TEXT_OF(macro)
static const char compiled_for[] __attribute__((used)) = "pinnace for Slurm " TEXT(SLURM_VERSION_NUMBER);

/* Reserved step numbers (slurm/slurm.h, whose inclusion is not worth one constant). */
enum { STEP_EXTERN = 0xfffffffcU };

static struct settings settings;
static struct step step = STEP_CLOSED;
static uint32_t tasks_left;

static const char *own_variable(void *context, const char *name)
{
	(void)context;
	return getenv(name);
}

/* A variable of the job in slurmstepd. Unlike spank_getenv(3), this has no limit of length. */
static const char *job_variable(void *context, const char *name)
{
	char **environment = context;
	size_t length = strlen(name);

	for (size_t i = 0; environment != NULL && environment[i] != NULL; i++)
		if (strncmp(environment[i], name, length) == 0 && environment[i][length] == '=')
			return environment[i] + length + 1;
	return NULL;
}

int slurm_spank_init(spank_t spank, int count, char **arguments)
{
	spank_context_t context = spank_context();

	if (settings_read(&settings, count, arguments) < 0)
		return -1;
	if (context == S_CTX_LOCAL || context == S_CTX_REMOTE ||
	    (context == S_CTX_ALLOCATOR && settings.batch))
		return options_register(spank);
	return 0;
}

static int prepare_submission(void)
{
	if (options_complete(own_variable, NULL, true) < 0 ||
	    options_from_environment(own_variable, NULL) < 0)
		return -1;
	options_report_ignored();
	return 0;
}

/* All that is done as root, and only for a step that asked for a container. */
static int prepare_step(spank_t spank)
{
	struct error err = { 0 };
	char **environment = NULL;
	uint32_t number;

	if (spank_get_item(spank, S_JOB_STEPID, &number) != ESPANK_SUCCESS || number == STEP_EXTERN)
		return 0;
	if (spank_get_item(spank, S_JOB_ENV, &environment) == ESPANK_SUCCESS &&
	    (options_complete(job_variable, environment, false) < 0 ||
	     options_from_environment(job_variable, environment) < 0))
		return -1;
	if (options.image == NULL)
		return 0;
	if (spank_get_item(spank, S_JOB_LOCAL_TASK_COUNT, &tasks_left) != ESPANK_SUCCESS)
		tasks_left = 0;
	if (step_open(&step, &err) < 0)
		return message_error("%s", err.text);
	return 0;
}

int slurm_spank_init_post_opt(spank_t spank, int count, char **arguments)
{
	(void)count;
	(void)arguments;
	switch (spank_context()) {
	case S_CTX_LOCAL:
	case S_CTX_ALLOCATOR:
		return prepare_submission();
	case S_CTX_REMOTE:
		return prepare_step(spank);
	default:
		return 0;
	}
}

/*
 * A task that fails ends here with the status that the user is to see. Returning an error would
 * make slurmstepd add two lines of its own for each task, and always status 1.
 */
int slurm_spank_task_init(spank_t spank, int count, char **arguments)
{
	int status;

	(void)count;
	(void)arguments;
	if (step.shared == NULL)
		return 0;
	status = task_start(spank, &step, &settings);
	step_close(&step);
	if (status != 0)
		_exit(status);
	return 0;
}

/*
 * With the last task gone nobody needs the answer: letting go of it here, not when slurmstepd
 * ends, lets the file system's server end by itself before the step's processes are killed.
 */
int slurm_spank_task_exit(spank_t spank, int count, char **arguments)
{
	(void)spank;
	(void)count;
	(void)arguments;
	if (tasks_left > 0 && --tasks_left == 0)
		step_finish(&step);
	return 0;
}

int slurm_spank_exit(spank_t spank, int count, char **arguments)
{
	(void)spank;
	(void)count;
	(void)arguments;
	step_close(&step);
	options_free();
	return 0;
}
