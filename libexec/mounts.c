#define _GNU_SOURCE
#include "mounts.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "syscalls.h"
#include "tree.h"

/* Bytes of an image's file that are worth reading. */
enum { VOLUMES_MAX = 64 << 10 };

enum create { CREATE_NOTHING, CREATE_FILE, CREATE_DIRECTORY, CREATE_AUTO };

struct options {
	bool recursive;
	bool optional;
	bool inside; /* the source is a path of the container */
	bool move;   /* the mount goes away from there */
	enum create create;
	uint64_t attributes;
	uint64_t propagation;
};

/* What each option's name adds. */
static const struct {
	const char *name;
	struct options adds;
} known_options[] = {
	{ "recursive", { .recursive = true } },
	{ "optional", { .optional = true } },
	{ "inside", { .inside = true } },
	{ "move", { .move = true } },
	{ "create=file", { .create = CREATE_FILE } },
	{ "create=directory", { .create = CREATE_DIRECTORY } },
	{ "create=auto", { .create = CREATE_AUTO } },
	{ "read-only", { .attributes = ATTRIBUTE_READ_ONLY } },
	{ "nosuid", { .attributes = ATTRIBUTE_NOSUID } },
	{ "nodev", { .attributes = ATTRIBUTE_NODEV } },
	{ "noexec", { .attributes = ATTRIBUTE_NOEXEC } },
	{ "private", { .propagation = MS_PRIVATE } },
	{ "slave", { .propagation = MS_SLAVE } },
	{ "shared", { .propagation = MS_SHARED } },
	{ "unbindable", { .propagation = MS_UNBINDABLE } },
};

static int parse_option(const char *name, size_t length, struct options *options, struct error *err)
{
	for (size_t i = 0; i < sizeof(known_options) / sizeof(*known_options); i++) {
		const struct options *adds = &known_options[i].adds;

		if (strlen(known_options[i].name) != length || memcmp(name, known_options[i].name, length) != 0)
			continue;
		options->recursive |= adds->recursive;
		options->optional |= adds->optional;
		options->inside |= adds->inside;
		options->move |= adds->move;
		options->attributes |= adds->attributes;
		if (adds->create != CREATE_NOTHING)
			options->create = adds->create;
		if (adds->propagation != 0)
			options->propagation = adds->propagation;
		return 0;
	}
	return error_set(err, 0, "the plan holds the unknown mount option `%.*s`", (int)length, name);
}

static int parse_options(const char *text, struct options *options, struct error *err)
{
	memset(options, 0, sizeof(*options));
	while (*text != '\0') {
		size_t length = strcspn(text, ",");

		if (length > 0 && parse_option(text, length, options, err) < 0)
			return -1;
		text += length + (text[length] == ',');
	}
	return 0;
}

static int open_target(int root, const char *target, enum create create, bool source_is_directory, struct error *err)
{
	int fd;

	if (create == CREATE_NOTHING) {
		fd = tree_open(root, target, O_PATH);
		return fd >= 0 ? fd : error_set(err, errno, "cannot mount on %s in the container", target);
	}
	return tree_create(root, target, create == CREATE_DIRECTORY || (create == CREATE_AUTO && source_is_directory),
			   NULL, err);
}

static int apply_attributes(int mount, const struct options *options, struct error *err)
{
	struct mount_attributes attributes = {
		.set = options->attributes,
		.propagation = options->propagation,
	};
	unsigned int flags = options->recursive ? TREE_RECURSIVE : 0;

	if (attributes.set == 0 && attributes.propagation == 0)
		return 0;
	if (sys_mount_setattr(mount, flags, &attributes) < 0)
		return error_set(err, errno, "cannot set the mount's options");
	return 0;
}

static int explain_source(const char *source, int code, struct error *err)
{
	error_set(err, code, "cannot mount %s", source);
	if (code == EINVAL)
		return error_hint(err, "mounts lie below it: mount it with the flag rbind");
	return -1;
}

static bool is_missing(int code)
{
	return code == ENOENT || code == ENOTDIR;
}

int mounts_bind(int host, const char *source, int root, const char *target, const char *text, struct error *err)
{
	struct options options;
	cleanup_close int origin = -1, tree = -1, place = -1;
	struct stat status, target_status;

	if (parse_options(text, &options, err) < 0)
		return -1;
	origin = tree_open(options.inside ? root : host, source, O_PATH);
	if (origin < 0 || fstat(origin, &status) < 0) {
		if (options.optional && is_missing(errno))
			return 0;
		if (*source == '\0') {
			error_set(err, 0, "cannot mount on %s in the container: no source is named", target);
			return error_hint(err, "the variable in its place is not set: set it, or add nofail");
		}
		error_set(err, errno, "cannot mount %s", source);
		return error_hint(err, "a path of this node is expected");
	}
	tree = options.move ? steal_fd(&origin) : sys_open_tree(origin, "",
			     TREE_CLONE | TREE_EMPTY_PATH | (options.recursive ? TREE_RECURSIVE : 0));
	if (tree < 0)
		return explain_source(source, errno, err);
	if (apply_attributes(tree, &options, err) < 0)
		return error_wrap(err, "cannot mount %s", source);
	place = open_target(root, target, options.create, S_ISDIR(status.st_mode), err);
	if (place < 0)
		return error_wrap(err, "cannot mount %s", source);
	if (fstat(place, &target_status) == 0 && S_ISDIR(target_status.st_mode) != S_ISDIR(status.st_mode)) {
		error_set(err, 0, "cannot mount %s on %s in the container", source, target);
		return error_hint(err, "one is a directory, the other is not: choose another target");
	}
	if (sys_move_mount(tree, place) < 0)
		return error_set(err, errno, "cannot mount %s on %s in the container", source, target);
	return 0;
}

int mounts_volume(int root, const char *path, struct error *err)
{
	char resolved[PATH_MAX];
	cleanup_close int place = tree_create(root, path, true, resolved, err);

	if (place < 0)
		return error_wrap(err, "cannot make the image's volume %s", path);
	/* The root itself is none: the image would have undone that it is read-only. */
	if (resolved[strspn(resolved, "/.")] == '\0')
		return 0;
	return mounts_bind(-1, path, root, path, "inside,nosuid,nodev", err);
}

/* One line: only what lies in the container is mounted, at its own place. Whoever made the image gets no more. */
static int mount_line(int root, char *line, struct error *err)
{
	static const char place[] = "${ENROOT_ROOTFS}/";
	char *rest;
	const char *source = strtok_r(line, " \t", &rest);
	const char *target = source == NULL ? NULL : strtok_r(NULL, " \t", &rest);

	if (target == NULL || strncmp(source, place, sizeof(place) - 1) != 0 ||
	    strcmp(source + sizeof(place) - 2, target) != 0)
		return 0;
	return mounts_volume(root, target, err);
}

int mounts_volumes(int root, const char *file, struct error *err)
{
	cleanup_close int fd = tree_open(root, file, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	cleanup_free char *text = NULL;
	struct stat status;
	ssize_t length;
	char *rest, *line;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size > VOLUMES_MAX)
		return 0;
	text = malloc((size_t)status.st_size + 1);
	if (text == NULL)
		return error_set(err, errno, "cannot read %s of the image", file);
	length = read(fd, text, (size_t)status.st_size);
	if (length < 0)
		return error_set(err, errno, "cannot read %s of the image", file);
	text[length] = '\0';
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;)
		if (mount_line(root, line, err) < 0)
			return -1;
	return 0;
}

/* Hand one option of a comma-separated list to a new file system. */
static int configure(int context, char *option)
{
	char *equals = strchr(option, '=');

	if (equals == NULL)
		return sys_fsconfig(context, CONTEXT_SET_FLAG, option, NULL);
	*equals = '\0';
	return sys_fsconfig(context, CONTEXT_SET_STRING, option, equals + 1);
}

static int new_file_system(const char *type, const char *data, uint64_t attributes, struct error *err)
{
	cleanup_close int context = sys_fsopen(type);
	cleanup_free char *copy = strdup(data);
	char *rest = copy, *option;
	int mount;

	if (context < 0 || copy == NULL)
		return error_set(err, errno, "cannot make a %s", type);
	while ((option = strsep(&rest, ",")) != NULL)
		if (*option != '\0' && configure(context, option) < 0)
			return error_set(err, errno, "%s refuses the option `%s`", type, option);
	if (sys_fsconfig(context, CONTEXT_CREATE, NULL, NULL) < 0)
		return error_set(err, errno, "cannot make a %s", type);
	mount = sys_fsmount(context, (unsigned int)attributes);
	return mount >= 0 ? mount : error_set(err, errno, "cannot make a %s", type);
}

int mounts_new(const char *type, int root, const char *target, const char *text, const char *data, struct error *err)
{
	struct options options;
	cleanup_close int place = -1, mount = -1;

	if (parse_options(text, &options, err) < 0)
		return -1;
	place = open_target(root, target, options.create, true, err);
	if (place < 0)
		return -1;
	mount = new_file_system(type, data, options.attributes, err);
	if (mount < 0)
		return options.optional ? 0 : error_wrap(err, "cannot mount a %s on %s", type, target);
	if (sys_move_mount(mount, place) < 0)
		return error_set(err, errno, "cannot mount a %s on %s in the container", type, target);
	return 0;
}

int mounts_remount(int root, const char *target, const char *text, struct error *err)
{
	cleanup_close int place = tree_open(root, target, O_PATH);
	struct options options;

	if (parse_options(text, &options, err) < 0)
		return -1;
	if (place < 0)
		return options.optional && is_missing(errno)
			       ? 0
			       : error_set(err, errno, "cannot change the mount on %s in the container", target);
	if (apply_attributes(place, &options, err) == 0)
		return 0;
	return options.optional ? 0 : error_wrap(err, "cannot change the mount on %s in the container", target);
}

int mounts_unmount(int proc, int root, const char *target, const char *text, struct error *err)
{
	cleanup_close int place = tree_open(root, target, O_PATH);
	struct options options;
	char path[64];

	if (parse_options(text, &options, err) < 0)
		return -1;
	if (place < 0 && options.optional && is_missing(errno))
		return 0;
	if (place < 0)
		return error_set(err, errno, "cannot unmount %s in the container", target);
	/* umount2(2) takes no descriptor; the link in /proc stands for one. */
	(void)snprintf(path, sizeof(path), "self/fd/%d", place);
	if (fchdir(proc) < 0 || (umount2(path, MNT_DETACH) < 0 && !(options.optional && errno == EINVAL)))
		return error_set(err, errno, "cannot unmount %s in the container", target);
	return 0;
}
