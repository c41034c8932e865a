//! The rules of a filing's way, by example and over generated orders of acts.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-03-13 10:00 +9);

fn received() -> Filing {
    Filing {
        id: FilingId::new(),
        establishment: EstablishmentId::new(),
        submission: SubmissionId::new(),
        document: DocumentId::new(),
        name: "20260313_0123_資格取得届".parse().unwrap(),
        state: State::Received,
        received: NOW,
        changed: NOW,
        replaces: None,
    }
}

fn reason() -> ReturnReason {
    ReturnReason::parse("incomplete", "基準給与の欄が空いています。").unwrap()
}

#[test]
fn a_filing_in_review_answers_to_its_reviewer_alone() {
    let (own, other) = (StaffId::new(), StaffId::new());
    let filing = received().take(own, NOW).unwrap().after;
    let taken = StepError::InOtherHands { reviewer: own };
    assert_eq!(filing.take(other, NOW), Err(taken.clone()));
    assert_eq!(filing.decide(other, NOW), Err(taken.clone()));
    assert_eq!(filing.give_back(other, reason(), NOW), Err(taken.clone()));
    assert_eq!(filing.release(other, Rank::Reviewer, NOW), Err(taken));
    assert!(filing.decide(own, NOW).is_ok());
    assert!(filing.give_back(own, reason(), NOW).is_ok());
    assert!(filing.release(own, Rank::Reviewer, NOW).is_ok());
}

#[test]
fn a_supervisor_frees_the_case_of_an_absent_colleague_but_does_not_decide_it() {
    let filing = received().take(StaffId::new(), NOW).unwrap().after;
    let supervisor = StaffId::new();
    assert!(filing.decide(supervisor, NOW).is_err());
    let freed = filing
        .release(supervisor, Rank::Supervisor, NOW)
        .unwrap()
        .after;
    assert_eq!(freed.state, State::Received);
}

#[test]
fn nobody_decides_or_returns_what_waits_in_the_queue() {
    let staff = StaffId::new();
    assert_eq!(received().decide(staff, NOW), Err(StepError::NotInReview));
    assert_eq!(
        received().give_back(staff, reason(), NOW),
        Err(StepError::NotInReview)
    );
    assert_eq!(
        received().release(staff, Rank::Supervisor, NOW),
        Err(StepError::NotInReview)
    );
}

#[test]
fn a_sender_withdraws_only_before_the_review() {
    assert!(received().withdraw(NOW).is_ok());
    let filing = received().take(StaffId::new(), NOW).unwrap().after;
    assert_eq!(filing.withdraw(NOW), Err(StepError::ReviewBegan));
}

#[test]
fn only_a_returned_filing_is_replaced_and_only_once() {
    let staff = StaffId::new();
    let filing = received().take(staff, NOW).unwrap().after;
    assert!(matches!(
        filing.may_be_replaced(None),
        Err(StepError::NotReturned { .. })
    ));
    let filing = filing.give_back(staff, reason(), NOW).unwrap().after;
    assert_eq!(filing.may_be_replaced(None), Ok(()));
    let by = FilingId::new();
    assert_eq!(
        filing.may_be_replaced(Some(by)),
        Err(StepError::AlreadyReplaced { by })
    );
}

#[test]
fn a_reason_that_says_nothing_is_refused() {
    assert_eq!(
        ReturnReason::parse("incomplete", " \n"),
        Err(ReasonError::WordsMissing)
    );
    assert_eq!(
        ReturnReason::parse("because", "x"),
        Err(ReasonError::UnknownCode)
    );
    assert_eq!(
        ReturnReason::parse("other", &"長".repeat(1_001)),
        Err(ReasonError::TooLong)
    );
    assert!(ReturnReason::parse("illegible", "").is_ok());
}

#[test]
fn every_word_in_the_database_is_read_back() {
    for event in Event::ALL {
        assert_eq!(Event::from_code(event.code()), Some(event));
    }
    for code in ReturnCode::ALL {
        assert_eq!(ReturnCode::from_code(code.code()), Some(code));
    }
    for code in State::CODES {
        assert_ne!(state_label(code), "不明");
    }
}

use super::reasons::ReasonError;

#[derive(Debug, Clone)]
enum Try {
    Take(usize),
    Release(usize, Rank),
    Assign(usize, Rank),
    Free(usize),
    GrantWithdrawal(usize),
    GiveBack(usize, ReturnCode),
    Decide(usize),
    Withdraw,
}

fn attempts() -> impl Strategy<Value = Vec<Try>> {
    let staff = 0..3_usize;
    let one = prop_oneof![
        4 => staff.clone().prop_map(Try::Take),
        2 => (staff.clone(), prop_oneof![Just(Rank::Reviewer), Just(Rank::Supervisor)])
            .prop_map(|(staff, rank)| Try::Release(staff, rank)),
        2 => (staff.clone(), proptest::sample::select(&ReturnCode::ALL[..]))
            .prop_map(|(staff, code)| Try::GiveBack(staff, code)),
        2 => staff.prop_map(Try::Decide),
        1 => Just(Try::Withdraw),
        2 => (0..3_usize, prop_oneof![Just(Rank::Reviewer), Just(Rank::Supervisor)])
            .prop_map(|(staff, rank)| Try::Assign(staff, rank)),
        1 => (0..3_usize).prop_map(Try::Free),
        1 => (0..3_usize).prop_map(Try::GrantWithdrawal),
    ];
    proptest::collection::vec(one, 0..40)
}

proptest! {
    /// Whatever is tried in whatever order: who closes a case held it, a case closes once,
    /// and a returned one has its reason.
    #[test]
    fn no_order_of_acts_loses_a_reason_or_lets_two_reviewers_decide(acts in attempts()) {
        let staff = [StaffId::new(), StaffId::new(), StaffId::new()];
        let mut filing = received();
        let mut holder = None;
        let mut closings = 0;
        for act in acts {
            let (who, step) = match act {
                Try::Take(n) => (Some(staff[n]), filing.take(staff[n], NOW)),
                Try::Release(n, rank) => (Some(staff[n]), filing.release(staff[n], rank, NOW)),
                Try::GiveBack(n, code) => {
                    let reason = ReturnReason::parse(code.code(), "説明").unwrap();
                    (Some(staff[n]), filing.give_back(staff[n], reason, NOW))
                }
                Try::Decide(n) => (Some(staff[n]), filing.decide(staff[n], NOW)),
                Try::Withdraw => (None, filing.withdraw(NOW)),
                Try::Assign(n, rank) => {
                    let step = filing.assign(staff[n], rank, NOW);
                    if step.is_ok() {
                        prop_assert_eq!(rank, Rank::Supervisor);
                        holder = None;
                    }
                    (None, step)
                }
                Try::Free(n) => {
                    let step = filing.free(staff[n], NOW);
                    if step.is_ok() {
                        prop_assert_eq!(holder, Some(staff[n]));
                    }
                    (None, step)
                }
                Try::GrantWithdrawal(n) => {
                    let step = filing.grant_withdrawal(staff[n], NOW);
                    if step.is_ok() {
                        prop_assert_eq!(holder.take(), Some(staff[n]));
                    }
                    (None, step)
                }
            };
            let Ok(step) = step else { continue };
            prop_assert_eq!(&step.before, &filing.state);
            match &step.after.state {
                State::Received => holder = None,
                State::InReview { reviewer } => {
                    prop_assert_eq!(holder, None);
                    holder = Some(*reviewer);
                }
                State::Decided { reviewer } => {
                    prop_assert_eq!(holder, Some(*reviewer));
                    prop_assert_eq!(who, holder);
                    closings += 1;
                }
                State::Returned { reviewer, reason } => {
                    prop_assert_eq!(holder, Some(*reviewer));
                    prop_assert_eq!(who, holder);
                    prop_assert!(!step.note.is_empty());
                    prop_assert_eq!(reason.text(), "説明");
                    closings += 1;
                }
                State::Withdrawn => {
                    prop_assert_eq!(holder, None);
                    closings += 1;
                }
            }
            filing = step.after;
        }
        prop_assert!(closings <= 1);
    }
}

#[test]
fn a_part_of_a_name_says_whose_it_is_only_where_that_is_certain() {
    use super::names::establishment_in;
    let number = |part| establishment_in(part).map(|number| number.to_string());
    for part in [
        "20240524_0150_訂正届",
        "0524_0150_",
        "_0150_訂",
        "24_0150",
        "0150_訂正届",
        "0150_届",
    ] {
        assert_eq!(number(part).as_deref(), Some("0150"), "{part}");
    }
    // The end of a date, a part of a number, no name at all.
    for part in [
        "0524_",
        "0150_",
        "50_訂正届",
        "24_01",
        "0150",
        "訂正届",
        "",
        "_",
        "__",
        "20240524_訂正届",
        "0150_0151_訂_届",
        "0000_届",
        "あいう_届",
        "０１５０_届",
    ] {
        assert_eq!(number(part), None, "{part}");
    }
}
