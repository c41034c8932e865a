//! Every story over the real programs, in one test binary.
//!
//! A story starts its own [`renkei_tests::Stage`] in a folder and on ports of its own, tells
//! one thing a person does or suffers, and ends everything it started.

#[path = "stories/around.rs"]
mod around;
#[path = "stories/browser.rs"]
mod browser;
#[path = "stories/care.rs"]
mod care;
#[path = "stories/delegates.rs"]
mod delegates;
#[path = "stories/desk.rs"]
mod desk;
#[path = "stories/fleet.rs"]
mod fleet;
#[path = "stories/leaks.rs"]
mod leaks;
#[path = "stories/main_job.rs"]
mod main_job;
#[path = "stories/misfortune.rs"]
mod misfortune;
#[path = "stories/networks.rs"]
mod networks;
#[path = "stories/notices.rs"]
mod notices;
#[path = "stories/passkeys.rs"]
mod passkeys;
#[path = "stories/people.rs"]
mod people;
#[path = "stories/profiles.rs"]
mod profiles;
#[path = "stories/reading.rs"]
mod reading;
#[path = "stories/resets.rs"]
mod resets;
#[path = "stories/service.rs"]
mod service;
#[path = "stories/tidy.rs"]
mod tidy;
#[path = "stories/under_way.rs"]
mod under_way;
#[path = "stories/updates.rs"]
mod updates;
#[path = "stories/watching.rs"]
mod watching;
#[path = "stories/windows.rs"]
mod windows;
#[path = "stories/windows_bad_input.rs"]
mod windows_bad_input;
#[path = "stories/windows_browsers.rs"]
mod windows_browsers;
#[path = "stories/windows_chip.rs"]
mod windows_chip;
#[path = "stories/windows_notices.rs"]
mod windows_notices;
#[path = "stories/windows_package.rs"]
mod windows_package;
#[path = "stories/windows_proxy.rs"]
mod windows_proxy;
#[path = "stories/windows_update.rs"]
mod windows_update;
#[path = "stories/windows_zip.rs"]
mod windows_zip;
