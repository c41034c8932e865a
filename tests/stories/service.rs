//! The service as its users have it, feature by feature.

#[path = "service/filing.rs"]
mod filing;
