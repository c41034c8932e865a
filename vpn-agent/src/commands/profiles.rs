//! `profiles`, `status` and `remove`: what this PC is enrolled for, and how that stands.

use super::{
    Claim, CommandError, POLL_LIMIT, Running, ask, claim, expect_status, say, senseless,
    wait_for_decision, with_running,
};
use crate::agent::Agent;
use crate::config::Config;
use crate::control::{Reply, Request};
use crate::desk::{Choice, Desk};
use crate::status::{StatusReport, at_rest};
use crate::store::Store;
use crate::store::profiles::{ProfileId, Profiles};

pub(super) async fn list(config: &Config, store: Store, json: bool) -> Result<(), CommandError> {
    let reports = every_report(config, store).await?;
    if json {
        say(&serde_json::to_string(&reports).expect("reports have a JSON form"));
        return Ok(());
    }
    for report in &reports {
        say(&headed(report));
    }
    Ok(())
}

pub(super) async fn status(
    config: &Config,
    store: Store,
    choice: Option<Choice>,
    json: bool,
) -> Result<(), CommandError> {
    // A person is shown all there is; a program must say which one it means.
    if choice.is_none() && !json {
        let reports = every_report(config, store).await?;
        return match &reports[..] {
            [report] => {
                say(&report.to_text());
                Ok(())
            }
            several => {
                several.iter().for_each(|report| say(&headed(report)));
                Ok(())
            }
        };
    }
    let report = match claim(&store)? {
        Claim::Theirs(client) => {
            let request = Request::Status { profile: choice };
            expect_status(ask(&client, &request).await?)?
        }
        Claim::Ours(instance) => {
            let running = Running::start(config, store, instance)?;
            with_running(running, async |desk| {
                let (id, agent) = desk.choose(choice)?;
                wait_for_decision(&agent).await;
                let now = agent.clock().now();
                Ok(StatusReport {
                    profile: Some(id),
                    ..at_rest(&agent.view(), now)
                })
            })
            .await?
        }
    };
    if json {
        say(&serde_json::to_string(&report).expect("a report has a JSON form"));
    } else {
        say(&report.to_text());
    }
    Ok(())
}

pub(super) async fn remove(
    config: &Config,
    store: Store,
    choice: Option<Choice>,
    yes: bool,
) -> Result<(), CommandError> {
    let Some(choice) = choice else {
        return Err(CommandError::Told(
            "削除する登録先を「--profile 番号」でお選びください。「vpn-agent profiles」で一覧をご確認になれます。".to_owned(),
        ));
    };
    let removed = match claim(&store)? {
        Claim::Theirs(client) => {
            let request = Request::Status {
                profile: Some(choice),
            };
            let report = expect_status(ask(&client, &request).await?)?;
            if let Some(profile) = report.profile.filter(|_| yes) {
                expect_status(ask(&client, &Request::Remove { profile }).await?)?;
            }
            report
        }
        Claim::Ours(instance) => {
            let running = Running::start(config, store, instance)?;
            with_running(running, async |desk| {
                let (id, agent) = desk.choose(Some(choice))?;
                let report = agent.report();
                if yes {
                    desk.remove(id).await?;
                }
                Ok(report)
            })
            .await?
        }
    };
    if yes {
        say(
            "登録先を削除し、このパソコンの鍵を消去しました。基金側の登録の解除は、基金事務局へご連絡ください。",
        );
        return Ok(());
    }
    say(&removed.to_text());
    Err(CommandError::Told(
        "この登録先を削除し、このパソコンの鍵を消去します。元には戻せません。よろしければ「--yes」を付けてもう一度実行してください。".to_owned(),
    ))
}

async fn every_report(config: &Config, store: Store) -> Result<Vec<StatusReport>, CommandError> {
    match claim(&store)? {
        Claim::Theirs(client) => match ask(&client, &Request::Profiles).await? {
            Reply::Profiles { profiles, .. } => Ok(profiles),
            Reply::Failed { sentence } => Err(CommandError::Told(sentence)),
            Reply::Status(_) | Reply::Window { .. } => Err(senseless()),
        },
        Claim::Ours(instance) => {
            let running = Running::start(config, store, instance)?;
            with_running(running, async |desk| Ok(at_rest_each(desk).await)).await
        }
    }
}

async fn at_rest_each(desk: &Desk) -> Vec<StatusReport> {
    let agents = || {
        let profiles = desk.profiles().into_iter();
        profiles.filter_map(|profile| Some((profile.id, desk.agent(profile.id)?)))
    };
    // They all ask at once; one that gets no answer keeps nobody waiting longer.
    let decided = async {
        for (_, agent) in agents() {
            wait_for_decision(&agent).await;
        }
    };
    let _ = tokio::time::timeout(POLL_LIMIT, decided).await;
    let report = |(id, agent): (ProfileId, Agent)| StatusReport {
        profile: Some(id),
        ..at_rest(&agent.view(), agent.clock().now())
    };
    agents().map(report).collect()
}

fn headed(report: &StatusReport) -> String {
    let number = report.profile.map(|id| id.to_string()).unwrap_or_default();
    let lines = report.to_text().replace('\n', "\n  ");
    format!("登録先 {number}\n  {lines}")
}

/// Erases every profile with its key. Keys in the PC's security chip lie in no folder, so that
/// removing the folders would leave them.
pub(super) fn forget(store: Store) -> Result<(), CommandError> {
    // While somebody holds the lock, the keys are in use.
    let Claim::Ours(_lock) = claim(&store)? else {
        return Err(CommandError::Told(
            "電子連携サービスが動いています。終了してからもう一度お試しください。".to_owned(),
        ));
    };
    for (_, profile) in Profiles::beside(store).all()? {
        profile.erase()?;
    }
    Ok(())
}
