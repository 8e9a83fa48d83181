#define _GNU_SOURCE
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "syscalls.h"

enum { SERVE = 's', END = 'e', HAND_OVER = 'h', SPACE = 'f', LAYER = 'l' };
enum { MESSAGE_MAX = 1 << 14, MAX_DESCRIPTORS = 2, MAX_ARGUMENTS = 32, MAX_SERVERS = 2 };
enum { CONTROL = 3, COMMAND = 4, HELD = 5, DEVICE = 3, FIRST_FREE = 16 };

/* Who kills all processes of a job kills the keeper too, which then tells nothing: so long it waits for that. */
enum { GRACE_MS = 50 };

/* A layer of which less is free, as a part of it, counts as full: programs write more than a page at a time. */
enum { FULL_PART = 256 };

struct server {
	pid_t pid; /* 0: none */
	int process;
	char name[64];
};

struct state {
	int control; /* requests of the executor; -1: the container runs, or could not be made */
	int command; /* the executor's process, which becomes the command; -1: it has ended */
	int end;     /* readable or hung up when the container ends; -1: unknown, or it has */
	bool handed_over, ended, told;
	int space;   /* file system of the writable layer in memory; -1: none */
	struct layer layer;
	struct server servers[MAX_SERVERS];
};

union rights {
	struct cmsghdr header;
	char space[CMSG_SPACE(MAX_DESCRIPTORS * sizeof(int))];
};

/* What is asked for: its kind, and descriptors. */
struct request {
	char kind;
	char text[MESSAGE_MAX];
	size_t length;
	int descriptors[MAX_DESCRIPTORS];
	size_t count;
};

static int ask(const struct keeper *keeper, char kind, const char *text, size_t length, const int *descriptors,
	       size_t count, struct error *err)
{
	struct iovec parts[] = { { .iov_base = &kind, .iov_len = 1 }, { .iov_base = (char *)text, .iov_len = length } };
	union rights control = { .space = { 0 } };
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = control.space,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
	if (sendmsg(keeper->control, &message, MSG_NOSIGNAL) < 0)
		return error_set(err, errno, "the container's keeper is gone");
	return 0;
}

int keeper_serve(const struct keeper *keeper, const char *arguments, size_t length, int device, int namespace,
		 struct error *err)
{
	int descriptors[] = { device, namespace };

	if (keeper->control < 0 || length >= MESSAGE_MAX)
		return error_set(err, 0, "the plan's fuse-server is malformed");
	return ask(keeper, SERVE, arguments, length, descriptors, namespace < 0 ? 1 : 2, err);
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

/* Everything below runs in the keeper. */

/*
 * Whoever ends a job gently signals all of its processes, and its programs may still want to read files.
 * Servers inherit this; libfuse leaves signals alone that are ignored.
 */
static void ignore_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		(void)signal(number, number == SIGCHLD ? SIG_DFL : SIG_IGN); /* SIGKILL and the like refuse, rightly */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The given descriptors to fixed numbers, input and output to /dev/null, all others but standard error closed. */
static int arrange_descriptors(int control, int command, const struct held *held)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int high_control = fcntl(control, F_DUPFD_CLOEXEC, FIRST_FREE);
	int high_command = fcntl(command, F_DUPFD_CLOEXEC, FIRST_FREE);
	int high_held[KEEPER_MAX_HELD];

	if (null < 0 || high_control < 0 || high_command < 0)
		return -1;
	for (size_t i = 0; i < held->count; i++)
		if ((high_held[i] = fcntl(held->descriptors[i], F_DUPFD_CLOEXEC, FIRST_FREE)) < 0)
			return -1;
	if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup3(high_control, CONTROL, O_CLOEXEC) < 0 || dup3(high_command, COMMAND, O_CLOEXEC) < 0)
		return -1;
	for (size_t i = 0; i < held->count; i++)
		if (dup2(high_held[i], HELD + (int)i) < 0)
			return -1;
	return sys_close_range(HELD + (unsigned int)held->count);
}

__attribute__((noreturn)) static void become_server(char *const arguments[], int device, int namespace)
{
	char *const environment[] = { NULL }; /* what is preloaded into the user's programs is not for the server */

	if ((namespace >= 0 && setns(namespace, CLONE_NEWNS) < 0) || chdir("/") < 0 ||
	    dup2(STDIN_FILENO, STDERR_FILENO) < 0 || dup2(device, DEVICE) < 0)
		_exit(1);
	execve(arguments[0], arguments, environment);
	_exit(127);
}

static void serve(struct state *state, struct request *request)
{
	static char device_path[] = "/dev/fd/3";
	char *arguments[MAX_ARGUMENTS + 1] = { NULL };
	struct server *server = state->servers[0].pid == 0 ? &state->servers[0] : &state->servers[1];
	size_t count = 0;

	for (char *argument = request->text; argument < request->text + request->length && count < MAX_ARGUMENTS;
	     argument += strlen(argument) + 1)
		arguments[count++] = strcmp(argument, "@") == 0 ? device_path : argument;
	if (count == 0 || server->pid != 0)
		return;
	server->pid = fork();
	if (server->pid == 0)
		become_server(arguments, request->descriptors[0], request->count > 1 ? request->descriptors[1] : -1);
	if (server->pid < 0) {
		server->pid = 0; /* the device is closed: whoever made the mount sees that */
		return;
	}
	server->process = sys_pidfd_open(server->pid);
	(void)snprintf(server->name, sizeof(server->name), "%s", basename(arguments[0]));
}

/* The next request: 1, 0 if there is none now, -1 if there will be no more. */
static int receive(int control, struct request *request)
{
	union rights rights;
	struct iovec parts[] = {
		{ .iov_base = &request->kind, .iov_len = 1 },
		{ .iov_base = request->text, .iov_len = sizeof(request->text) - 1 },
	};
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = rights.space,
		.msg_controllen = sizeof(rights.space),
	};
	ssize_t size = recvmsg(control, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *part = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;

	if (size <= 0)
		return size < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	request->length = (size_t)size - 1;
	request->text[request->length] = '\0';
	request->count = part == NULL ? 0 : (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	if (part != NULL)
		memcpy(request->descriptors, CMSG_DATA(part), request->count * sizeof(int));
	return 1;
}

static void forget(int *descriptor)
{
	cleanup_close_fd(descriptor);
	*descriptor = -1;
}

static void watch(struct state *state, struct request *request)
{
	forget(&state->end);
	state->end = steal_fd(&request->descriptors[0]);
	if (request->kind == HAND_OVER) {
		state->handed_over = true;
		forget(&state->command);
	}
}

static void carry_out(struct state *state, struct request *request)
{
	if (request->count == 0)
		return;
	if (request->kind == SERVE) {
		serve(state, request);
	} else if (request->kind == END || request->kind == HAND_OVER) {
		watch(state, request);
	} else if (request->kind == SPACE) {
		state->space = steal_fd(&request->descriptors[0]);
	} else if (request->kind == LAYER) {
		state->layer.directory = steal_fd(&request->descriptors[0]);
		if (request->count > 1)
			state->layer.place = steal_fd(&request->descriptors[1]);
		(void)snprintf(state->layer.name, sizeof(state->layer.name), "%.*s", NAME_MAX, request->text);
	}
}

static void take_requests(struct state *state)
{
	static struct request request;
	int more;

	while ((more = receive(state->control, &request)) > 0) {
		carry_out(state, &request);
		/* A device that is held here would keep requests waiting for a server that is dead. */
		for (size_t i = 0; i < request.count; i++)
			cleanup_close_fd(&request.descriptors[i]);
	}
	if (more < 0) {
		forget(&state->control);
		if (state->layer.place >= 0)
			layer_sweep(state->layer.place);
	}
}

static void tell(const struct server *server, int status)
{
	struct error err = { 0 };
	char how[64];

	if (WIFSIGNALED(status))
		(void)snprintf(how, sizeof(how), "was killed by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	else
		(void)snprintf(how, sizeof(how), "ended with status %d", WEXITSTATUS(status));
	error_set(&err, 0, "%s, which serves the container's files, %s; programs in it now fail with \"%s\"",
		  server->name, how, strerror(ENOTCONN));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		error_hint(&err, "if the job ran out of memory, ask for more (--mem)");
	else
		error_hint(&err, "start the container again");
	error_print(&err);
}

/* A server ends with its mount, in peace. Before that it is an accident, told once and only while the container runs. */
static void server_ended(struct state *state, struct server *server)
{
	bool starting = state->control >= 0; /* then the executor meets it, and tells */
	int status = 0;

	(void)waitpid(server->pid, &status, 0);
	server->pid = 0;
	forget(&server->process);
	if (status == 0 || starting || state->ended || state->told)
		return;
	state->told = true;
	(void)poll(NULL, 0, GRACE_MS);
	tell(server, status);
}

/* Programs were told that there is no space left; where that was not, their user learns at the end. */
static void tell_full(struct state *state)
{
	struct statfs status;
	uint64_t size;
	char text[256];
	int length;

	if (state->space < 0 || fstatfs(state->space, &status) < 0 || status.f_bfree > status.f_blocks / FULL_PART)
		return;
	forget(&state->space);
	size = (uint64_t)status.f_blocks * (uint64_t)status.f_bsize;
	length = snprintf(text, sizeof(text),
			  "pinnace: warning: the container's writable layer (%" PRIu64 " MiB of memory) is full; raise "
			  "writable_size, or set writable_layer to a directory on a disk of the node\n", size >> 20);
	if (write(STDERR_FILENO, text, (size_t)length) < 0)
		return; /* nobody is left to tell */
}

/* Wait for one thing to happen, and see to it. False when nothing is left to wait for. */
static bool wait_for_event(struct state *state)
{
	enum { ON_CONTROL, ON_END, ON_COMMAND, ON_SERVERS, EVENTS = ON_SERVERS + MAX_SERVERS };
	struct pollfd events[EVENTS] = {
		[ON_CONTROL] = { .fd = state->control, .events = POLLIN },
		[ON_END] = { .fd = state->end, .events = POLLIN },
		[ON_COMMAND] = { .fd = state->command, .events = POLLIN },
	};
	bool any = state->control >= 0 || state->end >= 0 || state->command >= 0;

	for (size_t i = 0; i < MAX_SERVERS; i++) {
		events[ON_SERVERS + i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		if (state->servers[i].pid != 0) {
			events[ON_SERVERS + i].fd = state->servers[i].process;
			any = true;
		}
	}
	if (!any)
		return false;
	if (poll(events, EVENTS, -1) < 0)
		return true;
	if (events[ON_END].revents != 0) {
		state->ended = true;
		forget(&state->end);
	}
	for (size_t i = 0; i < MAX_SERVERS; i++)
		if (events[ON_SERVERS + i].revents != 0)
			server_ended(state, &state->servers[i]);
	if (events[ON_CONTROL].revents != 0)
		take_requests(state); /* before the command's end, which means nothing after a hand-over */
	else if (events[ON_COMMAND].revents != 0)
		forget(&state->command);
	/* What else lives in the container is no reason to keep a pipe open that the command has left. */
	if (state->control < 0 && state->command < 0 && !state->handed_over) {
		tell_full(state);
		(void)dup2(STDIN_FILENO, STDERR_FILENO);
	}
	return true;
}

__attribute__((noreturn)) static void keep(int control, int command, const struct held *held)
{
	struct state state = { .control = CONTROL, .command = COMMAND, .end = -1, .space = -1, .layer = LAYER_NONE };

	ignore_signals();
	(void)prctl(PR_SET_NAME, "pinnace-keeper");
	if (arrange_descriptors(control, command, held) < 0 || chdir("/") < 0)
		_exit(1);
	while (wait_for_event(&state))
		;
	tell_full(&state);
	if (state.layer.place >= 0)
		layer_remove(state.layer.place, state.layer.name, state.layer.directory);
	_exit(0);
}

/* Fork twice: the keeper belongs to no process of the container and to no terminal. */
int keeper_start(struct keeper *keeper, const struct held *held, struct error *err)
{
	cleanup_close int command = sys_pidfd_open(getpid()), near = -1, far = -1;
	int ends[2], status;
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
	while (waitpid(child, &status, 0) < 0) {
		if (errno == ECHILD) {
			status = 0; /* SIGCHLD is ignored; a keeper that is not there is noticed when it is asked */
			break;
		}
		if (errno != EINTR)
			return error_set(err, errno, "cannot wait for the container's keeper");
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_set(err, 0, "cannot start the container's keeper");
	keeper->control = steal_fd(&near);
	return 0;
}
