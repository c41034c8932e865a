/* An agent that passes every check, takes the place of the one before, and breaks down.
   For tests alone. VERSION is given by whoever compiles it. */
#include <stdio.h>
#include <wchar.h>
#include <windows.h>

int wmain(int count, wchar_t **arguments)
{
    if (count > 1 && !wcscmp(arguments[1], L"--version")) {
        puts("vpn-agent " VERSION);
        return 0;
    }
    if (count > 2 && !wcscmp(arguments[1], L"--replaces")) {
        wchar_t own[MAX_PATH];
        int tries = 0;
        GetModuleFileNameW(NULL, own, MAX_PATH);
        /* The one before may need a moment to be gone. */
        while (!MoveFileExW(own, arguments[2], MOVEFILE_REPLACE_EXISTING) && tries++ < 50)
            Sleep(200);
    }
    return 1;
}
