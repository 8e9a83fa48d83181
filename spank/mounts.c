#define _GNU_SOURCE
#include "mounts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../libexec/cleanup.h"
#include "message.h"

/* A piece of the user's text: not terminated. */
struct piece {
	const char *start;
	size_t length;
};

/* Cut what comes before separator (or everything) off the front of rest. */
static struct piece cut(struct piece *rest, char separator)
{
	const char *end = memchr(rest->start, separator, rest->length);
	struct piece front = { rest->start, end != NULL ? (size_t)(end - rest->start) : rest->length };
	size_t used = front.length + (end != NULL);

	rest->start += used;
	rest->length -= used;
	return front;
}

static bool is_path(struct piece piece)
{
	return piece.start[0] == '/' || piece.start[0] == '.';
}

static bool is_word(struct piece piece, const char *word)
{
	return piece.length == strlen(word) && memcmp(piece.start, word, piece.length) == 0;
}

static int complain(struct piece entry, const char *what)
{
	/* The width bounds what a hostile text adds to the line. */
	int shown = entry.length > 256 ? 256 : (int)entry.length;

	return message_error("--container-mounts: %s: %.*s", what, shown, entry.start);
}

static int add_entry(struct list *mounts, struct piece entry, struct piece text)
{
	bool has_target = memchr(entry.start, ':', entry.length) != NULL;
	cleanup_free char *whole = NULL;
	struct piece rest = entry;
	struct piece source = cut(&rest, ':');
	struct piece target = has_target ? cut(&rest, ':') : source;
	int length;

	if (source.length == 0 || target.length == 0)
		return complain(entry.length > 0 ? entry : text, "invalid format");
	if (!is_path(source) && !is_word(source, "tmpfs") && !is_word(source, "umount"))
		return complain(entry, "the source must begin with \"/\" or \".\", or be \"tmpfs\" or \"umount\"");
	if (!is_path(target))
		return complain(entry, "the target must begin with \"/\" or \".\"");
	length = asprintf(&whole, "%.*s:%.*s%s%.*s", (int)source.length, source.start,
			  (int)target.length, target.start, rest.length > 0 ? ":" : "",
			  (int)rest.length, rest.start);
	if (length < 0) {
		whole = NULL;
		return complain(entry, strerror(ENOMEM));
	}
	if (list_add(mounts, whole, (size_t)length) < 0)
		return complain(entry, strerror(errno));
	return 0;
}

int mounts_add(struct list *mounts, const char *text)
{
	struct piece whole = { text, strlen(text) };
	struct piece rest = whole;
	const char *end = text + whole.length;

	/* A comma at the end leaves an empty entry, which is malformed. */
	for (;;) {
		struct piece entry = cut(&rest, ',');

		if (add_entry(mounts, entry, whole) < 0)
			return -1;
		if (entry.start + entry.length == end)
			return 0;
	}
}
