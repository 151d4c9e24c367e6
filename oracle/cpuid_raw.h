/*
 * The CPUID instruction as a program sees it, in RAW lines.
 */
#include <cpuid.h>
#include <stdio.h>

/* Leaves with sub-leaves, each asked as far as the count. What lies beyond is a blind spot of these captures. */
static inline unsigned sub_leaves(unsigned function)
{
	switch (function) {
	case 0xd:
		return 20;
	case 4: case 7: case 0xb: case 0xf: case 0x10: case 0x12: case 0x14: case 0x17: case 0x18: case 0x1d: case 0x1f: case 0x20: case 0x24:
	case 0x8000001d: case 0x80000020: case 0x80000026:
		return 6;
	default:
		return 1;
	}
}

static inline void print_raw(unsigned function, unsigned index)
{
	unsigned eax, ebx, ecx, edx;

	__cpuid_count(function, index, eax, ebx, ecx, edx);
	printf("RAW %08x.%x %08x %08x %08x %08x\n", function, index, eax, ebx, ecx, edx);
}

/* All leaves from `first` to the highest that it names, below a bound that no processor reaches. */
static inline void print_range(unsigned first)
{
	unsigned highest, ebx, ecx, edx;

	__cpuid(first, highest, ebx, ecx, edx);
	for (unsigned function = first; function <= highest && function < first + 0x40; function++)
		for (unsigned index = 0; index < sub_leaves(function); index++)
			print_raw(function, index);
}

static inline void print_cpuid(void)
{
	print_range(0);
	print_raw(0x40000000, 0);
	print_raw(0x40000001, 0);
	print_range(0x80000000);
}
