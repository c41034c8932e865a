/* Passes connections on to a port of this machine, both ways: relay.exe LISTEN_PORT PORT
   For tests alone. The agent under Wine lets in only programs of its own user, which it looks
   up in Windows' process table; a browser of Linux is in none. This program is. */
#include <winsock2.h>
#include <windows.h>
#include <stdlib.h>

struct pair { SOCKET from, to; };

static DWORD WINAPI copy(LPVOID argument)
{
    struct pair *pair = argument;
    static const int size = 65536;
    char *bytes = malloc(size);
    int count;
    while (bytes && (count = recv(pair->from, bytes, size, 0)) > 0) {
        char *next = bytes;
        while (count > 0) {
            int sent = send(pair->to, next, count, 0);
            if (sent <= 0) { count = -1; break; }
            next += sent;
            count -= sent;
        }
        if (count < 0) break;
    }
    shutdown(pair->to, SD_SEND);
    free(bytes);
    return 0;
}

static SOCKADDR_IN loopback(int port)
{
    SOCKADDR_IN address = {0};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((u_short)port);
    return address;
}

static DWORD WINAPI serve(LPVOID argument)
{
    struct pair *up = argument;
    struct pair down = { up->to, up->from };
    HANDLE thread = CreateThread(NULL, 0, copy, up, 0, NULL);
    copy(&down);
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
    closesocket(up->from);
    closesocket(up->to);
    free(up);
    return 0;
}

int main(int count, char **arguments)
{
    WSADATA data;
    if (count != 3 || WSAStartup(MAKEWORD(2, 2), &data)) return 2;
    SOCKADDR_IN here = loopback(atoi(arguments[1])), there = loopback(atoi(arguments[2]));
    SOCKET listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (SOCKADDR *)&here, sizeof here) || listen(listener, 64)) return 1;
    for (;;) {
        struct pair *pair = malloc(sizeof *pair);
        BOOL at_once = TRUE;
        if (!pair) return 1;
        pair->from = accept(listener, NULL, NULL);
        pair->to = socket(AF_INET, SOCK_STREAM, 0);
        if (pair->from == INVALID_SOCKET || pair->to == INVALID_SOCKET) return 1;
        setsockopt(pair->from, IPPROTO_TCP, TCP_NODELAY, (char *)&at_once, sizeof at_once);
        setsockopt(pair->to, IPPROTO_TCP, TCP_NODELAY, (char *)&at_once, sizeof at_once);
        if (connect(pair->to, (SOCKADDR *)&there, sizeof there)) {
            closesocket(pair->from);
            closesocket(pair->to);
            free(pair);
            continue;
        }
        CloseHandle(CreateThread(NULL, 0, serve, pair, 0, NULL));
    }
}
