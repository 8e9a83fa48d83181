/* A Slurm that consists of what the plugin asks of it. */
#ifndef PINNACE_FAKE_SPANK_H
#define PINNACE_FAKE_SPANK_H

#include "../options.h"

/* The last line given to slurm_error(), or "". */
extern char fake_error[1 << 14];

/* Forget options and errors of the test before. */
void fake_reset(void);

/* Give an option as srun does: what its callback returns. The option must have been registered. */
int fake_give(const char *option, const char *argument);

#endif
