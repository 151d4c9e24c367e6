/*
 * What this kernel's KVM says of its host: CPUID as a program sees it, KVM's tables, the feature MSRs, and what a vCPU keeps of the table.
 *
 *     cc -O1 -static -o kvm_dump kvm_dump.c
 *
 * Run it as root with kvm_amd or kvm_intel loaded. README.md tells the lines. MSR's third column is what KVM_GET_MSRS returns: 1 where the
 * MSR was read.
 */
#include "cpuid_raw.h"
#include "kvm_common.h"

static void print_answer(int fd, unsigned long request, const char *kind)
{
	struct kvm_cpuid2 *table = new_table();

	if (ioctl(fd, request, table) < 0)
		printf("%s ERR %s\n", kind, strerror(errno));
	else
		print_table(kind, table);
	free(table);
}

/*
 * Before Linux 5.11 only a vCPU tells of Hyper-V, and of enlightened VMCSs only one that was told to use them. A VMM does so in that order.
 */
static void print_hyperv(int kvm)
{
	struct kvm_enable_cap vmcs = {.cap = KVM_CAP_HYPERV_ENLIGHTENED_VMCS};
	int vm, vcpu;

	if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_SYS_HYPERV_CPUID) > 0) {
		print_answer(kvm, KVM_GET_SUPPORTED_HV_CPUID, "HV");
		return;
	}
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ioctl(vm, KVM_CREATE_IRQCHIP, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	ioctl(vcpu, KVM_ENABLE_CAP, &vmcs);
	print_answer(vcpu, KVM_GET_SUPPORTED_HV_CPUID, "HV");
	close(vcpu);
	close(vm);
}

static void print_msrs(int kvm)
{
	enum { MOST_MSRS = 512 };
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MOST_MSRS * sizeof(list->indices[0]));

	list->nmsrs = MOST_MSRS;
	if (ioctl(kvm, KVM_GET_MSR_FEATURE_INDEX_LIST, list) == 0)
		for (unsigned n = 0; n < list->nmsrs; n++) {
			struct {
				struct kvm_msrs head;
				struct kvm_msr_entry entry;
			} one = {.head = {.nmsrs = 1}, .entry = {.index = list->indices[n]}};
			int read = ioctl(kvm, KVM_GET_MSRS, &one);

			printf("MSR %x %d %llx\n", list->indices[n], read, (unsigned long long)one.entry.data);
		}
	free(list);
}

static void print_kept(int kvm)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0), vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	struct kvm_cpuid2 *supported = new_table();

	ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported);
	printf("SETRC %d\n", ioctl(vcpu, KVM_SET_CPUID2, supported));
	print_answer(vcpu, KVM_GET_CPUID2, "GOT");
}

int main(void)
{
	int kvm;

	print_cpuid();
	kvm = open("/dev/kvm", O_RDWR);
	if (kvm < 0) {
		printf("NOKVM %s\n", strerror(errno));
		return 1;
	}
	print_answer(kvm, KVM_GET_SUPPORTED_CPUID, "SUP");
	print_answer(kvm, KVM_GET_EMULATED_CPUID, "EMU");
	print_hyperv(kvm);
	print_msrs(kvm);
	print_kept(kvm);
	return 0;
}
