#define _GNU_SOURCE
#include "compose.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "cleanup.h"

struct start {
	const struct asked *asked;
	const struct kept *kept;
	long long begun;
};

static int malformed(const struct field *operation, struct error *err)
{
	return error_set(err, 0, "the plan's %s is malformed", operation->key);
}

static void copy(struct buffer *plan, const struct field *operation)
{
	buffer_field(plan, operation->key, operation->value, operation->length);
}

static void add_lease(struct buffer *plan, int lease)
{
	char text[16];

	if (lease < 0)
		return;
	(void)snprintf(text, sizeof(text), "%d", lease);
	buffer_begin(plan, "lease");
	buffer_argument(plan, text);
	buffer_end(plan);
}

static void add_timings(struct buffer *plan, long long begun)
{
	char text[24];
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	buffer_begin(plan, "timings");
	buffer_argument(plan, "");
	(void)snprintf(text, sizeof(text), "%lld", begun);
	buffer_argument(plan, text);
	buffer_argument(plan, "kept plan");
	(void)snprintf(text, sizeof(text), "%lld", (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
	buffer_argument(plan, text);
	buffer_end(plan);
}

static void add_variable(struct buffer *plan, const char *key, const char *name, const char *value)
{
	buffer_begin(plan, key);
	buffer_add(plan, name, strlen(name));
	buffer_add(plan, "=", 1);
	buffer_add(plan, value, strlen(value));
	buffer_end(plan);
}

/* The caller's value of a variable, should the image have none. */
static int pass_default(struct buffer *plan, const struct field *operation, struct error *err)
{
	size_t position = 0;
	const char *name = field_argument(operation, &position);
	const char *value;

	if (name == NULL)
		return malformed(operation, err);
	value = getenv(name);
	if (value != NULL)
		add_variable(plan, "default", name, value);
	return 0;
}

/* What was asked for: NAME=VALUE, or NAME, if the caller has it. */
static int add_requested(struct buffer *plan, const struct asked *asked, struct error *err)
{
	for (size_t i = 0; i < asked->variable_count; i++) {
		const char *text = asked->variables[i];
		const char *value = strchr(text, '=');

		if (value == text)
			return error_set(err, 0, "a variable without a name is for Python");
		if (value != NULL)
			buffer_field(plan, "environment", text, strlen(text));
		else if ((value = getenv(text)) != NULL)
			add_variable(plan, "environment", text, value);
	}
	return 0;
}

static bool is_letter(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* The length of the name in a `${NAME}` at the beginning of text; 0 if there is none. */
static size_t reference(const char *text)
{
	size_t length = 0;

	if (text[0] != '$' || text[1] != '{')
		return 0;
	for (text += 2; is_letter(text[length]) || (length > 0 && text[length] >= '0' && text[length] <= '9');)
		length++;
	return text[length] == '}' ? length : 0;
}

/* Text with the caller's values in the place of each `${NAME}`; what is not set is empty. */
static int add_expanded(struct buffer *plan, const struct asked *asked, const char *text, struct error *err)
{
	for (size_t plain, name; *text != '\0'; text += plain) {
		cleanup_free char *variable = NULL;
		const char *value;
		size_t length;

		for (plain = 0; text[plain] != '\0' && reference(text + plain) == 0;)
			plain++;
		buffer_add(plan, text, plain);
		name = reference(text + plain);
		if (name == 0)
			continue;
		variable = strndup(text + plain + 2, name);
		if (variable == NULL)
			return error_set(err, errno, "cannot read the variable");
		if (asked_callers_variable(asked, variable, &value, &length))
			buffer_add(plan, value, length);
		plain += name + 3;
	}
	return 0;
}

/* An operation with the caller's variables in its arguments. */
static int expand(struct buffer *plan, const struct asked *asked, const struct field *operation, struct error *err)
{
	size_t position = 0;
	const char *name = field_argument(operation, &position), *argument;
	bool whole;

	if (name == NULL || strlen(name) > FIELDS_MAX_KEY)
		return malformed(operation, err);
	whole = strcmp(name, "environment") == 0;
	buffer_begin(plan, name);
	while ((argument = field_argument(operation, &position)) != NULL) {
		if (add_expanded(plan, asked, argument, err) < 0)
			return -1;
		if (!whole)
			buffer_add(plan, "", 1);
	}
	buffer_end(plan);
	return 0;
}

/* What hooks of a step are told, then the job's variables. */
static int begin_hooks(struct buffer *plan, const struct asked *asked, const struct field *operation, struct error *err)
{
	struct fields request = asked->request;
	struct field field;
	int more = 0;

	buffer_begin(plan, operation->key);
	buffer_add(plan, operation->value, operation->length);
	request.position = 0;
	while ((more = fields_next(&request, &field, err)) > 0)
		if (field_is(&field, "environment") && memchr(field.value, '\0', field.length) == NULL &&
		    memchr(field.value, '=', field.length) != NULL) {
			buffer_add(plan, field.value, field.length);
			buffer_add(plan, "", 1);
		}
	buffer_end(plan);
	return more;
}

static void add_words(struct buffer *plan, const struct field *operation, bool replace, char *const *words)
{
	buffer_begin(plan, operation->key);
	if (!replace || words[0] == NULL)
		buffer_add(plan, operation->value, operation->length);
	for (; *words != NULL; words++)
		buffer_argument(plan, *words);
	buffer_end(plan);
}

static int add(struct buffer *plan, const struct start *start, const struct field *operation, struct error *err)
{
	if (field_is(operation, "lease"))
		add_lease(plan, start->kept->lease);
	else if (field_is(operation, "timings"))
		add_timings(plan, start->begun);
	else if (field_is(operation, "expand"))
		return expand(plan, start->asked, operation, err);
	else if (start->asked->step && field_is(operation, "hooks-begin"))
		return begin_hooks(plan, start->asked, operation, err);
	else if (start->asked->step)
		copy(plan, operation);
	else if (field_is(operation, "pass-default"))
		return pass_default(plan, operation, err);
	else if (field_is(operation, "requested-environment"))
		return add_requested(plan, start->asked, err);
	else if (field_is(operation, "script"))
		add_words(plan, operation, false, start->asked->command);
	else if (field_is(operation, "command"))
		add_words(plan, operation, true, start->asked->command);
	else
		copy(plan, operation);
	return 0;
}

static int write_plan(const struct buffer *plan, struct error *err)
{
	cleanup_close int fd = memfd_create("pinnace-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || write(fd, plan->data, plan->size) != (ssize_t)plan->size ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return error_set(err, errno, "cannot write the plan");
	return steal_fd(&fd);
}

int compose_plan(const struct asked *asked, struct kept *kept, long long begun, struct error *err)
{
	const struct start start = { .asked = asked, .kept = kept, .begun = begun };
	cleanup_buffer struct buffer plan = { .size = 0 };
	struct field operation;
	int more;

	while ((more = fields_next(&kept->entry, &operation, err)) > 0)
		if (add(&plan, &start, &operation, err) < 0)
			return -1;
	if (more < 0)
		return -1;
	if (plan.failed || plan.size == 0)
		return error_set(err, 0, "the plan takes too many bytes, or none");
	return write_plan(&plan, err);
}
