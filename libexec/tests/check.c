/* Tests of the executor's parts that need no namespace, meant to be built with sanitizers. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../cleanup.h"
#include "../error.h"
#include "../fields.h"
#include "../layer.h"
#include "../memory.h"
#include "../rc.h"
#include "../task.h"
#include "../tree.h"
#include "check.h"

static size_t put(uint8_t *at, const char *key, const char *value, size_t length)
{
	uint32_t lengths[2] = { htonl((uint32_t)strlen(key)), htonl((uint32_t)length) };

	memcpy(at, lengths, 8);
	memcpy(at + 8, key, strlen(key));
	memcpy(at + 8 + strlen(key), value, length);
	return 8 + strlen(key) + length;
}

static void a_message_gives_its_fields_in_order(void)
{
	uint8_t data[64];
	size_t size = put(data, "a", "1\0" "2", 4);
	struct fields message = { .data = data };
	struct field field;
	struct error err = { 0 };
	size_t position = 0;

	size += put(data + size, "bc", "", 0);
	message.size = size;
	CHECK(fields_next(&message, &field, &err) == 1 && field_is(&field, "a"));
	CHECK(strcmp(field_argument(&field, &position), "1") == 0);
	CHECK(strcmp(field_argument(&field, &position), "2") == 0);
	CHECK(field_argument(&field, &position) == NULL);
	CHECK(fields_next(&message, &field, &err) == 1 && field_is(&field, "bc") && field.length == 0);
	CHECK(fields_next(&message, &field, &err) == 0);
}

static void a_message_cut_anywhere_is_refused(void)
{
	uint8_t data[64];
	size_t size = put(data, "key", "value", 5);

	for (size_t cut = 1; cut < size; cut++) {
		cleanup_free uint8_t *copy = malloc(cut); /* so that ASan sees a read behind the end */
		struct fields message = { .data = copy, .size = cut };
		struct error err = { 0 };
		struct field field;

		memcpy(copy, data, cut);
		CHECK(fields_next(&message, &field, &err) == -1 && err.text[0] != '\0');
	}
}

static void huge_lengths_are_refused(void)
{
	static const uint32_t lengths[][2] = {
		{ UINT32_MAX, 0 }, { 0, UINT32_MAX }, { UINT32_MAX, UINT32_MAX }, { 64, 0 }, { 8, UINT32_MAX - 7 },
	};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		uint8_t data[256] = { 0 };
		uint32_t pair[2] = { htonl(lengths[i][0]), htonl(lengths[i][1]) };
		struct fields message = { .data = data, .size = sizeof(data) };
		struct error err = { 0 };
		struct field field;

		memcpy(data, pair, 8);
		CHECK(fields_next(&message, &field, &err) == -1);
	}
}

static void random_messages_end(void)
{
	srandom(1);
	for (int round = 0; round < 20000; round++) {
		size_t size = (size_t)random() % 64;
		cleanup_free uint8_t *data = malloc(size + 1);
		struct fields message = { .data = data, .size = size };
		struct error err = { 0 };
		struct field field;
		int more;

		for (size_t i = 0; i < size; i++)
			data[i] = random() % 4 == 0 ? (uint8_t)random() : 0;
		while ((more = fields_next(&message, &field, &err)) == 1) {
			size_t position = 0;

			while (field_argument(&field, &position) != NULL)
				;
		}
		CHECK(more <= 0);
	}
}

static void an_unterminated_argument_is_none(void)
{
	struct field field = { .value = "abc", .length = 3 };
	size_t position = 0;

	CHECK(field_argument(&field, &position) == NULL);
}

static int run_task(const char *key, const char *value, struct error *err)
{
	struct field field = { .value = value, .length = strlen(value) };

	(void)snprintf(field.key, sizeof(field.key), "%s", key);
	return task_operation(&field, &task_own_environment, err);
}

static void variables_are_set_kept_and_forgotten(void)
{
	struct error err = { 0 };

	CHECK(run_task("environment", "PINNACE_T=1=2", &err) == 1);
	CHECK(strcmp(getenv("PINNACE_T"), "1=2") == 0);
	CHECK(run_task("default", "PINNACE_T=x", &err) == 1);
	CHECK(strcmp(getenv("PINNACE_T"), "1=2") == 0);
	CHECK(run_task("unset", "PINNACE_T", &err) == 1);
	CHECK(getenv("PINNACE_T") == NULL);
	CHECK(run_task("environment", "novalue", &err) == -1);
	CHECK(run_task("environment", "=value", &err) == -1);
	CHECK(run_task("frobnicate", "", &err) == 0);
}

static void an_environment_file_gives_its_assignments_only(void)
{
	char path[] = "/tmp/pinnace-check-XXXXXX";
	static const char text[] = "PINNACE_A=1\n# PINNACE_B=2\nnonsense\n1BAD=x\nPINNACE_C=\"q q\"\nPINNACE_D='\n=x\n \tPINNACE_F=f\nENROOT_X=1\nPINNACE_E=";
	cleanup_close int fd = mkstemp(path);
	struct error err = { 0 };

	CHECK(write(fd, text, sizeof(text) - 1) == (ssize_t)sizeof(text) - 1);
	CHECK(run_task("environment-file", path, &err) == 1);
	CHECK(strcmp(getenv("PINNACE_A"), "1") == 0 && getenv("PINNACE_B") == NULL);
	CHECK(strcmp(getenv("PINNACE_C"), "q q") == 0 && strcmp(getenv("PINNACE_D"), "'") == 0);
	CHECK(strcmp(getenv("PINNACE_E"), "") == 0 && strcmp(getenv("PINNACE_F"), "f") == 0);
	CHECK(getenv("ENROOT_X") == NULL);
	(void)unlink(path);
	CHECK(run_task("environment-file", path, &err) == 1);     /* missing */
	CHECK(run_task("environment-file", "/dev/zero", &err) == 1); /* no plain file */
}

static void an_rc_script_gives_the_directory_that_it_changes_to(void)
{
	static const struct {
		const char *script, *directory;
	} cases[] = {
		{ "mkdir -p \"/srv\" 2> /dev/null\ncd \"/srv\" && unset OLDPWD || exit 1\n\nexec x", "/srv" },
		{ "cd /srv && unset OLDPWD || exit 1", "/srv" },
		{ "cd '/a b' && unset OLDPWD || exit 1\n", "/a b" },
		{ "cd '/a'\"'\"'b' && unset OLDPWD || exit 1\n", "/a'b" },
		{ "cd \"/a\\\"b\\c\" && unset OLDPWD || exit 1\n", "/a\"b\\c" },
		{ "cd \"$HOME\" && unset OLDPWD || exit 1\n", NULL },
		{ "cd \"`x`\" && unset OLDPWD || exit 1\n", NULL },
		{ "cd $(x) && unset OLDPWD || exit 1\n", NULL },
		{ "cd /a /b && unset OLDPWD || exit 1\n", NULL },
		{ "cd \"/a && unset OLDPWD || exit 1\n", NULL },
		{ "cd  && unset OLDPWD || exit 1\n", NULL },
		{ "cd && unset OLDPWD || exit 1\n", NULL },
		{ "cd /srv\n", NULL },
		{ "# cd /srv && unset OLDPWD || exit 1\n", NULL },
		{ "", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cleanup_free char *script = strdup(cases[i].script);
		const char *directory = rc_directory(script);

		CHECK(cases[i].directory == NULL ? directory == NULL
						 : directory != NULL && strcmp(directory, cases[i].directory) == 0);
	}
}

static void an_image_names_its_directory_in_a_file(void)
{
	char path[] = "/tmp/pinnace-check-XXXXXX", here[PATH_MAX];
	cleanup_close int fd = mkstemp(path);
	cleanup_close int before = open(".", O_PATH | O_DIRECTORY);
	struct error err = { 0 };

	CHECK(dprintf(fd, "cd \"/proc/self\" && unset OLDPWD || exit 1\n") > 0);
	CHECK(run_task("working-directory-file", path, &err) == 1);
	CHECK(getcwd(here, sizeof(here)) != NULL && strncmp(here, "/proc/", 6) == 0);
	CHECK(unlink(path) == 0);
	CHECK(run_task("working-directory-file", path, &err) == 1);
	CHECK(getcwd(here, sizeof(here)) != NULL && strcmp(here, "/") == 0);
	CHECK(fchdir(before) == 0);
}

static void a_wrong_filter_is_refused(void)
{
	struct error err = { 0 };

	CHECK(run_task("seccomp", "1234567", &err) == -1);
}

/* A directory whose content is made by a shell script, as a hostile image would bring it. */
static int make_root(char path[], const char *script)
{
	char command[1024];

	if (mkdtemp(path) == NULL)
		abort();
	(void)snprintf(command, sizeof(command), "cd %s && %s", path, script);
	if (system(command) != 0)
		abort();
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static void remove_root(const char *path)
{
	char command[256];

	(void)snprintf(command, sizeof(command), "rm -rf %s", path);
	if (system(command) != 0)
		abort();
}

static bool exists(int root, const char *path)
{
	struct stat status;

	return fstatat(root, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static void missing_parents_are_created(void)
{
	char path[] = "/tmp/pinnace-check-XXXXXX", resolved[PATH_MAX];
	cleanup_close int root = make_root(path, "true");
	struct error err = { 0 };
	cleanup_close int fd = tree_create(root, "/a/./b//c", false, resolved, &err);

	CHECK(fd >= 0 && strcmp(resolved, "a/b/c") == 0);
	remove_root(path);
}

static void links_never_lead_out_of_the_root(void)
{
	static const struct { const char *script, *target, *expected; } cases[] = {
		{ "ln -s /tmp/pinnace-outside link", "/link/file", "tmp/pinnace-outside/file" },
		{ "ln -s ../../../../outside link", "link/file", "outside/file" },
		{ "mkdir etc && ln -s ../run/systemd/resolv.conf etc/resolv.conf", "/etc/resolv.conf",
		  "run/systemd/resolv.conf" },
		{ "ln -s a b && ln -s /c a", "/b/d", "c/d" },
		{ "mkdir d && ln -s .. d/up", "/d/up/up2/../../e", "e" },
		{ "true", "/../../x", "x" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char path[] = "/tmp/pinnace-check-XXXXXX", resolved[PATH_MAX];
		cleanup_close int root = make_root(path, cases[i].script);
		struct error err = { 0 };
		cleanup_close int fd = tree_create(root, cases[i].target, false, resolved, &err);

		CHECK(fd >= 0 && strcmp(resolved, cases[i].expected) == 0 && exists(root, cases[i].expected));
		remove_root(path);
	}
}

static void impossible_targets_are_errors(void)
{
	static const struct { const char *script, *target; } cases[] = {
		{ "ln -s loop loop", "/loop/x" },
		{ "touch file", "/file/x" },
		{ "mkfifo fifo", "/fifo/x" },
	};
	char path[] = "/tmp/pinnace-check-XXXXXX", name[PATH_MAX + 8];
	cleanup_close int root = make_root(path, "true");
	struct error err = { 0 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char other[] = "/tmp/pinnace-check-XXXXXX";
		cleanup_close int fd = make_root(other, cases[i].script);
		struct error why = { 0 };

		CHECK(tree_create(fd, cases[i].target, true, NULL, &why) == -1 && why.text[0] != '\0');
		remove_root(other);
	}
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK(tree_create(root, name, true, NULL, &err) == -1);
	name[NAME_MAX + 1] = '\0';
	CHECK(tree_create(root, name, true, NULL, &err) == -1);
	remove_root(path);
}

static void writing_never_follows_a_link_out_and_needs_a_plain_file(void)
{
	char path[] = "/tmp/pinnace-check-XXXXXX", outside[] = "/tmp/pinnace-check-XXXXXX", script[128];
	cleanup_close int victim = mkstemp(outside);
	cleanup_close int root = -1;
	struct error err = { 0 };
	struct stat status;

	(void)snprintf(script, sizeof(script), "ln -s %s passwd && mkfifo fifo && mkdir dir", outside);
	root = make_root(path, script);
	CHECK(tree_write(root, "/passwd", 0644, "text", 4, false, &err) == 0);
	CHECK(fstat(victim, &status) == 0 && status.st_size == 0);
	CHECK(tree_write(root, "/fifo", 0644, "text", 4, true, &err) == -1);
	CHECK(tree_write(root, "/dir", 0644, "text", 4, true, &err) == -1);
	(void)unlink(outside);
	remove_root(path);
}

static void what_a_file_held_follows_what_is_put_before_it(void)
{
	char path[] = "/tmp/pinnace-check-XXXXXX", content[32] = "";
	cleanup_close int root = make_root(path, "mkdir etc && printf old > etc/group");
	cleanup_close int fd = -1;
	struct error err = { 0 };
	struct stat status;

	CHECK(tree_write(root, "/etc/group", 0640, "new\n", 4, true, &err) == 0);
	CHECK(tree_write(root, "/etc/passwd", 0644, "p\n", 2, true, &err) == 0);
	fd = tree_open(root, "/etc/group", O_RDONLY);
	CHECK(read(fd, content, sizeof(content) - 1) == 7 && strcmp(content, "new\nold") == 0);
	CHECK(fstat(fd, &status) == 0 && (status.st_mode & 07777) == 0640);
	remove_root(path);
}

static void an_error_is_one_line(void)
{
	struct error err = { 0 };

	error_set(&err, ENOENT, "cannot open %s", "a\nb");
	error_hint(&err, "look for it");
	error_wrap(&err, "start");
	CHECK(err.status == 1);
	CHECK(strcmp(err.text, "start: cannot open a\nb: No such file or directory; look for it") == 0);
	for (int i = 0; i < 100; i++)
		error_wrap(&err, "%0200d", i);
	CHECK(strlen(err.text) == sizeof(err.text) - 1);
}

static void write_text(int directory, const char *path, const char *text)
{
	cleanup_close int fd = openat(directory, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

/* A directory with two control groups of version 2 and two of version 1, one in the other. */
static int control_groups(char root[])
{
	int directory;

	CHECK(mkdtemp(root) != NULL);
	directory = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(directory >= 0 && mkdirat(directory, "job", 0700) == 0 && mkdirat(directory, "job/step", 0700) == 0);
	CHECK(mkdirat(directory, "memory", 0700) == 0 && mkdirat(directory, "memory/job", 0700) == 0);
	write_text(directory, "job/memory.max", "1000\n");
	write_text(directory, "job/step/memory.max", "max\n");
	write_text(directory, "memory/memory.limit_in_bytes", "9223372036854771712\n");
	write_text(directory, "memory/job/memory.limit_in_bytes", "2000\n");
	return directory;
}

static void remove_tree(const char *path, int directory)
{
	layer_remove(AT_FDCWD, path, directory);
	CHECK(access(path, F_OK) < 0 && errno == ENOENT);
}

static void the_least_limit_of_memory_counts_in_both_versions_of_control_groups(void)
{
	char root[] = "/tmp/pinnace-check-XXXXXX", groups[64];
	cleanup_close int directory = control_groups(root);

	(void)snprintf(groups, sizeof(groups), "%s/cgroup", root);
	write_text(directory, "cgroup", "0::/job/step\n");
	CHECK(memory_group_limit(groups, root) == 1000);
	write_text(directory, "cgroup", "5:cpu,cpuacct:/job\n4:memory:/job\n");
	CHECK(memory_group_limit(groups, root) == 2000);
	write_text(directory, "cgroup", "4:memory:/job\n0::/job\n");
	CHECK(memory_group_limit(groups, root) == 1000);
	write_text(directory, "cgroup", "0::/elsewhere\n0::/../../..\nnonsense\n:\n::\n");
	CHECK(memory_group_limit(groups, root) == UINT64_MAX);
	CHECK(memory_group_limit("/no/such/file", root) == UINT64_MAX);
	CHECK(memory_limit() > 0 && memory_limit() < UINT64_MAX);
	remove_tree(root, directory);
}

static void a_tree_is_removed_however_deep_and_no_link_is_followed(void)
{
	char root[] = "/tmp/pinnace-check-XXXXXX", outside[] = "/tmp/pinnace-check-XXXXXX";
	cleanup_close int directory = -1, place = -1;

	CHECK(mkdtemp(root) != NULL && mkdtemp(outside) != NULL);
	directory = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	place = fcntl(directory, F_DUPFD_CLOEXEC, 0);
	for (int depth = 0; depth < 1200; depth++) { /* deeper than a process may have files open */
		int next;

		CHECK(mkdirat(place, "inner", 0700) == 0 && symlinkat(outside, place, "link") == 0);
		next = openat(place, "inner", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		cleanup_close_fd(&place);
		place = next;
	}
	remove_tree(root, directory);
	CHECK(rmdir(outside) == 0);
}

int main(void)
{
	RUN(a_message_gives_its_fields_in_order);
	RUN(a_message_cut_anywhere_is_refused);
	RUN(huge_lengths_are_refused);
	RUN(random_messages_end);
	RUN(an_unterminated_argument_is_none);
	RUN(variables_are_set_kept_and_forgotten);
	RUN(an_environment_file_gives_its_assignments_only);
	RUN(an_rc_script_gives_the_directory_that_it_changes_to);
	RUN(an_image_names_its_directory_in_a_file);
	RUN(a_wrong_filter_is_refused);
	RUN(missing_parents_are_created);
	RUN(links_never_lead_out_of_the_root);
	RUN(impossible_targets_are_errors);
	RUN(writing_never_follows_a_link_out_and_needs_a_plain_file);
	RUN(what_a_file_held_follows_what_is_put_before_it);
	RUN(an_error_is_one_line);
	RUN(the_least_limit_of_memory_counts_in_both_versions_of_control_groups);
	RUN(a_tree_is_removed_however_deep_and_no_link_is_followed);
	printf("1..%d\n", tests);
	return failures == 0 ? 0 : 1;
}
