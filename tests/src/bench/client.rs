//! The client of all contestants: curl on the PC.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::namespaces::Namespaces;
use super::nginx::{SMALL_PAGE, UPLOAD};
use crate::process::output;
use crate::stage::MEMBER_HOST;

/// Longest that one transfer may take, in seconds.
const LIMIT_S: u32 = 120;

/// How a contestant's client reaches the fund's web server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// At this address, which may be inside a tunnel.
    Straight(SocketAddr),
    /// Through the agent's loopback proxy.
    Proxy(SocketAddr),
}

/// curl with what it needs to reach the server one way.
#[derive(Debug)]
pub(super) struct Client<'a> {
    /// Where the PC is.
    pub(super) namespaces: &'a Namespaces,
    /// How the server is reached.
    pub(super) way: Way,
    /// Whom to trust.
    pub(super) certificate: PathBuf,
}

impl Client<'_> {
    /// Uploads a file; returns the seconds from the start of the connection to the answer.
    pub(super) fn upload(&self, file: &Path) -> Result<f64> {
        one(&times(&mut self.uploading(file))?)
    }

    /// Begins an upload that goes on beside what is done next; the caller ends it.
    pub(super) fn begin_upload(&self, file: &Path) -> Result<Child> {
        Ok(self.uploading(file).stdout(Stdio::null()).spawn()?)
    }

    /// Downloads a file; returns the seconds.
    pub(super) fn download(&self, file: &str) -> Result<f64> {
        let mut curl = self.curl();
        one(&times(curl.args(["-o", "/dev/null"]).arg(url(file)))?)
    }

    /// Asks for the small page on a connection of its own; returns the seconds.
    pub(super) fn page(&self) -> Result<f64> {
        self.download(SMALL_PAGE)
    }

    fn uploading(&self, file: &Path) -> Command {
        let mut curl = self.curl();
        curl.arg("-T")
            .arg(file)
            .args(["-H", "Expect:", "-o", "/dev/null"])
            .arg(url(UPLOAD));
        curl
    }

    /// Asks for the small page again and again on one connection; returns the mean seconds of
    /// a request behind the first, which opens the connection.
    pub(super) fn small(&self, requests: usize) -> Result<f64> {
        let mut curl = self.curl();
        let address = format!("{}?[0-{requests}]", url(SMALL_PAGE));
        let all = times(curl.args(["-o", "/dev/null"]).arg(address))?;
        ensure!(all.len() == requests + 1, "{} answers", all.len());
        Ok(all[1..].iter().sum::<f64>() / requests as f64)
    }

    fn curl(&self) -> Command {
        let mut curl = self.namespaces.on_pc("curl");
        curl.args(["-sS", "--http1.1", "-w", "%{http_code} %{time_total}\\n"])
            .args(["--max-time", &LIMIT_S.to_string()])
            .arg("--cacert")
            .arg(&self.certificate);
        match self.way {
            Way::Straight(address) => curl
                .args(["--noproxy", "*", "--connect-to"])
                .arg(format!("{MEMBER_HOST}:443:{address}")),
            Way::Proxy(proxy) => curl.arg("--proxy").arg(format!("http://{proxy}")),
        };
        curl
    }
}

fn url(path: &str) -> String {
    format!("https://{MEMBER_HOST}/{path}")
}

/// What curl printed: the seconds of each transfer. All must have been answered with 2xx.
fn times(curl: &mut Command) -> Result<Vec<f64>> {
    parse_times(&output(curl)?)
}

fn parse_times(printed: &str) -> Result<Vec<f64>> {
    printed
        .lines()
        .map(|line| {
            let (code, time) = line.split_once(' ').context("code and time")?;
            ensure!(code.starts_with('2'), "the server answered {code}");
            Ok(time.parse()?)
        })
        .collect()
}

fn one(times: &[f64]) -> Result<f64> {
    ensure!(times.len() == 1, "{} answers instead of one", times.len());
    Ok(times[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_transfer_is_no_fast_one() {
        assert_eq!(parse_times("201 0.5\n204 0.25\n").unwrap(), [0.5, 0.25]);
        assert!(parse_times("503 0.001\n").is_err());
    }
}
