/*
 * boot_cpu_data as the running kernel holds it, hidden flags included, and what RDMSR reads.
 *
 *     cc -O1 -static -o boot_caps boot_caps.c
 *
 * Run it as root, with the module msr loaded. `BOOT words` is struct cpuinfo_x86 from its start to the end of x86_vendor_id, as 32-bit
 * words, read from /proc/kcore at the address that /proc/kallsyms gives. `RDMSR index value` is an MSR of CPU 0, "absent" where reading
 * it raises #GP; the indices are the arguments.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rdmsr.h"

enum { STRUCT_BYTES = 512, VENDOR_BYTES = 16 };

static uint64_t address_of(const char *wanted)
{
	FILE *symbols = fopen("/proc/kallsyms", "r");
	char name[256];
	unsigned long address;
	uint64_t found = 0;

	while (symbols && fscanf(symbols, "%lx %*c %255s%*[^\n]", &address, name) == 2)
		if (!strcmp(name, wanted)) {
			found = address;
			break;
		}
	if (symbols)
		fclose(symbols);
	return found;
}

static int read_kernel(uint64_t address, void *into, size_t bytes)
{
	int file = open("/proc/kcore", O_RDONLY);
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (file < 0 || pread(file, &head, sizeof(head), 0) != sizeof(head))
		return -1;
	for (unsigned n = 0; n < head.e_phnum; n++)
		if (pread(file, &part, sizeof(part), head.e_phoff + n * sizeof(part)) == sizeof(part) && part.p_type == PT_LOAD &&
		    address >= part.p_vaddr && address + bytes <= part.p_vaddr + part.p_memsz)
			return pread(file, into, bytes, part.p_offset + (address - part.p_vaddr)) == (ssize_t)bytes ? 0 : -1;
	return -1;
}

int main(int argc, char **argv)
{
	static uint32_t words[STRUCT_BYTES / 4];
	uint32_t vendor[3] = {0}, unused;
	size_t count;

	__asm__("cpuid" : "=a"(unused), "=b"(vendor[0]), "=c"(vendor[2]), "=d"(vendor[1]) : "a"(0), "c"(0));
	if (read_kernel(address_of("boot_cpu_data"), words, sizeof(words))) {
		puts("NOBOOT");
		return 1;
	}
	for (count = 0; count + 4 < STRUCT_BYTES / 4 && memcmp(words + count, vendor, sizeof(vendor)); count++)
		;
	printf("BOOT");
	for (size_t n = 0; n < count + VENDOR_BYTES / 4; n++)
		printf(" %08x", words[n]);
	puts("");
	print_msrs(argc - 1, argv + 1);
	return 0;
}
