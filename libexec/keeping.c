#define _GNU_SOURCE
#include "keeping.h"

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
#include <sys/vfs.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "syscalls.h"

enum { MAX_ARGUMENTS = 32, MAX_SERVERS = 2 };
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
	bool ready, handed_over, ended, told, silent;
	const struct server *accident; /* a server that may have ended too early, with this status; NULL: none */
	int accident_status;
	int space;   /* file system of the writable layer in memory; -1: none */
	struct layer layer;
	struct server servers[MAX_SERVERS];
};

/* What is asked for: its kind, and descriptors. */
struct request {
	char kind;
	char text[KEEPER_MESSAGE_MAX];
	size_t length;
	int descriptors[KEEPER_MAX_DESCRIPTORS];
	size_t count;
};

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
	if (server->process < 0) { /* its end could not be noticed */
		(void)kill(server->pid, SIGKILL);
		(void)waitpid(server->pid, NULL, 0);
		server->pid = 0;
		return;
	}
	(void)snprintf(server->name, sizeof(server->name), "%s", basename(arguments[0]));
}

/* The next request: 1, 0 if there is none now, -1 if there will be no more. */
static int receive(int control, struct request *request)
{
	union keeper_rights rights;
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
	if (request->kind == READY) {
		state->ready = true;
	} else if (request->count == 0) {
		return;
	} else if (request->kind == SERVE) {
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

/* As far as is known: of a container's mounts only some tell that they are gone. */
static bool is_running(const struct state *state)
{
	return !state->ended && (state->handed_over || state->command >= 0);
}

/*
 * A server ends with its mount, in peace: before the container is complete the executor meets it, and tells. What
 * may be an accident waits, since one server that is killed takes along another, whose end may be seen first.
 */
static void server_ended(struct state *state, struct server *server)
{
	int status = 0;

	(void)waitpid(server->pid, &status, 0);
	server->pid = 0;
	forget(&server->process);
	if (status == 0 || !state->ready ||
	    (!WIFSIGNALED(status) && (!is_running(state) || state->accident != NULL)))
		return;
	state->accident = server;
	state->accident_status = status;
}

/* The command has ended, and its standard error is still held. */
static bool command_is_gone(const struct state *state)
{
	return state->control < 0 && state->command < 0 && !state->handed_over && !state->silent;
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

/* Nothing has happened for a while: say what there is to say. */
static void settle(struct state *state)
{
	const struct server *accident = state->accident;

	state->accident = NULL;
	/* None is killed by the end of its container, but for a job's end, which kills the keeper as well. */
	if (accident != NULL && !state->told && (WIFSIGNALED(state->accident_status) || is_running(state))) {
		state->told = true;
		tell(accident, state->accident_status);
	}
	/* What else lives in the container is no reason to keep a pipe open that the command has left. */
	if (command_is_gone(state)) {
		state->silent = true;
		tell_full(state);
		(void)dup2(STDIN_FILENO, STDERR_FILENO);
	}
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
	bool any = state->control >= 0 || state->end >= 0 || state->command >= 0 || state->accident != NULL;
	bool unsettled = state->accident != NULL || command_is_gone(state);
	int count;

	for (size_t i = 0; i < MAX_SERVERS; i++) {
		events[ON_SERVERS + i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		if (state->servers[i].pid != 0) {
			events[ON_SERVERS + i].fd = state->servers[i].process;
			any = true;
		}
	}
	if (!any)
		return false;
	count = poll(events, EVENTS, unsettled ? GRACE_MS : -1);
	if (count < 0)
		return true;
	if (count == 0)
		settle(state);
	/* In this order: a hand-over means that the command's end is not the container's. */
	if (events[ON_CONTROL].revents != 0)
		take_requests(state);
	else if (events[ON_COMMAND].revents != 0)
		forget(&state->command);
	if (events[ON_END].revents != 0 && state->end == events[ON_END].fd) {
		state->ended = true;
		forget(&state->end);
	}
	for (size_t i = 0; i < MAX_SERVERS; i++)
		if (events[ON_SERVERS + i].revents != 0)
			server_ended(state, &state->servers[i]);
	return true;
}

void keep(int control, int command, const struct held *held)
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
