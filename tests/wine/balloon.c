/* Prints the text of each notice that stands at an icon of the notification area. For tests
   alone. */
#include <stdio.h>
#include <windows.h>

#define TIP L"tooltips_class32"
#define UNITS 512

static BOOL CALLBACK look(HWND window, LPARAM unused)
{
    WCHAR class[64] = L"", text[UNITS] = L"";
    char utf8[UNITS * 3];
    DWORD_PTR length = 0;
    GetClassNameW(window, class, 64);
    if (lstrcmpiW(class, TIP) || !IsWindowVisible(window))
        return TRUE;
    SendMessageTimeoutW(window, WM_GETTEXT, UNITS, (LPARAM)text, SMTO_ABORTIFHUNG, 1000, &length);
    WideCharToMultiByte(CP_UTF8, 0, text, -1, utf8, sizeof utf8, NULL, NULL);
    printf("%s\n", utf8);
    return TRUE;
}

int main(void)
{
    EnumWindows(look, 0);
    return 0;
}
