/* A browser that breaks down as soon as it is opened. For tests alone. */
#include <windows.h>

int main(void)
{
    TerminateProcess(GetCurrentProcess(), 0xC0000005); /* an access violation's */
}
