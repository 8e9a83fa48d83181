/*
 * pinnace-exec: carry out a plan (docs/protocol.md). It decides nothing: each operation is a few
 * system calls, done in the plan's order, as the user who runs it. It must never be setuid.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "descriptors.h"
#include "entrypoint.h"
#include "error.h"
#include "fields.h"
#include "fuse.h"
#include "hooks.h"
#include "keeper.h"
#include "layer.h"
#include "mounts.h"
#include "namespace.h"
#include "rootfs.h"
#include "task.h"
#include "timings.h"
#include "tree.h"

enum { MAX_SERVERS = 2 };

struct executor {
	int plan;      /* descriptor of the plan, handed over with the container */
	int proc;      /* /proc of the host */
	int host;      /* the host's tree, from `root` on */
	int root;      /* the container's root, from `root` on */
	int lower;     /* a mount of the image's files, for `scratch`; -1: none */
	struct layer layer; /* the directory of the writable layer */
	mode_t umask;  /* the caller's, for the command */
	bool finished;
	struct timings timings;
	int kinds;       /* of namespaces that `unshare` has made */
	bool own_mounts; /* from the first `mount-namespace` on */
	struct held held; /* from `lifeline` and `lease` on */
	struct keeper keeper;
	struct hooks hooks;
	struct fuse_server servers[MAX_SERVERS];
};

/* The next arguments of an operation into the given variables; each must be there. */
static int take(const struct field *operation, size_t *position, const char **argument, struct error *err)
{
	*argument = field_argument(operation, position);
	if (*argument == NULL)
		return error_set(err, 0, "the plan's %s lacks an argument", operation->key);
	return 0;
}

static int take_two(const struct field *operation, const char **first, const char **second, struct error *err)
{
	size_t position = 0;

	return take(operation, &position, first, err) < 0 ? -1 : take(operation, &position, second, err);
}

static int take_one(const struct field *operation, const char **argument, struct error *err)
{
	size_t position = 0;

	return take(operation, &position, argument, err);
}

static int number(const char *text, unsigned long maximum, int base, unsigned long *value, struct error *err)
{
	char *end;

	errno = 0;
	*value = strtoul(text, &end, base);
	if (errno != 0 || end == text || *end != '\0' || *value > maximum)
		return error_set(err, 0, "the plan holds the wrong number `%.40s`", text);
	return 0;
}

static int do_version(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *version;

	(void)executor;
	if (take_one(operation, &version, err) < 0)
		return -1;
	if (strcmp(version, "1") != 0) {
		error_set(err, 0, "the plan has version %s, this pinnace-exec carries out version 1", version);
		return error_hint(err, "install all parts of Pinnace from one release");
	}
	return 0;
}

static int do_failure_status(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *text;
	unsigned long status;

	(void)executor;
	if (take_one(operation, &text, err) < 0 || number(text, 255, 10, &status, err) < 0)
		return -1;
	err->status = (int)status;
	return 0;
}

static int do_timings(struct executor *executor, const struct field *operation, struct error *err)
{
	return timings_begin(&executor->timings, operation, err);
}

static int do_user_namespace(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *uid_text, *gid_text;
	unsigned long uid, gid;

	if (take_two(operation, &uid_text, &gid_text, err) < 0 || number(uid_text, UINT32_MAX - 1, 10, &uid, err) < 0 ||
	    number(gid_text, UINT32_MAX - 1, 10, &gid, err) < 0)
		return -1;
	return namespace_user(executor->proc, (uid_t)uid, (gid_t)gid, err);
}

static int do_mount_namespace(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	executor->own_mounts = true;
	return namespace_mount(err);
}

/* `lifeline` and `lease`: held by the keeper. Neither the executor, beyond its own end, nor the command may. */
static int do_keep(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *text;
	unsigned long descriptor;

	if (take_one(operation, &text, err) < 0 || number(text, 1024, 10, &descriptor, err) < 0)
		return -1;
	if (executor->held.count == KEEPER_MAX_HELD)
		return error_set(err, 0, "the plan has more than %d descriptors for the keeper", KEEPER_MAX_HELD);
	if (fcntl((int)descriptor, F_SETFD, FD_CLOEXEC) < 0)
		return error_set(err, errno, "cannot pass the %s on", operation->key);
	executor->held.descriptors[executor->held.count++] = (int)descriptor;
	return 0;
}

static int do_keeper(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	if (executor->keeper.control >= 0)
		return error_set(err, 0, "the plan has two keepers");
	return keeper_start(&executor->keeper, &executor->held, err);
}

static int do_fuse_server(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_close int namespace = -1;

	if (executor->own_mounts) {
		namespace = openat(executor->proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
		if (namespace < 0)
			return error_set(err, errno, "cannot open the mount namespace");
	}
	for (size_t i = 0; i < MAX_SERVERS; i++)
		if (executor->servers[i].device < 0)
			return fuse_prepare(operation, steal_fd(&namespace), &executor->servers[i], err);
	return error_set(err, 0, "the plan has more than %d FUSE servers waiting", MAX_SERVERS);
}

static int do_scratch(struct executor *executor, const struct field *operation, struct error *err)
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

static int do_lower_directory(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;

	if (take_one(operation, &path, err) < 0)
		return -1;
	executor->lower = rootfs_lower(path, err);
	return executor->lower < 0 ? -1 : 0;
}

static int do_upper_directory(struct executor *executor, const struct field *operation, struct error *err)
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

static int do_fuse_mount(struct executor *executor, const struct field *operation, struct error *err)
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

static int do_base(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)executor, (void)operation;
	return rootfs_base(err);
}

static int do_overlay(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_close int end = -1;

	(void)operation;
	if (rootfs_overlay(err) < 0)
		return -1;
	end = rootfs_watch();
	return end < 0 ? 0 : keeper_end(&executor->keeper, end, err);
}

static int do_root(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	executor->host = open("/host", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (executor->host < 0)
		return error_set(err, errno, "cannot open the host's tree");
	executor->root = rootfs_root(err);
	return executor->root < 0 ? -1 : 0;
}

static int do_bind(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *source, *target, *options;
	size_t position = 0;

	if (take(operation, &position, &source, err) < 0 || take(operation, &position, &target, err) < 0 ||
	    take(operation, &position, &options, err) < 0)
		return -1;
	return mounts_bind(executor->host, source, executor->root, target, options, err);
}

static int do_tmpfs(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options, *data;
	size_t position = 0;

	if (take(operation, &position, &target, err) < 0 || take(operation, &position, &options, err) < 0 ||
	    take(operation, &position, &data, err) < 0)
		return -1;
	return mounts_new("tmpfs", executor->root, target, options, data, err);
}

/* What the kernel tells of the network that this process is in. */
static int do_sysfs(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options;

	if (take_two(operation, &target, &options, err) < 0)
		return -1;
	return mounts_new("sysfs", executor->root, target, options, "", err);
}

static int do_volume(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;

	return take_one(operation, &path, err) < 0 ? -1 : mounts_volume(executor->root, path, err);
}

static int do_volumes_file(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;

	return take_one(operation, &path, err) < 0 ? -1 : mounts_volumes(executor->root, path, err);
}

static int do_remount(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *target, *options;

	if (take_two(operation, &target, &options, err) < 0)
		return -1;
	return mounts_remount(executor->root, target, options, err);
}

static int do_unmount(struct executor *executor, const struct field *operation, struct error *err)
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

static int do_file(struct executor *executor, const struct field *operation, struct error *err)
{
	return write_file(executor, operation, false, err);
}

static int do_prepend(struct executor *executor, const struct field *operation, struct error *err)
{
	return write_file(executor, operation, true, err);
}

/* A file for a program that the image may not have: only where its directory is. */
static int do_optional_file(struct executor *executor, const struct field *operation, struct error *err)
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

static int do_directory(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *path;
	cleanup_close int fd = -1;

	if (take_one(operation, &path, err) < 0)
		return -1;
	fd = tree_create(executor->root, path, true, NULL, err);
	return fd < 0 ? -1 : 0;
}

static int do_read_only(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	return rootfs_read_only(executor->root, err);
}

static int do_pivot(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	return rootfs_pivot(executor->root, err) < 0 ? -1 : keeper_ready(&executor->keeper, err);
}

static int do_hand_over(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_close int held = -1, end = -1;
	const char *text;
	unsigned long socket;
	int ends[2];

	if (take_one(operation, &text, err) < 0 || number(text, 1024, 10, &socket, err) < 0)
		return -1;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, errno, "cannot hand the container over");
	end = ends[0];
	held = ends[1];
	if (keeper_hand_over(&executor->keeper, end, err) < 0)
		return -1;
	executor->finished = true;
	timings_print(&executor->timings);
	return namespace_send(executor->proc, (int)socket, executor->plan, held, executor->kinds, err);
}

static int explain_command(const char *program, int code, struct error *err)
{
	const char *path = getenv("PATH");

	if (code == ENOENT) {
		err->status = 127;
		if (strchr(program, '/') != NULL && access(program, F_OK) == 0) {
			error_set(err, 0, "cannot execute %s: the interpreter or loader it names is not in the image", program);
			return error_hint(err, "use a program built for this image");
		}
		if (strchr(program, '/') != NULL)
			error_set(err, 0, "command not found in the image: %s", program);
		else
			error_set(err, 0, "command not found in the image: %s (PATH is %.300s)", program,
				  path == NULL ? "not set" : path);
		return error_hint(err, "check its name, or give its full path inside the image");
	}
	err->status = 126;
	error_set(err, code, "cannot execute %s in the container", program);
	if (code == EACCES)
		return error_hint(err, "a file with execute permission is expected (chmod +x)");
	if (code == ENOEXEC)
		return error_hint(err, "it is no program for this machine's architecture");
	return -1;
}

/* The arguments of an operation, which must have some, behind `first` places that are left free. */
static char **command_line(const struct field *operation, size_t first, struct error *err)
{
	size_t position = 0, count = 0;
	char **arguments;
	const char *argument;

	while ((argument = field_argument(operation, &position)) != NULL)
		count++;
	if (count == 0 || position != operation->length) {
		error_set(err, 0, "the plan's %s is malformed", operation->key);
		return NULL;
	}
	arguments = calloc(first + count + 1, sizeof(*arguments));
	if (arguments == NULL) {
		error_set(err, errno, "cannot read the plan's %s", operation->key);
		return NULL;
	}
	position = 0;
	for (size_t i = 0; i < count; i++)
		arguments[first + i] = (char *)field_argument(operation, &position);
	return arguments;
}

/*
 * The shell that executes a script of the image, NULL if either is missing. enroot quotes in bash's way, which
 * other shells read wrong in rare cases.
 */
static const char *shell_for(const char *script)
{
	static const char *const shells[] = { "/bin/bash", "/bin/sh" };
	struct stat status;

	if (stat(script, &status) < 0 || !S_ISREG(status.st_mode) || access(script, R_OK) < 0)
		return NULL;
	for (size_t i = 0; i < sizeof(shells) / sizeof(*shells); i++)
		if (access(shells[i], X_OK) == 0)
			return shells[i];
	return NULL;
}

/* Become the shell that executes a script of the image, if both are there. */
static int do_script(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **arguments = command_line(operation, 1, err);

	if (arguments == NULL)
		return -1;
	arguments[0] = (char *)shell_for(arguments[1]);
	if (arguments[0] == NULL)
		return 0;
	(void)umask(executor->umask);
	timings_print(&executor->timings);
	execv(arguments[0], arguments);
	return explain_command(arguments[0], errno, err);
}

static int do_unshare(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **names = command_line(operation, 0, err);

	return names == NULL ? -1 : namespace_unshare((const char *const *)names, &executor->kinds, err);
}

static int run_entrypoint(struct executor *executor, char *const *words, const char *log, struct error *err)
{
	const struct entrypoint entrypoint = {
		.words = words,
		.plan = executor->plan,
		.umask = executor->umask,
		.log = strcmp(log, "log") == 0,
	};
	int plan = entrypoint_run(&entrypoint, err);

	if (plan < 0)
		return -1;
	(void)close(executor->plan);
	executor->plan = plan;
	return 0;
}

static int do_entrypoint(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **arguments = command_line(operation, 0, err);

	if (arguments == NULL)
		return -1;
	if (arguments[1] == NULL)
		return error_set(err, 0, "the plan's %s is malformed", operation->key);
	return run_entrypoint(executor, arguments + 1, arguments[0], err);
}

/* An image whose script or shell is missing has no entry point. */
static int do_entrypoint_script(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *log, *script;
	char *words[3] = { NULL };

	if (take_two(operation, &log, &script, err) < 0)
		return -1;
	words[0] = (char *)shell_for(script);
	words[1] = (char *)script;
	return words[0] == NULL ? 0 : run_entrypoint(executor, words, log, err);
}

static int do_command(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **arguments = command_line(operation, 0, err);

	if (arguments == NULL)
		return -1;
	if (arguments[0][0] == '\0')
		return explain_command("''", ENOENT, err);
	(void)umask(executor->umask);
	timings_print(&executor->timings);
	execvp(arguments[0], arguments);
	return explain_command(arguments[0], errno, err);
}

static int do_hooks_begin(struct executor *executor, const struct field *operation, struct error *err)
{
	return hooks_begin(&executor->hooks, executor->host, executor->root, executor->plan, operation, err);
}

static int do_hook(struct executor *executor, const struct field *operation, struct error *err)
{
	const char *program;

	return take_one(operation, &program, err) < 0 ? -1 : hooks_run(&executor->hooks, program, err);
}

/* Each operation of those kinds that hooks may ask for. */
static int carry_out_results(struct executor *executor, bool variables, struct error *err)
{
	struct fields results = executor->hooks.results;
	struct field operation;
	int more = 0, result = 0;

	while (result >= 0 && results.size > 0 && (more = fields_next(&results, &operation, err)) > 0)
		if (field_is(&operation, "environment"))
			result = variables ? task_operation(&operation, &task_own_environment, err) : 0;
		else if (variables)
			continue;
		else if (field_is(&operation, "bind"))
			result = do_bind(executor, &operation, err);
		else if (field_is(&operation, "tmpfs"))
			result = do_tmpfs(executor, &operation, err);
		else if (field_is(&operation, "remount"))
			result = do_remount(executor, &operation, err);
		else if (field_is(&operation, "unmount"))
			result = do_unmount(executor, &operation, err);
		else
			result = error_set(err, 0, "hooks cannot ask for %s", operation.key);
	return more < 0 || result < 0 ? -1 : 0;
}

static int do_hooks_end(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **words = command_line(operation, 0, err);
	int plan;

	if (words == NULL || hooks_end(&executor->hooks, executor->root, words, err) < 0)
		return -1;
	plan = hooks_plan(&executor->hooks, executor->plan, err);
	if (plan < 0)
		return -1;
	executor->plan = plan;
	return carry_out_results(executor, false, err);
}

static int do_hook_variables(struct executor *executor, const struct field *operation, struct error *err)
{
	(void)operation;
	return carry_out_results(executor, true, err);
}

static const struct {
	const char *name;
	int (*carry_out)(struct executor *executor, const struct field *operation, struct error *err);
} operations[] = {
	{ "version", do_version },
	{ "failure-status", do_failure_status },
	{ "timings", do_timings },
	{ "user-namespace", do_user_namespace },
	{ "mount-namespace", do_mount_namespace },
	{ "unshare", do_unshare },
	{ "lifeline", do_keep },
	{ "lease", do_keep },
	{ "keeper", do_keeper },
	{ "fuse-server", do_fuse_server },
	{ "lower-directory", do_lower_directory },
	{ "upper-directory", do_upper_directory },
	{ "scratch", do_scratch },
	{ "fuse-mount", do_fuse_mount },
	{ "base", do_base },
	{ "overlay", do_overlay },
	{ "root", do_root },
	{ "bind", do_bind },
	{ "tmpfs", do_tmpfs },
	{ "sysfs", do_sysfs },
	{ "volume", do_volume },
	{ "volumes-file", do_volumes_file },
	{ "remount", do_remount },
	{ "unmount", do_unmount },
	{ "file", do_file },
	{ "optional-file", do_optional_file },
	{ "prepend", do_prepend },
	{ "directory", do_directory },
	{ "read-only", do_read_only },
	{ "pivot", do_pivot },
	{ "entrypoint", do_entrypoint },
	{ "entrypoint-script", do_entrypoint_script },
	{ "hand-over", do_hand_over },
	{ "hooks-begin", do_hooks_begin },
	{ "hook", do_hook },
	{ "hooks-end", do_hooks_end },
	{ "hook-variables", do_hook_variables },
	{ "script", do_script },
	{ "command", do_command },
};

static int carry_out(struct executor *executor, const struct field *operation, struct error *err)
{
	int done;

	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++)
		if (field_is(operation, operations[i].name))
			return operations[i].carry_out(executor, operation, err);
	done = task_operation(operation, &task_own_environment, err);
	if (done == 0)
		return error_set(err, 0, "the plan holds the unknown operation %s", operation->key);
	return done < 0 ? -1 : 0;
}

static int execute(int plan_fd, struct error *err)
{
	struct executor executor = {
		.plan = plan_fd,
		.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.host = -1,
		.root = -1,
		.umask = umask(022),
		.lower = -1,
		.layer = LAYER_NONE,
		.keeper = KEEPER_NONE,
		.hooks = HOOKS_NONE,
		.servers = { FUSE_SERVER_NONE, FUSE_SERVER_NONE },
	};
	struct fields plan;
	struct field operation;
	bool first = true;
	int more;

	if (executor.proc < 0)
		return error_set(err, errno, "cannot open /proc");
	if (fields_map(plan_fd, &plan, err) < 0)
		return -1;
	while (!executor.finished && (more = fields_next(&plan, &operation, err)) != 0) {
		if (more < 0)
			return -1;
		if (first && !field_is(&operation, "version"))
			return error_set(err, 0, "the plan does not begin with its version");
		first = false;
		if (carry_out(&executor, &operation, err) < 0)
			return -1;
		timings_add(&executor.timings, &operation);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct error err = { .status = 1 };
	unsigned long plan;

	occupy_standard_descriptors();
	if (getauxval(AT_SECURE) != 0) {
		error_set(&err, 0, "pinnace-exec must not be setuid or have file capabilities");
	} else if (argc != 2 || strncmp(argv[1], "--plan=", 7) != 0 || number(argv[1] + 7, 1024, 10, &plan, &err) < 0) {
		error_set(&err, 0, "usage: pinnace-exec --plan=DESCRIPTOR; it is called by `pinnace`");
		err.status = 2;
	} else if (fcntl((int)plan, F_SETFD, FD_CLOEXEC) < 0) {
		error_set(&err, errno, "cannot read the plan from descriptor %lu", plan);
	} else if (execute((int)plan, &err) == 0) {
		return 0;
	}
	error_print(&err);
	return err.status;
}
