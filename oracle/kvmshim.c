/*
 * Plays a host to a program that uses KVM: loaded into it ahead of the C library (LD_PRELOAD), it answers in KVM's place what the host
 * supports, and writes down the tables that the program gives its vCPUs.
 *
 *     cc -O1 -shared -fPIC -o kvmshim.so kvmshim.c
 *
 * KVMSHIM_HOST names a file with the host; other lines are passed over. Numbers are hexadecimal but for ok and those of TSC and STATE.
 *     SUP func.index fFLAGS eax ebx ecx edx    KVM_GET_SUPPORTED_CPUID
 *     HV func.index fFLAGS eax ebx ecx edx     KVM_GET_SUPPORTED_HV_CPUID, and KVM then has all of Hyper-V's capabilities
 *     MSR index ok value                       the feature MSRs, where ok is 1
 *     RAW func.index eax ebx ecx edx           the program's own CPUID instructions
 *     TSC khz scaling                          KVM_GET_TSC_KHZ and KVM_CAP_TSC_CONTROL
 *     STATE 1                                  vCPUs have all the state that SUP's leaf 0xD promises: the XSAVE permissions
 *                                              (arch_prctl), the size of the XSAVE area and KVM_SET_ONE_REG are played too.
 *                                              Else those are this machine's.
 * KVMSHIM_SITES lists the offsets of those CPUID instructions, separated by commas: in the program, or as libvirt.so.0@OFFSET in a loaded
 * library. Each is replaced by UD2, an instruction of the same length that traps.
 * KVMSHIM_OUT names a file to which every KVM_SET_CPUID2 is appended: a line VCPU, then lines "SET func.index fFLAGS eax ebx ecx edx".
 *
 * What a table promises beyond this machine KVM refuses as soon as it is to hold the state. So those ioctls are told to have succeeded, and
 * no guest instruction may be run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <ucontext.h>
#include <unistd.h>

/* asm/prctl.h; not in the headers of older C libraries */
#define GET_XCOMP_GUEST_PERM 0x1024
#define REQ_XCOMP_GUEST_PERM 0x1025

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct kvm_cpuid_entry2 supported[256], hyperv[64];
static struct { unsigned function, index, eax, ebx, ecx, edx; } raw[1024];
static struct { unsigned index; unsigned long long value; } msrs[256];
static unsigned supported_count, hyperv_count, raw_count, msr_count;
static long tsc_khz, tsc_scaling, plays_state;

static int read_entry(const char *line, const char *form, struct kvm_cpuid_entry2 *e)
{
	return sscanf(line, form, &e->function, &e->index, &e->flags, &e->eax, &e->ebx, &e->ecx, &e->edx) == 7;
}

static int read_raw(const char *line)
{
	unsigned n = raw_count;

	return sscanf(line, "RAW %x.%x %x %x %x %x", &raw[n].function, &raw[n].index, &raw[n].eax, &raw[n].ebx, &raw[n].ecx,
		      &raw[n].edx) == 6;
}

static void read_line(const char *line)
{
	unsigned index, ok;
	unsigned long long value;

	if (supported_count < LENGTH(supported) && read_entry(line, "SUP %x.%x f%x %x %x %x %x", &supported[supported_count]))
		supported_count++;
	else if (hyperv_count < LENGTH(hyperv) && read_entry(line, "HV %x.%x f%x %x %x %x %x", &hyperv[hyperv_count]))
		hyperv_count++;
	else if (raw_count < LENGTH(raw) && read_raw(line))
		raw_count++;
	else if (sscanf(line, "TSC %ld %ld", &tsc_khz, &tsc_scaling) == 2 || sscanf(line, "STATE %ld", &plays_state) == 1)
		return;
	else if (msr_count < LENGTH(msrs) && sscanf(line, "MSR %x %u %llx", &index, &ok, &value) == 3 && ok == 1) {
		msrs[msr_count].index = index;
		msrs[msr_count++].value = value;
	}
}

/* The first call may come before our constructor: a library's own may open /dev/kvm. */
static void load(void)
{
	static int loaded;
	const char *path = getenv("KVMSHIM_HOST");
	char line[512];
	FILE *file;

	if (loaded)
		return;
	loaded = 1;
	file = path ? fopen(path, "r") : NULL;
	while (file && fgets(line, sizeof(line), file))
		read_line(line);
	if (file)
		fclose(file);
}

/* The system call itself: both ioctl and syscall of the C library are ours. */
static long system_call(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if (result < 0 && result > -4096) {
		errno = -result;
		return -1;
	}
	return result;
}

static int pass_on(int fd, unsigned long request, void *argument)
{
	return system_call(SYS_ioctl, fd, request, (long)argument, 0, 0, 0);
}

static int refuse(int error)
{
	errno = error;
	return -1;
}

static const struct kvm_cpuid_entry2 *xsave_leaf(void)
{
	for (unsigned n = 0; n < supported_count; n++)
		if (supported[n].function == 0xd && supported[n].index == 0)
			return &supported[n];
	return NULL;
}

/* XCR0's bits that the host supports, XSAVE components by their number. */
static unsigned long long components(void)
{
	return xsave_leaf()->eax | (unsigned long long)xsave_leaf()->edx << 32;
}

/* QEMU asks for the XSAVE permissions of guests (AMX) by syscall, for the C library has no function for it. */
long syscall(long number, ...)
{
	long argument[6];
	va_list list;

	va_start(list, number);
	for (unsigned n = 0; n < 6; n++)
		argument[n] = va_arg(list, long);
	va_end(list);
	load();
	if (plays_state && number == SYS_arch_prctl && xsave_leaf()) {
		if (argument[0] == REQ_XCOMP_GUEST_PERM)
			return argument[1] < 64 && components() >> argument[1] & 1 ? 0 : refuse(EOPNOTSUPP);
		if (argument[0] == GET_XCOMP_GUEST_PERM) {
			*(unsigned long long *)argument[1] = components();
			return 0;
		}
	}
	return system_call(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

/*
 * Whether this is /dev/kvm itself, not a VM or a vCPU made from it. The C library's own fstat would keep the shim out of the roots of
 * older suites: until glibc 2.33 programs had it under another name.
 */
static int is_system(int fd)
{
	struct stat file;

	return !system_call(SYS_fstat, fd, (long)&file, 0, 0, 0, 0) && S_ISCHR(file.st_mode) && file.st_rdev == makedev(10, 232);
}

static int is_hyperv_capability(long capability)
{
	static const int known[] = {
		KVM_CAP_HYPERV, KVM_CAP_HYPERV_TIME, KVM_CAP_HYPERV_SPIN, KVM_CAP_HYPERV_VAPIC, KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2,
		KVM_CAP_HYPERV_VP_INDEX, KVM_CAP_HYPERV_TLBFLUSH, KVM_CAP_HYPERV_SEND_IPI, KVM_CAP_HYPERV_CPUID, KVM_CAP_SYS_HYPERV_CPUID,
		KVM_CAP_HYPERV_EVENTFD,
	};

	for (unsigned n = 0; n < LENGTH(known); n++)
		if (known[n] == capability)
			return 1;
	return 0;
}

static int give_table(struct kvm_cpuid2 *table, const struct kvm_cpuid_entry2 *entries, unsigned count)
{
	if (table->nent < count)
		return refuse(E2BIG);
	memcpy(table->entries, entries, count * sizeof(entries[0]));
	table->nent = count;
	return 0;
}

static int give_msr_list(struct kvm_msr_list *list)
{
	unsigned room = list->nmsrs;

	list->nmsrs = msr_count;
	if (room < msr_count)
		return refuse(E2BIG);
	for (unsigned n = 0; n < msr_count; n++)
		list->indices[n] = msrs[n].index;
	return 0;
}

/* Values up to the first MSR that the host does not have, as KVM does. */
static int give_msrs(struct kvm_msrs *asked)
{
	unsigned done;

	for (done = 0; done < asked->nmsrs; done++) {
		unsigned n = 0;

		while (n < msr_count && msrs[n].index != asked->entries[done].index)
			n++;
		if (n == msr_count)
			break;
		asked->entries[done].data = msrs[n].value;
	}
	return done;
}

static void write_down(int fd, const struct kvm_cpuid2 *table)
{
	const char *path = getenv("KVMSHIM_OUT");
	FILE *file = path ? fopen(path, "a") : NULL;

	if (!file)
		return;
	fprintf(file, "VCPU fd%d nent %u\n", fd, table->nent);
	for (unsigned n = 0; n < table->nent; n++) {
		const struct kvm_cpuid_entry2 *e = &table->entries[n];

		fprintf(file, "SET %08x.%x f%x %08x %08x %08x %08x\n", e->function, e->index, e->flags, e->eax, e->ebx, e->ecx, e->edx);
	}
	fclose(file);
}

/* Whether KVM is asked for a capability whose answer is played, and the answer. */
static int played_capability(long capability, int *answer)
{
	if (hyperv_count && is_hyperv_capability(capability))
		*answer = 1;
	else if (tsc_khz && capability == KVM_CAP_TSC_CONTROL)
		*answer = tsc_scaling;
	else if (tsc_khz && capability == KVM_CAP_GET_TSC_KHZ)
		*answer = 1;
	else if (plays_state && capability == KVM_CAP_XSAVE2 && xsave_leaf())
		*answer = xsave_leaf()->ecx > 4096 ? xsave_leaf()->ecx : 4096; /* not less than struct kvm_xsave */
	else
		return 0;
	return 1;
}

/* The ioctls that are answered from SUP and MSR lines; every other one is passed on. */
static int host_ioctl(int fd, unsigned long request, void *argument)
{
	struct kvm_device_attr *attribute = argument;

	switch (request) {
	case KVM_GET_SUPPORTED_CPUID:
		return give_table(argument, supported, supported_count);
	case KVM_GET_MSR_FEATURE_INDEX_LIST:
		return give_msr_list(argument);
	case KVM_GET_DEVICE_ATTR:
		if (attribute->group != 0 || attribute->attr != KVM_X86_XCOMP_GUEST_SUPP || !xsave_leaf())
			break;
		*(unsigned long long *)(unsigned long)attribute->addr = components();
		return 0;
	case KVM_GET_MSRS:
		if (is_system(fd))
			return give_msrs(argument);
		pass_on(fd, request, argument);
		return ((struct kvm_msrs *)argument)->nmsrs;
	case KVM_SET_MSRS:
		pass_on(fd, request, argument);
		return ((struct kvm_msrs *)argument)->nmsrs;
	case KVM_GET_ONE_REG: /* CET's shadow stack pointer, which this machine's KVM may not have */
	case KVM_SET_ONE_REG:
		if (!plays_state)
			break;
		/* fall through */
	case KVM_SET_CPUID2:
	case KVM_SET_SREGS:
	case KVM_SET_SREGS2:
	case KVM_SET_NESTED_STATE:
	case KVM_SET_XCRS:
	case KVM_SET_XSAVE:
		pass_on(fd, request, argument);
		return 0;
	}
	return pass_on(fd, request, argument);
}

int ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list list;
	int answer;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	request = (unsigned)request; /* some callers keep the request in an int */
	load();
	if (request == KVM_CHECK_EXTENSION && played_capability((long)argument, &answer))
		return answer;
	if (tsc_khz && request == KVM_GET_TSC_KHZ)
		return tsc_khz;
	if (tsc_khz && request == KVM_SET_TSC_KHZ)
		return 0;
	if (hyperv_count && request == KVM_ENABLE_CAP && is_hyperv_capability(((struct kvm_enable_cap *)argument)->cap))
		return 0;
	if (hyperv_count && request == KVM_GET_SUPPORTED_HV_CPUID)
		return give_table(argument, hyperv, hyperv_count);
	if (request == KVM_SET_CPUID2)
		write_down(fd, argument);
	return supported_count ? host_ioctl(fd, request, argument) : pass_on(fd, request, argument);
}

/* Leaves whose sub-leaves differ: one of them that the file does not list is empty. In other leaves ECX does not matter. */
static int is_indexed(unsigned function)
{
	static const unsigned known[] = {4, 7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1b, 0x1d, 0x1e, 0x1f, 0x20, 0x23, 0x24,
					 0x8000001d, 0x80000020, 0x80000026};

	for (unsigned n = 0; n < LENGTH(known); n++)
		if (known[n] == function)
			return 1;
	return 0;
}

/* The number of the RAW line that answers, raw_count where none does. */
static unsigned find_raw(unsigned function, unsigned index)
{
	int has_sub_leaves = index != 0 && is_indexed(function);
	unsigned first = raw_count;

	for (unsigned n = 0; n < raw_count; n++) {
		if (raw[n].function != function)
			continue;
		if (raw[n].index == index)
			return n;
		if (first == raw_count)
			first = n;
		has_sub_leaves |= raw[n].index != 0;
	}
	return has_sub_leaves ? raw_count : first;
}

static void on_ud2(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	unsigned n = find_raw(registers[REG_RAX], registers[REG_RCX]);
	int found = n < raw_count;

	(void)signal;
	(void)info;
	registers[REG_RIP] += 2; /* UD2's length, and CPUID's */
	registers[REG_RAX] = found ? raw[n].eax : 0;
	registers[REG_RBX] = found ? raw[n].ebx : 0;
	registers[REG_RCX] = found ? raw[n].ecx : 0;
	registers[REG_RDX] = found ? raw[n].edx : 0;
}

struct object {
	const char *name; /* empty for the program itself, which is the first object listed */
	unsigned long address;
};

static int find_object(struct dl_phdr_info *info, size_t size, void *argument)
{
	const char *name = strrchr(info->dlpi_name, '/');
	struct object *object = argument;

	(void)size;
	if (*object->name && strcmp(name ? name + 1 : info->dlpi_name, object->name))
		return 0;
	object->address = info->dlpi_addr;
	return 1;
}

static void trap(unsigned char *instruction)
{
	void *page = (void *)((unsigned long)instruction & ~4095ul);

	if (mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC)) /* two pages: the instruction may straddle them */
		return;
	if (instruction[0] == 0x0f && instruction[1] == 0xa2)
		instruction[1] = 0x0b;
	mprotect(page, 8192, PROT_READ | PROT_EXEC);
}

__attribute__((constructor)) static void patch(void)
{
	struct sigaction action = {.sa_sigaction = on_ud2, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
	char *sites = getenv("KVMSHIM_SITES"), *list, *rest = NULL;

	load();
	if (!sites || !raw_count)
		return;
	sigaction(SIGILL, &action, NULL);
	list = strdup(sites); /* a child inherits the environment, which must stay as it is */
	for (char *site = strtok_r(list, ",", &rest); site; site = strtok_r(NULL, ",", &rest)) {
		char *offset = strchr(site, '@');
		struct object object = {.name = offset ? site : ""};

		if (offset)
			*offset++ = 0;
		else
			offset = site;
		if (dl_iterate_phdr(find_object, &object))
			trap((unsigned char *)(object.address + strtoul(offset, NULL, 16)));
	}
	free(list);
}
