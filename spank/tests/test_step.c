/* How the tasks of a step agree on one container, and what the launcher is given and answers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../libexec/fields.h"
#include "../command.h"
#include "../join.h"
#include "../launch.h"
#include "../request.h"
#include "../step.h"
#include "check.h"
#include "fake_spank.h"

static int lead_well(void *context)
{
	++*(int *)context;
	return 0;
}

static int lead_badly(void *context)
{
	++*(int *)context;
	return 3;
}

static int die(void *context)
{
	(void)context;
	return raise(SIGKILL);
}

/* Enter the step in another process: its wait status. */
static int enter_elsewhere(struct step *step, step_lead *lead, int *leads)
{
	struct error err = { 0 };
	pid_t child = fork();
	int status;

	CHECK(child >= 0);
	if (child == 0)
		_exit(step_enter(step, lead, leads, &err));
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

static int *shared_counter(void)
{
	int *counter = mmap(NULL, sizeof(*counter), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(counter != MAP_FAILED);
	return counter;
}

static void one_task_leads_and_all_get_its_result(void)
{
	struct step good = STEP_CLOSED, bad = STEP_CLOSED;
	struct error err = { 0 };
	int *leads = shared_counter();

	CHECK(step_open(&good, &err) == 0 && step_open(&bad, &err) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(enter_elsewhere(&good, lead_well, leads) == 0);
	CHECK(*leads == 1);
	for (int i = 0; i < 4; i++)
		CHECK(WEXITSTATUS(enter_elsewhere(&bad, lead_badly, leads)) == 3);
	CHECK(*leads == 2);
	CHECK(step_first_report(&bad) && !step_first_report(&bad));
	step_close(&good);
	step_close(&bad);
	CHECK(munmap(leads, sizeof(*leads)) == 0);
}

static void the_next_task_leads_when_a_leader_is_killed(void)
{
	struct step step = STEP_CLOSED;
	struct error err = { 0 };
	int *leads = shared_counter();

	CHECK(step_open(&step, &err) == 0);
	CHECK(send(step.launcher_end, "stale", 5, 0) == 5);
	CHECK(WTERMSIG(enter_elsewhere(&step, die, leads)) == SIGKILL);
	CHECK(enter_elsewhere(&step, lead_well, leads) == 0 && *leads == 1);
	CHECK(recv(step.task_end, &err, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	step_close(&step);
	CHECK(munmap(leads, sizeof(*leads)) == 0);
}

static bool next_is(struct fields *message, const char *key, const char *value)
{
	struct error err = { 0 };
	struct field field;

	return fields_next(message, &field, &err) > 0 && field_is(&field, key) &&
	       field.length == strlen(value) && memcmp(field.value, value, field.length) == 0;
}

static void a_request_says_what_was_asked_and_cannot_change(void)
{
	char *environment[] = { "A=1", "ODD=line\nbreak,\x01", NULL };
	struct step_facts facts = { .job = 7, .step = 4294967291U, .tasks = 2, .environment = environment,
				    .script = "/spool/script" };
	struct error err = { 0 };
	struct fields message;
	int fd;

	CHECK(chdir("/") == 0);
	CHECK(fake_give("container-image", "a b\n,:") == 0 && fake_give("container-mounts", "/a,/b:/c:ro") == 0);
	CHECK(fake_give("container-readonly", NULL) == 0);
	fd = request_create(&options, &facts, &err);
	CHECK(fd >= 0 && lseek(fd, 0, SEEK_CUR) == 0 && write(fd, "x", 1) < 0);
	CHECK(fields_map(fd, &message, &err) == 0);
	CHECK(next_is(&message, "protocol", "1"));
	CHECK(next_is(&message, "image", "a b\n,:"));
	CHECK(next_is(&message, "mounts", "/a:/a") && next_is(&message, "mounts", "/b:/c:ro"));
	CHECK(next_is(&message, "writable", "0"));
	CHECK(next_is(&message, "job-id", "7") && next_is(&message, "step-id", "4294967291"));
	CHECK(next_is(&message, "node-tasks", "2"));
	CHECK(next_is(&message, "mounts", "/spool/script:/spool/script:ro"));
	CHECK(next_is(&message, "working-directory", "/"));
	CHECK(next_is(&message, "environment", environment[0]));
	CHECK(next_is(&message, "environment", environment[1]));
	CHECK(message.position == message.size);
	fields_unmap(&message);
	CHECK(close(fd) == 0);
}

static void a_request_that_is_too_large_is_refused(void)
{
	enum { VARIABLES = 90, SIZE = 100000 };
	char *environment[VARIABLES + 1] = { NULL };
	struct step_facts facts = { .environment = environment };
	struct error err = { 0 };
	char *variable = malloc(SIZE + 1);

	CHECK(variable != NULL);
	memset(variable, '=', SIZE);
	variable[SIZE] = '\0';
	for (int i = 0; i < VARIABLES; i++)
		environment[i] = variable;
	CHECK(request_create(&options, &facts, &err) == -1);
	CHECK(strstr(err.text, "the limit is") != NULL);
	free(variable);
}

static int sealed_plan(bool sealed)
{
	int fd = memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK(fd >= 0);
	if (sealed)
		CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) == 0);
	return fd;
}

/* Send a packet with count descriptors, all of them a plan's. */
static void answer(int socket, const void *packet, size_t size, int count, bool sealed)
{
	union {
		char room[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr alignment;
	} control = { { 0 } };
	struct iovec data = { (void *)packet, size };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
	int plan = sealed_plan(sealed);

	if (count > 0) {
		message.msg_control = control.room;
		message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
		CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
		for (int i = 0; i < count; i++)
			memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)) + (size_t)i * sizeof(int), &plan, sizeof(plan));
	}
	CHECK(sendmsg(socket, &message, 0) == (ssize_t)size);
	CHECK(close(plan) == 0);
}

static int first_free_descriptor(void)
{
	int fd = open("/", O_PATH | O_CLOEXEC);

	CHECK(fd >= 0 && close(fd) == 0);
	return fd;
}

static const char ready[] = "\0\0\0\5\0\0\0\1ready1";
enum { READY = sizeof(ready) - 1 };

static void an_answer_stays_for_every_task(void)
{
	struct step step = STEP_CLOSED;
	struct error err = { 0 };
	int before;

	CHECK(step_open(&step, &err) == 0);
	CHECK(join_check(step.task_end, &err) == -1 && strstr(err.text, "without making") != NULL);
	answer(step.launcher_end, ready, READY, 4, true);
	before = first_free_descriptor();
	for (int i = 0; i < 3; i++)
		CHECK(join_check(step.task_end, &err) == 0);
	CHECK(first_free_descriptor() == before);
	step_close(&step);
}

static void an_answer_may_hold_up_to_three_further_namespaces(void)
{
	for (int count = 5; count <= 7; count++) {
		struct step step = STEP_CLOSED;
		struct error err = { 0 };
		int before;

		CHECK(step_open(&step, &err) == 0);
		answer(step.launcher_end, ready, READY, count, true);
		before = first_free_descriptor();
		CHECK(join_check(step.task_end, &err) == 0);
		CHECK(first_free_descriptor() == before);
		step_close(&step);
	}
}

static void an_odd_answer_is_refused_and_leaves_no_descriptor(void)
{
	static const struct {
		const char *packet;
		size_t size;
		int count;
		bool sealed;
	} odd[] = {
		{ ready, READY, 0, true },  { ready, READY, 3, true },
		{ ready, READY, 8, true },
		{ ready, READY, 4, false }, { ready, READY - 1, 4, true },
		{ "x", 1, 4, true },        { "\0\0\0\5\0\0\0\1ready0", READY, 4, true },
		{ "\xff\xff\xff\xff\xff\xff\xff\xff", 8, 4, true },
	};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		struct step step = STEP_CLOSED;
		struct error err = { 0 };
		int before;

		CHECK(step_open(&step, &err) == 0);
		answer(step.launcher_end, odd[i].packet, odd[i].size, odd[i].count, odd[i].sealed);
		before = first_free_descriptor();
		CHECK(join_check(step.task_end, &err) == -1 && strstr(err.text, "not understood") != NULL);
		CHECK(first_free_descriptor() == before);
		step_close(&step);
	}
}

/* Run a shell script as the launcher: what launch_run returns. */
static int launch_script(const char *text, struct error *err)
{
	char path[] = "/tmp/pinnace-test-XXXXXX";
	char *environment[] = { "HOME=/home/me", "SECRET=1", "LD_PRELOAD=/evil.so", "PATH=/evil", "LANG=C", NULL };
	int fd = mkostemp(path, O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct launch launch = { .program = path, .request = null, .answer = null, .environment = environment };
	int result;

	CHECK(fd >= 0 && null >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(fchmod(fd, 0700) == 0 && close(fd) == 0);
	result = launch_run(&launch, err);
	CHECK(unlink(path) == 0 && close(null) == 0);
	return result;
}

static void the_launcher_gets_little_and_its_status_counts(void)
{
	struct error err = { 0 };

	CHECK(launch_script("#!/bin/sh\n[ \"$1\" = step ] && [ $# = 1 ]", &err) == 0);
	CHECK(launch_script("#!/bin/sh\nexit 42", &err) == 42);
	CHECK(launch_script("#!/bin/sh\n[ \"$HOME:$LANG:$SECRET:$LD_PRELOAD\" = /home/me:C:: ] &&"
			    " case $PATH in *evil*) false;; *) :;; esac", &err) == 0);
	/* 10 is the shell's own descriptor for the script, 4 the one of ls. */
	CHECK(launch_script("#!/bin/sh\nset -- /proc/self/fd/[5-9]; [ ! -e \"$1\" ] && [ -e /proc/self/fd/3 ]",
			    &err) == 0);
}

static void a_killed_launcher_is_told_with_its_signal(void)
{
	struct error err = { 0 };

	CHECK(launch_script("#!/bin/sh\nkill -9 $$", &err) == -1);
	CHECK(err.status == 137 && strstr(err.text, "signal 9") != NULL && strstr(err.text, "--mem") != NULL);
}

static void a_missing_command_gives_127_and_one_that_cannot_run_126(void)
{
	struct error err = { 0 };

	CHECK(command_check("/bin/sh", NULL, "image", &err) == 0);
	CHECK(command_check("sh", "/nowhere::/usr/bin:/bin", "image", &err) == 0);
	CHECK(command_check("sh", NULL, "image", &err) == -1 && err.status == 127);
	CHECK(strstr(err.text, "sh: command not found in image") != NULL);
	CHECK(command_check("/etc/passwd", NULL, "image", &err) == -1 && err.status == 126);
	CHECK(command_check("/", NULL, "image", &err) == -1 && err.status == 126);
	CHECK(command_check("passwd", "/etc", "image", &err) == -1 && err.status == 126);
	CHECK(command_check("", "/bin", "image", &err) == -1);
}

int main(void)
{
	RUN(one_task_leads_and_all_get_its_result);
	RUN(the_next_task_leads_when_a_leader_is_killed);
	RUN(a_request_says_what_was_asked_and_cannot_change);
	RUN(a_request_that_is_too_large_is_refused);
	RUN(an_answer_stays_for_every_task);
	RUN(an_answer_may_hold_up_to_three_further_namespaces);
	RUN(an_odd_answer_is_refused_and_leaves_no_descriptor);
	RUN(the_launcher_gets_little_and_its_status_counts);
	RUN(a_killed_launcher_is_told_with_its_signal);
	RUN(a_missing_command_gives_127_and_one_that_cannot_run_126);
	return 0;
}
