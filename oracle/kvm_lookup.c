/*
 * What a guest's CPUID returns for several tables given to KVM_SET_CPUID2, on this kernel's KVM.
 *
 *     cc -O1 -static -o kvm_lookup kvm_lookup.c
 *
 * Run it as root with kvm_amd or kvm_intel loaded. README.md tells the lines. A case is the host's KVM_GET_SUPPORTED_CPUID with one thing
 * changed. The guest is asked with three values of CR4 and with the APIC globally enabled and disabled: KVM changes some bits with them.
 */
#include "kvm_common.h"

static int kvm;
static struct kvm_cpuid2 *supported;
static unsigned char *memory;

/* Leaves and sub-leaves in every range and between the ranges, below, at and above what a table's levels name. */
static const unsigned queries[][2] = {
	{0, 0}, {1, 0}, {1, 5}, {2, 0}, {2, 3}, {4, 0}, {4, 1}, {4, 9}, {5, 0}, {6, 0}, {7, 0}, {7, 1}, {7, 2}, {7, 9}, {0xa, 0},
	{0xb, 0}, {0xb, 1}, {0xb, 7}, {0xd, 0}, {0xd, 1}, {0xd, 2}, {0xd, 9}, {0xd, 0x3f}, {0x10, 0}, {0x14, 0}, {0x1c, 0}, {0x1f, 0},
	{0x1f, 5}, {0x20, 0}, {0x21, 3}, {0x24, 0}, {0x30, 0}, {0x1234, 0},
	{0x20000000, 0}, {0x20000001, 1},
	{0x40000000, 0}, {0x40000001, 0}, {0x40000002, 0}, {0x40000100, 0}, {0x40000200, 0}, {0x400000ff, 0}, {0x40010000, 0},
	{0x4fffffff, 0}, {0x50000000, 0}, {0x7fffffff, 0},
	{0x80000000, 0}, {0x80000001, 0}, {0x80000005, 0}, {0x80000008, 0}, {0x8000001d, 0}, {0x8000001d, 3}, {0x8000001d, 9},
	{0x80000021, 0}, {0x80000030, 0}, {0x8000ffff, 0}, {0x80860000, 0}, {0x80860001, 0}, {0xbfffffff, 0},
	{0xc0000000, 0}, {0xc0000001, 0}, {0xc0000005, 0}, {0xffffffff, 0},
};

enum { QUERIES = sizeof(queries) / sizeof(queries[0]) };

static void put_vendor(struct kvm_cpuid_entry2 *e, const char *vendor)
{
	if (!e)
		return;
	memcpy(&e->ebx, vendor, 4);
	memcpy(&e->edx, vendor + 4, 4);
	memcpy(&e->ecx, vendor + 8, 4);
}

static struct kvm_cpuid2 *of_vendor(const char *vendor)
{
	struct kvm_cpuid2 *table = copy_table(supported);

	put_vendor(entry_at(table, 0, 0), vendor);
	put_vendor(entry_at(table, 0x80000000, 0), vendor);
	return table;
}

/* What KVM_GET_CPUID2 gives back otherwise than it was set, and all answers, in one state of the vCPU. */
static void print_state(int vcpu, const struct kvm_run *run, struct kvm_cpuid2 *table, unsigned cr4, int apic)
{
	int refused = enter_flat_mode(vcpu, cr4, apic);
	struct kvm_cpuid2 *got;
	char kind[32];

	if (refused) {
		printf("SREGS cr4 %x apic %d: errno %d\n", cr4, apic, refused);
		return;
	}
	got = new_table();
	ioctl(vcpu, KVM_GET_CPUID2, got);
	snprintf(kind, sizeof(kind), "GOT %x %d", cr4, apic);
	for (unsigned n = 0; n < got->nent; n++) {
		struct kvm_cpuid_entry2 *e = &got->entries[n], *given = entry_at(table, e->function, e->index);

		if (!given || memcmp(given, e, ENTRY_BYTES))
			print_entry(kind, e);
	}
	free(got);
	for (unsigned q = 0; q < QUERIES; q++) {
		unsigned function = queries[q][0], index = queries[q][1], *answer = guest_cpuid(vcpu, run, memory, function, index);

		if (!answer) {
			printf("EXIT %u for %x.%x\n", run->exit_reason, function, index);
			return;
		}
		printf("GUEST %x %d %08x.%x %08x %08x %08x %08x\n", cr4, apic, function, index, answer[0], answer[1], answer[2], answer[3]);
	}
}

/* KVM_SET_CPUID2 once more after the vCPU has run: the same table, then another. */
static void print_again(int vcpu, struct kvm_cpuid2 *table)
{
	struct kvm_cpuid_entry2 *leaf_1 = entry_at(table, 1, 0);
	int result;

	errno = 0;
	result = ioctl(vcpu, KVM_SET_CPUID2, table);
	printf("AGAIN same %d %d\n", result, errno);
	if (leaf_1) {
		leaf_1->ecx ^= 1;
		errno = 0;
		result = ioctl(vcpu, KVM_SET_CPUID2, table);
		printf("AGAIN changed %d %d\n", result, errno);
	}
}

static void run_case(const char *name, struct kvm_cpuid2 *table)
{
	static const unsigned cr4s[] = {0, 1 << 18 /* OSXSAVE */, 1 << 18 | 1 << 22 /* and PKE */};
	int vm = new_vm(kvm, memory), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0), size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), result;
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	printf("CASE %s\n", name);
	print_table("TAB", table);
	errno = 0;
	result = ioctl(vcpu, KVM_SET_CPUID2, table);
	printf("SETRC %d %d\n", result, errno);
	if (!result) {
		for (unsigned n = 0; n < sizeof(cr4s) / sizeof(cr4s[0]); n++)
			for (int apic = 1; apic >= 0; apic--)
				print_state(vcpu, run, table, cr4s[n], apic);
		print_again(vcpu, table);
	}
	munmap(run, size);
	close(vcpu);
	close(vm);
	free(table);
}

static void vendors(void)
{
	struct kvm_cpuid2 *table;

	run_case("vendor-intel", of_vendor("GenuineIntel"));
	run_case("vendor-amd", of_vendor("AuthenticAMD"));
	run_case("vendor-hygon", of_vendor("HygonGenuine"));

	table = of_vendor("CentaurHauls");
	add_entry(table, 0xc0000000, 0, 0, 0xc0000002, 0, 0, 0);
	add_entry(table, 0xc0000001, 0, 0, 1, 2, 3, 0x3ff);
	run_case("vendor-centaur", table);

	table = of_vendor("GenuineIntel");
	drop_leaf(table, 0x1f);
	entry_at(table, 0, 0)->eax = 0xd;
	run_case("intel-maxd", table);

	table = of_vendor("GenuineIntel");
	drop_leaf(table, 0x80000000);
	run_case("intel-no-8000_0000", table);
}

static void hypervisor_leaves(void)
{
	struct kvm_cpuid2 *table = copy_table(supported);
	struct kvm_cpuid_entry2 *signature, *features;

	drop_leaf(table, 0x40000000);
	drop_leaf(table, 0x40000001);
	run_case("no-kvm-leaves", table);

	table = copy_table(supported);
	drop_leaf(table, 0);
	run_case("no-leaf-0", table);

	table = copy_table(supported);
	entry_at(table, 7, 0)->ebx |= 1 << 11 | 1 << 4; /* RTM, HLE */
	run_case("force-rtm-hle", table);

	table = copy_table(supported);
	entry_at(table, 1, 0)->ecx |= 1 << 3; /* MONITOR */
	run_case("force-mwait", table);

	table = copy_table(supported);
	features = entry_at(table, 0x40000001, 0);
	if (features)
		features->eax = 1;
	run_case("kvm-features-1", table);

	table = copy_table(supported);
	signature = entry_at(table, 0x40000000, 0);
	features = entry_at(table, 0x40000001, 0);
	if (signature && features) {
		signature->function = 0x40000100;
		signature->eax = 0x40000101;
		features->function = 0x40000101;
		add_entry(table, 0x40000000, 0, 0, 0x40000005, 0x7263694d, 0x666f736f, 0x76482074); /* "Microsoft Hv" */
		add_entry(table, 0x40000001, 0, 0, 0x31237648, 0, 0, 0); /* "Hv#1" */
		add_entry(table, 0x40000003, 0, 0, 0xa7f, 0x30, 0, 0x108);
	}
	run_case("hyperv-and-kvm", table);
}

/* The host's table with `clear` taken from EAX of a leaf's sub-leaf 0 and `put` added to it. */
static struct kvm_cpuid2 *with_eax(unsigned function, unsigned clear, unsigned put)
{
	struct kvm_cpuid2 *table = copy_table(supported);
	struct kvm_cpuid_entry2 *e = entry_at(table, function, 0);

	if (e)
		e->eax = (e->eax & ~clear) | put;
	return table;
}

static void levels(void)
{
	struct kvm_cpuid2 *table = with_eax(0xd, ~0u, 7);

	if (entry_at(table, 0xd, 0))
		entry_at(table, 0xd, 0)->edx = 0;
	run_case("xcr0-7", table);
	run_case("xcr0-5", with_eax(0xd, ~0u, 5)); /* AVX without SSE */
	run_case("xcr0-amx", with_eax(0xd, 0, 1 << 17 | 1 << 18));
	run_case("vaddr-57", with_eax(0x80000008, 0xff00, 0x3900));
	run_case("vaddr-32", with_eax(0x80000008, 0xff00, 0x2000));
}

static void odd_tables(void)
{
	struct kvm_cpuid2 *table = copy_table(supported);

	add_entry(table, 7, 0, 1, 0xffff, 1, 2, 3);
	run_case("duplicate-7.0", table);

	table = copy_table(supported);
	add_entry(table, 0x77, 5, 0, 1, 2, 3, 4);
	add_entry(table, 0x78, 5, 1, 5, 6, 7, 8);
	run_case("index-without-flag", table);

	table = copy_table(supported);
	table->nent = 0;
	run_case("empty", table);
}

int main(void)
{
	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0) {
		puts("NOKVM");
		return 1;
	}
	memory = guest_memory();
	supported = new_table();
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported))
		return 1;
	run_case("supported", copy_table(supported));
	vendors();
	hypervisor_leaves();
	levels();
	odd_tables();
	puts("END");
	return 0;
}
