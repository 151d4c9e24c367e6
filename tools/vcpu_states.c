/*
 * What KVM makes of a vCPU's CPUID table in states that a plain guest does not reach: HLT without exits, MISC_ENABLE's quirk off, more of
 * XCR0, Hyper-V's and Xen's interfaces, entries in odd places. Prints every step and every answer; tests/kvm/test_vcpu_states.py replays
 * the steps on the model.
 *
 *     cc -O1 -static -o vcpu_states vcpu_states.c
 *
 * Run it as root on a kernel with kvm_amd or kvm_intel loaded, for example a stock kernel in an initramfs under
 * `qemu-system-x86_64 -accel tcg -cpu max,+svm,+npt`, and put lines `CPU …`, `KERNEL …` and `CPUINFO flags …` before its output.
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
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 300, MEMORY = 1 << 20, CODE = 0x1000, ANSWER = 0x2000 };

static int kvm, vm, vcpu;
static struct kvm_cpuid2 *supported, *table;
static unsigned char *memory;
static struct kvm_run *run;
static int run_size;

static struct kvm_cpuid2 *room(void)
{
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + ROOM * sizeof(cpuid->entries[0]));

	cpuid->nent = 256;
	return cpuid;
}

static struct kvm_cpuid_entry2 *at(unsigned function, unsigned index)
{
	for (unsigned n = 0; n < table->nent; n++)
		if (table->entries[n].function == function && table->entries[n].index == index)
			return &table->entries[n];
	return NULL;
}

static void drop(unsigned function)
{
	unsigned kept = 0;

	for (unsigned n = 0; n < table->nent; n++)
		if (table->entries[n].function != function)
			table->entries[kept++] = table->entries[n];
	table->nent = kept;
}

static void add(unsigned function, unsigned index, unsigned flags, unsigned eax, unsigned ebx, unsigned ecx, unsigned edx)
{
	table->entries[table->nent++] = (struct kvm_cpuid_entry2){function, index, flags, eax, ebx, ecx, edx, {0}};
}

static void print(const char *kind, const struct kvm_cpuid_entry2 *e)
{
	printf("%s %08x.%x f%x %08x %08x %08x %08x\n", kind, e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
}

/* An ioctl's errno, 0 where it succeeds. */
static int failure(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument) < 0 ? errno : 0;
}

static void begin(const char *name)
{
	struct kvm_userspace_memory_region region = {0, 0, 0, MEMORY, (unsigned long)memory};

	printf("CASE %s\n", name);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000L);
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	table = room();
	memcpy(table, supported, sizeof(*table) + supported->nent * sizeof(table->entries[0]));
}

static void capability(unsigned number, unsigned long value)
{
	struct kvm_enable_cap cap = {.cap = number, .args = {value}};

	printf("CAP %u %lx %d\n", number, value, failure(vm, KVM_ENABLE_CAP, &cap));
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
	for (unsigned n = 0; n < table->nent; n++)
		print("TAB", &table->entries[n]);
	set();
}

static void get(void)
{
	struct kvm_cpuid2 *got = room();

	got->nent = table->nent; /* Linux 6.1 does not write it back */
	printf("GET %d\n", ioctl(vcpu, KVM_GET_CPUID2, got) ? -1 : (int)got->nent);
	for (unsigned n = 0; n < got->nent; n++) {
		struct kvm_cpuid_entry2 *e = &got->entries[n], *given = at(e->function, e->index);

		if (!given || memcmp(given, e, 28))
			print("GOT", e);
	}
	free(got);
}

static void sregs(unsigned cr4, int apic)
{
	struct kvm_segment code = {.limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1}, data = code;
	struct kvm_sregs s;

	ioctl(vcpu, KVM_GET_SREGS, &s);
	data.selector = 16;
	data.type = 3;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 0x11;
	s.cr4 = cr4;
	s.efer = 0;
	s.apic_base = apic ? s.apic_base | 0x800 : s.apic_base & ~0x800ull;
	printf("SREGS %x %d %d\n", cr4, apic, failure(vcpu, KVM_SET_SREGS, &s));
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
	/* cpuid; four registers to ANSWER; out 0x10 */
	static const unsigned char code[] = {0x0f, 0xa2, 0xa3, 0, 0x20, 0, 0, 0x89, 0x1d, 4, 0x20, 0, 0, 0x89, 0x0d,
					     8, 0x20, 0, 0, 0x89, 0x15, 12, 0x20, 0, 0, 0xe6, 0x10};
	struct kvm_regs regs = {.rax = function, .rcx = index, .rip = CODE, .rflags = 2};
	unsigned *answer = (unsigned *)(memory + ANSWER);

	memcpy(memory + CODE, code, sizeof(code));
	ioctl(vcpu, KVM_SET_REGS, &regs);
	if (ioctl(vcpu, KVM_RUN, 0) || run->exit_reason != KVM_EXIT_IO) {
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
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	supported = room();
	if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported))
		return 1;
	for (unsigned n = 0; n < supported->nent; n++)
		print("SUP", &supported->entries[n]);

	hlt("hlt", 1);
	hlt("hlt-without-apic", 0);

	begin("mwait");
	capability(KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT);
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
