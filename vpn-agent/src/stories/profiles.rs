//! A sharoushi's PC: several establishments and funds in one agent.

use super::*;
use crate::desk::{Choice, DeskError};
use crate::store::profiles::Profiles;

/// A PC that may enrol at two funds.
async fn at_two_funds() -> (Pc, FakeFund) {
    let (fund, other) = (FakeFund::start().await, FakeFund::start().await);
    for fund in [&fund, &other] {
        fund.decide(|decisions| decisions.approve = true);
    }
    let ca_pem = format!("{}{}", fund.ca_pem(), other.ca_pem());
    let pc = Pc::believing(&ca_pem, ProxySettings::None, fund, time::Duration::ZERO);
    (pc, other)
}

fn application(fund: &FakeFund, establishment: &str) -> Application {
    Application {
        gateway: fund.url.parse().unwrap(),
        establishment: establishment.parse().unwrap(),
        code: CODE.into(),
    }
}

async fn become_ready(agent: &Agent) {
    let ready = |view: &View| StateName::from(&view.state) == StateName::Ready;
    assert!(agent.wait_for(LIMIT, ready).await, "{:?}", agent.view());
}

async fn connect(agent: &Agent) {
    agent.tell(Command::Connect).await;
    let connected = |view: &View| StateName::from(&view.state) == StateName::Connected;
    assert!(agent.wait_for(LIMIT, connected).await, "{:?}", agent.view());
}

#[tokio::test]
async fn two_funds_are_connected_at_once_and_end_each_for_itself() {
    let (pc, other_fund) = at_two_funds().await;
    let first = pc.desk.enrol(None, application(&pc.fund, "0123")).await;
    let second = pc.desk.enrol(None, application(&other_fund, "0123")).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first, ProfileId::FIRST);
    assert_ne!(first, second);
    let other = pc.desk.agent(second).unwrap();
    become_ready(&pc.agent).await;
    become_ready(&other).await;

    let served = pc.desk.serve(first).await.unwrap();
    let served_too = pc.desk.serve(second).await.unwrap();
    assert_ne!(served.proxy, served_too.proxy);
    connect(&pc.agent).await;
    connect(&other).await;
    assert!(pc.desk.is_busy());
    let session = |agent: &Agent| agent.view().session().unwrap().id;
    assert_ne!(session(&pc.agent), session(&other));
    for fund in [&pc.fund, &other_fund] {
        assert_eq!(fund.decisions.lock().unwrap().sessions_granted, 1);
    }
    pc.agent.tell(Command::Disconnect).await;
    pc.until_state(StateName::Ended).await;
    let link = other.route().unwrap().link;
    let mut stream = link.open_stream().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
    assert_eq!(other.report().state, StateName::Connected);
}

#[tokio::test]
async fn profiles_survive_a_restart_each_with_its_own_key() {
    let (mut pc, other_fund) = at_two_funds().await;
    pc.desk
        .enrol(None, application(&pc.fund, "0123"))
        .await
        .unwrap();
    let second = pc.desk.enrol(None, application(&other_fund, "0456")).await;
    let second = second.unwrap();
    become_ready(&pc.desk.agent(second).unwrap()).await;
    become_ready(&pc.agent).await;
    let codes = |pc: &Pc| -> Vec<_> {
        let profiles = pc.desk.profiles().into_iter();
        profiles.map(|p| p.view.pc.unwrap().matching_code).collect()
    };
    let before = codes(&pc);
    assert_ne!(before[0], before[1]);
    pc.restart(time::Duration::ZERO).await;
    assert_eq!(codes(&pc), before);
    connect(&pc.desk.agent(second).unwrap()).await;
}

#[tokio::test]
async fn with_several_profiles_a_wish_must_say_which_and_with_one_it_need_not() {
    let (pc, other_fund) = at_two_funds().await;
    assert_eq!(pc.desk.choose(None).unwrap().0, ProfileId::FIRST);
    assert_eq!(pc.desk.landing(None).unwrap().1, Landing::Profile);
    pc.desk
        .enrol(None, application(&pc.fund, "0123"))
        .await
        .unwrap();
    // The same establishment again is the same profile.
    let again = pc.desk.enrol(None, application(&pc.fund, "0123")).await;
    assert_eq!(again.unwrap(), ProfileId::FIRST);
    assert_eq!(pc.desk.profiles().len(), 1);
    let second = pc.desk.enrol(None, application(&other_fund, "0456")).await;
    let second = second.unwrap();
    // The list learns of it a moment after the request was answered.
    let listed = async {
        while pc.desk.profiles().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), listed)
        .await
        .unwrap_or_else(|_| {
            let all = [pc.desk.agent(ProfileId::FIRST), pc.desk.agent(second)];
            panic!(
                "{second:?} is not listed: {:#?}",
                all.map(|agent| agent.map(|one| one.view()))
            )
        });
    let Err(DeskError::Ambiguous(found)) = pc.desk.choose(None) else {
        panic!("two may be meant");
    };
    assert_eq!(found.len(), 2);
    assert_eq!(
        pc.desk.landing(None).unwrap(),
        (ProfileId::FIRST, Landing::List)
    );
    let by_number: Choice = "0456".parse().unwrap();
    become_ready(&pc.desk.agent(second).unwrap()).await;
    assert_eq!(pc.desk.choose(Some(by_number)).unwrap().0, second);
    let unknown: Choice = "9".parse().unwrap();
    let error = pc.desk.choose(Some(unknown)).unwrap_err();
    assert!(error.page_text().contains("「9」"), "{}", error.page_text());
}

#[tokio::test]
async fn a_wrong_code_for_one_more_establishment_touches_no_other() {
    let (pc, other_fund) = at_two_funds().await;
    pc.desk
        .enrol(None, application(&pc.fund, "0123"))
        .await
        .unwrap();
    become_ready(&pc.agent).await;
    let wrong = Application {
        code: "WRONG".into(),
        ..application(&other_fund, "0456")
    };
    let error = pc.desk.enrol(None, wrong).await.unwrap_err();
    assert_eq!(error.page_text(), "登録コードが違います。");
    assert_eq!(pc.desk.profiles().len(), 1);
    assert_eq!(pc.agent.report().state, StateName::Ready);
    // The place that came to nothing is used for the next try.
    let second = pc.desk.enrol(None, application(&other_fund, "0456")).await;
    assert_eq!(second.unwrap(), "2".parse().unwrap());
}

#[tokio::test]
async fn a_profile_is_removed_with_its_key_and_never_while_it_is_connected() {
    let (mut pc, other_fund) = at_two_funds().await;
    pc.desk
        .enrol(None, application(&pc.fund, "0123"))
        .await
        .unwrap();
    let second = pc.desk.enrol(None, application(&other_fund, "0456")).await;
    let second = second.unwrap();
    become_ready(&pc.agent).await;
    connect(&pc.agent).await;
    let error = pc.desk.remove(ProfileId::FIRST).await.unwrap_err();
    assert!(
        error.page_text().contains("接続中"),
        "{}",
        error.page_text()
    );
    assert_eq!(pc.agent.report().state, StateName::Connected);
    pc.agent.tell(Command::Disconnect).await;
    pc.until_state(StateName::Ended).await;
    pc.desk.remove(ProfileId::FIRST).await.unwrap();
    assert_eq!(pc.agent.report().state, StateName::Unenrolled);
    let store = Store::open(&pc.config.data_dir).unwrap();
    assert!(store.is_unused().unwrap());
    let left: Vec<_> = pc.desk.profiles().into_iter().map(|p| p.id).collect();
    assert_eq!(left, [second]);
    // The other is the only one now.
    assert_eq!(pc.desk.choose(None).unwrap().0, second);
    pc.restart(time::Duration::ZERO).await;
    assert_eq!(pc.desk.choose(None).unwrap().0, second);
}

#[tokio::test]
async fn an_agent_with_one_profile_before_has_it_after() {
    let mut pc = Pc::start().await;
    pc.become_ready().await;
    let before = pc.agent.view().pc.unwrap().matching_code;
    pc.desk.end().await;
    // As an agent that knew no profiles left it.
    std::fs::remove_dir_all(pc.config.data_dir.join("profiles")).unwrap();
    pc.restart(time::Duration::ZERO).await;
    assert_eq!(pc.agent.view().pc.unwrap().matching_code, before);
    pc.connect().await;
    let store = Store::open(&pc.config.data_dir).unwrap();
    let all = Profiles::beside(store).all().unwrap();
    assert_eq!(all.len(), 1);
}

#[tokio::test]
async fn who_asks_an_agent_that_is_ending_is_told_so() {
    let pc = Pc::start().await;
    pc.desk.end().await;
    for choice in [None, Some(Choice::Id(ProfileId::FIRST))] {
        let asked = pc.desk.choose(choice);
        assert!(matches!(asked, Err(DeskError::Ending)), "{asked:?}");
    }
}

#[tokio::test]
async fn the_list_shows_adds_opens_and_removes_profiles() {
    let (mut pc, other_fund) = at_two_funds().await;
    pc.desk
        .enrol(None, application(&pc.fund, "0123"))
        .await
        .unwrap();
    become_ready(&pc.agent).await;
    let (proxy, url) = pc.serve_proxy().await;
    let token = url.split_once("token=").unwrap().1;
    let cookie = format!("Cookie: renkei_launch={token}\r\n");
    let get = async |path: &str| raw(proxy, &page_request("GET", path, &cookie, "")).await;
    let entered = raw(
        proxy,
        &page_request("GET", &format!("/?token={token}&list=1"), "", ""),
    )
    .await;
    assert!(entered.contains("location: /profiles"), "{entered}");
    assert_eq!(
        status_of(&raw(proxy, &page_request("GET", "/profiles", "", "")).await),
        403
    );

    let list = get("/profiles").await;
    assert!(
        list.contains("株式会社見本") && list.contains("接続できます"),
        "{list}"
    );
    let csrf = list.split_once("name=\"csrf\" value=\"").unwrap().1;
    let csrf = csrf.split_once('"').unwrap().0;
    let headers = format!(
        "{cookie}Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://{PAGE_HOST}\r\n"
    );
    let post = async |path: &str, fields: &str| {
        let body = format!("csrf={csrf}&{fields}");
        raw(proxy, &page_request("POST", path, &headers, &body)).await
    };
    // With a mistake, what was typed stays and nothing is added.
    let wrong = post(
        "/profiles/add",
        "gateway=http%3A%2F%2Fx&establishment=77&code=",
    )
    .await;
    assert_eq!(status_of(&wrong), 422);
    assert!(
        wrong.contains("value=\"77\"") && wrong.contains("<details open>"),
        "{wrong}"
    );
    let good = format!("gateway={}&establishment=0456&code={CODE}", other_fund.url);
    let added = post("/profiles/add", &good).await;
    assert_eq!(status_of(&added), 303, "{added}");
    let second: ProfileId = "2".parse().unwrap();
    become_ready(&pc.desk.agent(second).unwrap()).await;
    let json = get("/profiles.json").await;
    let json = json.split_once("\r\n\r\n").unwrap().1;
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["profiles"][1]["profile"], 2);
    assert_eq!(json["profiles"][1]["state"], "ready");

    // One's own window is here already; another one's is asked for.
    assert!(
        post("/profiles/open", "profile=1")
            .await
            .contains("location: /\r\n")
    );
    let (opened, request) = tokio::join!(post("/profiles/open", "profile=2"), async {
        let request = pc.windows.recv().await.unwrap();
        let wanted = (request.profile, request.landing, request.no_browser);
        request.reply.send(Ok(String::new())).unwrap();
        wanted
    });
    assert_eq!(status_of(&opened), 303);
    assert_eq!(request, (second, Landing::Profile, false));
    for rubbish in ["profile=", "profile=99", "profile=x", ""] {
        assert!(
            post("/profiles/open", rubbish)
                .await
                .contains("location: /profiles")
        );
        assert!(
            post("/profiles/remove", rubbish)
                .await
                .contains("location: /profiles")
        );
    }

    // Removing asks first, and the question alone removes nothing.
    let question = get("/profiles/remove?profile=2").await;
    assert!(question.contains("元には戻せません"), "{question}");
    assert_eq!(pc.desk.profiles().len(), 2);
    assert_eq!(status_of(&post("/profiles/remove", "profile=2").await), 303);
    assert_eq!(pc.desk.profiles().len(), 1);
}
