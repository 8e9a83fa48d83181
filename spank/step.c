#define _GNU_SOURCE
#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "../libexec/cleanup.h"

/* Far longer than a server takes, and not worth noticing if one does not end. */
enum { SERVERS_END_MS = 300, MOMENT_MS = 3 };

/* A robust lock is freed by the kernel when its owner is killed: nobody waits for ever. */
static int init_lock(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;
	int code = pthread_mutexattr_init(&attributes);

	if (code != 0)
		return code;
	code = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (code == 0)
		code = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (code == 0)
		code = pthread_mutex_init(lock, &attributes);
	(void)pthread_mutexattr_destroy(&attributes);
	return code;
}

int step_open(struct step *step, struct error *err)
{
	struct step_shared *shared;
	int ends[2], code;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return error_set(err, errno, "cannot share memory between the tasks");
	step->shared = shared;
	code = init_lock(&shared->lock);
	if (code != 0) {
		step_close(step);
		return error_set(err, code, "cannot make a lock for the tasks");
	}
	atomic_flag_clear(&shared->reported);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		code = errno;
		step_close(step);
		return error_set(err, code, "cannot make a socket for the launcher");
	}
	step->launcher_end = ends[0];
	step->task_end = ends[1];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		code = errno;
		step_close(step);
		return error_set(err, code, "cannot make a pipe for the container's servers");
	}
	step->lifeline_end = ends[0];
	step->lifeline = ends[1];
	return 0;
}

void step_close(struct step *step)
{
	cleanup_close_fd(&step->launcher_end);
	cleanup_close_fd(&step->task_end);
	cleanup_close_fd(&step->lifeline);
	cleanup_close_fd(&step->lifeline_end);
	if (step->shared != NULL)
		(void)munmap(step->shared, sizeof(*step->shared));
	*step = (struct step)STEP_CLOSED;
}

void step_finish(struct step *step)
{
	struct pollfd servers = { .fd = step->lifeline_end, .events = 0 };

	step->lifeline_end = -1;
	step_close(step);
	if (servers.fd < 0)
		return;
	/* The end of all writers is told as POLLHUP. They were ending then, and are still seen for a moment. */
	if (poll(&servers, 1, SERVERS_END_MS) > 0)
		(void)poll(NULL, 0, MOMENT_MS);
	(void)close(servers.fd);
}

/* Throw away what the launcher of a killed leader may have answered. */
static void drain(struct step *step)
{
	char byte;

	while (recv(step->task_end, &byte, sizeof(byte), MSG_DONTWAIT) > 0)
		;
}

static int lock(struct step *step, struct error *err)
{
	int code = pthread_mutex_lock(&step->shared->lock);

	if (code == EOWNERDEAD) {
		/* The state is written last, so it tells truly whether the dead task was done. */
		code = pthread_mutex_consistent(&step->shared->lock);
		if (code == 0 && step->shared->state == STEP_NEW)
			drain(step);
	}
	return code == 0 ? 0 : error_set(err, code, "cannot wait for the task that makes the container");
}

int step_enter(struct step *step, step_lead *lead, void *context, struct error *err)
{
	struct step_shared *shared = step->shared;
	int status;

	if (lock(step, err) < 0)
		return err->status;
	if (shared->state == STEP_NEW) {
		shared->status = lead(context);
		shared->state = shared->status == 0 ? STEP_READY : STEP_FAILED;
	}
	status = shared->status;
	(void)pthread_mutex_unlock(&shared->lock);
	return status;
}

bool step_first_report(struct step *step)
{
	return !atomic_flag_test_and_set(&step->shared->reported);
}
