#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Write to the rest of err->text from position at; what does not fit is cut. */
static void append(struct error *err, size_t at, const char *format, va_list arguments)
{
	if (at < sizeof(err->text))
		(void)vsnprintf(err->text + at, sizeof(err->text) - at, format, arguments);
}

int error_set(struct error *err, int code, const char *format, ...)
{
	va_list arguments;
	size_t length;

	if (err->status == 0)
		err->status = 1;
	va_start(arguments, format);
	append(err, 0, format, arguments);
	va_end(arguments);
	length = strlen(err->text);
	if (code != 0)
		(void)snprintf(err->text + length, sizeof(err->text) - length, ": %s", strerror(code));
	return -1;
}

int error_hint(struct error *err, const char *format, ...)
{
	va_list arguments;
	size_t length = strlen(err->text);

	if (length + 2 < sizeof(err->text)) {
		memcpy(err->text + length, "; ", 3);
		va_start(arguments, format);
		append(err, length + 2, format, arguments);
		va_end(arguments);
	}
	return -1;
}

int error_wrap(struct error *err, const char *format, ...)
{
	char inner[sizeof(err->text)];
	va_list arguments;
	size_t length;

	memcpy(inner, err->text, sizeof(inner));
	va_start(arguments, format);
	append(err, 0, format, arguments);
	va_end(arguments);
	length = strlen(err->text);
	(void)snprintf(err->text + length, sizeof(err->text) - length, ": %s", inner);
	return -1;
}

void error_print(const struct error *err)
{
	error_note(err, "error");
}

void error_note(const struct error *err, const char *what)
{
	char line[4 * sizeof(err->text) + 64];
	size_t used = (size_t)snprintf(line, sizeof(line), "pinnace: %.40s: ", what);

	for (const char *c = err->text; *c != '\0' && used + 5 < sizeof(line); c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			used += (size_t)snprintf(line + used, sizeof(line) - used, "\\x%02x", (unsigned char)*c);
		else
			line[used++] = *c;
	}
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0)
		return; /* nobody is left to tell */
}
