//! The fuzzer's way to the names inside archives.

use super::entry_names::{self, Place};

/// A name as an archive has it; the first byte is the archive's word on its encoding.
pub fn entry_name(data: &[u8]) {
    let Some((first, raw)) = data.split_first() else {
        return;
    };
    let shown = entry_names::shown(raw);
    assert!(!shown.contains(char::is_control));
    match entry_names::read(raw, first & 1 == 1) {
        Err(refused) => assert!(!refused.page_text().is_empty()),
        Ok(name) => {
            let leads_somewhere = |name: &str| {
                name.is_empty()
                    || matches!(name, "." | "..")
                    || name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'))
            };
            assert!(!leads_somewhere(&name.base), "{:?}", name.base);
            if let Place::File {
                folder: Some(folder),
            } = &name.place
            {
                assert!(!leads_somewhere(folder), "{folder:?}");
            }
        }
    }
}
