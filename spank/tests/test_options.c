/* What users may ask for, and what they are told. */
#include <string.h>

#include "../carry.h"
#include "../settings.h"
#include "check.h"
#include "fake_spank.h"

enum { LONG = 100000 };

/* A text of LONG times one character. */
static char *repeat(char character)
{
	char *text = malloc(LONG + 1);

	CHECK(text != NULL);
	memset(text, character, LONG);
	text[LONG] = '\0';
	return text;
}

static const char *lookup(void *context, const char *name)
{
	const char *const *pairs = context;

	for (size_t i = 0; pairs[i] != NULL; i += 2)
		if (strcmp(pairs[i], name) == 0)
			return pairs[i + 1];
	return NULL;
}

static void an_image_is_kept_and_may_be_given_twice_alike(void)
{
	CHECK(fake_give("container-image", "ubuntu:22.04") == 0);
	CHECK(fake_give("container-image", "ubuntu:22.04") == 0);
	CHECK(strcmp(options.image, "ubuntu:22.04") == 0);
}

static void two_different_images_are_refused(void)
{
	CHECK(fake_give("container-image", "a") == 0);
	CHECK(fake_give("container-image", "b") == -1);
	CHECK(strcmp(fake_error, "pinnace: --container-image specified multiple times") == 0);
}

static void options_with_text_need_some(void)
{
	static const char *const names[] = { "container-image", "container-mounts", "container-workdir",
					     "container-env", "container-unshare" };
	char expected[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		CHECK(fake_give(names[i], "") == -1);
		(void)snprintf(expected, sizeof(expected), "pinnace: --%s: argument required", names[i]);
		CHECK(strcmp(fake_error, expected) == 0);
	}
}

static void opposites_exclude_each_other(void)
{
	CHECK(fake_give("container-remap-root", NULL) == 0);
	CHECK(fake_give("container-remap-root", NULL) == 0);
	CHECK(fake_give("no-container-remap-root", NULL) == -1);
	CHECK(strcmp(fake_error, "pinnace: both --container-remap-root and --no-container-remap-root "
				 "were specified") == 0);
	CHECK(fake_give("container-readonly", NULL) == 0 && options.writable == CHOICE_NO);
	CHECK(fake_give("container-writable", NULL) == -1);
	CHECK(fake_give("no-container-mount-home", NULL) == 0 && options.mount_home == CHOICE_NO);
	CHECK(fake_give("container-entrypoint", NULL) == 0 && options.entrypoint == CHOICE_YES);
	CHECK(fake_give("no-container-entrypoint", NULL) == -1);
	CHECK(strcmp(fake_error, "pinnace: both --container-entrypoint and --no-container-entrypoint "
				 "were specified") == 0);
}

static void an_unknown_backend_is_refused_with_those_there_are(void)
{
	CHECK(fake_give("container-backend", "podman") == -1);
	CHECK(strstr(fake_error, "--container-backend: unknown backend podman; there are auto, squashfuse") != NULL);
	CHECK(fake_give("container-backend", "unpack") == 0 && strcmp(options.backend, "unpack") == 0);
	CHECK(fake_give("container-backend", "squashfuse") == -1);
	CHECK(strstr(fake_error, "specified multiple times") != NULL);
}

static void namespaces_are_known_or_refused(void)
{
	CHECK(fake_give("container-unshare", "net,pid") == -1);
	CHECK(strncmp(fake_error, "pinnace: --container-unshare: unknown namespace 'pid'", 53) == 0);
	CHECK(fake_give("container-unshare", "net,") == -1);
	CHECK(strcmp(fake_error, "pinnace: --container-unshare: empty namespace argument") == 0);
	fake_reset();
	CHECK(fake_give("container-unshare", "net,uts") == 0 && fake_give("container-unshare", "ipc,net") == 0);
	CHECK(options.unshare.count == 3 && strcmp(options.unshare.items[2], "ipc") == 0);
}

static void mounts_add_up_and_identical_ones_count_once(void)
{
	CHECK(fake_give("container-mounts", "/a,/a:/a,/b:/c:ro+rprivate") == 0);
	CHECK(fake_give("container-mounts", "./d:/d:,tmpfs:/tmp,/a") == 0);
	CHECK(options.mounts.count == 4);
	CHECK(strcmp(options.mounts.items[0], "/a:/a") == 0);
	CHECK(strcmp(options.mounts.items[1], "/b:/c:ro+rprivate") == 0);
	CHECK(strcmp(options.mounts.items[2], "./d:/d") == 0);
	CHECK(strcmp(options.mounts.items[3], "tmpfs:/tmp") == 0);
}

static void malformed_mounts_are_refused_with_their_text(void)
{
	static const char *const bad[][2] = {
		{ ":", "invalid format: :" },
		{ "/a::ro", "invalid format: /a::ro" },
		{ ":/b", "invalid format: :/b" },
		{ "/a,", "invalid format: /a," },
		{ ",", "invalid format: ," },
		{ "a:/b", "the source must begin with" },
		{ "tmpfsx:/b", "the source must begin with" },
		{ "tmpfs", "the target must begin with" },
		{ "/a:b", "the target must begin with" },
		{ "/a:/b,umount:c", "the target must begin with" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(fake_give("container-mounts", bad[i][0]) == -1);
		CHECK(strncmp(fake_error, "pinnace: --container-mounts: ", 29) == 0);
		CHECK(strstr(fake_error, bad[i][1]) != NULL);
	}
}

static void hostile_text_is_bounded_and_cannot_forge_lines(void)
{
	char *commas = repeat(','), *colons = repeat(':'), *slashes = repeat('/'), *letters = repeat('x');

	CHECK(fake_give("container-mounts", commas) == -1);
	CHECK(fake_give("container-mounts", colons) == -1);
	CHECK(fake_give("container-env", commas) == -1);
	CHECK(fake_give("container-mounts", "a\nsrun: error: forged:\033[2J") == -1);
	CHECK(strpbrk(fake_error, "\n\033") == NULL && strstr(fake_error, "\\x0a") != NULL);
	CHECK(strlen(fake_error) < 8192);
	CHECK(fake_give("container-mounts", slashes) == 0 && options.mounts.count == 1);
	CHECK(fake_give("container-image", letters) == 0 && strlen(options.image) == LONG);
	CHECK(fake_give("container-env", letters) == 0);
	free(commas);
	free(colons);
	free(slashes);
	free(letters);
}

static void a_list_has_a_limit(void)
{
	char name[16];
	int result = 0;

	for (int i = 0; i <= LIST_MAX && result == 0; i++) {
		(void)snprintf(name, sizeof(name), "N%d", i);
		result = fake_give("container-env", name);
	}
	CHECK(result == -1 && options.environment.count == LIST_MAX);
}

static void variables_stand_in_for_options_that_were_not_given(void)
{
	const char *pairs[] = { "PYXIS_CONTAINER_IMAGE", "theirs", "PINNACE_CONTAINER_IMAGE", "ours",
				"PYXIS_CONTAINER_WORKDIR", "/unused", "PYXIS_CONTAINER_MOUNTS", "/m",
				"PYXIS_CONTAINER_REMAP_ROOT", "yes", "PYXIS_CONTAINER_MOUNT_HOME", "YES",
				"PYXIS_CONTAINER_READONLY", "y", "PYXIS_CONTAINER_ENV", "A,B",
				"PYXIS_CONTAINER_ENTRYPOINT", "n", "PYXIS_CONTAINER_ENTRYPOINT_LOG", "true",
				"PYXIS_CONTAINER_UNSHARE", "ipc", NULL };

	CHECK(fake_give("container-workdir", "/given") == 0);
	CHECK(options_from_environment(lookup, pairs) == 0);
	CHECK(strcmp(options.image, "ours") == 0);
	CHECK(strcmp(options.workdir, "/given") == 0);
	CHECK(options.mounts.count == 1 && options.environment.count == 2 && options.unshare.count == 1);
	CHECK(options.remap_root == CHOICE_YES);
	CHECK(options.entrypoint == CHOICE_NO && options.entrypoint_log == CHOICE_YES);
	CHECK(options.mount_home == CHOICE_NONE); /* words are case-sensitive, others are ignored */
	CHECK(options.writable == CHOICE_NO);
}

static void writable_is_read_before_readonly(void)
{
	const char *pairs[] = { "PYXIS_CONTAINER_READONLY", "1", "PYXIS_CONTAINER_WRITABLE", "1", NULL };

	CHECK(options_from_environment(lookup, pairs) == 0);
	CHECK(options.writable == CHOICE_YES);
}

static void an_empty_variable_is_as_none_and_a_malformed_one_is_refused(void)
{
	const char *empty[] = { "PYXIS_CONTAINER_IMAGE", "", NULL };
	const char *malformed[] = { "PYXIS_CONTAINER_MOUNTS", "a:b", NULL };

	CHECK(options_from_environment(lookup, empty) == 0 && options.image == NULL);
	CHECK(options_from_environment(lookup, malformed) == -1);
}

static void options_without_an_image_are_reported(void)
{
	CHECK(fake_give("container-env", "A") == 0);
	options_report_ignored();
	CHECK(fake_error[0] == '\0');
	CHECK(fake_give("container-mounts", "/a") == 0);
	options_report_ignored();
	CHECK(strcmp(fake_error, "pinnace: ignoring --container-mounts because neither --container-image "
				 "nor --container-name is set") == 0);
	fake_reset();
	CHECK(fake_give("container-entrypoint-log", NULL) == 0);
	options_report_ignored();
	CHECK(strstr(fake_error, "ignoring --container-entrypoint-log because") != NULL);
	fake_error[0] = '\0';
	CHECK(fake_give("container-image", "a") == 0);
	options_report_ignored();
	CHECK(fake_error[0] == '\0');
}

/* Slurm tells the nodes only the last argument of an option. */
static void repeated_options_reach_the_nodes_whole(void)
{
	const char *none[] = { NULL };
	const char *carried[] = { CARRY_MOUNTS, NULL, NULL };

	CHECK(unsetenv(CARRY_MOUNTS) == 0);
	CHECK(fake_give("container-mounts", "/a") == 0);
	CHECK(options_complete(lookup, none, true) == 0 && getenv(CARRY_MOUNTS) == NULL);
	CHECK(fake_give("container-mounts", "/b:/c") == 0);
	CHECK(options_complete(lookup, none, true) == 0);
	CHECK(strcmp(getenv(CARRY_MOUNTS), "/a:/a,/b:/c") == 0);

	carried[1] = getenv(CARRY_MOUNTS);
	fake_reset();
	CHECK(fake_give("container-mounts", "/b:/c") == 0);
	CHECK(options_complete(lookup, carried, false) == 0);
	CHECK(options.mounts.count == 2 && strcmp(options.mounts.items[0], "/a:/a") == 0);

	fake_reset();
	CHECK(options_complete(lookup, carried, false) == 0);
	CHECK(options.mounts.count == 0); /* a left-over variable asks for nothing by itself */
}

static void plugstack_arguments_are_known_or_refused(void)
{
	struct settings settings;
	char *good[] = { "launcher=/opt/p", "sbatch_support=no", "runtime_path=/run/x", "container_scope=job",
			 "importer=", "use_squashfuse=1", "use_enroot_load=0" };
	char *entrypoint[] = { "execute_entrypoint=1" };
	static char *const bad[][2] = {
		{ "launcher=p", "launcher=p in plugstack.conf is not an absolute path" },
		{ "sbatch_support=2", "sbatch_support=2 in plugstack.conf: 0 or 1 is expected" },
		{ "execute_entrypoint=maybe", "execute_entrypoint=maybe in plugstack.conf: 0 or 1 is expected" },
		{ "container_scope=node", "container_scope=node in plugstack.conf: job or global is expected" },
		{ "importer=/x", "importer=/x in plugstack.conf: programs that import images are not supported" },
		{ "use_squashfuse=", "use_squashfuse= in plugstack.conf: 0 or 1 is expected" },
		{ "launcher", "unknown argument launcher in plugstack.conf" },
		{ "launch=/x", "unknown argument launch=/x in plugstack.conf" },
		{ "", "unknown argument  in plugstack.conf" },
	};

	CHECK(settings_read(&settings, sizeof(good) / sizeof(good[0]), good) == 0);
	CHECK(strcmp(settings.launcher, "/opt/p") == 0 && !settings.batch && settings.entrypoint == CHOICE_NONE);
	CHECK(settings_read(&settings, 1, entrypoint) == 0 && settings.entrypoint == CHOICE_YES);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *argument = bad[i][0];

		CHECK(settings_read(&settings, 1, &argument) == -1);
		CHECK(strstr(fake_error, bad[i][1]) != NULL);
	}
}

int main(void)
{
	RUN(an_image_is_kept_and_may_be_given_twice_alike);
	RUN(two_different_images_are_refused);
	RUN(options_with_text_need_some);
	RUN(opposites_exclude_each_other);
	RUN(an_unknown_backend_is_refused_with_those_there_are);
	RUN(namespaces_are_known_or_refused);
	RUN(mounts_add_up_and_identical_ones_count_once);
	RUN(malformed_mounts_are_refused_with_their_text);
	RUN(hostile_text_is_bounded_and_cannot_forge_lines);
	RUN(a_list_has_a_limit);
	RUN(variables_stand_in_for_options_that_were_not_given);
	RUN(writable_is_read_before_readonly);
	RUN(an_empty_variable_is_as_none_and_a_malformed_one_is_refused);
	RUN(options_without_an_image_are_reported);
	RUN(repeated_options_reach_the_nodes_whole);
	RUN(plugstack_arguments_are_known_or_refused);
	return 0;
}
