//! A company where users are known by Kerberos: MIT's KDC as the domain, and a squid that lets
//! only its users through (Debian's packages krb5-kdc, krb5-admin-server, krb5-user, squid).

use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::process::{Process, free_port, output, wait_for};

/// The company's domain.
pub const REALM: &str = "KAISHA.TEST";
/// A user of it.
pub const USER: &str = "jimu";
const PASSWORD: &str = "himitsu";
/// The proxy's name in the domain.
const SERVICE: &str = "HTTP/localhost";
/// How long a program may take to listen, in seconds.
const START_PATIENCE_S: u64 = 20;

/// The domain and its proxy, on loopback.
#[derive(Debug)]
pub struct Company {
    folder: tempfile::TempDir,
    proxy_port: u16,
    _kdc: Process,
    _squid: Process,
}

impl Company {
    /// Starts both; nobody is signed in. `hosts` are names that the proxy knows and nobody
    /// else does.
    ///
    /// # Errors
    /// If a program is not installed or does not start.
    pub async fn start(hosts: &str) -> Result<Self> {
        // Squid gives up root, reads its key and writes its log.
        let folder = tempfile::tempdir()?;
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open)?;
        let at = |name: &str| folder.path().join(name);
        let (kdc_port, proxy_port) = (free_port()?, free_port()?);
        std::fs::write(
            at("krb5.conf"),
            format!(
                "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n \
                 dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n\
                 [realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{kdc_port}\n }}\n\
                 [domain_realm]\n localhost = {REALM}\n",
            ),
        )?;
        std::fs::write(
            at("kdc.conf"),
            format!(
                "[kdcdefaults]\n kdc_listen = 127.0.0.1:{kdc_port}\n kdc_tcp_listen = 127.0.0.1:{kdc_port}\n\
                 [realms]\n {REALM} = {{\n  database_name = {}\n  key_stash_file = {}\n  acl_file = {}\n }}\n",
                at("principal").display(),
                at("stash").display(),
                at("acl").display(),
            ),
        )?;
        let told = |program: &str| {
            let mut command = Command::new(program);
            command
                .env("KRB5_CONFIG", at("krb5.conf"))
                .env("KRB5_KDC_PROFILE", at("kdc.conf"));
            command
        };
        output(told("kdb5_util").args(["create", "-s", "-r", REALM, "-P", PASSWORD]))
            .context("Debian's package krb5-kdc")?;
        let keytab = at("proxy.keytab");
        for query in [
            format!("addprinc -pw {PASSWORD} {USER}"),
            format!("addprinc -randkey {SERVICE}"),
            format!("ktadd -k {} {SERVICE}", keytab.display()),
        ] {
            output(told("kadmin.local").args(["-r", REALM, "-q", &query]))
                .context("Debian's package krb5-admin-server")?;
        }
        std::fs::set_permissions(&keytab, std::fs::Permissions::from_mode(0o644))?;
        let mut command = told("krb5kdc");
        command.args(["-n", "-P"]).arg(at("kdc.pid"));
        let mut kdc = Process::start("kdc", folder.path(), &mut command)?;
        listens(&mut kdc, kdc_port).await?;

        let config = at("squid.conf");
        std::fs::write(at("hosts"), hosts)?;
        std::fs::write(
            &config,
            format!(
                "http_port 127.0.0.1:{proxy_port}\n\
                 auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k {} -s {SERVICE}@{REALM}\n\
                 auth_param negotiate children 1\n\
                 auth_param negotiate keep_alive on\n\
                 acl known proxy_auth REQUIRED\n\
                 http_access allow known\n\
                 http_access deny all\n\
                 hosts_file {}\n\
                 pid_filename none\n\
                 netdb_filename none\n\
                 cache deny all\n\
                 cache_mem 0 MB\n\
                 logformat answered %>Hs %rm %ru %un\n\
                 access_log stdio:{} answered\n\
                 cache_log /dev/null\n\
                 coredump_dir none\n\
                 shutdown_lifetime 0 seconds\n",
                keytab.display(),
                at("hosts").display(),
                at("access.log").display(),
            ),
        )?;
        let mut command = told("squid");
        command.args(["-N", "-d", "1", "-f"]).arg(&config);
        let mut squid = Process::start("squid", folder.path(), &mut command)
            .context("squid (Debian's package squid)")?;
        listens(&mut squid, proxy_port).await?;
        Ok(Self {
            folder,
            proxy_port,
            _kdc: kdc,
            _squid: squid,
        })
    }

    /// Where programs find the proxy, by the name that the domain knows it under.
    pub fn proxy(&self) -> String {
        format!("http://localhost:{}", self.proxy_port)
    }

    /// What a program of a PC in this domain finds in its environment.
    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        let at = |name: &str| self.folder.path().join(name);
        [
            ("KRB5_CONFIG", at("krb5.conf")),
            ("KRB5CCNAME", at("tickets")),
        ]
    }

    /// Signs the user in at the PC.
    ///
    /// # Errors
    /// If the domain does not let him.
    pub fn sign_in(&self) -> Result<()> {
        let mut kinit = Command::new("kinit")
            .arg(USER)
            .envs(self.variables())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("Debian's package krb5-user")?;
        let mut input = kinit.stdin.take().context("a pipe")?;
        writeln!(input, "{PASSWORD}")?;
        drop(input);
        ensure!(kinit.wait()?.success(), "kinit failed");
        Ok(())
    }

    /// What the proxy has answered: status, method, address and user of each request.
    ///
    /// # Errors
    /// If there is no log.
    pub fn answered(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.folder.path().join("access.log"))?;
        // Whoever only looks whether it listens asks nothing.
        let asked = log.lines().filter(|line| line.contains(" CONNECT "));
        Ok(asked.map(str::to_owned).collect())
    }
}

async fn listens(process: &mut Process, port: u16) -> Result<()> {
    wait_for("a program to listen", START_PATIENCE_S, async || {
        process.check_running()?;
        let open = TcpStream::connect(("127.0.0.1", port)).is_ok();
        Ok(open.then_some(()))
    })
    .await
}
