//! nginx in place of the portal: pages over TLS that cost next to nothing.
//!
//! One listener for clients that come straight, one for the gateway with its PROXY header.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::{Process, free_port, wait_for};
use crate::stage::MEMBER_HOST;

/// Path of the small page.
pub(super) const SMALL_PAGE: &str = "small";

/// Path of the file for downloads.
pub(super) const BIG_FILE: &str = "big";

/// Path of a file for downloads over slow lines.
pub(super) const LINE_FILE: &str = "line";

/// Path that takes uploads.
pub(super) const UPLOAD: &str = "upload";

/// Where uploads and the big file lie: not on a disk, which is not what is measured.
const MEMORY: &str = "/dev/shm";

/// A running nginx.
#[derive(Debug)]
pub(super) struct Nginx {
    straight_port: u16,
    gateway_port: u16,
    certificate: PathBuf,
    root: tempfile::TempDir,
    process: Process,
}

impl Nginx {
    /// Starts it on all addresses of the namespace this runs in.
    pub(super) async fn start(folder: &Path) -> Result<Self> {
        ensure!(
            Path::new("/usr/sbin/nginx").exists(),
            "no /usr/sbin/nginx: run scripts/install-packages bench"
        );
        let files = folder.join("nginx");
        std::fs::create_dir_all(&files)?;
        let root = tempfile::Builder::new()
            .prefix("renkei-bench-")
            .tempdir_in(MEMORY)?;
        let (straight_port, gateway_port) = (free_port()?, free_port()?);
        let made =
            rcgen::generate_simple_self_signed([MEMBER_HOST.to_owned(), "localhost".to_owned()])?;
        let (certificate, key) = (files.join("server.pem"), files.join("server.key"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        std::fs::write(root.path().join(SMALL_PAGE), "hello")?;
        let config = files.join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log {0}/error.log; user root;
                 events {{ worker_connections 256; }}
                 http {{ access_log off; client_max_body_size 0; keepalive_requests 100000; tcp_nodelay on;
                   client_body_temp_path {1}/body; client_body_buffer_size 1m;
                   proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;
                   ssl_certificate {2}; ssl_certificate_key {3}; ssl_protocols TLSv1.3;
                   server {{ listen 0.0.0.0:{straight_port} ssl; listen 0.0.0.0:{gateway_port} ssl proxy_protocol;
                     root {1}; location / {{ dav_methods PUT DELETE; }} }} }}",
                files.display(),
                root.path().display(),
                certificate.display(),
                key.display(),
            ),
        )?;
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&config).arg("-p").arg(&files);
        let mut process = Process::start("nginx", &files, &mut command)?;
        wait_for("nginx", 10, async || {
            process.check_running()?;
            let up = std::net::TcpStream::connect(("127.0.0.1", straight_port));
            Ok(up.is_ok().then_some(()))
        })
        .await?;
        Ok(Self {
            straight_port,
            gateway_port,
            certificate,
            root,
            process,
        })
    }

    /// The port for clients without a tunnel of ours.
    pub(super) fn straight_port(&self) -> u16 {
        self.straight_port
    }

    /// What the gateway takes for the portal's member listener.
    pub(super) fn for_gateway(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.gateway_port).into()
    }

    /// The certificate that clients must trust.
    pub(super) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Where files for uploads can be put so that reading them costs no disk.
    pub(super) fn memory(&self) -> &Path {
        self.root.path()
    }

    /// The process; its worker is a child of it.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }
}
