//! Word that travels inside this process alone: "sessions changed, look now", "a mail was queued"
//! and "stop".
//!
//! Nothing depends on the first two: whoever listens also looks by himself every second or sooner,
//! because another portal may have made the change. It only makes things immediate.

use tokio::sync::watch;

/// The signals.
#[derive(Debug)]
pub struct Signals {
    sessions: watch::Sender<u64>,
    mails: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            sessions: watch::Sender::new(0),
            mails: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        }
    }
}

impl Signals {
    /// Tells the feeds and the member listener to look at the sessions now. Call it after
    /// the commit.
    pub fn sessions_changed(&self) {
        self.sessions
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Something to await [`Signals::sessions_changed`] with.
    pub fn sessions(&self) -> watch::Receiver<u64> {
        self.sessions.subscribe()
    }

    /// Tells the outbox to look at its queue now. Call it after the commit.
    pub fn mail_queued(&self) {
        self.mails
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Something to await [`Signals::mail_queued`] with.
    pub fn mails(&self) -> watch::Receiver<u64> {
        self.mails.subscribe()
    }

    /// Tells everything that runs to come to an end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Something to await the end with.
    pub fn stopping(&self) -> Stopping {
        Stopping(self.stop.subscribe())
    }
}

/// Knows whether the process is to end.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Returns when the process is to end.
    pub async fn wait(&mut self) {
        // An error means that the sender is gone, and with it the app.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
