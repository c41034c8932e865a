//! The tunnel's rules, shown over a simulated internet.

mod admission;
mod connecting;
mod cuts;
mod keys;
mod line;
mod lines;
mod scale;
mod strangers;
mod traffic;
mod transfer;
mod ways;
mod world;
