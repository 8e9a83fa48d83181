#define _GNU_SOURCE
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "cleanup.h"

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

int fuse_prepare(const struct field *operation, int namespace, struct fuse_server *server, struct error *err)
{
	cleanup_close int place = namespace;
	size_t position = 0;
	const char *name = field_argument(operation, &position);

	if (name == NULL || strlen(name) >= sizeof(server->name) || position == operation->length ||
	    operation->value[operation->length - 1] != '\0')
		return error_set(err, 0, "the plan's fuse-server is malformed");
	server->device = open_device(err);
	if (server->device < 0)
		return -1;
	(void)snprintf(server->name, sizeof(server->name), "%s", name);
	server->arguments = operation->value + position;
	server->length = operation->length - position;
	server->namespace = steal_fd(&place);
	return 0;
}

int fuse_mount(struct fuse_server *server, const char *target, bool read_only, const struct keeper *keeper,
	       struct error *err)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | (read_only ? MS_RDONLY : 0);
	cleanup_close int device = steal_fd(&server->device), namespace = steal_fd(&server->namespace);
	char options[128];

	(void)snprintf(options, sizeof(options),
		       "fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions", device,
		       geteuid(), getegid());
	if (mount(server->name, target, "fuse", flags, options) < 0)
		return error_set(err, errno, "cannot mount the file system of %s", server->name);
	return keeper_serve(keeper, server->arguments, server->length, device, namespace, err);
}
