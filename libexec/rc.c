#define _GNU_SOURCE
#include "rc.h"

#include <stddef.h>
#include <string.h>

static const char START[] = "cd ", END[] = " && unset OLDPWD || exit 1";

/* What a backslash stands before within double quotes (POSIX shell, 2.2.3); elsewhere it is itself. */
static const char ESCAPED[] = "$`\"\\";

/* Characters that mean something to a shell outside of quotes. */
static const char SPECIAL[] = " \t|&;<>()$`\\\"'*?[#~=%!{}";

/* Read the word that begins at text and must end it, in place: false if it takes more than quotes. */
static int unquote(char *text)
{
	char *out = text;
	char quote = '\0';

	for (; *text != '\0'; text++) {
		if (*text == quote) {
			quote = '\0';
		} else if (quote == '\0' && (*text == '"' || *text == '\'')) {
			quote = *text;
		} else if (quote == '\'') {
			*out++ = *text;
		} else if (quote == '"') {
			if (*text == '\\' && text[1] != '\0' && strchr(ESCAPED, text[1]) != NULL)
				text++;
			else if (*text == '$' || *text == '`')
				return 0;
			*out++ = *text;
		} else if (strchr(SPECIAL, *text) != NULL) {
			return 0;
		} else {
			*out++ = *text;
		}
	}
	*out = '\0';
	return quote == '\0';
}

char *rc_directory(char *script)
{
	char *line;

	while ((line = strsep(&script, "\n")) != NULL) {
		size_t length = strlen(line);
		char *word = line + sizeof(START) - 1;

		if (length < sizeof(START) + sizeof(END) - 2 || strncmp(line, START, sizeof(START) - 1) != 0 ||
		    strcmp(line + length - (sizeof(END) - 1), END) != 0)
			continue;
		line[length - (sizeof(END) - 1)] = '\0';
		return unquote(word) && *word != '\0' ? word : NULL;
	}
	return NULL;
}
