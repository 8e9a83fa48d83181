#define _GNU_SOURCE
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cleanup.h"
#include "syscalls.h"

enum { MAX_ARGUMENTS = 32, SERVER_DEVICE = 3, SERVER_RELEASE = 4, SERVER_KEPT = 5, FIRST_FREE = 16 };

/* Descriptors 0-2 to /dev/null, the given ones to fixed numbers, all others closed. */
static int arrange_descriptors(int device, int release, const struct fuse_kept *kept)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int high_device = fcntl(device, F_DUPFD_CLOEXEC, FIRST_FREE);
	int high_release = fcntl(release, F_DUPFD_CLOEXEC, FIRST_FREE);
	int high_kept[FUSE_MAX_KEPT];

	if (null < 0 || high_device < 0 || high_release < 0)
		return -1;
	for (size_t i = 0; i < kept->count; i++)
		if ((high_kept[i] = fcntl(kept->descriptors[i], F_DUPFD_CLOEXEC, FIRST_FREE)) < 0)
			return -1;
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return -1;
	if (dup2(high_device, SERVER_DEVICE) < 0 || dup3(high_release, SERVER_RELEASE, O_CLOEXEC) < 0)
		return -1;
	for (size_t i = 0; i < kept->count; i++)
		if (dup2(high_kept[i], SERVER_KEPT + (int)i) < 0)
			return -1;
	return sys_close_range(SERVER_KEPT + (int)kept->count);
}

static void default_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		(void)signal(number, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The server's process: wait until the mount is made, then become the program. */
__attribute__((noreturn)) static void serve(char *const arguments[], int device, int release,
					       const struct fuse_kept *kept)
{
	char *const environment[] = { NULL }; /* what is preloaded into the user's programs is not for the server */
	char go;

	default_signals();
	if (arrange_descriptors(device, release, kept) < 0 || chdir("/") < 0)
		_exit(1);
	if (read(SERVER_RELEASE, &go, 1) != 1)
		_exit(0); /* the start failed */
	execve(arguments[0], arguments, environment);
	_exit(127);
}

/* Fork twice: the server belongs to no process of the container and to no terminal. */
static int fork_server(char *const arguments[], int device, int release, int release_writer,
		       const struct fuse_kept *kept, struct error *err)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return error_set(err, errno, "cannot start %s", arguments[0]);
	if (child == 0) {
		(void)close(release_writer);
		if (setsid() < 0)
			_exit(1);
		switch (fork()) {
		case -1:
			_exit(1);
		case 0:
			serve(arguments, device, release, kept);
		default:
			_exit(0);
		}
	}
	while (waitpid(child, &status, 0) < 0) {
		if (errno == ECHILD)
			return 0; /* SIGCHLD is ignored; a server that is not there is noticed when it is released */
		if (errno != EINTR)
			return error_set(err, errno, "cannot wait for %s", arguments[0]);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_set(err, 0, "cannot start %s", arguments[0]);
	return 0;
}

static int open_device(struct error *err)
{
	int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (device >= 0)
		return device;
	error_set(err, errno, "cannot open /dev/fuse");
	if (errno == EACCES || errno == EPERM)
		return error_hint(err, "users need it to mount images: ask the administrator for "
				  "`chmod 0666 /dev/fuse`");
	return error_hint(err, "the kernel module fuse is needed to mount images: ask the administrator for "
			  "`modprobe fuse`");
}

int fuse_start(const struct field *operation, const struct fuse_kept *kept, struct fuse_server *server,
	       struct error *err)
{
	char *arguments[MAX_ARGUMENTS + 1] = { NULL };
	char device_path[] = "/dev/fd/3";
	size_t position = 0, count = 0;
	const char *name = field_argument(operation, &position);
	const char *argument;
	cleanup_close int device = -1, reader = -1, writer = -1;
	int ends[2];

	while (count < MAX_ARGUMENTS && (argument = field_argument(operation, &position)) != NULL)
		arguments[count++] = strcmp(argument, "@") == 0 ? device_path : (char *)argument;
	if (name == NULL || count == 0 || position != operation->length || strlen(name) >= sizeof(server->name))
		return error_set(err, 0, "the plan's fuse-server is malformed");
	device = open_device(err);
	if (device < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(err, errno, "cannot start %s", arguments[0]);
	reader = ends[0];
	writer = ends[1];
	if (fork_server(arguments, device, reader, writer, kept, err) < 0)
		return -1;
	(void)snprintf(server->name, sizeof(server->name), "%s", name);
	server->device = steal_fd(&device);
	server->release = steal_fd(&writer);
	return 0;
}

int fuse_mount(struct fuse_server *server, const char *target, struct error *err)
{
	char options[128];

	(void)snprintf(options, sizeof(options),
		       "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions",
		       server->device, geteuid(), getegid());
	if (mount(server->name, target, "fuse", MS_NOSUID | MS_NODEV, options) < 0)
		return error_set(err, errno, "cannot mount the file system of %s", server->name);
	if (send(server->release, "", 1, MSG_NOSIGNAL) != 1)
		return error_set(err, errno, "the server of %s is gone", server->name);
	(void)close(server->device);
	(void)close(server->release);
	server->device = server->release = -1;
	return 0;
}
