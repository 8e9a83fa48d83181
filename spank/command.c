#define _GNU_SOURCE
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum finding { MISSING, NOT_EXECUTABLE, EXECUTABLE };

static enum finding look_at(const char *file)
{
	struct stat status;

	if (stat(file, &status) < 0)
		return errno == EACCES ? NOT_EXECUTABLE : MISSING;
	if (S_ISREG(status.st_mode) && faccessat(AT_FDCWD, file, X_OK, AT_EACCESS) == 0)
		return EXECUTABLE;
	return NOT_EXECUTABLE;
}

/* Look in each directory of path; what cannot be executed counts only if nothing better comes. */
static enum finding search(const char *program, const char *path)
{
	enum finding best = MISSING;
	char file[PATH_MAX];

	while (path != NULL && *path != '\0') {
		size_t length = strcspn(path, ":");
		int needed = snprintf(file, sizeof(file), "%.*s/%s", length > PATH_MAX ? PATH_MAX : (int)length,
				      path, program);
		enum finding found = MISSING;

		if (length > 0 && needed > 0 && (size_t)needed < sizeof(file))
			found = look_at(file);
		if (found > best)
			best = found;
		path += length + (path[length] == ':');
	}
	return best;
}

int command_check(const char *program, const char *path, const char *image, struct error *err)
{
	/* slurmstepd falls back to the working directory for a name that PATH does not have. */
	enum finding found = look_at(program);

	if (found != EXECUTABLE && program[0] != '/' && program[0] != '.') {
		enum finding in_path = search(program, path);

		if (in_path > found)
			found = in_path;
	}
	if (found == EXECUTABLE)
		return 0;
	if (found == NOT_EXECUTABLE) {
		error_set(err, 0, "%s is not an executable file in %s", program, image);
		error_hint(err, "name a program, or make the file executable");
		err->status = 126;
		return -1;
	}
	error_set(err, 0, "%s: command not found in %s", program, image);
	if (strchr(program, '/') != NULL)
		error_hint(err, "choose a program of the image, or mount its directory with --container-mounts");
	else
		error_hint(err, "choose a program of the image, or give its path; the container's PATH is %s",
			   path != NULL ? path : "not set");
	err->status = 127;
	return -1;
}
