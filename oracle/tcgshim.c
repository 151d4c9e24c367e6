/*
 * Plays a processor to the guest of QEMU's software emulation (TCG): loaded into QEMU ahead of the C library (LD_PRELOAD), it changes what
 * the guest's CPUID and RDMSR give, beyond what QEMU's -cpu admits under TCG.
 *
 *     cc -O1 -shared -fPIC -o tcgshim.so tcgshim.c
 *
 * TCGSHIM_PLAY names a file with the changes; all numbers are hexadecimal.
 *     BITS func.index reg mask value    CPUID: the bits of mask become those of value; reg is 0 to 3 for EAX, EBX, ECX, EDX
 *     MSR index value                   RDMSR
 *
 * QEMU keeps a list of its helpers, each with the address of a function and its name. That is where the functions of the two instructions
 * are found; a jump to ours is written over their first bytes, and taken away while they are called from here. So the vCPUs must run on one
 * thread (-accel tcg,thread=single). A guest's registers are the first field of the structure that a helper is given.
 */
#define _GNU_SOURCE
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

enum { RAX, RCX, RDX, RBX };
enum { JUMP = 12 };

typedef void helper(uint64_t *registers);

struct patched {
	unsigned char *code, original[JUMP], jump[JUMP];
};

static struct { unsigned function, index, reg, mask, value; } bits[256];
static struct { unsigned index; uint64_t value; } msrs[64];
static unsigned bit_count, msr_count;
static struct patched cpuid, rdmsr;
static struct dl_phdr_info program;

static void stop(const char *why)
{
	fprintf(stderr, "tcgshim: %s\n", why);
	_exit(1);
}

static void call(struct patched *patched, uint64_t *registers)
{
	memcpy(patched->code, patched->original, JUMP);
	((helper *)patched->code)(registers);
	memcpy(patched->code, patched->jump, JUMP);
}

static void played_cpuid(uint64_t *registers)
{
	static const unsigned places[] = {RAX, RBX, RCX, RDX};
	uint32_t function = registers[RAX], index = registers[RCX];

	call(&cpuid, registers);
	for (unsigned n = 0; n < bit_count; n++)
		if (bits[n].function == function && bits[n].index == index) {
			uint64_t *word = &registers[places[bits[n].reg]];

			*word = (*word & ~(uint64_t)bits[n].mask) | (bits[n].value & bits[n].mask);
		}
}

static void played_rdmsr(uint64_t *registers)
{
	for (unsigned n = 0; n < msr_count; n++)
		if (msrs[n].index == (uint32_t)registers[RCX]) {
			registers[RAX] = (uint32_t)msrs[n].value;
			registers[RDX] = msrs[n].value >> 32;
			return;
		}
	call(&rdmsr, registers);
}

static int is_code(uintptr_t address)
{
	for (unsigned n = 0; n < program.dlpi_phnum; n++) {
		const ElfW(Phdr) *part = &program.dlpi_phdr[n];
		uintptr_t start = program.dlpi_addr + part->p_vaddr;

		if (part->p_type == PT_LOAD && part->p_flags & PF_X && address >= start && address < start + part->p_filesz)
			return 1;
	}
	return 0;
}

static unsigned char *find(const void *wanted, size_t bytes, unsigned char *after, size_t step)
{
	for (unsigned n = 0; n < program.dlpi_phnum; n++) {
		const ElfW(Phdr) *part = &program.dlpi_phdr[n];
		unsigned char *start = (unsigned char *)program.dlpi_addr + part->p_vaddr, *end = start + part->p_filesz - bytes;

		if (part->p_type != PT_LOAD || part->p_flags & PF_X || !(part->p_flags & PF_R))
			continue;
		for (unsigned char *at = start; at <= end; at += step)
			if (at > after && !memcmp(at, wanted, bytes))
				return at;
	}
	return NULL;
}

static unsigned char *helper_code(const char *name)
{
	for (unsigned char *text = NULL; (text = find(name, strlen(name) + 1, text, 1));) { /* it may be the end of another text */
		uintptr_t address = (uintptr_t)text;

		for (unsigned char *entry = NULL; (entry = find(&address, sizeof(address), entry, sizeof(address)));) {
			uintptr_t code = ((uintptr_t *)entry)[-1];

			if (is_code(code))
				return (unsigned char *)code;
		}
	}
	return NULL;
}

static void patch(struct patched *patched, const char *name, helper *ours)
{
	static const unsigned char load[] = {0x48, 0xb8}, jump[] = {0xff, 0xe0}; /* mov rax, imm64; jmp rax */

	patched->code = helper_code(name);
	if (!patched->code)
		stop("this QEMU's list of helpers is not where it is looked for");
	if (mprotect((void *)((uintptr_t)patched->code & ~4095ul), 8192, PROT_READ | PROT_WRITE | PROT_EXEC))
		stop("QEMU's code cannot be changed");
	memcpy(patched->original, patched->code, JUMP);
	memcpy(patched->jump, load, 2);
	memcpy(patched->jump + 2, &ours, 8);
	memcpy(patched->jump + 10, jump, 2);
	memcpy(patched->code, patched->jump, JUMP);
}

static int keep_first(struct dl_phdr_info *info, size_t size, void *unused)
{
	(void)size, (void)unused;
	program = *info; /* the program comes before its libraries */
	return 1;
}

__attribute__((constructor)) static void play(void)
{
	const char *name = getenv("TCGSHIM_PLAY");
	FILE *file = name ? fopen(name, "r") : NULL;
	char line[128];

	if (!file)
		stop("TCGSHIM_PLAY names no file");
	while (fgets(line, sizeof(line), file)) {
		unsigned n = bit_count, m = msr_count;

		if (n < LENGTH(bits) && sscanf(line, "BITS %x.%x %x %x %x", &bits[n].function, &bits[n].index, &bits[n].reg, &bits[n].mask,
					       &bits[n].value) == 5 && bits[n].reg < 4)
			bit_count++;
		else if (m < LENGTH(msrs) && sscanf(line, "MSR %x %lx", &msrs[m].index, &msrs[m].value) == 2)
			msr_count++;
		else
			stop("a line is neither BITS nor MSR, or there are too many");
	}
	fclose(file);
	unsetenv("LD_PRELOAD");
	dl_iterate_phdr(keep_first, NULL);
	patch(&cpuid, "cpuid", played_cpuid);
	patch(&rdmsr, "rdmsr", played_rdmsr);
}
