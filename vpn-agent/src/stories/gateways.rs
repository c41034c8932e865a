//! What the agent makes of its gateways: one that stops, the list, the PC's certificate.

use super::*;

use protocol::SessionId;

impl Pc {
    fn session(&self) -> SessionId {
        self.agent.view().state.session().unwrap().id
    }

    async fn moves(&self, times: usize) {
        let moved = async {
            while self.fund.decisions.lock().unwrap().moves < times {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let moved = tokio::time::timeout(LIMIT, moved).await;
        assert!(moved.is_ok(), "{:?}", self.agent.view());
    }
}

#[tokio::test]
async fn a_gateway_that_stops_ends_no_session_while_there_is_one_to_go_on_through() {
    for code in [EndCode::GatewayStopped, EndCode::Moved] {
        let pc = Pc::start().await;
        pc.become_ready().await;
        pc.connect().await;
        pc.exchange_a_byte().await;
        let before = pc.agent.view();
        let session = pc.session();
        pc.fund.end_session(session, code);
        pc.moves(1).await;
        pc.until_state(StateName::Connected).await;
        pc.exchange_a_byte().await;
        let after = pc.agent.view();
        let (before, after) = (
            before.state.session().unwrap(),
            after.state.session().unwrap(),
        );
        assert_eq!(
            (after.id, after.ends_at_wall),
            (before.id, before.ends_at_wall)
        );
        assert!(after.ends_at <= before.ends_at, "no more time than before");
        assert_eq!(after.code_mailed_to, before.code_mailed_to);
        assert_eq!(pc.fund.decisions.lock().unwrap().sessions_granted, 1);
    }
}

#[tokio::test]
async fn a_session_that_the_portal_says_is_over_ends_with_the_portals_sentence() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    pc.exchange_a_byte().await;
    let sentence = "接続から90分が経過したため、自動的に切断しました。";
    pc.fund.decide(|decisions| {
        decisions.refuse_moves = Some(refusal(RefusalCode::SessionOver, sentence));
    });
    pc.fund.end_session(pc.session(), EndCode::GatewayStopped);
    pc.until(|view| matches!(&view.state, State::Ended { sentence: shown } if shown == sentence))
        .await;
    assert_eq!(
        pc.fund.decisions.lock().unwrap().ended,
        [],
        "it knows already"
    );
}

#[tokio::test]
async fn a_session_goes_on_trying_while_no_gateway_helps_and_leaves_when_the_user_does() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    pc.exchange_a_byte().await;
    let session = pc.session();
    pc.fund.decide(|decisions| {
        decisions.refuse_moves = Some(refusal(RefusalCode::Unavailable, "つながりません。"));
    });
    pc.fund.end_session(session, EndCode::GatewayStopped);
    pc.until_state(StateName::Connecting).await;
    pc.fund.decide(|decisions| decisions.refuse_moves = None);
    pc.moves(1).await;
    pc.until_state(StateName::Connected).await;
    assert_eq!(pc.session(), session);
    pc.agent.tell(Command::Disconnect).await;
    pc.until_state(StateName::Ended).await;
}

#[tokio::test]
async fn the_portals_list_of_gateways_is_kept_for_the_next_run() {
    let mut pc = Pc::start().await;
    let listed = [
        "https://gw2.example.jp".to_owned(),
        "not a gateway".to_owned(),
    ];
    pc.fund
        .decide(|decisions| decisions.listed_gateways = listed.to_vec());
    pc.become_ready().await;
    pc.agent.tell(Command::WatchService).await;
    let enrolment = || {
        let store = Store::open(&pc.config.data_dir).unwrap();
        store.find().unwrap().into_current().unwrap()
    };
    let expected = [listed[0].parse().unwrap()];
    let kept = async {
        while enrolment()
            .known_gateways()
            .is_none_or(|known| known.listed != expected)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, kept).await.unwrap();
    let own = pc.fund.url.parse().unwrap();
    assert_eq!(enrolment().known_gateways().unwrap().last_good, Some(own));
    // The one that is gone does not stand in the way of the one that helps.
    pc.restart(time::Duration::ZERO).await;
    pc.until_state(StateName::Ready).await;
    pc.connect().await;
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_renewed_for_the_same_key_and_used() {
    let mut pc = Pc::start().await;
    pc.become_ready().await;
    let soon = to_unix_ms(Clock::system(None).now().wall) + 10 * 24 * 60 * 60 * 1000;
    pc.fund
        .decide(|decisions| decisions.certificate_expires_ms = Some(soon));
    pc.agent.tell(Command::WatchService).await;
    let certificate = || {
        let store = Store::open(&pc.config.data_dir).unwrap();
        let enrolment = store.find().unwrap().into_current().unwrap();
        enrolment.enrolled().unwrap().certificate.clone()
    };
    let first = certificate();
    let renewed = async {
        while certificate() == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.unwrap();
    assert_eq!(pc.fund.decisions.lock().unwrap().renewals, 1);
    // In this run and in the next one the gateway sees the new certificate.
    pc.connect().await;
    pc.exchange_a_byte().await;
    pc.restart(time::Duration::ZERO).await;
    pc.until_state(StateName::Ready).await;
    pc.connect().await;
    pc.exchange_a_byte().await;
    assert_eq!(
        pc.fund.decisions.lock().unwrap().renewals,
        1,
        "once is enough"
    );
}
