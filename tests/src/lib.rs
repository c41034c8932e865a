//! The stage on which stories are played: the real programs, started together.
//!
//! [`Stage`] makes a folder with keys and configurations, starts a mail catcher, the portal
//! and a gateway, and ends them when it is dropped. [`Agent`] is one PC. [`MemberPages`] and
//! [`OfficePages`] do over HTTP what a person does with a browser; [`browser`] drives a real
//! one. The demonstration and the tests stand on the same stage, so that neither can show
//! what the other cannot.

pub mod batches;
pub mod bench;
pub mod browser;
pub mod disk;
pub mod job;
pub mod kerberos;
pub mod link;
pub mod mailbox;
pub mod many;
pub mod network;
pub mod pages;
pub mod postgres;
pub mod process;
pub mod scanner;
pub mod stage;
pub mod wine;

pub use mailbox::Mailbox;
pub use pages::{MemberPages, OfficePages};
pub use process::Process;
pub use stage::{Agent, Database, Front, Stage, StageOptions};
