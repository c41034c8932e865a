//! The rules of the grants, one by one.

use super::*;
use std::time::Duration;
use time::macros::datetime;
use uuid::Uuid;

const OPEN: OffsetDateTime = datetime!(2026-03-13 10:00 +9);

fn start() -> Moment {
    Moment {
        wall: OPEN,
        mono: crate::clock::now().mono,
    }
}

fn later(now: Moment, by: Duration) -> Moment {
    Moment {
        wall: now.wall + by,
        mono: now.mono + by,
    }
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn grant(n: u8, ends: OffsetDateTime) -> Grant {
    Grant {
        session: SessionId::from_uuid(Uuid::from_u128(u128::from(n))),
        generation: Generation::new(1),
        device: DeviceId::from_uuid(Uuid::from_u128(1000 + u128::from(n))),
        device_certificate_sha256: Bytes32([n; 32]),
        wireguard_public_key: Bytes32([n; 32]),
        preshared_key: Bytes32([n; 32]),
        inner_address: Ipv6Addr::from(0xfd72_u128 << 112 | (1000 + u128::from(n))),
        deadline_ms: unix_ms(ends),
        deadline_reason: EndCode::ClosingTime,
        proxy_key: Bytes32([n; 32]),
    }
}

fn events(grants: &mut Grants) -> Vec<Event> {
    std::iter::from_fn(|| grants.poll_event()).collect()
}

fn ended(grant: &Grant, reason: EndCode) -> Event {
    Event::Ended {
        session: grant.session,
        generation: grant.generation,
        reason,
    }
}

#[test]
fn a_session_passes_until_its_deadline_and_not_at_it() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    let wake = grants.poll_timeout().unwrap();
    assert_eq!(wake, now.mono + minutes(30));
    let last = later(now, minutes(30) - Duration::from_nanos(1));
    assert!(grants.is_admitted(ann.session, last));
    let end = later(now, minutes(30));
    assert!(!grants.is_admitted(ann.session, end), "no timer has run");
    grants.handle_timeout(end);
    assert_eq!(
        events(&mut grants),
        [
            Event::Installed(Box::new(ann.clone())),
            ended(&ann, EndCode::ClosingTime)
        ]
    );
    assert_eq!((grants.len(), grants.poll_timeout()), (0, None));
}

#[test]
fn a_grant_for_a_day_is_cut_to_ninety_minutes() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(24 * 60));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    assert!(!grants.is_admitted(ann.session, later(now, SESSION_LIMIT)));
    let held = grants.grant(ann.session).unwrap();
    assert_eq!(held.deadline_ms, unix_ms(OPEN + SESSION_LIMIT));
    assert_eq!(held.deadline_reason, EndCode::TimeLimit);
}

#[test]
fn a_second_grant_shortens_and_never_lengthens() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    let longer = grant(1, OPEN + minutes(60));
    grants.handle_grant(longer, OPEN, now).unwrap();
    assert_eq!(grants.poll_timeout(), Some(now.mono + minutes(30)));
    let shorter = grant(1, OPEN + minutes(10));
    let (session, deadline_ms) = (shorter.session, shorter.deadline_ms);
    grants.handle_grant(shorter, OPEN, now).unwrap();
    assert_eq!(grants.poll_timeout(), Some(now.mono + minutes(10)));
    assert_eq!(
        events(&mut grants),
        [
            Event::Installed(Box::new(ann)),
            Event::Shortened {
                session,
                deadline_ms,
                reason: EndCode::ClosingTime
            }
        ]
    );
}

#[test]
fn a_live_session_whose_new_deadline_is_over_is_out() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    let over = grant(1, OPEN);
    assert_eq!(grants.handle_grant(over, OPEN, now), Err(Refused::Past));
    assert!(!grants.is_admitted(ann.session, now));
    assert_eq!(
        events(&mut grants).last(),
        Some(&ended(&ann, EndCode::ClosingTime))
    );
}

#[test]
fn a_device_has_one_session() {
    let (mut grants, now) = (Grants::new(), start());
    let old = grant(1, OPEN + minutes(30));
    let new = Grant {
        device: old.device,
        generation: Generation::new(2),
        ..grant(2, OPEN + minutes(40))
    };
    grants.handle_grant(old.clone(), OPEN, now).unwrap();
    grants.handle_grant(new.clone(), OPEN, now).unwrap();
    assert!(!grants.is_admitted(old.session, now));
    assert!(grants.is_admitted(new.session, now));
    let back = grants.handle_grant(old.clone(), OPEN, now);
    assert_eq!(back, Err(Refused::Ended));
    assert_eq!(
        events(&mut grants),
        [
            Event::Installed(Box::new(old.clone())),
            ended(&old, EndCode::Replaced),
            Event::Installed(Box::new(new))
        ]
    );
}

#[test]
fn who_is_missing_from_the_snapshot_is_out_at_once() {
    let (mut grants, now) = (Grants::new(), start());
    let (ann, ben) = (grant(1, OPEN + minutes(30)), grant(2, OPEN + minutes(30)));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    let refused = grants.handle_snapshot(vec![ben.clone()], OPEN, now);
    assert_eq!(refused, []);
    assert!(!grants.is_admitted(ann.session, now));
    assert!(grants.is_admitted(ben.session, now));
    let refused = grants.handle_snapshot(vec![ann.clone(), ben], OPEN, now);
    assert_eq!(refused, [(ann.session, Refused::Ended)]);
}

#[test]
fn a_revocation_that_overtakes_its_grant_still_holds() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    grants.handle_end(ann.session, Generation::LAST, EndCode::Revoked, now);
    let moved = moved(&ann, 2);
    assert_eq!(grants.handle_grant(ann, OPEN, now), Err(Refused::Ended));
    assert_eq!(grants.handle_grant(moved, OPEN, now), Err(Refused::Ended));
}

/// The same session with its device's `n`th grant: another key, another address.
fn moved(grant: &Grant, n: u8) -> Grant {
    Grant {
        generation: Generation::new(n.into()),
        wireguard_public_key: Bytes32([100 + n; 32]),
        inner_address: Ipv6Addr::from(0xfd72_u128 << 112 | (2000 + u128::from(n))),
        ..grant.clone()
    }
}

#[test]
fn a_late_grant_of_an_older_session_does_not_replace_the_newer_one() {
    let (mut grants, now) = (Grants::new(), start());
    let old = grant(1, OPEN + minutes(30));
    let new = Grant {
        device: old.device,
        generation: Generation::new(2),
        ..grant(2, OPEN + minutes(40))
    };
    grants.handle_grant(new.clone(), OPEN, now).unwrap();
    let late = grants.handle_grant(old.clone(), OPEN, now);
    assert_eq!(late, Err(Refused::Superseded));
    assert!(grants.is_admitted(new.session, now));
    assert!(!grants.is_admitted(old.session, now));
}

#[test]
fn a_session_that_went_on_elsewhere_is_out_here_and_may_come_back() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    let (second, third) = (Generation::new(2), moved(&ann, 3));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    grants.handle_end(ann.session, ann.generation, EndCode::Moved, now);
    assert!(!grants.is_admitted(ann.session, now));
    let repeated = grants.handle_grant(ann.clone(), OPEN, now);
    assert_eq!(repeated, Err(Refused::Ended));
    grants.handle_grant(third.clone(), OPEN, now).unwrap();
    // The word that it left the gateway in between comes late.
    grants.handle_end(ann.session, second, EndCode::Moved, now);
    assert!(grants.is_admitted(ann.session, now));
    assert_eq!(
        events(&mut grants),
        [
            Event::Installed(Box::new(ann.clone())),
            ended(&ann, EndCode::Moved),
            Event::Installed(Box::new(third))
        ]
    );
}

#[test]
fn a_newer_grant_of_a_live_session_takes_its_place_and_lengthens_nothing() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    let longer = Grant {
        deadline_ms: ann.deadline_ms + 60_000,
        ..moved(&ann, 2)
    };
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    grants.handle_grant(longer.clone(), OPEN, now).unwrap();
    let held = grants.grant(ann.session).unwrap();
    assert_eq!(held.wireguard_public_key, longer.wireguard_public_key);
    assert_eq!(held.deadline_ms, ann.deadline_ms);
    assert!(!grants.is_admitted(ann.session, later(now, minutes(30))));
    let again = grants.handle_grant(ann.clone(), OPEN, now);
    assert_eq!(again, Err(Refused::Ended), "the older one never comes back");
    let other_device = Grant {
        device: grant(9, OPEN).device,
        ..moved(&ann, 3)
    };
    let stolen = grants.handle_grant(other_device, OPEN, now);
    assert_eq!(stolen, Err(Refused::Changed));
    assert!(grants.is_admitted(ann.session, now));
}

#[test]
fn a_session_that_went_on_elsewhere_and_ended_there_is_over_here_too() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    grants.handle_end(ann.session, ann.generation, EndCode::Moved, now);
    grants.handle_end(ann.session, Generation::LAST, EndCode::Revoked, now);
    let back = grants.handle_grant(moved(&ann, 3), OPEN, now);
    assert_eq!(back, Err(Refused::Ended));
}

#[test]
fn a_wall_clock_set_forward_ends_a_session_and_setting_it_back_does_not_revive_it() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    grants.handle_grant(ann.clone(), OPEN, now).unwrap();
    let ahead = Moment {
        wall: OPEN + minutes(31),
        mono: now.mono,
    };
    assert!(!grants.is_admitted(ann.session, ahead));
    grants.handle_timeout(ahead);
    assert!(!grants.is_admitted(ann.session, now));
    let again = grants.handle_grant(ann, OPEN, now);
    assert_eq!(again, Err(Refused::Ended));
}

#[test]
fn keys_and_addresses_are_never_shared() {
    let (mut grants, now) = (Grants::new(), start());
    let ann = grant(1, OPEN + minutes(30));
    let mut thief = grant(2, OPEN + minutes(30));
    thief.inner_address = ann.inner_address;
    let mut twin = grant(3, OPEN + minutes(30));
    twin.wireguard_public_key = ann.wireguard_public_key;
    let mut gateway = grant(4, OPEN + minutes(30));
    gateway.inner_address = GATEWAY_INNER_ADDRESS;
    let mut changed = ann.clone();
    changed.proxy_key = Bytes32([9; 32]);
    grants.handle_grant(ann, OPEN, now).unwrap();
    for taken in [thief, twin, gateway] {
        let refused = grants.handle_grant(taken, OPEN, now);
        assert_eq!(refused, Err(Refused::Taken));
    }
    let refused = grants.handle_grant(changed, OPEN, now);
    assert_eq!(refused, Err(Refused::Changed));
}

#[test]
fn a_deadline_beyond_the_calendar_is_refused() {
    let (mut grants, now) = (Grants::new(), start());
    let mut ann = grant(1, OPEN);
    ann.deadline_ms = i64::MAX;
    assert_eq!(grants.handle_grant(ann, OPEN, now), Err(Refused::NoDate));
}

#[test]
fn ten_thousand_sessions_fit_and_one_more_does_not() {
    let (mut grants, now) = (Grants::new(), start());
    for n in 0..SESSIONS_LIMIT as u128 {
        grants.handle_grant(numbered(n), OPEN, now).unwrap();
    }
    let more = numbered(SESSIONS_LIMIT as u128);
    let refused = grants.handle_grant(more.clone(), OPEN, now);
    assert_eq!(refused, Err(Refused::Full));
    grants.handle_end(
        numbered(0).session,
        Generation::LAST,
        EndCode::Disconnected,
        now,
    );
    grants.handle_grant(more, OPEN, now).unwrap();
}

#[test]
fn ended_ids_are_bounded_and_make_room_only_when_no_grant_of_theirs_can_run() {
    let (mut grants, now) = (Grants::new(), start());
    for n in 0..ENDED_LIMIT as u128 + 10 {
        let session = numbered(n).session;
        grants.handle_end(session, Generation::LAST, EndCode::Revoked, now);
    }
    assert_eq!(grants.ended.len(), ENDED_LIMIT);
    let newcomer = numbered(ENDED_LIMIT as u128 + 100);
    let refused = grants.handle_grant(newcomer.clone(), OPEN, now);
    assert_eq!(refused, Err(Refused::Full), "rather than forget one early");
    let now = later(now, SESSION_LIMIT);
    let newcomer = Grant {
        deadline_ms: unix_ms(now.wall + minutes(1)),
        ..newcomer
    };
    grants.handle_grant(newcomer, now.wall, now).unwrap();
    assert_eq!(grants.ended.len(), grants.forget.len());
    assert_eq!(grants.ended.len() + grants.len(), ENDED_LIMIT);
}

fn numbered(n: u128) -> Grant {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&n.to_le_bytes());
    Grant {
        session: SessionId::from_uuid(Uuid::from_u128(n)),
        device: DeviceId::from_uuid(Uuid::from_u128(n)),
        wireguard_public_key: Bytes32(key),
        inner_address: Ipv6Addr::from(n),
        ..grant(1, OPEN + minutes(30))
    }
}
