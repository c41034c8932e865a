//! A wish for a window: how it gets from the desk to whoever opens windows, and back.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{DeskError, Landing};
use crate::store::profiles::ProfileId;

/// How long a window may take to come up. Who asked over the control channel waits a little
/// longer than this.
pub(super) const WINDOW_LIMIT: Duration = Duration::from_secs(20);

/// A wish to bring a window up.
#[derive(Debug)]
pub struct WindowRequest {
    /// Whose window.
    pub profile: ProfileId,
    /// What it shows first.
    pub landing: Landing,
    /// Only tell its address.
    pub no_browser: bool,
    /// Takes the window's address, or the sentence why there is none.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// Hands a wish over and waits for what becomes of it, for `limit` at most.
///
/// # Errors
/// [`DeskError::NoWindow`] with the sentence why there is none.
pub(super) async fn fulfil(
    windows: &mpsc::Sender<WindowRequest>,
    profile: ProfileId,
    landing: Landing,
    no_browser: bool,
    limit: Duration,
) -> Result<String, DeskError> {
    let none = || DeskError::NoWindow("実行中の連携には画面がありません。".to_owned());
    let (reply, answer) = oneshot::channel();
    let request = WindowRequest {
        profile,
        landing,
        no_browser,
        reply,
    };
    let answered = async {
        windows.send(request).await.map_err(|_| none())?;
        let answer = answer.await.map_err(|_| none())?;
        answer.map_err(DeskError::NoWindow)
    };
    let late = |_| {
        let sentence =
            "画面を開くのに時間がかかっています。しばらくしてからもう一度お試しください。";
        Err(DeskError::NoWindow(sentence.to_owned()))
    };
    tokio::time::timeout(limit, answered)
        .await
        .unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn wish(
        windows: &mpsc::Sender<WindowRequest>,
        limit: Duration,
    ) -> Result<String, String> {
        let answered = fulfil(windows, ProfileId::FIRST, Landing::Profile, false, limit).await;
        answered.map_err(|error| error.page_text())
    }

    #[tokio::test]
    async fn who_asks_for_a_window_is_answered_whatever_becomes_of_the_wish() {
        let (sender, mut wishes) = mpsc::channel(1);
        let asked = async {
            let shown = wish(&sender, WINDOW_LIMIT).await;
            assert_eq!(shown.unwrap(), "http://window/");
            wish(&sender, WINDOW_LIMIT).await.unwrap_err()
        };
        let looked_at = async {
            let request: WindowRequest = wishes.recv().await.unwrap();
            request.reply.send(Ok("http://window/".into())).unwrap();
            drop(wishes.recv().await.unwrap());
        };
        let (none, ()) = tokio::join!(asked, looked_at);
        assert!(none.contains("画面がありません"), "{none}");

        // Nobody looks: neither the wish that lies there nor those that find no room wait on.
        for _ in 0..3 {
            let late = wish(&sender, Duration::from_millis(10)).await.unwrap_err();
            assert!(late.contains("時間がかかって"), "{late}");
        }
        drop(wishes);
        let none = wish(&sender, WINDOW_LIMIT).await.unwrap_err();
        assert!(none.contains("画面がありません"), "{none}");
    }
}
