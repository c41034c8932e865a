//! The tunnel's rules, shown over a simulated internet.

mod admission;
mod strangers;
mod transfer;
mod ways;
mod world;
