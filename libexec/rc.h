/* /etc/rc as enroot writes it: the script that executes what an image is to execute. */
#ifndef PINNACE_RC_H
#define PINNACE_RC_H

/*
 * The directory that the script changes to, by its line `cd DIRECTORY && unset OLDPWD || exit 1`, as the
 * shell would read the word: NULL if there is no such line, or if it takes a shell to read it. The
 * script is changed, the result lies in it.
 */
char *rc_directory(char *script);

#endif
