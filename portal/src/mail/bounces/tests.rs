//! Which reports count, and which do not.

use super::*;
use crate::mail::outbox;
use crate::mail::{Mail, MailPurpose};
use crate::testing::people::place;
use crate::testing::{NOW, app, databases};

fn report(mail: &str, recipient: &str, action: &str, status: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example.jp\r\nTo: renkei@example.jp\r\n\
         Subject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status;\r\n\
         \tboundary=\"9B095B5ADSN=_01\"\r\n\r\nThis is a MIME-encapsulated message.\r\n\r\n\
         --9B095B5ADSN=_01\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n\
         The following address failed: secret-name\r\n\r\n\
         --9B095B5ADSN=_01\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.example.jp\r\nArrival-Date: Fri, 13 Mar 2026 10:00:00 +0900\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n\
         Diagnostic-Code: smtp; 550 {status} <{recipient}>: user unknown\r\n\r\n\
         --9B095B5ADSN=_01\r\nContent-Type: message/rfc822\r\n\r\n\
         Message-ID: <{mail}@example.jp>\r\nTo: {recipient}\r\nSubject: x\r\n\r\nbody\r\n\r\n\
         --9B095B5ADSN=_01--\r\n"
    )
}

#[test]
fn a_failed_delivery_is_read_with_its_mail_and_its_status() {
    let mail = MailId::new();
    let text = report(
        &mail.to_string(),
        "suzuki@example.co.jp",
        "failed",
        "5.1.1 (bad)",
    );
    let bounce = read(text.as_bytes()).unwrap();
    assert_eq!((bounce.mail, bounce.status.as_str()), (mail, "5.1.1"));
    assert!(
        bounce
            .addresses
            .contains(&"suzuki@example.co.jp".to_owned())
    );
    assert!(!format!("{bounce:?}").contains("suzuki"));
    assert_eq!(read(text.replace("\r\n", "\n").as_bytes()), Some(bounce));
}

#[test]
fn what_is_no_final_failure_is_none() {
    let mail = MailId::new().to_string();
    for (action, status) in [
        ("delayed", "4.4.1"),
        ("failed", "4.4.1"),
        ("delivered", "2.0.0"),
        ("failed", ""),
    ] {
        let text = report(&mail, "a@example.jp", action, status);
        assert_eq!(read(text.as_bytes()), None, "{action} {status}");
    }
    let whole = report(&mail, "a@example.jp", "failed", "5.1.1");
    for (from, to) in [
        ("multipart/report", "multipart/mixed"),
        ("Message-ID", "X-Message-ID"),
        ("boundary=", "border="),
        (mail.as_str(), "no-id-of-ours"),
    ] {
        assert_eq!(read(whole.replace(from, to).as_bytes()), None, "{from}");
    }
    assert_eq!(read(b""), None);
    assert_eq!(
        read(b"Content-Type: multipart/report; boundary=\"\"\n\n"),
        None
    );
    assert_eq!(read("a".repeat(REPORT_LIMIT_BYTES + 1).as_bytes()), None);
}

#[test]
fn no_cut_of_a_report_is_a_panic() {
    let text = report(
        &MailId::new().to_string(),
        "a@example.jp",
        "failed",
        "5.1.1",
    );
    for end in 0..text.len() {
        let _ = read(&text.as_bytes()[..end]);
        let _ = read(&text.as_bytes()[end..]);
    }
}

#[tokio::test]
async fn only_a_report_on_a_mail_of_ours_to_that_address_raises_a_task_and_one_only() {
    for db in databases().await {
        let app = app(&db).await;
        place(&app, "0123", "suzuki").await;
        let mail = Mail {
            purpose: MailPurpose::Invitation,
            to: "suzuki@example.co.jp".to_owned(),
            subject: "x".to_owned(),
            body: "x".to_owned(),
        };
        let mut tx = app.db.begin().await.unwrap();
        let later = NOW + Duration::days(1);
        let id = outbox::queue(&mut tx, &app.keys, mail, NOW, later)
            .await
            .unwrap();
        Db::commit(tx).await.unwrap();
        let id = id.to_string();
        let bounce = |recipient: &str| read(report(&id, recipient, "failed", "5.1.1").as_bytes());
        let right = bounce("Suzuki@Example.co.jp").unwrap();
        assert_eq!(
            take(&app, &right, NOW).await.unwrap(),
            Taken::NotOurs,
            "not sent yet"
        );
        sqlx::query("UPDATE outbox SET sent_ms = $1, message_sealed = ''")
            .bind(unix_ms(NOW))
            .execute(db.pool())
            .await
            .unwrap();
        let other = bounce("victim@example.co.jp").unwrap();
        assert_eq!(take(&app, &other, NOW).await.unwrap(), Taken::NotOurs);
        assert_eq!(take(&app, &right, NOW).await.unwrap(), Taken::Raised(1));
        assert_eq!(take(&app, &right, NOW).await.unwrap(), Taken::Raised(0));
        let late = NOW + SENT_WITHIN;
        assert_eq!(take(&app, &right, late).await.unwrap(), Taken::NotOurs);
    }
}
