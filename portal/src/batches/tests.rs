//! What a batch may become, and which months there are.

use time::macros::datetime;

use super::*;

fn batch(state: State, made_by: StaffId) -> Batch {
    Batch {
        id: BatchId::new(),
        number: "2026-001".into(),
        source: Source::Csv,
        month: TargetMonth::read("2026-10").unwrap(),
        edition: Edition::First,
        state,
        made_by,
        made: datetime!(2026-11-12 10:00 +9),
        released: None,
    }
}

#[test]
fn only_a_checked_batch_is_released_and_never_by_who_made_it() {
    let (maker, other) = (StaffId::new(), StaffId::new());
    for state in State::ALL {
        let batch = batch(state, maker);
        let is_checked = state == State::Checked;
        assert_eq!(batch.release(other).is_ok(), is_checked);
        assert_eq!(batch.propose().is_ok(), is_checked);
        assert_eq!(
            batch.discard().is_ok(),
            matches!(state, State::Checked | State::Stopped)
        );
        assert_eq!(batch.remind().is_ok(), state == State::Released);
        assert!(batch.release(maker).is_err());
    }
    let own = batch(State::Checked, maker).release(maker);
    assert_eq!(own, Err(BatchError::OwnBatch));
}

#[test]
fn months_are_read_strictly_and_said_in_the_era() {
    for (text, name) in [
        ("2026-10", "令和8年10月分"),
        ("2019-05", "令和元年5月分"),
        ("2027-01", "令和9年1月分"),
    ] {
        let month = TargetMonth::read(text).unwrap();
        assert_eq!((month.name().as_str(), month.code().as_str()), (name, text));
    }
    for wrong in [
        "",
        "2026",
        "2026-13",
        "2026-00",
        "2026-1",
        "26-10",
        "2026-10-01",
        "2018-12",
        "２０２６-10",
        "+026-10",
    ] {
        assert_eq!(TargetMonth::read(wrong), None, "{wrong}");
    }
    let before = |at| TargetMonth::before(at).code();
    assert_eq!(before(datetime!(2026-11-12 10:00 +9)), "2026-10");
    assert_eq!(before(datetime!(2027-01-01 0:00 +9)), "2026-12");
    // 31 December, 23:59 in London, is January here.
    assert_eq!(before(datetime!(2026-12-31 23:59 +0)), "2026-12");
}
