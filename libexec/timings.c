#define _GNU_SOURCE
#include "timings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_LENGTH = 1024 };

/* Operations that begin a phase, or go on with it; any other belongs to the one before. */
static const char *const firsts[][2] = {
	{ "user-namespace", "namespaces" },
	{ "mount-namespace", "namespaces" },
	{ "unshare", "namespaces" },
	{ "keeper", "server" },
	{ "fuse-server", "server" },
	{ "fuse-mount", "server" },
	{ "scratch", "root" },
	{ "base", "root" },
	{ "overlay", "root" },
	{ "root", "root" },
	{ "bind", "mounts" },
	{ "tmpfs", "mounts" },
	{ "sysfs", "mounts" },
	{ "remount", "mounts" },
	{ "volume", "mounts" },
	{ "volumes-file", "mounts" },
	{ "prepend", "mounts" },
	{ "hooks-begin", "hooks" },
	{ "hook", "hooks" },
	{ "hooks-end", "hooks" },
	{ "pivot", "enter" },
	{ "entrypoint", "entry point" },
	{ "entrypoint-script", "entry point" },
};

static long long now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (long long)time.tv_sec * 1000000000LL + time.tv_nsec;
}

static struct timings_phase *phase_of(struct timings *timings, const char *name)
{
	for (size_t i = 0; i < timings->count; i++)
		if (strcmp(timings->phases[i].name, name) == 0)
			return &timings->phases[i];
	if (timings->count == TIMINGS_MAX)
		return &timings->phases[TIMINGS_MAX - 1];
	(void)snprintf(timings->phases[timings->count].name, sizeof(timings->phases->name), "%s", name);
	return &timings->phases[timings->count++];
}

static void add(struct timings *timings, const char *name, long long end)
{
	phase_of(timings, name)->taken += end - timings->last;
	timings->last = end;
}

/* Names and ends of phases in turn; the first, without a name, is the beginning of all. */
int timings_begin(struct timings *timings, const struct field *operation, struct error *err)
{
	size_t position = 0;
	const char *name, *text;
	long long when;
	char *end;

	memset(timings, 0, sizeof(*timings));
	while ((name = field_argument(operation, &position)) != NULL) {
		text = field_argument(operation, &position);
		if (text == NULL)
			break;
		errno = 0;
		when = strtoll(text, &end, 10);
		if (errno != 0 || *text == '\0' || *end != '\0' || when < 0)
			break;
		if (name[0] == '\0')
			timings->begun = timings->last = when;
		else
			add(timings, name, when);
	}
	if (name != NULL || position != operation->length || timings->begun == 0)
		return error_set(err, 0, "the plan's timings are malformed");
	timings->now = "executor";
	add(timings, timings->now, now());
	return 0;
}

void timings_add(struct timings *timings, const struct field *operation)
{
	if (timings->count == 0)
		return;
	for (size_t i = 0; i < sizeof(firsts) / sizeof(*firsts); i++)
		if (field_is(operation, firsts[i][0]))
			timings->now = firsts[i][1];
	add(timings, timings->now, now());
}

void timings_print(struct timings *timings)
{
	char line[LINE_MAX_LENGTH] = "pinnace: timings, ms:";
	size_t used = strlen(line);

	if (timings->count == 0)
		return;
	for (size_t i = 0; i < timings->count && used < sizeof(line); i++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, " %s %.2f,", timings->phases[i].name,
					 (double)timings->phases[i].taken / 1e6);
	if (used < sizeof(line))
		used += (size_t)snprintf(line + used, sizeof(line) - used, " in all %.2f\n",
					 (double)(timings->last - timings->begun) / 1e6);
	timings->count = 0;
	if (used < sizeof(line) && write(STDERR_FILENO, line, used) < 0)
		return; /* nobody is left to tell */
}
