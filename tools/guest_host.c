/*
 * The first process of a guest that is itself a host: loads KVM and runs the command in the file /command, one argument a line.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_ARGUMENTS = 64 };

static char *contents(const char *path, size_t *length)
{
    char *text = NULL;
    FILE *file = fopen(path, "r");
    if (file && !fseek(file, 0, SEEK_END)) {
        *length = ftell(file);
        rewind(file);
        text = calloc(1, *length + 1);
        if (text && fread(text, 1, *length, file) != *length)
            text = NULL;
    }
    if (!text) {
        perror(path);
        exit(1);
    }
    return text;
}

static void load(const char *path)
{
    size_t length;
    char *image = contents(path, &length);
    if (syscall(SYS_init_module, image, length, ""))
        perror(path);
    free(image);
}

int main(void)
{
    mount("none", "/dev", "devtmpfs", 0, NULL);
    mount("none", "/proc", "proc", 0, NULL);
    load("/modules/irqbypass.ko");
    load("/modules/kvm.ko");
    load("/modules/kvm-amd.ko");

    size_t length;
    char *arguments[MOST_ARGUMENTS + 1] = {NULL};
    char *next = strtok(contents("/command", &length), "\n");
    for (int i = 0; next && i < MOST_ARGUMENTS; next = strtok(NULL, "\n"))
        arguments[i++] = next;
    if (!fork()) {
        dup2(open("/dev/null", O_RDONLY), 0);
        execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(1);
    }
    wait(NULL);
    return reboot(RB_POWER_OFF);
}
