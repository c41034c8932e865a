//! The channel between two runs of the agent: `status`, `connect`, `disconnect`, `open` and
//! `enrol` typed while an agent is running go to that one.
//!
//! One JSON object a line, each way, over a channel that only this user can open (see
//! [`crate::os`]). There is no such channel over TCP.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::EstablishmentNumber;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::sync::Semaphore;

use crate::agent::{Agent, Command};
use crate::desk::{Choice, Desk, DeskError};
use crate::enrolment::Application;
use crate::os::{self, ControlListener, ControlStream};
use crate::status::StatusReport;
use crate::store::Store;
use crate::store::profiles::ProfileId;
use crate::urls::GatewayUrl;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

/// Longest line, in bytes.
const LINE_LIMIT_BYTES: u64 = 64 * 1024;

/// How long the other side may take for a line.
const LINE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often, and after which pause, a channel that is not there yet is tried again.
const CONNECT_TRIES: u32 = 20;
const CONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Runs of the agent that are served at a time.
const MAX_CONNECTIONS: usize = 16;

/// How long the picture may take to show what was just done.
const PICTURE_LIMIT: Duration = Duration::from_secs(5);

/// Lines in one connection.
const MAX_LINES: usize = 1000;

/// What can be asked. Without a `profile` the only one is meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How things stand.
    Status {
        /// With which profile.
        #[serde(default)]
        profile: Option<Choice>,
    },
    /// How things stand with every profile.
    Profiles,
    /// Ask for a session.
    Connect {
        /// For which profile.
        #[serde(default)]
        profile: Option<Choice>,
    },
    /// End the session.
    Disconnect {
        /// Of which profile.
        #[serde(default)]
        profile: Option<Choice>,
    },
    /// End the agent with all its profiles.
    Quit,
    /// Bring the window up.
    Open {
        /// Of which profile; without one and with several, the list.
        #[serde(default)]
        profile: Option<Choice>,
        /// Only tell its address.
        no_browser: bool,
        /// Show the documents in this zip, which this user may read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<PathBuf>,
    },
    /// Ask the fund to register this PC.
    Enrol {
        /// In which profile, if not in the one that suits.
        #[serde(default)]
        profile: Option<Choice>,
        /// Where.
        gateway: GatewayUrl,
        /// For which establishment.
        establishment: EstablishmentNumber,
        /// The registration code.
        code: String,
    },
    /// Erase a profile.
    Remove {
        /// Which.
        profile: ProfileId,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Reply {
    /// Done, or under way; this is how things stand now.
    Status(Box<StatusReport>),
    /// How things stand with every profile.
    Profiles {
        /// Whether this run stays: it serves a window, or a session.
        stays: bool,
        /// By number.
        profiles: Vec<StatusReport>,
    },
    /// The window's address.
    Window {
        /// With the launch token.
        url: String,
    },
    /// Not done.
    Failed {
        /// Why, for the user.
        sentence: String,
    },
}

/// This run is the one that holds the data folder.
#[derive(Debug)]
pub struct Instance {
    listener: ControlListener,
    _lock: File,
}

/// What became of the try to hold the data folder.
#[derive(Debug)]
pub enum Claim {
    /// This run holds it.
    Ours(Instance),
    /// Another run does, and this is the channel to it.
    Theirs(Client),
}

/// A channel to the running agent.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
}

/// Makes this run the one that holds the data folder, or finds the one that does.
pub fn claim(store: &Store) -> io::Result<Claim> {
    os::create_private_dir(&store.run_dir())?;
    let path = store.run_dir().join("control");
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(store.run_dir().join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Claim::Ours(Instance {
            listener: ControlListener::bind(&path)?,
            _lock: lock,
        })),
        Err(TryLockError::WouldBlock) => Ok(Claim::Theirs(Client { path })),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Client {
    /// Asks the running agent.
    pub async fn ask(&self, request: &Request) -> io::Result<Reply> {
        let exchange = async {
            let mut stream = self.connect().await?;
            let mut line = serde_json::to_vec(request)?;
            line.push(b'\n');
            stream.write_all(&line).await?;
            let answer = read_line(&mut BufReader::new(stream)).await?;
            Ok(serde_json::from_slice(&answer)?)
        };
        tokio::time::timeout(LINE_TIMEOUT, exchange).await?
    }

    /// Connects; an agent that has just started may not listen yet.
    async fn connect(&self) -> io::Result<ControlStream> {
        let mut tries = 0;
        loop {
            match os::connect_control(&self.path).await {
                Err(error)
                    if tries < CONNECT_TRIES
                        && matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                        ) =>
                {
                    tries += 1;
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
                connected => return connected,
            }
        }
    }
}

impl Instance {
    /// Serves other runs until dropped.
    pub async fn serve(self, desk: Desk) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a control connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let desk = desk.clone();
            tokio::spawn(async move {
                if let Err(error) = serve_stream(stream, desk).await {
                    tracing::debug!(%error, "control connection ended");
                }
                drop(slot);
            });
        }
    }
}

async fn serve_stream(stream: ControlStream, desk: Desk) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    for _ in 0..MAX_LINES {
        let line = tokio::time::timeout(LINE_TIMEOUT, read_line(&mut stream)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(request) => answer(request, &desk)
                .await
                .unwrap_or_else(|error| Reply::Failed {
                    sentence: error.page_text(),
                }),
            Err(error) => Reply::Failed {
                sentence: format!("not a request: {error}"),
            },
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
    }
    Ok(())
}

async fn answer(request: Request, desk: &Desk) -> Result<Reply, DeskError> {
    match request {
        Request::Status { profile } => {
            let (id, agent) = desk.choose(profile)?;
            Ok(status(id, &agent))
        }
        Request::Profiles => Ok(Reply::Profiles {
            stays: desk.stays(),
            profiles: desk.profiles().into_iter().map(|p| p.report).collect(),
        }),
        Request::Connect { profile } => {
            let (id, agent) = desk.choose(profile)?;
            if !agent.view().state.may_connect() && agent.view().session().is_none() {
                let why = crate::commands::cannot_connect(agent.report().state);
                return Err(DeskError::Refused(why.to_owned()));
            }
            if desk.stays() {
                desk.serve(id).await?;
            }
            agent.tell(Command::Connect).await;
            Ok(status(id, &agent))
        }
        Request::Disconnect { profile } => {
            let (id, agent) = desk.choose(profile)?;
            agent.tell(Command::Disconnect).await;
            agent
                .wait_for(PICTURE_LIMIT, |view| view.session().is_none())
                .await;
            Ok(status(id, &agent))
        }
        Request::Quit => {
            desk.want_end();
            Ok(Reply::Profiles {
                stays: false,
                profiles: Vec::new(),
            })
        }
        Request::Open {
            profile,
            no_browser,
            file,
        } => {
            let (id, landing) = desk.landing_with(profile, file.as_deref()).await?;
            let url = desk.bring_up(id, landing, no_browser).await?;
            Ok(Reply::Window { url })
        }
        Request::Enrol {
            profile,
            gateway,
            establishment,
            code,
        } => {
            let application = Application {
                gateway,
                establishment,
                code,
            };
            let id = desk.enrol(profile, application).await?;
            let (id, agent) = desk.choose(Some(Choice::Id(id)))?;
            Ok(status(id, &agent))
        }
        Request::Remove { profile } => {
            let (id, agent) = desk.choose(Some(Choice::Id(profile)))?;
            desk.remove(id).await?;
            Ok(status(id, &agent))
        }
    }
}

fn status(id: ProfileId, agent: &Agent) -> Reply {
    Reply::Status(Box::new(StatusReport {
        profile: Some(id),
        ..agent.report()
    }))
}

/// Reads one line without its end. Empty at the end of the stream.
async fn read_line(stream: &mut BufReader<ControlStream>) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut bounded = (&mut *stream).take(LINE_LIMIT_BYTES);
    bounded.read_until(b'\n', &mut line).await?;
    match line.pop() {
        None | Some(b'\n') => Ok(line),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "line is cut or too long",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).unwrap();
        (folder, store)
    }

    #[tokio::test]
    async fn one_run_holds_the_folder_and_its_end_frees_it() {
        let (_folder, store) = store();
        let first = claim(&store).unwrap();
        assert!(matches!(first, Claim::Ours(_)));
        assert!(matches!(claim(&store).unwrap(), Claim::Theirs(_)));
        drop(first);
        assert!(matches!(claim(&store).unwrap(), Claim::Ours(_)));
    }

    #[tokio::test]
    async fn a_run_that_is_gone_before_it_answers_has_ended_all_the_same() {
        let (_folder, store) = store();
        let Claim::Ours(instance) = claim(&store).unwrap() else {
            panic!("nobody else runs");
        };
        let quitting = tokio::spawn(crate::commands::quit(store.clone()));
        let mut stream = BufReader::new(instance.listener.accept().await.unwrap());
        let asked = read_line(&mut stream).await.unwrap();
        assert!(matches!(serde_json::from_slice(&asked), Ok(Request::Quit)));
        drop(stream);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!quitting.is_finished(), "it has not ended yet");
        drop(instance);
        quitting.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_line_is_bounded_and_must_be_whole() {
        let (a, mut b) = ControlStream::pair().unwrap();
        let mut reader = BufReader::new(a);
        b.write_all(b"{}\n").await.unwrap();
        assert_eq!(read_line(&mut reader).await.unwrap(), b"{}");
        let writer = tokio::spawn(async move {
            b.write_all(&vec![b'x'; 70_000]).await.unwrap();
        });
        assert!(read_line(&mut reader).await.is_err());
        drop(reader);
        let _ = writer.await;
        let (a, mut b) = ControlStream::pair().unwrap();
        b.write_all(b"cut").await.unwrap();
        drop(b);
        assert!(read_line(&mut BufReader::new(a)).await.is_err());
    }
}
