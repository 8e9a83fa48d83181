#define _GNU_SOURCE
#include "join.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "../libexec/cleanup.h"
#include "../libexec/fields.h"

enum { DESCRIPTORS = 4, FURTHER_MAX = 3, PACKET_MAX = 256 };

struct answer {
	int user_namespace, mount_namespace, plan;
	int held; /* by the packet alone: its end tells the keeper that the step has ended */
	int further[FURTHER_MAX]; /* namespaces that the container has besides, of any kind */
};

static void close_answer(struct answer *answer)
{
	cleanup_close_fd(&answer->user_namespace);
	cleanup_close_fd(&answer->mount_namespace);
	cleanup_close_fd(&answer->plan);
	cleanup_close_fd(&answer->held);
	for (size_t i = 0; i < FURTHER_MAX; i++)
		cleanup_close_fd(&answer->further[i]);
}

#define cleanup_answer __attribute__((cleanup(close_answer)))
#define NO_ANSWER                                                                  \
	{                                                                          \
		.user_namespace = -1, .mount_namespace = -1, .plan = -1, .held = -1, \
		.further = { -1, -1, -1 },                                         \
	}

/* Keep the descriptors of a message if there are as many as there must be, else close them. */
static int take_descriptors(struct msghdr *message, struct answer *answer)
{
	int *slots[DESCRIPTORS + FURTHER_MAX] = {
		&answer->user_namespace, &answer->mount_namespace, &answer->plan,       &answer->held,
		&answer->further[0],     &answer->further[1],      &answer->further[2],
	};
	size_t taken = 0;

	for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
		size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(part) + i * sizeof(fd), sizeof(fd));
			if (taken < DESCRIPTORS + FURTHER_MAX)
				*slots[taken] = fd;
			else
				(void)close(fd);
			taken++;
		}
	}
	if (message->msg_flags & MSG_CTRUNC)
		return -1;
	return taken >= DESCRIPTORS && taken <= DESCRIPTORS + FURTHER_MAX ? 0 : -1;
}

static bool says_ready(const char *packet, size_t size)
{
	struct fields message = { .data = (const uint8_t *)packet, .size = size };
	struct error ignored = { 0 };
	struct field field;

	return fields_next(&message, &field, &ignored) > 0 && field_is(&field, "ready") &&
	       field.length == 1 && field.value[0] == '1' && message.position == size;
}

/* A plan that can still change could be cut while it is read. */
static bool is_sealed(int fd)
{
	int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & wanted) == wanted;
}

/* Copy the answer and its descriptors: with MSG_PEEK the packet stays for the other tasks. */
static int peek_answer(int socket, struct answer *answer, struct error *err)
{
	union {
		char room[CMSG_SPACE((DESCRIPTORS + FURTHER_MAX + 1) * sizeof(int))];
		struct cmsghdr alignment;
	} control;
	char packet[PACKET_MAX];
	struct iovec data = { .iov_base = packet, .iov_len = sizeof(packet) };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room),
	};
	ssize_t size;

	do
		size = recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (size < 0 && errno == EINTR);
	if (size < 0 && errno == EAGAIN)
		return error_set(err, 0, "the launcher ended without making a container");
	if (size < 0)
		return error_set(err, errno, "cannot receive the container");
	if (take_descriptors(&message, answer) < 0 || (message.msg_flags & MSG_TRUNC) ||
	    !says_ready(packet, (size_t)size) || !is_sealed(answer->plan)) {
		error_set(err, 0, "the launcher's answer is not understood");
		return error_hint(err, "plugin and pinnace command must be of the same version");
	}
	return 0;
}

int join_check(int socket, struct error *err)
{
	cleanup_answer struct answer answer = NO_ANSWER;

	return peek_answer(socket, &answer, err);
}

/* The user namespace comes first: it gives the rights over the others. */
static int enter_namespaces(const struct answer *answer, struct error *err)
{
	if (setns(answer->user_namespace, CLONE_NEWUSER) < 0)
		return error_set(err, errno, "cannot join the container's user namespace");
	for (size_t i = 0; i < FURTHER_MAX && answer->further[i] >= 0; i++)
		if (setns(answer->further[i], 0) < 0)
			return error_set(err, errno, "cannot join a namespace of the container");
	if (setns(answer->mount_namespace, CLONE_NEWNS) < 0)
		return error_set(err, errno, "cannot join the container's mount namespace");
	return 0;
}

int join_container(int socket, const struct task_environment *environment, struct error *err)
{
	cleanup_answer struct answer answer = NO_ANSWER;
	struct fields plan;
	int result;

	if (peek_answer(socket, &answer, err) < 0 || fields_map(answer.plan, &plan, err) < 0)
		return -1;
	result = task_seek(&plan, err);
	if (result == 0)
		result = enter_namespaces(&answer, err);
	if (result == 0)
		result = task_apply(&plan, environment, err);
	fields_unmap(&plan);
	return result;
}
