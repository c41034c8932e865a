//! The portal: decides and remembers.
//!
//! The only part of Renkei with a database. Three listeners: *member* (reached only through
//! tunnels), *office* (staff), *control* (gateways, mutual TLS). Features stand in files of
//! their own: rules without IO in `feature.rs`, SQL in `feature/store.rs`, pages in
//! `feature/pages.rs`.

pub mod agent_updates;
pub mod announcements;
pub mod app;
pub mod approvals;
pub mod audit;
pub mod authenticator;
pub mod authority;
pub mod backup;
pub mod batches;
pub mod calendar;
pub mod clock;
pub mod config;
pub mod control_api;
pub mod custody;
pub mod db;
pub mod deadlines;
pub mod delegations;
pub mod devices;
pub mod documents;
pub mod establishments;
pub mod filings;
pub mod first_steps;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateways;
pub mod help;
pub mod history;
pub mod housekeeping;
pub mod ids;
pub mod inquiries;
pub mod keys;
pub mod listeners;
pub mod mail;
pub mod metrics;
pub mod notices;
pub mod one_time_codes;
pub mod page_images;
pub mod paper;
pub mod passkeys;
pub mod passwords;
pub mod people;
pub mod permissions;
pub mod quarantine;
pub mod receipts;
pub mod records;
pub mod registrations;
pub mod reminders;
pub mod reports;
pub mod retention;
pub mod review;
pub mod settings;
pub mod sign_in;
pub mod signals;
pub mod staff;
pub mod step_up;
pub mod tasks;
pub mod text_layer;
pub mod tunnel_sessions;
pub mod uploads;
pub mod vault;
pub mod virus_scan;
pub mod web;

#[cfg(test)]
mod testing;
