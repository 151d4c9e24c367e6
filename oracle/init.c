/*
 * The first process of the guest that emulated.py boots: loads the modules in /modules in the order of their names, says what kernel and
 * processor it runs on, runs /capture, and powers off. The line CAPTURED is the sign that the capture is whole.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void load_modules(void)
{
	glob_t modules;

	if (glob("/modules/*.ko", 0, NULL, &modules))
		return;
	for (size_t n = 0; n < modules.gl_pathc; n++) {
		int file = open(modules.gl_pathv[n], O_RDONLY);

		if (file < 0 || syscall(SYS_finit_module, file, "", 0))
			perror(modules.gl_pathv[n]);
		close(file);
	}
}

/* The first CPU's line of /proc/cpuinfo, where there is one; `name` is how the capture calls it. */
static void print_cpuinfo(const char *key, const char *name)
{
	FILE *file = fopen("/proc/cpuinfo", "r");
	static char line[1 << 16];
	size_t length = strlen(key);

	while (file && fgets(line, sizeof(line), file) && line[0] != '\n')
		if (!strncmp(line, key, length) && strchr("\t:", line[length])) {
			char *value = strchr(line, ':') + 1;

			printf("CPUINFO %s %s", name, *value == ' ' ? value + 1 : value);
		}
	if (file)
		fclose(file);
}

int main(void)
{
	struct utsname kernel;

	mount("none", "/proc", "proc", 0, NULL);
	mount("none", "/dev", "devtmpfs", 0, NULL);
	load_modules();
	uname(&kernel);
	printf("\nKERNEL %s\n", kernel.release);
	print_cpuinfo("flags", "flags");
	print_cpuinfo("vmx flags", "vmx_flags");
	print_cpuinfo("bugs", "bugs");
	print_cpuinfo("vendor_id", "vendor_id");
	fflush(stdout);
	if (!fork()) {
		execl("/capture", "capture", NULL);
		perror("/capture");
		_exit(1);
	}
	wait(NULL);
	puts("CAPTURED");
	fflush(stdout);
	tcdrain(STDOUT_FILENO); /* Bochs sends at the pace of a serial line */
	return reboot(RB_POWER_OFF);
}
