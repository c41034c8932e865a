//! Pages of documents as pictures: staff look at what the portal drew, and no PDF of a
//! stranger's opens in their browsers. Called by the pages of filings, drafts and notices,
//! after they have found the document and before they answer; they write the audit row.

use axum::response::Response;

use crate::app::App;
use crate::custody::{self, Document};
use crate::web::download;
use crate::web::page_error::PageError;

/// How wide a picture is, in points of the picture: sharp on a page of 1,120 points.
const WIDTH: u16 = 1_400;

/// The picture of `page`, named as paths name it: `1.png`. Returns the page's number with it.
pub async fn picture_of(
    app: &App,
    document: &Document,
    page: &str,
) -> Result<(u64, Response), PageError> {
    let number: u64 = page
        .strip_suffix(".png")
        .and_then(|number| number.parse().ok())
        .filter(|number| (1..=document.pages).contains(number))
        .ok_or(PageError::NotFound)?;
    let pdf = custody::read(app, document)
        .await
        .map_err(PageError::storing("read a document"))?;
    let page = usize::try_from(number).map_err(|_| PageError::NotFound)?;
    let drawn = app
        .page_images
        .draw(pdf, page, WIDTH)
        .await
        .map_err(|error| PageError::Refused(error.page_text()))?;
    Ok((number, download::picture(drawn.png)))
}
