/*
 * The first process of a guest that boot_guest.py boots: asks the C library for its string functions, tells what CPUID says, and ends.
 *
 * The C library picks each string function at start-up by CPUID. A function that the processor cannot execute kills this process, and
 * the kernel panics as it has no first process any more. That may well happen before main, which the library's own start-up precedes.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
    unsigned eax, ebx, ecx, edx;
    __cpuid_count(7, 0, eax, ebx, ecx, edx);
    printf("init: CPUID 0x7.0 EBX %08x: avx2 %u, rtm %u\n", ebx, ebx >> 5 & 1, ebx >> 11 & 1);
    fflush(stdout);

    char text[1000];
    memset(text, 'x', sizeof text);
    text[500] = '/';
    text[999] = 0;
    int right = strlen(text) == 999 && strchr(text, '/') == text + 500 && strrchr(text, '/') == text + 500 &&
                memchr(text, '/', 999) == text + 500 && memrchr(text, '/', 999) == text + 500;
    printf("init: lives, its string functions are %s\n", right ? "right" : "wrong");
    fflush(stdout);
    return reboot(RB_POWER_OFF);
}
