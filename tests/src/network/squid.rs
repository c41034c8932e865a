//! Debian's squid as the HTTP proxy of an office.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};

use super::Place;
use crate::Process;
use crate::process::wait_for;

/// How long squid may take to listen, in seconds.
const START_PATIENCE_S: u64 = 20;
/// The account of [`Squid::WITH_PASSWORD`].
pub const USER: &str = "jimu";
/// Its password, with characters that a URL must escape.
pub const PASSWORD: &str = "himitsu:7@";
/// The password as a proxy's URL writes it.
pub const PASSWORD_IN_URL: &str = "himitsu%3A7%40";

/// A running squid, with one port for each kind of office.
#[derive(Debug)]
pub struct Squid {
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Squid {
    /// Connects anybody to anything.
    pub const OPEN: u16 = 3128;
    /// Wants [`USER`] and [`PASSWORD`].
    pub const WITH_PASSWORD: u16 = 3129;
    /// Does nothing but CONNECT to port 443.
    pub const CONNECT_443: u16 = 3130;

    /// Starts squid in `place`; it finds names in the place's own `hosts` file.
    pub fn start(place: &Place) -> Result<Self> {
        // Squid gives up root and must still read its helper.
        let folder = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let helper = folder.path().join("passwords.sh");
        // One line per question: what a URL would write for user and password.
        std::fs::write(
            &helper,
            format!(
                "while read -r user password; do\n\
                 if [ \"$user\" = {USER} ] && [ \"$password\" = {PASSWORD_IN_URL} ]; then echo OK; else echo ERR; fi\n\
                 done\n"
            ),
        )?;
        let config = folder.path().join("squid.conf");
        std::fs::write(
            &config,
            format!(
                "http_port {open} name=open\n\
                 http_port {password} name=password\n\
                 http_port {connect} name=connect\n\
                 acl open myportname open\n\
                 acl password myportname password\n\
                 acl connect myportname connect\n\
                 acl CONNECT method CONNECT\n\
                 acl https port 443\n\
                 auth_param basic program /bin/sh {helper}\n\
                 auth_param basic children 1\n\
                 acl known proxy_auth REQUIRED\n\
                 http_access allow open\n\
                 http_access allow password known\n\
                 http_access allow connect CONNECT https\n\
                 http_access deny all\n\
                 hosts_file /etc/hosts\n\
                 pid_filename none\n\
                 netdb_filename none\n\
                 cache deny all\n\
                 cache_mem 0 MB\n\
                 access_log none\n\
                 cache_log /dev/null\n\
                 coredump_dir none\n\
                 shutdown_lifetime 0 seconds\n",
                open = Self::OPEN,
                password = Self::WITH_PASSWORD,
                connect = Self::CONNECT_443,
                helper = helper.display(),
            ),
        )?;
        let mut command = place.command("squid");
        command.args(["-N", "-d", "1", "-f"]).arg(&config);
        let mut process = Process::start("squid", folder.path(), &mut command)
            .context("squid (Debian's package squid)")?;
        place.run(async || {
            wait_for("squid", START_PATIENCE_S, async || {
                process.check_running()?;
                let port = Self::CONNECT_443;
                Ok(std::net::TcpStream::connect(("localhost", port))
                    .is_ok()
                    .then_some(()))
            })
            .await
        })?;
        Ok(Self {
            _process: process,
            _folder: folder,
        })
    }
}
