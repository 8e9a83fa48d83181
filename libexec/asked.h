/* What a start is asked for: by the arguments of `pinnace run`, or the request of a step (docs/protocol.md). */
#ifndef PINNACE_ASKED_H
#define PINNACE_ASKED_H

#include <stdbool.h>
#include <stddef.h>

#include "buffer.h"
#include "error.h"
#include "fields.h"

struct asked {
	bool step;
	bool timings;             /* somebody wants to know how the start went */
	char boot[37];            /* id of this boot of this machine */
	struct buffer key;        /* what tells this start from those that are not like it */
	char *const *command;     /* the words of the command, ended by NULL; none: the image's own */
	const char **variables;   /* NAME=VALUE or NAME, in the order of the options that ask for them */
	size_t variable_count;
	struct fields request;    /* of a step */
	struct field directory;   /* of a step */
	struct field *taken;      /* of a step: the variables of the job that the launcher takes */
	size_t taken_count;
	char job[96];             /* of a step: job and cluster, as in the name of the job's lease */
};

/*
 * Read what is asked: 0, or -1 if it is nothing that a kept plan could be used for. executor is the path of
 * pinnace-exec, a part of the key. asked_release ends it in either case.
 */
int asked_read(int argc, char *const *argv, const char *executor, struct asked *asked, struct error *err);
void asked_release(struct asked *asked);

/* A variable as the launcher would see it; the value has length bytes and is not terminated. */
bool asked_variable(const struct asked *asked, const char *name, const char **value, size_t *length);

/* A variable as whoever asks has it: of the job, or of this process. The value is not terminated. */
bool asked_callers_variable(const struct asked *asked, const char *name, const char **value, size_t *length);

/* True if relative paths are read against this directory. */
bool asked_directory_is(const struct asked *asked, const char *directory, size_t length);

#endif
