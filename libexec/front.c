/*
 * The `pinnace` command. A start for which the launcher has kept a plan goes to pinnace-exec at once;
 * everything else, and whatever is in doubt, is for the launcher, which is Python (docs/protocol.md, "Kept
 * plans"). Nothing is done here but to look: who is asked instead finds all as it was.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "asked.h"
#include "cleanup.h"
#include "compose.h"
#include "descriptors.h"
#include "error.h"
#include "kept.h"
#include "lease.h"

/* The other programs of this installation, seen from PREFIX, below which this one is bin/pinnace. */
static const char LAUNCHER[] = "libexec/pinnace/pinnace", EXECUTOR[] = "libexec/pinnace/pinnace-exec";

static int find_program(const char *name, char path[PATH_MAX], struct error *err)
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (length < 0)
		return error_set(err, errno, "cannot execute pinnace: /proc does not tell where it is");
	self[length] = '\0';
	for (int i = 0; i < 2; i++) {
		char *slash = strrchr(self, '/');

		if (slash != NULL)
			*slash = '\0';
	}
	if (snprintf(path, PATH_MAX, "%s/%s", self, name) >= PATH_MAX)
		return error_set(err, ENAMETOOLONG, "cannot execute %s", name);
	return 0;
}

/* When this process began, if it has done nothing but use the processor since (CLOCK_MONOTONIC, ns). */
static long long time_of_begin(void)
{
	struct timespec now, used;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (long long)(now.tv_sec - used.tv_sec) * 1000000000LL + now.tv_nsec - used.tv_nsec;
}

/* Note what the use of an image leaves. */
static void leave_traces(const struct asked *asked, const struct kept *kept)
{
	if (kept->lease < 0)
		return;
	lease_touch(kept->lease);
	if (asked->step && kept->job[0] != '\0')
		lease_leave(kept->job, asked->job);
}

/* Become the executor of a plan. Returns only if that is not possible. */
static int carry_out(const char *executor, int plan, int lease, struct error *err)
{
	char option[32];
	char *const arguments[] = { (char *)executor, option, NULL };

	(void)snprintf(option, sizeof(option), "--plan=%d", plan);
	if (fcntl(plan, F_SETFD, 0) < 0 || (lease >= 0 && fcntl(lease, F_SETFD, 0) < 0))
		return error_set(err, errno, "cannot pass a descriptor on");
	(void)unsetenv("PINNACE_PASSWORD"); /* it is for pulls, not for what runs now */
	execv(executor, arguments);
	return error_set(err, errno, "cannot execute %s", executor);
}

/* Start as the launcher did before. Returns only if that cannot be, with nothing changed. */
static void start_as_before(int argc, char **argv)
{
	long long begun = time_of_begin();
	char executor[PATH_MAX];
	struct kept kept = { .lease = -1 };
	struct asked asked = { .command = NULL };
	struct error err = { 0 };
	cleanup_close int plan = -1;

	if (find_program(EXECUTOR, executor, &err) == 0 && asked_read(argc, argv, executor, &asked, &err) == 0 &&
	    kept_find(&asked, &kept, &err) == 0 && kept_check(&asked, &kept, &err) == 0 &&
	    (plan = compose_plan(&asked, &kept, begun, &err)) >= 0) {
		leave_traces(&asked, &kept);
		(void)carry_out(executor, plan, kept.lease, &err);
	}
	if (asked.timings)
		error_note(&err, "no kept plan");
	kept_release(&kept);
	asked_release(&asked);
}

int main(int argc, char **argv)
{
	struct error err = { .status = 1 };
	char launcher[PATH_MAX];

	occupy_standard_descriptors();
	if (getauxval(AT_SECURE) != 0) {
		error_set(&err, 0, "pinnace must not be setuid or have file capabilities");
	} else {
		start_as_before(argc, argv);
		if (find_program(LAUNCHER, launcher, &err) == 0) {
			execv(launcher, argv);
			error_set(&err, errno, "cannot execute %s", launcher);
		}
	}
	error_print(&err);
	return err.status;
}
