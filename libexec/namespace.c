#define _GNU_SOURCE
#include "namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"

static int write_once(int proc, const char *name, const char *text, struct error *err)
{
	cleanup_close int fd = openat(proc, name, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return error_set(err, errno, "cannot write `%s` to /proc/%s", text, name);
	return 0;
}

static int explain_user_namespace(int code, struct error *err)
{
	error_set(err, code, "cannot create a user namespace");
	if (code == ENOSPC)
		return error_hint(err, "the limit user.max_user_namespaces is reached or 0: "
				  "ask the administrator to raise it (sysctl)");
	if (code == EPERM || code == EACCES)
		return error_hint(err, "this machine restricts them: `pinnace doctor` says what to allow");
	return -1;
}

int namespace_user(int proc, uid_t uid, gid_t gid, struct error *err)
{
	uid_t outer_uid = geteuid();
	gid_t outer_gid = getegid();
	char map[64];

	if (unshare(CLONE_NEWUSER) < 0)
		return explain_user_namespace(errno, err);
	if (write_once(proc, "self/setgroups", "deny", err) < 0) {
		/* Ubuntu's AppArmor lets the namespace be made and takes its capabilities away. */
		return error_hint(err, "this machine restricts user namespaces: `pinnace doctor` says what to allow");
	}
	(void)snprintf(map, sizeof(map), "%u %u 1", uid, outer_uid);
	if (write_once(proc, "self/uid_map", map, err) < 0)
		return -1;
	(void)snprintf(map, sizeof(map), "%u %u 1", gid, outer_gid);
	return write_once(proc, "self/gid_map", map, err);
}

int namespace_mount(struct error *err)
{
	if (unshare(CLONE_NEWNS) < 0) {
		error_set(err, errno, "cannot create a mount namespace");
		return error_hint(err, "this machine restricts user namespaces: `pinnace doctor` says what to allow");
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return error_set(err, errno, "cannot separate the mounts from the host's");
	return 0;
}

int namespace_send(int proc, int socket, int file, int held, struct error *err)
{
	cleanup_close int user = openat(proc, "self/ns/user", O_RDONLY | O_CLOEXEC);
	cleanup_close int mounts = openat(proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int descriptors[4] = { user, mounts, file, held };
	char payload[] = { 0, 0, 0, 5, 0, 0, 0, 1, 'r', 'e', 'a', 'd', 'y', '1' };
	struct iovec part = { .iov_base = payload, .iov_len = sizeof(payload) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(descriptors))];
	} control = { .space = { 0 } };
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	if (user < 0 || mounts < 0)
		return error_set(err, errno, "cannot open the container's namespaces");
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(descriptors));
	memcpy(CMSG_DATA(rights), descriptors, sizeof(descriptors));
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != (ssize_t)sizeof(payload))
		return error_set(err, errno, "cannot hand the container over");
	return 0;
}
