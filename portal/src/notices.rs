//! Notices (通知): what the fund sends to establishments.

pub mod bundle;
pub mod determination;
