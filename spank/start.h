/* One task of a step that asked for a container, as the user, before its program runs. */
#ifndef PINNACE_START_H
#define PINNACE_START_H

#include "settings.h"
#include "spank_api.h"
#include "step.h"

/* Bring the task into the container: 0, or the exit status of a failure the user was told of. */
int task_start(spank_t spank, struct step *step, const struct settings *settings);

#endif
