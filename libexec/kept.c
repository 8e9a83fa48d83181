#define _GNU_SOURCE
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "lease.h"

enum { STATE_LENGTH = 256, STATE_PARTS = 8 };

/* FNV-1a with 64 bits: it only names an entry, which says itself what it is for. */
static uint64_t hash(const uint8_t *data, size_t size)
{
	uint64_t state = 0xcbf29ce484222325U;

	for (size_t i = 0; i < size; i++)
		state = (state ^ data[i]) * 0x100000001b3U;
	return state;
}

/* $XDG_CACHE_HOME/pinnace/plans/BOOT, or the same below $HOME/.cache. */
static int name_directory(const struct asked *asked, const char *boot, char path[PATH_MAX], struct error *err)
{
	const char *base;
	size_t length;
	int written = 0;

	if (asked_variable(asked, "XDG_CACHE_HOME", &base, &length) && length > 0 && base[0] == '/')
		written = snprintf(path, PATH_MAX, "%.*s/pinnace/plans/%s", (int)length, base, boot);
	else if (asked_variable(asked, "HOME", &base, &length) && length > 0 && base[0] == '/')
		written = snprintf(path, PATH_MAX, "%.*s/.cache/pinnace/plans/%s", (int)length, base, boot);
	if (written <= 0 || written >= PATH_MAX)
		return error_set(err, 0, "the user has no directory for kept plans");
	return 0;
}

/* True for what belongs to the user, and nobody else may look at or change. */
static bool is_own(const struct stat *status, mode_t type)
{
	return (status->st_mode & S_IFMT) == type && status->st_uid == geteuid() &&
	       (status->st_mode & (S_IRWXG | S_IRWXO)) == 0;
}

static int open_entry(const char *path, const char *name, struct error *err)
{
	cleanup_close int directory = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int fd = -1;
	struct stat status;

	if (directory < 0)
		return error_set(err, errno, "cannot open %s", path);
	if (fstat(directory, &status) < 0 || !is_own(&status, S_IFDIR))
		return error_set(err, 0, "%s is not the user's own", path);
	fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, errno, "cannot open %s/%s", path, name);
	if (fstat(fd, &status) < 0 || !is_own(&status, S_IFREG) || status.st_nlink != 1)
		return error_set(err, 0, "%s/%s is not the user's own", path, name);
	return steal_fd(&fd);
}

/* Into memory: what is mapped could be cut short while it is looked at. */
static int read_entry(int fd, struct kept *kept, struct error *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0 || status.st_size <= 0 || status.st_size > FIELDS_MAX_MESSAGE)
		return error_set(err, 0, "an entry has a wrong size");
	kept->data = malloc((size_t)status.st_size);
	if (kept->data == NULL || read(fd, kept->data, (size_t)status.st_size) != (ssize_t)status.st_size)
		return error_set(err, errno, "cannot read an entry");
	kept->entry.data = kept->data;
	kept->entry.size = (size_t)status.st_size;
	return 0;
}

int kept_find(const struct asked *asked, struct kept *kept, struct error *err)
{
	const struct buffer *key = &asked->key;
	char path[PATH_MAX], name[17];
	cleanup_close int fd = -1;

	memset(kept, 0, sizeof(*kept));
	kept->lease = -1;
	if (name_directory(asked, asked->boot, path, err) < 0)
		return -1;
	(void)snprintf(name, sizeof(name), "%016llx", (unsigned long long)hash(key->data, key->size));
	fd = open_entry(path, name, err);
	if (fd < 0 || read_entry(fd, kept, err) < 0)
		return -1;
	if (kept->entry.size < key->size || memcmp(kept->entry.data, key->data, key->size) != 0)
		return error_set(err, 0, "%s/%s is for another start", path, name);
	kept->entry.position = key->size;
	return 0;
}

static int malformed(const struct field *check, struct error *err)
{
	return error_set(err, 0, "an entry's %s is malformed", check->key);
}

static int changed(const char *what, struct error *err)
{
	return error_set(err, 0, "%s is not as it was", what);
}

/* A time in seconds since 1970. */
static int read_time(const struct field *check, long long *when, struct error *err)
{
	char text[20], *end;

	if (check->length == 0 || check->length >= sizeof(text))
		return malformed(check, err);
	memcpy(text, check->value, check->length);
	text[check->length] = '\0';
	errno = 0;
	*when = strtoll(text, &end, 10);
	return errno != 0 || *end != '\0' ? malformed(check, err) : 0;
}

/* Also a clock that was set back makes the plan one of the future. */
static int check_written(const struct field *check, struct error *err)
{
	long long when;

	if (read_time(check, &when, err) < 0)
		return -1;
	return when <= (long long)time(NULL) ? 0 : changed("the clock", err);
}

static int check_until(const struct field *check, struct error *err)
{
	long long when;

	if (read_time(check, &when, err) < 0)
		return -1;
	return (long long)time(NULL) < when ? 0 : error_set(err, 0, "the plan is too old");
}

static int check_variable(const struct asked *asked, const struct field *check, struct error *err)
{
	size_t position = 0, length = 0;
	const char *name = field_argument(check, &position);
	const char *expected, *value;
	bool is_set;

	if (name == NULL)
		return malformed(check, err);
	expected = field_argument(check, &position);
	if (position != check->length)
		return malformed(check, err);
	is_set = asked_variable(asked, name, &value, &length);
	if (expected == NULL)
		return is_set ? changed(name, err) : 0;
	return is_set && length == strlen(expected) && memcmp(value, expected, length) == 0 ? 0 : changed(name, err);
}

static long long nanoseconds(const struct timespec *when)
{
	return (long long)when->tv_sec * 1000000000LL + when->tv_nsec;
}

/* As many parts of a file's state as expected has, see pinnace.basis. */
static bool has_state(const struct stat *status, const char *expected)
{
	const unsigned long long values[STATE_PARTS] = {
		status->st_dev,
		status->st_ino,
		status->st_mode,
		status->st_uid,
		status->st_gid,
		(unsigned long long)status->st_size,
		(unsigned long long)nanoseconds(&status->st_mtim),
		(unsigned long long)nanoseconds(&status->st_ctim),
	};
	char text[STATE_LENGTH] = "";
	size_t length = 0;

	for (size_t i = 0; i < STATE_PARTS && strlen(expected) > length; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, i == 0 ? "%llu" : " %llu", values[i]);
	return strcmp(text, expected) == 0;
}

static int check_file(const struct field *check, struct error *err)
{
	size_t position = 0;
	const char *path = field_argument(check, &position);
	const char *expected = path == NULL ? NULL : field_argument(check, &position);
	struct stat status;

	if (expected == NULL || position != check->length)
		return malformed(check, err);
	if (stat(path, &status) < 0)
		return (errno == ENOENT || errno == ENOTDIR) && strcmp(expected, "absent") == 0 ? 0 : changed(path, err);
	return has_state(&status, expected) ? 0 : changed(path, err);
}

static int check_lock(struct kept *kept, const struct field *check, struct error *err)
{
	size_t position = 0;
	const char *path = field_argument(check, &position);
	const char *witness = path == NULL ? NULL : field_argument(check, &position);
	const char *job = witness == NULL ? NULL : field_argument(check, &position);

	if (job == NULL || position != check->length || kept->lease >= 0)
		return malformed(check, err);
	kept->lease = lease_take(path, witness, err);
	kept->job = job;
	return kept->lease < 0 ? -1 : 0;
}

static int check(const struct asked *asked, struct kept *kept, const struct field *check, struct error *err)
{
	if (field_is(check, "written"))
		return check_written(check, err);
	if (field_is(check, "until"))
		return check_until(check, err);
	if (field_is(check, "variable"))
		return check_variable(asked, check, err);
	if (field_is(check, "directory"))
		return asked_directory_is(asked, check->value, check->length) ? 0 : changed("the directory", err);
	if (field_is(check, "file"))
		return check_file(check, err);
	if (field_is(check, "lock"))
		return check_lock(kept, check, err);
	return error_set(err, 0, "an entry has the unknown check %s", check->key);
}

int kept_check(const struct asked *asked, struct kept *kept, struct error *err)
{
	struct field field;
	bool first = true;
	int more;

	while ((more = fields_next(&kept->entry, &field, err)) > 0 && !field_is(&field, "plan")) {
		/* What comes first ends the key: none is the beginning of another. */
		if (first != field_is(&field, "written"))
			return error_set(err, 0, "an entry is for another start");
		if (check(asked, kept, &field, err) < 0)
			return -1;
		first = false;
	}
	if (more == 0 || first)
		return error_set(err, 0, "an entry has no plan");
	return more < 0 ? -1 : 0;
}

void kept_release(struct kept *kept)
{
	cleanup_close_fd(&kept->lease);
	free(kept->data);
}
