#define _GNU_SOURCE
#include "namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"

/* The namespaces that a container has for itself if asked. */
static const struct {
	const char *name;
	int kind;
	const char *link;
	const char *limit;
} further[] = {
	{ "net", CLONE_NEWNET, "self/ns/net", "user.max_net_namespaces" },
	{ "ipc", CLONE_NEWIPC, "self/ns/ipc", "user.max_ipc_namespaces" },
	{ "uts", CLONE_NEWUTS, "self/ns/uts", "user.max_uts_namespaces" },
};

enum { FURTHER = sizeof(further) / sizeof(*further), ALWAYS = 4 };

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

/* A new network has a loopback device, which is down. */
static int raise_loopback(struct error *err)
{
	cleanup_close int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq device = { .ifr_name = "lo" };

	if (any < 0 || ioctl(any, SIOCGIFFLAGS, &device) < 0)
		return error_set(err, errno, "cannot reach the loopback device of the new network");
	device.ifr_flags |= IFF_UP;
	if (ioctl(any, SIOCSIFFLAGS, &device) < 0)
		return error_set(err, errno, "cannot raise the loopback device of the new network");
	return 0;
}

static int unshare_one(const char *name, int *kinds, struct error *err)
{
	for (size_t i = 0; i < FURTHER; i++) {
		if (strcmp(further[i].name, name) != 0)
			continue;
		if (unshare(further[i].kind) < 0) {
			int code = errno;

			error_set(err, code, "cannot create a namespace of the kind %s", name);
			return code == ENOSPC ? error_hint(err, "the limit %s is reached or 0: ask the administrator "
							   "to raise it (sysctl)", further[i].limit) : -1;
		}
		*kinds |= further[i].kind;
		return further[i].kind == CLONE_NEWNET ? raise_loopback(err) : 0;
	}
	return error_set(err, 0, "the plan has the unknown namespace `%.40s`", name);
}

int namespace_unshare(const char *const *names, int *kinds, struct error *err)
{
	for (; *names != NULL; names++)
		if (unshare_one(*names, kinds, err) < 0)
			return -1;
	return 0;
}

/* Open the namespaces of kinds: how many, or -1. */
static int open_further(int proc, int kinds, int *descriptors, struct error *err)
{
	int count = 0;

	for (size_t i = 0; i < FURTHER; i++) {
		if ((kinds & further[i].kind) == 0)
			continue;
		/* They are open until this process ends, which is as soon as they are sent. */
		descriptors[count] = openat(proc, further[i].link, O_RDONLY | O_CLOEXEC);
		if (descriptors[count++] < 0)
			return error_set(err, errno, "cannot open the container's namespaces");
	}
	return count;
}

int namespace_send(int proc, int socket, int file, int held, int kinds, struct error *err)
{
	cleanup_close int user = openat(proc, "self/ns/user", O_RDONLY | O_CLOEXEC);
	cleanup_close int mounts = openat(proc, "self/ns/mnt", O_RDONLY | O_CLOEXEC);
	int descriptors[ALWAYS + FURTHER] = { user, mounts, file, held };
	int count = open_further(proc, kinds, descriptors + ALWAYS, err);
	size_t length = (size_t)(ALWAYS + (count < 0 ? 0 : count)) * sizeof(*descriptors);
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
		.msg_controllen = CMSG_SPACE(length),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	if (count < 0)
		return -1;
	if (user < 0 || mounts < 0)
		return error_set(err, errno, "cannot open the container's namespaces");
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(length);
	memcpy(CMSG_DATA(rights), descriptors, length);
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != (ssize_t)sizeof(payload))
		return error_set(err, errno, "cannot hand the container over");
	return 0;
}
