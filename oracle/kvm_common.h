/*
 * What the programs here that speak to /dev/kvm share: tables of entries, and a vCPU in flat 32-bit mode that executes one CPUID.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	MOST_ENTRIES = 256, /* KVM_MAX_CPUID_ENTRIES of Linux */
	ROOM = MOST_ENTRIES + 44, /* a table may be made too long on purpose */
	MEMORY = 1 << 20,
	CODE = 0x1000,
	ANSWER = 0x2000,
	ENTRY_BYTES = 28, /* of an entry, without its padding */
};

/* An empty table whose nent says how much KVM may write. */
static inline struct kvm_cpuid2 *new_table(void)
{
	struct kvm_cpuid2 *table = calloc(1, sizeof(*table) + ROOM * sizeof(table->entries[0]));

	table->nent = MOST_ENTRIES;
	return table;
}

static inline struct kvm_cpuid2 *copy_table(const struct kvm_cpuid2 *from)
{
	struct kvm_cpuid2 *table = new_table();

	memcpy(table, from, sizeof(*from) + from->nent * sizeof(from->entries[0]));
	return table;
}

static inline struct kvm_cpuid_entry2 *entry_at(struct kvm_cpuid2 *table, unsigned function, unsigned index)
{
	for (unsigned n = 0; n < table->nent; n++)
		if (table->entries[n].function == function && table->entries[n].index == index)
			return &table->entries[n];
	return NULL;
}

static inline void add_entry(struct kvm_cpuid2 *table, unsigned function, unsigned index, unsigned flags, unsigned eax, unsigned ebx,
			     unsigned ecx, unsigned edx)
{
	table->entries[table->nent++] = (struct kvm_cpuid_entry2){function, index, flags, eax, ebx, ecx, edx, {0}};
}

/* Drops the sub-leaves of a leaf. */
static inline void drop_leaf(struct kvm_cpuid2 *table, unsigned function)
{
	unsigned kept = 0;

	for (unsigned n = 0; n < table->nent; n++)
		if (table->entries[n].function != function)
			table->entries[kept++] = table->entries[n];
	table->nent = kept;
}

static inline void print_entry(const char *kind, const struct kvm_cpuid_entry2 *e)
{
	printf("%s %08x.%x f%x %08x %08x %08x %08x\n", kind, e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
}

static inline void print_table(const char *kind, const struct kvm_cpuid2 *table)
{
	for (unsigned n = 0; n < table->nent; n++)
		print_entry(kind, &table->entries[n]);
}

/* Flat 32-bit protected mode, paging off. CR4 is KVM's to refuse; returns the ioctl's errno. */
static inline int enter_flat_mode(int vcpu, unsigned cr4, int apic)
{
	struct kvm_segment code = {.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1}, data = code;
	struct kvm_sregs s;

	ioctl(vcpu, KVM_GET_SREGS, &s);
	data.selector = 16;
	data.type = 3;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 0x11; /* PE, ET */
	s.cr4 = cr4;
	s.efer = 0;
	s.apic_base = apic ? s.apic_base | 0x800 : s.apic_base & ~0x800ull; /* the global enable */
	return ioctl(vcpu, KVM_SET_SREGS, &s) ? errno : 0;
}

/* Has the guest execute CPUID. Returns the four registers, NULL where it ended otherwise than by its last instruction. */
static inline unsigned *guest_cpuid(int vcpu, const struct kvm_run *run, unsigned char *memory, unsigned function, unsigned index)
{
	/* cpuid; mov each of the four registers to ANSWER; out 0x10 */
	static const unsigned char code[] = {0x0f, 0xa2, 0xa3, 0, 0x20, 0, 0, 0x89, 0x1d, 4, 0x20, 0, 0, 0x89, 0x0d,
					     8, 0x20, 0, 0, 0x89, 0x15, 12, 0x20, 0, 0, 0xe6, 0x10};
	struct kvm_regs regs = {.rax = function, .rcx = index, .rip = CODE, .rflags = 2};

	memcpy(memory + CODE, code, sizeof(code));
	ioctl(vcpu, KVM_SET_REGS, &regs);
	if (ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO)
		return NULL;
	return (unsigned *)(memory + ANSWER);
}

static inline unsigned char *guest_memory(void)
{
	return mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* A VM with this memory and an irqchip in the kernel. KVM wants the address of a TSS for guests in real mode on Intel. */
static inline int new_vm(int kvm, unsigned char *memory)
{
	struct kvm_userspace_memory_region region = {0, 0, 0, MEMORY, (unsigned long)memory};
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000L);
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	return vm;
}
