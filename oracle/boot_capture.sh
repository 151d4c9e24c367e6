#!/usr/bin/env bash
# Boots a stock kernel under QEMU's software emulation and prints what it makes of its processor, hidden flags included, and what its KVM says.
#   boot_capture.sh VMLINUZ MODULES_DIR CPU CMDLINE [kvm.PARAMETER=VALUE | kvm_amd.PARAMETER=VALUE]...
# e.g. boot_capture.sh k/boot/vmlinuz-6.12.107 k/lib/modules/6.12.107 'EPYC-Milan-v1,+svm,+npt,-hypervisor' nopcid kvm_amd.nested=0
# The lines are those of a snapshot, with CMDLINE and PARAM as given, and BOOT and RDMSR, which boot_caps.c tells of; tests/captures/booted has
# them. On a CPU without SVM there is no KVM and no SUP. Needs qemu-system-x86, busybox-static, cpio and gcc. QEMU=... for another command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); kernel=$1 modules=$2 cpu=$3 cmdline=$4; shift 4
root=$(mktemp -d); trap 'rm -rf "$root" "$root.gz"' EXIT
mkdir -p "$root"/{bin,proc,sys,dev,mod}
cp "$(command -v busybox)" "$root/bin/busybox"
gcc -O1 -w -static -o "$root/bin/dump" "$here/kvm_dump.c"
gcc -O1 -static -o "$root/bin/caps" "$here/boot_caps.c"
for name in msr irqbypass ccp kvm kvm-amd; do
  file=$(find "$modules" -name "$name.ko*" | head -n 1); [[ -n $file ]] || continue
  case $file in *.xz) xz -dc "$file" >"$root/mod/$name.ko" ;; *.zst) zstd -qdc "$file" >"$root/mod/$name.ko" ;; *) cp "$file" "$root/mod/$name.ko" ;; esac
done
kvm='' amd=''
for given in "$@"; do case $given in kvm.*) kvm+=" ${given#kvm.}" ;; kvm_amd.*) amd+=" ${given#kvm_amd.}" ;; *) exit 2 ;; esac; done
cat >"$root/init" <<I
#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc none /proc; busybox mount -t sysfs none /sys; busybox mount -t devtmpfs none /dev
for m in msr irqbypass ccp; do [ -f /mod/\$m.ko ] && busybox insmod /mod/\$m.ko; done
busybox insmod /mod/kvm.ko $kvm; busybox insmod /mod/kvm-amd.ko $amd
echo; echo "KERNEL \$(busybox uname -r)"
for k in flags bugs vendor_id; do echo "CPUINFO \$k \$(busybox grep -m1 -E "^\$k" /proc/cpuinfo | busybox cut -d: -f2-)"; done
caps 17 33 3a 4e 8b ce cf 10a 140 1a0 481 482 48b 48c 491 492 982 c0010010 c0010015 c0010114 c0010133 c00102f0 c0011020
dump; echo CAPTURED
busybox poweroff -f
I
chmod +x "$root/init"
(cd "$root" && find . | cpio -o -H newc 2>/dev/null | gzip -1) >"$root.gz"
# no_timer_check: emulated timers come late on a busy machine, and a kernel that does not see a hypervisor takes them for broken.
told=$(timeout 120 ${QEMU:-qemu-system-x86_64} -accel tcg -m 512 -cpu "$cpu" -nographic -no-reboot -kernel "$kernel" -initrd "$root.gz" \
  -append "console=ttyS0 quiet panic=-1 loglevel=3 no_timer_check $cmdline" </dev/null 2>&1 | tr -d '\r' || true)
if ! grep -q '^CAPTURED' <<<"$told"; then tail -n 5 <<<"$told" >&2; exit 1; fi
echo "CPU $cpu"; echo "CMDLINE $cmdline"; for given in "$@"; do echo "PARAM $given"; done
sed -n '/^KERNEL/,/^CAPTURED/p' <<<"$told" | grep -vx 'CAPTURED\|NOKVM.*'
