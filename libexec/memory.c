#define _GNU_SOURCE
#include "memory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "cleanup.h"

/* The number in a file; UINT64_MAX if there is no such file or it says `max`. */
static uint64_t number_in(const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (length <= 0 || text[0] < '0' || text[0] > '9')
		return UINT64_MAX;
	text[length] = '\0';
	return strtoull(text, NULL, 10);
}

/* The least limit of a control group and those above it. */
static uint64_t least_limit(const char *mount, const char *group, const char *file)
{
	uint64_t least = UINT64_MAX;
	char path[PATH_MAX];
	int length = snprintf(path, sizeof(path), "%s%s", mount, group);

	if (length < 0 || (size_t)length + strlen(file) + 2 > sizeof(path))
		return least;
	for (;;) {
		size_t end = strlen(path);
		uint64_t limit;

		(void)snprintf(path + end, sizeof(path) - end, "/%s", file);
		limit = number_in(path);
		least = limit < least ? limit : least;
		if (end <= strlen(mount))
			return least;
		path[end] = '\0';
		*strrchr(path, '/') = '\0';
	}
}

uint64_t memory_group_limit(const char *groups, const char *root)
{
	FILE *stream = fopen(groups, "re");
	uint64_t least = UINT64_MAX;
	char line[PATH_MAX], mount[PATH_MAX];

	/* cgroups(7): hierarchy-ID:controllers:path; version 2 has the ID 0 and no controllers. */
	while (stream != NULL && fgets(line, sizeof(line), stream) != NULL) {
		char *controllers = strchr(line, ':');
		char *path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
		uint64_t limit = UINT64_MAX;

		if (path == NULL)
			continue;
		*path++ = '\0';
		path[strcspn(path, "\n")] = '\0';
		(void)snprintf(mount, sizeof(mount), "%s/memory", root);
		if (strcmp(controllers, ":memory") == 0)
			limit = least_limit(mount, path, "memory.limit_in_bytes");
		else if (strcmp(controllers, ":") == 0)
			limit = least_limit(root, path, "memory.max");
		least = limit < least ? limit : least;
	}
	if (stream != NULL)
		(void)fclose(stream);
	return least;
}

uint64_t memory_limit(void)
{
	uint64_t group = memory_group_limit("/proc/self/cgroup", "/sys/fs/cgroup");
	struct sysinfo machine;
	uint64_t all = sysinfo(&machine) == 0 ? (uint64_t)machine.totalram * machine.mem_unit : UINT64_MAX;

	return group < all ? group : all;
}
