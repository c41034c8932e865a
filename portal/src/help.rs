//! ヘルプ: what to do, task by task, in plain pages that every page leads to.
//!
//! Shown to whoever reaches the listener: a person who cannot sign in needs it most. Nothing
//! about anybody stands in it.

pub mod pages;
mod topics;

pub use topics::{MEMBER, OFFICE, Step, Topic};
