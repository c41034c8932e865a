//! The tunnel's rules, shown over a simulated internet.

mod admission;
mod scale;
mod strangers;
mod transfer;
mod world;
