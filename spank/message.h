/* What the shim says through Slurm: in srun on the user's terminal, in slurmstepd in its log. */
#ifndef PINNACE_MESSAGE_H
#define PINNACE_MESSAGE_H

/*
 * Report an error as "pinnace: TEXT" and return -1. Control characters are made visible: the text
 * holds what users typed, and slurmstepd writes it into a log of root's.
 */
int message_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
