//! The programs on networks as they are: each story in namespaces of its own.

#[path = "networks/diagnosis.rs"]
mod diagnosis;
#[path = "networks/line.rs"]
mod line;
#[path = "networks/matrix.rs"]
mod matrix;
#[path = "networks/office.rs"]
mod office;
#[path = "networks/paths.rs"]
mod paths;
#[path = "networks/standard_peer.rs"]
mod standard_peer;
#[path = "networks/states.rs"]
mod states;
