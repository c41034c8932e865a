//! The fund's portal: decides and remembers.

pub mod documents;
pub mod filings;
pub mod notices;
pub mod page_images;
pub mod vault;
