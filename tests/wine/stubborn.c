/* Stands in for an agent that does not end: asked to, it only returns. */
#include <stdio.h>
#include <string.h>
#include <windows.h>

int main(int count, char **arguments)
{
    if (count > 1 && strcmp(arguments[1], "quit") == 0)
        return 0;
    puts("running");
    fflush(stdout);
    Sleep(INFINITE);
    return 0;
}
