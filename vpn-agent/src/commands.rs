//! What the commands of the command line do.
//!
//! Each either speaks to the agent that runs already, over the control channel, or becomes
//! that agent itself. Standard output carries what was asked for, standard error the rest.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::agent::{Agent, Command};
use crate::cli;
use crate::config::Config;
use crate::control::{self, Claim, Client, Instance, Reply, Request};
use crate::desk::{Choice, Desk, DeskError, WindowRequest};
use crate::diagnose;
use crate::enrolment::Application;
use crate::log;
use crate::os;
use crate::session_state::State;
use crate::status::{StateName, StatusReport, View};
use crate::store::profiles::Profiles;
use crate::store::{Store, StoreError};
use crate::update::event_loop::Due;
use crate::update::staging::Place;
use crate::update::{self, take_over};

mod profiles;
mod window;
mod windows;

/// How long `connect` waits for the tunnel.
const CONNECT_LIMIT: Duration = Duration::from_secs(40);

/// How long one question about staff's decision may take.
const POLL_LIMIT: Duration = Duration::from_secs(15);

/// How often another run's status is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long a run that wants to stay waits for one that only asks something.
const PASSING_LIMIT: Duration = Duration::from_secs(5);

/// How often another run's status is looked at while staff have to decide.
const LOOK_AGAIN_PENDING: Duration = Duration::from_secs(1);

/// How long another run may take to end, with its sessions and its windows.
const QUIT_LIMIT: Duration = Duration::from_secs(15);

/// Wishes for the window that may wait.
const MAX_WINDOW_REQUESTS: usize = 4;

/// Why a command failed. The program ends with exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The sentence for the user says it all.
    #[error("{0}")]
    Told(String),
    /// The disk.
    #[error("{}", .0.page_text())]
    Store(#[from] StoreError),
    /// The profiles.
    #[error("{}", .0.page_text())]
    Desk(#[from] DeskError),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What could not be done, for the user.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> CommandError {
    move |source| CommandError::System { what, source }
}

/// Runs one command. `choice` is the profile that it is for.
pub async fn run(
    command: cli::Command,
    choice: Option<Choice>,
    config: &Config,
) -> Result<(), CommandError> {
    let store = Store::open(&config.data_dir)?;
    match command {
        cli::Command::Enrol {
            gateway,
            establishment,
            code,
            no_wait,
        } => {
            let gateway = gateway
                .or_else(|| config.gateway_url.clone())
                .ok_or_else(|| {
                    CommandError::Told("接続先を --gateway で指定してください。".to_owned())
                })?;
            let application = Application {
                gateway,
                establishment,
                code,
            };
            enrol(config, store, choice, application, no_wait).await
        }
        cli::Command::Connect => connect(config, store, choice).await,
        cli::Command::Open { no_browser, file } => {
            window::open(config, store, choice, no_browser, file).await
        }
        cli::Command::Profiles { json } => profiles::list(config, store, json).await,
        cli::Command::Remove { yes } => profiles::remove(config, store, choice, yes).await,
        cli::Command::Forget => profiles::forget(store),
        cli::Command::Status { json } => profiles::status(config, store, choice, json).await,
        cli::Command::Disconnect => disconnect(store, choice).await,
        cli::Command::Quit => quit(store).await,
        cli::Command::Diagnose { bundle } => diagnose(config, store, choice, bundle).await,
    }
}

/// The profiles in this process, with their control channel.
struct Running {
    desk: Desk,
    control: JoinHandle<()>,
}

impl Running {
    /// A run without windows: who asks it for one is told so at once.
    fn start(config: &Config, store: Store, instance: Instance) -> Result<Self, CommandError> {
        let (running, wishes) = Self::start_with_windows(config, store, instance)?;
        drop(wishes);
        Ok(running)
    }

    /// A run that opens windows, and the wishes for them: whoever asks waits until they are
    /// looked at.
    fn start_with_windows(
        config: &Config,
        store: Store,
        instance: Instance,
    ) -> Result<(Self, mpsc::Receiver<WindowRequest>), CommandError> {
        log::keep_in(&config.data_dir);
        tracing::info!(version = update::running_version_text(), "started");
        let (sender, wishes) = mpsc::channel(MAX_WINDOW_REQUESTS);
        let desk = Desk::start(config, store, sender)?;
        let control = tokio::spawn(instance.serve(desk.clone()));
        Ok((Self { desk, control }, wishes))
    }

    /// From now on a signal to end the process ends this run instead, cleanly.
    fn end_on_signal(&self) -> Result<(), CommandError> {
        let listened = os::EndSignal::listen();
        let mut signal = listened.map_err(system("終了の合図を待てませんでした"))?;
        let desk = self.desk.clone();
        tokio::spawn(async move {
            signal.heard().await;
            desk.want_end();
        });
        Ok(())
    }

    /// Starts to look after updates, if there is a key to believe them under.
    fn watch_updates(&self, config: &Config) -> Option<Due> {
        let key = config.update_key?;
        let place = Place::new(take_over::program(), &config.data_dir);
        Some(update::event_loop::watch_over(
            self.desk.clone(),
            place,
            key,
        ))
    }

    /// Ends cleanly: the gateways and the portals are told.
    async fn end(self) {
        self.desk.end().await;
        self.control.abort();
    }
}

/// Asks something of the profiles in this process, which then ends.
async fn with_running<T>(
    running: Running,
    question: impl AsyncFnOnce(&Desk) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let answer = question(&running.desk).await;
    running.end().await;
    answer
}

fn claim(store: &Store) -> Result<Claim, CommandError> {
    control::claim(store).map_err(system("実行中の連携を確認できませんでした"))
}

/// Like [`claim`], for a run that wants to stay. A run that only asks something (`status`)
/// holds the folder for a moment, and is waited for.
async fn claim_to_stay(store: &Store) -> Result<Claim, CommandError> {
    let mut waited = Duration::ZERO;
    loop {
        let claimed = claim(store)?;
        if let Claim::Theirs(client) = &claimed
            && waited < PASSING_LIMIT
            && !stays(client).await
        {
            tokio::time::sleep(LOOK_AGAIN).await;
            waited += LOOK_AGAIN;
            continue;
        }
        return Ok(claimed);
    }
}

async fn stays(client: &Client) -> bool {
    let answer = ask(client, &Request::Profiles).await;
    matches!(answer, Ok(Reply::Profiles { stays: true, .. }))
}

/// Standard output may be a closed pipe; that is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

async fn enrol(
    config: &Config,
    store: Store,
    choice: Option<Choice>,
    application: Application,
    no_wait: bool,
) -> Result<(), CommandError> {
    match claim(&store)? {
        Claim::Theirs(client) => enrol_through(&client, choice, application, no_wait).await,
        Claim::Ours(instance) => {
            let running = Running::start(config, store, instance)?;
            running.end_on_signal()?;
            let result = tokio::select! {
                result = enrol_here(&running.desk, choice, application, no_wait) => result,
                () = running.desk.end_wanted() => Ok(()),
            };
            running.end().await;
            result
        }
    }
}

async fn enrol_here(
    desk: &Desk,
    choice: Option<Choice>,
    application: Application,
    no_wait: bool,
) -> Result<(), CommandError> {
    let id = desk.enrol(choice, application).await?;
    let (_, mut agent) = desk.choose(Some(Choice::Id(id)))?;
    show_matching_code(&agent.report());
    if no_wait {
        return Ok(());
    }
    let report = loop {
        let report = agent.report();
        if report.state != StateName::Pending {
            break report;
        }
        if !agent.changed().await {
            break agent.report();
        }
    };
    enrolled(&report)
}

async fn enrol_through(
    client: &Client,
    choice: Option<Choice>,
    application: Application,
    no_wait: bool,
) -> Result<(), CommandError> {
    let request = Request::Enrol {
        profile: choice,
        gateway: application.gateway,
        establishment: application.establishment,
        code: application.code,
    };
    let mut report = expect_status(ask(client, &request).await?)?;
    show_matching_code(&report);
    if no_wait {
        return Ok(());
    }
    let profile = report.profile.map(Choice::Id);
    while report.state == StateName::Pending {
        tokio::time::sleep(LOOK_AGAIN_PENDING).await;
        report = expect_status(ask(client, &Request::Status { profile }).await?)?;
    }
    enrolled(&report)
}

fn show_matching_code(report: &StatusReport) {
    if let Some(code) = &report.matching_code {
        say(&format!("照合番号: {code}"));
        eprintln!(
            "基金事務局へお電話のうえ、この照合番号をお伝えください。承認されるまでお待ちください。"
        );
    }
}

fn enrolled(report: &StatusReport) -> Result<(), CommandError> {
    match report.state {
        StateName::Ready => {
            say(
                "登録が承認されました。「vpn-agent open」または「vpn-agent connect」で接続できます。",
            );
            Ok(())
        }
        StateName::Unenrolled
        | StateName::Pending
        | StateName::Connecting
        | StateName::Connected
        | StateName::Refused
        | StateName::Ended => Err(CommandError::Told(
            report
                .reason
                .clone()
                .unwrap_or_else(|| "登録は完了していません。".to_owned()),
        )),
    }
}

async fn connect(
    config: &Config,
    store: Store,
    choice: Option<Choice>,
) -> Result<(), CommandError> {
    match claim_to_stay(&store).await? {
        Claim::Theirs(client) => connect_through(&client, choice).await,
        Claim::Ours(instance) => {
            let running = Running::start(config, store, instance)?;
            running.end_on_signal()?;
            // Fetched only: what is ready takes over when the window is opened.
            let _due = running.watch_updates(config);
            let result = tokio::select! {
                result = connect_here(&running.desk, choice) => result,
                () = running.desk.end_wanted() => Ok(()),
            };
            running.end().await;
            result
        }
    }
}

async fn connect_through(client: &Client, profile: Option<Choice>) -> Result<(), CommandError> {
    let mut report = expect_status(ask(client, &Request::Connect { profile }).await?)?;
    let mut waited = Duration::ZERO;
    // The wish may not have been taken up yet: rest states are believed after one look.
    while waited < CONNECT_LIMIT
        && (waited < LOOK_AGAIN * 2 || report.state == StateName::Connecting)
        && report.state != StateName::Connected
    {
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
        report = expect_status(ask(client, &Request::Status { profile }).await?)?;
    }
    connected(&report)
}

async fn connect_here(desk: &Desk, choice: Option<Choice>) -> Result<(), CommandError> {
    let (id, mut agent) = desk.choose(choice)?;
    desk.serve(id).await?;
    wait_for_decision(&agent).await;
    if !agent.view().state.may_connect() {
        return Err(CommandError::Told(match agent.report().reason {
            Some(reason) => reason,
            None => cannot_connect(agent.report().state).to_owned(),
        }));
    }
    let before = agent.view().state;
    agent.tell(Command::Connect).await;
    let settled = |view: &View| {
        view.state != before && !matches!(view.state, State::Asking | State::Linking(_))
    };
    agent.wait_for(CONNECT_LIMIT, settled).await;
    connected(&agent.report())?;
    while agent.changed().await && agent.view().session().is_some() {
        if let Some(notice) = agent.view().notice {
            eprintln!("{}", notice.page_text());
            agent.tell(Command::DismissNotice).await;
        }
    }
    eprintln!("{}", agent.report().reason.unwrap_or_default());
    // Sessions of other profiles that were asked for meanwhile end in their own time.
    let mut changes = desk.changes();
    while desk.is_busy() && changes.changed().await.is_ok() {}
    Ok(())
}

fn connected(report: &StatusReport) -> Result<(), CommandError> {
    if report.state != StateName::Connected {
        return Err(CommandError::Told(report.reason.clone().unwrap_or_else(
            || "接続できませんでした。しばらくしてからもう一度お試しください。".to_owned(),
        )));
    }
    say(&report.to_text());
    Ok(())
}

/// Asks once what staff have decided, if that is open.
async fn wait_for_decision(agent: &Agent) {
    if matches!(agent.view().state, State::Pending { .. }) {
        agent.wait_for(POLL_LIMIT, |view| view.polls > 0).await;
    }
}

async fn disconnect(store: Store, profile: Option<Choice>) -> Result<(), CommandError> {
    match claim(&store)? {
        Claim::Theirs(client) => {
            let report = expect_status(ask(&client, &Request::Disconnect { profile }).await?)?;
            say(&report.to_text());
        }
        Claim::Ours(_) => say("接続していません。"),
    }
    Ok(())
}

/// Returns when the other run has ended: whoever asked may replace the program then.
pub(crate) async fn quit(store: Store) -> Result<(), CommandError> {
    let Claim::Theirs(client) = claim(&store)? else {
        say("起動していません。");
        return Ok(());
    };
    // That run may be gone before its answer is here: whether it ended is what counts.
    let asked = ask(&client, &Request::Quit).await;
    let mut waited = Duration::ZERO;
    loop {
        let seen = claim(&store);
        if let Ok(Claim::Ours(_)) = seen {
            break;
        }
        if waited >= QUIT_LIMIT {
            seen?;
            asked?;
            return Err(CommandError::Told(
                "連携が終了しません。画面を閉じてから、もう一度お試しください。".to_owned(),
            ));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        waited += LOOK_AGAIN;
    }
    say("終了しました。");
    Ok(())
}

async fn diagnose(
    config: &Config,
    store: Store,
    choice: Option<Choice>,
    bundle: Option<PathBuf>,
) -> Result<(), CommandError> {
    let chosen = Profiles::beside(store.clone()).choose(choice)?;
    let Some((id, chosen)) = chosen else {
        let unknown = choice.map(DeskError::Unknown);
        return Err(unknown.map_or_else(|| CommandError::Told(String::new()), CommandError::from));
    };
    let running = match claim(&store)? {
        Claim::Theirs(client) => {
            let profile = Some(Choice::Id(id));
            let answer = ask(&client, &Request::Status { profile }).await?;
            Some(expect_status(answer)?)
        }
        Claim::Ours(_) => None,
    };
    let findings = diagnose::run(config, &chosen, running.as_ref()).await;
    let mut well = true;
    for finding in &findings {
        say(&finding.to_string());
        well &= !finding.is_bad();
    }
    if let Some(path) = bundle {
        let bytes = diagnose::bundle::bundle(&findings, config, &chosen, running.as_ref())
            .map_err(|error| CommandError::Told(error.to_string()))?;
        os::create_private_file(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .map_err(system("診断結果のファイルを作れませんでした（同じ名前のファイルがないことをご確認ください）"))?;
        eprintln!("診断結果を {} に保存しました。", path.display());
    }
    if well {
        Ok(())
    } else {
        Err(CommandError::Told(
            "問題が見つかりました。上の「NG」の項目をご確認ください。".to_owned(),
        ))
    }
}

async fn ask(client: &Client, request: &Request) -> Result<Reply, CommandError> {
    client
        .ask(request)
        .await
        .map_err(system("実行中の連携と通信できませんでした"))
}

fn expect_status(reply: Reply) -> Result<StatusReport, CommandError> {
    match reply {
        Reply::Status(report) => Ok(*report),
        Reply::Failed { sentence } => Err(CommandError::Told(sentence)),
        Reply::Window { .. } | Reply::Profiles { .. } => Err(senseless()),
    }
}

fn senseless() -> CommandError {
    CommandError::Told("実行中の連携から正しい応答がありませんでした。".to_owned())
}

/// Why 接続 is not possible in this state.
pub fn cannot_connect(state: StateName) -> &'static str {
    match state {
        StateName::Unenrolled => {
            "このパソコンはまだ登録されていません。「vpn-agent enrol」または「vpn-agent open」で登録してください。"
        }
        StateName::Pending => "基金事務局の承認を待っています。承認されると接続できます。",
        StateName::Refused => {
            "このパソコンの登録は認められていません。基金事務局へお問い合わせください。"
        }
        StateName::Connecting | StateName::Connected => "すでに接続しています。",
        StateName::Ready | StateName::Ended => "もう一度お試しください。",
    }
}
