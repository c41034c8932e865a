//! What mails say. No names, no numbers, no contents: a mail is a postcard. The one-time
//! password is the only secret that ever stands in one.

use time::OffsetDateTime;

use super::{Mail, MailPurpose};
use crate::config::Config;
use crate::reminders::{Due, Step};
use crate::web::dates;

fn mail(config: &Config, purpose: MailPurpose, to: &str, subject: &str, paragraphs: &str) -> Mail {
    let rehearsal = if config.rehearsal {
        "【練習用】"
    } else {
        ""
    };
    Mail {
        purpose,
        to: to.to_owned(),
        subject: format!("{rehearsal}【{}】{subject}", config.fund_name),
        body: format!(
            "{paragraphs}\n\n\
             ----------------------------------------\n\
             {}\n{}\n\
             このメールは自動で送信しています。ご返信いただいてもお答えできません。\n",
            config.fund_name, config.fund_contact
        ),
    }
}

/// A one-time password.
pub fn one_time_code(config: &Config, to: &str, code: &str, expires: OffsetDateTime) -> Mail {
    mail(
        config,
        MailPurpose::OneTimeCode,
        to,
        "ワンタイムパスワードのお知らせ",
        &format!(
            "ワンタイムパスワードは次の6桁の数字です。\n\n\
             \u{3000}\u{3000}{code}\n\n\
             {}まで、一度だけ使えます。ログインの画面に入力してください。\n\n\
             お心当たりがないときは、どなたにも知らせずに、基金事務局へご連絡ください。\n\
             基金の職員がこの数字をお尋ねすることはありません。",
            dates::clock(expires)
        ),
    )
}

/// A notice waits on the portal.
pub fn notice_issued(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::NoticeIssued,
        to,
        "新しい通知書のお知らせ",
        "基金から新しい通知書が届いています。\n\n\
         接続用プログラムで接続し、「通知書」の画面からお受け取りください。\n\
         個人情報を守るため、内容はこのメールには記載していません。",
    )
}

/// A notice has been waiting for some days.
pub fn notice_waiting(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::NoticeWaiting,
        to,
        "未受領の通知書のお知らせ",
        "まだお受け取りいただいていない通知書があります。\n\n\
         接続用プログラムで接続し、「通知書」の画面からお受け取りください。\n\
         行き違いでお受け取り済みのときは、ご容赦ください。\n\
         個人情報を守るため、内容はこのメールには記載していません。",
    )
}

/// A filing was returned.
pub fn filing_returned(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::FilingReturned,
        to,
        "届書の差戻しのお知らせ",
        "ご提出いただいた届書に、確認をお願いしたい点があります（差戻し）。\n\n\
         接続用プログラムで接続し、「提出履歴」の画面で理由をご確認のうえ、再提出してください。\n\
         個人情報を守るため、内容はこのメールには記載していません。",
    )
}

/// The office wrote something about a filing.
pub fn filing_commented(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::FilingCommented,
        to,
        "届書についての連絡",
        "ご提出いただいた届書について、基金事務局からの連絡があります。\n\n\
         接続用プログラムで接続し、「提出履歴」の画面でご確認ください。\n\
         個人情報を守るため、内容はこのメールには記載していません。",
    )
}

/// The office answered a request to withdraw a filing.
pub fn withdrawal_answered(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::FilingCommented,
        to,
        "取下げのご依頼への回答",
        "届書の取下げのご依頼に、基金事務局が回答しました。\n\n\
         接続用プログラムで接続し、「提出履歴」の画面で結果をご確認ください。\n\
         個人情報を守るため、内容はこのメールには記載していません。",
    )
}

/// The month's filings close soon.
pub fn reminder(config: &Config, to: &str, due: &Due) -> Mail {
    let when = match due.step {
        Step::FiveDays => "締切の5営業日前を過ぎました。",
        Step::OneDay => "締切が近づいています。",
    };
    mail(
        config,
        MailPurpose::Reminder,
        to,
        "届書の締切のお知らせ",
        &format!(
            "{}分の届書の締切は、{}です。{when}\n\n\
             まだ提出していない届書があるときは、接続用プログラムで接続し、「届書を提出する」の画面から提出してください。\n\
             すでに提出済みのとき、または届け出ることがないときは、このメールへのご対応は必要ありません。\n\n\
             このお知らせは、「設定」の画面で止めることができます。",
            due.month.page_text(),
            dates::date(due.closing)
        ),
    )
}

/// A PC was approved.
pub fn device_approved(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::DeviceApproved,
        to,
        "パソコンの登録が完了しました",
        "お申し込みのパソコンの登録を承認しました。\n\n\
         接続用プログラムの画面で「接続」を押すと、ご利用を始められます。\n\n\
         お心当たりがないときは、すぐに基金事務局へご連絡ください。",
    )
}

/// An admin was registered. What he needs comes by post.
pub fn invitation(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::Invitation,
        to,
        "企業年金電子連携サービスのご案内",
        "企業年金電子連携サービスの管理者として登録しました。\n\n\
         ご利用に必要な登録コードとパスワードは、郵便でお送りします。\n\
         お手元に届きましたら、同封のご案内に沿ってパソコンを登録してください。\n\
         安全のため、登録コードとパスワードはこのメールには記載していません。\n\n\
         お心当たりがないときは、基金事務局へご連絡ください。",
    )
}

/// Something about an establishment's people or PCs changed; `sentence` says what, without
/// saying whose.
pub fn people_changed(config: &Config, to: &str, sentence: &str) -> Mail {
    mail(
        config,
        MailPurpose::PeopleChanged,
        to,
        "利用者情報の変更のお知らせ",
        &format!(
            "{sentence}\n\n\
             詳しくは、接続用プログラムで接続し、「利用者」の画面でご確認ください。\n\
             個人情報を守るため、お名前などはこのメールには記載していません。\n\n\
             お心当たりがないときは、すぐに基金事務局へご連絡ください。"
        ),
    )
}

/// A new address must be confirmed with a code.
pub fn address_check(config: &Config, to: &str, code: &str, expires: OffsetDateTime) -> Mail {
    mail(
        config,
        MailPurpose::AddressCheck,
        to,
        "メールアドレスの確認",
        &format!(
            "このメールアドレスへの変更が申し込まれました。確認番号は次の6桁の数字です。\n\n\
             \u{3000}\u{3000}{code}\n\n\
             {}まで使えます。メールアドレスを変更する画面に入力してください。\n\n\
             お心当たりがないときは、このメールを削除してください。変更は行われません。",
            dates::moment(expires)
        ),
    )
}

/// The office answered an inquiry.
pub fn inquiry_answered(config: &Config, to: &str) -> Mail {
    mail(
        config,
        MailPurpose::InquiryAnswered,
        to,
        "お問い合わせへの回答のお知らせ",
        "お問い合わせに、基金事務局から回答があります。\n\n\
         接続用プログラムで接続し、「お問い合わせ」の画面でご確認ください。\n\
         個人情報を守るため、内容はこのメールには記載していません。",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::people::config;
    use time::macros::datetime;

    #[test]
    fn a_code_mail_says_the_code_until_when_and_what_to_do_if_it_was_not_asked_for() {
        let mail = one_time_code(
            &config(),
            "tanaka@example.co.jp",
            "048213",
            datetime!(2026-11-20 09:15 +9),
        );
        assert_eq!(
            mail.subject,
            "【見本企業年金基金】ワンタイムパスワードのお知らせ"
        );
        assert!(mail.body.contains("　　048213\n"));
        assert!(mail.body.contains("9:15まで、一度だけ"));
        assert!(mail.body.contains("お心当たりがないとき"));
    }

    fn closing(step: Step) -> Due {
        Due {
            month: "2026-04".parse().unwrap(),
            closing: time::macros::date!(2026 - 05 - 01),
            step,
        }
    }

    /// Every mail that there is, each to the same address.
    fn every(to: &str) -> Vec<Mail> {
        let (config, until) = (config(), datetime!(2026-11-20 09:15 +9));
        vec![
            one_time_code(&config, to, "048213", until),
            notice_issued(&config, to),
            notice_waiting(&config, to),
            filing_returned(&config, to),
            filing_commented(&config, to),
            withdrawal_answered(&config, to),
            reminder(&config, to, &closing(Step::OneDay)),
            device_approved(&config, to),
            invitation(&config, to),
            people_changed(&config, to, "利用者が変わりました。"),
            address_check(&config, to, "048213", until),
            inquiry_answered(&config, to),
        ]
    }

    /// The wording itself: after a wanted change, `INSTA_UPDATE=always` accepts it.
    #[test]
    fn every_mail_says_this() {
        let to = "a@example.jp";
        let early = reminder(&config(), to, &closing(Step::FiveDays));
        let mails: Vec<_> = every(to)
            .into_iter()
            .chain([early])
            .map(|mail| {
                format!(
                    "{}: {}\n\n{}",
                    mail.purpose.as_str(),
                    mail.subject,
                    mail.body
                )
            })
            .collect();
        insta::assert_snapshot!(mails.join("\n========\n\n"));
    }

    #[test]
    fn every_mail_says_from_whom_it_is_and_what_it_is_about() {
        let subjects: Vec<String> = every("a@example.jp")
            .into_iter()
            .map(|mail| {
                assert!(mail.subject.starts_with("【見本企業年金基金】"));
                assert!(mail.body.contains("基金事務局 業務課 03-0000-0000"));
                assert!(mail.body.contains("自動で送信しています"));
                mail.subject.replace("【見本企業年金基金】", "")
            })
            .collect();
        let mut apart = subjects.clone();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), subjects.len(), "{subjects:?}");
        for subject in [
            "ワンタイムパスワードのお知らせ",
            "お問い合わせへの回答のお知らせ",
        ] {
            assert!(
                subjects.iter().any(|known| known == subject),
                "{subjects:?}"
            );
        }
    }

    /// A name or a number that a mail held would come from what it was made of: its address, its
    /// code. Nothing else goes in, and neither comes out but the code that the mail is for.
    #[test]
    fn no_mail_holds_a_canary() {
        for mail in every("canary.suzuki0123@example.co.jp") {
            let text = format!("{}\n{}", mail.subject, mail.body);
            for canary in ["canary", "suzuki", "0123", "@", "http"] {
                assert!(!text.contains(canary), "{canary} in {text}");
            }
            let is_code = ["one_time_code", "address_check"].contains(&mail.purpose.as_str());
            assert_eq!(text.contains("048213"), is_code, "{text}");
            assert!(!mail.subject.contains("048213"));
        }
    }

    #[test]
    fn no_mail_holds_its_recipient() {
        let (config, to) = (config(), "tanaka@example.co.jp");
        let code = one_time_code(&config, to, "1", datetime!(2026-11-20 09:15 +9));
        for mail in [
            code,
            notice_issued(&config, to),
            notice_waiting(&config, to),
            filing_returned(&config, to),
            filing_commented(&config, to),
            withdrawal_answered(&config, to),
            reminder(&config, to, &closing(Step::OneDay)),
            device_approved(&config, to),
            invitation(&config, to),
            people_changed(&config, to, "利用者が追加されました。"),
            address_check(&config, to, "1", datetime!(2026-11-20 09:15 +9)),
        ] {
            assert!(!mail.body.contains("tanaka") && !mail.subject.contains("tanaka"));
            assert_eq!(
                format!("{mail:?}"),
                format!("Mail({})", mail.purpose.as_str())
            );
        }
    }
}
