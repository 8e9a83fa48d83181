#include "message.h"

#include <stdarg.h>
#include <stdio.h>

#include "spank_api.h"

int message_error(const char *format, ...)
{
	char text[1024];
	char visible[4 * sizeof(text)];
	size_t used = 0;
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	for (const char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			used += (size_t)snprintf(visible + used, sizeof(visible) - used, "\\x%02x",
						 (unsigned char)*c);
		else
			visible[used++] = *c;
	}
	visible[used] = '\0';
	slurm_error("pinnace: %s", visible);
	return -1;
}
