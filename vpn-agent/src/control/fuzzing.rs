//! The fuzzer's way to the channel between two runs.

use super::{Reply, Request};

/// A line of a request or of a reply. What was understood is understood again.
pub fn control_lines(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(data) {
        let written = serde_json::to_vec(&request).expect("what was read can be written");
        assert!(serde_json::from_slice::<Request>(&written).is_ok());
        assert!(!written.contains(&b'\n'), "a request is one line");
    }
    if let Ok(reply) = serde_json::from_slice::<Reply>(data) {
        let written = serde_json::to_vec(&reply).expect("what was read can be written");
        assert!(serde_json::from_slice::<Reply>(&written).is_ok());
        assert!(!written.contains(&b'\n'), "a reply is one line");
    }
}
