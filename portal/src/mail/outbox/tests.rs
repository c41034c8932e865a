//! The outbox: each mail once, later and later, and sealed while it waits.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::mail::MailPurpose;
use crate::testing::{NOW, app, databases};

/// A mail server that answers as it is told, and well when it was told nothing.
#[derive(Default)]
struct Server {
    answers: Mutex<VecDeque<SendError>>,
    taken: Mutex<Vec<Outgoing>>,
}

impl Transport for Arc<Server> {
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        if let Some(error) = self.answers.lock().unwrap().pop_front() {
            return Err(error);
        }
        self.taken.lock().unwrap().push(mail.clone());
        Ok(())
    }
}

impl Server {
    fn that_answers(answers: &[SendError]) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.iter().cloned().collect()),
            ..Self::default()
        })
    }

    fn taken(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}

fn not_now() -> SendError {
    SendError::NotNow("no connection".to_owned())
}

async fn queued(app: &App, to: &str, lifetime: Duration) -> MailId {
    let mail = Mail {
        purpose: MailPurpose::OneTimeCode,
        to: to.to_owned(),
        subject: "ワンタイムパスワード".to_owned(),
        body: "048213".to_owned(),
    };
    let mut tx = app.db.begin().await.unwrap();
    let id = queue(&mut tx, &app.keys, mail, NOW, NOW + lifetime)
        .await
        .unwrap();
    Db::commit(tx).await.unwrap();
    id
}

/// Lets the outbox work at each second until nothing is due, from now to `until`.
async fn work(app: &App, server: &Arc<Server>, until: Duration) {
    while app.clock.now() <= NOW + until {
        let now = app.clock.now();
        while send_next(app, server, now).await.unwrap() {}
        app.clock.set(now + Duration::SECOND);
    }
}

#[tokio::test]
async fn a_queued_mail_is_sent_once_and_its_text_is_removed() {
    for db in databases().await {
        let (app, server) = (app(&db).await, Arc::new(Server::default()));
        let id = queued(&app, "tanaka@example.co.jp", Duration::minutes(10)).await;
        assert_eq!(state(&db, id).await.unwrap(), Some(MailState::Waiting));
        work(&app, &server, Duration::seconds(3)).await;
        assert_eq!(server.taken(), 1);
        let mail = server.taken.lock().unwrap()[0].clone();
        assert_eq!(
            (mail.to.as_str(), mail.body.as_str()),
            ("tanaka@example.co.jp", "048213")
        );
        assert_eq!(
            state(&db, id).await.unwrap(),
            Some(MailState::Sent { at: NOW })
        );
        let sealed: String = sqlx::query_scalar("SELECT message_sealed FROM outbox")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(sealed, "");
    }
}

#[tokio::test]
async fn a_waiting_mail_shows_neither_recipient_nor_text_in_the_database() {
    for db in databases().await {
        let app = app(&db).await;
        queued(&app, "tanaka@example.co.jp", Duration::minutes(10)).await;
        let sealed: String = sqlx::query_scalar("SELECT message_sealed FROM outbox")
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert!(!sealed.contains("tanaka") && !sealed.contains("048213"));
    }
}

#[tokio::test]
async fn a_mail_that_the_server_does_not_take_is_tried_again_later_and_later() {
    for db in databases().await {
        let app = app(&db).await;
        let server = Server::that_answers(&[not_now(), not_now(), not_now()]);
        let id = queued(&app, "tanaka@example.co.jp", Duration::minutes(10)).await;
        work(&app, &server, Duration::seconds(4)).await;
        let next = NOW + Duration::seconds(5);
        assert_eq!(
            state(&db, id).await.unwrap(),
            Some(MailState::Retrying { next })
        );
        // 5, then 15, then 60 seconds.
        work(&app, &server, Duration::seconds(79)).await;
        assert_eq!(server.taken(), 0);
        work(&app, &server, Duration::seconds(80)).await;
        assert_eq!(server.taken(), 1);
    }
}

#[tokio::test]
async fn a_mail_without_use_any_more_is_given_up_and_never_sent() {
    for db in databases().await {
        let app = app(&db).await;
        let server = Server::that_answers(&[const { SendError::NotNow(String::new()) }; 9]);
        let id = queued(&app, "tanaka@example.co.jp", Duration::minutes(10)).await;
        work(&app, &server, Duration::minutes(20)).await;
        assert_eq!(server.taken(), 0);
        assert_eq!(state(&db, id).await.unwrap(), Some(MailState::GivenUp));
    }
}

#[tokio::test]
async fn a_mail_that_the_server_refuses_for_good_is_given_up_at_once() {
    for db in databases().await {
        let app = app(&db).await;
        let server = Server::that_answers(&[SendError::Never("550".to_owned())]);
        let id = queued(&app, "nobody@example.co.jp", Duration::minutes(10)).await;
        work(&app, &server, Duration::seconds(1)).await;
        assert_eq!(state(&db, id).await.unwrap(), Some(MailState::GivenUp));
    }
}

#[tokio::test]
async fn what_expires_first_goes_out_first() {
    for db in databases().await {
        let (app, server) = (app(&db).await, Arc::new(Server::default()));
        queued(&app, "notice@example.co.jp", Duration::days(2)).await;
        queued(&app, "code@example.co.jp", Duration::minutes(10)).await;
        assert!(send_next(&app, &server, NOW).await.unwrap());
        assert_eq!(server.taken.lock().unwrap()[0].to, "code@example.co.jp");
    }
}

#[tokio::test]
async fn portals_that_share_a_database_send_each_mail_once() {
    for db in databases().await {
        let (app, server) = (app(&db).await, Arc::new(Server::default()));
        for number in 0..40 {
            queued(
                &app,
                &format!("u{number}@example.co.jp"),
                Duration::minutes(10),
            )
            .await;
        }
        let portals: Vec<_> = (0..8)
            .map(|_| {
                let (app, server) = (app.clone(), Arc::clone(&server));
                tokio::spawn(async move {
                    // Another lane may have been faster: look again a few times.
                    for _ in 0..60 {
                        send_next(&app, &server, NOW).await.unwrap();
                    }
                })
            })
            .collect();
        for portal in portals {
            portal.await.unwrap();
        }
        let mut recipients: Vec<String> = server
            .taken
            .lock()
            .unwrap()
            .iter()
            .map(|mail| mail.to.clone())
            .collect();
        recipients.sort_unstable();
        recipients.dedup();
        assert_eq!((server.taken(), recipients.len()), (40, 40));
    }
}

#[tokio::test]
async fn a_portal_that_died_with_a_mail_in_hand_leaves_it_to_another() {
    for db in databases().await {
        let (app, server) = (app(&db).await, Arc::new(Server::default()));
        queued(&app, "tanaka@example.co.jp", Duration::minutes(10)).await;
        assert!(claim(&db, NOW).await.unwrap().is_some());
        assert!(!send_next(&app, &server, NOW).await.unwrap());
        assert!(send_next(&app, &server, NOW + CLAIM).await.unwrap());
        assert_eq!(server.taken(), 1);
    }
}

#[tokio::test]
async fn a_signal_sends_at_once() {
    let [db, _] = databases().await;
    let (app, server) = (app(&db).await, Arc::new(Server::default()));
    let running = tokio::spawn(run(app.clone(), Arc::clone(&server)));
    queued(&app, "tanaka@example.co.jp", Duration::minutes(10)).await;
    app.signals.mail_queued();
    while server.taken() == 0 {
        tokio::task::yield_now().await;
    }
    app.signals.stop();
    running.await.unwrap();
}
