//! Where on its pages a returned filing is wrong: a page, and on it a rectangle. The
//! reviewer marks it with the mouse or types it; the establishment sees it on the picture.

use crate::db::rows::Columns as _;
use crate::db::{Db, StoreError, Tx};
use crate::filings::Filing;
use crate::ids::FilingId;

/// The whole of a page, in the parts that a rectangle is measured in: thousandths.
const WHOLE: u16 = 1_000;
/// Thinner rectangles than this, in thousandths, are slips of the mouse.
const THINNEST: u16 = 5;

/// A page, and a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The page, from 1.
    pub page: u64,
    /// The rectangle; `None` for the whole page.
    pub area: Option<Area>,
}

/// A rectangle on a page, in thousandths of its width and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// From the left edge.
    pub left: u16,
    /// From the top edge.
    pub top: u16,
    /// How wide.
    pub width: u16,
    /// How high.
    pub height: u16,
}

/// What was typed or drawn, in percent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Typed {
    /// The page; empty for no mark.
    pub page: String,
    /// From the left edge.
    pub left: String,
    /// From the top edge.
    pub top: String,
    /// How wide.
    pub width: String,
    /// How high.
    pub height: String,
}

/// What was typed is no place on the filing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// The filing has no such page.
    #[error("no such page")]
    NoSuchPage,
    /// A rectangle without its page.
    #[error("a rectangle needs its page")]
    NoPage,
    /// No rectangle on the page.
    #[error("not a rectangle on the page")]
    NoArea,
}

impl Typed {
    /// Reads a mark on a filing of `pages` pages; nothing is no mark.
    ///
    /// # Errors
    /// [`MarkError`].
    pub fn check(&self, pages: u64) -> Result<Option<Mark>, MarkError> {
        let sides = [&self.left, &self.top, &self.width, &self.height];
        let drawn = sides.iter().any(|side| !side.trim().is_empty());
        if self.page.trim().is_empty() {
            return if drawn {
                Err(MarkError::NoPage)
            } else {
                Ok(None)
            };
        }
        let page = self.page.trim().parse().ok();
        let page = page.filter(|page| (1..=pages).contains(page));
        let page = page.ok_or(MarkError::NoSuchPage)?;
        let area = drawn.then(|| area(sides)).transpose()?;
        Ok(Some(Mark { page, area }))
    }
}

fn area(sides: [&String; 4]) -> Result<Area, MarkError> {
    let mut thousandths = [0_u16; 4];
    for (thousandth, side) in thousandths.iter_mut().zip(sides) {
        let percent: f64 = side.trim().parse().map_err(|_| MarkError::NoArea)?;
        if !(0.0..=100.0).contains(&percent) {
            return Err(MarkError::NoArea);
        }
        *thousandth = (percent * 10.0).round() as u16;
    }
    let [left, top, width, height] = thousandths;
    let fits =
        width >= THINNEST && height >= THINNEST && left + width <= WHOLE && top + height <= WHOLE;
    fits.then_some(Area {
        left,
        top,
        width,
        height,
    })
    .ok_or(MarkError::NoArea)
}

impl MarkError {
    /// What is wrong, for the reviewer.
    pub fn page_text(self) -> &'static str {
        match self {
            Self::NoSuchPage => "印を付けるページを、この届書のページから選んでください。",
            Self::NoPage => "印を付けるページを選んでください。",
            Self::NoArea => {
                "印の位置は、左・上・幅・高さを0から100までの数字（％）で、ページの中におさまるように入力してください。ページ全体に印を付けるときは、4つとも空欄にしてください。"
            }
        }
    }
}

/// Writes the mark of a filing that is being returned.
pub async fn write(tx: &mut Tx, filing: FilingId, mark: Mark) -> Result<(), StoreError> {
    let side = |side: fn(&Area) -> u16| mark.area.as_ref().map(side).map(i64::from);
    sqlx::query(
        "INSERT INTO filing_marks (filing_id, page, left_pm, top_pm, width_pm, height_pm)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(filing.to_string())
    .bind(i64::try_from(mark.page).unwrap_or(i64::MAX))
    .bind(side(|area| area.left))
    .bind(side(|area| area.top))
    .bind(side(|area| area.width))
    .bind(side(|area| area.height))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(StoreError::doing("write a mark"))
}

/// The mark of a filing that the caller has found.
pub async fn of(db: &Db, filing: &Filing) -> Result<Option<Mark>, StoreError> {
    let row = sqlx::query(
        "SELECT page, left_pm, top_pm, width_pm, height_pm FROM filing_marks WHERE filing_id = $1",
    )
    .bind(filing.id.to_string())
    .fetch_optional(db.pool())
    .await
    .map_err(StoreError::doing("find a mark"))?;
    let Some(row) = row else { return Ok(None) };
    let side = |column| -> Result<Option<u16>, StoreError> {
        let number = row.number_if(column)?.map(u16::try_from).transpose();
        number.map_err(|_| StoreError::Unreadable { what: column })
    };
    let sides = (
        side("left_pm")?,
        side("top_pm")?,
        side("width_pm")?,
        side("height_pm")?,
    );
    let area = match sides {
        (Some(left), Some(top), Some(width), Some(height)) => Some(Area {
            left,
            top,
            width,
            height,
        }),
        _ => None,
    };
    Ok(Some(Mark {
        page: row.count("page")?,
        area,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(texts: [&str; 5]) -> Typed {
        let [page, left, top, width, height] = texts.map(str::to_owned);
        Typed {
            page,
            left,
            top,
            width,
            height,
        }
    }

    #[test]
    fn a_mark_is_a_page_of_the_filing_and_a_rectangle_inside_it() {
        let check = |texts| typed(texts).check(3);
        assert_eq!(check(["", "", "", "", ""]), Ok(None));
        let whole = Mark {
            page: 2,
            area: None,
        };
        assert_eq!(check([" 2 ", "", "", " ", ""]), Ok(Some(whole)));
        let area = Area {
            left: 125,
            top: 0,
            width: 875,
            height: 1_000,
        };
        let marked = Mark {
            page: 3,
            area: Some(area),
        };
        assert_eq!(check(["3", "12.5", "0", "87.5", "100"]), Ok(Some(marked)));
        for page in ["0", "4", "-1", "x", "99999999999999999999"] {
            assert_eq!(
                check([page, "", "", "", ""]),
                Err(MarkError::NoSuchPage),
                "{page}"
            );
        }
        assert_eq!(check(["", "1", "", "", ""]), Err(MarkError::NoPage));
        for sides in [
            ["1", "1", "1", ""],
            ["60", "0", "50", "10"],
            ["0", "60", "10", "50"],
            ["0", "0", "0", "10"],
            ["-1", "0", "10", "10"],
            ["NaN", "0", "10", "10"],
            ["0", "0", "1e9", "10"],
        ] {
            let [left, top, width, height] = sides;
            assert_eq!(
                check(["1", left, top, width, height]),
                Err(MarkError::NoArea),
                "{sides:?}"
            );
        }
    }
}
