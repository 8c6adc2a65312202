/* Runs a program and writes the address of each of its functions when it is first called (x86-64 Linux):
   trace ADDRESSES OUT PROGRAM ARGUMENT...
   ADDRESSES has the addresses of the functions in the file, one a line, in hexadecimal. Each gets a breakpoint, which
   is removed when it is reached. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

struct function { unsigned long at; unsigned char code, reached; };

static int compare(const void *a, const void *b) {
    unsigned long x = ((const struct function *)a)->at, y = ((const struct function *)b)->at;
    return (x > y) - (x < y);
}

static void fail(const char *what) { perror(what); exit(1); }

static size_t read_addresses(const char *path, struct function **functions) {
    FILE *file = fopen(path, "r");
    size_t count = 0, unique = 0, room = 0;
    unsigned long at;
    if (!file) fail(path);
    while (fscanf(file, "%lx", &at) == 1) {
        if (count == room && !(*functions = realloc(*functions, (room = 2 * room + 1024) * sizeof **functions)))
            fail("realloc");
        (*functions)[count++] = (struct function){ at, 0, 0 };
    }
    fclose(file);
    qsort(*functions, count, sizeof **functions, compare);
    for (size_t i = 0; i < count; i++)
        if (!unique || (*functions)[unique - 1].at != (*functions)[i].at) (*functions)[unique++] = (*functions)[i];
    return unique;
}

int main(int argc, char **argv) {
    if (argc < 4) { fprintf(stderr, "usage: trace ADDRESSES OUT PROGRAM ARGUMENT...\n"); return 2; }
    struct function *functions = NULL;
    size_t count = read_addresses(argv[1], &functions);
    int status;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        execv(argv[3], argv + 3);
        fail(argv[3]);
    }
    waitpid(child, &status, 0);
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL);
    char path[64];
    unsigned long base;
    snprintf(path, sizeof path, "/proc/%d/maps", child);
    FILE *maps = fopen(path, "r"), *out = fopen(argv[2], "w");
    if (!maps || !out || fscanf(maps, "%lx", &base) != 1) fail("start");
    fclose(maps);
    snprintf(path, sizeof path, "/proc/%d/mem", child);
    int memory = open(path, O_RDWR);
    const unsigned char breakpoint = 0xcc;
    for (size_t i = 0; i < count; i++) {
        functions[i].at += base;
        if (pread(memory, &functions[i].code, 1, functions[i].at) != 1 ||
            pwrite(memory, &breakpoint, 1, functions[i].at) != 1)
            fail("breakpoint");
    }
    ptrace(PTRACE_CONT, child, 0, 0);
    for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            if (thread == child) break;
            continue;
        }
        int signal = WSTOPSIG(status);
        struct user_regs_struct registers;
        if (signal == SIGSTOP || status >> 16) {
            signal = 0;
        } else if (signal == SIGTRAP && ptrace(PTRACE_GETREGS, thread, 0, &registers) == 0) {
            struct function key = { registers.rip - 1, 0, 0 };
            struct function *found = bsearch(&key, functions, count, sizeof key, compare);
            if (found) {
                if (!found->reached) {
                    found->reached = 1;
                    if (pwrite(memory, &found->code, 1, found->at) != 1) fail("breakpoint");
                    fprintf(out, "%016lx\n", found->at - base);
                    fflush(out);
                }
                registers.rip = found->at;
                ptrace(PTRACE_SETREGS, thread, 0, &registers);
                signal = 0;
            }
        }
        ptrace(PTRACE_CONT, thread, 0, signal);
    }
    return 0;
}
