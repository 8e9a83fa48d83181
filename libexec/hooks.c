#define _GNU_SOURCE
#include "hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "syscalls.h"
#include "tree.h"

enum { FIRST_FREE_FD = 3, IMAGE_FILE_MAX = 1 << 20 };

/*
 * Where hooks find the container: a directory that every kernel has, and nothing but root can look into. One that
 * was made for it would stay behind if this process were killed.
 */
#define PLACE "/sys/kernel/debug"
#define HOST "/host"
static const char ROOT[] = "root", MOUNTS[] = "fstab", VARIABLES[] = "environment";

/* What hooks are told besides, in this order. */
static const char *const told[] = { "ENROOT_ROOTFS=" PLACE "/root", "ENROOT_MOUNTS=" PLACE "/fstab",
				    "ENROOT_ENVIRON=" PLACE "/environment", "ENROOT_RUNTIME_PATH=" PLACE };
enum { TOLD = sizeof(told) / sizeof(*told) };

static bool same_name(const char *one, const char *other)
{
	size_t length = strcspn(one, "=");

	return strcspn(other, "=") == length && memcmp(one, other, length) == 0;
}

static bool has_name(char *const *variables, size_t count, const char *variable)
{
	for (size_t i = 0; i < count; i++)
		if (same_name(variables[i], variable))
			return true;
	return false;
}

/*
 * Own variables first, those that are not passed on among them; behind them those of other names that follow an
 * empty argument or, if there is none, are this process's.
 */
static int read_environment(struct hooks *hooks, const struct field *operation, struct error *err)
{
	size_t position = 0, own, count = TOLD, passed = 0;
	const char *argument;
	char *pid;

	while (field_argument(operation, &position) != NULL)
		count++;
	for (char **variable = environ; *variable != NULL; variable++)
		count++;
	hooks->environment = calloc(count + 2, sizeof(*hooks->environment));
	if (hooks->environment == NULL || asprintf(&pid, "ENROOT_PID=%d", getpid()) < 0)
		return error_set(err, ENOMEM, "cannot read the variables of hooks");
	memcpy(hooks->environment, told, sizeof(told));
	hooks->environment[TOLD] = pid;
	own = TOLD + 1;
	position = 0;
	while ((argument = field_argument(operation, &position)) != NULL && *argument != '\0')
		hooks->environment[own++] = (char *)argument;
	count = own;
	for (char **variable = environ; argument == NULL && *variable != NULL; variable++)
		if (!has_name(hooks->environment, own, *variable))
			hooks->environment[count++] = *variable;
	while ((argument = field_argument(operation, &position)) != NULL)
		if (!has_name(hooks->environment, own, argument))
			hooks->environment[count++] = (char *)argument;
	for (size_t i = 0; i < count; i++)
		if (strchr(hooks->environment[i], '=') != NULL)
			hooks->environment[passed++] = hooks->environment[i];
	hooks->environment[passed] = NULL;
	return 0;
}

static int mount_directory(const struct hooks *hooks, struct error *err)
{
	cleanup_close int place = tree_open(hooks->host, PLACE, O_PATH | O_DIRECTORY);
	cleanup_close int context = place < 0 ? -1 : sys_fsopen("tmpfs");
	cleanup_close int mount = -1;

	if (context < 0 || sys_fsconfig(context, CONTEXT_SET_STRING, "mode", "0700") < 0 ||
	    sys_fsconfig(context, CONTEXT_CREATE, NULL, NULL) < 0)
		return error_set(err, errno, "cannot show the container to hooks at " PLACE);
	mount = sys_fsmount(context, ATTRIBUTE_NOSUID | ATTRIBUTE_NODEV);
	if (mount < 0 || sys_move_mount(mount, place) < 0)
		return error_set(err, errno, "cannot show the container to hooks at " PLACE);
	return steal_fd(&mount);
}

static int move_root(int root, int directory, const char *name, struct error *err)
{
	cleanup_close int place = openat(directory, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (place < 0 || sys_move_mount(root, place) < 0)
		return error_set(err, errno, "cannot move the container's root");
	return 0;
}

/* The image's own file of variables, as far as it is one. */
static int copy_file(int file, int root, const char *path, struct error *err)
{
	cleanup_close int fd = tree_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	cleanup_free char *bytes = NULL;
	struct stat status;
	ssize_t length;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return 0;
	if (status.st_size > IMAGE_FILE_MAX)
		return error_set(err, 0, "%s of the image is larger than %d bytes", path, IMAGE_FILE_MAX);
	bytes = malloc((size_t)status.st_size + 1);
	length = bytes == NULL ? -1 : read(fd, bytes, (size_t)status.st_size);
	if (length < 0 || write(file, bytes, (size_t)length) != length)
		return error_set(err, errno, "cannot write the variables for hooks");
	return dprintf(file, "\n") < 0 ? error_set(err, errno, "cannot write the variables for hooks") : 0;
}

/* The variables of the container, one a line; those of several lines are none for hooks. */
static int write_variables(struct hooks *hooks, int root, int plan_fd, struct error *err)
{
	cleanup_close int file = openat(hooks->directory, VARIABLES, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	struct fields plan;
	struct field operation;
	int more, result = 0;

	if (file < 0)
		return error_set(err, errno, "cannot write the variables for hooks");
	if (fields_map(plan_fd, &plan, err) < 0)
		return -1;
	while (result == 0 && (more = fields_next(&plan, &operation, err)) != 0) {
		cleanup_free char *text = more < 0 ? NULL : strndup(operation.value, operation.length);

		if (text == NULL)
			result = -1;
		else if (field_is(&operation, "environment-file"))
			result = copy_file(file, root, text, err);
		else if (field_is(&operation, "environment") && strchr(text, '\n') == NULL)
			result = dprintf(file, "%s\n", text) < 0
					 ? error_set(err, errno, "cannot write the variables for hooks")
					 : 0;
	}
	fields_unmap(&plan);
	hooks->known = lseek(file, 0, SEEK_CUR);
	return result;
}

int hooks_begin(struct hooks *hooks, int host, int root, int plan, const struct field *operation, struct error *err)
{
	cleanup_close int file = -1;

	if (hooks->directory >= 0)
		return error_set(err, 0, "the plan begins with hooks twice");
	hooks->host = host;
	if (read_environment(hooks, operation, err) < 0)
		return -1;
	hooks->directory = mount_directory(hooks, err);
	if (hooks->directory < 0)
		return -1;
	file = openat(hooks->directory, MOUNTS, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (file < 0 || mkdirat(hooks->directory, ROOT, 0755) < 0)
		return error_set(err, errno, "cannot write the files for hooks");
	if (write_variables(hooks, root, plan, err) < 0)
		return -1;
	return move_root(root, hooks->directory, ROOT, err);
}

/* Rights in the container's namespaces outlast execve(2) as ambient capabilities alone. */
static int keep_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &header, data) < 0)
		return -1;
	for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i].inheritable = data[i].permitted;
	if (syscall(SYS_capset, &header, data) < 0)
		return -1;
	for (unsigned long capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		if ((data[capability / 32].permitted & (1U << capability % 32)) != 0 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
			return -1;
	return 0;
}

/* The child: in the host's tree, it ends with its parent and has none of its descriptors. Tells errno if it fails. */
__attribute__((noreturn)) static void execute(const struct hooks *hooks, char *const *words, int output, int answer)
{
	int nothing, code;

	if (fchdir(hooks->host) == 0 && chroot(".") == 0 &&
	    (nothing = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0 && dup2(nothing, STDIN_FILENO) >= 0 &&
	    dup2(output < 0 ? nothing : output, STDOUT_FILENO) >= 0 && keep_capabilities() == 0 &&
	    prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && dup2(answer, FIRST_FREE_FD) == FIRST_FREE_FD &&
	    fcntl(FIRST_FREE_FD, F_SETFD, FD_CLOEXEC) == 0 && sys_close_range(FIRST_FREE_FD + 1) == 0) {
		answer = FIRST_FREE_FD;
		(void)umask(022);
		(void)execve(words[0], words, hooks->environment);
	}
	code = errno;
	_exit(write(answer, &code, sizeof(code)) == sizeof(code) ? 127 : 126);
}

/* The kernel forgets the exit status where the caller's SIGCHLD is ignored (waitpid(2), NOTES). */
static int wait_for(pid_t child, int *status)
{
	int result;

	do
		result = waitpid(child, status, 0);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -1 : 0;
}

/* Run a program in the host's tree, with standard output on a descriptor or, for -1, nowhere. */
static int run(const struct hooks *hooks, char *const *words, int output, struct error *err)
{
	struct sigaction standard = { .sa_handler = SIG_DFL }, before;
	int ends[2], status, code = 0, waited;
	ssize_t told_length;
	pid_t child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_set(err, errno, "cannot start %s", words[0]);
	(void)sigaction(SIGCHLD, &standard, &before);
	child = fork();
	if (child == 0)
		execute(hooks, words, output, ends[1]);
	(void)close(ends[1]);
	told_length = child < 0 ? 0 : read(ends[0], &code, sizeof(code));
	(void)close(ends[0]);
	waited = child < 0 ? 0 : wait_for(child, &status);
	(void)sigaction(SIGCHLD, &before, NULL);
	if (child < 0)
		return error_set(err, 0, "cannot start %s: no process could be made", words[0]);
	if (waited < 0)
		return error_set(err, errno, "cannot wait for %s", words[0]);
	if (told_length == sizeof(code))
		return error_set(err, code, "cannot execute the hook %s", words[0]);
	if (WIFSIGNALED(status))
		return error_set(err, 0, "the hook %s was killed by signal %d (%s)", words[0], WTERMSIG(status),
				 strsignal(WTERMSIG(status)));
	if (WEXITSTATUS(status) != 0)
		return error_set(err, 0, "the hook %s exited with return code %d", words[0], WEXITSTATUS(status));
	return 0;
}

int hooks_run(const struct hooks *hooks, const char *program, struct error *err)
{
	char *const words[] = { (char *)program, NULL };

	if (hooks->directory < 0)
		return error_set(err, 0, "the plan has a hook before hooks-begin");
	return run(hooks, words, -1, err);
}

static long long size_of(const struct hooks *hooks, const char *name)
{
	struct stat status;

	return fstatat(hooks->directory, name, &status, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : status.st_size;
}

/* The program's last word becomes how much of the variables is known; what it prints is a message. */
static int read_results(struct hooks *hooks, char **words, struct error *err)
{
	cleanup_close int output = memfd_create("pinnace-hooks", MFD_CLOEXEC);
	cleanup_free char *text = NULL;
	struct field first;
	struct fields results;
	struct stat status;
	size_t count = 0;

	while (words[count] != NULL)
		count++;
	if (output < 0 || asprintf(&text, "%lld", hooks->known) < 0)
		return error_set(err, errno, "cannot read what hooks ask for");
	words[count - 1] = text;
	if (run(hooks, words, output, err) < 0)
		return -1;
	if (fstat(output, &status) == 0 && status.st_size == 0)
		return 0;
	if (fields_map(output, &hooks->results, err) < 0)
		return -1;
	results = hooks->results;
	if (fields_next(&results, &first, err) > 0 && field_is(&first, "error"))
		return error_set(err, 0, "%.*s", (int)first.length, first.value);
	return 0;
}

int hooks_end(struct hooks *hooks, int root, char **words, struct error *err)
{
	if (hooks->directory < 0)
		return error_set(err, 0, "the plan ends hooks that it has not begun");
	if ((size_of(hooks, MOUNTS) > 0 || size_of(hooks, VARIABLES) > hooks->known) &&
	    read_results(hooks, words, err) < 0)
		return -1;
	if (move_root(root, AT_FDCWD, "/root", err) < 0)
		return -1;
	return umount2(HOST PLACE, MNT_DETACH) == 0 ? 0 : error_set(err, errno, "cannot hide the files of hooks");
}

/* The variables among the results. */
static int add_variables(int fd, const struct hooks *hooks, struct error *err)
{
	struct fields results = hooks->results;
	struct field operation;
	int more;

	while ((more = results.size == 0 ? 0 : fields_next(&results, &operation, err)) > 0)
		if (field_is(&operation, "environment") &&
		    fields_write(fd, operation.key, operation.value, operation.length, err) < 0)
			return -1;
	return more;
}

int hooks_plan(const struct hooks *hooks, int plan_fd, struct error *err)
{
	cleanup_close int fd = memfd_create("pinnace-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct fields plan;
	struct field operation;
	int more, result = 0;

	if (fd < 0)
		return error_set(err, errno, "cannot make room for what hooks ask for");
	if (fields_map(plan_fd, &plan, err) < 0)
		return -1;
	while (result == 0 && (more = fields_next(&plan, &operation, err)) != 0)
		if (more < 0 || field_is(&operation, "hook-variables"))
			result = more < 0 ? -1 : add_variables(fd, hooks, err);
		else
			result = fields_write(fd, operation.key, operation.value, operation.length, err);
	fields_unmap(&plan);
	if (result < 0)
		return -1;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno, "cannot seal the plan");
	return steal_fd(&fd);
}
