#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "syscalls.h"

enum { MAX_LINKS = 40, PREPEND_MAX = 1 << 20 };

int tree_open(int root, const char *path, int flags)
{
	int fd, tries = 0;

	/* EAGAIN: something was renamed or mounted during the walk (openat2(2)). */
	do
		fd = sys_openat2(root, path, (uint64_t)flags, RESOLVE_IN_ROOT);
	while (fd < 0 && errno == EAGAIN && ++tries < 64);
	return fd;
}

/* A walk that creates what is missing: done is free of links, left is still to be resolved. */
struct walk {
	int root;
	int links;
	char done[PATH_MAX];
	char left[PATH_MAX];
};

static int too_long(const char *path, struct error *err)
{
	return error_set(err, ENAMETOOLONG, "%.200s", path);
}

/* Take the next component off walk->left: its length, 0 when nothing is left. */
static size_t next_component(struct walk *walk, char component[NAME_MAX + 1])
{
	const char *start = walk->left + strspn(walk->left, "/");
	size_t length = strcspn(start, "/");
	size_t kept = length <= NAME_MAX ? length : NAME_MAX;

	memcpy(component, start, kept);
	component[kept] = '\0';
	memmove(walk->left, start + length, strlen(start + length) + 1);
	return length;
}

static void to_parent(struct walk *walk)
{
	char *slash = strrchr(walk->done, '/');

	*(slash == NULL ? walk->done : slash) = '\0';
}

static int follow_link(struct walk *walk, const char *candidate, struct error *err)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t length = readlinkat(walk->root, candidate, target, sizeof(target) - 1);

	if (length < 0)
		return error_set(err, errno, "cannot read the link %s", candidate);
	if (++walk->links > MAX_LINKS)
		return error_set(err, ELOOP, "%s", candidate);
	target[length] = '\0';
	memcpy(rest, walk->left, sizeof(rest));
	if (snprintf(walk->left, sizeof(walk->left), "%s/%s", target, rest) >= (int)sizeof(walk->left))
		return too_long(candidate, err);
	if (target[0] == '/')
		walk->done[0] = '\0';
	return 0;
}

static int create_component(const struct walk *walk, const char *candidate, bool directory, struct error *err)
{
	bool last = walk->left[strspn(walk->left, "/")] == '\0';
	cleanup_close int fd = -1;

	if (!last || directory) {
		if (mkdirat(walk->root, candidate, 0755) < 0)
			return error_set(err, errno, "cannot create the directory /%s in the container", candidate);
		return 0;
	}
	fd = openat(walk->root, candidate, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_set(err, errno, "cannot create the file /%s in the container", candidate);
	return 0;
}

static int walk_component(struct walk *walk, const char *component, bool directory, struct error *err)
{
	char candidate[PATH_MAX];
	struct stat status;
	bool top = walk->done[0] == '\0';

	if (strcmp(component, ".") == 0)
		return 0;
	if (strcmp(component, "..") == 0) {
		to_parent(walk);
		return 0;
	}
	if (snprintf(candidate, sizeof(candidate), "%s%s%s", walk->done, top ? "" : "/", component) >=
	    (int)sizeof(candidate))
		return too_long(component, err);
	if (fstatat(walk->root, candidate, &status, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISLNK(status.st_mode))
			return follow_link(walk, candidate, err);
	} else if (errno != ENOENT) {
		return error_set(err, errno, "cannot look up /%s in the container", candidate);
	} else if (create_component(walk, candidate, directory, err) < 0) {
		return -1;
	}
	memcpy(walk->done, candidate, sizeof(candidate));
	return 0;
}

int tree_create(int root, const char *path, bool directory, char resolved[PATH_MAX], struct error *err)
{
	struct walk walk = { .root = root };
	char component[NAME_MAX + 1];
	size_t length;
	int fd;

	if (snprintf(walk.left, sizeof(walk.left), "%s", path) >= (int)sizeof(walk.left))
		return too_long(path, err);
	while ((length = next_component(&walk, component)) > 0) {
		if (length > NAME_MAX)
			return too_long(path, err);
		if (walk_component(&walk, component, directory, err) < 0)
			return -1;
	}
	if (walk.done[0] == '\0')
		walk.done[0] = '.', walk.done[1] = '\0';
	fd = tree_open(root, walk.done, O_PATH | O_NOFOLLOW);
	if (fd < 0)
		return error_set(err, errno, "cannot open /%s in the container", walk.done);
	if (resolved != NULL)
		memcpy(resolved, walk.done, sizeof(walk.done));
	return fd;
}

static int write_all(int fd, const char *content, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, content, length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return -1;
		content += written;
		length -= (size_t)written;
	}
	return 0;
}

/* What a regular file holds, allocated; *length is 0 if it is too large to be worth keeping. */
static char *read_file(int root, const char *path, size_t *length, struct error *err)
{
	cleanup_close int fd = tree_open(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	struct stat status;
	char *content;
	ssize_t count;

	*length = 0;
	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		error_set(err, fd < 0 ? errno : 0, "cannot read /%s of the image: it is no plain file", path);
		return NULL;
	}
	if (status.st_size > PREPEND_MAX)
		status.st_size = 0;
	content = malloc((size_t)status.st_size + 1);
	if (content == NULL) {
		error_set(err, errno, "cannot read /%s of the image", path);
		return NULL;
	}
	count = read(fd, content, (size_t)status.st_size);
	if (count < 0) {
		error_set(err, errno, "cannot read /%s of the image", path);
		free(content);
		return NULL;
	}
	*length = (size_t)count;
	return content;
}

int tree_write(int root, const char *path, mode_t mode, const char *content, size_t length, bool prepend,
	       struct error *err)
{
	char resolved[PATH_MAX];
	cleanup_close int target = tree_create(root, path, false, resolved, err);
	cleanup_free char *old = NULL;
	cleanup_close int fd = -1;
	size_t old_length;

	if (target < 0)
		return -1;
	/* Reading it also makes sure that it is a plain file. */
	old = read_file(root, resolved, &old_length, err);
	if (old == NULL)
		return -1;
	fd = tree_open(root, resolved, O_WRONLY | O_TRUNC | O_NOFOLLOW);
	if (fd < 0 || write_all(fd, content, length) < 0 ||
	    (prepend && write_all(fd, old, old_length) < 0) || fchmod(fd, mode) < 0)
		return error_set(err, errno, "cannot write /%s of the container", resolved);
	return 0;
}
