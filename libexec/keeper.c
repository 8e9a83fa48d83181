#define _GNU_SOURCE
#include "keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "keeping.h"
#include "syscalls.h"

static int ask(const struct keeper *keeper, char kind, const char *text, size_t length, const int *descriptors,
	       size_t count, struct error *err)
{
	struct iovec parts[] = { { .iov_base = &kind, .iov_len = 1 }, { .iov_base = (char *)text, .iov_len = length } };
	union keeper_rights control = { .space = { 0 } };
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = count == 0 ? NULL : control.space,
		.msg_controllen = count == 0 ? 0 : CMSG_SPACE(count * sizeof(int)),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
	if (count > 0)
		memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
	if (sendmsg(keeper->control, &message, MSG_NOSIGNAL) < 0)
		return error_set(err, errno, "the container's keeper is gone");
	return 0;
}

int keeper_serve(const struct keeper *keeper, const char *arguments, size_t length, int device, int namespace,
		 struct error *err)
{
	int descriptors[] = { device, namespace };

	if (keeper->control < 0 || length >= KEEPER_MESSAGE_MAX)
		return error_set(err, 0, "the plan's fuse-server is malformed");
	return ask(keeper, SERVE, arguments, length, descriptors, namespace < 0 ? 1 : 2, err);
}

/* By now it has ended: nobody waited for it while there was something to do. */
static int wait_for_starter(pid_t starter, struct error *err)
{
	int status;

	while (waitpid(starter, &status, 0) < 0) {
		if (errno == ECHILD)
			return 0; /* SIGCHLD is ignored; a keeper that is not there is noticed when it is asked */
		if (errno != EINTR)
			return error_set(err, errno, "cannot wait for the container's keeper");
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_set(err, 0, "cannot start the container's keeper");
	return 0;
}

int keeper_ready(const struct keeper *keeper, struct error *err)
{
	if (keeper->control < 0)
		return 0;
	return wait_for_starter(keeper->starter, err) < 0 ? -1 : ask(keeper, READY, "", 0, NULL, 0, err);
}

int keeper_end(const struct keeper *keeper, int end, struct error *err)
{
	return keeper->control < 0 ? 0 : ask(keeper, END, "", 0, &end, 1, err);
}

int keeper_hand_over(const struct keeper *keeper, int end, struct error *err)
{
	return keeper->control < 0 ? 0 : ask(keeper, HAND_OVER, "", 0, &end, 1, err);
}

int keeper_space(const struct keeper *keeper, int space, struct error *err)
{
	return keeper->control < 0 ? 0 : ask(keeper, SPACE, "", 0, &space, 1, err);
}

int keeper_layer(const struct keeper *keeper, const struct layer *layer, struct error *err)
{
	int descriptors[] = { layer->directory, layer->place };

	if (keeper->control < 0)
		return error_set(err, 0, "the plan's upper-directory has no keeper");
	return ask(keeper, LAYER, layer->name, strlen(layer->name), descriptors, layer->place < 0 ? 1 : 2, err);
}

/* Fork twice: the keeper belongs to no process of the container and to no terminal. */
int keeper_start(struct keeper *keeper, const struct held *held, struct error *err)
{
	cleanup_close int command = sys_pidfd_open(getpid()), near = -1, far = -1;
	int ends[2];
	pid_t child;

	if (command < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(err, errno, "cannot start the container's keeper");
	near = ends[0];
	far = ends[1];
	child = fork();
	if (child < 0)
		return error_set(err, errno, "cannot start the container's keeper");
	if (child == 0) {
		(void)close(near);
		if (setsid() < 0)
			_exit(1);
		switch (fork()) {
		case -1:
			_exit(1);
		case 0:
			keep(far, command, held);
		default:
			_exit(0);
		}
	}
	keeper->starter = child;
	keeper->control = steal_fd(&near);
	return 0;
}
