//! What a finished upload should be called.

use access::JST;
use time::{Date, Duration, OffsetDateTime};

use super::{HandInFailure, turn};
use crate::app::App;
use crate::filings::kinds;
use crate::filings::names::{self, Kind};
use crate::filings::{FilingName, pdf};
use crate::text_layer::worker::Searcher;
use crate::uploads::{self, Upload};
use crate::web::principals::Member;

/// What a file should be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suggested {
    /// Its own name is right already.
    pub is_right: bool,
    /// The date of the filing: of its name, of its text, or today's.
    pub date: Date,
    /// Which filing it most probably is.
    pub kind: Option<Kind>,
    /// The name that these make.
    pub name: Option<FilingName>,
}

/// How far back a date in a document is taken for the filing's: others are dates of birth.
const DATE_BACK_LIMIT: Duration = Duration::days(400);

/// Works out what a finished upload should be called: by its name as far as that goes, else by
/// how its first page begins.
///
/// # Errors
/// If the upload cannot be read back.
pub async fn suggest_name(
    app: &App,
    member: &Member,
    upload: &Upload,
    now: OffsetDateTime,
) -> Result<Suggested, HandInFailure> {
    let today = now.to_offset(JST).date();
    let own = member.establishment_number();
    let kinds = kinds::store::all(app.db.pool()).await?;
    let of = |name: FilingName, is_right| Suggested {
        is_right,
        date: name.date(),
        kind: Some(name.kind()),
        name: Some(name),
    };
    match names::parse(&upload.file_name, own, Some(today), &kinds) {
        Ok(name) => return Ok(of(name, true)),
        Err(error) => {
            if let Some(name) = error.suggestion() {
                return Ok(of(name, false));
            }
        }
    }
    let _turn = turn(upload).await?;
    let bytes = uploads::content(app, member, upload).await?;
    let head = tokio::task::spawn_blocking(move || {
        let is_small = bytes.len() <= pdf::SIZE_LIMIT_BYTES && pdf::looks_like_pdf(&bytes);
        let examined = is_small.then(|| Searcher::default().examine(&bytes));
        examined.unwrap_or_default().head
    })
    .await
    .map_err(|_| HandInFailure::Interrupted)?;
    let offered = |kind: &&kinds::FilingKind| kind.is_offered_on(today);
    let in_name = kinds.in_text(&upload.file_name).filter(offered);
    let kind = in_name.or_else(|| kinds.in_text(&head).filter(offered));
    let date = names::date_in_text(&head, today)
        .filter(|date| (today - DATE_BACK_LIMIT..=today).contains(date))
        .unwrap_or(today);
    Ok(Suggested {
        is_right: false,
        date,
        kind: kind.map(|kind| kind.kind),
        name: kind.map(|kind| FilingName::build(date, own, kind.kind)),
    })
}
