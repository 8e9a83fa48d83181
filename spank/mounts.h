/* The form of --container-mounts, checked where the user submits. */
#ifndef PINNACE_SPANK_MOUNTS_H
#define PINNACE_SPANK_MOUNTS_H

#include "list.h"

/*
 * Add each entry of SRC[:DST[:FLAGS]][,...] in its full form, identical ones once: 0, or -1 after
 * saying what is wrong with which entry. What flags mean is the launcher's to judge.
 */
int mounts_add(struct list *mounts, const char *text);

#endif
