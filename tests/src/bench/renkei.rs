//! Renkei itself: the real portal and gateway at the fund, the real agent on the PC.
//!
//! For connecting, the gateway leads to the real portal with its sign-in page; for everything
//! else to nginx in its place, so that all contestants have the same web server behind them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::client::Way;
use super::namespaces::{FUND, Namespaces};
use crate::job::ADMIN_EMAIL;
use crate::network::Hook;
use crate::process::{output, wait_for};
use crate::stage::Front;
use crate::{Agent, OfficePages, Stage, StageOptions};

/// The page a user sees first, without the slash.
pub(super) const SIGN_IN_PAGE: &str = "sign-in";

/// The gateway's ports.
const TLS_PORT: u16 = 8444;
const UDP_PORT: u16 = 8444;

/// A fund with one PC.
#[derive(Debug)]
pub(super) struct Renkei {
    pub(super) stage: Stage,
    agent: Agent,
    proxy: SocketAddr,
    codes: usize,
}

impl Renkei {
    /// Sets the stage and enrols the PC; it is ready to connect.
    pub(super) async fn start(namespaces: &Namespaces, folder: &Path) -> Result<Self> {
        let options = StageOptions {
            log: "warn".into(),
            front: Some(Front {
                hosts: vec![FUND.to_string()],
                tls_port: TLS_PORT,
                endpoints: vec![(FUND, UDP_PORT).into()],
            }),
            ..StageOptions::default()
        };
        let stage = Stage::start_in(folder, options).await?;
        let office = OfficePages::open(&stage)?;
        office.sign_in(&stage).await?;
        let letter = office.register().await?;
        let mut agent = stage.agent("pc1")?;
        agent.move_to(namespaces.pc());
        let matching_code = agent.ask_to_enrol(&letter)?;
        office.approve(&matching_code).await?;
        agent.start(&["open", "--no-browser"])?;
        let status = agent.wait_state("ready").await?;
        let proxy = status["proxy"].as_str().context("a proxy")?.parse()?;
        Ok(Self {
            stage,
            agent,
            proxy,
            codes: 0,
        })
    }

    /// How clients reach the portal.
    pub(super) fn way(&self) -> Way {
        Way::Proxy(self.proxy)
    }

    /// The command behind the button 接続. Run in the PC's namespace, as all commands here.
    pub(super) fn connect_command(&self) -> Vec<String> {
        let command = self.agent.command(&["connect"]);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let mut words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        // `ip netns exec PLACE`: the measuring process is there already.
        words.drain(..4);
        words
    }

    /// Waits for the one-time password of one more session: the benchmark must not outrun
    /// the mail.
    pub(super) async fn wait_code(&mut self) -> Result<()> {
        let mailbox = self.stage.mailbox();
        mailbox.wait_code(ADMIN_EMAIL, self.codes).await?;
        self.codes += 1;
        Ok(())
    }

    /// Disconnects and waits until the next session can be asked for.
    pub(super) async fn disconnect(&mut self) -> Result<()> {
        output(&mut self.agent.command(&["disconnect"]))?;
        self.agent.wait_state("ended").await?;
        Ok(())
    }

    /// Lets the gateway lead to `member` instead of the portal, and connects again.
    pub(super) async fn lead_to(&mut self, member: SocketAddr) -> Result<()> {
        self.disconnect().await?;
        let file = self.stage.gateway_config();
        let text = std::fs::read_to_string(&file)?;
        let portal = self.stage.member_listener().to_string();
        std::fs::write(&file, text.replace(&portal, &member.to_string()))?;
        self.stage.gateway.terminate()?;
        self.stage.restart_gateway().await?;
        wait_for("the gateway to take sessions", 20, async || {
            output(&mut self.agent.command(&["connect"]))?;
            Ok(Some(()))
        })
        .await?;
        self.agent.wait_state("connected").await?;
        Ok(())
    }

    /// Blocks UDP to the gateway, as many companies do, and connects anew.
    pub(super) async fn connect_over_tls(&mut self, namespaces: &Namespaces) -> Result<()> {
        let rule = format!("udp dport {UDP_PORT} drop");
        namespaces.pc().firewall(&[(Hook::Out, &rule)])?;
        self.disconnect().await?;
        output(&mut self.agent.command(&["connect"]))?;
        let status = self.agent.wait_state("connected").await?;
        ensure!(status["transport"] == "tls", "not over TLS: {status}");
        Ok(())
    }

    /// The PC's process and the gateway's.
    pub(super) fn ends(&mut self) -> Result<(Vec<u32>, Vec<u32>)> {
        let pc = self.agent.process()?.pid();
        Ok((vec![pc], vec![self.stage.gateway.pid()]))
    }
}
