/* Runs a target over files instead of under a fuzzer: each argument is an input,
 * or a folder of inputs. The name of an input is printed before a failure ends
 * the program, and the number of inputs at the end. */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "fuzz.h"

enum { INPUT_MAX = 1 << 20 };

static char current[4096];
static long inputs;

/* Says which input it was; only calls that a signal handler may make. */
static void say_input(int signal_number)
{
    static const char text[] = "while replaying ";
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    (void)!write(STDERR_FILENO, current, strlen(current));
    (void)!write(STDERR_FILENO, "\n", 1);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(INPUT_MAX);
    if (!file || !bytes) {
        perror(path);
        exit(2);
    }
    size_t length = fread(bytes, 1, INPUT_MAX, file);
    fclose(file);
    char *exact = fuzz_copy(bytes, length);
    free(bytes);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)exact, length);
    free(exact);
    inputs++;
}

static void replay(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        snprintf(current, sizeof current, "%s", path);
        replay_file(path);
        return;
    }
    for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(current, sizeof current, "%s/%s", path, entry->d_name);
        replay_file(current);
    }
    closedir(folder);
}

int main(int count, char **arguments)
{
    signal(SIGABRT, say_input);
    for (int i = 1; i < count; i++)
        replay(arguments[i]);
    printf("%ld inputs\n", inputs);
    return inputs == 0;
}
