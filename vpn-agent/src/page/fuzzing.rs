//! The fuzzer's way to the forms of the agent's page.

use super::field;

/// A form or a query: the fields that the page reads.
pub fn page_form(data: &[u8]) {
    for name in ["token", "gateway", "establishment", "code", ""] {
        if let Some(value) = field(data, name) {
            // Decoding never makes text longer than three bytes for one.
            assert!(value.len() <= 3 * data.len());
        }
    }
}
