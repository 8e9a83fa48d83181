/* Whether a task's program is there, seen from inside the container. */
#ifndef PINNACE_COMMAND_H
#define PINNACE_COMMAND_H

#include "../libexec/error.h"

/*
 * Look for the program as slurmstepd will: 0 if it can be executed, else -1 with the exit status
 * in err, 127 (not found) or 126 (not executable), as a shell's. path is the task's PATH or NULL.
 */
int command_check(const char *program, const char *path, const char *image, struct error *err);

#endif
