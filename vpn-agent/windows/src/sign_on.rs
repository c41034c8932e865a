//! Telling a server who is signed in at this PC, by the security packages of Windows (SSPI):
//! Kerberos or NTLM. The password stays with Windows.

use std::io;
use std::ptr::null;

use windows_sys::Win32::Foundation::{
    SEC_E_OK, SEC_I_COMPLETE_AND_CONTINUE, SEC_I_COMPLETE_NEEDED, SEC_I_CONTINUE_NEEDED,
};
use windows_sys::Win32::Security::Authentication::Identity::{
    AcquireCredentialsHandleW, CompleteAuthToken, DeleteSecurityContext, FreeCredentialsHandle,
    ISC_REQ_CONNECTION, InitializeSecurityContextW, SECBUFFER_TOKEN, SECBUFFER_VERSION,
    SECPKG_CRED_OUTBOUND, SECURITY_NATIVE_DREP, SecBuffer, SecBufferDesc,
};
use windows_sys::Win32::Security::Credentials::SecHandle;
use zeroize::Zeroizing;

use crate::text::wide;

/// Room for a token: the most that Windows can be told to allow (`MaxTokenSize`). Room of the
/// package's own would be asked for with a flag that Wine's Kerberos does not know.
const TOKEN_ROOM_BYTES: u16 = u16::MAX;

/// Which package speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    /// Kerberos where there is a domain, else NTLM.
    Negotiate,
    /// NTLM alone.
    Ntlm,
}

/// One side of a conversation, for the user who runs this process.
pub struct Conversation {
    credentials: SecHandle,
    context: Option<SecHandle>,
    target: Vec<u16>,
}

impl Conversation {
    /// Begins a conversation with the service `target`, such as `HTTP/proxy.example.jp`.
    ///
    /// # Errors
    /// What the system says: no such package, nobody signed in.
    pub fn new(package: Package, target: &str) -> io::Result<Self> {
        let name = wide(match package {
            Package::Negotiate => "Negotiate",
            Package::Ntlm => "NTLM",
        });
        let mut credentials = SecHandle {
            dwLower: 0,
            dwUpper: 0,
        };
        let mut expiry = 0;
        // SAFETY: the name ends with a zero; no account is named, so that the user's own is
        // taken; the two places for the answer outlive the call.
        let code = unsafe {
            AcquireCredentialsHandleW(
                null(),
                name.as_ptr(),
                SECPKG_CRED_OUTBOUND,
                null(),
                null(),
                None,
                null(),
                &raw mut credentials,
                &raw mut expiry,
            )
        };
        if code != SEC_E_OK {
            return Err(io::Error::from_raw_os_error(code));
        }
        Ok(Self {
            credentials,
            context: None,
            target: wide(target),
        })
    }

    /// The next token; `challenge` is the other side's last one, none at the beginning.
    ///
    /// # Errors
    /// What the system says: a challenge that is none, a domain that does not answer.
    pub fn step(&mut self, challenge: Option<&[u8]>) -> io::Result<Zeroizing<Vec<u8>>> {
        let challenge = challenge.unwrap_or_default();
        let mut given = SecBuffer {
            cbBuffer: u32::try_from(challenge.len()).map_err(|_| io::ErrorKind::InvalidData)?,
            BufferType: SECBUFFER_TOKEN,
            pvBuffer: challenge.as_ptr().cast_mut().cast(),
        };
        let given = list(&mut given);
        let mut token = Zeroizing::new(vec![0u8; usize::from(TOKEN_ROOM_BYTES)]);
        let mut answer = SecBuffer {
            cbBuffer: TOKEN_ROOM_BYTES.into(),
            BufferType: SECBUFFER_TOKEN,
            pvBuffer: token.as_mut_ptr().cast(),
        };
        let mut answers = list(&mut answer);
        let mut next = SecHandle {
            dwLower: 0,
            dwUpper: 0,
        };
        let (mut attributes, mut expiry) = (0, 0);
        let known = self.context.as_ref();
        // SAFETY: credentials and context come from these functions and were not freed; the
        // target ends with a zero; `given` names memory that is only read and lives until the
        // call returns; the other places are for the answer, and `token` is as long as it says.
        let code = unsafe {
            InitializeSecurityContextW(
                &raw const self.credentials,
                known.map_or(null(), |context| &raw const *context),
                self.target.as_ptr(),
                ISC_REQ_CONNECTION,
                0,
                SECURITY_NATIVE_DREP,
                if known.is_some() {
                    &raw const given
                } else {
                    null()
                },
                0,
                &raw mut next,
                &raw mut answers,
                &raw mut attributes,
                &raw mut expiry,
            )
        };
        if code < 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        // For an existing context the same handle comes back.
        self.context = Some(next);
        let completed = match code {
            SEC_I_COMPLETE_NEEDED | SEC_I_COMPLETE_AND_CONTINUE => {
                // SAFETY: the context is the one that was just made, the list its answer.
                unsafe { CompleteAuthToken(&raw const next, &raw const answers) }
            }
            _ => SEC_E_OK,
        };
        token.truncate(usize::try_from(answer.cbBuffer).expect("32 bits fit"));
        if completed != SEC_E_OK {
            return Err(io::Error::from_raw_os_error(completed));
        }
        match code {
            SEC_E_OK
            | SEC_I_CONTINUE_NEEDED
            | SEC_I_COMPLETE_NEEDED
            | SEC_I_COMPLETE_AND_CONTINUE => Ok(token),
            other => Err(io::Error::from_raw_os_error(other)),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        if let Some(context) = &self.context {
            // SAFETY: made by `step`, freed once.
            unsafe { DeleteSecurityContext(&raw const *context) };
        }
        // SAFETY: made by `new`, freed once, after the context that uses it.
        unsafe { FreeCredentialsHandle(&raw const self.credentials) };
    }
}

fn list(buffer: &mut SecBuffer) -> SecBufferDesc {
    SecBufferDesc {
        ulVersion: SECBUFFER_VERSION,
        cBuffers: 1,
        pBuffers: buffer,
    }
}
