//! Files and folders for one user alone, and replacing a file at once.

use std::fs::File;
use std::io;
use std::os::windows::io::FromRawHandle as _;
use std::path::Path;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_ALREADY_EXISTS, ERROR_SUCCESS, GENERIC_WRITE, INVALID_HANDLE_VALUE,
    LocalFree,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW, SDDL_REVISION_1,
    SE_FILE_OBJECT, SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce,
    GetSecurityDescriptorDacl, PROTECTED_DACL_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR,
    SECURITY_ATTRIBUTES,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, FILE_ATTRIBUTE_NORMAL, FILE_SHARE_READ,
    MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH, MoveFileExW,
};

use crate::identity::{own_sid, sid_text};
use crate::text::wide;

/// The system itself and the administrators: they can take what they want anyway, and
/// programs such as backups run as the former.
const ALWAYS_ALLOWED: [&str; 2] = ["S-1-5-18", "S-1-5-32-544"];

/// `ACCESS_ALLOWED_ACE_TYPE` of winnt.h.
const ALLOWED: u8 = 0;
/// `ACCESS_DENIED_ACE_TYPE` of winnt.h.
const DENIED: u8 = 1;

/// A security descriptor that Windows has made from a text.
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    /// Everything to this user, nothing to others, nothing inherited. In a folder, what is
    /// made in it gets the same.
    pub(crate) fn for_own_user() -> io::Result<Self> {
        let text = wide(format!("D:P(A;OICI;FA;;;{})", own_sid()?));
        let mut descriptor = null_mut();
        // SAFETY: the text ends with a zero, `descriptor` is a place for an address.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        if made == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(descriptor))
    }

    /// For calls that make something. Valid as long as `self`.
    pub(crate) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).expect("24 fits"),
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }

    fn dacl(&self) -> io::Result<*mut ACL> {
        let (mut present, mut defaulted, mut dacl) = (0, 0, null_mut());
        // SAFETY: the descriptor is a live one, the others are places for the answers.
        let read = unsafe {
            GetSecurityDescriptorDacl(self.0, &raw mut present, &raw mut dacl, &raw mut defaulted)
        };
        if read == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(dacl)
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: Windows has allocated it for us, and it is freed once.
        unsafe { LocalFree(self.0) };
    }
}

/// Makes a folder that only this user can enter, unless there is one, which is then made so.
///
/// # Errors
/// What the system says; its parent must exist.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    let descriptor = Descriptor::for_own_user()?;
    let attributes = descriptor.attributes();
    // SAFETY: the path ends with a zero, the attributes live until the call returns.
    if unsafe { CreateDirectoryW(wide(path).as_ptr(), &raw const attributes) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if is(&error, ERROR_ALREADY_EXISTS) && path.is_dir() {
        return restrict(path, &descriptor);
    }
    Err(error)
}

/// Makes a file that only this user can read. It must not exist yet.
///
/// # Errors
/// What the system says.
pub fn create_private_file(path: &Path) -> io::Result<File> {
    let descriptor = Descriptor::for_own_user()?;
    let attributes = descriptor.attributes();
    // SAFETY: the path ends with a zero, the attributes live until the call returns.
    let handle = unsafe {
        CreateFileW(
            wide(path).as_ptr(),
            GENERIC_WRITE,
            FILE_SHARE_READ,
            &raw const attributes,
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL,
            null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the handle was just opened for us.
    Ok(unsafe { File::from_raw_handle(handle) })
}

/// Takes away what other users may do with a file. True if there was something to take.
///
/// # Errors
/// What the system says.
pub fn tighten(path: &Path) -> io::Result<bool> {
    if !others_may(path)? {
        return Ok(false);
    }
    restrict(path, &Descriptor::for_own_user()?)?;
    Ok(true)
}

/// Puts `from` in the place of `to`, which may exist: at any moment there is the old file or
/// the new. What is written of it reaches the disk before the call returns.
///
/// # Errors
/// What the system says, for example that another program has the file open.
pub fn replace(from: &Path, to: &Path) -> io::Result<()> {
    let flags = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    // SAFETY: both paths end with a zero and live until the call returns.
    let moved = unsafe { MoveFileExW(wide(from).as_ptr(), wide(to).as_ptr(), flags) };
    if moved == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether an error says that another program has the file open just now, as a virus scanner
/// does with every new file for a moment.
pub fn is_in_use(error: &io::Error) -> bool {
    use windows_sys::Win32::Foundation::{ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION};
    [
        ERROR_ACCESS_DENIED,
        ERROR_SHARING_VIOLATION,
        ERROR_LOCK_VIOLATION,
    ]
    .into_iter()
    .any(|code| is(error, code))
}

fn is(error: &io::Error, code: u32) -> bool {
    error
        .raw_os_error()
        .is_some_and(|raw| u32::try_from(raw) == Ok(code))
}

fn restrict(path: &Path, descriptor: &Descriptor) -> io::Result<()> {
    let dacl = descriptor.dacl()?;
    // SAFETY: the path ends with a zero; the list belongs to `descriptor`, which lives on.
    let code = unsafe {
        SetNamedSecurityInfoW(
            wide(path).as_ptr(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
            null_mut(),
            null_mut(),
            dacl,
            null(),
        )
    };
    result(code)
}

fn result(code: u32) -> io::Result<()> {
    if code == ERROR_SUCCESS {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(
            i32::try_from(code).unwrap_or(i32::MAX),
        ))
    }
}

/// Whether anybody but this user, the system and the administrators is let in.
fn others_may(path: &Path) -> io::Result<bool> {
    let (mut dacl, mut whole) = (null_mut(), null_mut());
    // SAFETY: the path ends with a zero; the two places are for addresses.
    result(unsafe {
        GetNamedSecurityInfoW(
            wide(path).as_ptr(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION,
            null_mut(),
            null_mut(),
            &raw mut dacl,
            null_mut(),
            &raw mut whole,
        )
    })?;
    // Freed at the end; `dacl` points into it.
    let _whole = Descriptor(whole);
    if dacl.is_null() {
        // No list at all: everything to everybody.
        return Ok(true);
    }
    let own = own_sid()?;
    // SAFETY: the call above has filled in the list, which lives in `_whole`.
    let count = unsafe { (*dacl).AceCount };
    for index in 0..u32::from(count) {
        let mut entry = null_mut();
        // SAFETY: the index is within the list's count; `entry` is a place for an address.
        if unsafe { GetAce(dacl, index, &raw mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with this header.
        let kind = unsafe { (*entry.cast::<ACE_HEADER>()).AceType };
        match kind {
            ALLOWED => {
                // SAFETY: an entry of this kind is of this type, its SID begins there.
                let sid = unsafe {
                    sid_text((&raw mut (*entry.cast::<ACCESS_ALLOWED_ACE>()).SidStart).cast())
                }?;
                if sid != own && !ALWAYS_ALLOWED.contains(&sid.as_str()) {
                    return Ok(true);
                }
            }
            DENIED => {}
            // Conditional and object entries: not ours, so not trusted.
            _ => return Ok(true),
        }
    }
    Ok(false)
}
