/* Descriptors that a program is started with. */
#ifndef PINNACE_DESCRIPTORS_H
#define PINNACE_DESCRIPTORS_H

#include <fcntl.h>
#include <unistd.h>

/*
 * Give 0, 1 and 2 to /dev/null where the caller has closed them: else what is opened next would be one of
 * them. The program that is executed next finds them closed again.
 */
static inline void occupy_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		(void)close(fd);
}

#endif
