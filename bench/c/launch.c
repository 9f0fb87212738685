// SPDX-License-Identifier: Apache-2.0
/* Starts a container's first program the way a runtime does: enter the cgroup, then execute.
 * launch CGROUP_PROCS UID PROGRAM [ARGUMENT...] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int fd;

	if (argc < 4)
		return 2;
	fd = open(argv[1], O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1) {
		perror(argv[1]);
		return 1;
	}
	close(fd);
	if (setgid((gid_t)atoi(argv[2])) || setuid((uid_t)atoi(argv[2]))) {
		perror(argv[2]);
		return 1;
	}
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 1;
}
