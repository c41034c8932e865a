/* Stands in for a browser: writes down what it was started with, one argument a line, into a
   file beside itself (msedge.exe.txt), and stays. For tests alone. */
#include <stdio.h>
#include <windows.h>

int main(int count, char **arguments)
{
    char own[MAX_PATH], target[MAX_PATH + 4], unfinished[MAX_PATH + 4];
    FILE *file;
    int at;
    GetModuleFileNameA(NULL, own, MAX_PATH);
    snprintf(target, sizeof target, "%s.txt", own);
    snprintf(unfinished, sizeof unfinished, "%s.new", own);
    file = fopen(unfinished, "wb");
    if (!file)
        return 1;
    for (at = 1; at < count; at++)
        fprintf(file, "%s\n", arguments[at]);
    fclose(file);
    if (!MoveFileExA(unfinished, target, MOVEFILE_REPLACE_EXISTING))
        return 1;
    /* For ever as stories see it; one that waits for an end that does not come gets one. */
    Sleep(60 * 1000);
    return 0;
}
