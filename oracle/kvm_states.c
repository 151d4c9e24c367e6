/*
 * What KVM makes of a vCPU's CPUID table in states that a plain guest does not reach: HLT without exits, MISC_ENABLE's quirk off, more of
 * XCR0, Hyper-V's and Xen's interfaces, entries in odd places. Prints every step and every answer; tests/kvm/test_vcpu_states.py replays
 * the steps on the model.
 *
 *     cc -O1 -static -o kvm_states kvm_states.c
 *
 * Run it as root with kvm_amd or kvm_intel loaded; `capture.py states` runs it in a stock kernel.
 *
 *     SUP entry                  KVM_GET_SUPPORTED_CPUID
 *     CASE name                  a new VM and vCPU
 *     CAP number value errno     KVM_ENABLE_CAP; XEN errno: KVM_XEN_HVM_CONFIG
 *     TAB entry                  the table, ahead of its first SET
 *     SET errno                  KVM_SET_CPUID2
 *     SREGS cr4 apic errno, XCR0 value errno, MSR index value written
 *     GET entries, GOT entry     KVM_GET_CPUID2: how many, and those that are not as the first of their number was set
 *     GUEST func.index eax ebx ecx edx
 *     KHZ frequency              KVM_GET_TSC_KHZ
 */
#include "kvm_common.h"

static int kvm, vm, vcpu;
static struct kvm_cpuid2 *supported, *table;
static unsigned char *memory;
static struct kvm_run *run;
static int run_size;

static struct kvm_cpuid_entry2 *at(unsigned function, unsigned index)
{
	return entry_at(table, function, index);
}

static void drop(unsigned function)
{
	drop_leaf(table, function);
}

static void add(unsigned function, unsigned index, unsigned flags, unsigned eax, unsigned ebx, unsigned ecx, unsigned edx)
{
	add_entry(table, function, index, flags, eax, ebx, ecx, edx);
}

/* An ioctl's errno, 0 where it succeeds. */
static int failure(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument) < 0 ? errno : 0;
}

static void begin(const char *name)
{
	printf("CASE %s\n", name);
	vm = new_vm(kvm, memory);
	table = copy_table(supported);
}

static int capability(unsigned number, unsigned long value)
{
	struct kvm_enable_cap cap = {.cap = number, .args = {value}};
	int error = failure(vm, KVM_ENABLE_CAP, &cap);

	printf("CAP %u %lx %d\n", number, value, error);
	return error;
}

static void xen_on(void)
{
	struct kvm_xen_hvm_config config = {.flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, .msr = 0x40000000};

	printf("XEN %d\n", failure(vm, KVM_XEN_HVM_CONFIG, &config));
}

static void set(void)
{
	printf("SET %d\n", failure(vcpu, KVM_SET_CPUID2, table));
}

static void create(void)
{
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	print_table("TAB", table);
	set();
}

static void get(void)
{
	struct kvm_cpuid2 *got = new_table();

	got->nent = table->nent; /* Linux 6.1 does not write it back */
	printf("GET %d\n", ioctl(vcpu, KVM_GET_CPUID2, got) ? -1 : (int)got->nent);
	for (unsigned n = 0; n < got->nent; n++) {
		struct kvm_cpuid_entry2 *e = &got->entries[n], *given = at(e->function, e->index);

		if (!given || memcmp(given, e, ENTRY_BYTES))
			print_entry("GOT", e);
	}
	free(got);
}

static void sregs(unsigned cr4, int apic)
{
	printf("SREGS %x %d %d\n", cr4, apic, enter_flat_mode(vcpu, cr4, apic));
}

static void xcr0(unsigned long value)
{
	struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = value}}};

	printf("XCR0 %lx %d\n", value, failure(vcpu, KVM_SET_XCRS, &xcrs));
}

static void msr(unsigned index, unsigned long value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} one = {.head = {.nmsrs = 1}, .entry = {.index = index, .data = value}};

	printf("MSR %x %lx %d\n", index, value, ioctl(vcpu, KVM_SET_MSRS, &one));
}

static void guest(unsigned function, unsigned index)
{
	unsigned *answer = guest_cpuid(vcpu, run, memory, function, index);

	if (!answer) {
		printf("EXIT %u\n", run->exit_reason);
		exit(1);
	}
	printf("GUEST %08x.%x %08x %08x %08x %08x\n", function, index, answer[0], answer[1], answer[2], answer[3]);
}

static void end(void)
{
	munmap(run, run_size);
	close(vcpu);
	close(vm);
	free(table);
}

static void hlt(const char *name, int apic)
{
	begin(name);
	capability(KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT);
	create();
	get();
	sregs(0, apic);
	get();
	guest(0x40000001, 0);
	set();
	get();
	end();
}

static void xen(const char *name, int on, int flat)
{
	begin(name);
	if (on)
		xen_on();
	drop(0x40000000);
	drop(0x40000001);
	add(0x40000100, 0, 0, 0x40000103, 0x566e6558, 0x65584d4d, 0x4d4d566e);
	for (unsigned index = 0; index < (flat ? 1 : 4); index++)
		add(0x40000103, index, !flat, 0x11, 0x22, 0x33, 0x44);
	create();
	sregs(0, 1);
	guest(0, 0);
	printf("KHZ %d\n", ioctl(vcpu, KVM_GET_TSC_KHZ, 0));
	for (unsigned index = 0; index < 5; index++)
		guest(0x40000103, index);
	get();
	set();
	end();
}

int main(void)
{
	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0)
		return 1;
	run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	memory = guest_memory();
	supported = new_table();
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported))
		return 1;
	print_table("SUP", supported);

	hlt("hlt", 1);
	hlt("hlt-without-apic", 0);

	begin("mwait");
	if (capability(KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT))
		capability(KVM_CAP_DISABLE_QUIRKS, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT); /* before Linux 5.19 there is no other */
	at(1, 0)->ecx |= 1 << 3;
	create();
	get();
	msr(0x1a0, 1 << 18);
	get();
	end();

	begin("xcr0");
	create();
	for (unsigned n = 0; n < 4; n++) {
		xcr0((unsigned long[]){3, 7, 0x207, 0xe7}[n]);
		get();
	}
	end();

	begin("hyperv");
	drop(0x40000000);
	drop(0x40000001);
	add(0x40000000, 0, 0, 0x40000005, 0x7263694d, 0x666f736f, 0x76482074);
	add(0x40000001, 0, 0, 0x31237648, 0, 0, 0);
	add(0x40000003, 0, 0, 0x8a7f, 0x30, 0, 0x108);
	at(0x80000007, 0)->edx |= 1 << 8;
	create();
	sregs(0, 1);
	guest(0x80000007, 0);
	msr(0x40000118, 1);
	guest(0x80000007, 0);
	get();
	end();

	xen("xen-off", 0, 0);
	xen("xen-off-flat", 0, 1);
	xen("xen", 1, 0);
	xen("xen-flat", 1, 1);

	begin("sgx");
	drop(0x12);
	add(0x12, 1, 1, 0x36, 0, 0xffffffff, 0x1f);
	create();
	get();
	end();

	begin("os-bits-given");
	at(1, 0)->ecx |= 1 << 27;
	at(7, 0)->ecx |= 1 << 4;
	create();
	get();
	end();

	begin("odd-places");
	drop(1);
	drop(7);
	add(1, 3, 1, 0, 0, 1 << 26 | 1 << 27, 0);
	add(1, 0, 1, 0, 0, 1 << 26, 0);
	add(7, 5, 0, 0, 0, 1 << 3 | 1 << 4, 0);
	add(7, 0, 1, 0, 0, 1 << 3, 0);
	create();
	get();
	sregs(0, 1);
	sregs(1 << 18, 1);
	get();
	guest(7, 0);
	guest(1, 0);
	guest(1, 3);
	guest(1, 9);
	end();

	begin("full");
	while (table->nent < 256)
		add(0x1000 + table->nent, 0, 0, 1, 2, 3, 4);
	create();
	get();
	add(0x2000, 0, 0, 1, 2, 3, 4);
	set();
	end();

	puts("END");
	return 0;
}
