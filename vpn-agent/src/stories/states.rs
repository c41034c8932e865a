//! What the page shows is true, and soon.

use super::*;
use crate::fake_fund::Fallback;
use crate::session_state::Doubt;

/// How old what is shown may be.
const TRUE_WITHIN: Duration = Duration::from_secs(2);

/// How soon a session goes on when there is a network again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_session_that_ends_while_it_connects_gets_the_portals_reason() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    let sentence = access::EndReason::Revoked.page_text();
    pc.fund.decide(|decisions| {
        decisions.refuse_moves = Some(refusal(RefusalCode::SessionOver, sentence));
    });
    pc.fund.end_who_connects(EndCode::Revoked);
    pc.agent.tell(Command::Connect).await;
    let ended = |view: &View| matches!(view.state, State::Ended { .. });
    // Well before the tunnel would be given up as unanswered.
    let told = pc.agent.wait_for(Duration::from_secs(3), ended).await;
    assert!(told, "{:?}", pc.agent.view());
    assert_eq!(pc.agent.report().reason.as_deref(), Some(sentence));
}

#[tokio::test]
async fn an_idle_session_whose_page_is_looked_at_is_in_doubt_within_two_seconds() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    pc.exchange_a_byte().await;
    pc.agent.look();
    pc.fund.mute(true);
    let doubtful = |view: &View| matches!(view.state, State::Reconnecting(_));
    assert!(pc.agent.wait_for(TRUE_WITHIN, doubtful).await);
    let report = pc.agent.report();
    assert_eq!(report.state, StateName::Connecting);
    let reason = report.reason.unwrap();
    // A moment later it says that it tries anew.
    let truths = ["応答を待っています", "通信が途切れた"];
    assert!(
        truths.iter().any(|truth| reason.contains(truth)),
        "{reason}"
    );
    pc.fund.mute(false);
    pc.until_state(StateName::Connected).await;
}

#[tokio::test]
async fn a_pulled_cable_is_told_as_such_and_the_session_goes_on_when_it_is_back() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.connect().await;
    pc.exchange_a_byte().await;
    // The tunnel's silence is found at once, the system's word is asked for with it.
    pc.agent.look();
    pc.fund.mute(true);
    pc.sight.pull_the_cable();
    let doubtful = |view: &View| matches!(view.state, State::Reconnecting(_));
    assert!(pc.agent.wait_for(TRUE_WITHIN, doubtful).await);
    assert_eq!(pc.agent.view().doubt, Doubt::Offline);
    // What time tells does not hide it, and no gateway is asked without a network.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(pc.agent.view().doubt, Doubt::Offline);
    let reason = pc.agent.report().reason.unwrap();
    assert!(
        reason.contains("ネットワークにつながっていません"),
        "{reason}"
    );
    pc.fund.mute(false);
    pc.sight.put_the_cable_in([192, 0, 2, 1]);
    let connected = |view: &View| matches!(view.state, State::Connected(_));
    assert!(pc.agent.wait_for(BACK_WITHIN, connected).await);
}

#[tokio::test]
async fn a_tunnel_that_is_being_made_hears_of_another_network() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund
        .decide(|decisions| decisions.fallback = Fallback::NotFound);
    pc.fund.drop_udp(true);
    pc.agent.tell(Command::Connect).await;
    pc.until(|view| matches!(view.state, State::Linking(_)))
        .await;
    // Its handshakes of here are on the way when the PC moves on.
    tokio::time::sleep(Duration::from_millis(500)).await;
    pc.fund.leave_the_network();
    pc.fund.drop_udp(false);
    pc.sight.put_the_cable_in([198, 51, 100, 1]);
    let connected = |view: &View| matches!(view.state, State::Connected(_));
    assert!(pc.agent.wait_for(BACK_WITHIN, connected).await);
    pc.exchange_a_byte().await;
}

#[tokio::test]
async fn the_warning_and_the_end_are_said_beside_the_window() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    pc.fund
        .decide(|decisions| decisions.session_length = Some(Duration::from_secs(5)));
    pc.connect().await;
    pc.until_state(StateName::Ended).await;
    // The picture comes a moment before.
    for _ in 0..100 {
        if pc.said.titles().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        pc.said.titles(),
        [
            "電子連携サービス：残り2分（株式会社見本）",
            "電子連携サービス：接続は終了しました（株式会社見本）"
        ]
    );
}

#[tokio::test]
async fn the_page_hears_of_a_change_at_once_and_of_nothing_within_a_second() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    let (proxy, url) = pc.serve_proxy().await;
    let token = url.split_once("token=").unwrap().1;
    let cookie = format!("Cookie: renkei_launch={token}\r\n");
    let look = async |seen: &str| -> serde_json::Value {
        let path = format!("/status.json?seen={seen}");
        let answer = raw(proxy, &page_request("GET", &path, &cookie, "")).await;
        assert_eq!(status_of(&answer), 200, "{answer}");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let first = look("").await;
    let seen = first["picture"].as_str().unwrap().to_owned();
    let nothing = tokio::time::timeout(Duration::from_secs(2), look(&seen)).await;
    assert_eq!(nothing.unwrap()["picture"], seen.as_str());
    let (news, _) = tokio::join!(look(&seen), pc.agent.tell(Command::Connect));
    assert_ne!(news["picture"], seen.as_str());
    assert_eq!(news["state"], "connecting");
}

#[tokio::test]
async fn a_page_that_is_looked_at_all_the_time_keeps_nothing_from_being_done() {
    let pc = Pc::start().await;
    pc.become_ready().await;
    let store = Store::open(&pc.config.data_dir).unwrap();
    for _ in 0..60 {
        pc.agent.look();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What is done once a second was done.
    assert!(store.time_floor().is_some());
}
