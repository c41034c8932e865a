//! Runs of the command line beside each other, on one data folder.

use super::*;
use crate::{cli, commands};

#[tokio::test]
async fn who_wants_a_window_of_a_run_that_waits_for_staff_is_told_at_once() {
    let fund = FakeFund::start().await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, fund.ca_pem()).unwrap();
    let config = Config {
        update_key: None,
        data_dir: folder.path().join("data"),
        gateway_url: Some(fund.url.parse().unwrap()),
        gateway_ca_file: Some(ca_file),
        browser: None,
        browser_args: Vec::new(),
        proxy_port: 0,
        proxy: ProxySettings::None,
    };
    let store = Store::open(&config.data_dir).unwrap();
    let enrol = cli::Command::Enrol {
        gateway: None,
        establishment: "0123".parse().unwrap(),
        code: CODE.into(),
        no_wait: false,
    };
    let run = tokio::spawn(async move { commands::run(enrol, None, &config).await });
    let listens = store.run_dir().join("control");
    let listening = async {
        while !listens.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, listening).await.unwrap();
    let Claim::Theirs(client) = control::claim(&store).unwrap() else {
        panic!("the run holds the folder");
    };
    let open = Request::Open {
        profile: None,
        no_browser: false,
        file: None,
    };
    match client.ask(&open).await.unwrap() {
        Reply::Failed { sentence } => {
            assert!(sentence.contains("画面がありません"), "{sentence}");
        }
        reply => panic!("{reply:?}"),
    }
    assert!(!run.is_finished(), "staff have not decided");
    client.ask(&Request::Quit).await.unwrap();
    run.await.unwrap().unwrap();
}
