#define _GNU_SOURCE
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../libexec/cleanup.h"
#include "../libexec/fields.h"

static int put(int fd, const char *key, const char *value, struct error *err)
{
	return value == NULL ? 0 : fields_write(fd, key, value, strlen(value), err);
}

static int put_number(int fd, const char *key, uint32_t number, struct error *err)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%u", number);
	return put(fd, key, text, err);
}

static int put_choice(int fd, const char *key, enum choice choice, struct error *err)
{
	return choice == CHOICE_NONE ? 0 : put(fd, key, choice == CHOICE_YES ? "1" : "0", err);
}

static int put_list(int fd, const char *key, const struct list *list, struct error *err)
{
	for (size_t i = 0; i < list->count; i++)
		if (put(fd, key, list->items[i], err) < 0)
			return -1;
	return 0;
}

/* slurmd keeps the script in its spool directory, which the image does not have. */
static int put_script(int fd, const char *script, struct error *err)
{
	char mount[2 * PATH_MAX + 8];

	if (script == NULL)
		return 0;
	if (strpbrk(script, ",:") != NULL || strlen(script) >= PATH_MAX)
		return error_set(err, 0, "the batch script %s cannot be shown in the container: "
				 "SlurmdSpoolDir holds a comma or colon", script);
	(void)snprintf(mount, sizeof(mount), "%s:%s:ro", script, script);
	return put(fd, "mounts", mount, err);
}

static int put_entrypoint(int fd, const struct options *asked, struct error *err)
{
	if (put_choice(fd, "entrypoint", asked->entrypoint, err) < 0)
		return -1;
	if (asked->entrypoint == CHOICE_NO)
		return 0;
	if (put_choice(fd, "entrypoint-log", asked->entrypoint_log, err) < 0)
		return -1;
	return put_list(fd, "preserved", &asked->environment, err);
}

static int put_options(int fd, const struct options *asked, struct error *err)
{
	if (put(fd, "image", asked->image, err) < 0 || put(fd, "workdir", asked->workdir, err) < 0 ||
	    put(fd, "backend", asked->backend, err) < 0 ||
	    put_list(fd, "mounts", &asked->mounts, err) < 0 ||
	    put_list(fd, "unshare", &asked->unshare, err) < 0 ||
	    put_choice(fd, "remap-root", asked->remap_root, err) < 0 ||
	    put_choice(fd, "mount-home", asked->mount_home, err) < 0 ||
	    put_choice(fd, "writable", asked->writable, err) < 0)
		return -1;
	return put_entrypoint(fd, asked, err);
}

static int put_facts(int fd, const struct step_facts *facts, struct error *err)
{
	char directory[PATH_MAX];

	if (getcwd(directory, sizeof(directory)) == NULL)
		return error_set(err, errno, "cannot find out the job's working directory");
	if (put_number(fd, "job-id", facts->job, err) < 0 ||
	    put_number(fd, "step-id", facts->step, err) < 0 ||
	    put_number(fd, "node-tasks", facts->tasks, err) < 0 ||
	    put_script(fd, facts->script, err) < 0 ||
	    put(fd, "working-directory", directory, err) < 0)
		return -1;
	for (size_t i = 0; facts->environment != NULL && facts->environment[i] != NULL; i++)
		if (put(fd, "environment", facts->environment[i], err) < 0)
			return -1;
	return 0;
}

int request_create(const struct options *asked, const struct step_facts *facts, struct error *err)
{
	cleanup_close int fd = memfd_create("pinnace-request", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	off_t size;

	if (fd < 0)
		return error_set(err, errno, "cannot make room for the request");
	if (put(fd, "protocol", "1", err) < 0 || put_options(fd, asked, err) < 0 ||
	    put_facts(fd, facts, err) < 0)
		return -1;
	size = lseek(fd, 0, SEEK_CUR);
	if (size > FIELDS_MAX_MESSAGE) {
		error_set(err, 0, "options and environment of the job take %lld bytes, the limit is %d",
			  (long long)size, FIELDS_MAX_MESSAGE);
		return error_hint(err, "export less with --export");
	}
	if (size < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, errno, "cannot rewind the request");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno, "cannot seal the request");
	return steal_fd(&fd);
}
