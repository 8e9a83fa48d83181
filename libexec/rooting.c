#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>

#include "arguments.h"
#include "cleanup.h"
#include "executor.h"
#include "mounts.h"
#include "rootfs.h"
#include "tree.h"

int do_scratch(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_close int upper = -1, writable = -1;
	const char *text;
	unsigned long size;

	if (take_one(operation, &text, err) < 0 || number(text, ULONG_MAX, 10, &size, err) < 0)
		return -1;
	if (executor->layer.directory >= 0) {
		upper = rootfs_upper(executor->layer.directory, err);
		if (upper < 0)
			return -1;
	}
	if (rootfs_scratch(size, executor->lower, upper, err) < 0)
		return -1;
	if (upper >= 0)
		return 0;
	writable = rootfs_writable();
	return writable < 0 ? 0 : keeper_space(&executor->keeper, writable, err);
}

int do_lower_directory(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;

	if (take_one(operation, &path, err) < 0)
		return -1;
	executor->lower = rootfs_lower(path, err);
	return executor->lower < 0 ? -1 : 0;
}

int do_upper_directory(struct executor *executor, const struct field *operation, struct error *err)
{
	struct layer *layer = &executor->layer;
	const char *path, *duration;
	int result;

	if (take_two(operation, &path, &duration, err) < 0)
		return -1;
	if (strcmp(duration, "persistent") == 0)
		result = layer_open(path, layer, err);
	else
		result = layer_create(path, layer, err);
	return result < 0 ? -1 : keeper_layer(&executor->keeper, layer, err);
}

int do_fuse_mount(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *name, *target, *access;
	size_t position = 0;

	if (take(operation, &position, &name, err) < 0 || take(operation, &position, &target, err) < 0 ||
	    take(operation, &position, &access, err) < 0)
		return -1;
	for (size_t i = 0; i < MAX_SERVERS; i++)
		if (executor->servers[i].device >= 0 && strcmp(executor->servers[i].name, name) == 0)
			return fuse_mount(&executor->servers[i], target, strcmp(access, "read-only") == 0,
					  &executor->keeper, err);
	return error_set(err, 0, "the plan mounts the unknown FUSE server %s", name);
}

int do_base(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)executor, (void)operation;
	return rootfs_base(err);
}

int do_overlay(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_close int end = -1;

	(void)operation;
	if (rootfs_overlay(err) < 0)
		return -1;
	end = rootfs_watch();
	return end < 0 ? 0 : keeper_end(&executor->keeper, end, err);
}

int do_root(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	executor->host = open("/host", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (executor->host < 0)
		return error_set(err, errno, "cannot open the host's tree");
	executor->root = rootfs_root(err);
	return executor->root < 0 ? -1 : 0;
}

int do_bind(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *source, *target, *options;
	size_t position = 0;

	if (take(operation, &position, &source, err) < 0 || take(operation, &position, &target, err) < 0 ||
	    take(operation, &position, &options, err) < 0)
		return -1;
	return mounts_bind(executor->host, source, executor->root, target, options, err);
}

int do_tmpfs(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options, *data;
	size_t position = 0;

	if (take(operation, &position, &target, err) < 0 || take(operation, &position, &options, err) < 0 ||
	    take(operation, &position, &data, err) < 0)
		return -1;
	return mounts_new("tmpfs", executor->root, target, options, data, err);
}

/* What the kernel tells of the network that this process is in. */
int do_sysfs(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options;

	if (take_two(operation, &target, &options, err) < 0)
		return -1;
	return mounts_new("sysfs", executor->root, target, options, "", err);
}

int do_volume(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;

	return take_one(operation, &path, err) < 0 ? -1 : mounts_volume(executor->root, path, err);
}

int do_volumes_file(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;

	return take_one(operation, &path, err) < 0 ? -1 : mounts_volumes(executor->root, path, err);
}

int do_remount(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options;

	if (take_two(operation, &target, &options, err) < 0)
		return -1;
	return mounts_remount(executor->root, target, options, err);
}

int do_unmount(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options;

	if (take_two(operation, &target, &options, err) < 0)
		return -1;
	return mounts_unmount(executor->proc, executor->root, target, options, err);
}

static int write_file(struct executor *executor, const struct field *operation, bool prepend, struct error *err)
{
	const char *path, *mode_text;
	unsigned long mode;
	size_t position = 0;

	if (take(operation, &position, &path, err) < 0 || take(operation, &position, &mode_text, err) < 0 ||
	    number(mode_text, 07777, 8, &mode, err) < 0)
		return -1;
	return tree_write(executor->root, path, (mode_t)mode, operation->value + position,
			  operation->length - position, prepend, err);
}

int do_file(struct executor *executor, const struct field *operation, struct error *err)
{
	return write_file(executor, operation, false, err);
}

int do_prepend(struct executor *executor, const struct field *operation, struct error *err)
{
	return write_file(executor, operation, true, err);
}

/* A file for a program that the image may not have: only where its directory is. */
int do_optional_file(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char *directory = NULL;
	cleanup_close int fd = -1;
	const char *path;

	if (take_one(operation, &path, err) < 0)
		return -1;
	directory = strdup(path);
	if (directory == NULL)
		return error_set(err, errno, "cannot write %s of the container", path);
	fd = tree_open(executor->root, dirname(directory), O_PATH | O_DIRECTORY);
	return fd < 0 ? 0 : write_file(executor, operation, false, err);
}

int do_directory(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;
	cleanup_close int fd = -1;

	if (take_one(operation, &path, err) < 0)
		return -1;
	fd = tree_create(executor->root, path, true, NULL, err);
	return fd < 0 ? -1 : 0;
}

int do_read_only(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	return rootfs_read_only(executor->root, err);
}

int do_pivot(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	return rootfs_pivot(executor->root, err) < 0 ? -1 : keeper_ready(&executor->keeper, err);
}
