//! Filings (届書): from the file that somebody hands in to the decision.

pub mod archive;
pub mod check;
pub mod names;
pub mod pdf;
pub mod receipt;
