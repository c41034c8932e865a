//! Functions of the service that Renkei takes the place of, each shown where no other story
//! shows it. The numbers are those of `docs/FEATURES.md`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use renkei_tests::batches::supervisor;
use renkei_tests::job::{ADMIN_EMAIL, AtWork, CORPUS_PASSWORD, corpus, matching_code_in};
use renkei_tests::pages::{Form, OfficePages, Page, Site};
use renkei_tests::process::output;
use renkei_tests::stage::ESTABLISHMENT_NUMBER;
use renkei_tests::{Stage, StageOptions};
use reqwest::Method;
use reqwest::multipart;

const REGISTRATION: &str = "電子連携管理者登録届(000123)";
/// Where the kernel says what a program could change of the network.
const NETWORK_FILES: [&str; 4] = [
    "/proc/net/route",
    "/proc/net/ipv6_route",
    "/proc/net/if_inet6",
    "/etc/resolv.conf",
];

/// Staff drop forms as they arrived: xlsx and password zip.
async fn drop_forms(office: &OfficePages, names: &[&str]) -> Result<Page> {
    let page = office.site.get("/registrations/new").await?;
    let mut form = multipart::Form::new()
        .text("csrf", page.attribute("input[name=csrf]", "value")?)
        .text("zip_password", CORPUS_PASSWORD);
    for name in names {
        let bytes = corpus(&format!("registration/{name}"))?;
        let file = name.rsplit('/').next().unwrap_or_default().to_owned();
        form = form.part("files", multipart::Part::bytes(bytes).file_name(file));
    }
    let request = office.site.request(Method::POST, "/registrations/new");
    let answer = office.site.send(request.multipart(form)).await?;
    Ok(Page {
        path: "/registrations/new".into(),
        status: answer.status(),
        headers: answer.headers().clone(),
        html: answer.text().await?,
    })
}

/// S003-13, S003-14, S003-15, S003-16, S003-17, S003-20, S003-21, S003-22: a registration
/// form, as xlsx or in its password zip, becomes establishment, mail and letter at once;
/// the example row becomes nothing, a bad form is refused with its reason, and dropping the
/// same form again harms nothing.
#[tokio::test]
async fn registration_forms_become_establishments_mails_and_letters_in_one_go() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let office = OfficePages::open(&stage)?;
    office.sign_in(&stage).await?;

    let refused = [
        "number_differs",
        "no_mail",
        "bad_mail",
        "kana",
        "devices",
        "formula",
    ]
    .map(|what| format!("bad/{what}_{REGISTRATION}.xlsx"));
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let page = drop_forms(&office, &refused).await?;
    page.must_say("登録 0件、登録済み 0件、登録できないもの 6件")?;

    let page = drop_forms(&office, &[&format!("good/{REGISTRATION}.zip")]).await?;
    page.must_say("登録 1件、登録済み 0件、登録できないもの 0件")?;
    let letter = page.attribute("#letters", "href")?;
    ensure!(
        letter.starts_with("data:application/pdf;base64,"),
        "a letter"
    );
    let page = drop_forms(&office, &[&format!("good/{REGISTRATION}.xlsx")]).await?;
    page.must_say("登録 0件、登録済み 1件")?;

    let list = office.site.get("/establishments").await?;
    list.must_say(ESTABLISHMENT_NUMBER)?;
    let rows = list.find_all("tbody tr");
    ensure!(rows.len() == 1, "the example is no data: {rows:?}");
    let mails = stage.mailbox();
    let mail = renkei_tests::process::wait_for("the invitation", 30, async || {
        let mails = mails.mails()?;
        Ok(mails
            .into_iter()
            .find(|mail| mail.subject.contains("ご案内")))
    })
    .await?;
    ensure!(mail.body.contains("郵便でお送りします"), "{}", mail.body);
    Ok(())
}

/// What programs see of the PC's network.
fn network() -> Result<Vec<String>> {
    let mut seen = vec![output(Command::new("ls").arg("/sys/class/net"))?];
    for file in NETWORK_FILES {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // Routes are followed by counters of their use.
        let lines = text.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let kept = match file {
                "/proc/net/route" => [0, 1, 2, 3, 7].map(|at| words.get(at).copied()).to_vec(),
                "/proc/net/ipv6_route" => [0, 1, 4, 9].map(|at| words.get(at).copied()).to_vec(),
                _ => words.iter().map(|word| Some(*word)).collect(),
            };
            kept.into_iter().flatten().collect::<Vec<_>>().join(" ")
        });
        seen.push(lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(seen)
}

/// S003-07, S003-31, S003-32, S003-36, S003-38, S003-41: while a PC is connected its network
/// is as it was, and mail comes in: there is nothing to be warned of, and nothing that a
/// forgotten disconnect takes away. A further PC is registered and approved by itself, and
/// the admin is told by mail.
#[tokio::test]
async fn a_connected_pc_keeps_its_network_and_its_mail() -> Result<()> {
    let stage = Stage::start(StageOptions::default()).await?;
    let before = network()?;
    let mut work = AtWork::on(&stage).await?;
    ensure!(work.agent.status()?["state"] == "connected");
    ensure!(network()? == before, "{:?} was {before:?}", network()?);

    let told = stage.mailbox().mails()?.len();
    let further = work.office.further_code().await?;
    let mut second = stage.agent("pc2")?;
    let printed = second.enrol(ESTABLISHMENT_NUMBER, &further)?;
    let matching = matching_code_in(&printed).context("a matching code")?;
    work.office.approve(&matching).await?;
    let mails = stage.mailbox();
    renkei_tests::process::wait_for("the mail about the second PC", 30, async || {
        let new = mails.mails()?.split_off(told);
        Ok(new
            .into_iter()
            .find(|mail| mail.to == ADMIN_EMAIL && mail.subject.contains("登録が完了")))
    })
    .await?;
    second.start(&["open", "--no-browser"])?;
    second.wait_state("ready").await?;
    ensure!(work.agent.status()?["state"] == "connected");

    output(&mut work.agent.command(&["disconnect"]))?;
    work.agent.wait_state("ended").await?;
    ensure!(network()? == before, "{:?} was {before:?}", network()?);
    Ok(())
}

/// Waits until a story about today can end on the same day of Tokyo as it began on.
#[expect(
    clippy::disallowed_methods,
    reason = "the programs of a story have the machine's clock"
)]
async fn let_midnight_pass() {
    const STORY: time::Duration = time::Duration::minutes(5);
    let tokyo = time::OffsetDateTime::now_utc().to_offset(time::macros::offset!(+9));
    let day_ends = (tokyo + STORY).replace_time(time::Time::MIDNIGHT);
    if day_ends > tokyo {
        tokio::time::sleep((day_ends - tokyo).unsigned_abs()).await;
    }
}

/// S003-06, S003-11: what was registered during the preparation is there on the first day;
/// from then on the fund's calendar decides, which staff edit, and who is turned away is told
/// why and when it opens next.
#[tokio::test]
async fn what_was_prepared_is_there_on_the_first_day_and_the_calendar_decides() -> Result<()> {
    let_midnight_pass().await;
    let mut stage = Stage::start(StageOptions::default()).await?;
    let mut work = AtWork::on(&stage).await?;
    let page = work.pages.site.get("/").await?;
    ensure!(
        page.html.contains("これは練習用の環境です"),
        "{}",
        page.html
    );
    output(&mut work.agent.command(&["disconnect"]))?;
    work.agent.wait_state("ended").await?;

    let config = std::fs::read_to_string(stage.portal_config())?;
    let live = config.replace("rehearsal = true", "rehearsal = false");
    ensure!(live != config, "the preparation ends: {config}");
    std::fs::write(stage.portal_config(), live)?;
    stage.portal.terminate()?;
    stage.restart_portal().await?;

    let boss = supervisor(&stage).await?;
    let page = boss.site.get("/calendar").await?;
    ensure!(!page.html.contains("これは練習用の環境です"), "it is live");
    let today = iso_date(&page.find("tr:has(strong) td")?)?;
    let closing = [("day", today.as_str()), ("reason", "見本の休業")];
    edit_calendar(&boss.site, &page.form("/calendar/preview")?, &closing)
        .await?
        .must_say("登録しました")?;
    let refused = work.agent.command(&["connect"]).output()?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    let status = work.agent.status()?;
    let told = status["reason"].as_str().context("a reason")?;
    ensure!(
        told.contains("基金の休業日（見本の休業）") && told.contains("次回は"),
        "{told}"
    );
    ensure!(status["next_opening"].is_string(), "{status}");

    let page = boss.site.get("/calendar").await?;
    edit_calendar(&boss.site, &page.form("/calendar/remove/preview")?, &[])
        .await?
        .must_say("削除しました")?;
    let page = boss.site.get("/calendar").await?;
    let open = [
        ("day", today.as_str()),
        ("opens", "00:00"),
        ("closes", "23:59"),
        ("kind", "extra"),
    ];
    edit_calendar(&boss.site, &page.form("/calendar/preview")?, &open)
        .await?
        .must_say("登録しました")?;
    work.agent.connect().await?;
    Ok(())
}

/// S003-18: an establishment handles another one that is related to it: staff enter the filing
/// that says so, and the managing establishment finds the other where it chooses whom it acts
/// for.
#[tokio::test]
async fn one_establishment_handles_another_that_staff_entered_for_it() -> Result<()> {
    const OTHER: &str = "見本電機販売株式会社";
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    work.office
        .register_as(
            "0124",
            OTHER,
            "hanbai",
            "販売 三郎",
            "saburo@mihon-hanbai.example",
        )
        .await?;
    let page = work.office.site.get("/delegations").await?;
    let form = page
        .form("/delegations/groups")?
        .fill("manager", ESTABLISHMENT_NUMBER)?
        .fill("clients", "0124")?
        .fill("consent", "2026年4月1日 書面")?;
    work.office.site.submit(&form).await?.must_say(OTHER)?;
    work.pages.site.get("/desk").await?.must_say(OTHER)?;
    Ok(())
}

/// Fills in a form of the calendar, looks at what it would change, and saves that.
async fn edit_calendar(site: &Site, form: &Form, fields: &[(&str, &str)]) -> Result<Page> {
    let mut form = form.clone();
    for (name, value) in fields {
        form = form.fill(name, value)?;
    }
    let preview = site.submit(&form).await?;
    let preview = preview.must_say("まだ保存していません")?;
    let action = match preview.form("/calendar") {
        Ok(form) => form,
        Err(_) => preview.form("/calendar/remove")?,
    };
    site.submit(&action).await
}

/// `2026年11月21日（土）` as a date field has it.
fn iso_date(page: &str) -> Result<String> {
    let numbers: Vec<u16> = page
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    let [year, month, day, ..] = numbers[..] else {
        anyhow::bail!("no date: {page}")
    };
    Ok(format!("{year:04}-{month:02}-{day:02}"))
}
