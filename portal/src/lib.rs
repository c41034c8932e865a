//! The fund's portal: decides and remembers.

pub mod filings;
pub mod vault;
