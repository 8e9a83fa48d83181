/*
 * pinnace-exec: carry out a plan (docs/protocol.md). It decides nothing: each operation is a few
 * system calls, done in the plan's order, as the user who runs it. It must never be setuid.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arguments.h"
#include "cleanup.h"
#include "descriptors.h"
#include "executor.h"
#include "namespace.h"
#include "task.h"

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

static int do_unshare(struct executor *executor, const struct field *operation, struct error *err)
{
	cleanup_free char **names = command_line(operation, 0, err);

	return names == NULL ? -1 : namespace_unshare((const char *const *)names, &executor->kinds, err);
}

static const struct {
	const char *name;
	do_function *carry_out;
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
