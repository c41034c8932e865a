//! Named pipes that only this user can open.

use std::io;

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

use crate::files::Descriptor;

/// Makes one end of the pipe `name` (`\\.\pipe\…`) that waits for the other. `first`: nobody,
/// this program included, may have made one of that name already. Other PCs cannot open it.
///
/// # Errors
/// What the system says. Must be called within a tokio runtime.
pub fn server(name: &str, first: bool) -> io::Result<NamedPipeServer> {
    let descriptor = Descriptor::for_own_user()?;
    let mut attributes = descriptor.attributes();
    let mut options = ServerOptions::new();
    options
        .first_pipe_instance(first)
        .reject_remote_clients(true);
    // SAFETY: the attributes and what they point to live until the call returns.
    unsafe { options.create_with_security_attributes_raw(name, (&raw mut attributes).cast()) }
}
