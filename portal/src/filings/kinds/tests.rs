//! The rules about kinds of filings.

use time::Weekday;
use time::macros::date;

use super::*;

fn weekday(day: Date) -> bool {
    !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn kind(code: &str) -> FilingKind {
    Kinds::of_a_new_portal().find(code).unwrap().clone()
}

#[test]
fn a_new_portal_knows_the_kinds_and_each_may_stand_among_the_others() {
    let kinds = Kinds::of_a_new_portal();
    assert_eq!(kinds.iter().count(), 22);
    for kind in kinds.iter() {
        assert_eq!(check(kind, &kinds), Ok(()), "{kind:?}");
        let plain = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(kind.kind.code().chars().all(plain));
    }
    let paper: Vec<_> = kinds
        .on_paper(date!(2026 - 11 - 20))
        .map(|kind| kind.kind.name())
        .collect();
    assert_eq!(paper, ["預金口座振替依頼書", "業務委託書"]);
}

#[test]
fn a_slip_of_one_character_is_understood_and_a_guess_between_two_is_not_made() {
    let kinds = Kinds::of_a_new_portal();
    let nearest = |text| kinds.nearest(text).map(|kind| kind.kind.name());
    assert_eq!(nearest("資格取得屆"), Some("資格取得届"));
    assert_eq!(nearest("資格喪失届2"), Some("資格喪失届"));
    assert_eq!(nearest("変更届"), None);
    assert_eq!(nearest("お知らせ"), None);
    assert_eq!(nearest(""), None);
}

#[test]
fn the_title_that_stands_first_in_a_document_tells_its_kind() {
    let kinds = Kinds::of_a_new_portal();
    let in_text = |text| kinds.in_text(text).map(|kind| kind.kind.name());
    assert_eq!(
        in_text("企業年金基金\n加入者資格取得届\n氏名"),
        Some("資格取得届")
    );
    assert_eq!(
        in_text("基礎年金番号変更届（氏名変更届と同時に出す場合）"),
        Some("基礎年金番号変更届")
    );
    assert_eq!(in_text("ごあいさつ"), None);
}

#[test]
fn a_filing_about_membership_is_due_at_the_earlier_of_30_days_and_the_14th() {
    let due = |event| kind("acquisition").deadline.due(event, weekday);
    // 2026-04-01 + 30 days = 1 May; the 14th of May is later.
    assert_eq!(due(date!(2026 - 04 - 01)), Some(date!(2026 - 05 - 01)));
    // 20 May + 30 days = 19 June; the 14th is a Sunday, the working day before it the 12th.
    assert_eq!(due(date!(2026 - 05 - 20)), Some(date!(2026 - 06 - 12)));
    assert_eq!(due(date!(2026 - 12 - 25)), Some(date!(2027 - 01 - 14)));
    assert_eq!(
        kind("correction")
            .deadline
            .due(date!(2026 - 05 - 20), weekday),
        None
    );
}

#[test]
fn working_days_leave_out_the_others_and_the_first_day() {
    let deadline = Deadline {
        event: "承認の日".into(),
        within: Some(Within {
            days: 5,
            counting: Counting::Working,
        }),
        month_day: None,
    };
    // Friday; Monday to Friday of the week after.
    assert_eq!(
        deadline.due(date!(2026 - 11 - 20), weekday),
        Some(date!(2026 - 11 - 27))
    );
    assert_eq!(deadline.page_text(), "承認の日から5営業日以内");
    // A fund that never works again is no endless loop.
    let end = Deadline {
        within: None,
        month_day: Some(14),
        ..deadline
    };
    assert_eq!(
        end.due(date!(2026 - 11 - 20), |_| false),
        Some(date!(2026 - 12 - 14))
    );
}

#[test]
fn a_deadline_is_said_in_words() {
    assert_eq!(
        kind("acquisition").deadline.page_text(),
        "資格を取得した日から30日以内、または翌月14日の、いずれか早い日まで"
    );
    assert_eq!(
        kind("salary-change").deadline.page_text(),
        "基準給与が変わった日の翌月5日まで"
    );
    assert_eq!(kind("correction").deadline.page_text(), "");
}

#[test]
fn a_kind_is_offered_from_its_first_day_to_its_last() {
    let kind = FilingKind {
        starts: Some(date!(2026 - 04 - 01)),
        ends: Some(date!(2027 - 03 - 31)),
        ..kind("acquisition")
    };
    assert!(!kind.is_offered_on(date!(2026 - 03 - 31)));
    assert!(kind.is_offered_on(date!(2026 - 04 - 01)));
    assert!(kind.is_offered_on(date!(2027 - 03 - 31)));
    assert!(!kind.is_offered_on(date!(2027 - 04 - 01)));
}

#[test]
fn names_that_no_file_can_have_or_another_kind_has_are_refused() {
    let kinds = Kinds::of_a_new_portal();
    let named = |name: &str| FilingKind {
        kind: Kind::of("new", name),
        aliases: Vec::new(),
        ..kind("acquisition")
    };
    for bad in [
        "",
        "資格 取得届",
        "a/b",
        "a_b",
        "1号届",
        "a.pdf",
        &"長".repeat(41),
    ] {
        assert_eq!(check(&named(bad), &kinds), Err(EditError::Name), "{bad:?}");
    }
    for taken in ["資格喪失届", "喪失届"] {
        let error = check(&named(taken), &kinds).unwrap_err();
        assert!(error.page_text().contains("資格喪失届"), "{error}");
    }
    let twice = FilingKind {
        aliases: vec!["新しい届".into()],
        ..named("新しい届")
    };
    assert!(matches!(
        check(&twice, &kinds),
        Err(EditError::Taken { .. })
    ));
    let back = FilingKind {
        starts: Some(date!(2026 - 04 - 01)),
        ends: Some(date!(2026 - 03 - 31)),
        ..named("新しい届")
    };
    assert_eq!(check(&back, &kinds), Err(EditError::Ends));
    assert_eq!(check(&named("新しい届"), &kinds), Ok(()));
}

#[test]
fn the_same_code_and_name_are_one_kind() {
    assert_eq!(Kind::of("a", "届"), Kind::of("a", "届"));
    assert_ne!(Kind::of("a", "届"), Kind::of("a", "旧届"));
    assert_eq!(Kind::of("a", "届").to_string(), "届");
}
