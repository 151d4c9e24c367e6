/*
 * What RDMSR reads on CPU 0, in RDMSR lines; the module msr must be loaded.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The MSRs whose indices are given, in hexadecimal; "absent" is one that raises #GP. */
static inline void print_msrs(int count, char **indices)
{
	int msr = open("/dev/cpu/0/msr", O_RDONLY);

	for (int n = 0; n < count && msr >= 0; n++) {
		uint64_t value;

		if (pread(msr, &value, sizeof(value), strtoul(indices[n], NULL, 16)) == sizeof(value))
			printf("RDMSR %s %016lx\n", indices[n], (unsigned long)value);
		else
			printf("RDMSR %s absent\n", indices[n]);
	}
	close(msr);
}
