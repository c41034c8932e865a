/* Opens a file as one of this user's classes of files, as a double click or 「プログラムから開く」
   does, and ends with the program that Windows starts for it: CLASS FILE. For tests alone. */
#include <windows.h>
#include <shellapi.h>

int wmain(int count, wchar_t **arguments)
{
    SHELLEXECUTEINFOW wish = {sizeof wish};
    DWORD code = 1;
    HKEY classes;
    if (count < 3)
        return 2;
    /* Wine 8 does not show this user's classes among everybody's. */
    if (RegOpenKeyW(HKEY_CURRENT_USER, L"Software\\Classes", &classes)
        || RegOpenKeyW(classes, arguments[1], &wish.hkeyClass))
        return 3;
    wish.fMask = SEE_MASK_CLASSKEY | SEE_MASK_NOCLOSEPROCESS | SEE_MASK_FLAG_NO_UI | SEE_MASK_NOASYNC;
    wish.lpVerb = L"open";
    wish.lpFile = arguments[2];
    wish.nShow = SW_SHOWNORMAL;
    if (!ShellExecuteExW(&wish) || !wish.hProcess)
        return 4;
    WaitForSingleObject(wish.hProcess, INFINITE);
    GetExitCodeProcess(wish.hProcess, &code);
    return (int)code;
}
