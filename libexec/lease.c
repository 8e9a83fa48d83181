#define _GNU_SOURCE
#include "lease.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"

/* Seconds for which the time of the last use is good enough as it is. */
enum { STALE = 60 };

int lease_take(const char *path, const char *witness, struct error *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat locked, current;

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) < 0)
		return error_set(err, errno, "cannot lock %s", path);
	if (fstat(fd, &locked) < 0 || stat(path, &current) < 0 || locked.st_dev != current.st_dev ||
	    locked.st_ino != current.st_ino)
		return error_set(err, 0, "%s has been replaced", path);
	if (access(witness, F_OK) < 0)
		return error_set(err, errno, "%s is being removed", path);
	return steal_fd(&fd);
}

void lease_touch(int fd)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
	time_t now = time(NULL);
	struct stat status;

	if (fstat(fd, &status) == 0 && (now - status.st_atime > STALE || status.st_atime - now > STALE))
		(void)futimens(fd, times); /* for others than the owner the kernel notes it */
}

static int create(const char *path)
{
	/* Others may make files there too: one that is a pipe is not waited for. */
	return open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0644);
}

void lease_leave(const char *prefix, const char *job)
{
	char path[PATH_MAX], directory[PATH_MAX];
	cleanup_close int fd = -1;

	if ((size_t)snprintf(path, sizeof(path), "%s%s", prefix, job) >= sizeof(path))
		return;
	fd = create(path);
	if (fd < 0 && errno == ENOENT) {
		memcpy(directory, path, sizeof(directory));
		if (mkdir(dirname(directory), 0777) == 0 || errno == EEXIST)
			fd = create(path);
	}
	if (fd >= 0)
		(void)futimens(fd, NULL);
}
