//! Marking a place on a filing that is returned: with a real mouse, with a finger, by keyboard,
//! and at 400 pixels. The establishment sees what was drawn.

use anyhow::{Context as _, Result, ensure};
use renkei_tests::browser::{Browser, key_shown_at};
use renkei_tests::job::{AtWork, FILED_PDF, corpus};
use renkei_tests::{Stage, StageOptions};
use serde_json::json;

use super::newcomers::Person;

/// The four sides as the form has them.
const SIDES: &str = "return ['page', 'left', 'top', 'width', 'height']
    .map(id => document.getElementById(id).value)";
/// The rectangle on the picture.
const DRAWN: &str = "const rect = document.querySelector('.sheets__frame .marked__area rect');
    return rect && ['x', 'y', 'width', 'height'].map(name => Number(rect.getAttribute(name)))";
/// Where the first page lies in the window, once its picture is there.
const FRAME: &str = "const frame = document.querySelector('.sheets__frame[data-page]');
    const image = frame.querySelector('img');
    frame.scrollIntoView({block: 'start'});
    const box = frame.getBoundingClientRect();
    return image.complete && image.naturalWidth > 0 ? [box.left, box.top, box.width, box.height] : null";

/// A reviewer before a filing.
struct Reviewer<'a>(&'a Browser);

impl Reviewer<'_> {
    /// The first page's place in the window.
    async fn frame(&self) -> Result<[f64; 4]> {
        let found = renkei_tests::process::wait_for("the page's picture", 20, async || {
            let found = self.0.client.execute(FRAME, vec![]).await?;
            Ok((!found.is_null()).then_some(found))
        })
        .await?;
        Ok(serde_json::from_value(found)?)
    }

    async fn mouse(&self, kind: &str, (x, y): (f64, f64), pressed: bool) -> Result<()> {
        let event = json!({"type": kind, "x": x, "y": y, "button": "left",
            "buttons": i32::from(pressed), "clickCount": 1, "pointerType": "mouse"});
        self.0.devtools("Input.dispatchMouseEvent", event).await?;
        Ok(())
    }

    /// Draws from one place of the picture to another, both in parts of a hundred.
    async fn drag(&self, from: (f64, f64), to: (f64, f64)) -> Result<()> {
        let [left, top, width, height] = self.frame().await?;
        let at = |(x, y): (f64, f64)| (left + width * x / 100.0, top + height * y / 100.0);
        let between = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
        self.mouse("mouseMoved", at(from), false).await?;
        self.mouse("mousePressed", at(from), true).await?;
        self.mouse("mouseMoved", at(between), true).await?;
        self.mouse("mouseMoved", at(to), true).await?;
        self.mouse("mouseReleased", at(to), false).await
    }

    async fn sides(&self) -> Result<[String; 5]> {
        let sides = self.0.client.execute(SIDES, vec![]).await?;
        Ok(serde_json::from_value(sides)?)
    }

    /// Whether the form and the picture say the same rectangle, within half a percent of this.
    async fn shows(&self, wanted: [f64; 4]) -> Result<()> {
        let [page, sides @ ..] = self.sides().await?;
        ensure!(page == "1", "page {page}");
        let typed = sides.iter().map(|side| side.parse::<f64>());
        let typed: Vec<f64> = typed
            .collect::<Result<_, _>>()
            .context(format!("{sides:?}"))?;
        let drawn = self.0.client.execute(DRAWN, vec![]).await?;
        let drawn: Vec<f64> = serde_json::from_value(drawn)?;
        let is_near = |all: &[f64]| {
            let pairs = all.iter().zip(wanted);
            all.len() == 4 && pairs.clone().all(|(one, other)| (one - other).abs() < 0.6)
        };
        ensure!(
            is_near(&typed) && is_near(&drawn),
            "wanted {wanted:?}, typed {typed:?}, drawn {drawn:?}"
        );
        Ok(())
    }
}

/// A mark on a page is drawn with a mouse in every direction and over the edge, moved by keyboard,
/// narrow and wide; a click marks the whole page, a finger scrolls; the establishment sees the
/// rectangle that was sent.
#[tokio::test]
async fn a_place_is_marked_with_a_mouse_and_by_keyboard_and_the_establishment_sees_it() -> Result<()>
{
    let stage = Stage::start(StageOptions::default()).await?;
    let work = AtWork::on(&stage).await?;
    let pdf = corpus(&format!("good/{FILED_PDF}"))?;
    work.pages.file(FILED_PDF, &pdf, None).await?;
    let filing = work.office.take_oldest().await?;
    let folder = stage.folder().join("browsers");
    std::fs::create_dir_all(&folder)?;
    let key = key_shown_at(&stage.office_url(), &stage.ca_file()).await?;
    let office = Browser::open(&folder, "office", None, Some(&key)).await?;
    let base = stage.office_url();
    office
        .take_cookies(&base, &work.office.site.cookie_header())
        .await?;
    office.set_window(1280, 900).await?;
    office
        .go(&format!("{}{filing}", base.trim_end_matches('/')))
        .await?;
    let reviewer = Reviewer(&office);

    reviewer.drag((20.0, 10.0), (60.0, 22.0)).await?;
    reviewer.shows([20.0, 10.0, 40.0, 12.0]).await?;
    // From the lower right to the upper left, and beyond the page's edge.
    reviewer.drag((70.0, 40.0), (30.0, 30.0)).await?;
    reviewer.shows([30.0, 30.0, 40.0, 10.0]).await?;
    reviewer.drag((90.0, 5.0), (110.0, 12.0)).await?;
    reviewer.shows([90.0, 5.0, 10.0, 7.0]).await?;
    // A click marks the whole page.
    reviewer.drag((50.0, 20.0), (50.0, 20.0)).await?;
    ensure!(reviewer.sides().await? == ["1", "", "", "", ""].map(str::to_owned));
    let drawn = office.client.execute(DRAWN, vec![]).await?;
    ensure!(drawn == json!([0, 0, 100, 100]), "{drawn}");

    // Narrow, as on a small tablet: mouse, and a finger that scrolls.
    office.set_window(400, 900).await?;
    reviewer.drag((10.0, 10.0), (50.0, 20.0)).await?;
    reviewer.shows([10.0, 10.0, 40.0, 10.0]).await?;
    let before = reviewer.sides().await?;
    let [left, top, width, height] = reviewer.frame().await?;
    for (kind, y) in [("touchStart", 0.4), ("touchMove", 0.2), ("touchEnd", 0.0)] {
        let point = json!([{"x": left + width / 2.0, "y": top + height * y}]);
        let points = if kind == "touchEnd" { json!([]) } else { point };
        let event = json!({"type": kind, "touchPoints": points});
        office.devtools("Input.dispatchTouchEvent", event).await?;
    }
    ensure!(reviewer.sides().await? == before, "a finger scrolls");
    office.set_window(1280, 900).await?;

    // By keyboard: the fields, and the picture follows.
    let person = Person(&office);
    for (label, text) in [
        ("左から（％）", "12.5"),
        ("上から（％）", "20"),
        ("幅（％）", "30"),
        ("高さ（％）", "5.5"),
    ] {
        person.fill(label, text).await?;
    }
    reviewer.shows([12.5, 20.0, 30.0, 5.5]).await?;
    // What is refused comes back as it was marked.
    person.press("差し戻す").await?;
    person.reads("入力内容をご確認ください").await?;
    reviewer.shows([12.5, 20.0, 30.0, 5.5]).await?;
    reviewer.drag((25.0, 15.0), (75.0, 25.0)).await?;
    reviewer.shows([25.0, 15.0, 50.0, 10.0]).await?;
    let sent = reviewer.sides().await?;
    person.field("理由").await?.select_by_index(1).await?;
    person
        .fill("事業所への説明", "喪失年月日が空欄です。")
        .await?;
    person.press("差し戻す").await?;
    person.reads("差戻しの理由").await?;
    office.close().await?;

    let page = work.pages.site.get(&filing).await?;
    page.must_say("喪失年月日が空欄です")?
        .must_say("1ページ目")?;
    for (name, sent) in ["x", "y", "width", "height"].iter().zip(&sent[1..]) {
        let shown = page.attribute(".marked__area rect", name)?;
        let (shown, sent): (f64, f64) = (shown.parse()?, sent.parse()?);
        ensure!((shown - sent).abs() < 0.06, "{name}: {shown} for {sent}");
    }
    let picture = page.attribute(".marked img", "src")?;
    let (_, png) = work.pages.site.download(&picture).await?;
    ensure!(png.starts_with(b"\x89PNG"), "a picture of the marked page");
    Ok(())
}
