#include "fake_spank.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

enum { OPTIONS_MAX = 32 };

char fake_error[1 << 14];
static struct spank_option *registered[OPTIONS_MAX];
static size_t registered_count;

void slurm_error(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(fake_error, sizeof(fake_error), format, arguments);
	va_end(arguments);
}

const char *spank_strerror(spank_err_t error)
{
	(void)error;
	return "failure";
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
	(void)spank;
	CHECK(registered_count < OPTIONS_MAX);
	registered[registered_count++] = option;
	return ESPANK_SUCCESS;
}

void fake_reset(void)
{
	options_free();
	fake_error[0] = '\0';
	registered_count = 0;
	CHECK(options_register(NULL) == 0);
}

int fake_give(const char *option, const char *argument)
{
	for (size_t i = 0; i < registered_count; i++) {
		if (strcmp(registered[i]->name, option) != 0)
			continue;
		CHECK(registered[i]->has_arg == (argument != NULL));
		return registered[i]->cb(registered[i]->val, argument, 0);
	}
	CHECK(!"a known option");
	return -1;
}
