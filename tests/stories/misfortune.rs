//! What goes wrong on a bad day, and what people then see.

#[path = "misfortune/access.rs"]
mod access;
#[path = "misfortune/bad_input.rs"]
mod bad_input;
#[path = "misfortune/neighbours.rs"]
mod neighbours;
#[path = "misfortune/next_session.rs"]
mod next_session;
#[path = "misfortune/other_client.rs"]
mod other_client;
#[path = "misfortune/outages.rs"]
mod outages;
#[path = "misfortune/programs.rs"]
mod programs;
#[path = "misfortune/uploads.rs"]
mod uploads;
#[path = "misfortune/windows.rs"]
mod windows;
