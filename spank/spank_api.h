/*
 * Slurm's plugin interface with its symbols visible: everything else in the plugin is hidden, so
 * that a hook is exported because this header declares it.
 */
#ifndef PINNACE_SPANK_API_H
#define PINNACE_SPANK_API_H

#include <stdint.h>

#pragma GCC visibility push(default)
#include <slurm/spank.h>
#pragma GCC visibility pop

#endif
