/* Tests of what the `pinnace` command does before Python: what is asked, kept plans, their gaps. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../asked.h"
#include "../buffer.h"
#include "../cleanup.h"
#include "../compose.h"
#include "../error.h"
#include "../kept.h"
#include "../lease.h"
#include "check.h"

static const char EXECUTOR[] = "/usr/libexec/pinnace/pinnace-exec";

static char home[PATH_MAX], plans[PATH_MAX], boot[37];

enum { MAX_WORDS = 16 };

/* What `pinnace` with these words asks for; the words of one string are separated by blanks. */
struct line {
	char text[512];
	char *words[MAX_WORDS];
	struct asked asked;
	struct error err;
};

static int ask(struct line *line, const char *text)
{
	char *rest = line->text;
	int count = 0;

	memset(line, 0, sizeof(*line));
	(void)snprintf(line->text, sizeof(line->text), "%s", text);
	while (count < MAX_WORDS - 1 && (line->words[count] = strsep(&rest, " ")) != NULL)
		count++;
	return asked_read(count, line->words, EXECUTOR, &line->asked, &line->err);
}

static bool understood(const char *text)
{
	struct line line;
	bool result = ask(&line, text) == 0;

	asked_release(&line.asked);
	return result;
}

static bool are_alike(const char *one, const char *other)
{
	struct line first, second;
	bool result = ask(&first, one) == 0 && ask(&second, other) == 0 &&
		      first.asked.key.size == second.asked.key.size &&
		      memcmp(first.asked.key.data, second.asked.key.data, first.asked.key.size) == 0;

	asked_release(&first.asked);
	asked_release(&second.asked);
	return result;
}

static void options_are_read_as_getopt_does(void)
{
	CHECK(are_alike("pinnace run -m /a:/b -r image", "pinnace run -m/a:/b -r -- image true"));
	CHECK(are_alike("pinnace run -rm /a image", "pinnace run -r -m /a image"));
	CHECK(are_alike("pinnace run --mount=/a image", "pinnace run --mount /a image -- ls -l"));
	CHECK(are_alike("pinnace run - x", "pinnace run -- -"));
	CHECK(!are_alike("pinnace run -m /a image", "pinnace run -m /b image"));
	CHECK(!are_alike("pinnace run -r image", "pinnace run image"));
	CHECK(!are_alike("pinnace run image", "pinnace run image:2"));
}

static void what_is_not_known_is_for_python(void)
{
	static const char *const lines[] = {
		"pinnace",
		"pinnace pull x",
		"pinnace run",
		"pinnace run --help",
		"pinnace run -h",
		"pinnace run --dry-run x",
		"pinnace run --moun /a image",
		"pinnace run --root=1 image",
		"pinnace run -m",
		"pinnace run --mount",
		"pinnace run -rx image",
		"pinnace run --",
		"pinnace step x",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		CHECK(!understood(lines[i]));
}

static void variables_and_the_command_are_no_part_of_what_is_alike(void)
{
	struct line line;

	CHECK(are_alike("pinnace run -e A=1 image true", "pinnace run image"));
	CHECK(are_alike("pinnace run --env=A=1 --env B image", "pinnace run -eC image id"));
	CHECK(ask(&line, "pinnace run -e A=1 -reB image -- id -u") == 0);
	CHECK(line.asked.variable_count == 2 && strcmp(line.asked.variables[0], "A=1") == 0 &&
	      strcmp(line.asked.variables[1], "B") == 0);
	CHECK(strcmp(line.asked.command[0], "id") == 0 && strcmp(line.asked.command[1], "-u") == 0 &&
	      line.asked.command[2] == NULL);
	asked_release(&line.asked);
}

/* FNV-1a, as the name of an entry has it. */
static void name_entry(const struct asked *asked, char path[PATH_MAX])
{
	uint64_t state = 14695981039346656037U;

	for (size_t i = 0; i < asked->key.size; i++)
		state = (state ^ asked->key.data[i]) * 1099511628211U;
	if (snprintf(path, PATH_MAX, "%s/%016llx", plans, (unsigned long long)state) >= PATH_MAX)
		abort();
}

static void write_file(const char *path, const void *content, size_t length)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, content, length) != (ssize_t)length)
		abort();
}

static void put_text(struct buffer *buffer, const char *key, const char *text)
{
	buffer_field(buffer, key, text, strlen(text));
}

static void put_two(struct buffer *buffer, const char *key, const char *first, const char *second)
{
	buffer_begin(buffer, key);
	buffer_argument(buffer, first);
	if (second != NULL)
		buffer_argument(buffer, second);
	buffer_end(buffer);
}

/* An entry for what is asked: its key, when it was written, and what follows. */
static void begin_entry(struct buffer *entry, const struct asked *asked)
{
	char now[24];

	memset(entry, 0, sizeof(*entry));
	buffer_add(entry, asked->key.data, asked->key.size);
	(void)snprintf(now, sizeof(now), "%lld", (long long)time(NULL));
	put_text(entry, "written", now);
}

static void end_entry(struct buffer *entry, const struct asked *asked)
{
	char path[PATH_MAX];

	put_text(entry, "plan", "");
	put_two(entry, "version", "1", NULL);
	name_entry(asked, path);
	write_file(path, entry->data, entry->size);
	buffer_release(entry);
}

static bool is_usable(const struct asked *asked)
{
	struct error err = { 0 };
	struct kept kept = { .lease = -1 };
	bool result = kept_find(asked, &kept, &err) == 0 && kept_check(asked, &kept, &err) == 0;

	kept_release(&kept);
	return result;
}

/* Whether a plan with this one check is used. */
static bool holds(const char *key, const char *first, const char *second)
{
	struct buffer entry;
	struct line line;
	bool result;

	if (ask(&line, "pinnace run image") < 0)
		abort();
	begin_entry(&entry, &line.asked);
	put_two(&entry, key, first, second);
	end_entry(&entry, &line.asked);
	result = is_usable(&line.asked);
	asked_release(&line.asked);
	return result;
}

static void put_entry(struct line *line)
{
	struct buffer entry;

	if (ask(line, "pinnace run image") < 0)
		abort();
	begin_entry(&entry, &line->asked);
	put_two(&entry, "variable", "HOME", home);
	put_two(&entry, "variable", "NOT_SET", NULL);
	put_two(&entry, "file", "/", "");
	put_two(&entry, "file", "/no/such", "absent");
	end_entry(&entry, &line->asked);
}

static void a_plan_is_used_again_while_all_is_as_it_was(void)
{
	struct line line, other;

	put_entry(&line);
	CHECK(is_usable(&line.asked));
	CHECK(ask(&other, "pinnace run image:2") == 0 && !is_usable(&other.asked));
	asked_release(&other.asked);
	asked_release(&line.asked);
}

static void variables_have_to_be_as_they_were(void)
{
	CHECK(holds("variable", "HOME", home) && !holds("variable", "HOME", "/elsewhere"));
	CHECK(!holds("variable", "HOME", NULL) && !holds("variable", "NOT_SET", ""));
	CHECK(setenv("EMPTY", "", 1) == 0 && holds("variable", "EMPTY", "") && !holds("variable", "EMPTY", NULL));
}

static void as_much_of_a_files_state_counts_as_the_entry_says(void)
{
	char path[PATH_MAX], state[200], wrong[256];
	struct stat status;

	if (snprintf(path, sizeof(path), "%s/file", home) >= (int)sizeof(path))
		abort();
	write_file(path, "x", 1);
	CHECK(stat(path, &status) == 0);
	(void)snprintf(state, sizeof(state), "%llu %llu %u %u %u %lld %lld%09ld", (unsigned long long)status.st_dev,
		       (unsigned long long)status.st_ino, status.st_mode, status.st_uid, status.st_gid,
		       (long long)status.st_size, (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
	CHECK(holds("file", path, state) && holds("file", path, ""));
	(void)snprintf(wrong, sizeof(wrong), "%s 1", state);
	CHECK(!holds("file", path, wrong) && !holds("file", path, "absent") && !holds("file", path, "1 2 3"));
	(void)snprintf(wrong, sizeof(wrong), "%s 1 2 3 4", state);
	CHECK(!holds("file", path, wrong) && !holds("file", path, " "));
	CHECK(holds("file", "/no/such/file", "absent") && !holds("file", "/no/such/file", ""));
}

static void times_have_to_be_times(void)
{
	struct buffer entry;
	struct line line;
	static const char *const wrong[] = { "", "x", "99999999999999999999", "1", "1 " };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		CHECK(ask(&line, "pinnace run image") == 0);
		begin_entry(&entry, &line.asked);
		put_text(&entry, "until", wrong[i]);
		end_entry(&entry, &line.asked);
		CHECK(!is_usable(&line.asked));
		asked_release(&line.asked);
	}
}

static void a_plan_from_the_future_is_not_used(void)
{
	struct buffer entry = { .size = 0 };
	struct line line;
	char later[24];

	CHECK(ask(&line, "pinnace run image") == 0);
	(void)snprintf(later, sizeof(later), "%lld", (long long)time(NULL) + 100);
	buffer_add(&entry, line.asked.key.data, line.asked.key.size);
	put_text(&entry, "written", later);
	end_entry(&entry, &line.asked);
	CHECK(!is_usable(&line.asked));
	asked_release(&line.asked);
}

static void an_unknown_check_does_not_hold(void)
{
	CHECK(!holds("mood", "good", NULL) && !holds("file", "/", NULL) && !holds("variable", "HOME\n", home));
	CHECK(!holds("written", "1", NULL));
}

static void what_others_could_have_written_is_not_read(void)
{
	char path[PATH_MAX], other[PATH_MAX + 8];
	struct line line;

	put_entry(&line);
	name_entry(&line.asked, path);
	(void)snprintf(other, sizeof(other), "%s.other", path);
	CHECK(chmod(path, 0640) == 0 && !is_usable(&line.asked));
	CHECK(chmod(path, 0600) == 0 && is_usable(&line.asked));
	CHECK(link(path, other) == 0 && !is_usable(&line.asked));
	CHECK(unlink(other) == 0 && rename(path, other) == 0 && symlink(other, path) == 0 && !is_usable(&line.asked));
	CHECK(unlink(path) == 0 && mkfifo(path, 0600) == 0 && !is_usable(&line.asked));
	CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0 && !is_usable(&line.asked) && rmdir(path) == 0);
	CHECK(rename(other, path) == 0 && is_usable(&line.asked));
	CHECK(chmod(plans, 0770) == 0 && !is_usable(&line.asked) && chmod(plans, 0700) == 0);
	(void)snprintf(other, sizeof(other), "%s.other", plans);
	CHECK(rename(plans, other) == 0 && symlink(other, plans) == 0 && !is_usable(&line.asked));
	CHECK(unlink(plans) == 0 && rename(other, plans) == 0 && is_usable(&line.asked));
	asked_release(&line.asked);
}

static void a_files_owner_counts(void)
{
	char path[PATH_MAX];
	struct line line;

	if (geteuid() != 0)
		return; /* nobody else may give a file away */
	put_entry(&line);
	name_entry(&line.asked, path);
	CHECK(chown(path, 65534, (gid_t)-1) == 0 && !is_usable(&line.asked));
	CHECK(chown(path, 0, (gid_t)-1) == 0 && is_usable(&line.asked));
	CHECK(chown(plans, 65534, (gid_t)-1) == 0 && !is_usable(&line.asked) && chown(plans, 0, (gid_t)-1) == 0);
	asked_release(&line.asked);
}

static void without_a_home_there_is_no_plan(void)
{
	struct line line;

	put_entry(&line);
	CHECK(setenv("HOME", "relative", 1) == 0 && !is_usable(&line.asked));
	CHECK(unsetenv("HOME") == 0 && !is_usable(&line.asked) && setenv("HOME", home, 1) == 0);
	CHECK(setenv("XDG_CACHE_HOME", "/elsewhere", 1) == 0 && !is_usable(&line.asked));
	CHECK(setenv("XDG_CACHE_HOME", "relative", 1) == 0 && is_usable(&line.asked));
	CHECK(unsetenv("XDG_CACHE_HOME") == 0);
	asked_release(&line.asked);
}

static void a_damaged_entry_is_none(void)
{
	char path[PATH_MAX];
	cleanup_free uint8_t *entry = NULL;
	struct stat status;
	struct line line;
	size_t size, checks;
	int fd;

	put_entry(&line);
	name_entry(&line.asked, path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fstat(fd, &status) == 0);
	size = (size_t)status.st_size;
	entry = malloc(size);
	CHECK(entry != NULL && read(fd, entry, size) == (ssize_t)size && close(fd) == 0);
	checks = size - (8 + strlen("version") + 2) - (8 + strlen("plan"));
	for (size_t cut = 0; cut < checks; cut += 3) {
		write_file(path, entry, cut);
		CHECK(!is_usable(&line.asked));
	}
	for (size_t bit = 0; bit < 8 * checks; bit += 5) {
		entry[bit / 8] ^= (uint8_t)(1 << bit % 8);
		write_file(path, entry, size);
		(void)is_usable(&line.asked); /* may hold: the clock may be later than a changed time */
		CHECK(bit / 8 >= line.asked.key.size || !is_usable(&line.asked));
		entry[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	write_file(path, entry, size);
	CHECK(is_usable(&line.asked));
	asked_release(&line.asked);
}

static void an_image_is_locked_before_its_plan_is_used(void)
{
	char image[PATH_MAX], record[PATH_MAX], taken[PATH_MAX];
	struct error err = { 0 };
	struct stat status;
	int lease, other;

	(void)snprintf(image, sizeof(image), "%.4000s/image.sqsh", home);
	(void)snprintf(record, sizeof(record), "%.4000s/image.json", home);
	(void)snprintf(taken, sizeof(taken), "%.4000s/leases/digest-7-cluster", home);
	write_file(image, "image", 5);
	CHECK(lease_take(image, record, &err) == -1); /* its record is gone: it is being removed */
	write_file(record, "{}", 2);
	lease = lease_take(image, record, &err);
	other = open(image, O_RDWR | O_CLOEXEC);
	CHECK(lease >= 0 && flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK && close(lease) == 0);
	CHECK(flock(other, LOCK_EX | LOCK_NB) == 0 && lease_take(image, record, &err) == -1);
	CHECK(close(other) == 0 && unlink(image) == 0 && lease_take(image, record, &err) == -1);
	(void)snprintf(image, sizeof(image), "%.4000s/leases/digest-", home);
	lease_leave(image, "7-cluster");
	CHECK(stat(taken, &status) == 0 && status.st_size == 0);
	lease_leave(image, "7-cluster");
	lease_leave("/no/such/store/leases/digest-", "7-cluster");
}

static void use_is_noted_once_a_minute(void)
{
	const struct timespec old[2] = { { .tv_sec = time(NULL) - 100 }, { .tv_sec = 1000 } };
	char image[PATH_MAX];
	struct stat status;
	int fd;

	(void)snprintf(image, sizeof(image), "%.4000s/used.sqsh", home);
	write_file(image, "image", 5);
	fd = open(image, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && futimens(fd, old) == 0);
	lease_touch(fd);
	CHECK(fstat(fd, &status) == 0 && time(NULL) - status.st_atime < 60 && status.st_mtime == 1000);
	CHECK(close(fd) == 0);
}

/* What a template with gaps becomes for this line. */
static void complete(const char *text, const struct buffer *template, struct fields *plan)
{
	struct line line;
	struct kept kept = { .entry = { .data = template->data, .size = template->size }, .lease = 7 };
	int fd;

	CHECK(ask(&line, text) == 0);
	fd = compose_plan(&line.asked, &kept, 1, &line.err);
	CHECK(fd >= 0 && fcntl(fd, F_GET_SEALS) == (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	CHECK(fields_map(fd, plan, &line.err) == 0 && close(fd) == 0);
	asked_release(&line.asked);
}

static bool next_is(struct fields *plan, const char *key, const char *value, size_t length)
{
	struct error err = { 0 };
	struct field field;

	return fields_next(plan, &field, &err) == 1 && field_is(&field, key) && field.length == length &&
	       memcmp(field.value, value, length) == 0;
}

static void the_gaps_of_a_plan_are_filled(void)
{
	cleanup_buffer struct buffer template = { .size = 0 };
	struct error err = { 0 };
	struct field field;
	struct fields plan;

	put_two(&template, "version", "1", NULL);
	put_text(&template, "lease", "");
	put_two(&template, "pass-default", "TERM", NULL);
	put_two(&template, "pass-default", "NOT_SET", NULL);
	put_text(&template, "requested-environment", "");
	put_two(&template, "script", "/etc/rc", NULL);
	put_two(&template, "command", "/entry", "serve");
	CHECK(setenv("TERM", "xterm", 1) == 0);
	complete("pinnace run -e A=1 -e TERM -e NOT_SET image id -u", &template, &plan);
	CHECK(next_is(&plan, "version", "1", 2) && next_is(&plan, "lease", "7", 2));
	CHECK(next_is(&plan, "default", "TERM=xterm", 10) && next_is(&plan, "environment", "A=1", 3));
	CHECK(next_is(&plan, "environment", "TERM=xterm", 10) && next_is(&plan, "script", "/etc/rc\0id\0-u", 14));
	CHECK(next_is(&plan, "command", "id\0-u", 6) && fields_next(&plan, &field, &err) == 0);
	fields_unmap(&plan);
	complete("pinnace run image", &template, &plan);
	CHECK(next_is(&plan, "version", "1", 2) && next_is(&plan, "lease", "7", 2));
	CHECK(next_is(&plan, "default", "TERM=xterm", 10) && next_is(&plan, "script", "/etc/rc", 8));
	CHECK(next_is(&plan, "command", "/entry\0serve", 13) && fields_next(&plan, &field, &err) == 0);
	fields_unmap(&plan);
}

static void a_template_that_is_cut_is_no_plan(void)
{
	cleanup_buffer struct buffer template = { .size = 0 };
	struct line line;

	put_two(&template, "pass-default", "TERM", NULL);
	put_two(&template, "command", "/entry", "serve");
	CHECK(ask(&line, "pinnace run image") == 0);
	for (size_t cut = 1; cut < template.size; cut++) {
		cleanup_free uint8_t *copy = malloc(cut); /* so that ASan sees a read behind the end */
		struct kept kept = { .entry = { .data = copy, .size = cut }, .lease = -1 };

		if (copy == NULL)
			abort();
		memcpy(copy, template.data, cut);
		int fd = compose_plan(&line.asked, &kept, 1, &line.err);

		CHECK(fd < 0 || cut == 8 + strlen("pass-default") + strlen("TERM") + 1);
		cleanup_close_fd(&fd);
	}
	asked_release(&line.asked);
}

/* A request on standard input, as the shim gives it. */
static void request(struct buffer *message)
{
	int fd = memfd_create("request", MFD_CLOEXEC);

	if (fd < 0 || write(fd, message->data, message->size) != (ssize_t)message->size || dup2(fd, 0) < 0)
		abort();
	(void)close(fd);
	buffer_release(message);
}

static void begin_request(struct buffer *message, const char *job, const char *step)
{
	memset(message, 0, sizeof(*message));
	put_text(message, "protocol", "1");
	put_text(message, "image", "debian:12");
	put_text(message, "job-id", job);
	put_text(message, "step-id", step);
	put_text(message, "node-tasks", "4");
	put_text(message, "working-directory", "/work");
}

static void steps_of_other_jobs_are_alike(void)
{
	struct buffer message;
	struct line first, second, third;
	const char *value;
	size_t length;

	begin_request(&message, "7", "0");
	put_text(&message, "environment", "SLURM_CLUSTER_NAME=alps");
	put_text(&message, "environment", "PINNACE_STORE=/a");
	put_text(&message, "environment", "PINNACE_STORE=/b");
	put_text(&message, "environment", "HOME=/evil");
	request(&message);
	CHECK(ask(&first, "pinnace step") == 0 && strcmp(first.asked.job, "7-alps") == 0);
	CHECK(asked_variable(&first.asked, "PINNACE_STORE", &value, &length) && length == 2 && value[1] == 'b');
	CHECK(asked_variable(&first.asked, "HOME", &value, &length) && strcmp(value, home) == 0);
	CHECK(asked_directory_is(&first.asked, "/work", 5) && !asked_directory_is(&first.asked, "/", 1));
	begin_request(&message, "8", "3");
	put_text(&message, "environment", "SLURM_CLUSTER_NAME=../../x");
	request(&message);
	CHECK(ask(&second, "pinnace step") == 0 && strcmp(second.asked.job, "8-unknown") == 0);
	CHECK(first.asked.key.size == second.asked.key.size &&
	      memcmp(first.asked.key.data, second.asked.key.data, first.asked.key.size) == 0);
	begin_request(&message, "8", "3");
	put_text(&message, "writable", "1");
	request(&message);
	CHECK(ask(&third, "pinnace step") == 0 && third.asked.key.size > first.asked.key.size);
	asked_release(&first.asked);
	asked_release(&second.asked);
	asked_release(&third.asked);
}

static void requests_that_are_not_understood_are_for_python(void)
{
	struct buffer message;

	begin_request(&message, "seven", "0");
	request(&message);
	CHECK(!understood("pinnace step"));
	begin_request(&message, "7", "4294967291"); /* a batch script */
	request(&message);
	CHECK(!understood("pinnace step"));
	begin_request(&message, "7", "0");
	put_text(&message, "protocol", "2");
	request(&message);
	CHECK(!understood("pinnace step"));
	memset(&message, 0, sizeof(message));
	put_text(&message, "protocol", "1");
	request(&message);
	CHECK(!understood("pinnace step"));
}

/* Variables of whoever asks go where a template names them: of the job, not of this process. */
static void variables_are_the_callers(void)
{
	cleanup_buffer struct buffer template = { .size = 0 };
	struct buffer message;
	struct fields plan;

	buffer_begin(&template, "expand");
	buffer_argument(&template, "bind");
	buffer_argument(&template, "/s/${PLACE}/${NOT_SET}${_a1}");
	buffer_argument(&template, "$PLACE${1}${PLACE");
	buffer_end(&template);
	put_two(&template, "expand", "environment", "A=${PLACE} here");
	CHECK(setenv("PLACE", "own ${PLACE}", 1) == 0 && setenv("_a1", "b", 1) == 0);
	complete("pinnace run image", &template, &plan);
	CHECK(next_is(&plan, "bind", "/s/own ${PLACE}/b\0$PLACE${1}${PLACE", 36));
	CHECK(next_is(&plan, "environment", "A=own ${PLACE} here", 19));
	fields_unmap(&plan);
	begin_request(&message, "7", "0");
	put_text(&message, "environment", "PLACE=first");
	put_text(&message, "environment", "PLACE=last");
	buffer_field(&message, "environment", "PLACE=a\0b", 9);
	request(&message);
	complete("pinnace step", &template, &plan);
	CHECK(next_is(&plan, "bind", "/s/last/\0$PLACE${1}${PLACE", 27));
	CHECK(next_is(&plan, "environment", "A=last here", 11));
	fields_unmap(&plan);
	CHECK(unsetenv("PLACE") == 0 && unsetenv("_a1") == 0);
}

/* Behind what the plan tells them; others have them from the process that becomes the executor. */
static void hooks_of_a_step_have_the_jobs_variables(void)
{
	cleanup_buffer struct buffer template = { .size = 0 };
	struct buffer message;
	struct fields plan;

	put_two(&template, "hooks-begin", "A=1", "");
	begin_request(&message, "7", "0");
	put_text(&message, "environment", "SLURM_JOB_ID=7");
	put_text(&message, "environment", "no variable");
	buffer_field(&message, "environment", "C=a\0b", 5);
	put_text(&message, "environment", "D=");
	request(&message);
	complete("pinnace step", &template, &plan);
	CHECK(next_is(&plan, "hooks-begin", "A=1\0\0SLURM_JOB_ID=7\0D=", 23));
	fields_unmap(&plan);
}

static void prepare(void)
{
	cleanup_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	static const char *const parts[] = { ".cache", ".cache/pinnace", ".cache/pinnace/plans" };
	char path[PATH_MAX];

	(void)snprintf(home, sizeof(home), "/tmp/pinnace-check.XXXXXX");
	if (fd < 0 || read(fd, boot, 36) != 36 || mkdtemp(home) == NULL || setenv("HOME", home, 1) < 0 ||
	    unsetenv("XDG_CACHE_HOME") < 0)
		abort();
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		(void)snprintf(path, sizeof(path), "%.100s/%s", home, parts[i]);
		if (mkdir(path, 0700) < 0)
			abort();
	}
	(void)snprintf(plans, sizeof(plans), "%.200s/%s", path, boot);
	if (mkdir(plans, 0700) < 0)
		abort();
}

static void clean_up(void)
{
	char command[PATH_MAX + 16];

	(void)snprintf(command, sizeof(command), "rm -rf %s", home);
	if (system(command) != 0)
		failures++;
}

int main(void)
{
	prepare();
	RUN(options_are_read_as_getopt_does);
	RUN(what_is_not_known_is_for_python);
	RUN(variables_and_the_command_are_no_part_of_what_is_alike);
	RUN(a_plan_is_used_again_while_all_is_as_it_was);
	RUN(variables_have_to_be_as_they_were);
	RUN(as_much_of_a_files_state_counts_as_the_entry_says);
	RUN(times_have_to_be_times);
	RUN(a_plan_from_the_future_is_not_used);
	RUN(an_unknown_check_does_not_hold);
	RUN(what_others_could_have_written_is_not_read);
	RUN(a_files_owner_counts);
	RUN(without_a_home_there_is_no_plan);
	RUN(a_damaged_entry_is_none);
	RUN(an_image_is_locked_before_its_plan_is_used);
	RUN(use_is_noted_once_a_minute);
	RUN(the_gaps_of_a_plan_are_filled);
	RUN(a_template_that_is_cut_is_no_plan);
	RUN(steps_of_other_jobs_are_alike);
	RUN(variables_are_the_callers);
	RUN(hooks_of_a_step_have_the_jobs_variables);
	RUN(requests_that_are_not_understood_are_for_python);
	clean_up();
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
