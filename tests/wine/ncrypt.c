/* A security chip for tests: Windows' provider for it (CNG, "Microsoft Platform Crypto
   Provider"), as far as the agent asks it, over keys that Wine's bcrypt makes. They lie in
   C:\tpm, so that each Wine prefix is a PC with a chip of its own. While C:\tpm\off is there, the
   chip does not answer. For tests alone: these keys are files like any other. */
#include <windows.h>
#include <bcrypt.h>
#include <ncrypt.h>
#include <stdio.h>
#include <wchar.h>

#define EXPORT __declspec(dllexport) SECURITY_STATUS WINAPI
#define PRIVATE_BYTES (sizeof(BCRYPT_ECCKEY_BLOB) + 3 * 32)
#define FOLDER L"C:\\tpm"

typedef struct {
    BCRYPT_KEY_HANDLE key; /* none: the provider itself, or a key that is not finished */
    WCHAR path[MAX_PATH];
} object;

static BCRYPT_ALG_HANDLE algorithm(void)
{
    static BCRYPT_ALG_HANDLE opened;
    if (!opened && BCryptOpenAlgorithmProvider(&opened, BCRYPT_ECDSA_P256_ALGORITHM, NULL, 0))
        opened = NULL;
    return opened;
}

static BOOL is_off(void)
{
    return GetFileAttributesW(FOLDER L"\\off") != INVALID_FILE_ATTRIBUTES;
}

static LONG made(ULONG_PTR *answer, const WCHAR *name)
{
    object *new = calloc(1, sizeof *new);
    if (!new) return NTE_FAIL;
    if (name) swprintf(new->path, MAX_PATH, FOLDER L"\\%ls", name);
    *answer = (ULONG_PTR)new;
    return 0;
}

EXPORT NCryptOpenStorageProvider(ULONG_PTR *provider, const WCHAR *name, DWORD flags)
{
    if (wcscmp(name, L"Microsoft Platform Crypto Provider")) return NTE_NOT_FOUND;
    if (is_off()) return NTE_DEVICE_NOT_READY;
    return made(provider, NULL);
}

EXPORT NCryptCreatePersistedKey(ULONG_PTR provider, ULONG_PTR *key, const WCHAR *kind,
    const WCHAR *name, DWORD legacy, DWORD flags)
{
    LONG code;
    if (!name || legacy || flags) return NTE_INVALID_PARAMETER;
    if (wcscmp(kind, L"ECDSA_P256")) return NTE_NOT_SUPPORTED;
    if ((code = made(key, name))) return code;
    return GetFileAttributesW(((object *)*key)->path) == INVALID_FILE_ATTRIBUTES ? 0 : NTE_EXISTS;
}

EXPORT NCryptFinalizeKey(ULONG_PTR handle, DWORD flags)
{
    object *key = (object *)handle;
    BYTE blob[PRIVATE_BYTES];
    ULONG length;
    FILE *file;
    LONG code;
    if (is_off()) return NTE_DEVICE_NOT_READY;
    if ((code = BCryptGenerateKeyPair(algorithm(), &key->key, 256, 0))) return code;
    if ((code = BCryptFinalizeKeyPair(key->key, 0))) return code;
    code = BCryptExportKey(key->key, NULL, BCRYPT_ECCPRIVATE_BLOB, blob, sizeof blob, &length, 0);
    if (code) return code;
    CreateDirectoryW(FOLDER, NULL);
    file = _wfopen(key->path, L"wb");
    if (!file) return NTE_FAIL;
    code = fwrite(blob, 1, length, file) == length ? 0 : NTE_FAIL;
    return fclose(file) ? NTE_FAIL : code;
}

EXPORT NCryptOpenKey(ULONG_PTR provider, ULONG_PTR *handle, const WCHAR *name, DWORD legacy,
    DWORD flags)
{
    BYTE blob[PRIVATE_BYTES];
    size_t length;
    FILE *file;
    LONG code;
    if (is_off()) return NTE_DEVICE_NOT_READY;
    if ((code = made(handle, name))) return code;
    file = _wfopen(((object *)*handle)->path, L"rb");
    if (!file) {
        free((void *)*handle);
        return NTE_BAD_KEYSET;
    }
    length = fread(blob, 1, sizeof blob, file);
    fclose(file);
    return BCryptImportKeyPair(algorithm(), NULL, BCRYPT_ECCPRIVATE_BLOB,
        &((object *)*handle)->key, blob, (ULONG)length, 0);
}

/* The private half does not leave the chip. */
EXPORT NCryptExportKey(ULONG_PTR handle, ULONG_PTR wrapping, const WCHAR *kind,
    NCryptBufferDesc *list, BYTE *answer, DWORD room, DWORD *length, DWORD flags)
{
    if (wcscmp(kind, L"ECCPUBLICBLOB")) return NTE_NOT_SUPPORTED;
    return BCryptExportKey(((object *)handle)->key, NULL, kind, answer, room, length, 0);
}

EXPORT NCryptSignHash(ULONG_PTR handle, void *padding, BYTE *hash, DWORD hash_length,
    BYTE *answer, DWORD room, DWORD *length, DWORD flags)
{
    object *key = (object *)handle;
    if (is_off()) return NTE_DEVICE_NOT_READY;
    if (GetFileAttributesW(key->path) == INVALID_FILE_ATTRIBUTES) return NTE_BAD_KEYSET;
    return BCryptSignHash(key->key, NULL, hash, hash_length, answer, room, length, 0);
}

EXPORT NCryptFreeObject(ULONG_PTR handle)
{
    object *freed = (object *)handle;
    if (freed->key) BCryptDestroyKey(freed->key);
    free(freed);
    return 0;
}

EXPORT NCryptDeleteKey(ULONG_PTR handle, DWORD flags)
{
    if (is_off()) return NTE_DEVICE_NOT_READY;
    if (!DeleteFileW(((object *)handle)->path)) return NTE_BAD_KEYSET;
    return NCryptFreeObject(handle);
}
