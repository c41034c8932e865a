//! What the pages say.

use super::*;
use crate::clock::Clock;
use crate::session_state::{Doubt, Notice, Service};
use crate::status::{Approved, Pc};
use std::time::Duration;
use time::macros::datetime;

fn now() -> Moment {
    Clock::system(None).now()
}

fn view(state: State) -> View {
    View {
        update: None,
        state,
        service: None,
        doubt: Doubt::default(),
        notice: None,
        pc: Some(Pc {
            matching_code: "1234-5678".into(),
            establishment: "0123".into(),
            device_name: "<SOUMU-PC>".into(),
            approved: Some(Approved {
                fund_name: "見本企業年金基金".into(),
                establishment_name: "株式会社見本".into(),
                portal_url: "https://portal.example.jp/".into(),
            }),
        }),
        proxy: None,
        skew_s: None,
        damage: None,
        way: None,
        ways: Vec::new(),
        polls: 0,
    }
}

fn session(now: Moment) -> Session {
    Session {
        id: protocol::SessionId::from_uuid(uuid::Uuid::from_u128(1)),
        ends_at: now.mono + Duration::from_millis(599_900),
        ends_at_wall: datetime!(2026-11-20 11:30 +9),
        will_end: EndReason::TimeLimit,
        portal_url: "https://portal.example.jp/".into(),
        code_mailed_to: Some("t***@example.jp".into()),
    }
}

fn page(view: &View, now: Moment) -> String {
    render(&Shown {
        now,
        csrf: "token",
        go: false,
        form: EnrolForm::suggested(Some(&"https://gw.example.jp".parse().unwrap())),
        view,
    })
}

/// Every state with what its page must say.
fn every_page() -> Vec<(&'static str, View, Vec<&'static str>)> {
    let now = now();
    let sentence = "本日は祝日（勤労感謝の日）のためご利用いただけません。".to_owned();
    let mut unenrolled = view(State::Unenrolled {
        problem: Some("登録コードが違います。".into()),
    });
    unenrolled.pc = None;
    let mut warned = view(State::Connected(session(now)));
    warned.notice = Some(Notice::TenMinutes);
    warned.skew_s = Some(365 * 86_400);
    let mut ready = view(State::Ready { problem: None });
    ready.service = Some(Service {
        open: true,
        sentence: None,
        next_opening: None,
        rehearsal: true,
    });
    let from = Box::new(State::Unenrolled { problem: None });
    let doubtful = |doubt| View {
        doubt,
        ..view(State::Reconnecting(session(now)))
    };
    vec![
        (
            "unenrolled",
            unenrolled,
            vec!["登録コードが違います。", "https://gw.example.jp/"],
        ),
        (
            "enrolling",
            view(State::Enrolling { from }),
            vec!["申請しています"],
        ),
        (
            "pending",
            view(State::Pending { problem: None }),
            vec!["1234-5678", "&#60;SOUMU-PC&#62;", "お電話"],
        ),
        (
            "ready",
            ready,
            vec!["action=\"/connect\"", "株式会社見本", "練習用"],
        ),
        (
            "asking",
            view(State::Asking),
            vec!["接続しています", "取りやめる"],
        ),
        (
            "connected",
            warned,
            vec![
                "9分59秒",
                "11:30に",
                "https://portal.example.jp/",
                "t***@example.jp",
                "残り10分",
                "<title>【残り10分】",
                "進んで",
                "action=\"/disconnect\"",
            ],
        ),
        (
            "reconnecting",
            doubtful(Doubt::Lost),
            vec!["つなぎ直して", "9分59秒"],
        ),
        (
            "silent",
            doubtful(Doubt::Silent),
            vec!["応答を待っています", "9分59秒"],
        ),
        (
            "offline",
            doubtful(Doubt::Offline),
            vec!["LANケーブル", "9分59秒"],
        ),
        (
            "awake again",
            doubtful(Doubt::Woke),
            vec!["スリープから復帰", "9分59秒"],
        ),
        (
            "refused",
            view(State::Refused {
                sentence: sentence.clone(),
                next_opening: Some(datetime!(2026-11-24 08:00 +9)),
                what: Refused::Session,
            }),
            vec!["勤労感謝の日", "11月24日（火）8:00"],
        ),
        (
            "refused_enrolment",
            view(State::Refused {
                sentence,
                next_opening: None,
                what: Refused::Enrolment,
            }),
            vec!["勤労感謝の日", "action=\"/enrol\""],
        ),
        (
            "ended",
            view(State::Ended {
                sentence: EndReason::TimeLimit.page_text().into(),
            }),
            vec!["90分が経過", "もう一度接続する"],
        ),
    ]
}

#[test]
fn every_state_has_a_page_that_says_what_it_must() {
    for (name, view, words) in every_page() {
        let html = page(&view, now());
        for word in words {
            assert!(html.contains(word), "{name}: {word}\n{html}");
        }
        assert_eq!(html.matches("<h1").count(), 1, "{name}");
        assert!(html.contains("<html lang=\"ja\">"), "{name}");
        assert!(
            !html.contains("style=") && !html.contains("<script>"),
            "{name}"
        );
    }
}

#[test]
fn seconds_do_not_change_the_picture_and_everything_else_does() {
    let pages = every_page();
    let mut pictures: Vec<_> = pages.iter().map(|(_, view, _)| picture_of(view)).collect();
    assert_eq!(picture_of(&pages[5].1), pictures[5]);
    pictures.sort();
    pictures.dedup();
    assert_eq!(pictures.len(), pages.len());
}

#[test]
fn a_form_with_mistakes_names_each_and_keeps_what_was_typed() {
    let (form, application) = EnrolForm::read("http://gw".into(), "12345678".into(), " ");
    assert!(application.is_none());
    let mut unenrolled = view(State::Unenrolled { problem: None });
    unenrolled.pc = None;
    let html = render(&Shown {
        now: now(),
        csrf: "token",
        go: false,
        form,
        view: &unenrolled,
    });
    for word in [
        "https://」で始めて",
        "4桁または6桁の数字で",
        "登録コードを入力",
        "value=\"12345678\"",
        "value=\"http://gw\"",
    ] {
        assert!(html.contains(word), "{word}");
    }
    let (_, application) =
        EnrolForm::read("https://gw.example.jp".into(), "０１２３".into(), "ABCD");
    assert_eq!(application.unwrap().establishment.to_string(), "0123");
}

#[test]
fn what_is_there_from_before_and_cannot_be_used_is_no_request_that_failed() {
    let mut damaged = view(State::Unenrolled { problem: None });
    damaged.pc = None;
    damaged.damage = Some("このパソコンの鍵が見つかりません。".to_owned());
    let html = page(&damaged, now());
    assert!(html.contains("これまでの登録を利用できません"), "{html}");
    assert!(html.contains("鍵が見つかりません"));
    assert!(!html.contains("登録を申請できませんでした"));
}

#[test]
fn outside_the_hours_the_page_says_so_and_when_they_begin_again() {
    let next = datetime!(2026-11-24 08:00 +9);
    let closed = Some(Service {
        open: false,
        sentence: Some(
            "ただいまの時間はご利用いただけません。次回は11月24日（火）8:00から".to_owned(),
        ),
        next_opening: Some(next),
        rehearsal: false,
    });
    let mut ended = view(State::Ended {
        sentence: EndReason::ClosingTime.page_text().into(),
    });
    ended.service = closed.clone();
    let html = page(&ended, now());
    assert!(
        html.contains("次回のご利用開始：<strong>11月24日（火）8:00"),
        "{html}"
    );
    let mut ready = view(State::Ready { problem: None });
    ready.service = closed;
    let html = page(&ready, now());
    assert!(html.contains("ただいまはご利用時間外です"), "{html}");
    assert!(!html.contains("接続できます"), "{html}");
    assert_eq!(html.matches("11月24日（火）8:00").count(), 1, "{html}");
}
