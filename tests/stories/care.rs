//! Everybody can use it: the functions that had no story of their own, every page by machine
//! and by keyboard, and newcomers who find their way without a manual.

#[path = "care/agent_window.rs"]
mod agent_window;
#[path = "care/everywhere.rs"]
mod everywhere;
#[path = "care/keyboard.rs"]
mod keyboard;
#[path = "care/newcomers.rs"]
mod newcomers;
#[path = "care/rows.rs"]
mod rows;
