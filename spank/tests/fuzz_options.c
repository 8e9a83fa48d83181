/*
 * Options and variables as users give them, for libFuzzer, and the request that becomes of them.
 * `make fuzz` in spank/ needs clang.
 */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "../../libexec/cleanup.h"
#include "../../libexec/fields.h"
#include "../carry.h"
#include "../request.h"
#include "check.h"
#include "fake_spank.h"

enum { TEXTS_MAX = 16 };

static const struct {
	const char *name;
	bool has_argument;
} known[] = {
	{ "container-image", true }, { "container-mounts", true }, { "container-workdir", true },
	{ "container-backend", true },
	{ "container-env", true }, { "container-mount-home", false }, { "no-container-mount-home", false },
	{ "container-remap-root", false }, { "container-writable", false }, { "container-readonly", false },
	{ "container-entrypoint", false }, { "no-container-entrypoint", false }, { "container-unshare", true },
};

static const char *const variables[] = {
	"PINNACE_CONTAINER_IMAGE", "PINNACE_CONTAINER_MOUNTS", "PYXIS_CONTAINER_ENV", "PYXIS_CONTAINER_WORKDIR",
	"PYXIS_CONTAINER_WRITABLE", CARRY_MOUNTS, CARRY_ENVIRONMENT, "PYXIS_CONTAINER_ENTRYPOINT",
	"PYXIS_CONTAINER_UNSHARE", CARRY_UNSHARE,
};

struct texts {
	const char *items[TEXTS_MAX];
	size_t count;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The last texts are the values of variables. */
static const char *lookup(void *context, const char *name)
{
	const struct texts *texts = context;

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]) && i < texts->count; i++)
		if (strcmp(variables[i], name) == 0)
			return texts->items[texts->count - 1 - i];
	return NULL;
}

/* The request can be read again and holds every option. */
static void check_request(void)
{
	char *const environment[] = { NULL };
	const struct step_facts facts = { .environment = environment };
	struct error err = { 0 };
	cleanup_close int fd = request_create(&options, &facts, &err);
	struct fields message = { 0 };
	struct field field;
	size_t mounts = 0;
	int more;

	if (fd < 0)
		return;
	CHECK(fields_map(fd, &message, &err) == 0);
	while ((more = fields_next(&message, &field, &err)) == 1) {
		mounts += field_is(&field, "mounts");
		if (field_is(&field, "image"))
			CHECK(strlen(options.image) == field.length);
	}
	CHECK(more == 0 && mounts == options.mounts.count);
	fields_unmap(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_free char *copy = malloc(size + 1);
	struct texts texts = { .count = 0 };
	size_t position = 0;

	CHECK(copy != NULL);
	memcpy(copy, data, size);
	copy[size] = '\0';
	fake_reset();
	while (position < size && texts.count < TEXTS_MAX) {
		const char *text = copy + position;
		size_t option = (unsigned char)text[0] % (sizeof(known) / sizeof(known[0]));

		position += strlen(text) + 1;
		if (text[0] == '\0')
			continue;
		texts.items[texts.count++] = text + 1;
		(void)fake_give(known[option].name, known[option].has_argument ? text + 1 : NULL);
		CHECK(strpbrk(fake_error, "\n\033") == NULL);
	}
	(void)options_complete(lookup, &texts, true);
	(void)options_from_environment(lookup, &texts);
	options_report_ignored();
	if (options.image != NULL)
		check_request();
	options_free();
	return 0;
}
