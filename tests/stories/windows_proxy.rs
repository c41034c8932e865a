//! The agent for Windows behind a company's proxy that knows users by Kerberos: the system's
//! security package (SSPI) speaks for whoever is signed in, and no password is asked for. The
//! proxy stands in Windows' own settings, not in the agent's.

use std::sync::Arc;

use anyhow::{Result, ensure};
use renkei_tests::kerberos::{Company, REALM, USER};
use renkei_tests::process::{free_port, run};
use renkei_tests::stage::ESTABLISHMENT_NUMBER;
use renkei_tests::wine::Prefix;
use renkei_tests::{Front, OfficePages, Stage, StageOptions};

/// The gateway's name, which only the proxy knows: there is no other way to it.
const GATEWAY_HOST: &str = "gw.renkei.test";

/// Where Windows keeps this user's connections, as its own programs write them down.
const CONNECTIONS: &str =
    r"HKCU\Software\Microsoft\Windows\CurrentVersion\Internet Settings\Connections";

/// Bits of [`CONNECTIONS`]: the straight way, and the proxy that is named.
const DIRECT_OR_PROXY: u32 = 1 | 2;

/// Does what a user does who enters a proxy and its exceptions in Windows' settings. Windows'
/// settings show `ProxyServer` beside it; WinHTTP reads this.
fn set_proxy(prefix: &Prefix, proxy: &str, exceptions: &str) -> Result<()> {
    let mut value = Vec::new();
    // The form, and how often it was changed.
    for number in [0x46_u32, 1, DIRECT_OR_PROXY] {
        value.extend(number.to_le_bytes());
    }
    // The proxy, the exceptions, and the address of a script: none.
    for text in [proxy, exceptions, ""] {
        value.extend(u32::try_from(text.len())?.to_le_bytes());
        value.extend(text.as_bytes());
    }
    value.extend([0; 32]);
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = ["/v", "DefaultConnectionSettings", "/t", "REG_BINARY"];
    prefix.register(CONNECTIONS, &[&name[..], &["/d", &hex]].concat())
}

// Several threads: while a program under Wine is waited for, connections to the portal end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_wants_negotiate_gets_the_user_who_is_signed_in() -> Result<()> {
    let company = Company::start(&format!("127.0.0.1 localhost {GATEWAY_HOST}\n")).await?;
    let tls_port = free_port()?;
    let front = Front {
        hosts: vec![GATEWAY_HOST.to_owned()],
        tls_port,
        endpoints: vec![([127, 0, 0, 1], free_port()?).into()],
    };
    let stage = Stage::start(StageOptions {
        front: Some(front),
        ..StageOptions::default()
    })
    .await?;
    let prefix = Prefix::new(&stage.folder().join("wine"))?.with(company.variables());
    let prefix = Arc::new(prefix);
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;
    let letter = office.register().await?;
    let mut agent = stage.windows_agent("pc-windows", &prefix).await?;
    let proxy = company.proxy().replace("http://", "");

    // For a host among the exceptions nobody asks the proxy, and there is no other way to it.
    let code = &letter.registration_code;
    let words = ["--establishment", ESTABLISHMENT_NUMBER, "--code", code];
    let enrol = || run(agent.command(&["enrol", "--no-wait"]).args(words));
    for exceptions in ["<local>;gw.renkei.*", "*.renkei.test"] {
        set_proxy(&prefix, &proxy, exceptions)?;
        let asked = enrol()?;
        ensure!(asked.status.code() == Some(1), "{asked:?}");
        let answered = company.answered()?;
        ensure!(answered.is_empty(), "{exceptions}: {answered:#?}");
    }
    set_proxy(&prefix, &proxy, "<local>;*.intra.test")?;

    // Nobody is signed in: a sentence, and the code is not used up.
    let asked = enrol()?;
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    ensure!(asked.status.code() == Some(1), "{asked:?}");
    ensure!(said.contains("プロキシ"), "{said}");
    let answered = company.answered()?;
    ensure!(
        answered.iter().all(|line| line.starts_with("407 CONNECT")),
        "{answered:#?}"
    );

    company.sign_in()?;
    office.enrol_agent(&mut agent, code).await?;
    agent.connect().await?;
    let through = format!("CONNECT {GATEWAY_HOST}:{tls_port} {USER}@{REALM}");
    let answered = company.answered()?;
    ensure!(
        answered
            .iter()
            .any(|line| line.starts_with("200 ") && line.contains(&through)),
        "no {through} in {answered:#?}"
    );
    // What connects without a name is turned away, each time.
    ensure!(
        answered
            .iter()
            .all(|line| line.contains(&through) || line.starts_with("407 ")),
        "{answered:#?}"
    );
    Ok(())
}
