/*
 * What this kernel says of the vulnerabilities of its processor, and what that hangs on: CPUID, MSRs, whether siblings run.
 *
 *     cc -O1 -static -o sysfs_dump sysfs_dump.c
 *
 * `SYSFS name text` is a file of /sys/devices/system/cpu/vulnerabilities, `SMT file text` one of /sys/devices/system/cpu/smt. RAW and RDMSR
 * are those of README.md.
 */
#include <dirent.h>
#include <string.h>
#include <sys/mount.h>

#include "cpuid_raw.h"
#include "rdmsr.h"

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void print_file(const char *kind, const char *folder, const char *name)
{
	char path[512], text[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "r");
	if (file && fgets(text, sizeof(text), file))
		printf("%s %s %s\n", kind, name, strtok(text, "\n"));
	if (file)
		fclose(file);
}

int main(void)
{
	static char *indices[] = {"8b", "cf", "10a", "122", "123", "140", "1a0", "c0010015", "c0011020", "c0011029"};
	static const char folder[] = "/sys/devices/system/cpu/vulnerabilities";
	struct dirent **names;
	int count;

	mount("none", "/sys", "sysfs", 0, NULL);
	count = scandir(folder, &names, is_file, alphasort);
	for (int n = 0; n < count; n++)
		print_file("SYSFS", folder, names[n]->d_name);
	print_file("SMT", "/sys/devices/system/cpu/smt", "active");
	print_file("SMT", "/sys/devices/system/cpu/smt", "control");
	print_cpuid();
	print_msrs(sizeof(indices) / sizeof(indices[0]), indices);
	return 0;
}
